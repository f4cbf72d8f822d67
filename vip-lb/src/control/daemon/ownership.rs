//! What the daemon tells the thread that speaks VRRP, and hears from it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    time::UNIX_EPOCH,
};

use super::{Daemon, interfaces::Attached, now};
use crate::{
    api::model::{HandedOverStatus, VirtualMacStatus, VrrpChange, VrrpSpeaker, VrrpState, VrrpStatus},
    config::{
        Config,
        model::{Checksum, Ownership, Preempt, Vip, Vrrp},
    },
    control::{desired::advert_addresses, ownership::Claim},
    dataplane::XdpMode,
    network::InterfaceKind,
    ownership::{
        Admitted, Ending, GroupSetup, RouterReport, RouterSetup,
        vrrp::{Profile, PseudoHeader, Router, State},
    },
};

impl Daemon {
    /// Tells the thread what is configured.
    pub(super) fn set_up_routers(&mut self) {
        self.tracking.set_up(&self.config);
        if let Some(task) = &self.vrrp {
            task.set_up(groups(&self.config));
        }
        // Before they take part.
        self.tell_handed_over(&[]);
        self.want_vips();
    }

    /// Tells it which VIPs this node wants. All that is wanted can be forwarded: it was told after the maps were written.
    pub(super) fn want_vips(&mut self) {
        self.track();
        let is_able = |vip: IpAddr, claim: &Claim| claim.is_wanted() && !self.is_faulty(vip);
        if let Some(task) = &self.vrrp {
            task.want(self.claims.iter().map(|(&vip, claim)| (vip, is_able(vip, claim))).collect());
        }
    }

    /// What an operator should know where adverts may be late.
    pub(super) fn delayable_adverts(&self) -> Option<String> {
        let error = self.vrrp.as_ref()?.delayable()?;
        let is_spoken = self.config.vips.iter().any(|vip| vip.ownership == Ownership::Vrrp);
        is_spoken.then(|| {
            format!(
                "VRRP has no real-time priority ({error}), so adverts may be late when all processors are busy: the service wants \
                 LimitRTPRIO=1"
            )
        })
    }

    /// Interfaces whose host's own programs get nothing that is sent to a virtual MAC address: a veth in native mode has decided whom a frame is
    /// for before the program sees it, and does not think again (`veth_xdp_rcv_skb`, drivers/net/veth.c).
    pub(super) fn unheard_programs(&self) -> Vec<String> {
        let speaks = |name: &str| {
            self.config
                .vips
                .iter()
                .filter_map(|vip| vip.vrrp.as_ref())
                .any(|vrrp| vrrp.virtual_mac && vrrp.interface == name)
        };
        let is_one = |attached: &&Attached| {
            attached.interface.kind == InterfaceKind::Veth && attached.attachment.mode == XdpMode::Native
        };
        let unheard = self.interfaces.iter().filter(is_one).filter(|of| speaks(&of.interface.name));
        unheard
            .map(|attached| {
                format!(
                    "{} is a veth in native mode: what is sent to a virtual MAC address is forwarded, but not given to this host's own \
                     programs, without `attach: generic`",
                    attached.interface.name
                )
            })
            .collect()
    }

    /// Waits until some router became something else.
    pub(super) async fn ownership_changed(&self) {
        match &self.vrrp {
            Some(task) => task.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Ends the thread, if there is one.
    pub(super) fn end_routers(&mut self, last_word: bool) -> Option<Ending> {
        Some(self.vrrp.take()?.end(last_word))
    }

    /// Whether this node answers for a VIP: as long as it wants to, and is active where nodes agree on that; or publishes a route to it.
    pub(super) fn answers_for(&self, vip: IpAddr) -> bool {
        if let Some(published) = self.publishes(vip) {
            return published;
        }
        let wanted = self.claims.get(&vip).is_some_and(|claim| claim.is_wanted());
        let is_leased =
            |configured: &Vip| configured.address == vip && configured.ownership == Ownership::Vrrp;
        wanted && (!self.config.vips.iter().any(is_leased) || self.active(vip))
    }

    fn active(&self, vip: IpAddr) -> bool {
        let now = now();
        self.router_of(vip).is_some_and(|report| {
            report.state == State::Active && report.lease.is_some_and(|lease| now < lease)
        })
    }

    pub(super) fn router_of(&self, vip: IpAddr) -> Option<RouterReport> {
        let reports = self.vrrp.as_ref()?.reports();
        reports.into_iter().find(|report| report.vips.contains(&vip))
    }

    /// Why a node began or ceased to answer for a VIP, as its router or its route says.
    pub(super) fn why_of(&self, vip: IpAddr) -> Option<String> {
        if self.publishes(vip).is_some() {
            return self.why_routed(vip);
        }
        Some(self.router_of(vip)?.changes.pop()?.why)
    }

    /// What there is to tell of a VIP's router; none where ownership is not by VRRP.
    pub(super) fn vrrp_status(&self, vip: &Vip) -> Option<VrrpStatus> {
        let Vrrp { router_id, interface, group, .. } = vip.vrrp.as_ref()?;
        let report = self.router_of(vip.address)?;
        let lease = report.lease.map(|lease| lease.saturating_duration_since(now()));
        let change = |change: &crate::ownership::Change| VrrpChange {
            time_ms: change.at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
            state: state(change.state),
            why: change.why.clone(),
        };
        Some(VrrpStatus {
            router_id: router_id.get(),
            interface: interface.clone(),
            group: group.clone(),
            state: state(report.state),
            priority: report.priority,
            base_priority: vip.vrrp.as_ref().map_or(0, |vrrp| vrrp.priority.get()),
            trackers: vip.vrrp.as_ref().map_or_else(Vec::new, |vrrp| self.trackers(vip, vrrp)),
            hindrance: report.hindrance,
            heard: report.heard,
            active: report
                .speaker
                .filter(|speaker| now() < speaker.until)
                .map(|speaker| VrrpSpeaker { address: speaker.address, priority: speaker.priority.get() }),
            handed_over: self
                .orders
                .handed_over()
                .get(&vip.address)
                .map(|&since_ms| HandedOverStatus { since_ms }),
            virtual_mac: vrrp_mac(vip, report.admitted),
            address_on: (report.holds && vip.is_plain()).then(|| interface.clone()),
            lease_ms: lease.map(|lease| lease.as_millis() as u64),
            changes: report.changes.iter().map(change).collect(),
            adverts_sent: report.sent,
            adverts_received: report.received,
            adverts_discarded: report
                .discarded
                .iter()
                .map(|(why, count)| ((*why).to_owned(), *count))
                .collect(),
            conflict: report.conflict,
            unheard: report.unheard,
        })
    }

    /// Nodes that speak for routers of this one, but for other addresses; and those that are seen to speak and not heard.
    pub(super) fn conflicts(&self) -> Vec<String> {
        let reports = self.vrrp.as_ref().map(crate::ownership::Task::reports).unwrap_or_default();
        reports.into_iter().flat_map(|report| [report.conflict, report.unheard]).flatten().collect()
    }

    /// Has the packet path note the adverts that are sent to this node's own addresses, as soon as these are known, or others.
    pub(super) fn follow_advert_addresses(&mut self) {
        if self.advert_addresses != advert_addresses(&self.config, self) {
            self.reconcile();
        }
    }
}

fn vrrp_mac(vip: &Vip, admitted: Option<Admitted>) -> Option<VirtualMacStatus> {
    let vrrp = vip.vrrp.as_ref().filter(|vrrp| vrrp.virtual_mac)?;
    Some(VirtualMacStatus {
        address: Router::of(vrrp.router_id.get(), vip.address).mac().to_string(),
        admitted: admitted.as_ref().is_some_and(|of| of.is_open),
        device: admitted.as_ref().and_then(|of| of.device.clone()),
        no_device: admitted.and_then(|of| of.why_none),
    })
}

fn state(state: State) -> VrrpState {
    match state {
        State::Initialize => VrrpState::Initialize,
        State::Backup => VrrpState::Backup,
        State::Active => VrrpState::Active,
    }
}

/// The routers of a configuration: the VIPs of one interface, family and identifier make one, those of one group name move together.
pub(super) fn groups(config: &Config) -> Vec<GroupSetup> {
    let mut routers: BTreeMap<(&str, Router), (RouterSetup, Option<&str>)> = BTreeMap::new();
    for vip in &config.vips {
        let Some(vrrp) = &vip.vrrp else { continue };
        let router = Router::of(vrrp.router_id.get(), vip.address);
        let (known, _) = match routers.entry((&vrrp.interface, router)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert((setup(router, vrrp, vip.address), vrrp.group.as_deref())),
        };
        known.vips.push(vip.address);
        if vip.is_plain() {
            known.addresses.insert(vip.address, vip.prefix_length());
        }
    }
    let mut groups: BTreeMap<String, GroupSetup> = BTreeMap::new();
    for (number, (router, group)) in routers.into_values().enumerate() {
        // No name of a group has a blank.
        let name = group.map_or_else(|| format!(" {number}"), str::to_owned);
        groups.entry(name).or_insert_with(|| GroupSetup { routers: Vec::new() }).routers.push(router);
    }
    groups.into_values().collect()
}

fn setup(router: Router, vrrp: &Vrrp, vip: IpAddr) -> RouterSetup {
    RouterSetup {
        router,
        interface: vrrp.interface.clone(),
        profile: Profile {
            priority: vrrp.priority,
            interval: vrrp.interval,
            preempt: vrrp.preempt == Preempt::Higher,
            preempt_delay: vrrp.preempt_delay,
            source: vip,
        },
        peers: vrrp.peers.clone(),
        pseudo_header: match vrrp.checksum {
            Checksum::PseudoHeader => PseudoHeader::Included,
            Checksum::Plain => PseudoHeader::LeftOut,
        },
        virtual_mac: vrrp.virtual_mac,
        refresh: vrrp.refresh,
        vips: Vec::new(),
        addresses: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn vips_of_one_router_move_together_and_groups_do() {
        let vip = |address: &str, id: u8, group: &str| {
            format!(
                "  - {{address: \"{address}\", ownership: vrrp, vrrp: {{router_id: {id}{group}}}, services: [{{name: \"s{}\", port: 80, mode: l2, backends: [{{name: b, address: \"{}\"}}]}}]}}\n",
                address.replace(':', "-"),
                if address.contains(':') { "2001:db8::b" } else { "10.0.0.9" }
            )
        };
        let text = [
            "node: {seed: a seed of eight, interfaces: [eth0]}\nvips:\n".to_owned(),
            vip("192.0.2.1", 7, ""),
            vip("192.0.2.2", 7, ""),
            vip("192.0.2.3", 8, ", group: both"),
            vip("2001:db8::3", 8, ", group: both"),
        ]
        .concat();
        let loaded = crate::config::parse(&text, Path::new("vip-lb.yaml"));
        let config = loaded.unwrap_or_else(|errors| panic!("{errors}")).config;
        let mut found: Vec<Vec<_>> = groups(&config)
            .into_iter()
            .map(|group| group.routers.into_iter().map(|router| (router.router, router.vips.len())).collect())
            .collect();
        found.sort();
        assert_eq!(found, [vec![(Router::V4(7), 2)], vec![(Router::V4(8), 1), (Router::V6(8), 1)]]);
    }
}
