//! For how long this node may answer for a VIP.

/// Value of OWNERS: a lease of a VIP, or of a virtual router's hardware address ([`VirtualMac::key`](super::VirtualMac::key)). It runs out by itself, whatever becomes of the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Lease {
    /// Nanoseconds of CLOCK_MONOTONIC from which on it holds no more.
    pub until: u64,
}

impl Lease {
    /// Whether it holds at `now`, nanoseconds of CLOCK_MONOTONIC.
    #[inline(always)]
    #[must_use]
    pub const fn holds(self, now: u64) -> bool {
        now < self.until
    }
}
