//! What is known of one backend from its sampled flows: counts, how long handshakes take, and what was suspected.

use vip_lb_common::abi::{Sample, SampleState};

/// Buckets of a histogram.
const BUCKETS: usize = 24;

/// The bound of the first bucket, as a power of two of microseconds.
const FIRST: u32 = 4;

/// Durations by powers of two: the first bucket holds those up to 16 µs, each further one up to twice as much, the last one all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many fell into each bucket.
    counts: [u64; BUCKETS],
    /// All of them together, in microseconds.
    sum: u64,
}

impl Histogram {
    /// The largest duration of a bucket, in microseconds; `None` of the last one.
    fn bound(bucket: usize) -> Option<u64> {
        (bucket + 1 < BUCKETS).then(|| 1 << (FIRST as usize + bucket))
    }

    /// Adds a duration in microseconds.
    pub fn add(&mut self, microseconds: u32) {
        let power = u64::from(microseconds.max(1)).next_power_of_two().trailing_zeros();
        self.counts[(power.saturating_sub(FIRST) as usize).min(BUCKETS - 1)] += 1;
        self.sum += u64::from(microseconds);
    }

    /// Bound of each bucket in microseconds, none of the last one, and how many are within it and within none before it.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        self.counts.iter().enumerate().map(|(bucket, count)| (Self::bound(bucket), *count))
    }

    /// All of them together, in microseconds.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The bound, in microseconds, below which this share of all is; `None` if there are none, or it is beyond all bounds.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = (self.total() as f64 * share).ceil().max(1.0) as u64;
        let mut below = 0;
        let reached = self.counts.iter().position(|count| {
            below += count;
            below >= wanted
        });
        reached.and_then(Self::bound)
    }
}

/// The last of many durations, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Recent {
    kept: Vec<u32>,
    next: usize,
}

impl Recent {
    const KEPT: usize = 63;
    /// Fewer say nothing of what is usual.
    const FEWEST: usize = 8;

    fn add(&mut self, microseconds: u32) {
        if self.kept.len() < Self::KEPT {
            self.kept.push(microseconds);
        } else {
            self.kept[self.next] = microseconds;
        }
        self.next = (self.next + 1) % Self::KEPT;
    }

    /// The one in the middle.
    pub(super) fn median(&self) -> Option<u64> {
        let mut sorted = self.kept.clone();
        sorted.sort_unstable();
        (sorted.len() >= Self::FEWEST).then(|| u64::from(sorted[sorted.len() / 2]))
    }
}

/// What the sampled flows of a backend have shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Flows whose SYN was seen.
    pub begun: u64,
    /// Time from the SYN to the first acknowledgement after it.
    pub handshakes: Histogram,
    /// SYNs that came again.
    pub syn_again: u64,
    /// Data that came again, with nothing new acknowledged in between.
    pub data_again: u64,
    /// Data that nothing had followed for a second.
    pub silent: u64,
    /// How often it was suspected.
    pub suspicions: u64,
    pub(super) recent_handshakes: Recent,
    pub(super) recent_answers: Recent,
}

impl Account {
    /// Adds what happened between two looks at a place of SAMPLES.
    pub(super) fn note(&mut self, before: &Sample, now: &Sample) {
        let known = |of: &Sample| (of.source, of.ports, of.service, of.begun);
        let is_free = SampleState::from_u8(now.state) == SampleState::Free;
        if is_free {
            return;
        }
        // Nothing is known of a flow that was not there.
        let before = if known(before) == known(now) { *before } else { Sample::default() };
        self.begun += u64::from(now.begun != 0 && before.begun == 0);
        self.syn_again += u64::from(now.syn_again.saturating_sub(before.syn_again));
        if now.shaken_after != 0 && before.shaken_after == 0 {
            self.handshakes.add(now.shaken_after);
            self.recent_handshakes.add(now.shaken_after);
        }
        let same_data = now.asked == before.asked;
        let again = if same_data { before.data_again } else { 0 };
        self.data_again += u64::from(now.data_again.saturating_sub(again));
        if now.answered_after != 0 && !(same_data && before.answered_after != 0) {
            self.recent_answers.add(now.answered_after);
        }
    }
}

/// Suspicions of one backend for one question, held off for longer each time: what probes found nothing about must not have them again at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hold {
    until: u64,
    span: u64,
    /// How many questions the last one rested on.
    unanswered: u32,
}

impl Hold {
    /// In nanoseconds.
    const FIRST: u64 = 1_000_000_000;
    const LONGEST: u64 = 64_000_000_000;
    /// So many times as many questions as last time are news, held off or not.
    const NEWS: u32 = 4;

    /// Whether there may be a suspicion at `now`, in nanoseconds, that rests on so many questions; if so, there is none for a while.
    pub(super) fn admits(&mut self, now: u64, unanswered: u32) -> bool {
        if now < self.until && unanswered < self.unanswered.saturating_mul(Self::NEWS) {
            return false;
        }
        self.unanswered = unanswered;
        // Calm for as long again: forgotten.
        let is_forgotten = now >= self.until + self.span;
        self.span = if is_forgotten { Self::FIRST } else { (2 * self.span).min(Self::LONGEST) };
        self.until = now + self.span;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_powers_of_two() {
        let mut histogram = Histogram::default();
        for (microseconds, bucket) in
            [(0, 0), (1, 0), (16, 0), (17, 1), (32, 1), (33, 2), (1024, 6), (u32::MAX, 23)]
        {
            let before = histogram.counts[bucket];
            histogram.add(microseconds);
            assert_eq!(histogram.counts[bucket], before + 1, "{microseconds} µs");
        }
        assert_eq!(
            (Histogram::bound(0), Histogram::bound(6), Histogram::bound(23)),
            (Some(16), Some(1024), None)
        );
        assert_eq!(histogram.total(), 8);
    }

    #[test]
    fn quantiles_are_bounds() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (0..99).for_each(|_| histogram.add(300));
        histogram.add(5000);
        assert_eq!(
            (histogram.quantile(0.5), histogram.quantile(0.99), histogram.quantile(1.0)),
            (Some(512), Some(512), Some(8192))
        );
    }

    #[test]
    fn what_happened_between_two_looks_counts_once() {
        let mut account = Account::default();
        let syn = Sample { begun: 7, state: SampleState::Handshake as u8, ..Sample::default() };
        let again = Sample { syn_again: 2, ..syn };
        let shaken = Sample { shaken_after: 900, state: SampleState::Established as u8, ..again };
        let asked = Sample { asked: 9, data_again: 3, state: SampleState::Asked as u8, ..shaken };
        let answered =
            Sample { answered_after: 50, data_again: 0, state: SampleState::Established as u8, ..asked };
        let mut before = Sample::default();
        for now in [syn, syn, again, shaken, shaken, asked, asked, answered, answered] {
            account.note(&before, &now);
            before = now;
        }
        assert_eq!((account.begun, account.syn_again, account.data_again), (1, 2, 3));
        assert_eq!((account.handshakes.total(), account.handshakes.sum), (1, 900));
        // All of it between two looks, and another flow in the place.
        account.note(&before, &Sample { begun: 8, ..answered });
        assert_eq!((account.begun, account.syn_again, account.handshakes.total()), (2, 4, 2));
        account.note(&Sample::default(), &Sample::default());
        assert_eq!(account.begun, 2);
    }

    #[test]
    fn a_suspicion_that_comes_again_and_again_comes_ever_more_rarely() {
        let (mut hold, mut times, second) = (Hold::default(), Vec::new(), 1_000_000_000);
        for tenth in 100..3000 {
            if hold.admits(tenth * second / 10, 5) {
                times.push(tenth - 100);
            }
        }
        assert_eq!(times, [0, 10, 30, 70, 150, 310, 630, 1270, 1910, 2550]);
        assert!(hold.admits(10_000 * second, 5));
        assert!(
            !hold.admits(10_000 * second, 5) && hold.admits(10_001 * second, 5),
            "as if there had been none"
        );
    }

    #[test]
    fn what_has_grown_much_is_not_held_off() {
        let (mut hold, second) = (Hold::default(), 1_000_000_000);
        assert!(hold.admits(100 * second, 5));
        assert!(!hold.admits(100 * second + 1, 19));
        assert!(hold.admits(100 * second + 2, 20));
        assert!(!hold.admits(100 * second + 3, 79));
        assert!(!hold.admits(101 * second, 30), "the second one is held off for longer");
        assert!(hold.admits(102 * second + 2, 3));
    }
}
