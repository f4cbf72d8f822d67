//! What was changed in a packet.

use std::{
    fmt::Display,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use vip_lb_common::{
    Verdict,
    headers::{ETHERNET_LEN, ICMP_LEN, IPV4_LEN, IPV6_LEN, UDP_LEN, VLAN_LEN, ether_type, protocol},
};

/// Source and destination of a TCP or UDP packet, with their ports. None if it is another one, or has no ports.
pub(super) fn ends(frame: &[u8]) -> Option<[SocketAddr; 2]> {
    ports(&head(frame.get(network(frame)..)?)?)
}

/// Source and destination of an IP packet. None if it is no such packet.
pub(super) fn addresses(frame: &[u8]) -> Option<[IpAddr; 2]> {
    head(frame.get(network(frame)..)?).map(|head| head.addresses)
}

/// Source and destination of the packet that an ICMP error quotes. None if it is no error.
fn quoted(frame: &[u8]) -> Option<[SocketAddr; 2]> {
    let outer = head(frame.get(network(frame)..)?)?;
    let is_icmp = matches!(outer.protocol, protocol::ICMP | protocol::ICMPV6);
    ports(&head(outer.payload.get(ICMP_LEN..).filter(|_| is_icmp)?)?)
}

/// What an IP header says.
struct Head<'f> {
    addresses: [IpAddr; 2],
    protocol: u8,
    /// It is a fragment, and not the first one.
    is_later: bool,
    payload: &'f [u8],
}

fn head(ip: &[u8]) -> Option<Head<'_>> {
    let half = |at: usize| ip.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
    if version(ip)? == 4 {
        let address = |at: usize| Some(Ipv4Addr::from(*ip.get(at..)?.first_chunk::<4>()?).into());
        return Some(Head {
            addresses: [address(12)?, address(16)?],
            protocol: *ip.get(9)?,
            is_later: half(6)? & 0x1fff != 0,
            payload: ip.get(usize::from(ip[0] & 0xf) * 4..)?,
        });
    }
    let address = |at: usize| Some(Ipv6Addr::from(*ip.get(at..)?.first_chunk::<16>()?).into());
    let addresses = [address(8)?, address(24)?];
    Some(match *ip.get(6)? {
        // The only one that packets are explained with (RFC 8200 section 4.5).
        protocol::FRAGMENT => Head {
            addresses,
            protocol: *ip.get(IPV6_LEN)?,
            is_later: half(IPV6_LEN + 2)? >> 3 != 0,
            payload: ip.get(IPV6_LEN + 8..)?,
        },
        protocol => Head { addresses, protocol, is_later: false, payload: ip.get(IPV6_LEN..)? },
    })
}

fn ports(head: &Head<'_>) -> Option<[SocketAddr; 2]> {
    if head.is_later || !matches!(head.protocol, protocol::TCP | protocol::UDP) {
        return None;
    }
    let port = |at: usize| head.payload.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
    let [source, destination] = head.addresses;
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
    if translated {
        if family(before) != family(after) {
            lines.push(format!("{} header -> {}", family(before), family(after)));
        }
        lines.extend(match (ends(before), ends(after)) {
            (Some(was), Some(is)) => moved("", was, is),
            _ => addresses(before)
                .zip(addresses(after))
                .into_iter()
                .flat_map(|(was, is)| moved("", was, is))
                .collect(),
        });
        let quotes = quoted(before).zip(quoted(after));
        lines.extend(quotes.into_iter().flat_map(|(was, is)| moved("quoted ", was, is)));
    }
    let inner = if outer_len > 0 { "inner " } else { "" };
    let (name, old) = hop_limit(old);
    let (_, new) = hop_limit(&new[outer_len..]);
    lines.push(format!("{inner}{name} {old} -> {new}"));
    lines
}

/// What became of two ends.
fn moved<T: Display>(whose: &str, was: [T; 2], is: [T; 2]) -> Vec<String> {
    let ends = ["source", "destination"].into_iter().zip(was.into_iter().zip(is));
    ends.map(|(name, (was, is))| format!("{whose}{name} {was} -> {is}")).collect()
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

pub(in crate::control) fn mac(bytes: &[u8]) -> String {
    let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}
