//! How many probes may be under way at a time: each costs a file descriptor.

/// File descriptors that are asked for, as far as this process may have them.
const WANTED_FILES: libc::rlim_t = 65_536;

/// Probes under way at a time, at least and at most; the others wait for their turn. Each costs a file descriptor.
/// One that gets no answer is under way for its whole timeout.
const CONCURRENT_PROBES: (usize, usize) = (64, 8192);

/// How many probes may be under way at a time: half of the file descriptors that this process may have.
pub(super) fn concurrent_probes() -> usize {
    let (least, most) = CONCURRENT_PROBES;
    (raised_file_limit() / 2).clamp(least, most)
}

/// How many files this process may open, after asking for more. Who starts with few mostly may have many
/// (`LimitNOFILE=1024:524288`, systemd-system.conf(5)).
fn raised_file_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it fills in the structure that it is given.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 0;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max.min(WANTED_FILES).max(limit.rlim_cur), ..limit };
    // SAFETY: it reads the structure that it is given.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
        limit = raised;
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}
