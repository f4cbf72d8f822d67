//! The table of RFC 9568 section 6.4, and what this machine adds to it.

use std::net::Ipv4Addr;

use super::*;

const INTERVAL: Interval = Interval::DEFAULT;
const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
const LOWER_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 4));
const HIGHER_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 6));
const TIMER: Event = Event::Timer;

fn priority(priority: u8) -> Priority {
    Priority::new(priority).expect("a priority of a test is not zero")
}

fn profile() -> Profile {
    Profile {
        priority: Priority::DEFAULT,
        interval: INTERVAL,
        preempt: true,
        preempt_delay: Duration::ZERO,
        source: OURS,
    }
}

fn heard(theirs: u8, source: IpAddr) -> Event {
    Event::Heard(Heard { priority: Priority::new(theirs), interval: INTERVAL, source })
}

fn lower() -> Event {
    heard(50, HIGHER_ADDRESS)
}

fn higher() -> Event {
    heard(150, LOWER_ADDRESS)
}

fn resigned() -> Event {
    heard(0, HIGHER_ADDRESS)
}

fn centis(centis: u64) -> Duration {
    Duration::from_millis(centis * 10)
}

/// A machine and the time that its events are given.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "some moment to count from")]
    fn new(profile: Profile) -> Self {
        Self { machine: Machine::new(profile), now: Instant::now() }
    }

    fn backup(profile: Profile) -> Self {
        let mut bench = Self::new(profile);
        bench.on(Event::Ready(true));
        assert_eq!(bench.machine.state(), State::Backup);
        bench
    }

    fn active(profile: Profile) -> Self {
        let mut bench = Self::backup(profile);
        bench.expire();
        bench.on(Event::Sent);
        assert_eq!(bench.machine.state(), State::Active);
        bench
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.machine.on(event, self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// The timer, when it is due.
    fn expire(&mut self) -> Vec<Action> {
        self.now = self.machine.deadline().expect("a node that takes part has a timer");
        self.on(TIMER)
    }

    fn wait(&self) -> Duration {
        self.machine.deadline().expect("a node that takes part has a timer") - self.now
    }
}

fn becomes(state: State, why: Why) -> Action {
    Action::Became(state, why)
}

fn takes_over(why: Why) -> Vec<Action> {
    vec![becomes(State::Active, why), Action::Send(Some(Priority::DEFAULT))]
}

// RFC 9568 section 6.4.1, Initialize.

#[test]
fn the_owner_of_the_addresses_begins_as_active() {
    let mut bench = Bench::new(Profile { priority: Priority::OWNER, ..profile() });
    let expected = vec![becomes(State::Active, Why::Owner), Action::Send(Some(Priority::OWNER))];
    assert_eq!(bench.on(Event::Ready(true)), expected);
    assert_eq!(bench.wait(), INTERVAL.duration());
}

#[test]
fn all_others_begin_as_backup() {
    let mut bench = Bench::new(profile());
    assert_eq!(bench.machine.deadline(), None);
    assert_eq!(bench.on(Event::Ready(true)), [becomes(State::Backup, Why::Ready)]);
    assert_eq!(bench.wait(), INTERVAL.down(Priority::DEFAULT));
}

#[test]
fn a_daemon_goes_on_while_the_lease_of_the_one_before_lasts() {
    let mut bench = Bench::new(profile());
    let lease = bench.now + centis(5);
    let expected = [becomes(State::Active, Why::Resumed), Action::Send(Some(Priority::DEFAULT))];
    assert_eq!(bench.on(Event::Resume(lease)), expected);
    let renewed = bench.now + INTERVAL.lease();
    assert_eq!(bench.on(Event::Sent), [Action::Lease(renewed)], "neighbours know where the addresses are");
    let mut bench = Bench::new(profile());
    assert_eq!(bench.on(Event::Resume(bench.now)), [becomes(State::Backup, Why::Ready)], "it is over");
}

#[test]
fn who_takes_no_part_does_nothing() {
    let events = [
        TIMER,
        lower(),
        higher(),
        resigned(),
        Event::Sent,
        Event::Ready(false),
        Event::HandOver,
        Event::TakeBack,
        Event::Follow(true),
        Event::Shutdown,
    ];
    for event in events {
        let mut bench = Bench::new(profile());
        assert_eq!(bench.on(event), [], "{event:?}");
        assert_eq!(bench.machine.state(), State::Initialize, "{event:?}");
    }
}

// RFC 9568 section 6.4.2, Backup.

#[test]
fn a_backup_takes_over_from_a_silent_node() {
    let mut bench = Bench::backup(profile());
    assert_eq!(bench.expire(), takes_over(Why::Silence));
    let lease = bench.now + centis(300);
    assert_eq!(bench.on(Event::Sent), [Action::Lease(lease), Action::Announce]);
}

#[test]
fn a_backup_waits_for_its_skew_after_a_resignation() {
    let mut bench = Bench::backup(profile());
    assert_eq!(bench.on(resigned()), []);
    assert_eq!(bench.wait(), INTERVAL.skew(Priority::DEFAULT));
    assert_eq!(bench.expire(), takes_over(Why::Resigned));
}

#[test]
fn a_backup_stays_while_it_hears_a_node_that_it_does_not_preempt() {
    for (event, preempt) in [(higher(), true), (heard(100, LOWER_ADDRESS), true), (lower(), false)] {
        let mut bench = Bench::backup(Profile { preempt, ..profile() });
        bench.pass(centis(350));
        assert_eq!(bench.on(event), []);
        assert_eq!(bench.wait(), INTERVAL.down(Priority::DEFAULT), "{event:?}");
    }
}

#[test]
fn a_backup_goes_by_the_interval_of_the_active_node() {
    let mut bench = Bench::backup(profile());
    let theirs = Interval::from_centis(300).expect("300 fits");
    bench.on(Event::Heard(Heard { priority: Some(priority(150)), interval: theirs, source: LOWER_ADDRESS }));
    assert_eq!(bench.wait(), theirs.down(Priority::DEFAULT));
}

#[test]
fn a_backup_does_not_hear_those_it_preempts() {
    let mut bench = Bench::backup(profile());
    let due = bench.machine.deadline();
    for _ in 0..3 {
        bench.pass(centis(100));
        assert_eq!(bench.on(lower()), []);
        assert_eq!(bench.machine.deadline(), due);
    }
    assert_eq!(bench.expire(), takes_over(Why::Preempts));
}

#[test]
fn a_backup_ends_without_a_word() {
    let ends = [(Event::Shutdown, Why::Shutdown), (Event::Ready(false), Why::NotReady)];
    for (event, why) in ends {
        let mut bench = Bench::backup(profile());
        assert_eq!(bench.on(event), [becomes(State::Initialize, why)]);
        assert_eq!(bench.machine.deadline(), None);
    }
}

// RFC 9568 section 6.4.3, Active.

#[test]
fn an_active_node_sends_at_its_interval_and_renews_its_lease_by_what_was_sent() {
    let mut bench = Bench::active(profile());
    for _ in 0..10 {
        assert_eq!(bench.wait(), INTERVAL.duration());
        assert_eq!(bench.expire(), [Action::Send(Some(Priority::DEFAULT))]);
        bench.pass(centis(1));
        let lease = bench.now + centis(300);
        assert_eq!(bench.on(Event::Sent), [Action::Lease(lease)]);
        bench.now -= centis(1);
    }
}

/// Stopped between its decision to speak and its word, it would have answered beside the node that had taken its place.
#[test]
fn an_active_node_that_stood_still_before_it_spoke_gets_no_lease_by_that() {
    let mut bench = Bench::active(profile());
    assert_eq!(bench.expire(), [Action::Send(Some(Priority::DEFAULT))]);
    bench.pass(INTERVAL.lease());
    assert_eq!(bench.on(Event::Sent), [Action::EndLease, becomes(State::Backup, Why::LeaseEnded)]);
}

#[test]
fn an_active_node_gives_way_to_a_higher_one() {
    let cases = [
        (higher(), Some(Why::HigherPriority)),
        (heard(100, HIGHER_ADDRESS), Some(Why::HigherAddress)),
        (heard(100, LOWER_ADDRESS), None),
        (heard(100, OURS), None),
        (lower(), None),
        (resigned(), None),
    ];
    for (event, gives_way) in cases {
        let mut bench = Bench::active(profile());
        let own = event == heard(100, OURS);
        let expected = match gives_way {
            Some(why) => vec![Action::EndLease, becomes(State::Backup, why)],
            None if own => vec![],
            None => vec![Action::Send(Some(Priority::DEFAULT))],
        };
        assert_eq!(bench.on(event), expected, "{event:?}");
        let wait = gives_way.map_or(INTERVAL.duration(), |_| INTERVAL.down(Priority::DEFAULT));
        assert_eq!(bench.wait(), wait, "{event:?}");
    }
}

#[test]
fn an_active_node_resigns_when_it_ends() {
    let ends = [(Event::Shutdown, Why::Shutdown), (Event::Ready(false), Why::NotReady)];
    for (event, why) in ends {
        let mut bench = Bench::active(profile());
        let expected = [Action::EndLease, Action::Send(None), becomes(State::Initialize, why)];
        assert_eq!(bench.on(event), expected);
        assert_eq!(bench.machine.deadline(), None);
    }
}

// What this machine adds.

#[test]
fn a_node_that_was_stopped_begins_as_a_backup() {
    let mut bench = Bench::active(profile());
    bench.pass(centis(300));
    assert_eq!(bench.on(TIMER), [Action::EndLease, becomes(State::Backup, Why::LeaseEnded)]);
    assert_eq!(bench.wait(), INTERVAL.down(Priority::DEFAULT));
}

/// Its socket has what was said meanwhile, and that comes before its timer.
#[test]
fn a_node_that_was_stopped_does_not_assert_itself() {
    for heard in [lower(), higher(), resigned()] {
        let mut bench = Bench::active(profile());
        bench.pass(INTERVAL.lease());
        let expected = [Action::EndLease, becomes(State::Backup, Why::LeaseEnded)];
        assert_eq!(bench.on(heard), expected, "{heard:?}");
    }
}

#[test]
fn a_node_whose_adverts_do_not_leave_gives_up() {
    let mut bench = Bench::backup(profile());
    bench.expire();
    let states: Vec<_> = (0..4)
        .map(|_| {
            bench.expire();
            bench.machine.state()
        })
        .collect();
    assert_eq!(states, [State::Active, State::Active, State::Backup, State::Active]);
}

/// What the packet path saw, of whom, how long ago, and what a backup whose time has come makes of it: for how long it waits yet, or why it takes over.
#[test]
fn what_the_packet_path_saw_counts_from_when_it_was_seen() {
    let down = INTERVAL.down(Priority::DEFAULT);
    let by = |preempt| Profile { preempt, ..profile() };
    let (at_once, unheard) = (centis(0), Err(Why::Silence));
    for (case, profile, theirs, source, ago, expected) in [
        ("a higher one", by(true), 150, LOWER_ADDRESS, centis(20), Ok(down - centis(20))),
        ("at this moment", by(true), 150, LOWER_ADDRESS, at_once, Ok(down)),
        ("another higher one", by(true), 200, HIGHER_ADDRESS, centis(20), Ok(down - centis(20))),
        ("an equal one", by(true), 100, LOWER_ADDRESS, centis(20), Ok(down - centis(20))),
        ("a lower one that may stay", by(false), 50, LOWER_ADDRESS, centis(20), Ok(down - centis(20))),
        ("a lower one", by(true), 50, LOWER_ADDRESS, centis(20), Err(Why::Preempts)),
        ("long ago", by(true), 150, LOWER_ADDRESS, down, unheard),
        ("before the last that was heard", by(true), 150, LOWER_ADDRESS, centis(1001), unheard),
        (
            "one that resigned just now",
            by(true),
            0,
            LOWER_ADDRESS,
            at_once,
            Ok(INTERVAL.skew(Priority::DEFAULT)),
        ),
        ("one that resigned", by(true), 0, LOWER_ADDRESS, centis(100), Err(Why::Resigned)),
        ("its own", by(true), 150, OURS, centis(20), unheard),
    ] {
        let mut bench = Bench::backup(profile);
        bench.on(higher());
        bench.pass(centis(1000));
        let heard = Heard { priority: Priority::new(theirs), interval: INTERVAL, source };
        assert_eq!(bench.on(Event::Seen { at: bench.now - ago, heard }), [], "{case}");
        let done = bench.on(TIMER);
        match expected {
            Ok(wait) => assert_eq!((done, bench.wait()), (vec![], wait), "{case}"),
            Err(why) => assert_eq!(done, takes_over(why), "{case}"),
        }
    }
}

#[test]
fn what_was_seen_goes_by_the_interval_that_it_says() {
    let mut bench = Bench::backup(profile());
    bench.pass(centis(1000));
    let interval = Interval::from_centis(300).expect("300 fits");
    let heard = Heard { priority: Some(priority(150)), interval, source: LOWER_ADDRESS };
    bench.on(Event::Seen { at: bench.now, heard });
    assert_eq!(bench.wait(), interval.down(Priority::DEFAULT));
}

/// A clock that is ahead must not keep a dead node's place.
#[test]
fn what_will_have_been_seen_counts_for_nothing() {
    for mut bench in [Bench::backup(profile()), Bench::active(profile())] {
        let due = bench.machine.deadline();
        let heard = Heard { priority: Some(priority(150)), interval: INTERVAL, source: LOWER_ADDRESS };
        assert_eq!(bench.on(Event::Seen { at: bench.now + centis(1), heard }), []);
        assert_eq!(bench.machine.deadline(), due);
    }
}

#[test]
fn a_backup_that_sees_and_does_not_hear_takes_over_when_it_sees_no_more() {
    let mut bench = Bench::backup(profile());
    let heard = Heard { priority: Some(priority(150)), interval: INTERVAL, source: LOWER_ADDRESS };
    for _ in 0..10 {
        bench.now = bench.machine.deadline().expect("a backup has a timer");
        assert_eq!(bench.on(Event::Seen { at: bench.now - centis(30), heard }), []);
        assert_eq!(bench.on(TIMER), []);
    }
    let last = bench.now - centis(30);
    bench.now = bench.machine.deadline().expect("a backup has a timer");
    assert_eq!(bench.now, last + INTERVAL.down(Priority::DEFAULT));
    assert_eq!(bench.on(Event::Seen { at: last, heard }), [], "the same once more");
    assert_eq!(bench.on(TIMER), takes_over(Why::Silence));
    // What kept it is older than what it is now.
    bench.on(Event::Sent);
    assert_eq!(bench.on(Event::Seen { at: last, heard }), []);
    assert_eq!(bench.machine.state(), State::Active);
}

#[test]
fn an_active_node_gives_way_to_a_higher_one_that_it_only_sees_and_answers_none() {
    for (theirs, source, gives_way) in [
        (150, LOWER_ADDRESS, Some(Why::HigherPriority)),
        (100, HIGHER_ADDRESS, Some(Why::HigherAddress)),
        (100, LOWER_ADDRESS, None),
        (50, HIGHER_ADDRESS, None),
        (0, HIGHER_ADDRESS, None),
    ] {
        let mut bench = Bench::active(profile());
        let at = bench.now + centis(10);
        bench.pass(centis(40));
        let heard = Heard { priority: Priority::new(theirs), interval: INTERVAL, source };
        let done = bench.on(Event::Seen { at, heard });
        match gives_way {
            Some(why) => {
                assert_eq!(done, [Action::EndLease, becomes(State::Backup, why)], "{theirs} {source}");
                assert_eq!(bench.wait(), INTERVAL.down(Priority::DEFAULT) - centis(30));
            }
            None => assert_eq!(done, [], "{theirs} {source}"),
        }
    }
}

/// It takes back what it handed over when it hears that node, or when its time has come.
#[test]
fn what_is_only_seen_is_not_taken_back_at_once() {
    let mut bench = handed_over(Profile { preempt: false, ..profile() });
    bench.on(Event::TakeBack);
    bench.pass(centis(40));
    let heard = Heard { priority: Some(priority(50)), interval: INTERVAL, source: HIGHER_ADDRESS };
    assert_eq!(bench.on(Event::Seen { at: bench.now, heard }), []);
    assert_eq!(bench.expire(), takes_over(Why::Preempts));
}

#[test]
fn an_early_timer_changes_nothing() {
    let mut bench = Bench::backup(profile());
    assert_eq!(bench.on(TIMER), []);
    assert_eq!(bench.wait(), INTERVAL.down(Priority::DEFAULT));
    let mut bench = Bench::active(profile());
    assert_eq!(bench.on(TIMER), []);
    assert_eq!(bench.wait(), INTERVAL.duration());
}

#[test]
fn preemption_waits_for_its_delay_and_silence_does_not() {
    let delayed = Profile { preempt_delay: centis(3000), ..profile() };
    let mut bench = Bench::backup(delayed);
    for _ in 0..30 {
        bench.pass(centis(99));
        assert_eq!(bench.on(lower()), []);
        assert_eq!(bench.wait(), INTERVAL.down(Priority::DEFAULT));
    }
    bench.pass(centis(99));
    bench.on(lower());
    assert_eq!(bench.expire(), takes_over(Why::Preempts));

    let mut bench = Bench::backup(delayed);
    assert_eq!(bench.expire(), takes_over(Why::Silence));
}

/// A node that has handed over to a lower one.
fn handed_over(profile: Profile) -> Bench {
    let mut bench = match profile.priority {
        Priority::OWNER => {
            let mut bench = Bench::new(profile);
            bench.on(Event::Ready(true));
            bench
        }
        _ => Bench::active(profile),
    };
    let expected = [Action::EndLease, Action::Send(None), becomes(State::Backup, Why::HandOver)];
    assert_eq!(bench.on(Event::HandOver), expected);
    assert!(bench.wait() > INTERVAL.skew(priority(1)), "all others have their turn before");
    bench.pass(centis(60));
    assert_eq!(bench.on(lower()), []);
    assert!(bench.machine.has_handed_over());
    bench
}

#[test]
fn a_node_that_handed_over_lets_lower_ones_be_active_and_replaces_silent_ones() {
    for priority in [Priority::DEFAULT, Priority::OWNER] {
        let mut bench = handed_over(Profile { priority, ..profile() });
        for _ in 0..10 {
            bench.pass(centis(100));
            bench.on(lower());
            assert_eq!(bench.wait(), INTERVAL.down(priority));
        }
        let expected = [becomes(State::Active, Why::Silence), Action::Send(Some(priority))];
        assert_eq!(bench.expire(), expected);
        assert!(!bench.machine.has_handed_over(), "it is over");
    }
}

#[test]
fn what_was_handed_over_is_taken_back_from_a_lower_node_at_its_next_advert() {
    let mut bench = handed_over(Profile { preempt: false, ..profile() });
    assert_eq!(bench.on(Event::TakeBack), []);
    assert!(!bench.machine.has_handed_over());
    bench.pass(centis(40));
    assert_eq!(bench.on(lower()), takes_over(Why::TakesBack));
    let mut bench = handed_over(profile());
    bench.on(Event::TakeBack);
    bench.on(higher());
    assert_eq!(bench.wait(), INTERVAL.down(Priority::DEFAULT), "a higher one stays");
    let mut bench = Bench::backup(Profile { preempt: false, ..profile() });
    bench.on(Event::TakeBack);
    assert_eq!(bench.on(lower()), [], "there was nothing to take back");
}

/// As a daemon is told that begins anew.
#[test]
fn who_handed_over_before_it_was_able_begins_as_backup() {
    for priority in [Priority::DEFAULT, Priority::OWNER] {
        for event in [|_| Event::Ready(true), |lease| Event::Resume(lease)] {
            let mut bench = Bench::new(Profile { priority, ..profile() });
            assert_eq!(bench.on(Event::HandOver), []);
            assert_eq!(bench.on(event(bench.now + centis(100))), [becomes(State::Backup, Why::Ready)]);
            bench.on(lower());
            assert_eq!(bench.wait(), INTERVAL.down(priority));
        }
    }
    let mut bench = Bench::new(profile());
    bench.on(Event::HandOver);
    bench.on(Event::TakeBack);
    assert!(!bench.machine.has_handed_over());
}

/// It has ignored the adverts of the lower one, and must not take their absence for silence.
#[test]
fn a_backup_about_to_preempt_that_is_to_let_be_waits_anew() {
    let mut bench = Bench::backup(profile());
    bench.pass(centis(200));
    bench.on(lower());
    bench.pass(centis(50));
    bench.on(Event::HandOver);
    assert_eq!(bench.wait(), INTERVAL.down(Priority::DEFAULT));
}

#[test]
fn who_hands_over_to_nobody_takes_the_place_again() {
    let mut bench = Bench::active(profile());
    bench.on(Event::HandOver);
    let at = bench.now + centis(150);
    bench.now = bench.machine.deadline().expect("a deadline");
    let heard = Heard { priority: Some(priority(50)), interval: INTERVAL, source: LOWER_ADDRESS };
    assert_eq!(bench.on(Event::Seen { at, heard }), []);
    assert_eq!(bench.on(TIMER), [], "somebody was seen to speak");
    let mut bench = Bench::active(profile());
    bench.on(Event::HandOver);
    assert_eq!(bench.wait(), INTERVAL.offer());
    assert_eq!(bench.expire(), takes_over(Why::NobodyElse));
    assert!(!bench.machine.has_handed_over());
}

/// An operator who raises a priority moves nothing that need not move.
#[test]
fn what_is_configured_anew_changes_no_state() {
    let new = Profile { priority: priority(200), source: LOWER_ADDRESS, ..profile() };
    let mut bench = Bench::active(profile());
    assert_eq!(bench.on(Event::Profile(new)), []);
    assert_eq!(bench.expire(), [Action::Send(Some(priority(200)))]);
    let mut bench = Bench::backup(profile());
    assert_eq!(bench.on(Event::Profile(new)), []);
    assert_eq!(bench.wait(), INTERVAL.down(priority(200)));
    assert_eq!(bench.machine.profile.source, profile().source);
}

#[test]
fn a_lowered_priority_counts_at_once() {
    let mut bench = Bench::backup(profile());
    bench.on(Event::Priority(priority(40)));
    assert_eq!(bench.wait(), INTERVAL.down(priority(40)));
    bench.pass(centis(10));
    bench.on(lower());
    assert_eq!(bench.wait(), INTERVAL.down(priority(40)), "50 is above 40");
    let mut bench = Bench::active(profile());
    bench.on(Event::Priority(priority(40)));
    assert_eq!(bench.expire(), [Action::Send(Some(priority(40)))]);
    assert_eq!(bench.on(lower()), [Action::EndLease, becomes(State::Backup, Why::HigherPriority)]);
}

#[test]
fn routers_of_a_group_follow_each_other() {
    let mut bench = Bench::backup(profile());
    assert_eq!(bench.on(Event::Follow(true)), takes_over(Why::Follows));
    assert_eq!(bench.on(Event::Follow(true)), []);
    bench.on(Event::Sent);
    let expected = [Action::EndLease, Action::Send(None), becomes(State::Backup, Why::Follows)];
    assert_eq!(bench.on(Event::Follow(false)), expected);
    assert_eq!(bench.on(Event::Follow(false)), []);
}
