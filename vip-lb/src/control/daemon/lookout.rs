//! Who else is at the VIPs that this node answers for: what is looked at where, and what is told of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant, UNIX_EPOCH},
};

use tracing::warn;

use super::{Daemon, now, wall_clock};
use crate::{
    api::model::{SecondOwner, SecondOwnerStatus},
    config::model::Ownership,
    control::explain::mac,
    network::{Below, Interface, InterfaceKind},
    ownership::{Lookout, Other, Place, vrrp::State},
};

/// How often the interfaces of this host are looked up.
const REFRESH: Duration = Duration::from_secs(5);

/// What looks, and what it needs of the host.
#[derive(Default)]
pub(super) struct Looking {
    lookout: Lookout,
    interfaces: Vec<Interface>,
    refresh_at: Option<Instant>,
    answered: BTreeMap<IpAddr, BTreeSet<Place>>,
    /// An address of its own that others were known by when they were found.
    hosts: BTreeMap<(u32, [u8; 6]), Option<IpAddr>>,
    told: BTreeSet<String>,
    conflicts: Vec<String>,
}

impl Daemon {
    /// Looks who else is there, asks, and tells what has changed.
    pub(super) async fn look_out(&mut self) {
        let now = now();
        if self.looking.refresh_at.is_none_or(|at| now >= at) {
            match self.network.interfaces().await {
                Ok(interfaces) => self.looking.interfaces = interfaces,
                Err(error) => self.trouble(format!("cannot list the interfaces: {error}")),
            }
            self.looking.refresh_at = Some(now + REFRESH);
        }
        let answered = self.answered_where();
        let mut errors = Vec::new();
        if answered != self.looking.answered {
            let configured: BTreeSet<_> = self.config.vips.iter().map(|vip| vip.address).collect();
            let is_configured = |vip| configured.contains(&vip);
            errors = self.looking.lookout.answered(answered.clone(), is_configured, now);
            self.looking.answered = answered;
        }
        let own: BTreeSet<_> = self.looking.interfaces.iter().map(|interface| interface.mac).collect();
        errors.extend(self.looking.lookout.look(|mac| own.contains(&mac), now));
        for error in errors {
            self.trouble(format!("{error:#}"));
        }
        self.look_up_hosts().await;
        if self.observed.second_owners != self.second_owners() {
            self.tell_changes();
        }
        let conflicts = self.conflicts();
        if conflicts != self.looking.conflicts {
            self.looking.conflicts = conflicts;
            self.report_problems();
        }
    }

    /// Once, so that a fault that stays does not fill the log.
    fn trouble(&mut self, text: String) {
        if !self.looking.told.contains(&text) {
            warn!("{text}");
            self.looking.told.insert(text);
        }
    }

    /// The VIPs that this node answers for by ARP and neighbour advertisements, with the links where it does: that of the virtual router; or all
    /// that the program is attached to, and the VLANs on them that this host is in.
    fn answered_where(&self) -> BTreeMap<IpAddr, BTreeSet<Place>> {
        let reports = self.vrrp.as_ref().map(crate::ownership::Task::reports).unwrap_or_default();
        let at = now();
        let is_active = |report: &&crate::ownership::RouterReport| {
            report.state == State::Active && report.lease.is_some_and(|lease| at < lease)
        };
        let active: BTreeSet<_> = reports.iter().filter(is_active).flat_map(|report| &report.vips).collect();
        let configured: BTreeSet<_> =
            self.config.node.interfaces.iter().map(|wanted| wanted.name.as_str()).collect();
        let everywhere = self.places(&configured, true);
        let mut links: BTreeMap<&str, BTreeSet<Place>> = BTreeMap::new();
        let mut answered = BTreeMap::new();
        for vip in &self.config.vips {
            if !self.claims.get(&vip.address).is_some_and(|claim| claim.is_wanted()) {
                continue;
            }
            if vip.ownership == Ownership::Always {
                answered.insert(vip.address, everywhere.clone());
            } else if let Some(vrrp) = vip.vrrp.as_ref().filter(|_| active.contains(&vip.address)) {
                let only = || self.places(&[vrrp.interface.as_str()].into(), false);
                let places = links.entry(&vrrp.interface).or_insert_with(only);
                answered.insert(vip.address, places.clone());
            }
        }
        answered
    }

    fn places(&self, names: &BTreeSet<&str>, with_vlans: bool) -> BTreeSet<Place> {
        let all = &self.looking.interfaces;
        let named = |of: &&Interface| names.contains(of.name.as_str());
        let below: Vec<_> = all.iter().filter(named).map(|of| Below::Here(of.index)).collect();
        let is_vlan = |of: &Interface| matches!(of.kind, InterfaceKind::Vlan { .. });
        let is_on = |of: &Interface| is_vlan(of) && of.below.is_some_and(|at| below.contains(&at));
        let found = all.iter().filter(|of| named(of) || with_vlans && is_on(of));
        let place = |of: &Interface| Place {
            index: of.index,
            interface: of.name.clone(),
            vlan: if let InterfaceKind::Vlan { id, .. } = of.kind { Some(id) } else { None },
            mac: of.mac,
        };
        found.filter(|of| of.is_up && of.has_carrier).map(place).collect()
    }

    /// Finds out by which address of its own another owner is known here, if this host has spoken with it.
    async fn look_up_hosts(&mut self) {
        let all: Vec<_> = self.looking.lookout.others().all().map(|(_, other)| key(other)).collect();
        self.looking.hosts.retain(|known, _| all.contains(known));
        for key in all {
            if !self.looking.hosts.contains_key(&key) {
                let known = self.network.addresses_at(key.0, key.1).await.unwrap_or_default();
                let is_vip = |address: &IpAddr| self.config.vips.iter().any(|vip| vip.address == *address);
                self.looking.hosts.insert(key, known.into_iter().find(|address| !is_vip(address)));
            }
        }
    }

    fn second_owner(&self, other: &Other) -> SecondOwner {
        SecondOwner {
            mac: mac(&other.mac),
            interface: other.place.interface.clone(),
            vlan: other.place.vlan,
            host: self.looking.hosts.get(&key(other)).copied().flatten(),
        }
    }

    /// All others by VIP.
    pub(super) fn second_owners(&self) -> BTreeSet<(IpAddr, SecondOwner)> {
        self.looking.lookout.others().all().map(|(vip, other)| (vip, self.second_owner(other))).collect()
    }

    /// Who else has a VIP, for the status.
    pub(super) fn second_owner_status(&self, vip: IpAddr) -> Vec<SecondOwnerStatus> {
        let (now, wall) = (now(), wall_clock());
        let milliseconds = |at: Instant| {
            let time = wall.checked_sub(now.saturating_duration_since(at)).unwrap_or(wall);
            time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
        };
        let status = |other: &Other| SecondOwnerStatus {
            owner: self.second_owner(other),
            since_ms: milliseconds(other.since),
            last_ms: milliseconds(other.last),
        };
        self.looking.lookout.others().of(vip).map(status).collect()
    }

    /// How often a second owner was found at a VIP.
    pub(super) fn second_owners_found(&self, vip: IpAddr) -> u64 {
        self.looking.lookout.others().found(vip)
    }

    /// What an operator should know of them.
    pub(super) fn second_owner_warnings(&self) -> Vec<String> {
        self.second_owners()
            .into_iter()
            .map(|(vip, owner)| format!("{vip} is also held by {owner}"))
            .collect()
    }
}

fn key(other: &Other) -> (u32, [u8; 6]) {
    (other.place.index, other.mac)
}
