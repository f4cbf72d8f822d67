//! Rings and their slots.

use super::BackendRef;

/// Ring sizes by class, each a prime as Maglev asks (Eisenbud et al., NSDI 2016, section 3.4).
pub const RING_SIZES: [usize; 3] = [16_381, 65_537, 131_071];

/// A ring: the whole value of an inner map, so that publishing one is atomic.
pub type Ring<const N: usize> = [Slot; N];

/// One of few ring sizes: a map of maps takes inner maps of one value size only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RingClass {
    /// 16381 slots.
    Small = 0,
    /// 65537 slots.
    Medium = 1,
    /// 131071 slots.
    Large = 2,
}

impl RingClass {
    /// All classes, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// Slots of a ring of this class.
    pub const fn slots(self) -> usize {
        RING_SIZES[self as usize]
    }

    /// The class stored in a map; anything unknown is the default class.
    pub const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Medium,
            2 => Self::Large,
            _ => Self::Small,
        }
    }
}

/// Where a slot is in its life; the value of [`Slot::phase`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Every live flow is on `current`; no table is asked.
    Closed = 0,
    /// Every live flow that is not on `previous` is recorded.
    Open = 1,
    /// As open, and every live UDP or source-affine flow on `previous` is recorded too: unknown ones are new.
    Known = 2,
    /// About to close: a handshake that can be neither recorded nor sent to `current` is dropped, and tried again
    /// by the client, rather than begun where it would be forgotten.
    Settling = 3,
}

impl Phase {
    /// The phase stored in a map.
    pub const fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Closed,
            2 => Self::Known,
            3 => Self::Settling,
            _ => Self::Open,
        }
    }
}

/// One entry of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Slot {
    /// Where new flows go.
    pub current: BackendRef,
    /// Where flows go that are not recorded, while the slot is open.
    pub previous: BackendRef,
    /// Counts the openings of the slot.
    pub epoch: u16,
    /// A [`Phase`].
    pub phase: u8,
    /// Zero.
    pub reserved: u8,
    /// [`Settings::tick`](super::Settings) at which a packet was last sent to `previous` without a record. Written
    /// by the program; the sign of life that keeps the slot open.
    pub unrecorded_at: u32,
}
