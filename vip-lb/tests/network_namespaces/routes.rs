//! Interfaces and next hops.

use std::net::IpAddr;

use vip_lb::network::{InterfaceError, InterfaceKind, Network, NextHop, ResolveError, Via, Wanted};

use crate::lab::{DEVICE, FAR_MAC, Lab, NEAR_MAC, spawnable};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn via(network: &Network, destination: &str) -> Via {
    match network.resolve(address(destination), None).await.unwrap() {
        NextHop::Via(via) => via,
        NextHop::Local => panic!("{destination} is local"),
    }
}

#[test]
fn an_interface_is_found_by_name_or_refused_with_the_reason() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    lab.near(&format!("link set {DEVICE} mtu 1400"));
    lab.run(async || {
        let network = Network::open().unwrap();
        let interface = network.interface(DEVICE).await.unwrap();
        assert_eq!(
            (interface.index, interface.name.as_str(), interface.mac, interface.mtu),
            (ifindex, DEVICE, NEAR_MAC, 1400)
        );
        assert_eq!(interface.kind, InterfaceKind::Veth);
        assert!(interface.is_up && interface.has_carrier);
        assert_eq!(network.interfaces().await.unwrap(), [interface]);

        let missing = network.interface("eth9").await.unwrap_err();
        assert_eq!(missing.to_string(), "interface `eth9` does not exist");
        let loopback = network.interface("lo").await;
        assert!(matches!(loopback, Err(InterfaceError::Loopback { .. })), "{loopback:?}");
    });
}

#[test]
fn an_address_on_the_link_goes_to_its_owner() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    lab.run(async || {
        let network = Network::open().unwrap();
        for (destination, source) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
            let expected = Via {
                ifindex,
                vlan: None,
                device: ifindex,
                source_mac: NEAR_MAC,
                gateway: None,
                neighbour: address(destination),
                mac: None,
                mtu: 1500,
                preferred_source: address(source),
            };
            assert_eq!(via(&network, destination).await, expected);
            lab.near(&format!(
                "neigh replace {destination} dev {DEVICE} nud permanent lladdr 02:00:00:00:00:02"
            ));
            assert_eq!(via(&network, destination).await, Via { mac: Some(FAR_MAC), ..expected });
        }
    });
}

#[test]
fn an_address_behind_a_gateway_goes_to_the_gateway() {
    let lab = Lab::new();
    lab.near("route add 198.51.100.0/24 via 192.0.2.2 mtu 1300");
    lab.near("route add default via 192.0.2.3");
    lab.near("route add 2001:db8:1::/64 via 2001:db8::2");
    lab.near(&format!("route add 203.0.113.0/24 via inet6 2001:db8::2 dev {DEVICE}"));
    lab.run(async || {
        let network = Network::open().unwrap();
        for (destination, gateway, mtu) in [
            ("198.51.100.7", "192.0.2.2", 1300),
            ("10.0.0.1", "192.0.2.3", 1500),
            ("2001:db8:1::7", "2001:db8::2", 1500),
            ("203.0.113.7", "2001:db8::2", 1500),
        ] {
            let via = via(&network, destination).await;
            assert_eq!(
                (via.gateway, via.neighbour, via.mtu),
                (Some(address(gateway)), address(gateway), mtu),
                "{destination}"
            );
        }
    });
}

#[test]
fn addresses_of_this_host_are_local() {
    let lab = Lab::new();
    lab.near("address add 203.0.113.1/32 dev lo");
    lab.run(async || {
        let network = Network::open().unwrap();
        for destination in ["192.0.2.1", "2001:db8::1", "203.0.113.1", "127.0.0.1", "::1"] {
            let answer = network.resolve(address(destination), None).await.unwrap();
            assert_eq!(answer, NextHop::Local, "{destination}");
        }
    });
}

#[test]
fn what_cannot_be_reached_says_why() {
    let lab = Lab::new();
    for (kind, number) in [("blackhole", 1), ("unreachable", 2), ("prohibit", 3)] {
        lab.near(&format!("route add {kind} 10.{number}.0.0/16"));
        lab.near(&format!("route add {kind} 2001:db8:{number}::/48"));
    }
    lab.near("route add 10.4.0.0/16 dev lo");
    lab.run(async || {
        let network = Network::open().unwrap();
        for (destination, text) in [
            ("10.1.0.1", "the route to 10.1.0.1 is of type blackhole"),
            ("10.2.0.1", "the route to 10.2.0.1 is of type unreachable"),
            ("10.3.0.1", "the route to 10.3.0.1 is of type prohibit"),
            ("10.4.0.1", "the route to 10.4.0.1 leads out of an interface that cannot forward"),
            ("10.5.0.1", "no route to 10.5.0.1"),
            (
                "192.0.2.255",
                "192.0.2.255 is a broadcast address, and packets can only be forwarded to a unicast address",
            ),
            ("2001:db8:1::1", "the route to 2001:db8:1::1 is of type blackhole"),
            ("2001:db8:2::1", "the route to 2001:db8:2::1 is of type unreachable"),
            ("2001:db8:3::1", "the route to 2001:db8:3::1 is of type prohibit"),
            ("2001:db8:5::1", "no route to 2001:db8:5::1"),
        ] {
            let error = network.resolve(address(destination), None).await.unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    });
}

#[test]
fn policy_routing_sees_the_source_and_a_foreign_source_is_named() {
    let lab = Lab::new();
    lab.near(&format!("address add 192.0.2.10/32 dev {DEVICE}"));
    lab.near("rule add from 192.0.2.10 lookup 100");
    lab.near("route add default via 192.0.2.3 table 100");
    lab.near("route add default via 192.0.2.2");
    lab.run(async || {
        let network = Network::open().unwrap();
        for (hint, gateway, source) in [
            (None, "192.0.2.2", "192.0.2.1"),
            (Some("192.0.2.1"), "192.0.2.2", "192.0.2.1"),
            (Some("192.0.2.10"), "192.0.2.3", "192.0.2.10"),
        ] {
            let answer = network.resolve(address("10.0.0.1"), hint.map(address)).await.unwrap();
            let NextHop::Via(via) = answer else { panic!("10.0.0.1 is local") };
            assert_eq!(
                (via.neighbour, via.preferred_source),
                (address(gateway), address(source)),
                "{hint:?}"
            );
        }
        let foreign = network.resolve(address("10.0.0.1"), Some(address("192.0.2.99"))).await;
        assert!(matches!(foreign, Err(ResolveError::SourceRejected { .. })), "{foreign:?}");
    });
}

#[test]
fn many_are_answered_in_their_order() {
    let lab = Lab::new();
    lab.near("route add blackhole 10.1.0.0/16");
    lab.run(async || {
        let network = Network::open().unwrap();
        let destinations = ["192.0.2.9", "10.1.0.1", "192.0.2.1", "2001:db8::9"].map(address);
        let wanted = destinations.map(|destination| Wanted { destination, source_hint: None });
        let answers = spawnable(network.resolve_all(&wanted)).await;
        assert_eq!(answers.iter().map(|(destination, _)| *destination).collect::<Vec<_>>(), destinations);
        assert!(matches!(
            answers.as_slice(),
            [
                (_, Ok(NextHop::Via(_))),
                (_, Err(ResolveError::Blackhole { .. })),
                (_, Ok(NextHop::Local)),
                (_, Ok(NextHop::Via(_))),
            ]
        ));
    });
}
