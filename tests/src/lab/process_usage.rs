//! What a process takes of the machine.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// What a process has used until now.
#[derive(Clone, Copy, Debug)]
pub struct ProcessUsage {
    at: Instant,
    /// Of all its threads, in user space and in the kernel.
    pub processor: Duration,
    /// Bytes of memory that it has now.
    pub resident: u64,
}

impl ProcessUsage {
    /// Reads it, from proc_pid_stat(5).
    ///
    /// # Errors
    ///
    /// There is no such process.
    pub fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("read what a process has used")?;
        // Behind the name the 12th and 13th value are ticks of the clock, the 22nd pages.
        let values: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let value = |index: usize| values.get(index).and_then(|value| value.parse::<u64>().ok());
        let ticks = value(11).zip(value(12)).map(|(user, system)| user + system).context("read the ticks")?;
        // SAFETY: a plain system call.
        let [per_second, page_size] =
            [libc::_SC_CLK_TCK, libc::_SC_PAGESIZE].map(|name| unsafe { libc::sysconf(name) } as u64);
        Ok(Self {
            at: Instant::now(),
            processor: Duration::from_secs_f64(ticks as f64 / per_second as f64),
            resident: value(21).context("read the resident pages")? * page_size,
        })
    }

    /// What it has taken of one processor since then, in percent, to a tenth.
    #[must_use]
    pub fn share_since(&self, before: &Self) -> f64 {
        let taken = self.processor - before.processor;
        (taken.as_secs_f64() / (self.at - before.at).as_secs_f64() * 1000.0).round() / 10.0
    }
}
