//! Which checks are run.

use std::time::Duration;

use tokio::time::interval;
use tracing::warn;

use super::{Daemon, target};
use crate::{
    config::model,
    control::desired::{Facts as _, ServiceKey},
    health,
    network::{self, NextHop},
    steering::identity,
};

/// Longest wait for the first results of all checks, and for the ways to all backends, before the first packet is taken: a slow or dead one must
/// not keep the VIP down.
const FIRST_CHECKS: Duration = Duration::from_secs(3);

impl Daemon {
    /// All checks of the configuration. They go on from what a predecessor remembers; after a restart, what was in the rings begins as up.
    pub(super) fn check_health(&self, adopted: bool, memories: &[health::Memory]) {
        let mut targets = Vec::new();
        for vip in &self.config.vips {
            for service in &vip.services {
                let key = ServiceKey { vip: vip.address, ports: service.ports, protocol: service.protocol };
                for backend in &service.backends {
                    let Some(target) = target(vip.address, backend) else { continue };
                    let name =
                        identity(vip.address, service.ports, service.protocol.number(), backend.address);
                    let served = adopted && self.engine.was_serving(&key, name);
                    targets.push((target, if served { health::State::Up } else { health::State::Unknown }));
                }
            }
        }
        self.health.set_targets_with(targets, memories);
    }

    /// What all checks of the configuration probe.
    pub(super) fn targets(&self) -> impl Iterator<Item = health::Target> {
        let of_vip = |vip: &'_ model::Vip| {
            let address = vip.address;
            let backends = vip.services.iter().flat_map(|service| &service.backends);
            backends.filter_map(move |backend| target(address, backend)).collect::<Vec<_>>()
        };
        self.config.vips.iter().flat_map(of_vip)
    }

    pub(super) async fn wait_for_first_checks(&mut self, network_events: &mut network::Monitor) {
        let mut look = interval(Duration::from_millis(10));
        let all_known = async {
            loop {
                tokio::select! {
                    _ = look.tick() => {}
                    Ok(event) = network_events.next() => self.network_changed_early(&event).await,
                }
                let known = |target: &health::TargetHealth| target.state != health::State::Unknown;
                if self.health.snapshot().iter().all(known) && self.ways_are_known() {
                    return;
                }
            }
        };
        if tokio::time::timeout(FIRST_CHECKS, all_known).await.is_err() {
            warn!("some backends have not answered yet; starting without them");
        }
    }

    /// Whether nothing more is to come of the search for ways to backends and peers.
    fn ways_are_known(&self) -> bool {
        self.wanted_next_hops(&self.config).into_keys().all(|address| match self.next_hop(address) {
            Some(NextHop::Via(via)) => via.mac.is_some(),
            Some(NextHop::Local) => true,
            None => self.unreachable.contains_key(&address),
        })
    }
}
