//! Arguments of the commands about packets: `explain` and `capture`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use vip_lb_common::abi::SNAP;

use super::duration;
use crate::{
    api::model::PacketKind,
    cli::{
        address::{Destination, Prefix, Source},
        exit::UsageError,
    },
    config::model::Protocol,
};

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The client; without a port, port 0 is used.
    #[arg(
        value_name = "SRC[:PORT]",
        required_unless_present = "live",
        conflicts_with = "live",
        help = "The client, IPv6 with a port as [2001:db8::1]:1234; without a port, port 0 is used"
    )]
    pub packet_source: Option<Source>,

    /// What it dials.
    #[arg(
        value_name = "DST[:PORT]",
        required_unless_present = "live",
        conflicts_with = "live",
        help = "What it dials, IPv6 with a port as [2001:db8::1]:80; only a fragment, echo and who-has have no port"
    )]
    pub packet_destination: Option<Destination>,

    /// Which packet: of a flow first (SYN or datagram), ack, fin, rst, fragment (a later one); quoting an answer of the flow unreachable,
    /// too-big, time-exceeded; to an address echo, who-has [default: first]
    #[arg(long, value_name = "KIND", conflicts_with = "live")]
    pub packet: Option<PacketKind>,

    /// What all fragments of the packet have in common, in their headers; of a fragment [default: 0]
    #[arg(long, value_name = "NUMBER", conflicts_with = "live")]
    pub fragment_id: Option<u32>,

    /// Show packets on their way through the running program
    #[arg(long)]
    pub live: bool,

    /// Print JSON; with --live, one line for each packet
    #[arg(long)]
    pub json: bool,

    /// Which packets, with --live.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Which packets of those to VIPs, and how many.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which packets, live")]
pub struct FilterArgs {
    /// tcp, udp, icmp, icmpv6 or the number of a protocol; tcp or udp of a packet that is not live [default: any; tcp]
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<String>,

    /// Interface that they come in by; of a packet that is not live the first one is assumed
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,

    /// Only of these clients
    #[arg(long, value_name = "PREFIX")]
    pub source: Option<Prefix>,

    /// Only from this port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub source_port: Option<u16>,

    /// Only to these addresses
    #[arg(long, value_name = "PREFIX")]
    pub destination: Option<Prefix>,

    /// Only to this port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,

    /// Only those that end with one of these verdicts, as `vip-lb counters --all` names them
    #[arg(long, value_name = "VERDICT", value_delimiter = ',')]
    pub verdict: Vec<String>,

    /// Only those that are dropped
    #[arg(long)]
    pub drops: bool,

    /// Stop after so many packets
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Stop after so long, such as 30s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,

    /// Show one of so many packets [default: 1]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub every: Option<u32>,

    /// Packets that each CPU may show in a second [default: 1000]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
}

/// Arguments of `capture`.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// The file, in the pcapng format; - for standard output
    #[arg(short, long, value_name = "FILE")]
    pub write: PathBuf,

    /// Bytes of each packet that are written
    #[arg(long, value_name = "BYTES", default_value_t = SNAP as u16, value_parser = clap::value_parser!(u16).range(14..=SNAP as i64))]
    pub snap: u16,

    /// Which packets.
    #[command(flatten)]
    pub filter: FilterArgs,
}

impl ExplainArgs {
    /// The protocol of the packet that is asked about: TCP unless said otherwise.
    ///
    /// # Errors
    ///
    /// A protocol without ports.
    pub(in crate::cli) fn packet_protocol(&self) -> Result<Protocol, UsageError> {
        match self.filter.protocol.as_deref() {
            None | Some("tcp") => Ok(Protocol::Tcp),
            Some("udp") => Ok(Protocol::Udp),
            Some(other) => Err(UsageError(format!("--protocol {other}: expected tcp or udp"))),
        }
    }
}

impl FilterArgs {
    /// A filter that chooses among packets on their way, if one was given.
    pub(in crate::cli) fn live_only(&self) -> Option<&'static str> {
        let Self { protocol: _, interface: _, source, source_port, destination, port, verdict, .. } = self;
        let Self { drops, count, duration, every, rate, .. } = self;
        let given = [
            (source.is_some(), "--source"),
            (source_port.is_some(), "--source-port"),
            (destination.is_some(), "--destination"),
            (port.is_some(), "--port"),
            (!verdict.is_empty(), "--verdict"),
            (*drops, "--drops"),
            (count.is_some(), "--count"),
            (duration.is_some(), "--duration"),
            (every.is_some(), "--every"),
            (rate.is_some(), "--rate"),
        ];
        given.into_iter().find_map(|(given, name)| given.then_some(name))
    }
}
