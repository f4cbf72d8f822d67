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

    /// Waits until that router is in a state, and the node answers if it is the active one.
    ///
    /// # Errors
    ///
    /// It does not come to that.
    pub fn wait_router(&self, edge: usize, state: &str) -> Result<()> {
        let mut last = None;
        wait_for(&format!("node {} to be {state}", edge + 1), LIMIT, || {
            let vips = self.daemons[edge].status()?.vips;
            let router = vips[0].vrrp.clone().context("a router")?;
            let reached = router.state == state && vips[0].answering == (state == "active");
            last = Some(router);
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
