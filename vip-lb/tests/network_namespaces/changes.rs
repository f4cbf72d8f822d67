//! Notifications, and what the resolver makes of them.

use std::net::IpAddr;

use vip_lb::network::{Monitor, Network, NetworkEvent, NextHop, Resolver, Wanted};

use crate::lab::{DEVICE, FAR_MAC, Lab, await_event};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The daemon's part: answers what is stale and does what the resolver says, until nothing is stale.
async fn settle(network: &Network, resolver: &mut Resolver) {
    for (destination, answer) in network.resolve_all(&resolver.take_stale()).await {
        let recorded = resolver.record(destination, answer.as_ref());
        if let Some(neighbour) = recorded.keep {
            network.keep_fresh(neighbour.address, neighbour.ifindex).await.unwrap();
        }
        if let Some(neighbour) = recorded.release {
            network.release(neighbour.address, neighbour.ifindex).await.unwrap();
        }
    }
}

/// Follows the notifications until a destination's next hop is as wanted.
async fn follow_until(
    monitor: &mut Monitor,
    network: &Network,
    resolver: &mut Resolver,
    destination: &str,
    is_it: impl Fn(Option<&NextHop>) -> bool,
) {
    settle(network, resolver).await;
    while !is_it(resolver.next_hop(address(destination))) {
        resolver.apply(&monitor.next().await.unwrap());
        settle(network, resolver).await;
    }
}

fn has_mac(next_hop: Option<&NextHop>, mac: [u8; 6]) -> bool {
    matches!(next_hop, Some(NextHop::Via(via)) if via.mac == Some(mac))
}

#[test]
fn a_peer_that_changes_its_hardware_address_is_followed() {
    let lab = Lab::new();
    // The peer announces its new address itself (gratuitous ARP, unsolicited neighbour advertisement).
    lab.far_sysctl(&format!("net.ipv4.conf.{DEVICE}.arp_notify=1"));
    lab.far_sysctl(&format!("net.ipv6.conf.{DEVICE}.ndisc_notify=1"));
    lab.run(async || {
        let mut monitor = Monitor::open().unwrap();
        let network = Network::open().unwrap();
        let mut resolver = Resolver::new();
        for destination in ["192.0.2.2", "2001:db8::2"] {
            resolver.want(Wanted { destination: address(destination), source_hint: None });
        }
        for destination in ["192.0.2.2", "2001:db8::2"] {
            follow_until(&mut monitor, &network, &mut resolver, destination, |hop| has_mac(hop, FAR_MAC))
                .await;
        }
        lab.far(&format!("link set {DEVICE} address 02:00:00:00:00:22"));
        for destination in ["192.0.2.2", "2001:db8::2"] {
            let moved = [2, 0, 0, 0, 0, 0x22];
            follow_until(&mut monitor, &network, &mut resolver, destination, |hop| has_mac(hop, moved)).await;
        }
    });
}

#[test]
fn routes_that_come_move_and_go_are_followed() {
    let lab = Lab::new();
    lab.run(async || {
        let mut monitor = Monitor::open().unwrap();
        let network = Network::open().unwrap();
        for (destination, prefix, gateways) in [
            ("198.51.100.7", "198.51.100.0/24", ["192.0.2.2", "192.0.2.3"]),
            ("2001:db8:1::7", "2001:db8:1::/64", ["2001:db8::2", "2001:db8::3"]),
        ] {
            let mut resolver = Resolver::new();
            resolver.want(Wanted { destination: address(destination), source_hint: None });
            settle(&network, &mut resolver).await;
            assert_eq!(resolver.next_hop(address(destination)), None);

            for gateway in gateways {
                lab.near(&format!("route replace {prefix} via {gateway}"));
                let gateway = address(gateway);
                follow_until(
                    &mut monitor,
                    &network,
                    &mut resolver,
                    destination,
                    |hop| matches!(hop, Some(NextHop::Via(via)) if via.neighbour == gateway),
                )
                .await;
            }
            let managed = lab.near(&format!("neigh show dev {DEVICE}"));
            for (gateway, is_managed) in gateways.iter().zip([false, true]) {
                let line = managed.lines().find(|line| line.split(' ').next() == Some(gateway));
                assert_eq!(
                    line.is_some_and(|line| line.contains(" managed ")),
                    is_managed,
                    "{gateway}: {line:?}"
                );
            }
            lab.near(&format!("route del {prefix}"));
            follow_until(&mut monitor, &network, &mut resolver, destination, |hop| hop.is_none()).await;
        }
    });
}

#[test]
fn an_address_that_becomes_this_hosts_is_local() {
    let lab = Lab::new();
    lab.run(async || {
        let mut monitor = Monitor::open().unwrap();
        let network = Network::open().unwrap();
        let mut resolver = Resolver::new();
        resolver.want(Wanted { destination: address("192.0.2.7"), source_hint: None });
        settle(&network, &mut resolver).await;
        for (command, is_local) in [("add", true), ("del", false)] {
            lab.near(&format!("address {command} 192.0.2.7/32 dev lo"));
            follow_until(&mut monitor, &network, &mut resolver, "192.0.2.7", |hop| {
                matches!(hop, Some(NextHop::Local)) == is_local
            })
            .await;
        }
    });
}

#[test]
fn a_link_that_goes_down_takes_its_routes_and_changes_are_followed() {
    let lab = Lab::new();
    lab.run(async || {
        let mut monitor = Monitor::open().unwrap();
        let network = Network::open().unwrap();
        let mut resolver = Resolver::new();
        resolver.want(Wanted { destination: address("192.0.2.2"), source_hint: None });
        follow_until(&mut monitor, &network, &mut resolver, "192.0.2.2", |hop| has_mac(hop, FAR_MAC)).await;

        lab.near(&format!("link set {DEVICE} mtu 1400"));
        follow_until(
            &mut monitor,
            &network,
            &mut resolver,
            "192.0.2.2",
            |hop| matches!(hop, Some(NextHop::Via(via)) if via.mtu == 1400),
        )
        .await;
        lab.near(&format!("link set {DEVICE} down"));
        follow_until(&mut monitor, &network, &mut resolver, "192.0.2.2", |hop| hop.is_none()).await;
        lab.near(&format!("link set {DEVICE} up"));
        follow_until(&mut monitor, &network, &mut resolver, "192.0.2.2", |hop| has_mac(hop, FAR_MAC)).await;
    });
}

#[test]
fn a_link_that_goes_is_notified() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    lab.run(async || {
        let mut monitor = Monitor::open().unwrap();
        lab.near(&format!("link del {DEVICE}"));
        let gone = NetworkEvent::LinkChanged { ifindex, interface: None };
        await_event(&mut monitor, |event| *event == gone).await;
    });
}

#[test]
fn notifications_that_did_not_fit_are_reported_as_lost() {
    let lab = Lab::new();
    lab.run(async || {
        // Nothing is read while these happen, and the smallest buffer there is does not hold them.
        let mut monitor = Monitor::open_with_buffer(1).unwrap();
        for host in 10..60 {
            lab.near(&format!(
                "neigh add 192.0.2.{host} dev {DEVICE} nud permanent lladdr 02:00:00:00:00:09"
            ));
        }
        await_event(&mut monitor, |event| *event == NetworkEvent::Overrun).await;

        lab.near(&format!("neigh add 192.0.2.99 dev {DEVICE} nud permanent lladdr 02:00:00:00:00:09"));
        await_event(&mut monitor, |event| {
            matches!(
                event,
                NetworkEvent::NeighbourChanged { neighbour, .. }
                    if neighbour.address == address("192.0.2.99")
            )
        })
        .await;
    });
}
