//! What becomes of a packet, and the steps that led there.

use crate::{
    FlowHash, Verdict,
    abi::{Address, BackendRef, ServiceRef, Slot},
};

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// How it ended.
    pub verdict: Verdict,
    /// The service it belonged to, if `backend` is not 0. The statistics of services and backends count what clients send, so the answers
    /// that come back through this node are counted by their verdict alone.
    pub service: u16,
    /// Index of the backend it was forwarded to; 0 if it was not.
    pub backend: u16,
    /// Interface it leaves by, if it is forwarded.
    pub egress: u32,
    /// Its bytes from the IP header on, as it came in.
    pub bytes: u16,
    /// It opened a TCP connection.
    pub opens: bool,
}

impl From<Verdict> for Fate {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        Self { verdict, service: 0, backend: 0, egress: 0, bytes: 0, opens: false }
    }
}

/// A step of the way, as `explain` hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The destination was looked up in VIPS.
    Destination {
        /// The address.
        address: Address,
        /// Whether it is a VIP.
        is_vip: bool,
    },
    /// A service was found.
    Service(ServiceRef),
    /// The flow was hashed to a slot.
    Slot {
        /// The hash.
        hash: FlowHash,
        /// Number of the slot.
        index: u32,
        /// What it held.
        slot: Slot,
    },
    /// A backend was chosen.
    Chosen {
        /// Which.
        backend: BackendRef,
        /// Why.
        reason: Reason,
    },
    /// Its addresses and ports are translated.
    Translation {
        /// Its new source.
        from: (Address, u16),
        /// Its new destination.
        to: (Address, u16),
        /// The connection has just got its entries.
        is_new: bool,
    },
}

/// Why a flow goes to its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// The slot is closed: everything goes to `current`.
    Settled = 0,
    /// The slot is open and FLOWS has the flow.
    Recorded = 1,
    /// The slot is open and NEWBORN has the handshake.
    Handshake = 2,
    /// The slot is open and the flow is new: `current`, recorded.
    New = 3,
    /// The slot is open and the flow is older than the opening: `previous`.
    Older = 4,
    /// The slot is open and the flow is new, but there is no room or budget to record it: `previous`.
    Refused = 5,
    /// The slot is open, all that is not recorded is new, but there is no room to record it: `current`.
    NewUnrecorded = 6,
    /// NAT_FLOWS has the connection: the slot was not asked.
    Translated = 7,
    /// The packet is a later fragment of one whose first fragment went there.
    SamePacket = 8,
}

impl Reason {
    /// The reason stored in a map; none for a number that is nobody's.
    pub fn from_u8(value: u8) -> Option<Self> {
        const ALL: [Reason; 9] = [
            Reason::Settled,
            Reason::Recorded,
            Reason::Handshake,
            Reason::New,
            Reason::Older,
            Reason::Refused,
            Reason::NewUnrecorded,
            Reason::Translated,
            Reason::SamePacket,
        ];
        ALL.get(usize::from(value)).copied()
    }
}
