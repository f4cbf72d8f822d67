//! The packet that a request describes.

use std::net::IpAddr;

use vip_lb_common::{
    abi::Address,
    checksum::Sum,
    headers::{IPV4_LEN, TCP_LEN, UDP_LEN, ether_type, protocol},
};

use crate::{
    api::model::{ExplainRequest, PacketKind},
    config::model::Protocol,
};

/// An address that no device has (RFC 9542 section 2.1.2), so that the packet is no peer node's.
const SENDER: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x53, 0x01];
const BROADCAST: [u8; 6] = [0xff; 6];
const HOP_LIMIT: u8 = 64;
/// Only neighbours can send this hop limit (RFC 4861 section 7.1.1).
const NEIGHBOUR_HOP_LIMIT: u8 = 255;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// Where a later fragment begins in its packet, in units of eight bytes: behind what a frame of 1500 bytes holds.
const FRAGMENT_OFFSET: u16 = 180;
/// The path's MTU that an error announces.
const PATH_MTU: u32 = 1400;

/// The frame, sent to the interface with address `mac`. The request must have passed its check.
pub(super) fn build(request: &ExplainRequest, mac: [u8; 6]) -> Vec<u8> {
    let ends = (request.source, request.destination);
    match request.packet {
        PacketKind::First | PacketKind::Ack | PacketKind::Fin | PacketKind::Rst => {
            ethernet(mac, &ip(ends, transport(request, ends, ports(request)), HOP_LIMIT))
        }
        PacketKind::Fragment => ethernet(mac, &fragment(request)),
        PacketKind::Unreachable | PacketKind::TooBig | PacketKind::TimeExceeded => {
            ethernet(mac, &ip(ends, error(request), HOP_LIMIT))
        }
        PacketKind::Echo => {
            let kind = if request.destination.is_ipv4() { 8 } else { 128 };
            ethernet(mac, &ip(ends, icmp(ends, kind, 0, [0; 4], &[]), HOP_LIMIT))
        }
        PacketKind::WhoHas => match ends {
            (IpAddr::V4(asker), IpAddr::V4(wanted)) => {
                let asker = [&SENDER[..], &asker.octets()].concat();
                let wanted = [&[0; 6][..], &wanted.octets()].concat();
                // Ethernet, IPv4, request (RFC 826).
                let question = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &asker, &wanted].concat();
                frame(BROADCAST, ether_type::ARP, &question)
            }
            _ => solicitation(ends),
        },
    }
}

/// What follows an IP header, and its protocol.
type Payload = (u8, Vec<u8>);
type Ends = (IpAddr, IpAddr);

fn ports(request: &ExplainRequest) -> (u16, u16) {
    (request.source_port.unwrap_or(0), request.destination_port.unwrap_or(0))
}

fn transport(request: &ExplainRequest, ends: Ends, ports: (u16, u16)) -> Payload {
    let mut header = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    let (protocol, checksum_at) = match request.protocol {
        Protocol::Tcp => {
            let flags = match request.packet {
                PacketKind::Ack => ACK,
                PacketKind::Fin => FIN | ACK,
                PacketKind::Rst => RST,
                // What is quoted is an answer.
                PacketKind::Unreachable | PacketKind::TooBig | PacketKind::TimeExceeded => ACK,
                _ => SYN,
            };
            header.resize(TCP_LEN, 0);
            // The header's length in words is the upper half of its byte.
            (header[12], header[13]) = ((TCP_LEN as u8 / 4) << 4, flags);
            (protocol::TCP, 16)
        }
        Protocol::Udp => {
            header.extend((UDP_LEN as u16).to_be_bytes());
            header.extend([0, 0]);
            (protocol::UDP, 6)
        }
    };
    let sum = sum(pseudo_header(ends, header.len(), protocol), &header);
    header[checksum_at..checksum_at + 2].copy_from_slice(&sum);
    (protocol, header)
}

/// An answer of the flow that could not be delivered, quoted.
fn error(request: &ExplainRequest) -> Payload {
    let ends = (request.source, request.destination);
    let (source_port, destination_port) = ports(request);
    let answer = (request.destination, request.source);
    let quoted = ip(answer, transport(request, answer, (destination_port, source_port)), HOP_LIMIT);
    // Types and codes of RFC 792 and RFC 4443; the MTU stands in the lower half (RFC 1191) or in the whole word.
    let (kind, code, word) = match (request.packet, request.destination.is_ipv4()) {
        (PacketKind::TooBig, true) => (3, 4, PATH_MTU),
        (PacketKind::TooBig, false) => (2, 0, PATH_MTU),
        (PacketKind::TimeExceeded, true) => (11, 0, 0),
        (PacketKind::TimeExceeded, false) => (3, 0, 0),
        (_, true) => (3, 1, 0),
        (_, false) => (1, 3, 0),
    };
    icmp(ends, kind, code, word.to_be_bytes(), &quoted)
}

fn icmp(ends: Ends, kind: u8, code: u8, word: [u8; 4], body: &[u8]) -> Payload {
    let mut message = [&[kind, code, 0, 0], &word[..], body].concat();
    let (protocol, seed) = if ends.0.is_ipv4() {
        (protocol::ICMP, Sum::new(0))
    } else {
        (protocol::ICMPV6, pseudo_header(ends, message.len(), protocol::ICMPV6))
    };
    let sum = sum(seed, &message);
    message[2..4].copy_from_slice(&sum);
    (protocol, message)
}

/// The end of a packet whose first part went ahead.
fn fragment(request: &ExplainRequest) -> Vec<u8> {
    let protocol = match request.protocol {
        Protocol::Tcp => protocol::TCP,
        Protocol::Udp => protocol::UDP,
    };
    let (id, end) = (request.fragment_id.unwrap_or(0), [0; 8]);
    let ends = (request.source, request.destination);
    if request.destination.is_ipv4() {
        let mut packet = ip(ends, (protocol, end.to_vec()), HOP_LIMIT);
        packet[4..6].copy_from_slice(&(id as u16).to_be_bytes());
        packet[6..8].copy_from_slice(&FRAGMENT_OFFSET.to_be_bytes());
        packet
    } else {
        // The fragment header (RFC 8200 section 4.5): offset in the upper thirteen bits.
        let [high, low] = (FRAGMENT_OFFSET << 3).to_be_bytes();
        let header = [protocol, 0, high, low];
        ip(ends, (protocol::FRAGMENT, [&header[..], &id.to_be_bytes(), &end].concat()), HOP_LIMIT)
    }
}

/// A neighbour solicitation to the group of the address (RFC 4861 section 4.3).
fn solicitation((asker, wanted): Ends) -> Vec<u8> {
    let wanted = Address::from(wanted);
    let [.., a, b, c] = *wanted.octets();
    // ff02::1:ff00:0/104 (RFC 4291 section 2.7.1).
    let group = IpAddr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let ends = (asker, group);
    let packet = ip(ends, icmp(ends, 135, 0, [0; 4], wanted.octets()), NEIGHBOUR_HOP_LIMIT);
    frame([0x33, 0x33, 0xff, a, b, c], ether_type::IPV6, &packet)
}

fn ethernet(mac: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let is_v4 = packet[0] >> 4 == 4;
    frame(mac, if is_v4 { ether_type::IPV4 } else { ether_type::IPV6 }, packet)
}

fn frame(mac: [u8; 6], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&mac[..], &SENDER, &ether_type.to_be_bytes(), payload].concat()
}

/// An IP packet. The pipeline trusts the IPv4 header's checksum, so it is left out.
fn ip((source, destination): Ends, (protocol, payload): Payload, hop_limit: u8) -> Vec<u8> {
    let length = payload.len() as u16;
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = (IPV4_LEN as u16 + length).to_be_bytes();
            let head = [0x45, 0, high, low, 0, 0, 0, 0, hop_limit, protocol, 0, 0];
            [&head[..], &source.octets(), &destination.octets(), &payload].concat()
        }
        (source, destination) => {
            let [high, low] = length.to_be_bytes();
            let head = [0x60, 0, 0, 0, high, low, protocol, hop_limit];
            let [source, destination] = [source, destination].map(Address::from);
            [&head[..], source.octets(), destination.octets(), &payload].concat()
        }
    }
}

fn pseudo_header((source, destination): Ends, length: usize, protocol: u8) -> Sum {
    Sum::pseudo_header(&source.into(), &destination.into(), length as u16, protocol)
}

fn sum(seed: Sum, bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    words.fold(seed, Sum::add).finish().to_be_bytes()
}
