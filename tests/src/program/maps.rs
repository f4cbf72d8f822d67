//! The maps of a loaded object as typed tables.

use std::{
    borrow::Borrow as _,
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
};

use anyhow::{Context as _, bail, ensure};
use aya::{
    Ebpf, Pod,
    maps::{
        Array, ArrayOfMaps, HashMap as BpfHashMap, LpmTrie, Map, MapData, MapError, PerCpuArray,
        PerCpuValues, RingBuf, lpm_trie::Key,
    },
};
use vip_lb::dataplane::Samples;
use vip_lb_common::{
    Verdict,
    abi::{
        Address, AdvertKey, AdvertStamp, Backend, FlowEntry, FlowKey, Fragment, FragmentKey, IcmpAccount,
        Lease, LinkAddress, NatFlow, NatReply, NatReplyKey, Peer, Plain, PortKey, RING_SIZES, RangeKey,
        Recording, Ring, RingClass, Sample, ServiceOptions, ServiceRef, Settings, Sighting, Slot, Stats,
        Survivor, Vip, VipPlace, WatchCount, Watcher,
    },
};

use super::{
    Scenario, State,
    state::{timeless, whenever, without_times},
};

/// A value as it lies in a map.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Wire<T>(T);

// SAFETY: `Plain` types are made of integers without padding.
unsafe impl<T: Plain> Pod for Wire<T> {}

type Table<K, V> = BpfHashMap<MapData, Wire<K>, Wire<V>>;

type Rings<const N: usize> = ArrayOfMaps<MapData, Array<MapData, Wire<Ring<N>>>>;

/// A packet that was shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What is known of it.
    pub sighting: Sighting,
    /// Its bytes as it came.
    pub came: Vec<u8>,
    /// Its bytes as it left.
    pub left: Vec<u8>,
}

/// All maps, taken out of their object.
pub(super) struct Maps {
    settings: Array<MapData, Wire<Settings>>,
    vip_index: Array<MapData, Wire<VipPlace>>,
    vips: Table<Address, Vip>,
    owners: Table<Address, Lease>,
    ports: Table<PortKey, ServiceRef>,
    ranges: LpmTrie<MapData, Wire<RangeKey>, Wire<ServiceRef>>,
    options: Array<MapData, Wire<ServiceOptions>>,
    backend_array: Array<MapData, Wire<Backend>>,
    flows: Table<FlowKey, FlowEntry>,
    newborn: Table<FlowKey, FlowEntry>,
    survivors: Table<FlowKey, Survivor>,
    fragments: Table<FragmentKey, Fragment>,
    adverts: Table<AdvertKey, AdvertStamp>,
    nat_flows: Table<FlowKey, NatFlow>,
    nat_replies: Table<NatReplyKey, NatReply>,
    icmp_accounts: PerCpuArray<MapData, Wire<IcmpAccount>>,
    samples: Samples,
    sample_array: Array<MapData, Wire<Sample>>,
    recording: PerCpuArray<MapData, Wire<Recording>>,
    peers: Table<LinkAddress, Peer>,
    interfaces: BpfHashMap<MapData, u32, Wire<LinkAddress>>,
    decap_sources: LpmTrie<MapData, Wire<Address>, u32>,
    decap_vips: BpfHashMap<MapData, Wire<Address>, u32>,
    verdicts: PerCpuArray<MapData, u64>,
    service_stats: PerCpuArray<MapData, Wire<Stats>>,
    backend_stats: PerCpuArray<MapData, Wire<Stats>>,
    watchers: Array<MapData, Wire<Watcher>>,
    watch_counts: PerCpuArray<MapData, Wire<WatchCount>>,
    events: RingBuf<MapData>,
    small: Rings<{ RING_SIZES[0] }>,
    medium: Rings<{ RING_SIZES[1] }>,
    large: Rings<{ RING_SIZES[2] }>,
    small_rings: BTreeMap<u16, Array<MapData, Wire<Ring<{ RING_SIZES[0] }>>>>,
    services: Vec<u16>,
    backends: BTreeSet<u16>,
}

impl Maps {
    /// Takes the maps out of an object, as empty as the kernel makes them.
    pub(super) fn of(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let Some(Map::Array(samples)) = ebpf.take_map("SAMPLES") else {
            bail!("the object has no array SAMPLES");
        };
        // Read in place, and written as any other.
        let sample_array = Array::try_from(Map::Array(MapData::from_id(samples.info()?.id())?))?;
        Ok(Self {
            settings: typed(ebpf, "SETTINGS")?,
            vip_index: typed(ebpf, "VIP_INDEX")?,
            vips: typed(ebpf, "VIPS")?,
            owners: typed(ebpf, "OWNERS")?,
            ports: typed(ebpf, "PORTS")?,
            ranges: typed(ebpf, "RANGES")?,
            options: typed(ebpf, "SERVICES")?,
            backend_array: typed(ebpf, "BACKENDS")?,
            flows: typed(ebpf, "FLOWS")?,
            newborn: typed(ebpf, "NEWBORN")?,
            survivors: typed(ebpf, "SURVIVORS")?,
            fragments: typed(ebpf, "FRAGMENTS")?,
            adverts: typed(ebpf, "ADVERTS")?,
            nat_flows: typed(ebpf, "NAT_FLOWS")?,
            nat_replies: typed(ebpf, "NAT_REPLIES")?,
            icmp_accounts: typed(ebpf, "ICMP_ACCOUNTS")?,
            samples: Samples::of(samples)?,
            sample_array,
            recording: typed(ebpf, "RECORDING")?,
            peers: typed(ebpf, "PEERS")?,
            interfaces: typed(ebpf, "INTERFACES")?,
            decap_sources: typed(ebpf, "DECAP_SOURCES")?,
            decap_vips: typed(ebpf, "DECAP_VIPS")?,
            verdicts: typed(ebpf, "VERDICTS")?,
            service_stats: typed(ebpf, "SERVICE_STATS")?,
            backend_stats: typed(ebpf, "BACKEND_STATS")?,
            watchers: typed(ebpf, "WATCHERS")?,
            watch_counts: typed(ebpf, "WATCH_COUNTS")?,
            events: typed(ebpf, "EVENTS")?,
            small: typed(ebpf, "RINGS_16381")?,
            medium: typed(ebpf, "RINGS_65537")?,
            large: typed(ebpf, "RINGS_131071")?,
            small_rings: BTreeMap::new(),
            services: Vec::new(),
            backends: BTreeSet::new(),
        })
    }

    /// Fills empty maps.
    pub(super) fn fill(&mut self, scenario: &Scenario) -> anyhow::Result<()> {
        if let Some(value) = scenario.settings {
            self.set_settings(value)?;
        }
        write(&mut self.vips, &scenario.vips)?;
        for (place, vips) in places(scenario) {
            self.vip_index.set(place, Wire(VipPlace::of(&vips)), 0)?;
        }
        self.set_leases(&scenario.leases)?;
        write(&mut self.ports, &scenario.ports)?;
        for &(bits, key, service) in &scenario.ranges {
            self.ranges.insert(&Key::new(bits, Wire(key)), Wire(service), 0)?;
        }
        for (&service, &of_service) in &scenario.service_options {
            self.options.set(u32::from(service), Wire(of_service), 0)?;
        }
        write(&mut self.peers, &scenario.peers)?;
        for (index, address) in &scenario.interfaces {
            self.interfaces.insert(index, Wire(*address), 0)?;
        }
        for source in &scenario.decap_sources {
            self.decap_sources.insert(&Key::new(128, Wire(*source)), 1, 0)?;
        }
        for destination in &scenario.decap_vips {
            self.decap_vips.insert(Wire(*destination), 1, 0)?;
        }
        self.small_rings = publish(&mut self.small, RingClass::Small, scenario)?;
        publish(&mut self.medium, RingClass::Medium, scenario)?;
        publish(&mut self.large, RingClass::Large, scenario)?;
        self.services = scenario.rings.keys().map(|service| service.id).collect();
        self.set_backends(&scenario.backends)?;
        for (index, &watcher) in (0..).zip(&scenario.watchers) {
            self.watchers.set(index, Wire(watcher), 0)?;
        }
        Ok(())
    }

    /// Empties maps that were filled with `scenario`, and in which packets have left their traces since. The rings stay.
    pub(super) fn clear(&mut self, scenario: &Scenario) -> anyhow::Result<()> {
        self.set_settings(zero())?;
        for (place, _) in places(scenario) {
            self.vip_index.set(place, Wire(zero()), 0)?;
        }
        empty(&mut self.vips)?;
        empty(&mut self.owners)?;
        empty(&mut self.ports)?;
        for &(bits, key, _) in &scenario.ranges {
            self.ranges.remove(&Key::new(bits, Wire(key)))?;
        }
        for source in &scenario.decap_sources {
            self.decap_sources.remove(&Key::new(128, Wire(*source)))?;
        }
        for destination in &scenario.decap_vips {
            self.decap_vips.remove(&Wire(*destination))?;
        }
        empty(&mut self.peers)?;
        for index in scenario.interfaces.keys() {
            self.interfaces.remove(index)?;
        }
        empty(&mut self.flows)?;
        empty(&mut self.newborn)?;
        empty(&mut self.survivors)?;
        empty(&mut self.fragments)?;
        empty(&mut self.adverts)?;
        empty(&mut self.nat_flows)?;
        empty(&mut self.nat_replies)?;
        for service in scenario.services() {
            self.options.set(service, Wire(zero()), 0)?;
            reset(&mut self.service_stats, service)?;
            reset(&mut self.icmp_accounts, service)?;
        }
        for backend in std::mem::take(&mut self.backends) {
            self.backend_array.set(u32::from(backend), Wire(zero()), 0)?;
            reset(&mut self.backend_stats, u32::from(backend))?;
        }
        for (place, sample) in self.samples() {
            if sample != Sample::default() {
                self.sample_array.set(place, Wire(Sample::default()), 0)?;
            }
        }
        reset(&mut self.recording, 0)?;
        for number in 0..Verdict::COUNTERS as u32 {
            self.verdicts.set(number, PerCpuValues::try_from(vec![0; nr_cpus()?])?, 0)?;
        }
        for index in 0..self.watchers.len() {
            self.watchers.set(index, Wire(zero()), 0)?;
            reset(&mut self.watch_counts, index)?;
        }
        while self.events.next().is_some() {}
        Ok(())
    }

    /// Overwrites entries of BACKENDS.
    pub(super) fn set_backends(&mut self, backends: &HashMap<u16, Backend>) -> anyhow::Result<()> {
        for (&index, &backend) in backends {
            self.backend_array.set(u32::from(index), Wire(backend), 0)?;
            self.backends.insert(index);
        }
        Ok(())
    }

    /// Replaces the settings.
    pub(super) fn set_settings(&mut self, settings: Settings) -> anyhow::Result<()> {
        Ok(self.settings.set(0, Wire(settings), 0)?)
    }

    /// Overwrites entries of OWNERS.
    pub(super) fn set_leases(&mut self, leases: &HashMap<Address, Lease>) -> anyhow::Result<()> {
        write(&mut self.owners, leases)
    }

    /// Overwrites entries of FLOWS.
    pub(super) fn set_flows(&mut self, flows: &HashMap<FlowKey, FlowEntry>) -> anyhow::Result<()> {
        write(&mut self.flows, flows)
    }

    /// Overwrites entries of NEWBORN.
    pub(super) fn set_newborn(&mut self, newborn: &HashMap<FlowKey, FlowEntry>) -> anyhow::Result<()> {
        write(&mut self.newborn, newborn)
    }

    /// Overwrites entries of FRAGMENTS.
    pub(super) fn set_fragments(&mut self, fragments: &HashMap<FragmentKey, Fragment>) -> anyhow::Result<()> {
        write(&mut self.fragments, fragments)
    }

    /// Takes out of EVENTS what was shown since the last time.
    pub(super) fn shown(&mut self) -> anyhow::Result<Vec<Shown>> {
        let mut all = Vec::new();
        while let Some(bytes) = self.events.next() {
            let (head, rest) = bytes
                .split_at_checked(size_of::<Sighting>())
                .context("an event is shorter than what it begins with")?;
            // SAFETY: as many bytes as it has, any of which make one; copied, because they need not be aligned.
            let sighting: Sighting = unsafe { head.as_ptr().cast::<Sighting>().read_unaligned() };
            let (came, left) =
                rest.split_at_checked(sighting.came.into()).context("an event has less than came")?;
            ensure!(left.len() >= sighting.left.into(), "an event has less than left");
            let left = &left[..sighting.left.into()];
            all.push(Shown { sighting, came: came.to_vec(), left: left.to_vec() });
        }
        Ok(all)
    }

    /// What was counted for who watches, on all CPUs: packets asked for, shown, and missed.
    pub(super) fn watch_count(&self, index: u32) -> anyhow::Result<[u64; 3]> {
        let counts = self.watch_counts.get(&index, 0)?;
        Ok(counts.iter().fold([0; 3], |sum, Wire(count)| {
            [sum[0] + count.matched, sum[1] + count.shown, sum[2] + count.missed]
        }))
    }

    /// Packets with a verdict so far, on all CPUs.
    pub(super) fn verdict(&self, number: u32) -> anyhow::Result<u64> {
        Ok(self.verdicts.get(&number, 0)?.iter().sum())
    }

    /// What the programs wrote.
    pub(super) fn state(&self) -> anyhow::Result<State> {
        let mut verdicts = BTreeMap::new();
        for number in 0..Verdict::COUNTERS as u32 {
            let count = self.verdict(number)?;
            if count != 0 {
                let verdict = Verdict::from_number(number)
                    .with_context(|| format!("counter {number} of VERDICTS has no meaning"))?;
                verdicts.insert(verdict.name(), count);
            }
        }
        let services = stats(&self.service_stats, &self.services)?;
        let unrecorded = self.unrecorded(&services)?;
        Ok(State {
            verdicts,
            services,
            backends: stats(&self.backend_stats, &self.backends)?,
            flows: entries(&self.flows)?,
            newborn: entries(&self.newborn)?,
            survivors: entries(&self.survivors)?,
            fragments: timeless(entries(&self.fragments)?),
            adverts: whenever(entries(&self.adverts)?),
            samples: without_times(self.samples().into_iter()),
            nat_flows: entries(&self.nat_flows)?,
            nat_replies: entries(&self.nat_replies)?,
            unrecorded,
            recording: self.recording()?,
        })
    }

    /// Marks in the rings of services that packets came to. Aya reads a ring onto the stack, and copies it there more than once in debug
    /// builds.
    fn unrecorded(&self, services: &BTreeMap<u16, Stats>) -> anyhow::Result<Vec<(u16, u32, u32)>> {
        const STACK: usize = 32 << 20;
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, || self.unrecorded_on_this_stack(services))?
                .join()
                .expect("reading rings does not panic")
        })
    }

    fn unrecorded_on_this_stack(
        &self,
        services: &BTreeMap<u16, Stats>,
    ) -> anyhow::Result<Vec<(u16, u32, u32)>> {
        let mut unrecorded = Vec::new();
        for (&service, ring) in self.small_rings.iter().filter(|(service, _)| services.contains_key(*service))
        {
            let ring = ring.get(&0, 0)?;
            for (index, slot) in (0..).zip(&ring.0) {
                if slot.unrecorded_at != 0 {
                    unrecorded.push((service, index, slot.unrecorded_at));
                }
            }
        }
        Ok(unrecorded)
    }

    fn samples(&self) -> Vec<(u32, Sample)> {
        let mut samples = Vec::new();
        self.samples.copy(&mut samples);
        (0..).zip(samples).collect()
    }

    fn recording(&self) -> anyhow::Result<Recording> {
        let all = self.recording.get(&0, 0)?;
        let mut used = all.iter().map(|wire| wire.0).filter(|&one| one != Recording::default());
        let recording = used.next().unwrap_or_default();
        ensure!(used.next().is_none(), "the program ran on more than one CPU");
        Ok(recording)
    }
}

fn typed<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<T> {
    let map = ebpf.take_map(name).with_context(|| format!("the object has no map {name}"))?;
    T::try_from(map).with_context(|| format!("map {name} is not of the expected type"))
}

fn write<K: Plain, V: Plain>(map: &mut Table<K, V>, entries: &HashMap<K, V>) -> anyhow::Result<()> {
    for (&key, &value) in entries {
        map.insert(Wire(key), Wire(value), 0)?;
    }
    Ok(())
}

/// Removes all entries.
fn empty<K: Plain, V: Plain>(map: &mut Table<K, V>) -> anyhow::Result<()> {
    let keys: Vec<_> = map.keys().collect::<Result<_, _>>()?;
    keys.iter().try_for_each(|key| map.remove(key)).map_err(Into::into)
}

/// Makes an entry zero on every CPU.
fn reset<T: Plain>(map: &mut PerCpuArray<MapData, Wire<T>>, index: u32) -> anyhow::Result<()> {
    let zeros = (0..nr_cpus()?).map(|_| Wire(zero())).collect::<Vec<_>>();
    Ok(map.set(index, PerCpuValues::try_from(zeros)?, 0)?)
}

fn nr_cpus() -> anyhow::Result<usize> {
    aya::util::nr_cpus().map_err(|(_, error)| error).context("cannot count the CPUs")
}

/// What the kernel makes entries of arrays of.
fn zero<T: Plain>() -> T {
    // SAFETY: `Plain` types are made of integers without padding.
    unsafe { std::mem::zeroed() }
}

fn places(scenario: &Scenario) -> HashMap<u32, Vec<(Address, Vip)>> {
    let mut places: HashMap<u32, Vec<_>> = HashMap::new();
    for (&address, &vip) in &scenario.vips {
        places.entry(address.vip_place()).or_default().push((address, vip));
    }
    places
}

fn publish<const N: usize>(
    outer: &mut Rings<N>,
    class: RingClass,
    scenario: &Scenario,
) -> anyhow::Result<BTreeMap<u16, Array<MapData, Wire<Ring<N>>>>> {
    let mut inner = BTreeMap::new();
    for (service, slots) in &scenario.rings {
        if RingClass::from_u8(service.ring_class) != class {
            continue;
        }
        let ring: Box<[Slot; N]> = slots
            .clone()
            .into_boxed_slice()
            .try_into()
            .ok()
            .with_context(|| format!("the ring of service {} has the wrong length", service.id))?;
        // SAFETY: `Wire` is transparent.
        let ring: Box<Wire<Ring<N>>> = unsafe { Box::from_raw(Box::into_raw(ring).cast()) };
        let mut map: Array<MapData, Wire<Ring<N>>> = Array::create(1, 0)?;
        let value: &Wire<Ring<N>> = ring.borrow();
        map.set(0, value, 0)?;
        outer
            .set(u32::from(service.id), &map, 0)
            .with_context(|| format!("cannot publish the ring of service {}", service.id))?;
        inner.insert(service.id, map);
    }
    Ok(inner)
}

fn stats<'a>(
    map: &PerCpuArray<MapData, Wire<Stats>>,
    indices: impl IntoIterator<Item = &'a u16>,
) -> anyhow::Result<BTreeMap<u16, Stats>> {
    let mut all = BTreeMap::new();
    for &index in indices {
        let mut sum = Stats::default();
        for Wire(one) in map.get(&u32::from(index), 0)?.iter() {
            sum.packets += one.packets;
            sum.bytes += one.bytes;
            sum.new_connections += one.new_connections;
        }
        if sum != Stats::default() {
            all.insert(index, sum);
        }
    }
    Ok(all)
}

fn entries<K: Plain + Eq + Hash, V: Plain>(map: &Table<K, V>) -> anyhow::Result<HashMap<K, V>> {
    map.iter().map(|entry| entry.map(|(key, value)| (key.0, value.0)).map_err(Into::into)).collect()
}
