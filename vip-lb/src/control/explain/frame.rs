//! The packet that a request describes, and what was changed in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use vip_lb_common::{
    Verdict,
    headers::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN, TCP_LEN, UDP_LEN, VLAN_LEN, ether_type, protocol},
};

use crate::{api::model::ExplainRequest, config::model::Protocol};

/// An address that no device has (RFC 9542 section 2.1.2), so that the packet is no peer node's.
const SENDER: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x53, 0x01];
const HOP_LIMIT: u8 = 64;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Which packet of its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// A SYN, if it is TCP.
    First,
    /// One of an established connection, if it is TCP.
    Later,
}

/// The frame, sent to the interface with address `mac`. Source and destination must be of one family. The pipeline trusts
/// checksums, so they are left out.
pub(super) fn build(request: &ExplainRequest, segment: Segment, mac: [u8; 6]) -> Vec<u8> {
    let (transport, protocol) = transport(request, segment);
    let length = transport.len() as u16;
    let mut frame = mac.to_vec();
    frame.extend(SENDER);
    match (request.source, request.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend(ether_type::IPV4.to_be_bytes());
            frame.extend([0x45, 0]);
            frame.extend((IPV4_LEN as u16 + length).to_be_bytes());
            frame.extend([0, 0, 0, 0, HOP_LIMIT, protocol, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        (source, destination) => {
            frame.extend(ether_type::IPV6.to_be_bytes());
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, HOP_LIMIT]);
            for address in [source, destination] {
                let octets = match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                    IpAddr::V6(address) => address.octets(),
                };
                frame.extend(octets);
            }
        }
    }
    frame.extend(transport);
    frame
}

fn transport(request: &ExplainRequest, segment: Segment) -> (Vec<u8>, u8) {
    let mut header = request.source_port.unwrap_or(0).to_be_bytes().to_vec();
    header.extend(request.destination_port.to_be_bytes());
    match request.protocol {
        Protocol::Tcp => {
            let flags = match segment {
                Segment::First => SYN,
                Segment::Later => ACK,
            };
            header.resize(TCP_LEN, 0);
            // The header's length in words is the upper half of its byte.
            (header[12], header[13]) = ((TCP_LEN as u8 / 4) << 4, flags);
            (header, protocol::TCP)
        }
        Protocol::Udp => {
            header.extend((UDP_LEN as u16).to_be_bytes());
            header.extend([0, 0]);
            (header, protocol::UDP)
        }
    }
}

/// Source and destination of a TCP or UDP packet, with their ports. None if the frame is too short for them.
pub(super) fn ends(frame: &[u8]) -> Option<[SocketAddr; 2]> {
    let ip = frame.get(network(frame)..)?;
    let (source, destination, transport): (IpAddr, IpAddr, usize) = match version(ip)? {
        4 => {
            let address = |at: usize| ip.get(at..)?.first_chunk::<4>().copied().map(Ipv4Addr::from);
            (address(12)?.into(), address(16)?.into(), usize::from(ip[0] & 0xf) * 4)
        }
        _ => {
            let address = |at: usize| ip.get(at..)?.first_chunk::<16>().copied().map(Ipv6Addr::from);
            (address(8)?.into(), address(24)?.into(), IPV6_LEN)
        }
    };
    let port = |at: usize| ip.get(transport + at..)?.first_chunk().copied().map(u16::from_be_bytes);
    Some([SocketAddr::new(source, port(0)?), SocketAddr::new(destination, port(2)?)])
}

/// The family of a frame's first IP header, in words.
pub(super) fn family(frame: &[u8]) -> &'static str {
    match frame.get(network(frame)..).and_then(version) {
        Some(4) => "ipv4",
        _ => "ipv6",
    }
}

/// What is different, one line each, for the verdicts that send the packet on.
pub(super) fn rewrites(before: &[u8], after: &[u8], verdict: Verdict) -> Vec<String> {
    let (old, new) = (&before[network(before)..], &after[network(after)..]);
    let (outer_len, translated) = match verdict {
        Verdict::ForwardedL2 => (0, false),
        Verdict::ForwardedIpip | Verdict::ForwardedGue => (new.len().saturating_sub(old.len()), false),
        Verdict::ForwardedNat | Verdict::TranslatedReply => (0, true),
        _ => return Vec::new(),
    };
    let mut lines = vec![
        format!("destination MAC {} -> {}", mac(&before[..6]), mac(&after[..6])),
        format!("source MAC of the sender -> {}", mac(&after[6..12])),
    ];
    lines.extend(outer(new, outer_len));
    if translated && let (Some(was), Some(is)) = (ends(before), ends(after)) {
        if family(before) != family(after) {
            lines.push(format!("{} header -> {}", family(before), family(after)));
        }
        for (name, (was, is)) in ["source", "destination"].into_iter().zip(was.into_iter().zip(is)) {
            lines.push(format!("{name} {was} -> {is}"));
        }
    }
    let inner = if outer_len > 0 { "inner " } else { "" };
    let (name, old) = hop_limit(old);
    let (_, new) = hop_limit(&new[outer_len..]);
    lines.push(format!("{inner}{name} {old} -> {new}"));
    lines
}

/// Where a frame's IP header begins: behind a tag, if it carries one.
fn network(frame: &[u8]) -> usize {
    let tagged = frame.get(12..14) == Some(&ether_type::VLAN.to_be_bytes()[..]);
    ETHERNET_LEN + if tagged { VLAN_LEN } else { 0 }
}

fn version(ip: &[u8]) -> Option<u8> {
    ip.first().map(|byte| byte >> 4)
}

fn hop_limit(ip: &[u8]) -> (&'static str, u8) {
    match version(ip) {
        Some(4) => ("TTL", ip[8]),
        _ => ("hop limit", ip[7]),
    }
}

/// The headers that were put in front.
fn outer(ip: &[u8], len: usize) -> Option<String> {
    const GUE_V4_LEN: usize = IPV4_LEN + UDP_LEN;
    const GUE_V6_LEN: usize = IPV6_LEN + UDP_LEN;

    let (family, header_len) = match len {
        IPV4_LEN | GUE_V4_LEN => ("IPv4", IPV4_LEN),
        IPV6_LEN | GUE_V6_LEN => ("IPv6", IPV6_LEN),
        _ => return None,
    };
    let (source, destination): (IpAddr, IpAddr) = if header_len == IPV4_LEN {
        let address = |at: usize| ip[at..].first_chunk::<4>().copied().map(Ipv4Addr::from);
        (address(12)?.into(), address(16)?.into())
    } else {
        let address = |at: usize| ip[at..].first_chunk::<16>().copied().map(Ipv6Addr::from);
        (address(8)?.into(), address(24)?.into())
    };
    let port = |at: usize| ip[header_len + at..].first_chunk().copied().map(u16::from_be_bytes);
    let udp =
        if len > header_len { format!(", UDP port {} -> {}", port(0)?, port(2)?) } else { String::new() };
    let (name, hops) = hop_limit(ip);
    Some(format!("outer {family} {source} -> {destination}{udp}, {name} {hops}, {len} bytes more"))
}

fn mac(bytes: &[u8]) -> String {
    let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}
