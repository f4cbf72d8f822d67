//! What the daemon tells those who watch it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Daemon, interfaces::attached_mode, status, target, wall_clock};
use crate::{
    api::model::{ApiError, Occurrence, ReloadReport},
    control::{
        desired::Facts as _,
        observed::{Backend, Observed},
    },
};

impl Daemon {
    /// Tells everybody of something that happened now.
    pub(super) fn tell(&self, what: Occurrence) {
        self.events.tell(unix_milliseconds(wall_clock()), what);
    }

    /// Tells what changed since this was last asked for.
    pub(super) fn tell_changes(&mut self) {
        let observed = self.observe();
        for what in observed.since(&self.observed) {
            self.tell(what);
        }
        self.observed = observed;
    }

    /// Tells how reading the configuration again ended.
    pub(super) fn tell_reload(&mut self, result: &Result<ReloadReport, ApiError>) {
        self.tell(match result {
            Ok(report) => Occurrence::ConfigReloaded {
                hash: self.file.hash.clone(),
                changes: report.changes.clone(),
                warnings: report.warnings.clone(),
            },
            Err(error) => {
                Occurrence::ReloadRefused { error: error.error.clone(), details: error.details.clone() }
            }
        });
    }

    fn observe(&self) -> Observed {
        let mut observed = Observed::default();
        for vip in &self.config.vips {
            observed.vips.insert(vip.address, true);
            for service in &vip.services {
                for backend in &service.backends {
                    let health = target(backend)
                        .map(|target| self.health.state(&target).unwrap_or(crate::health::State::Unknown));
                    let (health, health_reason) = status::health_state(health.as_ref());
                    let forwarding = status::forwarding(self.standing(service, backend));
                    observed.backends.insert(
                        (service.name.clone(), backend.name.clone()),
                        Backend { health, health_reason, forwarding },
                    );
                }
            }
        }
        for attached in self.interfaces.iter() {
            let mode = attached_mode(attached.attachment.mode);
            observed.interfaces.insert(attached.interface.name.clone(), mode);
        }
        observed
    }
}

fn unix_milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
