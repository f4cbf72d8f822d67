//! The definition of the command line. Help texts are its documentation; docs/cli.md shows the output.

mod drain;
mod handover;
mod host;
mod packets;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub use drain::{BackendArgs, DrainArgs};
pub use handover::{HandoverArgs, MaintenanceArgs, PeersArgs, Switch};
pub use host::{BackendCommand, DoctorArgs, GenerateCommand, SetupArgs, WishArgs};
pub use packets::{CaptureArgs, ExplainArgs, FilterArgs};

use super::address::Prefix;
use crate::{
    config::model::{self, DEFAULT_GUE_PORT, DEFAULT_PINS},
    control::hand_over::Descriptors,
};

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/vip-lb/control.sock";

/// The configuration that `doctor` looks for unless told otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/vip-lb/vip-lb.yaml";

const EXIT_CODES: &str = "\
Exit codes:
  0  done; also when the reader of the output closed it early
  1  the operation failed
  2  the command line makes no sense
  3  the configuration is not valid
  4  the daemon cannot be reached
  5  `doctor` found warnings, and no problems
  6  `doctor` found problems
`plan`, `drain --wait`, `handover`, `maintenance`, `peers --check` and what they say of it have some of their own.";

const PLAN_CODES: &str = "\
Exit codes:
  0   nothing would change
  10  something would change, and every connection stays
  11  connections would be lost
  3   the configuration is not valid, or cannot be brought in force";

/// An eBPF/XDP layer-4 load balancer for virtual IPs.
#[derive(Debug, Parser)]
#[command(name = "vip-lb", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// Control socket of the daemon; for `run`, instead of the configuration's [default: /run/vip-lb/control.sock]
    #[arg(
        long,
        global = true,
        env = "VIP_LB_SOCKET",
        value_name = "PATH",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub socket: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: load and attach the packet program and keep it to the configuration
    #[command(after_help = "\
Signals:
  SIGHUP   reads the configuration file again; a file with mistakes changes nothing
  SIGTERM  stops; with `on_exit: keep`, the default, packets are forwarded on
  SIGUSR2  starts the binary again, as it is now, and hands over to it

Examples:
  vip-lb run --config /etc/vip-lb/vip-lb.yaml
  vip-lb run --config vip-lb.yaml --log-format json -v")]
    Run(RunArgs),

    /// Check a configuration file and list every mistake in it, without touching anything
    #[command(after_help = "\
Examples:
  vip-lb check /etc/vip-lb/vip-lb.yaml
  vip-lb check vip-lb.yaml --json

Exits with 3 if the file is not valid.")]
    Check(CheckArgs),

    /// Print the JSON Schema of the configuration file, which editors complete and check by
    #[command(after_help = "\
Examples:
  vip-lb schema > vip-lb.schema.json

With the first line `# yaml-language-server: $schema=vip-lb.schema.json` in a file, editors with the YAML language server use it.")]
    Schema,

    /// Detach the packet program and remove all pins, after the daemon has been stopped
    #[command(after_help = "\
Examples:
  vip-lb unload
  vip-lb unload --pins /sys/fs/bpf/edge1")]
    Unload(UnloadArgs),

    /// On a backend: unpack the ipip and gue packets of load balancers, without a tunnel device
    #[command(
        override_usage = "\
vip-lb decap --interface <IF> --from <PREFIX>... --vip <ADDRESS>... [--gue-port <PORT>]
       vip-lb decap --interface <IF> --unload",
        after_help = "\
Only packets from these outer sources and to these inner destinations are unpacked; others pass untouched.

Examples:
  vip-lb decap --interface eth0 --from 10.0.0.0/24 --vip 192.0.2.10
  vip-lb decap --interface eth0 --from 10.0.0.1 10.0.0.2 --vip 192.0.2.10 2001:db8::10
  vip-lb decap --interface eth0 --unload"
    )]
    Decap(DecapArgs),

    /// On a backend: show, make or undo the settings that it needs
    #[command(subcommand)]
    Backend(BackendCommand),

    /// Look for what is wrong with this host, why it matters, and the command that mends it
    #[command(
        override_usage = "\
vip-lb doctor [--config <FILE>] [--all] [--json]
       vip-lb doctor --backend --vip <ADDRESS>... --mode <MODE> [--from <PREFIX>...] [--interface <IF>]",
        after_help = "\
Nothing is changed and nothing is sent. Run it as root: others see less.

Examples:
  vip-lb doctor --config vip-lb.yaml
  vip-lb doctor --backend --vip 198.51.100.10 --mode l2
  vip-lb doctor --json | jq -r '.findings[] | select(.level == \"problem\") | .fix // empty'

Exits with 0 if all is well, 5 if there are warnings, 6 if there are problems."
    )]
    Doctor(DoctorArgs),

    /// Show VIPs, services and backends: health, rates, ring shares, what is still draining
    #[command(after_help = "\
Examples:
  vip-lb status
  vip-lb status --latency
  vip-lb status --json | jq '.vips[].services[].backends[] | select(.health.state == \"down\")'")]
    Status(StatusArgs),

    /// Show which node answers for each VIP: this one or not, why, since when, for how long, and the last changes
    #[command(after_help = "\
Examples:
  vip-lb vip
  vip-lb vip 198.51.100.10
  vip-lb vip --json | jq '.[] | select(.answering) | .address'")]
    Vip(VipArgs),

    /// Show the other nodes of the group: whether they are there, and whether they do the same as this one
    #[command(after_help = "\
Compared are the seed, what the configurations have to have in common, and the rings.

Examples:
  vip-lb peers
  vip-lb peers --check || echo 'not now'
  vip-lb peers --json | jq '.peers[] | select(.agrees != true)'

With --check it exits with 14 if a peer is missing or does otherwise.")]
    Peers(PeersArgs),

    /// Explain what would happen to a packet now, and why, by the same code as the kernel; or, live, what happens
    #[command(after_help = "\
Examples:
  vip-lb explain 198.51.100.7:40000 192.0.2.10:80
  vip-lb explain 198.51.100.7:5353 192.0.2.10:53 --protocol udp
  vip-lb explain '[2001:db8:f::7]:40000' '[2001:db8::10]:80'
  vip-lb explain 198.51.100.7 192.0.2.10:80
  vip-lb explain 198.51.100.7:40000 192.0.2.10:80 --packet too-big
  vip-lb explain 198.51.100.7 192.0.2.10 --packet echo --interface eth1
  vip-lb explain --live --source 198.51.100.0/24 --port 80 --count 20
  vip-lb explain --live --drops --duration 30s

With --live, packets are shown as they go through the running program, until interrupted. They end as they would
without; others pay one comparison.")]
    Explain(ExplainArgs),

    /// Write packets to a file for Wireshark: as they came, as they left, and those dropped, each with why
    #[command(after_help = "\
Examples:
  vip-lb capture --write web.pcapng --port 443 --duration 30s
  vip-lb capture -w drops.pcapng --drops --count 100
  vip-lb capture -w - --source 198.51.100.7 | tshark -r - -T fields -e frame.comment

Runs until interrupted, or until --count or --duration are reached. A packet may be in the file twice: as it came,
and as it left. The comment of each has the verdict and the backend.")]
    Capture(CaptureArgs),

    /// Give a backend no new connections and let those it has end
    #[command(after_help = "\
The order outlives the daemon; `vip-lb undrain` withdraws it.

Examples:
  vip-lb drain b1                               every backend of that name, in all services
  vip-lb drain web/b1                           only the one of the service web
  vip-lb drain 10.0.0.11                        the whole host: all at that address, now and later
  vip-lb drain b1 --wait --deadline 30m         until nothing is left of it, or for half an hour
  vip-lb drain b1 --wait --deadline 30m --force the same, and what is left then is cut
  vip-lb drain b1 --force                       its connections are cut now
  vip-lb drain --node --wait                    this load balancer, before its own maintenance

With --wait it exits with 12 if the deadline passed and the backend is not drained.")]
    Drain(DrainArgs),

    /// Withdraw `drain`, forced or not: what the configuration says of the backend holds again
    #[command(after_help = "\
Examples:
  vip-lb undrain b1
  vip-lb undrain web/b1
  vip-lb undrain 10.0.0.11")]
    Undrain(BackendArgs),

    /// Hand a VIP over to another node, with nothing lost, and stay until that node answers
    #[command(after_help = "\
This node stops answering, says so, and preempts nobody until it is active again: because no other node took over, which
takes two advert intervals to see, because the one that did falls silent, or because it takes the VIP back with --back.
It forwards what comes all the while. The order outlives the daemon.

Examples:
  vip-lb handover 198.51.100.10                    to the other node of the highest priority
  vip-lb handover 198.51.100.10 --to 192.0.2.12    to this one; only where `peers` are listed
  vip-lb handover 198.51.100.10 --back             on the node that handed it over

Exits with 11 if translated connections would end and --yes is not given, and with 13 if no other node took over, or not
the one that was named.")]
    Handover(HandoverArgs),

    /// Take this load balancer out of service and back: it gives up its VIPs, and forwards what comes all the same
    #[command(after_help = "\
The same order as `drain --node`, by another name, which outlives the daemon; but it asks before translated connections
end, and stays until other nodes answer for the VIPs that nodes agree on.

Examples:
  vip-lb maintenance on
  vip-lb maintenance on --wait --deadline 10m   and stay until nothing comes any more
  vip-lb maintenance off

Exits with 11 if translated connections would end and --yes is not given, with 13 if no other node answers for a VIP, and
with 12 if the deadline passed.")]
    Maintenance(MaintenanceArgs),

    /// Count the packets by how they ended: every verdict by name
    #[command(after_help = "\
Examples:
  vip-lb counters
  vip-lb counters --all
  vip-lb counters --json | jq '.verdicts[] | select(.action == \"drop\")'")]
    Counters(CountersArgs),

    /// Watch VIPs, services, backends and verdicts: rates, health, curves; keys choose, sort, filter and open
    #[command(after_help = "\
Examples:
  vip-lb top
  vip-lb top --interval 0.5
  NO_COLOR=1 vip-lb top

Press ? for the keys, q to end.")]
    Top(TopArgs),

    /// Print what happened and what happens: health changes, reloads, drains, warnings
    #[command(after_help = "\
Examples:
  vip-lb events --since 10m
  vip-lb events --follow
  vip-lb events --json | jq 'select(.event == \"health_changed\")'

Without --follow it prints what is kept and ends.")]
    Events(EventsArgs),
    /// Show what a configuration would change, and whose connections would be lost, without changing anything
    #[command(after_help = format!("\
Examples:
  vip-lb plan            what `vip-lb reload` would do
  vip-lb plan new.yaml   what `vip-lb reload new.yaml` would do
  vip-lb plan --json | jq '.lost'

{PLAN_CODES}"))]
    Plan(PlanArgs),

    /// Make the daemon read its configuration file again and apply what changed
    #[command(after_help = format!("\
Examples:
  vip-lb reload
  vip-lb reload --dry-run
  vip-lb reload new.yaml   takes this text; the daemon's own file is left as it is

A file with mistakes changes nothing, and the exit code is 3.

With --dry-run: {PLAN_CODES}"))]
    Reload(ReloadArgs),

    /// Return to a configuration that was in force
    #[command(after_help = "\
It stays in force until the daemon's file changes or `vip-lb reload` is run, also if the daemon starts anew.

Examples:
  vip-lb rollback            to the one before the one in force
  vip-lb rollback --list     which there are
  vip-lb rollback 17         to the 17th
  vip-lb rollback --dry-run  what would change; exits as `vip-lb plan` does")]
    Rollback(RollbackArgs),

    /// Make the daemon start its binary again, as it is now, and hand over to it
    #[command(after_help = "\
The new process loads its program and reads the configuration file before the old one ends; packets and connections do
not notice, and checks go on with their counters. If it cannot take over, the old one goes on. SIGUSR2 does the same.

Examples:
  install -m 755 vip-lb /usr/sbin/vip-lb && vip-lb upgrade-check && vip-lb upgrade")]
    Upgrade(OutputArgs),

    /// Say whether this binary can take over what is running, and how, without touching anything
    #[command(after_help = "\
Examples:
  ./vip-lb upgrade-check
  ./vip-lb upgrade-check --config /etc/vip-lb/vip-lb.yaml
  ./vip-lb upgrade-check --json | jq .way

Exits with 0 if it can, 1 if it cannot.")]
    UpgradeCheck(UpgradeCheckArgs),

    /// Write man pages or completions of this command line
    #[command(subcommand)]
    Generate(GenerateCommand),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,

    /// How log lines are written to standard error: text or json
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT", hide_possible_values = true)]
    pub log_format: LogFormat,

    /// Log more: -v for debugging, -vv for everything; RUST_LOG, if set, decides instead
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// What a daemon gives to its successor
    #[arg(long, value_name = "DESCRIPTORS", hide = true)]
    pub hand_over: Option<Descriptors>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `upgrade-check`.
#[derive(Debug, Args)]
pub struct UpgradeCheckArgs {
    /// The configuration file: whether it is valid for this binary, and fits what is pinned; its `node.pins` is looked at
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Folder of the pins [default: that of the configuration, or /sys/fs/bpf/vip-lb]
    #[arg(long, value_name = "DIR")]
    pub pins: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `unload`.
#[derive(Debug, Args)]
pub struct UnloadArgs {
    /// Folder of the pins
    #[arg(long, value_name = "DIR", default_value = DEFAULT_PINS)]
    pub pins: PathBuf,
}

/// Arguments of `decap`.
#[derive(Debug, Args)]
pub struct DecapArgs {
    /// Interface that the packets come in by
    #[arg(long, value_name = "IF")]
    pub interface: String,

    /// Outer sources to accept: the addresses or prefixes of the load balancers
    #[arg(long, value_name = "PREFIX", num_args = 1.., value_delimiter = ',', required_unless_present = "unload")]
    pub from: Vec<Prefix>,

    /// Inner destinations to accept: the VIPs that this backend serves
    #[arg(long, value_name = "ADDRESS", num_args = 1.., value_delimiter = ',', required_unless_present = "unload")]
    pub vip: Vec<IpAddr>,

    /// UDP port that gue packets come to: `node.gue_port` of the load balancers
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_GUE_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub gue_port: u16,

    /// Detach from the interface instead
    #[arg(long, conflicts_with_all = ["from", "vip", "gue_port"])]
    pub unload: bool,

    /// Folder of the pins
    #[arg(long, value_name = "DIR", default_value = DEFAULT_PINS)]
    pub pins: PathBuf,
}

/// Arguments of commands that print an answer of the daemon.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `vip`.
#[derive(Debug, Args)]
pub struct VipArgs {
    /// Only this one
    #[arg(value_name = "ADDRESS")]
    pub address: Option<IpAddr>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print JSON; it has everything
    #[arg(long)]
    pub json: bool,

    /// Show how long probes of the backends take, instead
    #[arg(long)]
    pub latency: bool,
}

/// Arguments of `counters`.
#[derive(Debug, Args)]
pub struct CountersArgs {
    /// Print JSON; it has every verdict
    #[arg(long)]
    pub json: bool,

    /// Show the verdicts that no packet met, too
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Seconds between two looks at the daemon, 0.1 to 60
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub interval: Duration,
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Print JSON, one event per line
    #[arg(long)]
    pub json: bool,

    /// Go on with what happens, until the daemon ends; without --since, with that alone
    #[arg(long)]
    pub follow: bool,

    /// Only what happened in the last 10m, 24h, ...
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub since: Option<Duration>,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// A configuration file; without it, the file that the daemon was started with
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Another configuration file than the one that the daemon was started with
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Change nothing and show the plan
    #[arg(long)]
    pub dry_run: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The configuration to return to; without it, the one before the one in force
    #[arg(value_name = "REVISION")]
    pub revision: Option<u64>,

    /// List the configurations that are kept
    #[arg(long, conflicts_with_all = ["revision", "dry_run"])]
    pub list: bool,

    /// Change nothing and show the plan
    #[arg(long)]
    pub dry_run: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=60.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or("expected a number from 0.1 to 60")
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    model::duration(text).ok_or("expected a whole number and ms, s, m or h")
}

#[cfg(test)]
mod tests;
