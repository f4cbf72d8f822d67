//! The maps of the model: those in memory, with a small ring, an LRU, and lies on demand.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use vip_lb_common::{
    Tables,
    abi::{
        Address, AdvertKey, AdvertStamp, Backend, FlowEntry, FlowKey, Fragment, FragmentKey, Lease,
        LinkAddress, NatFlow, NatReply, NatReplyKey, Peer, PortKey, RangeKey, Sample, ServiceOptions,
        ServiceRef, Settings, Slot, Survivor, Vip,
    },
    memory::{Copied, MemoryFlow, MemoryNat, MemoryTables},
    pipeline::{Fate, Step},
    tables::{FlowCell, IcmpUse},
};

use crate::Defect;

/// Maps that the pipeline runs on.
pub(crate) struct ModelTables {
    pub(crate) inner: MemoryTables,
    /// Slots of the ring, which the flow hash is folded onto.
    pub(crate) slots: u32,
    /// Entries that NEWBORN takes.
    pub(crate) newborn_capacity: usize,
    /// What is wrong with the tables.
    pub(crate) defect: Option<Defect>,
    /// The packet under way is a SYN.
    pub(crate) syn: Cell<bool>,
    uses: Cell<u64>,
    newborn_used: RefCell<HashMap<FlowKey, u64>>,
}

impl ModelTables {
    pub(crate) fn new(
        inner: MemoryTables,
        slots: u32,
        newborn_capacity: usize,
        defect: Option<Defect>,
    ) -> Self {
        Self {
            inner,
            slots,
            newborn_capacity,
            defect,
            syn: Cell::new(false),
            uses: Cell::new(0),
            newborn_used: RefCell::default(),
        }
    }

    fn use_newborn(&self, key: &FlowKey) {
        self.uses.set(self.uses.get() + 1);
        self.newborn_used.borrow_mut().insert(*key, self.uses.get());
    }

    fn folded(&self, entry: &FlowEntry) -> FlowEntry {
        FlowEntry { slot: entry.slot % self.slots, ..*entry }
    }

    fn lie<'a>(&self, key: &FlowKey, inner: MemoryFlow<'a>) -> Option<ModelFlow<'a>> {
        if self.defect == Some(Defect::SynIgnoresEntries) && self.syn.get() {
            return None;
        }
        let slot = inner.get().slot;
        let epoch = (self.defect == Some(Defect::NoEpoch))
            .then(|| self.inner.rings[&key.service].borrow()[slot as usize].epoch);
        Some(ModelFlow {
            inner,
            epoch,
            never_closing: self.defect == Some(Defect::SynFollowsClosing) && self.syn.get(),
        })
    }
}

impl Tables for ModelTables {
    type Ref<'a, T: Copy + 'a> = Copied<T>;
    type Flow<'a> = ModelFlow<'a>;
    type NatFlow<'a> = MemoryNat<'a, FlowKey, NatFlow>;
    type NatReply<'a> = MemoryNat<'a, NatReplyKey, NatReply>;

    fn settings(&self) -> Option<Copied<Settings>> {
        self.inner.settings()
    }

    fn vip(&self, address: &Address) -> Option<Copied<Vip>> {
        self.inner.vip(address)
    }

    fn port(&self, key: &PortKey) -> Option<ServiceRef> {
        self.inner.port(key)
    }

    fn range(&self, key: &RangeKey) -> Option<ServiceRef> {
        self.inner.range(key)
    }

    fn service_options(&self, service: u16) -> Option<Copied<ServiceOptions>> {
        self.inner.service_options(service)
    }

    fn slot(&self, service: ServiceRef, index: u32) -> Option<Copied<Slot>> {
        self.inner.slot(service, index % self.slots)
    }

    fn mark_unrecorded(&self, service: ServiceRef, index: u32, tick: u32) {
        self.inner.mark_unrecorded(service, index % self.slots, tick);
    }

    fn backend(&self, index: u16) -> Option<Copied<Backend>> {
        self.inner.backend(index)
    }

    fn flow(&self, key: &FlowKey) -> Option<ModelFlow<'_>> {
        self.lie(key, self.inner.flow(key)?)
    }

    fn insert_flow(&self, key: &FlowKey, entry: &FlowEntry) -> bool {
        self.inner.insert_flow(key, &self.folded(entry))
    }

    fn remove_flow(&self, key: &FlowKey) {
        self.inner.remove_flow(key);
    }

    fn newborn(&self, key: &FlowKey) -> Option<ModelFlow<'_>> {
        let cell = self.inner.newborn(key)?;
        self.use_newborn(key);
        self.lie(key, cell)
    }

    fn insert_newborn(&self, key: &FlowKey, entry: &FlowEntry) -> bool {
        self.inner.insert_newborn(key, &self.folded(entry));
        self.use_newborn(key);
        let mut newborn = self.inner.newborn.borrow_mut();
        let mut used = self.newborn_used.borrow_mut();
        used.retain(|key, _| newborn.contains_key(key));
        if newborn.len() > self.newborn_capacity
            && let Some(oldest) = used.iter().min_by_key(|&(_, at)| at).map(|(key, _)| *key)
        {
            newborn.remove(&oldest);
            used.remove(&oldest);
        }
        true
    }

    fn may_record(&self, settings: &Settings) -> bool {
        self.inner.may_record(settings)
    }

    fn seconds(&self) -> u32 {
        self.inner.seconds()
    }

    fn lease(&self, vip: &Address) -> Option<Copied<Lease>> {
        self.inner.lease(vip)
    }

    fn nanoseconds(&self) -> u64 {
        self.inner.nanoseconds()
    }

    fn coarse_seconds(&self) -> u32 {
        self.inner.coarse_seconds()
    }

    fn note_survivor(&self, key: &FlowKey, survivor: &Survivor, settings: &Settings) {
        self.inner.note_survivor(key, survivor, settings);
    }

    fn peer(&self, mac: &LinkAddress) -> Option<Peer> {
        self.inner.peer(mac)
    }

    fn tunnel_peer(&self, source: &Address) -> bool {
        self.inner.tunnel_peer(source)
    }

    fn link_address(&self, interface: u32) -> Option<Copied<LinkAddress>> {
        self.inner.link_address(interface)
    }

    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        self.inner.fragment(key)
    }

    fn insert_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        self.inner.insert_fragment(key, fragment);
    }

    fn nat_flow(&self, key: &FlowKey) -> Option<Self::NatFlow<'_>> {
        self.inner.nat_flow(key)
    }

    fn insert_nat_flow(&self, key: &FlowKey, flow: &NatFlow) -> bool {
        self.inner.insert_nat_flow(key, flow)
    }

    fn replace_nat_flow(&self, key: &FlowKey, flow: &NatFlow) -> bool {
        self.inner.replace_nat_flow(key, flow)
    }

    fn remove_nat_flow(&self, key: &FlowKey) {
        self.inner.remove_nat_flow(key);
    }

    fn nat_reply(&self, key: &NatReplyKey) -> Option<Self::NatReply<'_>> {
        self.inner.nat_reply(key)
    }

    fn insert_nat_reply(&self, key: &NatReplyKey, reply: &NatReply) -> bool {
        self.inner.insert_nat_reply(key, reply)
    }

    fn replace_nat_reply(&self, key: &NatReplyKey, reply: &NatReply) -> bool {
        self.inner.replace_nat_reply(key, reply)
    }

    fn remove_nat_reply(&self, key: &NatReplyKey) {
        self.inner.remove_nat_reply(key);
    }

    fn may_send(&self, service: u16, use_of: IcmpUse, rate: u16) -> bool {
        self.inner.may_send(service, use_of, rate)
    }

    fn note_advert(&self, _: &AdvertKey, _: &AdvertStamp) {}

    fn sample(&self, _: u32, _: impl FnOnce(&mut Sample, u64)) {}

    fn count(&self, fate: &Fate) {
        self.inner.count(fate);
    }

    fn observe(&self, step: Step) {
        self.inner.observe(step);
    }
}

/// A flow entry that may not be what it seems.
pub(crate) struct ModelFlow<'a> {
    inner: MemoryFlow<'a>,
    epoch: Option<u16>,
    never_closing: bool,
}

impl FlowCell for ModelFlow<'_> {
    fn get(&self) -> FlowEntry {
        let entry = self.inner.get();
        FlowEntry {
            epoch: self.epoch.unwrap_or(entry.epoch),
            closing: if self.never_closing { 0 } else { entry.closing },
            ..entry
        }
    }

    fn set_seen(&self, tick: u32) {
        self.inner.set_seen(tick);
    }

    fn set_closing(&self, closing: bool) {
        self.inner.set_closing(closing);
    }
}
