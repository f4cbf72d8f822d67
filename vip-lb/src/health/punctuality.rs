//! Whether probes begin when they are due.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A probe that begins by more than this part of its interval later than due is late.
const TOLERATED: u32 = 10;

/// Counts the probes of all targets.
#[derive(Debug, Default)]
pub(super) struct Punctuality {
    begun: AtomicU64,
    late: AtomicU64,
}

/// Probes since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeCounts {
    /// All that began.
    pub begun: u64,
    /// Those of them that began later than due by more than a tenth of their interval: the machine has no time for them, or too many are under
    /// way.
    pub late: u64,
}

impl Punctuality {
    /// Notes that a probe begins, so long after it was due.
    pub(super) fn note(&self, delay: Duration, interval: Duration) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        if delay > interval / TOLERATED {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn counts(&self) -> ProbeCounts {
        ProbeCounts { begun: self.begun.load(Ordering::Relaxed), late: self.late.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, ProbeCounts, Punctuality};

    #[test]
    fn a_probe_is_late_after_a_tenth_of_its_interval() {
        let punctuality = Punctuality::default();
        for delay in [0, 100, 101, 900] {
            punctuality.note(Duration::from_millis(delay), Duration::from_secs(1));
        }
        assert_eq!(punctuality.counts(), ProbeCounts { begun: 4, late: 2 });
    }
}
