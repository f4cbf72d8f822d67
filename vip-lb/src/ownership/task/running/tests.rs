//! What is heard, and what is not.

use std::time::Duration;

use super::{seen::is_for, *};
use crate::ownership::{
    link::Received,
    unheard::{Stamp, StampLink},
    vrrp::{Heard, Interval, PseudoHeader, Router},
};

const GROUP: &str = "224.0.0.18";

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn running(peers: &[&str]) -> Running {
    let profile = Profile {
        priority: Priority::DEFAULT,
        interval: Interval::DEFAULT,
        preempt: true,
        preempt_delay: Duration::ZERO,
        source: address("192.0.2.11"),
    };
    Running::new(GroupSetup {
        routers: vec![RouterSetup {
            router: Router::V4(51),
            interface: "eth0".to_owned(),
            profile,
            peers: peers.iter().map(|peer| address(peer)).collect(),
            pseudo_header: PseudoHeader::Included,
            virtual_mac: false,
            refresh: None,
            vips: vec![address("198.51.100.10"), address("198.51.100.11")],
            addresses: BTreeMap::new(),
        }],
    })
}

/// An advert of 192.0.2.12.
fn advert(id: u8, vips: &[&str]) -> Received {
    let (source, destination) = (address("192.0.2.12"), address(GROUP));
    let advert = Advert {
        router: Router::V4(id),
        priority: Some(Priority::OWNER),
        interval: Interval::DEFAULT,
        addresses: Addresses::V4(vips.iter().map(|vip| vip.parse().expect("an address")).collect()),
    };
    let bytes = advert.encode(source, destination, PseudoHeader::Included);
    Received { bytes, source, destination, ttl: 255 }
}

const BOTH: &[&str] = &["198.51.100.11", "198.51.100.10"];

#[test]
fn an_advert_of_the_same_router_is_heard_in_whatever_order_its_addresses_are() {
    let mut running = running(&[]);
    let heard = running.hear(0, &advert(51, BOTH)).expect("it is heard");
    assert_eq!((heard.priority, heard.source), (Some(Priority::OWNER), address("192.0.2.12")));
    let report = &running.routers[0].report;
    assert_eq!((report.received, report.heard), (1, Some(address("192.0.2.12"))));
    assert_eq!((&report.conflict, report.discarded.len()), (&None, 0));
    assert_eq!(running.hear(0, &advert(52, BOTH)), None, "another router's");
    assert_eq!(running.routers[0].report.discarded.len(), 0, "which is nothing to count");
}

#[test]
fn what_is_not_heard_is_counted_by_why() {
    let far = Received { ttl: 254, ..advert(51, BOTH) };
    let damaged = Received { bytes: [advert(51, BOTH).bytes, vec![1, 0]].concat(), ..advert(51, BOTH) };
    for (received, why) in [(far, "ttl"), (damaged, "checksum"), (advert(51, BOTH), "stranger")] {
        let mut running = running(&["192.0.2.13"]);
        assert_eq!(running.hear(0, &received), None, "{why}");
        assert_eq!(running.routers[0].report.discarded, BTreeMap::from([(why, 1)]));
    }
}

#[test]
fn whoever_speaks_for_other_addresses_is_named() {
    let mut running = running(&[]);
    assert!(running.hear(0, &advert(51, &BOTH[..1])).is_some(), "some of them are these: it is one router");
    let said = running.routers[0].report.conflict.clone().expect("a conflict");
    assert_eq!(said, "192.0.2.12 speaks for router 51 with other addresses: 198.51.100.11");
    assert_eq!(running.hear(0, &advert(51, &["203.0.113.1"])), None, "another router with this identifier");
    assert_eq!(running.routers[0].report.discarded, BTreeMap::from([("other_addresses", 1)]));
    assert!(running.routers[0].report.conflict.is_some());
    running.hear(0, &advert(51, BOTH));
    assert_eq!(running.routers[0].report.conflict, None, "it was put right");
}

/// What is said of a stamp's router, sender and address as of an advert's.
#[test]
fn stamps_are_for_a_router_as_adverts_are() {
    let setup = |peers: &[&str]| running(peers).setup.routers.remove(0);
    let stamp = Stamp {
        link: StampLink { interface: 3, vlan: 0 },
        router: Router::V4(51),
        at: now(),
        heard: Heard {
            priority: Some(Priority::OWNER),
            interval: Interval::DEFAULT,
            source: address("192.0.2.12"),
        },
        address: address(BOTH[0]),
    };
    assert!(is_for(&stamp, &setup(&[])) && is_for(&stamp, &setup(&["192.0.2.12"])));
    assert!(!is_for(&stamp, &setup(&["192.0.2.13"])), "of a stranger");
    for other in [
        Stamp { router: Router::V4(52), ..stamp },
        Stamp { router: Router::V6(51), ..stamp },
        Stamp { address: address("203.0.113.1"), ..stamp },
    ] {
        assert!(!is_for(&other, &setup(&[])), "{other:?}");
    }
}
