//! Packets in words.
//!
//! ```
//! use vip_lb_tests::packet::eth;
//!
//! let syn = eth()
//!     .tag(100)
//!     .ipv4("192.0.2.7", "10.77.1.1")
//!     .ttl(63)
//!     .tcp(40000, 80)
//!     .syn()
//!     .bytes();
//! assert_eq!(syn.len(), 14 + 4 + 20 + 20);
//! ```
//!
//! Headers are named from the outside in. Lengths, checksums and "next header" fields are right unless a `claim_*` word makes
//! the latest header lie. Words that set a field (`ttl`, `syn`, ...) mean the latest header that has such a field, and panic
//! where there is none: a test that says nonsense shall not pass.

mod check;
mod diff;
mod encode;
mod field;
mod header;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use check::check;
pub use diff::{assert_same_bytes, hexdump_diff};
use header::{Arp, Ethernet, Header, Icmp, Ipv4, Ipv6, Tag, Tcp, Udp};
pub use header::{Extension, Mac};

/// MAC address that frames come from unless [`Frame::from_mac`] says otherwise.
pub const CLIENT_MAC: Mac = [0x02, 0, 0, 0, 0, 0xc1];
/// MAC address that frames go to unless [`Frame::to_mac`] says otherwise.
pub const NODE_MAC: Mac = [0x02, 0, 0, 0, 0, 0x01];

/// Begins a frame, from [`CLIENT_MAC`] to [`NODE_MAC`].
pub fn eth() -> Frame {
    Frame {
        headers: vec![Header::Ethernet(Ethernet {
            destination: NODE_MAC,
            source: CLIENT_MAC,
            claimed_next: None,
        })],
        trailer: Vec::new(),
        pad_to: 0,
    }
}

/// An ARP request for `target` (RFC 826), broadcast by [`CLIENT_MAC`]. With `sender` 0.0.0.0 a probe (RFC 5227), with `sender` equal to
/// `target` an announcement.
pub fn arp_request(sender: &str, target: &str) -> Frame {
    eth().to_mac([0xff; 6]).with(Header::Arp(Arp {
        operation: 1,
        sender_mac: CLIENT_MAC,
        sender: v4(sender),
        target_mac: [0; 6],
        target: v4(target),
    }))
}

/// A neighbour solicitation for `target` (RFC 4861 section 4.3) to its solicited-node group, with the asker's link-layer address, or
/// without where `asker` is `::`, as in duplicate address detection (RFC 4862 section 5.4.2).
pub fn neighbour_solicitation(asker: &str, target: &str) -> Frame {
    let [.., a, b, c] = v6(target).octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    neighbour_solicitation_to(&group.to_string(), asker, target).to_mac([0x33, 0x33, 0xff, a, b, c])
}

/// A neighbour solicitation sent to an address of one's own choice, such as the target itself.
pub fn neighbour_solicitation_to(destination: &str, asker: &str, target: &str) -> Frame {
    let asker_address = v6(asker);
    let mut body = v6(target).octets().to_vec();
    if !asker_address.is_unspecified() {
        body.extend([1, 1]);
        body.extend(CLIENT_MAC);
    }
    eth().ipv6(asker, destination).ttl(255).icmp(135, 0, [0; 4]).payload(&body)
}

/// A frame being described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    headers: Vec<Header>,
    trailer: Vec<u8>,
    pad_to: usize,
}

/// Headers.
impl Frame {
    /// A VLAN tag with this VLAN id (IEEE 802.1Q).
    #[must_use]
    pub fn tag(self, vlan: u16) -> Self {
        self.with(Header::Tag(Tag { tpid: 0x8100, control: vlan, claimed_next: None }))
    }

    /// A service tag (IEEE 802.1ad), the outer one of two.
    #[must_use]
    pub fn service_tag(self, vlan: u16) -> Self {
        self.with(Header::Tag(Tag { tpid: 0x88a8, control: vlan, claimed_next: None }))
    }

    /// An IPv4 header with TTL 64, "don't fragment" and identification 0.
    #[must_use]
    pub fn ipv4(self, source: &str, destination: &str) -> Self {
        self.with(Header::Ipv4(Ipv4 {
            source: v4(source),
            destination: v4(destination),
            traffic_class: 0,
            id: 0,
            fragment: 0x4000,
            ttl: 64,
            options: Vec::new(),
            claimed: header::ClaimedIp::default(),
        }))
    }

    /// An IPv6 header with hop limit 64.
    #[must_use]
    pub fn ipv6(self, source: &str, destination: &str) -> Self {
        self.with(Header::Ipv6(Ipv6 {
            source: v6(source),
            destination: v6(destination),
            traffic_class: 0,
            flow_label: 0,
            hop_limit: 64,
            claimed: header::ClaimedIp::default(),
        }))
    }

    /// An IPv6 extension header.
    #[must_use]
    pub fn extension(self, extension: Extension) -> Self {
        self.with(Header::Extension(extension, None))
    }

    /// A TCP header with the ACK flag.
    #[must_use]
    pub fn tcp(self, source_port: u16, destination_port: u16) -> Self {
        self.with(Header::Tcp(Tcp {
            source_port,
            destination_port,
            sequence: 1000,
            acknowledged: 0,
            flags: field::TCP_ACK,
            options: Vec::new(),
            claimed_header_len: None,
            claimed_checksum: None,
        }))
    }

    /// A UDP header.
    #[must_use]
    pub fn udp(self, source_port: u16, destination_port: u16) -> Self {
        self.with(Header::Udp(Udp {
            source_port,
            destination_port,
            claimed_len: None,
            claimed_checksum: None,
        }))
    }

    /// An echo request of the family of the IP header before it.
    #[must_use]
    pub fn echo_request(self, id: u16, sequence: u16) -> Self {
        let kind = if self.is_v4() { 8 } else { 128 };
        self.echo(kind, id, sequence)
    }

    /// An echo reply of the family of the IP header before it.
    #[must_use]
    pub fn echo_reply(self, id: u16, sequence: u16) -> Self {
        let kind = if self.is_v4() { 0 } else { 129 };
        self.echo(kind, id, sequence)
    }

    /// Any ICMP message; `rest` is the second word of its header.
    #[must_use]
    pub fn icmp(self, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        self.with(Header::Icmp(Icmp { kind, code, rest, claimed_checksum: None }))
    }

    /// Bytes behind the headers, part of every length.
    #[must_use]
    pub fn payload(self, bytes: &[u8]) -> Self {
        self.with(Header::Payload(bytes.to_vec()))
    }

    /// Bytes behind the packet, part of no length, as the padding of short frames.
    #[must_use]
    pub fn trailer(mut self, bytes: &[u8]) -> Self {
        self.trailer = bytes.to_vec();
        self
    }

    /// Zeros behind the packet up to this length of the frame; Ethernet has no frame below 60 bytes.
    #[must_use]
    pub fn pad_to(mut self, len: usize) -> Self {
        self.pad_to = len;
        self
    }

    /// The same frame without its VLAN tags.
    #[must_use]
    pub fn untagged(mut self) -> Self {
        self.headers.retain(|header| !matches!(header, Header::Tag(_)));
        self
    }

    /// The same packet inside another one: the link layer of `outer` and its IP header, then everything of this packet but its
    /// link layer.
    #[must_use]
    pub fn inside(self, mut outer: Self) -> Self {
        outer.headers.extend(
            self.headers
                .into_iter()
                .skip_while(|header| matches!(header, Header::Ethernet(_) | Header::Tag(_))),
        );
        outer.trailer = self.trailer;
        outer
    }

    fn echo(self, kind: u8, id: u16, sequence: u16) -> Self {
        let ([a, b], [c, d]) = (id.to_be_bytes(), sequence.to_be_bytes());
        self.icmp(kind, 0, [a, b, c, d])
    }

    fn with(mut self, header: Header) -> Self {
        self.headers.push(header);
        self
    }

    /// Whether the latest IP header is one of IPv4.
    pub(crate) fn is_v4(&self) -> bool {
        self.headers
            .iter()
            .rev()
            .find_map(|header| match header {
                Header::Ipv4(_) => Some(true),
                Header::Ipv6(_) => Some(false),
                _ => None,
            })
            .expect("an ICMP message needs an IP header before it")
    }
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no IPv4 address"))
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no IPv6 address"))
}

#[cfg(test)]
mod tests;
