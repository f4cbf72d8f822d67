//! Errors that cross the families: all headers are made anew, and the transport layer of the quoted packet stays where it is.
//!
//! The checksum is mended by what changed, as everywhere: an error that came damaged goes on as damaged as it was. Extensions behind the quoted packet
//! (RFC 4884) become bytes of it, because the field that tells their place is not carried over.

use super::{message::Message, transport, turned};
use crate::{
    Packet, Verdict,
    checksum::Delta,
    headers::{
        FRAGMENT_LEN, FragmentHeader, Fragments, HeaderV4, ICMP_LEN, IPV4_LEN, IPV6_LEN, Icmp, Ipv4, Ipv6,
        ether_type, protocol,
    },
    pipeline::{
        Network,
        frame::replace_front,
        icmp_error::Quote,
        nat::{
            Translation,
            translate::{DIFFERENCE, fits, fragments, has_fragment_header},
        },
    },
};

/// RFC 7915 sections 4.2 and 4.3.
#[inline(always)]
pub(super) fn to_v6<P: Packet>(
    packet: &mut P,
    network: &Network,
    quote: &Quote,
    new: &Translation,
) -> Result<(), Verdict> {
    let at = network.transport + ICMP_LEN;
    let ip = Ipv4::at(packet, network.offset, Verdict::ShortFrame)?;
    let inner = Ipv4::at(packet, at, Verdict::IcmpQuote)?;
    if !ip.is_plain() || !inner.is_plain() {
        return Err(Verdict::NatUntranslatable);
    }
    let ttl = ip.ttl();
    if ttl <= 1 {
        return Err(Verdict::TtlExpired);
    }
    let (class, hops, id, place) = (inner.traffic_class(), inner.ttl(), inner.id(), inner.place());
    // What begins in the middle was not recognized as a packet of the connection.
    let front = if place.more { FRAGMENT_LEN } else { 0 };
    let inner_len = inner.total_len().saturating_sub(IPV4_LEN as u16).saturating_add(front as u16);
    let len = network.len.wrapping_sub(IPV4_LEN as u16) + DIFFERENCE + front as u16;
    fits(len.saturating_add(IPV6_LEN as u16), new)?;
    let icmp = Icmp::at(packet, network.transport, Verdict::BadTransportHeader)?;
    let was = Message { kind: icmp.type_and_code(), rest: icmp.rest() };
    let (message, checksum) = (was.to_v6(inner.total_len(), new.mtu)?, icmp.checksum());

    let moved = turned(&inner.source(), &inner.destination(), new);
    let mut delta = was.removed().without(inner.covered());
    delta = delta.and(transport(packet, network, at + IPV4_LEN, quote.protocol, new.ports, moved)?);
    let start = network.offset as isize - 2 * DIFFERENCE as isize - front as isize;
    let ip_at = replace_front(packet, start, &new.macs, new.tag, ether_type::IPV6)?;
    // Its addresses are read anew from here on. What LLVM kept of them would not fit on the stack.
    let new = core::hint::black_box(new);
    let ip = Ipv6::at(packet, ip_at, Verdict::ShortFrame)?;
    ip.set_head(network.traffic_class, 0, len, protocol::ICMPV6, ttl - 1);
    ip.set_addresses(&new.source, &new.destination);
    delta = delta.and(pseudo_header(&ip, len));
    let at = ip_at + IPV6_LEN + ICMP_LEN;
    let inner = Ipv6::at(packet, at, Verdict::ShortFrame)?;
    let next = if place.more { protocol::FRAGMENT } else { quote.protocol };
    inner.set_head(class, 0, inner_len, next, hops);
    inner.set_addresses(&new.destination, &new.source);
    delta = delta.and(inner.covered());
    if place.more {
        let header = FragmentHeader::at(packet, at + IPV6_LEN, Verdict::ShortFrame)?;
        header.write(quote.protocol, place, id.into());
        delta = delta.and(header.covered());
    }
    Icmp::at(packet, ip_at + IPV6_LEN, Verdict::ShortFrame)?.rewrite(
        message.kind,
        message.rest,
        checksum,
        delta,
    );
    Ok(())
}

/// RFC 7915 sections 5.2 and 5.3.
#[inline(always)]
pub(super) fn to_v4<P: Packet>(
    packet: &mut P,
    network: &Network,
    quote: &Quote,
    new: &Translation,
) -> Result<(), Verdict> {
    let at = network.transport + ICMP_LEN;
    let ip = Ipv6::at(packet, network.offset, Verdict::ShortFrame)?;
    if network.transport != network.offset + IPV6_LEN {
        return Err(Verdict::NatUntranslatable);
    }
    let hop_limit = ip.hop_limit();
    if hop_limit <= 1 {
        return Err(Verdict::TtlExpired);
    }
    let inner = Ipv6::at(packet, at, Verdict::IcmpQuote)?;
    let moved = turned(&inner.source(), &inner.destination(), new);
    let mut delta =
        Delta::default().without(pseudo_header(&ip, network.transport_len as u16)).without(inner.covered());
    let is_fragment = has_fragment_header(inner.next_header(), quote.transport - at)?;
    let (front, id, place) = if is_fragment {
        let header = FragmentHeader::at(packet, at + IPV6_LEN, Verdict::IcmpQuote)?;
        delta = delta.without(header.covered());
        (FRAGMENT_LEN, header.id() as u16, Some(header.place()))
    } else {
        (0, 0, None)
    };
    let (class, hops) = (inner.traffic_class(), inner.hop_limit());
    let inner_len = inner.payload_len().saturating_sub(front as u16).saturating_add(IPV4_LEN as u16);
    let len = network.len.wrapping_sub(2 * DIFFERENCE + front as u16);
    fits(len, new)?;
    let icmp = Icmp::at(packet, network.transport, Verdict::BadTransportHeader)?;
    let was = Message { kind: icmp.type_and_code(), rest: icmp.rest() };
    let (message, checksum) = (was.to_v4(is_fragment, new.mtu)?, icmp.checksum());

    let transport_at = at + IPV6_LEN + front;
    delta = delta.and(was.removed());
    delta = delta.and(transport(packet, network, transport_at, quote.protocol, new.ports, moved)?);
    let start = network.offset as isize + 2 * DIFFERENCE as isize + front as isize;
    let ip_at = replace_front(packet, start, &new.macs, new.tag, ether_type::IPV4)?;
    let new = core::hint::black_box(new);
    // Its own checksum makes the quoted header count nothing.
    Ipv4::at(packet, ip_at + IPV4_LEN + ICMP_LEN, Verdict::ShortFrame)?.write(&HeaderV4 {
        traffic_class: class,
        total_len: inner_len,
        id,
        fragments: place.map_or(Fragments::Forbidden, Fragments::Allowed),
        ttl: hops,
        protocol: quote.protocol,
        source: new.destination,
        destination: new.source,
    });
    let checksum = Icmp::at(packet, ip_at + IPV4_LEN, Verdict::ShortFrame)?.rewrite(
        message.kind,
        message.rest,
        checksum,
        delta,
    );
    let (fragments, id) = fragments(len, checksum);
    Ipv4::at(packet, ip_at, Verdict::ShortFrame)?.write(&HeaderV4 {
        traffic_class: network.traffic_class,
        total_len: len,
        id,
        fragments,
        ttl: hop_limit - 1,
        protocol: protocol::ICMP,
        source: new.source,
        destination: new.destination,
    });
    Ok(())
}

impl Message {
    /// Both words without the checksum, as what a checksum no longer covers.
    #[inline(always)]
    fn removed(&self) -> Delta {
        Delta::default().remove(self.kind.to_be() as u32).remove(self.rest.to_be())
    }
}

/// What ICMPv6 sums up in front of the message (RFC 8200 section 8.1).
#[inline(always)]
fn pseudo_header(ip: &Ipv6<'_>, len: u16) -> Delta {
    Delta::of(&ip.source().words())
        .and(Delta::of(&ip.destination().words()))
        .add((len as u32).to_be())
        .add((protocol::ICMPV6 as u32).to_be())
}
