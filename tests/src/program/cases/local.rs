//! What the node answers itself.

mod virtual_mac;

use std::net::Ipv6Addr;

use vip_lb_common::Verdict::{
    ArpAnswered, EchoAnswered, ForwardedL2, NeighbourAnswered, NotConfigured, NotOwner, OtherResolution,
    PlainVip, UnsupportedIcmp,
};

use super::{Case, Tables, to_vip};
use crate::{
    packet::{
        CLIENT_MAC, Extension, Frame, Mac, NODE_MAC, arp_request, eth, neighbour_solicitation,
        neighbour_solicitation_to,
    },
    program::world::{
        CLIENT, CLIENT6, ENDPOINT, ENDPOINT6, LAPSED_VIP, LAPSED_VIP6, LEASED_VIP, LEASED_VIP6, NEXT_HOP,
        PEER_MAC, PLAIN_VIP, PLAIN_VIP6, QUIET_VIP, QUIET_VIP6, ROUTED_VIP, ROUTED_VIP6, UNLEASED_PLAIN_VIP,
        UNLEASED_PLAIN_VIP6, UNLEASED_VIP, UNLEASED_VIP6, VIP, VIP6,
    },
};

pub(super) fn cases() -> Vec<Case> {
    [arp(), solicitations(), echo(), routed(), leases(), plain_vips(), virtual_mac::cases()].concat()
}

fn answered(frame: Frame) -> Frame {
    frame.from_mac(NODE_MAC).to_mac(CLIENT_MAC)
}

fn arp_reply(asker: &str, asked: &str) -> Frame {
    answered(arp_request(asked, asker).operation(2).arp_macs(NODE_MAC, CLIENT_MAC))
}

/// The same packet behind tags: the builder's ARP frames and solicitations have none.
fn behind_tags(frame: &Frame, tags: &[u8]) -> Vec<u8> {
    let mut bytes = frame.clone().bytes();
    bytes.splice(12..12, tags.iter().copied());
    bytes
}

fn arp() -> Vec<Case> {
    let tags = [0x88, 0xa8, 0, 7, 0x81, 0, 0, 100];
    let tagged = |tags: &[u8]| {
        let question = behind_tags(&arp_request(CLIENT, VIP), tags);
        let answer = behind_tags(&arp_reply(CLIENT, VIP), tags);
        Case {
            expected: super::Expected::Bytes(answer),
            ..Case::of_bytes(format!("ARP behind {} bytes of tags", tags.len()), question, ArpAnswered)
        }
    };
    vec![
        Case::changed("ARP request", &arp_request(CLIENT, VIP), ArpAnswered, &arp_reply(CLIENT, VIP)),
        Case::changed(
            "ARP request, padded",
            &arp_request(CLIENT, VIP).pad_to(60),
            ArpAnswered,
            &arp_reply(CLIENT, VIP).pad_to(60),
        ),
        Case::changed(
            "ARP request sent to this node alone",
            &arp_request(CLIENT, VIP).to_mac(NODE_MAC),
            ArpAnswered,
            &arp_reply(CLIENT, VIP),
        ),
        Case::changed("ARP probe", &arp_request("0.0.0.0", VIP), ArpAnswered, &arp_reply("0.0.0.0", VIP)),
        tagged(&tags[4..]),
        tagged(&tags),
        Case::new("ARP announcement of a VIP", &arp_request(VIP, VIP), OtherResolution),
        Case::new("ARP reply", &arp_request(CLIENT, VIP).operation(2), OtherResolution),
        Case::new("ARP for another address", &arp_request(CLIENT, "10.77.1.99"), OtherResolution),
        Case::new(
            "ARP for a VIP that another node answers for",
            &arp_request(CLIENT, QUIET_VIP),
            OtherResolution,
        ),
        Case::new("ARP for the node's own address", &arp_request(CLIENT, ENDPOINT), OtherResolution),
        Case::of_bytes("ARP for another hardware", arp_with(14, &[0, 6]), OtherResolution).unsound(),
        Case::of_bytes("ARP for another protocol", arp_with(16, &[0x86, 0xdd]), OtherResolution).unsound(),
        Case::of_bytes("ARP with long addresses", arp_with(18, &[8, 4]), OtherResolution).unsound(),
        Case::new("ARP by an unknown interface", &arp_request(CLIENT, VIP), NotConfigured)
            .with(Tables::WithoutInterfaces),
        Case::new("ARP before the settings are there", &arp_request(CLIENT, VIP), NotConfigured)
            .with(Tables::WithoutSettings),
    ]
}

/// An ARP request for the VIP with other bytes at an offset.
fn arp_with(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = arp_request(CLIENT, VIP).bytes();
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

/// An advertisement of the target's link-layer address (RFC 4861 section 4.4). `flags` are R, S and O, the upper three bits.
fn advertisement(link: Frame, target: &str, asker: &str, flags: u8) -> Frame {
    advertisement_of(NODE_MAC, link, target, asker, flags)
}

fn advertisement_of(mac: Mac, link: Frame, target: &str, asker: &str, flags: u8) -> Frame {
    let mut body = target.parse::<Ipv6Addr>().expect("an address").octets().to_vec();
    body.extend([2, 1]);
    body.extend(mac);
    answered(link)
        .from_mac(mac)
        .ipv6(target, asker)
        .ttl(255)
        .icmp(136, 0, [flags << 5, 0, 0, 0])
        .payload(&body)
}

const SOLICITED_OVERRIDE: u8 = 0b011;
const OVERRIDE: u8 = 0b001;

fn solicitations() -> Vec<Case> {
    let to_client = || advertisement(eth(), VIP6, CLIENT6, SOLICITED_OVERRIDE);
    let long = neighbour_solicitation(CLIENT6, VIP6).payload(&[14, 1, 0, 0, 0, 0, 0, 0]).trailer(b"trailer");
    let link_local = "fe80::7";
    vec![
        Case::changed(
            "solicitation",
            &neighbour_solicitation(CLIENT6, VIP6),
            NeighbourAnswered,
            &to_client(),
        ),
        Case::changed(
            "solicitation by a link-local address",
            &neighbour_solicitation(link_local, VIP6),
            NeighbourAnswered,
            &advertisement(eth(), VIP6, link_local, SOLICITED_OVERRIDE),
        ),
        Case::changed(
            "solicitation sent to the VIP itself",
            &neighbour_solicitation_to(VIP6, CLIENT6, VIP6),
            NeighbourAnswered,
            &to_client(),
        ),
        Case::changed("solicitation with more options", &long, NeighbourAnswered, &to_client()),
        Case::changed(
            "duplicate address detection",
            &neighbour_solicitation("::", VIP6),
            NeighbourAnswered,
            &advertisement(eth(), VIP6, "ff02::1", OVERRIDE),
        ),
        Case::changed(
            "solicitation of a peer node that checks the VIP's address",
            &neighbour_solicitation_to(VIP6, "fe80::2", VIP6).from_mac(PEER_MAC),
            NeighbourAnswered,
            &advertisement(eth(), VIP6, "fe80::2", SOLICITED_OVERRIDE).to_mac(PEER_MAC),
        ),
        Case::new(
            "solicitation for another address",
            &neighbour_solicitation(CLIENT6, "2001:db8:77::99"),
            OtherResolution,
        ),
        Case::new(
            "solicitation for a VIP that another node answers for",
            &neighbour_solicitation(CLIENT6, QUIET_VIP6),
            OtherResolution,
        ),
        Case::new(
            "solicitation for the node's own address",
            &neighbour_solicitation(CLIENT6, ENDPOINT6),
            OtherResolution,
        ),
        Case::new("solicitation from afar", &neighbour_solicitation(CLIENT6, VIP6).ttl(254), OtherResolution),
        Case::new(
            "echo request to a solicited-node group",
            &eth().ipv6(CLIENT6, "ff02::1:ff00:1").ttl(255).echo_request(1, 1).payload(&[0; 16]),
            OtherResolution,
        ),
        Case::new(
            "UDP to a solicited-node group",
            &eth().ipv6(CLIENT6, "ff02::1:ff00:1").ttl(255).udp(1, 2).payload(&[0; 16]),
            OtherResolution,
        ),
        Case::new(
            "solicitation too short for a target",
            &eth().ipv6(CLIENT6, "ff02::1:ff00:1").ttl(255).icmp(135, 0, [0; 4]).payload(&[0; 8]),
            OtherResolution,
        ),
        Case::new(
            "solicitation of another kind",
            &eth().ipv6(CLIENT6, "ff02::1:ff00:1").ttl(255).icmp(135, 1, [0; 4]).payload(&[0; 16]),
            OtherResolution,
        ),
        Case::new("solicitation of another IP version", &claiming(|ip| ip.claim_version(2)), OtherResolution)
            .unsound(),
        Case::new("solicitation longer than its frame", &claiming(|ip| ip.claim_len(32)), OtherResolution)
            .unsound(),
        Case::new(
            "solicitation by an unknown interface",
            &neighbour_solicitation(CLIENT6, VIP6),
            NotConfigured,
        )
        .with(Tables::WithoutInterfaces),
    ]
}

/// A solicitation whose IP header lies.
fn claiming(lie: impl Fn(Frame) -> Frame) -> Frame {
    let target = VIP6.parse::<Ipv6Addr>().expect("an address").octets();
    lie(eth().ipv6(CLIENT6, "ff02::1:ff00:1")).ttl(255).icmp(135, 0, [0; 4]).payload(&target)
}

fn echo() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, to_vip) in to_vip() {
        let from_vip = match family {
            "IPv4" => eth().ipv4(VIP, CLIENT),
            _ => eth().ipv6(VIP6, CLIENT6),
        };
        for (name, ttl, payload) in
            [("near", 64, &b""[..]), ("far", 3, b"odd"), ("last hop", 1, &[0xff; 1400])]
        {
            cases.push(Case::changed(
                format!("{family}: echo, {name}"),
                &to_vip.clone().ttl(ttl).traffic_class(0x28).echo_request(77, 3).payload(payload),
                EchoAnswered,
                &answered(from_vip.clone().traffic_class(0x28).echo_reply(77, 3).payload(payload)),
            ));
        }
        // Every checksum around the wrap, and a message that becomes nothing but zeros, whose checksum cannot be 0.
        for sequence in [0, 0xf7b0, 0xf7b1, 0xf7b2, 0xffff] {
            let reply = answered(from_vip.clone().echo_reply(0, sequence));
            // The two zeros of one's complement are the same to who sums them up.
            let reply =
                if family == "IPv4" && sequence == 0xffff { reply.claim_checksum(0xffff) } else { reply };
            cases.push(Case::changed(
                format!("{family}: echo {sequence:#x}"),
                &to_vip.clone().echo_request(0, sequence),
                EchoAnswered,
                &reply,
            ));
        }
        cases.push(Case::new(
            format!("{family}: echo reply to a VIP"),
            &to_vip.clone().echo_reply(1, 1),
            UnsupportedIcmp,
        ));
    }
    let optioned = |from: &str, to: &str| eth().ipv4(from, to).option(&[1; 4]);
    let extended = |from: &str, to: &str| {
        let ip = eth().ipv6(from, to);
        ip.extension(Extension::DestinationOptions(0)).extension(Extension::atomic_fragment())
    };
    let tagged = |from: &str, to: &str| eth().service_tag(7).tag(100).ipv4(from, to);
    cases.extend([
        Case::changed(
            "echo with IPv4 options",
            &optioned(CLIENT, VIP).echo_request(1, 1),
            EchoAnswered,
            &answered(optioned(VIP, CLIENT).echo_reply(1, 1)),
        ),
        Case::changed(
            "echo with IPv6 extension headers",
            &extended(CLIENT6, VIP6).echo_request(1, 1),
            EchoAnswered,
            &answered(extended(VIP6, CLIENT6).echo_reply(1, 1)),
        ),
        Case::changed(
            "echo with tags",
            &tagged(CLIENT, VIP).echo_request(1, 1),
            EchoAnswered,
            &answered(tagged(VIP, CLIENT).echo_reply(1, 1)),
        ),
        Case::changed(
            "echo of a peer node by another address than its own",
            &eth().from_mac(PEER_MAC).ipv4("10.99.0.2", VIP).echo_request(1, 1),
            EchoAnswered,
            &answered(eth().ipv4(VIP, "10.99.0.2").echo_reply(1, 1)).to_mac(PEER_MAC),
        ),
        Case::new(
            "echo to a VIP that another node answers for",
            &eth().ipv4(CLIENT, QUIET_VIP).echo_request(1, 1),
            UnsupportedIcmp,
        ),
        Case::new(
            "ICMPv6 over IPv4",
            &eth().ipv4(CLIENT, VIP).claim_next(58).icmp(128, 0, [0; 4]),
            UnsupportedIcmp,
        )
        .unsound(),
        Case::new(
            "ICMP over IPv6",
            &eth().ipv6(CLIENT6, VIP6).claim_next(1).icmp(8, 0, [0; 4]),
            UnsupportedIcmp,
        )
        .unsound(),
        Case::new(
            "echo before the settings are there",
            &eth().ipv4(CLIENT, VIP).echo_request(1, 1),
            NotConfigured,
        )
        .with(Tables::WithoutSettings),
    ]);
    cases
}

/// Routers know the way: the only question that is answered is whether somebody is there.
fn routed() -> Vec<Case> {
    vec![
        Case::new("ARP for a routed VIP", &arp_request(CLIENT, ROUTED_VIP), OtherResolution),
        Case::new(
            "solicitation for a routed VIP",
            &neighbour_solicitation(CLIENT6, ROUTED_VIP6),
            OtherResolution,
        ),
        Case::changed(
            "echo to a routed VIP",
            &eth().ipv4(CLIENT, ROUTED_VIP).echo_request(1, 1),
            EchoAnswered,
            &answered(eth().ipv4(ROUTED_VIP, CLIENT).echo_reply(1, 1)),
        ),
        Case::changed(
            "echo to a routed VIP over IPv6",
            &eth().ipv6(CLIENT6, ROUTED_VIP6).echo_request(1, 1),
            EchoAnswered,
            &answered(eth().ipv6(ROUTED_VIP6, CLIENT6).echo_reply(1, 1)),
        ),
    ]
}

/// Of a VIP without services only the answers to who has it are the program's.
fn plain_vips() -> Vec<Case> {
    let mut cases = vec![
        Case::changed(
            "ARP for a plain VIP",
            &arp_request(CLIENT, PLAIN_VIP),
            ArpAnswered,
            &arp_reply(CLIENT, PLAIN_VIP),
        ),
        Case::changed(
            "solicitation for a plain VIP",
            &neighbour_solicitation(CLIENT6, PLAIN_VIP6),
            NeighbourAnswered,
            &advertisement(eth(), PLAIN_VIP6, CLIENT6, SOLICITED_OVERRIDE),
        ),
        Case::new("ARP for a plain VIP without a lease", &arp_request(CLIENT, UNLEASED_PLAIN_VIP), NotOwner),
        Case::new(
            "solicitation for a plain VIP without a lease",
            &neighbour_solicitation(CLIENT6, UNLEASED_PLAIN_VIP6),
            NotOwner,
        ),
    ];
    for (v4, v6) in [(PLAIN_VIP, PLAIN_VIP6), (UNLEASED_PLAIN_VIP, UNLEASED_PLAIN_VIP6)] {
        let frames = [
            ("TCP", eth().ipv4(CLIENT, v4).tcp(1, 80)),
            ("TCP over IPv6", eth().ipv6(CLIENT6, v6).tcp(1, 80)),
            ("UDP", eth().ipv4(CLIENT, v4).udp(1, 80)),
            ("echo", eth().ipv4(CLIENT, v4).echo_request(1, 1)),
            ("echo over IPv6", eth().ipv6(CLIENT6, v6).echo_request(1, 1)),
            ("another protocol", eth().ipv4(CLIENT, v4).payload(&[0; 64])),
            ("another protocol over IPv6", eth().ipv6(CLIENT6, v6).payload(&[0; 64])),
            ("a fragment", eth().ipv4(CLIENT, v4).fragment(64, false).udp(1, 80)),
            ("a damaged segment", eth().ipv4(CLIENT, v4).fragment(8, true).tcp(1, 80)),
            ("a solicitation for another", neighbour_solicitation_to(v6, CLIENT6, CLIENT6)),
        ];
        cases.extend(
            frames
                .into_iter()
                .map(|(what, frame)| Case::new(format!("{what} to {v4} or {v6}"), &frame, PlainVip)),
        );
    }
    cases
}

/// A lease decides who answers, and nothing else: what comes is forwarded.
fn leases() -> Vec<Case> {
    let tag = [0x81, 0, 0, 100];
    let mut cases = vec![
        Case::changed(
            "ARP for a leased VIP",
            &arp_request(CLIENT, LEASED_VIP),
            ArpAnswered,
            &arp_reply(CLIENT, LEASED_VIP),
        ),
        Case {
            expected: super::Expected::Bytes(behind_tags(&arp_reply(CLIENT, LEASED_VIP), &tag)),
            ..Case::of_bytes(
                "ARP for a leased VIP behind a tag",
                behind_tags(&arp_request(CLIENT, LEASED_VIP), &tag),
                ArpAnswered,
            )
        },
        Case::changed(
            "solicitation for a leased VIP",
            &neighbour_solicitation(CLIENT6, LEASED_VIP6),
            NeighbourAnswered,
            &advertisement(eth(), LEASED_VIP6, CLIENT6, SOLICITED_OVERRIDE),
        ),
        Case {
            expected: super::Expected::Bytes(behind_tags(
                &advertisement(eth(), LEASED_VIP6, CLIENT6, SOLICITED_OVERRIDE),
                &tag,
            )),
            ..Case::of_bytes(
                "solicitation for a leased VIP behind a tag",
                behind_tags(&neighbour_solicitation(CLIENT6, LEASED_VIP6), &tag),
                NeighbourAnswered,
            )
        },
        Case::changed(
            "echo to a leased VIP",
            &eth().ipv4(CLIENT, LEASED_VIP).echo_request(1, 1),
            EchoAnswered,
            &answered(eth().ipv4(LEASED_VIP, CLIENT).echo_reply(1, 1)),
        ),
        Case::changed(
            "echo to a leased VIP over IPv6",
            &eth().ipv6(CLIENT6, LEASED_VIP6).echo_request(1, 1),
            EchoAnswered,
            &answered(eth().ipv6(LEASED_VIP6, CLIENT6).echo_reply(1, 1)),
        ),
    ];
    for (lease, v4, v6) in [("a lapsed", LAPSED_VIP, LAPSED_VIP6), ("no", UNLEASED_VIP, UNLEASED_VIP6)] {
        let forwarded = |frame: Frame| frame.from_mac(NODE_MAC).to_mac(NEXT_HOP).ttl(63);
        let tagged = behind_tags(&arp_request(CLIENT, v4), &tag);
        let echo = [eth().ipv4(CLIENT, v4), eth().ipv6(CLIENT6, v6)].map(|ip| ip.echo_request(1, 1));
        cases.extend([
            Case::new(format!("ARP with {lease} lease"), &arp_request(CLIENT, v4), NotOwner),
            Case::of_bytes(format!("ARP behind a tag with {lease} lease"), tagged, NotOwner),
            Case::new(
                format!("solicitation with {lease} lease"),
                &neighbour_solicitation(CLIENT6, v6),
                NotOwner,
            ),
            Case::new(format!("echo with {lease} lease"), &echo[0], UnsupportedIcmp),
            Case::new(format!("echo over IPv6 with {lease} lease"), &echo[1], UnsupportedIcmp),
            Case::changed(
                format!("a segment with {lease} lease"),
                &eth().ipv4(CLIENT, v4).tcp(1, 80),
                ForwardedL2,
                &forwarded(eth().ipv4(CLIENT, v4)).tcp(1, 80),
            ),
            Case::changed(
                format!("a segment over IPv6 with {lease} lease"),
                &eth().ipv6(CLIENT6, v6).tcp(1, 80),
                ForwardedL2,
                &forwarded(eth().ipv6(CLIENT6, v6)).tcp(1, 80),
            ),
        ]);
    }
    cases
}
