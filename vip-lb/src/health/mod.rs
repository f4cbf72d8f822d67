//! Health checks: whether a backend may take connections, and what becomes of those it has when it may not.
//!
//! [`threshold`] decides (pure), [`probe`] asks one backend once, [`monitor`] runs the probes of all backends.

pub mod latency;
pub mod memory;
pub mod monitor;
pub mod passive;
pub mod probe;
mod punctuality;
pub mod threshold;
pub mod way;

use std::net::{IpAddr, SocketAddr};

use crate::config::model::HealthCheck;

pub use latency::{Histogram, Latencies, Percentiles, Slower, slower};
pub use memory::Memory;
pub use monitor::{HealthEvent, Monitor, TargetHealth};
pub use probe::run_command;
pub use punctuality::ProbeCounts;
pub use threshold::{Connections, Down, DownCause, Outcome, State, Transition};
pub use way::{Approach, Probed, Way, Ways};

/// What is probed: one backend by one check, shared by all services that want just this.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The backend's own address.
    pub address: IpAddr,
    /// Where probes are addressed to.
    pub way: Way,
    /// How it is found to be alive.
    pub check: HealthCheck,
}

impl Target {
    /// The backend's own address and the port that is asked.
    #[must_use]
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.check.port)
    }

    /// The address, with the port if one is asked, as people read it.
    #[must_use]
    pub fn asked(&self) -> String {
        match self.check.port {
            0 => self.address.to_string(),
            _ => self.socket_address().to_string(),
        }
    }

    /// The kind of check in a word, as the configuration names it.
    #[must_use]
    pub fn check_name(&self) -> &'static str {
        self.check.kind.name().as_str()
    }
}
