//! The files of the state.
//!
//! ```text
//! orders.json              what operators ordered
//! in-force.json            that another configuration than the file's is in force
//! revisions/17-1732586400  the 17th configuration, in force since that Unix second: the text as it was read
//! ```
//!
//! A file is written under another name, brought to the disk and renamed, so that there is always a whole one. Configurations hold the seed, so
//! nobody but the owner may read them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::fingerprint;

const REVISIONS: &str = "revisions";
/// Configurations that are kept.
pub const MOST_REVISIONS: usize = 20;
/// Bytes of configurations that are kept; the newest is kept whatever its size.
const MOST_BYTES: u64 = 64 << 20;

/// A folder of the state, which need not exist.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// A configuration that was in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Counts the configurations that came in force.
    pub number: u64,
    /// Since when it was in force, Unix seconds.
    pub since: u64,
    /// Fingerprint of its text.
    pub hash: String,
    /// Its length.
    pub bytes: u64,
}

impl Folder {
    /// The folder at this path. Touches nothing.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content of a file; none if there is no such file.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces a file, or makes it, and the folder if need be. Once this returns, a loss of power does not undo it.
    ///
    /// # Errors
    ///
    /// It cannot be written; then the former one is still there.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path.join(name);
        let folder = path.parent().expect("a file is in a folder");
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let temporary = path.with_extension("new");
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().inspect_err(|_| {
            // A part of it would take room on a disk that has none.
            let _ = fs::remove_file(&temporary);
        })?;
        // The new name is part of the folder.
        File::open(folder)?.sync_all()
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    ///
    /// It cannot be removed.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The configurations that are kept, the oldest first.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn revisions(&self) -> io::Result<Vec<Revision>> {
        let revisions = self.names()?.into_iter().map(|(number, since)| {
            let text = fs::read(self.path.join(REVISIONS).join(file_name(number, since)))?;
            Ok(Revision { number, since, hash: fingerprint(&text), bytes: text.len() as u64 })
        });
        revisions.collect()
    }

    /// The text of a configuration; none if it is not kept.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn text_of(&self, number: u64) -> io::Result<Option<Vec<u8>>> {
        let known = self.names()?.into_iter().find(|(known, _)| *known == number);
        known.map_or(Ok(None), |(number, since)| {
            self.read(&format!("{REVISIONS}/{}", file_name(number, since)))
        })
    }

    /// Keeps a configuration that came in force at this Unix second, and drops the oldest ones beyond what is kept. One that
    /// is the newest already is not kept twice. Returns its number.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn keep(&self, text: &[u8], since: u64) -> io::Result<u64> {
        let known = self.names()?;
        if let Some(&(number, at)) = known.last()
            && self.read(&format!("{REVISIONS}/{}", file_name(number, at)))?.as_deref() == Some(text)
        {
            return Ok(number);
        }
        let number = known.last().map_or(1, |(number, _)| number + 1);
        self.write(&format!("{REVISIONS}/{}", file_name(number, since)), text)?;
        self.drop_oldest()?;
        Ok(number)
    }

    fn drop_oldest(&self) -> io::Result<()> {
        let mut kept = 0;
        for (position, (number, since)) in self.names()?.into_iter().rev().enumerate() {
            let path = self.path.join(REVISIONS).join(file_name(number, since));
            kept += fs::metadata(&path)?.len();
            if position > 0 && (position >= MOST_REVISIONS || kept > MOST_BYTES) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Numbers and times of the kept configurations, in ascending order. Other files are nobody's business here.
    fn names(&self) -> io::Result<Vec<(u64, u64)>> {
        let entries = match fs::read_dir(self.path.join(REVISIONS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let parsed = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.split_once('-'));
            if let Some((number, since)) = parsed
                && let (Ok(number), Ok(since)) = (number.parse(), since.parse())
            {
                names.push((number, since));
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

const SUFFIX: &str = ".yaml";

fn file_name(number: u64, since: u64) -> String {
    format!("{number}-{since}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::api::samples::TempFolder;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_for_the_owner_alone() {
        let place = TempFolder::new();
        let folder = Folder::new(&place.path().join("a/b"));
        assert_eq!(folder.read("orders.json").unwrap(), None);
        folder.write("orders.json", b"one").unwrap();
        folder.write("orders.json", b"two").unwrap();
        assert_eq!(folder.read("orders.json").unwrap().as_deref(), Some(&b"two"[..]));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.path().join("orders.json")), 0o600);
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["orders.json"], "nothing else is left");
        folder.remove("orders.json").unwrap();
        folder.remove("orders.json").unwrap();
        assert_eq!(folder.read("orders.json").unwrap(), None);
    }

    #[test]
    fn what_cannot_be_written_leaves_the_former_file() {
        let place = TempFolder::new();
        let folder = Folder::new(place.path());
        folder.write("orders.json", b"one").unwrap();
        // Whoever runs the test may write anywhere, so something is in the way.
        fs::create_dir(place.path().join("orders.new")).unwrap();
        assert!(folder.write("orders.json", b"two").is_err());
        assert_eq!(folder.read("orders.json").unwrap().as_deref(), Some(&b"one"[..]));
        fs::write(place.path().join("file"), "").unwrap();
        assert!(Folder::new(&place.path().join("file")).write("orders.json", b"two").is_err());
    }

    #[test]
    fn configurations_are_numbered_bounded_and_not_kept_twice() {
        let place = TempFolder::new();
        let folder = Folder::new(place.path());
        assert_eq!(folder.revisions().unwrap(), []);
        assert_eq!(folder.keep(b"a", 100).unwrap(), 1);
        assert_eq!(folder.keep(b"a", 200).unwrap(), 1, "it is the newest already");
        assert_eq!(folder.keep(b"b", 300).unwrap(), 2);
        assert_eq!(folder.keep(b"a", 400).unwrap(), 3, "it came in force again");
        let revisions = folder.revisions().unwrap();
        let numbers: Vec<_> = revisions.iter().map(|of| (of.number, of.since, of.bytes)).collect();
        assert_eq!(numbers, [(1, 100, 1), (2, 300, 1), (3, 400, 1)]);
        assert_eq!(revisions[0].hash, revisions[2].hash);
        assert_eq!(folder.text_of(2).unwrap().as_deref(), Some(&b"b"[..]));
        assert_eq!(folder.text_of(4).unwrap(), None);
        fs::write(place.path().join("revisions/notes.txt"), "not ours").unwrap();
        for number in 4..40 {
            assert_eq!(folder.keep(format!("text {number}").as_bytes(), number).unwrap(), number);
        }
        let numbers: Vec<_> = folder.revisions().unwrap().iter().map(|of| of.number).collect();
        assert_eq!(numbers, (20..40).collect::<Vec<_>>());
        assert!(place.path().join("revisions/notes.txt").exists());
    }
}
