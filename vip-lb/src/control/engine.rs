//! From what should be to what must be written: the plan.
//!
//! The engine knows what is in the maps because it decided it. It does no IO: it takes the desired state and what was read, and returns
//! writes in an order in which every packet in between finds something valid.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use vip_lb_common::abi::{
    INLINE_SERVICES, LinkAddress, MAX_SERVICES, PortEntry, PortKey, RingClass, ServiceRef, Slot, Vip,
};

use super::{
    desired::{Desired, DesiredService, ServiceKey, peer_entry},
    indices::{BackendIndices, Numbers},
    service::{Service, free},
};
use crate::{
    config::model::Protocol,
    dataplane::{Found, Write},
    steering::{Record, Records, ServiceRing},
};

#[cfg(test)]
mod tests;

/// Decides over all maps.
#[derive(Debug)]
pub struct Engine {
    seed: [u8; 32],
    services: BTreeMap<ServiceKey, Service>,
    vips: BTreeMap<IpAddr, Vip>,
    ports: BTreeMap<Port, ServiceRef>,
    peers: BTreeMap<[u8; 6], IpAddr>,
    tunnel_peers: BTreeSet<IpAddr>,
    indices: BackendIndices,
    service_numbers: Numbers,
    vip_numbers: Numbers,
    /// Numbers of services that are gone, whose records a collection has to remove before the number is given away again.
    retired: Vec<u16>,
    /// Services found in the maps that wait for their configuration: id, class, slots and backends.
    orphans: BTreeMap<ServiceKey, Orphan>,
    /// What was found in the maps and that no VIP leads to: a daemon ended between its writes.
    strays: Strays,
}

#[derive(Debug, Default)]
struct Strays {
    rings: Vec<(u16, RingClass)>,
    backends: Vec<u16>,
}

/// VIP, port and protocol: an ordered [`PortKey`].
type Port = (u32, u16, u8);

#[derive(Debug)]
struct Orphan {
    reference: ServiceRef,
    slots: Vec<Slot>,
    backends: Vec<(u16, vip_lb_common::abi::Backend)>,
}

/// Changes to carry out, in this order.
#[derive(Debug, Default)]
pub struct Plan {
    /// The writes.
    pub writes: Vec<Write>,
    /// What could not be planned.
    pub warnings: Vec<String>,
}

/// What was read for a collection, all after the last publication: NEWBORN, then FLOWS, then the rings.
#[derive(Debug, Default)]
pub struct Look {
    /// All of NEWBORN.
    pub newborn: Vec<Record>,
    /// All of FLOWS.
    pub flows: Vec<Record>,
    /// Published rings by service.
    pub rings: HashMap<u16, Vec<Slot>>,
}

/// What a collection found to do: the plan first, then the deletions.
#[derive(Debug, Default)]
pub struct Collection {
    /// Rings to publish and entries to free.
    pub plan: Plan,
    /// Entries of FLOWS to delete if they are still as they were read.
    pub flows: Vec<Record>,
    /// Entries of NEWBORN, likewise.
    pub newborn: Vec<Record>,
    /// Entries that stay in FLOWS or may still get there.
    pub occupied: usize,
}

impl Engine {
    /// Starts from empty maps.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            services: BTreeMap::new(),
            vips: BTreeMap::new(),
            ports: BTreeMap::new(),
            peers: BTreeMap::new(),
            tunnel_peers: BTreeSet::new(),
            indices: BackendIndices::default(),
            service_numbers: Numbers::default(),
            vip_numbers: Numbers::default(),
            retired: Vec::new(),
            orphans: BTreeMap::new(),
            strays: Strays::default(),
        }
    }

    /// Starts from what a former daemon left; `ring_of` reads a published ring.
    pub fn adopt(
        seed: [u8; 32],
        found: &Found,
        ring_of: impl Fn(ServiceRef) -> anyhow::Result<Option<Vec<Slot>>>,
    ) -> anyhow::Result<Self> {
        let mut engine = Self::new(seed);
        let mut backends: HashMap<u16, Vec<_>> = HashMap::new();
        for &(index, backend) in &found.backends {
            engine.indices.adopt(index, backend.generation, backend.identity != 0);
            if backend.identity != 0 {
                backends.entry(backend.service).or_default().push((index, backend));
            }
        }
        engine.vips = found.vips.iter().copied().collect();
        for (mac, peer) in &found.peers {
            engine.peers.insert(mac.mac, peer.address.into());
        }
        engine.tunnel_peers = found.tunnel_peers.iter().copied().collect();
        let mut known = Vec::new();
        for (address, vip) in &found.vips {
            if vip.flags & Vip::ENDPOINT != 0 {
                continue;
            }
            engine.vip_numbers.take(vip.id as u16);
            let inline = vip.services.iter().filter(|entry| entry.protocol != 0);
            known.extend(inline.map(|entry| (*address, entry.port, entry.protocol, entry.service)));
            for (key, service) in found.ports.iter().filter(|(key, _)| key.vip == vip.id) {
                engine.ports.insert((key.vip, key.port, key.protocol), *service);
                known.push((*address, key.port, key.protocol, *service));
            }
        }
        for (vip, port, protocol, reference) in known {
            let protocol = if protocol == Protocol::Udp.number() { Protocol::Udp } else { Protocol::Tcp };
            engine.service_numbers.take(reference.id);
            let key = ServiceKey { vip, port, protocol };
            // One that moves between VIPS and PORTS is in both for a moment, and a daemon may have ended in it.
            if engine.orphans.contains_key(&key) {
                continue;
            }
            let orphan = Orphan {
                reference,
                slots: ring_of(reference)?.unwrap_or_default(),
                backends: backends.remove(&reference.id).unwrap_or_default(),
            };
            engine.orphans.insert(key, orphan);
        }
        let owned: HashSet<_> = engine
            .orphans
            .values()
            .map(|orphan| (orphan.reference.id, RingClass::from_u8(orphan.reference.ring_class)))
            .collect();
        engine.strays = Strays {
            rings: found.rings.iter().filter(|ring| !owned.contains(ring)).copied().collect(),
            backends: backends.into_values().flatten().map(|(index, _)| index).collect(),
        };
        Ok(engine)
    }

    /// What about `desired` cannot be brought about while flows of the found or running services must be kept.
    #[must_use]
    pub fn refusals(&self, desired: &Desired) -> Vec<(ServiceKey, &'static str)> {
        let mut refusals = Vec::new();
        for (key, wanted) in &desired.services {
            let running = self.services.get(key).map(|service| service.reference);
            let Some(reference) = running.or_else(|| self.orphans.get(key).map(|orphan| orphan.reference))
            else {
                continue;
            };
            if reference.ring_class != wanted.class as u8 {
                refusals.push((*key, "ring"));
            }
            if reference.flags != wanted.flags {
                refusals.push((*key, "affinity"));
            }
        }
        refusals
    }

    /// Plans the way from the maps as they are to `desired`. `now` is the tick of SETTINGS.
    pub fn reconcile(&mut self, desired: &Desired, now: u32) -> Plan {
        let mut plan = Plan::default();
        // All rings next to each other: the kernel publishes many as quickly as one.
        let (mut rings, mut after, mut last) = (Vec::new(), Vec::new(), Vec::new());
        self.indices.return_freed();
        self.adopt_orphans(desired, now);
        // First of all: from here on their numbers may be given away.
        let strays = std::mem::take(&mut self.strays);
        plan.writes
            .extend(strays.rings.into_iter().map(|(service, class)| Write::RemoveRing { service, class }));
        plan.writes.extend(strays.backends.into_iter().map(|index| free(index, &mut self.indices)));
        for (key, wanted) in &desired.services {
            let Some(service) = self.service(*key, wanted, &mut plan.warnings) else {
                continue;
            };
            let mut service = service;
            let mut writes = service.reconcile(wanted, &mut self.indices, &self.seed, now);
            self.services.insert(*key, service);
            plan.writes.append(&mut writes.before);
            rings.extend(writes.ring);
            after.append(&mut writes.after);
            plan.warnings.append(&mut writes.warnings);
        }
        plan.writes.append(&mut rings);
        plan.writes.append(&mut after);
        let gone: Vec<_> =
            self.services.keys().filter(|key| !desired.services.contains_key(key)).copied().collect();
        for key in gone {
            if let Some(mut service) = self.services.remove(&key) {
                let reference = service.reference;
                last.push(Write::RemoveRing { service: reference.id, class: service.class() });
                last.append(&mut service.dissolve(&mut self.indices));
                self.retired.push(reference.id);
            }
        }
        self.plan_peers(desired, &mut plan.writes);
        self.plan_vips(desired, &mut plan.writes);
        plan.writes.append(&mut last);
        plan
    }

    /// Whether peer nodes are known.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Takes in the ring that a publication replaced, with the signs of life that packets left in it.
    pub fn replaced(&mut self, service: u16, slots: &[Slot]) {
        if let Some(service) = self.services.values_mut().find(|known| known.reference.id == service) {
            service.ring.merge(slots);
        }
    }

    /// Whether there are records to look through.
    #[must_use]
    pub fn wants_collection(&self) -> bool {
        !self.retired.is_empty()
            || self
                .services
                .values()
                .any(|service| service.ring.wants_collection() || service.has_lingering())
    }

    /// The rings that a collection has to read: those with open slots.
    pub fn open_rings(&self) -> impl Iterator<Item = (u16, RingClass)> {
        let open = self.services.values().filter(|service| service.ring.open() > 0);
        open.map(|service| (service.reference.id, service.class()))
    }

    /// Looks through the records. `now` is the tick when they began to be read.
    pub fn collect(&mut self, look: Look, now: u32) -> Collection {
        let mut collection = Collection::default();
        let mut records = Records::by_service(look.newborn, look.flows);
        let mut after = Vec::new();
        for service in self.services.values_mut() {
            let of_service = records.remove(&service.reference.id).unwrap_or_default();
            let idle = of_service.flows.is_empty() && of_service.newborn.is_empty();
            if idle && !service.ring.wants_collection() && !service.has_lingering() {
                continue;
            }
            let published = look.rings.get(&service.reference.id).map_or(&[][..], Vec::as_slice);
            let (mut collected, mut writes) = service.collect(published, &of_service, &mut self.indices, now);
            collection.plan.writes.extend(writes.ring);
            after.append(&mut writes.after);
            collection.flows.append(&mut collected.flows);
            collection.newborn.append(&mut collected.newborn);
            collection.occupied += collected.occupied;
        }
        collection.plan.writes.append(&mut after);
        // Records of services that are gone.
        for (_, mut left) in records {
            collection.flows.append(&mut left.flows);
            collection.newborn.append(&mut left.newborn);
        }
        for number in std::mem::take(&mut self.retired) {
            self.service_numbers.free(number);
        }
        collection
    }

    /// A service as it is published.
    #[must_use]
    pub fn published(&self, key: &ServiceKey) -> Option<&Service> {
        self.services.get(key)
    }

    /// All published services.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceKey, &Service)> {
        self.services.iter()
    }

    /// Whether a backend was in the ring that a former daemon published, so that its flows may go on.
    #[must_use]
    pub fn was_serving(&self, key: &ServiceKey, identity: u64) -> bool {
        let Some(orphan) = self.orphans.get(key) else {
            return false;
        };
        let Some((index, _)) = orphan.backends.iter().find(|(_, backend)| backend.identity == identity)
        else {
            return false;
        };
        orphan.slots.iter().any(|slot| slot.current.index == *index)
    }

    fn adopt_orphans(&mut self, desired: &Desired, now: u32) {
        for (key, orphan) in std::mem::take(&mut self.orphans) {
            let wanted = desired.services.get(&key);
            let class = RingClass::from_u8(orphan.reference.ring_class);
            let (start, timeouts) = wanted.map_or(
                (crate::steering::Start::Visible, crate::steering::Timeouts::with_idle(1)),
                |wanted| (wanted.start, wanted.timeouts),
            );
            let (ring, published) = if orphan.slots.len() == class.slots() {
                let ring = ServiceRing::adopt(orphan.slots.clone(), start, timeouts, now);
                let as_found = ring.slots() == orphan.slots;
                (ring, as_found)
            } else {
                (ServiceRing::new(class.slots(), start, timeouts), false)
            };
            self.services.insert(key, Service::adopt(orphan.reference, ring, published, orphan.backends));
        }
    }

    /// Takes a service out of the table, or makes it.
    fn service(
        &mut self,
        key: ServiceKey,
        wanted: &DesiredService,
        warnings: &mut Vec<String>,
    ) -> Option<Service> {
        if let Some(service) = self.services.remove(&key) {
            return Some(service);
        }
        let Some(id) = self.service_numbers.allocate() else {
            warnings.push(format!(
                "no free number for service {}:{}: {MAX_SERVICES} are in use, some perhaps for a moment only",
                key.vip, key.port
            ));
            return None;
        };
        let reference = ServiceRef { id, ring_class: wanted.class as u8, flags: wanted.flags };
        Some(Service::new(reference, wanted))
    }

    fn plan_peers(&mut self, desired: &Desired, writes: &mut Vec<Write>) {
        for (&mac, &address) in &desired.peers {
            if self.peers.insert(mac, address) != Some(address) {
                let (mac, peer) = peer_entry(mac, address);
                writes.push(Write::Peer { mac, peer });
            }
        }
        // A peer whose address is not resolved at the moment keeps the MAC address it was last seen with.
        let moved: HashSet<_> = desired.peers.values().collect();
        let stays = |mac: &[u8; 6], address: &IpAddr| {
            desired.peers.contains_key(mac)
                || desired.configured_peers.contains(address) && !moved.contains(address)
        };
        let gone: Vec<_> =
            self.peers.iter().filter(|(mac, address)| !stays(mac, address)).map(|(mac, _)| *mac).collect();
        for mac in gone {
            self.peers.remove(&mac);
            writes.push(Write::RemovePeer(LinkAddress::new(mac)));
        }
        let mut tunnel_peers = desired.tunnel_peers.clone();
        if self.owes_local_flows() {
            tunnel_peers.extend(self.tunnel_peers.intersection(&desired.configured_peers));
        }
        for &address in tunnel_peers.difference(&self.tunnel_peers) {
            writes.push(Write::TunnelPeer(address));
        }
        for &address in self.tunnel_peers.difference(&tunnel_peers) {
            writes.push(Write::RemoveTunnelPeer(address));
        }
        self.tunnel_peers = tunnel_peers;
    }

    /// Whether this host is a former backend that still has flows, which peers go on sending here.
    fn owes_local_flows(&self) -> bool {
        self.services.values().any(Service::has_lingering_local)
    }

    /// Where tunnels end; those at which a former backend's flows arrive, too.
    fn endpoints(&self, desired: &Desired) -> BTreeSet<IpAddr> {
        let mut endpoints = desired.endpoints.clone();
        if self.owes_local_flows() {
            let ends = self.vips.iter().filter(|(_, vip)| vip.flags & Vip::ENDPOINT != 0);
            endpoints.extend(ends.map(|(address, _)| *address));
        }
        endpoints
    }

    /// VIPS and PORTS: PORTS before the VIPs that point there, and after those that do no more.
    fn plan_vips(&mut self, desired: &Desired, writes: &mut Vec<Write>) {
        let (mut vips, mut ports) = (BTreeMap::new(), BTreeMap::new());
        for (&address, &flags) in &desired.vips {
            let id = match self.vips.get(&address) {
                Some(vip) if vip.flags & Vip::ENDPOINT == 0 => vip.id,
                _ => u32::from(self.vip_numbers.allocate().unwrap_or(u16::MAX)),
            };
            let (vip, more) = self.vip_entry(address, id, flags);
            vips.insert(address, vip);
            ports.extend(more);
        }
        for address in self.endpoints(desired) {
            vips.entry(address).or_insert(Vip { flags: Vip::ENDPOINT, ..Vip::default() });
        }
        for (&key, &service) in &ports {
            if self.ports.get(&key) != Some(&service) {
                writes.push(Write::Port { key: port_key(key), service });
            }
        }
        for (&address, &vip) in &vips {
            if self.vips.get(&address) != Some(&vip) {
                writes.push(Write::Vip { address, vip });
            }
        }
        for (address, vip) in &self.vips {
            if !vips.contains_key(address) {
                writes.push(Write::RemoveVip(*address));
            }
            if vip.flags & Vip::ENDPOINT == 0 && !desired.vips.contains_key(address) {
                self.vip_numbers.free(vip.id as u16);
            }
        }
        for &key in self.ports.keys() {
            if !ports.contains_key(&key) {
                writes.push(Write::RemovePort(port_key(key)));
            }
        }
        (self.vips, self.ports) = (vips, ports);
    }

    /// A VIP's entry with its first services, and the entries of PORTS for the others.
    fn vip_entry(&self, address: IpAddr, id: u32, flags: u32) -> (Vip, Vec<(Port, ServiceRef)>) {
        let mut vip = Vip { id, flags, ..Vip::default() };
        let mut more = Vec::new();
        let mut inline = vip.services.iter_mut();
        debug_assert_eq!(inline.len(), INLINE_SERVICES);
        let of_vip = |port, protocol| ServiceKey { vip: address, port, protocol };
        for (key, service) in self.services.range(of_vip(0, Protocol::Tcp)..=of_vip(u16::MAX, Protocol::Udp))
        {
            if service.is_local() {
                vip.flags |= Vip::LOCAL;
            }
            let protocol = key.protocol.number();
            if key.port == 0 {
                vip.flags |= Vip::ANY_PORT;
                more.push(((id, 0, protocol), service.reference));
            } else if let Some(entry) = inline.next() {
                *entry = PortEntry { port: key.port, protocol, reserved: 0, service: service.reference };
            } else {
                vip.flags |= Vip::MORE;
                more.push(((id, key.port, protocol), service.reference));
            }
        }
        (vip, more)
    }
}

fn port_key((vip, port, protocol): Port) -> PortKey {
    PortKey { vip, port, protocol, kind: 0 }
}
