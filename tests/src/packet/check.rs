//! Verifies frames with a parser that is neither the pipeline's nor the builder's: the crate `etherparse`.

use etherparse::{
    Icmpv4Slice, Icmpv6Slice, IpNumber, IpPayloadSlice, NetSlice, SlicedPacket, TcpSlice, UdpHeader, UdpSlice,
};

/// UDP port of GUE (IANA).
const GUE_PORT: u16 = 6080;

/// Says what is wrong with a frame: a length, the checksum of an IPv4 header, or that of TCP, UDP or ICMP, in tunnels too.
///
/// # Errors
///
/// What is wrong, for people.
pub fn check(frame: &[u8]) -> Result<(), String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    network(packet.net.as_ref())
}

fn network(net: Option<&NetSlice<'_>>) -> Result<(), String> {
    match net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            expect("IPv4 header", header.header_checksum, header.calc_header_checksum())?;
            payload(ip.payload(), &Ends::V4(header.source, header.destination))
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header().to_header();
            payload(ip.payload(), &Ends::V6(header.source, header.destination))
        }
        Some(NetSlice::Arp(_)) => Ok(()),
        None => Err("neither IP nor ARP".to_owned()),
    }
}

enum Ends {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

fn payload(ip: &IpPayloadSlice<'_>, ends: &Ends) -> Result<(), String> {
    if ip.fragmented {
        return Ok(());
    }
    match ip.ip_number {
        IpNumber::IPV4 | IpNumber::IPV6 => tunnelled(ip.payload),
        IpNumber::TCP => {
            let tcp = TcpSlice::from_slice(ip.payload).map_err(|error| error.to_string())?;
            let right = match *ends {
                Ends::V4(source, destination) => tcp.calc_checksum_ipv4(source, destination),
                Ends::V6(source, destination) => tcp.calc_checksum_ipv6(source, destination),
            };
            expect("TCP", tcp.checksum(), right.map_err(|error| error.to_string())?)
        }
        IpNumber::UDP => {
            let udp = UdpSlice::from_slice(ip.payload).map_err(|error| error.to_string())?;
            let header: UdpHeader = udp.to_header();
            let is_tunnel = header.destination_port == GUE_PORT;
            // Over IPv6 only tunnels may go without (RFC 6935).
            if header.checksum == 0 && (is_tunnel || matches!(ends, Ends::V4(..))) {
                return if is_tunnel { in_gue(udp.payload()) } else { Ok(()) };
            }
            let right = match *ends {
                Ends::V4(source, destination) => {
                    header.calc_checksum_ipv4_raw(source, destination, udp.payload())
                }
                Ends::V6(source, destination) => {
                    header.calc_checksum_ipv6_raw(source, destination, udp.payload())
                }
            };
            expect("UDP", header.checksum, right.map_err(|error| error.to_string())?)?;
            if is_tunnel { in_gue(udp.payload()) } else { Ok(()) }
        }
        IpNumber::ICMP => {
            let icmp = Icmpv4Slice::from_slice(ip.payload).map_err(|error| error.to_string())?;
            let right = icmp.icmp_type().calc_checksum(icmp.payload());
            // Both are zero to a receiver, which sums up to the same with either, but for a message of zeros alone.
            let found = if icmp.checksum() == 0xffff && right == 0 { right } else { icmp.checksum() };
            expect("ICMP", found, right)
        }
        IpNumber::IPV6_ICMP => {
            let icmp = Icmpv6Slice::from_slice(ip.payload).map_err(|error| error.to_string())?;
            match *ends {
                Ends::V6(source, destination) if icmp.is_checksum_valid(source, destination) => Ok(()),
                _ => Err("ICMPv6: wrong checksum".to_owned()),
            }
        }
        _ => Ok(()),
    }
}

/// Variant 1 has the packet right there, variant 0 behind four bytes.
fn in_gue(payload: &[u8]) -> Result<(), String> {
    match payload {
        [first, ..] if matches!(first >> 4, 4 | 6) => tunnelled(payload),
        [0, 4 | 41, _, _, packet @ ..] => tunnelled(packet),
        _ => Ok(()),
    }
}

fn tunnelled(packet: &[u8]) -> Result<(), String> {
    let inner = SlicedPacket::from_ip(packet).map_err(|error| format!("in the tunnel: {error}"))?;
    network(inner.net.as_ref()).map_err(|error| format!("in the tunnel: {error}"))
}

fn expect(what: &str, found: u16, right: u16) -> Result<(), String> {
    if found == right { Ok(()) } else { Err(format!("{what}: checksum {found:#06x} should be {right:#06x}")) }
}
