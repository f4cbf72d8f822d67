//! From bytes to fields. Every length is checked here, and nowhere else.

use crate::{
    Packet, Verdict, View,
    abi::Address,
    headers::{
        ETHERNET_LEN, Ethernet, IPV4_LEN, IPV6_LEN, Ipv4, Ipv6, TCP_LEN, Tcp, TcpFlags, UDP_LEN, Udp,
        VLAN_LEN, ether_type, protocol,
    },
    packet::forget,
};

/// Extension headers that are followed before giving up.
const MAX_EXTENSION_HEADERS: usize = 6;

/// The link layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Type of what follows the tags.
    pub(crate) ether_type: u16,
    /// Offset of what follows the tags: 14, 18 or 22.
    pub(crate) network: usize,
}

impl Link {
    /// The same, of which the verifier knows less: one way to go on in place of three.
    #[inline(always)]
    pub(crate) fn forgotten(self) -> Self {
        Self { network: forget(self.network, 0x1f), ..self }
    }
}

/// The network layer, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    /// IPv4 rather than IPv6.
    pub(crate) is_v4: bool,
    /// DSCP and ECN.
    pub(crate) traffic_class: u8,
    /// Protocol of the transport layer.
    pub(crate) protocol: u8,
    /// Bytes from the IP header on.
    pub(crate) len: u16,
    /// Bytes from the transport header on.
    pub(crate) transport_len: usize,
    /// Offset of the IP header.
    pub(crate) offset: usize,
    /// Offset of the transport header.
    pub(crate) transport: usize,
    /// The client.
    pub(crate) source: Address,
    /// The VIP, or an address of this node itself.
    pub(crate) destination: Address,
}

impl Network {
    /// The same, of which the verifier knows less: one way to go on for both families, with options or without.
    #[inline(always)]
    pub(crate) fn forgotten(self) -> Self {
        Self {
            is_v4: forget(self.is_v4.into(), 1) != 0,
            protocol: forget(self.protocol.into(), 0xff) as u8,
            transport: forget(self.transport, 0x3fff),
            transport_len: forget(self.transport_len, 0xffff),
            ..self
        }
    }
}

/// What of the transport layer a flow is told by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Both ports as they lie in the packet.
    pub(crate) ports: u32,
    /// Flags of a TCP segment; none for UDP.
    pub(crate) tcp: Option<TcpFlags>,
}

impl Flow {
    /// The client's port.
    #[inline(always)]
    pub(crate) fn source_port(&self) -> u16 {
        (u32::from_be(self.ports) >> 16) as u16
    }

    /// The port that was dialled.
    #[inline(always)]
    pub(crate) fn destination_port(&self) -> u16 {
        u32::from_be(self.ports) as u16
    }

    /// The first packet of a TCP connection.
    #[inline(always)]
    pub(crate) fn opens(&self) -> bool {
        matches!(self.tcp, Some(flags) if flags.opens())
    }
}

/// Ethernet and up to two VLAN tags (IEEE 802.1Q, 802.1ad).
#[inline(always)]
pub(crate) fn link(packet: &impl Packet) -> Result<Link, Verdict> {
    let mut link =
        Link { ether_type: Ethernet::of(packet, Verdict::ShortFrame)?.ether_type(), network: ETHERNET_LEN };
    if is_tag(link.ether_type) {
        link = behind_tag(packet, link)?;
        if is_tag(link.ether_type) {
            link = behind_tag(packet, link)?;
        }
    }
    Ok(link)
}

#[inline(always)]
fn is_tag(ether_type: u16) -> bool {
    ether_type == ether_type::VLAN || ether_type == ether_type::SERVICE_VLAN
}

#[inline(always)]
fn behind_tag(packet: &impl Packet, link: Link) -> Result<Link, Verdict> {
    let tag: View<'_, VLAN_LEN> = packet.view(link.network, Verdict::ShortFrame)?;
    Ok(Link { ether_type: tag.be16(2), network: link.network + VLAN_LEN })
}

/// IPv4 with options (RFC 791).
#[inline(always)]
pub(crate) fn ipv4(packet: &impl Packet, ip: Ipv4<'_>, offset: usize) -> Result<Network, Verdict> {
    let header_len = if ip.is_plain() { IPV4_LEN } else { ip.header_len() };
    if ip.version() != 4 || header_len < IPV4_LEN {
        return Err(Verdict::BadIpHeader);
    }
    let len = ip.total_len() as usize;
    if len < header_len || len > packet.len() - offset {
        return Err(Verdict::BadLength);
    }
    if ip.is_fragment() {
        return Err(Verdict::FragmentWithoutFirst);
    }
    Ok(Network {
        is_v4: true,
        traffic_class: ip.traffic_class(),
        protocol: ip.protocol(),
        len: len as u16,
        transport_len: len - header_len,
        offset,
        transport: offset + header_len,
        source: ip.source(),
        destination: ip.destination(),
    })
}

/// IPv4 that is known to be of version 4 and without options, in an untagged frame.
#[inline(always)]
pub(crate) fn plain_ipv4(packet: &impl Packet, ip: Ipv4<'_>) -> Result<Network, Verdict> {
    let len = ip.total_len() as usize;
    if len < IPV4_LEN || len > packet.len() - ETHERNET_LEN {
        return Err(Verdict::BadLength);
    }
    if ip.is_fragment() {
        return Err(Verdict::FragmentWithoutFirst);
    }
    Ok(Network {
        is_v4: true,
        traffic_class: ip.traffic_class(),
        protocol: ip.protocol(),
        len: len as u16,
        transport_len: len - IPV4_LEN,
        offset: ETHERNET_LEN,
        transport: ETHERNET_LEN + IPV4_LEN,
        source: ip.source(),
        destination: ip.destination(),
    })
}

/// IPv6 that is known to have no extension headers, in an untagged frame.
#[inline(always)]
pub(crate) fn plain_ipv6(packet: &impl Packet, ip: Ipv6<'_>) -> Result<Network, Verdict> {
    if ip.version() != 6 {
        return Err(Verdict::BadIpHeader);
    }
    let transport_len = ip.payload_len() as usize;
    if transport_len > packet.len() - ETHERNET_LEN - IPV6_LEN {
        return Err(Verdict::BadLength);
    }
    Ok(Network {
        is_v4: false,
        traffic_class: ip.traffic_class(),
        protocol: ip.next_header(),
        len: (IPV6_LEN + transport_len) as u16,
        transport_len,
        offset: ETHERNET_LEN,
        transport: ETHERNET_LEN + IPV6_LEN,
        source: ip.source(),
        destination: ip.destination(),
    })
}

/// IPv6 with the extension headers that endpoints send (RFC 8200 section 4).
#[inline(always)]
pub(crate) fn ipv6(packet: &impl Packet, ip: Ipv6<'_>, offset: usize) -> Result<Network, Verdict> {
    if ip.version() != 6 {
        return Err(Verdict::BadIpHeader);
    }
    let len = IPV6_LEN + ip.payload_len() as usize;
    if len > packet.len() - offset {
        return Err(Verdict::BadLength);
    }
    let first = (ip.next_header(), offset + IPV6_LEN);
    let (protocol, transport) = if is_extension(first.0) { extensions(packet, first)? } else { first };
    let end = offset + len;
    if transport > end {
        return Err(Verdict::BadLength);
    }
    Ok(Network {
        is_v4: false,
        traffic_class: ip.traffic_class(),
        protocol,
        len: len as u16,
        transport_len: end - transport,
        offset,
        transport,
        source: ip.source(),
        destination: ip.destination(),
    })
}

#[inline(always)]
fn is_extension(header: u8) -> bool {
    matches!(
        header,
        protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS | protocol::FRAGMENT
    )
}

/// Follows the chain from the header of type `.0` at offset `.1` to the first that is no extension.
#[inline(always)]
fn extensions(packet: &impl Packet, first: (u8, usize)) -> Result<(u8, usize), Verdict> {
    let (mut header, mut offset) = first;
    for _ in 0..MAX_EXTENSION_HEADERS {
        let extension: View<'_, 8> = packet.view(offset, Verdict::BadLength)?;
        let len = if header == protocol::FRAGMENT {
            // Offset 0 and no more to come is an atomic fragment, a whole packet (RFC 6946).
            if extension.be16(2) & 0xfff9 != 0 {
                return Err(Verdict::FragmentWithoutFirst);
            }
            8
        } else {
            (extension.u8(1) as usize + 1) * 8
        };
        header = extension.u8(0);
        offset += len;
        if !is_extension(header) {
            return Ok((header, offset));
        }
    }
    Err(Verdict::ExtensionHeaders)
}

/// Whether a protocol tells flows apart by ports that the pipeline reads.
#[inline(always)]
pub(crate) fn has_ports(protocol: u8) -> bool {
    protocol == protocol::TCP || protocol == protocol::UDP
}

/// A TCP segment (RFC 9293).
#[inline(always)]
pub(crate) fn tcp(tcp: Tcp<'_>, network: &Network) -> Result<Flow, Verdict> {
    let header_len = tcp.header_len();
    if header_len < TCP_LEN || header_len > network.transport_len {
        return Err(Verdict::BadTransportHeader);
    }
    Ok(Flow { ports: tcp.ports(), tcp: Some(tcp.flags()) })
}

/// A UDP datagram (RFC 768).
#[inline(always)]
pub(crate) fn udp(udp: Udp<'_>, network: &Network) -> Result<Flow, Verdict> {
    let len = udp.len() as usize;
    if len < UDP_LEN || len > network.transport_len {
        return Err(Verdict::BadTransportHeader);
    }
    Ok(Flow { ports: udp.ports(), tcp: None })
}
