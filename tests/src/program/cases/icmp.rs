//! ICMP errors about packets that a VIP sent: steered by the flow that they quote.

use vip_lb_common::Verdict::{
    BadTransportHeader, EchoAnswered, ForwardedIpip, ForwardedL2, FromPeer, IcmpQuote, IcmpRate,
    LocalBackend, NotVip, PeerLoop, TooBig, TtlExpired, UnknownService, UnknownServicePassed,
    UnsupportedIcmp,
};

use super::{
    Case,
    forward::{by_l2, outer_v4, outer_v6},
    label,
};
use crate::{
    packet::{Extension, Frame, eth},
    program::world::{
        CLIENT, CLIENT6, ENDPOINT, ENDPOINT6, LOCAL_VIP, LOCAL_VIP6, NARROW_MTU, PEER_MAC, QUIET_VIP,
        QUIET_VIP6, VIP, VIP6, port,
    },
};

/// A router on the way.
const ROUTER: &str = "203.0.113.1";
const ROUTER6: &str = "2001:db8:f::1";
/// The client's port.
const HERE: u16 = 40_200;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in [Family::V4, Family::V6] {
        cases.extend([steered(family), links(family), quotes(family), refused(family)].concat());
    }
    cases
}

/// An error that [`port::RATIONED`] steers while its budget lasts.
pub fn rationed() -> Frame {
    Family::V4.error(Family::V4.to_vip(), port::RATIONED)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// From a router to a VIP.
    fn to(self, link: Frame, vip: (&str, &str)) -> Frame {
        match self {
            Self::V4 => link.ipv4(ROUTER, vip.0),
            Self::V6 => link.ipv6(ROUTER6, vip.1),
        }
    }

    fn to_vip(self) -> Frame {
        self.to(eth(), (VIP, VIP6))
    }

    /// "Packet too big" by another name: type, code and the second word.
    fn too_big(self) -> (u8, u8, [u8; 4]) {
        match self {
            Self::V4 => (3, 4, [0, 0, 5, 0]),
            Self::V6 => (2, 0, [0, 0, 5, 0]),
        }
    }

    /// The header of a packet that a VIP sent to the client, behind an ICMP header.
    fn sent(self, message: Frame, vip: (&str, &str)) -> Frame {
        match self {
            Self::V4 => message.ipv4(vip.0, CLIENT),
            Self::V6 => message.ipv6(vip.1, CLIENT6),
        }
    }

    /// An error in `ip` that quotes a packet of [`VIP`] from the port of a service, its transport header whole.
    fn error(self, ip: Frame, port: u16) -> Frame {
        let (kind, code, rest) = self.too_big();
        self.sent(ip.icmp(kind, code, rest), (VIP, VIP6)).tcp(port, HERE)
    }
}

fn steered(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    let error = |ttl, port| family.error(family.to_vip().ttl(ttl), port);
    cases.extend([
        Case::changed(
            format!("{family:?}: an error by l2"),
            &error(64, port::L2),
            ForwardedL2,
            &by_l2(error(63, port::L2)),
        ),
        Case::changed(
            format!("{family:?}: an error in IPv4"),
            &error(64, port::IPIP),
            ForwardedIpip,
            &error(63, port::IPIP).inside(outer_v4(eth(), 0)),
        ),
        Case::changed(
            format!("{family:?}: an error in IPv6, by the way of its flow"),
            &error(64, port::IPIP6),
            ForwardedIpip,
            &error(63, port::IPIP6).inside(outer_v6(eth(), 0, label(HERE, port::IPIP6))),
        ),
    ]);
    // Every type and code that is an error, and its neighbours that are none.
    let kinds: &[(u8, u8, bool)] = match family {
        Family::V4 => &[
            (3, 0, true),
            (3, 1, true),
            (3, 3, true),
            (3, 13, true),
            (11, 0, true),
            (11, 1, true),
            (12, 0, true),
            (1, 0, false),
            (2, 0, false),
            (4, 0, false),
            (5, 1, false),
            (10, 0, false),
            (13, 0, false),
            (255, 0, false),
        ],
        Family::V6 => &[
            (1, 0, true),
            (1, 4, true),
            (3, 0, true),
            (3, 1, true),
            (4, 1, true),
            (0, 0, false),
            (5, 0, false),
            (100, 0, false),
            (127, 0, false),
            (137, 0, false),
        ],
    };
    for &(kind, code, is_error) in kinds {
        let message = |ttl| {
            family.sent(family.to_vip().ttl(ttl).icmp(kind, code, [0; 4]), (VIP, VIP6)).udp(port::L2, HERE)
        };
        let name = format!("{family:?}: type {kind}, code {code}");
        cases.push(if is_error {
            Case::changed(name, &message(64), ForwardedL2, &by_l2(message(63)))
        } else {
            Case::new(name, &message(64), UnsupportedIcmp)
        });
    }
    // A router does not look at what it forwards.
    let damaged = |ttl| {
        let (kind, code, rest) = family.too_big();
        let message = family.to_vip().ttl(ttl).icmp(kind, code, rest).claim_checksum(0xbad);
        family.sent(message, (VIP, VIP6)).tcp(port::L2, HERE)
    };
    cases.push(
        Case::changed(
            format!("{family:?}: an error with a wrong checksum"),
            &damaged(64),
            ForwardedL2,
            &by_l2(damaged(63)),
        )
        .unsound(),
    );
    cases
}

fn links(family: Family) -> Vec<Case> {
    let links = [("one tag", eth().tag(100)), ("two tags", eth().service_tag(7).tag(100))];
    let mut cases = Vec::new();
    for (name, link) in links {
        let error = |ttl| family.error(family.to(link.clone(), (VIP, VIP6)).ttl(ttl), port::IPIP);
        cases.push(Case::changed(
            format!("{family:?}: an error that comes with {name}"),
            &error(64),
            ForwardedIpip,
            &error(63).inside(outer_v4(eth(), 0)),
        ));
    }
    let longer = |ttl| match family {
        Family::V4 => family.to_vip().ttl(ttl).option(&[1; 40]),
        Family::V6 => family
            .to_vip()
            .ttl(ttl)
            .extension(Extension::HopByHop(1))
            .extension(Extension::DestinationOptions(0)),
    };
    let error = |ttl| family.error(longer(ttl), port::L2);
    cases.push(Case::changed(
        format!("{family:?}: an error behind options"),
        &error(64),
        ForwardedL2,
        &by_l2(error(63)),
    ));
    cases
}

/// What an error quotes, and the error, given its hop limit.
type Quoting<'q> = (&'static str, Box<dyn Fn(u8) -> Frame + 'q>);

/// What is quoted, as little or as odd as it may be.
fn quotes(family: Family) -> Vec<Case> {
    let vip = (VIP, VIP6);
    let message = |ttl| {
        let (kind, code, rest) = family.too_big();
        family.to_vip().ttl(ttl).icmp(kind, code, rest)
    };
    let ports = |port: u16| [port.to_be_bytes(), HERE.to_be_bytes()].concat();
    let tcp_start = |port: u16| [ports(port), vec![0, 0, 3, 0xe8]].concat();
    // The quoted length field says what the packet once was.
    let quoted = |ttl| family.sent(message(ttl), vip).claim_len(1500);
    let good: Vec<Quoting<'_>> = vec![
        ("eight bytes of TCP", Box::new(move |ttl| quoted(ttl).claim_next(6).payload(&tcp_start(port::L2)))),
        ("eight bytes of UDP", Box::new(move |ttl| quoted(ttl).claim_next(17).payload(&tcp_start(port::L2)))),
        ("more than a packet", Box::new(move |ttl| quoted(ttl).tcp(port::L2, HERE).payload(&[7; 900]))),
        ("a hop limit of 0", Box::new(move |ttl| family.sent(message(ttl), vip).ttl(0).tcp(port::L2, HERE))),
        (
            "a packet with options",
            Box::new(move |ttl| match family {
                Family::V4 => family.sent(message(ttl), vip).option(&[1; 40]).tcp(port::L2, HERE),
                Family::V6 => {
                    let sent = family.sent(message(ttl), vip);
                    let sent = sent.extension(Extension::HopByHop(0)).extension(Extension::Routing(1));
                    let sent = sent.extension(Extension::DestinationOptions(2));
                    sent.extension(Extension::atomic_fragment()).tcp(port::L2, HERE)
                }
            }),
        ),
        (
            "a first fragment",
            Box::new(move |ttl| family.sent(message(ttl), vip).piece(0, true, 9).udp(port::L2, HERE)),
        ),
    ];
    let mut cases: Vec<Case> = good
        .iter()
        .map(|(name, frame)| {
            let name = format!("{family:?}: an error that quotes {name}");
            Case::changed(name, &frame(64), ForwardedL2, &by_l2(frame(63)))
        })
        .collect();

    let elsewhere = match family {
        Family::V4 => message(64).ipv4("198.51.100.1", CLIENT),
        Family::V6 => message(64).ipv6("2001:db8::99", CLIENT6),
    };
    let from_client = match family {
        Family::V4 => message(64).ipv4(CLIENT, VIP),
        Family::V6 => message(64).ipv6(CLIENT6, VIP6),
    };
    let other_family = match family {
        Family::V4 => message(64).ipv6(VIP6, CLIENT6),
        Family::V6 => message(64).ipv4(VIP, CLIENT),
    };
    let sent = || family.sent(message(64), vip);
    let mut bad = vec![
        ("nothing", message(64)),
        ("a header alone", sent().claim_next(6)),
        ("seven bytes of TCP", sent().claim_next(6).payload(&tcp_start(port::L2)[..7])),
        (
            "seven bytes and the padding",
            sent().claim_next(6).payload(&tcp_start(port::L2)[..7]).trailer(&[0; 9]),
        ),
        ("half a header", message(64).payload(&[0x45; 12])),
        ("a packet of another host", elsewhere.tcp(port::L2, HERE)),
        ("a packet of the client", from_client.tcp(HERE, port::L2)),
        ("a packet of the other family", other_family.tcp(port::L2, HERE)),
        ("an echo reply", sent().echo_reply(1, 1)),
        ("an unknown protocol", sent().payload(&[0; 64])),
        ("a later fragment", sent().piece(1480, false, 9).claim_next(6).payload(&tcp_start(port::L2))),
        ("a packet of another version", sent().claim_version(5).tcp(port::L2, HERE)),
    ];
    match family {
        Family::V4 => bad.extend([
            ("a header of 16 bytes", sent().claim_header_len(16).tcp(port::L2, HERE)),
            ("options that reach beyond it", sent().claim_header_len(60).tcp(port::L2, HERE)),
        ]),
        Family::V6 => {
            let seven = (0..7).fold(sent(), |frame, _| frame.extension(Extension::DestinationOptions(0)));
            bad.extend([
                ("seven extension headers", seven.tcp(port::L2, HERE)),
                ("an extension header beyond it", sent().claim_next(60).payload(&[6, 200, 0, 0, 0, 0, 0, 0])),
                ("an extension header cut short", sent().claim_next(60).payload(&[6, 0, 0, 0])),
            ]);
        }
    }
    cases.extend(bad.into_iter().map(|(name, frame)| {
        Case::new(format!("{family:?}: an error that quotes {name}"), &frame, IcmpQuote).unsound()
    }));
    cases
}

/// Errors that end elsewhere.
fn refused(family: Family) -> Vec<Case> {
    let error = |port| family.error(family.to_vip(), port);
    let about = |link: Frame, vip: (&str, &str), port| {
        let (kind, code, rest) = family.too_big();
        family.sent(family.to(link, vip).icmp(kind, code, rest), vip).tcp(port, HERE)
    };
    let from_peer = || eth().from_mac(PEER_MAC);
    let local = (LOCAL_VIP, LOCAL_VIP6);
    let mut cases = vec![
        ("about a port without service", error(port::UNKNOWN), UnknownService),
        ("about a service of UDP that is none of TCP", udp_only(family), UnknownService),
        (
            "about an unknown service that is passed",
            about(eth(), (QUIET_VIP, QUIET_VIP6), 9),
            UnknownServicePassed,
        ),
        ("about a backend on this host", about(eth(), local, 80), LocalBackend),
        ("that a peer forwarded to a backend here", about(from_peer(), local, 80), FromPeer),
        (
            "that a peer forwarded, but no backend is here",
            family.error(family.to(from_peer(), (VIP, VIP6)), port::L2),
            PeerLoop,
        ),
        ("of a service that steers none", error(port::MUTE), IcmpRate),
        ("with no hop left", family.error(family.to_vip().ttl(1), port::L2), TtlExpired),
        ("too short for its header", short(family), BadTransportHeader),
        ("to the node itself", about(eth(), (ENDPOINT, ENDPOINT6), 80), NotVip),
        (
            "that is too big itself",
            family.error(family.to_vip(), port::NARROW).payload(&[0; NARROW_MTU as usize]),
            TooBig,
        ),
        ("in the ICMP of the other family", other_icmp(family), UnsupportedIcmp),
    ]
    .into_iter()
    .map(|(name, frame, verdict)| {
        Case::new(format!("{family:?}: an error {name}"), &frame, verdict).unsound()
    })
    .collect::<Vec<_>>();
    let ping = family.to_vip().echo_request(1, 1);
    let pong = match family {
        Family::V4 => eth().ipv4(VIP, ROUTER).echo_reply(1, 1),
        Family::V6 => eth().ipv6(VIP6, ROUTER6).echo_reply(1, 1),
    };
    let pong = pong.from_mac(crate::packet::NODE_MAC).to_mac(crate::packet::CLIENT_MAC);
    cases.push(Case::changed(format!("{family:?}: a router's ping"), &ping, EchoAnswered, &pong));
    cases
}

fn udp_only(family: Family) -> Frame {
    let (kind, code, rest) = family.too_big();
    family.sent(family.to_vip().icmp(kind, code, rest), (VIP, VIP6)).udp(port::EMPTY, HERE)
}

fn short(family: Family) -> Frame {
    let (kind, code, rest) = family.too_big();
    let ip = family.to_vip().claim_len(if family == Family::V4 { 27 } else { 7 });
    ip.icmp(kind, code, rest).payload(&[0; 64])
}

fn other_icmp(family: Family) -> Frame {
    let (kind, code, rest) = family.too_big();
    let ip = family.to_vip().claim_next(if family == Family::V4 { 58 } else { 1 });
    family.sent(ip.icmp(kind, code, rest), (VIP, VIP6)).tcp(port::L2, HERE)
}
