//! What is missing, and what was only not read yet.

use std::{net::Ipv4Addr, time::Duration};

use vip_lb_common::abi::Address;

use super::*;

const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const THIRD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));

#[expect(clippy::disallowed_methods, reason = "some moment to count from")]
fn start() -> Instant {
    Instant::now()
}

fn stamp(source: IpAddr, at: Instant) -> Stamp {
    let key = AdvertKey { source: source.into(), interface: 7, vlan: 9, router: 51, reserved: 0 };
    let address = Address::from(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    let value = AdvertStamp { address, interval: 100, priority: 200, addresses: 1, ..AdvertStamp::default() };
    Stamp::of(key, value, at).expect("a stamp")
}

#[test]
fn an_entry_of_the_map_is_what_an_advert_said() {
    let at = start();
    let stamp = stamp(OTHER, at);
    assert_eq!(stamp.link, StampLink { interface: 7, vlan: 9 });
    assert_eq!((stamp.router, stamp.at), (Router::V4(51), at));
    let heard = Heard { priority: Priority::new(200), interval: Interval::DEFAULT, source: OTHER };
    assert_eq!((stamp.heard, stamp.address.to_string().as_str()), (heard, "192.0.2.1"));
    let resigned = AdvertStamp { interval: 100, ..AdvertStamp::default() };
    assert_eq!(Stamp::of(AdvertKey::default(), resigned, at).expect("a stamp").heard.priority, None);
    assert_eq!(Stamp::of(AdvertKey::default(), AdvertStamp::default(), at), None, "no interval");
}

#[test]
fn what_was_read_was_not_missed() {
    let now = start();
    let ago = |milliseconds| now.checked_sub(Duration::from_millis(milliseconds)).expect("later than that");
    let all = [stamp(THIRD, ago(10)), stamp(OTHER, ago(50))];
    let mut unheard = Unheard::default();
    assert_eq!(unheard.missed(&all), [all[1], all[0]], "in the order of time");
    unheard.read(OTHER, ago(60));
    assert_eq!(unheard.missed(&all).len(), 2, "that was one before");
    unheard.read(OTHER, ago(50));
    assert_eq!(unheard.missed(&all), [all[0]]);
}

#[test]
fn who_is_seen_again_and_again_and_never_read_is_unheard() {
    let mut now = start();
    let mut unheard = Unheard::default();
    let mut second = |unheard: &mut Unheard, age: u64| {
        now += Duration::from_secs(1);
        let at = now.checked_sub(Duration::from_millis(age)).expect("later than that");
        (unheard.look(&unheard.missed(&[stamp(OTHER, at)]), now), now)
    };
    // Not read yet is not missing.
    assert_eq!(second(&mut unheard, 10).0, None);
    let (heard, now) = second(&mut unheard, 20);
    assert_eq!(heard, Some(OTHER));
    unheard.read(OTHER, now);
    assert_eq!(second(&mut unheard, 10).0, None, "the last but one came after all");
    let (_, now) = second(&mut unheard, 10);
    unheard.read(OTHER, now);
    for _ in 0..10 {
        let (heard, now) = second(&mut unheard, 1);
        assert_eq!(heard, None, "each is read after the look");
        unheard.read(OTHER, now);
    }
}

#[test]
fn one_advert_that_was_lost_or_a_node_that_is_gone_is_not_unheard() {
    let start = start();
    let mut unheard = Unheard::default();
    let lost = stamp(OTHER, start);
    for milliseconds in [1, 1001, 2001, 9001] {
        let now = start + Duration::from_millis(milliseconds);
        assert_eq!(unheard.look(&unheard.missed(&[lost]), now), None, "after {milliseconds} ms");
    }
    let later = stamp(OTHER, start + Duration::from_secs(2));
    let now = start + Duration::from_secs(3);
    unheard.look(&[lost], start);
    assert_eq!(unheard.look(&[later], now), Some(OTHER));
    assert_eq!(unheard.look(&[later], now + Duration::from_secs(9)), None, "it is gone");
}

#[test]
fn a_flood_of_senders_is_forgotten() {
    let now = start();
    let mut unheard = Unheard::default();
    for sender in 0..10_000_u32 {
        unheard.read(IpAddr::V4(Ipv4Addr::from(sender)), now);
    }
    assert!(unheard.read.len() <= REMEMBERED);
}
