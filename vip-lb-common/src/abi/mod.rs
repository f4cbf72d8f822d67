//! Keys and values of the BPF maps.
//!
//! Integers are in host byte order so that `bpftool map dump` prints them readably; addresses are bytes in network
//! order. No type has padding, every size is asserted: what the kernel compares are all bytes of a key.

mod address;
mod advert;
mod backend;
mod flow;
mod fragment;
mod lease;
mod nat;
mod probe;
mod ring;
mod sample;
mod service;
mod settings;
mod stats;
mod virtual_mac;
mod watch;

pub use address::Address;
pub use advert::{AdvertKey, AdvertStamp};
pub use backend::{Backend, BackendRef, LinkAddress, Mode, Peer};
pub use flow::{FlowEntry, FlowKey, Recording, Survivor};
pub use fragment::{Fragment, FragmentKey};
pub use lease::Lease;
pub use nat::{NatFlow, NatMarks, NatReply, NatReplyKey};
pub use probe::{ProbeDevice, ProbeKey};
pub use ring::{Phase, RING_SIZES, Ring, RingClass, Slot};
pub use sample::{SAMPLE_KEPT, SAMPLES, Sample, SampleState};
pub use service::{
    INLINE_SERVICES, IcmpAccount, PortEntry, PortKey, RangeKey, ServiceOptions, ServiceRef, VIP_PLACES, Vip,
    VipPlace,
};
pub use settings::{LAYOUT_VERSION, SETTINGS_MAGIC, Settings};
pub use stats::Stats;
pub use virtual_mac::VirtualMac;
pub use watch::{EVENT_BYTES, SNAP, Sighting, WATCHERS, WatchCount, Watcher};

/// Entries of SERVICES and of every RINGS map: the most services one node can hold.
pub const MAX_SERVICES: usize = 4096;
/// Entries of BACKENDS, index 0 excluded: the most (service, backend) pairs one node can hold.
pub const MAX_BACKENDS: usize = 65_536;
/// Entries of ADVERTS, the least recently seen of which make room.
pub const MAX_ADVERTS: usize = 1024;
/// Entries of VIPS.
pub const MAX_VIPS: usize = 4096;
/// Entries of FLOWS where the configuration does not say otherwise.
pub const DEFAULT_FLOWS: usize = 262_144;
/// Entries of NEWBORN where the configuration does not say otherwise.
pub const DEFAULT_NEWBORN: usize = 65_536;
/// Entries of SURVIVORS where the configuration does not say otherwise.
pub const DEFAULT_SURVIVORS: usize = 65_536;
/// Entries of NAT_FLOWS and of NAT_REPLIES where the configuration does not say otherwise.
pub const DEFAULT_NAT: usize = 262_144;
/// Entries of FRAGMENTS where the configuration does not say otherwise.
pub const DEFAULT_FRAGMENTS: usize = 16_384;
/// Entries of RANGES: a range of ports takes up to 30.
pub const MAX_RANGES: usize = 16_384;

/// Asserts at compile time that map types have the size written beside them, which rules padding out.
macro_rules! assert_layout {
    ($($type:ty = $size:literal),+ $(,)?) => {
        $(const _: () = assert!(size_of::<$type>() == $size, concat!(stringify!($type), " changed its size"));)+
    };
}

assert_layout! {
    Address = 16,
    AdvertKey = 24,
    AdvertStamp = 32,
    Backend = 72,
    BackendRef = 4,
    FlowEntry = 16,
    FlowKey = 24,
    Fragment = 16,
    FragmentKey = 40,
    IcmpAccount = 8,
    Lease = 8,
    LinkAddress = 8,
    NatFlow = 24,
    NatReply = 68,
    NatReplyKey = 40,
    Peer = 16,
    PortEntry = 8,
    PortKey = 8,
    RangeKey = 8,
    ProbeDevice = 12,
    ProbeKey = 40,
    Recording = 16,
    Sample = 64,
    ServiceOptions = 8,
    ServiceRef = 4,
    Settings = 104,
    Slot = 16,
    Stats = 24,
    Survivor = 8,
    Sighting = 112,
    Vip = 40,
    VipPlace = 56,
    WatchCount = 32,
    Watcher = 96,
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
    Address, AdvertKey, AdvertStamp, Backend, BackendRef, FlowEntry, FlowKey, Fragment, FragmentKey, IcmpAccount, Lease, LinkAddress, NatFlow, NatReply,
    NatReplyKey, Peer, PortEntry, PortKey, ProbeDevice, RangeKey, Recording, Sample, ServiceOptions, ServiceRef, Settings, Slot, Stats, Sighting, Survivor, Vip, VipPlace, WatchCount, Watcher, i32, u32, u64,
}

// SAFETY: an array of plain slots.
unsafe impl<const N: usize> Plain for Ring<N> {}
