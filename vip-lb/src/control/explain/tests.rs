//! Explanations over tables in memory.

use std::{cell::RefCell, net::SocketAddr};

use vip_lb_common::{
    HashKey, Verdict,
    abi::{
        Address, Backend, FlowEntry, FlowKey, Mode, NatFlow, Phase, PortEntry, RING_SIZES, Settings,
        Slot as RingSlot, Vip,
    },
    memory::MemoryTables,
};

use super::*;
use crate::{
    api::model::{ChosenBackend, FlowHash, NoSuchPacket, SlotState},
    config::model::{Affinity, Protocol},
};

mod packets;

const WEB: u16 = 3;
const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ARRIVAL: Arrival = Arrival { index: 2, mac: OWN_MAC };

struct Book;

impl Names for Book {
    fn service(&self, id: u16) -> Option<ServiceName> {
        (id == WEB).then(|| ServiceName { name: "web".into(), ports: Ports::One(80) })
    }

    fn backend(&self, index: u16) -> Option<BackendName> {
        (index < 10).then(|| BackendName {
            name: format!("b{index}"),
            address: IpAddr::from([10, 0, 0, 10 + index as u8]),
            service: "web".into(),
        })
    }

    fn standing(&self, _: u16) -> Option<String> {
        None
    }

    fn interface(&self, index: u32) -> Option<String> {
        (index < 10).then(|| format!("eth{index}"))
    }
}

fn address(text: &str) -> Address {
    Address::from(text.parse::<IpAddr>().unwrap())
}

fn reference(index: u16) -> BackendRef {
    BackendRef { index, generation: 1 }
}

/// A backend that is reached by eth2 in `mode`.
fn backend(mode: Mode) -> Backend {
    Backend {
        generation: 1,
        mode: mode as u8,
        egress: 2,
        macs: [2, 0, 0, 0, 0, 0x11, 2, 0, 0, 0, 0, 1],
        mtu: 1500,
        service: WEB,
        ..Backend::default()
    }
}

/// The VIPs 192.0.2.10 and 2001:db8::10 with the service web on port 80 in both protocols; every slot of its ring is
/// `slot`, and backends b1 to b4 are reached in the four modes.
fn tables(slot: RingSlot) -> MemoryTables {
    let service = ServiceRef { id: WEB, ..ServiceRef::default() };
    let entry = |protocol| PortEntry { port: 80, protocol, service, ..PortEntry::default() };
    let mut vip = Vip { id: 1, ..Vip::default() };
    vip.services[..2].copy_from_slice(&[entry(6), entry(17)]);
    let mut tables = MemoryTables {
        settings: Some(Settings {
            tick: 7,
            record_budget: 10,
            survivor_budget: 10,
            fresh_until: u32::MAX,
            ..Settings::new(HashKey::from_seed(&[7; 32]))
        }),
        ..MemoryTables::default()
    };
    for text in ["192.0.2.10", "2001:db8::10"] {
        tables.vips.insert(address(text), vip);
    }
    tables.rings.insert(WEB, RefCell::new(vec![slot; RING_SIZES[0]]));
    tables.backends.insert(1, backend(Mode::L2));
    tables.backends.insert(
        2,
        Backend {
            egress: 5,
            source: address("10.0.0.1"),
            address: address("10.0.0.12"),
            ..backend(Mode::IpipV4)
        },
    );
    tables.backends.insert(
        3,
        Backend {
            source: address("2001:db8:1::1"),
            address: address("2001:db8:1::13"),
            ..backend(Mode::IpipV6)
        },
    );
    tables.backends.insert(4, backend(Mode::Local));
    tables
}

fn closed(current: u16) -> RingSlot {
    RingSlot { current: reference(current), ..RingSlot::default() }
}

fn open(current: u16, previous: u16) -> RingSlot {
    RingSlot {
        current: reference(current),
        previous: reference(previous),
        epoch: 4,
        phase: Phase::Open as u8,
        ..RingSlot::default()
    }
}

fn request(source: &str, destination: &str, protocol: Protocol) -> ExplainRequest {
    let destination: SocketAddr = destination.parse().unwrap();
    ExplainRequest {
        source: source.parse().unwrap(),
        source_port: Some(40000),
        destination: destination.ip(),
        destination_port: Some(destination.port()),
        protocol,
        packet: PacketKind::First,
        fragment_id: None,
        interface: None,
    }
}

fn syn() -> ExplainRequest {
    request("198.51.100.7", "192.0.2.10:80", Protocol::Tcp)
}

/// Explains over tables that `change` was applied to.
fn explained(request: &ExplainRequest, slot: RingSlot, change: impl Fn(&mut MemoryTables)) -> Explanation {
    let open = || {
        let mut tables = tables(slot);
        change(&mut tables);
        tables
    };
    explain_over(request, ARRIVAL, &Book, open, |tables| Ok(tables.steps.into_inner())).unwrap()
}

fn texts<'a>(explanation: &'a Explanation, stage: &str) -> Vec<&'a str> {
    let steps = explanation.steps.iter().filter(|step| step.stage == stage);
    steps.map(|step| step.text.as_str()).collect()
}

#[test]
fn a_settled_flow_in_l2_mode() {
    let explanation = explained(&syn(), closed(1), |_| {});
    let (hash, slot) = (explanation.hash.unwrap(), explanation.slot.clone().unwrap());
    let expected = [
        ("parse", "ethernet, ipv4, tcp syn; comes in by eth2".to_owned()),
        ("destination", "192.0.2.10 is a VIP".to_owned()),
        ("service", "192.0.2.10:80/tcp is web".to_owned()),
        ("hash", format!("{hash} over source address and both ports")),
        ("slot", format!("{} of 16381, closed: every flow is on b1", slot.index)),
        ("backend", "b1: every flow of a closed slot".to_owned()),
        ("forward", "new MAC addresses, back out by eth2 where it came in".to_owned()),
    ];
    let steps: Vec<_> =
        explanation.steps.iter().map(|step| (step.stage.as_str(), step.text.clone())).collect();
    assert_eq!(steps, expected);
    assert_eq!(explanation.verdict.name, "forwarded_l2");
    assert_eq!(explanation.service.unwrap().affinity, Affinity::Flow);
    assert_eq!(slot.state, SlotState::Closed { current: "b1".into() });
    assert_eq!(
        explanation.backend,
        Some(ChosenBackend {
            name: "b1".into(),
            address: "10.0.0.11".parse().unwrap(),
            reason: "every flow of a closed slot".into(),
        })
    );
    assert_eq!(
        explanation.rewrites,
        [
            "destination MAC 02:00:00:00:00:01 -> 02:00:00:00:00:11",
            "source MAC of the sender -> 02:00:00:00:00:01",
            "TTL 64 -> 63",
        ]
    );
    assert_eq!(explanation.egress.as_deref(), Some("eth2"));
}

#[test]
fn the_hash_is_the_one_of_the_packet_path() {
    let key = HashKey::from_seed(&[7; 32]);
    let ports = u32::from_ne_bytes([0x9c, 0x40, 0, 80]);
    let expected = key.hash(address("198.51.100.7").words(), ports, true);
    let explanation = explained(&syn(), closed(1), |_| {});
    assert_eq!(explanation.hash, Some(FlowHash(expected.0)));
    assert_eq!(explanation.slot.unwrap().index, expected.slot(16381));
}

#[test]
fn tunnels_of_both_families() {
    let explanation = explained(&syn(), closed(2), |_| {});
    assert_eq!(texts(&explanation, "forward"), ["encapsulated in ipv4, leaves by eth5"]);
    assert_eq!(explanation.egress.as_deref(), Some("eth5"));
    assert_eq!(
        explanation.rewrites[2..],
        ["outer IPv4 10.0.0.1 -> 10.0.0.12, TTL 64, 20 bytes more", "inner TTL 64 -> 63"]
    );

    let v6 = request("2001:db8:f::7", "[2001:db8::10]:80", Protocol::Udp);
    let explanation = explained(&v6, closed(3), |_| {});
    assert_eq!(texts(&explanation, "parse"), ["ethernet, ipv6, udp; comes in by eth2"]);
    assert_eq!(explanation.verdict.name, "forwarded_ipip");
    assert_eq!(
        explanation.rewrites[2..],
        [
            "outer IPv6 2001:db8:1::1 -> 2001:db8:1::13, hop limit 64, 40 bytes more",
            "inner hop limit 64 -> 63"
        ]
    );
}

/// What is said of a packet that became `after`.
fn told(
    request: &ExplainRequest,
    after: Vec<u8>,
    verdict: Verdict,
    change: impl Fn(&mut MemoryTables),
) -> Explanation {
    let mut tables = tables(closed(1));
    change(&mut tables);
    let before = build(request, OWN_MAC);
    let service = ServiceRef { id: WEB, ..ServiceRef::default() };
    let fate = Fate { egress: 5, ..Fate::from(verdict) };
    let run = Run { before, after, fate, steps: vec![Step::Service(service)] };
    Words { request, arrival: ARRIVAL, names: &Book, tables: &tables }.explanation(&run)
}

/// A packet of another connection, as one is after translation.
fn translated(source: &str, destination: &str) -> Vec<u8> {
    let (source, destination): (SocketAddr, SocketAddr) =
        (source.parse().unwrap(), destination.parse().unwrap());
    let request = ExplainRequest {
        source: source.ip(),
        source_port: Some(source.port()),
        destination: destination.ip(),
        destination_port: Some(destination.port()),
        protocol: Protocol::Tcp,
        packet: PacketKind::First,
        fragment_id: None,
        interface: None,
    };
    build(&request, [2, 0, 0, 0, 0, 0x11])
}

#[test]
fn translation_tells_both_ends_and_whose_the_port_is() {
    let after = || translated("10.0.0.1:61000", "10.0.0.11:8080");
    let fresh = told(&syn(), after(), Verdict::ForwardedNat, |_| {});
    assert_eq!(
        texts(&fresh, "forward"),
        ["translated to 10.0.0.11:8080 from 10.0.0.1 with a free port, now 61000, leaves by eth5"]
    );
    assert_eq!(
        fresh.rewrites[2..],
        [
            "source 198.51.100.7:40000 -> 10.0.0.1:61000",
            "destination 192.0.2.10:80 -> 10.0.0.11:8080",
            "TTL 64 -> 64"
        ]
    );
    let key = FlowKey {
        source: address("198.51.100.7"),
        source_port: 40000,
        destination_port: 80,
        service: WEB,
        reserved: 0,
    };
    for (port, text) in
        [(61_000, "port 61000, which the connection has already"), (61_007, "a free port, now 61000")]
    {
        let known = told(&syn(), after(), Verdict::ForwardedNat, |tables| {
            tables.nat_flows.borrow_mut().insert(key, NatFlow { port, ..NatFlow::default() });
        });
        assert!(texts(&known, "forward")[0].contains(text), "{:?}", known.steps);
    }
    let other_family =
        told(&syn(), translated("[2001:db8::1]:61000", "[2001:db8::11]:80"), Verdict::ForwardedNat, |_| {});
    assert_eq!(
        other_family.rewrites[2..],
        [
            "ipv4 header -> ipv6",
            "source 198.51.100.7:40000 -> [2001:db8::1]:61000",
            "destination 192.0.2.10:80 -> [2001:db8::11]:80",
            "TTL 64 -> 64"
        ]
    );
}

#[test]
fn an_answer_is_told_as_the_client_sees_it() {
    let answer = request("10.0.0.11", "10.0.0.1:61000", Protocol::Tcp);
    let after = translated("192.0.2.10:80", "198.51.100.7:40000");
    let explanation = told(&answer, after, Verdict::TranslatedReply, |_| {});
    assert_eq!(
        texts(&explanation, "forward"),
        ["a backend's answer, translated to one of 192.0.2.10:80 to 198.51.100.7:40000, leaves by eth5"]
    );
    assert_eq!(explanation.egress.as_deref(), Some("eth5"));
}

#[test]
fn gue_tells_its_ports_and_a_tag_does_not_hide_them() {
    let inner = build(&syn(), OWN_MAC)[14..].to_vec();
    let udp = [0xd4, 0x31, 0x17, 0xc0, 0, 0, 0, 0];
    let mut outer = translated("10.0.0.1:1", "10.0.0.12:1")[..34].to_vec();
    outer.extend(udp);
    outer.extend(&inner);
    let mut tagged = outer.clone();
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    for after in [outer, tagged] {
        let explanation = told(&syn(), after, Verdict::ForwardedGue, |_| {});
        assert_eq!(texts(&explanation, "forward"), ["encapsulated in udp over ipv4, leaves by eth5"]);
        assert_eq!(
            explanation.rewrites[2..],
            [
                "outer IPv4 10.0.0.1 -> 10.0.0.12, UDP port 54321 -> 6080, TTL 64, 28 bytes more",
                "inner TTL 64 -> 64"
            ]
        );
    }
    let mut outer = translated("[2001:db8::1]:1", "[2001:db8::2]:1")[..54].to_vec();
    outer.extend(udp);
    outer.extend(inner);
    let explanation = told(&syn(), outer, Verdict::ForwardedGue, |_| {});
    assert_eq!(texts(&explanation, "forward"), ["encapsulated in udp over ipv6, leaves by eth5"]);
    assert!(explanation.rewrites[2].ends_with("UDP port 54321 -> 6080, hop limit 64, 48 bytes more"));
}

#[test]
fn a_packet_that_is_too_big_is_answered() {
    let before = build(&syn(), OWN_MAC);
    let explanation = told(&syn(), before, Verdict::TooBigAnswered, |_| {});
    assert_eq!(
        texts(&explanation, "forward"),
        ["an ICMP error goes back to the sender: too big for the path to the backend"]
    );
    assert_eq!((explanation.rewrites.len(), explanation.egress), (0, None));
}

#[test]
fn addresses_of_translated_connections_are_told_apart() {
    for (flags, text) in [
        (
            Vip::NAT_SOURCE | Vip::ANSWER,
            "is the address of translated connections on this node, and nobody else's",
        ),
        (Vip::NAT_SOURCE, "is an address of this host, which translated connections have, too"),
        (
            Vip::NAT_SOURCE | Vip::ENDPOINT,
            "is an address of this host, which translated connections have, too, and where tunnels of its peers end",
        ),
        (Vip::ADVERTS | Vip::ENDPOINT, "is where nodes say by VRRP that they are active"),
    ] {
        let explanation = explained(&syn(), closed(4), |tables| {
            tables.vips.get_mut(&address("192.0.2.10")).unwrap().flags = flags;
        });
        assert_eq!(texts(&explanation, "destination"), [format!("192.0.2.10 {text}")]);
    }
}

#[test]
fn a_range_is_told_with_its_service_and_a_backend_with_where_it_stands() {
    struct Ranges;
    impl Names for Ranges {
        fn service(&self, _: u16) -> Option<ServiceName> {
            Some(ServiceName { name: "web".into(), ports: Ports::Range(80, 99) })
        }

        fn backend(&self, index: u16) -> Option<BackendName> {
            Book.backend(index)
        }

        fn standing(&self, index: u16) -> Option<String> {
            (index == 1).then(|| "draining: drained by the operator".to_owned())
        }

        fn interface(&self, index: u32) -> Option<String> {
            Book.interface(index)
        }
    }
    let open = || tables(closed(1));
    let explanation =
        explain_over(&syn(), ARRIVAL, &Ranges, open, |tables| Ok(tables.steps.into_inner())).unwrap();
    assert_eq!(texts(&explanation, "service"), ["192.0.2.10:80/tcp is web, which takes the ports 80-99"]);
    assert_eq!(texts(&explanation, "standing"), ["b1: draining: drained by the operator"]);
}

#[test]
fn a_new_flow_of_an_open_slot_differs_from_one_that_exists_already() {
    let explanation = explained(&syn(), open(1, 2), |_| {});
    assert_eq!(texts(&explanation, "backend"), ["b1: new flow of an open slot"]);
    assert_eq!(
        texts(&explanation, "established"),
        ["a segment of a connection that exists already goes to b2 10.0.0.12: unknown flow of an open slot"]
    );
    assert_eq!(explanation.verdict.name, "forwarded_l2", "the SYN is what was asked about");
    assert!(texts(&explanation, "slot")[0].ends_with("open: current b1, previous b2, epoch 4"));
    assert_eq!(
        explanation.slot.unwrap().state,
        SlotState::Open { current: "b1".into(), previous: "b2".into(), epoch: 4 }
    );
}

#[test]
fn what_tables_know_of_a_flow_is_told() {
    let key = FlowKey {
        source: address("198.51.100.7"),
        source_port: 40000,
        destination_port: 80,
        service: WEB,
        reserved: 0,
    };
    let entry = FlowEntry { backend: reference(3), epoch: 4, ..FlowEntry::default() };
    let recorded = explained(&syn(), open(1, 2), |tables| {
        tables.flows.borrow_mut().insert(key, entry);
    });
    assert_eq!(texts(&recorded, "backend"), ["b3: recorded flow"]);
    assert_eq!(texts(&recorded, "established"), [""; 0], "no difference, nothing to say");

    let handshake = explained(&syn(), open(1, 2), |tables| {
        tables.newborn.borrow_mut().insert(key, entry);
    });
    assert_eq!(texts(&handshake, "backend"), ["b3: recorded handshake"]);

    let refused = explained(&syn(), open(1, 2), |tables| {
        tables.settings.as_mut().unwrap().record_budget = 0;
    });
    assert_eq!(refused.backend.unwrap().reason, "new flow of an open slot, which cannot be recorded now");

    let orphaned = explained(&syn(), open(1, 2), |tables| {
        tables.settings.as_mut().unwrap().record_budget = 0;
        tables.backends.remove(&2);
    });
    assert_eq!(
        texts(&orphaned, "backend"),
        ["b1: new flow of an open slot, which cannot be recorded now, whose earlier backend is gone"]
    );
    assert!(texts(&orphaned, "slot")[0].contains("previous a removed backend"));
}

#[test]
fn a_segment_is_told_of_where_a_handshake_would_be_dropped() {
    let settling = RingSlot { phase: Phase::Settling as u8, ..open(1, 2) };
    let explanation = explained(&syn(), settling, |tables| {
        tables.settings.as_mut().unwrap().record_budget = 0;
    });
    assert_eq!(explanation.verdict.name, "settling");
    assert_eq!((explanation.backend, explanation.egress.as_deref()), (None, None));
    assert_eq!(explanation.steps.last().unwrap().stage, "established");
}

#[test]
fn source_affinity_needs_no_port_and_has_no_handshakes() {
    let by_source = |tables: &mut MemoryTables| {
        for vip in tables.vips.values_mut() {
            for entry in &mut vip.services {
                entry.service.flags = ServiceRef::SOURCE_AFFINITY;
            }
        }
    };
    let with_port = explained(&syn(), open(1, 2), by_source);
    let without = ExplainRequest { source_port: None, ..syn() };
    let without_port = explained(&without, open(1, 2), by_source);
    assert_eq!(with_port.hash, without_port.hash);
    assert_eq!(with_port.service.as_ref().unwrap().affinity, Affinity::Source);
    assert!(texts(&with_port, "hash")[0].ends_with(" over the source address alone"));
    assert_eq!(texts(&with_port, "backend"), ["b2: unknown flow of an open slot"]);
    assert_eq!(texts(&with_port, "established"), [""; 0]);
}

#[test]
fn what_ends_early_has_little_to_tell() {
    let other = request("198.51.100.7", "192.0.2.11:80", Protocol::Tcp);
    let explanation = explained(&other, closed(1), |_| {});
    assert_eq!(explanation.verdict.name, "not_vip");
    assert_eq!(texts(&explanation, "destination"), ["192.0.2.11 is no VIP"]);
    assert_eq!((explanation.service, explanation.slot, explanation.backend), (None, None, None));
    assert!(explanation.rewrites.is_empty() && explanation.egress.is_none());

    let other_port = request("198.51.100.7", "192.0.2.10:81", Protocol::Tcp);
    assert_eq!(explained(&other_port, closed(1), |_| {}).verdict.name, "unknown_service");

    let explanation = explained(&syn(), RingSlot::default(), |_| {});
    assert_eq!(explanation.verdict.name, "no_backend");
    assert_eq!(explanation.slot.unwrap().state, SlotState::Closed { current: "none".into() });

    let explanation = explained(&syn(), closed(9), |_| {});
    assert_eq!(explanation.verdict.name, "backend_gone");
    assert_eq!(texts(&explanation, "backend"), ["a removed backend: every flow of a closed slot"]);
    assert_eq!(explanation.backend, None);
}

#[test]
fn this_host_may_be_the_backend_or_the_tunnels_end() {
    let explanation = explained(&syn(), closed(4), |_| {});
    assert_eq!(explanation.verdict.name, "local_backend");
    assert_eq!(texts(&explanation, "forward"), ["to the stack of this host, which is the backend"]);
    assert_eq!(explanation.backend.unwrap().name, "b4");
    assert_eq!(explanation.egress, None);

    let explanation = explained(&syn(), closed(4), |tables| {
        tables.vips.get_mut(&address("192.0.2.10")).unwrap().flags = Vip::ENDPOINT;
    });
    assert_eq!(explanation.verdict.name, "not_vip");
    assert_eq!(
        texts(&explanation, "destination"),
        ["192.0.2.10 is an address of this host, where tunnels of its peers end"]
    );
}

#[test]
fn numbers_without_a_name_are_told_as_numbers() {
    let slot = closed(12);
    let explanation = explained(&syn(), slot, |tables| {
        tables.backends.insert(12, Backend { egress: 99, ..backend(Mode::L2) });
    });
    assert_eq!(texts(&explanation, "backend"), ["backend #12: every flow of a closed slot"]);
    assert_eq!(explanation.egress.as_deref(), Some("interface #99"));
}

#[test]
fn a_packet_is_of_one_family() {
    let request = request("198.51.100.7", "[2001:db8::10]:80", Protocol::Tcp);
    let open = || tables(closed(1));
    let error =
        explain_over(&request, ARRIVAL, &Book, open, |tables| Ok(tables.steps.into_inner())).unwrap_err();
    assert!(error.is::<NoSuchPacket>());
    assert_eq!(
        error.to_string(),
        "198.51.100.7 and 2001:db8::10 are of different families: no packet has both"
    );
}

#[test]
fn a_table_that_cannot_be_read_is_an_error() {
    let open = || tables(closed(1));
    let failed = explain_over(&syn(), ARRIVAL, &Book, open, |_| anyhow::bail!("cannot read VIPS"));
    assert_eq!(failed.unwrap_err().to_string(), "cannot read VIPS");
}
