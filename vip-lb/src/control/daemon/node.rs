//! The drain of this node: it gives up its VIPs, and goes on forwarding what comes.

use std::time::UNIX_EPOCH;

use tracing::info;

use super::{Daemon, handle::Answer, handover::speaker, now, wall_clock};
use crate::{
    api::model::{NodeAdmin, NodeReport, Occurrence, ServiceQuiet, VipElsewhere},
    config::model::{NodeState, Ownership, Vip},
    control::desired::ServiceKey,
};

impl Daemon {
    /// Drains this node, or no longer, and answers once the order is kept.
    pub(super) async fn order_node_drain(&mut self, drain: bool, answer: Answer<NodeReport>) {
        let since = wall_clock().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if !self.orders.drain_node(drain, since) {
            return drop(answer.send(Ok(self.node_report(false))));
        }
        info!(drain, "order of the operator about this node");
        if drain {
            self.prepare_move().await;
        }
        self.reconcile();
        self.tell(if drain { Occurrence::NodeDrain } else { Occurrence::NodeUndrain });
        self.tell_changes();
        let kept = self.keeper.keep_orders(self.orders.clone());
        let mut report = self.node_report(true);
        if !drain && report.admin.admin == NodeState::Drain {
            report.warnings.push("the configuration drains this node still: `node.state`".to_owned());
        }
        // The disk may take its time; the daemon has none to wait for it.
        tokio::spawn(async move {
            report.warnings.extend(kept.wait().await.err().map(|error| {
                format!("the order holds, but may not outlive the daemon, because it cannot be kept: {error}")
            }));
            answer.send(Ok(report))
        });
    }

    /// What is wanted of this node.
    pub(super) fn node_admin(&self) -> NodeAdmin {
        NodeAdmin { admin: self.config.node.state, ordered_since: self.orders.node() }
    }

    /// Notes when the node begins to be drained.
    pub(super) fn note_node_drain(&mut self) {
        let is_drained = self.node_admin().is_drained();
        if is_drained && !self.node_drained {
            self.quiet.begin(now());
        }
        self.node_drained = is_drained;
    }

    /// How far it is.
    pub(super) fn node_report(&self, changed: bool) -> NodeReport {
        let admin = self.node_admin();
        let services: Vec<_> = self
            .config
            .vips
            .iter()
            .flat_map(|vip| vip.services.iter().map(move |service| (vip, service)))
            .map(|(vip, service)| {
                let key = ServiceKey { vip: vip.address, ports: service.ports, protocol: service.protocol };
                let id = self.engine.published(&key).map(|published| published.reference.id);
                ServiceQuiet {
                    service: service.name.clone(),
                    vip: vip.address,
                    packets_per_second: id.map_or(0.0, |id| self.service_rates.packets_per_second(&id)),
                    quiet_for: id.map_or(0, |id| self.quiet.lasts(id).as_secs()),
                    idle_timeout: service.idle_timeout.as_secs().max(1),
                }
            })
            .collect();
        let left = services.iter().map(ServiceQuiet::seconds_left).max().unwrap_or(0);
        let mut warnings = Vec::new();
        let fixed = |vip: &Vip| vip.ownership == Ownership::Always;
        if admin.is_drained() && self.config.node.peers.is_empty() && self.config.vips.iter().any(fixed) {
            warnings.push(
                "no other node is configured (`node.peers`): if none has these VIPs, clients do not find them any more"
                    .to_owned(),
            );
        }
        let elected = self.config.vips.iter().filter(|vip| vip.ownership == Ownership::Vrrp);
        let vips: Vec<_> = elected
            .filter(|_| admin.is_drained())
            .map(|vip| VipElsewhere {
                vip: vip.address,
                active: self.router_of(vip.address).and_then(|report| speaker(&report)),
            })
            .collect();
        let leaving: Vec<_> = self
            .config
            .vips
            .iter()
            .filter(|vip| {
                vip.ownership == Ownership::Vrrp && (admin.is_drained() || self.answers_for(vip.address))
            })
            .map(|vip| vip.address)
            .collect();
        let translated = self.translated(&leaving).unwrap_or_else(|error| {
            warnings.push(error.to_string());
            0
        });
        NodeReport {
            node: self.config.node.name.clone(),
            changed,
            admin,
            quiet: admin.is_drained() && left == 0,
            seconds_left: admin.is_drained().then_some(left),
            vips,
            translated,
            services,
            warnings,
        }
    }
}
