//! How often the active node speaks, and what follows from it.

use std::time::Duration;

/// Time between two adverts: 1 to 4095 hundredths of a second (RFC 9568 section 5.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(u16);

impl Interval {
    /// The longest that fits the twelve bits of an advert.
    pub const MAX: u16 = 0xfff;

    /// What RFC 9568 section 6.1 proposes: one second.
    pub const DEFAULT: Self = Self(100);

    /// From hundredths of a second; `None` unless 1 to 4095.
    #[must_use]
    pub const fn from_centis(centis: u16) -> Option<Self> {
        if centis == 0 || centis > Self::MAX { None } else { Some(Self(centis)) }
    }

    /// In hundredths of a second.
    #[must_use]
    pub const fn centis(self) -> u16 {
        self.0
    }

    /// As a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 10)
    }

    /// How much longer a node of this priority waits than three intervals, so that the highest one is first: Skew_Time
    /// (RFC 9568 section 6.1). Kept in microseconds, not rounded to hundredths of a second: at 10 ms it would
    /// always be 0, and all nodes would act at once.
    #[must_use]
    pub const fn skew(self, priority: Priority) -> Duration {
        Duration::from_micros((256 - priority.get() as u64) * self.0 as u64 * 10_000 / 256)
    }

    /// How long the active node may be silent before a node of this priority takes its place: Active_Down_Interval.
    #[must_use]
    pub fn down(self, priority: Priority) -> Duration {
        self.lease() + self.skew(priority)
    }

    /// How long a node that hands over waits for another one: the longest skew of all, and as long for that node to run and its advert to come,
    /// a tenth of a second at least. No RFC says so.
    #[must_use]
    pub fn offer(self) -> Duration {
        self.duration() + self.duration().max(Duration::from_millis(100))
    }

    /// For how long one advert entitles its sender to answer: less than any node waits that heard it.
    #[must_use]
    pub const fn lease(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 30)
    }
}

/// Who is preferred: 1 to 255, higher first (RFC 9568 section 5.2.4). 255 is for the node that owns the addresses. Zero, by which an
/// active node says that it stops, is not a priority that a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u8);

impl Priority {
    /// Of a node that has the addresses as its own.
    pub const OWNER: Self = Self(255);

    /// What RFC 9568 section 6.1 proposes for the others.
    pub const DEFAULT: Self = Self(100);

    /// `None` for zero.
    #[must_use]
    pub const fn new(priority: u8) -> Option<Self> {
        if priority == 0 { None } else { Some(Self(priority)) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Lowered by what tracking found wrong; 1 at least, and an owner stays one.
    #[must_use]
    pub const fn lowered(self, by: u8) -> Self {
        match self.0 {
            255 => self,
            priority if priority > by => Self(priority - by),
            _ => Self(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9568 section 6.1.
    #[test]
    fn a_higher_priority_waits_less_and_all_wait_longer_than_the_lease() {
        let interval = Interval::DEFAULT;
        let waits = |priority| interval.down(Priority(priority));
        assert_eq!(waits(100), Duration::from_micros(3_609_375));
        assert_eq!(waits(255), Duration::from_micros(3_003_906));
        assert!((1..255).all(|priority| waits(priority) > waits(priority + 1)));
        assert!((1..=Interval::MAX).all(|centis| {
            let interval = Interval(centis);
            interval.down(Priority::OWNER) > interval.lease()
        }));
    }

    #[test]
    fn an_interval_is_twelve_bits_and_not_zero() {
        assert_eq!(Interval::from_centis(0), None);
        assert_eq!(Interval::from_centis(4096), None);
        assert_eq!(Interval::from_centis(4095).map(Interval::centis), Some(4095));
    }

    #[test]
    fn tracking_lowers_to_one_and_leaves_owners_alone() {
        assert_eq!(Priority(100).lowered(30), Priority(70));
        assert_eq!(Priority(100).lowered(200), Priority(1));
        assert_eq!(Priority::OWNER.lowered(200), Priority::OWNER);
    }
}
