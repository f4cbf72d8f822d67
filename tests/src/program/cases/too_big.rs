//! Packets that do not fit the path to their backend, and what their sender is told.

use vip_lb_common::Verdict::{TooBig, TooBigAnswered};

use super::{Case, to_vip};
use crate::{
    packet::{CLIENT_MAC, Extension, Frame, NODE_MAC, eth},
    program::world::{CLIENT, CLIENT6, NARROW_MTU, VIP, VIP6, port},
};

const HERE: u16 = 40_300;
/// Largest packet to [`port::NARROW`].
const NARROW: u16 = NARROW_MTU - 20;

/// What the sender of `frame`, which came by `link`, is told.
pub(in crate::program) fn answer(link: Frame, frame: &Frame, largest: u16) -> Frame {
    let bytes = frame.bytes();
    let packet = &bytes[link.bytes().len()..];
    let is_v4 = packet[0] >> 4 == 4;
    let len = match packet {
        [_, _, a, b, ..] if is_v4 => usize::from(u16::from_be_bytes([*a, *b])),
        [_, _, _, _, a, b, ..] => 40 + usize::from(u16::from_be_bytes([*a, *b])),
        _ => panic!("no IP header behind the link layer"),
    };
    let quote = &packet[..len.min(128) / 4 * 4];
    let link = link.from_mac(NODE_MAC).to_mac(CLIENT_MAC);
    let [a, b] = largest.to_be_bytes();
    if is_v4 {
        link.ipv4(VIP, CLIENT).icmp(3, 4, [0, 0, a, b]).payload(quote)
    } else {
        link.ipv6(VIP6, CLIENT6).icmp(2, 0, [0, 0, a, b]).payload(quote)
    }
}

/// A datagram of [`port::RATIONED`] that is too big, and answered while the budget lasts.
pub fn rationed() -> Frame {
    eth().ipv4(CLIENT, VIP).udp(HERE, port::RATIONED).payload(&[0; 1472])
}

pub(super) fn cases() -> Vec<Case> {
    [sizes(), links(), headers(), refused()].concat()
}

pub(super) fn answered(name: String, link: Frame, frame: &Frame, largest: u16) -> Case {
    Case::changed(name, frame, TooBigAnswered, &answer(link, frame, largest))
}

fn sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, ip) in to_vip() {
        let headers = if family == "IPv4" { 20 } else { 40 } + 8;
        // Around what fits, around four bytes, around what is quoted at most.
        for len in [81, 82, 83, 84, 85, 127, 128, 129, 131, 132, 1500] {
            let udp = ip.clone().udp(HERE, port::NARROW).payload(&vec![0xa5; len - headers]);
            cases.push(answered(format!("{family}: {len} bytes to a narrow path"), eth(), &udp, NARROW));
        }
        for (to, largest) in [(port::IPIP, 1480), (port::IPIP6, 1460)] {
            for len in [largest + 1, 1500] {
                let payload: Vec<u8> = (0..usize::from(len) - headers).map(|index| index as u8).collect();
                let udp = ip.clone().udp(HERE, to).payload(&payload);
                cases.push(answered(format!("{family}: {len} bytes to port {to}"), eth(), &udp, largest));
                let tcp = ip.clone().tcp(HERE, to).payload(&payload[12..]);
                cases.push(answered(
                    format!("{family}: {len} bytes of TCP to port {to}"),
                    eth(),
                    &tcp,
                    largest,
                ));
            }
        }
        let trailed = ip.clone().udp(HERE, port::NARROW).payload(&[0x5a; 81]).trailer(&[0xee; 40]);
        cases.push(answered(format!("{family}: a trailer is no part of a quote"), eth(), &trailed, NARROW));
    }
    cases
}

fn links() -> Vec<Case> {
    let links = [
        ("one tag", eth().tag(100 | 5 << 13)),
        ("a service tag", eth().service_tag(7)),
        ("two tags", eth().service_tag(7).tag(100)),
    ];
    let mut cases = Vec::new();
    for (name, link) in links {
        let families = [("IPv4", link.clone().ipv4(CLIENT, VIP)), ("IPv6", link.clone().ipv6(CLIENT6, VIP6))];
        for (family, ip) in families {
            let tcp = ip.tcp(HERE, port::NARROW).payload(&[0x5a; 70]);
            cases.push(answered(format!("{family}: too big with {name}"), link.clone(), &tcp, NARROW));
        }
    }
    cases
}

fn headers() -> Vec<Case> {
    let v4 = || eth().ipv4(CLIENT, VIP);
    let v6 = || eth().ipv6(CLIENT6, VIP6);
    let frames = [
        ("forty bytes of options", v4().option(&[1; 40]).tcp(HERE, port::NARROW).payload(&[9; 70])),
        ("that may be fragmented", v4().may_fragment().id(7).udp(HERE, port::NARROW).payload(&[9; 70])),
        ("a traffic class", v4().traffic_class(0xb9).ttl(3).udp(HERE, port::NARROW).payload(&[9; 70])),
        // Whether its hop limit would last is not asked.
        ("with no hop left", v6().ttl(1).udp(HERE, port::NARROW).payload(&[9; 70])),
        (
            "extension headers",
            v6().extension(Extension::HopByHop(3)).tcp(HERE, port::NARROW).payload(&[9; 70]),
        ),
        (
            "extension headers longer than a quote",
            v6().extension(Extension::DestinationOptions(20)).tcp(HERE, port::NARROW).payload(&[9; 70]),
        ),
        ("a SYN", v4().tcp(HERE, port::NARROW).syn().option(&[2, 4, 5, 0xb4]).payload(&[9; 70])),
        ("a first fragment", v4().piece(0, true, 300).udp(HERE, port::NARROW).payload(&[9; 80])),
        ("a first IPv6 fragment", v6().piece(0, true, 300).udp(HERE, port::NARROW).payload(&[9; 80])),
    ];
    frames
        .into_iter()
        .map(|(name, frame)| answered(format!("too big: {name}"), eth(), &frame, NARROW))
        .collect()
}

fn refused() -> Vec<Case> {
    let v4 = |source: &str| eth().ipv4(source, VIP).udp(HERE, port::NARROW).payload(&[0; 100]);
    let v6 = |source: &str| eth().ipv6(source, VIP6).udp(HERE, port::NARROW).payload(&[0; 100]);
    let mut cases: Vec<Case> = ["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "255.255.255.255"]
        .into_iter()
        .map(|source| (source, v4(source)))
        .chain(["::", "ff02::1", "ff0e::7"].into_iter().map(|source| (source, v6(source))))
        .map(|(source, frame)| Case::new(format!("too big from {source}, which is no host"), &frame, TooBig))
        .collect();
    for (family, ip) in to_vip() {
        let mute = ip.clone().udp(HERE, port::MUTE).payload(&[0; 100]);
        cases.push(Case::new(format!("{family}: too big where nothing is answered"), &mute, TooBig));
        let narrow = ip.udp(HERE, port::NARROW).payload(&[0; 100]);
        let name = format!("{family}: too big without headroom for an answer");
        cases.push(Case { taken: 200, ..Case::new(name, &narrow, TooBig) });
    }
    cases
}
