//! Frames larger than a page, which lie in several buffers: the program sees the bytes of the first one and the length of all.

use vip_lb_common::Verdict::{BadLength, Decapsulated, ForwardedIpip, ForwardedL2};

use super::{Case, sent_to, to_vip, too_big::answered};
use crate::{
    packet::{Frame, eth},
    program::world::{self, FAR, JUMBO_MTU, NEXT_HOP, TUNNEL, port},
};

const HERE: u16 = 40_000;
/// Length of an outer IPv4 header.
const OUTER_V4: usize = 20;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, to_vip) in to_vip() {
        let header = if family == "IPv4" { 20 } else { 40 };
        let udp = |ttl, port, len: usize| {
            let payload: Vec<u8> = (0..len - header - 8).map(|index| (index / 7) as u8).collect();
            to_vip.clone().ttl(ttl).udp(HERE, port).payload(&payload)
        };
        let by_l2 = |frame| sent_to(frame, NEXT_HOP);
        let outer = || sent_to(eth(), NEXT_HOP).ipv4(TUNNEL, FAR);
        let jumbo = usize::from(JUMBO_MTU);
        cases.extend([
            Case::changed(
                format!("{family}: a jumbo frame by l2"),
                &udp(64, port::L2, jumbo),
                ForwardedL2,
                &by_l2(udp(63, port::L2, jumbo)),
            ),
            Case::changed(
                format!("{family}: a jumbo frame in IPv4, the largest that fits"),
                &udp(64, port::JUMBO, jumbo - OUTER_V4),
                ForwardedIpip,
                &udp(63, port::JUMBO, jumbo - OUTER_V4).inside(outer()),
            ),
            answered(
                format!("{family}: a jumbo frame in IPv4, one byte too large"),
                eth(),
                &udp(64, port::JUMBO, jumbo - OUTER_V4 + 1),
                JUMBO_MTU - OUTER_V4 as u16,
            ),
            Case::new(
                format!("{family}: a jumbo frame that is not whole"),
                &to_vip
                    .clone()
                    .claim_len(if family == "IPv4" { 9001 } else { 8961 })
                    .payload(&vec![0; 8980 - header]),
                BadLength,
            )
            .unsound(),
        ]);
        cases.push(tagged(family, jumbo));
    }
    cases.push(decapsulated());
    cases
}

fn tagged(family: &str, len: usize) -> Case {
    let frame = |ttl| {
        let link = eth().tag(100);
        let ip = match family {
            "IPv4" => link.ipv4(world::CLIENT, world::VIP),
            _ => link.ipv6(world::CLIENT6, world::VIP6),
        };
        ip.ttl(ttl).tcp(HERE, port::L2).payload(&vec![0x5a; len - 60])
    };
    Case::changed(
        format!("{family}: a tagged jumbo frame by l2"),
        &frame(64),
        ForwardedL2,
        &sent_to(frame(63).untagged(), NEXT_HOP),
    )
}

fn decapsulated() -> Case {
    let inner = || eth().ipv4(world::CLIENT, world::LOCAL_VIP).tcp(HERE, 80).payload(&[0x5a; 8900]);
    let tunnelled: Frame = inner().inside(eth().ipv4(world::PEER, world::ENDPOINT));
    Case::changed("a jumbo frame taken out of its tunnel", &tunnelled, Decapsulated, &inner()).decapsulated()
}
