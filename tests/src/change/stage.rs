//! Where events happen: a site, its traffic, and the binaries that take turns.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{event::Event, outcome::Outcome, traffic::Traffic};
use crate::lab::{
    Family, Mode, Site, SiteOptions,
    config::ConfigFile,
    status::{Service, Status},
};

/// What every event begins with, and returns to.
const WEIGHTS: [u16; 3] = [100, 100, 200];
/// Traffic before and after each event.
const AROUND: Duration = Duration::from_millis(700);
/// Times [`patience`](crate::lab::patience): for a change to be in force.
const LIMIT: Duration = Duration::from_secs(20);
/// Of the lab, in which every service has a backend less.
const BACKENDS: usize = 4;

/// A site with traffic in which one event after the other happens.
#[derive(Debug)]
pub struct Stage {
    // Clients end before the servers that they talk to.
    pub(super) traffic: Traffic,
    pub(super) site: Site,
    /// Of the commit before.
    pub(super) previous: Option<PathBuf>,
    /// How the daemon that runs was started last: the program of this commit.
    pub(super) current: PathBuf,
    files: Vec<String>,
}

impl Stage {
    /// Builds a lab in which IPv4 packets are forwarded in this mode, and begins the traffic. `previous` is the daemon of the commit before, for
    /// those events that need it.
    ///
    /// # Errors
    ///
    /// A part of it does not start.
    pub fn start(mode: Mode, previous: Option<PathBuf>) -> Result<Self> {
        let mut options = SiteOptions::new(mode, Family::V4)?;
        options.backends = BACKENDS;
        let config = config(&options, &WEIGHTS);
        let current = options.binary.clone();
        let site = Site::start(options, &config)?;
        // Thousands of connections a second use up the ports of the usual range before the first are free again.
        site.lab.client.namespace.sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
        site.lab.client.namespace.sysctl("net/ipv4/tcp_tw_reuse", "1")?;
        let traffic = Traffic::start(&site)?;
        let mut stage = Self { traffic, site, previous, current, files: Vec::new() };
        stage.files = stage.pins()?;
        Ok(stage)
    }

    /// Plays an event and tells what came of it. Afterwards all is as before it.
    ///
    /// # Errors
    ///
    /// The event cannot be played, or what must hold after each does not. Losses are no error.
    pub fn play(&mut self, event: Event) -> Result<Outcome> {
        event.prepare(self).context("prepare it")?;
        let before = self.traffic.mark(&self.site, None)?;
        self.traffic.run_for(AROUND)?;
        let plan = event.happen(self)?;
        self.traffic.run_for(AROUND)?;
        let after = self.traffic.mark(&self.site, Some(&before))?;
        let observed = self.traffic.observed(&before, &after)?;
        event.restore(self).context("go back to where it began")?;
        let outcome = Outcome::new(event, &plan, &observed, |local| {
            let explained = self.site.daemon().explain(local, self.site.web(), "tcp")?;
            Ok(explained.backend.map(|backend| backend.name))
        })?;
        self.check_invariants().context("what must hold after each event")?;
        if plan.cut.is_some() {
            self.renew()?;
        }
        Ok(outcome)
    }

    /// Says that all went well, so that no log is shown.
    pub fn succeeded(&self) {
        self.site.succeeded();
    }

    /// Begins all traffic anew, with as many connections as at the start.
    pub(super) fn renew(&mut self) -> Result<()> {
        self.traffic = Traffic::start(&self.site)?;
        Ok(())
    }

    /// Lets traffic run while nothing else happens.
    pub(super) fn run_for(&self, time: Duration) -> Result<()> {
        self.traffic.run_for(time)
    }

    /// The configuration that every event begins with.
    pub(super) fn base(&self) -> ConfigFile {
        self.config(&WEIGHTS)
    }

    /// Another configuration of the same services, of as many backends as there are weights.
    pub(super) fn config(&self, weights: &[u16]) -> ConfigFile {
        config(&self.site.options, weights)
    }

    /// Reloads and waits until it is in force.
    pub(super) fn put_in_force(&self, config: &ConfigFile) -> Result<()> {
        self.site.daemon().reload(config)?;
        self.wait_until_complete(config)
    }

    /// Waits until all backends that should serve do, and no others.
    pub(super) fn wait_until_complete(&self, config: &ConfigFile) -> Result<()> {
        for service in config.vips.iter().flat_map(|vip| &vip.services) {
            let serving = |service_now: &Service| {
                service.backends.iter().all(|backend| {
                    let wanted = backend.state.is_none() && backend.weight > 0;
                    service_now.backend(&backend.name).is_some_and(|now| now.is_in_ring() == wanted)
                }) && service_now.backends.len() == service.backends.len()
            };
            self.site.daemon().wait_service(
                &service.name,
                "the configuration to be in force",
                LIMIT,
                serving,
            )?;
        }
        Ok(())
    }

    /// What holds whatever has happened: the daemon answers and serves the base configuration; the program is attached; the pins
    /// are those that there were, none more, none fewer.
    fn check_invariants(&self) -> Result<()> {
        self.wait_until_complete(&self.base())?;
        let status: Status = self.site.daemon().status()?;
        ensure!(Some(status.pid) == self.site.daemon().pid(), "another process answers: {}", status.pid);
        ensure!(!status.interfaces.is_empty(), "the program is attached nowhere");
        let files = self.pins()?;
        ensure!(files == self.files, "the pins were {:?}, and now are {files:?}", self.files);
        Ok(())
    }

    fn pins(&self) -> Result<Vec<String>> {
        fn list(folder: &std::path::Path, names: &mut Vec<String>) -> Result<()> {
            let entries = std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
            for entry in entries {
                let path = entry?.path();
                names.push(path.display().to_string());
                if path.is_dir() {
                    list(&path, names)?;
                }
            }
            Ok(())
        }
        let mut names = Vec::new();
        list(self.site.daemon().pins(), &mut names)?;
        names.sort();
        Ok(names)
    }
}

/// Checks ask the backends' own addresses, for packets are counted exactly: where they go through the VIP, answers that are under way when a
/// daemon ends find nobody who waits for them.
fn config(options: &SiteOptions, weights: &[u16]) -> ConfigFile {
    let mut config = options.config(weights);
    for health in config.services_mut().filter_map(|service| service.health.as_mut()) {
        health.via = Some("direct".to_owned());
    }
    config
}
