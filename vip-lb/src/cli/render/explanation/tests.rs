//! An explanation as people read it.

use super::*;
use crate::{
    api::{
        model::{Action, ExplainRequest, Verdict},
        samples,
    },
    config::model::Protocol,
};

fn request(source_port: Option<u16>) -> ExplainRequest {
    ExplainRequest {
        source: "198.51.100.7".parse().unwrap(),
        source_port,
        destination: "192.0.2.10".parse().unwrap(),
        destination_port: Some(80),
        protocol: Protocol::Tcp,
        packet: PacketKind::First,
        fragment_id: None,
        interface: None,
    }
}

#[test]
fn a_forwarded_packet() {
    let expected = "\
tcp 198.51.100.7:40000 -> 192.0.2.10:80

 1. parse    ethernet, ipv4, tcp syn
 2. service  192.0.2.10:80/tcp is web
 3. steer    slot 4711 is open and no table knows the flow
 4. forward  encapsulated in ipv4

verdict   forwarded_ipip (forward): Sent to a backend inside another IP header.
service   web
hash      0x00c0ffee
slot      4711, open: current b1, previous b3, epoch 2
backend   b3 10.0.0.13: unknown flow of an open slot
rewrites  outer ipv4 10.0.0.1 -> 10.0.0.13, 20 bytes
          destination mac 02:00:00:00:00:13
egress    eth0
";
    assert_eq!(explanation(&samples::explanation(request(Some(40000)))), expected);
}

#[test]
fn a_missing_port_is_pointed_out_only_where_it_decides() {
    let mut sample = samples::explanation(request(None));
    let text = explanation(&sample);
    assert!(text.starts_with("tcp 198.51.100.7 -> 192.0.2.10:80\n"), "{text}");
    assert!(text.ends_with("the source port decides; it was not given, and 0 was used\n"), "{text}");

    sample.service.as_mut().unwrap().affinity = Affinity::Source;
    assert!(!explanation(&sample).contains("note"));
}

#[test]
fn the_first_line_names_the_packet() {
    let first_line = |request: ExplainRequest| {
        let text = explanation(&samples::explanation(request));
        text.lines().next().map(str::to_owned).unwrap_or_default()
    };
    let of = |packet| ExplainRequest { packet, ..request(Some(40000)) };
    assert_eq!(first_line(of(PacketKind::Fin)), "tcp fin 198.51.100.7:40000 -> 192.0.2.10:80");
    assert_eq!(first_line(of(PacketKind::TooBig)), "too-big about tcp 198.51.100.7:40000 -> 192.0.2.10:80");
    let portless = ExplainRequest { destination_port: None, ..request(None) };
    let of = |packet| ExplainRequest { packet, ..portless.clone() };
    assert_eq!(first_line(of(PacketKind::Fragment)), "tcp fragment 198.51.100.7 -> 192.0.2.10");
    assert_eq!(first_line(of(PacketKind::Echo)), "echo 198.51.100.7 -> 192.0.2.10");
    let text = explanation(&samples::explanation(of(PacketKind::Fragment)));
    assert!(!text.contains("source port"), "a fragment has none: {text}");
}

#[test]
fn a_packet_that_is_not_for_a_vip_has_little_to_tell() {
    let mut sample = samples::explanation(ExplainRequest {
        source: "2001:db8:f::7".parse().unwrap(),
        destination: "2001:db8::99".parse().unwrap(),
        protocol: Protocol::Udp,
        ..request(Some(5353))
    });
    sample.steps.truncate(1);
    sample.verdict = Verdict {
        name: "not_vip".into(),
        meaning: "Not for a VIP: other traffic of this host.".into(),
        action: Action::Pass,
    };
    (sample.service, sample.hash, sample.slot, sample.backend, sample.egress) =
        (None, None, None, None, None);
    sample.rewrites.clear();
    let expected = "\
udp [2001:db8:f::7]:5353 -> [2001:db8::99]:80

 1. parse  ethernet, ipv4, tcp syn

verdict   not_vip (pass): Not for a VIP: other traffic of this host.
";
    assert_eq!(explanation(&sample), expected);
}

#[test]
fn a_closed_slot_says_whose_it_is() {
    let closed = Slot { index: 12, state: SlotState::Closed { current: "b1".into() } };
    assert_eq!(slot(&closed), "12, closed: every flow is on b1");
}
