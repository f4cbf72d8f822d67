//! Failures that the traffic shows: looks at sampled flows, tells of what seems wrong, and has the checks look at once.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tracing::info;
use vip_lb_common::abi::Sample;

use super::{Daemon, now, target};
use crate::{
    api::model::{Occurrence, PassiveStatus},
    config::model,
    control::{desired::ServiceKey, standing::Standing},
    dataplane,
    health::passive::{Account, Names, Passive, Suspicion, Watched, sampling},
};

/// Time between two looks while something happens.
const PACE: Duration = Duration::from_millis(20);

/// The same when nothing has for a while.
const SLOW_PACE: Duration = Duration::from_millis(100);

/// That while, in nanoseconds.
const QUIET: u64 = 1_000_000_000;

/// Time between two looks at whether there is anything to look at.
const IDLE_PACE: Duration = Duration::from_secs(1);

/// Between two thoughts about how many flows are to be looked at.
const ADJUSTING_PACE: Duration = Duration::from_secs(1);

/// What the daemon keeps for it.
#[derive(Debug)]
pub(super) struct Closely {
    passive: Passive,
    /// The last look, kept for its room.
    samples: Vec<Sample>,
    /// One of how many flows is looked at, by the traffic.
    one_of: BTreeMap<ServiceKey, u32>,
    /// Backends may have changed since it was said who is watched.
    pub(super) is_stale: bool,
    next_look: Instant,
    next_adjusting: Instant,
}

impl Closely {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            passive: Passive::default(),
            samples: Vec::new(),
            one_of: BTreeMap::new(),
            is_stale: true,
            next_look: now,
            next_adjusting: now + ADJUSTING_PACE,
        }
    }

    /// When the next look is due.
    pub(super) fn next_look(&self) -> Instant {
        self.next_look
    }

    pub(super) fn accounts(&self) -> BTreeMap<Names, Account> {
        self.passive.accounts().map(|(names, account)| (names.clone(), account.clone())).collect()
    }
}

impl Daemon {
    /// One of how many flows of a service is looked at, where the configuration leaves that open.
    pub(super) fn sampling_of(&self, service: &ServiceKey) -> u32 {
        self.closely.one_of.get(service).copied().unwrap_or(sampling::AT_FIRST)
    }

    /// Looks at the sampled flows, and follows up what seems wrong.
    pub(super) fn look_closely(&mut self) {
        if self.closely.is_stale {
            let watched = self.watched();
            self.closely.passive.set(&watched);
            self.closely.is_stale = false;
        }
        let started = now();
        if self.closely.passive.is_idle() {
            self.closely.next_look = started + IDLE_PACE;
            return;
        }
        let Closely { passive, samples, .. } = &mut self.closely;
        self.dataplane.samples().copy(samples);
        let suspicions = passive.look(samples, dataplane::monotonic().as_nanos() as u64);
        let pace = if passive.quiet_for() > QUIET { SLOW_PACE } else { PACE };
        self.closely.next_look = started + pace;
        for suspicion in suspicions {
            self.follow_up(&suspicion);
        }
    }

    /// Adapts how many flows are looked at to the traffic, once in a while.
    pub(super) fn adjust_sampling(&mut self, now: Instant) {
        if now < self.closely.next_adjusting {
            return;
        }
        self.closely.next_adjusting = now + ADJUSTING_PACE;
        let mut adjusted = BTreeMap::new();
        for (key, service) in self.engine.services() {
            let before = self.sampling_of(key);
            let one_of =
                self.service_rates.gained(&service.reference.id).map_or(before, |(gained, elapsed)| {
                    let per_second = |count: u64| count as f64 / elapsed.as_secs_f64();
                    sampling::one_of(before, per_second(gained.new_connections), per_second(gained.packets))
                });
            adjusted.insert(*key, one_of);
        }
        if adjusted != self.closely.one_of {
            self.closely.one_of = adjusted;
            self.reconcile();
        }
    }

    /// What the sampled flows of a backend have shown; none where nobody looks.
    pub(super) fn passive_status(
        &self,
        service: &model::Service,
        backend: &model::Backend,
    ) -> Option<PassiveStatus> {
        let mut accounts = self.closely.passive.accounts();
        let (_, account) = accounts.find(|((of, name), _)| *of == service.name && *name == backend.name)?;
        let quantile = |share| account.handshakes.quantile(share);
        Some(PassiveStatus {
            connections: account.begun,
            handshakes: account.handshakes.total(),
            handshake_p50_us: quantile(0.5),
            handshake_p95_us: quantile(0.95),
            handshake_p99_us: quantile(0.99),
            syn_again: account.syn_again,
            data_again: account.data_again,
            silent: account.silent,
            suspicions: account.suspicions,
        })
    }

    /// The services that are looked at, with the backends that take new connections.
    fn watched(&self) -> Vec<Watched> {
        let mut watched = Vec::new();
        for vip in &self.config.vips {
            for service in vip.services.iter().filter(|service| service.passive != model::Passive::Off) {
                let key = ServiceKey { vip: vip.address, ports: service.ports, protocol: service.protocol };
                let Some(published) = self.engine.published(&key) else { continue };
                let serving =
                    published.members.values().filter(|member| member.standing == Standing::Serving);
                let named = serving.filter_map(|member| {
                    let mut backends = service.backends.iter();
                    let backend = backends.find(|backend| Some(backend.address) == member.address)?;
                    Some((member.reference, backend.name.clone()))
                });
                watched.push(Watched { name: service.name.clone(), backends: named.collect() });
            }
        }
        watched
    }

    /// Tells of a suspicion, and has the backend probed where that is wanted.
    fn follow_up(&mut self, suspicion: &Suspicion) {
        let (service, backend) = &suspicion.names;
        let mut all = self.config.vips.iter().flat_map(|vip| vip.services.iter().map(|of| (vip.address, of)));
        let Some((vip, configured)) = all.find(|(_, of)| of.name == *service) else { return };
        let target = configured.backends.iter().find(|of| of.name == *backend).and_then(|of| target(vip, of));
        let probed = match target {
            Some(target) if configured.passive == model::Passive::On => {
                self.health.attend(&target, suspicion.question.least_timeout())
            }
            _ => false,
        };
        info!(service, backend, probed, ?suspicion, "backend seems not to answer clients");
        let told = Occurrence::Suspected {
            service: service.clone(),
            backend: backend.clone(),
            question: suspicion.question,
            unanswered: suspicion.unanswered,
            again: suspicion.again,
            networks: suspicion.networks,
            for_ms: suspicion.oldest.as_millis() as u64,
            others: suspicion.others,
            others_answered: suspicion.others_answered,
            probed,
        };
        self.tell(told);
    }
}
