//! What a scenario reads from `vip-lb status --json` and `vip-lb explain --json`: the daemon's own answer, of which only
//! the fields named here are looked at.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{peers::Peering, wait_for};

/// The daemon's status.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// Its process id.
    pub pid: u32,
    /// The configuration in force.
    pub config: ConfigInfo,
    /// Where the packet program is attached.
    pub interfaces: Vec<Interface>,
    /// Hosts that are out of service as a whole.
    #[serde(default)]
    pub hosts: Vec<HostStatus>,
    /// The other nodes of the group.
    #[serde(default)]
    pub peering: Option<Peering>,
    /// The VIPs.
    pub vips: Vec<Vip>,
    /// How full the tables are.
    pub tables: Vec<Table>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// A host that is out of service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HostStatus {
    /// The address of its backends.
    pub address: IpAddr,
    /// What the configuration wants of it.
    pub admin: String,
    /// The operator's order that holds for it.
    #[serde(default)]
    pub operator_order: Option<OperatorOrder>,
    /// Backends at this address.
    pub backends: u32,
}

/// A table of the packet path.
#[derive(Clone, Debug, Deserialize)]
pub struct Table {
    /// Name of the map.
    pub name: String,
    /// Entries in it.
    pub entries: u64,
}

/// An interface that the packet program is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `native` or `generic`.
    pub mode: String,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ConfigInfo {
    /// Fingerprint of the file's text.
    pub hash: String,
    /// The number under which it is kept.
    #[serde(default)]
    pub revision: Option<u64>,
    /// What is in force instead of the file.
    #[serde(default)]
    pub instead_of_file: Option<String>,
}

/// A VIP.
#[derive(Clone, Debug, Deserialize)]
pub struct Vip {
    /// Whether the node answers for it.
    pub answering: bool,
    /// Why the node does not want to be found there.
    #[serde(default)]
    pub withdrawn: Option<String>,
    /// How its virtual router is.
    #[serde(default)]
    pub vrrp: Option<Vrrp>,
    /// Who else answers for it.
    #[serde(default)]
    pub second_owners: Vec<SecondOwner>,
    /// How its route is.
    #[serde(default)]
    pub route: Option<Route>,
    /// Its services.
    pub services: Vec<Service>,
}

/// Somebody else who answers for a VIP.
#[derive(Clone, Debug, Deserialize)]
pub struct SecondOwner {
    /// Its MAC address.
    pub mac: String,
    /// Where it was heard.
    pub interface: String,
    /// The VLAN that it is in.
    #[serde(default)]
    pub vlan: Option<u16>,
    /// An address of its own.
    #[serde(default)]
    pub host: Option<IpAddr>,
}

/// The route of a VIP.
#[derive(Clone, Debug, Deserialize)]
pub struct Route {
    /// Whether it is there.
    pub published: bool,
    /// What it leads to: `dummy` or `veth`.
    #[serde(default)]
    pub device_kind: Option<String>,
    /// What keeps it away that should not.
    #[serde(default)]
    pub hindrance: Option<String>,
    /// How often it was put back.
    pub restored: u64,
    /// Its last changes, the newest last.
    pub changes: Vec<RouteChange>,
}

/// The route of a VIP came or went.
#[derive(Clone, Debug, Deserialize)]
pub struct RouteChange {
    /// Whether it is there since.
    pub published: bool,
    /// Why.
    pub why: String,
}

/// A virtual router.
#[derive(Clone, Debug, Deserialize)]
pub struct Vrrp {
    /// `initialize`, `backup` or `active`.
    pub state: String,
    /// What its adverts say.
    pub priority: u8,
    /// What is configured.
    pub base_priority: u8,
    /// What it depends on.
    #[serde(default)]
    pub trackers: Vec<Tracker>,
    /// The other node that is active.
    #[serde(default)]
    pub active: Option<VrrpSpeaker>,
    /// That it was handed over.
    #[serde(default)]
    pub handed_over: Option<HandedOver>,
    /// The hardware address that moves along.
    #[serde(default)]
    pub virtual_mac: Option<VirtualMacStatus>,
    /// What keeps it from taking part.
    #[serde(default)]
    pub hindrance: Option<String>,
    /// The node heard last.
    #[serde(default)]
    pub heard: Option<IpAddr>,
    /// Its last changes, the newest last.
    pub changes: Vec<VrrpChange>,
    /// Adverts of other nodes that were heard.
    pub adverts_received: u64,
    /// Adverts that were not heard, by why.
    pub adverts_discarded: BTreeMap<String, u64>,
    /// Who speaks for it with other addresses.
    #[serde(default)]
    pub conflict: Option<String>,
    /// What the packet path sees and the daemon does not hear.
    #[serde(default)]
    pub unheard: Option<String>,
}

/// Something that a virtual router depends on.
#[derive(Clone, Debug, Deserialize)]
pub struct Tracker {
    /// What it is.
    pub tracker: String,
    /// Whether it is not well.
    pub failing: bool,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Another node that is active.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct VrrpSpeaker {
    /// Its own address.
    pub address: IpAddr,
    /// As it says.
    pub priority: u8,
}

/// A virtual MAC address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct VirtualMacStatus {
    /// The address.
    pub address: String,
    /// Whether the interface takes frames to it.
    pub admitted: bool,
    /// The macvlan that has it do so.
    #[serde(default)]
    pub device: Option<String>,
    /// Why there is none.
    #[serde(default)]
    pub no_device: Option<String>,
}

/// An order to hand over.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct HandedOver {
    /// When it was given, milliseconds since 1970.
    pub since_ms: u64,
}

/// A change of a virtual router.
#[derive(Clone, Debug, Deserialize)]
pub struct VrrpChange {
    /// When, milliseconds since 1970.
    pub time_ms: u64,
    /// What it became.
    pub state: String,
    /// Why.
    pub why: String,
}

/// A service.
#[derive(Clone, Debug, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Slots that remember an earlier backend.
    pub open_slots: u32,
    /// Whether it has enough healthy backends.
    pub floor: Floor,
    /// Entries of FLOWS.
    pub recorded_flows: u64,
    /// Entries of NEWBORN.
    pub newborn: u64,
    /// Entries of SURVIVORS.
    pub survivors: u64,
    /// Its backends.
    pub backends: Vec<Backend>,
}

/// Whether a service has enough healthy backends.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Floor {
    /// `met`, `fail_open`, `fail_closed` or `backup`.
    pub state: String,
    /// Backends that pass their checks.
    pub healthy: u32,
    /// As many are needed.
    pub needed: u32,
    /// The last tier in use.
    pub tier: u8,
    /// Backends that the cap keeps.
    pub held: u32,
}

/// A backend of a service.
#[derive(Clone, Debug, Deserialize)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// What the checks found.
    pub health: Health,
    /// Whether it gets packets.
    pub forwarding: Forwarding,
    /// How much of its weight counts, in percent.
    pub weight_percent: u8,
    /// Slots of the ring that are its own.
    pub ring_slots: u32,
    /// The same, 0 to 1.
    pub ring_share: f64,
    /// Open slots that remember it.
    pub previous_slots: u32,
    /// Recorded flows that name it.
    pub entries: u64,
    /// Translated connections to it.
    pub nat_connections: u64,
    /// The operator's order that holds for it.
    #[serde(default)]
    pub operator_order: Option<OperatorOrder>,
}

/// An operator's order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct OperatorOrder {
    /// `drain` or `cut`.
    pub order: String,
    /// Since when, Unix seconds.
    pub since: u64,
    /// Whether it is about the whole host.
    #[serde(default)]
    pub host: bool,
    /// The other node where it was given.
    #[serde(default)]
    pub by: Option<String>,
}

/// The answer to `plan` and `reload`.
#[derive(Clone, Debug, Deserialize)]
pub struct Plan {
    /// `nothing`, `safe` or `loses_connections`.
    pub outcome: String,
    /// The services that the change concerns.
    pub services: Vec<PlannedService>,
    /// Whose connections are lost.
    pub lost: Vec<Loss>,
    /// What is taken for granted.
    pub assumptions: Vec<String>,
    /// What an operator should know.
    pub warnings: Vec<String>,
    /// The number under which the configuration is kept; only of `reload`.
    #[serde(default)]
    pub revision: Option<u64>,
}

/// What a change does to a service.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PlannedService {
    /// Its name.
    pub name: String,
    /// Slots whose new connections go elsewhere.
    pub moved_slots: u32,
    /// The same, 0 to 1.
    pub moved_share: f64,
    /// Those that remember the backend they had.
    pub remembering_slots: u32,
    /// Connections that will be recorded at a time.
    #[serde(default)]
    pub recorded_estimate: Option<u64>,
    /// Its backends.
    pub backends: Vec<PlannedBackend>,
}

/// What a change does to a backend.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PlannedBackend {
    /// Its name.
    pub name: String,
    /// Slots that are its own afterwards.
    pub slots_after: u32,
    /// `none`, `kept` or `lost`.
    pub connections: String,
}

/// Whose connections are lost.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Loss {
    /// `SERVICE/BACKEND`.
    pub of: String,
    /// Why.
    pub reason: String,
    /// Recorded ones among them.
    pub recorded: u64,
    /// Translated ones among them.
    pub translated: u64,
}

impl Plan {
    /// What it says of a service.
    ///
    /// # Errors
    ///
    /// Nothing.
    pub fn service(&self, name: &str) -> Result<&PlannedService> {
        let found = self.services.iter().find(|service| service.name == name);
        found.ok_or_else(|| anyhow::anyhow!("the plan has no service `{name}`: {self:?}"))
    }
}

/// The answer to `drain`.
#[derive(Clone, Debug, Deserialize)]
pub struct DrainReport {
    /// One per backend.
    pub backends: Vec<Drained>,
    /// What an operator should know.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How far a backend is drained.
#[derive(Clone, Debug, Deserialize)]
pub struct Drained {
    /// How it is, in words.
    pub now: String,
    /// What it still has.
    pub remaining: Remaining,
}

/// What a backend still has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Remaining {
    /// Open slots that remember it.
    pub open_slots: u32,
    /// Recorded connections.
    pub recorded: u64,
    /// Translated connections.
    pub translated: u64,
    /// Older connections, an estimate.
    pub settled_estimate: u64,
    /// Whether nothing is left.
    pub drained: bool,
    /// Seconds until it can be drained.
    #[serde(default)]
    pub seconds_left: Option<u32>,
}

/// What the checks found.
#[derive(Clone, Debug, Deserialize)]
pub struct Health {
    /// `up`, `down`, `unknown` or `unchecked`.
    pub state: String,
    /// How long probes took as a whole.
    #[serde(default)]
    pub probe: Option<Percentiles>,
    /// How long they took to connect.
    #[serde(default)]
    pub connect: Option<Percentiles>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// How long most of some probes took, milliseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Percentiles {
    /// Half of them.
    pub p50_ms: f64,
    /// Nine of ten.
    pub p90_ms: f64,
    /// Nearly all.
    pub p99_ms: f64,
    /// How many there were.
    pub probes: u32,
}

/// Whether a backend gets packets.
#[derive(Clone, Debug, Deserialize)]
pub struct Forwarding {
    /// `in ring`, `draining` or `out`.
    pub state: String,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Asks for the status again and again until a condition holds for a service.
///
/// # Errors
///
/// It does not within `limit` times [`patience`](super::patience); the error shows the last status.
pub fn wait_service(
    mut status: impl FnMut() -> Result<Status>,
    service: &str,
    what: &str,
    limit: Duration,
    mut holds: impl FnMut(&Service) -> bool,
) -> Result<Service> {
    let mut last = None;
    let outcome = wait_for(what, limit, || {
        let found = status()?.service(service)?.clone();
        let held = holds(&found);
        last = Some(found.clone());
        Ok(held.then_some(found))
    });
    outcome.with_context(|| format!("service {service} is last seen as {last:?}"))
}

impl Status {
    /// The service of this name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn service(&self, name: &str) -> Result<&Service> {
        self.vips
            .iter()
            .flat_map(|vip| &vip.services)
            .find(|service| service.name == name)
            .ok_or_else(|| anyhow::anyhow!("the status has no service `{name}`"))
    }

    /// Entries of the table of this name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn entries(&self, table: &str) -> Result<u64> {
        let found = self.tables.iter().find(|found| found.name == table);
        found.map(|table| table.entries).ok_or_else(|| anyhow::anyhow!("the status has no table `{table}`"))
    }
}

impl Service {
    /// The backend of this name, if the service has it.
    #[must_use]
    pub fn backend(&self, name: &str) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.name == name)
    }

    /// Whether every backend is up and in the ring.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.backends.iter().all(|backend| {
            matches!(backend.health.state.as_str(), "up" | "unchecked") && backend.is_in_ring()
        })
    }
}

impl Backend {
    /// Whether new flows reach it.
    #[must_use]
    pub fn is_in_ring(&self) -> bool {
        self.ring_slots > 0
    }

    /// Whether the checks failed and it has left the ring.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.health.state == "down" && self.ring_slots == 0
    }
}

/// The answer to `explain`.
#[derive(Clone, Debug, Deserialize)]
pub struct Explanation {
    /// The backend the packet goes to.
    pub backend: Option<ChosenBackend>,
    /// How it ends.
    pub verdict: Verdict,
}

/// The backend a packet goes to.
#[derive(Clone, Debug, Deserialize)]
pub struct ChosenBackend {
    /// Its name.
    pub name: String,
    /// Why it.
    pub reason: String,
}

/// How a packet ends, and with `counters` how many did.
#[derive(Clone, Debug, Deserialize)]
pub struct Verdict {
    /// Its name.
    pub name: String,
    /// Packets that ended so; only in `counters`.
    #[serde(default)]
    pub packets: u64,
}

/// The answer to `counters`.
#[derive(Clone, Debug, Deserialize)]
pub struct Counters {
    /// One per verdict.
    pub verdicts: Vec<Verdict>,
}
