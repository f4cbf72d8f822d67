//! Carries out the take-over of pins: looks at what is there, makes converted maps beside their former selves, puts them in place.
//!
//! A converted map is pinned in the folder `next` and filled from the former one, once nobody else writes that. The program is loaded on it, and
//! swapped in on the links; only then it takes the former's name. A daemon that ends in between leaves the former pins as they were, so that the
//! next one begins again, while packets go through whichever program their link has: both are whole. That all of them take their names is decided
//! in one step, by renaming the folder.

use std::{fs, io, path::Path};

use aya::maps::MapInfo;

use super::{
    layout::{MapLayout, Migration, Pinned, SETTINGS, Shape},
    pins::{PinError, Pins},
    raw,
};

/// What is pinned, as far as `maps` and their migrations are concerned. Changes nothing.
pub(super) fn look(pins: &Pins) -> Result<Pinned, PinError> {
    let mut found = Pinned { is_linked: !pins.linked_interfaces().is_empty(), ..Pinned::default() };
    // What is decided to take another's place counts as if it had it.
    for folder in [pins.folder(), &pins.decided()] {
        look_into(folder, &mut found)?;
    }
    Ok(found)
}

fn look_into(folder: &Path, found: &mut Pinned) -> Result<(), PinError> {
    let failed = |source| PinError::Folder { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(source)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        let read = |source| PinError::Read { path: path.clone(), source: Box::new(source) };
        let info = MapInfo::from_pin(&path).map_err(read)?;
        let shape = Shape {
            map_type: info.map_type().map_err(read)? as u32,
            key_size: info.key_size(),
            value_size: info.value_size(),
        };
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == SETTINGS {
            found.header = Some(header(&path, shape)?);
        }
        found.maps.insert(name, shape);
    }
    Ok(())
}

/// A migration of which the last part is to come.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) maps: &'static [MapLayout],
    pub(super) migration: Migration,
}

impl Pending {
    /// Fills the maps of the stage, which are made and empty, from their former selves.
    pub(super) fn fill(&self, pins: &Pins) -> Result<(), PinError> {
        for name in self.staged() {
            let former = pins.map(name);
            copy(&former, &pins.staged(name), |value| self.migration.convert(name, value))
                .map_err(|source| PinError::Convert { path: former, source })?;
        }
        Ok(())
    }

    /// Gives the maps of the stage their names. All links must have the program that uses them.
    pub(super) fn commit(&self, pins: &Pins) -> Result<(), PinError> {
        pins.commit_stage()?;
        for name in self.migration.removed() {
            let path = pins.map(name);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(PinError::Folder { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn staged(&self) -> impl Iterator<Item = &'static str> {
        self.maps.iter().map(|map| map.name).filter(|name| self.migration.stages(name))
    }
}

/// The first words of SETTINGS, in any layout: the magic, and the version.
fn header(path: &Path, shape: Shape) -> Result<(u64, u32), PinError> {
    let failed = |source| PinError::Convert { path: path.to_owned(), source };
    let map = raw::open_pin(path).map_err(failed)?;
    let key = vec![0; shape.key_size as usize];
    let value = raw::lookup_bytes(&map, &key, shape.value_size as usize).map_err(failed)?.unwrap_or_default();
    let words = value.split_first_chunk::<8>().and_then(|(magic, rest)| {
        Some((u64::from_ne_bytes(*magic), u32::from_ne_bytes(*rest.first_chunk::<4>()?)))
    });
    // What is too short for them was not made by any vip-lb.
    Ok(words.unwrap_or((u64::MAX, 0)))
}

/// Copies all entries of an array or a hash table that only the daemon writes.
fn copy(from: &Path, to: &Path, convert: impl Fn(Vec<u8>) -> Vec<u8>) -> io::Result<()> {
    let info = |path: &Path| MapInfo::from_pin(path).map_err(io::Error::other);
    let (former, new) = (info(from)?, info(to)?);
    let (source, target) = (raw::open_pin(from)?, raw::open_pin(to)?);
    let mut key = None;
    while let Some(next) = raw::next_key(&source, key.as_deref(), former.key_size() as usize)? {
        if let Some(value) = raw::lookup_bytes(&source, &next, former.value_size() as usize)? {
            let value = convert(value);
            if value.len() != new.value_size() as usize {
                return Err(io::Error::other(format!("{} bytes do not fit into it", value.len())));
            }
            raw::update_bytes(&target, &next, &value)?;
        }
        key = Some(next);
    }
    Ok(())
}
