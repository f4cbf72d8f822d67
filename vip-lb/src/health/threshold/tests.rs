//! The machine as a table, and its promises as properties.

#![expect(clippy::disallowed_methods, reason = "tests are the edge: they bring the time along")]

use proptest::prelude::*;

use super::*;
use crate::config::model::{CheckKind, Dialogue};

const SECOND: Duration = Duration::from_secs(1);

fn check(rise: u32, fall: u32) -> HealthCheck {
    HealthCheck {
        interval: 2 * SECOND,
        timeout: SECOND,
        rise,
        fall,
        jitter_percent: 0,
        flap_hold: Duration::ZERO,
        ..HealthCheck::new(CheckKind::Tcp(Dialogue::default()), 80)
    }
}

/// `+` healthy, `b` a bad answer, `u` unreachable, `n` not probed. The reason of each is its position.
fn outcome(letter: char, position: usize) -> Outcome {
    let reason = position.to_string();
    match letter {
        '+' => Outcome::Healthy { latency: Duration::from_millis(1), connect: None },
        'b' => Outcome::Unhealthy { reason },
        'u' => Outcome::Unreachable { reason },
        'n' => Outcome::NotProbed { reason },
        other => panic!("no outcome is written {other}"),
    }
}

fn start(letter: char) -> State {
    let down = |cause| State::Down(Down { cause, reason: "before".to_owned() });
    match letter {
        '?' => State::Unknown,
        '+' => State::Up,
        'b' => down(DownCause::Unhealthy),
        'u' => down(DownCause::Unreachable),
        other => panic!("no state is written {other}"),
    }
}

/// `.` no transition, `+` came up, `b` and `u` went down, `B` and `U` the cause became this one.
fn letter(transition: Option<&Transition>, position: usize) -> char {
    let lower = |down: &Down| {
        assert_eq!(down.reason, position.to_string(), "the reason is that of the completing probe");
        match down.cause {
            DownCause::Unhealthy => 'b',
            DownCause::Unreachable => 'u',
        }
    };
    match transition {
        None => '.',
        Some(Transition::CameUp) => '+',
        Some(Transition::WentDown(down)) => lower(down),
        Some(Transition::CauseChanged(down)) => lower(down).to_ascii_uppercase(),
    }
}

#[test]
fn outcomes_lead_to_the_transitions_of_the_table() {
    // name, state before, (rise, fall), outcomes, transitions
    let table = [
        ("the first success is a verdict", '?', (3, 3), "++++", "+..."),
        ("the first bad answer is a verdict", '?', (3, 3), "bbbb", "b..."),
        ("the first unreachable is a verdict", '?', (3, 3), "uuuu", "u..."),
        ("a verdict waits for a probe that was made", '?', (3, 3), "nn+", "..+"),
        ("a settled state gives no transitions", '+', (2, 3), "+++++", "....."),
        ("fall failures take down", '+', (2, 3), "uuu", "..u"),
        ("fall bad answers take down", '+', (2, 3), "bbb", "..b"),
        ("a success starts the count again", '+', (2, 3), "uu+uuu", ".....u"),
        ("what was not probed counts neither way", '+', (2, 3), "unnnunu", "......u"),
        ("fall of one", '+', (2, 1), "u", "u"),
        ("after a failed start rise successes bring up", '?', (2, 3), "u++", "u.+"),
        ("rise successes bring up", 'u', (2, 3), "++", ".+"),
        ("a failure starts the rise again", 'u', (3, 3), "++u+++", ".....+"),
        ("a success not probed does not count as one", 'u', (2, 3), "+nn+", "...+"),
        ("rise of one", 'b', (1, 3), "+", "+"),
        ("mixed failures are not a dead target", '+', (2, 3), "ubu", "..b"),
        ("a late bad answer neither", '+', (2, 3), "uub", "..b"),
        ("bad answers, then dead", '+', (2, 3), "buuu", "..bU"),
        ("a drained target that dies", 'b', (2, 3), "bbuuu", "....U"),
        ("a drained target that dies in between does not", 'b', (2, 3), "uubuubuu+", "........."),
        ("a dead target that answers wrongly", 'u', (2, 3), "ubbb", "...B"),
        ("an answer in between starts the cause's count again", 'b', (3, 2), "u+uu", "...U"),
        ("a cause changes back", 'b', (2, 2), "uubb", ".U.B"),
        ("up again after a change of cause", 'b', (2, 2), "uu++", ".U.+"),
    ];
    let begin = Instant::now();
    for (name, state, (rise, fall), outcomes, expected) in table {
        let mut machine = Threshold::new(&check(rise, fall), start(state), begin, begin);
        let transitions: String = outcomes
            .chars()
            .enumerate()
            .map(|(position, written)| {
                let now = machine.next_probe();
                let transition = machine.probe_finished(&outcome(written, position), now, now, 0);
                letter(transition.as_ref(), position)
            })
            .collect();
        assert_eq!(transitions, expected, "{name}: from {state} by {outcomes}");
    }
}

#[test]
fn the_state_follows_the_transitions_and_remembers_since_when() {
    let begin = Instant::now();
    let at = |seconds: u32| begin + seconds * SECOND;
    let mut machine = Threshold::new(&check(2, 2), State::Unknown, begin, begin);
    assert_eq!((machine.state().name(), machine.state().is_up()), ("unknown", false));

    machine.probe_finished(&outcome('+', 0), at(1), at(1), 0);
    assert_eq!((machine.state(), machine.since(), machine.successes()), (&State::Up, at(1), 1));

    machine.probe_finished(&outcome('b', 1), at(2), at(2), 0);
    assert_eq!((machine.state().is_up(), machine.since(), machine.failures()), (true, at(1), 1));

    machine.probe_finished(&outcome('b', 2), at(3), at(3), 0);
    let bad = Down { cause: DownCause::Unhealthy, reason: "2".to_owned() };
    assert_eq!((machine.state(), machine.since()), (&State::Down(bad), at(3)));

    machine.probe_finished(&outcome('u', 3), at(4), at(4), 0);
    machine.probe_finished(&outcome('u', 4), at(5), at(5), 0);
    let dead = Down { cause: DownCause::Unreachable, reason: "4".to_owned() };
    assert_eq!((machine.state(), machine.since()), (&State::Down(dead), at(3)), "down all the time");
}

#[test]
fn probes_come_faster_while_outcomes_contradict_the_state() {
    // name, state before, interval in ms, outcomes, pauses after each in ms
    let table: [(&str, char, u64, &str, &[u64]); 9] = [
        ("settled up", '+', 2000, "++", &[2000, 2000]),
        ("settled down", 'u', 2000, "uu", &[2000, 2000]),
        ("going down", '+', 2000, "uuuu", &[500, 500, 2000, 2000]),
        ("a passing failure", '+', 2000, "u+", &[500, 2000]),
        ("coming up", 'u', 2000, "+++", &[500, 2000, 2000]),
        ("another cause", 'b', 2000, "uuuu", &[500, 500, 2000, 2000]),
        ("the first verdict settles", '?', 2000, "+", &[2000]),
        ("never closer than 100 ms", '+', 300, "u", &[100]),
        ("a short interval is not stretched", '+', 40, "u", &[40]),
    ];
    for (name, state, interval, outcomes, expected) in table {
        let check = HealthCheck { interval: Duration::from_millis(interval), ..check(2, 3) };
        let begin = Instant::now();
        let mut machine = Threshold::new(&check, start(state), begin, begin);
        let pauses: Vec<u64> = outcomes
            .chars()
            .map(|written| {
                let now = machine.next_probe();
                machine.probe_finished(&outcome(written, 0), now, now, 0);
                u64::try_from((machine.next_probe() - now).as_millis()).unwrap()
            })
            .collect();
        assert_eq!(pauses, expected, "{name}");
    }
}

#[test]
fn a_pause_counts_from_the_start_of_a_probe_and_probes_do_not_overlap() {
    let begin = Instant::now();
    let mut machine = Threshold::new(&check(2, 3), State::Up, begin, begin);
    machine.probe_finished(&outcome('+', 0), begin, begin + SECOND, 0);
    assert_eq!(machine.next_probe(), begin + 2 * SECOND);

    let started = machine.next_probe();
    machine.probe_finished(&outcome('u', 1), started, started + SECOND, 0);
    assert_eq!(machine.next_probe(), started + SECOND, "the fast pause of 500 ms is over already");
}

#[test]
fn jitter_shortens_by_its_share_at_most() {
    let check = HealthCheck { jitter_percent: 10, ..check(2, 3) };
    for (random, expected) in [(0, 2000), (u16::MAX, 1800)] {
        let begin = Instant::now();
        let mut machine = Threshold::new(&check, State::Up, begin, begin);
        machine.probe_finished(&outcome('+', 0), begin, begin, random);
        assert_eq!(machine.next_probe() - begin, Duration::from_millis(expected), "random {random}");
    }
}

#[test]
fn the_fast_interval_can_be_said() {
    for (fast, expected) in [(Some(50), 50), (Some(1999), 1999), (Some(3000), 2000), (None, 500)] {
        let check = HealthCheck { fast_interval: fast.map(Duration::from_millis), ..check(2, 3) };
        let begin = Instant::now();
        let mut machine = Threshold::new(&check, State::Up, begin, begin);
        machine.probe_finished(&outcome('u', 0), begin, begin, 0);
        assert_eq!(machine.next_probe() - begin, Duration::from_millis(expected), "{fast:?}");
    }
}

#[test]
fn a_second_probe_comes_sooner_if_it_is_due() {
    for (due, expected) in [(700, 700), (5000, 2000), (0, 2000)] {
        let begin = Instant::now();
        let due = begin + Duration::from_millis(due);
        let mut machine = Threshold::new(&check(2, 3), State::Up, begin, begin).with_second_probe(due);
        for pause in [expected, 2000] {
            let now = machine.next_probe();
            machine.probe_finished(&outcome('+', 0), now, now, 0);
            assert_eq!(machine.next_probe() - now, Duration::from_millis(pause), "due at {due:?}");
        }
    }
}

/// Runs a target that fails once whenever it has been up for `up`; returns for how long it was down each time, and why.
fn flap(machine: &mut Threshold, up: Duration, times: usize) -> Vec<(Duration, String)> {
    let mut downs = Vec::new();
    let mut went_down = None;
    while downs.len() < times {
        let now = machine.next_probe();
        let fails = machine.state().is_up() && now - machine.since() >= up;
        match machine.probe_finished(&outcome(if fails { 'u' } else { '+' }, 0), now, now, 0) {
            Some(Transition::WentDown(down)) => went_down = Some((now, down.reason)),
            Some(Transition::CameUp) => {
                let (since, reason) = went_down.take().expect("it was down");
                downs.push((now - since, reason));
            }
            _ => {}
        }
    }
    downs
}

fn flapping_check() -> HealthCheck {
    let (flap_hold, flap_hold_max) = (10 * SECOND, 45 * SECOND);
    HealthCheck { flap_hold, flap_hold_max, ..check(1, 1) }
}

#[test]
fn a_target_that_flaps_is_held_down_for_longer_each_time() {
    let begin = Instant::now();
    let mut machine = Threshold::new(&flapping_check(), State::Up, begin, begin);
    let downs = flap(&mut machine, 4 * SECOND, 7);
    let times: Vec<u64> = downs.iter().map(|(time, _)| time.as_secs()).collect();
    assert_eq!(times, [2, 2, 2, 10, 20, 40, 45], "three are free, and there is an end to it");
    assert_eq!(downs[2].1, "0");
    assert_eq!(downs[3].1, "0; flapping, stays down for at least 10s");
    assert_eq!(downs[6].1, "0; flapping, stays down for at least 45s");

    // Held for 45 s, it takes a minute to be forgotten.
    let downs = flap(&mut machine, 61 * SECOND, 1);
    assert_eq!(downs, [(2 * SECOND, "0".to_owned())]);
    let times: Vec<u64> = flap(&mut machine, 4 * SECOND, 4).iter().map(|(time, _)| time.as_secs()).collect();
    assert_eq!(times, [2, 2, 2, 10], "from the beginning");
}

#[test]
fn one_that_stays_up_for_a_minute_each_time_does_not_flap() {
    let begin = Instant::now();
    let mut machine = Threshold::new(&flapping_check(), State::Up, begin, begin);
    let downs = flap(&mut machine, 62 * SECOND, 10);
    assert!(downs.iter().all(|(time, _)| *time == 2 * SECOND), "{downs:?}");
}

#[test]
fn a_hold_ends_on_time_and_is_no_reason_for_fast_probes() {
    let begin = Instant::now();
    let check = HealthCheck { interval: 7 * SECOND, ..flapping_check() };
    let mut machine = Threshold::new(&check, State::Up, begin, begin);
    flap(&mut machine, SECOND, 3);
    let mut pauses = Vec::new();
    while machine.held_until().is_none() || !machine.state().is_up() {
        let now = machine.next_probe();
        let found = if machine.state().is_up() { 'u' } else { '+' };
        let was_held = machine.held_until().is_some();
        if let Some(Transition::CameUp) = machine.probe_finished(&outcome(found, 0), now, now, 0) {
            break;
        }
        if was_held || machine.held_until().is_some() {
            pauses.push((machine.next_probe() - now).as_secs());
        }
    }
    assert_eq!(pauses, [7, 3], "the second one ends with the hold");
    assert!(machine.state().is_up() && machine.held_until().is_none());
}

#[test]
fn on_down_and_the_cause_decide_over_the_connections() {
    for (on_down, cause, expected) in [
        (OnDown::Auto, DownCause::Unreachable, Connections::Cut),
        (OnDown::Auto, DownCause::Unhealthy, Connections::Drain),
        (OnDown::Cut, DownCause::Unreachable, Connections::Cut),
        (OnDown::Cut, DownCause::Unhealthy, Connections::Cut),
        (OnDown::Drain, DownCause::Unreachable, Connections::Drain),
        (OnDown::Drain, DownCause::Unhealthy, Connections::Drain),
    ] {
        assert_eq!(cause.connections(on_down), expected, "{on_down:?} when {cause}");
    }
}

proptest! {
    /// After the first verdict a flip needs rise successes or fall failures in a row just before it, and that many
    /// always suffice.
    #[test]
    fn flips_exactly_by_rise_and_fall_in_a_row(
        rise in 1u32..6,
        fall in 1u32..6,
        outcomes in prop::collection::vec(prop::sample::select(vec!['+', '+', 'b', 'u', 'n']), 1..200),
    ) {
        let begin = Instant::now();
        let mut machine = Threshold::new(&check(rise, fall), State::Unknown, begin, begin);
        let mut made: Vec<char> = Vec::new();
        for (position, &written) in outcomes.iter().enumerate() {
            let before = machine.state().clone();
            let now = machine.next_probe();
            let transition = machine.probe_finished(&outcome(written, position), now, now, 0);
            if written == 'n' {
                prop_assert_eq!(transition, None);
                continue;
            }
            made.push(written);
            let in_a_row = |accepts: fn(&char) -> bool| {
                u32::try_from(made.iter().rev().take_while(|written| accepts(written)).count()).unwrap()
            };
            let is_up = match before {
                State::Unknown => written == '+',
                State::Up => in_a_row(|&w| w != '+') < fall,
                State::Down(_) => in_a_row(|&w| w == '+') >= rise,
            };
            prop_assert_eq!(machine.state().is_up(), is_up);
            prop_assert_eq!(transition.is_none(), machine.state() == &before);
            if let (State::Up, State::Down(Down { cause: DownCause::Unreachable, .. })) = (&before, machine.state()) {
                prop_assert!(in_a_row(|&w| w == 'u') >= fall, "cut without {} unreachable in a row", fall);
            }
        }
    }

    /// However it flaps: it is down for as long as was said, never longer than the longest hold and what rising takes,
    /// and without flaps there is no hold.
    #[test]
    fn holds_are_bounded(
        rise in 1u32..4,
        hold_ms in 0u64..60_000,
        max_ms in 0u64..120_000,
        ups in prop::collection::vec(0u64..200, 1..30),
    ) {
        let (flap_hold, flap_hold_max) = (Duration::from_millis(hold_ms), Duration::from_millis(max_ms));
        let check = HealthCheck { flap_hold, flap_hold_max, ..check(rise, 1) };
        let begin = Instant::now();
        let mut machine = Threshold::new(&check, State::Up, begin, begin);
        let longest = if flap_hold.is_zero() { flap_hold } else { flap_hold_max.max(flap_hold) };
        let mut last = Duration::ZERO;
        for up in ups {
            let (down, reason) = flap(&mut machine, Duration::from_secs(up), 1).remove(0);
            prop_assert!(down <= longest + check.interval * (rise + 1), "down for {down:?}");
            let is_held = reason.contains("flapping");
            prop_assert!(!is_held || down >= flap_hold.min(longest), "held for {down:?} only");
            prop_assert!(!(is_held && up > 60 && u128::from(up) * 1000 > last.as_millis()), "up for {up} s is no flap");
            if is_held {
                last = down;
            }
        }
    }

    /// A target that dies at any moment is down within interval * fall + timeout, however long its probes hang.
    #[test]
    fn a_death_is_seen_in_time(
        fall in 1u32..8,
        interval_ms in 10u64..5000,
        timeout_percent in 1u32..=100,
        jitter_percent in 0u8..=50,
        death_ms in 0u64..20_000,
        draws in prop::collection::vec((0u32..=100, any::<u16>()), 1..50),
    ) {
        let interval = Duration::from_millis(interval_ms);
        let timeout = interval * timeout_percent / 100;
        let check = HealthCheck { interval, timeout, jitter_percent, ..check(2, fall) };
        let begin = Instant::now();
        let death = begin + Duration::from_millis(death_ms);
        let mut machine = Threshold::new(&check, State::Unknown, begin, begin);
        let mut draws = draws.iter().cycle();
        loop {
            let &(taken_percent, random) = draws.next().expect("cycles");
            let started = machine.next_probe();
            let finished = started + timeout * taken_percent / 100;
            let found = if started < death { '+' } else { 'u' };
            if let Some(Transition::WentDown(_)) = machine.probe_finished(&outcome(found, 0), started, finished, random) {
                let limit = interval * fall + timeout;
                prop_assert!(finished - death <= limit, "{:?} after the death", finished - death);
                break;
            }
            prop_assert!(machine.next_probe() >= finished, "probes overlap");
        }
    }
}
