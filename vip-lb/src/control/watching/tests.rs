//! What is asked for, and how what is seen is told.

use super::*;

fn asked(request: &WatchRequest) -> Result<Watcher, String> {
    watcher(request, |name| (name == "eth0").then_some(7))
}

#[test]
fn nothing_asked_for_is_everything() {
    let all = asked(&WatchRequest::default()).unwrap();
    let expected = Watcher { verdicts: u64::MAX, every: 1, rate: 1000, ..Watcher::NOBODY };
    assert_eq!(all, expected);
}

#[test]
fn prefixes_count_the_bits_of_their_family() {
    let mask = |text: &str| {
        let request = WatchRequest { source: Some(text.to_owned()), ..WatchRequest::default() };
        asked(&request).map(|watcher| IpAddr::from(*watcher.source_mask.octets()).to_string())
    };
    assert_eq!(mask("198.51.100.7").unwrap(), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    assert_eq!(mask("198.51.100.0/24").unwrap(), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00");
    // Any IPv4 address, and no other.
    assert_eq!(mask("0.0.0.0/0").unwrap(), "ffff:ffff:ffff:ffff:ffff:ffff::");
    assert_eq!(mask("2001:db8::/32").unwrap(), "ffff:ffff::");
    assert_eq!(mask("::/0").unwrap(), "::");
    for wrong in ["", "10.0.0.1/33", "2001:db8::/129", "10.0.0.1/x", "web"] {
        assert!(mask(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn verdicts_are_named_by_themselves_or_by_what_they_do() {
    let bits = |text: &str| {
        let request = WatchRequest { verdict: Some(text.to_owned()), ..WatchRequest::default() };
        asked(&request).map(|watcher| watcher.verdicts)
    };
    assert_eq!(bits("not_vip, forwarded_ipip").unwrap(), 1 | 1 << Verdict::ForwardedIpip as u32);
    let drops = bits("drop").unwrap();
    for &verdict in Verdict::ALL {
        assert_eq!(drops >> verdict as u32 & 1 != 0, verdict.action() == Action::Drop, "{verdict:?}");
    }
    assert!(bits("forwarded").unwrap_err().contains("none called forwarded"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let wrong = [
        WatchRequest { interface: Some("eth1".into()), ..WatchRequest::default() },
        WatchRequest { protocol: Some("sctp".into()), ..WatchRequest::default() },
        WatchRequest { every: Some(0), ..WatchRequest::default() },
        WatchRequest { source_port: Some(0), ..WatchRequest::default() },
    ];
    for request in wrong {
        asked(&request).expect_err(&format!("{request:?}"));
    }
    let right = WatchRequest {
        interface: Some("eth0".into()),
        protocol: Some("132".into()),
        ..WatchRequest::default()
    };
    let watcher = asked(&right).unwrap();
    assert_eq!((watcher.interface, watcher.protocol), (7, 132));
}

#[test]
fn a_packet_is_told_by_the_names_of_what_it_met() {
    let backend =
        BackendName { name: "b1".into(), address: "10.0.0.1".parse().unwrap(), service: "web".into() };
    let directory = Directory {
        services: [(3, "web".to_owned())].into(),
        backends: [(5, backend)].into(),
        interfaces: [(7, "eth0".to_owned())].into(),
    };
    let reference = BackendRef { index: 5, generation: 1 };
    let address = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
    let sighting = Sighting {
        at: 2_000_000,
        source: address("198.51.100.7"),
        destination: address("192.0.2.10"),
        source_port: 40_000,
        destination_port: 80,
        protocol: 6,
        ingress: 7,
        egress: 9,
        verdict: Verdict::ForwardedIpip as u32,
        slot: vip_lb_common::abi::Slot { current: reference, previous: reference, ..Default::default() },
        index: 123,
        backend: reference,
        service: vip_lb_common::abi::ServiceRef { id: 3, ..Default::default() },
        known: Sighting::SERVICE | Sighting::SLOT | Sighting::CHOSEN,
        came_len: 60,
        left_len: 80,
        ..Sighting::NONE
    };
    let seen = Seen { sighting, came: vec![1; 60], left: vec![2; 80] };
    let packet = directory.packet(&seen, 2, 1_000_000);
    assert_eq!(packet.at_us, 1_002_000);
    assert_eq!((packet.interface.as_str(), packet.egress.as_deref()), ("eth0", Some("interface #9")));
    assert_eq!(packet.source.to_string(), "198.51.100.7:40000");
    assert_eq!(packet.verdict.name, "forwarded_ipip");
    assert_eq!(packet.service.as_deref(), Some("web"));
    let chosen = packet.backend.unwrap();
    assert_eq!((chosen.name.as_str(), chosen.reason.as_str()), ("web/b1", "every flow of a closed slot"));
    assert_eq!(packet.slot.unwrap().state, SlotState::Closed { current: "b1".into() });
    assert_eq!(packet.came, Frame { length: 60, bytes: "0101".into() });
    assert_eq!(packet.left, Some(Frame { length: 80, bytes: "0202".into() }));
    let dropped = Sighting { verdict: Verdict::NoBackend as u32, left_len: 0, known: 0, ..sighting };
    let packet = directory.packet(&Seen { sighting: dropped, came: Vec::new(), left: Vec::new() }, 0, 0);
    assert_eq!((packet.left, packet.backend, packet.egress, packet.slot), (None, None, None, None));
}
