//! What the daemon tells those who watch it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Daemon, interfaces::attached_mode, status, target, wall_clock};
use crate::{
    api::model::{ApiError, Evidence, Occurrence, ReloadReport},
    config::model,
    control::{
        desired::ServiceKey,
        observed::{Backend, Observed},
    },
    state::{OrderKey, OrderKind},
};

impl Daemon {
    /// Tells everybody of something that happened now.
    pub(super) fn tell(&self, what: Occurrence) {
        self.events.tell(unix_milliseconds(wall_clock()), what);
    }

    /// Tells what changed since this was last asked for.
    pub(super) fn tell_changes(&mut self) {
        let observed = self.observe();
        let now_ms = unix_milliseconds(wall_clock());
        for mut what in observed.since(&self.observed) {
            self.lasted.note(now_ms, &mut what);
            if let Occurrence::Ownership { vip, why, .. } = &mut what {
                *why = self.why_of(*vip);
            }
            if let Occurrence::HealthChanged { service, backend, evidence, .. } = &mut what {
                *evidence = self.evidence(service, backend);
            }
            if let Occurrence::HealthChanged { service, backend, from: Some(_), .. } = &what {
                *self.health_changes.entry((service.clone(), backend.clone())).or_default() += 1;
            }
            self.tell(what);
        }
        self.health_changes.retain(|names, _| observed.backends.contains_key(names));
        self.observed = observed;
    }

    /// What the health of a backend rests on; nothing if it has no check.
    fn evidence(&self, service: &str, backend: &str) -> Option<Evidence> {
        let of_vip = |vip: &model::Vip| {
            let service = vip.services.iter().find(|found| found.name == service)?;
            target(vip.address, service.backends.iter().find(|found| found.name == backend)?)
        };
        let target = self.config.vips.iter().find_map(of_vip)?;
        let health = self.health.look(&target)?;
        Some(Evidence {
            check: format!("{} {}", target.check_name(), target.asked()),
            successes: health.successes,
            failures: health.failures,
            last_latency_us: health.last_latency.map(|latency| latency.as_micros() as u64),
        })
    }

    /// Tells how it ended to bring a configuration in force.
    pub(super) fn tell_reload(&mut self, result: Result<&ReloadReport, &ApiError>) {
        let count = if result.is_ok() { &mut self.reloads.succeeded } else { &mut self.reloads.failed };
        *count += 1;
        self.reloads.last_failed = result.is_err();
        self.tell(match result {
            Ok(ReloadReport { plan, .. }) => Occurrence::ConfigReloaded {
                hash: self.file.hash.clone(),
                changes: told(&plan.changes.iter().map(ToString::to_string).collect::<Vec<_>>()),
                warnings: told(&plan.warnings),
            },
            Err(error) => {
                Occurrence::ReloadRefused { error: error.error.clone(), details: told(&error.details) }
            }
        });
    }

    /// Tells of an order about backends, or that it was withdrawn, at another node if one is named.
    pub(super) fn tell_orders(&self, keys: &[OrderKey], order: Option<OrderKind>, by: Option<&str>) {
        let named = self.backend_keys().filter(|(key, ..)| keys.contains(key));
        for (_, service, backend) in named {
            let (service, backend) = (service.name.clone(), backend.name.clone());
            self.tell(match order {
                None => Occurrence::Undrain { service, backend, by: by.map(str::to_owned) },
                Some(kind) => Occurrence::Drain {
                    service,
                    backend,
                    force: kind == OrderKind::Cut,
                    by: by.map(str::to_owned),
                },
            });
        }
    }

    fn observe(&self) -> Observed {
        let mut observed = Observed { second_owners: self.second_owners(), ..Observed::default() };
        for vip in &self.config.vips {
            observed.vips.insert(vip.address, self.answers_for(vip.address));
            for service in &vip.services {
                let key = ServiceKey { vip: vip.address, ports: service.ports, protocol: service.protocol };
                if let Some(floor) = self.floors.summary(&key) {
                    observed.floors.insert(service.name.clone(), floor);
                }
                for backend in &service.backends {
                    let health = target(vip.address, backend)
                        .map(|target| self.health.state(&target).unwrap_or(crate::health::State::Unknown));
                    let (health, health_reason) = status::health_state(health.as_ref());
                    let forwarding = self.forwarding(&key, backend);
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

/// As many lines as an event has at most: thousands of services must not fill the memory of events.
fn told(lines: &[String]) -> Vec<String> {
    const AT_MOST: usize = 100;
    let mut told: Vec<String> = lines.iter().take(AT_MOST).cloned().collect();
    if lines.len() > AT_MOST {
        told.push(format!("and {} more", lines.len() - AT_MOST));
    }
    told
}

fn unix_milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
