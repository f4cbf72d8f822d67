//! The floors of all services: who takes new connections, with what checks, operator and configuration say put together.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use tracing::{info, warn};

use super::{Daemon, now};
use crate::{
    config::{Config, model},
    control::{
        desired::ServiceKey,
        floor::{Candidate, Decided, Decision, Floor, FloorMemory, FloorState, FloorStatus},
        hand_over::ServiceMemory,
        slow_start::{SlowStart, WHOLE},
        standing::Standing,
    },
    state::OrderKey,
    steering::identity,
};

/// What was decided of every service, and what the next decision rests on.
#[derive(Clone, Debug, Default)]
pub(super) struct Floors {
    services: BTreeMap<ServiceKey, Of>,
    /// What the former daemon knew of services that were not decided on yet.
    remembered: BTreeMap<ServiceKey, (FloorMemory, BTreeMap<IpAddr, u64>)>,
}

/// What there is of one service.
#[derive(Clone, Debug)]
struct Of {
    floor: Floor,
    slow_start: SlowStart,
    decision: Decision,
}

impl Floors {
    /// Goes on with what the former daemon knew.
    pub(super) fn taking_over(memories: Vec<ServiceMemory>) -> Self {
        let remembered = memories.into_iter().map(|of| (of.service, (of.floor, of.slow_start)));
        Self { services: BTreeMap::new(), remembered: remembered.collect() }
    }

    /// What the next daemon should know.
    pub(super) fn memories(&self, now: Instant) -> Vec<ServiceMemory> {
        let memory = |(key, of): (&ServiceKey, &Of)| ServiceMemory {
            service: *key,
            floor: of.floor.memory(now),
            slow_start: of.slow_start.memory(now),
        };
        self.services.iter().map(memory).collect()
    }

    /// Decides anew. `stand` tells of a backend where it stands by itself, and whether it is wanted in service; `found` of a service that comes new who
    /// is in the ring that was found for it.
    pub(super) fn decide(
        &mut self,
        config: &Config,
        now: Instant,
        stand: impl Fn(&ServiceKey, &model::Backend) -> (Standing, bool),
        found: impl Fn(&ServiceKey, &model::Service) -> BTreeSet<IpAddr>,
    ) {
        let mut before = std::mem::take(&mut self.services);
        for (key, service) in services(config) {
            let candidates: Vec<Candidate> = service
                .backends
                .iter()
                .map(|backend| {
                    let (standing, wanted) = stand(&key, backend);
                    Candidate { address: backend.address, tier: backend.tier, standing, wanted }
                })
                .collect();
            let (mut floor, mut slow_start, last) = match before.remove(&key) {
                Some(Of { floor, slow_start, decision }) => (floor, slow_start, Some(decision)),
                None => {
                    let (floor, begun) = self.remembered.remove(&key).unwrap_or_default();
                    let floor = Floor::taking_over(found(&key, service), floor, now);
                    (floor, SlowStart::taking_over(&begun, now), None)
                }
            };
            let decision = floor.decide(&service.floor, &candidates, now);
            slow_start.advance(service.slow_start, last.as_ref(), &decision, now);
            self.services.insert(key, Of { floor, slow_start, decision });
        }
    }

    /// What a backend has come to; nothing if it was not there at the last decision.
    pub(super) fn of(&self, service: &ServiceKey, backend: IpAddr) -> Option<Decided> {
        self.services.get(service)?.decision.backends.get(&backend).copied()
    }

    /// How much of its weight a backend has, in parts of [`WHOLE`].
    pub(super) fn share(&self, service: &ServiceKey, backend: IpAddr) -> u8 {
        self.services.get(service).map_or(WHOLE, |of| of.slow_start.share(backend))
    }

    /// The numbers of a service.
    pub(super) fn summary(&self, service: &ServiceKey) -> Option<FloorStatus> {
        Some(self.services.get(service)?.decision.summary)
    }

    /// Whether a service gives nobody new connections because too few are healthy.
    pub(super) fn is_closed(&self, service: &ServiceKey) -> bool {
        self.summary(service).is_some_and(|summary| summary.state == FloorState::Closed)
    }

    /// When to decide again although nothing has changed.
    fn next(&self) -> Option<Instant> {
        let times = self.services.values().flat_map(|of| [of.floor.next(), of.slow_start.next()]);
        times.flatten().min()
    }
}

impl Daemon {
    /// Decides who takes new connections, as of now.
    pub(super) fn decide(&mut self) {
        let mut floors = std::mem::take(&mut self.floors);
        let before: BTreeMap<ServiceKey, FloorStatus> =
            floors.services.iter().map(|(key, of)| (*key, of.decision.summary)).collect();
        let found = |key: &ServiceKey, service: &model::Service| self.found_serving(key, service);
        floors.decide(&self.config, now(), |key, backend| self.stand(key, backend), found);
        for (key, service) in services(&self.config) {
            let was = before.get(&key).copied();
            if let Some(is) = floors.summary(&key) {
                log(&service.name, was, is);
            }
        }
        self.floors = floors;
    }

    /// Decides again when the time has come for it.
    pub(super) fn advance_floors(&mut self, now: Instant) {
        if self.floors.next().is_some_and(|next| next <= now) {
            self.reconcile();
            self.tell_changes();
        }
    }

    /// Whether configuration and operator want a backend in service.
    pub(super) fn is_wanted(&self, service: &ServiceKey, backend: &model::Backend) -> bool {
        let key = OrderKey { service: *service, backend: backend.address };
        backend.state == model::AdminState::Enabled && self.orders.ruling(&key).is_none()
    }

    /// Who was in the ring that was found for a service.
    fn found_serving(&self, key: &ServiceKey, service: &model::Service) -> BTreeSet<IpAddr> {
        let name = |address| identity(key.vip, key.ports, key.protocol.number(), address);
        let addresses = service.backends.iter().map(|backend| backend.address);
        addresses.filter(|address| self.engine.was_serving(key, name(*address))).collect()
    }
}

fn services(config: &Config) -> impl Iterator<Item = (ServiceKey, &model::Service)> {
    config.vips.iter().flat_map(|vip| {
        vip.services.iter().map(|service| {
            (ServiceKey { vip: vip.address, ports: service.ports, protocol: service.protocol }, service)
        })
    })
}

/// What an operator should find in the log.
fn log(service: &str, was: Option<FloorStatus>, is: FloorStatus) {
    let FloorStatus { state, healthy, needed, wanted, tier, held } = is;
    if was.map_or(FloorState::Met, |was| was.state) != state {
        match state {
            FloorState::Met => info!(service, healthy, needed, "enough backends are healthy again"),
            FloorState::Open => {
                warn!(service, healthy, needed, "too few backends are healthy: the service fails open");
            }
            FloorState::Closed => {
                warn!(service, healthy, needed, "too few backends are healthy: the service fails closed");
            }
            FloorState::Backup => {
                warn!(service, healthy, needed, "too few backends are healthy: the backup tier is used");
            }
        }
    }
    if was.is_some_and(|was| was.tier != tier) {
        info!(service, tier, "another last tier is in use");
    }
    if held > was.map_or(0, |was| was.held) {
        warn!(
            service,
            held, wanted, "checks fail for more backends than may be removed at once: these are kept for now"
        );
    }
}
