//! VLAN offload and multicast groups.

use std::{fs, net::Ipv6Addr};

use vip_lb::network::{
    HostChanges, InterfaceChanges, MembershipChange, SolicitedNodeMemberships, Undone, VlanRxFeatures,
    VlanRxOffload, admit, dismiss, restore_vlan_rx_offload, solicited_node, turn_off_vlan_rx_offload,
};

use crate::lab::{DEVICE, Lab};

/// The state of the two features as `ethtool` shows it.
fn vlan_features(lab: &Lab) -> [&'static str; 2] {
    let shown = lab.near_exec(&format!("ethtool -k {DEVICE}"));
    ["rx-vlan-offload", "rx-vlan-stag-hw-parse"].map(|feature| {
        let line = shown.lines().find(|line| line.starts_with(&format!("{feature}: "))).unwrap();
        if line.contains(": on") { "on" } else { "off" }
    })
}

#[test]
fn vlan_offload_is_turned_off_and_restored() {
    let lab = Lab::new();
    lab.run_blocking(|| {
        assert_eq!(vlan_features(&lab), ["on", "on"]);
        let both = VlanRxFeatures { ctag: true, stag: true };
        assert_eq!(turn_off_vlan_rx_offload(DEVICE).unwrap(), VlanRxOffload::TurnedOff(both));
        assert_eq!(vlan_features(&lab), ["off", "off"]);
        assert_eq!(turn_off_vlan_rx_offload(DEVICE).unwrap(), VlanRxOffload::AlreadyOff);
        restore_vlan_rx_offload(DEVICE, both).unwrap();
        assert_eq!(vlan_features(&lab), ["on", "on"]);
    });
}

#[test]
fn what_was_off_before_stays_off_when_restored() {
    let lab = Lab::new();
    lab.run_blocking(|| {
        lab.near_exec(&format!("ethtool -K {DEVICE} rxvlan off"));
        assert_eq!(vlan_features(&lab), ["off", "on"]);
        let VlanRxOffload::TurnedOff(features) = turn_off_vlan_rx_offload(DEVICE).unwrap() else {
            panic!("there was something to turn off");
        };
        restore_vlan_rx_offload(DEVICE, features).unwrap();
        assert_eq!(vlan_features(&lab), ["off", "on"]);
    });
}

#[test]
fn a_refusal_changes_nothing_and_a_missing_interface_is_an_error() {
    let lab = Lab::new();
    lab.run_blocking(|| {
        let error = turn_off_vlan_rx_offload("eth9").unwrap_err();
        assert_eq!(error.to_string(), "cannot read the features of interface `eth9`");
        assert_eq!(turn_off_vlan_rx_offload("lo").unwrap(), VlanRxOffload::AlreadyOff);

        // SAFETY: the plain system call changes this thread alone, which ends with the test.
        let dropped = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        assert_eq!(dropped, 0);
        let refused = turn_off_vlan_rx_offload(DEVICE).unwrap();
        assert_eq!(refused, VlanRxOffload::Refused("Operation not permitted (os error 1)".into()));
    });
    assert_eq!(vlan_features(&lab), ["on", "on"]);
}

/// Whether the near end listens to a group. `/proc/net` would show the namespace of the process.
fn is_joined(ifindex: u32, group: Ipv6Addr) -> bool {
    let group = format!("{:032x}", group.to_bits());
    fs::read_to_string("/proc/thread-self/net/igmp6").unwrap().lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(ifindex.to_string().as_str()) && words.nth(1) == Some(group.as_str())
    })
}

#[test]
fn solicited_node_groups_follow_the_vips() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    lab.run_blocking(|| {
        let vips: [Ipv6Addr; 3] =
            ["2001:db8:f::a:1", "2001:db8:f::b:2", "2001:db8:e::a:1"].map(|vip| vip.parse().unwrap());
        let [first, second, _] = vips.map(solicited_node);
        assert_eq!(first, "ff02::1:ff0a:1".parse::<Ipv6Addr>().unwrap());
        assert!(!is_joined(ifindex, first));

        let mut memberships = SolicitedNodeMemberships::new();
        let mut set = |vips: &[Ipv6Addr]| memberships.set(ifindex, vips).unwrap();
        assert_eq!(set(&vips), MembershipChange { joined: vec![first, second], left: vec![] });
        assert!(is_joined(ifindex, first) && is_joined(ifindex, second));
        assert_eq!(set(&vips), MembershipChange::default());

        assert_eq!(set(&vips[1..]), MembershipChange::default(), "the third shares the first one's group");
        assert!(is_joined(ifindex, first));
        assert_eq!(set(&vips[1..2]), MembershipChange { joined: vec![], left: vec![first] });
        assert!(!is_joined(ifindex, first) && is_joined(ifindex, second));
        drop(memberships);
        assert!(!is_joined(ifindex, second));
    });
}

#[test]
fn more_groups_than_one_socket_holds_are_spread_over_several() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    lab.run_blocking(|| {
        // A membership takes more than 40 bytes of a socket's option memory.
        let memory: u32 =
            fs::read_to_string("/proc/sys/net/core/optmem_max").unwrap().trim().parse().unwrap();
        let vips: Vec<Ipv6Addr> = (1..=memory / 40)
            .map(|number| Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number)))
            .collect();
        let mut memberships = SolicitedNodeMemberships::new();
        assert_eq!(memberships.set(ifindex, &vips).unwrap().joined.len(), vips.len());
        assert!(memberships.sockets() > 1);
        for vip in [vips.first(), vips.last()].into_iter().flatten() {
            assert!(is_joined(ifindex, solicited_node(*vip)), "{vip}");
        }
        assert_eq!(memberships.set(ifindex, &[]).unwrap().left.len(), vips.len());
        assert_eq!(memberships.groups(ifindex).count(), 0);
    });
}

#[test]
fn a_group_on_no_interface_is_an_error_and_one_on_a_gone_interface_can_be_left() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    lab.run_blocking(|| {
        let vips: [Ipv6Addr; 1] = ["2001:db8::1:7".parse().unwrap()];
        let mut memberships = SolicitedNodeMemberships::new();
        let error = memberships.set(9999, &vips).unwrap_err();
        assert_eq!(error.to_string(), "cannot join multicast group ff02::1:ff01:7 on interface #9999");

        memberships.set(ifindex, &vips).unwrap();
        lab.near(&format!("link del {DEVICE}"));
        assert_eq!(memberships.set(ifindex, &[]).unwrap().left.len(), 1);
    });
}

/// The Ethernet multicast addresses of the near end, with the number of users that `ip` shows.
fn filter(lab: &Lab) -> Vec<(String, u32, bool)> {
    let shown: serde_json::Value =
        serde_json::from_str(&lab.near(&format!("-j maddress show dev {DEVICE}"))).unwrap();
    let entries = shown[0]["maddr"].as_array().unwrap();
    let entry = |entry: &serde_json::Value| {
        let users = entry["users"].as_u64().unwrap_or(1);
        let lasting = entry["features"] == "static";
        Some((entry["link"].as_str()?.to_owned(), users as u32, lasting))
    };
    entries.iter().filter_map(entry).collect()
}

fn is_let_in(lab: &Lab, address: &str) -> bool {
    filter(lab).iter().any(|(link, ..)| link == address)
}

#[test]
fn the_filter_lets_solicitations_in_after_the_membership_is_gone() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    lab.run_blocking(|| {
        let vips: [Ipv6Addr; 3] =
            ["2001:db8:f::a:1", "2001:db8:f::b:2", "2001:db8:e::a:1"].map(|vip| vip.parse().unwrap());
        let [first, second, _] = vips.map(solicited_node);
        let [first_link, second_link] = ["33:33:ff:0a:00:01", "33:33:ff:0b:00:02"];
        assert!(!is_let_in(&lab, first_link));

        let mut memberships = SolicitedNodeMemberships::new();
        memberships.set(ifindex, &vips).unwrap();
        assert_eq!(admit(DEVICE, &vips).unwrap(), [first, second]);
        assert!(admit(DEVICE, &vips).unwrap().is_empty(), "once is enough");
        drop(memberships);
        assert!(!is_joined(ifindex, first));
        let lasting = |link: &str| (link.to_owned(), 1, true);
        assert!(filter(&lab).contains(&lasting(first_link)), "{:?}", filter(&lab));
        assert!(filter(&lab).contains(&lasting(second_link)));

        lab.near(&format!("link set {DEVICE} down"));
        lab.near(&format!("link set {DEVICE} up"));
        assert!(is_let_in(&lab, first_link));
        dismiss(DEVICE, &[first, second]).unwrap();
        dismiss(DEVICE, &[first]).unwrap();
        assert!(!is_let_in(&lab, first_link) && !is_let_in(&lab, second_link));

        let error = admit("eth9", &vips).unwrap_err();
        assert_eq!(error.to_string(), "cannot extend the multicast filter of interface `eth9`");
    });
}

/// A record in a folder of its own, removed when the test ends.
struct Record {
    folder: std::path::PathBuf,
    changes: HostChanges,
}

impl Record {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("vip-lb-changes-{}-{name}", std::process::id()));
        Self { changes: HostChanges::in_folder(folder.clone()), folder }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn what_was_changed_is_undone_by_its_record() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    let record = Record::new("undo");
    lab.run_blocking(|| {
        let changes = &record.changes;
        let [ours, gone, theirs]: [Ipv6Addr; 3] =
            ["2001:db8::a:1", "2001:db8::b:2", "2001:db8::c:3"].map(|vip| vip.parse().unwrap());
        lab.near(&format!("maddress add 33:33:ff:0c:00:03 dev {DEVICE}"));
        lab.near_exec(&format!("ethtool -K {DEVICE} rxvlan off"));
        assert_eq!(changes.interfaces().unwrap(), [""; 0]);

        // A daemon that starts, changes its VIPs, and starts again.
        let stag = VlanRxFeatures { ctag: false, stag: true };
        assert_eq!(
            changes.turn_off_vlan_rx_offload(DEVICE, ifindex).unwrap(),
            VlanRxOffload::TurnedOff(stag)
        );
        changes.admit(DEVICE, ifindex, &[ours, gone, theirs]).unwrap();
        changes.admit(DEVICE, ifindex, &[ours, theirs]).unwrap();
        assert!(!is_let_in(&lab, "33:33:ff:0b:00:02"));
        assert_eq!(changes.turn_off_vlan_rx_offload(DEVICE, ifindex).unwrap(), VlanRxOffload::AlreadyOff);
        changes.admit(DEVICE, ifindex, &[ours, theirs]).unwrap();
        let expected = InterfaceChanges {
            index: ifindex,
            vlan_rx_offload: stag,
            multicast: [solicited_node(ours)].into(),
        };
        assert_eq!(changes.get(DEVICE).unwrap(), Some(expected.clone()));
        assert_eq!(changes.interfaces().unwrap(), [DEVICE]);

        assert_eq!(changes.undo(DEVICE).unwrap(), Some(Undone::Restored(expected)));
        assert_eq!(vlan_features(&lab), ["off", "on"]);
        assert!(!is_let_in(&lab, "33:33:ff:0a:00:01"));
        assert!(is_let_in(&lab, "33:33:ff:0c:00:03"), "somebody else's entry");
        assert_eq!(changes.undo(DEVICE).unwrap(), None);
        assert!(!record.folder.exists());
    });
}

#[test]
fn another_interface_of_the_same_name_is_left_alone() {
    let lab = Lab::new();
    let ifindex = lab.ifindex();
    let record = Record::new("same-name");
    lab.run_blocking(|| {
        let vip = ["2001:db8::a:1".parse().unwrap()];
        record.changes.turn_off_vlan_rx_offload(DEVICE, ifindex).unwrap();
        lab.near(&format!("link del {DEVICE}"));
        lab.near(&format!("link add name {DEVICE} type veth peer name v1"));
        lab.near_exec(&format!("ethtool -K {DEVICE} rxvlan off"));
        lab.near(&format!("maddress add 33:33:ff:0a:00:01 dev {DEVICE}"));

        let again = lab.ifindex();
        record.changes.admit(DEVICE, again, &vip).unwrap();
        assert_eq!(record.changes.get(DEVICE).unwrap().unwrap().index, ifindex, "nothing to record");
        assert_eq!(record.changes.undo(DEVICE).unwrap(), Some(Undone::Gone));
        assert_eq!(vlan_features(&lab), ["off", "on"]);
        assert!(is_let_in(&lab, "33:33:ff:0a:00:01"));
    });
}
