//! The maps, private to this file, and the pipeline's view of them.

mod decap;

use aya_ebpf::{
    bindings::{BPF_EXIST, BPF_F_MMAPABLE, BPF_NOEXIST},
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, lpm_trie::Key},
    helpers::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_ringbuf_output},
    macros::btf_map,
};
use vip_lb_common::{
    FlowHash, Tables, Verdict,
    abi::{
        Address, AdvertKey, AdvertStamp, Backend, DEFAULT_FLOWS, DEFAULT_FRAGMENTS, DEFAULT_NAT,
        DEFAULT_NEWBORN, DEFAULT_SURVIVORS, EVENT_BYTES, FlowEntry, FlowKey, Fragment, FragmentKey,
        IcmpAccount, Lease, LinkAddress, MAX_ADVERTS, MAX_BACKENDS, MAX_RANGES, MAX_SERVICES, MAX_VIPS,
        NatFlow, NatReply, NatReplyKey, Peer, PortKey, RING_SIZES, RangeKey, Recording, Ring, RingClass,
        SAMPLES as MAX_SAMPLES, SNAP, Sample, ServiceOptions, ServiceRef, Settings, Sighting, Slot, Stats,
        Survivor, VIP_PLACES, Vip, VipPlace, WATCHERS as MAX_WATCHERS, WatchCount, Watcher,
    },
    pipeline::{Desk, Fate, Job, Step},
    tables::IcmpUse,
    watch::Ends,
};

pub(crate) use self::decap::DecapMaps;
use crate::{
    cells::{Cell, Marked},
    ring::{in_ring, in_ring_of},
    watch::Witness,
};

/// What the whole program obeys; one value.
#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();
/// The VIPs by a few bits of their address: the one lookup that other traffic pays.
#[btf_map]
static VIP_INDEX: Array<VipPlace, VIP_PLACES> = Array::new();
/// The VIPs by address, all of them; asked for those that share their place in VIP_INDEX.
#[btf_map]
static VIPS: HashMap<Address, Vip, MAX_VIPS> = HashMap::new();
/// Until when this node answers for VIPs that are leased.
#[btf_map]
static OWNERS: HashMap<Address, Lease, MAX_VIPS> = HashMap::new();
/// Services that do not fit into their VIP's own entry.
#[btf_map]
static PORTS: HashMap<PortKey, ServiceRef, MAX_SERVICES> = HashMap::new();
/// Services of ranges of ports, in blocks.
#[btf_map]
static RANGES: LpmTrie<RangeKey, ServiceRef, MAX_RANGES> = LpmTrie::new();
/// What only rare packets ask of a service.
#[btf_map]
static SERVICES: Array<ServiceOptions, MAX_SERVICES> = Array::new();
/// Rings of the default size by service; the inner map holds one ring as one value.
#[btf_map]
static RINGS_16381: ArrayOfMaps<Array<Ring<{ RING_SIZES[0] }>, 1>, MAX_SERVICES> = ArrayOfMaps::new();
/// Rings of 65537 slots.
#[btf_map]
static RINGS_65537: ArrayOfMaps<Array<Ring<{ RING_SIZES[1] }>, 1>, MAX_SERVICES> = ArrayOfMaps::new();
/// Rings of 131071 slots.
#[btf_map]
static RINGS_131071: ArrayOfMaps<Array<Ring<{ RING_SIZES[2] }>, 1>, MAX_SERVICES> = ArrayOfMaps::new();
/// Backends by index, one entry per service and backend; index 0 is none.
#[btf_map]
static BACKENDS: Array<Backend, MAX_BACKENDS> = Array::new();
/// Flows born since their slot was opened. Never evicts.
#[btf_map]
static FLOWS: HashMap<FlowKey, FlowEntry, DEFAULT_FLOWS> = HashMap::new();
/// Handshakes begun since their slot was opened.
#[btf_map]
static NEWBORN: LruHashMap<FlowKey, FlowEntry, DEFAULT_NEWBORN> = LruHashMap::new();
/// Older flows of open slots that showed a sign of life.
#[btf_map]
static SURVIVORS: LruHashMap<FlowKey, Survivor, DEFAULT_SURVIVORS> = LruHashMap::new();
/// Where the first fragments of packets went.
#[btf_map]
static FRAGMENTS: LruHashMap<FragmentKey, Fragment, DEFAULT_FRAGMENTS> = LruHashMap::new();
/// Translated connections as clients see them. Never evicts.
#[btf_map]
static NAT_FLOWS: HashMap<FlowKey, NatFlow, DEFAULT_NAT> = HashMap::new();
/// Translated connections as backends see them. Never evicts.
#[btf_map]
static NAT_REPLIES: HashMap<NatReplyKey, NatReply, DEFAULT_NAT> = HashMap::new();
/// What each CPU did with ICMP for each service in the current second.
#[btf_map]
static ICMP_ACCOUNTS: PerCpuArray<IcmpAccount, MAX_SERVICES> = PerCpuArray::new();
/// What each CPU recorded in the current tick; one value.
#[btf_map]
static RECORDING: PerCpuArray<Recording, 1> = PerCpuArray::new();
/// Other nodes by MAC address.
#[btf_map]
static PEERS: HashMap<LinkAddress, Peer, 256> = HashMap::new();
/// MAC addresses of the interfaces the program is attached to.
#[btf_map]
static INTERFACES: HashMap<u32, LinkAddress, 256> = HashMap::new();
/// Outer sources that may send tunnelled packets.
#[btf_map]
static DECAP_SOURCES: LpmTrie<Address, u32, 1024> = LpmTrie::new();
/// Inner destinations that tunnelled packets may be for (decapsulator only).
#[btf_map]
static DECAP_VIPS: HashMap<Address, u32, MAX_VIPS> = HashMap::new();
/// Packets by verdict.
#[btf_map]
static VERDICTS: PerCpuArray<u64, { Verdict::COUNTERS }> = PerCpuArray::new();
/// Counters by service.
#[btf_map]
static SERVICE_STATS: PerCpuArray<Stats, MAX_SERVICES> = PerCpuArray::new();
/// Counters by backend index.
#[btf_map]
static BACKEND_STATS: PerCpuArray<Stats, MAX_BACKENDS> = PerCpuArray::new();

/// When nodes last said by VRRP that they are active.
#[btf_map]
static ADVERTS: LruHashMap<AdvertKey, AdvertStamp, MAX_ADVERTS> = LruHashMap::new();

/// Flows that are looked at closely, by a hash. The daemon reads it in its own memory (kernel 5.5).
#[btf_map]
static SAMPLES: Array<Sample, MAX_SAMPLES, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Who watches packets.
#[btf_map]
static WATCHERS: Array<Watcher, MAX_WATCHERS> = Array::new();
/// What each CPU did for those who watch.
#[btf_map]
static WATCH_COUNTS: PerCpuArray<WatchCount, MAX_WATCHERS> = PerCpuArray::new();
/// The packet that is shown, on its way to EVENTS; one value.
#[btf_map]
static SHOWN: PerCpuArray<[u64; SHOWN_WORDS], 1> = PerCpuArray::new();
/// Packets for those who watch, each with what became of it.
#[btf_map]
static EVENTS: RingBuf<(), EVENT_BYTES> = RingBuf::new();

/// A packet as it is shown: what is sent, and what else there must be room for.
#[repr(C)]
pub(crate) struct Shown {
    pub(crate) sighting: Sighting,
    /// As it came, and as it left.
    pub(crate) bytes: [u8; CAME_MASK + 1 + SNAP],
    /// The ends of the packet that is looked at.
    pub(crate) ends: Ends,
}

/// Lets through every number of bytes up to [`SNAP`], and more.
pub(crate) const CAME_MASK: usize = SNAP.next_power_of_two() - 1;

/// Words that it takes. To the kernel it has no type.
const SHOWN_WORDS: usize = size_of::<Shown>().div_ceil(8);

/// What a desk's map has for each CPU.
#[repr(C)]
struct Place {
    desk: Desk,
    sighting: Sighting,
}

/// Words that it takes. To the kernel they have no type.
const DESK_WORDS: usize = size_of::<Place>().div_ceil(8);

/// The packet that goes from one function of the program to the next, and what they found out about it; one value.
#[btf_map]
static DESK: PerCpuArray<[u64; DESK_WORDS], 1> = PerCpuArray::new();

/// Keeps a job for the function that is called next.
#[inline(always)]
pub(crate) fn keep(job: &Job) {
    if let Some((desk, _)) = desk() {
        desk.job = *job;
    }
}

/// This CPU's desk, with the job that was kept just before, and what is noted of the packet.
#[inline(always)]
pub(crate) fn desk() -> Option<(&'static mut Desk, *mut Sighting)> {
    // SAFETY: this CPU's own value, which is as large, and aligned as a place; all zeros are one, too. Each function of the program asks
    // for it once, and none while another uses it.
    DESK.get_ptr_mut(0).map(|place| unsafe {
        let place = place.cast::<Place>();
        (&mut (*place).desk, &raw mut (*place).sighting)
    })
}

/// What is noted of the packet that this CPU has.
#[inline(always)]
pub(crate) fn sighting() -> Option<*mut Sighting> {
    // SAFETY: as above; no reference is made.
    DESK.get_ptr_mut(0).map(|place| unsafe { &raw mut (*place.cast::<Place>()).sighting })
}

/// An entry of WATCHERS.
#[inline(always)]
pub(crate) fn watcher(index: u32) -> Option<&'static Watcher> {
    WATCHERS.get(index)
}

/// The packet that is shown: this CPU's own value, valid while the program runs, as large and aligned as its type.
#[inline(always)]
pub(crate) fn shown() -> Option<*mut Shown> {
    SHOWN.get_ptr_mut(0).map(<*mut [u64; SHOWN_WORDS]>::cast)
}

/// Counts a packet that somebody asked for, and says whether it may be shown.
#[inline(always)]
pub(crate) fn may_show(index: u32, watcher: &Watcher, now: u64) -> bool {
    let Some(count) = WATCH_COUNTS.get_ptr_mut(index) else {
        return false;
    };
    // SAFETY: this CPU's own value.
    let count = unsafe { &mut *count };
    count.matched += 1;
    if watcher.every == 0 || (count.matched - 1) % u64::from(watcher.every) != 0 {
        return false;
    }
    let second = (now / 1_000_000_000) as u32;
    if count.second != second {
        count.second = second;
        count.spent = 0;
    }
    if count.spent >= watcher.rate {
        count.missed += 1;
        return false;
    }
    count.spent += 1;
    true
}

/// Sends `len` bytes of what is shown to those who watch.
#[inline(always)]
pub(crate) fn send(shown: *mut Shown, len: usize, watchers: u32) {
    // SAFETY: the sighting and the bytes behind it are in one value.
    let sent =
        unsafe { bpf_ringbuf_output((&raw const EVENTS).cast_mut().cast(), shown.cast(), len as u64, 0) }
            == 0;
    for index in 0..MAX_WATCHERS as u32 {
        if watchers & (1 << index) != 0
            && let Some(count) = WATCH_COUNTS.get_ptr_mut(index)
        {
            // SAFETY: this CPU's own value.
            let count = unsafe { &mut *count };
            if sent {
                count.shown += 1;
            } else {
                count.missed += 1;
            }
        }
    }
}

/// The balancer's maps, and who hears what a packet meets in them.
pub(crate) struct Maps<W>(pub(crate) W);

impl<W: Witness> Tables for Maps<W> {
    type Ref<'a, T: Copy + 'a>
        = &'a T
    where
        W: 'a;
    type Flow<'a>
        = Cell
    where
        W: 'a;
    type NatFlow<'a>
        = Marked<NatFlow>
    where
        W: 'a;
    type NatReply<'a>
        = Marked<NatReply>
    where
        W: 'a;

    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        SETTINGS.get(0)
    }

    #[inline(always)]
    fn vip(&self, address: &Address) -> Option<&Vip> {
        let place = VIP_INDEX.get(address.vip_place())?;
        if place.address.is(address) && place.vip.flags & Vip::PLACED != 0 {
            return Some(&place.vip);
        }
        if place.vip.flags & Vip::SHARED == 0 {
            return None;
        }
        // SAFETY: an entry replaced while it is read shows the old or the new VIP, both of which were valid.
        unsafe { VIPS.get(address) }
    }

    #[inline(always)]
    fn port(&self, key: &PortKey) -> Option<ServiceRef> {
        // SAFETY: one word, read at once.
        unsafe { PORTS.get(key) }.copied()
    }

    #[inline(always)]
    fn range(&self, key: &RangeKey) -> Option<ServiceRef> {
        RANGES.get(&Key::new(RangeKey::BITS, *key)).copied()
    }

    #[inline(always)]
    fn service_options(&self, service: u16) -> Option<&ServiceOptions> {
        SERVICES.get(u32::from(service))
    }

    #[inline(always)]
    fn slot(&self, service: ServiceRef, index: u32) -> Option<&Slot> {
        // SAFETY: `slot_ptr` points into a map value, which is valid while the program runs.
        slot_ptr(service, index).map(|slot| unsafe { &*slot })
    }

    #[inline(always)]
    fn slot_of(&self, service: ServiceRef, hash: FlowHash) -> Option<(u32, &Slot)> {
        let outer = u32::from(service.id);
        let (index, slot) = match RingClass::from_u8(service.ring_class) {
            RingClass::Small => in_ring_of(RINGS_16381.get_value_ptr_mut(outer, &0)?, hash),
            RingClass::Medium => in_ring_of(RINGS_65537.get_value_ptr_mut(outer, &0)?, hash),
            RingClass::Large => in_ring_of(RINGS_131071.get_value_ptr_mut(outer, &0)?, hash),
        }?;
        // SAFETY: as above.
        Some((index, unsafe { &*slot }))
    }

    #[inline(always)]
    fn mark_unrecorded(&self, service: ServiceRef, index: u32, tick: u32) {
        if let Some(slot) = slot_ptr(service, index) {
            // SAFETY: as above; one word, written at once.
            unsafe { (*slot).unrecorded_at = tick };
        }
    }

    #[inline(always)]
    fn backend(&self, index: u16) -> Option<&Backend> {
        BACKENDS.get(u32::from(index))
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<Cell> {
        FLOWS.get_ptr_mut(key).map(Cell)
    }

    #[inline(always)]
    fn insert_flow(&self, key: &FlowKey, entry: &FlowEntry) -> bool {
        let inserted = FLOWS.insert(key, entry, 0).is_ok();
        if !inserted {
            count_refused();
        }
        inserted
    }

    #[inline(always)]
    fn remove_flow(&self, key: &FlowKey) {
        // A flow that is gone already is what was wanted.
        let _ = FLOWS.remove(key);
    }

    #[inline(always)]
    fn newborn(&self, key: &FlowKey) -> Option<Cell> {
        NEWBORN.get_ptr_mut(key).map(Cell)
    }

    #[inline(always)]
    fn insert_newborn(&self, key: &FlowKey, entry: &FlowEntry) -> bool {
        NEWBORN.insert(key, entry, 0).is_ok()
    }

    #[inline(always)]
    fn may_record(&self, settings: &Settings) -> bool {
        let Some(recording) = recording(settings) else {
            return false;
        };
        let granted = recording.recorded < settings.record_budget;
        if granted {
            recording.recorded += 1;
        } else {
            recording.refused += 1;
        }
        granted
    }

    #[inline(always)]
    fn lease(&self, vip: &Address) -> Option<&Lease> {
        // SAFETY: one word, read at once.
        unsafe { OWNERS.get(vip) }
    }

    #[inline(always)]
    fn nanoseconds(&self) -> u64 {
        // SAFETY: the helper reads a clock.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn seconds(&self) -> u32 {
        (self.nanoseconds() / 1_000_000_000) as u32
    }

    #[inline(always)]
    fn coarse_seconds(&self) -> u32 {
        // SAFETY: the helper reads a clock.
        (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
    }

    #[inline(always)]
    fn note_survivor(&self, key: &FlowKey, survivor: &Survivor, settings: &Settings) {
        if let Some(noted) = SURVIVORS.get_ptr_mut(key) {
            // SAFETY: the entry may be recycled for another flow meanwhile, which then looks alive a little longer.
            unsafe { *noted = *survivor };
            return;
        }
        let Some(recording) = recording(settings) else {
            return;
        };
        if recording.noted < settings.survivor_budget {
            recording.noted += 1;
            // Only counted: one missed is one not counted.
            let _ = SURVIVORS.insert(key, survivor, 0);
        }
    }

    #[inline(always)]
    fn peer(&self, mac: &LinkAddress) -> Option<Peer> {
        // SAFETY: peers change only by reload; a torn address is no client's.
        unsafe { PEERS.get(mac) }.copied()
    }

    #[inline(always)]
    fn tunnel_peer(&self, source: &Address) -> bool {
        source_allowed(source)
    }

    #[inline(always)]
    fn link_address(&self, interface: u32) -> Option<&LinkAddress> {
        // SAFETY: an interface's address is written once, before its VIPs.
        unsafe { INTERFACES.get(interface) }
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        // SAFETY: an entry may be recycled for another packet while it is read; where that one's first fragment went is then wrong for this
        // one's rest, which its receiver drops.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn insert_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        // Without it, later fragments are dropped, which is what happens to them without room, too.
        let _ = FRAGMENTS.insert(key, fragment, 0);
    }

    #[inline(always)]
    fn nat_flow(&self, key: &FlowKey) -> Option<Marked<NatFlow>> {
        NAT_FLOWS.get_ptr_mut(key).map(Marked)
    }

    #[inline(always)]
    fn insert_nat_flow(&self, key: &FlowKey, flow: &NatFlow) -> bool {
        NAT_FLOWS.insert(key, flow, BPF_NOEXIST.into()).is_ok()
    }

    #[inline(always)]
    fn replace_nat_flow(&self, key: &FlowKey, flow: &NatFlow) -> bool {
        NAT_FLOWS.insert(key, flow, BPF_EXIST.into()).is_ok()
    }

    #[inline(always)]
    fn remove_nat_flow(&self, key: &FlowKey) {
        // One that is gone already is what was wanted.
        let _ = NAT_FLOWS.remove(key);
    }

    #[inline(always)]
    fn nat_reply(&self, key: &NatReplyKey) -> Option<Marked<NatReply>> {
        NAT_REPLIES.get_ptr_mut(key).map(Marked)
    }

    #[inline(always)]
    fn insert_nat_reply(&self, key: &NatReplyKey, reply: &NatReply) -> bool {
        NAT_REPLIES.insert(key, reply, BPF_NOEXIST.into()).is_ok()
    }

    #[inline(always)]
    fn replace_nat_reply(&self, key: &NatReplyKey, reply: &NatReply) -> bool {
        NAT_REPLIES.insert(key, reply, BPF_EXIST.into()).is_ok()
    }

    #[inline(always)]
    fn remove_nat_reply(&self, key: &NatReplyKey) {
        let _ = NAT_REPLIES.remove(key);
    }

    #[inline(always)]
    fn may_send(&self, service: u16, use_of: IcmpUse, rate: u16) -> bool {
        let Some(account) = ICMP_ACCOUNTS.get_ptr_mut(u32::from(service)) else {
            return false;
        };
        // SAFETY: this CPU's own value.
        unsafe { &mut *account }.spend(use_of, rate, self.seconds())
    }

    #[inline(always)]
    fn note_advert(&self, key: &AdvertKey, stamp: &AdvertStamp) {
        // Without it the daemon knows what it knew before there were stamps: what it heard itself.
        let _ = ADVERTS.insert(key, stamp, 0);
    }

    #[inline(always)]
    fn sample(&self, place: u32, note: impl FnOnce(&mut Sample, u64)) {
        let Some(sample) = SAMPLES.get_ptr_mut(place) else {
            return;
        };
        // SAFETY: the helper reads a clock.
        let now = unsafe { bpf_ktime_get_ns() };
        // SAFETY: a map value, valid while the program runs. Another CPU may write it meanwhile, see `Sample`.
        note(unsafe { &mut *sample }, now);
    }

    #[inline(always)]
    fn count(&self, fate: &Fate) {
        self.0.end(fate);
        count_verdict(fate.verdict);
        if fate.backend != 0 {
            add(SERVICE_STATS.get_ptr_mut(u32::from(fate.service)), fate);
            add(BACKEND_STATS.get_ptr_mut(u32::from(fate.backend)), fate);
        }
    }

    #[inline(always)]
    fn observe(&self, step: Step) {
        self.0.step(&step);
    }
}

/// Adds one to a verdict's counter.
#[inline(always)]
pub(crate) fn count_verdict(verdict: Verdict) {
    if let Some(counter) = VERDICTS.get_ptr_mut(verdict as u32) {
        // SAFETY: this CPU's own value.
        unsafe { *counter += 1 };
    }
}

#[inline(always)]
fn add(stats: Option<*mut Stats>, fate: &Fate) {
    if let Some(stats) = stats {
        // SAFETY: this CPU's own value.
        let stats = unsafe { &mut *stats };
        stats.packets += 1;
        stats.bytes += u64::from(fate.bytes);
        stats.new_connections += u64::from(fate.opens);
    }
}

#[inline(always)]
fn slot_ptr(service: ServiceRef, index: u32) -> Option<*mut Slot> {
    let outer = u32::from(service.id);
    match RingClass::from_u8(service.ring_class) {
        RingClass::Small => in_ring(RINGS_16381.get_value_ptr_mut(outer, &0)?, index),
        RingClass::Medium => in_ring(RINGS_65537.get_value_ptr_mut(outer, &0)?, index),
        RingClass::Large => in_ring(RINGS_131071.get_value_ptr_mut(outer, &0)?, index),
    }
}

#[inline(always)]
fn source_allowed(source: &Address) -> bool {
    DECAP_SOURCES.get(&Key::new(128, *source)).is_some()
}

#[inline(always)]
fn count_refused() {
    if let Some(recording) = RECORDING.get_ptr_mut(0) {
        // SAFETY: this CPU's own value.
        unsafe { (*recording).refused += 1 };
    }
}

/// This CPU's account of the current tick.
#[inline(always)]
fn recording(settings: &Settings) -> Option<&'static mut Recording> {
    // SAFETY: this CPU's own value, and the only reference to it at a time.
    let recording = unsafe { &mut *RECORDING.get_ptr_mut(0)? };
    if recording.tick != settings.tick {
        recording.tick = settings.tick;
        recording.recorded = 0;
        recording.noted = 0;
    }
    Some(recording)
}
