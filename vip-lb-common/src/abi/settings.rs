//! What the whole program obeys.

use core::mem::offset_of;

use crate::hash::HashKey;

/// First word of the settings: tells a filled map from an empty one.
pub const SETTINGS_MAGIC: u64 = 0x76_69_70_2d_6c_62_30_31;

/// Changes whenever the layout or the meaning of any map does.
pub const LAYOUT_VERSION: u32 = 3;

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
    /// Seconds after `fresh_until` for which packets are balanced without a daemon; only with [`WATCHDOG`](Self::WATCHDOG).
    pub patience: u16,
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
            patience: 0,
            hash,
        }
    }

    /// PEERS has entries.
    pub const PEERS: u32 = 1;
    /// Packets go to the host when `patience` is over.
    pub const WATCHDOG: u32 = 1 << 1;
    /// WATCHERS has entries, which hold as long as `fresh_until`.
    pub const WATCHED: u32 = 1 << 2;

    /// Whether the maps are filled, and no flag asks more of packets.
    #[inline(always)]
    pub fn is_usual(&self) -> bool {
        const PLACE: usize = offset_of!(Settings, layout) / size_of::<u64>();
        const _: () = assert!(
            offset_of!(Settings, layout) == PLACE * size_of::<u64>()
                && offset_of!(Settings, flags) == offset_of!(Settings, layout) + size_of::<u32>()
        );
        const USUAL: u64 = if cfg!(target_endian = "little") {
            LAYOUT_VERSION as u64
        } else {
            (LAYOUT_VERSION as u64) << u32::BITS
        };
        // Both words in one comparison: LLVM would load each for itself.
        // SAFETY: they are side by side, within the settings and aligned as a word of 64 bits.
        let both = unsafe { (&raw const *self).cast::<u64>().add(PLACE).read() };
        both == USUAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_filled_settings_without_flags_are_usual() {
        let usual = Settings::new(HashKey::from_seed(&[7; 32]));
        assert!(usual.is_usual());
        for flag in [Settings::PEERS, Settings::WATCHDOG, Settings::WATCHED] {
            assert!(!Settings { flags: flag, ..usual }.is_usual(), "{flag}");
        }
        // An array that nobody has written yet.
        assert!(!Settings { layout: 0, ..usual }.is_usual());
        assert!(!Settings { layout: LAYOUT_VERSION + 1, ..usual }.is_usual());
    }
}
