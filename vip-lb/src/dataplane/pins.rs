//! What is pinned, and whether it may be used again.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{attach::XdpMode, layout::Refusal, raw};

/// Folder of maps that may come to take another's place, below the folder of a program's pins.
const STAGE: &str = "next";

/// Name of the same folder once it is settled that they do.
const DECIDED: &str = "decided";

/// Folder of pinned links below the folder of a program's pins; in it one folder for each mode.
const LINKS: &str = "links";

/// Folder of the decapsulators below the folder of all pins; in it one folder for each interface.
const DECAPSULATORS: &str = "decap";

/// Why pins cannot be used.
#[derive(Debug, Error)]
pub enum PinError {
    /// The folder is not on a BPF file system, or is the root of one, which is everybody's.
    #[error(
        "{path} is no folder below the root of a BPF file system; if none is mounted, do: mount -t bpf bpf /sys/fs/bpf"
    )]
    NotBpffs {
        /// The folder.
        path: PathBuf,
    },
    /// They were made by another version, or are somebody else's.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A map of an older layout cannot be read or brought to this one.
    #[error("cannot convert pinned map {path}")]
    Convert {
        /// The pin.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A pin cannot be read.
    #[error("cannot read pinned map {path}")]
    Read {
        /// The pin.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// The folder holds something else.
    #[error("{path} holds no pins of vip-lb")]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be used.
    #[error("cannot use {path}{hint}", hint = hint(source))]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The folder that holds the pins of one program.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Makes the folder if need be; refuses one that is not on bpffs, where a pin would not be one.
    pub(super) fn create(folder: &Path) -> Result<Self, PinError> {
        check_place(folder)?;
        let pins = Self::of(folder);
        for mode in XdpMode::ALL {
            let links = pins.links(mode);
            fs::create_dir_all(&links).map_err(|source| PinError::Folder { path: links, source })?;
        }
        Ok(pins)
    }

    /// The pins of a folder, which need not be there.
    pub(super) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn link(&self, interface: &str, mode: XdpMode) -> PathBuf {
        // bpffs takes no dots in names; '%' is in no interface name that the configuration accepts.
        self.links(mode).join(interface.replace('.', "%"))
    }

    /// Where a map waits that is to take the place of another one.
    pub(super) fn staged(&self, name: &str) -> PathBuf {
        self.folder.join(STAGE).join(name)
    }

    /// The same, once it may be pinned there.
    pub(super) fn stage(&self, name: &str) -> Result<PathBuf, PinError> {
        let stage = self.folder.join(STAGE);
        fs::create_dir_all(&stage).map_err(|source| folder_error(&stage, source))?;
        Ok(self.staged(name))
    }

    /// Removes what waits, and what a migration that was broken off has left.
    pub(super) fn clear_stage(&self) -> Result<(), PinError> {
        let stage = self.folder.join(STAGE);
        remove_files(&stage, |pin| fs::remove_file(pin)).map_err(|source| folder_error(&stage, source))
    }

    /// Gives all that waits its place: in one step that is decided, and whoever is killed in what follows leaves the rest to
    /// [`Pins::settle`].
    pub(super) fn commit_stage(&self) -> Result<(), PinError> {
        let stage = self.folder.join(STAGE);
        match fs::rename(&stage, self.decided()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(folder_error(&stage, error)),
            _ => self.settle(),
        }
    }

    /// Puts maps into their place about which that is decided, if there are any.
    pub(super) fn settle(&self) -> Result<(), PinError> {
        let decided = self.decided();
        let put = |pin: &Path| match pin.file_name() {
            Some(name) => fs::rename(pin, self.folder.join(name)),
            None => Ok(()),
        };
        remove_files(&decided, put).map_err(|source| folder_error(&decided, source))
    }

    /// Folder of the maps that are to be put into their place.
    pub(super) fn decided(&self) -> PathBuf {
        self.folder.join(DECIDED)
    }

    /// Interfaces that have a pinned link.
    pub(super) fn linked_interfaces(&self) -> Vec<String> {
        let folders = XdpMode::ALL.into_iter().filter_map(|mode| fs::read_dir(self.links(mode)).ok());
        let names = folders.flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.map(|name| name.replace('%', ".")).collect()
    }

    fn links(&self, mode: XdpMode) -> PathBuf {
        self.folder.join(LINKS).join(mode.name())
    }
}

/// The folder of the decapsulator of an interface.
pub(super) fn decapsulator(pins: &Path, interface: &str) -> PathBuf {
    pins.join(DECAPSULATORS).join(interface.replace('.', "%"))
}

/// Detaches every program pinned in `folder`, the decapsulators below it included, and removes the pins and the folder.
/// Returns the interfaces that had a program, `None` if nothing is pinned there.
pub fn unload(folder: &Path) -> Result<Option<Vec<String>>, PinError> {
    if !exists(folder)? {
        return Ok(None);
    }
    check_place(folder)?;
    let failed = |source| folder_error(folder, source);
    let decapsulators = folder.join(DECAPSULATORS);
    let mut interfaces = Vec::new();
    if exists(&decapsulators)? {
        for entry in fs::read_dir(&decapsulators).map_err(failed)? {
            interfaces.extend(remove(&entry.map_err(failed)?.path())?);
        }
        fs::remove_dir(&decapsulators).map_err(failed)?;
        // Where there is no balancer, the folder was made for the decapsulators.
        if fs::remove_dir(folder).is_ok() {
            interfaces.sort();
            return Ok(Some(interfaces));
        }
    }
    interfaces.extend(remove(folder)?);
    interfaces.sort();
    interfaces.dedup();
    Ok(Some(interfaces))
}

/// As [`unload`], for the balancer alone: a decapsulator of this host goes on.
pub fn unload_balancer(folder: &Path) -> Result<Option<Vec<String>>, PinError> {
    if !exists(&folder.join(LINKS))? {
        return Ok(None);
    }
    check_place(folder)?;
    remove(folder).map(Some)
}

/// As [`unload`], for the decapsulator of one interface alone. Tells whether it was loaded.
pub(super) fn unload_decapsulator(pins: &Path, interface: &str) -> Result<bool, PinError> {
    let folder = decapsulator(pins, interface);
    if !exists(&folder)? {
        return Ok(false);
    }
    check_place(pins)?;
    remove(&folder)?;
    // The folders above go with their last content, which the kernel knows best.
    let _ = fs::remove_dir(pins.join(DECAPSULATORS)).and_then(|()| fs::remove_dir(pins));
    Ok(true)
}

/// Detaches and removes a pinned link, if there is one.
pub(super) fn remove_link(pin: &Path) -> io::Result<()> {
    match raw::detach_link(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // A kernel that cannot do it detaches when the pin goes.
        Ok(()) | Err(_) => {}
    }
    fs::remove_file(pin)
}

/// Removes the pins of one program. Returns the interfaces it was attached to.
fn remove(folder: &Path) -> Result<Vec<String>, PinError> {
    let failed = |source| folder_error(folder, source);
    let pins = Pins::of(folder);
    if !exists(&folder.join(LINKS))? {
        return Err(PinError::Foreign { path: folder.to_owned() });
    }
    let interfaces = pins.linked_interfaces();
    // Links first: no packet meets a program without its maps.
    for mode in XdpMode::ALL {
        remove_files(&pins.links(mode), remove_link).map_err(failed)?;
    }
    fs::remove_dir(folder.join(LINKS)).map_err(failed)?;
    pins.settle()?;
    pins.clear_stage()?;
    match remove_files(folder, |pin| fs::remove_file(pin)) {
        // Decapsulators stay unless they are removed first.
        Err(error)
            if error.kind() == io::ErrorKind::DirectoryNotEmpty && exists(&folder.join(DECAPSULATORS))? => {}
        result => result.map_err(failed)?,
    }
    Ok(interfaces)
}

/// Removes the files of a folder in this way, and the folder, which must hold nothing else. One that is not there is no error.
fn remove_files(folder: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

fn exists(path: &Path) -> Result<bool, PinError> {
    path.try_exists().map_err(|source| folder_error(path, source))
}

fn folder_error(path: &Path, source: io::Error) -> PinError {
    PinError::Folder { path: path.to_owned(), source }
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied { ": not permitted; run this as root" } else { "" }
}

/// Pins must be on bpffs, and not in its root: unloading removes what is in their folder.
///
/// # Errors
///
/// [`PinError::NotBpffs`], or [`PinError::Folder`] where it cannot be seen.
pub fn check_place(folder: &Path) -> Result<(), PinError> {
    let elsewhere = || PinError::NotBpffs { path: folder.to_owned() };
    let mut above = folder.parent();
    while let Some(parent) = above {
        if exists(parent)? {
            return match is_bpffs(parent).map_err(|source| folder_error(parent, source))? {
                true => Ok(()),
                false => Err(elsewhere()),
            };
        }
        above = parent.parent();
    }
    Err(elsewhere())
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    use std::os::unix::ffi::OsStrExt as _;

    const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let mut statistics = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path is a C string and the buffer has the right type.
    if unsafe { libc::statfs(path.as_ptr(), statistics.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: statfs succeeded and filled it.
    let statistics = unsafe { statistics.assume_init() };
    Ok(statistics.f_type.unsigned_abs() == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::samples::TempFolder;

    /// Files stand for pins: where they lie is all that matters here.
    fn files(folder: &Path) -> BTreeMap<String, String> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        entries
            .map(|entry| {
                let content = fs::read_to_string(entry.path()).unwrap_or_else(|_| "a folder".to_owned());
                (entry.file_name().into_string().unwrap(), content)
            })
            .collect()
    }

    fn staged(place: &TempFolder) -> Pins {
        let pins = Pins::of(place.path());
        for name in ["SETTINGS", "RINGS", "PEERS"] {
            fs::write(pins.map(name), "former").unwrap();
        }
        for name in ["SETTINGS", "RINGS"] {
            fs::write(pins.stage(name).unwrap(), "new").unwrap();
        }
        pins
    }

    fn expect(place: &TempFolder, content: [(&str, &str); 3]) {
        let expected: BTreeMap<String, String> =
            content.map(|(name, content)| (name.to_owned(), content.to_owned())).into();
        assert_eq!(files(place.path()), expected);
    }

    #[test]
    fn what_waits_takes_its_place_or_goes() {
        let place = TempFolder::new();
        let pins = staged(&place);
        pins.settle().unwrap();
        assert_eq!(files(place.path()).len(), 4, "nothing is decided");
        pins.commit_stage().unwrap();
        expect(&place, [("PEERS", "former"), ("RINGS", "new"), ("SETTINGS", "new")]);

        let place = TempFolder::new();
        let pins = staged(&place);
        pins.clear_stage().unwrap();
        pins.commit_stage().unwrap();
        expect(&place, [("PEERS", "former"), ("RINGS", "former"), ("SETTINGS", "former")]);
    }

    #[test]
    fn who_is_killed_once_it_is_decided_leaves_no_mixture() {
        let place = TempFolder::new();
        let pins = staged(&place);
        fs::rename(place.path().join(STAGE), pins.decided()).unwrap();
        fs::rename(pins.decided().join("SETTINGS"), pins.map("SETTINGS")).unwrap();
        // The next daemon begins with this.
        pins.settle().unwrap();
        pins.clear_stage().unwrap();
        expect(&place, [("PEERS", "former"), ("RINGS", "new"), ("SETTINGS", "new")]);
    }
}
