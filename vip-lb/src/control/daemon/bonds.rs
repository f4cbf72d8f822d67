//! The bonds that a daemon serves by their members.
//!
//! On the bond itself a program would come onto all members at once, and the bond would lose its link for as long as the cards take to reset.
//! So each member gets it by itself, at the pace of [`Pacer`]; the kernel allows one or the other.
//!
//! What a member receives is of two kinds: the bond takes it, or the bond ignores it because the member stands by. A frame that reaches a member
//! standing by must not be answered there, or the switch would look for the bond behind the wrong port. So only members that the bond uses have
//! an entry in INTERFACES, without which the program answers neither ARP nor neighbour solicitations.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use vip_lb_common::abi::LinkAddress;

use crate::{
    api::model::{AttachedMode, BondMemberState, BondMemberStatus, BondStatus},
    config::model,
    control::pacing::{Member, Pacer, Step},
    dataplane::Write,
    network::{BondPolicy, Interface, InterfaceKind, NetworkEvent},
};

/// What to do with the program of one bond next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Attach to this member.
    Attach {
        member: Interface,
        /// No other member carries.
        is_last_link: bool,
    },
    /// Nothing for now.
    Rest,
}

/// A bond in the configuration.
#[derive(Debug)]
pub(super) struct Bond {
    /// The configured interface.
    pub(super) wanted: model::Interface,
    /// The bond itself.
    pub(super) device: Interface,
    members: BTreeMap<u32, Interface>,
    /// The pace at which members get the program.
    pacer: Pacer,
    /// Members that do not take the program, and why. They are not tried again until they come anew.
    failed: BTreeMap<u32, String>,
    /// What INTERFACES has for members.
    answering: BTreeMap<u32, [u8; 6]>,
}

impl Bond {
    /// A bond with its members as they are now.
    pub(super) fn new(wanted: model::Interface, device: Interface, members: Vec<Interface>) -> Self {
        let mut bond = Self {
            wanted,
            device,
            members: BTreeMap::new(),
            pacer: Pacer::default(),
            failed: BTreeMap::new(),
            answering: BTreeMap::new(),
        };
        bond.set_members(members);
        bond
    }

    /// Replaces what is known of the members, after notifications were lost or not heard yet.
    pub(super) fn set_members(&mut self, members: Vec<Interface>) {
        self.members = members.into_iter().map(|member| (member.index, member)).collect();
        self.failed.retain(|index, _| self.members.contains_key(index));
    }

    /// Takes note of a change. Tells whether it concerns this bond.
    pub(super) fn apply(&mut self, event: &NetworkEvent) -> bool {
        let NetworkEvent::LinkChanged { ifindex, interface } = event else {
            return false;
        };
        match interface {
            Some(interface) if *ifindex == self.device.index => {
                let changed = self.device != *interface;
                self.device = interface.clone();
                changed
            }
            Some(interface) if is_member(interface, &self.device) => {
                self.members.insert(*ifindex, interface.clone()).as_ref() != Some(interface)
            }
            _ => {
                self.failed.remove(ifindex);
                self.members.remove(ifindex).is_some()
            }
        }
    }

    /// The members, in the order of their indices.
    pub(super) fn members(&self) -> impl Iterator<Item = &Interface> {
        self.members.values()
    }

    /// The next step. Names of interfaces with a pinned link of ours are in `pinned`.
    pub(super) fn next(&mut self, attached: &BTreeSet<u32>, pinned: &[String], now: Instant) -> Next {
        let generic = self.wanted.attach == model::AttachMode::Generic;
        let members = self.for_pacer(
            |member| attached.contains(&member.index),
            |member| generic || pinned.contains(&member.name),
        );
        match self.pacer.next(&members, now) {
            Step::Attach { member, is_last_link } => match self.members.get(&member) {
                Some(member) => Next::Attach { member: member.clone(), is_last_link },
                None => Next::Rest,
            },
            Step::Wait { .. } | Step::Done => Next::Rest,
        }
    }

    /// Takes note that a member got the program in a way that may have reset its card.
    pub(super) fn was_reset(&mut self, index: u32, now: Instant) {
        let members = self.for_pacer(|_| true, |_| false);
        if let Some(member) = members.iter().find(|member| member.index == index) {
            self.pacer.attached(member, now);
        }
    }

    /// The members that may get the program, as the pacer wants to know them.
    fn for_pacer(
        &self,
        is_attached: impl Fn(&Interface) -> bool,
        keeps_link: impl Fn(&Interface) -> bool,
    ) -> Vec<Member> {
        let takes_it = self.members.values().filter(|member| !self.failed.contains_key(&member.index));
        takes_it
            .map(|member| Member {
                index: member.index,
                is_active: is_active(member),
                carries: self.carries(member),
                is_attached: is_attached(member),
                keeps_link: keeps_link(member),
            })
            .collect()
    }

    /// Remembers that a member does not take the program.
    pub(super) fn fail(&mut self, index: u32, reason: String) {
        self.failed.insert(index, reason);
    }

    /// Has every member that failed tried again.
    pub(super) fn retry(&mut self) {
        self.failed.clear();
    }

    /// What INTERFACES lacks for the members to answer, or has too much: those that the bond uses answer, with the bond's own address.
    pub(super) fn answers(&mut self) -> Vec<Write> {
        let wanted: BTreeMap<u32, [u8; 6]> = self
            .members
            .values()
            .filter(|member| is_active(member))
            .map(|member| (member.index, self.device.mac))
            .collect();
        let gone = self.answering.keys().filter(|index| !wanted.contains_key(index));
        let mut writes: Vec<Write> = gone.map(|&index| Write::RemoveInterface(index)).collect();
        let changed = wanted.iter().filter(|(index, mac)| self.answering.get(index) != Some(*mac));
        writes.extend(changed.map(|(&index, &mac)| Write::Interface { index, mac: LinkAddress::new(mac) }));
        self.answering = wanted;
        writes
    }

    /// What an operator should know.
    pub(super) fn problems(&self) -> Vec<String> {
        let name = &self.device.name;
        let mut problems = Vec::new();
        if self.members.is_empty() {
            problems.push(format!("{name} has no members: nothing comes in until it has"));
        }
        if self.device.kind == InterfaceKind::Bond(BondPolicy::Unsupported) {
            problems.push(format!(
                "{name} is in a mode that XDP cannot send by: what has a route by it is dropped in native mode; use \
                 active-backup, 802.3ad, balance-xor or balance-rr"
            ));
        }
        for (index, reason) in &self.failed {
            let member = self.members.get(index).map_or("?", |member| member.name.as_str());
            problems.push(format!("{member}, a member of {name}, is without the program: {reason}"));
        }
        problems
    }

    /// The bond as status shows it. `attached` says in which mode the program is on a member.
    pub(super) fn status(&self, attached: impl Fn(u32) -> Option<AttachedMode>) -> BondStatus {
        let members = self.members.values().map(|member| BondMemberStatus {
            name: member.name.clone(),
            index: member.index,
            state: match (self.carries(member), is_active(member)) {
                (false, _) => BondMemberState::Down,
                (true, true) => BondMemberState::Active,
                (true, false) => BondMemberState::Standby,
            },
            mode: attached(member.index),
            awaited: self.pacer.awaited() == Some(member.index),
        });
        BondStatus { name: self.device.name.clone(), index: self.device.index, members: members.collect() }
    }

    /// Whether the bond could send by the member.
    fn carries(&self, member: &Interface) -> bool {
        let has_link =
            member.is_up && member.has_carrier && member.bond_member.is_some_and(|member| member.link_is_up);
        // Only in active-backup mode a member that is not in use is as good as one that is.
        has_link && (is_active(member) || self.device.kind == InterfaceKind::Bond(BondPolicy::ActiveBackup))
    }
}

/// Those of all interfaces that are members of a bond.
pub(super) fn members_of(bond: &Interface, interfaces: &[Interface]) -> Vec<Interface> {
    interfaces.iter().filter(|interface| is_member(interface, bond)).cloned().collect()
}

fn is_member(interface: &Interface, bond: &Interface) -> bool {
    interface.bond_member.is_some_and(|member| member.bond == bond.index)
}

fn is_active(member: &Interface) -> bool {
    member.bond_member.is_some_and(|member| member.is_active)
}

#[cfg(test)]
mod tests;
