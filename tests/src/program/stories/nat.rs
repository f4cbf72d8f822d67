//! Translated connections: what becomes of a client's packets, of the answers, and of the entries between them.

mod entries;
mod pieces;

use vip_lb_common::{
    Verdict,
    abi::{NatFlow, NatMarks, NatReply},
};

use super::{
    super::{
        INGRESS, Outcome, Program, XdpAction,
        world::{
            CLIENT, CLIENT6, NARROW_MTU, NEXT_HOP, OTHER_INTERFACE,
            nat::{
                BACKEND, BACKEND6, BY_L2, FIRST_PORT, HOST, MOVED_TO, NODE, NODE6, OTHER_VIP, VIP, VIP6,
                VLAN, port, world,
            },
        },
    },
    Story, Told,
};
use crate::packet::{CLIENT_MAC, Extension, Frame, Mac, NODE_MAC, assert_same_bytes, check, eth};

/// All of them.
pub(super) const ALL: &[Told] = &[
    ("a connection is translated both ways", world, a_connection_is_translated_both_ways),
    ("datagrams are translated both ways", world, datagrams_are_translated_both_ways),
    ("ports are translated and shared", world, ports_are_translated_and_shared),
    ("tags and interfaces are those of either side", world, tags_and_interfaces_are_those_of_either_side),
    ("connections cross the families", world, connections_cross_the_families),
    ("what has no equivalent is not translated", world, what_has_no_equivalent_is_not_translated),
    ("what does not fit is not translated", world, what_does_not_fit_is_not_translated),
    ("options and extension headers stay", world, options_and_extension_headers_stay),
    ("the entry is the record", world, entries::the_entry_is_the_record),
    (
        "an ended connection makes room for the next",
        world,
        entries::an_ended_connection_makes_room_for_the_next,
    ),
    ("a dead backend's connections end", world, entries::a_dead_backends_connections_end),
    ("an exhausted range refuses", entries::two_ports, entries::an_exhausted_range_refuses),
    (
        "full tables refuse and leave nothing behind",
        entries::full,
        entries::full_tables_refuse_and_leave_nothing_behind,
    ),
    ("answers follow the client's router", world, answers_follow_the_clients_router),
    ("backends of other modes get theirs", world, backends_of_other_modes_get_theirs),
    ("answers of nobody", world, answers_of_nobody),
    ("errors are translated both ways", world, pieces::errors_are_translated_both_ways),
    ("errors about nobody", world, pieces::errors_about_nobody),
    ("errors cross the families", world, pieces::errors_cross_the_families),
    ("fragments are translated both ways", world, pieces::fragments_are_translated_both_ways),
    ("fragments that do not fit are answered", world, pieces::fragments_that_do_not_fit_are_answered),
    ("atomic fragments become whole packets", world, pieces::atomic_fragments_become_whole_packets),
    ("fragments without an equivalent are lost", world, pieces::fragments_without_an_equivalent_are_lost),
    (
        "a later fragment of another protocol binds nothing",
        world,
        pieces::a_later_fragment_of_another_protocol_binds_nothing,
    ),
];

/// The ends of a connection as the client and the backend see them.
#[derive(Clone, Copy)]
struct Ends {
    name: &'static str,
    client: &'static str,
    vip: &'static str,
    node: &'static str,
    backend: &'static str,
}

const V4: Ends = Ends { name: "IPv4", client: CLIENT, vip: VIP, node: NODE, backend: BACKEND };
const V6: Ends = Ends { name: "IPv6", client: CLIENT6, vip: VIP6, node: NODE6, backend: BACKEND6 };
const V4_TO_V6: Ends = Ends { name: "IPv4 to IPv6", node: NODE6, backend: BACKEND6, ..V4 };
const V6_TO_V4: Ends = Ends { name: "IPv6 to IPv4", node: NODE, backend: BACKEND, ..V6 };
const WITHIN: [Ends; 2] = [V4, V6];
const ACROSS: [Ends; 2] = [V4_TO_V6, V6_TO_V4];

/// A frame with an IP header of the family of its addresses.
fn ip(link: Frame, source: &str, destination: &str) -> Frame {
    if source.contains(':') { link.ipv6(source, destination) } else { link.ipv4(source, destination) }
}

impl Ends {
    /// From the client, as it comes in.
    fn dialled(&self) -> Frame {
        ip(eth(), self.client, self.vip)
    }

    /// To the backend, as it leaves.
    fn forwarded(&self) -> Frame {
        ip(eth().from_mac(NODE_MAC).to_mac(NEXT_HOP), self.node, self.backend).ttl(63)
    }

    /// From the backend, as it comes in.
    fn answered(&self) -> Frame {
        ip(eth().from_mac(NEXT_HOP), self.backend, self.node)
    }

    /// To the client, as it leaves.
    fn returned(&self) -> Frame {
        ip(eth().from_mac(NODE_MAC).to_mac(CLIENT_MAC), self.vip, self.client).ttl(63)
    }
}

impl Story {
    #[track_caller]
    fn goes(&mut self, name: &str, frame: &Frame, verdict: Verdict, egress: u32) -> Outcome {
        let outcome = self.pair.run(name, Program::Balancer, &frame.bytes(), 0);
        self.pair.compare_tables(name);
        assert_eq!(outcome.verdict, verdict, "{name}");
        assert_eq!(outcome.action, XdpAction::of(verdict, egress), "{name}");
        outcome
    }

    /// Sends a frame that must come out as `expected`.
    #[track_caller]
    fn becomes(&mut self, name: &str, frame: &Frame, verdict: Verdict, expected: &Frame) {
        let outcome = self.goes(name, frame, verdict, INGRESS);
        assert_same_bytes(name, &expected.bytes(), &outcome.frame);
    }

    #[track_caller]
    fn forwards(&mut self, name: &str, frame: &Frame, expected: &Frame) {
        self.becomes(name, frame, Verdict::ForwardedNat, expected);
    }

    #[track_caller]
    fn returns(&mut self, name: &str, frame: &Frame, expected: &Frame) {
        self.becomes(name, frame, Verdict::TranslatedReply, expected);
    }

    /// Sends a frame that must be lost, or left to the stack.
    #[track_caller]
    fn ends(&mut self, name: &str, frame: &Frame, verdict: Verdict) {
        let _ = self.goes(name, frame, verdict, INGRESS);
    }

    /// Sends the first packet of a connection and returns the port that it has on this node: the only thing that a test cannot know.
    #[track_caller]
    fn opens(&mut self, name: &str, frame: &Frame) -> u16 {
        let outcome = self.goes(name, frame, Verdict::ForwardedNat, INGRESS);
        assert_eq!(check(&outcome.frame), Ok(()), "{name}: the frame that came out");
        let port = self.latest_port();
        let range = FIRST_PORT..FIRST_PORT + self.pair.settings().nat_ports;
        assert!(range.contains(&port), "{name}: port {port}");
        port
    }

    /// The port that the latest connection got: that of no entry before.
    fn latest_port(&mut self) -> u16 {
        let ports: Vec<_> =
            self.pair.state().nat_flows.into_iter().map(|(key, flow)| (key, flow.port)).collect();
        let new = ports.iter().find(|entry| !self.known_ports.contains(entry)).expect("a new connection");
        let port = new.1;
        self.known_ports = ports;
        port
    }

    /// The only connection's entries.
    #[track_caller]
    fn connection(&self) -> (NatFlow, NatReply) {
        let state = self.pair.state();
        assert_eq!((state.nat_flows.len(), state.nat_replies.len()), (1, 1), "entries");
        let flow = state.nat_flows.into_values().next().unwrap_or_default();
        (flow, state.nat_replies.into_values().next().unwrap_or_default())
    }

    #[track_caller]
    fn connections(&self, count: usize) {
        let state = self.pair.state();
        assert_eq!((state.nat_flows.len(), state.nat_replies.len()), (count, count), "entries");
    }
}

fn a_connection_is_translated_both_ways(story: &mut Story) {
    for ends in WITHIN {
        let name = |what: &str| format!("{}: {what}", ends.name);
        let syn = ends.dialled().tcp(1000, port::KEPT).syn().option(&[2, 4, 5, 0xb4]);
        let node_port = story.opens(&name("SYN"), &syn);
        story.forwards(
            &name("SYN again"),
            &syn,
            &ends.forwarded().tcp(node_port, port::KEPT).syn().option(&[2, 4, 5, 0xb4]),
        );
        story.returns(
            &name("SYN-ACK"),
            &ends.answered().tcp(port::KEPT, node_port).syn_ack(),
            &ends.returned().tcp(port::KEPT, 1000).syn_ack(),
        );
        for payload in [&b"GET / HTTP/1.1"[..], b"odd", &[0xff; 1400]] {
            story.forwards(
                &name("data"),
                &ends.dialled().traffic_class(0xb9).tcp(1000, port::KEPT).payload(payload),
                &ends.forwarded().traffic_class(0xb9).tcp(node_port, port::KEPT).payload(payload),
            );
            story.returns(
                &name("an answer"),
                &ends.answered().traffic_class(0x03).tcp(port::KEPT, node_port).payload(payload),
                &ends.returned().traffic_class(0x03).tcp(port::KEPT, 1000).payload(payload),
            );
        }
        story.ends(&name("hop limit 1"), &ends.dialled().ttl(1).tcp(1000, port::KEPT), Verdict::TtlExpired);
        story.ends(
            &name("hop limit 1"),
            &ends.answered().ttl(1).tcp(port::KEPT, node_port),
            Verdict::TtlExpired,
        );
    }
    story.connections(2);
    let state = story.pair.state();
    assert!(state.flows.is_empty() && state.newborn.is_empty(), "a settled slot records nothing");
    // Clients' packets are counted, answers are not.
    assert_eq!(state.services.values().map(|stats| stats.packets).sum::<u64>(), 2 * 5);
    assert_eq!(state.services.values().map(|stats| stats.new_connections).sum::<u64>(), 2 * 2);
}

fn datagrams_are_translated_both_ways(story: &mut Story) {
    for ends in WITHIN {
        let name = |what: &str| format!("{}: {what}", ends.name);
        let node_port = story.opens(&name("UDP"), &ends.dialled().udp(1000, port::KEPT).payload(b"?"));
        // All checksums, among them the one that is 0 and is sent as 0xffff.
        for word in (0..=0xffff_u16).step_by(if story.pair.is_host_only() { 1 } else { 1021 }) {
            let payload = &word.to_be_bytes();
            let frame = ends.dialled().udp(1000, port::KEPT).payload(payload).bytes();
            let outcome = story.pair.run(&name("UDP"), Program::Balancer, &frame, 0);
            let expected = ends.forwarded().udp(node_port, port::KEPT).payload(payload).bytes();
            assert_same_bytes(&format!("{}: payload {word:#06x}", ends.name), &expected, &outcome.frame);
        }
        story.returns(
            &name("an answer"),
            &ends.answered().udp(port::KEPT, node_port).payload(b"!").trailer(&[0; 17]),
            &ends.returned().udp(port::KEPT, 1000).payload(b"!").trailer(&[0; 17]),
        );
    }
    let (bare, returned) = (
        |frame: Frame| frame.udp(2000, port::KEPT).claim_checksum(0).payload(b"?"),
        |frame: Frame, port| frame.udp(port::KEPT, port).claim_checksum(0).payload(b"!"),
    );
    let outcome = story.goes("UDP without checksum", &bare(V4.dialled()), Verdict::ForwardedNat, INGRESS);
    let node_port = story.latest_port();
    let expected = V4.forwarded().udp(node_port, port::KEPT).claim_checksum(0).payload(b"?");
    assert_same_bytes("UDP without checksum", &expected.bytes(), &outcome.frame);
    story.returns("its answer", &returned(V4.answered(), node_port), &returned(V4.returned(), 2000));
}

fn ports_are_translated_and_shared(story: &mut Story) {
    for ends in WITHIN {
        let name = |what: &str| format!("{}: {what}", ends.name);
        let node_port = story.opens(&name("SYN"), &ends.dialled().tcp(1000, port::MOVED).syn());
        story.forwards(
            &name("data"),
            &ends.dialled().tcp(1000, port::MOVED).payload(b"?"),
            &ends.forwarded().tcp(node_port, MOVED_TO).payload(b"?"),
        );
        story.returns(
            &name("an answer"),
            &ends.answered().tcp(MOVED_TO, node_port).payload(b"!"),
            &ends.returned().tcp(port::MOVED, 1000).payload(b"!"),
        );
        story.ends(
            &name("an answer from the port that was dialled"),
            &ends.answered().tcp(port::MOVED, node_port),
            Verdict::NatUnknown,
        );
    }
    // The same client port at two services and two VIPs that share one port of a backend: three ports of this node.
    let other = Ends { vip: OTHER_VIP, ..V4 };
    let mut node_ports = Vec::new();
    for (ends, dialled) in [(V4, port::KEPT), (V4, port::SHARED), (other, port::KEPT)] {
        let node_port = story.opens(ends.vip, &ends.dialled().tcp(7, dialled).syn());
        node_ports.push((ends, dialled, node_port));
    }
    for (ends, dialled, node_port) in node_ports {
        story.returns(
            "an answer of the shared backend",
            &ends.answered().tcp(port::KEPT, node_port).payload(b"!"),
            &ends.returned().tcp(dialled, 7).payload(b"!"),
        );
    }
}

fn tags_and_interfaces_are_those_of_either_side(story: &mut Story) {
    let behind = |link: Frame, ends: &Ends| ip(link, ends.client, ends.vip);
    for ends in WITHIN {
        let name = |what: &str| format!("{}: {what}", ends.name);
        let to_backend = || eth().from_mac(NODE_MAC).to_mac(NEXT_HOP);
        let to_client = || eth().from_mac(NODE_MAC).to_mac(CLIENT_MAC);
        let forwarded = |link| ip(link, ends.node, ends.backend).ttl(63);
        let returned = |link| ip(link, ends.vip, ends.client).ttl(63);
        let mut client_port = 1000;
        for (what, link, back) in [
            ("no tag", eth(), to_client()),
            ("a tag with priority", eth().tag(100 | 5 << 13), to_client().tag(100 | 5 << 13)),
        ] {
            for (service, tagged) in [(port::KEPT, to_backend()), (port::TAGGED, to_backend().tag(VLAN))] {
                client_port += 1;
                let syn = behind(link.clone(), &ends).tcp(client_port, service).syn();
                let node_port = story.opens(&name(what), &syn);
                story.forwards(
                    &name(what),
                    &behind(link.clone(), &ends).tcp(client_port, service).payload(b"?"),
                    &forwarded(tagged.clone()).tcp(node_port, service).payload(b"?"),
                );
                for answer in [eth().from_mac(NEXT_HOP), eth().from_mac(NEXT_HOP).service_tag(9).tag(VLAN)] {
                    story.returns(
                        &name(what),
                        &ip(answer, ends.backend, ends.node).tcp(service, node_port).payload(b"!"),
                        &returned(back.clone()).tcp(service, client_port).payload(b"!"),
                    );
                }
            }
        }
        for link in [eth().service_tag(7), eth().service_tag(7).tag(100), eth().tag(7).tag(100)] {
            let syn = behind(link, &ends).tcp(1, port::KEPT).syn();
            story.ends(&name("tags that an answer cannot carry"), &syn, Verdict::TagMismatch);
        }
        story.goes(
            &name("by another interface"),
            &ends.dialled().tcp(1, port::ELSEWHERE).syn(),
            Verdict::ForwardedNat,
            OTHER_INTERFACE,
        );
        let node_port = story.latest_port();
        story.returns(
            &name("back by the client's interface"),
            &ends.answered().tcp(port::ELSEWHERE, node_port),
            &ends.returned().tcp(port::ELSEWHERE, 1),
        );
    }
}

fn connections_cross_the_families(story: &mut Story) {
    for ends in ACROSS {
        let name = |what: &str| format!("{}: {what}", ends.name);
        let node_port = story.opens(&name("SYN"), &ends.dialled().tcp(1000, port::ACROSS).syn());
        let udp_port = story.opens(&name("UDP"), &ends.dialled().udp(1000, port::ACROSS).payload(b"?"));
        // Small packets may be fragmented, so that they need an identification, which a test cannot know.
        let large = &[0xa5; 1300];
        let outcome = story.goes(
            &name("a small one"),
            &ends.dialled().tcp(1000, port::ACROSS).payload(b"?"),
            Verdict::ForwardedNat,
            INGRESS,
        );
        assert_eq!(check(&outcome.frame), Ok(()), "{}", ends.name);
        if ends.node == NODE {
            assert_eq!(outcome.frame[20..22], [0, 0], "{}: a small packet may be fragmented", ends.name);
            assert_ne!(outcome.frame[18..20], [0, 0], "{}: so it needs an identification", ends.name);
        }
        story.forwards(
            &name("data"),
            &ends.dialled().traffic_class(0xb9).tcp(1000, port::ACROSS).payload(large),
            &ends.forwarded().traffic_class(0xb9).tcp(node_port, port::ACROSS).payload(large),
        );
        story.returns(
            &name("an answer"),
            &ends.answered().traffic_class(0xb9).tcp(port::ACROSS, node_port).payload(large),
            &ends.returned().traffic_class(0xb9).tcp(port::ACROSS, 1000).payload(large),
        );
        story.forwards(
            &name("a datagram"),
            &ends.dialled().udp(1000, port::ACROSS).payload(large).trailer(b"check sequence"),
            &ends.forwarded().udp(udp_port, port::ACROSS).payload(large).trailer(b"check sequence"),
        );
        story.returns(
            &name("its answer"),
            &ends.answered().udp(port::ACROSS, udp_port).payload(large),
            &ends.returned().udp(port::ACROSS, 1000).payload(large),
        );
        story.ends(&name("hop limit 1"), &ends.dialled().ttl(1).tcp(1000, port::ACROSS), Verdict::TtlExpired);
    }
}

fn what_has_no_equivalent_is_not_translated(story: &mut Story) {
    let lost = Verdict::NatUntranslatable;
    story.ends("options", &V4_TO_V6.dialled().option(&[1; 4]).tcp(1, port::ACROSS).syn(), lost);
    let bare = V4_TO_V6.dialled().udp(1, port::ACROSS).claim_checksum(0);
    story.ends("UDP without checksum", &bare, lost);
    let hop = V6_TO_V4.dialled().extension(Extension::HopByHop(0));
    story.ends("an extension header", &hop.tcp(1, port::ACROSS).syn(), lost);
}

fn what_does_not_fit_is_not_translated(story: &mut Story) {
    for (ends, service, grown) in [
        (V4, port::NARROW, 0),
        (V6, port::NARROW, 0),
        (V4_TO_V6, port::NARROW_ACROSS, 20),
        (V6_TO_V4, port::NARROW_ACROSS, -20),
    ] {
        let headers = if ends.client == CLIENT { 28 } else { 48 };
        let room = (i32::from(NARROW_MTU) - grown - headers) as usize;
        let udp = |len: usize| ends.dialled().udp(1, service).payload(&vec![7; len]);
        let node_port = story.opens(ends.name, &udp(room));
        story.ends(ends.name, &udp(room + 1), Verdict::TooBigAnswered);
        // An answer that grows on its way back must have come through a path with room for it.
        let headers = if ends.node == NODE { 28 } else { 48 };
        let room = (i32::from(NARROW_MTU) + grown - headers) as usize;
        let udp = |len: usize| ends.answered().udp(service, node_port).payload(&vec![7; len]);
        let beyond = if grown < 0 { Verdict::TooBigAnswered } else { Verdict::TranslatedReply };
        story.ends(ends.name, &udp(room), Verdict::TranslatedReply);
        story.ends(ends.name, &udp(room + 1), beyond);
    }
}

fn options_and_extension_headers_stay(story: &mut Story) {
    let routed = |ip: Frame| ip.extension(Extension::HopByHop(1)).extension(Extension::DestinationOptions(0));
    let optional = |ip: Frame| ip.option(&[7, 7, 4, 0, 0, 0, 0]);
    type Change = fn(Frame) -> Frame;
    let _: [Change; 2] = [routed, optional];
    for (ends, change) in [(V4, optional as Change), (V6, routed as Change)] {
        let node_port = story.opens(ends.name, &change(ends.dialled()).tcp(1, port::KEPT).syn());
        story.forwards(
            ends.name,
            &change(ends.dialled()).tcp(1, port::KEPT).option(&[1; 40]).payload(b"?"),
            &change(ends.forwarded()).tcp(node_port, port::KEPT).option(&[1; 40]).payload(b"?"),
        );
        story.returns(
            ends.name,
            &change(ends.answered()).tcp(port::KEPT, node_port).payload(b"!"),
            &change(ends.returned()).tcp(port::KEPT, 1).payload(b"!"),
        );
    }
}

fn answers_follow_the_clients_router(story: &mut Story) {
    const ROUTER: Mac = [0x02, 0, 0, 0, 0, 0xc2];
    let dialled = |link: Frame| link.ipv4(CLIENT, VIP).tcp(1000, port::KEPT).payload(b"?");
    let node_port = story.opens("SYN", &eth().ipv4(CLIENT, VIP).tcp(1000, port::KEPT).syn());
    story.ends("data", &dialled(eth()), Verdict::ForwardedNat);
    let answer = V4.answered().tcp(port::KEPT, node_port);
    story.ends("an answer", &answer, Verdict::TranslatedReply);
    let back =
        |link: Frame| link.from_mac(NODE_MAC).to_mac(ROUTER).ipv4(VIP, CLIENT).ttl(63).tcp(port::KEPT, 1000);
    for (name, link) in [("by another router", eth()), ("by another VLAN", eth().tag(9))] {
        story.forwards(
            name,
            &dialled(link.clone().from_mac(ROUTER)),
            &V4.forwarded().tcp(node_port, port::KEPT).payload(b"?"),
        );
        let (flow, reply) = story.connection();
        assert_eq!((flow.marks, reply.marks), (NatMarks::DATA, NatMarks::DATA), "marks stay");
        story.returns(name, &answer, &back(link));
    }
}

fn backends_of_other_modes_get_theirs(story: &mut Story) {
    let (mut by_l2, mut translated) = (0, 0);
    for client_port in 1..20 {
        let dialled = V4.dialled().tcp(client_port, port::MIXED);
        let outcome = story.pair.run("mixed", Program::Balancer, &dialled.clone().syn().bytes(), 0);
        story.pair.compare_tables("mixed");
        if outcome.verdict == Verdict::ForwardedL2 {
            by_l2 += 1;
            story.becomes(
                "data by l2",
                &dialled.clone(),
                Verdict::ForwardedL2,
                &eth()
                    .from_mac(NODE_MAC)
                    .to_mac(NEXT_HOP)
                    .ipv4(CLIENT, VIP)
                    .ttl(63)
                    .tcp(client_port, port::MIXED),
            );
        } else {
            translated += 1;
            story.ends("data", &dialled, Verdict::ForwardedNat);
        }
        story.connections(translated);
    }
    assert!(by_l2 > 3 && translated > 3, "{by_l2} by l2, {translated} translated");
    assert_eq!(story.packets_to(BY_L2), 2 * by_l2);
    // Without an entry only the beginning of a connection is translated.
    let mut unknown = 0;
    for client_port in 100..120 {
        let outcome = story.pair.run(
            "mixed",
            Program::Balancer,
            &V4.dialled().tcp(client_port, port::MIXED).bytes(),
            0,
        );
        assert!(
            matches!(outcome.verdict, Verdict::ForwardedL2 | Verdict::NatUnknown),
            "{:?}",
            outcome.verdict
        );
        unknown += u32::from(outcome.verdict == Verdict::NatUnknown);
    }
    assert!((4..17).contains(&unknown), "{unknown} unknown");
    story.connections(translated);
}

fn answers_of_nobody(story: &mut Story) {
    for ends in WITHIN {
        story.ends("TCP", &ends.answered().tcp(port::KEPT, FIRST_PORT), Verdict::NatUnknown);
        story.ends("UDP", &ends.answered().udp(port::KEPT, FIRST_PORT), Verdict::NatUnknown);
        story.ends("a ping", &ends.answered().echo_request(1, 2), Verdict::EchoAnswered);
    }
    let to_host = || eth().from_mac(NEXT_HOP).ipv4(BACKEND, HOST);
    story.ends("TCP to the host", &to_host().tcp(port::HOST, FIRST_PORT), Verdict::NotVip);
    story.ends("a ping to the host", &to_host().echo_request(1, 2), Verdict::NotVip);
    let node_port = story.opens("SYN by the host's address", &V4.dialled().tcp(1, port::HOST).syn());
    story.returns(
        "its answer",
        &to_host().tcp(port::HOST, node_port).syn_ack(),
        &V4.returned().tcp(port::HOST, 1).syn_ack(),
    );
    story.ends("data of no connection", &V4.dialled().tcp(5, port::KEPT), Verdict::NatUnknown);
}
