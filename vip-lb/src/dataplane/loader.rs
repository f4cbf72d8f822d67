//! Loads the object, on the pinned maps where there are any.

use std::path::{Path, PathBuf};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapType, lpm_trie::Key},
    programs::{ProgramError, Xdp},
};
use thiserror::Error;
use vip_lb_common::abi::{
    Address, Backend, FlowEntry, FlowKey, Fragment, FragmentKey, IcmpAccount, LAYOUT_VERSION, Lease,
    LinkAddress, NatFlow, NatReply, NatReplyKey, Peer, PortKey, RangeKey, Recording, ServiceOptions,
    ServiceRef, Settings, Stats, Survivor, Vip, VipPlace,
};

use super::{
    layout::{self, MapLayout, STEPS, TakeOver, layout},
    migrate::{self, Pending},
    object,
    pins::{PinError, Pins},
    raw::Raw,
    refusal,
};

/// What is loaded, and with which sizes.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Folder of the pins, on bpffs.
    pub pins: PathBuf,
    /// Entries of FLOWS.
    pub flows: u32,
    /// Entries of NEWBORN.
    pub newborn: u32,
    /// Entries of SURVIVORS.
    pub survivors: u32,
    /// Entries of NAT_FLOWS and of NAT_REPLIES.
    pub nat: u32,
    /// Entries of FRAGMENTS.
    pub fragments: u32,
}

/// What the verifier said of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramCost {
    /// Instructions it walked through (kernel 5.16).
    pub verified_instructions: Option<u32>,
    /// Bytes of the translated program.
    pub translated_bytes: Option<u32>,
}

/// Why the object cannot be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Its pins are in the way.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The kernel does not take the maps.
    #[error("cannot create the BPF maps{hint}")]
    Maps {
        /// Which gate is closed, where something is not permitted, or what there is no room for.
        hint: String,
        /// Why.
        #[source]
        source: Box<aya::EbpfError>,
    },
    /// The kernel does not take the program.
    #[error("the kernel refuses program {name}{hint}")]
    Program {
        /// The program.
        name: &'static str,
        /// Which gate is closed, where something is not permitted.
        hint: String,
        /// Why, with the end of the verifier's log.
        #[source]
        source: Box<ProgramError>,
    },
    /// The object lacks something: the build is broken.
    #[error("the built-in BPF object has no {what}")]
    Object {
        /// The missing part.
        what: String,
    },
}

impl LoadError {
    pub(super) fn of_maps(source: aya::EbpfError) -> Self {
        Self::Maps { hint: refusal::of_maps(&source), source: Box::new(source) }
    }
}

/// What came of the pins that there were.
pub(super) struct TakenOver {
    /// A former daemon's maps are used.
    pub(super) adopted: bool,
    /// A migration that is to be carried out: its maps are made, and empty.
    pub(super) pending: Option<Pending>,
}

/// The maps of the balancer's program, all of which are pinned.
pub(super) const MAPS: [MapLayout; 25] = [
    SETTINGS,
    layout::<u32, VipPlace>("VIP_INDEX", MapType::Array),
    layout::<Address, Vip>("VIPS", MapType::Hash),
    layout::<Address, Lease>("OWNERS", MapType::Hash),
    layout::<PortKey, ServiceRef>("PORTS", MapType::Hash),
    layout::<Key<Raw<RangeKey>>, ServiceRef>("RANGES", MapType::LpmTrie),
    layout::<u32, ServiceOptions>("SERVICES", MapType::Array),
    layout::<u32, u32>("RINGS_16381", MapType::ArrayOfMaps),
    layout::<u32, u32>("RINGS_65537", MapType::ArrayOfMaps),
    layout::<u32, u32>("RINGS_131071", MapType::ArrayOfMaps),
    layout::<u32, Backend>("BACKENDS", MapType::Array),
    layout::<FlowKey, FlowEntry>("FLOWS", MapType::Hash),
    layout::<FlowKey, FlowEntry>("NEWBORN", MapType::LruHash),
    layout::<FlowKey, Survivor>("SURVIVORS", MapType::LruHash),
    layout::<FragmentKey, Fragment>("FRAGMENTS", MapType::LruHash),
    layout::<FlowKey, NatFlow>("NAT_FLOWS", MapType::Hash),
    layout::<NatReplyKey, NatReply>("NAT_REPLIES", MapType::Hash),
    layout::<u32, IcmpAccount>("ICMP_ACCOUNTS", MapType::PerCpuArray),
    layout::<u32, Recording>("RECORDING", MapType::PerCpuArray),
    layout::<LinkAddress, Peer>("PEERS", MapType::Hash),
    layout::<u32, LinkAddress>("INTERFACES", MapType::Hash),
    DECAP_SOURCES,
    VERDICTS,
    layout::<u32, Stats>("SERVICE_STATS", MapType::PerCpuArray),
    layout::<u32, Stats>("BACKEND_STATS", MapType::PerCpuArray),
];

/// The large ones that a program can do without.
pub(super) const TABLES: [&str; 9] =
    ["FLOWS", "NEWBORN", "SURVIVORS", "FRAGMENTS", "NAT_FLOWS", "NAT_REPLIES", "VIPS", "PORTS", "OWNERS"];

/// The maps of the decapsulator.
pub(super) const DECAP_MAPS: [MapLayout; 4] =
    [SETTINGS, DECAP_SOURCES, layout::<Address, u32>("DECAP_VIPS", MapType::Hash), VERDICTS];

const SETTINGS: MapLayout = layout::<u32, Settings>(layout::SETTINGS, MapType::Array);
const DECAP_SOURCES: MapLayout = layout::<Key<Raw<Address>>, u32>("DECAP_SOURCES", MapType::LpmTrie);
const VERDICTS: MapLayout = layout::<u32, u64>("VERDICTS", MapType::PerCpuArray);

impl LoadError {
    pub(super) fn missing_program(name: &str) -> Self {
        Self::Object { what: format!("program {name}") }
    }

    pub(super) fn of_program(name: &'static str, source: ProgramError) -> Self {
        Self::Program { name, hint: refusal::gates(&source), source: Box::new(source) }
    }
}

/// Loads the balancer on its pins. Tells how they were taken over.
pub(super) fn load_balancer(options: &LoadOptions) -> Result<(Ebpf, Pins, TakenOver), LoadError> {
    let pins = Pins::create(&options.pins)?;
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries("FLOWS", options.flows)
        .map_max_entries("NEWBORN", options.newborn)
        .map_max_entries("SURVIVORS", options.survivors)
        .map_max_entries("NAT_FLOWS", options.nat)
        .map_max_entries("NAT_REPLIES", options.nat)
        .map_max_entries("FRAGMENTS", options.fragments);
    let (bpf, taken) = load(loader, &pins, &MAPS)?;
    Ok((bpf, pins, taken))
}

/// Loads the decapsulator on its pins, with the balancer's large tables shrunk to nothing.
pub(super) fn load_decapsulator(folder: &Path) -> Result<(Ebpf, Pins, TakenOver), LoadError> {
    let pins = Pins::create(folder)?;
    let mut loader = EbpfLoader::new();
    for name in TABLES.iter().chain(&[
        "ICMP_ACCOUNTS",
        "BACKENDS",
        "BACKEND_STATS",
        "SERVICE_STATS",
        "SERVICES",
        "PROBES",
        "SAMPLES",
        "ADVERTS",
    ]) {
        loader.map_max_entries(name, 1);
    }
    // A ring is of pages.
    loader.map_max_entries("EVENTS", page_size());
    let (bpf, taken) = load(loader, &pins, &DECAP_MAPS)?;
    Ok((bpf, pins, taken))
}

fn load(
    mut loader: EbpfLoader<'_>,
    pins: &Pins,
    maps: &'static [MapLayout],
) -> Result<(Ebpf, TakenOver), LoadError> {
    let take_over = layout::decide(pins.folder(), &migrate::look(pins)?, maps, LAYOUT_VERSION, STEPS)
        .map_err(PinError::from)?;
    pins.settle()?;
    pins.clear_stage()?;
    let (adopted, migration) = match take_over {
        TakeOver::Fresh => (false, None),
        TakeOver::Adopt => (true, None),
        TakeOver::Migrate(migration) => (true, Some(Pending { maps, migration })),
    };
    for map in maps {
        let staged = migration.as_ref().is_some_and(|pending| pending.migration.stages(map.name));
        loader.map_pin_path(map.name, if staged { pins.stage(map.name)? } else { pins.map(map.name) });
    }
    let bpf = loader.load(object::BYTES).map_err(LoadError::of_maps)?;
    Ok((bpf, TakenOver { adopted, pending: migration }))
}

/// Hands a program to the verifier.
pub(super) fn load_program<'b>(bpf: &'b mut Ebpf, name: &'static str) -> Result<&'b mut Xdp, LoadError> {
    let program: &mut Xdp = bpf
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| LoadError::missing_program(name))?;
    program.load().map_err(|source| LoadError::of_program(name, source))?;
    Ok(program)
}

fn page_size() -> u32 {
    // SAFETY: asks for a constant.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u32 }
}

/// Takes a map out of the loaded object, in its typed form.
pub(super) fn take<M: TryFrom<Map>>(bpf: &mut Ebpf, name: &str) -> Result<M, LoadError> {
    let missing = || LoadError::Object { what: format!("map {name} of the expected type") };
    bpf.take_map(name).ok_or_else(missing)?.try_into().map_err(|_| missing())
}
