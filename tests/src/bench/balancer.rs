//! A loaded balancer in the state that a case asks for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError, PerCpuArray},
    programs::{Program, ProgramFd, Xdp},
};
use vip_lb_common::{
    HashKey, Verdict,
    abi::{
        Address, Backend, BackendRef, FlowEntry, FlowKey, Mode, NatFlow, NatMarks, NatReply, NatReplyKey,
        Phase, PortEntry, RING_SIZES, Ring, RingClass, SNAP, ServiceOptions, ServiceRef, Settings, Slot, Vip,
        VipPlace, WatchCount, Watcher,
    },
    hash::mix,
    headers::outer_checksum_base,
};

use super::{
    cases::{Attention, Forwarding, NODE, NODE_V6, PORT, Setup, Slots, VIP, VIP_V6},
    packets::{Client, OWN, ROUTER},
};

/// The program that is measured.
const PROGRAM: &str = "vip_lb";
const BACKENDS: u16 = 10;
const SERVICE: u16 = 1;
const GENERATION: u16 = 1;
const EPOCH: u16 = 1;
const TICK: u32 = 1000;
/// `BPF_PROG_TEST_RUN` says that packets come from the loopback interface, which is always the first.
const INTERFACE: u32 = 1;
const GUE_PORT: u16 = 6080;
const VLAN: u16 = 100;
/// Ports that translated connections have on this node.
const NAT_FIRST_PORT: u16 = 1024;
const NAT_PORTS: u16 = 60_000;
/// Entries of either table of translated connections, where there are any.
const NAT_ROOM: u32 = 1 << 17;
/// Bytes of EVENTS where packets are shown: nobody takes them out, so there is room for all of a run that counts.
const EVENT_ROOM: u32 = 1 << 24;
const SLOTS: usize = RING_SIZES[RingClass::Small as usize];

/// Loads every program of an object, and says how many instructions the verifier looked at.
///
/// # Errors
///
/// When the kernel does not take one, or does not say (before 5.16).
pub fn verified_of(object: &[u8]) -> Result<Vec<(String, f64)>> {
    verified(&mut EbpfLoader::new().load(object).context("load the maps of an object")?)
}

/// Loads what is not loaded yet.
fn verified(ebpf: &mut Ebpf) -> Result<Vec<(String, f64)>> {
    let count = |(name, program): (&str, &mut Program)| -> Result<(String, f64)> {
        if program.fd().is_err() {
            match program {
                Program::Xdp(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                _ => bail!("program {name} is of a kind that nobody expects"),
            }
            .with_context(|| format!("load program {name}"))?;
        }
        let info = program.info().with_context(|| format!("ask about program {name}"))?;
        let count = info.verified_instruction_count().context("read what the verifier looked at")?;
        Ok((name.to_owned(), count.into()))
    };
    ebpf.programs_mut().map(count).collect()
}

/// A loaded balancer.
#[derive(Debug)]
pub struct Balancer {
    ebpf: Ebpf,
}

impl Balancer {
    /// Loads and fills one. `clients` are the flows that an open slot has recorded, and the connections that are translated.
    ///
    /// # Errors
    ///
    /// When the kernel takes no BPF programs, or not this one.
    pub fn load(object: &[u8], setup: &Setup, clients: &[Client]) -> Result<Self> {
        let room = if setup.translates() { NAT_ROOM } else { 1 };
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("NAT_FLOWS", room).map_max_entries("NAT_REPLIES", room);
        if setup.attention == Attention::Shown {
            loader.map_max_entries("EVENTS", EVENT_ROOM);
        }
        let mut ebpf = loader.load(object).context("load the balancer's maps")?;
        let key = HashKey::from_seed(&[42; 32]);
        let settings = Settings {
            tick: TICK,
            record_budget: 1000,
            survivor_budget: 1000,
            fresh_until: u32::MAX,
            gue_port: GUE_PORT,
            nat_first_port: NAT_FIRST_PORT,
            nat_ports: NAT_PORTS,
            flags: flags(setup.attention),
            ..Settings::new(key)
        };
        Array::<_, Plain<Settings>>::try_from(map(&mut ebpf, "SETTINGS")?)?.set(0, Plain(settings), 0)?;
        if let Some(watcher) = watcher(setup.attention) {
            Array::<_, Plain<Watcher>>::try_from(map(&mut ebpf, "WATCHERS")?)?
                .set(0, Plain(watcher), 0)
                .context("write WATCHERS")?;
        }
        let options = ServiceOptions { mss: setup.mss, icmp_rate: u16::MAX, reserved: 0 };
        Array::<_, Plain<ServiceOptions>>::try_from(map(&mut ebpf, "SERVICES")?)?
            .set(SERVICE.into(), Plain(options), 0)
            .context("write SERVICES")?;
        let mut backends = Array::<_, Plain<Backend>>::try_from(map(&mut ebpf, "BACKENDS")?)?;
        for index in 1..=BACKENDS {
            backends.set(index.into(), Plain(backend(setup, index)), 0)?;
        }
        publish(&mut ebpf, &ring(setup.slots))?;
        add_vip(&mut ebpf, vip(setup))?;
        if setup.translates() {
            let node = Vip { id: 2, flags: Vip::NAT_SOURCE, ..Vip::default() };
            add_vip(&mut ebpf, (node_address(setup.backends_v6()).into(), node))?;
            connect(&mut ebpf, setup, clients)?;
        }
        if setup.slots == Slots::Recorded {
            record(&mut ebpf, &key, setup, clients)?;
        }
        let program: &mut Xdp =
            ebpf.program_mut(PROGRAM).context("find the balancer's program")?.try_into()?;
        program.load().context("load the balancer's program")?;
        Ok(Self { ebpf })
    }

    /// The program.
    ///
    /// # Errors
    ///
    /// Never after `load`.
    pub fn program(&self) -> Result<&Xdp> {
        Ok(self.ebpf.program(PROGRAM).context("find the balancer's program")?.try_into()?)
    }

    /// Removes the translated connections of some clients, as the daemon does when they have ended.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to remove one.
    pub fn forget(&mut self, setup: &Setup, clients: &[Client]) -> Result<()> {
        let mut replies = Vec::new();
        let mut flows =
            HashMap::<_, Plain<FlowKey>, Plain<NatFlow>>::try_from(map(&mut self.ebpf, "NAT_FLOWS")?)?;
        for client in clients {
            let key = Plain(flow_key(setup, *client));
            match flows.get(&key, 0) {
                Ok(Plain(flow)) => {
                    flows.remove(&key).context("remove from NAT_FLOWS")?;
                    replies.push(reply_key(setup, flow.backend.index, flow.port));
                }
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(error).context("read NAT_FLOWS"),
            }
        }
        let mut table =
            HashMap::<_, Plain<NatReplyKey>, Plain<NatReply>>::try_from(map(&mut self.ebpf, "NAT_REPLIES")?)?;
        for key in replies {
            table.remove(&Plain(key)).context("remove from NAT_REPLIES")?;
        }
        Ok(())
    }

    /// Instructions that the verifier looked at, of every program of the object, all others loaded for this.
    ///
    /// # Errors
    ///
    /// When the kernel does not take one, or does not say (before 5.16).
    pub fn verified_instructions(&mut self) -> Result<Vec<(String, f64)>> {
        verified(&mut self.ebpf)
    }

    /// What a program array takes.
    ///
    /// # Errors
    ///
    /// Never after `load`.
    pub fn fd(&self) -> Result<&ProgramFd> {
        Ok(self.program()?.fd()?)
    }

    /// Fails unless all packets up to now ended in one of `expected`.
    ///
    /// # Errors
    ///
    /// With the verdict that another packet got.
    pub fn check_verdicts(&self, expected: &[Verdict]) -> Result<()> {
        let verdicts = PerCpuArray::<_, u64>::try_from(self.ebpf.map("VERDICTS").context("find VERDICTS")?)?;
        for &verdict in Verdict::ALL {
            let count: u64 = verdicts.get(&(verdict as u32), 0)?.iter().sum();
            ensure!(
                expected.contains(&verdict) == (count != 0),
                "{count} packets ended as {}, while {expected:?} is what the cases are about",
                verdict.name()
            );
        }
        Ok(())
    }

    /// Fails unless all packets up to now were shown where the setup says so, and none elsewhere.
    ///
    /// # Errors
    ///
    /// With the numbers of packets that were and were not.
    pub fn check_shown(&self, setup: &Setup) -> Result<()> {
        let counts = self.ebpf.map("WATCH_COUNTS").context("find WATCH_COUNTS")?;
        let counts = PerCpuArray::<_, Plain<WatchCount>>::try_from(counts)?.get(&0, 0)?;
        let sum = |of: fn(&WatchCount) -> u64| counts.iter().map(|Plain(count)| of(count)).sum::<u64>();
        let (shown, missed) = (sum(|count| count.shown), sum(|count| count.missed));
        ensure!(
            missed == 0 && (shown != 0) == (setup.attention == Attention::Shown),
            "{shown} packets were shown and {missed} were not, with attention {:?}",
            setup.attention
        );
        Ok(())
    }
}

/// Flags of SETTINGS.
fn flags(attention: Attention) -> u32 {
    match attention {
        Attention::None => 0,
        Attention::Watchdog => Settings::WATCHDOG,
        Attention::Watched | Attention::Shown => Settings::WATCHED,
    }
}

/// Who watches: all packets to the service, or those to another port.
fn watcher(attention: Attention) -> Option<Watcher> {
    let destination_port = match attention {
        Attention::None | Attention::Watchdog => return None,
        Attention::Watched => PORT + 1,
        Attention::Shown => PORT,
    };
    let all = Watcher { verdicts: u64::MAX, every: 1, rate: u32::MAX, snap: SNAP as u16, ..Watcher::NOBODY };
    Some(Watcher { destination_port, ..all })
}

fn vip(setup: &Setup) -> (Address, Vip) {
    let mut vip = Vip { id: 1, ..Vip::default() };
    vip.services[0] =
        PortEntry { port: PORT, protocol: protocol(setup), reserved: 0, service: service(setup) };
    (vip_address(setup).into(), vip)
}

fn vip_address(setup: &Setup) -> IpAddr {
    if setup.v6 { VIP_V6 } else { VIP }
}

fn protocol(setup: &Setup) -> u8 {
    if setup.udp { 17 } else { 6 }
}

fn add_vip(ebpf: &mut Ebpf, (address, vip): (Address, Vip)) -> Result<()> {
    HashMap::<_, Plain<Address>, Plain<Vip>>::try_from(map(ebpf, "VIPS")?)?
        .insert(Plain(address), Plain(vip), 0)
        .context("write VIPS")?;
    Array::<_, Plain<VipPlace>>::try_from(map(ebpf, "VIP_INDEX")?)?
        .set(address.vip_place(), Plain(VipPlace::of(&[(address, vip)])), 0)
        .context("write VIP_INDEX")
}

fn service(setup: &Setup) -> ServiceRef {
    let mut flags = match setup.forwarding {
        Forwarding::L2 | Forwarding::Ipip => 0,
        Forwarding::TaggedL2 | Forwarding::Gue => ServiceRef::INDIRECT,
        Forwarding::Nat | Forwarding::NatAcross => ServiceRef::NAT,
    };
    if setup.mss != 0 {
        flags |= ServiceRef::CLAMP;
    }
    flags |= ServiceRef::sampling(setup.sample);
    ServiceRef { id: SERVICE, ring_class: RingClass::Small as u8, flags }
}

fn reference(index: u16) -> BackendRef {
    BackendRef { index, generation: GENERATION }
}

/// The address of a backend, of either family.
pub fn backend_address(index: u16, v6: bool) -> IpAddr {
    let [_, number] = index.to_be_bytes();
    if v6 {
        Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, index).into()
    } else {
        Ipv4Addr::new(10, 77, 0, number).into()
    }
}

fn node_address(v6: bool) -> IpAddr {
    if v6 { NODE_V6 } else { NODE }
}

fn backend(setup: &Setup, index: u16) -> Backend {
    let [_, number] = index.to_be_bytes();
    let v6 = setup.backends_v6();
    let (source, address) = (node_address(v6), backend_address(index, v6));
    let mode = match (setup.forwarding, v6) {
        (Forwarding::L2 | Forwarding::TaggedL2, _) => Mode::L2,
        (Forwarding::Ipip, false) => Mode::IpipV4,
        (Forwarding::Ipip, true) => Mode::IpipV6,
        (Forwarding::Gue, false) => Mode::GueV4,
        (Forwarding::Gue, true) => Mode::GueV6,
        (Forwarding::Nat | Forwarding::NatAcross, false) => Mode::NatV4,
        (Forwarding::Nat | Forwarding::NatAcross, true) => Mode::NatV6,
    };
    let tag = if setup.forwarding == Forwarding::TaggedL2 { Backend::TAGGED } else { 0 };
    let outer_checksum = match (source, address) {
        (IpAddr::V4(source), IpAddr::V4(address)) => outer_checksum_base(source.octets(), address.octets()),
        _ => 0,
    };
    Backend {
        generation: GENERATION,
        mode: mode as u8 | tag,
        egress: INTERFACE,
        macs: [2, 0, 0, 0, 1, number, 2, 0, 0, 0, 0, 1],
        mtu: setup.mtu,
        service: SERVICE,
        identity: mix(index.into()),
        source: source.into(),
        address: address.into(),
        outer_checksum,
        vlan: VLAN,
        ..Backend::default()
    }
}

/// Backends in no order, as a Maglev table has them.
fn owner(slot: u32) -> u16 {
    1 + (mix(slot.into()) % u64::from(BACKENDS)) as u16
}

fn ring(state: Slots) -> Ring<SLOTS> {
    core::array::from_fn(|index| {
        let owner = owner(index as u32);
        let slot = Slot { current: reference(owner), previous: reference(owner), ..Slot::default() };
        if state == Slots::Settled {
            return slot;
        }
        Slot { current: reference(1 + owner % BACKENDS), epoch: EPOCH, phase: Phase::Open as u8, ..slot }
    })
}

fn publish(ebpf: &mut Ebpf, ring: &Ring<SLOTS>) -> Result<()> {
    let mut inner = Array::<MapData, Plain<Ring<SLOTS>>>::create(1, 0).context("create a ring")?;
    inner.set(0, Plain(*ring), 0).context("fill a ring")?;
    ArrayOfMaps::<_, Array<MapData, Plain<Ring<SLOTS>>>>::try_from(map(ebpf, "RINGS_16381")?)?
        .set(SERVICE.into(), &inner, 0)
        .context("publish a ring")
}

fn record(ebpf: &mut Ebpf, hash: &HashKey, setup: &Setup, clients: &[Client]) -> Result<()> {
    let mut flows = HashMap::<_, Plain<FlowKey>, Plain<FlowEntry>>::try_from(map(ebpf, "FLOWS")?)?;
    for &client in clients {
        let key = flow_key(setup, client);
        let [a, b] = client.port.to_be_bytes();
        let [c, d] = PORT.to_be_bytes();
        let slot =
            hash.hash(key.source.words(), u32::from_ne_bytes([a, b, c, d]), !setup.v6).slot(SLOTS as u32);
        let entry = FlowEntry {
            backend: reference(1 + owner(slot) % BACKENDS),
            epoch: EPOCH,
            closing: 0,
            seen: TICK,
            slot,
        };
        flows.insert(Plain(key), Plain(entry), 0).context("write FLOWS")?;
    }
    Ok(())
}

fn flow_key(setup: &Setup, client: Client) -> FlowKey {
    FlowKey {
        source: client.address(vip_address(setup)).into(),
        source_port: client.port,
        destination_port: PORT,
        service: SERVICE,
        reserved: 0,
    }
}

/// The backend, and the port on this node, of the connection of the client with this number.
pub fn connection(number: usize) -> (u16, u16) {
    let backends = usize::from(BACKENDS);
    (1 + (number % backends) as u16, NAT_FIRST_PORT + (number / backends) as u16)
}

/// Makes both entries of every client's connection.
fn connect(ebpf: &mut Ebpf, setup: &Setup, clients: &[Client]) -> Result<()> {
    let vip = vip_address(setup);
    let mut flows = HashMap::<_, Plain<FlowKey>, Plain<NatFlow>>::try_from(map(ebpf, "NAT_FLOWS")?)?;
    for (number, &client) in clients.iter().enumerate() {
        let (backend, port) = connection(number);
        let flow = NatFlow {
            backend: reference(backend),
            seen: TICK,
            port,
            marks: NatMarks::DATA,
            vlan: 0,
            router: ROUTER,
            ingress: INTERFACE,
        };
        flows.insert(Plain(flow_key(setup, client)), Plain(flow), 0).context("write NAT_FLOWS")?;
    }
    let mut replies = HashMap::<_, Plain<NatReplyKey>, Plain<NatReply>>::try_from(map(ebpf, "NAT_REPLIES")?)?;
    for (number, &client) in clients.iter().enumerate() {
        let (backend, port) = connection(number);
        let [[a, b, c, d, e, f], [g, h, i, j, k, l]] = [ROUTER, OWN];
        let reply = NatReply {
            client: client.address(vip).into(),
            vip: vip.into(),
            client_port: client.port,
            vip_port: PORT,
            service: SERVICE,
            backend: reference(backend),
            egress: INTERFACE,
            macs: [a, b, c, d, e, f, g, h, i, j, k, l],
            seen: TICK,
            marks: NatMarks::DATA,
            ..NatReply::default()
        };
        replies
            .insert(Plain(reply_key(setup, backend, port)), Plain(reply), 0)
            .context("write NAT_REPLIES")?;
    }
    Ok(())
}

fn reply_key(setup: &Setup, backend: u16, port: u16) -> NatReplyKey {
    let v6 = setup.backends_v6();
    NatReplyKey {
        backend: backend_address(backend, v6).into(),
        node: node_address(v6).into(),
        backend_port: PORT,
        port,
        protocol: protocol(setup),
        reserved: [0; 3],
    }
}

fn map<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Map> {
    ebpf.map_mut(name).with_context(|| format!("find map {name} in the object"))
}

/// A key or value of a map.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T: Copy + 'static>(pub(super) T);

// SAFETY: used with the types of `vip_lb_common::abi` and their like, which have no padding and take any bytes.
unsafe impl<T: Copy + 'static> Pod for Plain<T> {}
