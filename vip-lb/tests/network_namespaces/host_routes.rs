//! Routes that are published, and the device that they lead to.

use std::{collections::BTreeSet, net::IpAddr};

use vip_lb::network::{
    HostRoute, HostRoutes, Monitor, Network, NetworkEvent, NextHop, RouteDevice, RouteDeviceError,
};

use crate::lab::{DEVICE, Lab, await_event};

fn route(destination: &str, table: u32, device: u32) -> HostRoute {
    HostRoute { destination: destination.parse().unwrap(), table, metric: 1024, device }
}

fn set(routes: &[HostRoute]) -> BTreeSet<HostRoute> {
    routes.iter().copied().collect()
}

#[test]
fn routes_come_are_found_again_change_and_go() {
    let lab = Lab::new();
    lab.near("route add 203.0.113.9/32 dev v0 proto static");
    lab.run(async || {
        let (network, routes) = (Network::open().unwrap(), HostRoutes::open().unwrap());
        assert_eq!(routes.own().await.unwrap(), BTreeSet::new());
        let RouteDevice { index, .. } = network.route_device("vip-lb").await.unwrap();
        let of_vips = ["203.0.113.1", "2001:db8:1::1"].map(|vip| route(vip, 254, index));
        for route in of_vips {
            routes.add(route).await.unwrap();
            let again = routes.add(route).await.unwrap_err();
            assert_eq!(again.raw_os_error(), Some(libc::EEXIST), "{again}");
        }
        let far = ["203.0.113.1", "2001:db8:1::1"].map(|vip| route(vip, 70_000, index));
        for route in far {
            routes.add(route).await.unwrap();
        }
        assert_eq!(routes.own().await.unwrap(), set(&[of_vips, far].concat()));
        let shown = lab.near("route show proto 118");
        assert!(shown.contains("203.0.113.1 dev vip-lb scope link metric 1024"), "{shown}");
        let shown = lab.near("-6 route show proto 118");
        assert!(shown.contains("2001:db8:1::1 dev vip-lb metric 1024"), "{shown}");
        // The host has not become the VIP's.
        for vip in of_vips {
            let hop = network.resolve(vip.destination, None).await;
            assert!(!matches!(hop, Ok(NextHop::Local)), "{hop:?}");
        }

        let other = network.route_device("other").await.unwrap();
        for vip in of_vips {
            routes.replace(HostRoute { device: other.index, ..vip }).await.unwrap();
        }
        let moved = of_vips.map(|vip| HostRoute { device: other.index, ..vip });
        assert_eq!(routes.own().await.unwrap(), set(&[moved, far].concat()));
        for route in [moved, far].concat() {
            routes.remove(route).await.unwrap();
            routes.remove(route).await.unwrap();
        }
        assert_eq!(routes.own().await.unwrap(), BTreeSet::new());
        assert!(lab.near("route show proto static").contains("203.0.113.9"));
    });
}

#[test]
fn a_route_of_somebody_else_is_not_replaced() {
    let lab = Lab::new();
    lab.near("route add 203.0.113.1/32 dev v0 proto static metric 1024");
    lab.run(async || {
        let (network, routes) = (Network::open().unwrap(), HostRoutes::open().unwrap());
        let RouteDevice { index, .. } = network.route_device("vip-lb").await.unwrap();
        let refused = routes.add(route("203.0.113.1", 254, index)).await.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EEXIST), "{refused}");
        assert!(lab.near("route show proto static").contains("203.0.113.1 dev v0"));
    });
}

#[test]
fn the_device_is_made_once_marked_and_removed_and_others_stay() {
    let lab = Lab::new();
    lab.run(async || {
        let network = Network::open().unwrap();
        let made = network.route_device("vip-lb").await.unwrap();
        assert_eq!(network.route_device("vip-lb").await.unwrap(), made);
        let shown = lab.near("link show vip-lb");
        assert!(shown.contains("alias vip-lb: routes of VIPs"), "{shown}");
        assert!(shown.contains("UP,LOWER_UP") && shown.contains("NOARP"), "{shown}");
        assert_eq!(lab.near("-6 address show dev vip-lb"), "", "it has no address, not even of the link");

        // Somebody took it down: it is up again, as the same.
        lab.near("link set vip-lb down");
        assert_eq!(network.route_device("vip-lb").await.unwrap(), made);
        assert!(lab.near("link show vip-lb").contains("UP,LOWER_UP"));

        let taken = network.route_device(DEVICE).await.unwrap_err();
        assert!(matches!(taken, RouteDeviceError::Taken { .. }), "{taken}");

        network.route_device("second").await.unwrap();
        let kept = BTreeSet::from(["second".to_owned()]);
        assert_eq!(network.remove_route_devices(&kept).await.unwrap(), ["vip-lb"]);
        assert_eq!(network.remove_route_devices(&BTreeSet::new()).await.unwrap(), ["second"]);
        assert_eq!(network.remove_route_devices(&BTreeSet::new()).await.unwrap(), Vec::<String>::new());
        let left = lab.near("-br link show");
        let left: Vec<_> = left.lines().map(|line| line.split(['@', ' ']).next().unwrap()).collect();
        assert_eq!(left, ["lo", DEVICE]);
    });
}

/// What the host sends to a VIP, or is handed for it, ends at the device, also where the host forwards.
#[test]
fn the_device_swallows_what_it_gets() {
    let lab = Lab::new();
    lab.near_exec("sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    lab.run(async || {
        let (network, routes) = (Network::open().unwrap(), HostRoutes::open().unwrap());
        let RouteDevice { index, .. } = network.route_device("vip-lb").await.unwrap();
        for vip in ["203.0.113.1", "2001:db8:1::1"] {
            routes.add(route(vip, 254, index)).await.unwrap();
        }
        let before = sent(&lab);
        for (vip, any) in [("203.0.113.1:9", "0.0.0.0:0"), ("[2001:db8:1::1]:9", "[::]:0")] {
            let socket = std::net::UdpSocket::bind(any).unwrap();
            for size in [10, 1000] {
                socket.send_to(&vec![0; size], vip).unwrap();
            }
        }
        // What came in again at the other end would leave once more, some sixty times. The host may have sent a word of its own (MLD).
        let left = sent(&lab) - before;
        assert!((4..8).contains(&left), "{left} packets");
    });
}

/// Packets that have left by the device.
fn sent(lab: &Lab) -> u64 {
    let shown = lab.near("-s -s -j link show vip-lb");
    let links: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let of = |key: &str| links[0]["stats64"]["tx"][key].as_u64().unwrap();
    of("packets") + of("dropped")
}

#[test]
fn a_route_that_somebody_removes_is_an_event() {
    let lab = Lab::new();
    lab.run(async || {
        let (network, routes) = (Network::open().unwrap(), HostRoutes::open().unwrap());
        let RouteDevice { index, .. } = network.route_device("vip-lb").await.unwrap();
        let vip: IpAddr = "203.0.113.1".parse().unwrap();
        routes.add(route("203.0.113.1", 254, index)).await.unwrap();
        let mut monitor = Monitor::open().unwrap();
        lab.near("route del 203.0.113.1/32 dev vip-lb");
        let about = |event: &NetworkEvent| match event {
            NetworkEvent::RouteChanged { prefix } => prefix.contains(vip),
            _ => false,
        };
        await_event(&mut monitor, about).await;
        // With the device go the routes, of which IPv4 says nothing.
        lab.near("link del vip-lb");
        let gone = NetworkEvent::LinkChanged { ifindex: index, interface: None };
        await_event(&mut monitor, |event| *event == gone).await;
    });
}
