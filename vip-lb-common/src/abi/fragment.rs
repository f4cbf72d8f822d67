//! Fragments, of which only the first carries ports.

use super::{Address, BackendRef, ServiceRef};

/// Key of FRAGMENTS: what the fragments of one packet share (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(8))]
pub struct FragmentKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Identification, 16 bits of it in IPv4.
    pub id: u32,
    /// IANA protocol number in IPv4; 0 in IPv6.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// Value of FRAGMENTS: where the first fragment went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Fragment {
    /// Both ports as they lie in the first fragment.
    pub ports: u32,
    /// The service; none of the answers of backends (nat), whose ports tell the connection.
    pub service: ServiceRef,
    /// The backend that it was sent to.
    pub backend: BackendRef,
    /// CLOCK_MONOTONIC in seconds when it came by.
    pub seen: u32,
}

impl Fragment {
    /// Seconds for which later fragments may follow the first; receivers give up after 30 to 60 (RFC 1122 section 3.3.2 wants 60 to 120,
    /// Linux waits 30, RFC 8200 section 4.5 60).
    pub const LIFETIME: u32 = 60;
}
