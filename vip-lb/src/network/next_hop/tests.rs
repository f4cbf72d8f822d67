//! What route answers mean.

use super::*;
use crate::network::{
    Interface,
    interface::{Below, InterfaceKind, VlanTag},
};

const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const NEIGHBOUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn interface() -> Interface {
    Interface { mac: SOURCE_MAC, ..Interface::usual(3, "eth0") }
}

fn layers() -> Layers {
    Layers::new(interface())
}

fn answer(kind: RouteType, attributes: &[RouteAttribute]) -> RouteAnswer {
    let mut message = RouteMessage::default();
    message.header.kind = kind;
    message.attributes = attributes.to_vec();
    RouteAnswer::from_message(&message)
}

fn unicast(more: &[RouteAttribute]) -> RouteAnswer {
    let mut attributes =
        vec![RouteAttribute::Oif(3), RouteAttribute::PrefSource(address("192.0.2.1").into())];
    attributes.extend_from_slice(more);
    answer(RouteType::Unicast, &attributes)
}

#[test]
fn an_address_on_the_link_is_its_own_neighbour() {
    let destination = address("192.0.2.7");
    let answer = unicast(&[]);
    assert_eq!(
        answer.hop(destination).unwrap(),
        Hop::Neighbour(Neighbour { ifindex: 3, address: destination })
    );
    assert_eq!(
        answer.via(destination, None, &layers(), Some(NEIGHBOUR_MAC)).unwrap(),
        Via {
            ifindex: 3,
            vlan: None,
            device: 3,
            source_mac: SOURCE_MAC,
            gateway: None,
            neighbour: destination,
            mac: Some(NEIGHBOUR_MAC),
            mtu: 1500,
            preferred_source: address("192.0.2.1"),
        }
    );
}

#[test]
fn behind_a_gateway_the_gateway_is_the_neighbour() {
    let destination = address("198.51.100.7");
    for (attribute, gateway) in [
        (RouteAttribute::Gateway(address("192.0.2.254").into()), "192.0.2.254"),
        (RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap())), "fe80::1"),
    ] {
        let answer = unicast(&[attribute]);
        let gateway = address(gateway);
        assert_eq!(
            answer.hop(destination).unwrap(),
            Hop::Neighbour(Neighbour { ifindex: 3, address: gateway })
        );
        let via = answer.via(destination, None, &layers(), None).unwrap();
        assert_eq!((via.gateway, via.neighbour, via.mac), (Some(gateway), gateway, None));
    }
}

#[test]
fn a_local_route_needs_no_neighbour() {
    assert_eq!(answer(RouteType::Local, &[]).hop(address("192.0.2.1")).unwrap(), Hop::Local);
}

#[test]
fn the_smaller_limit_of_route_and_interface_holds() {
    for (route, expected) in [(None, 1500), (Some(0), 1500), (Some(1400), 1400), (Some(9000), 1500)] {
        let metrics: Vec<_> = route.map(RouteMetric::Mtu).into_iter().collect();
        let answer = unicast(&[RouteAttribute::Metrics(metrics)]);
        let via = answer.via(address("192.0.2.7"), None, &layers(), None).unwrap();
        assert_eq!(via.mtu, expected, "route limit {route:?}");
    }
}

#[test]
fn the_hint_is_the_source_and_without_any_there_is_an_error() {
    let destination = address("192.0.2.7");
    let hint = address("192.0.2.9");
    let via = unicast(&[]).via(destination, Some(hint), &layers(), None).unwrap();
    assert_eq!(via.preferred_source, hint);

    for attributes in [vec![], vec![RouteAttribute::PrefSource(address("0.0.0.0").into())]] {
        let error = answer(RouteType::Unicast, &attributes).via(destination, None, &layers(), None);
        assert!(matches!(error, Err(ResolveError::NoSource { .. })), "{attributes:?}");
    }
}

#[test]
fn an_interface_that_is_down_forwards_nothing() {
    let down = Interface { is_up: false, ..interface() };
    let error = unicast(&[]).via(address("192.0.2.7"), None, &Layers::new(down), None).unwrap_err();
    assert_eq!(error.to_string(), "the route to 192.0.2.7 leads out of interface `eth0`, which is down");
}

#[test]
fn a_vlan_device_is_the_source_and_the_one_below_the_way_out() {
    let vlan = Interface {
        index: 9,
        name: "eth0.100".into(),
        mac: [2, 0, 0, 0, 0, 9],
        mtu: 1400,
        kind: InterfaceKind::Vlan { id: 100, tag: VlanTag::Customer },
        below: Some(Below::Here(3)),
        ..interface()
    };
    for (lowest, expected) in [
        (interface(), Ok((3, Some(100), 9, [2, 0, 0, 0, 0, 9], 1400))),
        (
            Interface { is_up: false, ..interface() },
            Err("the route to 192.0.2.7 leads out of interface `eth0`, which is down".to_owned()),
        ),
    ] {
        let mut layers = Layers::new(vlan.clone());
        assert_eq!(layers.missing().unwrap(), Some(3));
        layers.push(lowest);
        assert_eq!(layers.missing().unwrap(), None);
        let via = unicast(&[]).via(address("192.0.2.7"), None, &layers, None);
        let seen = via.map(|via| (via.ifindex, via.vlan, via.device, via.source_mac, via.mtu));
        assert_eq!(seen.map_err(|error| error.to_string()), expected);
    }
}

#[test]
fn every_refusing_route_has_its_own_error() {
    let destination = address("192.0.2.7");
    for (kind, text) in [
        (RouteType::BlackHole, "the route to 192.0.2.7 is of type blackhole"),
        (RouteType::Unreachable, "the route to 192.0.2.7 is of type unreachable"),
        (RouteType::Prohibit, "the route to 192.0.2.7 is of type prohibit"),
        (RouteType::Throw, "no route to 192.0.2.7"),
        (
            RouteType::Broadcast,
            "192.0.2.7 is a broadcast address, and packets can only be forwarded to a unicast address",
        ),
        (RouteType::Unicast, "the kernel's route to 192.0.2.7 cannot be used: it names no interface"),
        (RouteType::Nat, "the kernel's route to 192.0.2.7 cannot be used: its type is Nat"),
    ] {
        assert_eq!(answer(kind, &[]).hop(destination).unwrap_err().to_string(), text, "{kind:?}");
    }
    for (number, text) in [
        (libc::ENETUNREACH, "no route to 192.0.2.7"),
        (libc::EHOSTUNREACH, "the route to 192.0.2.7 is of type unreachable"),
        (libc::EINVAL, "the route to 192.0.2.7 is of type blackhole"),
        (libc::EACCES, "the route to 192.0.2.7 is of type prohibit"),
        (libc::ENOBUFS, "cannot ask the kernel about the route on the way to 192.0.2.7"),
    ] {
        let error = ResolveError::from_route_lookup(destination, io::Error::from_raw_os_error(number));
        assert_eq!(error.to_string(), text, "errno {number}");
    }
}

#[test]
fn questions_without_an_answer_are_not_asked() {
    for (destination, hint, text) in [
        (
            "ff02::1",
            None,
            "ff02::1 is a multicast address, and packets can only be forwarded to a unicast address",
        ),
        (
            "0.0.0.0",
            None,
            "0.0.0.0 is the unspecified address, and packets can only be forwarded to a unicast address",
        ),
        ("fe80::1", None, "fe80::1 is link-local, and which link is not known"),
        ("192.0.2.7", Some("2001:db8::1"), "source 2001:db8::1 is not of the address family of 192.0.2.7"),
    ] {
        let error = check_question(address(destination), hint.map(address)).unwrap_err();
        assert_eq!(error.to_string(), text);
    }
    assert!(check_question(address("2001:db8::7"), Some(address("2001:db8::1"))).is_ok());
}
