//! What this node answers itself: ARP, neighbour solicitations and echo for a VIP.
//!
//! [`answers_for`] is the one gate: which node answers is decided there and nowhere else.

use super::{Fate, Link, Network, Watch, attend};
use crate::{
    Packet, Tables, Verdict,
    abi::{Address, Vip, VirtualMac},
    checksum::Sum,
    headers::{Arp, ETHERNET_LEN, Ethernet, ICMP_LEN, IPV6_LEN, Icmp, Ipv4, Ipv6, protocol},
};

const ECHO_REQUEST: u16 = 8 << 8;
const ECHO_REPLY: u16 = 0;
const ECHO_REQUEST_V6: u16 = 128 << 8;
const ECHO_REPLY_V6: u16 = 129 << 8;
const NEIGHBOUR_SOLICITATION: u16 = 135 << 8;
const NEIGHBOUR_ADVERTISEMENT: u16 = 136 << 8;

/// Bytes of a solicitation without options (RFC 4861 section 4.3).
const SOLICITATION_LEN: usize = 24;
/// Bytes of an advertisement with the target's link-layer address (section 4.4).
const ADVERTISEMENT_LEN: usize = 32;
/// Only neighbours can send this hop limit (section 7.1.1).
const NEIGHBOUR_HOP_LIMIT: u8 = 255;
/// TTL of replies (RFC 1122 section 3.2.1.7, IANA's default).
const REPLY_TTL: u8 = 64;

/// Whether this node answers for a VIP at this moment.
#[inline(always)]
fn answers_for<T: Tables>(tables: &T, vip: &Vip, address: &Address) -> bool {
    vip.flags & Vip::ANSWER != 0
        || vip.flags & Vip::LEASED != 0
            && tables.lease(address).is_some_and(|lease| lease.holds(tables.nanoseconds()))
}

/// Whether a frame was sent to the hardware address of a virtual router, so that [`take_in`] is to be asked before the stack has it.
#[inline(always)]
pub fn is_to_router(packet: &impl Packet) -> bool {
    Ethernet::of(packet, Verdict::ShortFrame)
        .is_ok_and(|ethernet| VirtualMac::of(ethernet.destination()).is_some())
}

/// Gives a frame that is handed to the stack the interface's own hardware address, if it was sent to that of a virtual router whose lease this
/// node has: to the stack, which knows nothing of that, it would be somebody else's. Without a lease it is.
#[inline(always)]
pub fn take_in<P: Packet, T: Tables>(packet: &P, tables: &T) {
    let Ok(ethernet) = Ethernet::of(packet, Verdict::ShortFrame) else { return };
    let Some(router) = VirtualMac::of(ethernet.destination()) else { return };
    let is_own = tables.lease(&router.key()).is_some_and(|lease| lease.holds(tables.nanoseconds()));
    if is_own && let Some(own) = tables.link_address(packet.ingress()) {
        ethernet.set_addresses(own.mac, ethernet.source());
    }
}

/// ARP (RFC 826). Probes (RFC 5227) are answered too: that is how a VIP defends its address. None where watchers are to see it first.
#[inline(always)]
pub(super) fn arp<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    link: &Link,
    watch: Watch,
) -> Result<Option<Fate>, Verdict> {
    let arp = Arp::at(packet, link.network, Verdict::ShortFrame)?;
    if !arp.is_question() {
        return Err(Verdict::OtherResolution);
    }
    let Some(own) = own_address(packet, tables, &arp.target(), watch)? else {
        return Ok(None);
    };
    arp.answer(own);
    reply_from(packet, own)?;
    Ok(Some(Fate::from(Verdict::ArpAnswered)))
}

/// ICMP of either family to a VIP. None where watchers are to see it first.
#[inline(always)]
pub(super) fn icmp<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    link: &Link,
    vip: &Vip,
    network: &Network,
    watch: Watch,
) -> Result<Option<Fate>, Verdict> {
    if network.transport_len < ICMP_LEN {
        return Err(Verdict::BadTransportHeader);
    }
    let kind = Icmp::at(packet, network.transport, Verdict::BadTransportHeader)?.type_and_code();
    match (network.is_v4, network.protocol, kind) {
        (true, protocol::ICMP, ECHO_REQUEST) | (false, protocol::ICMPV6, ECHO_REQUEST_V6) => {
            echo(packet, tables, vip, network).map(Some)
        }
        (false, protocol::ICMPV6, NEIGHBOUR_SOLICITATION) => solicitation(packet, tables, link, watch),
        _ => Err(Verdict::UnsupportedIcmp),
    }
}

/// Whether an address is of the groups that solicitations are sent to, `ff02::1:ff00:0/104` (RFC 4291 section 2.7.1).
#[inline(always)]
pub(super) fn is_solicited_node(address: &Address) -> bool {
    let words = address.words();
    words[0] == u32::from_ne_bytes([0xff, 0x02, 0, 0])
        && words[1] == 0
        && words[2] == 1_u32.to_be()
        && u32::from_be(words[3]) >> 24 == 0xff
}

/// A neighbour solicitation, to the group or to the VIP itself (RFC 4861 section 7.2.3). Its checksum is not verified: a damaged one asks
/// for something else, and is not answered.
#[inline(always)]
pub(super) fn solicitation<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    link: &Link,
    watch: Watch,
) -> Result<Option<Fate>, Verdict> {
    let ip = Ipv6::at(packet, link.network, Verdict::ShortFrame)?;
    let message = link.network + IPV6_LEN;
    if ip.version() != 6
        || ip.next_header() != protocol::ICMPV6
        || ip.hop_limit() != NEIGHBOUR_HOP_LIMIT
        || (ip.payload_len() as usize) < SOLICITATION_LEN
        || ip.payload_len() as usize > packet.len() - message
    {
        return Err(Verdict::OtherResolution);
    }
    if Icmp::at(packet, message, Verdict::OtherResolution)?.type_and_code() != NEIGHBOUR_SOLICITATION {
        return Err(Verdict::OtherResolution);
    }
    let body = packet.view::<SOLICITATION_LEN>(message, Verdict::OtherResolution)?;
    let target = Address::from_words([body.word(8), body.word(12), body.word(16), body.word(20)]);
    let asker = ip.source();
    let Some(own) = own_address(packet, tables, &target, watch)? else {
        return Ok(None);
    };
    packet.set_len(link.network + IPV6_LEN + ADVERTISEMENT_LEN)?;
    advertise(packet, link.network, &target, &asker, own)?;
    reply_from(packet, own)?;
    Ok(Some(Fate::from(Verdict::NeighbourAnswered)))
}

/// Overwrites the packet with an advertisement (section 7.2.4).
#[inline(always)]
fn advertise(
    packet: &impl Packet,
    network: usize,
    target: &Address,
    asker: &Address,
    mac: [u8; 6],
) -> Result<(), Verdict> {
    const ALL_NODES: Address =
        Address::from_words([u32::from_ne_bytes([0xff, 0x02, 0, 0]), 0, 0, u32::from_ne_bytes([0, 0, 0, 1])]);
    const SOLICITED: u32 = 1 << 30;
    const OVERRIDE: u32 = 1 << 29;

    // Somebody who checks whether the address is taken has none of its own yet: all are told.
    let (destination, flags) =
        if *asker == Address::UNSPECIFIED { (ALL_NODES, OVERRIDE) } else { (*asker, SOLICITED | OVERRIDE) };
    let ip = Ipv6::at(packet, network, Verdict::ShortFrame)?;
    ip.set_head(0, 0, ADVERTISEMENT_LEN as u16, protocol::ICMPV6, NEIGHBOUR_HOP_LIMIT);
    ip.set_addresses(target, &destination);

    let body = packet.view::<ADVERTISEMENT_LEN>(network + IPV6_LEN, Verdict::ShortFrame)?;
    let [a, b, c, d, e, f] = mac;
    let words = [
        (NEIGHBOUR_ADVERTISEMENT as u32) << 16,
        flags,
        u32::from_be(target.words()[0]),
        u32::from_be(target.words()[1]),
        u32::from_be(target.words()[2]),
        u32::from_be(target.words()[3]),
        // Option 2, target link-layer address, in units of eight bytes (section 4.6.1).
        u32::from_be_bytes([2, 1, a, b]),
        u32::from_be_bytes([c, d, e, f]),
    ];
    let mut sum = Sum::pseudo_header(target, &destination, ADVERTISEMENT_LEN as u16, protocol::ICMPV6);
    for (index, word) in words.into_iter().enumerate() {
        sum = sum.add_u32(word);
        body.set_be32(index * 4, word);
    }
    body.set_be16(2, sum.finish());
    Ok(())
}

#[inline(always)]
fn echo<P: Packet, T: Tables>(packet: &P, tables: &T, vip: &Vip, network: &Network) -> Result<Fate, Verdict> {
    let address = if network.is_v4 {
        Ipv4::at(packet, network.offset, Verdict::ShortFrame)?.destination()
    } else {
        Ipv6::at(packet, network.offset, Verdict::ShortFrame)?.destination()
    };
    if vip.flags & Vip::ECHO == 0 && !answers_for(tables, vip, &address) {
        return Err(Verdict::UnsupportedIcmp);
    }
    let icmp = Icmp::at(packet, network.transport, Verdict::BadTransportHeader)?;
    if network.is_v4 {
        let ip = Ipv4::at(packet, network.offset, Verdict::ShortFrame)?;
        ip.swap_addresses();
        ip.set_ttl(REPLY_TTL);
        icmp.set_type_and_code(ECHO_REPLY);
    } else {
        let ip = Ipv6::at(packet, network.offset, Verdict::ShortFrame)?;
        let (source, destination) = (ip.source(), ip.destination());
        ip.set_addresses(&destination, &source);
        ip.set_hop_limit(REPLY_TTL);
        icmp.set_type_and_code(ECHO_REPLY_V6);
    }
    Ethernet::of(packet, Verdict::ShortFrame)?.swap_addresses();
    Ok(Fate::from(Verdict::EchoAnswered))
}

/// The MAC address to answer with, if this node answers for the address at all. None where watchers are to see the packet first.
#[inline(always)]
fn own_address<T: Tables>(
    packet: &impl Packet,
    tables: &T,
    target: &Address,
    watch: Watch,
) -> Result<Option<[u8; 6]>, Verdict> {
    let vip = tables.vip(target).ok_or(Verdict::OtherResolution)?;
    if vip.flags & (Vip::ANSWER | Vip::LEASED) == 0 {
        return Err(Verdict::OtherResolution);
    }
    if attend(tables, watch)?.is_none() {
        return Ok(None);
    }
    if !answers_for(tables, &vip, target) {
        return Err(Verdict::NotOwner);
    }
    // Asked first: by an interface that has none, as a bond's that stands by, nobody answers.
    let own = tables.link_address(packet.ingress()).ok_or(Verdict::NotConfigured)?;
    Ok(Some(vip.virtual_mac(target.is_v4()).map_or(own.mac, VirtualMac::octets)))
}

/// Addresses the frame from `mac` to whoever sent it.
#[inline(always)]
fn reply_from(packet: &impl Packet, mac: [u8; 6]) -> Result<(), Verdict> {
    let ethernet = Ethernet::of(packet, Verdict::ShortFrame)?;
    ethernet.set_addresses(ethernet.source(), mac);
    Ok(())
}

const _: () = assert!(ETHERNET_LEN + IPV6_LEN + ADVERTISEMENT_LEN == 86);
