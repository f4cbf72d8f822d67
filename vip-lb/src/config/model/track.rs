//! What a virtual router depends on beside its own link.

use std::{fmt, num::NonZeroU8, time::Duration};

use super::Least;

/// One of `track`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Track {
    /// What is looked at.
    pub what: Tracked,
    /// What follows while it is not well.
    pub effect: TrackEffect,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Tracked {
    /// An interface is up and has a link.
    Interface(String),
    /// So many backends of all services of the router's VIPs are healthy; a share is one of those that are wanted in service.
    Healthy(Least),
    /// A command ends with status 0.
    Command(TrackedCommand),
}

/// A command that is run again and again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrackedCommand {
    /// The program by its absolute path, and its arguments.
    pub command: Vec<String>,
    /// From the start of one run to that of the next; a run that lasts longer delays it.
    pub interval: Duration,
    /// After which a run is killed, and has failed.
    pub timeout: Duration,
    /// Good runs in a row that end a failure.
    pub rise: u32,
    /// Bad runs in a row that are a failure.
    pub fall: u32,
}

/// What follows from something that is not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrackEffect {
    /// The priority is lowered by that.
    Lower(NonZeroU8),
    /// The node takes no part.
    Fault,
}

impl fmt::Display for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::Healthy(least) => write!(f, "healthy {least}"),
            Self::Command(of) => write!(f, "command {}", of.command.join(" ")),
        }
    }
}
