//! What is no packet of a connection by itself: ICMP errors that quote one, and fragments of one.

use std::collections::HashMap;

use vip_lb_common::{
    Verdict,
    abi::{FlowKey, NatFlow},
};

use super::{
    super::super::{
        INGRESS,
        world::{
            CLIENT, CLIENT6, NARROW_MTU, NEXT_HOP,
            nat::{BACKEND, FIRST_PORT, HOST, MOVED_TO, NODE, VIP, port},
        },
    },
    ACROSS, Ends, Story, V4, V4_TO_V6, V6, V6_TO_V4, WITHIN, ip,
};
use crate::packet::{Extension, Frame, assert_same_bytes, eth};

type Transport = fn(Frame, u16, u16) -> Frame;

const TRANSPORTS: [(&str, Transport); 2] =
    [("TCP", |ip, from, to| ip.tcp(from, to).syn()), ("UDP", |ip, from, to| ip.udp(from, to).payload(b"?"))];

/// "Packet too big" of either family, begun.
fn too_big(ip: Frame) -> Frame {
    if ip.is_v4() { ip.icmp(3, 4, [0, 0, 5, 0x78]) } else { ip.icmp(2, 0, [0, 0, 5, 0x78]) }
}

pub(super) fn errors_are_translated_both_ways(story: &mut Story) {
    for ends in WITHIN {
        for (protocol, transport) in TRANSPORTS {
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
    let first = |frame: Frame, id, from, to, checksum| {
        let udp = frame.piece(0, true, id).udp(from, to).claim_len(2000);
        udp.claim_checksum(checksum).payload(&[0x5a; 1400])
    };
    let later = |frame: Frame, id| frame.piece(1408, false, id).claim_next(17).payload(&[0xa5; 592]);
    let moved = WITHIN.map(|ends| (ends, port::MOVED, MOVED_TO));
    let across = ACROSS.map(|ends| (ends, port::ACROSS, port::ACROSS));
    for (ends, dialled, there) in [moved, across].concat() {
        // Of its own, for the same client sends to both services.
        let id = dialled;
        let name = |what: &str| format!("{}: {what}", ends.name);
        let lost = Verdict::FragmentWithoutFirst;
        story.ends(&name("a later one before the first"), &later(ends.dialled(), id), lost);
        story.ends(&name("a later answer before the first"), &later(ends.answered(), id), lost);
        let outcome = story.goes(
            &name("the first"),
            &first(ends.dialled(), id, 1000, dialled, 0x1234),
            Verdict::ForwardedNat,
            INGRESS,
        );
        let node_port = story.latest_port();
        // The checksum is of the whole packet: what it became shows the change alone.
        let sum = |frame: &[u8], behind: usize| {
            let ip = if frame[12..14] == [0x08, 0] { 20 } else { 40 + behind };
            u16::from_be_bytes([frame[14 + ip + 6], frame[14 + ip + 7]])
        };
        let before = sum(&ends.dialled().udp(1000, dialled).bytes(), 0);
        let after = sum(&ends.forwarded().udp(node_port, there).bytes(), 0);
        let became = sum(&outcome.frame, 8);
        let change = |old: u16, new: u16| (u32::from(new) + u32::from(!old)) % 0xffff;
        assert_eq!(change(0x1234, became), change(before, after), "{}: the checksum", ends.name);
        let expected = first(ends.forwarded(), id, node_port, there, became).bytes();
        assert_same_bytes(&name("the first"), &expected, &outcome.frame);
        story.forwards(&name("a later one"), &later(ends.dialled(), id), &later(ends.forwarded(), id));
        let answer = first(ends.answered(), id, there, node_port, 0x1234);
        story.ends(&name("the first of an answer"), &answer, Verdict::TranslatedReply);
        story.returns(&name("a later answer"), &later(ends.answered(), id), &later(ends.returned(), id));
    }
    let to_host = || eth().from_mac(NEXT_HOP).ipv4(BACKEND, HOST);
    story.ends("a fragment to the host", &later(to_host(), 4711), Verdict::NotVip);
}

/// The fragment header of a packet that is whole (RFC 6946) names the identification that IPv4 has in every packet.
pub(super) fn atomic_fragments_become_whole_packets(story: &mut Story) {
    let node_port = story.opens("SYN", &V6_TO_V4.dialled().tcp(1000, port::ACROSS).syn());
    let atomic = V6_TO_V4.dialled().extension(Extension::atomic_fragment());
    for payload in [&b"?"[..], &[0xa5; 1300]] {
        story.forwards(
            "an atomic fragment",
            &atomic.clone().tcp(1000, port::ACROSS).payload(payload),
            &V6_TO_V4.forwarded().id(0x5678).may_fragment().tcp(node_port, port::ACROSS).payload(payload),
        );
    }
}

pub(super) fn fragments_without_an_equivalent_are_lost(story: &mut Story) {
    let lost = Verdict::NatUntranslatable;
    // IPv6 wants a checksum, which would have to be made of all fragments (RFC 7915 section 4.5). Without the first the others are of no use.
    let bare = V4_TO_V6.dialled().piece(0, true, 1).udp(1, port::ACROSS).claim_len(2000).claim_checksum(0);
    story.ends("UDP without checksum", &bare.payload(&[0; 800]), lost);
    let later = V4_TO_V6.dialled().piece(808, false, 1).claim_next(17).payload(&[0; 8]);
    story.ends("and what follows it", &later, Verdict::FragmentWithoutFirst);
    // No IPv4 host would put another protocol together with the first fragment.
    let first = V6_TO_V4.dialled().piece(0, true, 2).udp(2, port::ACROSS).claim_len(2000).payload(&[0; 800]);
    story.ends("a first fragment", &first, Verdict::ForwardedNat);
    let other = V6_TO_V4.dialled().piece(808, false, 2).claim_next(58).payload(&[0; 8]);
    story.ends("a later one of another protocol", &other, lost);
    let options = V6_TO_V4.dialled().extension(Extension::DestinationOptions(0)).piece(0, true, 3);
    story.ends("behind options", &options.tcp(3, port::ACROSS).syn().payload(&[0; 8]), lost);
    let options = V6_TO_V4.dialled().piece(0, true, 4).extension(Extension::DestinationOptions(0));
    story.ends("in front of options", &options.tcp(4, port::ACROSS).syn().payload(&[0; 8]), lost);
}

/// Across the families the fragment header comes or goes as well.
pub(super) fn fragments_that_do_not_fit_are_answered(story: &mut Story) {
    for (ends, more) in [(V4_TO_V6, 28), (V6_TO_V4, -28)] {
        let largest = (i32::from(NARROW_MTU) - more) as usize;
        let (ip, headers) = if ends.client == CLIENT { (20, 28) } else { (40, 56) };
        let first = |len: usize| {
            let udp = ends.dialled().piece(0, true, 9).udp(1, port::NARROW_ACROSS).claim_len(3000);
            udp.payload(&vec![7; len - headers])
        };
        story.ends(ends.name, &first(largest), Verdict::ForwardedNat);
        let outcome = story.goes(ends.name, &first(largest + 1), Verdict::TooBigAnswered, INGRESS);
        let mtu = &outcome.frame[14 + ip + 6..][..2];
        assert_eq!(u16::from_be_bytes([mtu[0], mtu[1]]), largest as u16, "{}", ends.name);
    }
}

/// Type, code and second word.
type Said = (u8, u8, u32);

/// RFC 7915 section 4.2. What is quoted has less than 1280 bytes.
const TO_V6: &[(Said, Option<Said>)] = &[
    ((3, 4, 1400), Some((2, 0, 1420))),
    ((3, 4, 1490), Some((2, 0, 1500))),
    ((3, 4, 576), Some((2, 0, 1280))),
    ((3, 4, 0), Some((2, 0, 1280))),
    ((3, 1, 0), Some((1, 0, 0))),
    ((3, 2, 0), Some((4, 1, 6))),
    ((3, 3, 0), Some((1, 4, 0))),
    ((3, 13, 0), Some((1, 1, 0))),
    ((11, 0, 0), Some((3, 0, 0))),
    // Where the quoted packet ends and extensions begin (RFC 4884).
    ((11, 0, 32 << 16), Some((3, 0, 0))),
    ((12, 0, 8 << 24), Some((4, 0, 7))),
    ((12, 2, 16 << 24), Some((4, 0, 24))),
    ((12, 0, 4 << 24), None),
    ((12, 1, 0), None),
    ((3, 14, 0), None),
];

/// RFC 7915 section 5.2.
const TO_V4: &[(Said, Option<Said>)] = &[
    ((2, 0, 1400), Some((3, 4, 1380))),
    ((2, 0, 1280), Some((3, 4, 1260))),
    ((1, 0, 0), Some((3, 1, 0))),
    ((1, 1, 0), Some((3, 10, 0))),
    ((1, 4, 0), Some((3, 3, 0))),
    ((3, 1, 0), Some((11, 1, 0))),
    ((4, 0, 7), Some((12, 0, 8 << 24))),
    ((4, 1, 40), Some((3, 2, 0))),
    ((4, 0, 2), None),
    ((4, 2, 40), None),
    ((1, 5, 0), None),
];

/// An error without what it says, and the packet that it is about.
struct Error {
    /// As they come in.
    comes: Frame,
    quoted: Frame,
    /// As they leave.
    leaves: Frame,
    known: Frame,
    verdict: Verdict,
}

impl Story {
    #[track_caller]
    fn crosses(&mut self, name: &str, error: &Error, said: Said, right: Option<Said>) {
        let name = format!("{name}: {said:?}");
        let about = |ip: &Frame, (kind, code, rest): Said, packet: &Frame| {
            ip.clone().icmp(kind, code, u32::to_be_bytes(rest)).payload(&packet.bytes()[14..])
        };
        let frame = about(&error.comes, said, &error.quoted);
        let Some(right) = right else {
            return self.ends(&name, &frame, Verdict::NatUntranslatable);
        };
        let outcome = self.goes(&name, &frame, error.verdict, INGRESS);
        let mut leaves = error.leaves.clone();
        // A small packet may be fragmented, so that it needs an identification, which a test cannot know.
        if leaves.is_v4() {
            assert_ne!(outcome.frame[18..20], [0, 0], "{name}: the identification");
            leaves = leaves.id(u16::from_be_bytes([outcome.frame[18], outcome.frame[19]])).may_fragment();
        }
        assert_same_bytes(&name, &about(&leaves, right, &error.known).bytes(), &outcome.frame);
    }
}

pub(super) fn errors_cross_the_families(story: &mut Story) {
    for ends in ACROSS {
        let (from_client, from_backend) = if ends.client == CLIENT { (TO_V6, TO_V4) } else { (TO_V4, TO_V6) };
        let router = |address: &str| if address.contains(':') { "2001:db8:f::1" } else { "198.51.100.1" };
        for (protocol, transport) in TRANSPORTS {
            let name = |what: &str| format!("{}, {protocol}: {what}", ends.name);
            let node_port = story.opens(&name("begins"), &transport(ends.dialled(), 1000, port::ACROSS));
            let before = story.pair.state();
            story.pair.set_tick(150);
            let data = |source: &str, destination: &str, hops| {
                ip(eth(), source, destination).traffic_class(0xb8).ttl(hops)
            };
            // About an answer, and about a client's packet, by a router on its way.
            let answer = |frame, there| transport(frame, port::ACROSS, there).payload(&[0x5a; 500]);
            let request = |frame, here| transport(frame, here, port::ACROSS).payload(&[0x5a; 500]);
            let of_client = Error {
                comes: ip(eth(), router(ends.vip), ends.vip).traffic_class(0xc0),
                quoted: answer(data(ends.vip, ends.client, 3), 1000),
                leaves: ends.forwarded().traffic_class(0xc0),
                known: answer(data(ends.backend, ends.node, 3), node_port),
                verdict: Verdict::ForwardedNat,
            };
            let of_backend = Error {
                comes: ip(eth(), router(ends.node), ends.node),
                quoted: request(data(ends.node, ends.backend, 9), node_port),
                leaves: ends.returned(),
                known: request(data(ends.client, ends.vip, 9), 1000),
                verdict: Verdict::TranslatedReply,
            };
            for (error, said, what) in
                [(&of_client, from_client, "client's side"), (&of_backend, from_backend, "backend's side")]
            {
                for &(said, right) in said {
                    story.crosses(&name(what), error, said, right);
                }
            }
            let first = |frame: Frame| frame.piece(0, true, 7);
            let of_fragment = Error {
                quoted: request(first(data(ends.node, ends.backend, 9)), node_port),
                known: request(first(data(ends.client, ends.vip, 9)), 1000),
                ..of_backend
            };
            let too_big = if ends.client == CLIENT {
                // The fragment header counts too.
                ((2, 0, 1400), (3, 4, 1372))
            } else {
                ((3, 4, 1400), (2, 0, 1420))
            };
            story.crosses(&name("about a fragment"), &of_fragment, too_big.0, Some(too_big.1));
            let after = story.pair.state();
            assert_eq!(before.nat_flows, after.nat_flows, "an error is no sign of life");
            assert_eq!(before.nat_replies, after.nat_replies, "an error is no sign of life");
        }
        let name = |what: &str| format!("{}: {what}", ends.name);
        let node_port = story.opens(&name("SYN"), &ends.dialled().tcp(2000, port::ACROSS).syn());
        // Routers need not quote more than eight bytes of the transport (RFC 792).
        let start = |source: &str, destination: &str, to: u16| {
            let [a, b] = port::ACROSS.to_be_bytes();
            let [c, d] = to.to_be_bytes();
            ip(eth(), source, destination).claim_next(6).payload(&[a, b, c, d, 1, 2, 3, 4])
        };
        let eight = Error {
            comes: ip(eth(), router(ends.vip), ends.vip),
            quoted: start(ends.vip, ends.client, 2000),
            leaves: ends.forwarded(),
            known: start(ends.backend, ends.node, node_port),
            verdict: Verdict::ForwardedNat,
        };
        let (said, right) = from_client[0];
        story.crosses(&name("that quotes eight bytes"), &eight, said, right);
        let about = |ip: Frame| too_big(ip).payload(&eight.quoted.bytes()[14..]);
        story.ends(&name("with no hop left"), &about(eight.comes.clone().ttl(1)), Verdict::TtlExpired);
        let lost = Verdict::NatUntranslatable;
        if ends.client == CLIENT {
            story.ends(&name("with options"), &about(eight.comes.clone().option(&[1; 4])), lost);
            let quoted = ip(eth(), VIP, CLIENT).option(&[1; 4]).tcp(port::ACROSS, 2000);
            let frame = too_big(eight.comes.clone()).payload(&quoted.bytes()[14..]);
            story.ends(&name("about options"), &frame, lost);
        } else {
            let options = Extension::DestinationOptions(0);
            story.ends(&name("with options"), &about(eight.comes.clone().extension(options.clone())), lost);
            let quoted = ip(eth(), ends.vip, CLIENT6).extension(options).tcp(port::ACROSS, 2000);
            let frame = too_big(eight.comes.clone()).payload(&quoted.bytes()[14..]);
            story.ends(&name("about options"), &frame, lost);
        }
        let long = transport_of(&ends, port::NARROW_ACROSS, story);
        let quoted = long.payload(&[0; 1300]);
        let frame = too_big(eight.comes.clone()).payload(&quoted.bytes()[14..]);
        story.ends(&name("too big itself"), &frame, Verdict::TooBig);
    }
    let bare = |ip: Frame, from, to| ip.udp(from, to).claim_checksum(0).payload(b"?");
    let node_port = story.opens("UDP", &V6_TO_V4.dialled().udp(3000, port::ACROSS));
    let error = Error {
        comes: ip(eth(), "198.51.100.1", NODE),
        quoted: bare(ip(eth(), NODE, BACKEND), node_port, port::ACROSS),
        leaves: V6_TO_V4.returned(),
        known: bare(ip(eth(), CLIENT6, V6_TO_V4.vip), 3000, port::ACROSS),
        verdict: Verdict::TranslatedReply,
    };
    let name = "about UDP without checksum";
    let frame = |ip: &Frame, packet: &Frame| too_big(ip.clone()).payload(&packet.bytes()[14..]);
    let outcome = story.goes(name, &frame(&error.comes, &error.quoted), error.verdict, INGRESS);
    let known = error.leaves.icmp(2, 0, [0, 0, 5, 0x8c]).payload(&error.known.bytes()[14..]);
    assert_same_bytes(name, &known.bytes(), &outcome.frame);
}

/// The start of an answer in a connection to a service, as the VIP sent it.
fn transport_of(ends: &Ends, service: u16, story: &mut Story) -> Frame {
    let _ = story.opens(ends.name, &ends.dialled().tcp(4000, service).syn());
    ip(eth(), ends.vip, ends.client).tcp(service, 4000)
}
