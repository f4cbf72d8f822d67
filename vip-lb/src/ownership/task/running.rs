//! A group of routers at work: what the machine asks for is done here.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use tracing::{info, warn};
use vip_lb_common::abi::VirtualMac;

use self::router::{LINGER, RouterState, take_away};
use super::{GroupSetup, RouterSetup, end_lease, now};
use crate::{
    dataplane::Owners,
    network::interface_name,
    ownership::{
        admission::Admission,
        link::Link,
        obstacle::{Doubt, Look},
        report::{HandedOver, RouterReport},
        vrrp::{Action, Addresses, Advert, Group, GroupEvent, Order, Priority, Profile, State, Why},
    },
};

mod hear;
mod router;
mod seen;

/// A group, and what it does at present.
pub(super) struct Running {
    setup: GroupSetup,
    /// None while the link of one of them is missing.
    machine: Option<Group>,
    routers: Vec<RouterState>,
    wanted: BTreeMap<IpAddr, bool>,
    /// By how much priorities are lowered.
    lowered: u8,
    /// The order to hand over that was heard last, unless it was withdrawn.
    handed_over: Option<u64>,
    /// The own addresses of who alone is to hear the last word; none for all.
    heirs: Vec<IpAddr>,
}

impl Running {
    pub(super) fn new(setup: GroupSetup) -> Self {
        let routers = setup.routers.iter().map(RouterState::new).collect();
        Self {
            setup,
            machine: None,
            routers,
            wanted: BTreeMap::new(),
            lowered: 0,
            handed_over: None,
            heirs: Vec::new(),
        }
    }

    /// Whether it is the same group, of which other things are configured.
    pub(super) fn goes_on_as(&self, setup: &GroupSetup) -> bool {
        let fixed = |router: &RouterSetup| {
            (router.router, router.interface.clone(), router.peers.clone(), router.virtual_mac)
        };
        self.setup.routers.iter().map(fixed).eq(setup.routers.iter().map(fixed))
    }

    /// Takes over what is configured now.
    pub(super) fn change(&mut self, setup: GroupSetup, owners: &Owners) {
        for (router, (known, new)) in self.setup.routers.iter().zip(&setup.routers).enumerate() {
            for vip in known.vips.iter().filter(|vip| !new.vips.contains(vip)) {
                end_lease(owners, *vip);
            }
            if known.addresses != new.addresses {
                take_away(known.addresses.keys().filter(|vip| !new.addresses.contains_key(vip)));
                self.routers[router].report.holds = false;
            }
            let has_more_to_say = (&known.vips, known.refresh) != (&new.vips, new.refresh);
            if has_more_to_say && self.routers[router].report.state == State::Active {
                self.routers[router].announcements.begin(now());
            }
            self.routers[router].report.vips.clone_from(&new.vips);
            self.routers[router].report.priority = new.profile.priority.get();
        }
        self.setup = setup;
        if let Some(mut machine) = self.machine.take() {
            let profiles = self.setup.routers.iter().map(|router| router.profile).collect();
            let mut orders = machine.on(GroupEvent::Profiles(profiles), now());
            orders.extend(machine.on(GroupEvent::Lowered(self.lowered), now()));
            self.carry_out(&mut machine, orders, owners);
            self.machine = Some(machine);
        }
    }

    /// Whether it may have a lease of this name.
    pub(super) fn leases(&self, key: IpAddr) -> bool {
        self.setup.routers.iter().any(|router| router.leased().any(|leased| leased == key))
    }

    /// Whether frames to this address are let in by the interface of this index.
    pub(super) fn admits(&self, parent: u32, mac: VirtualMac) -> bool {
        let on = |router: &RouterSetup| interface_name(parent).is_some_and(|name| name == router.interface);
        self.setup.routers.iter().any(|router| router.mac() == Some(mac) && on(router))
    }

    pub(super) fn puts(&self, vip: IpAddr) -> bool {
        self.setup.routers.iter().any(|router| router.addresses.contains_key(&vip))
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.routers.iter().filter_map(|router| router.link.as_ref())
    }

    pub(super) fn reports(&self) -> impl Iterator<Item = RouterReport> {
        let is_over = self.machine.as_ref().is_some_and(|machine| !machine.has_handed_over());
        let handed_over = self.handed_over.map(|since_ms| HandedOver { since_ms, is_over });
        self.routers.iter().map(move |router| RouterReport {
            handed_over,
            source: router.link.as_ref().map(|link| link.interface.source),
            ..router.report.clone()
        })
    }

    /// When something is to be done.
    pub(super) fn due(&self) -> Option<Instant> {
        let routers = self.routers.iter().filter_map(RouterState::due);
        routers.chain(self.machine.as_ref().and_then(Group::deadline)).min()
    }

    /// What this node wants of VIPs, and is able to forward.
    pub(super) fn want(&mut self, wanted: &BTreeMap<IpAddr, bool>, owners: &Owners) {
        self.wanted.clone_from(wanted);
        self.tell_ready(owners);
        self.settle_addresses(owners);
    }

    /// By how much the priorities of VIPs' routers are lowered.
    pub(super) fn lower(&mut self, by: &BTreeMap<IpAddr, u8>, owners: &Owners) {
        let vips = self.setup.routers.iter().flat_map(|router| &router.vips);
        self.lowered = vips.filter_map(|vip| by.get(vip)).max().copied().unwrap_or(0);
        if let Some(mut machine) = self.machine.take() {
            let orders = machine.on(GroupEvent::Lowered(self.lowered), now());
            self.carry_out(&mut machine, orders, owners);
            self.machine = Some(machine);
        }
    }

    /// Which VIPs are handed over, by the orders' names.
    pub(super) fn hand_over(&mut self, since_ms: &BTreeMap<IpAddr, u64>, heirs: &[IpAddr], owners: &Owners) {
        let vips = self.setup.routers.iter().flat_map(|router| &router.vips);
        let order = vips.filter_map(|vip| since_ms.get(vip)).max().copied();
        if order == self.handed_over {
            return;
        }
        self.handed_over = order;
        if let Some(mut machine) = self.machine.take() {
            let event = if order.is_some() { GroupEvent::HandOver } else { GroupEvent::TakeBack };
            let orders = machine.on(event, now());
            self.heirs = heirs.to_vec();
            self.carry_out(&mut machine, orders, owners);
            self.heirs.clear();
            self.machine = Some(machine);
        }
    }

    /// Looks at the interfaces again. A router that lost its own takes no part until it is back; as long as the kernel does not say, it has what it had.
    pub(super) fn refresh(&mut self, owners: &Owners) {
        let mut lost = false;
        for (setup, router) in self.setup.routers.iter().zip(&mut self.routers) {
            match router.look(setup) {
                Look::Same => {}
                Look::Doubtful(error) => router.doubt(setup, &error),
                Look::Changed(found) => {
                    router.doubt = Doubt::default();
                    lost |= router.link.is_some();
                    let opened = found.and_then(|found| {
                        let multicast = setup.peers.is_empty();
                        Link::open(&setup.interface, found, setup.router, multicast, setup.mac())
                    });
                    router.report.hindrance = opened.as_ref().err().map(|error| format!("{error:#}"));
                    router.link = opened.ok();
                }
            }
        }
        if lost && let Some(mut machine) = self.machine.take() {
            let orders = machine.on(GroupEvent::Shutdown, now());
            self.carry_out(&mut machine, orders, owners);
            for router in &mut self.routers {
                let why = router.report.hindrance.clone();
                router.became(State::Initialize, why.unwrap_or_else(|| "its interface changed".to_owned()));
            }
        }
        if self.machine.is_none() && self.routers.iter().all(|router| router.link.is_some()) {
            let profiles = self.setup.routers.iter().zip(self.links());
            let profiles =
                profiles.map(|(setup, link)| Profile { source: link.interface.source, ..setup.profile });
            let mut machine = Group::new(profiles.collect::<Vec<_>>());
            machine.on(GroupEvent::Lowered(self.lowered), now());
            if self.handed_over.is_some() {
                // It takes no part yet, so there is nothing to do about it.
                machine.on(GroupEvent::HandOver, now());
            }
            self.machine = Some(machine);
            self.tell_ready(owners);
        }
        self.settle_addresses(owners);
        for (setup, router) in self.setup.routers.iter().zip(&mut self.routers) {
            router.settle_doubt(setup);
        }
    }

    /// Sees to it that the addresses are where this node's part says: what a daemon before left behind is taken away, unless its lease lasts
    /// and this one may go on.
    fn settle_addresses(&mut self, owners: &Owners) {
        let has_none = |router: &RouterSetup| router.addresses.is_empty() && !router.virtual_mac;
        if self.setup.routers.iter().all(has_none) {
            return;
        }
        let is_active = self.machine.as_ref().is_some_and(|machine| machine.state() == State::Active);
        let is_over = !is_active && self.lease_left(owners).is_none();
        for (setup, router) in self.setup.routers.iter().zip(&mut self.routers) {
            if is_active {
                router.hold(setup);
            } else if is_over {
                router.release(setup);
            }
        }
    }

    fn tell_ready(&mut self, owners: &Owners) {
        let Some(mut machine) = self.machine.take() else { return };
        let ready = |router: &RouterSetup| {
            router.vips.iter().all(|vip| self.wanted.get(vip).copied().unwrap_or(false))
        };
        let ready: Vec<_> = self.setup.routers.iter().map(ready).collect();
        let lease = self.lease_left(owners).filter(|_| ready.iter().all(|&ready| ready));
        let mut orders = Vec::new();
        match lease {
            Some(lease) if machine.state() == State::Initialize => {
                orders.extend(machine.on(GroupEvent::Resume(lease), now()));
            }
            _ => {
                for (router, ready) in ready.into_iter().enumerate() {
                    orders.extend(machine.on(GroupEvent::Ready { router, ready }, now()));
                }
            }
        }
        self.carry_out(&mut machine, orders, owners);
        self.machine = Some(machine);
    }

    /// Until when all its addresses have a lease of a daemon before this one.
    fn lease_left(&self, owners: &Owners) -> Option<Instant> {
        let all = owners.all().inspect_err(|error| warn!("{error:#}")).ok()?;
        let now = now();
        let left = |vip: &IpAddr| all.iter().find(|(leased, _)| leased == vip).map(|(_, left)| now + *left);
        let vips = self.setup.routers.iter().flat_map(|router| &router.vips);
        vips.map(left).collect::<Option<Vec<_>>>()?.into_iter().min().filter(|&lease| lease > now)
    }

    /// Does what was due at this time.
    pub(super) fn act(&mut self, at: Instant, owners: &Owners) {
        let Some(mut machine) = self.machine.take() else { return };
        if machine.deadline().is_some_and(|due| at >= due) {
            let orders = machine.on(GroupEvent::Timer, now());
            self.carry_out(&mut machine, orders, owners);
        }
        self.machine = Some(machine);
        for (router, setup) in self.routers.iter_mut().zip(&self.setup.routers) {
            router.act(setup);
        }
    }

    /// Its last word. What lets hardware addresses in is left to the caller.
    pub(super) fn shut_down(mut self, owners: &Owners) -> Vec<Admission> {
        if let Some(mut machine) = self.machine.take() {
            let orders = machine.on(GroupEvent::Shutdown, now());
            self.carry_out(&mut machine, orders, owners);
        }
        // Whatever it was: nobody renews them any more.
        for leased in self.setup.routers.iter().flat_map(RouterSetup::leased) {
            end_lease(owners, leased);
        }
        take_away(self.setup.routers.iter().flat_map(|router| router.addresses.keys()));
        self.routers.into_iter().filter_map(RouterState::into_admission).collect()
    }

    /// For how long frames to its hardware addresses are taken after it was shut down; none where none come now. A backup that was told waits for
    /// less than an interval (RFC 9568 section 6.1, Skew_Time), which may be long.
    pub(super) fn handing_over(&self) -> Option<Duration> {
        let is_active = self.machine.as_ref().is_some_and(|machine| machine.state() == State::Active);
        let with_mac = self.setup.routers.iter().filter(|router| router.virtual_mac);
        with_mac.map(|router| router.profile.interval.duration().min(LINGER)).max().filter(|_| is_active)
    }

    /// Leaves all as it is, for another process to go on.
    pub(super) fn leave(self) {
        self.routers.into_iter().filter_map(RouterState::into_admission).for_each(Admission::leave);
    }

    fn carry_out(&mut self, machine: &mut Group, orders: Vec<Order>, owners: &Owners) {
        let mut orders = VecDeque::from(orders);
        while let Some(Order { router, action }) = orders.pop_front() {
            match action {
                Action::Send(priority) => {
                    // The lease counts from before: nobody hears it earlier.
                    let at = now();
                    let has_left = self.send(router, priority);
                    if has_left && priority.is_some() {
                        orders.extend(machine.on(GroupEvent::Sent { router }, at));
                    }
                }
                Action::Lease(until) => {
                    let state = &mut self.routers[router];
                    // What comes must find the address.
                    if !state.report.holds && !state.hold(&self.setup.routers[router]) {
                        continue;
                    }
                    state.report.lease = Some(until);
                    let left = until.saturating_duration_since(now());
                    for leased in self.setup.routers[router].leased() {
                        if let Err(error) = owners.lease(leased, left) {
                            warn!("{error:#}");
                        }
                    }
                }
                Action::EndLease => {
                    self.routers[router].report.lease = None;
                    self.routers[router].announcements.end();
                    for leased in self.setup.routers[router].leased() {
                        end_lease(owners, leased);
                    }
                    self.routers[router].release(&self.setup.routers[router]);
                }
                Action::Announce => self.routers[router].announcements.begin(now()),
                Action::Became(state, why) => {
                    let id = self.setup.routers[router].router.id();
                    info!(router = id, state = state.as_str(), "{why}");
                    let why = self.why(router, why);
                    self.routers[router].became(state, why);
                }
            }
        }
        for (router, state) in self.routers.iter_mut().enumerate() {
            state.report.priority = machine.priority(router).map_or(0, Priority::get);
        }
    }

    fn why(&self, router: usize, why: Why) -> String {
        match (why, self.routers[router].report.heard) {
            (
                Why::HigherPriority | Why::HigherAddress | Why::Resigned | Why::Silence | Why::Preempts,
                Some(heard),
            ) => {
                format!("{why} ({heard})")
            }
            _ => why.to_string(),
        }
    }

    /// Sends an advert to all; whether it has left towards any of them.
    fn send(&mut self, router: usize, priority: Option<Priority>) -> bool {
        let setup = &self.setup.routers[router];
        let state = &mut self.routers[router];
        let Some(link) = &state.link else { return false };
        let addresses = match link.interface.source {
            IpAddr::V4(_) => Addresses::V4(setup.vips.iter().filter_map(v4).collect()),
            IpAddr::V6(_) => Addresses::V6(setup.vips.iter().filter_map(v6).collect()),
        };
        let advert = Advert { router: setup.router, priority, interval: setup.profile.interval, addresses };
        let group = [setup.router.group()];
        let all = if setup.peers.is_empty() { &group[..] } else { &setup.peers };
        let own = link.interface.source;
        // Where adverts go to all at once, one alone is reached by the address from which its own come.
        let is_reached = |heir: &&IpAddr| {
            heir.is_ipv4() == own.is_ipv4() && (setup.peers.is_empty() || all.contains(heir))
        };
        let heirs: Vec<IpAddr> = match priority {
            None => self.heirs.iter().filter(is_reached).copied().collect(),
            Some(_) => Vec::new(),
        };
        let to = if heirs.is_empty() { all } else { &heirs };
        let mut left = false;
        for &to in to {
            let bytes = advert.encode(link.interface.source, to, setup.pseudo_header);
            match link.send(&bytes, to) {
                Ok(()) => left = true,
                Err(error) => warn!(%to, %error, "cannot send an advert"),
            }
        }
        state.report.sent += u64::from(left);
        left
    }
}

fn v4(vip: &IpAddr) -> Option<std::net::Ipv4Addr> {
    if let IpAddr::V4(vip) = vip { Some(*vip) } else { None }
}

fn v6(vip: &IpAddr) -> Option<std::net::Ipv6Addr> {
    if let IpAddr::V6(vip) = vip { Some(*vip) } else { None }
}

#[cfg(test)]
mod tests;
