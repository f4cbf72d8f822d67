//! Which node of a site has the VIP.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Site, status::Vrrp, vip, wait_for};

/// Longer than any change of a lab takes.
const LIMIT: Duration = Duration::from_secs(20);

impl Site {
    /// The virtual router of a node's first VIP.
    ///
    /// # Errors
    ///
    /// The daemon does not answer, or has none.
    pub fn router(&self, edge: usize) -> Result<Vrrp> {
        self.daemons[edge].status()?.vips[0].vrrp.clone().context("a router")
    }

    /// When that router became something for the last time, milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// As of [`Self::router`].
    pub fn last_change(&self, edge: usize) -> Result<u64> {
        Ok(self.router(edge)?.changes.last().context("a change")?.time_ms)
    }

    /// How often it became something after that moment, as far as it remembers: its last changes.
    ///
    /// # Errors
    ///
    /// As of [`Self::router`].
    pub fn changes_since(&self, edge: usize, time_ms: u64) -> Result<usize> {
        Ok(self.router(edge)?.changes.iter().filter(|change| change.time_ms > time_ms).count())
    }

    /// Waits until that router is in a state, and the node answers if it is the active one.
    ///
    /// # Errors
    ///
    /// It does not come to that.
    pub fn wait_router(&self, edge: usize, state: &str) -> Result<()> {
        let mut last = None;
        wait_for(&format!("node {} to be {state}", edge + 1), LIMIT, || {
            let vip = self.daemons[edge].status()?.vips.remove(0);
            // Just after the daemon's start there is none yet: it is being set up.
            let is_so = vip.vrrp.as_ref().is_some_and(|router| router.state == state);
            let reached = is_so && vip.answering == (state == "active");
            last = Some(vip.vrrp);
            Ok(reached.then_some(()))
        })
        .with_context(|| format!("last seen as {last:?}"))
    }

    /// Waits until the client has the MAC address of a node for the VIP.
    ///
    /// # Errors
    ///
    /// It does not come to that.
    pub fn wait_found_at(&self, edge: usize) -> Result<()> {
        let mac = self.lab.edges[edge].mac_text()?;
        let (client, vip) = (&self.lab.client.namespace, vip(self.options.family).to_string());
        wait_for(&format!("the client to find node {}", edge + 1), LIMIT, || {
            // It asks if it knows nobody.
            let _ = client.run("ping", &["-c", "1", "-W", "1", &vip]);
            let neighbours: serde_json::Value =
                serde_json::from_str(&client.ip(&["-json", "neigh", "show", &vip])?)?;
            Ok((neighbours[0]["lladdr"].as_str() == Some(&mac)).then_some(()))
        })
    }
}
