//! What a former daemon left in the maps, and how it is taken over.

use std::collections::{BTreeMap, HashMap, HashSet};

use vip_lb_common::abi::{Backend, RangeKey, RingClass, ServiceOptions, ServiceRef, Slot, Vip};

use super::{
    super::{
        desired::{Desired, ServiceKey},
        service::Service,
    },
    Engine,
};
use crate::{
    config::model::{PortBlock, Ports, Protocol},
    dataplane::Found,
    steering::{ServiceRing, Start, Timeouts},
};

/// What no VIP leads to: a daemon ended between its writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Strays {
    pub(super) rings: Vec<(u16, RingClass)>,
    pub(super) backends: Vec<u16>,
}

/// A service that waits for its configuration.
#[derive(Clone, Debug)]
pub(super) struct Orphan {
    pub(super) reference: ServiceRef,
    slots: Vec<Slot>,
    options: Option<ServiceOptions>,
    backends: Vec<(u16, Backend)>,
}

impl Engine {
    /// Starts from what a former daemon left; `ring_of` reads a published ring.
    pub fn adopt(
        seed: [u8; 32],
        found: &Found,
        ring_of: impl Fn(ServiceRef) -> anyhow::Result<Option<Vec<Slot>>>,
    ) -> anyhow::Result<Self> {
        let mut engine = Self { connections_left: true, ..Self::new(seed) };
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
            if vip.flags & Vip::OWN != 0 {
                continue;
            }
            engine.vip_numbers.take(vip.id as u16);
            let inline = vip.services.iter().filter(|entry| entry.protocol != 0);
            known.extend(
                inline.map(|entry| (*address, Ports::One(entry.port), entry.protocol, entry.service)),
            );
            for (key, service) in found.ports.iter().filter(|(key, _)| key.vip == vip.id) {
                engine.ports.insert((key.vip, key.port, key.protocol, key.kind), *service);
                if key.kind == 0 {
                    known.push((*address, Ports::from_number(key.port), key.protocol, *service));
                }
            }
            for ((protocol, _), blocks) in blocks_of(found, vip.id) {
                let entries = blocks.iter().map(|&(block, service)| ((vip.id, protocol, block), service));
                engine.ranges.extend(entries);
                // If a daemon ended while it wrote or removed them, these are not all: then the service is taken for another one,
                // which had hardly a packet yet or shall have none any more.
                let range = Ports::from_blocks(blocks.iter().map(|(block, _)| *block));
                let service = blocks.first().map(|(_, service)| *service);
                known.extend(range.zip(service).map(|(range, service)| (*address, range, protocol, service)));
            }
        }
        let options: HashMap<_, _> = found.options.iter().copied().collect();
        let mut strays = Vec::new();
        for (vip, ports, protocol, reference) in known {
            let protocol = if protocol == Protocol::Udp.number() { Protocol::Udp } else { Protocol::Tcp };
            engine.service_numbers.take(reference.id);
            let key = ServiceKey { vip, ports, protocol };
            // One that moves between VIPS and PORTS is in both for a moment, and a daemon may have ended in it.
            if engine.orphans.contains_key(&key) {
                continue;
            }
            let mut orphan = Orphan {
                reference,
                slots: ring_of(reference)?.unwrap_or_default(),
                options: options.get(&reference.id).copied(),
                backends: backends.remove(&reference.id).unwrap_or_default(),
            };
            strays.extend(orphan.take_doubles());
            engine.orphans.insert(key, orphan);
        }
        let owned: HashSet<_> = engine
            .orphans
            .values()
            .map(|orphan| (orphan.reference.id, RingClass::from_u8(orphan.reference.ring_class)))
            .collect();
        engine.strays = Strays {
            rings: found.rings.iter().filter(|ring| !owned.contains(ring)).copied().collect(),
            backends: backends.into_values().flatten().map(|(index, _)| index).chain(strays).collect(),
        };
        Ok(engine)
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

    pub(super) fn adopt_orphans(&mut self, desired: &Desired, now: u32) {
        for (key, orphan) in std::mem::take(&mut self.orphans) {
            let wanted = desired.services.get(&key);
            let class = RingClass::from_u8(orphan.reference.ring_class);
            let (start, timeouts) = wanted
                .map_or((Start::Visible, Timeouts::with_idle(1)), |wanted| (wanted.start, wanted.timeouts));
            let (ring, published) = if orphan.slots.len() == class.slots() {
                let ring = ServiceRing::adopt(orphan.slots.clone(), start, timeouts, now);
                let as_found = ring.slots() == orphan.slots;
                (ring, as_found)
            } else {
                (ServiceRing::new(class.slots(), start, timeouts), false)
            };
            self.services.insert(
                key,
                Service::adopt(orphan.reference, ring, published, orphan.options, orphan.backends),
            );
        }
    }
}

impl Orphan {
    /// Takes out the second entry of each backend that has two, because a daemon ended while the backend began a new life: the one that the
    /// ring does not name goes. Returns their indices.
    fn take_doubles(&mut self) -> Vec<u16> {
        // The former life may be one that open slots remember only.
        let names = self.slots.iter().flat_map(|slot| [slot.current.index, slot.previous.index]);
        let named: HashSet<u16> = names.collect();
        // Named ones first.
        self.backends.sort_by_key(|(index, _)| !named.contains(index));
        let mut known = HashSet::new();
        let (kept, doubles): (Vec<_>, Vec<_>) =
            self.backends.drain(..).partition(|(_, backend)| known.insert(backend.identity));
        self.backends = kept;
        doubles.into_iter().map(|(index, _)| index).collect()
    }
}

/// The blocks of RANGES that a VIP has, by protocol and service. Their references may differ in flags, if a daemon ended while it
/// rewrote them.
fn blocks_of(found: &Found, vip: u32) -> BTreeMap<(u8, u16), Vec<(PortBlock, ServiceRef)>> {
    let mut services: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (bits, key, service) in &found.ranges {
        if u32::from_be_bytes(key.vip) == vip {
            let first = u16::from_be_bytes(key.port);
            let bits = bits.saturating_sub(RangeKey::BITS - u16::BITS).clamp(1, u16::BITS);
            let of_service = services.entry((key.protocol, service.id)).or_default();
            of_service.push((PortBlock { first, bits }, *service));
        }
    }
    services
}
