//! Keys and values of the BPF maps.
//!
//! Integers are in host byte order so that `bpftool map dump` prints them readably; addresses are bytes in network
//! order. No type has padding, every size is asserted: what the kernel compares are all bytes of a key.

mod address;
mod backend;
mod flow;
mod ring;
mod service;
mod settings;
mod stats;

pub use address::Address;
pub use backend::{Backend, BackendRef, LinkAddress, Mode, Peer};
pub use flow::{FlowEntry, FlowKey, Recording, Survivor};
pub use ring::{Phase, RING_SIZES, Ring, RingClass, Slot};
pub use service::{INLINE_SERVICES, PortEntry, PortKey, ServiceRef, VIP_PLACES, Vip, VipPlace};
pub use settings::{LAYOUT_VERSION, SETTINGS_MAGIC, Settings};
pub use stats::Stats;

/// Entries of SERVICES and of every RINGS map: the most services one node can hold.
pub const MAX_SERVICES: usize = 4096;
/// Entries of BACKENDS, index 0 excluded: the most (service, backend) pairs one node can hold.
pub const MAX_BACKENDS: usize = 65_536;
/// Entries of VIPS.
pub const MAX_VIPS: usize = 4096;
/// Entries of FLOWS where the configuration does not say otherwise.
pub const DEFAULT_FLOWS: usize = 262_144;
/// Entries of NEWBORN where the configuration does not say otherwise.
pub const DEFAULT_NEWBORN: usize = 65_536;
/// Entries of SURVIVORS where the configuration does not say otherwise.
pub const DEFAULT_SURVIVORS: usize = 65_536;

/// Asserts at compile time that map types have the size written beside them, which rules padding out.
macro_rules! assert_layout {
    ($($type:ty = $size:literal),+ $(,)?) => {
        $(const _: () = assert!(size_of::<$type>() == $size, concat!(stringify!($type), " changed its size"));)+
    };
}

assert_layout! {
    Address = 16,
    Backend = 72,
    BackendRef = 4,
    FlowEntry = 16,
    FlowKey = 24,
    LinkAddress = 8,
    Peer = 16,
    PortEntry = 8,
    PortKey = 8,
    Recording = 16,
    ServiceRef = 4,
    Settings = 96,
    Slot = 16,
    Stats = 24,
    Survivor = 8,
    Vip = 40,
    VipPlace = 56,
}

/// Types that go through system calls byte by byte.
///
/// # Safety
///
/// No padding, and every bit pattern is a value.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($type:ty),+ $(,)?) => {
        // SAFETY: integers and arrays of them; sizes above rule padding out.
        $(unsafe impl Plain for $type {})+
    };
}

plain! {
    Address, Backend, BackendRef, FlowEntry, FlowKey, LinkAddress, Peer, PortEntry, PortKey, Recording, ServiceRef,
    Settings, Slot, Stats, Survivor, Vip, VipPlace, i32, u32, u64,
}

// SAFETY: an array of plain slots.
unsafe impl<const N: usize> Plain for Ring<N> {}
