//! Everything asked of the host's network: interfaces, routes, neighbours, their changes, and the settings
//! without which an XDP program does not see its packets.
//!
//! The parts that decide are pure: what a route answer means, what an event concerns
//! ([`Resolver`]). The parts that ask the kernel are [`Network`] (requests), [`Monitor`] (notifications),
//! [`turn_off_vlan_rx_offload`], [`SolicitedNodeMemberships`] and [`admit`]; [`HostChanges`] keeps a record of what they
//! changed that outlives the process.
//!
//! Their sockets belong to the network namespace of the thread that opens them.
//!
//! ```no_run
//! # use vip_lb::network::{Monitor, Network, NetworkEvent, Resolver, Wanted};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // The monitor first: what changes after the first answers is then never missed.
//! let mut monitor = Monitor::open()?;
//! let network = Network::open()?;
//! let mut resolver = Resolver::new();
//! resolver.want(Wanted { destination: "192.0.2.7".parse()?, source_hint: None });
//! loop {
//!     for (destination, answer) in network.resolve_all(&resolver.take_stale()).await {
//!         let recorded = resolver.record(destination, answer.as_ref());
//!         if let Some(neighbour) = recorded.keep {
//!             network.keep_fresh(neighbour.address, neighbour.ifindex).await?;
//!         }
//!         if let Some(neighbour) = recorded.release {
//!             network.release(neighbour.address, neighbour.ifindex).await?;
//!         }
//!     }
//!     resolver.apply(&monitor.next().await?);
//! }
//! # }
//! ```

mod device;
mod driver;
mod ethtool;
mod event;
mod host;
mod host_changes;
mod interface;
mod keep_fresh;
mod layers;
mod monitor;
mod multicast;
mod multicast_filter;
mod neighbour;
mod netlink;
mod next_hop;
mod probe_pair;
mod resolver;
mod routes;
mod sysctl;
mod xdp_features;

pub use device::{interface_mtu, interface_name, interface_runs};
pub use driver::{Channels, Offload, channels, indirection, offloads};
pub use ethtool::{
    OffloadError, VlanRxFeatures, VlanRxOffload, restore_vlan_rx_offload, turn_off_vlan_rx_offload,
};
pub use event::{NetworkEvent, Prefix};
pub use host::{DefaultRoute, HostAddress, LOOPBACK, XdpProgram};
pub(crate) use host_changes::name_of;
pub use host_changes::{ChangeError, HostChanges, InterfaceChanges, Undone};
pub use interface::{Below, BondMember, BondPolicy, Interface, InterfaceError, InterfaceKind, VlanTag};
pub use keep_fresh::{Freshness, NeighbourError};
pub use layers::LayerError;
pub use monitor::Monitor;
pub use multicast::{MembershipChange, MembershipError, SolicitedNodeMemberships, solicited_node};
pub use multicast_filter::{FilterError, admit, dismiss};
pub use neighbour::{Neighbour, ORIGINATOR};
pub use netlink::Network;
pub use next_hop::{NextHop, ResolveError, Via};
pub use probe_pair::{INNER as PROBE_INNER, OUTER as PROBE_OUTER, ProbePair, ProbePairError};
pub use resolver::{Recorded, Resolver, Wanted};
pub use routes::{HostRoute, HostRoutes, RouteDevice, RouteDeviceError, RouteDeviceKind};
pub use sysctl::Sysctl;
pub use xdp_features::{XdpFeatures, xdp_features};
