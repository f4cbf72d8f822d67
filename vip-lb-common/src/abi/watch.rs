//! What those who watch packets ask for, and what they are shown.

use super::{Address, BackendRef, ServiceRef, Slot};
use crate::Verdict;

/// Entries of WATCHERS: how many may watch at a time.
pub const WATCHERS: usize = 4;
/// Bytes of a packet that are shown at most: a jumbo frame with two tags.
pub const SNAP: usize = 9_216;

/// Bytes of EVENTS: some hundred full-size packets as they came and left, some ten thousand headers.
pub const EVENT_BYTES: usize = 2 << 20;

/// Which packets somebody wants to see: those that all of it is true of. The entry is obeyed as long as
/// [`Settings::fresh_until`](super::Settings).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Watcher {
    /// The client, as far as the mask says.
    pub source: Address,
    /// Bits of the client's address that count.
    pub source_mask: Address,
    /// The address dialled, as far as the mask says.
    pub destination: Address,
    /// Bits of the address dialled that count.
    pub destination_mask: Address,
    /// One bit for each [`Verdict`], by its number.
    pub verdicts: u64,
    /// Index of the interface that it comes in by; 0 for any.
    pub interface: u32,
    /// One of so many is shown; 0: nobody watches.
    pub every: u32,
    /// Packets that each CPU may show in a second.
    pub rate: u32,
    /// Port of the client; 0 for any.
    pub source_port: u16,
    /// Port dialled; 0 for any.
    pub destination_port: u16,
    /// Bytes that are shown of a packet, at most [`SNAP`].
    pub snap: u16,
    /// Protocol behind the IP header; 0 for any.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

impl Watcher {
    /// Nobody.
    pub const NOBODY: Self = Self {
        source: Address::UNSPECIFIED,
        source_mask: Address::UNSPECIFIED,
        destination: Address::UNSPECIFIED,
        destination_mask: Address::UNSPECIFIED,
        verdicts: 0,
        interface: 0,
        every: 0,
        rate: 0,
        source_port: 0,
        destination_port: 0,
        snap: 0,
        protocol: 0,
        reserved: [0; 5],
    };

    /// Whether packets with this verdict are wanted.
    #[inline(always)]
    pub fn wants(&self, verdict: u32) -> bool {
        const _: () = assert!(Verdict::COUNTERS <= u64::BITS as usize);
        self.verdicts >> (verdict & 63) & 1 != 0
    }
}

/// What a CPU did for one who watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct WatchCount {
    /// CLOCK_MONOTONIC in seconds that `spent` is of.
    pub second: u32,
    /// Packets shown in it.
    pub spent: u32,
    /// Packets that were asked for.
    pub matched: u64,
    /// Those that were shown.
    pub shown: u64,
    /// Those beyond what may be shown in a second, or without room in EVENTS.
    pub missed: u64,
}

/// A packet as it is shown; its bytes follow, as it came and then as it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Sighting {
    /// CLOCK_MONOTONIC in nanoseconds at which it came.
    pub at: u64,
    /// One bit for each entry of WATCHERS that it is shown to. While it is on its way the upper half has those who would see it only if it
    /// leaves as an answer of what they ask for. 0: nobody sees the packet.
    pub watchers: u32,
    /// Who sent it.
    pub source: Address,
    /// Whom it is for.
    pub destination: Address,
    /// Port of the source; 0 where there is none.
    pub source_port: u16,
    /// Port of the destination; 0 where there is none.
    pub destination_port: u16,
    /// Protocol behind the IP header; 0 where that makes no sense.
    pub protocol: u8,
    /// Why it goes to its backend: a [`Reason`](crate::pipeline::Reason); with [`CHOSEN`](Self::CHOSEN).
    pub reason: u8,
    /// Combination of the `Sighting::*` flags: what is known.
    pub known: u8,
    /// Zero.
    pub reserved: u8,
    /// Interface that it came in by.
    pub ingress: u32,
    /// Interface that it leaves by, if it is forwarded.
    pub egress: u32,
    /// Its [`Verdict`].
    pub verdict: u32,
    /// What its slot held; with [`SLOT`](Self::SLOT).
    pub slot: Slot,
    /// Hash of its flow; with [`SLOT`](Self::SLOT).
    pub hash: u32,
    /// Number of its slot; with [`SLOT`](Self::SLOT).
    pub index: u32,
    /// The backend chosen for it; with [`CHOSEN`](Self::CHOSEN).
    pub backend: BackendRef,
    /// Its service; with [`SERVICE`](Self::SERVICE).
    pub service: ServiceRef,
    /// Bytes of the frame that came.
    pub came_len: u32,
    /// Bytes of the frame that leaves; 0 if none does.
    pub left_len: u32,
    /// How many of the bytes that came follow.
    pub came: u16,
    /// How many of the bytes that leave follow those.
    pub left: u16,
    /// Bytes that those who may see it want of it.
    pub snap: u16,
    /// Zero.
    pub reserved_too: u16,
}

impl Sighting {
    /// `service` is.
    pub const SERVICE: u8 = 1;
    /// `slot`, `hash` and `index` are.
    pub const SLOT: u8 = 1 << 1;
    /// `backend` and `reason` are.
    pub const CHOSEN: u8 = 1 << 2;
    /// Its addresses and ports are translated.
    pub const TRANSLATED: u8 = 1 << 3;
    /// Its connection has just got its entries.
    pub const NEW: u8 = 1 << 4;

    /// Of a packet that nothing is known of yet.
    pub const NONE: Self = Self {
        at: 0,
        watchers: 0,
        source: Address::UNSPECIFIED,
        destination: Address::UNSPECIFIED,
        source_port: 0,
        destination_port: 0,
        protocol: 0,
        reason: 0,
        known: 0,
        reserved: 0,
        ingress: 0,
        egress: 0,
        verdict: 0,
        slot: Slot {
            current: BackendRef::NONE,
            previous: BackendRef::NONE,
            epoch: 0,
            phase: 0,
            reserved: 0,
            unrecorded_at: 0,
        },
        hash: 0,
        index: 0,
        backend: BackendRef::NONE,
        service: ServiceRef { id: 0, flags: 0, ring_class: 0 },
        came_len: 0,
        left_len: 0,
        came: 0,
        left: 0,
        snap: 0,
        reserved_too: 0,
    };
}

impl Default for Sighting {
    fn default() -> Self {
        Self::NONE
    }
}
