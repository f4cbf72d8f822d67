//! Flows, which are recorded only while their slot is open.

use super::{Address, BackendRef};

/// Key of FLOWS, NEWBORN and SURVIVORS.
///
/// With affinity by source both ports are 0, so that all flows of a client are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(8))]
pub struct FlowKey {
    /// The client.
    pub source: Address,
    /// Its port.
    pub source_port: u16,
    /// The port that was dialled.
    pub destination_port: u16,
    /// The service, which stands for VIP and protocol.
    pub service: u16,
    /// Zero.
    pub reserved: u16,
}

/// Value of FLOWS and NEWBORN: the backend a flow began on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowEntry {
    /// Where its packets go.
    pub backend: BackendRef,
    /// Opening of the slot that it was recorded in; entries of another opening are ignored.
    pub epoch: u16,
    /// 1 after a FIN or RST of the client: the next SYN is another connection.
    pub closing: u16,
    /// [`Settings::tick`](super::Settings) of its last packet.
    pub seen: u32,
    /// The slot, for collection.
    pub slot: u32,
}

/// Value of SURVIVORS: a flow on a slot's `previous` that showed a sign of life. Only counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Survivor {
    /// [`Settings::tick`](super::Settings) of its last packet.
    pub seen: u32,
    /// The slot.
    pub slot: u32,
}

/// What this CPU recorded in the current tick: the value of RECORDING.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Recording {
    /// The tick that the counts are of.
    pub tick: u32,
    /// Flows recorded in it.
    pub recorded: u32,
    /// Survivors noted in it.
    pub noted: u32,
    /// Flows refused since the program was loaded, for want of room or budget.
    pub refused: u32,
}
