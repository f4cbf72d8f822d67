//! Who is at which address and port: VIPS, PORTS, RANGES, and the peers.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
};

use vip_lb_common::abi::{INLINE_SERVICES, LinkAddress, PortEntry, PortKey, RangeKey, ServiceRef, Vip};

use super::{
    super::{
        desired::{Desired, ServiceKey, peer_entry},
        service::Service,
    },
    Block, Engine, Port,
};
use crate::{
    config::model::{Ports, Protocol},
    dataplane::Write,
};

impl Engine {
    pub(super) fn plan_peers(&mut self, desired: &Desired, writes: &mut Vec<Write>) {
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

    /// Addresses that are no VIPs but that other nodes or backends send to, with the flags of their entries. One that translated
    /// connections have stays as long as one may come back to it.
    fn own_addresses(&self, desired: &Desired) -> BTreeMap<IpAddr, u32> {
        let mut own = desired.nat_sources.clone();
        for source in self.services.values().flat_map(Service::nat_sources) {
            let known = self.vips.get(&source).map_or(0, |vip| vip.flags & (Vip::NAT_SOURCE | Vip::ANSWER));
            own.entry(source).or_insert(known | Vip::NAT_SOURCE);
        }
        for address in self.endpoints(desired) {
            *own.entry(address).or_default() |= Vip::ENDPOINT;
        }
        for &address in &desired.adverts {
            *own.entry(address).or_default() |= Vip::ADVERTS | Vip::ENDPOINT;
        }
        own
    }

    /// VIPS, PORTS and RANGES: PORTS and RANGES before the VIPs that point there, and after those that do no more.
    ///
    /// A service's flags are written with its reference, here and so after its backends and ring. That a ring may name a translated
    /// backend before [`ServiceRef::NAT`] is set harms nobody: its connections find their entries when they get to it. Nor does the flag
    /// without such a backend: a look-up finds nothing. While entries of former backends are in use, the flag stays.
    pub(super) fn plan_vips(&mut self, desired: &Desired, writes: &mut Vec<Write>) {
        let (mut vips, mut ports, mut ranges) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (&address, &flags) in &desired.vips {
            let id = match self.vips.get(&address) {
                Some(vip) if vip.flags & Vip::OWN == 0 => vip.id,
                _ => u32::from(self.vip_numbers.allocate().unwrap_or(u16::MAX)),
            };
            let entries = self.vip_entries(address, id, flags);
            vips.insert(address, entries.vip);
            ports.extend(entries.ports);
            ranges.extend(entries.ranges);
        }
        for (address, flags) in self.own_addresses(desired) {
            vips.entry(address).or_insert(Vip { flags, ..Vip::default() });
        }
        for (&key, &service) in &ports {
            if self.ports.get(&key) != Some(&service) {
                writes.push(Write::Port { key: port_key(key), service });
            }
        }
        for (&block, &service) in &ranges {
            if self.ranges.get(&block) != Some(&service) {
                let (bits, key) = range_key(block);
                writes.push(Write::Range { bits, key, service });
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
            if vip.flags & Vip::OWN == 0 && !desired.vips.contains_key(address) {
                self.vip_numbers.free(vip.id as u16);
            }
        }
        for &key in self.ports.keys() {
            if !ports.contains_key(&key) {
                writes.push(Write::RemovePort(port_key(key)));
            }
        }
        for &block in self.ranges.keys() {
            if !ranges.contains_key(&block) {
                let (bits, key) = range_key(block);
                writes.push(Write::RemoveRange { bits, key });
            }
        }
        (self.vips, self.ports, self.ranges) = (vips, ports, ranges);
    }

    /// A VIP's entry with its first services, and the entries of PORTS and RANGES for the others.
    fn vip_entries(&self, address: IpAddr, id: u32, flags: u32) -> VipEntries {
        let mut vip = Vip { id, flags, ..Vip::default() };
        let (mut ports, mut ranges) = (Vec::new(), Vec::new());
        let mut inline = vip.services.iter_mut();
        debug_assert_eq!(inline.len(), INLINE_SERVICES);
        let mut by_protocol: BTreeMap<Protocol, Vec<ServiceRef>> = BTreeMap::new();
        let first = ServiceKey { vip: address, ports: Ports::Every, protocol: Protocol::Tcp };
        let services = self.services.range(first..).take_while(|(key, _)| key.vip == address);
        for (key, service) in services {
            if service.is_local() {
                vip.flags |= Vip::LOCAL;
            }
            by_protocol.entry(key.protocol).or_default().push(service.reference);
            let protocol = key.protocol.number();
            match key.ports {
                Ports::Every => {
                    vip.flags |= Vip::ANY_PORT;
                    ports.push(((id, 0, protocol, 0), service.reference));
                }
                Ports::One(port) => match inline.next() {
                    Some(entry) => {
                        *entry = PortEntry { port, protocol, reserved: 0, service: service.reference };
                    }
                    None => {
                        vip.flags |= Vip::MORE;
                        ports.push(((id, port, protocol, 0), service.reference));
                    }
                },
                Ports::Range(..) => {
                    vip.flags |= Vip::RANGES;
                    let blocks = key.ports.blocks().into_iter();
                    ranges.extend(blocks.map(|block| ((id, protocol, block), service.reference)));
                }
            }
        }
        for (protocol, services) in by_protocol {
            // Without ports there is no telling several services apart, nor the flows of one.
            if let [only] = services[..]
                && only.flags & ServiceRef::SOURCE_AFFINITY != 0
            {
                vip.flags |= Vip::FRAGMENTS;
                ports.push(((id, 0, protocol.number(), PortKey::FRAGMENTS), only));
            }
        }
        VipEntries { vip, ports, ranges }
    }
}

/// What makes up a VIP.
struct VipEntries {
    vip: Vip,
    ports: Vec<(Port, ServiceRef)>,
    ranges: Vec<(Block, ServiceRef)>,
}

pub(super) fn port_key((vip, port, protocol, kind): Port) -> PortKey {
    PortKey { vip, port, protocol, kind }
}

fn range_key((vip, protocol, block): Block) -> (u32, RangeKey) {
    (RangeKey::BITS - u16::BITS + block.bits, RangeKey::new(vip, protocol, block.first))
}
