//! Translated connections. The packet path makes both entries of one and never evicts them; the daemon removes both when it has ended.

use super::{Address, BackendRef};

/// Value of NAT_FLOWS (the key is the [`FlowKey`](super::FlowKey) with both ports): a connection as its client sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NatFlow {
    /// Where it goes.
    pub backend: BackendRef,
    /// [`Settings::tick`](super::Settings) of the client's last packet.
    pub seen: u32,
    /// The port that it has on this node.
    pub port: u16,
    /// What the client sent so far: the `NatMarks::*` bits.
    pub marks: u16,
    /// Tag control information of the client's frames; 0 without a tag.
    pub vlan: u16,
    /// Source MAC address of the client's frames: the router that leads back to it.
    pub router: [u8; 6],
    /// Interface that the client's packets come in by.
    pub ingress: u32,
}

/// Key of NAT_REPLIES: the connection as its backend sees it. A port of this node serves as many connections as there are backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(8))]
pub struct NatReplyKey {
    /// The backend's own address.
    pub backend: Address,
    /// The address that the connection has on this node.
    pub node: Address,
    /// The backend's port.
    pub backend_port: u16,
    /// The port that the connection has on this node.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// Value of NAT_REPLIES: who the client is, and how to get there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NatReply {
    /// The client.
    pub client: Address,
    /// What it dialled.
    pub vip: Address,
    /// The client's port.
    pub client_port: u16,
    /// The port that it dialled.
    pub vip_port: u16,
    /// The service.
    pub service: u16,
    /// Tag control information that frames to the client carry; 0 without a tag.
    pub vlan: u16,
    /// Where it goes, as in [`NatFlow`].
    pub backend: BackendRef,
    /// Interface that leads to the client.
    pub egress: u32,
    /// The twelve bytes that start frames to the client: MAC address of its router, then of this node.
    pub macs: [u8; 12],
    /// [`Settings::tick`](super::Settings) of the backend's last packet.
    pub seen: u32,
    /// What the backend sent so far: the `NatMarks::*` bits.
    pub marks: u16,
    /// Zero.
    pub reserved: u16,
}

/// What one side of a connection has sent, from which the daemon tells how old the connection may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatMarks;

impl NatMarks {
    /// Anything but a SYN: of both sides, the connection is established.
    pub const DATA: u16 = 1;
    /// A FIN.
    pub const FIN: u16 = 2;
    /// An RST.
    pub const RST: u16 = 4;
}
