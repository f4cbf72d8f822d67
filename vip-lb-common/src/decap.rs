//! Takes ipip packets out of their tunnel, so that a backend needs no tunnel device.
//!
//! Used by a program of its own on backends, and by the balancer itself where a node is also a backend.

use crate::{
    Packet, Tables, Verdict,
    abi::Address,
    headers::{Ethernet, IPV4_LEN, IPV6_LEN, Ipv4, Ipv6, ether_type, protocol},
    pipeline::{Link, Network, Tags, parse},
};

/// Who may send tunnelled packets to whom.
pub trait DecapTables {
    /// Whether an outer source address may.
    fn source_allowed(&self, source: &Address) -> bool;

    /// Whether an inner destination address is a VIP that this host serves.
    fn destination_allowed(&self, destination: &Address) -> bool;
}

/// The decapsulation program: everything that is not exactly a permitted tunnelled packet goes on to the stack untouched.
#[inline(always)]
pub fn process<P: Packet, D: DecapTables>(packet: &mut P, tables: &D) -> Verdict {
    match decide(packet, tables) {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

#[inline(always)]
fn decide<P: Packet, D: DecapTables>(packet: &mut P, tables: &D) -> Result<Verdict, Verdict> {
    let link = parse::link(packet)?;
    let network = match link.ether_type {
        ether_type::IPV4 => {
            let ip = Ipv4::at(packet, link.network, Verdict::ShortFrame)?;
            if !is_tunnel(ip.protocol()) || ip.is_fragment() {
                return Err(Verdict::NotVip);
            }
            parse::ipv4(packet, ip, link.network)?
        }
        ether_type::IPV6 => {
            let ip = Ipv6::at(packet, link.network, Verdict::ShortFrame)?;
            if !is_tunnel(ip.next_header()) {
                return Err(Verdict::NotVip);
            }
            parse::ipv6(packet, ip, link.network)?
        }
        _ => return Err(Verdict::NotVip),
    };
    unwrap(packet, tables, &link, &network)
}

/// A packet to an address of this node itself, which peers use as the tunnel's end. Anything but a tunnelled packet is
/// ordinary traffic of the host.
#[inline(always)]
pub(crate) fn unwrap_for_local_backend<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    link: &Link,
    network: &Network,
) -> Result<Verdict, Verdict> {
    if !is_tunnel(network.protocol) {
        return Err(Verdict::NotVip);
    }
    unwrap(packet, &LocalBackends(tables), link, network)
}

/// Allows what peers send to VIPs that have a backend here.
struct LocalBackends<'t, T>(&'t T);

impl<T: Tables> DecapTables for LocalBackends<'_, T> {
    #[inline(always)]
    fn source_allowed(&self, source: &Address) -> bool {
        self.0.tunnel_peer(source)
    }

    #[inline(always)]
    fn destination_allowed(&self, destination: &Address) -> bool {
        self.0.vip(destination).is_some_and(|vip| vip.flags & crate::abi::Vip::LOCAL != 0)
    }
}

#[inline(always)]
fn is_tunnel(protocol: u8) -> bool {
    protocol == protocol::IPV4 || protocol == protocol::IPV6
}

#[inline(always)]
fn unwrap<P: Packet, D: DecapTables>(
    packet: &mut P,
    tables: &D,
    link: &Link,
    outer: &Network,
) -> Result<Verdict, Verdict> {
    if !tables.source_allowed(&outer.source) {
        return Err(Verdict::DecapSource);
    }
    let ether_type = if outer.protocol == protocol::IPV4 {
        if outer.transport_len < IPV4_LEN {
            return Err(Verdict::DecapInner);
        }
        let inner = Ipv4::at(packet, outer.transport, Verdict::DecapInner)?;
        if inner.version() != 4 {
            return Err(Verdict::DecapInner);
        }
        if !tables.destination_allowed(&inner.destination()) {
            return Err(Verdict::DecapDestination);
        }
        let (before, after) =
            (inner.traffic_class(), congestion(outer.traffic_class, inner.traffic_class())?);
        if after != before {
            inner.set_traffic_class(after);
        }
        ether_type::IPV4
    } else {
        if outer.transport_len < IPV6_LEN {
            return Err(Verdict::DecapInner);
        }
        let inner = Ipv6::at(packet, outer.transport, Verdict::DecapInner)?;
        if inner.version() != 6 {
            return Err(Verdict::DecapInner);
        }
        if !tables.destination_allowed(&inner.destination()) {
            return Err(Verdict::DecapDestination);
        }
        let (before, after) =
            (inner.traffic_class(), congestion(outer.traffic_class, inner.traffic_class())?);
        if after != before {
            inner.set_traffic_class(after);
        }
        ether_type::IPV6
    };
    let macs = Ethernet::of(packet, Verdict::ShortFrame)?.macs();
    let tags = Tags::read(packet, link)?;
    packet.shrink_front(outer.transport - outer.offset)?;
    let ethernet = Ethernet::of(packet, Verdict::ShortFrame)?;
    ethernet.set_macs(&macs);
    tags.write_types(packet, &ethernet, link, ether_type)?;
    Ok(Verdict::Decapsulated)
}

const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CONGESTION_EXPERIENCED: u8 = 3;

/// The traffic class that the inner packet goes on with (RFC 6040 figure 4): congestion met in the tunnel is told to the receiver, and so
/// is ECT(1). Where the inner packet cannot carry congestion, it is lost as the router wanted.
#[inline(always)]
fn congestion(outer: u8, inner: u8) -> Result<u8, Verdict> {
    match (outer & 3, inner & 3) {
        (CONGESTION_EXPERIENCED, 0) => Err(Verdict::DecapCongestion),
        (CONGESTION_EXPERIENCED, _) => Ok(inner | CONGESTION_EXPERIENCED),
        (ECT_1, ECT_0) => Ok(inner & !CONGESTION_EXPERIENCED | ECT_1),
        _ => Ok(inner),
    }
}
