//! One packet each for what open slots do; sequences of packets are tests of their own.

use vip_lb_common::Verdict::{BackendGone, ForwardedIpip, ForwardedL2, Settling};

use super::{Case, sent_to, to_vip};
use crate::{
    packet::{Frame, eth},
    program::world::{FAR, NEXT_HOP, TUNNEL, port},
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, to_vip) in to_vip() {
        // `current` is reached by l2, `previous` by ipip: the bytes tell which it was.
        let current = |name: &str, packet: &dyn Fn(Frame) -> Frame| {
            Case::changed(
                format!("{family}: {name}"),
                &packet(to_vip.clone()),
                ForwardedL2,
                &sent_to(packet(to_vip.clone().ttl(63)), NEXT_HOP),
            )
        };
        let previous = |name: &str, packet: &dyn Fn(Frame) -> Frame| {
            Case::changed(
                format!("{family}: {name}"),
                &packet(to_vip.clone()),
                ForwardedIpip,
                &packet(to_vip.clone().ttl(63)).inside(sent_to(eth(), NEXT_HOP).ipv4(TUNNEL, FAR)),
            )
        };
        cases.extend([
            current("SYN in an open slot", &|ip| ip.tcp(1001, port::OPEN).syn()),
            previous("older TCP in an open slot", &|ip| ip.tcp(1002, port::OPEN)),
            previous("older FIN in an open slot", &|ip| ip.tcp(1003, port::OPEN).fin()),
            previous("older RST in an open slot", &|ip| ip.tcp(1004, port::OPEN).rst()),
            previous("SYN+ACK in an open slot", &|ip| ip.tcp(1005, port::OPEN).syn_ack()),
            previous("UDP in an open slot", &|ip| ip.udp(1006, port::OPEN)),
            current("UDP where all older is known", &|ip| ip.udp(1007, port::KNOWN)),
            previous("TCP where all older UDP is known", &|ip| ip.tcp(1008, port::KNOWN)),
            current("UDP in a slot about to close", &|ip| ip.udp(1009, port::SETTLING)),
            previous("a client with affinity in an open slot", &|ip| ip.tcp(1010, port::OPEN_AFFINE).syn()),
            current("TCP in an open slot whose previous backend died", &|ip| ip.tcp(1011, port::ORPHANED)),
            current("UDP in an open slot whose previous backend died", &|ip| ip.udp(1012, port::ORPHANED)),
        ]);
    }
    cases
}

/// Packets that need the budget to be spent, as their own scenario.
pub fn without_budget() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, to_vip) in to_vip() {
        let syn = |ttl, port| to_vip.clone().ttl(ttl).tcp(1001, port).syn();
        let tunnelled = |frame: Frame| frame.inside(sent_to(eth(), NEXT_HOP).ipv4(TUNNEL, FAR));
        let udp = |ttl, port| to_vip.clone().ttl(ttl).udp(1002, port);
        cases.extend([
            Case::new(
                format!("{family}: SYN in a slot about to close, no budget"),
                &syn(64, port::SETTLING),
                Settling,
            ),
            Case::changed(
                format!("{family}: SYN in an open slot, no budget"),
                &syn(64, port::OPEN),
                ForwardedIpip,
                &tunnelled(syn(63, port::OPEN)),
            ),
            Case::changed(
                format!("{family}: UDP in an open slot, no budget"),
                &udp(64, port::OPEN),
                ForwardedIpip,
                &tunnelled(udp(63, port::OPEN)),
            ),
            Case::changed(
                format!("{family}: UDP where all older is known, no budget"),
                &udp(64, port::KNOWN),
                ForwardedL2,
                &sent_to(udp(63, port::KNOWN), NEXT_HOP),
            ),
            Case::new(
                format!("{family}: a backend that is gone"),
                &to_vip.clone().tcp(1003, port::GONE),
                BackendGone,
            ),
        ]);
    }
    cases
}
