//! Sends a packet on its way to the chosen backend.

use super::{Link, Network, frame::replace_front, parse::Flow};
use crate::{
    Packet, Verdict, View,
    abi::{Backend, Mode, Settings},
    headers::{
        ETHERNET_LEN, Ethernet, IPV4_LEN, IPV6_LEN, Ipv4, Ipv6, OUTER_TTL, OuterV4, UDP_LEN, Udp, ether_type,
        protocol,
    },
};

/// Rewrites the packet for its backend and says how.
#[inline(always)]
pub(super) fn forward<P: Packet>(
    packet: &mut P,
    settings: &Settings,
    link: &Link,
    network: &Network,
    flow: &Flow,
    backend: &Backend,
) -> Result<Verdict, Verdict> {
    match Mode::from_u8(backend.mode) {
        Mode::Dead => Err(Verdict::BackendGone),
        Mode::NatV4 | Mode::NatV6 => Err(Verdict::NatUnknown),
        Mode::Unresolved => Err(Verdict::Unresolved),
        Mode::Local => Ok(Verdict::LocalBackend),
        Mode::L2 => {
            fits(network, backend, 0)?;
            let ethernet = decrement_hop_limit(packet, link, network)?;
            if is_untagged(link, backend) {
                ethernet.set_macs(&backend.macs);
            } else {
                reframe::<_, 0>(packet, link, backend, link.ether_type)?;
            }
            Ok(Verdict::ForwardedL2)
        }
        Mode::IpipV4 => {
            fits(network, backend, IPV4_LEN)?;
            decrement_hop_limit(packet, link, network)?;
            let outer = encapsulate::<_, { ETHERNET_LEN + IPV4_LEN }, IPV4_LEN>(
                packet,
                link,
                backend,
                ether_type::IPV4,
            )?;
            write_outer_v4(Ipv4::new(outer), network, backend, inner_protocol(network), IPV4_LEN);
            Ok(Verdict::ForwardedIpip)
        }
        Mode::IpipV6 => {
            fits(network, backend, IPV6_LEN)?;
            decrement_hop_limit(packet, link, network)?;
            let outer = encapsulate::<_, { ETHERNET_LEN + IPV6_LEN }, IPV6_LEN>(
                packet,
                link,
                backend,
                ether_type::IPV6,
            )?;
            write_outer_v6(Ipv6::new(outer), network, flow, backend, inner_protocol(network), 0);
            Ok(Verdict::ForwardedIpip)
        }
        Mode::GueV4 => {
            const LEN: usize = IPV4_LEN + UDP_LEN;
            fits(network, backend, LEN)?;
            decrement_hop_limit(packet, link, network)?;
            let outer =
                encapsulate::<_, { ETHERNET_LEN + LEN }, LEN>(packet, link, backend, ether_type::IPV4)?;
            write_outer_v4(Ipv4::new(outer.part(0)), network, backend, protocol::UDP, LEN);
            Udp::new(outer.part(IPV4_LEN)).write(
                gue_source(settings, network, flow),
                settings.gue_port,
                network.len,
            );
            Ok(Verdict::ForwardedGue)
        }
        Mode::GueV6 => {
            const LEN: usize = IPV6_LEN + UDP_LEN;
            fits(network, backend, LEN)?;
            decrement_hop_limit(packet, link, network)?;
            let outer =
                encapsulate::<_, { ETHERNET_LEN + LEN }, LEN>(packet, link, backend, ether_type::IPV6)?;
            write_outer_v6(Ipv6::new(outer.part(0)), network, flow, backend, protocol::UDP, UDP_LEN as u16);
            Udp::new(outer.part(IPV6_LEN)).write(
                gue_source(settings, network, flow),
                settings.gue_port,
                network.len,
            );
            Ok(Verdict::ForwardedGue)
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
        Mode::Dead | Mode::Unresolved | Mode::Local | Mode::L2 | Mode::NatV4 | Mode::NatV6 => 0,
    };
    backend.mtu.saturating_sub(headers as u16)
}

/// Whether the path takes the packet with so many bytes more.
#[inline(always)]
fn fits(network: &Network, backend: &Backend, more: usize) -> Result<(), Verdict> {
    if network.len as usize + more > backend.mtu as usize { Err(Verdict::TooBig) } else { Ok(()) }
}

/// Whether the frame came without a tag and leaves without one, as nearly all do.
#[inline(always)]
fn is_untagged(link: &Link, backend: &Backend) -> bool {
    link.network == ETHERNET_LEN && backend.mode & Backend::TAGGED == 0
}

/// Makes room for `N` bytes of headers in front of the IP header and writes the link layer before them. `BOTH` is `N` and an Ethernet header.
#[inline(always)]
fn encapsulate<'p, P: Packet, const BOTH: usize, const N: usize>(
    packet: &'p mut P,
    link: &Link,
    backend: &Backend,
    ether_type: u16,
) -> Result<View<'p, N>, Verdict> {
    if !is_untagged(link, backend) {
        return reframe(packet, link, backend, ether_type);
    }
    packet.grow_front(N)?;
    let frame = packet.view::<BOTH>(0, Verdict::ShortFrame)?;
    let ethernet = Ethernet::new(frame.part(0));
    ethernet.set_macs(&backend.macs);
    ethernet.set_ether_type(ether_type);
    Ok(frame.part(ETHERNET_LEN))
}

/// The same where there are tags: whatever the frame came with, it leaves with the backend's tag or without any. A tag names a VLAN of one
/// wire, so the one it came with says nothing about where it goes.
#[inline(always)]
fn reframe<'p, P: Packet, const N: usize>(
    packet: &'p mut P,
    link: &Link,
    backend: &Backend,
    ether_type: u16,
) -> Result<View<'p, N>, Verdict> {
    let ip = link.network as isize - N as isize;
    let front = replace_front(packet, ip, &backend.macs, backend.tag(), ether_type)?;
    packet.view(front, Verdict::ShortFrame)
}

/// As a router would, so that a loop ends by itself; a tunnel's entry does so too (RFC 2003 section 3.1, RFC 2473 section 3.1). Returns the
/// front of the frame, which an untagged one has behind the same bounds check.
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

/// An outer IPv4 header; `added` bytes of headers are in front of the packet, this one among them.
#[inline(always)]
fn write_outer_v4(ip: Ipv4<'_>, network: &Network, backend: &Backend, protocol: u8, added: usize) {
    ip.write_outer(&OuterV4 {
        traffic_class: network.traffic_class,
        total_len: network.len + added as u16,
        protocol,
        checksum_base: backend.outer_checksum,
        source: backend.source,
        destination: backend.address,
    });
}

/// An outer IPv6 header; between it and the packet are `between` bytes. Routers that spread flows see only this header: the ports tell
/// flows apart in its label (RFC 6438).
#[inline(always)]
fn write_outer_v6(
    ip: Ipv6<'_>,
    network: &Network,
    flow: &Flow,
    backend: &Backend,
    protocol: u8,
    between: u16,
) {
    ip.set_head(network.traffic_class, flow.label(), network.len + between, protocol, OUTER_TTL);
    ip.set_addresses(&backend.source, &backend.address);
}

#[inline(always)]
fn inner_protocol(network: &Network) -> u8 {
    if network.is_v4 { protocol::IPV4 } else { protocol::IPV6 }
}

/// Source port of a GUE packet: the flow's hash in the dynamic range (draft-ietf-intarea-gue-09 section 5.11), by which routers and network
/// cards spread flows. The ports are in it even where steering leaves them out, with affinity by source.
#[inline(always)]
fn gue_source(settings: &Settings, network: &Network, flow: &Flow) -> u16 {
    let hash = settings.hash.hash(network.source.words(), flow.ports, network.is_v4);
    0xc000 | (hash.0 & 0x3fff) as u16
}

impl Flow {
    /// A flow label: any mixture of the ports that keeps flows apart.
    #[inline(always)]
    fn label(&self) -> u32 {
        self.ports ^ (self.ports >> 13)
    }
}
