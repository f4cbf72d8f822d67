//! What is passed untouched or dropped.

use vip_lb_common::Verdict::{
    BackendGone, ExtensionHeaders, FromPeer, LocalBackend, NoBackend, NoHeadroom, NotConfigured, NotIp,
    NotVip, PeerLoop, ShortFrame, TagMismatch, TtlExpired, UnknownService, UnknownServicePassed, Unresolved,
    UnsupportedProtocol,
};

use super::{Case, Tables, sent_to, to_vip};
use crate::{
    packet::{Extension, Frame, arp_request, eth},
    program::world::{
        self, CLIENT, CLIENT6, ENDPOINT, ENDPOINT6, LOCAL_VIP, LOCAL_VIP6, NEXT_HOP, PEER, PEER_MAC,
        QUIET_VIP, VIP, VIP6, port,
    },
};

pub(super) fn cases() -> Vec<Case> {
    [others(), services(), unsupported(), peers()].concat()
}

fn others() -> Vec<Case> {
    let v4 = eth().ipv4(CLIENT, "198.51.100.1");
    vec![
        Case::new("IPv4 to another address", &v4.clone().tcp(1, 80), NotVip),
        Case::new("IPv6 to another address", &eth().ipv6(CLIENT6, "2001:db8::99").tcp(1, 80), NotVip),
        Case::new("from a VIP", &eth().ipv4(VIP, CLIENT).tcp(80, 1), NotVip),
        Case::new("a fragment to another address", &v4.clone().fragment(8, true).payload(&[0; 64]), NotVip),
        Case::new("nonsense to another address", &v4.claim_version(9).claim_len(9).tcp(1, 80), NotVip)
            .unsound(),
        Case::new("multicast", &eth().ipv6(CLIENT6, "ff02::1").udp(1, 2), NotVip),
        Case::new("all routers", &eth().ipv6(CLIENT6, "ff02::2").udp(1, 2), NotVip),
        Case::new("another EtherType", &eth().payload(&[0; 46]), NotIp),
        Case::new("three tags", &eth().tag(1).tag(2).tag(3).ipv4(CLIENT, VIP).tcp(1, 80), NotIp),
        Case::of_bytes("an Ethernet header alone", eth().claim_next(0x0800).bytes(), ShortFrame).unsound(),
        Case::of_bytes(
            "an IPv4 header cut short",
            eth().ipv4(CLIENT, VIP).bytes()[..33].to_vec(),
            ShortFrame,
        )
        .unsound(),
        Case::of_bytes(
            "an IPv6 header cut short",
            eth().ipv6(CLIENT6, VIP6).bytes()[..53].to_vec(),
            ShortFrame,
        )
        .unsound(),
        Case::of_bytes("a tag cut short", eth().tag(1).tag(2).bytes()[..20].to_vec(), ShortFrame).unsound(),
        Case::of_bytes("ARP cut short", arp_request(CLIENT, VIP).bytes()[..41].to_vec(), ShortFrame)
            .unsound(),
        Case::new("the node's own traffic", &eth().ipv4(CLIENT, ENDPOINT).tcp(1, 22), NotVip),
        Case::new("the node's own IPv6 traffic", &eth().ipv6(CLIENT6, ENDPOINT6).tcp(1, 22), NotVip),
        Case::new(
            "a fragment to the node itself",
            &eth().ipv4(CLIENT, ENDPOINT).fragment(1480, false).payload(&[0; 64]),
            NotVip,
        ),
        Case::new(
            "an IPv6 fragment to the node itself",
            &eth().ipv6(CLIENT6, ENDPOINT6).extension(fragment(1480, false)).payload(&[0; 64]),
            NotVip,
        ),
        Case::new(
            "a bad length to the node itself",
            &eth().ipv4(CLIENT, ENDPOINT).claim_len(999).udp(1, 2),
            NotVip,
        )
        .unsound(),
    ]
}

fn fragment(offset: u16, more: bool) -> Extension {
    Extension::Fragment { offset, more, id: 7 }
}

fn services() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, to_vip) in to_vip() {
        let tcp = |port| to_vip.clone().tcp(40_000, port);
        let fates = [
            (port::UNKNOWN, UnknownService),
            (0, UnknownService),
            (port::EMPTY, NoBackend),
            (port::RINGLESS, NoBackend),
            (port::GONE, BackendGone),
            (port::UNRESOLVED, Unresolved),
            (port::LOCAL, LocalBackend),
        ];
        for (port, verdict) in fates {
            cases.push(Case::new(format!("{family}: TCP to port {port}"), &tcp(port), verdict));
        }
        cases.push(Case::new(
            format!("{family}: UDP to a port of TCP"),
            &to_vip.clone().udp(40_000, port::EMPTY),
            UnknownService,
        ));
        for ttl in [0, 1] {
            for port in [port::L2, port::IPIP, port::IPIP6] {
                cases.push(Case::new(
                    format!("{family}: hop limit {ttl} at port {port}"),
                    &to_vip.clone().ttl(ttl).tcp(40_000, port),
                    TtlExpired,
                ));
            }
        }
        let tagged = match family {
            "IPv4" => eth().tag(100).ipv4(CLIENT, VIP),
            _ => eth().tag(100).ipv6(CLIENT6, VIP6),
        };
        for port in [port::ELSEWHERE, port::ELSEWHERE6] {
            cases.push(Case::new(
                format!("{family}: a tag on the way to another interface at port {port}"),
                &tagged.clone().tcp(40_000, port),
                TagMismatch,
            ));
        }
        for port in [port::IPIP, port::IPIP6] {
            cases.push(Case {
                taken: 200,
                ..Case::new(format!("{family}: no headroom at port {port}"), &tcp(port), NoHeadroom)
            });
        }
        cases.push(
            Case::new(format!("{family}: no settings"), &tcp(port::L2), NotConfigured)
                .with(Tables::WithoutSettings),
        );
    }
    cases.push(Case::new(
        "an unknown service that is passed",
        &eth().ipv4(CLIENT, QUIET_VIP).tcp(1, port::UNKNOWN),
        UnknownServicePassed,
    ));
    cases.push(Case::new(
        "UDP to a service of every TCP port",
        &eth().ipv4(CLIENT, world::ANY_PORT_VIP).udp(1, 82),
        UnknownService,
    ));
    cases
}

fn unsupported() -> Vec<Case> {
    let v4 = || eth().ipv4(CLIENT, VIP);
    let v6 = || eth().ipv6(CLIENT6, VIP6);
    let seven = (0..7).fold(v6(), |frame, _| frame.extension(Extension::DestinationOptions(0)));
    vec![
        Case::new("seven extension headers", &seven.tcp(1, 80), ExtensionHeaders),
        Case::new("another protocol", &v4().payload(&[0; 64]), UnsupportedProtocol),
        Case::new("another protocol over IPv6", &v6().payload(&[0; 64]), UnsupportedProtocol),
        Case::new("no next header", &v6().claim_next(59), UnsupportedProtocol),
        Case::new("a tunnel to a VIP", &v4().ipv4(CLIENT, VIP).tcp(1, 80), UnsupportedProtocol),
    ]
}

fn peers() -> Vec<Case> {
    let peer = |from: &str, to: &str| eth().from_mac(PEER_MAC).ipv4(from, to);
    let own = |ttl| peer(PEER, VIP).ttl(ttl).tcp(40_000, port::L2);
    let forwarded = |frame: Frame| frame.tcp(40_000, 80);
    vec![
        Case::new("from a peer to a backend here", &forwarded(peer(CLIENT, LOCAL_VIP)), FromPeer),
        Case::new(
            "IPv6 from a peer to a backend here",
            &forwarded(eth().from_mac(PEER_MAC).ipv6(CLIENT6, LOCAL_VIP6)),
            FromPeer,
        ),
        Case::new("UDP from a peer to a backend here", &peer(CLIENT, LOCAL_VIP).udp(1, 2), FromPeer),
        Case::new("from a peer, but no backend is here", &forwarded(peer(CLIENT, VIP)), PeerLoop),
        Case::new("a peer's own packet to another VIP", &forwarded(peer(PEER, LOCAL_VIP)), LocalBackend),
        Case::changed(
            "a peer as a client",
            &own(64),
            vip_lb_common::Verdict::ForwardedL2,
            &sent_to(own(63), NEXT_HOP),
        ),
        Case::new("from a peer to another address", &forwarded(peer(CLIENT, "198.51.100.1")), NotVip),
    ]
}
