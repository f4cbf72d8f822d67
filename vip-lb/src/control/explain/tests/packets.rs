//! Packets of every kind.

use vip_lb_common::{
    abi::{Fragment, FragmentKey, Lease, ServiceOptions},
    checksum::Sum,
    headers::protocol,
};

use super::*;

const KINDS_OF_FLOWS: [PacketKind; 7] = [
    PacketKind::First,
    PacketKind::Ack,
    PacketKind::Fin,
    PacketKind::Rst,
    PacketKind::Unreachable,
    PacketKind::TooBig,
    PacketKind::TimeExceeded,
];

fn of(packet: PacketKind, protocol: Protocol, v6: bool) -> ExplainRequest {
    let (source, destination) =
        if v6 { ("2001:db8:f::7", "[2001:db8::10]:80") } else { ("198.51.100.7", "192.0.2.10:80") };
    let of_flow = ExplainRequest { packet, ..request(source, destination, protocol) };
    match packet {
        PacketKind::Echo | PacketKind::WhoHas => {
            ExplainRequest { source_port: None, destination_port: None, ..of_flow }
        }
        _ => of_flow,
    }
}

/// A node that answers for its VIPs, and steers ICMP errors.
fn answering(tables: &mut MemoryTables) {
    for vip in tables.vips.values_mut() {
        vip.flags |= Vip::ANSWER;
    }
    tables.interfaces.insert(ARRIVAL.index, LinkAddress::new(OWN_MAC));
    tables.service_options.insert(WEB, ServiceOptions { icmp_rate: 10, ..ServiceOptions::default() });
}

#[test]
fn every_kind_ends_as_the_packet_path_says() {
    for v6 in [false, true] {
        let resolved = if v6 { "neighbour_answered" } else { "arp_answered" };
        for (packet, verdict) in [
            (PacketKind::Ack, "forwarded_l2"),
            (PacketKind::Fin, "forwarded_l2"),
            (PacketKind::Rst, "forwarded_l2"),
            (PacketKind::Fragment, "fragment_without_first"),
            (PacketKind::Unreachable, "forwarded_l2"),
            (PacketKind::TooBig, "forwarded_l2"),
            (PacketKind::TimeExceeded, "forwarded_l2"),
            (PacketKind::Echo, "echo_answered"),
            (PacketKind::WhoHas, resolved),
        ] {
            let explanation = explained(&of(packet, Protocol::Tcp, v6), closed(1), answering);
            assert_eq!(explanation.verdict.name, verdict, "{packet}: {:?}", explanation.steps);
        }
    }
}

#[test]
fn what_came_in_is_told() {
    for (packet, v6, parsed) in [
        (PacketKind::Fin, false, "ethernet, ipv4, tcp fin; comes in by eth2"),
        (PacketKind::Echo, false, "ethernet, ipv4, icmp echo request; comes in by eth2"),
        (PacketKind::WhoHas, false, "ethernet, arp, who has 192.0.2.10; comes in by eth2"),
        (
            PacketKind::WhoHas,
            true,
            "ethernet, ipv6, icmpv6 neighbour solicitation, who has 2001:db8::10; comes in by eth2",
        ),
        (PacketKind::Fragment, true, "ethernet, ipv6, a later fragment of tcp, id 0; comes in by eth2"),
        (
            PacketKind::TooBig,
            false,
            "ethernet, ipv4, icmp fragmentation needed, which quotes an answer, tcp 192.0.2.10:80 -> 198.51.100.7:40000; comes in \
             by eth2",
        ),
    ] {
        let explanation = explained(&of(packet, Protocol::Tcp, v6), closed(1), answering);
        assert_eq!(texts(&explanation, "parse"), [parsed]);
    }
}

#[test]
fn an_error_goes_where_its_flow_goes() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let flow = explained(&of(PacketKind::First, protocol, true), closed(1), answering);
        let error = explained(&of(PacketKind::TooBig, protocol, true), closed(1), answering);
        assert_eq!(error.hash, flow.hash);
        assert_eq!(error.backend, flow.backend);
        assert_eq!(texts(&error, "service"), texts(&flow, "service"));
        assert_eq!(texts(&error, "established"), [""; 0], "it is no segment");
    }
    let too_many = explained(&of(PacketKind::TooBig, Protocol::Tcp, false), closed(1), |_| {});
    assert_eq!(too_many.verdict.name, "icmp_rate");
}

#[test]
fn a_segment_that_is_asked_for_is_the_one_explained() {
    let explanation = explained(&of(PacketKind::Ack, Protocol::Tcp, false), open(1, 2), |_| {});
    assert_eq!(texts(&explanation, "backend"), ["b2: unknown flow of an open slot"]);
    assert_eq!(texts(&explanation, "established"), [""; 0]);
}

#[test]
fn a_later_fragment_follows_the_first_one_of_its_id() {
    for v6 in [false, true] {
        let request = ExplainRequest {
            destination_port: None,
            fragment_id: Some(4711),
            ..of(PacketKind::Fragment, Protocol::Udp, v6)
        };
        let followed = |id| {
            explained(&request, closed(1), |tables| {
                let key = FragmentKey {
                    source: request.source.into(),
                    destination: request.destination.into(),
                    id,
                    protocol: if v6 { 0 } else { protocol::UDP },
                    reserved: [0; 3],
                };
                let service = ServiceRef { id: WEB, ..ServiceRef::default() };
                let fragment = Fragment { ports: 0, service, backend: reference(2), seen: tables.seconds };
                tables.fragments.borrow_mut().insert(key, fragment);
            })
        };
        let explanation = followed(4711);
        assert_eq!(texts(&explanation, "service"), ["the first fragment of the packet went to web"]);
        assert_eq!(texts(&explanation, "backend"), ["b2: a later fragment follows the first one"]);
        assert_eq!(explanation.verdict.name, "forwarded_ipip");
        assert_eq!(followed(4712).verdict.name, "fragment_without_first");
    }
}

#[test]
fn what_this_node_answers_is_told_and_what_it_does_not() {
    let arp = of(PacketKind::WhoHas, Protocol::Tcp, false);
    let answered = explained(&arp, closed(1), answering);
    assert_eq!(texts(&answered, "destination"), ["192.0.2.10 is a VIP"]);
    assert_eq!(texts(&answered, "answer"), ["192.0.2.10 is at 02:00:00:00:00:01"]);
    let silent = explained(&arp, closed(1), |_| {});
    assert_eq!(texts(&silent, "answer"), ["this node does not answer for it"]);
    let other = ExplainRequest { destination: "192.0.2.11".parse().unwrap(), ..arp };
    let other = explained(&other, closed(1), answering);
    assert_eq!(texts(&other, "destination"), ["192.0.2.11 is no VIP"]);
    assert_eq!(texts(&other, "answer"), [""; 0]);
    let echo = explained(&of(PacketKind::Echo, Protocol::Tcp, true), closed(1), answering);
    assert_eq!(texts(&echo, "answer"), ["an echo reply goes back to the sender"]);
}

#[test]
fn translation_tells_of_what_has_no_ports_and_of_what_is_quoted() {
    let rewritten = |packet, destination: &str| {
        let before = build(&of(packet, Protocol::Udp, false), OWN_MAC);
        let to = ExplainRequest { packet, ..request("10.0.0.1", destination, Protocol::Udp) };
        let lines = frame::rewrites(&before, &build(&to, OWN_MAC), Verdict::ForwardedNat);
        lines[2..lines.len() - 1].to_vec()
    };
    assert_eq!(
        rewritten(PacketKind::Fragment, "10.0.0.11:8080"),
        ["source 198.51.100.7 -> 10.0.0.1", "destination 192.0.2.10 -> 10.0.0.11"]
    );
    assert_eq!(
        rewritten(PacketKind::TimeExceeded, "10.0.0.11:8080"),
        [
            "source 198.51.100.7 -> 10.0.0.1",
            "destination 192.0.2.10 -> 10.0.0.11",
            "quoted source 192.0.2.10:80 -> 10.0.0.11:8080",
            "quoted destination 198.51.100.7:40000 -> 10.0.0.1:40000",
        ]
    );
}

#[test]
fn checksums_are_right_because_translation_needs_them() {
    for packet in KINDS_OF_FLOWS.into_iter().chain([PacketKind::Echo]) {
        for (protocol, v6) in [(Protocol::Tcp, false), (Protocol::Tcp, true), (Protocol::Udp, false)] {
            let request = of(packet, protocol, v6);
            let ip = build(&request, OWN_MAC)[14..].to_vec();
            let (number, payload) = if v6 { (ip[6], &ip[40..]) } else { (ip[9], &ip[20..]) };
            let seed = if number == protocol::ICMP {
                Sum::new(0)
            } else {
                Sum::pseudo_header(
                    &request.source.into(),
                    &request.destination.into(),
                    payload.len() as u16,
                    number,
                )
            };
            let words = payload.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            assert_eq!(words.fold(seed, Sum::add).folded(), 0xffff, "{packet} of {protocol}");
        }
    }
}

#[test]
fn a_lease_is_told() {
    for v6 in [false, true] {
        let vip = address(if v6 { "2001:db8::10" } else { "192.0.2.10" });
        for (until, verdict, answer) in [
            (None, "not_owner", "this node has no lease: another node answers for it"),
            (Some(1), "not_owner", "the lease of this node is over: another node answers for it"),
            (Some(u64::MAX), if v6 { "neighbour_answered" } else { "arp_answered" }, "is at"),
        ] {
            let leased = |tables: &mut MemoryTables| {
                answering(tables);
                tables.seconds = 1;
                tables.vips.get_mut(&vip).unwrap().flags = Vip::LEASED;
                tables.leases.extend(until.map(|until| (vip, Lease { until })));
            };
            let explanation = explained(&of(PacketKind::WhoHas, Protocol::Tcp, v6), closed(1), leased);
            assert_eq!(explanation.verdict.name, verdict, "{until:?}");
            let said = explanation.steps.iter().find(|step| step.stage == "answer").expect("an answer");
            assert!(said.text.contains(answer), "{until:?}: {}", said.text);
        }
    }
}
