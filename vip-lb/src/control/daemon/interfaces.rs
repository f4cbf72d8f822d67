//! The interfaces a daemon serves: attached, listening to the right groups, with VLAN tags left in the frames.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, bail};
use tracing::{info, warn};
use vip_lb_common::abi::LinkAddress;

use super::bonds::{Bond, Next, members_of};
use crate::{
    api::model::{AttachedMode, BondStatus},
    config::{Config, model},
    dataplane::{Attachment, Dataplane, Write, XdpMode},
    network::{
        self, HostChanges, InterfaceKind, Network, NetworkEvent, SolicitedNodeMemberships, VlanRxOffload,
    },
};

/// An interface with the program on it.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    pub(super) interface: network::Interface,
    pub(super) attachment: Attachment,
    /// What was done about VLAN offload, for status.
    pub(super) vlan_offload: String,
    /// The bond that it was attached for, if it is a member of one.
    pub(super) bond: Option<String>,
}

/// A configured interface as it was looked up.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// One that is attached to itself.
    Plain(network::Interface),
    /// A bond, which is attached to by its members.
    Bond {
        /// The bond.
        device: network::Interface,
        /// Its members.
        members: Vec<network::Interface>,
    },
}

/// All of them.
pub(super) struct Interfaces {
    attached: BTreeMap<String, Attached>,
    bonds: BTreeMap<String, Bond>,
    memberships: SolicitedNodeMemberships,
    changes: HostChanges,
}

impl Interfaces {
    /// None yet. What is changed on them is recorded for the folder of pins, so that whoever unloads can undo it.
    pub(super) fn new(pins: &Path) -> Self {
        Self {
            attached: BTreeMap::new(),
            bonds: BTreeMap::new(),
            memberships: SolicitedNodeMemberships::new(),
            changes: HostChanges::of(pins),
        }
    }

    /// Looks the configured interfaces up, so that a wrong name is found before anything is changed.
    pub(super) async fn look_up(config: &Config, network: &Network) -> anyhow::Result<Vec<Found>> {
        let mut found = Vec::new();
        for wanted in &config.node.interfaces {
            let device = network.interface(&wanted.name).await?;
            found.push(match device.kind {
                InterfaceKind::Bond(_) => {
                    let all = network.interfaces().await.context("cannot list the interfaces")?;
                    Found::Bond { members: members_of(&device, &all), device }
                }
                _ => Found::Plain(device),
            });
        }
        Ok(found)
    }

    /// Attaches to all configured interfaces and detaches from all others. Members of bonds get their turn by [`Self::advance`]. `own` are
    /// addresses beside the VIPs that the program answers for.
    pub(super) fn apply(
        &mut self,
        config: &Config,
        own: &[IpAddr],
        found: Vec<Found>,
        dataplane: &mut Dataplane,
    ) -> anyhow::Result<()> {
        let wanted = names(&found);
        for name in dataplane.attached() {
            if !wanted.contains(&name) {
                self.detach(&name, dataplane)?;
            }
        }
        let configured = |name: &str| config.node.interfaces.iter().any(|wanted| wanted.name == name);
        for name in self.bonds.keys().filter(|name| !configured(name)).cloned().collect::<Vec<_>>() {
            self.forget_bond(&name)?;
        }
        for (wanted, found) in config.node.interfaces.iter().zip(found) {
            match found {
                Found::Plain(interface) => self.serve(wanted, interface, dataplane)?,
                Found::Bond { device, members } => self.serve_bond(wanted, device, members),
            }
        }
        self.join(config, own)
    }

    /// Takes note of a change. Tells whether a bond is concerned, so that there may be something to do.
    pub(super) fn network_changed(&mut self, event: &NetworkEvent) -> bool {
        let mut concerned = false;
        for bond in self.bonds.values_mut() {
            concerned |= bond.apply(event);
        }
        concerned
    }

    /// Asks for the members of all bonds anew.
    pub(super) async fn refresh(&mut self, network: &Network) -> anyhow::Result<()> {
        if self.bonds.is_empty() {
            return Ok(());
        }
        let all = network.interfaces().await.context("cannot list the interfaces")?;
        for bond in self.bonds.values_mut() {
            bond.set_members(members_of(&bond.device, &all));
        }
        Ok(())
    }

    /// Does what is due on the members of bonds: attaches to those whose turn it is, detaches from those that left, and lets those answer that
    /// the bond uses. Returns what went wrong.
    pub(super) fn advance(&mut self, dataplane: &mut Dataplane, now: Instant) -> Vec<anyhow::Error> {
        let mut errors = Vec::new();
        let mut bonds = std::mem::take(&mut self.bonds);
        for (name, bond) in &mut bonds {
            errors.extend(self.release_former(name, bond, dataplane).err());
            while let Next::Attach { member, is_last_link } =
                bond.next(&self.attached_for(name, &bond.wanted), &dataplane.attached(), now)
            {
                if is_last_link {
                    warn!(
                        bond = name,
                        member = member.name,
                        "no other member has a link: the bond may lose its own"
                    );
                }
                let index = member.index;
                match self.attach(&bond.wanted, member, Some(name), dataplane) {
                    Ok(attached) => {
                        let Attachment { mode, adopted, .. } = attached.attachment;
                        if mode == XdpMode::Native && !adopted {
                            bond.was_reset(index, now);
                        }
                        self.attached.insert(attached.interface.name.clone(), attached);
                    }
                    Err(error) => {
                        bond.fail(index, format!("{error:#}"));
                        errors.push(error);
                    }
                }
            }
            let writes = bond.answers();
            errors.extend(writes.iter().filter_map(|write| dataplane.write(write).err()));
        }
        self.bonds = bonds;
        errors
    }

    /// What an operator should know.
    pub(super) fn problems(&self) -> Vec<String> {
        let alone = self.attached.values().filter(|attached| attached.bond.is_none());
        let members = alone.filter(|attached| attached.interface.bond_member.is_some()).map(|attached| {
            format!(
                "{} is a member of a bond, whose state is not followed: name the bond in `node.interfaces`",
                attached.interface.name
            )
        });
        members.chain(self.bonds.values().flat_map(Bond::problems)).collect()
    }

    /// The bonds, for status.
    pub(super) fn bond_status(&self) -> Vec<BondStatus> {
        let mode = |index| Some(attached_mode(self.by_index(index)?.attachment.mode));
        self.bonds.values().map(|bond| bond.status(mode)).collect()
    }

    /// The interfaces by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Attached> {
        self.attached.values()
    }

    /// Whether a kernel index is one of ours.
    pub(super) fn by_index(&self, index: u32) -> Option<&Attached> {
        self.attached.values().find(|attached| attached.interface.index == index)
    }

    /// The name of an interface, ours or not.
    pub(super) fn name_of(&self, index: u32) -> Option<String> {
        match self.by_index(index) {
            Some(attached) => Some(attached.interface.name.clone()),
            None => network::interface_name(index),
        }
    }

    /// Undoes what was changed on the interfaces themselves.
    pub(super) fn restore(&self) {
        for name in self.attached.keys().chain(self.bonds.keys()) {
            self.undo(name);
        }
    }

    fn serve(
        &mut self,
        wanted: &model::Interface,
        interface: network::Interface,
        dataplane: &mut Dataplane,
    ) -> anyhow::Result<()> {
        let known = self.attached.get(&wanted.name);
        let stays = known.is_some_and(|known| {
            known.bond.is_none() && known.interface.index == interface.index && satisfies(known, wanted)
        });
        if stays {
            return Ok(());
        }
        let mac = LinkAddress::new(interface.mac);
        dataplane.write(&Write::Interface { index: interface.index, mac })?;
        let attached = self.attach(wanted, interface, None, dataplane)?;
        self.attached.insert(wanted.name.clone(), attached);
        Ok(())
    }

    fn serve_bond(
        &mut self,
        wanted: &model::Interface,
        device: network::Interface,
        members: Vec<network::Interface>,
    ) {
        match self.bonds.get_mut(&wanted.name) {
            Some(bond) if bond.device.index == device.index => {
                bond.wanted = wanted.clone();
                bond.device = device;
                bond.set_members(members);
                bond.retry();
            }
            _ => {
                let bond = Bond::new(wanted.clone(), device, members);
                self.bonds.insert(wanted.name.clone(), bond);
            }
        }
    }

    fn forget_bond(&mut self, name: &str) -> anyhow::Result<()> {
        if let Some(bond) = self.bonds.remove(name) {
            self.memberships
                .set(bond.device.index, &[])
                .with_context(|| format!("cannot leave the multicast groups of {name}"))?;
            self.undo(name);
        }
        Ok(())
    }

    /// Detaches from interfaces that were members of a bond and are none any more.
    fn release_former(&mut self, name: &str, bond: &Bond, dataplane: &mut Dataplane) -> anyhow::Result<()> {
        let members: BTreeSet<u32> = bond.members().map(|member| member.index).collect();
        let former: Vec<String> = self
            .attached
            .values()
            .filter(|attached| attached.bond.as_deref() == Some(name))
            .filter(|attached| !members.contains(&attached.interface.index))
            .map(|attached| attached.interface.name.clone())
            .collect();
        former.iter().try_for_each(|name| self.detach(name, dataplane))
    }

    /// The members of a bond that have the program as it is wanted.
    fn attached_for(&self, bond: &str, wanted: &model::Interface) -> BTreeSet<u32> {
        let of_bond = self.attached.values().filter(|attached| attached.bond.as_deref() == Some(bond));
        of_bond
            .filter(|attached| satisfies(attached, wanted))
            .map(|attached| attached.interface.index)
            .collect()
    }

    fn detach(&mut self, name: &str, dataplane: &mut Dataplane) -> anyhow::Result<()> {
        dataplane.detach(name)?;
        if let Some(attached) = self.attached.remove(name) {
            dataplane.write(&Write::RemoveInterface(attached.interface.index))?;
            self.memberships
                .set(attached.interface.index, &[])
                .with_context(|| format!("cannot leave the multicast groups of {name}"))?;
        }
        self.undo(name);
        info!(interface = name, "detached");
        Ok(())
    }

    /// Lets neighbour solicitations for the IPv6 VIPs in: cards filter multicast, and switches that snoop need to be told.
    pub(super) fn join(&mut self, config: &Config, own: &[IpAddr]) -> anyhow::Result<()> {
        let addresses: Vec<Ipv6Addr> = config
            .vips
            .iter()
            .map(|vip| vip.address)
            .chain(own.iter().copied())
            .filter_map(|address| match address {
                IpAddr::V6(address) => Some(address),
                IpAddr::V4(_) => None,
            })
            .collect();
        // What a bond lets in it asks its members for.
        let plain = self.attached.values().filter(|attached| attached.bond.is_none());
        let devices = plain.map(|attached| &attached.interface);
        for interface in devices.chain(self.bonds.values().map(|bond| &bond.device)) {
            // A membership tells switches but ends with this process; the filter entry stays as long as the program.
            self.memberships.set(interface.index, &addresses).with_context(|| {
                format!("cannot join the solicited-node groups of the VIPs on {}", interface.name)
            })?;
            self.changes.admit(&interface.name, interface.index, &addresses)?;
        }
        Ok(())
    }

    fn attach(
        &self,
        wanted: &model::Interface,
        interface: network::Interface,
        bond: Option<&str>,
        dataplane: &mut Dataplane,
    ) -> anyhow::Result<Attached> {
        let name = &interface.name;
        if !interface.is_up {
            warn!(interface = name, "the interface is down: nothing comes in until it is up");
        }
        let vlan_offload = match self.changes.turn_off_vlan_rx_offload(name, interface.index)? {
            VlanRxOffload::AlreadyOff => "off",
            VlanRxOffload::TurnedOff(_) => "turned off",
            VlanRxOffload::Refused(reason) => bail!(
                "cannot attach to {name}: its VLAN tag offload stays on ({reason}), and would hide the tags of received \
                 frames from the program"
            ),
        };
        let attachment = dataplane.attach(name, interface.index, wanted.attach)?;
        match &attachment.fallback_reason {
            Some(reason) => warn!(
                interface = name,
                reason,
                "attached in generic mode, which is much slower: the driver does not take the program"
            ),
            None => info!(
                interface = name,
                mode = attachment.mode.name(),
                taken_over = attachment.adopted,
                bond,
                "attached"
            ),
        }
        Ok(Attached {
            interface,
            attachment,
            vlan_offload: vlan_offload.to_owned(),
            bond: bond.map(str::to_owned),
        })
    }

    fn undo(&self, name: &str) {
        if let Err(error) = self.changes.undo(name) {
            warn!(interface = name, %error, "cannot undo what was changed on the interface");
        }
    }
}

/// The names of all interfaces that may have the program.
fn names(found: &[Found]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for found in found {
        match found {
            Found::Plain(interface) => drop(names.insert(interface.name.clone())),
            Found::Bond { members, .. } => names.extend(members.iter().map(|member| member.name.clone())),
        }
    }
    names
}

/// The mode as status tells it.
pub(super) fn attached_mode(mode: XdpMode) -> AttachedMode {
    match mode {
        XdpMode::Native => AttachedMode::Native,
        XdpMode::Generic => AttachedMode::Generic,
    }
}

fn satisfies(known: &Attached, wanted: &model::Interface) -> bool {
    match wanted.attach {
        model::AttachMode::Auto => true,
        model::AttachMode::Native => known.attachment.mode == XdpMode::Native,
        model::AttachMode::Generic => known.attachment.mode == XdpMode::Generic,
    }
}
