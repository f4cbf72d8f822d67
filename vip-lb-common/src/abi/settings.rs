//! What the whole program obeys.

use crate::hash::HashKey;

/// First word of the settings: tells a filled map from an empty one.
pub const SETTINGS_MAGIC: u64 = 0x76_69_70_2d_6c_62_30_31;

/// Changes whenever the layout or the meaning of any map does.
pub const LAYOUT_VERSION: u32 = 2;

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
    /// UDP port that GUE packets go to, and that those of peers come to.
    pub gue_port: u16,
    /// First of the ports that translated connections have on this node.
    pub nat_first_port: u16,
    /// How many ports there are from that one on, at least 1.
    pub nat_ports: u16,
    /// Zero.
    pub reserved: u16,
    /// Keys the flow hash.
    pub hash: HashKey,
}

impl Settings {
    /// Settings under which nothing is recorded and nobody is a peer.
    pub const fn new(hash: HashKey) -> Self {
        Self {
            magic: SETTINGS_MAGIC,
            layout: LAYOUT_VERSION,
            flags: 0,
            tick: 0,
            record_budget: 0,
            survivor_budget: 0,
            fresh_until: 0,
            gue_port: 0,
            nat_first_port: 0,
            nat_ports: 1,
            reserved: 0,
            hash,
        }
    }

    /// PEERS has entries.
    pub const PEERS: u32 = 1;
}
