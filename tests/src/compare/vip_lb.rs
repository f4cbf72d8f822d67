//! vip-lb in the edge nodes.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Balancer, WEIGHTS};
use crate::lab::{
    Daemon, Family, Mode, Site, SiteOptions,
    config::ConfigFile,
    patience,
    status::{Backend, Service},
    wait_for,
};

const LIMIT: Duration = Duration::from_secs(30);
const SERVICES: [&str; 2] = ["web", "echo"];

/// Both edge nodes with a daemon.
#[derive(Debug)]
pub struct VipLb {
    site: Site,
}

impl VipLb {
    /// Builds the lab.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub fn start(mode: Mode) -> Result<Self> {
        let options = SiteOptions { edges: 2, backends: 4, ..SiteOptions::new(mode, Family::V4)? };
        let config = config(&options, &WEIGHTS);
        Ok(Self { site: Site::start(options, &config)? })
    }

    /// Says that all went well, so that the logs need not be shown.
    pub fn succeeded(&self) {
        self.site.succeeded();
    }

    /// Waits until all services of both nodes are as they should be.
    fn wait(&self, what: &str, holds: impl Fn(&Service) -> bool) -> Result<()> {
        self.each(|_, daemon| {
            let mut last = None;
            let outcome = wait_for(what, LIMIT, || {
                // Asking takes an emulated processor seconds: once for all services.
                let status = last.insert(daemon.status()?);
                for service in SERVICES {
                    if !holds(status.service(service)?) {
                        return Ok(None);
                    }
                }
                Ok(Some(()))
            });
            outcome.with_context(|| format!("the status was {last:?}"))
        })
    }

    /// Does the same on both nodes, which are told which they are.
    fn each(&self, work: impl Fn(usize, &Daemon) -> Result<()>) -> Result<()> {
        self.site.daemons.iter().enumerate().try_for_each(|(edge, daemon)| work(edge, daemon))
    }
}

fn config(options: &SiteOptions, weights: &[u16]) -> ConfigFile {
    let mut config = options.config(weights);
    for service in config.services_mut() {
        // Slots close this long after the last connection of an earlier backend.
        service.idle_timeout = Some(format!("{}s", 2 * patience()));
    }
    config
}

impl Balancer for VipLb {
    fn name(&self) -> &'static str {
        "vip-lb"
    }

    fn site(&mut self) -> &mut Site {
        &mut self.site
    }

    fn set_weights(&mut self, weights: &[u16]) -> Result<()> {
        let config = config(&self.site.options, weights);
        self.each(|edge, daemon| daemon.reload(&config.of_edge(edge)))?;
        self.wait("all backends in the ring", |service| {
            service.backends.len() == weights.len() && service.is_complete()
        })
    }

    fn drain_first(&mut self, drain: bool) -> Result<()> {
        let order = if drain { "drain" } else { "undrain" };
        self.each(|_, daemon| daemon.ask(&[order, "backend-1"]).map(drop))?;
        self.wait("backend-1 to follow", |service| {
            service.backend("backend-1").is_some_and(|backend| backend.is_in_ring() != drain)
        })
    }

    fn set_second_dead(&mut self, dead: bool) -> Result<()> {
        self.wait("the checks of backend-2", |service| {
            service
                .backend("backend-2")
                .is_some_and(|backend| if dead { Backend::is_removed(backend) } else { backend.is_in_ring() })
        })
    }

    fn kill_control(&mut self) -> Result<bool> {
        self.site.daemon_mut().kill()?;
        Ok(true)
    }

    fn start_control(&mut self) -> Result<()> {
        self.site.daemon_mut().launch()?;
        self.wait("all backends in the ring", Service::is_complete)
    }

    fn reload(&mut self) -> Result<()> {
        self.site.daemon().ask(&["reload"]).map(drop)
    }

    /// Backends answer the client, or the node whose address they see.
    fn lead_answers_through(&self, _edge: usize) -> Result<()> {
        Ok(())
    }

    fn synchronise(&mut self, _connections: usize) -> Result<()> {
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        self.wait("all slots to close", |service| service.is_complete() && service.open_slots == 0)
    }
}
