//! What a configuration would change: the answer to `plan`, and what `reload` then does.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

use super::{Candidate, Daemon, floors::Floors, now, target};
use crate::{
    api::model::{BackendPlan, ChangeAction, ConnectionFate, Loss, Outcome, Plan, ServicePlan},
    config::{Config, model},
    control::{
        changes::changes,
        desired::{Desired, Facts, ServiceKey},
        rehearsal::{BackendEffect, ServiceEffect},
        standing::Standing,
    },
    health::{State, TargetHealth},
    network::NextHop,
    steering::Start,
};

impl Daemon {
    /// What a configuration would change now. Changes nothing.
    pub(super) fn plan_of(&self, candidate: &Candidate) -> anyhow::Result<Plan> {
        let changes = changes(&self.config, &candidate.config);
        let mut warnings = candidate.warnings.clone();
        if changes.is_empty() {
            return Ok(Plan { warnings, ..Plan::nothing() });
        }
        let mut presumed = Presumed {
            daemon: self,
            probed: self.health.snapshot(),
            assumptions: RefCell::default(),
            floors: self.floors.clone(),
        };
        presumed.decide(&candidate.config);
        let desired = Desired::new(&candidate.config, &presumed);
        let effects = self.engine.rehearse(&desired, self.ticker.tick());
        warnings.extend(effects.warnings);
        let mut lost = lost_interfaces(&self.config, &candidate.config);
        let mut services = Vec::new();
        let mut entries = None;
        for (key, effect) in effects.services.iter().filter(|(_, effect)| effect.any()) {
            let names = Names {
                key,
                new: find_service(&candidate.config, key),
                old: find_service(&self.config, key),
            };
            let losers = effect.backends.iter().filter(|(_, backend)| backend.loses_them);
            for (&identity, backend) in losers {
                let entries = match &mut entries {
                    Some(entries) => entries,
                    none => none.insert(self.entries()?),
                };
                let Some(reference) = backend.reference else { continue };
                lost.push(Loss {
                    of: format!("{}/{}", names.service(), names.backend(identity, backend)),
                    reason: reason(effect, backend),
                    recorded: entries.backends.get(&reference).copied().unwrap_or(0),
                    translated: entries.connections.get(&reference).copied().unwrap_or(0),
                    new_connections_per_second: self.backend_arrivals.per_second(&reference.index),
                });
            }
            services.push(self.service_plan(&names, effect, &desired));
        }
        let outcome = if lost.is_empty() { Outcome::Safe } else { Outcome::LosesConnections };
        let assumptions = presumed.assumptions.into_inner().into_iter().collect();
        Ok(Plan { outcome, changes, services, lost, assumptions, warnings })
    }

    fn service_plan(&self, names: &Names<'_>, effect: &ServiceEffect, desired: &Desired) -> ServicePlan {
        let of_ring = |slots: usize| slots as f64 / effect.slots as f64;
        let rate = effect.id.map_or(0.0, |id| self.service_arrivals.per_second(&id));
        let wanted = desired.services.get(names.key);
        let idle = wanted.map_or(0, |wanted| u64::from(wanted.timeouts.idle));
        let recorded = match wanted.map(|wanted| wanted.start) {
            _ if effect.remembering == 0 => Some(0),
            Some(Start::Visible) => Some((rate * of_ring(effect.remembering) * idle as f64).round() as u64),
            Some(Start::Hidden) | None => None,
        };
        let mut backends: Vec<_> = effect
            .backends
            .iter()
            .map(|(&identity, backend)| BackendPlan {
                name: names.backend(identity, backend),
                address: backend.address,
                slots_before: backend.slots_before as u32,
                slots_after: backend.slots_after as u32,
                connections: match (backend.has_connections, backend.loses_them) {
                    (_, true) => ConnectionFate::Lost,
                    (true, false) => ConnectionFate::Kept,
                    (false, false) => ConnectionFate::None,
                },
            })
            .collect();
        backends.sort_by_key(|backend| backend.address);
        ServicePlan {
            name: names.service(),
            vip: names.key.vip,
            port: names.key.ports,
            protocol: names.key.protocol,
            action: match (effect.id, effect.stays) {
                (None, _) => ChangeAction::Added,
                (_, false) => ChangeAction::Removed,
                _ => ChangeAction::Changed,
            },
            ring_slots: effect.slots as u32,
            moved_slots: effect.moved as u32,
            moved_share: of_ring(effect.moved),
            remembering_slots: effect.remembering as u32,
            new_connections_per_second: rate,
            recorded_estimate: recorded,
            idle_timeout: idle,
            backends,
        }
    }
}

/// The service that clients dial so.
pub(super) fn find_service<'c>(config: &'c Config, key: &ServiceKey) -> Option<&'c model::Service> {
    let vip = config.vips.iter().find(|vip| vip.address == key.vip)?;
    vip.services.iter().find(|service| service.ports == key.ports && service.protocol == key.protocol)
}

/// What to call a service and its backends.
struct Names<'c> {
    key: &'c ServiceKey,
    new: Option<&'c model::Service>,
    old: Option<&'c model::Service>,
}

impl Names<'_> {
    fn service(&self) -> String {
        let service = self.new.or(self.old);
        service.map_or_else(
            || format!("{} port {}", self.key.vip, self.key.ports),
            |service| service.name.clone(),
        )
    }

    fn backend(&self, identity: u64, backend: &BackendEffect) -> String {
        let Some(address) = backend.address else { return format!("{identity:016x}") };
        let named = |service: &model::Service| {
            service.backends.iter().find(|known| known.address == address).map(|known| known.name.clone())
        };
        let known = self.new.and_then(named).or_else(|| self.old.and_then(named));
        known.unwrap_or_else(|| address.to_string())
    }
}

fn reason(service: &ServiceEffect, backend: &BackendEffect) -> String {
    match backend.standing {
        _ if !service.stays => "the service is removed".to_owned(),
        Some(Standing::Out(cause)) => cause.to_string(),
        _ => "its packets are translated from now on and were not, or the other way round, or with other addresses or ports".to_owned(),
    }
}

/// What comes in by an interface that is not served any more.
fn lost_interfaces(old: &Config, new: &Config) -> Vec<Loss> {
    let gone = old
        .node
        .interfaces
        .iter()
        .filter(|interface| !new.node.interfaces.iter().any(|kept| kept.name == interface.name));
    gone.map(|interface| Loss {
        of: format!("interface {}", interface.name),
        reason: "removed from the configuration: what comes in there is not balanced any more".to_owned(),
        recorded: 0,
        translated: 0,
        new_connections_per_second: 0.0,
    })
    .collect()
}

/// What the daemon knows, and that backends nobody has checked yet will pass.
struct Presumed<'d> {
    daemon: &'d Daemon,
    probed: Vec<TargetHealth>,
    assumptions: RefCell<BTreeSet<String>>,
    /// What would be decided.
    floors: Floors,
}

impl Presumed<'_> {
    fn decide(&mut self, config: &Config) {
        let mut floors = std::mem::take(&mut self.floors);
        let stand = |key: &ServiceKey, backend: &model::Backend| {
            (self.stand(key, backend), self.daemon.is_wanted(key, backend))
        };
        floors.decide(config, now(), stand, |_, _| BTreeSet::new());
        self.floors = floors;
    }

    /// Where a backend stands by itself.
    fn stand(&self, service: &ServiceKey, backend: &model::Backend) -> Standing {
        let health = target(service.vip, backend).map(|target| {
            let known = self.daemon.health.state(&target);
            // As the monitor does with a check that is only tuned.
            known.or_else(|| state_at(&self.probed, target.socket_address())).unwrap_or(State::Unknown)
        });
        let standing = |health: Option<&State>| self.daemon.standing_with(service, backend, health);
        match &health {
            Some(State::Unknown) => {
                let passed = standing(Some(&State::Up));
                if passed == Standing::Serving {
                    let name = &backend.name;
                    let assumption =
                        format!("{name}, {}, passes its check, which has no result yet", backend.address);
                    self.assumptions.borrow_mut().insert(assumption);
                }
                passed
            }
            known => standing(known.as_ref()),
        }
    }
}

impl Facts for Presumed<'_> {
    fn standing(&self, service: &ServiceKey, backend: &model::Backend) -> Standing {
        let decided = self.floors.of(service, backend.address);
        decided.map_or_else(|| self.stand(service, backend), |decided| decided.standing)
    }

    fn share(&self, service: &ServiceKey, backend: IpAddr) -> u8 {
        self.floors.share(service, backend)
    }

    fn is_closed(&self, service: &ServiceKey) -> bool {
        self.floors.is_closed(service)
    }

    fn next_hop(&self, address: IpAddr) -> Option<&NextHop> {
        self.daemon.next_hop(address)
    }

    fn is_node_drained(&self) -> bool {
        self.daemon.is_node_drained()
    }

    fn sampling(&self, service: &ServiceKey) -> u32 {
        self.daemon.sampling(service)
    }

    fn is_of_host(&self, address: IpAddr) -> bool {
        self.daemon.is_of_host(address)
    }

    fn router_address(&self, vip: IpAddr) -> Option<IpAddr> {
        self.daemon.router_address(vip)
    }
}

/// What a check of another kind found at the same place, up rather than down.
fn state_at(probed: &[TargetHealth], at: SocketAddr) -> Option<State> {
    let states: HashMap<bool, &State> = probed
        .iter()
        .filter(|probed| probed.target.socket_address() == at)
        .map(|probed| (probed.state.is_up(), &probed.state))
        .collect();
    states.get(&true).or_else(|| states.get(&false)).map(|&state| state.clone())
}
