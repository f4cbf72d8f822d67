//! The two entries of a connection: what they remember, what ends them, and what happens where there is no room.

use vip_lb_common::{Verdict, abi::NatMarks};

use super::{
    super::super::{
        Scenario,
        world::nat::{backend_of, port, world},
    },
    Story, V4, V6,
};
use crate::packet::Frame;

pub(super) fn two_ports() -> Scenario {
    let mut scenario = world();
    scenario.settings_mut().nat_ports = 2;
    scenario
}

pub(super) fn full() -> Scenario {
    Scenario { nat_capacity: Some(2), ..world() }
}

pub(super) fn the_entry_is_the_record(story: &mut Story) {
    let syn = V4.dialled().tcp(1000, port::KEPT).syn();
    let node_port = story.opens("SYN", &syn);
    let (flow, reply) = story.connection();
    assert_eq!((flow.marks, reply.marks, flow.seen, reply.seen), (0, 0, 100, 100));
    story.pair.set_tick(105);
    let answer = V4.answered().tcp(port::KEPT, node_port);
    story.ends("SYN-ACK", &answer.clone().syn_ack(), Verdict::TranslatedReply);
    let (flow, reply) = story.connection();
    assert_eq!((flow.marks, reply.marks, flow.seen, reply.seen), (0, 0, 100, 105));
    story.pair.set_tick(106);
    story.ends("ACK", &V4.dialled().tcp(1000, port::KEPT), Verdict::ForwardedNat);
    story.ends("FIN", &answer.clone().fin(), Verdict::TranslatedReply);
    let (flow, reply) = story.connection();
    assert_eq!((flow.marks, reply.marks), (NatMarks::DATA, NatMarks::DATA | NatMarks::FIN));
    assert_eq!((flow.seen, reply.seen), (106, 106));
    story.ends("RST", &answer.rst(), Verdict::TranslatedReply);
    assert_eq!(story.connection().1.marks, NatMarks::DATA | NatMarks::FIN | NatMarks::RST);
    // What the slot says has no say any more.
    story.pair.set_backends(|backends| {
        let index = backend_of(port::KEPT, true);
        backends.entry(index).or_default().mtu = 1400;
    });
    story.ends("SYN again", &syn, Verdict::ForwardedNat);
    assert_eq!(story.connection().0.port, node_port);
}

pub(super) fn an_ended_connection_makes_room_for_the_next(story: &mut Story) {
    let client = |change: fn(Frame) -> Frame| change(V4.dialled().tcp(1000, port::KEPT));
    let node_port = story.opens("SYN", &client(Frame::syn));
    story.ends("ACK", &client(|frame| frame), Verdict::ForwardedNat);
    story.ends("data", &V4.answered().tcp(port::KEPT, node_port), Verdict::TranslatedReply);
    for end in [Frame::fin as fn(Frame) -> Frame, Frame::rst] {
        story.ends("its end", &client(end), Verdict::ForwardedNat);
        assert_ne!(story.connection().0.marks & (NatMarks::FIN | NatMarks::RST), 0);
        story.ends("the last ACK", &client(|frame| frame), Verdict::ForwardedNat);
        story.forwards(
            "SYN of the next connection",
            &client(Frame::syn),
            &V4.forwarded().tcp(node_port, port::KEPT).syn(),
        );
        let (flow, reply) = story.connection();
        assert_eq!((flow.port, flow.marks, reply.marks), (node_port, 0, 0));
    }
}

pub(super) fn a_dead_backends_connections_end(story: &mut Story) {
    let syn = V4.dialled().tcp(1000, port::KEPT).syn();
    let node_port = story.opens("SYN", &syn);
    // The entry is another owner's now, but the ring names it again.
    let index = backend_of(port::KEPT, true);
    story.pair.set_backends(|backends| backends.entry(index).or_default().generation = 2);
    story.ends("data", &V4.dialled().tcp(1000, port::KEPT), Verdict::BackendGone);
    story.ends("an answer", &V4.answered().tcp(port::KEPT, node_port), Verdict::BackendGone);
    story.pair.set_backends(|backends| backends.entry(index).or_default().generation = 1);
    story.ends("data to one that lives", &V4.dialled().tcp(1000, port::KEPT), Verdict::ForwardedNat);
    story.pair.set_backends(|backends| backends.entry(index).or_default().mode = 1);
    story.ends("to one without a next hop", &V4.dialled().tcp(1000, port::KEPT), Verdict::Unresolved);
    story.ends("an answer all the same", &V4.answered().tcp(port::KEPT, node_port), Verdict::TranslatedReply);
}

pub(super) fn an_exhausted_range_refuses(story: &mut Story) {
    let syn = |client_port| V4.dialled().tcp(client_port, port::KEPT).syn();
    let ports = [story.opens("the first", &syn(1)), story.opens("the second", &syn(2))];
    assert_ne!(ports[0], ports[1]);
    for client_port in 3..40 {
        story.ends("one too many", &syn(client_port), Verdict::NatExhausted);
    }
    story.connections(2);
    let _ = story.opens("another protocol", &V4.dialled().udp(3, port::KEPT));
    let _ = story.opens("another backend port", &V4.dialled().tcp(3, port::MOVED).syn());
    let _ = story.opens("another backend", &V6.dialled().tcp(3, port::KEPT).syn());
    story.forwards("the first goes on", &syn(1), &V4.forwarded().tcp(ports[0], port::KEPT).syn());
}

pub(super) fn full_tables_refuse_and_leave_nothing_behind(story: &mut Story) {
    let syn = |client_port| V4.dialled().tcp(client_port, port::KEPT).syn();
    let first = story.opens("the first", &syn(1));
    let _ = story.opens("the second", &syn(2));
    for client_port in 3..40 {
        story.ends("one too many", &syn(client_port), Verdict::NatExhausted);
    }
    story.connections(2);
    story.forwards("the first goes on", &syn(1), &V4.forwarded().tcp(first, port::KEPT).syn());
}
