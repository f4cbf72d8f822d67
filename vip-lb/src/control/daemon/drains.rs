//! Orders of operators to drain: backends, and hosts with all that is there.

use std::{collections::BTreeSet, net::IpAddr, time::UNIX_EPOCH};

use tracing::info;

use super::{Daemon, handle::Answer, wall_clock};
use crate::{
    api::model::{BackendSelector, DrainReport, HostChange, HostStatus, Occurrence, OperatorOrder},
    config::model::AdminState,
    state::{OrderKey, OrderKind, Ruling},
};

/// Whom an order changed something for.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Backends that are ordered something else than before.
    pub(super) backends: BTreeSet<OrderKey>,
    /// Whether a host is.
    pub(super) host: bool,
}

impl Daemon {
    /// Gives an order, or withdraws it, and answers once it is kept.
    pub(super) fn order_drain(
        &mut self,
        selector: &BackendSelector,
        kind: Option<OrderKind>,
        answer: Answer<DrainReport>,
    ) {
        let since = wall_clock().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let before = self.orders.clone();
        let named: Vec<OrderKey> = self.selected(selector).into_iter().map(|(key, _)| key).collect();
        // Whose host is ordered to serve is to serve: orders about its backends go as well.
        let own: &[OrderKey] = if selector.host().is_some() && kind.is_some() { &[] } else { &named };
        let own: Vec<OrderKey> = own
            .iter()
            .filter(|key| match kind {
                Some(kind) => self.orders.give(**key, kind, since),
                None => self.orders.withdraw(key),
            })
            .copied()
            .collect();
        let host = selector.host().filter(|host| match kind {
            // An address that nothing has is rather mistyped.
            Some(kind) => !named.is_empty() && self.orders.give_host(*host, kind, since),
            None => self.orders.withdraw_host(*host),
        });
        let kind_of = |ruling: Option<Ruling>| ruling.map(|ruling| ruling.order.kind);
        let is_changed = |key: &OrderKey| kind_of(before.ruling(key)) != kind_of(self.orders.ruling(key));
        let changed =
            Changed { backends: named.into_iter().filter(is_changed).collect(), host: host.is_some() };
        let report = |daemon: &Self| {
            let mut report = daemon.remaining(selector, &changed)?;
            if kind.is_none() {
                report.warnings.extend(daemon.drained_with_their_host(selector));
            }
            Ok(report)
        };
        if own.is_empty() && host.is_none() {
            return drop(answer.send(report(self)));
        }
        info!(%selector, order = ?kind, "order of the operator");
        self.say_orders();
        self.reconcile();
        self.tell_orders(&own, kind, None);
        if let Some(host) = host {
            self.tell(match kind {
                None => Occurrence::HostUndrain { host, by: None },
                Some(kind) => Occurrence::HostDrain { host, force: kind == OrderKind::Cut, by: None },
            });
        }
        self.tell_changes();
        let kept = self.keeper.keep_orders(self.orders.clone());
        let report = report(self);
        // The disk may take its time; the daemon has none to wait for it.
        tokio::spawn(async move {
            let lasting = kept.wait().await;
            let report = report.map(|mut report| {
                report.warnings.extend(lasting.err().map(|error| {
                    format!(
                        "the order holds, but may not outlive the daemon, because it cannot be kept: {error}"
                    )
                }));
                report
            });
            answer.send(report)
        });
    }

    /// What an operator should know who wants backends back whose host is drained.
    fn drained_with_their_host(&self, selector: &BackendSelector) -> Vec<String> {
        let hosts: BTreeSet<IpAddr> = self
            .selected(selector)
            .into_iter()
            .filter(|(key, _)| self.orders.of_host(key.backend).is_some())
            .map(|(key, _)| key.backend)
            .collect();
        let phrase = |host| {
            format!("everything at {host} is ordered out of service: `vip-lb undrain {host}` ends that")
        };
        hosts.into_iter().map(phrase).collect()
    }

    /// How a host stands that a selector means; nothing if it means none.
    pub(super) fn host_change(&self, selector: &BackendSelector, changed: &Changed) -> Option<HostChange> {
        let address = selector.host()?;
        Some(HostChange { address, changed: changed.host, order: self.host_order(address) })
    }

    /// Hosts that are out of service as a whole, or are said to be in it.
    pub(super) fn host_status(&self) -> Vec<HostStatus> {
        let configured = self.config.hosts.iter().map(|host| host.address);
        let addresses: BTreeSet<IpAddr> =
            configured.chain(self.orders.hosts().map(|(address, _)| address)).collect();
        let status = addresses.into_iter().map(|address| {
            let configured = self.config.hosts.iter().find(|host| host.address == address);
            HostStatus {
                address,
                admin: configured.map_or(AdminState::Enabled, |host| host.state),
                operator_order: self.host_order(address),
                backends: self.backend_keys().filter(|(key, ..)| key.backend == address).count() as u32,
            }
        });
        status.filter(|host| host.admin != AdminState::Enabled || host.operator_order.is_some()).collect()
    }

    fn host_order(&self, host: IpAddr) -> Option<OperatorOrder> {
        let order = self.orders.of_host(host)?;
        Some(self.operator_order(host, None, Ruling { order, of_host: true }))
    }
}
