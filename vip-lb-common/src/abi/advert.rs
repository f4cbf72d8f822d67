//! Adverts of VRRP, as they come by.

use super::Address;

/// Key of ADVERTS: a node that speaks for a virtual router, and where it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct AdvertKey {
    /// The node's own address, whose family is the virtual router's.
    pub source: Address,
    /// Index of the interface that its adverts come in by: of a bond, the member's.
    pub interface: u32,
    /// VLAN of their tag (IEEE 802.1Q); 0 without one.
    pub vlan: u16,
    /// Identifier of the virtual router (VRID).
    pub router: u8,
    /// Zero.
    pub reserved: u8,
}

/// Value of ADVERTS: the last advert. Its checksum was not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct AdvertStamp {
    /// When it came, nanoseconds of CLOCK_MONOTONIC.
    pub at: u64,
    /// The first of the addresses that it is about; where that is a link-local one and there are more, the second
    /// (RFC 9568 section 5.2.9).
    pub address: Address,
    /// When the next one is to be expected, hundredths of a second (RFC 9568 section 5.2.7).
    pub interval: u16,
    /// The node's priority; 0 if it stops being active.
    pub priority: u8,
    /// How many addresses it is about.
    pub addresses: u8,
    /// Zero.
    pub reserved: u32,
}
