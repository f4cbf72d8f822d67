//! The loaded balancer: carries out writes, reads back what packets wrote.

use std::{net::IpAddr, ops::Range, time::Duration};

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{
        Array, HashMap, IterableMap as _, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues,
        lpm_trie::Key,
    },
};
use vip_lb_common::{
    Verdict,
    abi::{
        Address, Backend, FlowEntry, FlowKey, Fragment, FragmentKey, LinkAddress, Peer, PortKey, RangeKey,
        RingClass, ServiceOptions, ServiceRef, Settings, Slot, Stats, Survivor, Vip, WatchCount, Watcher,
    },
};

use super::{
    attach::{self, AttachError, Attachment},
    loader::{LoadError, LoadOptions, ProgramCost, TakenOver, load_balancer, load_program, take},
    pins::{PinError, Pins},
    probe::Probes,
    raw::{self, Raw},
    rings::Rings,
    samples::Samples,
    vips::Vips,
    watch::{Sightings, Watchers},
    write::{Publication, Write},
};
use crate::config::model::AttachMode;

/// Name of the program in the object.
pub(super) const PROGRAM: &str = "vip_lb";

/// The balancer in the kernel. Dropped, everything stays pinned and forwards on.
pub struct Dataplane {
    pub(super) bpf: Ebpf,
    pub(super) probes: Probes,
    pins: Pins,
    taken: TakenOver,
    settings: Array<MapData, Raw<Settings>>,
    vips: Vips,
    owners: MapData,
    adverts: MapData,
    ports: HashMap<MapData, Raw<PortKey>, Raw<ServiceRef>>,
    ranges: LpmTrie<MapData, Raw<RangeKey>, Raw<ServiceRef>>,
    service_options: Array<MapData, Raw<ServiceOptions>>,
    rings: Rings,
    backends: Array<MapData, Raw<Backend>>,
    flows: MapData,
    newborn: MapData,
    survivors: MapData,
    fragments: MapData,
    nat_flows: MapData,
    nat_replies: MapData,
    peers: HashMap<MapData, Raw<LinkAddress>, Raw<Peer>>,
    interfaces: HashMap<MapData, u32, Raw<LinkAddress>>,
    tunnel_peers: LpmTrie<MapData, Raw<Address>, u32>,
    verdicts: PerCpuArray<MapData, u64>,
    service_stats: PerCpuArray<MapData, Raw<Stats>>,
    backend_stats: PerCpuArray<MapData, Raw<Stats>>,
    watchers: Watchers,
    samples: Samples,
}

/// How many entries the tables take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacities {
    /// FLOWS.
    pub flows: u32,
    /// NEWBORN.
    pub newborn: u32,
    /// SURVIVORS.
    pub survivors: u32,
    /// NAT_FLOWS, and NAT_REPLIES as well.
    pub nat: u32,
    /// FRAGMENTS.
    pub fragments: u32,
}

/// What an earlier daemon left in the maps.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Its settings.
    pub settings: Option<Settings>,
    /// VIPs and tunnel ends by address.
    pub vips: Vec<(IpAddr, Vip)>,
    /// Services that are not in their VIP.
    pub ports: Vec<(PortKey, ServiceRef)>,
    /// Backends by index, those in use and those that were.
    pub backends: Vec<(u16, Backend)>,
    /// Services of port ranges: bits of the key that count, the key, the service.
    pub ranges: Vec<(u32, RangeKey, ServiceRef)>,
    /// What SERVICES has for the services with a ring.
    pub options: Vec<(u16, ServiceOptions)>,
    /// Published rings.
    pub rings: Vec<(u16, RingClass)>,
    /// Peer nodes.
    pub peers: Vec<(LinkAddress, Peer)>,
    /// Addresses that may send tunnelled packets.
    pub tunnel_peers: Vec<IpAddr>,
}

impl Dataplane {
    /// Loads the program on the pinned maps, or on new ones. Packets do not notice.
    pub fn open(options: &LoadOptions) -> anyhow::Result<Self> {
        let (mut bpf, pins, taken) = load_balancer(options)?;
        let mut dataplane = Self {
            settings: take(&mut bpf, "SETTINGS")?,
            vips: Vips::take(&mut bpf)?,
            owners: take_data(&mut bpf, "OWNERS")?,
            adverts: take_data(&mut bpf, "ADVERTS")?,
            ports: take(&mut bpf, "PORTS")?,
            ranges: take(&mut bpf, "RANGES")?,
            service_options: take(&mut bpf, "SERVICES")?,
            rings: Rings::take(&mut bpf)?,
            backends: take(&mut bpf, "BACKENDS")?,
            flows: take_data(&mut bpf, "FLOWS")?,
            newborn: take_data(&mut bpf, "NEWBORN")?,
            survivors: take_data(&mut bpf, "SURVIVORS")?,
            fragments: take_data(&mut bpf, "FRAGMENTS")?,
            nat_flows: take_data(&mut bpf, "NAT_FLOWS")?,
            nat_replies: take_data(&mut bpf, "NAT_REPLIES")?,
            peers: take(&mut bpf, "PEERS")?,
            interfaces: take(&mut bpf, "INTERFACES")?,
            tunnel_peers: take(&mut bpf, "DECAP_SOURCES")?,
            verdicts: take(&mut bpf, "VERDICTS")?,
            service_stats: take(&mut bpf, "SERVICE_STATS")?,
            backend_stats: take(&mut bpf, "BACKEND_STATS")?,
            watchers: Watchers::take(&mut bpf)?,
            samples: Samples::take(&mut bpf)?,
            bpf,
            probes: Probes::default(),
            pins,
            taken,
        };
        load_program(&mut dataplane.bpf, PROGRAM)?;
        Ok(dataplane)
    }

    /// What a former daemon left in the maps. From here on nobody else may write them: migrated ones are filled now.
    pub fn found(&mut self) -> anyhow::Result<Found> {
        if let Some(pending) = &self.taken.pending {
            pending.fill(&self.pins)?;
        }
        if self.taken.adopted { self.read_all() } else { Ok(Found::default()) }
    }

    /// The layout that the pins were migrated from, if they were.
    #[must_use]
    pub fn migrated_from(&self) -> Option<u32> {
        self.taken.pending.as_ref().map(|pending| pending.migration.from)
    }

    /// Puts migrated maps in the place of their former selves, if there are any. All links must have this program.
    pub fn finish_take_over(&mut self) -> Result<(), PinError> {
        match self.taken.pending.take() {
            Some(pending) => pending.commit(&self.pins),
            None => Ok(()),
        }
    }

    /// What the verifier said of the program.
    pub fn cost(&self) -> Option<ProgramCost> {
        let program: &aya::programs::Xdp = self.bpf.program(PROGRAM)?.try_into().ok()?;
        let info = program.info().ok()?;
        Some(ProgramCost {
            verified_instructions: info.verified_instruction_count(),
            translated_bytes: info.size_translated(),
        })
    }

    /// How often the program ran and for how long, as far as the kernel counts that (`kernel.bpf_stats_enabled`, kernel 5.1).
    pub fn runs(&self) -> anyhow::Result<(u64, Duration)> {
        let program: &aya::programs::Xdp = self.bpf.program(PROGRAM).context("no program")?.try_into()?;
        let info = program.info().context("cannot ask the kernel about the program")?;
        Ok((info.run_count(), info.run_time()))
    }

    /// Attaches the program to an interface, or swaps it in where an earlier one of ours is.
    pub fn attach(
        &mut self,
        interface: &str,
        index: u32,
        wanted: AttachMode,
    ) -> Result<Attachment, AttachError> {
        let program = self.bpf.program_mut(PROGRAM).and_then(|program| program.try_into().ok());
        let program = program.expect("`open` loaded the program");
        attach::attach(program, &self.pins, interface, index, wanted)
    }

    /// Detaches from an interface.
    pub fn detach(&mut self, interface: &str) -> anyhow::Result<()> {
        attach::detach(&self.pins, interface).with_context(|| format!("cannot detach from {interface}"))
    }

    /// Interfaces that an earlier daemon attached to.
    pub fn attached(&self) -> Vec<String> {
        self.pins.linked_interfaces()
    }

    /// Publishes rings and returns, for each, the one it replaced with all that packets wrote into it. The kernel waits until no CPU uses
    /// the former ones any more: once for all of them (kernel 6.8; before, once for each).
    pub fn publish(&mut self, rings: &[Publication]) -> Vec<anyhow::Result<Option<Vec<Slot>>>> {
        self.rings.publish(rings)
    }

    /// Carries out one change.
    pub fn write(&mut self, write: &Write) -> anyhow::Result<()> {
        match write {
            Write::Settings(settings) => {
                self.settings.set(0, Raw(**settings), 0).context("cannot write SETTINGS")?;
            }
            Write::Backend { index, backend } => self
                .backends
                .set(u32::from(*index), Raw(**backend), 0)
                .with_context(|| format!("cannot write backend {index}"))?,
            Write::Ring(ring) => {
                for result in self.publish(std::slice::from_ref(ring)) {
                    result?;
                }
            }
            Write::RemoveRing { service, class } => self.rings.remove(*service, *class)?,
            Write::Port { key, service } => {
                self.ports.insert(Raw(*key), Raw(*service), 0).context("cannot write PORTS")?;
            }
            Write::RemovePort(key) => removed(self.ports.remove(&Raw(*key))).context("cannot write PORTS")?,
            Write::Range { bits, key, service } => {
                self.ranges
                    .insert(&Key::new(*bits, Raw(*key)), Raw(*service), 0)
                    .context("cannot write RANGES")?;
            }
            Write::RemoveRange { bits, key } => {
                removed(self.ranges.remove(&Key::new(*bits, Raw(*key)))).context("cannot write RANGES")?;
            }
            Write::ServiceOptions { service, options } => {
                self.service_options
                    .set(u32::from(*service), Raw(*options), 0)
                    .context("cannot write SERVICES")?;
            }
            Write::Vip { address, vip } => self.vips.insert(*address, *vip)?,
            Write::RemoveVip(address) => self.vips.remove(*address)?,
            Write::Peer { mac, peer } => {
                self.peers.insert(Raw(*mac), Raw(*peer), 0).context("cannot write PEERS")?;
            }
            Write::RemovePeer(mac) => removed(self.peers.remove(&Raw(*mac))).context("cannot write PEERS")?,
            Write::TunnelPeer(address) => {
                self.tunnel_peers
                    .insert(&host_prefix(*address), 1, 0)
                    .context("cannot write DECAP_SOURCES")?;
            }
            Write::RemoveTunnelPeer(address) => removed(self.tunnel_peers.remove(&host_prefix(*address)))
                .context("cannot write DECAP_SOURCES")?,
            Write::Interface { index, mac } => {
                self.interfaces.insert(index, Raw(*mac), 0).context("cannot write INTERFACES")?;
            }
            Write::RemoveInterface(index) => {
                removed(self.interfaces.remove(index)).context("cannot write INTERFACES")?;
            }
        }
        Ok(())
    }

    /// A ring as it is now, with what packets wrote into it.
    pub fn ring(&self, service: u16, class: RingClass) -> anyhow::Result<Option<Vec<Slot>>> {
        self.rings.read(service, class)
    }

    /// All entries of FLOWS.
    pub fn flows(&self) -> anyhow::Result<Vec<(FlowKey, FlowEntry)>> {
        raw::entries(self.flows.fd()).context("cannot read FLOWS")
    }

    /// All entries of NEWBORN.
    pub fn newborn(&self) -> anyhow::Result<Vec<(FlowKey, FlowEntry)>> {
        raw::entries(self.newborn.fd()).context("cannot read NEWBORN")
    }

    /// All entries of SURVIVORS.
    pub fn survivors(&self) -> anyhow::Result<Vec<(FlowKey, Survivor)>> {
        raw::entries(self.survivors.fd()).context("cannot read SURVIVORS")
    }

    /// Inserts or replaces an entry of FLOWS, as another node recorded it.
    pub fn insert_flow(&self, key: &FlowKey, entry: &FlowEntry) -> anyhow::Result<()> {
        raw::update(self.flows.fd(), *key, *entry).context("cannot write into FLOWS")
    }

    /// Removes an entry from FLOWS, whatever it is.
    pub fn delete_flow(&self, key: &FlowKey) -> anyhow::Result<()> {
        raw::delete(self.flows.fd(), *key).context("cannot remove from FLOWS")
    }

    /// Inserts or replaces an entry of NEWBORN, as another node recorded it.
    pub fn insert_newborn(&self, key: &FlowKey, entry: &FlowEntry) -> anyhow::Result<()> {
        raw::update(self.newborn.fd(), *key, *entry).context("cannot write into NEWBORN")
    }

    /// Removes entries from FLOWS, those that changed since they were read excepted. Tells how many those are.
    pub fn remove_flows(&self, read: &[(FlowKey, FlowEntry)]) -> anyhow::Result<usize> {
        remove_unchanged(&self.flows, read).context("cannot remove from FLOWS")
    }

    /// Removes entries from NEWBORN, those that changed since they were read excepted. Tells how many those are.
    pub fn remove_newborn(&self, read: &[(FlowKey, FlowEntry)]) -> anyhow::Result<usize> {
        remove_unchanged(&self.newborn, read).context("cannot remove from NEWBORN")
    }

    /// Removes flows from SURVIVORS.
    pub fn remove_survivors(&self, keys: &[FlowKey]) -> anyhow::Result<()> {
        let remove = |key: &FlowKey| raw::delete(self.survivors.fd(), *key);
        keys.iter().try_for_each(remove).context("cannot remove from SURVIVORS")
    }

    /// How many entries FRAGMENTS has.
    pub fn fragments(&self) -> anyhow::Result<usize> {
        let fragments = raw::entries::<FragmentKey, Fragment>(self.fragments.fd());
        Ok(fragments.context("cannot read FRAGMENTS")?.len())
    }

    /// Entries that the tables take, which pins of an earlier daemon may have fixed.
    pub fn capacities(&self) -> anyhow::Result<Capacities> {
        let entries = |map: &MapData| Ok::<_, MapError>(map.info()?.max_entries());
        Ok(Capacities {
            flows: entries(&self.flows)?,
            newborn: entries(&self.newborn)?,
            survivors: entries(&self.survivors)?,
            nat: entries(&self.nat_flows)?,
            fragments: entries(&self.fragments)?,
        })
    }

    /// CPUs that may run the program: those that per-CPU maps have values for.
    pub fn possible_cpus() -> anyhow::Result<u32> {
        let count = aya::util::nr_cpus().map_err(|(path, error)| anyhow::Error::new(error).context(path))?;
        Ok(u32::try_from(count)?)
    }

    /// Packets by verdict, on all CPUs.
    pub fn verdicts(&self) -> anyhow::Result<Vec<(Verdict, u64)>> {
        Verdict::ALL.iter().map(|&verdict| Ok((verdict, self.packets_of(verdict)?))).collect()
    }

    /// Packets that ended so, on all CPUs.
    pub fn packets_of(&self, verdict: Verdict) -> anyhow::Result<u64> {
        let values = self.verdicts.get(&(verdict as u32), 0).context("cannot read VERDICTS")?;
        Ok(values.iter().sum())
    }

    /// Counters of a service, on all CPUs.
    pub fn service_stats(&self, service: u16) -> anyhow::Result<Stats> {
        sum(&self.service_stats, service).context("cannot read SERVICE_STATS")
    }

    /// Counters of a backend, on all CPUs.
    pub fn backend_stats(&self, backend: u16) -> anyhow::Result<Stats> {
        sum(&self.backend_stats, backend).context("cannot read BACKEND_STATS")
    }

    /// Sets the counters of a backend to zero, before another one gets its index.
    pub fn clear_backend_stats(&mut self, backend: u16) -> anyhow::Result<()> {
        clear(&mut self.backend_stats, backend).context("cannot clear BACKEND_STATS")
    }

    /// Sets the counters of a service to zero, before another one gets its number.
    pub fn clear_service_stats(&mut self, service: u16) -> anyhow::Result<()> {
        clear(&mut self.service_stats, service).context("cannot clear SERVICE_STATS")
    }

    /// The numbers under which packets may be watched.
    pub fn watch_numbers() -> Range<u32> {
        Watchers::numbers()
    }

    /// Sets what is watched under a number.
    pub fn watch(&mut self, number: u32, watcher: &Watcher) -> anyhow::Result<()> {
        self.watchers.set(number, watcher)
    }

    /// What was watched under a number, on all CPUs.
    pub fn watch_count(&self, number: u32) -> anyhow::Result<WatchCount> {
        self.watchers.count(number)
    }

    /// The flows that are looked at closely.
    #[must_use]
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// What is shown to those who watch. It can be taken once.
    pub fn sightings(&mut self) -> anyhow::Result<Sightings> {
        self.watchers.sightings()
    }

    pub(super) fn setting(&self) -> anyhow::Result<Settings> {
        Ok(self.settings.get(&0, 0).context("cannot read SETTINGS")?.0)
    }

    pub(super) fn vip(&self, address: &Address) -> anyhow::Result<Option<Vip>> {
        self.vips.get(address)
    }

    pub(super) fn port(&self, key: &PortKey) -> anyhow::Result<Option<ServiceRef>> {
        found(self.ports.get(&Raw(*key), 0)).context("cannot read PORTS")
    }

    pub(super) fn range(&self, key: &RangeKey) -> anyhow::Result<Option<ServiceRef>> {
        found(self.ranges.get(&Key::new(RangeKey::BITS, Raw(*key)), 0)).context("cannot read RANGES")
    }

    pub(super) fn service_options(&self, service: u16) -> anyhow::Result<ServiceOptions> {
        Ok(self.service_options.get(&u32::from(service), 0).context("cannot read SERVICES")?.0)
    }

    pub(super) fn backend(&self, index: u16) -> anyhow::Result<Backend> {
        Ok(self.backends.get(&u32::from(index), 0).context("cannot read BACKENDS")?.0)
    }

    pub(super) fn interface(&self, index: u32) -> anyhow::Result<Option<LinkAddress>> {
        found(self.interfaces.get(&index, 0)).context("cannot read INTERFACES")
    }

    pub(super) fn peer(&self, mac: &LinkAddress) -> anyhow::Result<Option<Peer>> {
        found(self.peers.get(&Raw(*mac), 0)).context("cannot read PEERS")
    }

    pub(super) fn tunnel_peer(&self, address: &Address) -> anyhow::Result<bool> {
        match self.tunnel_peers.get(&Key::new(128, Raw(*address)), 0) {
            Ok(_) => Ok(true),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(error) => Err(error).context("cannot read DECAP_SOURCES"),
        }
    }

    pub(super) fn owners(&self) -> &MapData {
        &self.owners
    }

    pub(super) fn advert_table(&self) -> &MapData {
        &self.adverts
    }

    pub(super) fn flow_table(&self) -> &MapData {
        &self.flows
    }

    pub(super) fn newborn_table(&self) -> &MapData {
        &self.newborn
    }

    pub(super) fn fragment_table(&self) -> &MapData {
        &self.fragments
    }

    pub(super) fn nat_flow_table(&self) -> &MapData {
        &self.nat_flows
    }

    pub(super) fn nat_reply_table(&self) -> &MapData {
        &self.nat_replies
    }

    fn read_all(&mut self) -> anyhow::Result<Found> {
        let settings = self.setting()?;
        let mut found = Found { settings: Some(settings), vips: self.vips.read()?, ..Found::default() };
        for entry in &self.ports {
            let (key, service) = entry.context("cannot read PORTS")?;
            found.ports.push((key.0, service.0));
        }
        for entry in &self.ranges {
            let (key, service) = entry.context("cannot read RANGES")?;
            found.ranges.push((key.prefix_len(), key.data().0, service.0));
        }
        for entry in &self.peers {
            let (mac, peer) = entry.context("cannot read PEERS")?;
            found.peers.push((mac.0, peer.0));
        }
        for entry in &self.tunnel_peers {
            let (key, _) = entry.context("cannot read DECAP_SOURCES")?;
            found.tunnel_peers.push(key.data().0.into());
        }
        let backends =
            raw::entries::<u32, Backend>(self.backends.map().fd()).context("cannot read BACKENDS")?;
        let used = backends.into_iter().filter(|(_, backend)| backend.generation != 0);
        found.backends = used.map(|(index, backend)| (index as u16, backend)).collect();
        found.rings = self.rings.published()?;
        for &(service, _) in &found.rings {
            found.options.push((service, self.service_options(service)?));
        }
        Ok(found)
    }
}

fn take_data(bpf: &mut Ebpf, name: &str) -> Result<MapData, LoadError> {
    match bpf.take_map(name) {
        Some(Map::HashMap(map) | Map::LruHashMap(map)) => Ok(map),
        _ => Err(LoadError::Object { what: format!("map {name} of the expected type") }),
    }
}

fn remove_unchanged(map: &MapData, read: &[(FlowKey, FlowEntry)]) -> std::io::Result<usize> {
    let mut changed = 0;
    for (key, entry) in read {
        let mut now = [FlowEntry::default()];
        match raw::lookup_into(map.fd(), *key, &mut now) {
            Ok(()) if now[0] == *entry => raw::delete(map.fd(), *key)?,
            Ok(()) => changed += 1,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(changed)
}

pub(super) fn removed(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

pub(super) fn found<T>(result: Result<Raw<T>, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value.0)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn sum(map: &PerCpuArray<MapData, Raw<Stats>>, index: u16) -> Result<Stats, MapError> {
    let values = map.get(&u32::from(index), 0)?;
    Ok(values.iter().fold(Stats::default(), |sum, Raw(stats)| Stats {
        packets: sum.packets + stats.packets,
        bytes: sum.bytes + stats.bytes,
        new_connections: sum.new_connections + stats.new_connections,
    }))
}

fn clear(map: &mut PerCpuArray<MapData, Raw<Stats>>, index: u16) -> anyhow::Result<()> {
    let zeros: Vec<_> = map.get(&u32::from(index), 0)?.iter().map(|_| Raw(Stats::default())).collect();
    map.set(u32::from(index), PerCpuValues::try_from(zeros)?, 0)?;
    Ok(())
}

/// The prefix of one address: DECAP_SOURCES holds mapped addresses, all of 128 bits.
fn host_prefix(address: IpAddr) -> Key<Raw<Address>> {
    Key::new(128, Raw(Address::from(address)))
}
