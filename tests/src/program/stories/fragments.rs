//! Later fragments, which go where their first one went.

use std::collections::BTreeSet;

use vip_lb_common::{
    Verdict::{ForwardedIpip, ForwardedL2, FragmentWithoutFirst, TooBigAnswered, TtlExpired},
    abi::{BackendRef, Fragment},
};

use super::{Program, Story, Told};
use crate::{
    packet::{Frame, NODE_MAC, eth},
    program::{
        cases::{label, too_big::answer},
        world::{
            CURRENT, FAR, FAR6, NARROW_MTU, NEXT_HOP, PIECES_VIP, PIECES_VIP6, PREVIOUS, THIRD, TUNNEL,
            TUNNEL6, port, world,
        },
    },
};

pub(super) const ALL: &[Told] = &[
    ("later fragments follow the first", world, later_fragments_follow_the_first),
    ("later fragments leave as the first did", world, later_fragments_leave_as_the_first_did),
    ("fragments follow an open slot's choice", world, fragments_follow_an_open_slots_choice),
    (
        "stray fragments of a client with affinity reach its backend",
        world,
        stray_fragments_of_a_client_with_affinity_reach_its_backend,
    ),
];

const ID: u16 = 4711;
/// Backend of [`port::IPIP`].
const IPIP: u16 = 2;

fn first(port: u16, id: u16) -> impl Fn(Frame) -> Frame {
    move |ip| ip.piece(0, true, id).udp(7, port).claim_len(2000).payload(&[0x5a; 1400])
}

/// A later fragment of UDP.
fn later(id: u16) -> impl Fn(Frame) -> Frame {
    move |ip| ip.piece(1408, true, id).claim_next(17).payload(&[0x5a; 400])
}

fn last(id: u16) -> impl Fn(Frame) -> Frame {
    move |ip| ip.piece(1808, false, id).claim_next(17).payload(&[0x5a; 30])
}

fn later_fragments_follow_the_first(story: &mut Story) {
    story.loses("a later fragment that comes first", later(ID), FragmentWithoutFirst);
    story.sends("the first", first(port::IPIP, ID), IPIP);
    story.sends("a later one", later(ID), IPIP);
    story.sends("the last", last(ID), IPIP);
    story.sends("a later one behind the last", later(ID), IPIP);
    assert_eq!(story.pair.state().fragments.len(), 2);
    story.loses("one of another packet", later(ID + 1), FragmentWithoutFirst);
    // Whoever sends whole packets meanwhile changes nothing.
    story.sends("a whole packet", |ip| ip.udp(7, port::L2), CURRENT);
    stay_young(story);
    story.sends("a later one after a whole packet", later(ID), IPIP);
    story.sends("the first of another packet", first(port::L2, ID + 1), CURRENT);
    story.sends("and its rest", last(ID + 1), CURRENT);
    stay_young(story);
    story.sends("the rest of the former", last(ID), IPIP);
    // The same identification again is another packet.
    story.sends("the first of a packet with the same identification", first(port::L2, ID), CURRENT);
    story.sends("its rest", later(ID), CURRENT);
    assert_eq!(story.pair.state().fragments.len(), 4);

    let fragments = story.pair.state().fragments;
    story.pair.set_fragments(&fragments, Fragment::LIFETIME - 20);
    story.sends("a later one, much later", later(ID), CURRENT);
    story.pair.set_fragments(&fragments, Fragment::LIFETIME + 1);
    story.loses("a later one, too late", later(ID), FragmentWithoutFirst);
    story.sends("the first, once more", first(port::L2, ID), CURRENT);
    story.sends("and its rest", later(ID), CURRENT);

    change_fragments(story, |fragment| fragment.backend.generation = 9);
    story.loses("a later one after its backend died", later(ID), FragmentWithoutFirst);
    story.sends("the first goes where the slot says", first(port::L2, ID), CURRENT);
    change_fragments(story, |fragment| fragment.backend = BackendRef { index: THIRD, generation: 1 });
    story.sends("a later one goes where the first went, not where the slot says", later(ID), THIRD);
}

/// An emulated processor takes longer over a few steps than an entry lives.
fn stay_young(story: &mut Story) {
    change_fragments(story, |_| {});
}

/// Changes the entries of FRAGMENTS, which stay young.
fn change_fragments(story: &mut Story, change: impl Fn(&mut Fragment)) {
    let mut fragments = story.pair.state().fragments;
    fragments.values_mut().for_each(change);
    story.pair.set_fragments(&fragments, 0);
}

fn later_fragments_leave_as_the_first_did(story: &mut Story) {
    let by_l2 = |frame: Frame| frame.from_mac(NODE_MAC).to_mac(NEXT_HOP);
    let outer = || by_l2(eth());
    let flow_label = label(7, port::IPIP6);
    story.sends("the first by l2", first(port::L2, ID), CURRENT);
    story.turns("a later one by l2", later(ID), ForwardedL2, |ip| by_l2(later(ID)(ip.ttl(63))));
    story.sends("the first in IPv4", first(port::IPIP, ID), IPIP);
    story.turns("a later one in IPv4", later(ID), ForwardedIpip, |ip| {
        later(ID)(ip.ttl(63)).inside(outer().ipv4(TUNNEL, FAR))
    });
    story.sends("the first in IPv6", first(port::IPIP6, ID), 3);
    // Its outer header shows the ports that it has not, so that routers keep the pieces together.
    story.turns("a later one in IPv6", later(ID), ForwardedIpip, |ip| {
        later(ID)(ip.ttl(63)).inside(outer().ipv6(TUNNEL6, FAR6).flow_label(flow_label))
    });
    story.turns("the last one in IPv6", last(ID), ForwardedIpip, |ip| {
        last(ID)(ip.ttl(63)).inside(outer().ipv6(TUNNEL6, FAR6).flow_label(flow_label))
    });
    story.loses("with no hop left", |ip| later(ID)(ip.ttl(1)), TtlExpired);
    story.sends("the first of a narrow path", |ip| ip.piece(0, true, ID).udp(7, port::NARROW), 7);
    story.turns("a later one too big for it", later(ID), TooBigAnswered, |ip| {
        answer(eth(), &later(ID)(ip), NARROW_MTU - 20)
    });
}

fn fragments_follow_an_open_slots_choice(story: &mut Story) {
    let segment = |ip: Frame| ip.piece(0, true, ID).tcp(1, port::OPEN).payload(&[0; 60]);
    let rest = |ip: Frame| ip.piece(80, false, ID).claim_next(6).payload(&[0; 60]);
    story.sends("a first fragment of an older connection", segment, PREVIOUS);
    story.entries(0, 0, 2);
    story.sends("its rest", rest, PREVIOUS);
    story.sends("SYN", |ip| ip.tcp(1, port::OPEN).syn(), CURRENT);
    story.sends("a first fragment of the new connection", segment, CURRENT);
    story.entries(2, 2, 2);
    story.sends("its rest", rest, CURRENT);
    story.entries(2, 2, 2);
}

fn stray_fragments_of_a_client_with_affinity_reach_its_backend(story: &mut Story) {
    let mut backends = BTreeSet::new();
    for client in 1..40 {
        let families = [
            ("IPv4", eth().ipv4(&format!("192.0.2.{client}"), PIECES_VIP)),
            ("IPv6", eth().ipv6(&format!("2001:db8:c::{client}"), PIECES_VIP6)),
        ];
        for (family, ip) in families {
            let name = format!("{family}: client {client}");
            let before = story.pair.state().backends;
            for frame in [ip.clone().udp(client, port::AFFINE), later(ID)(ip.clone()), last(ID)(ip)] {
                story.pair.run(&name, Program::Balancer, &frame.bytes(), 0);
            }
            let after = story.pair.state().backends;
            let grown: Vec<(u16, u64)> = after
                .iter()
                .map(|(&index, stats)| (index, stats.packets - before.get(&index).map_or(0, |s| s.packets)))
                .filter(|&(_, packets)| packets != 0)
                .collect();
            let [(backend, 3)] = grown[..] else {
                panic!("{name}: packets by backend {grown:?}, all three should go to one");
            };
            backends.insert(backend);
        }
    }
    story.pair.compare_tables("stray fragments");
    assert!(backends.len() > 5, "all clients went to {backends:?}");
    assert!(story.pair.state().fragments.is_empty());
}
