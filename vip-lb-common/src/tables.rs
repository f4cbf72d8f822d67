//! Lookups, and the few writes of the packet path.

use core::ops::Deref;

use crate::{
    FlowHash,
    abi::{
        Address, Backend, BackendRef, FlowEntry, FlowKey, LinkAddress, Peer, PortKey, RingClass, ServiceRef,
        Settings, Slot, Survivor, Vip,
    },
    pipeline::{Fate, Step},
};

/// The maps, as the pipeline sees them.
///
/// The kernel program implements this over BPF maps, `explain` over the same maps from userspace with writes left out, and
/// tests over plain collections.
pub trait Tables {
    /// A borrowed value: a reference in the kernel, an owned copy where a lookup is a system call.
    type Ref<'a, T: Copy + 'a>: Deref<Target = T>
    where
        Self: 'a;

    /// A flow entry that can be written in place.
    type Flow<'a>: FlowCell
    where
        Self: 'a;

    /// SETTINGS; none until the daemon has filled it.
    fn settings(&self) -> Option<Self::Ref<'_, Settings>>;

    /// VIPS: the one lookup that other traffic pays.
    fn vip(&self, address: &Address) -> Option<Self::Ref<'_, Vip>>;

    /// PORTS: services that are not in their VIP's own entry.
    fn port(&self, key: &PortKey) -> Option<ServiceRef>;

    /// A slot of the service's ring; none where no ring is published.
    fn slot(&self, service: ServiceRef, index: u32) -> Option<Self::Ref<'_, Slot>>;

    /// The slot that a hash falls into, and its number. Tables that branch on the class of a ring do it once for both.
    #[inline(always)]
    fn slot_of(&self, service: ServiceRef, hash: FlowHash) -> Option<(u32, Self::Ref<'_, Slot>)> {
        let index = hash.slot(RingClass::from_u8(service.ring_class).slots() as u32);
        self.slot(service, index).map(|slot| (index, slot))
    }

    /// Writes the tick into the slot that a packet of was sent to `previous` unrecorded.
    fn mark_unrecorded(&self, service: ServiceRef, index: u32, tick: u32);

    /// BACKENDS.
    fn backend(&self, index: u16) -> Option<Self::Ref<'_, Backend>>;

    /// FLOWS.
    fn flow(&self, key: &FlowKey) -> Option<Self::Flow<'_>>;

    /// Inserts into FLOWS, or replaces. False when there is no room: nothing is ever evicted for it.
    fn insert_flow(&self, key: &FlowKey, entry: &FlowEntry) -> bool;

    /// Removes from FLOWS.
    fn remove_flow(&self, key: &FlowKey);

    /// NEWBORN.
    fn newborn(&self, key: &FlowKey) -> Option<Self::Flow<'_>>;

    /// Inserts into NEWBORN, evicting an old entry if need be.
    fn insert_newborn(&self, key: &FlowKey, entry: &FlowEntry) -> bool;

    /// Takes one from this CPU's budget of records for the current tick. False when it is spent.
    fn may_record(&self, settings: &Settings) -> bool;

    /// CLOCK_MONOTONIC in whole seconds. Asked on the rarest of ways only: reading it costs as much as a lookup.
    fn seconds(&self) -> u32;

    /// Notes a sign of life in SURVIVORS, as far as this CPU's budget reaches.
    fn note_survivor(&self, key: &FlowKey, survivor: &Survivor, settings: &Settings);

    /// PEERS.
    fn peer(&self, mac: &LinkAddress) -> Option<Peer>;

    /// DECAP_SOURCES: whether an address may send tunnelled packets to this node's own backends.
    fn tunnel_peer(&self, source: &Address) -> bool;

    /// INTERFACES: the MAC address of the interface a packet came in by.
    fn link_address(&self, interface: u32) -> Option<Self::Ref<'_, LinkAddress>>;

    /// Adds a finished packet to the counters.
    fn count(&self, fate: &Fate);

    /// Hears of every step. Only `explain` listens; elsewhere it compiles to nothing.
    #[inline(always)]
    fn observe(&self, step: Step) {
        let _ = step;
    }
}

/// A flow entry in its table.
pub trait FlowCell {
    /// The entry as it is now.
    fn get(&self) -> FlowEntry;

    /// Stores the tick of the latest packet.
    fn set_seen(&self, tick: u32);

    /// Sets or clears the closing mark.
    fn set_closing(&self, closing: bool);
}

/// The backend behind a reference, if the reference is still good.
#[inline(always)]
pub fn live<T: Tables>(tables: &T, reference: BackendRef) -> Option<T::Ref<'_, Backend>> {
    let backend = tables.backend(reference.index)?;
    (!reference.is_none() && backend.generation == reference.generation && backend.mode != 0)
        .then_some(backend)
}
