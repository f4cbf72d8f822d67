//! Nodes of a site that speak with each other.

use std::{
    collections::BTreeMap, fs, net::IpAddr, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{ConfigFile, Family, Mode, PeeringConfig, Site, SiteOptions, edge_address, wait_for};

/// Longer than nodes take to find each other, and to notice what differs.
const LIMIT: Duration = Duration::from_secs(30);

/// How a node and its peers get on.
#[derive(Clone, Debug, Deserialize)]
pub struct Peering {
    /// Why it speaks with nobody.
    #[serde(default)]
    pub problem: Option<String>,
    /// The peers.
    pub peers: Vec<Peer>,
    /// Connections of others that came to nothing, by why.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
}

/// Another node.
#[derive(Clone, Debug, Deserialize)]
pub struct Peer {
    /// Its own address.
    pub address: IpAddr,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// Whether both hear each other.
    pub connected: bool,
    /// Since when, Unix seconds.
    #[serde(default)]
    pub since: Option<u64>,
    /// Why it is not told.
    #[serde(default)]
    pub not_told: Option<String>,
    /// Why it is not heard.
    #[serde(default)]
    pub not_heard: Option<String>,
    /// Whether it does the same; absent while nobody knows.
    #[serde(default)]
    pub agrees: Option<bool>,
    /// What it does otherwise.
    #[serde(default)]
    pub mismatches: Vec<Mismatch>,
    /// Its part in virtual routers.
    #[serde(default)]
    pub routers: Vec<PeerRouter>,
}

/// The part of another node in a virtual router.
#[derive(Clone, Debug, Deserialize)]
pub struct PeerRouter {
    /// What keeps it from taking over.
    #[serde(default)]
    pub hindrance: Option<String>,
}

/// What two nodes do not have in common.
#[derive(Clone, Debug, Deserialize)]
pub struct Mismatch {
    /// In words.
    pub what: String,
}

impl Site {
    /// The port of peers.
    pub const PEER_PORT: u16 = 7112;

    /// Nodes that all speak with each other, by the secret of the name `secret`, and agree; and what [`Self::with_peers`] makes the file of each of.
    ///
    /// # Errors
    ///
    /// They do not start, or do not come to agree.
    pub fn of_peers(nodes: usize) -> Result<(Self, ConfigFile)> {
        let options = SiteOptions { edges: nodes, ..SiteOptions::new(Mode::L2, Family::V4)? };
        let config = options.config(&[100, 100, 200]);
        let mut site = Self::without_daemons(options)?;
        let secret = site.secret("secret")?;
        let files: Vec<_> = (0..nodes).map(|edge| site.with_peers(&config, edge, &secret)).collect();
        site.start_daemons_with(|edge| files[edge].clone())?;
        site.wait_agreement()?;
        Ok((site, config))
    }

    /// Writes a file with a secret, which nobody else may read, and returns its path.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn secret(&self, name: &str) -> Result<PathBuf> {
        let path = self.lab.scratch.path().join(name);
        fs::write(&path, format!("{name:x>40}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// The file of a node that speaks with all other edge nodes of this site by that secret.
    #[must_use]
    pub fn with_peers(&self, config: &ConfigFile, edge: usize, secret: &std::path::Path) -> ConfigFile {
        let mut config = config.of_edge(edge);
        let others = (0..self.options.edges).filter(|other| *other != edge);
        config.node.peers = others.map(|other| edge_address(other, Family::V4)).collect();
        config.node.peering = Some(PeeringConfig { secret_file: secret.display().to_string(), share: None });
        config
    }

    /// Waits until something holds of what a node says about its peers.
    ///
    /// # Errors
    ///
    /// It does not come to that.
    pub fn wait_peers(&self, edge: usize, what: &str, holds: impl Fn(&Peering) -> bool) -> Result<Peering> {
        let mut last = None;
        wait_for(&format!("{what} at node {}", edge + 1), LIMIT, || {
            let peering = self.daemons[edge].status()?.peering.context("a peering section")?;
            let reached = holds(&peering);
            last = Some(peering.clone());
            Ok(reached.then_some(peering))
        })
        .with_context(|| format!("last seen: {last:?}"))
    }

    /// Waits until all nodes hear all others, and agree.
    ///
    /// # Errors
    ///
    /// They do not.
    pub fn wait_agreement(&self) -> Result<()> {
        for edge in 0..self.options.edges {
            self.wait_peers(edge, "agreement", |peering| {
                peering.peers.iter().all(|peer| peer.agrees == Some(true))
            })?;
        }
        Ok(())
    }
}
