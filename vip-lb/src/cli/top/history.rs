//! What was seen so far: the last answers of the daemon, and how the rates went.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::api::model::{Action, Counters, Status};

/// Readings that are kept: as many as a very wide terminal shows.
const KEPT: usize = 240;

/// One reading of the daemon.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// What runs and how it is.
    pub(super) status: Status,
    /// How packets ended.
    pub(super) counters: Counters,
    /// When it was read, seconds since the Unix epoch.
    pub(super) now: f64,
}

/// What a rate is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Series {
    /// All packets to VIPs.
    Node,
    /// A VIP, by its address.
    Vip(String),
    /// A service, by its name.
    Service(String),
    /// A backend, by the names of service and backend.
    Backend(String, String),
    /// A verdict, by its name.
    Verdict(String),
}

/// The last reading, and the rates of packets up to it.
#[derive(Clone, Debug)]
pub(super) struct History {
    last: Reading,
    /// Packets per second, oldest first.
    rates: HashMap<Series, VecDeque<f64>>,
}

impl History {
    pub(super) fn new(first: Reading) -> Self {
        let mut history = Self { last: first, rates: HashMap::new() };
        history.note_traffic();
        history
    }

    /// Takes in what was read after the last reading.
    pub(super) fn push(&mut self, reading: Reading) {
        let elapsed = reading.now - self.last.now;
        if elapsed > 0.0 {
            let before: HashMap<&str, u64> =
                self.last.counters.verdicts.iter().map(|of| (of.verdict.name.as_str(), of.packets)).collect();
            let rates: Vec<(Series, f64)> = reading
                .counters
                .verdicts
                .iter()
                .map(|count| {
                    let name = count.verdict.name.as_str();
                    // Counters that are less than before were begun anew.
                    let more = before.get(name).map_or(0, |before| count.packets.saturating_sub(*before));
                    (Series::Verdict(name.to_owned()), more as f64 / elapsed)
                })
                .collect();
            for (series, rate) in rates {
                self.note(series, rate);
            }
        }
        self.last = reading;
        self.note_traffic();
    }

    pub(super) fn last(&self) -> &Reading {
        &self.last
    }

    /// Packets per second, oldest first; empty if nothing is known.
    pub(super) fn rates(&self, series: &Series) -> Vec<f64> {
        self.rates.get(series).map(|rates| rates.iter().copied().collect()).unwrap_or_default()
    }

    /// Packets per second at the last reading.
    pub(super) fn rate(&self, series: &Series) -> f64 {
        self.rates.get(series).and_then(|rates| rates.back()).copied().unwrap_or(0.0)
    }

    /// Packets per second that ended with this action.
    pub(super) fn rate_of(&self, action: Action) -> f64 {
        let verdicts = self.last.counters.verdicts.iter().filter(|count| count.verdict.action == action);
        verdicts.map(|count| self.rate(&Series::Verdict(count.verdict.name.clone()))).sum()
    }

    fn note_traffic(&mut self) {
        let mut now = vec![];
        let mut all = 0.0;
        for vip in &self.last.status.vips {
            let mut of_vip = 0.0;
            for service in &vip.services {
                let rate = service.traffic.packets_per_second;
                of_vip += rate;
                now.push((Series::Service(service.name.clone()), rate));
                for backend in &service.backends {
                    let series = Series::Backend(service.name.clone(), backend.name.clone());
                    now.push((series, backend.traffic.packets_per_second));
                }
            }
            all += of_vip;
            now.push((Series::Vip(vip.address.to_string()), of_vip));
        }
        now.push((Series::Node, all));
        let there: HashSet<Series> = now.iter().map(|(series, _)| series.clone()).collect();
        self.rates.retain(|series, _| matches!(series, Series::Verdict(_)) || there.contains(series));
        for (series, rate) in now {
            self.note(series, rate);
        }
    }

    fn note(&mut self, series: Series, rate: f64) {
        let rates = self.rates.entry(series).or_default();
        if rates.len() == KEPT {
            rates.pop_front();
        }
        rates.push_back(rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;

    fn reading(now: f64) -> Reading {
        Reading { status: samples::status(), counters: samples::counters(), now }
    }

    #[test]
    fn verdicts_have_rates_from_the_second_reading_on() {
        let mut history = History::new(reading(100.0));
        let dropped = Series::Verdict("unknown_service".into());
        assert_eq!(history.rate(&dropped), 0.0);
        let mut later = reading(102.0);
        later.counters.verdicts[2].packets += 50;
        later.counters.verdicts[0].packets = 0;
        history.push(later);
        assert_eq!((history.rate(&dropped), history.rate_of(Action::Drop)), (25.0, 25.0));
        assert_eq!(history.rate_of(Action::Pass), 0.0, "a counter that began anew is no flood");
    }

    #[test]
    fn what_is_gone_is_forgotten_and_what_stays_is_bounded() {
        let mut history = History::new(reading(0.0));
        for second in 1..500 {
            history.push(reading(f64::from(second)));
        }
        let web = Series::Service("web".into());
        assert_eq!(history.rates(&web).len(), KEPT);
        assert_eq!(history.rates(&Series::Node).last(), Some(&5135.4));
        let mut empty = reading(600.0);
        empty.status.vips.clear();
        history.push(empty);
        assert!(history.rates(&web).is_empty());
        assert_eq!(history.rate(&Series::Node), 0.0);
    }
}
