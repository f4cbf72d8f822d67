//! Takes ipip and GUE packets out of their tunnel, so that a backend needs no tunnel device.
//!
//! Used by a program of its own on backends, and by the balancer itself where a node is also a backend.

use crate::{
    Packet, Tables, Verdict, View,
    abi::Address,
    headers::{Ethernet, IPV4_LEN, IPV6_LEN, Ipv4, Ipv6, UDP_LEN, Udp, ether_type, protocol},
    pipeline::{Link, Network, Tags, parse},
};

/// Who may send tunnelled packets to whom.
pub trait DecapTables {
    /// Whether an outer source address may.
    fn source_allowed(&self, source: &Address) -> bool;

    /// Whether an inner destination address is a VIP that this host serves.
    fn destination_allowed(&self, destination: &Address) -> bool;

    /// UDP port that GUE packets come to; 0 while nobody said.
    fn gue_port(&self) -> u16;
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
    let link = parse::link(packet)?.forgotten();
    let network = match link.ether_type {
        ether_type::IPV4 => {
            let ip = Ipv4::at(packet, link.network, Verdict::ShortFrame)?;
            if !may_be_tunnel(ip.protocol()) || ip.is_fragment() {
                return Err(Verdict::NotVip);
            }
            parse::ipv4(packet, ip, link.network)?
        }
        ether_type::IPV6 => {
            let ip = Ipv6::at(packet, link.network, Verdict::ShortFrame)?;
            if !may_be_tunnel(ip.next_header()) {
                return Err(Verdict::NotVip);
            }
            parse::ipv6(packet, ip, link.network)?
        }
        _ => return Err(Verdict::NotVip),
    };
    unwrap(packet, tables, &link, &network.forgotten())
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
    if !may_be_tunnel(network.protocol) {
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

    #[inline(always)]
    fn gue_port(&self) -> u16 {
        self.0.settings().map_or(0, |settings| settings.gue_port)
    }
}

#[inline(always)]
fn may_be_tunnel(protocol: u8) -> bool {
    matches!(protocol, protocol::IPV4 | protocol::IPV6 | protocol::UDP)
}

/// The packet in a tunnel.
struct Inner {
    is_v4: bool,
    offset: usize,
    /// Bytes from there to the end of the outer packet.
    len: usize,
}

impl Inner {
    #[inline(always)]
    fn of(packet: &impl Packet, outer: &Network) -> Result<Self, Verdict> {
        if outer.protocol == protocol::UDP {
            return Self::of_gue(packet, outer);
        }
        Ok(Self {
            is_v4: outer.protocol == protocol::IPV4,
            offset: outer.transport,
            len: outer.transport_len,
        })
    }

    /// GUE (draft-ietf-intarea-gue-09): variant 1 has the packet right behind the UDP header (section 4), variant 0 a header of its own in
    /// between, of which only the plain form without flags, fields and control messages is taken (section 3). The checksum of the UDP header is
    /// not verified: those inside are, by the stack.
    #[inline(always)]
    fn of_gue(packet: &impl Packet, outer: &Network) -> Result<Self, Verdict> {
        const HEADER_LEN: usize = 4;
        let len = Udp::at(packet, outer.transport, Verdict::DecapInner)?.len() as usize;
        if len < UDP_LEN + HEADER_LEN || len > outer.transport_len {
            return Err(Verdict::DecapInner);
        }
        let offset = outer.transport + UDP_LEN;
        let first: View<'_, HEADER_LEN> = packet.view(offset, Verdict::DecapInner)?;
        let behind = Self { is_v4: true, offset: offset + HEADER_LEN, len: len - UDP_LEN - HEADER_LEN };
        match (first.u8(0) >> 4, first.be32(0)) {
            (4, _) => Ok(Self { is_v4: true, offset, len: len - UDP_LEN }),
            (6, _) => Ok(Self { is_v4: false, offset, len: len - UDP_LEN }),
            (_, GUE_IPV4) => Ok(behind),
            (_, GUE_IPV6) => Ok(Self { is_v4: false, ..behind }),
            _ => Err(Verdict::DecapInner),
        }
    }
}

const GUE_IPV4: u32 = (protocol::IPV4 as u32) << 16;
const GUE_IPV6: u32 = (protocol::IPV6 as u32) << 16;

#[inline(always)]
fn unwrap<P: Packet, D: DecapTables>(
    packet: &mut P,
    tables: &D,
    link: &Link,
    outer: &Network,
) -> Result<Verdict, Verdict> {
    if outer.protocol == protocol::UDP {
        let port = tables.gue_port();
        if port == 0 || Udp::at(packet, outer.transport, Verdict::NotVip)?.destination_port() != port {
            return Err(Verdict::NotVip);
        }
    }
    if !tables.source_allowed(&outer.source) {
        return Err(Verdict::DecapSource);
    }
    let Inner { is_v4, offset, len } = Inner::of(packet, outer)?;
    let ether_type = if is_v4 {
        if len < IPV4_LEN {
            return Err(Verdict::DecapInner);
        }
        let inner = Ipv4::at(packet, offset, Verdict::DecapInner)?;
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
        if len < IPV6_LEN {
            return Err(Verdict::DecapInner);
        }
        let inner = Ipv6::at(packet, offset, Verdict::DecapInner)?;
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
    packet.shrink_front(offset - outer.offset)?;
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
