//! Lookups, and the few writes of the packet path.

use core::ops::Deref;

use crate::{
    FlowHash,
    abi::{
        Address, AdvertKey, AdvertStamp, Backend, BackendRef, FlowEntry, FlowKey, Fragment, FragmentKey,
        Lease, LinkAddress, NatFlow, NatReply, NatReplyKey, Peer, PortKey, RangeKey, RingClass, Sample,
        ServiceOptions, ServiceRef, Settings, Slot, Survivor, Vip,
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

    /// An entry of NAT_FLOWS that can be marked in place.
    type NatFlow<'a>: NatCell<NatFlow>
    where
        Self: 'a;

    /// An entry of NAT_REPLIES that can be marked in place.
    type NatReply<'a>: NatCell<NatReply>
    where
        Self: 'a;

    /// SETTINGS; none until the daemon has filled it.
    fn settings(&self) -> Option<Self::Ref<'_, Settings>>;

    /// VIPS: the one lookup that other traffic pays.
    fn vip(&self, address: &Address) -> Option<Self::Ref<'_, Vip>>;

    /// PORTS: services that are not in their VIP's own entry.
    fn port(&self, key: &PortKey) -> Option<ServiceRef>;

    /// RANGES: the service of the narrowest block of ports that holds this one.
    fn range(&self, key: &RangeKey) -> Option<ServiceRef>;

    /// SERVICES.
    fn service_options(&self, service: u16) -> Option<Self::Ref<'_, ServiceOptions>>;

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

    /// OWNERS: for how long this node answers for a VIP that is leased.
    fn lease(&self, vip: &Address) -> Option<Self::Ref<'_, Lease>>;

    /// CLOCK_MONOTONIC in nanoseconds. Asked only where a lease is, and for adverts of VRRP.
    fn nanoseconds(&self) -> u64;

    /// CLOCK_MONOTONIC in whole seconds. Asked on the rarest of ways only: reading it costs as much as a lookup.
    fn seconds(&self) -> u32;

    /// The same as of the last tick of the kernel's timer (kernel 5.11), which is cheaper.
    fn coarse_seconds(&self) -> u32;

    /// Notes a sign of life in SURVIVORS, as far as this CPU's budget reaches.
    fn note_survivor(&self, key: &FlowKey, survivor: &Survivor, settings: &Settings);

    /// PEERS.
    fn peer(&self, mac: &LinkAddress) -> Option<Peer>;

    /// DECAP_SOURCES: whether an address may send tunnelled packets to this node's own backends.
    fn tunnel_peer(&self, source: &Address) -> bool;

    /// INTERFACES: the MAC address of the interface a packet came in by.
    fn link_address(&self, interface: u32) -> Option<Self::Ref<'_, LinkAddress>>;

    /// FRAGMENTS: where the first fragment of a packet went.
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment>;

    /// Inserts into FRAGMENTS, evicting an old entry if need be.
    fn insert_fragment(&self, key: &FragmentKey, fragment: &Fragment);

    /// NAT_FLOWS.
    fn nat_flow(&self, key: &FlowKey) -> Option<Self::NatFlow<'_>>;

    /// Inserts into NAT_FLOWS. False when the key is taken or there is no room: nothing is ever replaced or evicted.
    fn insert_nat_flow(&self, key: &FlowKey, flow: &NatFlow) -> bool;

    /// Replaces an entry of NAT_FLOWS. False when there is none.
    fn replace_nat_flow(&self, key: &FlowKey, flow: &NatFlow) -> bool;

    /// Removes from NAT_FLOWS.
    fn remove_nat_flow(&self, key: &FlowKey);

    /// NAT_REPLIES.
    fn nat_reply(&self, key: &NatReplyKey) -> Option<Self::NatReply<'_>>;

    /// Inserts into NAT_REPLIES. False when the key is taken or there is no room: nothing is ever replaced or evicted.
    fn insert_nat_reply(&self, key: &NatReplyKey, reply: &NatReply) -> bool;

    /// Replaces an entry of NAT_REPLIES. False when there is none.
    fn replace_nat_reply(&self, key: &NatReplyKey, reply: &NatReply) -> bool;

    /// Removes from NAT_REPLIES.
    fn remove_nat_reply(&self, key: &NatReplyKey);

    /// Takes one from what this CPU may do with ICMP for a service in the current second ([`ServiceOptions::icmp_rate`]).
    /// False when it is spent.
    fn may_send(&self, service: u16, use_of: IcmpUse, rate: u16) -> bool;

    /// Writes into ADVERTS, evicting an old entry if need be.
    fn note_advert(&self, key: &AdvertKey, stamp: &AdvertStamp);

    /// Lets `note` change the place of SAMPLES with this number, and tells it CLOCK_MONOTONIC in nanoseconds.
    fn sample(&self, place: u32, note: impl FnOnce(&mut Sample, u64));

    /// Adds a finished packet to the counters.
    fn count(&self, fate: &Fate);

    /// Hears of every step. Only `explain` listens; elsewhere it compiles to nothing.
    #[inline(always)]
    fn observe(&self, step: Step) {
        let _ = step;
    }
}

/// What the ICMP budget of a service is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpUse {
    /// An ICMP error is steered to a backend.
    Error,
    /// A packet that is too big is answered.
    Answer,
}

/// A translated connection's entry in its table.
pub trait NatCell<T> {
    /// The entry as it is now.
    fn get(&self) -> T;

    /// Stores the tick of the latest packet and adds to what was seen of this side.
    fn touch(&self, tick: u32, marks: u16);
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
