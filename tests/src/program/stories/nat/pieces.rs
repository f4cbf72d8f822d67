//! What is no packet of a connection by itself: ICMP errors that quote one, and fragments of one.

use std::collections::HashMap;

use vip_lb_common::{
    Verdict,
    abi::{FlowKey, NatFlow},
};

use super::{
    super::super::{
        INGRESS, Outcome,
        world::{
            CLIENT, NEXT_HOP,
            nat::{BACKEND, BACKEND6, FIRST_PORT, HOST, MOVED_TO, NODE, NODE6, VIP, port},
        },
    },
    ACROSS, Story, V4, V4_TO_V6, V6, WITHIN, ip,
};
use crate::packet::{Frame, eth};

/// "Packet too big" of either family, begun.
fn too_big(ip: Frame) -> Frame {
    if ip.is_v4() { ip.icmp(3, 4, [0, 0, 5, 0x78]) } else { ip.icmp(2, 0, [0, 0, 5, 0x78]) }
}

pub(super) fn errors_are_translated_both_ways(story: &mut Story) {
    type Transport = fn(Frame, u16, u16) -> Frame;
    let transports: [(&str, Transport); 2] = [
        ("TCP", |ip, from, to| ip.tcp(from, to).syn()),
        ("UDP", |ip, from, to| ip.udp(from, to).payload(b"?")),
    ];
    for ends in WITHIN {
        for (protocol, transport) in transports {
            let name = |what: &str| format!("{}, {protocol}: {what}", ends.name);
            let node_port = story.opens(&name("begins"), &transport(ends.dialled(), 1000, port::MOVED));
            let before = story.pair.state();
            story.pair.set_tick(150);
            let data = |ip, from, to| transport(ip, from, to).payload(&[0x5a; 500]);
            // A router on the way to the client, about an answer.
            let router = if ends.client == CLIENT { "198.51.100.1" } else { "2001:db8:f::1" };
            story.forwards(
                &name("from a router on the client's side"),
                &data(
                    ip(too_big(ip(eth(), router, ends.vip)), ends.vip, ends.client).ttl(3),
                    port::MOVED,
                    1000,
                ),
                &data(ip(too_big(ends.forwarded()), ends.backend, ends.node).ttl(3), MOVED_TO, node_port),
            );
            // One on the way to the backend, about a client's packet.
            story.returns(
                &name("from a router on the backend's side"),
                &data(
                    ip(too_big(ip(eth(), router, ends.node)), ends.node, ends.backend).ttl(9),
                    node_port,
                    MOVED_TO,
                ),
                &data(ip(too_big(ends.returned()), ends.client, ends.vip).ttl(9), 1000, port::MOVED),
            );
            // Routers need not quote more than eight bytes of the transport (RFC 792).
            let start = |ip: Frame, from: u16, to: u16| {
                let [a, b] = from.to_be_bytes();
                let [c, d] = to.to_be_bytes();
                ip.claim_next(6).payload(&[a, b, c, d, 1, 2, 3, 4])
            };
            if protocol == "TCP" {
                story.forwards(
                    &name("that quotes eight bytes"),
                    &start(
                        ip(too_big(ip(eth(), router, ends.vip)), ends.vip, ends.client),
                        port::MOVED,
                        1000,
                    ),
                    &start(ip(too_big(ends.forwarded()), ends.backend, ends.node), MOVED_TO, node_port),
                );
            }
            let end = too_big(ip(eth(), router, ends.vip).ttl(1));
            story.ends(
                &name("with no hop left"),
                &data(ip(end, ends.vip, ends.client), port::MOVED, 1000),
                Verdict::TtlExpired,
            );
            let after = story.pair.state();
            assert_eq!(before.nat_flows, after.nat_flows, "an error is no sign of life");
            assert_eq!(before.nat_replies, after.nat_replies, "an error is no sign of life");
        }
    }
    let bare = |ip: Frame, from, to| ip.udp(from, to).claim_checksum(0).payload(b"?");
    let node_port = story.opens("UDP", &V4.dialled().udp(2000, port::KEPT));
    story.forwards(
        "about UDP without checksum",
        &bare(ip(too_big(V4.dialled()), VIP, CLIENT), port::KEPT, 2000),
        &bare(ip(too_big(V4.forwarded()), BACKEND, NODE), port::KEPT, node_port),
    );
}

pub(super) fn errors_about_nobody(story: &mut Story) {
    for ends in WITHIN {
        let about = |port| ip(too_big(ends.dialled()), ends.vip, ends.client).tcp(port, 9);
        story.ends(ends.name, &about(port::KEPT), Verdict::NatUnknown);
        let returned = ip(too_big(ends.answered()), ends.node, ends.backend).tcp(FIRST_PORT, port::KEPT);
        story.ends(ends.name, &returned, Verdict::UnsupportedIcmp);
    }
    let to_host = eth().from_mac(NEXT_HOP).ipv4(BACKEND, HOST);
    story.ends("about the host's own", &too_big(to_host).ipv4(HOST, BACKEND).tcp(1, 2), Verdict::NotVip);
    // Across the families an error would need to be made anew.
    let syn = V4_TO_V6.dialled().tcp(1, port::ACROSS).syn();
    let node_port = story.opens("SYN", &syn);
    let lost = Verdict::NatUntranslatable;
    story.ends("to IPv6", &too_big(V4.dialled()).ipv4(VIP, CLIENT).tcp(port::ACROSS, 1), lost);
    let returned = too_big(V6.answered()).ipv6(NODE6, BACKEND6).tcp(node_port, port::ACROSS);
    story.ends("to IPv4", &returned, lost);
}

/// In IPv6 a later fragment may name another protocol than its first one. One that also came by another router made a claim for that protocol,
/// and left the connection's own port to others.
pub(super) fn a_later_fragment_of_another_protocol_binds_nothing(story: &mut Story) {
    let first =
        V6.dialled().piece(0, true, 4711).udp(1000, port::KEPT).claim_len(2000).payload(&[0x5a; 1400]);
    story.ends("the first", &first, Verdict::ForwardedNat);
    let before = story.pair.state();
    let later = |frame: Frame| frame.piece(1408, false, 4711).claim_next(58).payload(&[0xa5; 592]);
    story.forwards("a later one", &later(V6.dialled().from_mac(NEXT_HOP)), &later(V6.forwarded()));
    let after = story.pair.state();
    assert_eq!(before.nat_replies, after.nat_replies, "NAT_REPLIES");
    let routers = |flows: &HashMap<FlowKey, NatFlow>| -> Vec<_> {
        flows.values().map(|flow| (flow.router, flow.port)).collect()
    };
    assert_eq!(routers(&before.nat_flows), routers(&after.nat_flows), "NAT_FLOWS");
}

pub(super) fn fragments_are_translated_both_ways(story: &mut Story) {
    let first = |frame: Frame, from, to| {
        frame.piece(0, true, 4711).udp(from, to).claim_len(2000).claim_checksum(0x1234).payload(&[0x5a; 1400])
    };
    let later = |frame: Frame| frame.piece(1408, false, 4711).claim_next(17).payload(&[0xa5; 592]);
    let here = |outcome: &Outcome| outcome.frame[14..].to_vec();
    for ends in WITHIN {
        let name = |what: &str| format!("{}: {what}", ends.name);
        let lost = Verdict::FragmentWithoutFirst;
        story.ends(&name("a later one before the first"), &later(ends.dialled()), lost);
        story.ends(&name("a later answer before the first"), &later(ends.answered()), lost);
        let outcome = story.goes(
            &name("the first"),
            &first(ends.dialled(), 1000, port::MOVED),
            Verdict::ForwardedNat,
            INGRESS,
        );
        let node_port = story.latest_port();
        // The checksum is of the whole packet: what it became shows the change alone.
        let whole = |frame: Frame, from, to| frame.udp(from, to).bytes();
        let sum = |frame: &[u8]| {
            let at = if ends.client == CLIENT { 14 + 20 + 6 } else { 14 + 40 + 6 };
            u16::from_be_bytes([frame[at], frame[at + 1]])
        };
        let before = sum(&whole(ends.dialled(), 1000, port::MOVED));
        let after = sum(&whole(ends.forwarded(), node_port, MOVED_TO));
        let at = if ends.client == CLIENT { 20 + 6 } else { 48 + 6 };
        let became = u16::from_be_bytes([here(&outcome)[at], here(&outcome)[at + 1]]);
        let change = |old: u16, new: u16| (u32::from(new) + u32::from(!old)) % 0xffff;
        assert_eq!(change(0x1234, became), change(before, after), "{}: the checksum", ends.name);
        story.forwards(&name("a later one"), &later(ends.dialled()), &later(ends.forwarded()));
        let answer = first(ends.answered(), MOVED_TO, node_port);
        story.ends(&name("the first of an answer"), &answer, Verdict::TranslatedReply);
        story.returns(&name("a later answer"), &later(ends.answered()), &later(ends.returned()));
    }
    let to_host = || eth().from_mac(NEXT_HOP).ipv4(BACKEND, HOST);
    story.ends("a fragment to the host", &later(to_host()), Verdict::NotVip);
    for ends in ACROSS {
        let begun = first(ends.dialled(), 1000, port::ACROSS);
        story.ends(&format!("{}: a fragment", ends.name), &begun, Verdict::NatUntranslatable);
    }
}
