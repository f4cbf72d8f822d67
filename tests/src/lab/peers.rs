//! Nodes of a site that speak with each other.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use super::{ConfigFile, Family, PeeringConfig, Site, edge_address, status::Peering, wait_for};

/// Longer than nodes take to find each other, and to notice what differs.
const LIMIT: Duration = Duration::from_secs(30);

impl Site {
    /// The port of peers.
    pub const PEER_PORT: u16 = 7112;

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
