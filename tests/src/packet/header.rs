//! The headers a frame is described by, and the words that make them lie.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Frame;

/// A MAC address.
pub type Mac = [u8; 6];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Header {
    Ethernet(Ethernet),
    Tag(Tag),
    Ipv4(Ipv4),
    Ipv6(Ipv6),
    Extension(Extension, Option<u8>),
    Tcp(Tcp),
    Udp(Udp),
    Icmp(Icmp),
    Arp(Arp),
    Payload(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ethernet {
    pub(super) destination: Mac,
    pub(super) source: Mac,
    pub(super) claimed_next: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) tpid: u16,
    pub(super) control: u16,
    pub(super) claimed_next: Option<u16>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClaimedIp {
    pub(super) version: Option<u8>,
    pub(super) header_len: Option<u8>,
    pub(super) len: Option<u16>,
    pub(super) next: Option<u8>,
    pub(super) checksum: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ipv4 {
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    pub(super) traffic_class: u8,
    pub(super) id: u16,
    pub(super) fragment: u16,
    pub(super) ttl: u8,
    pub(super) options: Vec<u8>,
    pub(super) claimed: ClaimedIp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ipv6 {
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) traffic_class: u8,
    pub(super) flow_label: u32,
    pub(super) hop_limit: u8,
    pub(super) claimed: ClaimedIp,
}

/// An IPv6 extension header (RFC 8200 section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Hop-by-hop options: padding of this many further units of 8 bytes.
    HopByHop(u8),
    /// Destination options: padding of this many further units of 8 bytes.
    DestinationOptions(u8),
    /// A routing header of type 4 with no segments left and this many further units of 8 bytes.
    Routing(u8),
    /// A fragment header; `offset` in bytes, a multiple of 8.
    Fragment {
        /// Where in the original packet it belongs, in bytes.
        offset: u16,
        /// More fragments follow.
        more: bool,
        /// Identification.
        id: u32,
    },
}

impl Extension {
    /// The fragment header of a packet that is whole (RFC 6946).
    pub fn atomic_fragment() -> Self {
        Self::Fragment { offset: 0, more: false, id: 0x1234_5678 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tcp {
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    pub(super) flags: u8,
    pub(super) options: Vec<u8>,
    pub(super) claimed_header_len: Option<u8>,
    pub(super) claimed_checksum: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Udp {
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) claimed_len: Option<u16>,
    pub(super) claimed_checksum: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Icmp {
    pub(super) kind: u8,
    pub(super) code: u8,
    pub(super) rest: [u8; 4],
    pub(super) claimed_checksum: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arp {
    pub(super) operation: u16,
    pub(super) sender_mac: Mac,
    pub(super) sender: Ipv4Addr,
    pub(super) target_mac: Mac,
    pub(super) target: Ipv4Addr,
}

/// Lies, each of the latest header.
impl Frame {
    /// The version field of an IP header, at most 15.
    #[must_use]
    pub fn claim_version(mut self, version: u8) -> Self {
        match self.liar() {
            Header::Ipv4(Ipv4 { claimed, .. }) | Header::Ipv6(Ipv6 { claimed, .. }) => {
                claimed.version = Some(version);
            }
            other => panic!("no version in {other:?}"),
        }
        self
    }

    /// The header length of IPv4 or TCP in bytes, a multiple of 4 up to 60.
    #[must_use]
    pub fn claim_header_len(mut self, len: u8) -> Self {
        match self.liar() {
            Header::Ipv4(Ipv4 { claimed, .. }) => claimed.header_len = Some(len),
            Header::Tcp(tcp) => tcp.claimed_header_len = Some(len),
            other => panic!("no header length in {other:?}"),
        }
        self
    }

    /// Total length (IPv4), payload length (IPv6) or length (UDP).
    #[must_use]
    pub fn claim_len(mut self, len: u16) -> Self {
        match self.liar() {
            Header::Ipv4(Ipv4 { claimed, .. }) | Header::Ipv6(Ipv6 { claimed, .. }) => {
                claimed.len = Some(len);
            }
            Header::Udp(udp) => udp.claimed_len = Some(len),
            other => panic!("no length in {other:?}"),
        }
        self
    }

    /// EtherType, protocol or next header: what is said to follow.
    #[must_use]
    pub fn claim_next(mut self, next: u16) -> Self {
        let byte = || u8::try_from(next).expect("an IP protocol is one byte");
        match self.liar() {
            Header::Ethernet(Ethernet { claimed_next, .. }) | Header::Tag(Tag { claimed_next, .. }) => {
                *claimed_next = Some(next);
            }
            Header::Ipv4(Ipv4 { claimed, .. }) | Header::Ipv6(Ipv6 { claimed, .. }) => {
                claimed.next = Some(byte());
            }
            Header::Extension(_, claimed) => *claimed = Some(byte()),
            other => panic!("no next header in {other:?}"),
        }
        self
    }

    /// The checksum.
    #[must_use]
    pub fn claim_checksum(mut self, checksum: u16) -> Self {
        match self.liar() {
            Header::Ipv4(Ipv4 { claimed, .. }) => claimed.checksum = Some(checksum),
            Header::Tcp(Tcp { claimed_checksum, .. })
            | Header::Udp(Udp { claimed_checksum, .. })
            | Header::Icmp(Icmp { claimed_checksum, .. }) => *claimed_checksum = Some(checksum),
            other => panic!("no checksum in {other:?}"),
        }
        self
    }

    /// ARP operation, such as 2 for a reply.
    #[must_use]
    pub fn operation(mut self, operation: u16) -> Self {
        match self.liar() {
            Header::Arp(arp) => arp.operation = operation,
            other => panic!("no operation in {other:?}"),
        }
        self
    }

    /// The two MAC addresses that an ARP packet names.
    #[must_use]
    pub fn arp_macs(mut self, sender: Mac, target: Mac) -> Self {
        match self.liar() {
            Header::Arp(arp) => (arp.sender_mac, arp.target_mac) = (sender, target),
            other => panic!("no hardware addresses in {other:?}"),
        }
        self
    }

    fn liar(&mut self) -> &mut Header {
        self.headers
            .iter_mut()
            .rev()
            .find(|header| !matches!(header, Header::Payload(_)))
            .expect("a frame begins with its Ethernet header")
    }
}
