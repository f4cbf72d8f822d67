//! What Prometheus collects of the daemon.

use std::{collections::BTreeMap, fs};

use super::{Daemon, target};
use crate::{
    health::Histogram,
    metrics::{Facts, Program},
};

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
            probed: self.health.probed(),
            latencies: self.latencies(),
            passive: self.closely.accounts(),
            nat_ports: last - first + 1,
            program: Program {
                counted: fs::read_to_string(STATISTICS).is_ok_and(|text| text.trim() != "0"),
                runs,
                run_time,
                verified_instructions: self.dataplane.cost().and_then(|cost| cost.verified_instructions),
            },
        })
    }

    /// How long good probes took, by the names of service and backend.
    fn latencies(&self) -> BTreeMap<(String, String), [Histogram; 2]> {
        let services = self.config.vips.iter().flat_map(|vip| vip.services.iter().map(move |of| (vip, of)));
        let backends = services
            .flat_map(|(vip, service)| service.backends.iter().map(move |backend| (vip, service, backend)));
        let known = backends.filter_map(|(vip, service, backend)| {
            let histograms = self.health.histograms(&target(vip.address, backend)?)?;
            Some(((service.name.clone(), backend.name.clone()), histograms))
        });
        known.collect()
    }
}
