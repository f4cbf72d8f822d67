//! Counters.

/// Per-CPU counters of a service or a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Stats {
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes of those, from the IP header on, as they came in.
    pub bytes: u64,
    /// TCP SYNs among them. UDP flows have no visible beginning and count 0.
    pub new_connections: u64,
}
