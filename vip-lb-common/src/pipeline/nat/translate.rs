//! Rewrites a packet: one function for both directions, both families and across them.
//!
//! Checksums are mended by what changed (RFC 1624), never summed anew: a packet that came damaged goes on as damaged as it was.

use crate::{
    Packet, Verdict,
    abi::{Address, BackendRef},
    checksum::Delta,
    headers::{
        FRAGMENT_LEN, FragmentHeader, Fragments, HeaderV4, IPV4_LEN, IPV6_LEN, Ipv4, Ipv6, Place, Tcp, Udp,
        ether_type, protocol,
    },
    pipeline::{Fate, Job, Network, frame::replace_front, parse},
};

/// What a packet becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Translation {
    /// Its source address, of the family of the destination.
    pub(super) source: Address,
    /// Its destination address.
    pub(super) destination: Address,
    /// Both ports as they lie in the packet.
    pub(super) ports: u32,
    /// The twelve bytes that start its frame.
    pub(super) macs: [u8; 12],
    /// Tag control information of the one tag that its frame has.
    pub(super) tag: Option<u16>,
    /// Largest IP packet that its path takes, in bytes.
    pub(super) mtu: u16,
    /// The backend that it goes to, or comes from.
    pub(crate) backend: BackendRef,
    /// What is said of it in the end.
    pub(crate) fate: Fate,
}

impl Translation {
    /// Before anything is known.
    pub(crate) const NONE: Self = Self {
        source: Address::UNSPECIFIED,
        destination: Address::UNSPECIFIED,
        ports: 0,
        macs: [0; 12],
        tag: None,
        mtu: 0,
        backend: BackendRef::NONE,
        fate: Fate {
            verdict: Verdict::NatUnknown,
            service: 0,
            backend: 0,
            egress: 0,
            bytes: 0,
            opens: false,
        },
    };
}

/// Largest IPv4 packet made of an IPv6 one that routers may still fragment (RFC 7915 section 5.1): IPv6's least MTU without the difference
/// of the headers.
const FRAGMENTABLE: u16 = 1260;

/// Bytes by which an IPv6 header is longer than one of IPv4.
pub(super) const DIFFERENCE: u16 = (IPV6_LEN - IPV4_LEN) as u16;

/// Bytes of the largest packet that fits, as its sender counts them: across families the IP header changes its length (RFC 7915 sections 4.2
/// and 5.2), and that of a fragment by the fragment header too.
#[inline(always)]
pub(crate) fn largest(job: &Job, new: &Translation) -> u16 {
    let header = if job.network.piece.is_whole() { 0 } else { FRAGMENT_LEN as u16 };
    match (job.network.is_v4, new.destination.is_v4()) {
        (true, false) => new.mtu.saturating_sub(DIFFERENCE + header),
        (false, true) => new.mtu.saturating_add(DIFFERENCE + header),
        _ => new.mtu,
    }
}

/// Rewrites the packet. One that is too big is as it came.
#[inline(always)]
pub(crate) fn translate<P: Packet>(
    packet: &mut P,
    job: &Job,
    translation: &Translation,
) -> Result<Fate, Verdict> {
    let network = &job.network;
    match (network.is_v4, translation.destination.is_v4()) {
        (true, true) => within_v4(packet, job, translation)?,
        (false, false) => within_v6(packet, job, translation)?,
        (true, false) => to_v6(packet, network, translation)?,
        (false, true) => to_v4(packet, network, translation)?,
    }
    Ok(translation.fate)
}

#[inline(always)]
fn within_v4<P: Packet>(packet: &mut P, job: &Job, new: &Translation) -> Result<(), Verdict> {
    let network = &job.network;
    fits(network.len, new)?;
    let ip = Ipv4::at(packet, network.offset, Verdict::ShortFrame)?;
    ip.decrement_ttl()?;
    let delta = addresses(&ip.source(), &ip.destination(), new);
    ip.set_addresses(&new.source, &new.destination);
    set_ports(packet, network, new.ports, delta)?;
    replace_front(packet, network.offset as isize, &new.macs, new.tag, ether_type::IPV4).map(|_| ())
}

#[inline(always)]
fn within_v6<P: Packet>(packet: &mut P, job: &Job, new: &Translation) -> Result<(), Verdict> {
    let network = &job.network;
    fits(network.len, new)?;
    let ip = Ipv6::at(packet, network.offset, Verdict::ShortFrame)?;
    ip.decrement_hop_limit()?;
    let delta = addresses(&ip.source(), &ip.destination(), new);
    ip.set_addresses(&new.source, &new.destination);
    set_ports(packet, network, new.ports, delta)?;
    replace_front(packet, network.offset as isize, &new.macs, new.tag, ether_type::IPV6).map(|_| ())
}

/// RFC 7915 section 4.1.
#[inline(always)]
fn to_v6<P: Packet>(packet: &mut P, network: &Network, new: &Translation) -> Result<(), Verdict> {
    let header = if network.piece.is_whole() { 0 } else { FRAGMENT_LEN };
    let payload_len = network.len.wrapping_sub(IPV4_LEN as u16).saturating_add(header as u16);
    if network.transport != network.offset + IPV4_LEN {
        return Err(Verdict::NatUntranslatable);
    }
    fits(payload_len.saturating_add(IPV6_LEN as u16), new)?;
    let ip = Ipv4::at(packet, network.offset, Verdict::ShortFrame)?;
    let ttl = ip.ttl();
    if ttl <= 1 {
        return Err(Verdict::TtlExpired);
    }
    // IPv6 knows none without, and of a fragment it cannot be made: it covers all the others (RFC 7915 section 4.5).
    if network.protocol == protocol::UDP
        && !network.piece.is_later()
        && !Udp::at(packet, network.transport, Verdict::BadTransportHeader)?.has_checksum()
    {
        return Err(Verdict::NatUntranslatable);
    }
    let place = ip.place();
    let delta = addresses(&ip.source(), &ip.destination(), new);
    set_ports(packet, network, new.ports, delta)?;
    let ip = network.offset as isize - DIFFERENCE as isize - header as isize;
    let offset = replace_front(packet, ip, &new.macs, new.tag, ether_type::IPV6)?;
    let ip = Ipv6::at(packet, offset, Verdict::ShortFrame)?;
    let next = if header == 0 { network.protocol } else { protocol::FRAGMENT };
    ip.set_head(network.traffic_class, 0, payload_len, next, ttl - 1);
    ip.set_addresses(&new.source, &new.destination);
    if header != 0 {
        FragmentHeader::at(packet, offset + IPV6_LEN, Verdict::ShortFrame)?.write(
            network.protocol,
            place,
            network.piece.id,
        );
    }
    Ok(())
}

/// RFC 7915 sections 5.1 and 5.1.1.
#[inline(always)]
fn to_v4<P: Packet>(packet: &mut P, network: &Network, new: &Translation) -> Result<(), Verdict> {
    let ip = Ipv6::at(packet, network.offset, Verdict::ShortFrame)?;
    // A later fragment may name any protocol (RFC 8200 section 4.5), but no IPv4 host would put another with the first one.
    if !parse::has_ports(network.protocol) {
        return Err(Verdict::NatUntranslatable);
    }
    let has_header = has_fragment_header(ip.next_header(), network.transport - network.offset)?;
    let header = if has_header { FRAGMENT_LEN } else { 0 };
    let total_len = network.len.wrapping_sub(DIFFERENCE + header as u16);
    fits(total_len, new)?;
    let hop_limit = ip.hop_limit();
    if hop_limit <= 1 {
        return Err(Verdict::TtlExpired);
    }
    let piece = if has_header {
        let header = FragmentHeader::at(packet, network.offset + IPV6_LEN, Verdict::ShortFrame)?;
        Some((Fragments::Allowed(header.place()), header.id() as u16))
    } else {
        None
    };
    let delta = addresses(&ip.source(), &ip.destination(), new);
    let checksum = set_ports(packet, network, new.ports, delta)?;
    let ip = network.offset as isize + DIFFERENCE as isize + header as isize;
    let offset = replace_front(packet, ip, &new.macs, new.tag, ether_type::IPV4)?;
    let (fragments, id) = match piece {
        Some(piece) => piece,
        None => fragments(total_len, checksum),
    };
    Ipv4::at(packet, offset, Verdict::ShortFrame)?.write(&HeaderV4 {
        traffic_class: network.traffic_class,
        total_len,
        id,
        fragments,
        ttl: hop_limit - 1,
        protocol: network.protocol,
        source: new.source,
        destination: new.destination,
    });
    Ok(())
}

/// Whether a fragment header, and nothing else, lies between an IPv6 header and the transport header, which begins `distance` bytes
/// behind the start of the former. No other extension header has an equivalent in IPv4.
#[inline(always)]
pub(super) fn has_fragment_header(next_header: u8, distance: usize) -> Result<bool, Verdict> {
    if distance == IPV6_LEN {
        Ok(false)
    } else if distance == IPV6_LEN + FRAGMENT_LEN && next_header == protocol::FRAGMENT {
        Ok(true)
    } else {
        Err(Verdict::NatUntranslatable)
    }
}

/// What the IPv4 header of a whole packet says of fragments, and its identification. What may be fragmented needs one that other packets do
/// not have (RFC 6864 section 4.3). A checksum, as it lies in the packet, is as good as a random number.
#[inline(always)]
pub(super) fn fragments(total_len: u16, checksum: u16) -> (Fragments, u16) {
    if total_len > FRAGMENTABLE {
        (Fragments::Forbidden, 0)
    } else {
        (Fragments::Allowed(Place::default()), u16::from_be(checksum))
    }
}

#[inline(always)]
pub(super) fn fits(len: u16, new: &Translation) -> Result<(), Verdict> {
    if len > new.mtu { Err(Verdict::TooBig) } else { Ok(()) }
}

/// What other addresses do to the checksum of the transport layer. All else in the pseudo-headers of both families sums up to the same.
#[inline(always)]
pub(super) fn addresses(source: &Address, destination: &Address, new: &Translation) -> Delta {
    Delta::default().replace_address(source, &new.source).replace_address(destination, &new.destination)
}

/// Returns the checksum as it lies in the packet. A later fragment has neither ports nor checksum.
#[inline(always)]
fn set_ports(packet: &impl Packet, network: &Network, ports: u32, delta: Delta) -> Result<u16, Verdict> {
    if network.piece.is_later() {
        return Ok(0);
    }
    if network.protocol == protocol::TCP {
        Tcp::at(packet, network.transport, Verdict::BadTransportHeader).map(|tcp| tcp.set_ports(ports, delta))
    } else {
        Udp::at(packet, network.transport, Verdict::BadTransportHeader).map(|udp| udp.set_ports(ports, delta))
    }
}
