//! The interfaces a daemon serves: attached, listening to the right groups, with VLAN tags left in the frames.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    path::Path,
};

use anyhow::{Context as _, bail};
use tracing::{info, warn};
use vip_lb_common::abi::LinkAddress;

use crate::{
    config::{Config, model},
    dataplane::{Attachment, Dataplane, Write, XdpMode},
    network::{self, HostChanges, Network, SolicitedNodeMemberships, VlanRxOffload},
};

/// An interface with the program on it.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    pub(super) interface: network::Interface,
    pub(super) attachment: Attachment,
    /// What was done about VLAN offload, for status.
    pub(super) vlan_offload: String,
}

/// All of them.
pub(super) struct Interfaces {
    attached: BTreeMap<String, Attached>,
    memberships: SolicitedNodeMemberships,
    changes: HostChanges,
}

impl Interfaces {
    /// None yet. What is changed on them is recorded for the folder of pins, so that whoever unloads can undo it.
    pub(super) fn new(pins: &Path) -> Self {
        Self {
            attached: BTreeMap::new(),
            memberships: SolicitedNodeMemberships::new(),
            changes: HostChanges::of(pins),
        }
    }

    /// Looks the configured interfaces up, so that a wrong name is found before anything is changed.
    pub(super) async fn look_up(
        config: &Config,
        network: &Network,
    ) -> anyhow::Result<Vec<network::Interface>> {
        let mut found = Vec::new();
        for wanted in &config.node.interfaces {
            found.push(network.interface(&wanted.name).await?);
        }
        Ok(found)
    }

    /// Attaches to all configured interfaces and detaches from all others. `own` are addresses beside the VIPs that the program
    /// answers for.
    pub(super) fn apply(
        &mut self,
        config: &Config,
        own: &[IpAddr],
        found: Vec<network::Interface>,
        dataplane: &mut Dataplane,
    ) -> anyhow::Result<()> {
        for name in dataplane.attached() {
            if !config.node.interfaces.iter().any(|wanted| wanted.name == name) {
                self.detach(&name, dataplane)?;
            }
        }
        for (wanted, interface) in config.node.interfaces.iter().zip(found) {
            let known = self.attached.get(&wanted.name);
            if known.is_some_and(|known| known.interface.index == interface.index && satisfies(known, wanted))
            {
                continue;
            }
            let attached = self.attach(wanted, interface, dataplane)?;
            self.attached.insert(wanted.name.clone(), attached);
        }
        self.join(config, own)
    }

    /// The interfaces by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Attached> {
        self.attached.values()
    }

    /// Whether a kernel index is one of ours.
    pub(super) fn by_index(&self, index: u32) -> Option<&Attached> {
        self.attached.values().find(|attached| attached.interface.index == index)
    }

    /// Undoes what was changed on the interfaces themselves.
    pub(super) fn restore(&self) {
        for name in self.attached.keys() {
            self.undo(name);
        }
    }

    fn detach(&mut self, name: &str, dataplane: &mut Dataplane) -> anyhow::Result<()> {
        dataplane.detach(name)?;
        if let Some(attached) = self.attached.remove(name) {
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
        for Attached { interface, .. } in self.attached.values() {
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
        dataplane: &mut Dataplane,
    ) -> anyhow::Result<Attached> {
        let name = &wanted.name;
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
        let mac = LinkAddress::new(interface.mac);
        dataplane.write(&Write::Interface { index: interface.index, mac })?;
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
                "attached"
            ),
        }
        Ok(Attached { interface, attachment, vlan_offload: vlan_offload.to_owned() })
    }

    fn undo(&self, name: &str) {
        if let Err(error) = self.changes.undo(name) {
            warn!(interface = name, %error, "cannot undo what was changed on the interface");
        }
    }
}

fn satisfies(known: &Attached, wanted: &model::Interface) -> bool {
    match wanted.attach {
        model::AttachMode::Auto => true,
        model::AttachMode::Native => known.attachment.mode == XdpMode::Native,
        model::AttachMode::Generic => known.attachment.mode == XdpMode::Generic,
    }
}
