//! Rewrites a packet: one function for both directions, both families and across them.
//!
//! Checksums are mended by what changed (RFC 1624), never summed anew: a packet that came damaged goes on as damaged as it was.

use crate::{
    Packet, Verdict,
    abi::{Address, BackendRef},
    checksum::Delta,
    headers::{HeaderV4, IPV4_LEN, IPV6_LEN, Ipv4, Ipv6, Tcp, Udp, ether_type, protocol},
    pipeline::{Fate, Job, Network, frame::replace_front},
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

/// Bytes of the largest packet that fits, as its sender counts them: across families the IP header changes its length (RFC 7915 sections 4.2
/// and 5.2).
#[inline(always)]
pub(crate) fn largest(job: &Job, new: &Translation) -> u16 {
    const DIFFERENCE: u16 = (IPV6_LEN - IPV4_LEN) as u16;
    match (job.network.is_v4, new.destination.is_v4()) {
        (true, false) => new.mtu.saturating_sub(DIFFERENCE),
        (false, true) => new.mtu.saturating_add(DIFFERENCE),
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
        _ if !network.piece.is_whole() => return Err(Verdict::NatUntranslatable),
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
    let payload_len = network.len.wrapping_sub(IPV4_LEN as u16);
    if network.transport != network.offset + IPV4_LEN {
        return Err(Verdict::NatUntranslatable);
    }
    fits(payload_len.saturating_add(IPV6_LEN as u16), new)?;
    let ip = Ipv4::at(packet, network.offset, Verdict::ShortFrame)?;
    let ttl = ip.ttl();
    if ttl <= 1 {
        return Err(Verdict::TtlExpired);
    }
    if network.protocol == protocol::UDP
        && !Udp::at(packet, network.transport, Verdict::BadTransportHeader)?.has_checksum()
    {
        return Err(Verdict::NatUntranslatable);
    }
    let delta = addresses(&ip.source(), &ip.destination(), new);
    set_ports(packet, network, new.ports, delta)?;
    let ip = network.offset as isize - (IPV6_LEN - IPV4_LEN) as isize;
    let offset = replace_front(packet, ip, &new.macs, new.tag, ether_type::IPV6)?;
    let ip = Ipv6::at(packet, offset, Verdict::ShortFrame)?;
    ip.set_head(network.traffic_class, 0, payload_len, network.protocol, ttl - 1);
    ip.set_addresses(&new.source, &new.destination);
    Ok(())
}

/// RFC 7915 section 5.1.
#[inline(always)]
fn to_v4<P: Packet>(packet: &mut P, network: &Network, new: &Translation) -> Result<(), Verdict> {
    if network.transport != network.offset + IPV6_LEN {
        return Err(Verdict::NatUntranslatable);
    }
    let total_len = network.len.wrapping_sub((IPV6_LEN - IPV4_LEN) as u16);
    fits(total_len, new)?;
    let ip = Ipv6::at(packet, network.offset, Verdict::ShortFrame)?;
    let hop_limit = ip.hop_limit();
    if hop_limit <= 1 {
        return Err(Verdict::TtlExpired);
    }
    let delta = addresses(&ip.source(), &ip.destination(), new);
    let checksum = set_ports(packet, network, new.ports, delta)?;
    let ip = network.offset as isize + (IPV6_LEN - IPV4_LEN) as isize;
    let offset = replace_front(packet, ip, &new.macs, new.tag, ether_type::IPV4)?;
    let dont_fragment = total_len > FRAGMENTABLE;
    Ipv4::at(packet, offset, Verdict::ShortFrame)?.write(&HeaderV4 {
        traffic_class: network.traffic_class,
        total_len,
        // What may be fragmented needs an identification that other packets do not have (RFC 6864 section 4.3). The transport's checksum is
        // as good as a random number.
        id: if dont_fragment { 0 } else { u16::from_be(checksum) },
        dont_fragment,
        ttl: hop_limit - 1,
        protocol: network.protocol,
        source: new.source,
        destination: new.destination,
    });
    Ok(())
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
