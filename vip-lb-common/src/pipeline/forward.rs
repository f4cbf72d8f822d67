//! Sends a packet on its way to the chosen backend.

use super::{Link, Network, parse::Flow};
use crate::{
    Packet, Verdict, View,
    abi::{Backend, Mode},
    headers::{
        ETHERNET_LEN, Ethernet, IPV4_LEN, IPV6_LEN, Ipv4, Ipv6, OUTER_TTL, OuterV4, UDP_LEN, VLAN_LEN,
        ether_type, protocol,
    },
    packet::forget,
};

/// Rewrites the packet for its backend and says how.
#[inline(always)]
pub(super) fn forward<P: Packet>(
    packet: &mut P,
    link: &Link,
    network: &Network,
    flow: &Flow,
    backend: &Backend,
) -> Result<Verdict, Verdict> {
    match Mode::from_u8(backend.mode) {
        Mode::Dead | Mode::GueV4 | Mode::GueV6 => Err(Verdict::BackendGone),
        Mode::NatV4 | Mode::NatV6 => Err(Verdict::NatUnknown),
        Mode::Unresolved => Err(Verdict::Unresolved),
        Mode::Local => Ok(Verdict::LocalBackend),
        Mode::L2 => {
            may_leave(packet, link, backend)?;
            decrement_hop_limit(packet, link, network)?.set_macs(&backend.macs);
            Ok(Verdict::ForwardedL2)
        }
        Mode::IpipV4 => {
            prepare_tunnel(packet, link, network, backend, IPV4_LEN)?;
            let tags = Tags::read(packet, link)?;
            packet.grow_front(IPV4_LEN)?;
            let (ethernet, ip) = front::<{ ETHERNET_LEN + IPV4_LEN }, IPV4_LEN>(packet, link)?;
            ethernet.set_macs(&backend.macs);
            tags.write_types(packet, &ethernet, link, ether_type::IPV4)?;
            Ipv4::new(ip).write_outer(&OuterV4 {
                traffic_class: network.traffic_class,
                total_len: network.len + IPV4_LEN as u16,
                protocol: inner_protocol(network),
                checksum_base: backend.outer_checksum,
                source: backend.source,
                destination: backend.address,
            });
            Ok(Verdict::ForwardedIpip)
        }
        Mode::IpipV6 => {
            prepare_tunnel(packet, link, network, backend, IPV6_LEN)?;
            let tags = Tags::read(packet, link)?;
            packet.grow_front(IPV6_LEN)?;
            let (ethernet, ip) = front::<{ ETHERNET_LEN + IPV6_LEN }, IPV6_LEN>(packet, link)?;
            ethernet.set_macs(&backend.macs);
            tags.write_types(packet, &ethernet, link, ether_type::IPV6)?;
            let outer = Ipv6::new(ip);
            // Routers that spread flows see only the outer header: the ports tell flows apart in its label (RFC 6438).
            outer.set_head(
                network.traffic_class,
                flow.label(),
                network.len,
                inner_protocol(network),
                OUTER_TTL,
            );
            outer.set_addresses(&backend.source, &backend.address);
            Ok(Verdict::ForwardedIpip)
        }
    }
}

/// Bytes of the largest IP packet that fits the path to a backend once the headers of its mode are in front.
#[inline(always)]
pub(super) fn largest(backend: &Backend) -> u16 {
    let headers = match Mode::from_u8(backend.mode) {
        Mode::IpipV4 => IPV4_LEN,
        Mode::IpipV6 => IPV6_LEN,
        Mode::GueV4 => IPV4_LEN + UDP_LEN,
        Mode::GueV6 => IPV6_LEN + UDP_LEN,
        _ => 0,
    };
    backend.mtu.saturating_sub(headers as u16)
}

/// What must hold, and change, before another header goes in front (RFC 2003 section 3.1, RFC 2473 section 3.1: the
/// inner hop limit falls by one).
#[inline(always)]
fn prepare_tunnel(
    packet: &impl Packet,
    link: &Link,
    network: &Network,
    backend: &Backend,
    outer_len: usize,
) -> Result<(), Verdict> {
    may_leave(packet, link, backend)?;
    if network.len as usize + outer_len > backend.mtu as usize {
        return Err(Verdict::TooBig);
    }
    decrement_hop_limit(packet, link, network).map(|_| ())
}

/// Tags name a VLAN of the interface they came in by; on another one they would name something else.
#[inline(always)]
fn may_leave(packet: &impl Packet, link: &Link, backend: &Backend) -> Result<(), Verdict> {
    if link.network != ETHERNET_LEN && backend.egress != packet.ingress() {
        return Err(Verdict::TagMismatch);
    }
    Ok(())
}

/// As a router would, so that a loop ends by itself. Returns the front of the frame, which an untagged one has behind the same bounds check.
#[inline(always)]
fn decrement_hop_limit<'p>(
    packet: &'p impl Packet,
    link: &Link,
    network: &Network,
) -> Result<Ethernet<'p>, Verdict> {
    if network.is_v4 {
        let (ethernet, ip) = front::<{ ETHERNET_LEN + IPV4_LEN }, IPV4_LEN>(packet, link)?;
        Ipv4::new(ip).decrement_ttl()?;
        Ok(ethernet)
    } else {
        let (ethernet, ip) = front::<{ ETHERNET_LEN + IPV6_LEN }, IPV6_LEN>(packet, link)?;
        Ipv6::new(ip).decrement_hop_limit()?;
        Ok(ethernet)
    }
}

/// The Ethernet header and the `IP` bytes behind the tags: one bounds check of `BOTH` bytes where there are none.
#[inline(always)]
fn front<'p, const BOTH: usize, const IP: usize>(
    packet: &'p impl Packet,
    link: &Link,
) -> Result<(Ethernet<'p>, View<'p, IP>), Verdict> {
    if link.network == ETHERNET_LEN {
        let frame = packet.view::<BOTH>(0, Verdict::ShortFrame)?;
        Ok((Ethernet::new(frame.part(0)), frame.part(ETHERNET_LEN)))
    } else {
        Ok((Ethernet::of(packet, Verdict::ShortFrame)?, packet.view(link.network, Verdict::ShortFrame)?))
    }
}

#[inline(always)]
fn inner_protocol(network: &Network) -> u8 {
    if network.is_v4 { protocol::IPV4 } else { protocol::IPV6 }
}

impl Flow {
    /// A flow label: any mixture of the ports that keeps flows apart.
    #[inline(always)]
    fn label(&self) -> u32 {
        self.ports ^ (self.ports >> 13)
    }
}

/// The tags of a frame, carried over to its new front.
pub(crate) struct Tags([u32; 2]);

impl Tags {
    /// Reads them before the front moves.
    #[inline(always)]
    pub(crate) fn read(packet: &impl Packet, link: &Link) -> Result<Self, Verdict> {
        let mut tags = [0; 2];
        // A tag and its type lie where an untagged frame has its EtherType: the tag's own type comes first.
        if link.network > ETHERNET_LEN {
            tags[0] = packet.view::<VLAN_LEN>(ETHERNET_LEN - 2, Verdict::ShortFrame)?.word(0);
        }
        if link.network > ETHERNET_LEN + VLAN_LEN {
            tags[1] = packet.view::<VLAN_LEN>(ETHERNET_LEN + 2, Verdict::ShortFrame)?.word(0);
        }
        Ok(Self(tags))
    }

    /// Writes tags and EtherType.
    #[inline(always)]
    pub(crate) fn write_types(
        &self,
        packet: &impl Packet,
        ethernet: &Ethernet<'_>,
        link: &Link,
        ether_type: u16,
    ) -> Result<(), Verdict> {
        if link.network == ETHERNET_LEN {
            ethernet.set_ether_type(ether_type);
            return Ok(());
        }
        if link.network > ETHERNET_LEN {
            packet.view::<VLAN_LEN>(ETHERNET_LEN - 2, Verdict::ShortFrame)?.set_word(0, self.0[0]);
        }
        if link.network > ETHERNET_LEN + VLAN_LEN {
            packet.view::<VLAN_LEN>(ETHERNET_LEN + 2, Verdict::ShortFrame)?.set_word(0, self.0[1]);
        }
        // Forgotten, so that LLVM does not fold the subtraction into the check but not into the access.
        let last: View<'_, 2> = packet.view(forget(link.network - 2, 0x1f), Verdict::ShortFrame)?;
        last.set_be16(0, ether_type);
        Ok(())
    }
}
