//! The decapsulator, for backends: loads, fills, attaches and pins; no process stays.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key};
use serde::{Deserialize, Serialize};
use vip_lb_common::{
    HashKey,
    abi::{Address, Settings},
};

use super::{
    attach::{self, Attachment},
    loader::{load_decapsulator, load_program, take},
    pins::{self, Pins},
    raw::Raw,
};
use crate::config::model::AttachMode;

/// Bits before the IPv4 part of a mapped address.
const MAPPED_BITS: u32 = 96;

/// Who may send tunnelled packets to whom.
#[derive(Clone, Debug)]
pub struct DecapOptions {
    /// Interface that tunnelled packets come in by.
    pub interface: String,
    /// Its kernel index.
    pub index: u32,
    /// Outer sources: address and prefix length in bits of its own family.
    pub from: Vec<(IpAddr, u8)>,
    /// Inner destinations.
    pub vips: Vec<IpAddr>,
    /// UDP port that GUE packets come to.
    pub gue_port: u16,
    /// Folder of all pins; the decapsulator's are in a folder of their own below it.
    pub pins: PathBuf,
}

/// Starts decapsulating on an interface, or changes what is decapsulated there, without losing a packet. What fails at
/// the start leaves nothing behind.
pub fn decapsulate(options: &DecapOptions) -> anyhow::Result<Attachment> {
    pins::check_place(&options.pins)?;
    let folder = pins::decapsulator(&options.pins, &options.interface);
    let is_new = !folder.exists();
    let result = load_and_attach(options, &folder);
    if result.is_err() && is_new {
        // The first error is the one to tell.
        let _ = stop_decapsulating(&options.pins, &options.interface);
    }
    result
}

fn load_and_attach(options: &DecapOptions, folder: &Path) -> anyhow::Result<Attachment> {
    let (mut bpf, pins, taken) = load_decapsulator(folder)?;
    if let Some(pending) = &taken.pending {
        pending.fill(&pins)?;
    }
    // Nothing is steered here, so nothing is hashed, and any key will do.
    let settings = Settings { gue_port: options.gue_port, ..Settings::new(HashKey::from_seed(&[0; 32])) };
    let mut all_settings: Array<MapData, Raw<Settings>> = take(&mut bpf, "SETTINGS")?;
    all_settings.set(0, Raw(settings), 0).context("cannot write SETTINGS")?;
    let mut sources: LpmTrie<MapData, Raw<Address>, u32> = take(&mut bpf, "DECAP_SOURCES")?;
    let mut vips: HashMap<MapData, Raw<Address>, u32> = take(&mut bpf, "DECAP_VIPS")?;
    let wanted_sources: Vec<_> =
        options.from.iter().map(|&(address, length)| prefix(address, length)).collect();
    let wanted_vips: Vec<_> = options.vips.iter().map(|&address| Raw(Address::from(address))).collect();
    for source in &wanted_sources {
        sources.insert(source, 1, 0).context("cannot allow a tunnel source")?;
    }
    for vip in &wanted_vips {
        vips.insert(vip, 1, 0).context("cannot allow a VIP")?;
    }
    // What is allowed no more goes last, so that nothing in between is refused.
    for source in sources.keys().collect::<Result<Vec<_>, _>>()? {
        let kept = |wanted: &Key<Raw<Address>>| {
            wanted.prefix_len() == source.prefix_len() && wanted.data() == source.data()
        };
        if !wanted_sources.iter().any(kept) {
            sources.remove(&source)?;
        }
    }
    for vip in vips.keys().collect::<Result<Vec<_>, _>>()? {
        if !wanted_vips.contains(&vip) {
            vips.remove(&vip)?;
        }
    }
    let program = load_program(&mut bpf, "vip_lb_decap")?;
    let attachment = attach::attach(program, &pins, &options.interface, options.index, AttachMode::Auto)?;
    if let Some(pending) = taken.pending {
        pending.commit(&pins)?;
    }
    Ok(attachment)
}

/// What is decapsulated on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decapsulator {
    /// Outer sources that are accepted: address and prefix length in bits of its own family.
    pub from: BTreeSet<(IpAddr, u8)>,
    /// Inner destinations that are unpacked.
    pub vips: BTreeSet<IpAddr>,
    /// UDP port that GUE packets come to.
    pub gue_port: u16,
}

/// Reads what is decapsulated on an interface; `None` if nothing is.
pub fn decapsulator(pins: &Path, interface: &str) -> anyhow::Result<Option<Decapsulator>> {
    let folder = Pins::of(&pins::decapsulator(pins, interface));
    if !folder.linked_interfaces().iter().any(|linked| linked == interface) {
        return Ok(None);
    }
    let open = |name: &str| {
        let path = folder.map(name);
        MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))
    };
    let settings: Array<MapData, Raw<Settings>> = Map::Array(open("SETTINGS")?).try_into()?;
    let sources: LpmTrie<MapData, Raw<Address>, u32> = Map::LpmTrie(open("DECAP_SOURCES")?).try_into()?;
    let vips: HashMap<MapData, Raw<Address>, u32> = Map::HashMap(open("DECAP_VIPS")?).try_into()?;
    let read = || -> Result<Decapsulator, MapError> {
        Ok(Decapsulator {
            from: sources.keys().map(|key| Ok(unmapped(&key?))).collect::<Result<_, MapError>>()?,
            vips: vips.keys().map(|key| Ok(key?.0.into())).collect::<Result<_, MapError>>()?,
            gue_port: settings.get(&0, 0)?.0.gue_port,
        })
    };
    read().map(Some).with_context(|| format!("cannot read what is decapsulated on {interface}"))
}

/// Stops decapsulating on an interface. Tells whether it was.
pub fn stop_decapsulating(pins: &Path, interface: &str) -> Result<bool, pins::PinError> {
    pins::unload_decapsulator(pins, interface)
}

/// The prefix in its own family: one of IPv4 is mapped, whole.
fn unmapped(key: &Key<Raw<Address>>) -> (IpAddr, u8) {
    let address = IpAddr::from(key.data().0);
    let mapped = if address.is_ipv4() { MAPPED_BITS } else { 0 };
    (address, key.prefix_len().saturating_sub(mapped) as u8)
}

fn prefix(address: IpAddr, length: u8) -> Key<Raw<Address>> {
    let length = u32::from(length) + if address.is_ipv4() { MAPPED_BITS } else { 0 };
    Key::new(length, Raw(Address::from(address)))
}
