//! What was changed on the host of a backend, and what was there before.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    dataplane::Decapsulator,
    network::{Sysctl, name_of},
};

/// Folder of all records.
const FOLDER: &str = "/run/vip-lb/backend";

/// One change, with what it takes to undo it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The loopback got an address that it did not have.
    Address(IpAddr),
    /// A setting of the stack.
    Sysctl {
        /// Which one.
        setting: Sysctl,
        /// What it was.
        before: i64,
        /// What it was set to.
        after: i64,
    },
    /// What is unpacked on an interface.
    Decapsulation {
        /// The interface.
        interface: String,
        /// What was unpacked there, if anything was.
        before: Option<Decapsulator>,
        /// What it was changed to.
        after: Decapsulator,
    },
}

impl Change {
    /// Whether both change the same thing.
    fn concerns_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Address(one), Self::Address(two)) => one == two,
            (Self::Sysctl { setting: one, .. }, Self::Sysctl { setting: two, .. }) => one == two,
            (Self::Decapsulation { interface: one, .. }, Self::Decapsulation { interface: two, .. }) => {
                one == two
            }
            _ => false,
        }
    }

    /// This change followed by a later one of the same thing, as one: what was there before the first is what counts.
    fn followed_by(&mut self, later: Self) {
        match (self, later) {
            (Self::Sysctl { after, .. }, Self::Sysctl { after: later, .. }) => *after = later,
            (Self::Decapsulation { after, .. }, Self::Decapsulation { after: later, .. }) => *after = later,
            _ => {}
        }
    }
}

/// The record of changes on behalf of one folder of pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    path: PathBuf,
}

/// Why the record cannot be used.
#[derive(Debug, Error)]
#[error("cannot use {path}, where changes of this host are recorded")]
pub struct RecordError {
    /// The record.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl Record {
    /// The record that belongs to a folder of pins.
    #[must_use]
    pub fn of(pins: &Path) -> Self {
        let mut name = name_of(pins);
        name.push(".json");
        Self { path: Path::new(FOLDER).join(name) }
    }

    /// What is recorded, in the order it was done.
    ///
    /// # Errors
    ///
    /// The record cannot be read.
    pub fn read(&self) -> Result<Vec<Change>, RecordError> {
        match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| self.error(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Adds a change that is about to be made: one that is recorded and not made harms nobody.
    ///
    /// # Errors
    ///
    /// The record cannot be read or written.
    pub fn add(&self, change: Change) -> Result<(), RecordError> {
        let mut changes = self.read()?;
        merge(&mut changes, change);
        self.write(&changes)
    }

    /// Replaces what is recorded; nothing at all removes the record.
    ///
    /// # Errors
    ///
    /// The record cannot be written.
    pub fn write(&self, changes: &[Change]) -> Result<(), RecordError> {
        let write = || {
            if changes.is_empty() {
                return match fs::remove_file(&self.path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                };
            }
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let new = self.path.with_extension("new");
            fs::write(&new, serde_json::to_vec_pretty(changes)?)?;
            fs::rename(&new, &self.path)
        };
        write().map_err(|error| self.error(error))
    }

    fn error(&self, source: io::Error) -> RecordError {
        RecordError { path: self.path.clone(), source }
    }
}

fn merge(changes: &mut Vec<Change>, change: Change) {
    match changes.iter_mut().find(|earlier| earlier.concerns_the_same(&change)) {
        Some(earlier) => earlier.followed_by(change),
        None => changes.push(change),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_the_first_change_is_kept() {
        let setting = Sysctl::ipv4("all", "arp_ignore");
        let change = |before, after| Change::Sysctl { setting: setting.clone(), before, after };
        let address = Change::Address([10, 0, 0, 1].into());
        let mut changes = Vec::new();
        for next in [change(0, 2), address.clone(), change(2, 1), address.clone()] {
            merge(&mut changes, next);
        }
        assert_eq!(changes, [change(0, 1), address]);
    }

    #[test]
    fn a_record_says_what_was_written_and_goes_with_its_last_change() {
        let pins = format!("/sys/fs/bpf/record-test-{}", std::process::id());
        let name = Record::of(Path::new(&pins)).path.file_name().unwrap().to_owned();
        let folder = std::env::temp_dir();
        let record = Record { path: folder.join(name) };
        let after = Decapsulator {
            from: [([10, 0, 0, 0].into(), 24)].into(),
            vips: [[10, 1, 0, 1].into()].into(),
            gue_port: 6080,
        };
        let change = Change::Decapsulation { interface: "eth0".to_owned(), before: None, after };
        assert_eq!(record.read().unwrap(), []);
        record.add(change.clone()).unwrap();
        assert_eq!(record.read().unwrap(), [change]);
        record.write(&[]).unwrap();
        assert!(!record.path.exists());
    }
}
