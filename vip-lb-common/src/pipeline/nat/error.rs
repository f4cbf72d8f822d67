//! ICMP errors about translated packets (RFC 5508 section 4.2): the quoted packet becomes what its sender knows.

mod across;
mod message;

use super::{
    Translation,
    translate::{addresses, fits},
};
use crate::{
    Packet, Verdict,
    abi::Address,
    checksum::Delta,
    headers::{ICMP_LEN, Icmp, Ipv4, Ipv6, TCP_CHECKSUM, UDP_CHECKSUM, ether_type, protocol},
    pipeline::{
        Fate, Job, Network,
        frame::replace_front,
        icmp_error::{self, Quote},
    },
};

/// Rewrites an error and what it quotes: a packet of the opposite direction, from the new destination to the new source.
#[inline(always)]
pub(crate) fn translate<P: Packet>(packet: &mut P, job: &Job, new: &Translation) -> Result<Fate, Verdict> {
    let quote = icmp_error::quote(packet, &job.network)?;
    match (job.network.is_v4, new.destination.is_v4()) {
        (true, false) => across::to_v6(packet, &job.network, &quote, new)?,
        (false, true) => across::to_v4(packet, &job.network, &quote, new)?,
        _ => within(packet, &job.network, &quote, new)?,
    }
    Ok(new.fate)
}

#[inline(always)]
fn within<P: Packet>(
    packet: &mut P,
    network: &Network,
    quote: &Quote,
    new: &Translation,
) -> Result<(), Verdict> {
    fits(network.len, new)?;
    let delta = quoted(packet, network, quote, new)?;
    let (delta, ether_type) = if network.is_v4 {
        let ip = Ipv4::at(packet, network.offset, Verdict::ShortFrame)?;
        ip.decrement_ttl()?;
        ip.set_addresses(&new.source, &new.destination);
        (delta, ether_type::IPV4)
    } else {
        let ip = Ipv6::at(packet, network.offset, Verdict::ShortFrame)?;
        ip.decrement_hop_limit()?;
        let delta = delta.and(addresses(&ip.source(), &ip.destination(), new));
        ip.set_addresses(&new.source, &new.destination);
        (delta, ether_type::IPV6)
    };
    Icmp::at(packet, network.transport, Verdict::BadTransportHeader)?.mend(delta);
    replace_front(packet, network.offset as isize, &new.macs, new.tag, ether_type).map(|_| ())
}

/// Rewrites the quoted packet and says what that changes in the error's checksum.
#[inline(always)]
fn quoted(
    packet: &impl Packet,
    network: &Network,
    quote: &Quote,
    new: &Translation,
) -> Result<Delta, Verdict> {
    let at = network.transport + ICMP_LEN;
    let (moved, outside) = if network.is_v4 {
        let ip = Ipv4::at(packet, at, Verdict::IcmpQuote)?;
        let moved = turned(&ip.source(), &ip.destination(), new);
        ip.set_addresses(&new.destination, &new.source);
        // With its own checksum mended, the header sums up to what it did.
        (moved, Delta::default())
    } else {
        let ip = Ipv6::at(packet, at, Verdict::IcmpQuote)?;
        let moved = turned(&ip.source(), &ip.destination(), new);
        ip.set_addresses(&new.destination, &new.source);
        (moved, moved)
    };
    Ok(outside.and(transport(packet, network, quote.transport, quote.protocol, new.ports, moved)?))
}

/// What the quoted packet's addresses change in a checksum that covers them: they are those of the opposite direction.
#[inline(always)]
fn turned(source: &Address, destination: &Address, new: &Translation) -> Delta {
    addresses(destination, source, new)
}

/// Rewrites the ports at the start of the quoted packet's transport layer, which are those of the opposite direction, and mends its checksum, of
/// which `moved` says what else changed. Says what that changes in the error's checksum.
#[inline(always)]
fn transport(
    packet: &impl Packet,
    network: &Network,
    at: usize,
    protocol: u8,
    ports: u32,
    moved: Delta,
) -> Result<Delta, Verdict> {
    let view = packet.view::<8>(at, Verdict::IcmpQuote)?;
    let (old, ports) = (view.word(0), ports.rotate_left(16));
    view.set_word(0, ports);
    let (outside, moved) = (Delta::default().replace(old, ports), moved.replace(old, ports));
    // As much of the header as is quoted.
    let end = network.transport + network.transport_len;
    if protocol == protocol::UDP {
        let checksum = view.half_word(UDP_CHECKSUM);
        if checksum == 0 {
            return Ok(outside);
        }
        let mended = match moved.apply(checksum) {
            0 => u16::MAX,
            mended => mended,
        };
        view.set_half_word(UDP_CHECKSUM, mended);
        return Ok(outside.replace(checksum as u32, mended as u32));
    }
    if at + TCP_CHECKSUM + 2 > end {
        return Ok(outside);
    }
    let view = packet.view::<{ TCP_CHECKSUM + 2 }>(at, Verdict::IcmpQuote)?;
    let checksum = view.half_word(TCP_CHECKSUM);
    let mended = moved.apply(checksum);
    view.set_half_word(TCP_CHECKSUM, mended);
    Ok(outside.replace(checksum as u32, mended as u32))
}
