//! A loaded balancer in the state that a case asks for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, ArrayOfMaps, HashMap, Map, MapData, PerCpuArray},
    programs::{Program, ProgramFd, Xdp},
};
use vip_lb_common::{
    HashKey, Verdict,
    abi::{
        Address, Backend, BackendRef, FlowEntry, FlowKey, Mode, Phase, PortEntry, RING_SIZES, Ring,
        RingClass, ServiceRef, Settings, Slot, Vip, VipPlace,
    },
    hash::mix,
    headers::outer_checksum_base,
};

use super::{
    cases::{Forwarding, PORT, Setup, Slots, VIP, VIP_V6},
    packets::Client,
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
        let program: &mut Xdp = program.try_into()?;
        if program.fd().is_err() {
            program.load().with_context(|| format!("load program {name}"))?;
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
    /// Loads and fills one. `clients` are the flows that an open slot has recorded.
    ///
    /// # Errors
    ///
    /// When the kernel takes no BPF programs, or not this one.
    pub fn load(object: &[u8], setup: &Setup, clients: &[Client]) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(object).context("load the balancer's maps")?;
        let key = HashKey::from_seed(&[42; 32]);
        let settings = Settings {
            tick: TICK,
            record_budget: 1000,
            survivor_budget: 1000,
            fresh_until: u32::MAX,
            ..Settings::new(key)
        };
        Array::<_, Plain<Settings>>::try_from(map(&mut ebpf, "SETTINGS")?)?.set(0, Plain(settings), 0)?;
        let mut backends = Array::<_, Plain<Backend>>::try_from(map(&mut ebpf, "BACKENDS")?)?;
        for index in 1..=BACKENDS {
            backends.set(index.into(), Plain(backend(setup, index)), 0)?;
        }
        publish(&mut ebpf, &ring(setup.slots))?;
        let (address, vip) = vip(setup);
        HashMap::<_, Plain<Address>, Plain<Vip>>::try_from(map(&mut ebpf, "VIPS")?)?
            .insert(Plain(address), Plain(vip), 0)
            .context("write VIPS")?;
        Array::<_, Plain<VipPlace>>::try_from(map(&mut ebpf, "VIP_INDEX")?)?
            .set(address.vip_place(), Plain(VipPlace::of(&[(address, vip)])), 0)
            .context("write VIP_INDEX")?;
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
}

fn vip(setup: &Setup) -> (Address, Vip) {
    let mut vip = Vip { id: 1, ..Vip::default() };
    vip.services[0] =
        PortEntry { port: PORT, protocol: if setup.udp { 17 } else { 6 }, reserved: 0, service: service() };
    (if setup.v6 { VIP_V6 } else { VIP }.into(), vip)
}

fn service() -> ServiceRef {
    ServiceRef { id: SERVICE, ring_class: RingClass::Small as u8, flags: 0 }
}

fn reference(index: u16) -> BackendRef {
    BackendRef { index, generation: GENERATION }
}

fn backend(setup: &Setup, index: u16) -> Backend {
    let [_, number] = index.to_be_bytes();
    let (source, destination) = ([10, 0, 0, 1], [10, 77, 0, number]);
    let mode = match (setup.forwarding, setup.v6) {
        (Forwarding::L2, _) => Mode::L2,
        (Forwarding::Ipip, false) => Mode::IpipV4,
        (Forwarding::Ipip, true) => Mode::IpipV6,
    };
    let tunnel: [IpAddr; 2] = if setup.v6 {
        [1, index].map(|host| Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, host).into())
    } else {
        [source, destination].map(|octets| Ipv4Addr::from(octets).into())
    };
    Backend {
        generation: GENERATION,
        mode: mode as u8,
        egress: INTERFACE,
        macs: [2, 0, 0, 0, 1, number, 2, 0, 0, 0, 0, 1],
        mtu: 1500,
        service: SERVICE,
        identity: mix(index.into()),
        source: tunnel[0].into(),
        address: tunnel[1].into(),
        outer_checksum: outer_checksum_base(source, destination),
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
    for client in clients {
        let destination = if setup.v6 { VIP_V6 } else { VIP };
        let source = Address::from(client.address(destination));
        let [a, b] = client.port.to_be_bytes();
        let [c, d] = PORT.to_be_bytes();
        let slot = hash.hash(source.words(), u32::from_ne_bytes([a, b, c, d]), !setup.v6).slot(SLOTS as u32);
        let key = FlowKey {
            source,
            source_port: client.port,
            destination_port: PORT,
            service: SERVICE,
            reserved: 0,
        };
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

fn map<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Map> {
    ebpf.map_mut(name).with_context(|| format!("find map {name} in the object"))
}

/// A key or value of a map.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T: Copy + 'static>(pub(super) T);

// SAFETY: used with the types of `vip_lb_common::abi` and their like, which have no padding and take any bytes.
unsafe impl<T: Copy + 'static> Pod for Plain<T> {}
