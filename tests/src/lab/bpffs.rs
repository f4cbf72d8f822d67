//! The BPF filesystem that pins live on.

use std::{ffi::CStr, io};

use anyhow::{Context, Result};

/// Where everybody expects it.
pub(crate) const MOUNT_POINT: &str = "/sys/fs/bpf";
const MOUNT_POINT_C: &CStr = c"/sys/fs/bpf";

/// Mounts it where no one did yet.
pub(crate) fn ensure_mounted() -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let mounted = mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(MOUNT_POINT) && fields.next() == Some("bpf")
    });
    if mounted {
        return Ok(());
    }
    mount().with_context(|| format!("mount a bpf filesystem on {MOUNT_POINT}"))
}

fn mount() -> io::Result<()> {
    // SAFETY: a plain system call whose string arguments are static and NUL-terminated.
    let outcome =
        unsafe { libc::mount(c"bpf".as_ptr(), MOUNT_POINT_C.as_ptr(), c"bpf".as_ptr(), 0, std::ptr::null()) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
