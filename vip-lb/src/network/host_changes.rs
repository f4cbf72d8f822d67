//! What was changed on the host's interfaces, written down so that another process can undo it later.
//!
//! The daemon goes and its program stays, so the settings that the program needs have to stay, too, and `vip-lb unload`
//! takes them back. Each folder of pins has a folder of records, `/run/vip-lb/changes/<pins>/<interface>.json`. It is
//! empty after a reboot, as the settings are.
//!
//! There is one writer at a time: the daemon, or the command that unloads after it.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    net::Ipv6Addr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    device::interface_name,
    ethtool::{
        OffloadError, VlanRxFeatures, VlanRxOffload, restore_vlan_rx_offload, turn_off_vlan_rx_offload,
    },
    multicast::solicited_node,
    multicast_filter::{self, FilterError},
};

/// Folder of all records.
const FOLDER: &str = "/run/vip-lb/changes";

/// The record of what was changed on behalf of the programs in one folder of pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostChanges {
    folder: PathBuf,
}

/// What was changed on one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceChanges {
    /// Its kernel index: one of the same name with another index is another interface.
    pub index: u32,
    /// Offloads that were on and were turned off.
    #[serde(default)]
    pub vlan_rx_offload: VlanRxFeatures,
    /// Multicast groups that the filter did not let in before.
    #[serde(default)]
    pub multicast: BTreeSet<Ipv6Addr>,
}

/// What came of undoing the changes of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// They are undone. Holds what they were.
    Restored(InterfaceChanges),
    /// The interface is gone, and its settings with it.
    Gone,
}

impl Undone {
    /// What was undone, in words.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let Self::Restored(changes) = self else {
            return vec!["the interface is gone or another one now, nothing to restore".to_owned()];
        };
        let mut done = Vec::new();
        if changes.vlan_rx_offload != VlanRxFeatures::default() {
            done.push("VLAN receive offload turned on again".to_owned());
        }
        match changes.multicast.len() {
            0 => {}
            1 => done.push("1 multicast filter entry removed".to_owned()),
            count => done.push(format!("{count} multicast filter entries removed")),
        }
        done
    }
}

/// Why a change cannot be made, recorded or undone.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// The record cannot be read, written or removed.
    #[error("cannot use {path}, where changes of an interface are recorded")]
    Record {
        /// The record.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The VLAN offload cannot be read or changed.
    #[error(transparent)]
    Offload(#[from] OffloadError),
    /// The multicast filter cannot be read or changed.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

impl HostChanges {
    /// The record that belongs to a folder of pins.
    #[must_use]
    pub fn of(pins: &Path) -> Self {
        Self::in_folder(Path::new(FOLDER).join(name_of(pins)))
    }

    /// A record in a folder of its own.
    #[must_use]
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Turns the VLAN offload of received frames off and records what was on; see [`turn_off_vlan_rx_offload`].
    pub fn turn_off_vlan_rx_offload(
        &self,
        interface: &str,
        index: u32,
    ) -> Result<VlanRxOffload, ChangeError> {
        let outcome = turn_off_vlan_rx_offload(interface)?;
        if let VlanRxOffload::TurnedOff(features) = outcome {
            let mut changes = self.changes(interface, index)?;
            changes.vlan_rx_offload.ctag |= features.ctag;
            changes.vlan_rx_offload.stag |= features.stag;
            self.write(interface, &changes)?;
        }
        Ok(outcome)
    }

    /// Makes the solicited-node groups of these addresses the ones that this record lets through an interface's filter;
    /// see [`admit`](multicast_filter::admit). What somebody else lets in stays his.
    pub fn admit(&self, interface: &str, index: u32, addresses: &[Ipv6Addr]) -> Result<(), ChangeError> {
        let wanted: BTreeSet<Ipv6Addr> = addresses.iter().copied().map(solicited_node).collect();
        let mut changes = self.changes(interface, index)?;
        let before = changes.clone();
        let unwanted: Vec<_> = changes.multicast.difference(&wanted).copied().collect();
        multicast_filter::dismiss(interface, &unwanted)?;
        changes.multicast.retain(|group| wanted.contains(group));
        changes.multicast.extend(multicast_filter::missing(interface, addresses)?);
        // The record first: an entry without one would never be removed, one too many in the record harms nobody.
        if changes != before {
            self.write(interface, &changes)?;
        }
        multicast_filter::admit(interface, addresses)?;
        Ok(())
    }

    /// Interfaces that something is recorded of.
    pub fn interfaces(&self) -> Result<Vec<String>, ChangeError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(record_error(&self.folder, error)),
        };
        let mut interfaces = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| record_error(&self.folder, error))?.file_name();
            interfaces.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).map(str::to_owned));
        }
        interfaces.sort();
        Ok(interfaces)
    }

    /// What is recorded of an interface.
    pub fn get(&self, interface: &str) -> Result<Option<InterfaceChanges>, ChangeError> {
        let path = self.path(interface);
        match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).map_err(|error| record_error(&path, error.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(record_error(&path, error)),
        }
    }

    /// Undoes what is recorded of an interface, and forgets it. `None` if nothing is. A record whose changes cannot be
    /// undone stays.
    pub fn undo(&self, interface: &str) -> Result<Option<Undone>, ChangeError> {
        let Some(changes) = self.get(interface)? else {
            return Ok(None);
        };
        let undone = if interface_name(changes.index).is_some_and(|name| name == interface) {
            if changes.vlan_rx_offload != VlanRxFeatures::default() {
                restore_vlan_rx_offload(interface, changes.vlan_rx_offload)?;
            }
            let groups: Vec<_> = changes.multicast.iter().copied().collect();
            multicast_filter::dismiss(interface, &groups)?;
            Undone::Restored(changes)
        } else {
            Undone::Gone
        };
        let path = self.path(interface);
        fs::remove_file(&path).map_err(|error| record_error(&path, error))?;
        // The folder goes with its last record.
        let _ = fs::remove_dir(&self.folder);
        Ok(Some(undone))
    }

    /// What is recorded of this very interface.
    fn changes(&self, interface: &str, index: u32) -> Result<InterfaceChanges, ChangeError> {
        let recorded = self.get(interface)?.filter(|changes| changes.index == index);
        Ok(recorded.unwrap_or(InterfaceChanges { index, ..InterfaceChanges::default() }))
    }

    fn write(&self, interface: &str, changes: &InterfaceChanges) -> Result<(), ChangeError> {
        let path = self.path(interface);
        let new = path.with_extension("new");
        let write = || {
            fs::create_dir_all(&self.folder)?;
            fs::write(&new, serde_json::to_vec_pretty(changes)?)?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| record_error(&path, error))
    }

    fn path(&self, interface: &str) -> PathBuf {
        self.folder.join(format!("{interface}.json"))
    }
}

/// The whole path of a folder of pins, the root left out, as one name.
pub(crate) fn name_of(pins: &Path) -> OsString {
    let pins = std::path::absolute(pins).unwrap_or_else(|_| pins.to_owned());
    let mut name = OsString::new();
    for (index, part) in pins.components().skip(1).enumerate() {
        name.push(if index > 0 { "%" } else { "" });
        name.push(part);
    }
    name
}

fn record_error(path: &Path, source: io::Error) -> ChangeError {
    ChangeError::Record { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_of_pins_has_a_record_of_its_own() {
        let folder = |pins: &str| HostChanges::of(Path::new(pins)).folder;
        assert_eq!(folder("/sys/fs/bpf/vip-lb"), Path::new("/run/vip-lb/changes/sys%fs%bpf%vip-lb"));
        assert_ne!(folder("/sys/fs/bpf/a"), folder("/sys/fs/bpf/a/b"));
    }
}
