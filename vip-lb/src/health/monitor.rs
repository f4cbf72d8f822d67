//! Runs the probes of all targets and tells of their changes.
//!
//! Every target has one task, which sleeps until its [`Threshold`] wants the next probe. What two services want of the
//! same backend is one target and probed once. A target's state is asked for with [`Monitor::state`]; events only say
//! that it changed.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hasher, RandomState},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time::timeout,
};

use self::{
    record::{Record, watch},
    room::concurrent_probes,
};
use super::{
    Histogram, Memory, Outcome, Percentiles, ProbeCounts, State, Target, Transition, Ways, memory::Memories,
    probe::Probes, punctuality::Punctuality, threshold::Threshold,
};
use crate::config::model::StartState;

mod burst;
mod record;
mod room;
#[cfg(test)]
mod tests;

/// First probes of new targets are spread over their interval, but over no more than this. Later ones are spread over
/// the whole interval.
const MAX_SPREAD: Duration = Duration::from_secs(1);

/// How long probes under way may take when there are to be no more: one that a healthy backend answers is over by then.
const LAST_PROBES: Duration = Duration::from_millis(100);

/// Makes one probe of a target.
pub type Prober = dyn Fn(Arc<Target>) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync;

/// A change of a target's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthEvent {
    /// Whose state.
    pub target: Arc<Target>,
    /// What changed.
    pub transition: Transition,
    /// When the probe ended that completed the change.
    pub at: Instant,
}

/// The health of one target, for status.
#[derive(Clone, Debug)]
pub struct TargetHealth {
    /// Who is probed, and how.
    pub target: Arc<Target>,
    /// What it is taken for.
    pub state: State,
    /// Since when, by the wall clock.
    pub since: SystemTime,
    /// For how long.
    pub age: Duration,
    /// What the last probe found; `None` before the first.
    pub last_outcome: Option<Outcome>,
    /// How long ago the last probe ended; `None` before the first.
    pub last_probe_age: Option<Duration>,
    /// How long the last successful probe took; `None` before it.
    pub last_latency: Option<Duration>,
    /// How long the last ones took to connect; `None` where none does.
    pub connect: Option<Percentiles>,
    /// How long they took as a whole; `None` before the first.
    pub whole: Option<Percentiles>,
    /// Successes in a row up to now.
    pub successes: u32,
    /// Failures in a row up to now.
    pub failures: u32,
}

/// All checks of this node. Dropped, it stops probing at once.
pub struct Monitor {
    targets: Mutex<HashMap<Arc<Target>, Probed>>,
    shared: Arc<Shared>,
    /// Probes under way at a time.
    concurrent: usize,
    runtime: Handle,
}

/// What the tasks of all targets use.
struct Shared {
    prober: Box<Prober>,
    permits: Semaphore,
    events: mpsc::UnboundedSender<HealthEvent>,
    punctuality: Punctuality,
}

/// One target. Dropped, its task ends.
struct Probed {
    record: Arc<Record>,
    task: AbortHandle,
    /// A close look, the last one there was.
    burst: Option<AbortHandle>,
}

impl Monitor {
    /// A monitor without targets, probing over the network by `ways`, and the stream of its events.
    ///
    /// Events are few (one per change of state) and never wait, so the receiver has to be read.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime; probes run on the one it is started in.
    #[must_use]
    pub fn start(ways: Ways) -> (Self, mpsc::UnboundedReceiver<HealthEvent>) {
        let probes = Arc::new(Probes::default());
        Self::with_prober(Box::new(move |target| {
            let (probes, ways) = (Arc::clone(&probes), ways.clone());
            Box::pin(async move {
                let deadline = tokio::time::Instant::now() + target.check.timeout;
                match ways.dial(&target, deadline).await {
                    Ok(dial) => probes.probe(&target, &dial).await,
                    Err(outcome) => outcome,
                }
            })
        }))
    }

    /// Like [`Monitor::start`], with probes made by `prober`, which keeps to the timeout of the check by itself.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn with_prober(prober: Box<Prober>) -> (Self, mpsc::UnboundedReceiver<HealthEvent>) {
        let (events, receiver) = mpsc::unbounded_channel();
        let concurrent = concurrent_probes();
        let shared = Arc::new(Shared {
            prober,
            permits: Semaphore::new(concurrent),
            events,
            punctuality: Punctuality::default(),
        });
        let monitor = Self { targets: Mutex::default(), shared, concurrent, runtime: Handle::current() };
        (monitor, receiver)
    }

    /// Makes `targets` the ones that are probed. New ones begin as [`State::Unknown`]; see
    /// [`Monitor::set_targets_from`] for the rest.
    pub fn set_targets(&self, targets: Vec<Target>) {
        self.set_targets_from(targets.into_iter().map(|target| (target, State::Unknown)).collect());
    }

    /// Makes `targets` the ones that are probed, each new one with the state it begins in: what a restarted daemon
    /// knows from before, lest a restart takes backends out. Targets named twice are one; the first state counts.
    ///
    /// A target that is probed already keeps its state and its schedule. A new one that would begin as unknown takes
    /// the state of one that leaves with the same address and port, up rather than down if there are several: a reload
    /// that only tunes a check changes nobody's state. No event tells of a state that a target begins in. An event of
    /// a target that just left may still come.
    pub fn set_targets_from(&self, targets: Vec<(Target, State)>) {
        self.set_targets_with(targets, &[]);
    }

    /// Like [`Monitor::set_targets_from`], but what another daemon remembers of a new target counts first: it goes on with its state and
    /// counters.
    pub fn set_targets_with(&self, mut targets: Vec<(Target, State)>, memories: &[Memory]) {
        let now = now();
        let memories = Memories::new(memories);
        let mut seen = HashSet::new();
        targets.retain(|(target, _)| seen.insert(target.clone()));

        let mut current = lock(&self.targets);
        let mut before = std::mem::take(&mut *current);
        let mut new = Vec::new();
        for (target, state) in targets {
            match before.remove_entry(&target) {
                Some((target, probed)) => drop(current.insert(target, probed)),
                None => new.push((target, state)),
            }
        }
        let mut left: HashMap<SocketAddr, (State, Instant)> = HashMap::new();
        for (target, probed) in &before {
            let health = lock(&probed.record.health);
            let (state, since) = (health.threshold.state(), health.threshold.since());
            let known = left.entry(target.socket_address()).or_insert((State::Unknown, now));
            if state.is_up() || known.0 == State::Unknown {
                *known = (state.clone(), since);
            }
        }

        let count = u32::try_from(new.len()).unwrap_or(u32::MAX);
        for (index, (target, state)) in (0u32..).zip(new) {
            let interval = target.check.interval;
            let first_probe = now + interval.min(MAX_SPREAD) * index / count;
            let threshold = match memories.of(&target) {
                Some(memory) => Threshold::resume(&target.check, memory, now, first_probe),
                None => {
                    let (state, since) = match (state, left.get(&target.socket_address())) {
                        (State::Unknown, Some(known)) => known.clone(),
                        (state, _) => (state, now),
                    };
                    let state = if state == State::Unknown && target.check.start == StartState::Up {
                        State::Up
                    } else {
                        state
                    };
                    Threshold::new(&target.check, state, since, first_probe)
                }
            };
            let threshold = threshold.with_second_probe(now + interval * index / count);
            let target = Arc::new(target);
            current.insert(Arc::clone(&target), self.spawn(target, threshold));
        }
    }

    /// Begins no probe any more, and waits a moment for those under way. What is known of the targets stays.
    pub async fn end(&self) {
        // Whoever wants to probe from now on waits behind this.
        let all = u32::try_from(self.concurrent).unwrap_or(u32::MAX);
        if let Ok(Ok(permits)) = timeout(LAST_PROBES, self.shared.permits.acquire_many(all)).await {
            permits.forget();
        }
        for probed in lock(&self.targets).values() {
            probed.task.abort();
        }
    }

    /// How many probes began, and how many of them late.
    #[must_use]
    pub fn probed(&self) -> ProbeCounts {
        self.shared.punctuality.counts()
    }

    /// The state of `target`; `None` if it is not among those that are probed.
    #[must_use]
    pub fn state(&self, target: &Target) -> Option<State> {
        let targets = lock(&self.targets);
        let probed = targets.get(target)?;
        Some(lock(&probed.record.health).threshold.state().clone())
    }

    /// Everything known about `target`; `None` if it is not among those that are probed.
    #[must_use]
    pub fn look(&self, target: &Target) -> Option<TargetHealth> {
        let targets = lock(&self.targets);
        targets.get(target).map(|probed| probed.record.look(now(), wall_clock()))
    }

    /// How long all good probes of `target` took, to connect and as a whole; `None` if it is not among those that are probed.
    #[must_use]
    pub fn histograms(&self, target: &Target) -> Option<[Histogram; 2]> {
        let targets = lock(&self.targets);
        let health = lock(&targets.get(target)?.record.health);
        Some([health.latencies.connect.histogram(), health.latencies.whole.histogram()])
    }

    /// What another daemon needs to go on with all checks.
    #[must_use]
    pub fn memories(&self) -> Vec<Memory> {
        let now = now();
        let targets = lock(&self.targets);
        let memory =
            |probed: &Probed| Memory::of(&probed.record.target, &lock(&probed.record.health).threshold, now);
        targets.values().map(memory).collect()
    }

    /// Everything known about all targets, ordered by address and port.
    #[must_use]
    pub fn snapshot(&self) -> Vec<TargetHealth> {
        let (now, wall_clock) = (now(), wall_clock());
        let targets = lock(&self.targets);
        let mut all: Vec<_> = targets.values().map(|probed| probed.record.look(now, wall_clock)).collect();
        all.sort_by_key(|health| health.target.socket_address());
        all
    }

    /// Probes `target` at once rather than when it is due. A probe under way is followed by another.
    ///
    /// Returns whether it is among those that are probed.
    pub fn recheck(&self, target: &Target) -> bool {
        let targets = lock(&self.targets);
        let probed = targets.get(target);
        probed.inspect(|probed| probed.record.recheck.notify_one()).is_some()
    }

    /// Probes all targets at once, as many at a time as there may be.
    pub fn recheck_all(&self) {
        for probed in lock(&self.targets).values() {
            probed.record.recheck.notify_one();
        }
    }

    /// Looks at `target` closely and at once, if it is taken for up: as many probes as its check wants failures, nearly side by side,
    /// each with three times as long as nine of ten of the last ones took, and `least` at least. It goes down if they all fail. While such a look is
    /// taken, there is no other.
    ///
    /// Returns whether it is among those that are probed.
    pub fn attend(&self, target: &Target, least: Duration) -> bool {
        let mut targets = lock(&self.targets);
        let Some(probed) = targets.get_mut(target) else {
            return false;
        };
        if probed.burst.as_ref().is_none_or(AbortHandle::is_finished) {
            let look = burst::look(Arc::clone(&probed.record), Arc::clone(&self.shared), least);
            probed.burst = Some(self.runtime.spawn(look).abort_handle());
        }
        true
    }

    fn spawn(&self, target: Arc<Target>, threshold: Threshold) -> Probed {
        let record = Arc::new(Record::new(target, threshold));
        let task = self.runtime.spawn(watch(Arc::clone(&record), Arc::clone(&self.shared)));
        Probed { record, task: task.abort_handle(), burst: None }
    }
}

impl Drop for Probed {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(burst) = &self.burst {
            burst.abort();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "people want to know since when by the clock on the wall")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// The clock that tokio's timers go by.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Spreads probes; nothing hangs on its quality. Every `RandomState` has other keys.
fn random() -> u16 {
    let [low, high, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// What is locked is only ever replaced as a whole, so a panic elsewhere leaves it sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
