//! Two nodes, one of which has the VIP: vip-lb's, or keepalived's.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use super::LIMIT;
use crate::lab::{
    ConfigFile, EchoServer, Family, Keepalived, Mode, Node, Site, SiteOptions, UdpProbes, VrrpConfig,
    keepalived_version, patience, vip, wait_for,
};

/// Whose nodes they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// vip-lb's: the VIP is a service with backends behind it.
    VipLb,
    /// keepalived's: the VIP is an address of the node that has it, and answered there.
    Keepalived,
}

/// A virtual router of two nodes. The first one has the higher priority, and neither takes the place of one that works.
pub struct Pair {
    /// The nodes, with the client and the backends.
    pub site: Site,
    /// The one and the other, where they run.
    pub(super) keepalived: [Option<Keepalived>; 2],
    echo: Vec<EchoServer>,
    interval_ms: u32,
    priorities: [u8; 2],
}

impl Pair {
    /// Starts both, and waits until the first one is active, the other one knows it and the client has found it.
    ///
    /// # Errors
    ///
    /// The lab cannot be set up, or they do not get there.
    pub fn start(kind: Kind, interval_ms: u32, priorities: [u8; 2]) -> Result<Self> {
        Self::start_with(kind, Family::V4, interval_ms, priorities, |_, _, config| Ok(config))
    }

    /// Two of our nodes that speak with each other and agree, with all slots closed. `share` is what they have in common, by default
    /// all there is.
    ///
    /// # Errors
    ///
    /// As [`Pair::start`].
    pub fn of_peers(family: Family, share: Option<&[&str]>) -> Result<Self> {
        let pair = Self::start_with(Kind::VipLb, family, 100, [200, 100], |site, edge, config| {
            let mut config = site.with_peers(&config, edge, &site.secret("secret")?);
            if let Some(peering) = &mut config.node.peering {
                peering.share = share.map(|share| share.iter().map(ToString::to_string).collect());
            }
            Ok(config)
        })?;
        pair.site.wait_agreement()?;
        pair.wait_settled()?;
        Ok(pair)
    }

    /// As [`Pair::start`], with something else in the configuration of each of our nodes.
    ///
    /// # Errors
    ///
    /// As [`Pair::start`].
    pub fn start_with(
        kind: Kind,
        family: Family,
        interval_ms: u32,
        priorities: [u8; 2],
        change: impl Fn(&Site, usize, ConfigFile) -> Result<ConfigFile>,
    ) -> Result<Self> {
        let options = SiteOptions { edges: 2, ..SiteOptions::new(Mode::L2, family)? };
        let site = Site::without_daemons(options)?;
        let mut pair = Self { site, keepalived: [None, None], echo: Vec::new(), interval_ms, priorities };
        match kind {
            Kind::VipLb => pair.start_daemons(&change)?,
            Kind::Keepalived => {
                for edge in 0..2 {
                    pair.serve_at(edge)?;
                    pair.start_keepalived(edge)?;
                    pair.wait_owner(0)?;
                }
            }
        }
        pair.site.wait_found_at(0)?;
        Ok(pair)
    }

    fn start_daemons(
        &mut self,
        change: &dyn Fn(&Site, usize, ConfigFile) -> Result<ConfigFile>,
    ) -> Result<()> {
        let mut configs: Vec<ConfigFile> =
            (0..2).map(|edge| change(&self.site, edge, self.config_of(edge))).collect::<Result<_>>()?;
        // Peers begin at the same moment, when they have heard each other, so the first one may find the other one active.
        for config in configs.iter_mut().filter(|config| config.node.peering.is_some()) {
            config.vips[0].vrrp.as_mut().context("a router")?.preempt = None;
        }
        self.site.start_daemons_with(|edge| configs[edge].clone())?;
        self.site.wait_router(0, "active")?;
        self.site.wait_router(1, "backup")
    }

    fn config_of(&self, edge: usize) -> ConfigFile {
        let mut config = self.site.options.config(&[100, 100, 200]).of_edge(edge);
        config.vips[0].ownership = Some("vrrp".to_owned());
        config.vips[0].vrrp = Some(VrrpConfig {
            router_id: ROUTER,
            priority: Some(self.priorities[edge]),
            interval: Some(format!("{}ms", self.interval_ms * patience())),
            preempt: Some("never".to_owned()),
            ..VrrpConfig::default()
        });
        config
    }

    /// Gives the backends other weights, at the second node first, and waits until slots are open at both nodes, and these agree again.
    ///
    /// # Errors
    ///
    /// A daemon refuses them, or they do not get there.
    pub fn change_weights(&self, weights: [u16; 3]) -> Result<()> {
        for daemon in self.site.daemons.iter().rev() {
            let mut config = ConfigFile::from_yaml(&daemon.config_text()?)?;
            for service in config.services_mut() {
                service
                    .backends
                    .iter_mut()
                    .zip(weights)
                    .for_each(|(backend, weight)| backend.weight = weight);
            }
            daemon.reload(&config)?;
        }
        // Those of a service without clients may be closed again already.
        self.wait_open_slots(&["echo", "echo-udp"], "open", |open| open > 0)?;
        self.site.wait_agreement()
    }

    /// Waits until all slots are closed at both of our nodes.
    ///
    /// # Errors
    ///
    /// Some stay open.
    pub fn wait_settled(&self) -> Result<()> {
        self.wait_open_slots(&["web", "echo", "echo-udp"], "closed", |open| open == 0)
    }

    fn wait_open_slots(&self, services: &[&str], what: &str, holds: impl Fn(u32) -> bool) -> Result<()> {
        for daemon in &self.site.daemons {
            for service in services {
                daemon.wait_service(service, &format!("slots {what}"), LIMIT, |of| holds(of.open_slots))?;
            }
        }
        Ok(())
    }

    /// Has the first of our nodes hand the VIP over to the second one, or take it back, and waits until the client has found it.
    ///
    /// # Errors
    ///
    /// It does not move.
    pub fn move_to(&self, edge: usize) -> Result<()> {
        let vip = vip(self.site.options.family).to_string();
        let back = if edge == 0 { &["--back"][..] } else { &[] };
        self.site.daemons[0].ask(&[&["handover", &vip], back].concat())?;
        self.wait_owner(edge)?;
        self.site.wait_found_at(edge)
    }

    /// An echo server at the VIP, whether the node has it yet or not.
    fn serve_at(&mut self, edge: usize) -> Result<()> {
        let node = &mut self.site.lab.edges[edge];
        for family in ["ipv4", "ipv6"] {
            node.namespace.sysctl(&format!("net/{family}/ip_nonlocal_bind"), "1")?;
        }
        node.note_vips(true);
        self.echo.push(EchoServer::start(node)?);
        Ok(())
    }

    /// Starts keepalived on a node.
    pub(super) fn start_keepalived(&mut self, edge: usize) -> Result<()> {
        let config = format!(
            "global_defs {{\n router_id node{edge}\n vrrp_version 3\n}}\n\
             vrrp_instance pair {{\n state BACKUP\n nopreempt\n interface {}\n virtual_router_id {ROUTER}\n priority {}\n \
             advert_int {}\n version 3\n virtual_ipaddress {{\n {}\n }}\n}}\n",
            Node::DEVICE,
            self.priorities[edge],
            f64::from(self.interval_ms * patience()) / 1000.0,
            vip(Family::V4),
        );
        let Site { lab, .. } = &self.site;
        self.keepalived[edge] = Some(Keepalived::start(&lab.edges[edge], &lab.scratch, &config)?);
        Ok(())
    }

    /// A datagram each millisecond from the client.
    pub(super) fn probes(&self) -> Result<UdpProbes> {
        UdpProbes::start(&self.site.lab.client.namespace, self.target(), super::EVERY * patience())
    }

    fn target(&self) -> SocketAddr {
        self.site.echo()
    }

    /// Waits until this node has the VIP, and the other one has it not.
    ///
    /// # Errors
    ///
    /// It does not get there, or cannot be asked.
    pub fn wait_owner(&self, edge: usize) -> Result<()> {
        let mut last = Vec::new();
        wait_for(&format!("node {} to have the VIP alone", edge + 1), LIMIT, || {
            last = (0..2).map(|node| self.has_vip(node)).collect::<Result<_>>()?;
            Ok(((last[edge], last[1 - edge]) == (true, false)).then_some(()))
        })
        .with_context(|| format!("last seen: {last:?}"))
    }

    /// Whether a node answers for the VIP, or has it on its interface.
    ///
    /// # Errors
    ///
    /// It cannot be asked.
    pub fn has_vip(&self, edge: usize) -> Result<bool> {
        if let Some(daemon) = self.site.daemons.get(edge) {
            return Ok(daemon.status()?.vips[0].answering);
        }
        let addresses = self.site.lab.edges[edge].namespace.ip(&["addr", "show", "dev", Node::DEVICE])?;
        Ok(addresses.contains(&format!("{}/", vip(self.site.options.family))))
    }

    /// Has the client ask anew who has the VIP, which this node has alone.
    pub(super) fn found_anew_at(&self, edge: usize) -> Result<()> {
        self.site.lab.client.namespace.ip(&[
            "neigh",
            "del",
            &vip(self.site.options.family).to_string(),
            "dev",
            Node::DEVICE,
        ])?;
        self.site.wait_found_at(edge)
    }
}

impl Kind {
    /// As figures have it, before the name of what is measured.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::VipLb => "",
            Self::Keepalived => "keepalived_",
        }
    }

    /// For people.
    pub(super) fn describe(self) -> Result<String> {
        Ok(match self {
            Self::VipLb => "vip-lb".to_owned(),
            Self::Keepalived => format!("keepalived {}", keepalived_version()?),
        })
    }
}

const ROUTER: u8 = 51;
