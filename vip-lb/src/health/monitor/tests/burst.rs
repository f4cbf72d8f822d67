//! Close looks.

use std::sync::atomic::{AtomicBool, AtomicU32};

use super::*;

const LATENCY: Duration = Duration::from_millis(40);

const LEAST: Duration = Duration::from_millis(50);

/// A target that answers after [`LATENCY`] until the switch is thrown, and then not any more; and how many probes there were.
struct Switch {
    is_dead: Arc<AtomicBool>,
    probes: Arc<AtomicU32>,
}

fn switched() -> (Monitor, UnboundedReceiver<HealthEvent>, Switch) {
    let switch = Switch { is_dead: Arc::default(), probes: Arc::default() };
    let (is_dead, probes) = (Arc::clone(&switch.is_dead), Arc::clone(&switch.probes));
    let (monitor, events) = Monitor::with_prober(Box::new(move |target| {
        let (is_dead, timeout) = (Arc::clone(&is_dead), target.check.timeout);
        probes.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            if is_dead.load(Ordering::Relaxed) {
                tokio::time::sleep(timeout).await;
                return unreachable("no answer");
            }
            tokio::time::sleep(LATENCY).await;
            Outcome::Healthy { latency: LATENCY, connect: None }
        })
    }));
    (monitor, events, switch)
}

#[tokio::test(start_paused = true)]
async fn a_dead_target_is_down_after_a_few_times_its_usual_latency() {
    let (monitor, mut events, switch) = switched();
    monitor.set_targets(vec![target(1, 20 * SECOND)]);
    assert_eq!(transition(&mut events).await, Transition::CameUp);
    tokio::time::sleep(SECOND).await;
    switch.is_dead.store(true, Ordering::Relaxed);
    let begin = tokio::time::Instant::now();
    assert!(monitor.attend(&target(1, 20 * SECOND), LEAST));
    assert!(monitor.attend(&target(1, 20 * SECOND), LEAST), "it is looked at already");
    let event = events.recv().await.unwrap();
    assert!(matches!(event.transition, Transition::WentDown(_)), "{event:?}");
    // Three times the latency, and two gaps of a fifth of that.
    let expected = Duration::from_millis(120 + 48);
    assert!((begin.elapsed()).abs_diff(expected) <= 4 * TICK, "{:?}", begin.elapsed());
    assert_eq!(switch.probes.load(Ordering::Relaxed), 1 + 3);
    assert!(monitor.attend(&target(1, 20 * SECOND), LEAST));
    tokio::time::sleep(SECOND).await;
    assert_eq!(switch.probes.load(Ordering::Relaxed), 1 + 3, "what is down needs no look");
    assert!(!monitor.attend(&target(2, 20 * SECOND), LEAST));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_answers_stays_up_and_loses_what_it_had_against_it() {
    let (monitor, mut events, switch) = switched();
    let watched = target(1, 20 * SECOND);
    monitor.set_targets(vec![watched.clone()]);
    assert_eq!(transition(&mut events).await, Transition::CameUp);
    assert!(monitor.attend(&watched, LEAST));
    tokio::time::sleep(SECOND).await;
    let health = monitor.look(&watched).unwrap();
    assert_eq!((health.state, health.failures), (State::Up, 0));
    let probes = switch.probes.load(Ordering::Relaxed);
    assert!(probes <= 1 + 3, "{probes} probes");
    assert!(health.successes >= 2);
    assert!(events.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_holds_no_look_up() {
    let (monitor, mut events, switch) = switched();
    let mut watched = target(1, 20 * SECOND);
    watched.check.timeout = 10 * SECOND;
    monitor.set_targets(vec![watched.clone()]);
    assert_eq!(transition(&mut events).await, Transition::CameUp);
    switch.is_dead.store(true, Ordering::Relaxed);
    assert!(monitor.recheck(&watched));
    tokio::time::sleep(SECOND).await;
    let begin = tokio::time::Instant::now();
    assert!(monitor.attend(&watched, LEAST));
    let event = events.recv().await.unwrap();
    assert!(matches!(event.transition, Transition::WentDown(_)), "{event:?}");
    assert!(begin.elapsed() < SECOND / 2, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn targets_that_are_given_up_are_not_looked_at() {
    let (monitor, mut events, switch) = switched();
    monitor.set_targets(vec![target(1, 20 * SECOND)]);
    assert_eq!(transition(&mut events).await, Transition::CameUp);
    switch.is_dead.store(true, Ordering::Relaxed);
    assert!(monitor.attend(&target(1, 20 * SECOND), LEAST));
    monitor.set_targets(Vec::new());
    tokio::time::sleep(20 * SECOND).await;
    assert!(events.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_look_gives_the_time_that_it_is_told_to_give() {
    let (monitor, mut events, switch) = switched();
    let watched = target(1, 20 * SECOND);
    monitor.set_targets(vec![watched.clone()]);
    assert_eq!(transition(&mut events).await, Transition::CameUp);
    switch.is_dead.store(true, Ordering::Relaxed);
    let begin = tokio::time::Instant::now();
    assert!(monitor.attend(&watched, SECOND / 2));
    // It was but a pause: the first two probes fail, the last one is answered.
    tokio::time::sleep(SECOND / 2 * 2 / 5 - TICK).await;
    switch.is_dead.store(false, Ordering::Relaxed);
    tokio::time::sleep(2 * SECOND).await;
    assert!(events.try_recv().is_err(), "{:?}", begin.elapsed());
    assert_eq!(monitor.state(&watched), Some(State::Up));
}
