//! What is tracked, and what follows: pure.

use crate::config::model::{TrackEffect, TrackedCommand};

/// How the runs of a command went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Whether it is well; nothing before the first run.
    verdict: Option<bool>,
    /// Runs in a row that contradict it.
    against: u32,
}

impl Runs {
    /// Takes the result of a run. The first one is a verdict by itself; from then on it takes several in a row. Tells whether the verdict changed.
    pub fn note(&mut self, is_good: bool, command: &TrackedCommand) -> bool {
        let Some(verdict) = self.verdict else {
            self.verdict = Some(is_good);
            return true;
        };
        self.against = if is_good == verdict { 0 } else { self.against + 1 };
        let changed = self.against >= if is_good { command.rise } else { command.fall };
        let changed = changed && is_good != verdict;
        if changed {
            (self.verdict, self.against) = (Some(is_good), 0);
        }
        changed
    }

    /// Whether it has failed. Before the first run it has not: a daemon that takes over from another one must not give up what that one had.
    #[must_use]
    pub fn has_failed(self) -> bool {
        self.verdict == Some(false)
    }
}

/// What follows from all that is not well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Toll {
    /// By how much the priority is lowered.
    pub lowered: u8,
    /// Whether the node takes no part.
    pub fault: bool,
}

impl Toll {
    /// Of all that follows.
    pub fn of(effects: impl IntoIterator<Item = TrackEffect>) -> Self {
        effects.into_iter().fold(Self::default(), |toll, effect| match effect {
            TrackEffect::Lower(by) => Self { lowered: toll.lowered.saturating_add(by.get()), ..toll },
            TrackEffect::Fault => Self { fault: true, ..toll },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU8, time::Duration};

    use super::*;

    #[test]
    fn the_first_run_decides_and_later_ones_in_a_row() {
        let second = Duration::from_secs(1);
        let command =
            TrackedCommand { command: Vec::new(), interval: second, timeout: second, rise: 2, fall: 3 };
        let mut runs = Runs::default();
        assert!(!runs.has_failed());
        for (run, (is_good, changed, failed)) in [
            (true, true, false),
            (false, false, false),
            (false, false, false),
            (true, false, false),
            (false, false, false),
            (false, false, false),
            (false, true, true),
            (false, false, true),
            (true, false, true),
            (false, false, true),
            (true, false, true),
            (true, true, false),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!((runs.note(is_good, &command), runs.has_failed()), (changed, failed), "run {run}");
        }
        let mut runs = Runs::default();
        assert!(runs.note(false, &command) && runs.has_failed(), "it began badly");
    }

    #[test]
    fn what_lowers_adds_up() {
        let lower = |by| TrackEffect::Lower(NonZeroU8::new(by).unwrap());
        for (effects, lowered, fault) in [
            (vec![], 0, false),
            (vec![lower(50), lower(30)], 80, false),
            (vec![lower(200), lower(100)], 255, false),
            (vec![TrackEffect::Fault, lower(1)], 1, true),
        ] {
            assert_eq!(Toll::of(effects.clone()), Toll { lowered, fault }, "{effects:?}");
        }
    }
}
