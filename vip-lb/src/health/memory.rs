//! What a daemon knows of a target, in a form that the next one can go on with.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{Down, DownCause, State, Target, threshold::Threshold};

/// The state of one check with its counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Whom it asks.
    pub address: SocketAddr,
    /// How, so exactly that only the same check has the same words. A daemon of another release may have others.
    pub check: String,
    /// What the target is taken for.
    pub state: Remembered,
    /// Since when, in milliseconds before now.
    pub age: u64,
    /// Successes in a row up to now.
    pub successes: u32,
    /// Failures in a row up to now.
    pub failures: u32,
    /// The cause of the latest failures and how many in a row had it.
    pub streak: Option<(DownCause, u32)>,
    /// How often in a row it has flapped.
    #[serde(default)]
    pub flaps: u32,
    /// For how many milliseconds more it stays down because of that.
    #[serde(default)]
    pub held: Option<u64>,
}

/// A [`State`] in this form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remembered {
    /// No probe has come to a result yet.
    Unknown,
    /// It may take connections.
    Up,
    /// It may not.
    Down {
        /// Decides over its connections.
        cause: DownCause,
        /// In words.
        reason: String,
    },
}

impl Memory {
    /// What is known of a target now.
    pub(super) fn of(target: &Target, threshold: &Threshold, now: Instant) -> Self {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let left = |until: Instant| until.saturating_duration_since(now);
        Self {
            address: target.socket_address(),
            check: words(target),
            state: match threshold.state() {
                State::Unknown => Remembered::Unknown,
                State::Up => Remembered::Up,
                State::Down(Down { cause, reason }) => {
                    Remembered::Down { cause: *cause, reason: reason.clone() }
                }
            },
            age: milliseconds(now.saturating_duration_since(threshold.since())),
            successes: threshold.successes(),
            failures: threshold.failures(),
            streak: threshold.cause_streak(),
            flaps: threshold.flaps(),
            held: threshold.held_until().map(left).map(milliseconds).filter(|left| *left > 0),
        }
    }

    /// The state in which it begins again.
    pub(super) fn state(&self) -> State {
        match &self.state {
            Remembered::Unknown => State::Unknown,
            Remembered::Up => State::Up,
            Remembered::Down { cause, reason } => State::Down(Down { cause: *cause, reason: reason.clone() }),
        }
    }

    /// Since when it is in it.
    pub(super) fn since(&self, now: Instant) -> Instant {
        now.checked_sub(Duration::from_millis(self.age)).unwrap_or(now)
    }
}

/// Memories to look targets up in.
pub(super) struct Memories<'m>(HashMap<SocketAddr, Vec<&'m Memory>>);

impl<'m> Memories<'m> {
    pub(super) fn new(memories: &'m [Memory]) -> Self {
        let mut by_address: HashMap<_, Vec<_>> = HashMap::new();
        for memory in memories {
            by_address.entry(memory.address).or_default().push(memory);
        }
        Self(by_address)
    }

    /// What is remembered of a target: of this very check, or else of another one of the same address and port.
    pub(super) fn of(&self, target: &Target) -> Option<&'m Memory> {
        let of_address = self.0.get(&target.socket_address())?;
        let check = words(target);
        of_address.iter().find(|memory| memory.check == check).or(of_address.first()).copied()
    }
}

fn words(target: &Target) -> String {
    format!("{:?} {:?}", target.way, target.check)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::model::{CheckKind, Dialogue, HealthCheck},
        health::Outcome,
    };

    fn target(fall: u32) -> Target {
        let check = HealthCheck {
            fall,
            jitter_percent: 0,
            ..HealthCheck::new(CheckKind::Tcp(Dialogue::default()), 80)
        };
        Target { address: "10.0.0.1".parse().unwrap(), way: crate::health::Way::Direct, check }
    }

    #[expect(clippy::disallowed_methods, reason = "any moment to count from")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn counters_go_on_where_they_were() {
        let (target, start) = (target(3), now() + Duration::from_secs(1000));
        let mut before = Threshold::new(&target.check, State::Up, start, start);
        let refused = Outcome::Unreachable { reason: "connection refused".to_owned() };
        let later = start + Duration::from_secs(7);
        for _ in 0..2 {
            assert_eq!(before.probe_finished(&refused, later, later, 0), None);
        }
        let text = serde_json::to_string(&Memory::of(&target, &before, later)).unwrap();
        let memory: Memory = serde_json::from_str(&text).unwrap();
        assert_eq!((memory.age, memory.failures), (7000, 2));

        let mut after = Threshold::resume(&target.check, &memory, later, later);
        assert_eq!(after.since(), start);
        let transition = after.probe_finished(&refused, later, later, 0);
        assert_eq!(transition, before.probe_finished(&refused, later, later, 0), "the third failure counts");
        assert!(transition.is_some());
    }

    #[test]
    fn who_flapped_stays_down_for_as_long_as_before() {
        let (target, start) = (target(1), now() + Duration::from_secs(1000));
        let refused = Outcome::Unreachable { reason: "connection refused".to_owned() };
        let mut before = Threshold::new(&target.check, State::Up, start, start);
        let mut at = start;
        while before.held_until().is_none() {
            at += Duration::from_secs(1);
            let outcome = match before.state() {
                State::Up => refused.clone(),
                _ => Outcome::Healthy { latency: Duration::ZERO, connect: None },
            };
            before.probe_finished(&outcome, at, at, 0);
        }
        let later = at + Duration::from_secs(3);
        let memory = Memory::of(&target, &before, later);
        assert_eq!(memory.held, Some(7000), "of ten seconds");
        let after = Threshold::resume(&target.check, &memory, later, later);
        assert_eq!((after.held_until(), after.flaps()), (before.held_until(), before.flaps()));
        let over = Memory::of(&target, &before, later + Duration::from_secs(7));
        assert_eq!(over.held, None);
    }

    #[test]
    fn a_check_that_was_tuned_is_recognised_by_its_address() {
        let (was, is, start) = (target(3), target(5), now());
        let down = Down { cause: DownCause::Unhealthy, reason: "status 503".to_owned() };
        let threshold = Threshold::new(&was.check, State::Down(down.clone()), start, start);
        let other = Target { address: "10.0.0.2".parse().unwrap(), ..was.clone() };
        let exact =
            Memory { check: words(&is), state: Remembered::Up, ..Memory::of(&was, &threshold, start) };
        let memories = [Memory::of(&was, &threshold, start), exact.clone()];
        assert_eq!(Memories::new(&memories).of(&is), Some(&exact));
        assert_eq!(Memories::new(&memories[..1]).of(&is).map(Memory::state), Some(State::Down(down)));
        assert_eq!(Memories::new(&memories).of(&other), None);
    }
}
