//! The routes that lead packets for VIPs to this node: carried out, and told of.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant, UNIX_EPOCH},
};

use tracing::{info, warn};

use super::{Daemon, now, wall_clock};
use crate::{
    api::model::{self, Occurrence, RouteStatus},
    config::model::{Route, Vip},
    network::{HostRoute, HostRoutes, NetworkEvent, ORIGINATOR, RouteDevice, RouteDeviceKind},
    ownership::route::{News, Outcome, Publications, Step, steps},
};

/// Pause before what the kernel refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What is known of the routes.
pub(super) struct Routes {
    kernel: HostRoutes,
    all: Publications,
    /// What the configuration asked for when this was last looked at, with the devices as they were then.
    meant: BTreeMap<IpAddr, HostRoute>,
    devices: BTreeMap<String, Result<RouteDevice, String>>,
    /// Whether something may not be as it should; not before the maps are filled.
    is_stale: bool,
    /// Devices that no VIP wants any more may be left.
    has_surplus: bool,
    retry: Option<Instant>,
    /// Whether the daemon is about to end.
    is_leaving: bool,
}

impl Routes {
    /// Nothing is changed before [`Daemon::set_up_routes`].
    pub(super) fn new(kernel: HostRoutes) -> Self {
        Self {
            kernel,
            all: Publications::default(),
            meant: BTreeMap::new(),
            devices: BTreeMap::new(),
            is_stale: false,
            has_surplus: false,
            retry: None,
            is_leaving: false,
        }
    }
}

impl Daemon {
    /// Has routes follow another configuration. All that is wanted can be forwarded: the maps were written before.
    pub(super) async fn set_up_routes(&mut self) {
        self.routes.has_surplus = true;
        self.routes.is_stale = true;
        self.follow_routes().await;
    }

    /// Notes that claims have changed.
    pub(super) fn want_routes(&mut self) {
        let any = self.routed_vips().next().is_some();
        self.routes.is_stale |= any;
    }

    /// Takes note of what may mean that somebody else has changed a route, or a device of routes.
    pub(super) fn note_for_routes(&mut self, event: &NetworkEvent) {
        let concerned = match event {
            NetworkEvent::RouteChanged { prefix } => {
                self.routed_vips().any(|(vip, _)| prefix.contains(vip.address))
            }
            NetworkEvent::LinkChanged { ifindex, .. } => {
                let devices = self.routes.devices.values().flatten();
                devices.into_iter().any(|device| device.index == *ifindex)
            }
            NetworkEvent::Overrun => self.routed_vips().next().is_some(),
            NetworkEvent::NeighbourChanged { .. } | NetworkEvent::NeighbourGone { .. } => false,
        };
        self.routes.is_stale |= concerned;
    }

    /// Makes the kernel's routes those that should be there, if anything may have changed.
    pub(super) async fn follow_routes(&mut self) {
        let due = self.routes.retry.is_some_and(|at| now() >= at);
        if self.routes.is_stale || due {
            self.routes.is_stale = false;
            self.routes.retry = None;
            self.publish().await;
        }
    }

    /// Withdraws all routes, for good. Returns for how long to go on, if any was there.
    pub(super) async fn withdraw_routes(&mut self) -> Option<Duration> {
        let published = self.routed_vips().filter(|(vip, _)| self.routes.all.is_published(vip.address));
        let linger = published.map(|(_, route)| route.linger).max();
        self.routes.is_leaving = true;
        self.want_routes();
        self.follow_routes().await;
        linger
    }

    /// Removes the devices of routes, after [`Self::withdraw_routes`].
    pub(super) async fn remove_route_devices(&self) {
        if let Err(error) = self.network.remove_route_devices(&BTreeSet::new()).await {
            warn!(%error, "a device of routes stays");
        }
    }

    /// Whether packets for a VIP are led here already: a daemon before this one has published its route.
    pub(super) async fn finds_routes(&self) -> bool {
        let found = self.routes.kernel.own().await.unwrap_or_default();
        let is_found = |vip: &Vip| found.iter().any(|route| route.destination == vip.address);
        self.routed_vips().any(|(vip, _)| is_found(vip))
    }

    async fn publish(&mut self) {
        let routed: Vec<(IpAddr, Route)> =
            self.routed_vips().map(|(vip, route)| (vip.address, route.clone())).collect();
        self.look_up_devices(&routed).await;
        let found = match self.routes.kernel.own().await {
            Ok(found) => found,
            Err(error) => {
                self.warn(format!("cannot ask the kernel for the routes of VIPs: {error}"));
                self.routes.retry = Some(now() + RETRY);
                return;
            }
        };
        let aims: BTreeMap<IpAddr, Result<HostRoute, Outcome>> =
            routed.iter().map(|(vip, route)| (*vip, self.aim(*vip, route))).collect();
        let wanted: BTreeSet<HostRoute> = aims.values().flatten().copied().collect();
        let failed = self.carry_out_steps(&steps(&wanted, &found)).await;
        let at = wall_clock();
        let mut restored = Vec::new();
        self.routes.all.retain(|vip| aims.contains_key(&vip));
        for (&vip, aim) in &aims {
            let outcome = match aim {
                Err(outcome) => outcome.clone(),
                Ok(route) => match failed.get(&vip) {
                    Some(why) => Outcome::Hindered(why.clone()),
                    None if found.contains(route) => Outcome::Found,
                    None => Outcome::Made,
                },
            };
            let former = self.routes.meant.get(&vip).zip(aim.as_ref().ok());
            let moved = former
                .is_some_and(|(former, route)| (former.table, former.metric) != (route.table, route.metric));
            let meant = moved || self.routes.has_surplus;
            if matches!(outcome, Outcome::Hindered(_)) {
                self.routes.retry = Some(now() + RETRY);
            }
            if self.routes.all.note(vip, outcome, meant, at) == Some(News::Restored) {
                restored.push(vip);
            }
        }
        self.routes.meant = aims.into_iter().filter_map(|(vip, aim)| Some((vip, aim.ok()?))).collect();
        self.remove_surplus_devices(&routed).await;
        for vip in restored {
            warn!(%vip, "somebody else changed the route of a VIP, and it was put back");
            self.tell(Occurrence::RouteRestored { vip });
        }
        self.tell_changes();
    }

    /// The route that a VIP should have, or why it should or can have none.
    fn aim(&self, vip: IpAddr, route: &Route) -> Result<HostRoute, Outcome> {
        if self.routes.is_leaving {
            return Err(Outcome::Withdrawn("the daemon of this node ends".to_owned()));
        }
        if let Some(why) = self.claims.get(&vip).and_then(|claim| claim.withdrawal()) {
            return Err(Outcome::Withdrawn(why.to_string()));
        }
        match self.routes.devices.get(&route.device) {
            Some(Ok(device)) => Ok(HostRoute {
                destination: vip,
                table: route.table,
                metric: route.metric,
                device: device.index,
            }),
            Some(Err(why)) => Err(Outcome::Hindered(why.clone())),
            None => Err(Outcome::Hindered(format!("there is no device `{}`", route.device))),
        }
    }

    /// Takes steps. Returns for which VIPs what went wrong; that a route does not go is for the log.
    async fn carry_out_steps(&self, steps: &[Step]) -> BTreeMap<IpAddr, String> {
        let mut failed = BTreeMap::new();
        for step in steps {
            let kernel = &self.routes.kernel;
            let (done, route, what) = match *step {
                Step::Add(route) => (kernel.add(route).await, route, "added"),
                Step::Replace(route) => (kernel.replace(route).await, route, "changed"),
                Step::Remove(route) => (kernel.remove(route).await, route, "removed"),
            };
            let HostRoute { destination, table, metric, .. } = route;
            match (done, step) {
                (Ok(()), _) => info!(%destination, table, metric, "the route of a VIP was {what}"),
                (Err(error), Step::Remove(_)) => {
                    warn!(%destination, table, %error, "a route that is not wanted stays");
                }
                (Err(error), _) if error.raw_os_error() == Some(libc::EEXIST) => {
                    let why = format!(
                        "another route to {destination} with metric {metric} is in table {table}, and not vip-lb's"
                    );
                    failed.insert(destination, why);
                }
                (Err(error), _) => {
                    let why = format!("cannot add the route to {destination} to table {table}: {error}");
                    failed.insert(destination, why);
                }
            }
        }
        failed
    }

    async fn look_up_devices(&mut self, routed: &[(IpAddr, Route)]) {
        let names: BTreeSet<&str> = routed.iter().map(|(_, route)| route.device.as_str()).collect();
        let mut devices = BTreeMap::new();
        for name in names {
            let device = self.network.route_device(name).await.map_err(|error| error.to_string());
            let is_new = self.routes.devices.get(name) != Some(&device);
            match &device {
                Ok(RouteDevice { kind: RouteDeviceKind::Dummy, .. }) if is_new => {
                    info!(device = name, "routes of VIPs lead to a dummy");
                }
                Ok(RouteDevice { kind: RouteDeviceKind::Veth, .. }) if is_new => {
                    info!(device = name, "routes of VIPs lead to a veth pair, as this kernel has no dummies");
                }
                _ => {}
            }
            devices.insert(name.to_owned(), device);
        }
        self.routes.devices = devices;
    }

    /// After the routes have left them.
    async fn remove_surplus_devices(&mut self, routed: &[(IpAddr, Route)]) {
        if !std::mem::take(&mut self.routes.has_surplus) {
            return;
        }
        let kept = routed.iter().map(|(_, route)| route.device.clone()).collect();
        match self.network.remove_route_devices(&kept).await {
            Ok(removed) => {
                for device in removed {
                    info!(device, "no VIP has routes to it: removed");
                }
            }
            Err(error) => warn!(%error, "a device that no route leads to stays"),
        }
    }

    fn routed_vips(&self) -> impl Iterator<Item = (&Vip, &Route)> {
        self.config.vips.iter().filter_map(|vip| Some((vip, vip.route.as_ref()?)))
    }

    /// Whether a VIP's route is there; none where ownership is not by routes.
    pub(super) fn publishes(&self, vip: IpAddr) -> Option<bool> {
        let (vip, _) = self.routed_vips().find(|(routed, _)| routed.address == vip)?;
        Some(self.routes.all.is_published(vip.address))
    }

    /// Why a VIP's route came or went.
    pub(super) fn why_routed(&self, vip: IpAddr) -> Option<String> {
        Some(self.routes.all.get(vip)?.changes.last()?.why.clone())
    }

    /// What there is to tell of a VIP's route; none where ownership is not by routes.
    pub(super) fn route_status(&self, vip: &Vip) -> Option<RouteStatus> {
        let route = vip.route.as_ref()?;
        let known = self.routes.all.get(vip.address).cloned().unwrap_or_default();
        let device = self.routes.devices.get(&route.device).and_then(|device| device.as_ref().ok());
        Some(RouteStatus {
            published: known.published,
            protocol: ORIGINATOR,
            table: route.table,
            metric: route.metric,
            device: route.device.clone(),
            device_kind: device.map(|device| match device.kind {
                RouteDeviceKind::Dummy => model::RouteDeviceKind::Dummy,
                RouteDeviceKind::Veth => model::RouteDeviceKind::Veth,
            }),
            hindrance: known.hindrance,
            restored: known.restored,
            changes: known
                .changes
                .into_iter()
                .map(|change| model::RouteChange {
                    time_ms: change.at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
                    published: change.published,
                    why: change.why,
                })
                .collect(),
        })
    }

    /// What keeps routes away that should be there.
    pub(super) fn route_hindrances(&self) -> Vec<String> {
        let of = |(vip, _): (&Vip, &Route)| {
            let why = self.routes.all.get(vip.address)?.hindrance.as_ref()?;
            Some(format!("VIP {} has no route: {why}", vip.address))
        };
        self.routed_vips().filter_map(of).collect()
    }
}
