//! Schedules and states with made-up probes in paused time.

#![expect(clippy::disallowed_methods, reason = "tests are the edge: they bring the time along")]

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{
    Notify,
    mpsc::{UnboundedReceiver, unbounded_channel},
};

use super::*;
use crate::{
    config::model::{CheckKind, Dialogue, HealthCheck},
    health::{Down, DownCause},
};

mod burst;
mod log;
mod network;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Timers of tokio are exact to this.
const TICK: Duration = Duration::from_millis(1);

fn target(last_octet: u8, interval: Duration) -> Target {
    let check = HealthCheck {
        interval,
        timeout: SECOND,
        rise: 2,
        fall: 3,
        jitter_percent: 0,
        ..HealthCheck::new(CheckKind::Tcp(Dialogue::default()), 80)
    };
    Target { address: IpAddr::from([192, 0, 2, last_octet]), way: crate::health::Way::Direct, check }
}

fn healthy() -> Outcome {
    Outcome::Healthy { latency: Duration::from_millis(1), connect: None }
}

fn unreachable(reason: &str) -> Outcome {
    Outcome::Unreachable { reason: reason.to_owned() }
}

type Calls = UnboundedReceiver<(Arc<Target>, tokio::time::Instant)>;

/// A monitor whose probes answer at once as `answer` says, and every call of a probe with its time.
fn scripted(
    answer: impl Fn(&Target) -> Outcome + Send + Sync + 'static,
) -> (Monitor, UnboundedReceiver<HealthEvent>, Calls) {
    let (sender, calls) = unbounded_channel();
    let (monitor, events) = Monitor::with_prober(Box::new(move |target| {
        sender.send((Arc::clone(&target), tokio::time::Instant::now())).unwrap();
        let outcome = answer(&target);
        Box::pin(async move { outcome })
    }));
    (monitor, events, calls)
}

async fn transition(events: &mut UnboundedReceiver<HealthEvent>) -> Transition {
    events.recv().await.expect("the monitor lives").transition
}

#[tokio::test(start_paused = true)]
async fn first_probes_are_spread_over_a_second_or_a_shorter_interval() {
    for (interval, gap) in [(2 * SECOND, SECOND / 10), (SECOND / 2, SECOND / 20)] {
        let (monitor, _events, mut calls) = scripted(|_| healthy());
        let begin = tokio::time::Instant::now();
        monitor.set_targets((0..10).map(|octet| target(octet, interval)).collect());
        for index in 0..10u32 {
            let expected = target(u8::try_from(index).unwrap(), interval);
            let (probed, at) = loop {
                let call = calls.recv().await.unwrap();
                // Those before may have been probed again.
                if call.0.address >= expected.address {
                    break call;
                }
            };
            assert_eq!(*probed, expected);
            let off = (at - begin).abs_diff(gap * index);
            assert!(
                off <= TICK,
                "probe {index} of interval {interval:?} came {:?} after the start",
                at - begin
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn later_probes_are_spread_over_the_whole_interval() {
    let (monitor, _events, mut calls) = scripted(|_| healthy());
    let begin = tokio::time::Instant::now();
    monitor.set_targets((0..10).map(|octet| target(octet, 20 * SECOND)).collect());
    let mut of_target = vec![Vec::new(); 10];
    while of_target.iter().any(|times| times.len() < 3) {
        let (probed, at) = calls.recv().await.unwrap();
        let IpAddr::V4(address) = probed.address else { unreachable!("all are IPv4") };
        of_target[usize::from(address.octets()[3])].push(at - begin);
    }
    for (index, times) in (0u32..).zip(&of_target) {
        // The first one has no phase of its own: its second probe is due an interval after its first.
        let second = if index == 0 { 20 * SECOND } else { 2 * SECOND * index };
        for (time, expected) in times.iter().zip([SECOND / 10 * index, second, second + 20 * SECOND]) {
            assert!(
                time.abs_diff(expected) <= 4 * TICK,
                "target {index} was probed after {time:?}, not {expected:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_standstill_probes_are_spread_again() {
    let (monitor, mut events, mut calls) = scripted(|_| healthy());
    monitor.set_targets((0..100).map(|octet| target(octet, SECOND)).collect());
    for _ in 0..100 {
        transition(&mut events).await;
        calls.recv().await.unwrap();
    }
    tokio::time::advance(60 * SECOND).await;
    let begin = tokio::time::Instant::now();
    let mut early = 0;
    for _ in 0..100 {
        let (_, at) = calls.recv().await.unwrap();
        early += u32::from(at - begin < SECOND / 10);
    }
    assert!(early < 40, "{early} of 100 came in the first tenth of the second");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_starts_up_takes_fall_failures() {
    let (monitor, mut events, _calls) = scripted(|_| unreachable("connection refused"));
    let mut optimist = target(1, 20 * SECOND);
    optimist.check.start = StartState::Up;
    monitor.set_targets(vec![optimist.clone(), target(2, SECOND)]);
    assert_eq!(monitor.state(&optimist), Some(State::Up));
    let first = events.recv().await.unwrap();
    assert_eq!(*first.target, target(2, SECOND), "the first result of the other decides");
    assert_eq!(monitor.state(&optimist), Some(State::Up));
    let second = events.recv().await.unwrap();
    assert_eq!(*second.target, optimist);
    assert!(matches!(second.transition, Transition::WentDown(_)));
}

#[tokio::test(start_paused = true)]
async fn a_target_of_several_services_is_probed_once_per_interval() {
    let (monitor, mut events, mut calls) = scripted(|_| healthy());
    let shared = target(1, 2 * SECOND);
    let other_port = Target { check: HealthCheck { port: 81, ..shared.check.clone() }, ..shared.clone() };
    monitor.set_targets(vec![shared.clone(), other_port.clone(), shared.clone(), shared.clone()]);
    assert_eq!(monitor.snapshot().len(), 2);
    tokio::time::sleep(9 * SECOND).await;
    drop(monitor);
    let mut counts = HashMap::new();
    while let Some((probed, _)) = calls.recv().await {
        *counts.entry((*probed).clone()).or_insert(0) += 1;
    }
    assert_eq!(counts, HashMap::from([(shared, 5), (other_port, 5)]));
    assert_eq!(transition(&mut events).await, Transition::CameUp);
    assert_eq!(transition(&mut events).await, Transition::CameUp);
    assert_eq!(events.recv().await, None, "one event per change");
}

#[tokio::test(start_paused = true)]
async fn no_more_probes_run_at_a_time_than_allowed() {
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (monitor, mut events) = Monitor::with_prober(Box::new({
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        move |_| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            Box::pin(async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(10 * SECOND).await;
                running.fetch_sub(1, Ordering::SeqCst);
                healthy()
            })
        }
    }));
    let allowed = concurrent_probes();
    let targets: Vec<_> = (0..allowed as u16 + 100)
        .map(|port| Target {
            way: crate::health::Way::Direct,
            check: HealthCheck { port, ..target(1, HOUR).check },
            address: Ipv4Addr::LOCALHOST.into(),
        })
        .collect();
    let count = targets.len();
    monitor.set_targets(targets);
    for _ in 0..count {
        assert_eq!(transition(&mut events).await, Transition::CameUp);
    }
    assert_eq!(most.load(Ordering::SeqCst), allowed);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_no_probe_begins_and_those_about_to_end_do() {
    let (sender, mut calls) = unbounded_channel();
    let done = Arc::new(AtomicUsize::new(0));
    let ended = Arc::clone(&done);
    let (monitor, _events) = Monitor::with_prober(Box::new(move |target| {
        sender.send(target.address).unwrap();
        let ended = Arc::clone(&ended);
        Box::pin(async move {
            let takes = if target.check.interval == SECOND { 50 } else { 5000 };
            tokio::time::sleep(takes * TICK).await;
            ended.fetch_add(1, Ordering::SeqCst);
            healthy()
        })
    }));
    let (quick, hangs) = (target(1, SECOND), target(2, HOUR));
    monitor.set_targets(vec![quick.clone(), hangs]);
    let first = calls.recv().await.unwrap();
    assert_eq!(first, quick.address);
    let begin = tokio::time::Instant::now();
    tokio::time::sleep(10 * TICK).await;
    monitor.end().await;
    assert!(begin.elapsed() <= LAST_PROBES + 20 * TICK, "it took {:?}", begin.elapsed());
    assert_eq!(done.load(Ordering::SeqCst), 1, "the probe under way was cut off");
    assert!(monitor.look(&quick).unwrap().last_latency.is_some());

    while calls.try_recv().is_ok() {}
    tokio::time::sleep(10 * SECOND).await;
    assert!(calls.try_recv().is_err(), "a probe began after the end");
    assert_eq!(monitor.memories().len(), 2, "what is known stays");
}

#[tokio::test(start_paused = true)]
async fn backends_that_hang_delay_nobody_else() {
    let (sender, mut calls) = unbounded_channel();
    let hangs = |address: IpAddr| matches!(address, IpAddr::V4(address) if address.octets()[1] == 1);
    let (monitor, mut events) = Monitor::with_prober(Box::new(move |target| {
        sender.send((Arc::clone(&target), tokio::time::Instant::now())).unwrap();
        Box::pin(async move {
            if hangs(target.address) {
                tokio::time::sleep(SECOND).await;
                return unreachable("no connection within 1s");
            }
            healthy()
        })
    }));
    // As many at a time as two services of a thousand backends have when one of their racks is gone.
    let hanging = 600.min(concurrent_probes() / 2);
    let target_of = |rack: u8, index: usize| Target {
        way: crate::health::Way::Direct,
        address: IpAddr::from([10, rack, (index >> 8) as u8, index as u8]),
        check: target(1, SECOND).check,
    };
    let healthy = (0..2000 - hanging).map(|index| target_of(0, index));
    monitor.set_targets((0..hanging).map(|index| target_of(1, index)).chain(healthy).collect());
    for _ in 0..2000 {
        transition(&mut events).await;
    }
    let mut last: HashMap<IpAddr, tokio::time::Instant> = HashMap::new();
    for _ in 0..20_000 {
        let (probed, at) = calls.recv().await.unwrap();
        let before = last.insert(probed.address, at).filter(|_| !hangs(probed.address));
        let late = before.map_or(Duration::ZERO, |before| (at - before).saturating_sub(SECOND));
        assert!(late <= SECOND / 10, "{} was probed {late:?} late", probed.address);
    }
}

#[tokio::test(start_paused = true)]
async fn set_targets_keeps_the_state_and_the_schedule_of_those_that_stay() {
    let (monitor, mut events, mut calls) = scripted(|_| healthy());
    let (stays, leaves, comes) = (target(1, HOUR), target(2, HOUR), target(3, HOUR));
    monitor.set_targets(vec![stays.clone(), leaves.clone()]);
    assert_eq!(monitor.state(&stays), Some(State::Unknown));
    for _ in 0..2 {
        assert_eq!(transition(&mut events).await, Transition::CameUp);
        calls.recv().await.unwrap();
    }
    tokio::time::sleep(60 * SECOND).await;

    monitor.set_targets(vec![comes.clone(), stays.clone()]);
    assert_eq!(monitor.state(&stays), Some(State::Up));
    assert_eq!(monitor.state(&leaves), None);
    assert_eq!(monitor.state(&comes), Some(State::Unknown));
    let age = monitor.snapshot()[0].age;
    assert!(age > 59 * SECOND, "up since the first probe, not since the change: {age:?}");

    let event = events.recv().await.unwrap();
    assert_eq!((&*event.target, event.transition), (&comes, Transition::CameUp));
    assert_eq!(*calls.recv().await.unwrap().0, comes);
    let (next, _) = calls.recv().await.unwrap();
    assert_eq!(*next, stays, "its next probe comes an hour after its first");
    assert_eq!(*calls.recv().await.unwrap().0, comes, "the one that left is not probed");
}

#[tokio::test(start_paused = true)]
async fn a_tuned_check_takes_over_the_state_of_the_one_it_replaces() {
    let (monitor, mut events, _calls) = scripted(|_| healthy());
    let before = target(1, HOUR);
    monitor.set_targets(vec![before.clone()]);
    assert_eq!(transition(&mut events).await, Transition::CameUp);
    tokio::time::sleep(60 * SECOND).await;

    let tuned = Target { check: HealthCheck { fall: 5, ..before.check.clone() }, ..before.clone() };
    let elsewhere = Target { check: HealthCheck { port: 81, ..before.check.clone() }, ..before.clone() };
    monitor.set_targets(vec![tuned.clone(), elsewhere.clone()]);
    assert_eq!(monitor.state(&before), None);
    assert_eq!(monitor.state(&tuned), Some(State::Up));
    assert_eq!(monitor.state(&elsewhere), Some(State::Unknown), "another port is another matter");
    assert!(monitor.snapshot()[0].age > 59 * SECOND, "since when is taken over too");

    let beside = Target { check: HealthCheck { rise: 7, ..before.check.clone() }, ..before.clone() };
    monitor.set_targets(vec![tuned, elsewhere, beside.clone()]);
    assert_eq!(monitor.state(&beside), Some(State::Unknown), "it replaces nobody");
}

#[tokio::test(start_paused = true)]
async fn a_state_known_from_before_takes_fall_failures_to_change() {
    let (monitor, mut events, mut calls) = scripted(|_| unreachable("connection refused"));
    let known = target(1, 2 * SECOND);
    monitor.set_targets_from(vec![(known.clone(), State::Up), (known.clone(), State::Unknown)]);
    assert_eq!(monitor.state(&known), Some(State::Up));
    let down = Down { cause: DownCause::Unreachable, reason: "connection refused".to_owned() };
    assert_eq!(transition(&mut events).await, Transition::WentDown(down.clone()));
    assert_eq!(monitor.state(&known), Some(State::Down(down)));
    for _ in 0..3 {
        calls.recv().await.unwrap();
    }
    assert!(calls.try_recv().is_err(), "three probes decided");
}

#[tokio::test(start_paused = true)]
async fn a_recheck_probes_at_once() {
    let (monitor, mut events, mut calls) = scripted(|_| healthy());
    let targets = [target(1, HOUR), target(2, HOUR)];
    monitor.set_targets(targets.to_vec());
    for _ in &targets {
        transition(&mut events).await;
        calls.recv().await.unwrap();
    }
    let begin = tokio::time::Instant::now();

    assert!(monitor.recheck(&targets[1]));
    assert_eq!(*calls.recv().await.unwrap().0, targets[1]);
    assert!(!monitor.recheck(&target(3, HOUR)), "nobody probes that one");

    monitor.recheck_all();
    let mut probed = Vec::new();
    for _ in &targets {
        probed.push(calls.recv().await.unwrap().0.address);
    }
    probed.sort();
    assert_eq!(probed, targets.each_ref().map(|target| target.address));
    assert_eq!(tokio::time::Instant::now(), begin, "no time had to pass");
}

#[tokio::test(start_paused = true)]
async fn a_recheck_during_a_probe_is_followed_by_another() {
    let (sender, mut calls) = unbounded_channel();
    let (finish, finished) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (monitor, _events) = Monitor::with_prober(Box::new({
        let (finish, finished) = (Arc::clone(&finish), Arc::clone(&finished));
        move |_| {
            sender.send(tokio::time::Instant::now()).unwrap();
            let (finish, finished) = (Arc::clone(&finish), Arc::clone(&finished));
            Box::pin(async move {
                finish.notified().await;
                finished.fetch_add(1, Ordering::SeqCst);
                healthy()
            })
        }
    }));
    let target = target(1, HOUR);
    monitor.set_targets(vec![target.clone()]);
    let first = calls.recv().await.unwrap();
    monitor.recheck(&target);
    finish.notify_one();
    let second = calls.recv().await.unwrap();
    assert_eq!((first, finished.load(Ordering::SeqCst)), (second, 1), "at once, after the first ended");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_monitor_stops_its_probes() {
    let (sender, mut calls) = unbounded_channel();
    let (monitor, mut events) = Monitor::with_prober(Box::new(move |_| {
        sender.send(()).unwrap();
        Box::pin(std::future::pending())
    }));
    monitor.set_targets(vec![target(1, SECOND), target(2, SECOND)]);
    calls.recv().await.unwrap();
    drop(monitor);
    let end = timeout(HOUR, events.recv()).await.expect("a task lives on");
    assert_eq!(end, None, "every task has ended");
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_tells_everything_about_a_target() {
    let fails = Arc::new(AtomicUsize::new(0));
    let (monitor, mut events, mut calls) = scripted({
        let fails = Arc::clone(&fails);
        move |_| {
            if fails.load(Ordering::SeqCst) == 0 { healthy() } else { unreachable("no route to host") }
        }
    });
    let target = target(1, 4 * SECOND);
    monitor.set_targets(vec![target.clone()]);
    let fresh = &monitor.snapshot()[0];
    assert_eq!((&*fresh.target, &fresh.state), (&target, &State::Unknown));
    assert!(fresh.last_outcome.is_none() && fresh.last_probe_age.is_none() && fresh.last_latency.is_none());

    transition(&mut events).await;
    calls.recv().await.unwrap();
    calls.recv().await.unwrap();
    fails.store(1, Ordering::SeqCst);
    calls.recv().await.unwrap();
    tokio::time::sleep(SECOND / 2).await;
    let seen = &monitor.snapshot()[0];
    assert_eq!(seen.state, State::Up);
    assert_eq!((seen.successes, seen.failures), (0, 1));
    assert_eq!(seen.last_outcome.as_ref().and_then(Outcome::reason), Some("no route to host"));
    assert_eq!(seen.last_latency, Some(Duration::from_millis(1)));
    let last_probe_age = seen.last_probe_age.unwrap();
    assert!(last_probe_age.abs_diff(SECOND / 2) <= TICK, "{last_probe_age:?}");
    assert!(seen.age > 8 * SECOND && seen.since < SystemTime::now(), "up for {:?}", seen.age);
}
