//! Network namespaces with real servers, real clients and the real daemon.
//!
//! ```text
//!   client ---+
//!   edge-1 ---+--- switch (a bridge in its own namespace)
//!   backend-1 +
//!   backend-2 +
//! ```
//!
//! Everything on one segment, 10.77.0.0/24 and fd77::/64; the VIPs 10.77.1.1 and fd77:1::1 are on-link routes of the
//! client, so that it asks the segment who has them. Names are unique per process and lab, and dropping a
//! [`Lab`] removes all of it, also when a test panics.

mod arp_watch;
mod arrivals;
mod backend_setup;
mod binary;
pub(crate) mod bpffs;
pub mod command;
pub mod config;
mod daemon;
mod decap;
mod disk;
mod drops;
mod echo;
mod far_host;
mod flood;
mod greeter;
mod http_load;
mod http_server;
pub mod interrupt;
mod iperf;
mod jitter;
mod keepalived;
mod link;
mod long_connections;
mod namespace;
mod new_connections;
mod notifications;
mod pace;
mod peers;
mod process_usage;
mod raw_link;
mod routers;
mod routing;
mod scratch;
mod settings;
mod site;
mod stack;
pub mod status;
mod sweep;
mod terminal;
mod topology;
mod transfer;
mod udp_flows;
mod udp_probes;
mod virtual_edge;
mod xdp_pass;

pub use arp_watch::ArpWatch;
pub use arrivals::Arrivals;
pub use backend_setup::{BackendSetup, shell};
pub use binary::daemon_binary;
pub use config::{
    ConfigFile, Family, Mode, PeeringConfig, RouteConfig, TrackConfig, VrrpConfig, WatchdogConfig,
};
pub use daemon::Daemon;
pub use decap::Decap;
pub use disk::Disk;
pub use drops::Drops;
pub use echo::{EchoServer, Transport, who_answers};
pub use far_host::FarHost;
pub use flood::{Flood, FloodKind};
pub use greeter::Greeter;
pub use http_load::{HttpLoad, HttpReport, LoadOptions, Request, fetch};
pub use http_server::HttpServer;
pub use iperf::{IperfReport, IperfServer, iperf};
pub use jitter::Jitter;
pub use keepalived::{Keepalived, keepalived_version};
pub use link::{Switch, Veth};
pub use long_connections::{LongConnection, LongConnections, nothing_lost};
pub use namespace::{Entry, NamedThread, Namespace};
pub use new_connections::NewConnections;
pub use pace::{Gate, Pace};
pub use peers::Peering;
pub use process_usage::ProcessUsage;
pub use raw_link::RawLink;
pub use routing::{Routing, Speaker};
pub use scratch::Scratch;
pub use settings::Settings;
pub use site::{Site, SiteOptions};
pub use stack::{StackCounters, learned_mtu};
pub use terminal::Terminal;
pub use topology::{Lab, LabOptions, Node, backend_address, edge_address, nat_source, vip};
pub use transfer::Transfer;
pub use udp_flows::{UdpFlow, UdpFlows};
pub use udp_probes::UdpProbes;
pub use virtual_edge::VirtualEdge;
pub use xdp_pass::attach as attach_pass;

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

/// How much longer than on an ordinary machine everything may take: `VIP_LB_TEST_PATIENCE`, a whole number, 1 if it is not set.
/// A processor that is emulated needs ten times as long for the same work.
///
/// # Panics
///
/// When the variable holds something else.
#[must_use]
pub fn patience() -> u32 {
    static PATIENCE: OnceLock<u32> = OnceLock::new();
    *PATIENCE.get_or_init(|| {
        let Ok(text) = std::env::var("VIP_LB_TEST_PATIENCE") else { return 1 };
        text.parse().ok().filter(|factor| *factor > 0).expect("VIP_LB_TEST_PATIENCE is a number from 1 on")
    })
}

/// Asks again and again until there is an answer, or says what was waited for when `limit` times [`patience`] has passed.
///
/// # Errors
///
/// The answer did not come in time, or the process is told to end.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    let limit = limit * patience();
    loop {
        interrupt::check()?;
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if started.elapsed() > limit {
            anyhow::bail!("waited {limit:?} in vain for {what}");
        }
        // Asking costs time that a slow machine does not have.
        std::thread::sleep(Duration::from_millis(10) * patience().pow(2));
    }
}
