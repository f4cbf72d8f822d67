//! What comes out of a tunnel: in the decapsulator, and in a balancer that is also a backend.

use vip_lb_common::Verdict::{
    DecapCongestion, DecapDestination, DecapInner, DecapSource, Decapsulated, NotVip, ShortFrame,
};

use super::{Case, Program};
use crate::{
    packet::{Extension, Frame, eth},
    program::{
        scenario::GUE_PORT,
        world::{CLIENT, CLIENT6, ENDPOINT, ENDPOINT6, LOCAL_VIP, LOCAL_VIP6, PEER, PEER6},
    },
};

pub(super) fn cases() -> Vec<Case> {
    let both = [tunnels(), congestion(), refused()].concat();
    let decapsulator = both
        .iter()
        .cloned()
        .map(|case| Case { name: format!("decapsulator: {}", case.name), ..case.decapsulated() });
    [decapsulator.collect(), both.clone(), untouched()].concat()
}

fn outers(link: &Frame) -> [(&'static str, Frame); 8] {
    let (v4, v6) = (link.clone().ipv4(PEER, ENDPOINT), link.clone().ipv6(PEER6, ENDPOINT6));
    [
        ("IPv4", v4.clone()),
        ("IPv6", v6.clone()),
        ("IPv4 and UDP", v4.clone().udp(50_000, GUE_PORT).claim_checksum(0)),
        ("IPv6 and UDP", v6.clone().udp(50_000, GUE_PORT).claim_checksum(0)),
        ("IPv4, UDP and options", v4.clone().option(&[1; 8]).udp(50_000, GUE_PORT)),
        ("IPv6 and UDP with a checksum", v6.udp(50_000, GUE_PORT)),
        ("IPv4 with options", v4.option(&[1; 12])),
        ("IPv4 with another TTL", link.clone().ipv4(PEER, ENDPOINT).ttl(1).may_fragment()),
    ]
}

fn inners(link: &Frame) -> [(&'static str, Frame); 2] {
    [("IPv4", link.clone().ipv4(CLIENT, LOCAL_VIP)), ("IPv6", link.clone().ipv6(CLIENT6, LOCAL_VIP6))]
}

fn tunnels() -> Vec<Case> {
    let mut cases = Vec::new();
    // GUE variant 0: a header of its own, plain.
    for (protocol, (inner_name, inner)) in [4_u8, 41].into_iter().zip(inners(&eth())) {
        let inner = inner.tcp(40_000, 80).payload(b"GET /");
        let bytes = inner.bytes();
        let frame = eth()
            .ipv4(PEER, ENDPOINT)
            .udp(50_000, GUE_PORT)
            .payload(&[0, protocol, 0, 0])
            .payload(&bytes[14..]);
        cases.push(Case::changed(format!("{inner_name} out of GUE variant 0"), &frame, Decapsulated, &inner));
    }
    let links = [("no tag", eth()), ("one tag", eth().tag(100)), ("two tags", eth().service_tag(7).tag(100))];
    for (tags, link) in &links {
        for (outer_name, outer) in outers(link) {
            for (inner_name, inner) in inners(link) {
                let inner = inner.ttl(9).traffic_class(0x29).tcp(40_000, 80).payload(b"GET /");
                cases.push(Case::changed(
                    format!("{inner_name} out of {outer_name} with {tags}"),
                    &inner.clone().inside(outer.clone().traffic_class(0x29)),
                    Decapsulated,
                    &inner,
                ));
                let padded = inner.trailer(&[0; 9]);
                cases.push(Case::changed(
                    format!("{inner_name} out of {outer_name} with {tags} and padding"),
                    &padded.clone().inside(outer.clone()),
                    Decapsulated,
                    &padded,
                ));
            }
        }
    }
    cases
}

/// RFC 6040, figure 4.
fn congestion() -> Vec<Case> {
    const NOT_ECT: u8 = 0;
    const ECT_1: u8 = 1;
    const ECT_0: u8 = 2;
    const CE: u8 = 3;
    let mut cases = Vec::new();
    for (inner, row) in [
        (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
        (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
        (ECT_0, [Some(ECT_0), Some(ECT_1), Some(ECT_0), Some(CE)]),
        (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
    ] {
        for (outer, left) in (0_u8..).zip(row) {
            for (outer_name, outside) in outers(&eth()) {
                for (inner_name, ip) in inners(&eth()) {
                    let packet = |ecn| ip.clone().traffic_class(0xb8 | ecn).udp(1, 2).payload(b"x");
                    let frame = packet(inner).inside(outside.clone().traffic_class(outer));
                    let name = format!("{inner_name} with ECN {inner} out of {outer_name} with ECN {outer}");
                    cases.push(match left {
                        Some(ecn) => Case::changed(name, &frame, Decapsulated, &packet(ecn)),
                        None => Case::new(name, &frame, DecapCongestion),
                    });
                }
            }
        }
    }
    cases
}

fn refused() -> Vec<Case> {
    let v4 = || eth().ipv4(PEER, ENDPOINT);
    let v6 = || eth().ipv6(PEER6, ENDPOINT6);
    let inner = || eth().ipv4(CLIENT, LOCAL_VIP).tcp(1, 80);
    let gue = || v4().udp(50_000, GUE_PORT);
    let stranger = eth().ipv4("10.77.0.3", ENDPOINT);
    vec![
        Case::new("a tunnel of a stranger", &inner().inside(eth().ipv4("10.77.0.3", ENDPOINT)), DecapSource),
        Case::new(
            "an IPv6 tunnel of a stranger",
            &inner().inside(eth().ipv6("2001:db8:77::e3", ENDPOINT6)),
            DecapSource,
        ),
        Case::new("for somebody else", &v4().ipv4(CLIENT, "10.9.9.9").tcp(1, 80), DecapDestination),
        Case::new(
            "for somebody else, IPv6",
            &v6().ipv6(CLIENT6, "2001:db8::99").tcp(1, 80),
            DecapDestination,
        ),
        Case::new("inner IPv4 cut short", &v4().claim_next(4).payload(&[0x45; 19]), DecapInner).unsound(),
        Case::new("inner IPv6 cut short", &v4().claim_next(41).payload(&[0x60; 39]), DecapInner).unsound(),
        Case::new(
            "inner IPv4 that reaches into padding",
            &v6().claim_next(4).payload(&[0x45; 19]).trailer(&[0; 30]),
            DecapInner,
        )
        .unsound(),
        Case::new(
            "inner IPv4 that is IPv6",
            &v4().claim_next(4).ipv6(CLIENT6, LOCAL_VIP6).tcp(1, 80),
            DecapInner,
        )
        .unsound(),
        Case::new(
            "inner IPv6 that is IPv4",
            &v6().claim_next(41).ipv4(CLIENT, LOCAL_VIP).tcp(1, 80).payload(&[0; 9]),
            DecapInner,
        )
        .unsound(),
        Case::new("nothing in the tunnel", &v4().claim_next(4), DecapInner).unsound(),
        Case::new("nothing in UDP", &gue(), DecapInner),
        Case::new("three bytes in UDP", &gue().payload(&[0x45; 3]), DecapInner),
        Case::new("inner IPv4 cut short in UDP", &gue().payload(&[0x45; 19]), DecapInner),
        Case::new("inner IPv6 cut short in UDP", &gue().payload(&[0x60; 39]), DecapInner),
        Case::new("a GUE control message", &gue().payload(&[0x20, 0, 0, 0]).payload(&[0; 40]), DecapInner),
        Case::new("GUE with fields", &gue().payload(&[0x01, 4, 0, 0]).payload(&[0x45; 40]), DecapInner),
        Case::new("GUE with flags", &gue().payload(&[0, 4, 0, 1]).payload(&[0x45; 40]), DecapInner),
        Case::new("GUE of another version", &gue().payload(&[0xc0; 44]), DecapInner),
        Case::new(
            "GUE with something else inside",
            &gue().payload(&[0, 17, 0, 0]).payload(&[0; 40]),
            DecapInner,
        ),
        Case::new("GUE of a stranger", &inner().inside(stranger.udp(50_000, GUE_PORT)), DecapSource),
        Case::new("another UDP port", &inner().inside(v4().udp(50_000, GUE_PORT + 1)), NotVip),
    ]
}

fn untouched() -> Vec<Case> {
    let decapsulator = |name: &str, frame: Frame, verdict| Case {
        program: Program::Decapsulator,
        ..Case::new(format!("decapsulator: {name}"), &frame, verdict)
    };
    vec![
        decapsulator("ordinary TCP", eth().ipv4(CLIENT, LOCAL_VIP).tcp(1, 80), NotVip),
        decapsulator("ordinary TCP over IPv6", eth().ipv6(CLIENT6, LOCAL_VIP6).tcp(1, 80), NotVip),
        decapsulator("ARP", crate::packet::arp_request(CLIENT, LOCAL_VIP), NotVip),
        decapsulator("another EtherType", eth().payload(&[0; 46]), NotVip),
        decapsulator(
            "a fragment of a tunnel",
            eth().ipv4(PEER, ENDPOINT).fragment(0, true).ipv4(CLIENT, LOCAL_VIP).tcp(1, 80),
            NotVip,
        ),
        decapsulator(
            "a tunnel behind an extension header",
            eth().ipv6(PEER6, ENDPOINT6).extension(Extension::HopByHop(0)).ipv4(CLIENT, LOCAL_VIP).tcp(1, 80),
            NotVip,
        ),
        decapsulator(
            "UDP that says more than its packet",
            eth()
                .ipv4(PEER, ENDPOINT)
                .udp(50_000, GUE_PORT)
                .claim_len(900)
                .ipv4(CLIENT, LOCAL_VIP)
                .tcp(1, 80),
            DecapInner,
        )
        .unsound(),
        Case::new(
            "UDP to this host that says more than its packet",
            &eth().ipv4(PEER, ENDPOINT).udp(50_000, GUE_PORT).claim_len(900).payload(b"x"),
            NotVip,
        )
        .unsound(),
        decapsulator("an Ethernet header alone", eth().claim_next(0x0800), ShortFrame).unsound(),
        Case {
            program: Program::Decapsulator,
            ..Case::new(
                "decapsulator: a tunnel longer than its frame",
                &eth().ipv4(PEER, ENDPOINT).claim_len(999).ipv4(CLIENT, LOCAL_VIP).tcp(1, 80),
                vip_lb_common::Verdict::BadLength,
            )
            .unsound()
        },
    ]
}
