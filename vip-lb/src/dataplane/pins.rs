//! What is pinned, and whether it may be used again.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::maps::MapInfo;
use thiserror::Error;

use super::{attach::XdpMode, raw};

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
    /// A pinned map is not what this binary needs.
    #[error(
        "cannot use pinned map {path}: its {property} is {actual}, expected {expected}; it was made by another \
         version: run `vip-lb unload` first, which ends forwarding"
    )]
    Mismatch {
        /// The pin.
        path: PathBuf,
        /// What differs.
        property: &'static str,
        /// As found.
        actual: u64,
        /// As needed.
        expected: u64,
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
        let pins = Self { folder: folder.to_owned() };
        for mode in XdpMode::ALL {
            let links = pins.links(mode);
            fs::create_dir_all(&links).map_err(|source| PinError::Folder { path: links, source })?;
        }
        Ok(pins)
    }

    /// The pins in a folder, whether there are any or not.
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn link(&self, interface: &str, mode: XdpMode) -> PathBuf {
        // bpffs takes no dots in names; '%' is in no interface name that the configuration accepts.
        self.links(mode).join(interface.replace('.', "%"))
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

/// Compares a pinned map, if there is one, with what the object needs. The number of entries may differ: it is
/// configuration, and changes with the next fresh load.
pub(super) fn check_map(
    path: &Path,
    map_type: u32,
    key_size: u32,
    value_size: u32,
) -> Result<bool, PinError> {
    if !path.exists() {
        return Ok(false);
    }
    let read = |source| PinError::Read { path: path.to_owned(), source: Box::new(source) };
    let info = MapInfo::from_pin(path).map_err(read)?;
    let actual_type = info.map_type().map_err(read)? as u32;
    for (property, actual, expected) in [
        ("type", actual_type, map_type),
        ("key size", info.key_size(), key_size),
        ("value size", info.value_size(), value_size),
    ] {
        if actual != expected {
            return Err(PinError::Mismatch {
                path: path.to_owned(),
                property,
                actual: u64::from(actual),
                expected: u64::from(expected),
            });
        }
    }
    Ok(true)
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
    let pins = Pins::at(folder.to_owned());
    if !exists(&folder.join(LINKS))? {
        return Err(PinError::Foreign { path: folder.to_owned() });
    }
    let interfaces = pins.linked_interfaces();
    // Links first: no packet meets a program without its maps.
    for mode in XdpMode::ALL {
        remove_files(&pins.links(mode), remove_link).map_err(failed)?;
    }
    fs::remove_dir(folder.join(LINKS)).map_err(failed)?;
    match remove_files(folder, |pin| fs::remove_file(pin)) {
        // Decapsulators stay unless they are removed first.
        Err(error)
            if error.kind() == io::ErrorKind::DirectoryNotEmpty && exists(&folder.join(DECAPSULATORS))? => {}
        result => result.map_err(failed)?,
    }
    Ok(interfaces)
}

/// Removes the files of a folder, and the folder, which must hold nothing else. One that is not there is no error.
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
