//! What operators order: over the API, or by SIGHUP.

use std::time::UNIX_EPOCH;

use tracing::{info, warn};

use super::{
    Candidate, Daemon,
    drains::Changed,
    handle::{Answer, Order},
    interfaces::Interfaces,
};
use crate::{
    api::model::{
        ApiError, BackendSelector, ConfigRequest, ErrorKind, NoSuchPacket, Outcome, Plan, ReloadReport,
        RevisionInfo, Revisions,
    },
    config::{Config, model},
    control::{
        desired::{Desired, ServiceKey},
        explain::NotAttached,
    },
    state::{self, InForce, Kept, OrderKey, OrderKind},
};

impl Daemon {
    pub(super) async fn order(&mut self, order: Order) {
        // An asker that hung up does not want the answer any more.
        match order {
            Order::Status(answer) => drop(answer.send(self.status().map_err(internal))),
            Order::Counters(answer) => drop(answer.send(self.counters().map_err(internal))),
            Order::Metrics(answer) => drop(answer.send(self.metrics().map_err(internal))),
            Order::Explain(request, answer) => drop(answer.send(self.explain(&request).map_err(internal))),
            Order::Watch(request, answer) => drop(answer.send(self.watch(&request))),
            Order::Drain(request, answer) => {
                let kind = if request.force { OrderKind::Cut } else { OrderKind::Drain };
                self.order_drain(&request.backend, Some(kind), answer);
            }
            Order::Undrain(backend, answer) => self.order_drain(&backend, None, answer),
            Order::Remaining(backend, answer) => {
                drop(answer.send(self.remaining(&backend, &Changed::default())));
            }
            Order::DrainNode(drain, answer) => self.order_node_drain(drain, answer).await,
            Order::NodeRemaining(answer) => drop(answer.send(Ok(self.node_report(false)))),
            Order::HandOver(request, answer) => self.order_hand_over(&request, answer).await,
            Order::TakeBack(request, answer) => self.order_take_back(request, answer),
            Order::Plan(request, answer) => drop(answer.send(self.plan(&request).await)),
            Order::Reload(request, answer) => self.order_reload(&request, answer).await,
            Order::Revisions(answer) => self.list_revisions(answer),
        }
    }

    async fn plan(&self, request: &ConfigRequest) -> Result<Plan, ApiError> {
        let candidate = self.candidate(request).await?;
        Interfaces::look_up(&candidate.config, &self.network).await.map_err(internal)?;
        self.plan_of(&candidate).map_err(internal)
    }

    async fn reload(&mut self, request: &ConfigRequest) -> Result<(ReloadReport, Kept<()>), ApiError> {
        let outcome = match self.candidate(request).await {
            Ok(candidate) => self.bring_in(candidate).await,
            Err(error) => Err(error),
        };
        self.tell_reload(outcome.as_ref().map(|(report, _)| report));
        outcome
    }

    async fn order_reload(&mut self, request: &ConfigRequest, answer: Answer<ReloadReport>) {
        let (mut report, kept) = match self.reload(request).await {
            Ok(done) => done,
            Err(error) => return drop(answer.send(Err(error))),
        };
        let keeper = std::sync::Arc::clone(&self.keeper);
        tokio::spawn(async move {
            match kept.wait().await {
                Ok(()) => report.revision = keeper.in_force(),
                Err(error) => report.plan.warnings.push(format!(
                    "the configuration is in force, but nothing can return to it, because it cannot be kept: {error}"
                )),
            }
            answer.send(Ok(report))
        });
    }

    /// Reads the file again, as SIGHUP asks for. What comes of it is for the log.
    pub(super) async fn hang_up(&mut self) {
        match self.reload(&ConfigRequest::default()).await {
            Ok((report, _)) => report.plan.changes.iter().for_each(|change| info!("{change}")),
            Err(error) => {
                tracing::error!("reload refused, nothing was changed: {error}");
                for line in &error.details {
                    tracing::error!("{line}");
                }
            }
        }
    }

    /// Brings a configuration in force.
    pub(super) async fn bring_in(
        &mut self,
        candidate: Candidate,
    ) -> Result<(ReloadReport, Kept<()>), ApiError> {
        let interfaces = Interfaces::look_up(&candidate.config, &self.network).await.map_err(internal)?;
        let plan = self.plan_of(&candidate).map_err(internal)?;
        for loss in &plan.lost {
            warn!(of = loss.of, reason = loss.reason, "connections are lost by this change");
        }
        let Candidate { config, file, .. } = candidate;
        self.look_up_nat_sources(&config).await;
        let before = std::mem::replace(&mut self.config, config);
        self.file = file;
        self.file_doubt = None;
        let is_forgotten = self.forget_orders() | self.forget_hand_overs();
        let is_said = self.say_orders();
        if is_forgotten || is_said {
            // Nobody waits for that; if it fails, status says so.
            drop(self.keeper.keep_orders(self.orders.clone()));
        }
        self.warnings.clear();
        self.check_nat_ports();
        self.want_next_hops();
        let wanted = self.wanted_next_hops(&self.config);
        for former in self.wanted_next_hops(&before).into_keys() {
            if !wanted.contains_key(&former)
                && let Some(neighbour) = self.resolver.forget(former)
            {
                self.release(neighbour).await;
            }
        }
        self.unreachable.retain(|address, _| wanted.contains_key(address));
        self.resolve().await;
        self.open_probes().await;
        self.health.set_targets(self.targets().collect());
        self.reconcile();
        let config = self.config.clone();
        let own = self.answered_sources();
        if let Err(error) = self.interfaces.apply(&config, &own, interfaces, &mut self.dataplane) {
            self.warn(format!("{error:#}"));
        }
        self.advance_bonds();
        self.look_up_interfaces().await;
        self.set_up_routers();
        self.set_up_routes().await;
        self.report_problems();
        self.tell_changes();
        // Whoever asks next is not to hear how the former configuration compares.
        self.attend_to_peers();
        if plan.outcome == Outcome::Nothing {
            info!("reloaded, nothing changed");
        } else {
            info!(changes = plan.changes.len(), lost = plan.lost.len(), "reloaded");
        }
        let kept = self.keep_config();
        Ok((ReloadReport { plan, revision: None }, kept))
    }

    /// Keeps the configuration in force.
    pub(super) fn keep_config(&self) -> Kept<()> {
        let file = &self.file;
        let since = file.loaded_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let instead_of = file
            .replaced
            .as_ref()
            .map(|replaced| InForce { hash: file.hash.clone(), instead_of: replaced.of_file.clone() });
        self.keeper.keep_config(std::sync::Arc::clone(&file.text), since, instead_of)
    }

    fn list_revisions(&self, answer: Answer<Revisions>) {
        let (kept, keeper) = (self.keeper.revisions(), std::sync::Arc::clone(&self.keeper));
        tokio::spawn(async move {
            let in_force = keeper.in_force();
            let info = |of: state::Revision| RevisionInfo {
                number: of.number,
                since: of.since,
                hash: of.hash,
                bytes: of.bytes,
                in_force: in_force == Some(of.number),
            };
            let folder = keeper.folder().path().to_owned();
            let revisions = kept.wait().await.map(|all| all.into_iter().map(info).collect());
            answer.send(revisions.map(|revisions| Revisions { revisions, folder }).map_err(internal))
        });
    }

    /// What a new configuration may not change while connections are to be kept.
    pub(super) fn refusals(&self, config: &Config) -> Vec<String> {
        let mut refusals = Vec::new();
        let (old, new) = (&self.config.node, &config.node);
        let advice = "moves every connection: run `vip-lb unload` and start anew if that is wanted";
        if old.seed != new.seed {
            refusals.push(format!("node.seed: another seed {advice}"));
        }
        if old.pins != new.pins {
            refusals.push("node.pins: cannot change while the daemon runs".to_owned());
        }
        if state::folder_of(new.state_dir.as_deref()) != self.keeper.folder().path() {
            refusals.push("node.state_dir: cannot change while the daemon runs".to_owned());
        }
        if old.tables != new.tables {
            refusals.push("node.tables: the tables keep their size until `vip-lb unload`".to_owned());
        }
        for (key, what) in self.engine.refusals(&Desired::new(config, self)) {
            let services =
                config.vips.iter().filter(|vip| vip.address == key.vip).flat_map(|vip| &vip.services);
            let named =
                services.filter(|service| service.ports == key.ports && service.protocol == key.protocol);
            for service in named {
                refusals.push(format!(
                    "service {}: another `{what}` moves every connection: remove the service, reload, and add it again \
                     if that is wanted",
                    service.name
                ));
            }
        }
        refusals
    }

    /// The configured backends that a selector means.
    pub(super) fn selected(&self, selector: &BackendSelector) -> Vec<(OrderKey, &model::Backend)> {
        let meant = self
            .backend_keys()
            .filter(|(_, service, backend)| selector.matches(&service.name, &backend.name, backend.address));
        meant.map(|(key, _, backend)| (key, backend)).collect()
    }

    pub(super) fn backend_keys(&self) -> impl Iterator<Item = (OrderKey, &model::Service, &model::Backend)> {
        let services = self.config.vips.iter().flat_map(|vip| vip.services.iter().map(move |of| (vip, of)));
        services.flat_map(|(vip, of)| {
            let service = ServiceKey { vip: vip.address, ports: of.ports, protocol: of.protocol };
            of.backends
                .iter()
                .map(move |backend| (OrderKey { service, backend: backend.address }, of, backend))
        })
    }
}

pub(super) fn internal(error: impl Into<anyhow::Error>) -> ApiError {
    let error = error.into();
    let unasked = error.is::<NoSuchPacket>() || error.is::<NotAttached>();
    let kind = if unasked { ErrorKind::BadRequest } else { ErrorKind::Internal };
    ApiError::new(kind, format!("{error:#}"))
}
