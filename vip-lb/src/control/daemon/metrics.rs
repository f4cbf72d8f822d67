//! What Prometheus collects of the daemon.

use std::fs;

use super::Daemon;
use crate::metrics::{Facts, Program};

/// Whether the kernel counts runs of BPF programs (Documentation/admin-guide/sysctl/kernel.rst).
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl Daemon {
    pub(super) fn metrics(&self) -> anyhow::Result<Facts> {
        let (first, last) = self.nat_ports();
        let (runs, run_time) = self.dataplane.runs()?;
        Ok(Facts {
            status: self.status()?,
            counters: self.counters()?,
            reloads: self.reloads,
            health_changes: self.health_changes.clone(),
            nat_ports: last - first + 1,
            program: Program {
                counted: fs::read_to_string(STATISTICS).is_ok_and(|text| text.trim() != "0"),
                runs,
                run_time,
                verified_instructions: self.dataplane.cost().and_then(|cost| cost.verified_instructions),
            },
        })
    }
}
