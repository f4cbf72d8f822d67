//! What the whole program obeys.

use crate::hash::HashKey;

/// First word of the settings: tells a filled map from an empty one.
pub const SETTINGS_MAGIC: u64 = 0x76_69_70_2d_6c_62_30_31;

/// Changes whenever the layout or the meaning of any map does.
pub const LAYOUT_VERSION: u32 = 1;

/// The one value of SETTINGS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// [`SETTINGS_MAGIC`].
    pub magic: u64,
    /// [`LAYOUT_VERSION`] of the program that made the pins.
    pub layout: u32,
    /// Combination of the `Settings::*` flags.
    pub flags: u32,
    /// Seconds, advanced by the daemon while slots are open: the clock of all records. Without a daemon it stands
    /// still, budgets are soon spent, and unknown flows go where settled ones are: forwarding is safe, only changes wait.
    pub tick: u32,
    /// Flows that each CPU may record in a tick; 0 when FLOWS has no room.
    pub record_budget: u32,
    /// Survivors that each CPU may note in a tick.
    pub survivor_budget: u32,
    /// CLOCK_MONOTONIC in seconds until which the daemon counts as alive; asked where a packet would have to wait for it.
    pub fresh_until: u32,
    /// Keys the flow hash.
    pub hash: HashKey,
}

impl Settings {
    /// PEERS has entries.
    pub const PEERS: u32 = 1;
}
