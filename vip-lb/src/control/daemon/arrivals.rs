//! How many connections begin, over about the last minute: what estimates of plans are made of.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Weight of what is past halves in about two thirds of this.
const MEMORY: Duration = Duration::from_secs(30);

/// Mean rates of many counters.
#[derive(Debug)]
pub(super) struct Arrivals<K> {
    counters: HashMap<K, Counter>,
}

#[derive(Clone, Copy, Debug)]
struct Counter {
    begun: Instant,
    count: u64,
    at: Instant,
    per_second: f64,
}

impl<K> Default for Arrivals<K> {
    fn default() -> Self {
        Self { counters: HashMap::new() }
    }
}

impl<K: Eq + Hash> Arrivals<K> {
    /// Takes in what a counter shows now. One that shows less than before was set to zero meanwhile.
    pub(super) fn read(&mut self, key: K, count: u64, now: Instant) {
        let fresh = Counter { begun: now, count, at: now, per_second: 0.0 };
        let counter = self.counters.entry(key).or_insert(fresh);
        let elapsed = now.duration_since(counter.at);
        if elapsed.is_zero() {
            return;
        }
        let Some(more) = count.checked_sub(counter.count) else {
            *counter = fresh;
            return;
        };
        let rate = more as f64 / elapsed.as_secs_f64();
        // At first the plain mean, later one that forgets.
        let part =
            elapsed.as_secs_f64() / now.duration_since(counter.begun).min(MEMORY).max(elapsed).as_secs_f64();
        counter.per_second += (rate - counter.per_second) * part;
        (counter.count, counter.at) = (count, now);
    }

    /// Forgets counters that were not read at `now`.
    pub(super) fn keep_read_at(&mut self, now: Instant) {
        self.counters.retain(|_, counter| counter.at == now);
    }

    /// What a counter gained per second; 0 if nothing is known of it.
    pub(super) fn per_second(&self, key: &K) -> f64 {
        self.counters.get(key).map_or(0.0, |counter| counter.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn a_rate_is_a_mean_that_forgets() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.per_second(&1), 0.0);
        arrivals.read(1, 1000, at(0));
        assert_eq!(arrivals.per_second(&1), 0.0, "what was before is not known");
        arrivals.read(1, 1300, at(1));
        arrivals.read(1, 1400, at(2));
        assert!((arrivals.per_second(&1) - 200.0).abs() < 1e-9, "the mean of two seconds");
        let mut count = 1400;
        for second in 3..400 {
            count += 10;
            arrivals.read(1, count, at(second));
        }
        assert!((arrivals.per_second(&1) - 10.0).abs() < 0.1, "{}", arrivals.per_second(&1));
        arrivals.read(1, 5, at(400));
        assert_eq!(arrivals.per_second(&1), 0.0, "another counter under the same number");
        arrivals.keep_read_at(at(401));
        arrivals.read(1, 5, at(402));
        assert_eq!(arrivals.per_second(&1), 0.0);
    }
}
