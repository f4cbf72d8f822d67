//! Views of protocol headers. Offsets come from the layouts of the `network-types` crate, in one place.

mod ethernet;
mod ipv4;
mod ipv6;
#[cfg(test)]
mod tests;
mod transport;
mod vrrp;

use network_types::{
    arp::ArpHdr,
    eth::EthHdr,
    icmp::Icmpv4Hdr,
    ip::{IpProto, Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
    udp::UdpHdr,
};

pub use ethernet::{Arp, Ethernet};
pub use ipv4::{Fragments, HeaderV4, Ipv4, OUTER_TTL, OuterV4, outer_checksum_base};
pub use ipv6::{FragmentHeader, Ipv6};
pub use transport::{Icmp, TCP_CHECKSUM, Tcp, TcpFlags, UDP_CHECKSUM, Udp};
pub use vrrp::Vrrp;

/// Bytes of an Ethernet header without tags.
pub const ETHERNET_LEN: usize = EthHdr::LEN;
/// Bytes of a VLAN tag (IEEE 802.1Q).
pub const VLAN_LEN: usize = 4;
/// Bytes of an IPv4 header without options.
pub const IPV4_LEN: usize = Ipv4Hdr::LEN;
/// Bytes of an IPv6 header.
pub const IPV6_LEN: usize = Ipv6Hdr::LEN;
/// Bytes of an IPv6 fragment header.
pub const FRAGMENT_LEN: usize = 8;
/// Bytes of a TCP header without options.
pub const TCP_LEN: usize = TcpHdr::LEN;
/// Bytes of a UDP header.
pub const UDP_LEN: usize = UdpHdr::LEN;
/// Bytes of an ICMP header.
pub const ICMP_LEN: usize = Icmpv4Hdr::LEN;
/// Bytes of an advert of VRRP before its addresses (RFC 9568 section 5.2).
pub const VRRP_LEN: usize = 8;
/// Bytes of an ARP packet for IPv4 over Ethernet (RFC 826).
pub const ARP_LEN: usize = ArpHdr::LEN;

/// Where in its packet a fragment belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// In bytes, a multiple of 8.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
}

/// EtherType numbers (IEEE 802, assigned numbers).
pub mod ether_type {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// Customer VLAN tag.
    pub const VLAN: u16 = 0x8100;
    /// Service VLAN tag (802.1ad).
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// IP protocol numbers (IANA).
pub mod protocol {
    use super::IpProto;

    /// IPv6 hop-by-hop options (RFC 8200 section 4.3).
    pub const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
    /// ICMP for IPv4.
    pub const ICMP: u8 = IpProto::Icmp as u8;
    /// IPv4 in IP.
    pub const IPV4: u8 = IpProto::Ipv4 as u8;
    /// TCP.
    pub const TCP: u8 = IpProto::Tcp as u8;
    /// UDP.
    pub const UDP: u8 = IpProto::Udp as u8;
    /// IPv6 in IP.
    pub const IPV6: u8 = IpProto::Ipv6 as u8;
    /// IPv6 routing header (RFC 8200 section 4.4).
    pub const ROUTING: u8 = IpProto::Ipv6Route as u8;
    /// IPv6 fragment header (RFC 8200 section 4.5).
    pub const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = IpProto::Ipv6Icmp as u8;
    /// VRRP (RFC 9568 section 5.1.1.4).
    pub const VRRP: u8 = IpProto::Vrrp as u8;
    /// IPv6 destination options (RFC 8200 section 4.6).
    pub const DESTINATION_OPTIONS: u8 = IpProto::Ipv6Opts as u8;
}
