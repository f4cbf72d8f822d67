//! Who else is at the VIPs that this node answers for: what is looked at where, and what is told of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant, UNIX_EPOCH},
};

use tracing::warn;
use vip_lb_common::abi::VirtualMac;

use super::{Daemon, now, wall_clock};
use crate::{
    api::model::{SecondOwner, SecondOwnerStatus},
    config::model::{Ownership, Vip},
    control::explain::mac,
    network::{Below, Interface, InterfaceKind, VlanTag},
    ownership::{
        Lookout, Other, Place, StampLink, StampLinks,
        vrrp::{Router, State},
    },
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
    /// By which links the packet path sees what comes to the interfaces of virtual routers.
    stamp_links: StampLinks,
}

impl Daemon {
    /// Looks who else is there, asks, and tells what has changed.
    pub(super) async fn look_out(&mut self) {
        let now = now();
        if self.looking.refresh_at.is_none_or(|at| now >= at) {
            self.look_up_interfaces().await;
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
        let mut own: BTreeSet<_> = self.looking.interfaces.iter().map(|interface| interface.mac).collect();
        own.extend(self.config.vips.iter().filter_map(router_mac).map(VirtualMac::octets));
        self.hear_speakers(now);
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

    /// Looks the interfaces of this host up, and tells the thread that speaks VRRP how the packet path names them.
    pub(super) async fn look_up_interfaces(&mut self) {
        match self.network.interfaces().await {
            Ok(interfaces) => self.looking.interfaces = interfaces,
            Err(error) => self.trouble(format!("cannot list the interfaces: {error}")),
        }
        let routers = self.config.vips.iter().filter_map(|vip| vip.vrrp.as_ref());
        let links: StampLinks = routers
            .map(|vrrp| (vrrp.interface.clone(), stamp_links(&vrrp.interface, &self.looking.interfaces)))
            .collect();
        if links != self.looking.stamp_links
            && let Some(task) = &self.vrrp
        {
            task.seen_by(links.clone());
            self.looking.stamp_links = links;
        }
    }

    /// Takes another active node for another owner, where both have the hardware address of their virtual router: what it answers cannot be told
    /// from what this node does, but its adverts can.
    fn hear_speakers(&mut self, now: Instant) {
        let reports = self.vrrp.as_ref().map(crate::ownership::Task::reports).unwrap_or_default();
        for report in reports.iter().filter(|report| report.state == State::Active) {
            let Some(speaker) = report.speaker.filter(|speaker| now < speaker.until) else { continue };
            for vip in self.config.vips.iter().filter(|vip| report.vips.contains(&vip.address)) {
                let Some(mac) = router_mac(vip).map(VirtualMac::octets) else { continue };
                for place in self.looking.answered.get(&vip.address).into_iter().flatten() {
                    self.looking.lookout.heard(vip.address, place, mac, now);
                    self.looking.hosts.insert((place.index, mac), Some(speaker.address));
                }
            }
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
                let announced = |place: &Place| Place {
                    announced: router_mac(vip).map_or(place.mac, VirtualMac::octets),
                    ..place.clone()
                };
                answered.insert(vip.address, places.iter().map(announced).collect());
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
            announced: of.mac,
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
                self.looking.hosts.insert(key, own_address(known.into_iter().filter(|of| !is_vip(of))));
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

/// The hardware address of a VIP's virtual router, if it has one.
fn router_mac(vip: &Vip) -> Option<VirtualMac> {
    let vrrp = vip.vrrp.as_ref().filter(|vrrp| vrrp.virtual_mac)?;
    Some(Router::of(vrrp.router_id.get(), vip.address).mac())
}

/// Of the addresses by which a host is known the one to name it by: the kernel tells them in any order, and of a link-local one people do not know whose it is.
fn own_address(known: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
    let is_link_local = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    known.min_by_key(|address| (is_link_local(address), *address))
}

fn key(other: &Other) -> (u32, [u8; 6]) {
    (other.place.index, other.mac)
}

/// By which devices, and in which VLAN on them, the packet path sees what comes to an interface: it runs below VLAN devices and macvlans, and on the members of
/// bonds, of which only those count that the bond receives by.
fn stamp_links(name: &str, all: &[Interface]) -> BTreeSet<StampLink> {
    let by_index = |index: u32| all.iter().find(|of| of.index == index);
    let (mut at, mut tag) = (all.iter().find(|of| of.name == name), None);
    // Nothing is on top of itself; whatever the kernel says, it ends.
    for _ in 0..all.len() {
        let Some(of) = at else { break };
        match of.kind {
            // Two tags, or one of a provider: the packet path notes none of these.
            InterfaceKind::Vlan { tag: VlanTag::Service, .. } => return BTreeSet::new(),
            InterfaceKind::Vlan { id, .. } if tag.replace(id).is_some() => return BTreeSet::new(),
            InterfaceKind::Vlan { .. } | InterfaceKind::Macvlan => {}
            InterfaceKind::Device
            | InterfaceKind::Veth
            | InterfaceKind::Bond(_)
            | InterfaceKind::Virtual(_) => break,
        }
        at = match of.below {
            Some(Below::Here(index)) => by_index(index),
            Some(Below::Elsewhere) | None => None,
        };
    }
    let Some(lowest) = at else { return BTreeSet::new() };
    let receives = |of: &&Interface| {
        of.index == lowest.index
            || of.bond_member.is_some_and(|member| member.bond == lowest.index && member.is_active)
    };
    let link = |of: &Interface| StampLink { interface: of.index, vlan: tag.unwrap_or(0) };
    all.iter().filter(receives).map(link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{BondMember, BondPolicy};

    #[test]
    fn a_host_is_named_by_the_same_address_in_whatever_order_the_kernel_tells_them() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let known = ["fe80::6", "2001:db8::7", "2001:db8::6"].map(address);
        for turn in 0..known.len() {
            let known = known.iter().cycle().skip(turn).take(known.len()).copied();
            assert_eq!(own_address(known), Some(address("2001:db8::6")), "turned by {turn}");
        }
        assert_eq!(own_address([address("fe80::6")].into_iter()), Some(address("fe80::6")));
        assert_eq!(own_address([].into_iter()), None);
    }

    #[test]
    fn the_packet_path_sees_below_what_a_router_speaks_by() {
        let vlan = |id| InterfaceKind::Vlan { id, tag: VlanTag::Customer };
        let on = |index, name, kind, below| Interface {
            kind,
            below: Some(Below::Here(below)),
            ..Interface::usual(index, name)
        };
        let member = |index, name, is_active| Interface {
            bond_member: Some(BondMember { bond: 4, is_active, link_is_up: true }),
            ..Interface::usual(index, name)
        };
        let service = InterfaceKind::Vlan { id: 7, tag: VlanTag::Service };
        let all = [
            Interface::usual(2, "eth0"),
            on(3, "eth0.7", vlan(7), 2),
            Interface { kind: InterfaceKind::Bond(BondPolicy::ActiveBackup), ..Interface::usual(4, "bond0") },
            member(5, "eth1", true),
            member(6, "eth2", false),
            on(7, "bond0.9", vlan(9), 4),
            on(8, "m0", InterfaceKind::Macvlan, 3),
            on(9, "eth0.7.8", vlan(8), 3),
            on(10, "eth0.s", service, 2),
            Interface { below: Some(Below::Elsewhere), ..on(11, "m1", InterfaceKind::Macvlan, 0) },
        ];
        for (name, expected) in [
            ("eth0", &[(2, 0)][..]),
            ("eth0.7", &[(2, 7)]),
            ("m0", &[(2, 7)]),
            ("bond0", &[(4, 0), (5, 0)]),
            ("bond0.9", &[(4, 9), (5, 9)]),
            ("eth0.7.8", &[]),
            ("eth0.s", &[]),
            ("m1", &[]),
            ("eth9", &[]),
        ] {
            let expected = expected.iter().map(|&(interface, vlan)| StampLink { interface, vlan });
            assert_eq!(stamp_links(name, &all), expected.collect(), "{name}");
        }
    }
}
