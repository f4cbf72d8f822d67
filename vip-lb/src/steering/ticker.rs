//! The clock of all records.

use std::time::Duration;

/// Shortest time between two ticks.
const SECOND: Duration = Duration::from_secs(1);

/// Counts ticks: at most one per second, never several at once.
///
/// A daemon that stood still must not leap: flows that sent all the while are stamped with the tick of the
/// standstill, and would seem to have been silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticker {
    tick: u32,
    last: Duration,
}

impl Ticker {
    /// Continues from the tick found in SETTINGS (0 in a new one). `now` is any monotonic time.
    pub fn new(tick: u32, now: Duration) -> Self {
        Self { tick, last: now }
    }

    /// The tick that SETTINGS shall hold.
    pub fn tick(&self) -> u32 {
        self.tick
    }

    /// The next tick, if a second has passed since the last one.
    pub fn advance(&mut self, now: Duration) -> Option<u32> {
        if now.saturating_sub(self.last) < SECOND {
            return None;
        }
        self.last = now;
        self.tick += 1;
        Some(self.tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_at_least_a_second_apart_and_never_leap() {
        let at = Duration::from_millis;
        let mut ticker = Ticker::new(7, at(500));
        assert_eq!(ticker.advance(at(1499)), None);
        assert_eq!(ticker.advance(at(1600)), Some(8));
        assert_eq!(ticker.advance(at(2500)), None, "a late tick delays the next");
        assert_eq!(ticker.advance(at(900_000)), Some(9), "a standstill counts for one");
        assert_eq!(ticker.advance(at(900_500)), None);
        assert_eq!(ticker.tick(), 9);
    }
}
