//! The rules, by stories of one service.

use super::*;
use crate::config::model::Least;

/// A service whose backends are told by letters: `u`p, `d`own and unreachable, `b`ad answers, `?` not checked yet, `o`ut by the operator.
struct Story {
    floor: Floor,
    policy: FloorPolicy,
    tiers: Vec<u8>,
    start: Instant,
}

fn story(policy: FloorPolicy, tiers: &[u8]) -> Story {
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let start = Instant::now();
    Story { floor: Floor::default(), policy, tiers: tiers.to_vec(), start }
}

fn policy(min_healthy: Least, below_min: BelowMin, max_removed_percent: u8) -> FloorPolicy {
    FloorPolicy { min_healthy, below_min, max_removed_percent }
}

impl Story {
    /// What is decided so many seconds after the start: `s`erving, `k`ept by the cap, `f`orced, `-` draining, `x` out, `w`aiting as standby,
    /// `c`losed.
    fn at(&mut self, seconds: u64, states: &str) -> String {
        let candidates: Vec<Candidate> = (1..)
            .zip(states.chars())
            .zip(&self.tiers)
            .map(|((number, state), &tier)| Candidate {
                address: IpAddr::from([10, 0, 0, number]),
                tier,
                wanted: state != 'o',
                standing: match state {
                    'u' => Standing::Serving,
                    'd' => Standing::Out(Cause::Unreachable),
                    'b' => Standing::Draining(Cause::Unhealthy),
                    '?' => Standing::Draining(Cause::NotChecked),
                    'o' => Standing::Draining(Cause::Operator),
                    other => panic!("no state {other}"),
                },
            })
            .collect();
        let decision =
            self.floor.decide(&self.policy, &candidates, self.start + Duration::from_secs(seconds));
        let letter = |decided: &Decided| match (decided.standing, decided.kept) {
            (Standing::Serving, None) => 's',
            (Standing::Serving, Some(Kept::Cap)) => 'k',
            (Standing::Serving, Some(Kept::Open | Kept::Backup)) => 'f',
            (Standing::Draining(Cause::Standby), _) => 'w',
            (Standing::Draining(Cause::Closed), _) => 'c',
            (Standing::Draining(_), _) => '-',
            (Standing::Out(_), _) => 'x',
        };
        decision.backends.values().map(letter).collect()
    }

    fn state(&self) -> FloorState {
        self.floor.state
    }
}

const OFF: u8 = 100;

#[test]
fn whoever_fails_is_out_as_long_as_enough_are_left() {
    let mut story = story(policy(Least::Count(1), BelowMin::FailOpen, OFF), &[0; 4]);
    assert_eq!(story.at(0, "uuuu"), "ssss");
    assert_eq!(story.at(1, "udbo"), "sx--");
    assert_eq!(story.state(), FloorState::Met);
    assert_eq!(story.at(2, "uuuu"), "ssss");
}

#[test]
fn when_all_fail_all_are_used() {
    let mut story = story(policy(Least::Count(1), BelowMin::FailOpen, OFF), &[0; 3]);
    assert_eq!(story.at(0, "uuu"), "sss");
    assert_eq!(story.at(1, "duu"), "xss");
    assert_eq!(story.at(2, "ddb"), "fff");
    assert_eq!(story.state(), FloorState::Open);
    assert_eq!(story.at(3, "ddo"), "ff-", "who was drained is not used");
    assert_eq!(story.at(4, "udb"), "sx-", "one that is healthy is enough");
}

#[test]
fn below_a_floor_of_several_the_first_tier_is_trusted() {
    let mut story = story(policy(Least::Percent(50), BelowMin::FailOpen, OFF), &[0; 4]);
    assert_eq!(story.at(0, "uudd"), "ssxx");
    assert_eq!(story.at(1, "uddd"), "sfff");
    assert_eq!(story.at(2, "uudd"), "ssxx");
    assert_eq!(story.at(3, "udoo"), "sx--", "half of those that are wanted");
}

#[test]
fn a_service_that_fails_closed_gives_nobody_new_connections() {
    let mut story = story(policy(Least::Count(2), BelowMin::FailClosed, OFF), &[0; 3]);
    assert_eq!(story.at(0, "uud"), "ssx");
    assert_eq!(story.at(1, "udd"), "cxx", "the healthy one keeps what it has");
    assert_eq!(story.state(), FloorState::Closed);
    assert_eq!(story.at(2, "uud"), "ssx");
}

#[test]
fn who_drains_all_wants_nobody_to_be_used() {
    let mut open = story(policy(Least::Count(1), BelowMin::FailOpen, OFF), &[0, 0]);
    assert_eq!((open.at(0, "oo"), open.state()), ("--".to_owned(), FloorState::Met));
    let mut closed = story(policy(Least::Count(1), BelowMin::FailClosed, OFF), &[0, 0]);
    assert_eq!((closed.at(0, "oo"), closed.state()), ("--".to_owned(), FloorState::Closed));
}

#[test]
fn tiers_are_added_while_too_few_are_healthy_and_leave_again() {
    let mut story = story(policy(Least::Count(1), BelowMin::FailOpen, OFF), &[0, 0, 1, 2]);
    assert_eq!(story.at(0, "uuuu"), "ssww");
    assert_eq!(story.at(1, "uduu"), "sxww");
    assert_eq!(story.at(2, "dduu"), "xxsw");
    assert_eq!(story.at(3, "dddu"), "xxxs");
    assert_eq!(story.at(4, "dddd"), "ffxx", "the first tier is where traffic belongs");
    assert_eq!(story.at(5, "ddud"), "xxsx");
    assert_eq!(story.at(6, "uduu"), "sxww");
    assert_eq!(story.at(7, "oouu"), "--sw", "a tier that is drained as a whole has none");
}

#[test]
fn healthy_backends_of_earlier_tiers_go_on() {
    let mut story = story(policy(Least::Count(2), BelowMin::FailOpen, OFF), &[0, 0, 1, 1]);
    assert_eq!(story.at(0, "uuuu"), "ssww");
    assert_eq!(story.at(1, "uduu"), "sxss");
    assert_eq!(story.at(2, "uddd"), "sfxx");
}

#[test]
fn the_backup_tier_is_used_whatever_its_checks_say() {
    let mut story = story(policy(Least::Count(1), BelowMin::Backup, OFF), &[0, 0, 1]);
    assert_eq!(story.at(0, "uud"), "ssx");
    assert_eq!(story.at(1, "ddu"), "xxs", "as a tier like others");
    assert_eq!(story.at(2, "ddd"), "xxf");
    assert_eq!(story.state(), FloorState::Backup);
    assert_eq!(story.at(3, "udd"), "sxx");
}

#[test]
fn checks_remove_no_more_at_once_than_they_may() {
    let mut story = story(policy(Least::Count(1), BelowMin::FailOpen, 50), &[0; 5]);
    assert_eq!(story.at(0, "uuuuu"), "sssss");
    assert_eq!(story.at(10, "dddbu"), "xxxks", "half of five is three");
    let next = story.floor.next().expect("when the next one's turn comes");
    assert_eq!(next, story.start + Duration::from_secs(10) + WINDOW);
    assert_eq!(story.at(39, "dddbu"), "xxxks");
    assert_eq!(story.at(40, "dddbu"), "xxx-s", "it was no hiccup");
    assert_eq!(story.floor.next(), None);
    assert_eq!(
        story.at(41, "udddu"),
        "sxxxs",
        "one that returns and another that fails are within the bound"
    );
}

#[test]
fn a_hiccup_of_this_node_costs_half_of_the_backends_at_most() {
    let mut story = story(policy(Least::Count(1), BelowMin::FailOpen, 50), &[0; 4]);
    story.at(0, "uuuu");
    // One after the other, as their probes are due.
    assert_eq!(story.at(1, "duuu"), "xsss");
    assert_eq!(story.at(2, "dduu"), "xxss");
    assert_eq!(story.at(3, "dddu"), "xxks");
    assert_eq!(story.at(4, "dddd"), "ffff", "and when all fail, all are used");
    assert_eq!(story.at(5, "dduu"), "xxss");
    assert_eq!(story.at(6, "uuuu"), "ssss");
    assert_eq!(story.at(7, "uudd"), "ssxx", "who returned is not counted any more");
}

#[test]
fn the_cap_always_lets_one_go() {
    let mut story = story(policy(Least::Count(1), BelowMin::FailOpen, 1), &[0; 3]);
    story.at(0, "uuu");
    assert_eq!(story.at(1, "uud"), "ssx");
    assert_eq!(story.at(2, "udd"), "skx");
}

#[test]
fn who_never_served_is_not_removed() {
    let mut story = story(policy(Least::Count(1), BelowMin::FailOpen, 50), &[0, 0, 0, 1]);
    assert_eq!(story.at(0, "????"), "----", "nothing is known, and nothing is forced");
    assert_eq!(story.at(1, "d???"), "x---", "it may still come to enough");
    assert_eq!(story.at(2, "duud"), "xssx");
    assert_eq!(story.at(3, "dudd"), "xsxx", "of four wanted two may go, and only this one went");
}

#[test]
fn a_backend_that_comes_new_does_not_end_the_panic_of_the_others() {
    let mut story = story(policy(Least::Count(1), BelowMin::FailOpen, OFF), &[0; 3]);
    story.at(0, "uuo");
    assert_eq!(story.at(1, "ddo"), "ff-");
    assert_eq!(story.at(2, "dd?"), "fff");
    assert_eq!(story.at(3, "ddu"), "xxs");
}

#[test]
fn a_successor_takes_over_who_is_in_the_ring_and_when_others_left_it() {
    let mut before = story(policy(Least::Count(1), BelowMin::FailOpen, 50), &[0; 4]);
    before.at(0, "uuuu");
    assert_eq!(before.at(10, "dddu"), "xxks");
    let now = before.start + Duration::from_secs(30);
    let serving = || before.floor.serving.clone();
    let mut after = story(before.policy, &[0; 4]);
    after.start = before.start;
    after.floor = Floor::taking_over(serving(), before.floor.memory(now), now);
    assert_eq!(after.at(31, "dddu"), "xxks", "those that left count as before");
    assert_eq!(after.at(40, "dddu"), "xxxs");
    after.floor = Floor::taking_over(serving(), FloorMemory::default(), now);
    assert_eq!(after.at(31, "dddu"), "xxxs", "by somebody who knows nothing, as one of a new window");
}
