//! ICMP errors about flows in open slots.

use vip_lb_common::abi::{BackendRef, FlowEntry, Recording};

use super::{Story, Told, change_flows, change_newborn, syn, tcp, udp};
use crate::{
    packet::Frame,
    program::world::{CLIENT, CLIENT6, CURRENT, PREVIOUS, THIRD, VIP, VIP6, port, world},
};

pub(super) const ALL: &[Told] = &[
    ("an error goes where its connection goes", world, an_error_goes_where_its_connection_goes),
    ("an error leaves no trace", world, an_error_leaves_no_trace),
    ("an error goes where its datagrams go", world, an_error_goes_where_its_datagrams_go),
];

/// An error about a packet of the VIP, begun.
fn error(ip: Frame) -> Frame {
    if ip.is_v4() {
        ip.icmp(11, 0, [0; 4]).ipv4(VIP, CLIENT)
    } else {
        ip.icmp(3, 0, [0; 4]).ipv6(VIP6, CLIENT6)
    }
}

fn about_tcp(client_port: u16, port: u16) -> impl Fn(Frame) -> Frame {
    move |ip| error(ip).tcp(port, client_port)
}

fn about_udp(client_port: u16, port: u16) -> impl Fn(Frame) -> Frame {
    move |ip| error(ip).udp(port, client_port)
}

fn an_error_goes_where_its_connection_goes(story: &mut Story) {
    story.sends("about an older connection", about_tcp(1, port::OPEN), PREVIOUS);
    story.sends("SYN", syn(1, port::OPEN), CURRENT);
    story.sends("about a handshake", about_tcp(1, port::OPEN), CURRENT);
    change_newborn(story, |entry| entry.backend = BackendRef { index: THIRD, generation: 1 });
    story.sends("about a handshake on another backend", about_tcp(1, port::OPEN), THIRD);
    story.sends("ACK", tcp(1, port::OPEN), THIRD);
    change_newborn(story, |entry| entry.backend = BackendRef { index: CURRENT, generation: 1 });
    story.sends("about a recorded connection", about_tcp(1, port::OPEN), THIRD);
    change_flows(story, |entry| entry.closing = 1);
    story.sends("about a closing connection", about_tcp(1, port::OPEN), THIRD);
    assert!(flows(story).all(|entry| entry.closing == 1), "an error changes no mark");
    change_flows(story, |entry| entry.epoch -= 1);
    change_newborn(story, |entry| entry.epoch -= 1);
    story.sends("about a connection of an earlier opening", about_tcp(1, port::OPEN), PREVIOUS);
    story.sends("where the previous backend died", about_tcp(1, port::ORPHANED), CURRENT);
    story.sends("where all older UDP is known", about_tcp(1, port::KNOWN), PREVIOUS);
    story.sends("where the slot is about to close", about_tcp(1, port::SETTLING), PREVIOUS);
}

fn flows(story: &Story) -> impl Iterator<Item = FlowEntry> {
    story.pair.state().flows.into_values()
}

fn an_error_leaves_no_trace(story: &mut Story) {
    for port in [port::OPEN, port::KNOWN, port::SETTLING, port::ORPHANED] {
        let backend = if port == port::ORPHANED { CURRENT } else { PREVIOUS };
        story.sends("about TCP", about_tcp(1, port), backend);
    }
    story.sends("about UDP", about_udp(1, port::OPEN), PREVIOUS);
    story.sends("about UDP that is known", about_udp(1, port::KNOWN), CURRENT);
    story.sends("about UDP of a slot about to close", about_udp(1, port::SETTLING), CURRENT);
    story.sends("about a client with affinity", about_tcp(1, port::OPEN_AFFINE), PREVIOUS);
    story.entries(0, 0, 0);
    let state = story.pair.state();
    assert!(state.unrecorded.is_empty(), "an error is no sign of life");
    assert_eq!(state.recording, Recording::default(), "an error costs no budget");
    // Nor does it keep what is there.
    story.sends("SYN", syn(1, port::OPEN), CURRENT);
    story.sends("ACK", tcp(1, port::OPEN), CURRENT);
    story.sends("SYN", syn(2, port::OPEN), CURRENT);
    let before = story.pair.state();
    story.pair.set_tick(200);
    story.sends("about a recorded connection", about_tcp(1, port::OPEN), CURRENT);
    story.sends("about a handshake", about_tcp(2, port::OPEN), CURRENT);
    let after = story.pair.state();
    assert_eq!((before.flows, before.newborn), (after.flows, after.newborn));
    assert_eq!((before.survivors, before.unrecorded), (after.survivors, after.unrecorded));
}

fn an_error_goes_where_its_datagrams_go(story: &mut Story) {
    story.sends("UDP", udp(1, port::OPEN), PREVIOUS);
    change_flows(story, |entry| entry.backend = BackendRef { index: THIRD, generation: 1 });
    story.sends("about recorded UDP", about_udp(1, port::OPEN), THIRD);
    story.sends("about other UDP", about_udp(2, port::OPEN), PREVIOUS);
    story.sends("a client with affinity", syn(1, port::OPEN_AFFINE), PREVIOUS);
    change_flows(story, |entry| entry.backend = BackendRef { index: THIRD, generation: 1 });
    story.sends("about another connection of the client", about_tcp(9, port::OPEN_AFFINE), THIRD);
}
