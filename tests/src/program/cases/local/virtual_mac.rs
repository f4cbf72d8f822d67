//! What is answered with the hardware address of a virtual router (RFC 9568 section 8), and what the stack gets that was sent to it.

use vip_lb_common::{
    Verdict::{
        ArpAnswered, EchoAnswered, ForwardedL2, NeighbourAnswered, NotConfigured, NotIp, NotVip,
        OtherResolution, PlainVip, UnknownServicePassed,
    },
    abi::VirtualMac,
};

use super::{
    super::{Case, Expected, Tables},
    SOLICITED_OVERRIDE, advertisement_of, behind_tags,
};
use crate::{
    packet::{CLIENT_MAC, Frame, Mac, NODE_MAC, arp_request, eth, neighbour_solicitation},
    program::world::{
        CLIENT, CLIENT6, LAPSED_ROUTER, NEXT_HOP, PLAIN_VIP, PLAIN_VIP6, ROUTER, VIRTUAL_VIP, VIRTUAL_VIP6,
    },
};

const TAG: [u8; 4] = [0x81, 0, 0, 100];
const OTHER: &str = "203.0.113.9";
const OTHER6: &str = "2001:db8:ffff::9";

pub(super) fn cases() -> Vec<Case> {
    [answers(), stack()].concat()
}

fn mac(is_v4: bool, router: u8) -> Mac {
    VirtualMac::new(is_v4, router).octets()
}

fn answers() -> Vec<Case> {
    let (v4, v6) = (mac(true, ROUTER), mac(false, ROUTER));
    let reply = || {
        arp_request(VIRTUAL_VIP, CLIENT).operation(2).arp_macs(v4, CLIENT_MAC).from_mac(v4).to_mac(CLIENT_MAC)
    };
    let advertisement = || advertisement_of(v6, eth(), VIRTUAL_VIP6, CLIENT6, SOLICITED_OVERRIDE);
    let tagged = |name: &str, question: &Frame, verdict, answer: &Frame| Case {
        expected: Expected::Bytes(behind_tags(answer, &TAG)),
        ..Case::of_bytes(name, behind_tags(question, &TAG), verdict)
    };
    let arp = || arp_request(CLIENT, VIRTUAL_VIP);
    let solicitation = || neighbour_solicitation(CLIENT6, VIRTUAL_VIP6);
    vec![
        Case::changed("ARP for a VIP with a virtual MAC", &arp(), ArpAnswered, &reply()),
        Case::changed("ARP sent to the virtual MAC alone", &arp().to_mac(v4), ArpAnswered, &reply()),
        tagged("ARP for a VIP with a virtual MAC behind a tag", &arp(), ArpAnswered, &reply()),
        Case::new("ARP for a VIP with a virtual MAC by an unknown interface", &arp(), NotConfigured)
            .with(Tables::WithoutInterfaces),
        Case::changed(
            "solicitation for a VIP with a virtual MAC",
            &solicitation(),
            NeighbourAnswered,
            &advertisement(),
        ),
        tagged(
            "solicitation for a VIP with a virtual MAC behind a tag",
            &solicitation(),
            NeighbourAnswered,
            &advertisement(),
        ),
        Case::changed(
            "echo to the virtual MAC",
            &eth().ipv4(CLIENT, VIRTUAL_VIP).echo_request(1, 1).to_mac(v4),
            EchoAnswered,
            &eth().ipv4(VIRTUAL_VIP, CLIENT).echo_reply(1, 1).from_mac(v4).to_mac(CLIENT_MAC),
        ),
        // What is forwarded leaves as from any node.
        Case::changed(
            "a segment to the virtual MAC",
            &eth().ipv4(CLIENT, VIRTUAL_VIP).tcp(40_000, 80).to_mac(v4),
            ForwardedL2,
            &eth().ipv4(CLIENT, VIRTUAL_VIP).ttl(63).tcp(40_000, 80).from_mac(NODE_MAC).to_mac(NEXT_HOP),
        ),
    ]
}

/// The stack knows nothing of the virtual MAC: it takes what is sent to the interface.
fn stack() -> Vec<Case> {
    let (v4, v6) = (mac(true, ROUTER), mac(false, ROUTER));
    let frames = [
        ("a port without a service", eth().ipv4(CLIENT, VIRTUAL_VIP).tcp(1, 22), UnknownServicePassed),
        ("the same over IPv6", eth().ipv6(CLIENT6, VIRTUAL_VIP6).tcp(1, 22), UnknownServicePassed),
        ("a segment to a plain VIP", eth().ipv4(CLIENT, PLAIN_VIP).tcp(1, 22), PlainVip),
        ("echo to a plain VIP over IPv6", eth().ipv6(CLIENT6, PLAIN_VIP6).echo_request(1, 1), PlainVip),
        ("a segment to be routed", eth().ipv4(CLIENT, OTHER).tcp(1, 80), NotVip),
        ("a fragment to be routed", eth().ipv4(CLIENT, OTHER).fragment(64, false).udp(1, 80), NotVip),
        ("a datagram to be routed over IPv6", eth().ipv6(CLIENT6, OTHER6).udp(1, 80), NotVip),
        ("ARP for another address", arp_request(CLIENT, OTHER), OtherResolution),
    ];
    let mut cases = Vec::new();
    for (what, frame, verdict) in frames {
        for (router, own) in [("IPv4", v4), ("IPv6", v6)] {
            let (sent, taken) = (frame.clone().to_mac(own), frame.clone().to_mac(NODE_MAC));
            let name = format!("{what}, to this node's virtual MAC of {router}");
            cases.push(Case::changed(&name, &sent, verdict, &taken));
            cases.push(Case {
                expected: Expected::Bytes(behind_tags(&taken, &TAG)),
                ..Case::of_bytes(format!("{name}, behind a tag"), behind_tags(&sent, &TAG), verdict)
            });
        }
        for (whose, other) in
            [("had a lease of", mac(true, LAPSED_ROUTER)), ("has nothing of", mac(false, 53))]
        {
            let name = format!("{what}, to a virtual MAC that this node {whose}");
            cases.push(Case::new(name, &frame.clone().to_mac(other), verdict));
        }
    }
    let of_another_type = [&v4[..], &CLIENT_MAC, &[0x88, 0xb5], &[0; 46]].concat();
    let taken = [&NODE_MAC[..], &of_another_type[6..]].concat();
    cases.push(Case {
        expected: Expected::Bytes(taken),
        ..Case::of_bytes("a frame of another type to a virtual MAC", of_another_type, NotIp)
    });
    cases
}
