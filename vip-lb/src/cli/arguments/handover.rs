//! Arguments of what concerns several nodes: `handover`, `maintenance`, `peers`.

use std::{net::IpAddr, time::Duration};

use clap::{Args, ValueEnum};

use super::duration;

/// Arguments of `handover`.
#[derive(Debug, Args)]
pub struct HandoverArgs {
    /// The VIP; those of the same virtual router and of its group move along
    #[arg(value_name = "VIP")]
    pub vip: IpAddr,

    /// The node that is to take over: the name of a peer (`vip-lb peers`) or its own address, or one of the router's `peers`
    #[arg(long, value_name = "NODE", conflicts_with = "back")]
    pub to: Option<String>,

    /// Take back what this node handed over
    #[arg(long)]
    pub back: bool,

    /// Although translated connections (mode nat) end, which live on this node, or the other node does otherwise
    #[arg(long, conflicts_with = "back")]
    pub yes: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `peers`.
#[derive(Debug, Args)]
pub struct PeersArgs {
    /// Exit with 14 if a peer is missing or does otherwise
    #[arg(long)]
    pub check: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `maintenance`.
#[derive(Debug, Args)]
pub struct MaintenanceArgs {
    /// Whether this load balancer is to be in maintenance
    #[arg(value_name = "on|off", hide_possible_values = true)]
    pub switch: Switch,

    /// Stay until nothing has come for one idle timeout
    #[arg(long)]
    pub wait: bool,

    /// Stay no longer than this, such as 90s or 10m
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "wait")]
    pub deadline: Option<Duration>,

    /// Although translated connections (mode nat) end, which live on this node
    #[arg(long)]
    pub yes: bool,

    /// Print JSON; with --wait only when the waiting is over
    #[arg(long)]
    pub json: bool,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is to be.
    On,
    /// It is not to be any more.
    Off,
}
