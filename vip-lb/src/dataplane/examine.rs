//! Looks at what is pinned, and at what the kernel says of this binary's program, without changing anything.

use std::path::Path;

use aya::{EbpfLoader, maps::MapData};
use vip_lb_common::{
    HashKey,
    abi::{LAYOUT_VERSION, Settings},
};

use super::{
    layout::{self, Refusal, STEPS, TakeOver},
    loader::{LoadError, MAPS, ProgramCost, TABLES, load_program},
    migrate, object,
    pins::{PinError, Pins, check_place},
    raw,
};

/// What a start of this binary would do with what is pinned.
#[derive(Clone, Debug)]
pub struct Examination {
    /// Layout of the pinned maps; `None` if there are none, or nothing is written into them.
    pub pinned_layout: Option<u32>,
    /// Layout of this binary's maps.
    pub layout: u32,
    /// Interfaces that the pinned program is on.
    pub interfaces: Vec<String>,
    /// Key of the flow hash in the pinned maps, if they have this binary's layout.
    pub hash: Option<HashKey>,
    /// How they are taken over.
    pub way: Result<Way, Refusal>,
}

/// How pins are taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// There are none.
    Fresh,
    /// As they are.
    Adopt,
    /// By these steps.
    Migrate(Vec<&'static str>),
}

/// Looks at the pins in `folder`.
pub fn examine(folder: &Path) -> Result<Examination, PinError> {
    check_place(folder)?;
    let pins = Pins::of(folder);
    let pinned = migrate::look(&pins)?;
    let way = layout::decide(folder, &pinned, &MAPS, LAYOUT_VERSION, STEPS);
    let hash = match &way {
        Ok(TakeOver::Adopt) => settings(&pins)?.map(|settings| settings.hash),
        _ => None,
    };
    Ok(Examination {
        pinned_layout: pinned.header.filter(|(magic, _)| *magic != 0).map(|(_, layout)| layout),
        layout: LAYOUT_VERSION,
        interfaces: pins.linked_interfaces(),
        hash,
        way: way.map(|way| match way {
            TakeOver::Fresh => Way::Fresh,
            TakeOver::Adopt => Way::Adopt,
            TakeOver::Migrate(migration) => {
                Way::Migrate(migration.steps.iter().map(|step| step.summary).collect())
            }
        }),
    })
}

/// Hands this binary's program to the verifier, on small maps that nobody else has and that go again at once.
pub fn verify_program() -> Result<ProgramCost, LoadError> {
    let mut loader = EbpfLoader::new();
    for table in TABLES {
        loader.map_max_entries(table, 1);
    }
    let mut bpf = loader.load(object::BYTES).map_err(LoadError::of_maps)?;
    let program = load_program(&mut bpf, super::maps::PROGRAM)?;
    let info = program.info().ok();
    Ok(ProgramCost {
        verified_instructions: info.as_ref().and_then(aya::programs::ProgramInfo::verified_instruction_count),
        translated_bytes: info.as_ref().and_then(aya::programs::ProgramInfo::size_translated),
    })
}

fn settings(pins: &Pins) -> Result<Option<Settings>, PinError> {
    let path = pins.map(layout::SETTINGS);
    let map = MapData::from_pin(&path)
        .map_err(|source| PinError::Read { path: path.clone(), source: Box::new(source) })?;
    let mut value = [Settings::new(HashKey::from_seed(&[0; 32]))];
    raw::lookup_into(map.fd(), 0_u32, &mut value).map_err(|source| PinError::Folder { path, source })?;
    Ok(Some(value[0]))
}
