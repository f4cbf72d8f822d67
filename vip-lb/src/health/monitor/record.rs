//! What is known of one target, and the task that goes on probing it.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{Notify, mpsc};
use tracing::{info, warn};

use super::{HealthEvent, MAX_SPREAD, Shared, TargetHealth, lock, now, random};
use crate::health::{Down, DownCause, Latencies, Outcome, Target, Transition, threshold::Threshold};

/// What a target's task shares with the monitor.
pub(super) struct Record {
    pub(super) target: Arc<Target>,
    pub(super) recheck: Notify,
    pub(super) health: Mutex<Health>,
}

/// How it is.
pub(super) struct Health {
    pub(super) threshold: Threshold,
    last_outcome: Option<Outcome>,
    last_probe: Option<Instant>,
    last_latency: Option<Duration>,
    pub(super) latencies: Latencies,
}

/// The task of one target.
pub(super) async fn watch(record: Arc<Record>, shared: Arc<Shared>) {
    let interval = record.target.check.interval;
    loop {
        let mut due = lock(&record.health).threshold.next_probe();
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {
                // The machine stood still, and all targets are due: they are spread again.
                if now().saturating_duration_since(due) > interval {
                    tokio::time::sleep(interval.min(MAX_SPREAD) * u32::from(random()) / u32::from(u16::MAX)).await;
                    due = now();
                }
            }
            () = record.recheck.notified() => due = now(),
        }
        // The semaphore is never closed.
        let Ok(permit) = shared.permits.acquire().await else {
            return;
        };
        let started = now();
        shared.punctuality.note(started.saturating_duration_since(due), interval);
        let outcome = (shared.prober)(Arc::clone(&record.target)).await;
        let finished = now();
        drop(permit);
        record.take(outcome, started, finished, &shared.events);
    }
}

impl Record {
    /// Of a target that nothing is known about but its threshold.
    pub(super) fn new(target: Arc<Target>, threshold: Threshold) -> Self {
        let health = Health {
            threshold,
            last_outcome: None,
            last_probe: None,
            last_latency: None,
            latencies: Latencies::default(),
        };
        Self { target, recheck: Notify::new(), health: Mutex::new(health) }
    }

    /// Everything known about the target.
    pub(super) fn look(&self, now: Instant, wall_clock: SystemTime) -> TargetHealth {
        let health = lock(&self.health);
        let age = now.saturating_duration_since(health.threshold.since());
        TargetHealth {
            target: Arc::clone(&self.target),
            state: health.threshold.state().clone(),
            since: wall_clock.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH),
            age,
            last_outcome: health.last_outcome.clone(),
            last_probe_age: health.last_probe.map(|at| now.saturating_duration_since(at)),
            last_latency: health.last_latency,
            connect: health.latencies.connect.percentiles(),
            whole: health.latencies.whole.percentiles(),
            successes: health.threshold.successes(),
            failures: health.threshold.failures(),
        }
    }

    /// Takes the outcome of a probe; logs and sends the transition it completes.
    pub(super) fn take(
        &self,
        outcome: Outcome,
        started: Instant,
        finished: Instant,
        events: &mpsc::UnboundedSender<HealthEvent>,
    ) {
        let mut health = lock(&self.health);
        if let Outcome::NotProbed { reason } = &outcome
            && !matches!(health.last_outcome, Some(Outcome::NotProbed { .. }))
        {
            warn!(backend = %self.target.asked(), %reason, "cannot probe backend, its state stays");
        }
        if let Outcome::Healthy { latency, connect } = outcome {
            health.last_latency = Some(latency);
            health.latencies.note(connect, latency);
        }
        let transition = health.threshold.probe_finished(&outcome, started, finished, random());
        health.last_outcome = Some(outcome);
        health.last_probe = Some(finished);
        if let Some(transition) = transition {
            self.log(&transition);
            // Nobody listens any more: the owner is about to drop the monitor.
            let _closed =
                events.send(HealthEvent { target: Arc::clone(&self.target), transition, at: finished });
        }
    }

    fn log(&self, transition: &Transition) {
        let backend = self.target.asked();
        let check = self.target.check_name();
        match transition {
            Transition::CameUp => info!(%backend, check, "backend is up"),
            Transition::WentDown(Down { cause, reason }) => {
                warn!(%backend, check, %cause, reason, "backend is down");
            }
            Transition::CauseChanged(Down { cause: cause @ DownCause::Unreachable, reason }) => {
                warn!(%backend, check, %cause, reason, "backend is down and no longer answers");
            }
            Transition::CauseChanged(Down { cause: cause @ DownCause::Unhealthy, reason }) => {
                warn!(%backend, check, %cause, reason, "backend is still down but answers again");
            }
        }
    }
}
