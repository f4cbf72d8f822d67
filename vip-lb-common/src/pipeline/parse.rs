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
    /// Which part of a packet it is.
    pub(crate) piece: Piece,
}

/// Which part of a packet an IP packet is. A number rather than an enum, so that the verifier can be made to forget it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    part: u8,
    /// What all fragments of the packet share.
    pub(crate) id: u32,
}

impl Piece {
    /// All of the packet.
    pub(crate) const WHOLE: Self = Self { part: 0, id: 0 };
    const FIRST: u8 = 1;
    const LATER: u8 = 2;

    /// From the fields that both families have.
    #[inline(always)]
    fn of(offset: u16, more: bool, id: u32) -> Self {
        let part = if offset != 0 { Self::LATER } else { more as u8 };
        Self { part, id }
    }

    /// All of the packet.
    #[inline(always)]
    pub(crate) fn is_whole(self) -> bool {
        self.part == Self::WHOLE.part
    }

    /// The fragment with the ports.
    #[inline(always)]
    pub(crate) fn is_first(self) -> bool {
        self.part == Self::FIRST
    }

    /// A fragment that begins in the middle of something.
    #[inline(always)]
    pub(crate) fn is_later(self) -> bool {
        self.part == Self::LATER
    }
}

impl Network {
    /// Where the packet goes, read again: few need it once its VIP is known.
    #[inline(always)]
    pub(crate) fn destination(&self, packet: &impl Packet) -> Result<Address, Verdict> {
        if self.is_v4 {
            Ipv4::at(packet, self.offset, Verdict::ShortFrame).map(|ip| ip.destination())
        } else {
            Ipv6::at(packet, self.offset, Verdict::ShortFrame).map(|ip| ip.destination())
        }
    }

    /// The same, of which the verifier knows less: one way to go on for both families, with options or without.
    #[inline(always)]
    pub(crate) fn forgotten(self) -> Self {
        Self {
            is_v4: forget(self.is_v4.into(), 1) != 0,
            protocol: forget(self.protocol.into(), 0xff) as u8,
            transport: forget(self.transport, 0x3fff),
            transport_len: forget(self.transport_len, 0xffff),
            piece: Piece { part: forget(self.piece.part.into(), 0xff) as u8, ..self.piece },
            ..self
        }
    }
}

/// What of the transport layer a flow is told by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Both ports as they lie in the packet.
    pub(crate) ports: u32,
    /// What the packet says of the flow's life.
    pub(crate) sign: Sign,
}

/// What a packet says of the life of its flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A TCP segment, whose flags tell beginning and end.
    Segment(TcpFlags),
    /// A UDP datagram, or another that tells neither.
    #[default]
    Datagram,
    /// An ICMP error about a packet of the flow, whose protocol this is. Anybody may have sent it, so it proves nothing of the flow: no state
    /// is made, changed or kept alive for it (RFC 5508 section 4.2).
    Related(u8),
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

    /// An ICMP error about the flow rather than a packet of it.
    #[inline(always)]
    pub(crate) fn is_related(&self) -> bool {
        matches!(self.sign, Sign::Related(_))
    }

    /// The first packet of a TCP connection.
    #[inline(always)]
    pub(crate) fn opens(&self) -> bool {
        matches!(self.sign, Sign::Segment(flags) if flags.opens())
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
    Ok(Network {
        is_v4: true,
        traffic_class: ip.traffic_class(),
        protocol: ip.protocol(),
        len: len as u16,
        transport_len: len - header_len,
        offset,
        transport: offset + header_len,
        source: ip.source(),
        piece: Piece::of(ip.fragment_offset(), ip.more_fragments(), ip.id().into()),
    })
}

/// IPv4 that is known to be of version 4, without options and no fragment, in an untagged frame.
#[inline(always)]
pub(crate) fn plain_ipv4(packet: &impl Packet, ip: Ipv4<'_>) -> Result<Network, Verdict> {
    let len = ip.total_len() as usize;
    if len < IPV4_LEN || len > packet.len() - ETHERNET_LEN {
        return Err(Verdict::BadLength);
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
        piece: Piece::WHOLE,
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
        piece: Piece::WHOLE,
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
    let payload = payload(packet, ip.next_header(), offset + IPV6_LEN)?;
    let end = offset + len;
    if payload.offset > end {
        return Err(Verdict::BadLength);
    }
    Ok(Network {
        is_v4: false,
        traffic_class: ip.traffic_class(),
        protocol: payload.protocol,
        len: len as u16,
        transport_len: end - payload.offset,
        offset,
        transport: payload.offset,
        source: ip.source(),
        piece: payload.piece,
    })
}

#[inline(always)]
fn is_extension(header: u8) -> bool {
    matches!(
        header,
        protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS | protocol::FRAGMENT
    )
}

/// What an IPv6 packet carries.
#[derive(Clone, Copy)]
pub(crate) struct Payload {
    /// Type of the first header that is no extension, or of what follows the fragment header of a later fragment.
    pub(crate) protocol: u8,
    /// Its offset.
    pub(crate) offset: usize,
    /// Which part of the payload is here.
    pub(crate) piece: Piece,
}

/// Follows extension headers from the header of type `next` at `offset` to the first that is none.
#[inline(always)]
pub(crate) fn payload(packet: &impl Packet, next: u8, offset: usize) -> Result<Payload, Verdict> {
    let mut at = Payload { protocol: next, offset, piece: Piece::WHOLE };
    if !is_extension(next) {
        return Ok(at);
    }
    for _ in 0..MAX_EXTENSION_HEADERS {
        let extension: View<'_, 8> = packet.view(at.offset, Verdict::BadLength)?;
        let is_fragment = at.protocol == protocol::FRAGMENT;
        at.protocol = extension.u8(0);
        if is_fragment {
            // Offset 0 and no more to come is an atomic fragment, a whole packet (RFC 6946).
            let place = extension.be16(2);
            let piece = Piece::of(place & 0xfff8, place & 1 != 0, extension.be32(4));
            if !piece.is_whole() {
                at.piece = piece;
            }
            at.offset += 8;
        } else {
            at.offset += (extension.u8(1) as usize + 1) * 8;
        }
        // What a later fragment begins with is the middle of something.
        if at.piece.is_later() || !is_extension(at.protocol) {
            return Ok(at);
        }
    }
    Err(Verdict::ExtensionHeaders)
}

/// Whether a protocol tells flows apart by ports that the pipeline reads.
#[inline(always)]
pub(crate) fn has_ports(protocol: u8) -> bool {
    protocol == protocol::TCP || protocol == protocol::UDP
}

/// A TCP segment (RFC 9293). A first fragment must have the whole header too (RFC 1858 section 3).
#[inline(always)]
pub(crate) fn tcp(tcp: Tcp<'_>, network: &Network) -> Result<Flow, Verdict> {
    let header_len = tcp.header_len();
    if header_len < TCP_LEN || header_len > network.transport_len {
        return Err(Verdict::BadTransportHeader);
    }
    Ok(Flow { ports: tcp.ports(), sign: Sign::Segment(tcp.flags()) })
}

/// A UDP datagram (RFC 768), which may be longer than its first fragment.
#[inline(always)]
pub(crate) fn udp(udp: Udp<'_>, network: &Network) -> Result<Flow, Verdict> {
    let (len, here) = (udp.len() as usize, network.transport_len);
    let fits = if network.piece.is_whole() { len <= here } else { here >= UDP_LEN };
    if len < UDP_LEN || !fits {
        return Err(Verdict::BadTransportHeader);
    }
    Ok(Flow { ports: udp.ports(), sign: Sign::Datagram })
}
