//! Events at random, one after the other, for as long as one likes.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use xtask::figures::Figure;

use super::{Event, Stage};
use crate::lab::{Mode, interrupt};

/// How long, and in which order.
#[derive(Clone, Debug)]
pub struct SoakOptions {
    /// No event begins after this.
    pub time: Duration,
    /// The same seed plays the same events in the same order.
    pub seed: u64,
    /// The daemon of the commit before; without it events that need it are left out.
    pub previous: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Soak {
    /// How long it took.
    pub took: Duration,
    /// Events that were played.
    pub events: usize,
    /// Short requests that were answered while they were.
    pub requests: f64,
    /// What was not as planned, with its event.
    pub violations: Vec<String>,
}

impl Soak {
    /// `soak.minutes`, `soak.events`, `soak.requests` and `soak.violations`.
    ///
    /// # Errors
    ///
    /// Never: the aims are well formed.
    pub fn figures(&self) -> Result<Vec<Figure>> {
        let minutes = (self.took.as_secs_f64() / 6.0).round() / 10.0;
        Ok(vec![
            Figure::new("soak.minutes", minutes, "min"),
            Figure::new("soak.events", self.events as f64, "events"),
            Figure::new("soak.requests", self.requests.round(), "requests"),
            Figure::new("soak.violations", self.violations.len() as f64, "").aim("== 0")?,
        ])
    }
}

/// Plays events at random and tells each outcome as a line.
///
/// # Errors
///
/// The lab cannot be built, or the process is told to end. What an event breaks is no error but a violation; what makes it impossible to go on
/// in the same lab is one, too, and is followed by a new lab.
pub fn soak(options: &SoakOptions, mut tell: impl FnMut(&str)) -> Result<Soak> {
    let started = Instant::now();
    let mut order = Order(options.seed);
    let events: Vec<Event> = Event::ALL
        .into_iter()
        .filter(|event| options.previous.is_some() || !event.needs_previous())
        .collect();
    let mut soak = Soak::default();
    let mut stage = Stage::start(Mode::L2, options.previous.clone())?;
    while started.elapsed() < options.time {
        interrupt::check()?;
        let event = events[order.below(events.len())];
        soak.events += 1;
        match stage.play(event) {
            Ok(outcome) => {
                tell(&outcome.describe());
                soak.requests += outcome.requests as f64;
                soak.violations
                    .extend(outcome.unplanned.iter().map(|line| format!("{}: {line}", event.name())));
            }
            Err(error) => {
                interrupt::check()?;
                let violation = format!("{}: {error:#}", event.name());
                tell(&format!("{violation}\n"));
                soak.violations.push(violation);
                drop(stage);
                stage = Stage::start(Mode::L2, options.previous.clone())?;
            }
        }
    }
    if soak.violations.is_empty() {
        stage.succeeded();
    }
    soak.took = started.elapsed();
    Ok(soak)
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Order(u64);

impl Order {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        usize::try_from((u128::from(word) * limit as u128) >> 64).expect("less than the limit")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Event, Order};

    #[test]
    fn a_seed_is_an_order_and_all_events_are_in_it() {
        let events = Event::ALL.len();
        let order = |seed| {
            let mut order = Order(seed);
            (0..20 * events).map(|_| order.below(events)).collect::<Vec<_>>()
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        let all: BTreeSet<usize> = order(1).into_iter().collect();
        assert_eq!(all, (0..events).collect());
    }
}
