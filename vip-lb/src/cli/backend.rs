//! `vip-lb backend`: what the host of a backend needs.

use anyhow::Context as _;
use serde::Serialize;

use super::{
    arguments::{BackendCommand, SetupArgs, WishArgs},
    exit::{Exit, UsageError},
    output,
};
use crate::{
    backend::{self, Advice, HostFacts, Need, Wish},
    config::model::ForwardMode,
    network::Network,
};

pub(super) fn backend(command: &BackendCommand) -> anyhow::Result<Exit> {
    let BackendCommand::Setup(args) = command;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(setup(args)).map(|()| Exit::Success)
}

/// What `--json` prints.
#[derive(Default, Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    needs: Vec<Need>,
    advice: Vec<Advice>,
    /// What was changed, in words.
    done: Vec<String>,
}

async fn setup(args: &SetupArgs) -> anyhow::Result<()> {
    let network = Network::open().context("cannot open a netlink socket")?;
    if args.revert {
        let done = backend::revert(&network, &args.pins).await?;
        if args.json {
            return output::print_json(&Report { done, ..Report::default() });
        }
        return output::print(&reverted(&done));
    }
    let wish = wish(&args.wish)?;
    let facts = HostFacts::gather(&network, args.wish.interface.as_deref(), &args.pins).await?;
    let mut report = Report {
        interface: Some(facts.interface.name.clone()),
        needs: backend::needs(&wish, &facts, &args.pins),
        advice: backend::advice(&wish, &facts),
        done: Vec::new(),
    };
    if args.apply {
        report.done = backend::apply(&network, &report.needs, &args.pins).await.context(
            "not all could be set up; what was changed is remembered: `vip-lb backend setup --revert` puts it back",
        )?;
    }
    if args.json {
        output::print_json(&report)
    } else if args.apply {
        output::print(&applied(&report))
    } else {
        output::print(&script(&report))
    }
}

/// What is asked for, if it makes sense.
///
/// # Errors
///
/// [`UsageError`] if something is missing, or is of no use in that mode.
pub(super) fn wish(args: &WishArgs) -> Result<Wish, UsageError> {
    let missing = |what: &str| UsageError(format!("{what} is missing: see --help"));
    let mode = args.mode.ok_or_else(|| missing("--mode"))?;
    if args.vip.is_empty() {
        return Err(missing("--vip"));
    }
    if matches!(mode, ForwardMode::Ipip | ForwardMode::Gue) && args.from.is_empty() {
        return Err(UsageError(format!(
            "mode {mode} needs --from, the addresses of the load balancers: packets of others are not unpacked"
        )));
    }
    Ok(Wish {
        vips: args.vip.clone(),
        mode,
        from: args.from.iter().map(|prefix| (prefix.address(), prefix.length())).collect(),
        gue_port: args.gue_port,
    })
}

/// Commands and comments that a shell takes.
fn script(report: &Report) -> String {
    let mut text = String::new();
    for need in &report.needs {
        match &need.found {
            Some(found) => {
                text.push_str(&format!("# {found}; {}\n{}\n", need.why, need.command));
            }
            None => text.push_str(&format!("# {} already\n", need.what)),
        }
    }
    text.push_str(&advised(&report.advice));
    text
}

fn applied(report: &Report) -> String {
    let mut text: String = report.done.iter().map(|line| format!("{line}\n")).collect();
    if report.done.is_empty() {
        text.push_str("nothing to change\n");
    }
    text.push_str(&advised(&report.advice));
    text
}

fn reverted(done: &[String]) -> String {
    if done.is_empty() {
        return "nothing to put back\n".to_owned();
    }
    done.iter().map(|line| format!("{line}\n")).collect()
}

fn advised(advice: &[Advice]) -> String {
    let mut text = String::new();
    for Advice { text: words, command } in advice {
        text.push_str(&format!("# note: {words}\n"));
        if let Some(command) = command {
            text.push_str(&format!("#   {command}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::arguments::{Cli, Command};

    fn parsed(line: &str) -> Result<Wish, UsageError> {
        let Command::Backend(BackendCommand::Setup(args)) = Cli::parse_from(line.split(' ')).command else {
            panic!("{line}")
        };
        wish(&args.wish)
    }

    #[test]
    fn what_is_missing_is_named() {
        for (line, missing) in [
            ("vip-lb backend setup --mode l2", "--vip"),
            ("vip-lb backend setup --vip 192.0.2.1", "--mode"),
            ("vip-lb backend setup --vip 192.0.2.1 --mode ipip", "--from"),
            ("vip-lb backend setup --vip 192.0.2.1 --mode gue", "--from"),
        ] {
            let error = parsed(line).expect_err(line).to_string();
            assert!(error.contains(missing), "{line}: {error}");
        }
        let wish =
            parsed("vip-lb backend setup --vip 192.0.2.1 2001:db8::1 --mode gue --from 10.0.0.0/8").unwrap();
        assert_eq!((wish.vips.len(), wish.mode, wish.gue_port), (2, ForwardMode::Gue, 6080));
        assert_eq!(wish.from, [([10, 0, 0, 0].into(), 8)]);
    }

    #[test]
    fn what_is_printed_is_a_script_whose_only_commands_are_those_needed() {
        let need = |found: Option<&str>, command: &str| Need {
            kind: backend::NeedKind::Address,
            what: "it is so".into(),
            found: found.map(str::to_owned),
            why: "because",
            command: command.into(),
            change: None,
        };
        let report = Report {
            needs: vec![need(Some("it is not so"), "do it"), need(None, "do nothing")],
            advice: vec![Advice { text: "well".into(), command: Some("try".into()) }],
            ..Report::default()
        };
        assert_eq!(
            script(&report),
            "# it is not so; because\ndo it\n# it is so already\n# note: well\n#   try\n"
        );
        assert_eq!(applied(&report), "nothing to change\n# note: well\n#   try\n");
        assert_eq!(reverted(&[]), "nothing to put back\n");
    }
}
