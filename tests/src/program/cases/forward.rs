//! What is forwarded, and with which bytes.

use vip_lb_common::Verdict::{BackendGone, ForwardedIpip, ForwardedL2, UnknownService};

use super::{Case, label, sent_to, to_vip};
use crate::{
    packet::{Extension, Frame, eth},
    program::world::{self, FAR, FAR6, NEXT_HOP, TUNNEL, TUNNEL6, port},
};

const HERE: u16 = 40_000;

pub(super) fn cases() -> Vec<Case> {
    [l2(), ipip(), tags(), headers(), services()].concat()
}

/// The frame on its way to the backend of [`port::L2`], its hop limit set by the caller.
pub(super) fn by_l2(frame: Frame) -> Frame {
    sent_to(frame, NEXT_HOP)
}

pub(super) fn outer_v4(link: Frame, traffic_class: u8) -> Frame {
    sent_to(link, NEXT_HOP).ipv4(TUNNEL, FAR).traffic_class(traffic_class)
}

pub(super) fn outer_v6(link: Frame, traffic_class: u8, label: u32) -> Frame {
    sent_to(link, NEXT_HOP).ipv6(TUNNEL6, FAR6).traffic_class(traffic_class).flow_label(label)
}

fn l2() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, to_vip) in to_vip() {
        for (ttl, left) in [(64, 63), (255, 254), (2, 1)] {
            let tcp = |ttl| to_vip.clone().ttl(ttl).tcp(HERE, port::L2).payload(b"GET /");
            cases.push(Case::changed(
                format!("{family}: TCP by l2 with hop limit {ttl}"),
                &tcp(ttl),
                ForwardedL2,
                &by_l2(tcp(left)),
            ));
        }
        let syn = |ttl| to_vip.clone().ttl(ttl).tcp(HERE, port::L2).syn().option(&[2, 4, 5, 0xb4]);
        cases.push(Case::changed(format!("{family}: SYN by l2"), &syn(64), ForwardedL2, &by_l2(syn(63))));
        let udp = |ttl| to_vip.clone().ttl(ttl).udp(HERE, port::L2).payload(b"?");
        cases.push(Case::changed(format!("{family}: UDP by l2"), &udp(64), ForwardedL2, &by_l2(udp(63))));
        let empty = |ttl| to_vip.clone().ttl(ttl).udp(HERE, port::L2).pad_to(60);
        cases.push(Case::changed(
            format!("{family}: empty UDP by l2, padded"),
            &empty(64),
            ForwardedL2,
            &by_l2(empty(63)),
        ));
        let trailed = |ttl| to_vip.clone().ttl(ttl).tcp(HERE, port::L2).trailer(b"check sequence");
        cases.push(Case::changed(
            format!("{family}: a trailer is kept by l2"),
            &trailed(64),
            ForwardedL2,
            &by_l2(trailed(63)),
        ));
        let elsewhere = |ttl| to_vip.clone().ttl(ttl).tcp(HERE, port::ELSEWHERE);
        cases.push(
            Case::changed(
                format!("{family}: l2 by another interface"),
                &elsewhere(64),
                ForwardedL2,
                &by_l2(elsewhere(63)),
            )
            .egress(world::OTHER_INTERFACE),
        );
    }
    // Every checksum that the header can have: decrementing the TTL must carry end-around.
    for id in [0x0000, 0x1234, 0x8e77, 0x8e78, 0x8f77, 0x8f78, 0x8f79, 0xffff] {
        let tcp = |ttl| eth().ipv4(world::CLIENT, world::VIP).id(id).ttl(ttl).tcp(HERE, port::L2);
        cases.push(Case::changed(
            format!("the IPv4 checksum is mended for identification {id:#x}"),
            &tcp(64),
            ForwardedL2,
            &by_l2(tcp(63)),
        ));
    }
    cases
}

fn ipip() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, to_vip) in to_vip() {
        // Expedited forwarding with ECT(1), and best effort with congestion experienced: the outer header tells both (RFC 6040).
        for traffic_class in [0, 0xb9, 0x03] {
            let tcp = |ttl, port| {
                let ip = to_vip.clone().traffic_class(traffic_class).ttl(ttl);
                ip.tcp(HERE, port).payload(b"GET /")
            };
            cases.push(Case::changed(
                format!("{family} in IPv4 with traffic class {traffic_class:#x}"),
                &tcp(64, port::IPIP),
                ForwardedIpip,
                &tcp(63, port::IPIP).inside(outer_v4(eth(), traffic_class)),
            ));
            cases.push(Case::changed(
                format!("{family} in IPv6 with traffic class {traffic_class:#x}"),
                &tcp(64, port::IPIP6),
                ForwardedIpip,
                &tcp(63, port::IPIP6).inside(outer_v6(eth(), traffic_class, label(HERE, port::IPIP6))),
            ));
        }
        for (outer, destination) in [("IPv4", port::IPIP), ("IPv6", port::IPIP6)] {
            let outside = || match outer {
                "IPv4" => outer_v4(eth(), 0),
                _ => outer_v6(eth(), 0, label(HERE, destination)),
            };
            let padded = |ttl| to_vip.clone().ttl(ttl).udp(HERE, destination).payload(b"!").trailer(&[0; 17]);
            cases.push(Case::changed(
                format!("{family} in {outer}: padding is not counted"),
                &padded(64),
                ForwardedIpip,
                &padded(63).inside(outside()),
            ));
            // Outer and inner header make 1500 bytes exactly.
            let room =
                1500 - if outer == "IPv4" { 20 } else { 40 } - if family == "IPv4" { 20 } else { 40 } - 8;
            let full = |ttl| to_vip.clone().ttl(ttl).udp(HERE, destination).payload(&vec![0x5a; room]);
            cases.push(Case::changed(
                format!("{family} in {outer}: the largest that fits"),
                &full(64),
                ForwardedIpip,
                &full(63).inside(outside()),
            ));
        }
        let elsewhere = |ttl| to_vip.clone().ttl(ttl).tcp(HERE, port::ELSEWHERE6);
        cases.push(
            Case::changed(
                format!("{family} in IPv6 by another interface"),
                &elsewhere(64),
                ForwardedIpip,
                &elsewhere(63).inside(outer_v6(eth(), 0, label(HERE, port::ELSEWHERE6))),
            )
            .egress(world::OTHER_INTERFACE),
        );
    }
    cases
}

fn tags() -> Vec<Case> {
    let mut cases = Vec::new();
    let links = [
        ("one tag", eth().tag(100 | 5 << 13)),
        ("a service tag", eth().service_tag(7)),
        ("two tags", eth().service_tag(7).tag(100)),
        ("two customer tags", eth().tag(7).tag(100)),
    ];
    for (name, link) in links {
        let families = [
            ("IPv4", link.clone().ipv4(world::CLIENT, world::VIP)),
            ("IPv6", link.clone().ipv6(world::CLIENT6, world::VIP6)),
        ];
        for (family, to_vip) in families {
            let tcp = |ttl, port| to_vip.clone().ttl(ttl).tcp(HERE, port).payload(b"x");
            cases.extend([
                Case::changed(
                    format!("{family} by l2 keeps {name}"),
                    &tcp(64, port::L2),
                    ForwardedL2,
                    &by_l2(tcp(63, port::L2)),
                ),
                Case::changed(
                    format!("{family} in IPv4 keeps {name}"),
                    &tcp(64, port::IPIP),
                    ForwardedIpip,
                    &tcp(63, port::IPIP).inside(outer_v4(link.clone(), 0)),
                ),
                Case::changed(
                    format!("{family} in IPv6 keeps {name}"),
                    &tcp(64, port::IPIP6),
                    ForwardedIpip,
                    &tcp(63, port::IPIP6).inside(outer_v6(link.clone(), 0, label(HERE, port::IPIP6))),
                ),
            ]);
        }
    }
    cases
}

fn headers() -> Vec<Case> {
    let v4 = || eth().ipv4(world::CLIENT, world::VIP);
    let v6 = || eth().ipv6(world::CLIENT6, world::VIP6);
    let hop = Extension::HopByHop;
    let options = Extension::DestinationOptions;
    let atomic = Extension::atomic_fragment;
    let with = |extensions: &[Extension]| extensions.iter().cloned().fold(v6(), Frame::extension);
    let ips = [
        ("one IPv4 option", v4().option(&[7, 7, 4, 0, 0, 0, 0])),
        ("forty bytes of IPv4 options", v4().option(&[1; 40])),
        ("IPv4 that may be fragmented", v4().may_fragment().id(77)),
        ("hop-by-hop options", with(&[hop(0)])),
        ("long destination options", with(&[options(20)])),
        ("a routing header", with(&[Extension::Routing(2)])),
        ("an atomic fragment", with(&[atomic()])),
        (
            "six extension headers",
            with(&[hop(1), options(0), Extension::Routing(0), atomic(), options(1), options(0)]),
        ),
    ];
    let mut cases = Vec::new();
    for (name, ip) in ips {
        // The words of the transport would mean an extension header's frame: set the hop limit while the IP header is near.
        let tcp = |ttl, port| ip.clone().ttl(ttl).tcp(HERE, port).payload(b"x");
        let udp = |ttl, port| ip.clone().ttl(ttl).udp(HERE, port).payload(b"x");
        cases.extend([
            Case::changed(
                format!("{name}: TCP by l2"),
                &tcp(64, port::L2),
                ForwardedL2,
                &by_l2(tcp(63, port::L2)),
            ),
            Case::changed(
                format!("{name}: UDP by l2"),
                &udp(64, port::L2),
                ForwardedL2,
                &by_l2(udp(63, port::L2)),
            ),
            Case::changed(
                format!("{name}: TCP in IPv4"),
                &tcp(64, port::IPIP),
                ForwardedIpip,
                &tcp(63, port::IPIP).inside(outer_v4(eth(), 0)),
            ),
            Case::changed(
                format!("{name}: UDP in IPv6"),
                &udp(64, port::IPIP6),
                ForwardedIpip,
                &udp(63, port::IPIP6).inside(outer_v6(eth(), 0, label(HERE, port::IPIP6))),
            ),
        ]);
    }
    let long = |ttl| v4().ttl(ttl).tcp(HERE, port::L2).option(&[1; 40]).payload(b"x");
    cases.push(Case::changed("a TCP header of 60 bytes", &long(64), ForwardedL2, &by_l2(long(63))));
    // A router does not look at the transport's checksum, and UDP over IPv4 needs none.
    let bare = |ttl| v4().ttl(ttl).udp(HERE, port::L2).claim_checksum(0).payload(b"x");
    cases.push(Case::changed("UDP without checksum", &bare(64), ForwardedL2, &by_l2(bare(63))).unsound());
    let short = |ttl| v4().ttl(ttl).udp(HERE, port::L2).claim_len(9).payload(b"xyz");
    cases.push(
        Case::changed("UDP shorter than its packet", &short(64), ForwardedL2, &by_l2(short(63))).unsound(),
    );
    cases
}

fn services() -> Vec<Case> {
    let any = |ttl, port| eth().ipv4(world::CLIENT, world::ANY_PORT_VIP).ttl(ttl).tcp(HERE, port);
    let mut cases = ranges();
    let quiet = |ttl| eth().ipv4(world::CLIENT, world::QUIET_VIP).ttl(ttl).tcp(HERE, 80);
    cases.extend([
        Case::changed(
            "a VIP's own service comes before PORTS",
            &any(64, 80),
            ForwardedL2,
            &by_l2(any(63, 80)),
        ),
        Case::changed(
            "a service of a port comes before the one of every port",
            &any(64, 81),
            ForwardedIpip,
            &any(63, 81).inside(outer_v6(eth(), 0, label(HERE, 81))),
        ),
        Case::changed(
            "the service of every port takes the rest",
            &any(64, 82),
            ForwardedIpip,
            &any(63, 82).inside(outer_v4(eth(), 0)),
        ),
        Case::changed(
            "the service of every port takes port 0",
            &any(64, 0),
            ForwardedIpip,
            &any(63, 0).inside(outer_v4(eth(), 0)),
        ),
        Case::changed(
            "services are served where nobody answers ARP",
            &quiet(64),
            ForwardedL2,
            &by_l2(quiet(63)),
        ),
    ]);
    cases
}

fn ranges() -> Vec<Case> {
    let mut cases = Vec::new();
    let families = [
        ("IPv4", eth().ipv4(world::CLIENT, world::RANGE_VIP)),
        ("IPv6", eth().ipv6(world::CLIENT6, world::RANGE_VIP6)),
    ];
    for (family, to_vip) in families {
        let tcp = |ttl, port| to_vip.clone().ttl(ttl).tcp(HERE, port);
        for offset in [0, 2, 3, 6, 7] {
            let port = port::IN_RANGE + offset;
            cases.push(Case::changed(
                format!("{family}: port {port} of a range"),
                &tcp(64, port),
                ForwardedL2,
                &by_l2(tcp(63, port)),
            ));
        }
        for port in [port::NARROWER, port::NARROWER + 1] {
            cases.push(Case::changed(
                format!("{family}: port {port} of a range inside another"),
                &tcp(64, port),
                ForwardedIpip,
                &tcp(63, port).inside(outer_v4(eth(), 0)),
            ));
        }
        let known = port::IN_RANGE + 1;
        cases.push(Case::changed(
            format!("{family}: a service of a port comes before those of ranges"),
            &tcp(64, known),
            ForwardedIpip,
            &tcp(63, known).inside(outer_v6(eth(), 0, label(HERE, known))),
        ));
        for port in [0, port::IN_RANGE - 1, port::IN_RANGE + 8, u16::MAX] {
            let name = format!("{family}: port {port} outside of every range");
            cases.push(Case::new(name, &tcp(64, port), BackendGone));
        }
        let udp = to_vip.clone().udp(HERE, port::IN_RANGE);
        cases.push(Case::new(format!("{family}: UDP to a range of TCP"), &udp, UnknownService));
    }
    cases
}
