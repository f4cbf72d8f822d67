//! Two routers that move together.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::{
    super::{Interval, Why},
    *,
};

const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));

fn profiles() -> [Profile; 2] {
    [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V6(Ipv6Addr::LOCALHOST)].map(|source| Profile {
        priority: Priority::DEFAULT,
        interval: Interval::DEFAULT,
        preempt: true,
        preempt_delay: Duration::ZERO,
        source,
    })
}

/// A group whose routers are both able, and when that was.
#[expect(clippy::disallowed_methods, reason = "some moment to count from")]
fn backup() -> (Group, Instant) {
    let (mut group, now) = (Group::new(profiles()), Instant::now());
    assert_eq!(group.on(GroupEvent::Ready { router: 0, ready: true }, now), []);
    assert_eq!(group.state(), State::Initialize);
    let orders = group.on(GroupEvent::Ready { router: 1, ready: true }, now);
    assert_eq!(became(&orders), [(0, State::Backup, Why::Ready), (1, State::Backup, Why::Ready)]);
    (group, now)
}

fn active() -> (Group, Instant) {
    let (mut group, _) = backup();
    let now = group.deadline().expect("a backup has a timer");
    group.on(timer(), now);
    for router in 0..2 {
        group.on(GroupEvent::Sent { router }, now);
    }
    assert_eq!(group.state(), State::Active);
    (group, now)
}

fn timer() -> GroupEvent {
    GroupEvent::Timer
}

fn heard(router: usize, theirs: u8) -> GroupEvent {
    let heard = Heard { priority: Priority::new(theirs), interval: Interval::DEFAULT, source: OTHER };
    GroupEvent::Heard { router, heard }
}

fn became(orders: &[Order]) -> Vec<(usize, State, Why)> {
    orders
        .iter()
        .filter_map(|order| match order.action {
            Action::Became(state, why) => Some((order.router, state, why)),
            _ => None,
        })
        .collect()
}

#[test]
fn both_take_over_when_both_have_reason_to() {
    let (mut group, start) = backup();
    let later = start + Duration::from_secs(2);
    group.on(heard(1, 200), later);
    let first = start + Interval::DEFAULT.down(Priority::DEFAULT);
    assert_eq!(group.on(timer(), first), [], "the other family's active node lives");
    assert_eq!(group.state(), State::Backup);
    let due = group.deadline().expect("a backup has a timer");
    assert_eq!(due, later + Interval::DEFAULT.down(Priority::DEFAULT));
    let orders = group.on(timer(), due);
    assert_eq!(
        became(&orders).iter().map(|(router, state, _)| (*router, *state)).collect::<Vec<_>>(),
        [(0, State::Active), (1, State::Active)]
    );
}

#[test]
fn what_the_packet_path_saw_of_one_holds_both() {
    let (mut group, _) = backup();
    let due = group.deadline().expect("a backup has a timer");
    let seen = due - Duration::from_millis(100);
    let heard = Heard { priority: Priority::new(200), interval: Interval::DEFAULT, source: OTHER };
    assert_eq!(group.on(GroupEvent::Seen { router: 1, at: seen, heard }, due), []);
    assert_eq!(group.on(timer(), due), []);
    assert_eq!(group.deadline(), Some(seen + Interval::DEFAULT.down(Priority::DEFAULT)));
    let (mut group, now) = active();
    let at = now + Duration::from_millis(100);
    let orders = group.on(GroupEvent::Seen { router: 1, at, heard }, at);
    assert_eq!(became(&orders), [(1, State::Backup, Why::HigherPriority), (0, State::Backup, Why::Follows)]);
}

#[test]
fn one_that_gives_way_takes_the_other_along() {
    let (mut group, now) = active();
    let orders = group.on(heard(1, 200), now);
    assert_eq!(became(&orders), [(1, State::Backup, Why::HigherPriority), (0, State::Backup, Why::Follows)]);
    let last_word = Order { router: 0, action: Action::Send(None) };
    assert!(orders.contains(&last_word), "{orders:?}");
}

#[test]
fn one_that_is_not_able_ends_both() {
    let (mut group, now) = active();
    let orders = group.on(GroupEvent::Ready { router: 1, ready: false }, now);
    assert_eq!(
        became(&orders),
        [(0, State::Initialize, Why::NotReady), (1, State::Initialize, Why::NotReady)]
    );
    assert_eq!(group.deadline(), None);
}

#[test]
fn an_active_group_sends_for_each() {
    let (mut group, _) = active();
    let due = group.deadline().expect("an active node has a timer");
    let sends: Vec<_> =
        group.on(timer(), due).into_iter().map(|order| (order.router, order.action)).collect();
    assert_eq!(sends, [0, 1].map(|router| (router, Action::Send(Some(Priority::DEFAULT)))));
}

#[test]
fn a_group_whose_lease_ended_backs_up_once() {
    let (mut group, now) = active();
    let orders = group.on(timer(), now + Interval::DEFAULT.lease());
    let states: Vec<_> = became(&orders).into_iter().map(|(router, state, _)| (router, state)).collect();
    assert_eq!(states, [(0, State::Backup), (1, State::Backup)]);
}

#[test]
fn tracking_lowers_all() {
    let (mut group, now) = active();
    group.on(GroupEvent::Lowered(30), now);
    assert_eq!([0, 1].map(|router| group.priority(router)), [Priority::new(70); 2]);
    group.on(GroupEvent::Lowered(0), now);
    assert_eq!([0, 1].map(|router| group.priority(router)), [Some(Priority::DEFAULT); 2]);
}

/// Also where one family's adverts alone are heard.
#[test]
fn a_group_hands_over_and_takes_back_as_a_whole() {
    let (mut group, now) = active();
    let orders = group.on(GroupEvent::HandOver, now);
    assert_eq!(became(&orders), [(0, State::Backup, Why::HandOver), (1, State::Backup, Why::HandOver)]);
    let last_words = orders.iter().filter(|order| order.action == Action::Send(None)).count();
    assert_eq!((last_words, group.has_handed_over()), (2, true));
    let taken = now + Duration::from_millis(700);
    for router in 0..2 {
        assert_eq!(group.on(heard(router, 50), taken), []);
    }
    assert_eq!(group.deadline(), Some(taken + Interval::DEFAULT.down(Priority::DEFAULT)));
    assert_eq!(group.on(GroupEvent::TakeBack, taken), []);
    let orders = group.on(heard(1, 50), taken + Duration::from_secs(1));
    assert_eq!(became(&orders), [(1, State::Active, Why::TakesBack), (0, State::Active, Why::Follows)]);
    assert!(!group.has_handed_over());

    let (mut group, now) = active();
    group.on(GroupEvent::HandOver, now);
    let due = group.deadline().expect("a backup has a timer");
    assert_eq!(due, now + Interval::DEFAULT.offer());
    let orders = group.on(timer(), due);
    assert_eq!(became(&orders), [(0, State::Active, Why::NobodyElse), (1, State::Active, Why::Follows)]);
    assert!(!group.has_handed_over());
}
