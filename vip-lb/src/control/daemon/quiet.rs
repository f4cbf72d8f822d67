//! Since when no packet has come: what the drain of a node waits for.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Counters that only grow while packets come, by service.
#[derive(Debug)]
pub(super) struct Quiet {
    /// The node is drained since then, or the daemon knows nothing of before.
    begun: Instant,
    services: HashMap<u16, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    packets: u64,
    /// When it was seen to have grown.
    at: Instant,
    read_at: Instant,
}

impl Quiet {
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now, services: HashMap::new() }
    }

    /// Counts from now on.
    pub(super) fn begin(&mut self, now: Instant) {
        self.begun = now;
    }

    /// Takes in what a counter shows now. That it shows anything at first says nothing about when it grew.
    pub(super) fn read(&mut self, service: u16, packets: u64, now: Instant) {
        let seen = self.services.entry(service).or_insert(Seen { packets, at: now, read_at: now });
        if seen.packets != packets {
            (seen.packets, seen.at) = (packets, now);
        }
        seen.read_at = now;
    }

    /// Forgets counters that were not read at `now`.
    pub(super) fn keep_read_at(&mut self, now: Instant) {
        self.services.retain(|_, seen| seen.read_at == now);
    }

    /// For how long a service has had no packet, as of the last reading; not at all if it was never read.
    pub(super) fn lasts(&self, service: u16) -> Duration {
        self.services
            .get(&service)
            .map_or(Duration::ZERO, |seen| seen.read_at.saturating_duration_since(seen.at.max(self.begun)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn quiet_is_what_counters_have_stood_still_for_since_the_drain_began() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut quiet = Quiet::new(start);
        assert_eq!(quiet.lasts(1), Duration::ZERO, "nothing is known of it");
        quiet.read(1, 500, at(1));
        quiet.read(1, 500, at(4));
        assert_eq!(quiet.lasts(1), Duration::from_secs(3));
        quiet.begin(at(6));
        assert_eq!(quiet.lasts(1), Duration::ZERO, "clients were still sent here");
        quiet.read(1, 500, at(10));
        assert_eq!(quiet.lasts(1), Duration::from_secs(4));
        quiet.read(1, 501, at(11));
        quiet.read(1, 501, at(13));
        assert_eq!(quiet.lasts(1), Duration::from_secs(2));
        quiet.read(1, 0, at(14));
        assert_eq!(quiet.lasts(1), Duration::ZERO, "the counter began anew: nobody knows");
        quiet.keep_read_at(at(15));
        assert!(quiet.services.is_empty());
    }
}
