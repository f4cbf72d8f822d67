//! Probes through the VIP: what tells their answers from other traffic of this host.

use super::Address;

/// Key of PROBES: a probe under way, as its answers see it. The value says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(8))]
pub struct ProbeKey {
    /// Where answers come from: the VIP.
    pub vip: Address,
    /// Where they go to: the address that this node probes from.
    pub node: Address,
    /// Port of the VIP; 0 of a ping.
    pub vip_port: u16,
    /// Port of the socket that probes; identifier of a ping.
    pub node_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// The pair of devices that probes leave by: the value of PROBE_DEVICE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ProbeDevice {
    /// The end whose packets arrive where the sockets are.
    pub inner: u32,
    /// MAC address of the sockets' end.
    pub mac: [u8; 6],
    /// Zero.
    pub reserved: u16,
}
