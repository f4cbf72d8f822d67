//! The maps in memory, which complain about every write after which a packet could find something invalid.

use std::collections::{BTreeMap, HashMap, HashSet};

use vip_lb_common::abi::{Backend, BackendRef, Mode, Phase, RangeKey, ServiceOptions};

use super::*;
use crate::dataplane::{Found, Publication};

/// An ordered [`PortKey`].
type PortName = (u32, u16, u8, u8);

#[derive(Clone, Debug, Default)]
pub(super) struct Maps {
    pub(super) vips: BTreeMap<IpAddr, Vip>,
    pub(super) ports: BTreeMap<PortName, ServiceRef>,
    pub(super) ranges: HashMap<(u32, RangeKey), ServiceRef>,
    pub(super) options: BTreeMap<u16, ServiceOptions>,
    pub(super) rings: BTreeMap<u16, Vec<Slot>>,
    pub(super) backends: BTreeMap<u16, Backend>,
    pub(super) peers: BTreeMap<[u8; 6], IpAddr>,
    pub(super) tunnel_peers: BTreeSet<IpAddr>,
    /// Whom each ring names.
    named: BTreeMap<u16, HashSet<BackendRef>>,
    /// To whom each reference ever belonged.
    owners: HashMap<BackendRef, (u16, u64)>,
}

impl Maps {
    /// Carries out a plan and checks the maps after each of its writes.
    pub(super) fn carry_out(&mut self, engine: &mut Engine, plan: &Plan) {
        assert_eq!(plan.warnings, [""; 0]);
        for write in &plan.writes {
            let replaced = self.write(write);
            if let (Write::Ring(ring), Some(replaced)) = (write, replaced) {
                engine.replaced(ring.service, &replaced);
            }
        }
    }

    /// Carries out one write. Returns the ring it replaced.
    pub(super) fn write(&mut self, write: &Write) -> Option<Vec<Slot>> {
        let mut replaced = None;
        match write {
            Write::Backend { index, backend } => self.write_backend(*index, backend),
            Write::Ring(Publication { service, class, slots }) => {
                assert_eq!(slots.len(), class.slots());
                self.check_ring(*service, slots);
                replaced = self.rings.insert(*service, slots.to_vec());
            }
            Write::RemoveRing { service, .. } => {
                assert!(self.rings.remove(service).is_some(), "ring {service} was not there");
                self.named.remove(service);
            }
            Write::Port { key, service } => {
                self.ports.insert((key.vip, key.port, key.protocol, key.kind), *service);
            }
            Write::RemovePort(key) => {
                assert!(self.ports.remove(&(key.vip, key.port, key.protocol, key.kind)).is_some());
            }
            Write::Range { bits, key, service } => {
                self.ranges.insert((*bits, *key), *service);
            }
            Write::RemoveRange { bits, key } => {
                assert!(self.ranges.remove(&(*bits, *key)).is_some(), "range {key:?}/{bits} was not there");
            }
            Write::ServiceOptions { service, options } => {
                self.options.insert(*service, *options);
            }
            Write::Vip { address, vip } => {
                self.vips.insert(*address, *vip);
            }
            Write::RemoveVip(address) => {
                assert!(self.vips.remove(address).is_some(), "VIP {address} was not there");
            }
            Write::Peer { mac, peer } => {
                self.peers.insert(mac.mac, peer.address.into());
            }
            Write::RemovePeer(mac) => assert!(self.peers.remove(&mac.mac).is_some()),
            Write::TunnelPeer(address) => assert!(self.tunnel_peers.insert(*address)),
            Write::RemoveTunnelPeer(address) => assert!(self.tunnel_peers.remove(address)),
            Write::Settings(_) | Write::Interface { .. } | Write::RemoveInterface(_) => {
                unreachable!("no business of the engine's")
            }
        }
        self.check_references();
        replaced
    }

    /// What a daemon that starts now finds.
    pub(super) fn found(&self) -> Found {
        let port_key = |(vip, port, protocol, kind)| PortKey { vip, port, protocol, kind };
        let ports = self.ports.iter().map(|(&key, &service)| (port_key(key), service));
        let peers = self.peers.iter().map(|(&mac, &address)| peer_entry(mac, address));
        Found {
            settings: None,
            vips: self.vips.iter().map(|(&address, &vip)| (address, vip)).collect(),
            ports: ports.collect(),
            backends: self.backends.iter().map(|(&index, &backend)| (index, backend)).collect(),
            ranges: self.ranges.iter().map(|(&(bits, key), &service)| (bits, key, service)).collect(),
            options: self.options.iter().map(|(&service, &options)| (service, options)).collect(),
            rings: self.rings.keys().map(|&service| (service, RingClass::Small)).collect(),
            peers: peers.collect(),
            tunnel_peers: self.tunnel_peers.iter().copied().collect(),
        }
    }

    /// A daemon that starts now.
    pub(super) fn adopt(&self) -> Engine {
        Engine::adopt(SEED, &self.found(), |service| Ok(self.rings.get(&service.id).cloned())).unwrap()
    }

    /// The service that a client's packet to a port belongs to, as the program looks it up.
    pub(super) fn service_at(&self, address: IpAddr, protocol: Protocol, port: u16) -> Option<ServiceRef> {
        let vip = self.vips.get(&address)?;
        let protocol = protocol.number();
        let inline = vip.services.iter().find(|entry| entry.port == port && entry.protocol == protocol);
        let at = |flag, port| {
            let flagged = vip.flags & flag != 0;
            flagged.then(|| self.ports.get(&(vip.id, port, protocol, 0)).copied()).flatten()
        };
        let exact = inline.map(|entry| entry.service).or_else(|| at(Vip::MORE, port));
        exact.or_else(|| self.range_at(vip, protocol, port)).or_else(|| at(Vip::ANY_PORT, 0))
    }

    /// The service of a key: where a packet goes to one of its ports that no narrower service has.
    pub(super) fn service(&self, key: &ServiceKey) -> Option<ServiceRef> {
        let vip = self.vips.get(&key.vip)?;
        match key.ports {
            Ports::Every => self.ports.get(&(vip.id, 0, key.protocol.number(), 0)).copied(),
            Ports::One(port) => self.service_at(key.vip, key.protocol, port),
            Ports::Range(first, _) => self.range_at(vip, key.protocol.number(), first),
        }
    }

    /// The longest prefix of RANGES that holds a port.
    fn range_at(&self, vip: &Vip, protocol: u8, port: u16) -> Option<ServiceRef> {
        if vip.flags & Vip::RANGES == 0 {
            return None;
        }
        let whole = |key: RangeKey| {
            u64::from(u32::from_be_bytes(key.vip)) << 32
                | u64::from(key.protocol) << 24
                | u64::from(u16::from_be_bytes(key.port))
        };
        let wanted = whole(RangeKey::new(vip.id, protocol, port));
        let holds =
            |bits: u32, key: RangeKey| (whole(key) ^ wanted).checked_shr(RangeKey::BITS - bits) == Some(0);
        let blocks = self.ranges.iter().filter(|((bits, key), _)| holds(*bits, *key));
        blocks.max_by_key(|((bits, _), _)| *bits).map(|(_, service)| *service)
    }

    /// The entry of a backend, by its name.
    pub(super) fn backend(&self, identity: u64) -> Option<(BackendRef, Backend)> {
        let (&index, &backend) = self.backends.iter().find(|(_, backend)| backend.identity == identity)?;
        Some((BackendRef { index, generation: backend.generation }, backend))
    }

    /// Whom the ring of a service gives new flows to.
    pub(super) fn serving(&self, service: ServiceRef) -> HashSet<BackendRef> {
        let current = self.rings[&service.id].iter().map(|slot| slot.current);
        current.filter(|backend| !backend.is_none()).collect()
    }

    fn write_backend(&mut self, index: u16, backend: &Backend) {
        assert_ne!(index, 0, "0 is nobody's");
        let reference = BackendRef { index, generation: backend.generation };
        let former = self.backends.insert(index, *backend);
        if let Some(former) = former {
            assert!(former.generation <= backend.generation, "generations of {index} go back");
        }
        if backend.identity != 0 {
            let owner = (backend.service, backend.identity);
            let known = *self.owners.entry(reference).or_insert(owner);
            assert_eq!(known, owner, "{reference:?} belonged to another backend");
        }
        for (service, named) in &self.named {
            for reference in named.iter().filter(|reference| reference.index == index) {
                self.check_named(*service, *reference);
            }
        }
    }

    fn check_ring(&mut self, service: u16, slots: &[Slot]) {
        let mut named = HashSet::new();
        for slot in slots {
            named.insert(slot.current);
            named.insert(slot.previous);
            if slot.phase == Phase::Closed as u8 {
                assert_eq!(slot.current, slot.previous, "a closed slot remembers somebody");
            }
        }
        named.remove(&BackendRef::NONE);
        for reference in &named {
            self.check_named(service, *reference);
        }
        self.named.insert(service, named);
    }

    fn check_named(&self, service: u16, reference: BackendRef) {
        let entry = self.backends.get(&reference.index);
        let entry =
            entry.unwrap_or_else(|| panic!("ring {service} names {reference:?}, which was never written"));
        assert_eq!(
            entry.generation, reference.generation,
            "ring {service} names a former life of {reference:?}"
        );
        assert_ne!(entry.mode, Mode::Dead as u8, "ring {service} names {reference:?}, which is dead");
        assert_eq!(entry.service, service, "ring {service} names {reference:?} of another service");
    }

    /// Whatever a VIP points to is there, and no number is two things.
    fn check_references(&self) {
        let mut numbers = HashSet::new();
        for (address, vip) in &self.vips {
            if vip.flags & Vip::OWN != 0 {
                continue;
            }
            assert!(numbers.insert(vip.id), "{address} shares its number {}", vip.id);
            let inline = vip.services.iter().filter(|entry| entry.protocol != 0).map(|entry| entry.service);
            let more = self.ports.iter().filter(|((id, ..), _)| *id == vip.id).map(|(_, service)| *service);
            let ranges = self.ranges.iter().filter(|((_, key), _)| u32::from_be_bytes(key.vip) == vip.id);
            let ranges = ranges.filter(|_| vip.flags & Vip::RANGES != 0).map(|(_, service)| *service);
            for service in inline.chain(more).chain(ranges) {
                assert!(
                    self.options.contains_key(&service.id),
                    "{address} points to {service:?} without options"
                );
                assert!(
                    self.rings.contains_key(&service.id),
                    "{address} points to ring {}, which is not there",
                    service.id
                );
            }
        }
    }
}
