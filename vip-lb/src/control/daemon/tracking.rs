//! What virtual routers depend on: looked at, and told to the thread that speaks VRRP.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::Daemon;
use crate::{
    api::model::{Occurrence, TrackerStatus},
    config::{
        Config,
        model::{Least, Track, TrackEffect, Tracked, TrackedCommand, Vip, Vrrp},
    },
    control::desired::ServiceKey,
    health,
    network::{self, NetworkEvent},
    ownership::{
        tracking::{Runs, Toll},
        vrrp::Router,
    },
};

/// Commands that run, and what was found.
#[derive(Default)]
pub(super) struct Tracking {
    shared: Arc<Shared>,
    /// Aborted with their end.
    commands: HashMap<CommandOf, Running>,
    /// How all was when it was last told, by one VIP of each router and the tracker's name.
    known: BTreeMap<(IpAddr, String), TrackerStatus>,
    tolls: BTreeMap<IpAddr, Toll>,
}

#[derive(Default)]
struct Shared {
    found: Mutex<HashMap<CommandOf, Found>>,
    changed: Notify,
}

/// A command of a router, which it is told of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CommandOf {
    command: TrackedCommand,
    router_id: u8,
    interface: String,
}

#[derive(Clone, Debug, Default)]
struct Found {
    runs: Runs,
    reason: Option<String>,
}

/// A command that is run until this is dropped.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Tracking {
    /// Runs the commands of a configuration, and no others. Those that are as before go on.
    pub(super) fn set_up(&mut self, config: &Config) {
        let wanted: Vec<CommandOf> = config
            .vips
            .iter()
            .filter_map(|vip| vip.vrrp.as_ref())
            .flat_map(|vrrp| vrrp.track.iter().filter_map(|track| command_of(vrrp, &track.what)))
            .collect();
        self.commands.retain(|command, _| wanted.contains(command));
        self.shared.found.lock().unwrap_or_else(PoisonError::into_inner).retain(|of, _| wanted.contains(of));
        for command in wanted {
            let shared = &self.shared;
            self.commands
                .entry(command)
                .or_insert_with_key(|command| Running(tokio::spawn(watch(command.clone(), shared.clone()))));
        }
    }

    /// Runs none any more.
    pub(super) fn stop(&mut self) {
        self.commands.clear();
    }

    /// Waits until a command came to another verdict.
    pub(super) async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    fn found(&self, command: &CommandOf) -> Found {
        let found = self.shared.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(command).cloned().unwrap_or_default()
    }
}

fn command_of(vrrp: &Vrrp, what: &Tracked) -> Option<CommandOf> {
    let Tracked::Command(command) = what else { return None };
    let (router_id, interface) = (vrrp.router_id.get(), vrrp.interface.clone());
    Some(CommandOf { command: command.clone(), router_id, interface })
}

/// Runs a command again and again.
async fn watch(of: CommandOf, shared: Arc<Shared>) {
    let mut ticks = interval(of.command.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let environment =
            [("VIP_LB_ROUTER_ID", of.router_id.to_string()), ("VIP_LB_INTERFACE", of.interface.clone())];
        let result = health::run_command(&of.command.command, environment, of.command.timeout).await;
        let changed = {
            let mut all = shared.found.lock().unwrap_or_else(PoisonError::into_inner);
            let found = all.entry(of.clone()).or_default();
            let changed = found.runs.note(result.is_ok(), &of.command);
            if let Err(outcome) = result {
                found.reason = outcome.reason().map(str::to_owned);
            }
            changed
        };
        if changed {
            shared.changed.notify_one();
        }
    }
}

impl Daemon {
    /// Looks at all that routers depend on, and tells what changed.
    pub(super) fn track(&mut self) {
        let mut known = BTreeMap::new();
        let mut tolls = BTreeMap::new();
        for vip in &self.config.vips {
            let Some(vrrp) = vip.vrrp.as_ref().filter(|vrrp| !vrrp.track.is_empty()) else { continue };
            let trackers = self.trackers(vip, vrrp);
            let failing = vrrp.track.iter().zip(&trackers).filter(|(_, tracker)| tracker.failing);
            tolls.insert(vip.address, Toll::of(failing.map(|(track, _)| track.effect)));
            // Each router is told of once.
            if vips_of(&self.config, vip.address, vrrp).next().map(|first| first.address) == Some(vip.address)
            {
                known.extend(trackers.into_iter().map(|of| ((vip.address, of.tracker.clone()), of)));
            }
        }
        let before = std::mem::replace(&mut self.tracking.known, known);
        for (key, tracker) in &self.tracking.known {
            let was = before.get(key).is_some_and(|was| was.failing);
            if tracker.failing != was {
                self.tell_tracker(key.0, tracker);
            }
        }
        if tolls != self.tracking.tolls {
            self.tracking.tolls = tolls;
        }
        if let Some(task) = &self.vrrp {
            let lowered = self.tracking.tolls.iter().filter(|(_, toll)| toll.lowered > 0);
            task.lower(lowered.map(|(&vip, toll)| (vip, toll.lowered)).collect());
        }
    }

    fn tell_tracker(&self, vip: IpAddr, tracker: &TrackerStatus) {
        let TrackerStatus { tracker: name, failing, reason, priority, fault } = tracker.clone();
        if failing {
            warn!(%vip, tracker = name, reason, "what the virtual router depends on is not well");
        } else {
            info!(%vip, tracker = name, "what the virtual router depends on is well again");
        }
        let configured = self.config.vips.iter().find(|of| of.address == vip);
        let vips = configured
            .and_then(|of| Some(vips_of(&self.config, vip, of.vrrp.as_ref()?).map(|of| of.address).collect()))
            .unwrap_or_else(|| vec![vip]);
        self.tell(Occurrence::TrackerChanged { vips, tracker: name, failing, reason, priority, fault });
    }

    /// Whether tracking keeps this node from taking part for a VIP.
    pub(super) fn is_faulty(&self, vip: IpAddr) -> bool {
        self.tracking.tolls.get(&vip).is_some_and(|toll| toll.fault)
    }

    /// Why it does, a lower-case phrase.
    pub(super) fn fault_of(&self, vip: &Vip) -> Option<String> {
        let trackers = self.trackers(vip, vip.vrrp.as_ref()?);
        let faulty = trackers.into_iter().find(|tracker| tracker.failing && tracker.fault)?;
        let reason = faulty.reason.map_or_else(String::new, |reason| format!(": {reason}"));
        Some(format!("it depends on {}{reason}", faulty.tracker))
    }

    /// All that the router of a VIP depends on, in the order of the configuration.
    pub(super) fn trackers(&self, vip: &Vip, vrrp: &Vrrp) -> Vec<TrackerStatus> {
        let tracker = |track: &Track| {
            let reason = self.failure(vip.address, vrrp, &track.what);
            let (priority, fault) = match track.effect {
                TrackEffect::Lower(by) => (Some(-i16::from(by.get())), false),
                TrackEffect::Fault => (None, true),
            };
            let failing = reason.is_some();
            TrackerStatus { tracker: track.what.to_string(), failing, reason, priority, fault }
        };
        vrrp.track.iter().map(tracker).collect()
    }

    /// What is not well, a lower-case phrase.
    fn failure(&self, vip: IpAddr, vrrp: &Vrrp, what: &Tracked) -> Option<String> {
        match what {
            Tracked::Interface(name) => {
                (!network::interface_runs(name)).then(|| "it is down or has no link".to_owned())
            }
            Tracked::Healthy(least) => self.too_few(vip, vrrp, *least),
            Tracked::Command(_) => {
                let found = self.tracking.found(&command_of(vrrp, what)?);
                found.runs.has_failed().then(|| found.reason.unwrap_or_default())
            }
        }
    }

    fn too_few(&self, vip: IpAddr, vrrp: &Vrrp, least: Least) -> Option<String> {
        let services = vips_of(&self.config, vip, vrrp).flat_map(|vip| {
            vip.services.iter().map(|service| ServiceKey {
                vip: vip.address,
                ports: service.ports,
                protocol: service.protocol,
            })
        });
        let (healthy, wanted) = services
            .filter_map(|key| self.floors.summary(&key))
            .fold((0, 0), |(healthy, wanted), of| (healthy + of.healthy, wanted + of.wanted));
        let needed = least.of(wanted as usize);
        ((healthy as usize) < needed)
            .then(|| format!("{healthy} of {wanted} backends are healthy, and {needed} are needed"))
    }

    /// Whether a change in the network is one of a link.
    pub(super) fn may_move_trackers(&self, event: &NetworkEvent) -> bool {
        !self.tracking.tolls.is_empty()
            && matches!(event, NetworkEvent::LinkChanged { .. } | NetworkEvent::Overrun)
    }
}

/// All VIPs of a router.
fn vips_of<'c>(config: &'c Config, vip: IpAddr, vrrp: &'c Vrrp) -> impl Iterator<Item = &'c Vip> {
    let router = |vrrp: &Vrrp, vip: IpAddr| Router::of(vrrp.router_id.get(), vip);
    let meant = router(vrrp, vip);
    config.vips.iter().filter(move |of| {
        let same = |its: &Vrrp| its.interface == vrrp.interface && router(its, of.address) == meant;
        of.vrrp.as_ref().is_some_and(same)
    })
}
