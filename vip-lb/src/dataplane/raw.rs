//! Map values as bytes, and the bpf(2) commands that aya 0.14 has no call for: values too large for a stack, deleting from a map of maps, and
//! batches.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::Pod;
use vip_lb_common::abi::Plain;

/// A map key or value of ours in the form that aya takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Raw<T>(pub(super) T);

// SAFETY: `Plain` asks for what `Pod` asks for.
unsafe impl<T: Plain> Pod for Raw<T> {}

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_LINK_DETACH: libc::c_long = 34;

/// The beginning of BPF_MAP_CREATE's part of `union bpf_attr` (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

/// The element commands' part of it.
#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The batch commands' part of it.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// Makes an array of one element of `value_size` bytes.
pub(super) fn create_array(value_size: usize) -> io::Result<OwnedFd> {
    const BPF_MAP_TYPE_ARRAY: u32 = 2;

    let attr = CreateAttr {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: size_of::<u32>() as u32,
        value_size: value_size as u32,
        max_entries: 1,
        name: *b"ring\0\0\0\0\0\0\0\0\0\0\0\0",
        ..CreateAttr::default()
    };
    // SAFETY: the attribute holds no pointers.
    let fd = unsafe { bpf(BPF_MAP_CREATE, &attr) }?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads one element straight into `value`, which must be as long as the map's values.
pub(super) fn lookup_into<K: Plain, T: Plain>(map: &impl AsFd, key: K, value: &mut [T]) -> io::Result<()> {
    let attr = ElementAttr {
        map_fd: fd(map),
        key: (&raw const key) as u64,
        value: value.as_mut_ptr() as u64,
        ..ElementAttr::default()
    };
    // SAFETY: key and value point to live memory of the map's sizes; any bytes are a `T`.
    unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &attr) }.map(drop)
}

/// Reads one element.
pub(super) fn lookup<K: Plain, V: Plain + Default>(map: &impl AsFd, key: K) -> io::Result<Option<V>> {
    let mut value = [V::default()];
    there(lookup_into(map, key, &mut value)).map(|found| found.map(|()| value[0]))
}

/// Reads one element of a map of any kind that has one value for a key. The lengths must be the map's.
pub(super) fn lookup_bytes(map: &impl AsFd, key: &[u8], value_size: usize) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; value_size];
    let attr = ElementAttr {
        map_fd: fd(map),
        key: key.as_ptr() as u64,
        value: value.as_mut_ptr() as u64,
        ..ElementAttr::default()
    };
    // SAFETY: key and value point to live memory of the map's sizes.
    there(unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &attr) }).map(|found| found.map(|_| value))
}

/// Writes one element, likewise.
pub(super) fn update_bytes(map: &impl AsFd, key: &[u8], value: &[u8]) -> io::Result<()> {
    let attr = ElementAttr {
        map_fd: fd(map),
        key: key.as_ptr() as u64,
        value: value.as_ptr() as u64,
        ..ElementAttr::default()
    };
    // SAFETY: key and value point to live memory of the map's sizes.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &attr) }.map(drop)
}

/// Writes one element of a hash map, in the place of any other.
pub(super) fn update<K: Plain, V: Plain>(map: &impl AsFd, key: K, value: V) -> io::Result<()> {
    let attr = ElementAttr {
        map_fd: fd(map),
        key: (&raw const key) as u64,
        value: (&raw const value) as u64,
        ..ElementAttr::default()
    };
    // SAFETY: key and value point to live memory of the map's sizes.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &attr) }.map(drop)
}

/// The key that follows `key`, or the first one.
pub(super) fn next_key(map: &impl AsFd, key: Option<&[u8]>, key_size: usize) -> io::Result<Option<Vec<u8>>> {
    let mut next = vec![0; key_size];
    let attr = ElementAttr {
        map_fd: fd(map),
        key: key.map_or(0, |key| key.as_ptr() as u64),
        value: next.as_mut_ptr() as u64,
        ..ElementAttr::default()
    };
    // SAFETY: the key, if there is one, and the room for the next are live memory of the map's key size.
    there(unsafe { bpf(BPF_MAP_GET_NEXT_KEY, &attr) }).map(|found| found.map(|_| next))
}

/// Removes one element of a hash map and tells what it was, in one step (kernel 5.14).
pub(super) fn take<K: Plain, V: Plain + Default>(map: &impl AsFd, key: K) -> io::Result<Option<V>> {
    let mut value = V::default();
    let attr = ElementAttr {
        map_fd: fd(map),
        key: (&raw const key) as u64,
        value: (&raw mut value) as u64,
        ..ElementAttr::default()
    };
    // SAFETY: key and value point to live memory of the map's sizes; any bytes are a `V`.
    let result = unsafe { bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM, &attr) };
    there(result).map(|found| found.map(|_| value))
}

/// Inserts one element. False if there is one, or no room.
pub(super) fn insert_new<K: Plain, V: Plain>(map: &impl AsFd, key: K, value: V) -> io::Result<bool> {
    const BPF_NOEXIST: u64 = 1;

    let attr = ElementAttr {
        map_fd: fd(map),
        key: (&raw const key) as u64,
        value: (&raw const value) as u64,
        flags: BPF_NOEXIST,
        ..ElementAttr::default()
    };
    // SAFETY: key and value point to live memory of the map's sizes.
    match unsafe { bpf(BPF_MAP_UPDATE_ELEM, &attr) } {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::E2BIG)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// None where the error says that there is no such element.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces one element by `value`, which must be as long as the map's values.
pub(super) fn update_from<T: Plain>(map: &impl AsFd, key: u32, value: &[T]) -> io::Result<()> {
    let attr = ElementAttr {
        map_fd: fd(map),
        key: (&raw const key) as u64,
        value: value.as_ptr() as u64,
        ..ElementAttr::default()
    };
    // SAFETY: key and value point to live memory of the map's sizes.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &attr) }.map(drop)
}

/// Replaces several elements of a map of maps by the maps behind `values` (kernel 5.13). After an error any number of them is replaced.
pub(super) fn update_inner_maps(map: &impl AsFd, keys: &[u32], values: &[BorrowedFd<'_>]) -> io::Result<()> {
    assert_eq!(keys.len(), values.len(), "one value for each key");
    let values: Vec<i32> = values.iter().map(BorrowedFd::as_raw_fd).collect();
    let mut attr = BatchAttr {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len() as u32,
        map_fd: fd(map),
        ..BatchAttr::default()
    };
    // SAFETY: keys and values are live and as many as `count` says.
    unsafe { bpf_mut(BPF_MAP_UPDATE_BATCH, &mut attr) }.map(drop)
}

/// Deletes the element at `key`; one that is not there is no error.
pub(super) fn delete<K: Plain>(map: &impl AsFd, key: K) -> io::Result<()> {
    let attr = ElementAttr { map_fd: fd(map), key: (&raw const key) as u64, ..ElementAttr::default() };
    // SAFETY: the key points to live memory of the map's key size.
    match unsafe { bpf(BPF_MAP_DELETE_ELEM, &attr) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result.map(drop),
    }
}

/// All entries of a hash map or array, read in batches (kernel 5.6). Entries that come and go meanwhile may be missing or old.
pub(super) fn entries<K: Plain + Default, V: Plain + Default>(map: &impl AsFd) -> io::Result<Vec<(K, V)>> {
    let mut all = Vec::new();
    let mut room = 4096;
    let (mut cursor, mut started) = ([0_u8; 64], false);
    loop {
        let (mut keys, mut values) = (vec![K::default(); room], vec![V::default(); room]);
        let mut next = [0_u8; 64];
        let mut attr = BatchAttr {
            in_batch: if started { cursor.as_ptr() as u64 } else { 0 },
            out_batch: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: room as u32,
            map_fd: fd(map),
            ..BatchAttr::default()
        };
        // SAFETY: all buffers are live and of the map's sizes times `count`; a cursor is at most as long as a key.
        let result = unsafe { bpf_mut(BPF_MAP_LOOKUP_BATCH, &mut attr) };
        let last = match result {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            // One bucket alone holds more than there is room for.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                room *= 2;
                continue;
            }
            Err(error) => return Err(error),
        };
        let count = attr.count as usize;
        all.extend(keys.into_iter().zip(values).take(count));
        if last {
            return Ok(all);
        }
        (cursor, started) = (next, true);
    }
}

/// `struct bpf_link_info` up to `xdp.ifindex`.
#[repr(C)]
#[derive(Default)]
pub(super) struct LinkInfo {
    link_type: u32,
    id: u32,
    /// The kernel's number of the program that the link holds.
    pub(super) program_id: u32,
    padding: u32,
    /// Index of the interface that an XDP link is attached to; 0 if that interface is gone.
    pub(super) ifindex: u32,
    padding_tail: u32,
}

/// What the kernel says of a pinned XDP link.
pub(super) fn link_info(pin: &Path) -> io::Result<LinkInfo> {
    #[repr(C)]
    struct InfoAttr {
        fd: u32,
        len: u32,
        info: u64,
    }

    let link = open_pin(pin)?;
    let mut info = LinkInfo::default();
    let attr = InfoAttr { fd: fd(&link), len: size_of::<LinkInfo>() as u32, info: (&raw mut info) as u64 };
    // SAFETY: the buffer is live and as long as `len` says.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) }?;
    Ok(info)
}

/// Detaches a pinned link from its interface, at once and whoever else holds it (kernel 5.11). The pin stays: removing it
/// alone would detach some time later, when the kernel frees the last reference.
pub(super) fn detach_link(pin: &Path) -> io::Result<()> {
    let link = open_pin(pin)?;
    let attr: [u32; 1] = [fd(&link)];
    // SAFETY: the attribute holds no pointers.
    unsafe { bpf(BPF_LINK_DETACH, &attr) }.map(drop)
}

/// Opens what is pinned at a path.
pub(super) fn open_pin(pin: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct ObjectAttr {
        path: u64,
        fd: u32,
        flags: u32,
    }

    let path = CString::new(pin.as_os_str().as_bytes())?;
    let attr = ObjectAttr { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the path is a live C string.
    let fd = unsafe { bpf(BPF_OBJ_GET, &attr) }?;
    // SAFETY: the kernel just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn fd(map: &impl AsFd) -> u32 {
    map.as_fd().as_raw_fd().unsigned_abs()
}

unsafe fn bpf<A>(command: libc::c_long, attr: &A) -> io::Result<i32> {
    // SAFETY: the caller's; these commands only read the attribute.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<A>()) })
}

unsafe fn bpf_mut<A>(command: libc::c_long, attr: &mut A) -> io::Result<i32> {
    // SAFETY: the caller's.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) })
}

fn check(result: libc::c_long) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
