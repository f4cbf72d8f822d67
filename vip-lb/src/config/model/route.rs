//! Which node answers for a VIP by routes.

use std::time::Duration;

/// How the route of a VIP is published for routing daemons on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The device that it leads to, which swallows what is sent there.
    pub device: String,
    /// The kernel's routing table that it is in.
    pub table: u32,
    /// Its metric (`RTA_PRIORITY`).
    pub metric: u32,
    /// For how long a daemon that is told to end goes on after it has withdrawn the route.
    pub linger: Duration,
}

impl Default for Route {
    fn default() -> Self {
        Self { device: "vip-lb".to_owned(), table: 254, metric: 1024, linger: Duration::from_secs(5) }
    }
}
