//! Lines that make sense, and lines that do not.

use clap::CommandFactory;

use super::*;

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn decap_takes_lists_in_every_usual_way() {
    for line in [
        "vip-lb decap --interface eth0 --from 10.0.0.0/24 10.1.0.1 --vip 192.0.2.1 2001:db8::1",
        "vip-lb decap --interface eth0 --from 10.0.0.0/24,10.1.0.1 --vip 192.0.2.1,2001:db8::1",
        "vip-lb decap --vip 192.0.2.1 --from 10.0.0.0/24 --vip 2001:db8::1 --from 10.1.0.1 --interface eth0",
    ] {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        let Command::Decap(args) = cli.command else { panic!("{line}") };
        let from: Vec<_> = args.from.iter().map(ToString::to_string).collect();
        assert_eq!(from, ["10.0.0.0/24", "10.1.0.1/32"], "{line}");
        assert_eq!(args.vip.len(), 2, "{line}");
        assert_eq!(args.gue_port, 6080, "{line}");
    }
}

#[test]
fn lines_that_make_no_sense_are_usage_errors() {
    for line in [
        "vip-lb",
        "vip-lb run",
        "vip-lb check",
        "vip-lb decap --interface eth0",
        "vip-lb decap --interface eth0 --from 10.0.0.0/24",
        "vip-lb decap --interface eth0 --unload --vip 192.0.2.1",
        "vip-lb decap --interface eth0 --unload --gue-port 6081",
        "vip-lb decap --interface eth0 --from 10.0.0.0/24 --vip 192.0.2.1 --gue-port 0",
        "vip-lb drain /b1",
        "vip-lb drain",
        "vip-lb drain b1 --node",
        "vip-lb drain --node --force",
        "vip-lb undrain",
        "vip-lb undrain b1 --node",
        "vip-lb drain b1 --deadline 10m",
        "vip-lb drain b1 --wait --deadline 10",
        "vip-lb handover",
        "vip-lb handover web",
        "vip-lb handover 192.0.2.1 --back --to 192.0.2.2",
        "vip-lb handover 192.0.2.1 --back --yes",
        "vip-lb maintenance",
        "vip-lb maintenance maybe",
        "vip-lb maintenance on --deadline 10m",
        "vip-lb rollback one",
        "vip-lb rollback 3 --list",
        "vip-lb backend",
        "vip-lb backend setup --vip 192.0.2.1 --mode tunnel",
        "vip-lb backend setup --vip 192.0.2.1/32 --mode l2",
        "vip-lb backend setup --vip 192.0.2.1 --mode l2 --apply --revert",
        "vip-lb backend setup --revert --vip 192.0.2.1",
        "vip-lb explain 10.0.0.1",
        "vip-lb explain 10.0.0.1 192.0.2.1:80 --packet syn",
        "vip-lb explain --live --packet fin",
        "vip-lb explain --live 10.0.0.1 192.0.2.1:80",
        "vip-lb explain --live --count 0",
        "vip-lb explain --live --duration 30",
        "vip-lb capture",
        "vip-lb capture -w x --snap 13",
        "vip-lb run --config a --log-format xml",
        "vip-lb top --interval 0",
        "vip-lb top --interval NaN",
    ] {
        let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
    }
}

#[test]
fn the_socket_may_stand_before_or_after_the_command() {
    for line in ["vip-lb --socket /x status", "vip-lb status --socket /x"] {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(cli.socket, Some(PathBuf::from("/x")), "{line}");
    }
}
