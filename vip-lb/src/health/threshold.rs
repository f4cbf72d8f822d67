//! The state of one target: from the outcomes of its probes to up and down, and when to probe next.
//!
//! * The first outcome is a verdict by itself, either way, so that a start takes one probe. Until then the state is
//!   [`State::Unknown`], which is not up.
//! * After that, `fall` failures in a row take a target down and `rise` successes in a row bring it up.
//! * While outcomes contradict the state, probes come at the fast interval, so that a dead target is down within
//!   `interval * fall + timeout` of its death, and usually much sooner.
//! * What decides over a target's connections is the cause, which is [`DownCause::Unreachable`] only after `fall` such
//!   outcomes in a row: one lost packet among bad answers cuts nobody off. A target that is down gets another cause by
//!   the same rule.
//! * Jitter only ever shortens a pause, so that it never breaks the bound above.
//! * A target that goes down again soon after coming up has flapped. The first few times cost nothing; from then on it
//!   is held down, for longer each time. It is forgotten when it has stayed up for a minute, or for as long as it was
//!   held, whichever is longer.

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::Memory;
use crate::config::model::{HealthCheck, OnDown, shown_duration};

#[cfg(test)]
mod tests;

/// Flaps in a row after which the next one is held.
const FREE_FLAPS: u32 = 3;

/// A target that goes down sooner than this after coming up has flapped.
const SETTLED: Duration = Duration::from_secs(60);

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The expected answer.
    Healthy {
        /// From the start of the probe to the answer.
        latency: Duration,
        /// From its start to the accepted connection, if its kind connects.
        connect: Option<Duration>,
    },
    /// It accepts connections, but the answer is wrong or does not come.
    Unhealthy {
        /// In words, such as `status 503, expected 200-399`.
        reason: String,
    },
    /// No connection to it: refused, timed out, no route.
    Unreachable {
        /// In words, such as `connection refused`.
        reason: String,
    },
    /// The probe failed on this machine, for want of a file descriptor, say. It says nothing about the target and
    /// counts neither way, lest a shortage here takes every backend down at once.
    NotProbed {
        /// In words, such as `too many open files`.
        reason: String,
    },
}

impl Outcome {
    /// Why it is not healthy; `None` if it is.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Healthy { .. } => None,
            Self::Unhealthy { reason } | Self::Unreachable { reason } | Self::NotProbed { reason } => {
                Some(reason)
            }
        }
    }
}

/// The kinds of being down, which [`OnDown::Auto`] tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DownCause {
    /// It accepts connections, so those it has may still be served.
    Unhealthy,
    /// Nothing is there to serve connections.
    Unreachable,
}

impl DownCause {
    /// What becomes of the connections of a backend that is down for this cause.
    #[must_use]
    pub fn connections(self, on_down: OnDown) -> Connections {
        match (on_down, self) {
            (OnDown::Cut, _) | (OnDown::Auto, Self::Unreachable) => Connections::Cut,
            (OnDown::Drain, _) | (OnDown::Auto, Self::Unhealthy) => Connections::Drain,
        }
    }
}

impl fmt::Display for DownCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unhealthy => "unhealthy",
            Self::Unreachable => "unreachable",
        })
    }
}

/// Fate of the connections of a backend that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Connections {
    /// They move to other backends, which reset them.
    Cut,
    /// They stay until they end.
    Drain,
}

/// What is known about a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No probe has come to a result yet.
    Unknown,
    /// It may take connections.
    Up,
    /// It may not.
    Down(Down),
}

impl State {
    /// Whether the target may take connections; one that is not known yet may not.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up)
    }

    /// The state's name: `unknown`, `up` or `down`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down(_) => "down",
        }
    }
}

/// Why a target is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// Decides over its connections.
    pub cause: DownCause,
    /// What the probe that completed this verdict found.
    pub reason: String,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// From unknown or down to up.
    CameUp,
    /// From unknown or up to down.
    WentDown(Down),
    /// It stays down, but for the other cause: connections that were drained may now have to be cut.
    CauseChanged(Down),
}

/// The machine of one target.
#[derive(Clone, Debug)]
pub struct Threshold {
    rise: u32,
    fall: u32,
    interval: Duration,
    fast_interval: Duration,
    jitter_percent: u8,
    hold: Duration,
    max_hold: Duration,
    state: State,
    since: Instant,
    successes: u32,
    failures: u32,
    /// The cause of the latest failures and how many in a row had it.
    cause_streak: Option<(DownCause, u32)>,
    next_probe: Instant,
    /// When the second probe is due at the latest.
    second_probe: Option<Instant>,
    flaps: u32,
    held_until: Option<Instant>,
}

impl Threshold {
    /// A target in `state` since `since`, first probed at `first_probe`.
    ///
    /// Anything but [`State::Unknown`] is a verdict taken over from before: it takes `rise` or `fall` outcomes to
    /// change it.
    #[must_use]
    pub fn new(check: &HealthCheck, state: State, since: Instant, first_probe: Instant) -> Self {
        Self {
            rise: check.rise,
            fall: check.fall,
            interval: check.interval,
            fast_interval: check.fast_interval(),
            jitter_percent: check.jitter_percent,
            hold: check.flap_hold,
            max_hold: check.flap_hold_max,
            state,
            since,
            successes: 0,
            failures: 0,
            cause_streak: None,
            next_probe: first_probe,
            second_probe: None,
            flaps: 0,
            held_until: None,
        }
    }

    /// The same, with a second probe no later than this: first probes are soon, and those after them are spread.
    #[must_use]
    pub fn with_second_probe(self, due: Instant) -> Self {
        Self { second_probe: Some(due), ..self }
    }

    /// A target that another daemon has watched until `now`: state and counters go on.
    #[must_use]
    pub fn resume(check: &HealthCheck, memory: &Memory, now: Instant, first_probe: Instant) -> Self {
        Self {
            successes: memory.successes,
            failures: memory.failures,
            cause_streak: memory.streak,
            flaps: memory.flaps,
            held_until: memory.held.map(|held| now + Duration::from_millis(held)),
            ..Self::new(check, memory.state(), memory.since(now), first_probe)
        }
    }

    /// Takes the outcome of a probe that ran from `started` to `now`.
    ///
    /// `random`, even over its whole range, picks the jitter of the pause that follows.
    pub fn probe_finished(
        &mut self,
        outcome: &Outcome,
        started: Instant,
        now: Instant,
        random: u16,
    ) -> Option<Transition> {
        let transition = match outcome {
            Outcome::Healthy { .. } => self.succeeded(now),
            Outcome::Unhealthy { reason } => self.failed(DownCause::Unhealthy, reason),
            Outcome::Unreachable { reason } => self.failed(DownCause::Unreachable, reason),
            Outcome::NotProbed { .. } => None,
        };
        let transition = match transition {
            Some(Transition::WentDown(down)) => Some(Transition::WentDown(self.held(down, now))),
            other => other,
        };
        match &transition {
            Some(Transition::CameUp) => self.state = State::Up,
            Some(Transition::WentDown(down) | Transition::CauseChanged(down)) => {
                self.state = State::Down(down.clone());
            }
            None => {}
        }
        if let Some(Transition::CameUp | Transition::WentDown(_)) = transition {
            self.since = now;
        }
        let is_held = self.held_until.is_some_and(|until| until > now);
        let pause = if self.is_changing() && !is_held { self.fast_interval } else { self.interval };
        let due = started + self.shortened(pause, random);
        // The end of a hold is news by itself.
        let sooner = [self.second_probe.take(), self.held_until].into_iter().flatten().filter(|at| *at > now);
        self.next_probe = sooner.fold(due, Instant::min).max(now);
        transition
    }

    /// When the next probe is due; in the past while one is under way.
    #[must_use]
    pub fn next_probe(&self) -> Instant {
        self.next_probe
    }

    /// The present state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Since when the target is unknown, up or down. A change of cause alone leaves it.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Successes in a row up to now.
    #[must_use]
    pub fn successes(&self) -> u32 {
        self.successes
    }

    /// Failures in a row up to now.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Until when the target stays down whatever its probes find, because it flaps.
    #[must_use]
    pub fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// How often in a row it has flapped.
    pub(super) fn flaps(&self) -> u32 {
        self.flaps
    }

    /// The cause of the latest failures and how many in a row had it.
    pub(super) fn cause_streak(&self) -> Option<(DownCause, u32)> {
        self.cause_streak
    }

    fn succeeded(&mut self, now: Instant) -> Option<Transition> {
        self.successes = self.successes.saturating_add(1);
        self.failures = 0;
        self.cause_streak = None;
        match self.state {
            State::Unknown => Some(Transition::CameUp),
            State::Up => None,
            State::Down(_) if self.successes < self.rise => None,
            State::Down(_) if self.held_until.is_some_and(|until| now < until) => None,
            State::Down(_) => {
                self.held_until = None;
                Some(Transition::CameUp)
            }
        }
    }

    /// What is told of a target that goes down now: if it flaps, also for how long it stays so.
    fn held(&mut self, down: Down, now: Instant) -> Down {
        if self.state != State::Up || self.hold.is_zero() {
            return down;
        }
        let stayed_up = now.saturating_duration_since(self.since);
        if stayed_up >= SETTLED.max(self.hold_after(self.flaps)) {
            self.flaps = 0;
            return down;
        }
        self.flaps = self.flaps.saturating_add(1);
        let hold = self.hold_after(self.flaps);
        if hold.is_zero() {
            return down;
        }
        self.held_until = Some(now + hold);
        let reason = format!("{}; flapping, stays down for at least {}", down.reason, shown_duration(hold));
        Down { reason, ..down }
    }

    /// For how long a target is held that has flapped so many times in a row: twice as long each time.
    fn hold_after(&self, flaps: u32) -> Duration {
        match flaps.checked_sub(FREE_FLAPS + 1) {
            None => Duration::ZERO,
            Some(doublings) => {
                self.hold.saturating_mul(2u32.saturating_pow(doublings)).min(self.max_hold.max(self.hold))
            }
        }
    }

    fn failed(&mut self, cause: DownCause, reason: &str) -> Option<Transition> {
        self.failures = self.failures.saturating_add(1);
        self.successes = 0;
        let streak = match self.cause_streak {
            Some((same, length)) if same == cause => length.saturating_add(1),
            _ => 1,
        };
        self.cause_streak = Some((cause, streak));
        let down = |cause| Down { cause, reason: reason.to_owned() };
        match &self.state {
            State::Unknown => Some(Transition::WentDown(down(cause))),
            State::Up if self.failures < self.fall => None,
            State::Up if streak < self.fall => Some(Transition::WentDown(down(DownCause::Unhealthy))),
            State::Up => Some(Transition::WentDown(down(cause))),
            State::Down(now) if now.cause == cause || streak < self.fall => None,
            State::Down(_) => Some(Transition::CauseChanged(down(cause))),
        }
    }

    /// Whether the latest outcomes contradict the state.
    fn is_changing(&self) -> bool {
        match &self.state {
            State::Unknown => false,
            State::Up => self.failures > 0,
            State::Down(down) => {
                self.successes > 0 || self.cause_streak.is_some_and(|(cause, _)| cause != down.cause)
            }
        }
    }

    /// `pause` less a random part of the jitter's share of it.
    fn shortened(&self, pause: Duration, random: u16) -> Duration {
        let jitter = pause * u32::from(self.jitter_percent.min(50)) / 100;
        pause - jitter * u32::from(random) / u32::from(u16::MAX)
    }
}
