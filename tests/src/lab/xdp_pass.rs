//! The smallest XDP programs there are: one passes everything, the other loses some of it.
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
    attach_code(namespace, device, &PASS)
}

/// Attaches a program that drops so many of ten thousand packets at random, in place of one that may be there.
///
/// # Errors
///
/// The kernel does not take it.
pub(super) fn attach_loss(namespace: &Namespace, device: &str, of_ten_thousand: u32) -> Result<()> {
    let below = u64::from(u32::MAX) * u64::from(of_ten_thousand.min(10_000)) / 10_000;
    attach_code(
        namespace,
        device,
        &[
            // call bpf_get_prandom_u32; if w0 >= below goto +2; mov r0, XDP_DROP; exit.
            0x0000_0007_0000_0085,
            below << u32::BITS | 0x0002_0036,
            0x0000_0001_0000_00b7,
            0x0000_0000_0000_0095,
            PASS[0],
            PASS[1],
        ],
    )
}

fn attach_code(namespace: &Namespace, device: &str, code: &[u64]) -> Result<()> {
    let program = load(code).context("load a program that passes or loses packets")?;
    // `ip` takes programs by their pin only; it is needed for a moment.
    let pin = Path::new("/sys/fs/bpf").join(format!("{}-{device}-pass", namespace.name()));
    let path = CString::new(pin.as_os_str().as_encoded_bytes())?;
    let attr = PinAttr { path: path.as_ptr() as u64, fd: program.as_raw_fd().unsigned_abs(), flags: 0 };
    // SAFETY: the path is a live C string.
    unsafe { bpf(BPF_OBJ_PIN, &attr) }.with_context(|| format!("pin {}", pin.display()))?;
    // Not `ip -n`, which puts a fresh `/sys` over the BPF file system.
    let attached =
        namespace.run("ip", &["-force", "link", "set", device, "xdpdrv", "pinned", &pin.to_string_lossy()]);
    std::fs::remove_file(&pin).with_context(|| format!("remove {}", pin.display()))?;
    attached.map(drop)
}

fn load(code: &[u64]) -> io::Result<OwnedFd> {
    let license = c"GPL";
    let attr = LoadAttr {
        program_type: BPF_PROG_TYPE_XDP,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
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
