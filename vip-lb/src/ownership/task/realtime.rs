//! A thread that waits for nobody: its adverts leave in time, and those of others are heard in time, however busy the processors are.

use std::io;

/// The lowest of the real-time priorities (sched(7)): before everything that has none.
const PRIORITY: libc::c_int = 1;

/// Has the calling thread run before all others without such a priority. What it starts does not inherit it.
///
/// # Errors
///
/// The process has neither CAP_SYS_NICE nor an RLIMIT_RTPRIO, or its control group has no real-time share. The thread goes on as before.
pub(super) fn enter() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the parameters live until the call returns; 0 is the calling thread.
    let set = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
