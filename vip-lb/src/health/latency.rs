//! How long probes take: percentiles of the last ones, counts by duration since the daemon started, and who is much slower than its peers.
//!
//! It is seen from this node, over the way that its probes take. Only good probes count: a bad one says when it was given up, not how fast the
//! backend is.

use std::{collections::VecDeque, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Good probes that percentiles are of, at most: the last ones.
pub const WINDOW: usize = 100;

/// Upper bounds of the histogram's buckets, microseconds.
pub const BOUNDS_US: [u64; 6] = [500, 2_000, 10_000, 50_000, 250_000, 1_000_000];

/// Fewer good probes than this say nothing about who is slow.
const ENOUGH: u32 = 10;
/// A backend is slow that takes so many times as long as its peers,
const TIMES: f64 = 3.0;
/// and so many milliseconds longer: what a scheduler does to a fast backend is no news.
const LONGER_MS: f64 = 2.0;
/// Peers that it takes to compare.
const PEERS: usize = 2;

/// The good probes of one target.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// From the start of a probe to the accepted connection, of kinds that connect.
    pub connect: Series,
    /// From its start to the answer.
    pub whole: Series,
}

impl Latencies {
    /// Takes in a good probe.
    pub fn note(&mut self, connect: Option<Duration>, whole: Duration) {
        if let Some(connect) = connect {
            self.connect.note(connect);
        }
        self.whole.note(whole);
    }
}

/// One sort of duration.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Microseconds, the oldest first.
    recent: VecDeque<u32>,
    histogram: Histogram,
}

/// Counts by duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many were within each of [`BOUNDS_US`] and no bound before it, and how many beyond the last.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// All of them together, microseconds.
    pub sum_us: u64,
}

impl Series {
    fn note(&mut self, duration: Duration) {
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX));
        self.histogram.note(duration);
    }

    /// Of the last ones; nothing before the first.
    #[must_use]
    pub fn percentiles(&self) -> Option<Percentiles> {
        let mut sorted: Vec<u32> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        // The nearest rank: the smallest one that as many percent are not above.
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            f64::from(sorted[rank.saturating_sub(1).min(last)]) / 1000.0
        };
        Some(Percentiles { p50_ms: at(50), p90_ms: at(90), p99_ms: at(99), probes: sorted.len() as u32 })
    }

    /// Since the daemon began to probe the target.
    #[must_use]
    pub fn histogram(&self) -> Histogram {
        self.histogram
    }
}

impl Histogram {
    /// Bound of each bucket in microseconds, none of the last one, and how many are within it and within none before it.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        BOUNDS_US.into_iter().map(Some).chain([None]).zip(self.counts)
    }

    fn note(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS_US.len());
        self.counts[bucket] += 1;
        self.sum_us = self.sum_us.saturating_add(micros);
    }
}

/// How long most of some probes took, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentiles {
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// Nine of ten.
    pub p90_ms: f64,
    /// Ninety-nine of a hundred.
    pub p99_ms: f64,
    /// How many there were: the last hundred at most.
    pub probes: u32,
}

/// That a backend is much slower than the others of its service.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Slower {
    /// How many times as long its probes take.
    pub times: f64,
    /// The median of its peers' medians, milliseconds.
    pub peers_p50_ms: f64,
}

/// Whether somebody is much slower than its peers.
#[must_use]
pub fn slower(own: Percentiles, peers: impl IntoIterator<Item = Percentiles>) -> Option<Slower> {
    let mut peers: Vec<f64> =
        peers.into_iter().filter(|peer| peer.probes >= ENOUGH).map(|peer| peer.p50_ms).collect();
    if own.probes < ENOUGH || peers.len() < PEERS {
        return None;
    }
    peers.sort_unstable_by(f64::total_cmp);
    let peers_p50_ms = peers[(peers.len() - 1) / 2];
    let is_slow = own.p50_ms >= peers_p50_ms * TIMES && own.p50_ms - peers_p50_ms >= LONGER_MS;
    is_slow.then(|| Slower { times: own.p50_ms / peers_p50_ms.max(0.001), peers_p50_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(milliseconds: impl IntoIterator<Item = u64>) -> Series {
        let mut series = Series::default();
        milliseconds.into_iter().for_each(|duration| series.note(Duration::from_millis(duration)));
        series
    }

    fn shown(series: &Series) -> Option<(f64, f64, f64, u32)> {
        series.percentiles().map(|of| (of.p50_ms, of.p90_ms, of.p99_ms, of.probes))
    }

    #[test]
    fn percentiles_are_of_the_last_hundred() {
        assert_eq!(shown(&series([])), None);
        assert_eq!(shown(&series([7])), Some((7.0, 7.0, 7.0, 1)));
        assert_eq!(shown(&series([3, 1])), Some((1.0, 3.0, 3.0, 2)));
        assert_eq!(shown(&series(1..=100)), Some((50.0, 90.0, 99.0, 100)));
        assert_eq!(
            shown(&series((1..=1000).rev())),
            Some((50.0, 90.0, 99.0, 100)),
            "the others are forgotten"
        );
    }

    #[test]
    fn histograms_count_everything() {
        let mut series = series([]);
        for micros in [1, 500, 501, 2_000, 300_000, 5_000_000] {
            series.note(Duration::from_micros(micros));
        }
        let histogram = series.histogram();
        assert_eq!(histogram.counts, [2, 2, 0, 0, 0, 1, 1]);
        assert_eq!(histogram.sum_us, 5_303_002);
    }

    #[test]
    fn who_takes_much_longer_than_its_peers_is_slow() {
        let of = |p50_ms, probes| Percentiles { p50_ms, p90_ms: 0.0, p99_ms: 0.0, probes };
        let is_slow = |own, peers: &[Percentiles]| slower(own, peers.iter().copied());
        let peers = [of(1.0, 20), of(2.0, 20), of(90.0, 20)];
        assert_eq!(is_slow(of(20.0, 20), &peers), Some(Slower { times: 10.0, peers_p50_ms: 2.0 }));
        assert_eq!(is_slow(of(5.9, 20), &peers), None, "not three times as long");
        assert_eq!(is_slow(of(20.0, 9), &peers), None, "too few probes");
        assert_eq!(is_slow(of(20.0, 20), &[of(1.0, 20), of(1.0, 9)]), None, "one peer is no measure");
        assert_eq!(is_slow(of(0.9, 20), &[of(0.1, 20), of(0.1, 20)]), None, "nobody notices that");
    }
}
