//! Arguments of `drain` and `undrain`.

use std::time::Duration;

use clap::Args;

use super::duration;
use crate::api::model::BackendSelector;

/// Arguments of `drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// SERVICE/BACKEND, or BACKEND for the backends of that name in all services; ADDRESS alone is the whole host
    #[arg(value_name = "BACKEND", required_unless_present = "node", conflicts_with = "node")]
    pub backend: Option<BackendSelector>,

    /// This load balancer itself: it gives up its VIPs, and forwards what comes all the same
    #[arg(long, conflicts_with = "force")]
    pub node: bool,

    /// Stay until no slot and no entry names the backend, or with --node until nothing has come for one idle timeout
    #[arg(long)]
    pub wait: bool,

    /// Stay no longer than this, such as 90s or 10m
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "wait")]
    pub deadline: Option<Duration>,

    /// Cut what connections it has: now, or at the deadline
    #[arg(long)]
    pub force: bool,

    /// Print JSON; with --wait only when the waiting is over
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `undrain`.
#[derive(Debug, Args)]
pub struct BackendArgs {
    /// SERVICE/BACKEND, or BACKEND for the backends of that name in all services; ADDRESS alone is the whole host
    #[arg(value_name = "BACKEND", required_unless_present = "node", conflicts_with = "node")]
    pub backend: Option<BackendSelector>,

    /// This load balancer itself
    #[arg(long)]
    pub node: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
