//! What a packet costs.
//!
//! Times come from `BPF_PROG_TEST_RUN`, instructions from the same runs in a virtual machine whose clock advances one nanosecond for each
//! instruction. `vip-lb-ebpf/src/bin/bench.rs` says how the kernel's part works.

pub mod balancer;
pub mod budget;
pub mod cases;
pub mod control;
pub mod figures;
pub mod object;
pub mod packets;
pub mod run;
pub mod statistics;
pub mod wrapper;

use anyhow::{Context as _, Result};

/// Keeps this thread on one CPU, so that caches stay warm and per-CPU maps are one CPU's.
///
/// # Errors
///
/// When there is no such CPU.
pub fn pin_to_cpu(cpu: usize) -> Result<()> {
    // SAFETY: a set of CPUs is plain bits, all zero when empty; CPU_SET checks its bounds.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error()).with_context(|| format!("stay on CPU {cpu}"))
}
