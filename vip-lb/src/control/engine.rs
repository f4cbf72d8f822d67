//! From what should be to what must be written: the plan.
//!
//! The engine knows what is in the maps because it decided it. It does no IO: it takes the desired state and what was read, and returns
//! writes in an order in which every packet in between finds something valid.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use vip_lb_common::abi::{BackendRef, MAX_SERVICES, RingClass, ServiceRef, Slot, Vip};

use self::adopt::{Orphan, Strays};
use super::{
    desired::{Desired, DesiredService, ServiceKey},
    indices::{BackendIndices, Numbers},
    service::{Service, free},
};
use crate::{
    config::model::{PortBlock, Protocol},
    dataplane::Write,
    nat,
    steering::{Record, Records},
};

mod addresses;
mod adopt;
mod probes;
mod share;
#[cfg(test)]
mod tests;

pub use share::SharedSlots;

/// Decides over all maps. A copy decides the same as the original.
#[derive(Clone, Debug)]
pub struct Engine {
    seed: [u8; 32],
    services: BTreeMap<ServiceKey, Service>,
    vips: BTreeMap<IpAddr, Vip>,
    ports: BTreeMap<Port, ServiceRef>,
    ranges: BTreeMap<Block, ServiceRef>,
    peers: BTreeMap<[u8; 6], IpAddr>,
    tunnel_peers: BTreeSet<IpAddr>,
    indices: BackendIndices,
    service_numbers: Numbers,
    vip_numbers: Numbers,
    /// Numbers of services that are gone, whose records a collection has to remove before the number is given away again.
    retired: Vec<u16>,
    /// Those of which translated connections may be left, which have to be removed, too.
    retired_translated: Vec<u16>,
    connections: nat::Collector,
    /// Whether entries of translated connections may be left that no service accounts for.
    connections_left: bool,
    /// Services found in the maps that wait for their configuration: id, class, slots and backends.
    orphans: BTreeMap<ServiceKey, Orphan>,
    probes: probes::Probes,
    /// What was found in the maps and that no VIP leads to: a daemon ended between its writes.
    strays: Strays,
    /// Whether this is a copy that tries a change.
    rehearses: bool,
}

/// Connections of probes are over within the timeout of their checks, a minute at most.
const PROBE_LIFE: nat::ServiceLife = nat::ServiceLife { protocol: Protocol::Tcp, idle: 60 };

/// VIP, port, protocol and kind: an ordered [`PortKey`](vip_lb_common::abi::PortKey).
type Port = (u32, u16, u8, u8);

/// VIP, protocol and ports: an ordered entry of RANGES.
type Block = (u32, u8, PortBlock);

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

/// What a look at translated connections found to do: the plan first, then the removals.
#[derive(Debug, Default)]
pub struct Connections {
    /// Entries of BACKENDS to free.
    pub plan: Plan,
    /// Connections to remove unless a packet of them came by since they were read.
    pub ended: Vec<nat::Ended>,
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
            ranges: BTreeMap::new(),
            peers: BTreeMap::new(),
            tunnel_peers: BTreeSet::new(),
            indices: BackendIndices::default(),
            service_numbers: Numbers::default(),
            vip_numbers: Numbers::default(),
            retired: Vec::new(),
            retired_translated: Vec::new(),
            connections: nat::Collector::default(),
            connections_left: false,
            orphans: BTreeMap::new(),
            probes: probes::Probes::default(),
            strays: Strays::default(),
            rehearses: false,
        }
    }

    /// A copy to try a change on.
    pub(super) fn for_rehearsal(&self) -> Self {
        let mut copy = Self { rehearses: true, ..self.clone() };
        copy.services.values_mut().for_each(|service| service.rehearses = true);
        copy
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
            // The other flags may change at any time, see `plan_vips`.
            if (reference.flags ^ wanted.flags) & ServiceRef::SOURCE_AFFINITY != 0 {
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
                if service.was_translated() {
                    self.connections_left = true;
                    self.retired_translated.push(reference.id);
                } else {
                    self.retired.push(reference.id);
                }
            }
        }
        self.plan_peers(desired, &mut plan.writes);
        self.plan_vips(desired, &mut plan.writes);
        // The route's preference, which no configuration can be checked for.
        for source in desired.nat_sources.keys().filter(|source| desired.vips.contains_key(source)) {
            plan.warnings.push(format!(
                "translated packets would leave with {source}, which is a VIP, and answers would not come back: give `node.nat` another \
                 source"
            ));
        }
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

    /// Whether there are translated connections to look through.
    #[must_use]
    pub fn wants_connections(&self) -> bool {
        self.connections_left
            || self.probes.are_translated()
            || self.services.values().any(Service::is_translated)
    }

    /// Looks through the translated connections. `now` is the tick when they began to be read, after the last plan was carried out.
    pub fn collect_connections(&mut self, look: &nat::Look, now: u32) -> Connections {
        let mut alive: HashSet<_> = self.probes.references().collect();
        let mut lives = HashMap::new();
        lives.insert(ServiceRef::PROBES, PROBE_LIFE);
        for (key, service) in &self.services {
            alive.extend(service.references());
            let life = nat::ServiceLife { protocol: key.protocol, idle: service.ring.timeouts().idle };
            lives.insert(service.reference.id, life);
        }
        let is_alive = |reference: BackendRef| alive.contains(&reference);
        let life_of = |service| lives.get(&service).copied();
        let nat::Collected { ended, named, services } =
            self.connections.collect(look, is_alive, life_of, now);
        let mut plan = Plan::default();
        for service in self.services.values_mut() {
            plan.writes.append(&mut service.collect_translated(&named, &mut self.indices));
        }
        // A number is given away again when nothing at all is left of its former owner.
        let (left, gone) =
            std::mem::take(&mut self.retired_translated).into_iter().partition(|id| services.contains(id));
        self.retired_translated = left;
        self.retired.extend::<Vec<_>>(gone);
        let translated = self.services.values().any(Service::is_translated);
        self.connections_left = translated || !named.is_empty() || !self.retired_translated.is_empty();
        Connections { plan, ended }
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
                "no free number for service {} port {}: {MAX_SERVICES} are in use, some perhaps for a moment only",
                key.vip, key.ports
            ));
            return None;
        };
        let reference = ServiceRef { id, ring_class: wanted.class as u8, flags: wanted.flags };
        let mut service = Service::new(reference, wanted);
        service.rehearses = self.rehearses;
        Some(service)
    }
}
