//! How far checks may go: who of a service's backends takes new connections when some, or all, look bad.
//!
//! Three rules stand between the verdicts of checks and the ring, in this order:
//!
//! * **The cap.** Within [`WINDOW`] checks take out no more than `max_removed` of the backends that are wanted; who fails beyond that is held
//!   in service until its turn comes. When everything looks bad at once it is usually this node.
//! * **Tiers.** The first tier serves. Others are added one by one until those in use have `min_healthy` healthy backends together.
//! * **The floor.** Where all tiers together have fewer, the stated policy holds: trust the first tier whatever checks say, trust the last one,
//!   or give nobody new connections.
//!
//! A backend that configuration or operator took out stays out, whatever happens here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    time::{Duration, Instant},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::standing::{Cause, Standing};
use crate::config::model::{BelowMin, FloorPolicy};

#[cfg(test)]
mod tests;

/// What checks remove within this time counts as removed at once. Longer than most of what ails a node passes in: a link that comes back, a
/// processor that was busy, a switch that learns.
pub const WINDOW: Duration = Duration::from_secs(30);

/// A backend, before any of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its own address.
    pub address: IpAddr,
    /// Its tier; the lowest one serves first.
    pub tier: u8,
    /// Where it stands by itself.
    pub standing: Standing,
    /// Whether configuration and operator want it in service.
    pub wanted: bool,
}

/// What one service has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Every backend by its address.
    pub backends: BTreeMap<IpAddr, Decided>,
    /// The whole of it.
    pub summary: FloorStatus,
}

/// Where a backend stands in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What it may do.
    pub standing: Standing,
    /// Why it takes new connections although its check does not say so.
    pub kept: Option<Kept>,
}

/// What a service has come to, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FloorStatus {
    /// Whether there are enough, and what is done if not.
    pub state: FloorState,
    /// Backends that are wanted and pass their checks, or have none.
    pub healthy: u32,
    /// As many are needed.
    pub needed: u32,
    /// Backends that configuration and operator want in service.
    pub wanted: u32,
    /// The last tier in use.
    pub tier: u8,
    /// Backends that the cap holds in service.
    pub held: u32,
}

/// Whether a service has enough healthy backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FloorState {
    /// It has, or it is not known yet.
    #[default]
    Met,
    /// It has not, and the first tier is used whatever its checks say.
    #[serde(rename = "fail_open")]
    Open,
    /// It has not, and nobody gets new connections.
    #[serde(rename = "fail_closed")]
    Closed,
    /// It has not, and the last tier is used whatever its checks say.
    Backup,
}

/// Why a backend is in service although its check does not say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kept {
    /// Checks have removed as many as they may at once.
    Cap,
    /// Fewer than `min_healthy` are healthy, and the service fails open.
    Open,
    /// Fewer than `min_healthy` are healthy, and this is the backup tier.
    Backup,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cap => "kept although its check fails: as many as may be were removed at once",
            Self::Open => "kept although its check fails: too few are healthy, and the service fails open",
            Self::Backup => "kept although its check fails: too few are healthy, and this is the backup tier",
        })
    }
}

/// What a daemon knows of a service's removals, in a form that the next one can go on with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloorMemory {
    /// Whether there were enough.
    pub state: FloorState,
    /// Those that checks took out, and for how many milliseconds they are, if they were in service before.
    pub removed: BTreeMap<IpAddr, Option<u64>>,
}

/// The memory of one service.
#[derive(Clone, Debug, Default)]
pub struct Floor {
    /// Backends that were in service when this was last decided.
    serving: BTreeSet<IpAddr>,
    /// Those that checks took out, and when, if they were in service before.
    removed: BTreeMap<IpAddr, Option<Instant>>,
    state: FloorState,
    /// When the next backend that is held may be removed.
    next: Option<Instant>,
}

impl Floor {
    /// A service that is taken over with these backends in its ring, and with what the former daemon knew of it, if it could be asked.
    #[must_use]
    pub fn taking_over(serving: BTreeSet<IpAddr>, memory: FloorMemory, now: Instant) -> Self {
        let at = |age: u64| now.checked_sub(Duration::from_millis(age));
        let removed = memory.removed.into_iter().map(|(address, age)| (address, age.and_then(at)));
        Self { serving, removed: removed.collect(), state: memory.state, next: None }
    }

    /// What the next daemon should know.
    #[must_use]
    pub fn memory(&self, now: Instant) -> FloorMemory {
        let age = |at: &Instant| now.saturating_duration_since(*at).as_millis() as u64;
        let removed = self.removed.iter().map(|(address, at)| (*address, at.as_ref().map(age)));
        FloorMemory { state: self.state, removed: removed.collect() }
    }

    /// When to decide again although nothing has changed.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Who takes new connections, as of `now`.
    pub fn decide(&mut self, policy: &FloorPolicy, candidates: &[Candidate], now: Instant) -> Decision {
        let wanted = || candidates.iter().filter(|candidate| candidate.wanted);
        let held = self.remove(policy, candidates, now);
        let tiers: BTreeSet<u8> = wanted().map(|candidate| candidate.tier).collect();
        let (first, last) =
            (tiers.first().copied().unwrap_or_default(), tiers.last().copied().unwrap_or_default());
        let of_first = wanted().filter(|candidate| candidate.tier == first).count();
        let needed = policy.min_healthy.of(of_first);
        let healthy_up_to = |tier: u8| {
            let up_to = wanted().filter(|candidate| candidate.tier <= tier);
            up_to.filter(|candidate| candidate.standing == Standing::Serving).count()
        };
        let tier = tiers.iter().copied().find(|tier| healthy_up_to(*tier) >= needed).unwrap_or(last);
        let healthy = healthy_up_to(u8::MAX);
        let unknown = wanted().filter(|candidate| is_unknown(candidate.standing)).count();
        // Who was below stays so until there are enough; who was not waits for the verdicts that may still make it.
        let is_below = healthy < needed && (self.state != FloorState::Met || healthy + unknown < needed);
        self.state = match policy.below_min {
            _ if !is_below => FloorState::Met,
            // There is nobody to trust.
            BelowMin::FailOpen | BelowMin::Backup if tiers.is_empty() => FloorState::Met,
            BelowMin::FailOpen => FloorState::Open,
            BelowMin::FailClosed => FloorState::Closed,
            BelowMin::Backup => FloorState::Backup,
        };
        let decided = |candidate: &Candidate| {
            let kept = match self.state {
                _ if candidate.standing == Standing::Serving => None,
                FloorState::Open if candidate.tier == first => Some(Kept::Open),
                FloorState::Backup if candidate.tier == last => Some(Kept::Backup),
                _ if held.contains(&candidate.address) => Some(Kept::Cap),
                _ => return Decided { standing: candidate.standing, kept: None },
            };
            match self.state {
                FloorState::Closed => Decided { standing: Standing::Draining(Cause::Closed), kept: None },
                _ if candidate.tier > tier => {
                    Decided { standing: Standing::Draining(Cause::Standby), kept: None }
                }
                _ => Decided { standing: Standing::Serving, kept },
            }
        };
        let backends: BTreeMap<IpAddr, Decided> = candidates
            .iter()
            .map(|candidate| {
                let by_itself = Decided { standing: candidate.standing, kept: None };
                (candidate.address, if candidate.wanted { decided(candidate) } else { by_itself })
            })
            .collect();
        let serving = backends.iter().filter(|(_, decided)| decided.standing == Standing::Serving);
        self.serving = serving.map(|(address, _)| *address).collect();
        let summary = FloorStatus {
            state: self.state,
            healthy: healthy as u32,
            needed: needed as u32,
            wanted: wanted().count() as u32,
            tier,
            held: held.len() as u32,
        };
        Decision { backends, summary }
    }

    /// Takes out whom checks may take out now, and returns whom they may not, although they would.
    fn remove(&mut self, policy: &FloorPolicy, candidates: &[Candidate], now: Instant) -> BTreeSet<IpAddr> {
        let failed = |candidate: &&Candidate| candidate.wanted && is_failed(candidate.standing);
        let down: BTreeSet<IpAddr> =
            candidates.iter().filter(failed).map(|candidate| candidate.address).collect();
        self.removed.retain(|address, _| down.contains(address));
        let wanted = candidates.iter().filter(|candidate| candidate.wanted).count();
        let most = (wanted * usize::from(policy.max_removed_percent)).div_ceil(100);
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < WINDOW;
        let mut recent = self.removed.values().flatten().filter(|at| is_recent(at)).count();
        let mut held = BTreeSet::new();
        for address in down {
            if self.removed.contains_key(&address) {
                continue;
            }
            if !self.serving.contains(&address) {
                // Nothing is taken from it.
                self.removed.insert(address, None);
            } else if recent < most {
                recent += 1;
                self.removed.insert(address, Some(now));
            } else {
                held.insert(address);
            }
        }
        let oldest = self.removed.values().flatten().filter(|at| is_recent(at)).min();
        self.next = oldest.filter(|_| !held.is_empty()).map(|at| *at + WINDOW);
        held
    }
}

fn is_failed(standing: Standing) -> bool {
    matches!(standing.cause(), Some(Cause::Unhealthy | Cause::Unreachable))
}

fn is_unknown(standing: Standing) -> bool {
    standing.cause() == Some(Cause::NotChecked)
}
