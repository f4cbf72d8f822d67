//! Which events make which destinations stale.

use super::*;
use crate::network::Prefix;

const GATEWAY: &str = "192.0.2.254";
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn neighbour(text: &str) -> Neighbour {
    Neighbour { ifindex: 3, address: address(text) }
}

fn via(neighbour: &str) -> NextHop {
    NextHop::Via(Via {
        ifindex: 3,
        vlan: None,
        device: 3,
        source_mac: [2, 0, 0, 0, 0, 1],
        gateway: None,
        neighbour: address(neighbour),
        mac: Some(MAC),
        mtu: 1500,
        preferred_source: address("192.0.2.1"),
    })
}

fn interface() -> Interface {
    Interface::usual(3, "eth0")
}

fn link(interface: Interface) -> NetworkEvent {
    NetworkEvent::LinkChanged { ifindex: interface.index, interface: Some(interface) }
}

fn stale(resolver: &mut Resolver) -> Vec<String> {
    resolver.take_stale().iter().map(|wanted| wanted.destination.to_string()).collect()
}

fn want(resolver: &mut Resolver, destination: &str) {
    resolver.want(Wanted { destination: address(destination), source_hint: None });
}

/// One destination on the link, one behind the gateway, one on this host, one without a route.
fn resolved() -> Resolver {
    let mut resolver = Resolver::new();
    for destination in ["192.0.2.7", "198.51.100.7", "2001:db8::1", "203.0.113.7"] {
        want(&mut resolver, destination);
    }
    assert_eq!(stale(&mut resolver), ["192.0.2.7", "198.51.100.7", "203.0.113.7", "2001:db8::1"]);
    for (destination, answer) in [
        ("192.0.2.7", Ok(via("192.0.2.7"))),
        ("198.51.100.7", Ok(via(GATEWAY))),
        ("2001:db8::1", Ok(NextHop::Local)),
        ("203.0.113.7", Err(ResolveError::NoRoute { destination: address("203.0.113.7") })),
    ] {
        let recorded = resolver.record(address(destination), answer.as_ref());
        assert_eq!(recorded.changed, answer.is_ok(), "{destination}");
    }
    resolver.apply(&link(interface()));
    assert_eq!(stale(&mut resolver).len(), 4, "a link never seen before may have just come up");
    resolver
}

#[test]
fn a_destination_is_resolved_when_it_is_wanted_and_when_its_source_changes() {
    let mut resolver = resolved();
    want(&mut resolver, "192.0.2.7");
    assert!(stale(&mut resolver).is_empty());

    let wanted = Wanted { destination: address("192.0.2.7"), source_hint: Some(address("192.0.2.1")) };
    resolver.want(wanted);
    assert_eq!(resolver.take_stale(), [wanted]);
}

#[test]
fn only_the_users_of_a_neighbour_that_moved_are_stale() {
    let mut resolver = resolved();
    for (event, expected) in [
        (NetworkEvent::NeighbourChanged { neighbour: neighbour(GATEWAY), mac: Some(MAC) }, vec![]),
        (
            NetworkEvent::NeighbourChanged { neighbour: neighbour(GATEWAY), mac: Some(OTHER_MAC) },
            vec!["198.51.100.7"],
        ),
        (NetworkEvent::NeighbourChanged { neighbour: neighbour("192.0.2.7"), mac: None }, vec!["192.0.2.7"]),
        (
            NetworkEvent::NeighbourChanged {
                neighbour: Neighbour { ifindex: 4, address: address("192.0.2.7") },
                mac: Some(OTHER_MAC),
            },
            vec![],
        ),
        (NetworkEvent::NeighbourGone { neighbour: neighbour(GATEWAY) }, vec!["198.51.100.7"]),
    ] {
        resolver.apply(&event);
        assert_eq!(stale(&mut resolver), expected, "{event:?}");
    }
}

#[test]
fn a_route_concerns_its_prefix_with_or_without_a_next_hop() {
    let mut resolver = resolved();
    for (address, length, expected) in [
        ("198.51.100.0", 24, vec!["198.51.100.7"]),
        ("203.0.113.7", 32, vec!["203.0.113.7"]),
        ("10.0.0.0", 8, vec![]),
        ("::", 0, vec!["2001:db8::1"]),
        ("0.0.0.0", 0, vec!["192.0.2.7", "198.51.100.7", "203.0.113.7"]),
    ] {
        let prefix = Prefix::new(address.parse().unwrap(), length);
        resolver.apply(&NetworkEvent::RouteChanged { prefix });
        assert_eq!(stale(&mut resolver), expected, "{address}/{length}");
    }
}

#[test]
fn a_link_concerns_its_users_and_everybody_when_it_comes_back() {
    let users = vec!["192.0.2.7", "198.51.100.7"];
    let all = vec!["192.0.2.7", "198.51.100.7", "203.0.113.7", "2001:db8::1"];
    let mut resolver = resolved();
    let down = Interface { has_carrier: false, ..interface() };
    let other = Interface { index: 4, is_up: false, ..interface() };
    for (case, event, expected) in [
        ("nothing new", link(interface()), vec![]),
        ("renamed", link(Interface { name: "lan0".into(), ..interface() }), vec![]),
        ("mtu", link(Interface { mtu: 9000, ..interface() }), users.clone()),
        ("hardware address", link(Interface { mac: OTHER_MAC, mtu: 9000, ..interface() }), users.clone()),
        ("down", link(down.clone()), users.clone()),
        ("back", link(interface()), all.clone()),
        ("another link, down", link(other.clone()), vec![]),
        ("another link, up", link(Interface { is_up: true, ..other }), all.clone()),
        ("gone", NetworkEvent::LinkChanged { ifindex: 3, interface: None }, users),
        ("new", link(interface()), all),
    ] {
        resolver.apply(&event);
        assert_eq!(stale(&mut resolver), expected, "{case}");
    }
}

#[test]
fn a_next_hop_by_a_vlan_device_concerns_that_device_and_the_one_below() {
    let mut resolver = Resolver::new();
    want(&mut resolver, "192.0.2.7");
    stale(&mut resolver);
    let NextHop::Via(plain) = via("192.0.2.7") else { unreachable!("`via` makes one") };
    let tagged = NextHop::Via(Via { ifindex: 2, vlan: Some(100), ..plain });
    let recorded = resolver.record(address("192.0.2.7"), Ok(&tagged));
    assert_eq!(recorded.keep, Some(neighbour("192.0.2.7")), "kept on the VLAN device");
    let below = Interface { index: 2, ..interface() };
    for link_of in [below, interface()] {
        resolver.apply(&link(link_of.clone()));
        stale(&mut resolver);
        resolver.apply(&link(Interface { mtu: 1400, ..link_of.clone() }));
        assert_eq!(stale(&mut resolver), ["192.0.2.7"], "{}", link_of.index);
    }
    resolver
        .apply(&NetworkEvent::NeighbourChanged { neighbour: neighbour("192.0.2.7"), mac: Some(OTHER_MAC) });
    assert_eq!(stale(&mut resolver), ["192.0.2.7"]);
}

#[test]
fn lost_notifications_make_everything_stale_and_every_neighbour_be_kept_anew() {
    let mut resolver = resolved();
    resolver.apply(&NetworkEvent::Overrun);
    assert_eq!(stale(&mut resolver).len(), 4);
    let recorded = resolver.record(address("192.0.2.7"), Ok(&via("192.0.2.7")));
    assert_eq!(recorded, Recorded { changed: false, keep: Some(neighbour("192.0.2.7")), release: None });
    resolver.apply(&link(interface()));
    assert_eq!(stale(&mut resolver).len(), 4, "whether the link was down meanwhile is not known");
}

#[test]
fn a_neighbour_is_kept_once_and_released_by_its_last_user() {
    let mut resolver = Resolver::new();
    want(&mut resolver, "198.51.100.7");
    want(&mut resolver, "198.51.100.8");
    let first = resolver.record(address("198.51.100.7"), Ok(&via(GATEWAY)));
    assert_eq!(first, Recorded { changed: true, keep: Some(neighbour(GATEWAY)), release: None });
    let second = resolver.record(address("198.51.100.8"), Ok(&via(GATEWAY)));
    assert_eq!(second, Recorded { changed: true, keep: None, release: None });

    let moved = resolver.record(address("198.51.100.7"), Ok(&via("192.0.2.253")));
    assert_eq!(moved, Recorded { changed: true, keep: Some(neighbour("192.0.2.253")), release: None });
    let lost = ResolveError::NoRoute { destination: address("198.51.100.8") };
    let lost = resolver.record(address("198.51.100.8"), Err(&lost));
    assert_eq!(lost, Recorded { changed: true, keep: None, release: Some(neighbour(GATEWAY)) });
    assert_eq!(resolver.next_hop(address("198.51.100.8")), None);

    assert_eq!(resolver.forget(address("198.51.100.7")), Some(neighbour("192.0.2.253")));
    assert_eq!(resolver.forget(address("198.51.100.8")), None);
}

#[test]
fn a_neighbour_that_went_is_kept_again_even_if_it_was_never_resolved() {
    let mut resolver = Resolver::new();
    want(&mut resolver, "192.0.2.7");
    let mut unresolved = via("192.0.2.7");
    if let NextHop::Via(via) = &mut unresolved {
        via.mac = None;
    }
    let keep = Some(neighbour("192.0.2.7"));
    assert_eq!(resolver.record(address("192.0.2.7"), Ok(&unresolved)).keep, keep);
    assert_eq!(resolver.record(address("192.0.2.7"), Ok(&unresolved)).keep, None);
    stale(&mut resolver);
    resolver.apply(&NetworkEvent::NeighbourGone { neighbour: neighbour("192.0.2.7") });
    assert_eq!(stale(&mut resolver), ["192.0.2.7"]);
    let recorded = resolver.record(address("192.0.2.7"), Ok(&unresolved));
    assert_eq!(recorded, Recorded { changed: false, keep, release: None });
}

#[test]
fn what_is_forgotten_is_neither_resolved_nor_recorded() {
    let mut resolver = Resolver::new();
    want(&mut resolver, "192.0.2.7");
    assert_eq!(resolver.forget(address("192.0.2.7")), None);
    resolver.retry(address("192.0.2.7"));
    assert!(resolver.take_stale().is_empty());
    let late = resolver.record(address("192.0.2.7"), Ok(&via("192.0.2.7")));
    assert_eq!(late, Recorded::default());
    assert_eq!(resolver.next_hop(address("192.0.2.7")), None);
}

#[test]
fn a_retry_is_resolved_again() {
    let mut resolver = resolved();
    resolver.retry(address("203.0.113.7"));
    assert_eq!(stale(&mut resolver), ["203.0.113.7"]);
}
