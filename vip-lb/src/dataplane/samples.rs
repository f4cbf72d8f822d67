//! SAMPLES, read in this process's own memory: a look costs no system call.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::NonNull,
};

use aya::maps::{Map, MapData};
use vip_lb_common::abi::{SAMPLES, Sample};

use super::loader::LoadError;

/// The flows that are looked at closely. Dropped, it no longer sees them.
pub struct Samples {
    first: NonNull<Sample>,
    /// Keeps the map.
    _map: MapData,
}

// SAFETY: memory that the kernel shares and writes; it is read through a copy, never by reference.
unsafe impl Send for Samples {}
// SAFETY: as above.
unsafe impl Sync for Samples {}

/// Bytes of the table.
const LEN: usize = SAMPLES * size_of::<Sample>();

impl Samples {
    pub(super) fn take(bpf: &mut aya::Ebpf) -> Result<Self, LoadError> {
        let missing =
            |why: &str| LoadError::Object { what: format!("map SAMPLES that can be read in place{why}") };
        match bpf.take_map("SAMPLES") {
            Some(Map::Array(map)) => Self::of(map).map_err(|error| missing(&format!(": {error}"))),
            _ => Err(missing("")),
        }
    }

    /// Of the map, which must be the program's.
    ///
    /// # Errors
    ///
    /// The kernel does not let its memory be mapped (BPF_F_MMAPABLE, kernel 5.5).
    pub fn of(map: MapData) -> io::Result<Self> {
        let descriptor = map.fd().as_fd().as_raw_fd();
        // SAFETY: a new mapping.
        let first = unsafe {
            libc::mmap(std::ptr::null_mut(), LEN, libc::PROT_READ, libc::MAP_SHARED, descriptor, 0)
        };
        if first == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(first.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { first, _map: map })
    }

    /// Copies all places into `samples`. What packets write meanwhile may be seen in part.
    pub fn copy(&self, samples: &mut Vec<Sample>) {
        samples.clear();
        samples.extend((0..SAMPLES).map(|place| {
            // SAFETY: a place of the mapping, any bytes of which make a sample; volatile, because packets change them.
            unsafe { self.first.add(place).read_volatile() }
        }));
    }
}

impl Drop for Samples {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's own, and nothing points into it any more.
        unsafe { libc::munmap(self.first.as_ptr().cast(), LEN) };
    }
}
