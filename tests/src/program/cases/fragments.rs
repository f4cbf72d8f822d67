//! Fragments, one packet each; how later ones follow the first is told by stories.

use vip_lb_common::Verdict::{
    BadTransportHeader, ForwardedIpip, ForwardedL2, FragmentWithoutFirst, FromPeer, NotVip, PeerLoop,
    UnknownService, UnknownServicePassed, UnsupportedIcmp, UnsupportedProtocol,
};

use super::{
    Case,
    forward::{by_l2, outer_v4, outer_v6},
    label, to_vip,
};
use crate::{
    packet::{Extension, Frame, eth},
    program::world::{
        CLIENT, CLIENT6, ENDPOINT, ENDPOINT6, LOCAL_VIP, PEER_MAC, PIECES_VIP, PIECES_VIP6, QUIET_VIP,
        QUIET_VIP6, VIP, VIP6, port,
    },
};

const HERE: u16 = 40_100;
/// Identification of fragments whose first one no case sends.
const STRAY: u16 = 999;

pub(super) fn cases() -> Vec<Case> {
    let families = to_vip().map(|(family, ip)| ([family, ""].concat(), ip));
    let headers = [
        ("IPv4, tagged".to_owned(), eth().service_tag(7).tag(100).ipv4(CLIENT, VIP)),
        ("IPv6, tagged".to_owned(), eth().tag(100).ipv6(CLIENT6, VIP6)),
        ("IPv4 with options".to_owned(), eth().ipv4(CLIENT, VIP).option(&[1; 12])),
        (
            "IPv6 behind other extension headers".to_owned(),
            eth().ipv6(CLIENT6, VIP6).extension(Extension::HopByHop(1)).extension(Extension::Routing(0)),
        ),
    ];
    let mut cases = Vec::new();
    for (family, ip) in families.iter().chain(&headers) {
        cases.extend(first(family, ip));
        cases.extend(stray(family, ip));
    }
    for (family, ip) in families {
        cases.extend(lies(&family, &ip));
    }
    [cases, others()].concat()
}

/// First fragments are steered by their ports.
fn first(family: &str, ip: &Frame) -> Vec<Case> {
    let first = |ttl| ip.clone().ttl(ttl).piece(0, true, 100);
    // Longer than this fragment by what follows in others.
    let udp = |ttl, port| first(ttl).udp(HERE, port).claim_len(3000).payload(&[0x5a; 64]);
    let tcp = |ttl, port| first(ttl).tcp(HERE, port).payload(&[0x5a; 60]);
    vec![
        Case::changed(
            format!("{family}: a first fragment of TCP by l2"),
            &tcp(64, port::L2),
            ForwardedL2,
            &by_l2(tcp(63, port::L2).untagged()),
        ),
        Case::changed(
            format!("{family}: a first fragment of UDP by l2"),
            &udp(64, port::L2),
            ForwardedL2,
            &by_l2(udp(63, port::L2).untagged()),
        ),
        Case::changed(
            format!("{family}: a first fragment of TCP in IPv4"),
            &tcp(64, port::IPIP),
            ForwardedIpip,
            &tcp(63, port::IPIP).inside(outer_v4(eth(), 0)),
        ),
        Case::changed(
            format!("{family}: a first fragment of UDP in IPv6"),
            &udp(64, port::IPIP6),
            ForwardedIpip,
            &udp(63, port::IPIP6).inside(outer_v6(eth(), 0, label(HERE, port::IPIP6))),
        ),
        Case::new(
            format!("{family}: a first fragment to a port without service"),
            &tcp(64, port::UNKNOWN),
            UnknownService,
        ),
    ]
}

/// Later fragments of packets that nothing is known of.
fn stray(family: &str, ip: &Frame) -> Vec<Case> {
    let cases = [("a later fragment", 1480, true), ("a last fragment", 1480, false), ("offset 8", 8, true)];
    cases
        .map(|(name, offset, more)| {
            // Bytes that would be ports of a service, were they a header.
            let stray = ip.clone().piece(offset, more, STRAY).payload(&[0, 80, 0, 80, 0, 80, 0, 80]);
            Case::new(format!("{family}: {name} without a first one"), &stray, FragmentWithoutFirst)
        })
        .to_vec()
}

fn lies(family: &str, ip: &Frame) -> Vec<Case> {
    let first = || ip.clone().piece(0, true, 101);
    let bad = |name: &str, frame: Frame| {
        Case::new(format!("{family}: {name}"), &frame, BadTransportHeader).unsound()
    };
    let tcp: Vec<u8> = first().tcp(HERE, port::L2).bytes();
    let whole = tcp.len();
    let mut cases = vec![
        bad(
            "a first fragment with a TCP header beyond it",
            first().tcp(HERE, port::L2).claim_header_len(24).trailer(&[0; 24]),
        ),
        bad(
            "a first fragment with a TCP header of 16 bytes",
            first().tcp(HERE, port::L2).claim_header_len(16).payload(&[0; 24]),
        ),
        bad(
            "a first fragment of UDP of length 7",
            first().udp(HERE, port::L2).claim_len(7).payload(&[0; 24]),
        ),
        Case::new(
            format!("{family}: a first fragment of ICMP"),
            &first().echo_request(1, 1),
            UnsupportedIcmp,
        ),
        Case::new(
            format!("{family}: a later fragment of ICMP"),
            &icmp_later(family, ip.clone()),
            FragmentWithoutFirst,
        ),
        Case::new(
            format!("{family}: a first fragment of another protocol"),
            &first().payload(&[0; 64]),
            UnsupportedProtocol,
        ),
    ];
    // RFC 1858: ports alone do not make a first fragment, and what lies behind the packet is not part of it.
    for len in [0, 4, 8, 16, 19] {
        let cut =
            if family == "IPv4" { ip.clone().claim_len(20 + len) } else { ip.clone().claim_len(8 + len) };
        let frame = cut.piece(0, true, 102).tcp(HERE, port::L2);
        assert_eq!(frame.bytes().len(), whole);
        cases.push(bad(&format!("a first fragment with {len} bytes of TCP"), frame));
    }
    for len in [0, 4, 7] {
        let cut =
            if family == "IPv4" { ip.clone().claim_len(20 + len) } else { ip.clone().claim_len(8 + len) };
        let frame = cut.piece(0, true, 102).udp(HERE, port::L2).payload(&[0; 8]);
        cases.push(bad(&format!("a first fragment with {len} bytes of UDP"), frame));
    }
    cases
}

/// A later fragment that says so.
fn icmp_later(family: &str, ip: Frame) -> Frame {
    let protocol = if family == "IPv4" { 1 } else { 58 };
    ip.piece(1480, false, STRAY).claim_next(protocol).payload(&[0; 64])
}

fn others() -> Vec<Case> {
    let own = [("IPv4", eth().ipv4(CLIENT, ENDPOINT)), ("IPv6", eth().ipv6(CLIENT6, ENDPOINT6))];
    let mut cases = Vec::new();
    for (family, own) in own {
        let first = || own.clone().piece(0, true, 103);
        cases.extend([
            Case::new(
                format!("{family}: a first fragment to the node itself"),
                &first().tcp(1, 22).payload(&[0; 60]),
                NotVip,
            ),
            Case::new(
                format!("{family}: a first fragment too short for TCP to the node itself"),
                &first().payload(&[0; 8]).claim_next(6),
                NotVip,
            )
            .unsound(),
            Case::new(
                format!("{family}: a first fragment of a tunnelled packet"),
                &first().ipv4(CLIENT, LOCAL_VIP).tcp(1, 80),
                NotVip,
            )
            .unsound(),
            Case::new(
                format!("{family}: a later fragment to the node itself"),
                &own.clone().piece(1480, false, 103).payload(&[0; 64]),
                NotVip,
            ),
        ]);
    }
    let from_peer = |vip: &str| eth().from_mac(PEER_MAC).ipv4(CLIENT, vip);
    let strays = [("IPv4", eth().ipv4(CLIENT, PIECES_VIP), 6), ("IPv6", eth().ipv6(CLIENT6, PIECES_VIP6), 6)];
    for (family, ip, tcp) in strays {
        cases.push(Case::new(
            format!("{family}: a stray fragment of TCP where only UDP takes them"),
            &ip.piece(1480, false, STRAY).claim_next(tcp).payload(&[0; 64]),
            FragmentWithoutFirst,
        ));
    }
    cases.extend([
        Case::new(
            "a later fragment where unknown services are passed",
            &eth().ipv4(CLIENT, QUIET_VIP).piece(1480, false, STRAY).payload(&[0; 64]),
            UnknownServicePassed,
        ),
        Case::new(
            "a later IPv6 fragment where unknown services are passed",
            &eth().ipv6(CLIENT6, QUIET_VIP6).piece(1480, false, STRAY).payload(&[0; 64]),
            UnknownServicePassed,
        ),
        Case::new(
            "a later fragment from a peer to a backend here",
            &from_peer(LOCAL_VIP).piece(1480, false, STRAY).payload(&[0; 64]),
            FromPeer,
        ),
        Case::new(
            "a later fragment from a peer, but no backend is here",
            &from_peer(VIP).piece(1480, false, STRAY).payload(&[0; 64]),
            PeerLoop,
        ),
        Case::new(
            "a first fragment from a peer to a backend here",
            &from_peer(LOCAL_VIP).piece(0, true, STRAY).udp(1, 80).payload(&[0; 64]),
            FromPeer,
        ),
    ]);
    cases
}
