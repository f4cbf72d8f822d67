//! The packet that a request describes, and what was changed in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vip_lb_common::{
    Verdict,
    headers::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN, TCP_LEN, UDP_LEN, ether_type, protocol},
};

use crate::{api::model::ExplainRequest, config::model::Protocol};

/// Offset of the IP header in a frame without tags.
pub(super) const NETWORK: usize = ETHERNET_LEN;

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

/// What is different, one line each, for the verdicts that send the packet on.
pub(super) fn rewrites(before: &[u8], after: &[u8], verdict: Verdict) -> Vec<String> {
    let outer_len = match verdict {
        Verdict::ForwardedL2 => 0,
        Verdict::ForwardedIpip => after.len().saturating_sub(before.len()),
        _ => return Vec::new(),
    };
    let mut lines = vec![
        format!("destination MAC {} -> {}", mac(&before[..6]), mac(&after[..6])),
        format!("source MAC of the sender -> {}", mac(&after[6..12])),
    ];
    lines.extend(outer(&after[NETWORK..], outer_len));
    let inner = if outer_len > 0 { "inner " } else { "" };
    let (old, new) = (&before[NETWORK..], &after[NETWORK + outer_len..]);
    let (name, old, new) = match old[0] >> 4 {
        4 => ("TTL", old[8], new[8]),
        _ => ("hop limit", old[7], new[7]),
    };
    lines.push(format!("{inner}{name} {old} -> {new}"));
    lines
}

/// The header that was put in front.
fn outer(header: &[u8], len: usize) -> Option<String> {
    let (family, source, destination, hop_limit) = match len {
        IPV4_LEN => {
            let address = |at: usize| header[at..].first_chunk::<4>().copied().map(Ipv4Addr::from);
            let (source, destination) = (address(12)?.into(), address(16)?.into());
            ("IPv4", source, destination, format!("TTL {}", header[8]))
        }
        IPV6_LEN => {
            let address = |at: usize| header[at..].first_chunk::<16>().copied().map(Ipv6Addr::from);
            let (source, destination): (IpAddr, IpAddr) = (address(8)?.into(), address(24)?.into());
            ("IPv6", source, destination, format!("hop limit {}", header[7]))
        }
        _ => return None,
    };
    Some(format!("outer {family} {source} -> {destination}, {hop_limit}, {len} bytes more"))
}

fn mac(bytes: &[u8]) -> String {
    let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}
