//! What the tables hold, said once for the kernel's maps and for the collections in memory.

use std::{cell::RefCell, collections::HashMap};

use vip_lb_common::{
    HashKey,
    abi::{
        Address, Backend, BackendRef, Lease, LinkAddress, Mode, Peer, Phase, PortKey, RangeKey, RingClass,
        SNAP, ServiceOptions, ServiceRef, Settings, Slot, Vip, Watcher,
    },
    headers::outer_checksum_base,
    memory::MemoryTables,
};

use super::INGRESS;
use crate::packet::{Mac, NODE_MAC};

/// UDP port of GUE (IANA).
pub const GUE_PORT: u16 = 6080;

/// Wants to see every packet whole.
pub const EVERYTHING: Watcher =
    Watcher { verdicts: u64::MAX, every: 1, rate: u32::MAX, snap: SNAP as u16, ..Watcher::NOBODY };

/// Contents of the tables.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// SETTINGS; none leaves the map as the kernel makes it, all zeros.
    pub settings: Option<Settings>,
    /// VIPS.
    pub vips: HashMap<Address, Vip>,
    /// OWNERS.
    pub leases: HashMap<Address, Lease>,
    /// PORTS.
    pub ports: HashMap<PortKey, ServiceRef>,
    /// RANGES: bits of the key that count, the key, the service.
    pub ranges: Vec<(u32, RangeKey, ServiceRef)>,
    /// SERVICES.
    pub service_options: HashMap<u16, ServiceOptions>,
    /// RINGS of every class.
    pub rings: HashMap<ServiceRef, Vec<Slot>>,
    /// BACKENDS.
    pub backends: HashMap<u16, Backend>,
    /// PEERS.
    pub peers: HashMap<LinkAddress, Peer>,
    /// INTERFACES.
    pub interfaces: HashMap<u32, LinkAddress>,
    /// DECAP_SOURCES.
    pub decap_sources: Vec<Address>,
    /// DECAP_VIPS.
    pub decap_vips: Vec<Address>,
    /// Entries that FLOWS takes; none for as many as the program says.
    pub flows_capacity: Option<u32>,
    /// Entries that NAT_FLOWS takes, and NAT_REPLIES; none for as many as the program says.
    pub nat_capacity: Option<u32>,
    /// Entries that NEWBORN, SURVIVORS and FRAGMENTS take; none for as many as the program says. They evict, so more than any packets make.
    pub lru_capacity: Option<u32>,
    /// WATCHERS; obeyed with the flag WATCHED.
    pub watchers: Vec<Watcher>,
}

impl Default for Scenario {
    /// A node with nothing to balance, filled by a daemon.
    fn default() -> Self {
        Self {
            settings: Some(Settings {
                tick: 100,
                record_budget: 1000,
                survivor_budget: 1000,
                fresh_until: u32::MAX,
                gue_port: GUE_PORT,
                nat_first_port: 61_000,
                nat_ports: 4_536,
                ..Settings::new(HashKey::from_seed(b"the seed that all nodes know.\0\0\0"))
            }),
            vips: HashMap::new(),
            leases: HashMap::new(),
            ports: HashMap::new(),
            ranges: Vec::new(),
            service_options: HashMap::new(),
            rings: HashMap::new(),
            backends: HashMap::new(),
            peers: HashMap::new(),
            interfaces: HashMap::from([(INGRESS, LinkAddress::new(NODE_MAC))]),
            decap_sources: Vec::new(),
            decap_vips: Vec::new(),
            flows_capacity: None,
            nat_capacity: None,
            lru_capacity: None,
            watchers: Vec::new(),
        }
    }
}

impl Scenario {
    /// The same with small tables, for a few hundred flows: they are read many times as quickly, because that takes a look at every bucket.
    #[must_use]
    pub fn small(mut self) -> Self {
        for capacity in [&mut self.flows_capacity, &mut self.nat_capacity, &mut self.lru_capacity] {
            capacity.get_or_insert(4096);
        }
        self
    }

    /// The same, with somebody who sees every packet whole.
    #[must_use]
    pub fn watched(mut self) -> Self {
        self.watchers = vec![EVERYTHING];
        if let Some(settings) = &mut self.settings {
            settings.flags |= Settings::WATCHED;
        }
        self
    }

    /// All services that a packet can come to.
    pub(super) fn services(&self) -> impl Iterator<Item = u32> {
        let of_ranges = self.ranges.iter().map(|(_, _, service)| service);
        let of_vips = self.vips.values().flat_map(|vip| &vip.services).map(|inline| &inline.service);
        let named = self.ports.values().chain(of_ranges).chain(of_vips).chain(self.rings.keys());
        named.map(|service| service.id).chain(self.service_options.keys().copied()).map(u32::from)
    }

    /// Adds a VIP.
    pub fn vip(&mut self, address: &str, vip: Vip) {
        self.vips.insert(ip(address), vip);
    }

    /// Adds a service to PORTS; port 0 is every port.
    pub fn port(&mut self, vip: u32, protocol: u8, port: u16, service: ServiceRef) {
        let key = PortKey { vip, port, protocol, kind: 0 };
        self.ports.insert(key, service);
    }

    /// Publishes a ring that is the same slot all over.
    pub fn uniform_ring(&mut self, service: ServiceRef, slot: Slot) {
        self.ring(service, |_| slot);
    }

    /// Publishes a ring.
    pub fn ring(&mut self, service: ServiceRef, slot: impl FnMut(usize) -> Slot) {
        let slots = RingClass::from_u8(service.ring_class).slots();
        self.rings.insert(service, (0..slots).map(slot).collect());
    }

    /// Adds a backend of generation 1 and says how to refer to it. `tunnel` holds the outer source and destination.
    pub fn backend(
        &mut self,
        index: u16,
        mode: Mode,
        next_hop: Mac,
        tunnel: Option<(&str, &str)>,
    ) -> BackendRef {
        let mut macs = [0; 12];
        macs[..6].copy_from_slice(&next_hop);
        macs[6..].copy_from_slice(&NODE_MAC);
        let (tunnel_source, tunnel_destination) =
            tunnel.map(|(source, destination)| (ip(source), ip(destination))).unwrap_or_default();
        let backend = Backend {
            generation: 1,
            mode: mode as u8,
            egress: INGRESS,
            macs,
            mtu: 1500,
            identity: u64::from(index),
            source: tunnel_source,
            address: tunnel_destination,
            outer_checksum: outer_checksum_base(v4_octets(&tunnel_source), v4_octets(&tunnel_destination)),
            ..Backend::default()
        };
        self.backends.insert(index, backend);
        BackendRef { index, generation: 1 }
    }

    /// The settings, to be changed.
    ///
    /// # Panics
    ///
    /// Where the scenario has none.
    pub fn settings_mut(&mut self) -> &mut Settings {
        self.settings.as_mut().expect("this scenario has no settings")
    }

    /// The collections in memory.
    pub fn memory(&self) -> MemoryTables {
        MemoryTables {
            settings: self.settings,
            vips: self.vips.clone(),
            leases: self.leases.clone(),
            ports: self.ports.clone(),
            rings: self
                .rings
                .iter()
                .map(|(service, slots)| (service.id, RefCell::new(slots.clone())))
                .collect(),
            backends: self.backends.clone(),
            peers: self.peers.clone(),
            interfaces: self.interfaces.clone(),
            decap_sources: self.decap_sources.iter().copied().collect(),
            decap_vips: self.decap_vips.iter().copied().collect(),
            flows_capacity: self.flows_capacity.map_or(usize::MAX, |entries| entries as usize),
            nat_capacity: self.nat_capacity.map_or(usize::MAX, |entries| entries as usize),
            ranges: self.ranges.clone(),
            service_options: self.service_options.clone(),
            ..MemoryTables::default()
        }
    }
}

/// A slot at rest.
pub fn closed(current: BackendRef) -> Slot {
    Slot { current, previous: current, ..Slot::default() }
}

/// A slot in the `epoch`th of its openings.
pub fn open(phase: Phase, current: BackendRef, previous: BackendRef, epoch: u16) -> Slot {
    Slot { current, previous, epoch, phase: phase as u8, ..Slot::default() }
}

/// An address from its text.
///
/// # Panics
///
/// Where it is none.
pub(super) fn ip(text: &str) -> Address {
    text.parse::<std::net::IpAddr>().unwrap_or_else(|_| panic!("`{text}` is no address")).into()
}

fn v4_octets(address: &Address) -> [u8; 4] {
    let [.., a, b, c, d] = *address.octets();
    [a, b, c, d]
}
