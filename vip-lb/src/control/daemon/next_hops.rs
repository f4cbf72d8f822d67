//! Where backends and peers are on the network, and its changes.

use std::{collections::BTreeMap, net::IpAddr};

use tracing::{debug, warn};

use super::{Daemon, now};
use crate::{
    config::Config,
    control::desired::source_of,
    network::{self, Wanted},
};

impl Daemon {
    pub(super) async fn network_changed(&mut self, event: &network::NetworkEvent) {
        self.resolver.apply(event);
        self.note_for_probes(event);
        self.note_for_routes(event);
        let config = self.config.clone();
        let moved = self.may_move_sources(event) && self.look_up_nat_sources(&config).await;
        if moved {
            self.want_next_hops();
            self.join_groups();
        }
        if self.resolve().await || moved {
            self.reconcile();
            self.report_problems();
        }
        if self.may_move_trackers(event) {
            self.want_vips();
        }
        if *event == network::NetworkEvent::Overrun {
            if let Err(error) = self.interfaces.refresh(&self.network).await {
                warn!(%error, "what bonds consist of is not known");
            }
            self.advance_bonds();
        } else if self.interfaces.network_changed(event) {
            self.advance_bonds();
        }
    }

    /// Does what is due on the members of bonds.
    pub(super) fn advance_bonds(&mut self) {
        for error in self.interfaces.advance(&mut self.dataplane, now()) {
            self.warn(format!("{error:#}"));
        }
    }

    pub(super) async fn network_changed_early(&mut self, event: &network::NetworkEvent) {
        self.resolver.apply(event);
        if self.resolve().await {
            self.point_probes();
        }
    }

    /// Resolves what is not resolved or has changed. Tells whether a next hop did change.
    pub(super) async fn resolve(&mut self) -> bool {
        let stale = self.resolver.take_stale();
        if stale.is_empty() {
            return false;
        }
        let mut changed = false;
        for (destination, answer) in self.network.resolve_all(&stale).await {
            match &answer {
                Ok(_) => drop(self.unreachable.remove(&destination)),
                Err(error) => {
                    warn!(%destination, %error, "no way to a backend or peer");
                    self.unreachable.insert(destination, with_causes(error));
                }
            }
            let recorded = self.resolver.record(destination, answer.as_ref());
            changed |= recorded.changed;
            if recorded.changed
                && let Ok(next_hop) = &answer
            {
                debug!(%destination, ?next_hop, "resolved");
            }
            if let Some(neighbour) = recorded.keep
                && let Err(error) = self.network.keep_fresh(neighbour.address, neighbour.ifindex).await
            {
                warn!(%error, "the kernel does not keep a neighbour resolved");
                self.resolver.apply(&network::NetworkEvent::NeighbourGone { neighbour });
            }
            if let Some(neighbour) = recorded.release {
                self.release(neighbour).await;
            }
        }
        changed
    }

    pub(super) async fn release(&self, neighbour: network::Neighbour) {
        if let Err(error) = self.network.release(neighbour.address, neighbour.ifindex).await {
            debug!(%error, "a neighbour that nobody needs stays");
        }
    }

    /// Every address whose next hop matters, with the source it should be reached from. Where services differ in that, one of them decides:
    /// the kernel is asked about an address once.
    pub(super) fn wanted_next_hops(&self, config: &Config) -> BTreeMap<IpAddr, Option<IpAddr>> {
        let mut wanted: BTreeMap<IpAddr, Option<IpAddr>> =
            config.node.peers.iter().map(|&peer| (peer, None)).collect();
        let services = config.vips.iter().flat_map(|vip| &vip.services);
        for backend in services.flat_map(|service| &service.backends) {
            // The kernel knows no route from an address that it has not.
            let source =
                source_of(backend, &config.node).filter(|source| !self.foreign_sources.contains(source));
            let hint = wanted.entry(backend.address).or_default();
            *hint = hint.or(source);
        }
        wanted
    }

    pub(super) fn want_next_hops(&mut self) {
        for (destination, source_hint) in self.wanted_next_hops(&self.config) {
            self.resolver.want(Wanted { destination, source_hint });
        }
    }
}

/// An error with what led to it, in one phrase.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
