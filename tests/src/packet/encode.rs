//! From the description to the bytes.
//!
//! Nothing of `vip-lb-common` is used here: what is tested shall not make its own test data.

use super::{
    Frame,
    header::{Arp, Extension, Header, Icmp, Ipv4, Ipv6, Tcp, Udp},
};

impl Frame {
    /// The frame's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, header) in self.headers.iter().enumerate().rev() {
            let next = self.headers.get(index + 1);
            bytes = encode(header, next, self.enclosing_ip(index), &bytes);
        }
        bytes.extend(&self.trailer);
        if bytes.len() < self.pad_to {
            bytes.resize(self.pad_to, 0);
        }
        bytes
    }

    /// Sum of the addresses of the IP header that the header at `index` belongs to, and whether that is IPv4.
    fn enclosing_ip(&self, index: usize) -> Option<PseudoHeader> {
        self.headers[..index].iter().rev().find_map(|header| match header {
            Header::Ipv4(ip) => Some(PseudoHeader {
                addresses: [ip.source.octets(), ip.destination.octets()].concat(),
                is_v4: true,
            }),
            Header::Ipv6(ip) => Some(PseudoHeader {
                addresses: [ip.source.octets(), ip.destination.octets()].concat(),
                is_v4: false,
            }),
            _ => None,
        })
    }
}

/// The Internet checksum over `parts` laid end to end, each but the last of even length (RFC 1071).
pub(super) fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        for word in part.chunks(2) {
            sum += u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0));
        }
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

struct PseudoHeader {
    addresses: Vec<u8>,
    is_v4: bool,
}

impl PseudoHeader {
    fn checksum(&self, protocol: u8, segment: &[u8]) -> u16 {
        let len = (segment.len() as u32).to_be_bytes();
        checksum(&[&self.addresses, &len, &[0, protocol], segment])
    }
}

fn encode(header: &Header, next: Option<&Header>, ip: Option<PseudoHeader>, rest: &[u8]) -> Vec<u8> {
    match header {
        Header::Ethernet(ethernet) => {
            let ether_type = ethernet.claimed_next.unwrap_or_else(|| ether_type(next));
            [&ethernet.destination[..], &ethernet.source, &ether_type.to_be_bytes(), rest].concat()
        }
        // Its own type stands in the header before it.
        Header::Tag(tag) => {
            let ether_type = tag.claimed_next.unwrap_or_else(|| ether_type(next));
            [&tag.control.to_be_bytes()[..], &ether_type.to_be_bytes(), rest].concat()
        }
        Header::Ipv4(header) => ipv4(header, protocol(next, true), rest),
        Header::Ipv6(header) => ipv6(header, protocol(next, false), rest),
        Header::Extension(header, claimed) => {
            extension(header, claimed.unwrap_or_else(|| protocol(next, false)), rest)
        }
        Header::Tcp(header) => tcp(header, &ip.expect("TCP needs an IP header before it"), rest),
        Header::Udp(header) => udp(header, &ip.expect("UDP needs an IP header before it"), rest),
        Header::Icmp(header) => icmp(header, &ip.expect("ICMP needs an IP header before it"), rest),
        Header::Arp(header) => arp(header, rest),
        Header::Payload(bytes) => [bytes, rest].concat(),
    }
}

fn ether_type(next: Option<&Header>) -> u16 {
    match next {
        Some(Header::Tag(tag)) => tag.tpid,
        Some(Header::Ipv4(_)) => 0x0800,
        Some(Header::Ipv6(_)) => 0x86dd,
        Some(Header::Arp(_)) => 0x0806,
        // "Local experimental EtherType 1" (IEEE 802).
        _ => 0x88b5,
    }
}

fn protocol(next: Option<&Header>, is_v4: bool) -> u8 {
    match next {
        Some(Header::Ipv4(_)) => 4,
        Some(Header::Ipv6(_)) => 41,
        Some(Header::Tcp(_)) => 6,
        Some(Header::Udp(_)) => 17,
        Some(Header::Icmp(_)) => {
            if is_v4 {
                1
            } else {
                58
            }
        }
        Some(Header::Extension(Extension::HopByHop(_), _)) => 0,
        Some(Header::Extension(Extension::Routing(_), _)) => 43,
        Some(Header::Extension(Extension::Fragment { .. }, _)) => 44,
        Some(Header::Extension(Extension::DestinationOptions(_), _)) => 60,
        // "Use for experimentation and testing" (RFC 3692).
        _ => 253,
    }
}

fn ipv4(header: &Ipv4, protocol: u8, rest: &[u8]) -> Vec<u8> {
    let options = padded(&header.options);
    let header_len = 20 + options.len();
    let claimed = &header.claimed;
    let len = claimed.len.unwrap_or((header_len + rest.len()) as u16);
    let first =
        claimed.version.unwrap_or(4) << 4 | (claimed.header_len.unwrap_or(header_len as u8) / 4) & 0x0f;
    let mut bytes = vec![first, header.traffic_class];
    bytes.extend(len.to_be_bytes());
    bytes.extend(header.id.to_be_bytes());
    bytes.extend(header.fragment.to_be_bytes());
    bytes.extend([header.ttl, claimed.next.unwrap_or(protocol), 0, 0]);
    bytes.extend(header.source.octets());
    bytes.extend(header.destination.octets());
    bytes.extend(options);
    let sum = claimed.checksum.unwrap_or_else(|| checksum(&[&bytes]));
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(rest);
    bytes
}

fn ipv6(header: &Ipv6, next: u8, rest: &[u8]) -> Vec<u8> {
    let claimed = &header.claimed;
    let first = u32::from(claimed.version.unwrap_or(6)) << 28
        | u32::from(header.traffic_class) << 20
        | header.flow_label & 0xf_ffff;
    let mut bytes = first.to_be_bytes().to_vec();
    bytes.extend(claimed.len.unwrap_or(rest.len() as u16).to_be_bytes());
    bytes.extend([claimed.next.unwrap_or(next), header.hop_limit]);
    bytes.extend(header.source.octets());
    bytes.extend(header.destination.octets());
    bytes.extend(rest);
    bytes
}

fn extension(header: &Extension, next: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = match *header {
        Extension::HopByHop(units) | Extension::DestinationOptions(units) => {
            // One PadN option over all that is left (RFC 8200 section 4.2), which holds at most 255 bytes.
            let padding = 8 * usize::from(units) + 4;
            let mut bytes = vec![next, units, 1, padding as u8];
            bytes.resize(4 + padding, 0);
            bytes
        }
        Extension::Routing(units) => {
            let mut bytes = vec![next, units, 4, 0];
            bytes.resize(8 * (usize::from(units) + 1), 0);
            bytes
        }
        Extension::Fragment { offset, more, id } => {
            let mut bytes = vec![next, 0];
            bytes.extend((offset & !7 | u16::from(more)).to_be_bytes());
            bytes.extend(id.to_be_bytes());
            bytes
        }
    };
    bytes.extend(rest);
    bytes
}

fn tcp(header: &Tcp, ip: &PseudoHeader, rest: &[u8]) -> Vec<u8> {
    let options = padded(&header.options);
    let header_len = header.claimed_header_len.unwrap_or(20 + options.len() as u8);
    let mut bytes = header.source_port.to_be_bytes().to_vec();
    bytes.extend(header.destination_port.to_be_bytes());
    bytes.extend(header.sequence.to_be_bytes());
    bytes.extend(header.acknowledged.to_be_bytes());
    bytes.extend([(header_len / 4) << 4, header.flags]);
    bytes.extend(64_240_u16.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(options);
    bytes.extend(rest);
    let sum = header.claimed_checksum.unwrap_or_else(|| ip.checksum(6, &bytes));
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn udp(header: &Udp, ip: &PseudoHeader, rest: &[u8]) -> Vec<u8> {
    let len = header.claimed_len.unwrap_or((8 + rest.len()) as u16);
    let mut bytes = header.source_port.to_be_bytes().to_vec();
    bytes.extend(header.destination_port.to_be_bytes());
    bytes.extend(len.to_be_bytes());
    bytes.extend([0; 2]);
    bytes.extend(rest);
    let sum = header.claimed_checksum.unwrap_or_else(|| match ip.checksum(17, &bytes) {
        // 0 would mean "no checksum" (RFC 768).
        0 => 0xffff,
        sum => sum,
    });
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn icmp(header: &Icmp, ip: &PseudoHeader, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![header.kind, header.code, 0, 0];
    bytes.extend(header.rest);
    bytes.extend(rest);
    let sum = header
        .claimed_checksum
        .unwrap_or_else(|| if ip.is_v4 { checksum(&[&bytes]) } else { ip.checksum(58, &bytes) });
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn arp(header: &Arp, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0x08, 0x00, 6, 4];
    bytes.extend(header.operation.to_be_bytes());
    bytes.extend(header.sender_mac);
    bytes.extend(header.sender.octets());
    bytes.extend(header.target_mac);
    bytes.extend(header.target.octets());
    bytes.extend(rest);
    bytes
}

/// Options end where the header does, on a multiple of four bytes; 0 is the end of options in IPv4 and TCP alike.
fn padded(options: &[u8]) -> Vec<u8> {
    let mut padded = options.to_vec();
    padded.resize(options.len().next_multiple_of(4), 0);
    assert!(padded.len() <= 40, "more options than a header holds");
    padded
}
