//! The maps as plain collections, with the capacities and budgets of the real ones.

use core::cell::{Cell, RefCell};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
};

use crate::{
    Tables, Verdict,
    abi::{
        Address, AdvertKey, AdvertStamp, Backend, FlowEntry, FlowKey, Fragment, FragmentKey, IcmpAccount,
        Lease, LinkAddress, NatFlow, NatReply, NatReplyKey, Peer, PortKey, RangeKey, Recording, Sample,
        ServiceOptions, ServiceRef, Settings, Slot, Stats, Survivor, Vip,
    },
    decap::DecapTables,
    pipeline::{Fate, Step},
    tables::{FlowCell, IcmpUse, NatCell},
};

/// All tables of one CPU. Fill the fields, run packets, look at the fields.
#[derive(Debug)]
pub struct MemoryTables {
    /// SETTINGS.
    pub settings: Option<Settings>,
    /// VIPS.
    pub vips: HashMap<Address, Vip>,
    /// OWNERS.
    pub leases: HashMap<Address, Lease>,
    /// PORTS.
    pub ports: HashMap<PortKey, ServiceRef>,
    /// RANGES: bits of the key that count, the key, the service.
    pub ranges: Vec<(u32, RangeKey, ServiceRef)>,
    /// SERVICES.
    pub service_options: HashMap<u16, ServiceOptions>,
    /// RINGS of every class, by service.
    pub rings: HashMap<u16, RefCell<Vec<Slot>>>,
    /// BACKENDS.
    pub backends: HashMap<u16, Backend>,
    /// FLOWS.
    pub flows: RefCell<HashMap<FlowKey, FlowEntry>>,
    /// Entries that FLOWS takes.
    pub flows_capacity: usize,
    /// NEWBORN.
    pub newborn: RefCell<HashMap<FlowKey, FlowEntry>>,
    /// SURVIVORS.
    pub survivors: RefCell<HashMap<FlowKey, Survivor>>,
    /// RECORDING.
    pub recording: Cell<Recording>,
    /// CLOCK_MONOTONIC.
    pub seconds: u32,
    /// PEERS.
    pub peers: HashMap<LinkAddress, Peer>,
    /// INTERFACES.
    pub interfaces: HashMap<u32, LinkAddress>,
    /// DECAP_SOURCES, whole addresses only.
    pub decap_sources: HashSet<Address>,
    /// DECAP_VIPS.
    pub decap_vips: HashSet<Address>,
    /// FRAGMENTS.
    pub fragments: RefCell<HashMap<FragmentKey, Fragment>>,
    /// NAT_FLOWS.
    pub nat_flows: RefCell<HashMap<FlowKey, NatFlow>>,
    /// NAT_REPLIES.
    pub nat_replies: RefCell<HashMap<NatReplyKey, NatReply>>,
    /// Entries that NAT_FLOWS takes, and NAT_REPLIES.
    pub nat_capacity: usize,
    /// What another CPU does right after the next insertion into NAT_REPLIES.
    pub meanwhile: Meanwhile,
    /// ICMP_ACCOUNTS.
    pub icmp_accounts: RefCell<HashMap<u16, IcmpAccount>>,
    /// ADVERTS.
    pub adverts: RefCell<HashMap<AdvertKey, AdvertStamp>>,
    /// SAMPLES, by place.
    pub samples: RefCell<BTreeMap<u32, Sample>>,
    /// CLOCK_MONOTONIC in nanoseconds, for them.
    pub nanoseconds: u64,
    /// VERDICTS.
    pub verdicts: RefCell<BTreeMap<Verdict, u64>>,
    /// SERVICE_STATS.
    pub service_stats: RefCell<HashMap<u16, Stats>>,
    /// BACKEND_STATS.
    pub backend_stats: RefCell<HashMap<u16, Stats>>,
    /// Every step of every packet.
    pub steps: RefCell<Vec<Step>>,
}

impl Default for MemoryTables {
    fn default() -> Self {
        Self {
            settings: None,
            vips: HashMap::new(),
            leases: HashMap::new(),
            ports: HashMap::new(),
            ranges: Vec::new(),
            service_options: HashMap::new(),
            rings: HashMap::new(),
            backends: HashMap::new(),
            flows: RefCell::default(),
            flows_capacity: usize::MAX,
            newborn: RefCell::default(),
            survivors: RefCell::default(),
            recording: Cell::default(),
            seconds: 0,
            peers: HashMap::new(),
            interfaces: HashMap::new(),
            decap_sources: HashSet::new(),
            decap_vips: HashSet::new(),
            fragments: RefCell::default(),
            nat_flows: RefCell::default(),
            nat_replies: RefCell::default(),
            nat_capacity: usize::MAX,
            meanwhile: Meanwhile::default(),
            icmp_accounts: RefCell::default(),
            adverts: RefCell::default(),
            samples: RefCell::default(),
            nanoseconds: 1,
            verdicts: RefCell::default(),
            service_stats: RefCell::default(),
            backend_stats: RefCell::default(),
            steps: RefCell::default(),
        }
    }
}

/// What another CPU does to the tables.
type Act = Box<dyn FnOnce(&MemoryTables)>;

/// Something that happens once, on another CPU.
#[derive(Default)]
pub struct Meanwhile(pub Cell<Option<Act>>);

impl core::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Meanwhile(..)")
    }
}

impl MemoryTables {
    fn account(&self, settings: &Settings) -> Recording {
        let recording = self.recording.get();
        if recording.tick == settings.tick {
            recording
        } else {
            Recording { tick: settings.tick, recorded: 0, noted: 0, ..recording }
        }
    }
}

impl Tables for MemoryTables {
    type Ref<'a, T: Copy + 'a> = Copied<T>;
    type Flow<'a> = MemoryFlow<'a>;
    type NatFlow<'a> = MemoryNat<'a, FlowKey, NatFlow>;
    type NatReply<'a> = MemoryNat<'a, NatReplyKey, NatReply>;

    fn settings(&self) -> Option<Copied<Settings>> {
        self.settings.map(Copied)
    }

    fn vip(&self, address: &Address) -> Option<Copied<Vip>> {
        self.vips.get(address).copied().map(Copied)
    }

    fn port(&self, key: &PortKey) -> Option<ServiceRef> {
        self.ports.get(key).copied()
    }

    fn range(&self, key: &RangeKey) -> Option<ServiceRef> {
        let bits = |key: &RangeKey| {
            let RangeKey { vip: [a, b, c, d], protocol, reserved, port: [e, f] } = *key;
            u64::from_be_bytes([a, b, c, d, protocol, reserved, e, f])
        };
        let covers =
            |len: u32, block: &RangeKey| len == 0 || (bits(block) ^ bits(key)) >> (RangeKey::BITS - len) == 0;
        let blocks = self.ranges.iter().filter(|(len, block, _)| covers(*len, block));
        blocks.max_by_key(|(len, ..)| *len).map(|(.., service)| *service)
    }

    fn service_options(&self, service: u16) -> Option<Copied<ServiceOptions>> {
        // An array has a value for every index.
        Some(Copied(self.service_options.get(&service).copied().unwrap_or_default()))
    }

    fn slot(&self, service: ServiceRef, index: u32) -> Option<Copied<Slot>> {
        self.rings.get(&service.id)?.borrow().get(index as usize).copied().map(Copied)
    }

    fn mark_unrecorded(&self, service: ServiceRef, index: u32, tick: u32) {
        if let Some(ring) = self.rings.get(&service.id) {
            ring.borrow_mut()[index as usize].unrecorded_at = tick;
        }
    }

    fn backend(&self, index: u16) -> Option<Copied<Backend>> {
        self.backends.get(&index).copied().map(Copied)
    }

    fn flow(&self, key: &FlowKey) -> Option<MemoryFlow<'_>> {
        MemoryFlow::find(&self.flows, key)
    }

    fn insert_flow(&self, key: &FlowKey, entry: &FlowEntry) -> bool {
        let mut flows = self.flows.borrow_mut();
        let room = flows.len() < self.flows_capacity || flows.contains_key(key);
        if room {
            flows.insert(*key, *entry);
        } else {
            self.recording
                .set(Recording { refused: self.recording.get().refused + 1, ..self.recording.get() });
        }
        room
    }

    fn remove_flow(&self, key: &FlowKey) {
        self.flows.borrow_mut().remove(key);
    }

    fn newborn(&self, key: &FlowKey) -> Option<MemoryFlow<'_>> {
        MemoryFlow::find(&self.newborn, key)
    }

    fn insert_newborn(&self, key: &FlowKey, entry: &FlowEntry) -> bool {
        self.newborn.borrow_mut().insert(*key, *entry);
        true
    }

    fn may_record(&self, settings: &Settings) -> bool {
        let mut recording = self.account(settings);
        let granted = recording.recorded < settings.record_budget;
        if granted {
            recording.recorded += 1;
        } else {
            recording.refused += 1;
        }
        self.recording.set(recording);
        granted
    }

    fn lease(&self, vip: &Address) -> Option<Copied<Lease>> {
        self.leases.get(vip).copied().map(Copied)
    }

    fn nanoseconds(&self) -> u64 {
        u64::from(self.seconds) * 1_000_000_000
    }

    fn seconds(&self) -> u32 {
        self.seconds
    }

    fn coarse_seconds(&self) -> u32 {
        self.seconds
    }

    fn note_survivor(&self, key: &FlowKey, survivor: &Survivor, settings: &Settings) {
        let mut survivors = self.survivors.borrow_mut();
        if !survivors.contains_key(key) {
            let mut recording = self.account(settings);
            let granted = recording.noted < settings.survivor_budget;
            recording.noted += u32::from(granted);
            self.recording.set(recording);
            if !granted {
                return;
            }
        }
        survivors.insert(*key, *survivor);
    }

    fn peer(&self, mac: &LinkAddress) -> Option<Peer> {
        self.peers.get(mac).copied()
    }

    fn tunnel_peer(&self, source: &Address) -> bool {
        self.decap_sources.contains(source)
    }

    fn link_address(&self, interface: u32) -> Option<Copied<LinkAddress>> {
        self.interfaces.get(&interface).copied().map(Copied)
    }

    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        self.fragments.borrow().get(key).copied()
    }

    fn insert_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        self.fragments.borrow_mut().insert(*key, *fragment);
    }

    fn nat_flow(&self, key: &FlowKey) -> Option<MemoryNat<'_, FlowKey, NatFlow>> {
        MemoryNat::find(&self.nat_flows, key)
    }

    fn insert_nat_flow(&self, key: &FlowKey, flow: &NatFlow) -> bool {
        insert_new(&self.nat_flows, self.nat_capacity, key, flow)
    }

    fn replace_nat_flow(&self, key: &FlowKey, flow: &NatFlow) -> bool {
        replace(&self.nat_flows, key, flow)
    }

    fn remove_nat_flow(&self, key: &FlowKey) {
        self.nat_flows.borrow_mut().remove(key);
    }

    fn nat_reply(&self, key: &NatReplyKey) -> Option<MemoryNat<'_, NatReplyKey, NatReply>> {
        MemoryNat::find(&self.nat_replies, key)
    }

    fn insert_nat_reply(&self, key: &NatReplyKey, reply: &NatReply) -> bool {
        let inserted = insert_new(&self.nat_replies, self.nat_capacity, key, reply);
        if inserted && let Some(act) = self.meanwhile.0.take() {
            act(self);
        }
        inserted
    }

    fn replace_nat_reply(&self, key: &NatReplyKey, reply: &NatReply) -> bool {
        replace(&self.nat_replies, key, reply)
    }

    fn remove_nat_reply(&self, key: &NatReplyKey) {
        self.nat_replies.borrow_mut().remove(key);
    }

    fn may_send(&self, service: u16, use_of: IcmpUse, rate: u16) -> bool {
        let mut accounts = self.icmp_accounts.borrow_mut();
        accounts.entry(service).or_default().spend(use_of, rate, self.seconds)
    }

    fn note_advert(&self, key: &AdvertKey, stamp: &AdvertStamp) {
        self.adverts.borrow_mut().insert(*key, *stamp);
    }

    fn sample(&self, place: u32, note: impl FnOnce(&mut Sample, u64)) {
        note(self.samples.borrow_mut().entry(place).or_default(), self.nanoseconds);
    }

    fn count(&self, fate: &Fate) {
        *self.verdicts.borrow_mut().entry(fate.verdict).or_default() += 1;
        if fate.backend != 0 {
            for (stats, index) in [(&self.service_stats, fate.service), (&self.backend_stats, fate.backend)] {
                let mut stats = stats.borrow_mut();
                let stats = stats.entry(index).or_default();
                stats.packets += 1;
                stats.bytes += u64::from(fate.bytes);
                stats.new_connections += u64::from(fate.opens);
            }
        }
    }

    fn observe(&self, step: Step) {
        self.steps.borrow_mut().push(step);
    }
}

impl DecapTables for MemoryTables {
    fn source_allowed(&self, source: &Address) -> bool {
        self.decap_sources.contains(source)
    }

    fn destination_allowed(&self, destination: &Address) -> bool {
        self.decap_vips.contains(destination)
    }

    fn gue_port(&self) -> u16 {
        self.settings.map_or(0, |settings| settings.gue_port)
    }
}

/// A value copied out of its table.
#[derive(Clone, Copy, Debug)]
pub struct Copied<T>(pub T);

impl<T> core::ops::Deref for Copied<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// An entry of FLOWS or NEWBORN.
#[derive(Debug)]
pub struct MemoryFlow<'a> {
    table: &'a RefCell<HashMap<FlowKey, FlowEntry>>,
    key: FlowKey,
}

impl<'a> MemoryFlow<'a> {
    fn find(table: &'a RefCell<HashMap<FlowKey, FlowEntry>>, key: &FlowKey) -> Option<Self> {
        table.borrow().contains_key(key).then_some(Self { table, key: *key })
    }

    fn change(&self, change: impl FnOnce(&mut FlowEntry)) {
        if let Some(entry) = self.table.borrow_mut().get_mut(&self.key) {
            change(entry);
        }
    }
}

impl FlowCell for MemoryFlow<'_> {
    fn get(&self) -> FlowEntry {
        self.table.borrow().get(&self.key).copied().unwrap_or_default()
    }

    fn set_seen(&self, tick: u32) {
        self.change(|entry| entry.seen = tick);
    }

    fn set_closing(&self, closing: bool) {
        self.change(|entry| entry.closing = u16::from(closing));
    }
}

/// An entry of NAT_FLOWS or NAT_REPLIES.
#[derive(Debug)]
pub struct MemoryNat<'a, K, V> {
    table: &'a RefCell<HashMap<K, V>>,
    key: K,
}

impl<'a, K: Copy + Eq + Hash, V: Copy> MemoryNat<'a, K, V> {
    fn find(table: &'a RefCell<HashMap<K, V>>, key: &K) -> Option<Self> {
        table.borrow().contains_key(key).then_some(Self { table, key: *key })
    }
}

impl NatCell<NatFlow> for MemoryNat<'_, FlowKey, NatFlow> {
    fn get(&self) -> NatFlow {
        self.table.borrow().get(&self.key).copied().unwrap_or_default()
    }

    fn touch(&self, tick: u32, marks: u16) {
        if let Some(flow) = self.table.borrow_mut().get_mut(&self.key) {
            flow.seen = tick;
            flow.marks |= marks;
        }
    }
}

impl NatCell<NatReply> for MemoryNat<'_, NatReplyKey, NatReply> {
    fn get(&self) -> NatReply {
        self.table.borrow().get(&self.key).copied().unwrap_or_default()
    }

    fn touch(&self, tick: u32, marks: u16) {
        if let Some(reply) = self.table.borrow_mut().get_mut(&self.key) {
            reply.seen = tick;
            reply.marks |= marks;
        }
    }
}

fn insert_new<K: Copy + Eq + Hash, V: Copy>(
    table: &RefCell<HashMap<K, V>>,
    capacity: usize,
    key: &K,
    value: &V,
) -> bool {
    let mut table = table.borrow_mut();
    let new = !table.contains_key(key) && table.len() < capacity;
    if new {
        table.insert(*key, *value);
    }
    new
}

fn replace<K: Eq + Hash, V: Copy>(table: &RefCell<HashMap<K, V>>, key: &K, value: &V) -> bool {
    table.borrow_mut().get_mut(key).map(|place| *place = *value).is_some()
}
