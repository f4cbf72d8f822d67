//! What operators order: over the API, or by SIGHUP.

use std::collections::BTreeSet;

use tracing::info;

use super::{ConfigFile, Daemon, handle::Order, interfaces::Interfaces, target};
use crate::{
    api::model::{
        ApiError, BackendChange, BackendSelector, DrainReport, ErrorKind, Occurrence, ReloadReport,
    },
    config::{self, Config, Loaded},
    control::{changes::changes, desired::Desired, explain::MixedFamilies},
};

impl Daemon {
    pub(super) async fn order(&mut self, order: Order) {
        // An asker that hung up does not want the answer any more.
        match order {
            Order::Status(answer) => drop(answer.send(self.status().map_err(internal))),
            Order::Counters(answer) => drop(answer.send(self.counters().map_err(internal))),
            Order::Metrics(answer) => drop(answer.send(self.metrics().map_err(internal))),
            Order::Explain(request, answer) => drop(answer.send(self.explain(&request).map_err(internal))),
            Order::Drain(backend, answer) => drop(answer.send(self.drain(&backend, true))),
            Order::Undrain(backend, answer) => drop(answer.send(self.drain(&backend, false))),
            Order::Reload(answer) => {
                let result = self.reload().await;
                self.tell_reload(&result);
                drop(answer.send(result));
            }
        }
    }

    pub(super) fn drain(&mut self, selector: &BackendSelector, drain: bool) -> Result<DrainReport, ApiError> {
        let named: Vec<_> =
            self.backend_names().filter(|(service, backend)| selector.matches(service, backend)).collect();
        if named.is_empty() {
            return Err(ApiError::new(ErrorKind::NotFound, format!("no backend is called `{selector}`")));
        }
        let order = |key: &(String, String)| {
            if drain { self.drained.insert(key.clone()) } else { self.drained.remove(key) }
        };
        let changed: Vec<_> = named.iter().map(order).collect();
        info!(%selector, drain, "order of the operator");
        self.reconcile();
        for ((service, backend), _) in named.iter().zip(&changed).filter(|(_, changed)| **changed) {
            let (service, backend) = (service.clone(), backend.clone());
            self.tell(if drain {
                Occurrence::Drain { service, backend }
            } else {
                Occurrence::Undrain { service, backend }
            });
        }
        self.tell_changes();
        let backends = named.into_iter().zip(changed).map(|((service, backend), changed)| {
            let now = self.standing_of(&service, &backend);
            BackendChange { service, backend, changed, now }
        });
        Ok(DrainReport { backends: backends.collect() })
    }

    pub(super) async fn reload(&mut self) -> Result<ReloadReport, ApiError> {
        let path = self.file.path.clone();
        let refused =
            |lines: Vec<String>| ApiError::invalid_config(format!("cannot reload {}", path.display()), lines);
        let Loaded { mut config, warnings } = config::load(&path)
            .map_err(|errors| refused(errors.errors.iter().map(ToString::to_string).collect()))?;
        // Given on the command line, it is not the file's to change.
        config.node.socket.clone_from(&self.config.node.socket);
        let refusals = self.refusals(&config);
        if !refusals.is_empty() {
            return Err(refused(refusals));
        }
        let interfaces = Interfaces::look_up(&config, &self.network).await.map_err(internal)?;
        let file = ConfigFile::read(&path).map_err(internal)?;
        let changes = changes(&self.config, &config);
        self.look_up_nat_sources(&config).await;
        let before = std::mem::replace(&mut self.config, config);
        self.file = file;
        let names: BTreeSet<_> = self.backend_names().collect();
        self.drained.retain(|name| names.contains(name));
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
        let targets =
            self.config.vips.iter().flat_map(|vip| &vip.services).flat_map(|service| &service.backends);
        self.health.set_targets(targets.filter_map(target).collect());
        self.reconcile();
        let config = self.config.clone();
        let own = self.answered_sources();
        if let Err(error) = self.interfaces.apply(&config, &own, interfaces, &mut self.dataplane) {
            self.warn(format!("{error:#}"));
        }
        self.advance_bonds();
        self.report_problems();
        self.tell_changes();
        info!(changes = changes.len(), "reloaded");
        Ok(ReloadReport {
            changed: !changes.is_empty(),
            changes,
            warnings: warnings.iter().map(ToString::to_string).collect(),
        })
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

    pub(super) fn standing_of(&self, service: &str, backend: &str) -> String {
        let mut services =
            self.config.vips.iter().flat_map(|vip| vip.services.iter().map(move |of| (vip.address, of)));
        let (vip, configured) = services.find(|(_, of)| of.name == service).expect("a configured name");
        let backend = configured.backends.iter().find(|of| of.name == backend).expect("a configured name");
        self.standing_in_words(vip, configured, backend)
    }

    pub(super) fn backend_names(&self) -> impl Iterator<Item = (String, String)> {
        let services = self.config.vips.iter().flat_map(|vip| &vip.services);
        services.flat_map(|service| {
            service.backends.iter().map(|backend| (service.name.clone(), backend.name.clone()))
        })
    }
}

fn internal(error: impl Into<anyhow::Error>) -> ApiError {
    let error = error.into();
    let kind = if error.is::<MixedFamilies>() { ErrorKind::BadRequest } else { ErrorKind::Internal };
    ApiError::new(kind, format!("{error:#}"))
}
