//! Devices on top of others, and what drivers can send.

use vip_lb::network::{Network, NextHop, xdp_features};

use crate::lab::{DEVICE, Lab};

#[test]
fn a_route_by_a_macvlan_leaves_by_the_device_below_with_the_address_of_the_macvlan() {
    let lab = Lab::new();
    lab.near(&format!(
        "link add m0 link {DEVICE} address 02:00:00:00:00:77 mtu 1400 type macvlan mode bridge"
    ));
    lab.near("address add 203.0.113.1/24 dev m0");
    lab.near("link set m0 up");
    lab.near("neigh replace 203.0.113.2 dev m0 nud permanent lladdr 02:00:00:00:00:88");
    let below = lab.ifindex();
    lab.run(async || {
        let network = Network::open().unwrap();
        let device = network.interface("m0").await.unwrap().index;
        let NextHop::Via(via) = network.resolve("203.0.113.2".parse().unwrap(), None).await.unwrap() else {
            panic!("203.0.113.2 is local")
        };
        assert_eq!((via.ifindex, via.device, via.vlan), (below, device, None));
        assert_eq!((via.source_mac, via.mtu), ([2, 0, 0, 0, 0, 0x77], 1400));
        assert_eq!(via.mac, Some([2, 0, 0, 0, 0, 0x88]), "of the entry on the macvlan");

        lab.near(&format!("link set {DEVICE} down"));
        let error = network.resolve("203.0.113.2".parse().unwrap(), None).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("203.0.113.2"), "{text}");
    });
}

/// A veth takes redirected frames only while its peer polls, for which it needs a program or GRO (kernel 6.3 tells).
#[test]
fn a_driver_tells_whether_it_takes_redirected_frames() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    for (gro, sends) in [("off", false), ("on", true)] {
        lab.far_exec(&format!("ethtool -K {DEVICE} gro {gro}"));
        lab.run_blocking(|| {
            let features = xdp_features(ifindex);
            assert_eq!(features.is_some(), version >= (6, 3), "Linux {release}");
            if let Some(features) = features {
                assert!(features.runs_programs() && features.receives_fragments(), "{features:?}");
                assert_eq!(features.sends_redirected(), sends, "{features:?} with gro {gro} at the peer");
            }
            assert_eq!(xdp_features(1_000_000), None, "no such interface");
        });
    }
}
