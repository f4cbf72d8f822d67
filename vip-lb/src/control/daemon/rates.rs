//! Rates from counters read at intervals.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use vip_lb_common::abi::Stats;

use crate::api::model::Traffic;

/// The last two readings of many counters.
#[derive(Debug)]
pub(super) struct Rates<K> {
    readings: HashMap<K, Reading>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    stats: Stats,
    at: Instant,
    since_last: Stats,
    elapsed: Duration,
}

impl<K> Default for Rates<K> {
    fn default() -> Self {
        Self { readings: HashMap::new() }
    }
}

impl<K: Eq + Hash> Rates<K> {
    /// Takes in what a counter shows now. One that shows less than before was set to zero meanwhile.
    pub(super) fn read(&mut self, key: K, stats: Stats, now: Instant) {
        let last = self.readings.get(&key).filter(|last| last.stats.packets <= stats.packets);
        let reading = match last {
            None => Reading { stats, at: now, since_last: Stats::default(), elapsed: Duration::ZERO },
            Some(last) => Reading {
                stats,
                at: now,
                since_last: Stats {
                    packets: stats.packets - last.stats.packets,
                    bytes: stats.bytes.saturating_sub(last.stats.bytes),
                    new_connections: stats.new_connections.saturating_sub(last.stats.new_connections),
                },
                elapsed: now.duration_since(last.at),
            },
        };
        self.readings.insert(key, reading);
    }

    /// Forgets counters that were not read at `now`.
    pub(super) fn keep_read_at(&mut self, now: Instant) {
        self.readings.retain(|_, reading| reading.at == now);
    }

    /// Packets per second as of the last two readings.
    pub(super) fn packets_per_second(&self, key: &K) -> f64 {
        self.traffic(key, Stats::default()).packets_per_second
    }

    /// Totals as given, rates as of the last two readings.
    pub(super) fn traffic(&self, key: &K, totals: Stats) -> Traffic {
        let per_second = |count: u64, reading: &Reading| count as f64 / reading.elapsed.as_secs_f64();
        let reading = self.readings.get(key).filter(|reading| !reading.elapsed.is_zero());
        let rate =
            |count: fn(&Stats) -> u64| reading.map_or(0.0, |last| per_second(count(&last.since_last), last));
        Traffic {
            packets: totals.packets,
            bytes: totals.bytes,
            new_connections: totals.new_connections,
            packets_per_second: rate(|stats| stats.packets),
            bits_per_second: rate(|stats| stats.bytes * 8),
            new_connections_per_second: rate(|stats| stats.new_connections),
        }
    }

    /// What a counter gained between its last two readings, and how long that was; nothing before the second one.
    pub(super) fn gained(&self, key: &K) -> Option<(Stats, Duration)> {
        let reading = self.readings.get(key).filter(|reading| !reading.elapsed.is_zero())?;
        Some((reading.since_last, reading.elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn rates_are_differences_over_time_and_a_reset_counter_is_no_flood() {
        let start = Instant::now();
        let stats = |packets| Stats { packets, bytes: packets * 100, new_connections: packets / 10 };
        let mut rates = Rates::default();
        assert_eq!(rates.traffic(&1, stats(5)).packets_per_second, 0.0, "nothing was read yet");
        rates.read(1, stats(100), start);
        rates.read(1, stats(300), start + Duration::from_secs(2));
        let traffic = rates.traffic(&1, stats(301));
        assert_eq!((traffic.packets, traffic.packets_per_second), (301, 100.0));
        assert_eq!((traffic.bits_per_second, traffic.new_connections_per_second), (80_000.0, 10.0));
        rates.read(1, stats(7), start + Duration::from_secs(3));
        assert_eq!(rates.traffic(&1, stats(7)).packets_per_second, 0.0);
        rates.keep_read_at(start);
        assert!(rates.readings.is_empty());
    }
}
