//! Whether this binary can take over what is pinned, and how: decided from what is found, without touching it.
//!
//! The layout version stands in SETTINGS, whose first words keep their places in all layouts. Pins of the same layout are adopted. Those of
//! an older one are migrated by [`STEPS`], one from each version to the next, applied one after the other; anything else is refused. A step
//! may add maps, remove maps, and convert the values of maps that the daemon alone writes. Tables that packets write into keep
//! their shape from layout to layout: what comes in while they are copied would be missing in the copy.

use std::{collections::BTreeMap, path::PathBuf};

use aya::maps::MapType;
use thiserror::Error;
use vip_lb_common::abi::SETTINGS_MAGIC;

#[cfg(test)]
mod tests;

/// The map that holds the layout version.
pub(super) const SETTINGS: &str = "SETTINGS";

/// Type and sizes of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) map_type: u32,
    /// Bytes.
    pub(super) key_size: u32,
    /// Bytes.
    pub(super) value_size: u32,
}

/// A map as the object declares it: what a pin must match. The number of entries may differ: it is configuration, and changes with the
/// next fresh load.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapLayout {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
}

/// The layout of a map with keys `K` and values `V`.
pub(super) const fn layout<K, V>(name: &'static str, map_type: MapType) -> MapLayout {
    let shape = Shape {
        map_type: map_type as u32,
        key_size: size_of::<K>() as u32,
        value_size: size_of::<V>() as u32,
    };
    MapLayout { name, shape }
}

/// What is pinned in the folder of one program.
#[derive(Clone, Debug, Default)]
pub(super) struct Pinned {
    /// All maps by name.
    pub(super) maps: BTreeMap<String, Shape>,
    /// The first words of SETTINGS: magic and layout version. `None` if there is no such map.
    pub(super) header: Option<(u64, u32)>,
    /// Some link is pinned: packets go through a program on these maps.
    pub(super) is_linked: bool,
}

/// The way from one layout to the next one.
#[derive(Debug)]
pub(super) struct Step {
    /// The layout before it. The one after it has the next number.
    pub(super) from: u32,
    /// What it does, for people.
    pub(super) summary: &'static str,
    /// Maps that the layout before has not.
    pub(super) added: &'static [&'static str],
    /// Maps whose values get another shape.
    pub(super) converted: &'static [Conversion],
    /// Maps that the layout after has no more.
    pub(super) removed: &'static [&'static str],
}

/// Makes the values of a map from those that it had in the layout before.
#[derive(Debug)]
pub(super) struct Conversion {
    pub(super) map: &'static str,
    /// Its shape before: an array or a hash table.
    pub(super) former: Shape,
    /// From the bytes of a value to those of its successor.
    pub(super) value: fn(&[u8]) -> Vec<u8>,
}

/// All steps, in order.
pub(super) const STEPS: &[Step] = &[Step {
    from: 2,
    summary: "OWNERS has leases of VIPs",
    added: &["OWNERS"],
    converted: &[],
    removed: &[],
}];

/// How pins are taken over.
#[derive(Clone, Debug)]
pub(super) enum TakeOver {
    /// There is nothing to take over.
    Fresh,
    /// They are used as they are.
    Adopt,
    /// They are brought to this binary's layout.
    Migrate(Migration),
}

/// Steps that are to be carried out.
#[derive(Clone, Debug)]
pub(super) struct Migration {
    pub(super) from: u32,
    pub(super) steps: Vec<&'static Step>,
}

impl Migration {
    /// Whether a map is made anew beside its former self, and takes its place when packets use it. SETTINGS always is: the layout version
    /// must not change before all is in place.
    pub(super) fn stages(&self, map: &str) -> bool {
        map == SETTINGS && !self.steps.is_empty() || self.conversions(map).next().is_some()
    }

    /// What becomes of a value of a map.
    pub(super) fn convert(&self, map: &str, value: Vec<u8>) -> Vec<u8> {
        self.conversions(map).fold(value, |value, conversion| (conversion.value)(&value))
    }

    /// Maps that have no place in the new layout.
    pub(super) fn removed(&self) -> impl Iterator<Item = &'static str> {
        self.steps.iter().flat_map(|step| step.removed.iter().copied())
    }

    fn conversions(&self, map: &str) -> impl Iterator<Item = &'static Conversion> {
        let converted = self.steps.iter().flat_map(|step| step.converted);
        converted.filter(move |conversion| conversion.map == map)
    }

    /// The shape that the pin of a map must have.
    fn expected(&self, map: &MapLayout) -> Shape {
        self.conversions(map.name).next().map_or(map.shape, |first| first.former)
    }

    /// Whether a map need not be pinned yet.
    fn adds(&self, map: &str) -> bool {
        self.steps.iter().any(|step| step.added.contains(&map))
    }
}

/// Why pins cannot be taken over. Forwarding goes on with them as it does.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// SETTINGS is somebody else's.
    #[error("{} is no map of vip-lb: choose another `node.pins`", folder.join(SETTINGS).display())]
    Foreign {
        /// The folder of the pins.
        folder: PathBuf,
    },
    /// A newer binary made them.
    #[error(
        "the maps under {} have layout {found}, and this binary knows {known} and older ones: start the newer vip-lb again, or run \
         `vip-lb unload` first, which ends forwarding",
        folder.display()
    )]
    Newer {
        /// The folder of the pins.
        folder: PathBuf,
        /// Their layout.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// The way from their layout is not known any more.
    #[error(
        "the maps under {} have layout {found}, from which this binary knows no way to its own, {known}: start a vip-lb in between \
         first, or run `vip-lb unload`, which ends forwarding",
        folder.display()
    )]
    TooOld {
        /// The folder of the pins.
        folder: PathBuf,
        /// Their layout.
        found: u32,
        /// The one that is needed.
        known: u32,
    },
    /// A map is not what its layout says.
    #[error(
        "cannot use pinned map {}: its {property} is {actual}, expected {expected}; it was made by another version: run \
         `vip-lb unload` first, which ends forwarding",
        path.display()
    )]
    Mismatch {
        /// The pin.
        path: PathBuf,
        /// What differs.
        property: &'static str,
        /// As found.
        actual: u32,
        /// As needed.
        expected: u32,
    },
    /// A pin is gone.
    #[error(
        "the pin {} is gone, and what packets use cannot be found without it: run `vip-lb unload` first, which ends forwarding",
        path.display()
    )]
    Missing {
        /// The pin.
        path: PathBuf,
    },
}

/// How `pinned`, found in `folder`, is taken over by a program of `maps` in the layout `known`.
pub(super) fn decide(
    folder: &std::path::Path,
    pinned: &Pinned,
    maps: &[MapLayout],
    known: u32,
    steps: &'static [Step],
) -> Result<TakeOver, Refusal> {
    let folder = || folder.to_owned();
    let migration = match pinned.header {
        None if pinned.is_linked => return Err(Refusal::Missing { path: folder().join(SETTINGS) }),
        // A daemon ended before it wrote anything.
        None | Some((0, _)) => None,
        Some((magic, _)) if magic != SETTINGS_MAGIC => return Err(Refusal::Foreign { folder: folder() }),
        Some((_, found)) if found > known => {
            return Err(Refusal::Newer { folder: folder(), found, known });
        }
        Some((_, found)) => {
            let way: Vec<&Step> = steps.iter().filter(|step| (found..known).contains(&step.from)).collect();
            if way.len() != (known - found) as usize {
                return Err(Refusal::TooOld { folder: folder(), found, known });
            }
            Some(Migration { from: found, steps: way })
        }
    };
    for map in maps {
        let expected = migration.as_ref().map_or(map.shape, |migration| migration.expected(map));
        let may_be_missing = migration.as_ref().is_none_or(|migration| migration.adds(map.name));
        match pinned.maps.get(map.name) {
            None if may_be_missing => {}
            None => return Err(Refusal::Missing { path: folder().join(map.name) }),
            Some(actual) => compare(&folder().join(map.name), *actual, expected)?,
        }
    }
    Ok(match migration {
        None => TakeOver::Fresh,
        Some(migration) if migration.steps.is_empty() => TakeOver::Adopt,
        Some(migration) => TakeOver::Migrate(migration),
    })
}

fn compare(path: &std::path::Path, actual: Shape, expected: Shape) -> Result<(), Refusal> {
    for (property, actual, expected) in [
        ("type", actual.map_type, expected.map_type),
        ("key size", actual.key_size, expected.key_size),
        ("value size", actual.value_size, expected.value_size),
    ] {
        if actual != expected {
            return Err(Refusal::Mismatch { path: path.to_owned(), property, actual, expected });
        }
    }
    Ok(())
}
