//! Neighbours kept fresh.

use std::net::{IpAddr, Ipv4Addr};

use vip_lb::network::{Freshness, Monitor, Neighbour, Network, NetworkEvent, NextHop};

use crate::lab::{DEVICE, FAR_MAC, Lab, await_event, spawnable};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn mac(network: &Network, destination: &str) -> Option<[u8; 6]> {
    match network.resolve(address(destination), None).await.unwrap() {
        NextHop::Via(via) => via.mac,
        NextHop::Local => panic!("{destination} is local"),
    }
}

/// Waits until the kernel notifies the hardware address of a neighbour, and returns it.
async fn await_resolved(monitor: &mut Monitor, wanted: &str) -> [u8; 6] {
    let wanted = address(wanted);
    let event = await_event(monitor, |event| {
        matches!(
            event,
            NetworkEvent::NeighbourChanged { neighbour, mac: Some(_) } if neighbour.address == wanted
        )
    });
    match event.await {
        NetworkEvent::NeighbourChanged { mac: Some(mac), .. } => mac,
        other => panic!("awaited a resolved neighbour, got {other:?}"),
    }
}

/// The kernel's entry as `ip` shows it.
fn entry(lab: &Lab, address: &str) -> String {
    lab.near(&format!("neigh show {address} dev {DEVICE}"))
}

#[test]
fn a_managed_neighbour_is_resolved_without_traffic() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    lab.run(async || {
        let mut monitor = Monitor::open().unwrap();
        let network = Network::open().unwrap();
        for destination in ["192.0.2.2", "2001:db8::2"] {
            assert_eq!(mac(&network, destination).await, None);
            let freshness = network.keep_fresh(address(destination), ifindex).await.unwrap();
            assert_eq!(freshness, Freshness::Managed);
            assert_eq!(await_resolved(&mut monitor, destination).await, FAR_MAC);
            assert_eq!(mac(&network, destination).await, Some(FAR_MAC));
            let entry = entry(&lab, destination);
            assert!(entry.contains(" managed ") && entry.contains(" extern_learn "), "{entry}");
        }
    });
}

#[test]
fn releasing_undoes_what_keeping_did_and_nothing_else() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    lab.near(&format!("neigh add 192.0.2.3 dev {DEVICE} nud stale lladdr 02:00:00:00:00:03"));
    lab.near(&format!("neigh add 192.0.2.4 dev {DEVICE} nud stale lladdr 02:00:00:00:00:04 extern_learn"));
    lab.run(async || {
        let network = Network::open().unwrap();
        for (destination, was_learned) in [("192.0.2.2", false), ("192.0.2.3", false), ("192.0.2.4", true)] {
            for _ in 0..2 {
                let freshness = network.keep_fresh(address(destination), ifindex).await.unwrap();
                assert_eq!(freshness, Freshness::Managed, "{destination}");
            }
            assert!(entry(&lab, destination).contains(" managed "), "{destination}");

            assert!(network.release(address(destination), ifindex).await.unwrap(), "{destination}");
            let entry = entry(&lab, destination);
            assert!(entry.starts_with(destination), "the entry stays: {entry:?}");
            assert!(!entry.contains(" managed "), "{entry}");
            assert_eq!(entry.contains(" extern_learn "), was_learned, "{entry}");
            assert!(!network.release(address(destination), ifindex).await.unwrap(), "{destination}");
        }
        assert!(!network.release(address("192.0.2.5"), ifindex).await.unwrap());
        assert!(!network.release(address("192.0.2.5"), 9999).await.unwrap());
    });
}

#[test]
fn a_permanent_entry_is_left_alone() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    lab.near(&format!("neigh add 192.0.2.3 dev {DEVICE} nud permanent lladdr 02:00:00:00:00:03"));
    let before = entry(&lab, "192.0.2.3");
    assert!(before.contains(" PERMANENT"), "{before}");
    lab.run(async || {
        for network in [Network::open().unwrap(), Network::open().unwrap().without_managed_neighbours()] {
            let freshness = network.keep_fresh(address("192.0.2.3"), ifindex).await.unwrap();
            assert_eq!(freshness, Freshness::Fixed);
            assert!(!network.release(address("192.0.2.3"), ifindex).await.unwrap());
            assert_eq!(entry(&lab, "192.0.2.3"), before);
        }
    });
}

#[test]
fn an_entry_that_became_permanent_is_not_released() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    lab.run(async || {
        let network = Network::open().unwrap();
        network.keep_fresh(address("192.0.2.2"), ifindex).await.unwrap();
        lab.near(&format!("neigh replace 192.0.2.2 dev {DEVICE} nud permanent lladdr 02:00:00:00:00:09"));
        assert!(!network.release(address("192.0.2.2"), ifindex).await.unwrap());
        let entry = entry(&lab, "192.0.2.2");
        assert!(entry.contains(" PERMANENT"), "{entry}");
    });
}

#[test]
fn a_restarted_daemon_knows_its_own_entries_from_anothers() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    lab.near(&format!("neigh add 192.0.2.3 dev {DEVICE} managed"));
    lab.run(async || {
        let earlier = Network::open().unwrap();
        earlier.keep_fresh(address("192.0.2.2"), ifindex).await.unwrap();
        drop(earlier);
        assert!(entry(&lab, "192.0.2.2").contains(" managed "), "it serves the packet path meanwhile");

        let network = Network::open().unwrap();
        let freshness = network.keep_fresh(address("192.0.2.3"), ifindex).await.unwrap();
        assert_eq!(freshness, Freshness::Managed);
        assert!(!network.release(address("192.0.2.3"), ifindex).await.unwrap());
        assert!(entry(&lab, "192.0.2.3").contains(" managed "));

        assert!(network.release(address("192.0.2.2"), ifindex).await.unwrap());
        assert!(!entry(&lab, "192.0.2.2").contains(" managed "));
    });
}

#[test]
fn an_entry_that_was_deleted_is_notified_and_can_be_kept_again() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    lab.run(async || {
        let mut monitor = Monitor::open().unwrap();
        let network = Network::open().unwrap();
        network.keep_fresh(address("192.0.2.2"), ifindex).await.unwrap();
        await_resolved(&mut monitor, "192.0.2.2").await;

        lab.near(&format!("neigh del 192.0.2.2 dev {DEVICE}"));
        let neighbour = Neighbour { ifindex, address: address("192.0.2.2") };
        await_event(&mut monitor, |event| *event == NetworkEvent::NeighbourGone { neighbour }).await;
        assert_eq!(mac(&network, "192.0.2.2").await, None);

        let freshness = network.keep_fresh(address("192.0.2.2"), ifindex).await.unwrap();
        assert_eq!(freshness, Freshness::Managed);
        assert_eq!(await_resolved(&mut monitor, "192.0.2.2").await, FAR_MAC);
    });
}

#[test]
fn more_neighbours_are_kept_than_the_kernel_would_by_itself() {
    // Beyond `gc_thresh3`, 1024 by default and shared by all namespaces, the kernel refuses ordinary entries.
    const COUNT: u32 = 1200;
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    lab.near(&format!("address add 10.64.0.1/16 dev {DEVICE}"));
    lab.run(async || {
        let network = Network::open().unwrap();
        let first = Ipv4Addr::new(10, 64, 1, 0).to_bits();
        for number in 0..COUNT {
            let address = Ipv4Addr::from_bits(first + number).into();
            let freshness = spawnable(network.keep_fresh(address, ifindex)).await.unwrap();
            assert_eq!(freshness, Freshness::Managed, "{address}");
        }
        let shown = lab.near(&format!("neigh show dev {DEVICE}"));
        assert_eq!(shown.lines().filter(|line| line.contains(" managed ")).count(), COUNT as usize);
    });
}

#[test]
fn where_the_kernel_does_not_manage_neighbours_they_are_triggered_again_and_again() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    lab.run(async || {
        let mut monitor = Monitor::open().unwrap();
        let network = Network::open().unwrap().without_managed_neighbours();
        let freshness = network.keep_fresh(address("192.0.2.2"), ifindex).await.unwrap();
        assert_eq!(freshness, Freshness::Triggered);
        assert_eq!(await_resolved(&mut monitor, "192.0.2.2").await, FAR_MAC);
        assert!(!entry(&lab, "192.0.2.2").contains(" managed "));

        lab.near(&format!("neigh del 192.0.2.2 dev {DEVICE}"));
        let neighbour = Neighbour { ifindex, address: address("192.0.2.2") };
        await_event(&mut monitor, |event| *event == NetworkEvent::NeighbourGone { neighbour }).await;
        assert_eq!(await_resolved(&mut monitor, "192.0.2.2").await, FAR_MAC, "by the next trigger");

        assert!(network.release(address("192.0.2.2"), ifindex).await.unwrap());
        assert!(!entry(&lab, "192.0.2.2").contains(" extern_learn "));
    });
}

#[test]
fn a_neighbour_on_no_interface_is_an_error_with_its_name() {
    let lab = Lab::new();
    lab.run(async || {
        let network = Network::open().unwrap();
        let error = network.keep_fresh(address("192.0.2.2"), 9999).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot keep fresh neighbour 192.0.2.2 on interface #9999");
        assert_eq!(error.source.raw_os_error(), Some(libc::ENODEV));
    });
}
