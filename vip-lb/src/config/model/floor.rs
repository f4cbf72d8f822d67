//! What a service wants when backends fail their checks.

use std::fmt;

use super::BelowMin;

/// How many of some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Least {
    /// That many, however many there are.
    Count(u16),
    /// A share of them, in percent, at most 100.
    Percent(u8),
}

impl Least {
    /// As many of so many, rounded up.
    #[must_use]
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Count(count) => count.into(),
            Self::Percent(percent) => (all * usize::from(percent)).div_ceil(100),
        }
    }
}

impl fmt::Display for Least {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// What becomes of a service when backends fail their checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloorPolicy {
    /// How many healthy backends it needs, a share being one of the first tier's that are wanted; default 1.
    pub min_healthy: Least,
    /// What happens with fewer; by default it fails open.
    pub below_min: BelowMin,
    /// The most that checks may take out at once, in percent of the backends that are wanted, rounded up; default 50.
    pub max_removed_percent: u8,
}

impl Default for FloorPolicy {
    fn default() -> Self {
        Self { min_healthy: Least::Count(1), below_min: BelowMin::FailOpen, max_removed_percent: 50 }
    }
}
