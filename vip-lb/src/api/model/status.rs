//! What runs and how it is.

use std::{net::IpAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    change::OperatorOrder, node::NodeAdmin, peering::PeeringStatus, route::RouteStatus,
    second_owner::SecondOwnerStatus, vrrp::VrrpStatus,
};

pub use crate::{
    control::floor::{FloorState, FloorStatus},
    health::{Percentiles, Slower},
};

use crate::config::model::{AdminState, Affinity, ForwardMode, Ownership, Ports, Protocol, WatchdogAction};

/// Answer of a process that is alive, whatever its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Liveness {
    /// Version of the daemon.
    pub version: String,
    /// Its process id.
    pub pid: u32,
}

/// The daemon, its VIPs and everything behind them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Name of this machine in the configuration.
    pub node: String,
    /// Version of the daemon.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started, Unix seconds.
    pub started: u64,
    /// What is wanted of the node itself.
    pub node_admin: NodeAdmin,
    /// What it runs by.
    pub config: ConfigInfo,
    /// Where the packet program is attached.
    pub interfaces: Vec<InterfaceStatus>,
    /// The configured bonds, with all their members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bonds: Vec<BondStatus>,
    /// Hosts of backends that configuration or operator take out of service as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostStatus>,
    /// What packets to VIPs meet once no daemon runs any more.
    pub watchdog: WatchdogStatus,
    /// How this node and its peers get on; absent where they do not speak with each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peering: Option<PeeringStatus>,
    /// In the order of the configuration.
    pub vips: Vec<VipStatus>,
    /// The tables that can fill.
    pub tables: Vec<TableStatus>,
    /// What an operator should know, one lower-case phrase each.
    pub warnings: Vec<String>,
}

/// What becomes of packets to VIPs without a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WatchdogStatus {
    /// Whether they are forwarded on, or left to the host.
    pub action: WatchdogAction,
    /// How long after the daemon's last sign of life, in seconds.
    pub after: u64,
}

/// Everything at one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostStatus {
    /// The address that its backends have.
    pub address: IpAddr,
    /// What the configuration wants of it.
    pub admin: AdminState,
    /// The operator's order that holds for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_order: Option<OperatorOrder>,
    /// Backends at this address, counted once for each service.
    pub backends: u32,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigInfo {
    /// The file it was read from.
    pub path: PathBuf,
    /// Fingerprint of its text; nodes with the same file show the same.
    pub hash: String,
    /// When it was read, Unix seconds.
    pub loaded_at: u64,
    /// The number under which it is kept; absent if it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// What is in force instead of the file: a revision, or a text that was given; absent if the file is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of_file: Option<String>,
}

/// An interface that the packet program is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceStatus {
    /// Kernel name, as in `ip link`.
    pub name: String,
    /// Kernel index.
    pub index: u32,
    /// Where in the receive path the program runs.
    pub mode: AttachedMode,
    /// What became of receive VLAN offload, which hides tags from XDP; absent if nothing is to be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_offload: Option<String>,
    /// The bond in the configuration that it is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond: Option<String>,
}

/// A bond that is served by its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BondStatus {
    /// Kernel name, as in `ip link`.
    pub name: String,
    /// Kernel index.
    pub index: u32,
    /// In the order of their indices.
    pub members: Vec<BondMemberStatus>,
}

/// A member of a bond.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BondMemberStatus {
    /// Kernel name, as in `ip link`.
    pub name: String,
    /// Kernel index.
    pub index: u32,
    /// What the bond has in it.
    pub state: BondMemberState,
    /// Where in the receive path the program runs; absent while its turn has not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<AttachedMode>,
    /// Whether it got the program a moment ago and its link is awaited before the next member's turn.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaited: bool,
}

/// What a bond has in a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BondMemberState {
    /// The bond sends and receives by it; this node answers ARP and neighbour solicitations there.
    Active,
    /// It stands by.
    Standby,
    /// It has no link, or is not in use (`802.3ad`).
    Down,
}

/// Where in the receive path the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the kernel's stack, after the allocation of the socket buffer: slower, works with any driver.
    Generic,
}

/// A virtual IP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VipStatus {
    /// The address clients dial.
    pub address: IpAddr,
    /// How it is decided which node answers for it.
    pub ownership: Ownership,
    /// Whether this node answers ARP, neighbour solicitations and echo for it now.
    pub answering: bool,
    /// Why this node does not want to be found there, a lower-case phrase; absent if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
    /// How its virtual router is; absent where ownership is not by VRRP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrrp: Option<VrrpStatus>,
    /// Who else answers for it, as far as this node heard while it answers itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub second_owners: Vec<SecondOwnerStatus>,
    /// How often somebody else was found since the daemon began.
    #[serde(default)]
    pub second_owners_found: u64,
    /// How its route is; absent where ownership is not by routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteStatus>,
    /// In the order of the configuration.
    pub services: Vec<ServiceStatus>,
}

/// Counts since the maps were created, and rates over the daemon's last sampling period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// Packets from clients.
    pub packets: u64,
    /// Their bytes from the IP header on, as they came in.
    pub bytes: u64,
    /// TCP connections begun; UDP flows have no visible beginning and count 0.
    pub new_connections: u64,
    /// Packets per second.
    pub packets_per_second: f64,
    /// Bits per second.
    pub bits_per_second: f64,
    /// Connections begun per second.
    pub new_connections_per_second: f64,
}

/// A service: VIP, port and protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceStatus {
    /// Its name, unique on this node.
    pub name: String,
    /// A number, 0 for every port; of a range a text such as `8000-8999`.
    pub port: Ports,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// What keeps to one backend.
    pub affinity: Affinity,
    /// Size of its Maglev table.
    pub ring_slots: u32,
    /// Slots whose backend changed and that still remember the earlier one.
    pub open_slots: u32,
    /// Entries of FLOWS that belong to it.
    pub recorded_flows: u64,
    /// Entries of NEWBORN that belong to it.
    pub newborn: u64,
    /// Entries of SURVIVORS that belong to it.
    pub survivors: u64,
    /// Whether enough of its backends are healthy, and what is done if not.
    #[serde(default)]
    pub floor: FloorStatus,
    /// What it carried.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// In the order of the configuration.
    pub backends: Vec<BackendStatus>,
}

/// A server of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackendStatus {
    /// Its name, unique within the service.
    pub name: String,
    /// Its own address.
    pub address: IpAddr,
    /// When it is used: the lowest tier first.
    #[serde(default)]
    pub tier: u8,
    /// How packets reach it.
    pub mode: ForwardMode,
    /// Its share relative to the others, as configured.
    pub weight: u16,
    /// How much of that counts now, in percent: less than 100 while it returns slowly.
    #[serde(default = "whole")]
    pub weight_percent: u8,
    /// What the configuration wants of it, or of its host, whichever is stricter.
    pub admin: AdminState,
    /// Whether an operator drains it, over what the configuration says.
    pub drained_by_operator: bool,
    /// The operator's order that holds for it, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_order: Option<OperatorOrder>,
    /// Whether it is alive.
    pub health: Health,
    /// What sampled connections of clients show; absent where nobody looks, or it takes no new ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive: Option<PassiveStatus>,
    /// Whether it gets packets.
    pub forwarding: Forwarding,
    /// Slots of the ring whose `current` it is.
    pub ring_slots: u32,
    /// The same as a share of the ring, 0 to 1.
    pub ring_share: f64,
    /// Open slots whose `previous` it is: what keeps it from being drained.
    pub previous_slots: u32,
    /// Recorded flows that name it.
    pub entries: u64,
    /// Translated connections to it (mode nat), those included that have ended a moment ago.
    #[serde(default)]
    pub nat_connections: u64,
    /// Interface and MAC address packets for it leave by: `eth0 02:00:00:00:00:11`, `eth0 unresolved`, `local`.
    pub next_hop: String,
    /// What was sent to it.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// That a weight counts as it is configured.
fn whole() -> u8 {
    100
}

/// What the health checks know of a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// The verdict of the checks.
    pub state: HealthState,
    /// What led to it: a lower-case phrase such as `connection refused`; absent when there is nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it is so, Unix seconds.
    pub since: u64,
    /// How long the last successful probe took, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_latency_ms: Option<f64>,
    /// How long the last good probes took as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Percentiles>,
    /// How long they took to connect, if their kind does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<Percentiles>,
    /// That they take much longer than those of the service's other backends: a hint, which has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slower: Option<Slower>,
}

/// What sampled connections to a backend have shown since the daemon started. Quantiles are upper bounds, powers of two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PassiveStatus {
    /// Connections whose SYN was seen.
    pub connections: u64,
    /// Handshakes that were completed.
    pub handshakes: u64,
    /// Half of them took no longer from the SYN to the client's acknowledgement of the answer, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_p50_us: Option<u64>,
    /// 95 % took no longer, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_p95_us: Option<u64>,
    /// 99 % took no longer, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_p99_us: Option<u64>,
    /// SYNs that came again.
    pub syn_again: u64,
    /// Data that came again, with nothing new acknowledged in between.
    pub data_again: u64,
    /// Data that nothing had followed for a second.
    pub silent: u64,
    /// How often it was suspected not to answer.
    pub suspicions: u64,
}

/// The verdict of the health checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// Passes its checks.
    Up,
    /// Fails its checks.
    Down,
    /// Not yet decided.
    Unknown,
    /// Has no check and counts as up.
    Unchecked,
}

/// Whether a backend gets packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forwarding {
    /// The short answer.
    pub state: ForwardingState,
    /// Why it is not in the ring, or is although its check fails: a lower-case phrase such as `drained by the operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a backend gets packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ForwardingState {
    /// New flows and old ones.
    #[serde(rename = "in ring")]
    InRing,
    /// Old flows only, until they end.
    #[serde(rename = "draining")]
    Draining,
    /// None: no slot and no entry names it.
    #[serde(rename = "out")]
    Out,
}

/// How full a table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableStatus {
    /// Name of the map.
    pub name: String,
    /// Entries in it.
    pub entries: u64,
    /// Entries it can hold.
    pub capacity: u64,
}

/// Every verdict and how many packets ended so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counters {
    /// In the order of the verdicts, zero ones included.
    pub verdicts: Vec<VerdictCount>,
}

/// One verdict and its counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictCount {
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Packets that ended so since the maps were created, over all CPUs.
    pub packets: u64,
}

/// One of the closed list of ways a packet can end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Its name in the code and on the counter.
    pub name: String,
    /// What it means: one sentence.
    pub meaning: String,
    /// What becomes of the packet.
    pub action: Action,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Handed to this host's stack.
    Pass,
    /// Dropped.
    Drop,
    /// Answered by the program, out of the interface it came in by.
    Reply,
    /// Sent to a backend.
    Forward,
}

impl From<vip_lb_common::Verdict> for Verdict {
    fn from(verdict: vip_lb_common::Verdict) -> Self {
        Self {
            name: verdict.name().to_owned(),
            meaning: verdict.meaning().to_owned(),
            action: match verdict.action() {
                vip_lb_common::Action::Pass => Action::Pass,
                vip_lb_common::Action::Drop => Action::Drop,
                vip_lb_common::Action::Reply => Action::Reply,
                vip_lb_common::Action::Forward => Action::Forward,
            },
        }
    }
}
