//! ICMP errors about translated packets (RFC 5508 section 4.2): the quoted packet becomes what its sender knows.

use super::{
    Translation,
    translate::{addresses, fits},
};
use crate::{
    Packet, Verdict,
    checksum::Delta,
    headers::{ICMP_LEN, Icmp, Ipv4, Ipv6, TCP_CHECKSUM, UDP_CHECKSUM, ether_type, protocol},
    pipeline::{Fate, Job, frame::replace_front, icmp_error},
};

/// Rewrites an error and what it quotes: a packet of the opposite direction, from the new destination to the new source.
#[inline(always)]
pub(crate) fn translate<P: Packet>(packet: &mut P, job: &Job, new: &Translation) -> Result<Fate, Verdict> {
    let network = &job.network;
    if network.is_v4 != new.destination.is_v4() {
        return Err(Verdict::NatUntranslatable);
    }
    fits(network.len, new)?;
    let delta = quoted(packet, job, new)?;
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
    replace_front(packet, network.offset as isize, &new.macs, new.tag, ether_type)?;
    Ok(new.fate)
}

/// Rewrites the quoted packet and says what that changes in the error's checksum.
#[inline(always)]
fn quoted(packet: &impl Packet, job: &Job, new: &Translation) -> Result<Delta, Verdict> {
    let network = &job.network;
    let quote = icmp_error::quote(packet, network)?;
    let at = network.transport + ICMP_LEN;
    let turned = Translation { source: new.destination, destination: new.source, ..*new };
    let moved = addresses(&quote.source, &quote.destination, &turned);
    let outside = if network.is_v4 {
        let ip = Ipv4::at(packet, at, Verdict::IcmpQuote)?;
        ip.set_addresses(&turned.source, &turned.destination);
        // With its own checksum mended, the header sums up to what it did.
        Delta::default()
    } else {
        Ipv6::at(packet, at, Verdict::IcmpQuote)?.set_addresses(&turned.source, &turned.destination);
        moved
    };
    let transport = packet.view::<8>(quote.transport, Verdict::IcmpQuote)?;
    let (old, ports) = (transport.word(0), new.ports.rotate_left(16));
    transport.set_word(0, ports);
    let (outside, moved) = (outside.replace(old, ports), moved.replace(old, ports));
    // As much of the header as is quoted.
    let end = network.transport + network.transport_len;
    if quote.protocol == protocol::UDP {
        let checksum = transport.half_word(UDP_CHECKSUM);
        if checksum == 0 {
            return Ok(outside);
        }
        let mended = match moved.apply(checksum) {
            0 => u16::MAX,
            mended => mended,
        };
        transport.set_half_word(UDP_CHECKSUM, mended);
        return Ok(outside.replace(checksum as u32, mended as u32));
    }
    if quote.transport + TCP_CHECKSUM + 2 > end {
        return Ok(outside);
    }
    let transport = packet.view::<{ TCP_CHECKSUM + 2 }>(quote.transport, Verdict::IcmpQuote)?;
    let checksum = transport.half_word(TCP_CHECKSUM);
    let mended = moved.apply(checksum);
    transport.set_half_word(TCP_CHECKSUM, mended);
    Ok(outside.replace(checksum as u32, mended as u32))
}
