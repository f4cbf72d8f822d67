//! The smallest XDP program there is.
//!
//! A veth delivers what the program on the other end sends back (`XDP_TX`) to its NAPI ring, and wakes that only if it has an XDP program of its own:
//! with GRO alone the frames lie there until other traffic comes by (seen on 6.18). So each end that faces an XDP program gets one.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result};

use super::namespace::Namespace;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_PROG_TYPE_XDP: u32 = 6;

/// `mov r0, XDP_PASS; exit`, as bytes of `struct bpf_insn`.
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

#[repr(C)]
struct LoadAttr {
    program_type: u32,
    instructions: u32,
    code: u64,
    license: u64,
}

#[repr(C)]
struct PinAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Attaches a program that passes everything to a device, natively, for as long as the device lives.
///
/// # Errors
///
/// The kernel does not take it.
pub fn attach(namespace: &Namespace, device: &str) -> Result<()> {
    let program = load().context("load a program that passes everything")?;
    // `ip` takes programs by their pin only; it is needed for a moment.
    let pin = Path::new("/sys/fs/bpf").join(format!("{}-{device}-pass", namespace.name()));
    let path = CString::new(pin.as_os_str().as_encoded_bytes())?;
    let attr = PinAttr { path: path.as_ptr() as u64, fd: program.as_raw_fd().unsigned_abs(), flags: 0 };
    // SAFETY: the path is a live C string.
    unsafe { bpf(BPF_OBJ_PIN, &attr) }.with_context(|| format!("pin {}", pin.display()))?;
    // Not `ip -n`, which puts a fresh `/sys` over the BPF file system.
    let attached = namespace.run("ip", &["link", "set", device, "xdpdrv", "pinned", &pin.to_string_lossy()]);
    std::fs::remove_file(&pin).with_context(|| format!("remove {}", pin.display()))?;
    attached.map(drop)
}

fn load() -> io::Result<OwnedFd> {
    let license = c"GPL";
    let attr = LoadAttr {
        program_type: BPF_PROG_TYPE_XDP,
        instructions: PASS.len() as u32,
        code: PASS.as_ptr() as u64,
        license: license.as_ptr() as u64,
    };
    // SAFETY: code and licence are live and as long as the attribute says.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &attr) }?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

unsafe fn bpf<A>(command: libc::c_long, attr: &A) -> io::Result<i32> {
    // SAFETY: the caller's; these commands only read the attribute.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
