//! The pipeline's view of the maps from userspace: `explain` runs the code that the kernel runs, without its writes.

use std::{cell::RefCell, time::Duration};

use anyhow::Context as _;
use vip_lb_common::{
    Tables,
    abi::{
        Address, AdvertKey, AdvertStamp, Backend, FlowEntry, FlowKey, Fragment, FragmentKey, Lease,
        LinkAddress, NatFlow, NatReply, NatReplyKey, Peer, Plain, PortKey, RangeKey, RingClass, Sample,
        ServiceOptions, ServiceRef, Settings, Slot, Survivor, Vip,
    },
    pipeline::{Fate, Step},
    tables::{FlowCell, IcmpUse, NatCell},
};

use super::{maps::Dataplane, raw};

/// The maps, read only. What a packet would write is left out; where the outcome of a write matters, it is foretold: a record would
/// be granted while the budget is not 0.
pub struct ObservedTables<'d> {
    dataplane: &'d Dataplane,
    steps: RefCell<Vec<Step>>,
    errors: RefCell<Vec<anyhow::Error>>,
}

/// A value read from a map.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<T>(T);

impl<T> std::ops::Deref for Snapshot<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl FlowCell for Snapshot<FlowEntry> {
    fn get(&self) -> FlowEntry {
        self.0
    }

    fn set_seen(&self, _: u32) {}

    fn set_closing(&self, _: bool) {}
}

impl<T: Copy> NatCell<T> for Snapshot<T> {
    fn get(&self) -> T {
        self.0
    }

    fn touch(&self, _: u32, _: u16) {}
}

impl<'d> ObservedTables<'d> {
    /// Looks at the maps of a loaded balancer.
    #[must_use]
    pub fn new(dataplane: &'d Dataplane) -> Self {
        Self { dataplane, steps: RefCell::default(), errors: RefCell::default() }
    }

    /// What the pipeline reported, in order; the first failed look-up instead, if one failed.
    pub fn finish(self) -> anyhow::Result<Vec<Step>> {
        match self.errors.into_inner().into_iter().next() {
            Some(error) => Err(error),
            None => Ok(self.steps.into_inner()),
        }
    }

    fn look<T>(&self, result: anyhow::Result<Option<T>>) -> Option<T> {
        result.unwrap_or_else(|error| {
            self.errors.borrow_mut().push(error);
            None
        })
    }
}

impl Tables for ObservedTables<'_> {
    type Ref<'a, T: Copy + 'a>
        = Snapshot<T>
    where
        Self: 'a;
    type Flow<'a>
        = Snapshot<FlowEntry>
    where
        Self: 'a;
    type NatFlow<'a>
        = Snapshot<NatFlow>
    where
        Self: 'a;
    type NatReply<'a>
        = Snapshot<NatReply>
    where
        Self: 'a;

    fn settings(&self) -> Option<Snapshot<Settings>> {
        self.look(self.dataplane.setting().map(Some)).map(Snapshot)
    }

    fn vip(&self, address: &Address) -> Option<Snapshot<Vip>> {
        self.look(self.dataplane.vip(address)).map(Snapshot)
    }

    fn port(&self, key: &PortKey) -> Option<ServiceRef> {
        self.look(self.dataplane.port(key))
    }

    fn range(&self, key: &RangeKey) -> Option<ServiceRef> {
        self.look(self.dataplane.range(key))
    }

    fn service_options(&self, service: u16) -> Option<Snapshot<ServiceOptions>> {
        self.look(self.dataplane.service_options(service).map(Some)).map(Snapshot)
    }

    fn slot(&self, service: ServiceRef, index: u32) -> Option<Snapshot<Slot>> {
        let ring = self.look(self.dataplane.ring(service.id, RingClass::from_u8(service.ring_class)))?;
        ring.get(index as usize).copied().map(Snapshot)
    }

    fn mark_unrecorded(&self, _: ServiceRef, _: u32, _: u32) {}

    fn backend(&self, index: u16) -> Option<Snapshot<Backend>> {
        self.look(self.dataplane.backend(index).map(Some)).map(Snapshot)
    }

    fn flow(&self, key: &FlowKey) -> Option<Snapshot<FlowEntry>> {
        self.look(self.dataplane.flow(key)).map(Snapshot)
    }

    fn insert_flow(&self, _: &FlowKey, _: &FlowEntry) -> bool {
        true
    }

    fn remove_flow(&self, _: &FlowKey) {}

    fn newborn(&self, key: &FlowKey) -> Option<Snapshot<FlowEntry>> {
        self.look(self.dataplane.newborn_entry(key)).map(Snapshot)
    }

    fn insert_newborn(&self, _: &FlowKey, _: &FlowEntry) -> bool {
        true
    }

    fn may_record(&self, settings: &Settings) -> bool {
        settings.record_budget > 0
    }

    fn lease(&self, vip: &Address) -> Option<Snapshot<Lease>> {
        self.look(self.dataplane.lease(vip)).map(Snapshot)
    }

    fn nanoseconds(&self) -> u64 {
        monotonic().as_nanos() as u64
    }

    fn seconds(&self) -> u32 {
        monotonic().as_secs() as u32
    }

    fn coarse_seconds(&self) -> u32 {
        self.seconds()
    }

    fn note_survivor(&self, _: &FlowKey, _: &Survivor, _: &Settings) {}

    fn peer(&self, mac: &LinkAddress) -> Option<Peer> {
        self.look(self.dataplane.peer(mac))
    }

    fn tunnel_peer(&self, source: &Address) -> bool {
        self.look(self.dataplane.tunnel_peer(source).map(Some)).unwrap_or(false)
    }

    fn link_address(&self, interface: u32) -> Option<Snapshot<LinkAddress>> {
        self.look(self.dataplane.interface(interface)).map(Snapshot)
    }

    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        self.look(self.dataplane.fragment(key))
    }

    fn insert_fragment(&self, _: &FragmentKey, _: &Fragment) {}

    fn nat_flow(&self, key: &FlowKey) -> Option<Snapshot<NatFlow>> {
        self.look(self.dataplane.nat_flow(key)).map(Snapshot)
    }

    fn insert_nat_flow(&self, _: &FlowKey, _: &NatFlow) -> bool {
        true
    }

    fn replace_nat_flow(&self, _: &FlowKey, _: &NatFlow) -> bool {
        true
    }

    fn remove_nat_flow(&self, _: &FlowKey) {}

    fn nat_reply(&self, key: &NatReplyKey) -> Option<Snapshot<NatReply>> {
        self.look(self.dataplane.nat_reply(key)).map(Snapshot)
    }

    fn insert_nat_reply(&self, key: &NatReplyKey, _: &NatReply) -> bool {
        self.nat_reply(key).is_none()
    }

    fn replace_nat_reply(&self, _: &NatReplyKey, _: &NatReply) -> bool {
        true
    }

    fn remove_nat_reply(&self, _: &NatReplyKey) {}

    fn may_send(&self, _: u16, _: IcmpUse, rate: u16) -> bool {
        rate > 0
    }

    fn note_advert(&self, _: &AdvertKey, _: &AdvertStamp) {}

    fn sample(&self, _: u32, _: impl FnOnce(&mut Sample, u64)) {}

    fn count(&self, _: &Fate) {}

    fn observe(&self, step: Step) {
        self.steps.borrow_mut().push(step);
    }
}

/// The clock that the program compares [`Settings::fresh_until`] with: CLOCK_MONOTONIC.
#[must_use]
pub fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the buffer is of the right type; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Dataplane {
    /// An entry of FLOWS.
    pub fn flow(&self, key: &FlowKey) -> anyhow::Result<Option<FlowEntry>> {
        entry(self.flow_table(), key, "FLOWS")
    }

    /// An entry of NEWBORN.
    pub fn newborn_entry(&self, key: &FlowKey) -> anyhow::Result<Option<FlowEntry>> {
        entry(self.newborn_table(), key, "NEWBORN")
    }

    fn lease(&self, vip: &Address) -> anyhow::Result<Option<Lease>> {
        entry(self.owners(), vip, "OWNERS")
    }

    fn fragment(&self, key: &FragmentKey) -> anyhow::Result<Option<Fragment>> {
        entry(self.fragment_table(), key, "FRAGMENTS")
    }

    fn nat_flow(&self, key: &FlowKey) -> anyhow::Result<Option<NatFlow>> {
        entry(self.nat_flow_table(), key, "NAT_FLOWS")
    }

    fn nat_reply(&self, key: &NatReplyKey) -> anyhow::Result<Option<NatReply>> {
        entry(self.nat_reply_table(), key, "NAT_REPLIES")
    }
}

fn entry<K: Plain, V: Plain + Default>(
    map: &aya::maps::MapData,
    key: &K,
    name: &'static str,
) -> anyhow::Result<Option<V>> {
    raw::lookup(map.fd(), *key).with_context(|| format!("cannot read {name}"))
}
