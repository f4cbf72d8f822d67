//! A lab with everything running: servers on the backends and daemons on the edge nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{
    binary::daemon_binary,
    config::{
        BackendConfig, ConfigFile, Family, HealthConfig, Mode, NatConfig, NodeConfig, ServiceConfig,
        VipConfig,
    },
    daemon::Daemon,
    decap::Decap,
    echo::EchoServer,
    http_server::HttpServer,
    patience,
    status::Service,
    topology::{Lab, LabOptions, Node, backend_address, edge_address, vip},
};

/// Time between two checks, and what one may take, times [`patience`].
const CHECK_MS: u32 = 400;
/// How often a daemon begins at most for its slots' sake.
const BEGINNINGS: u32 = 3;

/// Which site.
#[derive(Clone, Debug)]
pub struct SiteOptions {
    /// How packets reach the backends.
    pub mode: Mode,
    /// How they reach some of the backends, by index, instead.
    pub other_modes: BTreeMap<usize, Mode>,
    /// Family of VIP and backends.
    pub family: Family,
    /// Edge nodes, each with a daemon.
    pub edges: usize,
    /// Machines with servers; the configuration may name fewer.
    pub backends: usize,
    /// The program under test.
    pub binary: PathBuf,
}

impl SiteOptions {
    /// One edge node and three backends.
    ///
    /// # Errors
    ///
    /// There is no binary to test.
    pub fn new(mode: Mode, family: Family) -> Result<Self> {
        let other_modes = BTreeMap::new();
        Ok(Self { mode, other_modes, family, edges: 1, backends: 3, binary: daemon_binary()? })
    }

    /// How packets reach a backend.
    #[must_use]
    pub fn mode_of(&self, backend: usize) -> Mode {
        self.other_modes.get(&backend).copied().unwrap_or(self.mode)
    }

    /// The backends that are reached so.
    fn in_mode(&self, mode: Mode) -> impl Iterator<Item = usize> {
        (0..self.backends).filter(move |index| self.mode_of(*index) == mode)
    }

    /// A configuration of three services, `web` (80/tcp), `echo` (7/tcp) and `echo-udp` (7/udp), over the first backends
    /// of the lab with these weights, all checked at the web server. A busy machine may delay a packet by a tenth of a second.
    #[must_use]
    pub fn config(&self, weights: &[u16]) -> ConfigFile {
        let health = HealthConfig {
            kind: "http".to_owned(),
            via: None,
            flap_hold: None,
            path: Some("/healthz".to_owned()),
            port: Some(HttpServer::PORT),
            interval: format!("{}ms", CHECK_MS * patience()),
            timeout: format!("{}ms", CHECK_MS * patience()),
            rise: 2,
            fall: 3,
        };
        let service = |name: &str, port: u16, protocol: &str| ServiceConfig {
            name: name.to_owned(),
            port: port.into(),
            protocol: protocol.to_owned(),
            mode: self.mode,
            ring: None,
            idle_timeout: None,
            mss: None,
            icmp_rate: None,
            min_healthy: None,
            below_min: None,
            max_removed: None,
            slow_start: None,
            passive: None,
            passive_sample: None,
            health: Some(health.clone()),
            backends: weights
                .iter()
                .enumerate()
                .map(|(index, weight)| self.backend(index, *weight))
                .collect(),
        };
        ConfigFile {
            node: NodeConfig {
                name: "edge-1".to_owned(),
                state: None,
                seed: "the seed of all labs".to_owned(),
                interfaces: vec![Node::DEVICE.to_owned()],
                peers: Vec::new(),
                peering: None,
                gue_port: None,
                nat: self.in_mode(Mode::Nat).next().map(|_| NatConfig::address_of_its_own(0)),
                watchdog: None,
                on_exit: None,
                socket: None,
                pins: None,
                state_dir: None,
                watch: None,
            },
            hosts: Vec::new(),
            vips: vec![VipConfig {
                address: vip(self.family),
                ownership: None,
                vrrp: None,
                route: None,
                prefix_length: None,
                services: vec![
                    service("web", HttpServer::PORT, "tcp"),
                    service("echo", EchoServer::PORT, "tcp"),
                    service("echo-udp", EchoServer::PORT, "udp"),
                ],
            }],
        }
    }

    /// The entry of one of the lab's backends.
    #[must_use]
    pub fn backend(&self, index: usize, weight: u16) -> BackendConfig {
        BackendConfig {
            name: format!("backend-{}", index + 1),
            address: backend_address(index, self.family),
            port: None,
            mode: self.other_modes.get(&index).copied(),
            weight,
            state: None,
            tier: None,
        }
    }
}

/// A lab with everything running.
///
/// What is declared first is dropped first: daemons before the namespaces they run in.
#[derive(Debug)]
pub struct Site {
    /// One per edge node.
    pub daemons: Vec<Daemon>,
    decaps: BTreeMap<String, Decap>,
    http: BTreeMap<String, HttpServer>,
    echo: BTreeMap<String, EchoServer>,
    /// The namespaces.
    pub lab: Lab,
    /// What it was built by.
    pub options: SiteOptions,
}

impl Site {
    /// Builds the lab, starts servers and daemons, and waits until every backend of every service is in the ring. The
    /// configuration is the first daemon's; others get [that of their node](ConfigFile::of_edge).
    ///
    /// # Errors
    ///
    /// Any part does not come up.
    pub fn start(options: SiteOptions, config: &ConfigFile) -> Result<Self> {
        let mut site = Self::with_servers(options, config.node.gue_port)?;
        site.start_daemons(config)?;
        Ok(site)
    }

    /// Builds the lab and starts the servers; something else is to run on the edge nodes.
    ///
    /// # Errors
    ///
    /// Any part does not come up.
    pub fn without_daemons(options: SiteOptions) -> Result<Self> {
        Self::with_servers(options, None)
    }

    fn with_servers(options: SiteOptions, gue_port: Option<u16>) -> Result<Self> {
        let plain: BTreeSet<usize> = options.in_mode(Mode::Nat).collect();
        let lab = Lab::new(&LabOptions { edges: options.edges, backends: options.backends, plain })?;
        let mut site = Self {
            daemons: Vec::new(),
            decaps: BTreeMap::new(),
            http: BTreeMap::new(),
            echo: BTreeMap::new(),
            lab,
            options,
        };
        for index in 0..site.options.backends {
            let name = site.lab.backends[index].name.clone();
            site.start_servers(&name)?;
        }
        let tunnelled: Vec<usize> =
            site.options.in_mode(Mode::Ipip).chain(site.options.in_mode(Mode::Gue)).collect();
        for index in tunnelled {
            let name = site.lab.backends[index].name.clone();
            site.start_decap(&name, gue_port)?;
        }
        Ok(site)
    }

    /// Has a backend unpack what comes by tunnel; what is in UDP at this port, or at the usual one.
    ///
    /// # Errors
    ///
    /// The command fails.
    pub fn start_decap(&mut self, backend: &str, gue_port: Option<u16>) -> Result<()> {
        // Where there is no edge node, something else takes the place of the first.
        let edges: Vec<IpAddr> = (0..self.options.edges.max(1))
            .flat_map(|index| Family::BOTH.map(|family| edge_address(index, family)))
            .collect();
        let node = self.lab.backend(backend);
        let decap = Decap::start(node, &self.lab.scratch, &self.options.binary, &edges, gue_port)?;
        self.decaps.insert(backend.to_owned(), decap);
        Ok(())
    }

    /// Has a backend leave tunnelled packets as they are.
    pub fn stop_decap(&mut self, backend: &str) {
        self.decaps.remove(backend);
    }

    /// Starts the daemons, after [`Self::without_daemons`], and waits until every backend of every service is in the ring.
    ///
    /// # Errors
    ///
    /// Any part does not come up.
    pub fn start_daemons(&mut self, config: &ConfigFile) -> Result<()> {
        self.start_daemons_with(|edge| config.of_edge(edge))
    }

    /// The same, with a file for each edge node.
    ///
    /// # Errors
    ///
    /// Any part does not come up.
    pub fn start_daemons_with(&mut self, config: impl Fn(usize) -> ConfigFile) -> Result<()> {
        for (index, node) in self.lab.edges.iter().enumerate() {
            let config = config(index);
            let mut daemon = Daemon::start(node, &self.lab.scratch, &self.options.binary, &config)?;
            // Before the next one: the first node is the first to be able.
            let outcome = wait_whole(&mut daemon, &config);
            self.daemons.push(daemon);
            outcome?;
        }
        Ok(())
    }

    /// The daemon of the first edge node.
    #[must_use]
    pub fn daemon(&self) -> &Daemon {
        &self.daemons[0]
    }

    /// The daemon of the first edge node, to be stopped and started.
    pub fn daemon_mut(&mut self) -> &mut Daemon {
        &mut self.daemons[0]
    }

    /// Says that all went well: without it, dropping the site shows the ends of the daemons' logs.
    pub fn succeeded(&self) {
        self.daemons.iter().for_each(Daemon::succeeded);
    }

    /// The VIP's web service.
    #[must_use]
    pub fn web(&self) -> SocketAddr {
        (vip(self.options.family), HttpServer::PORT).into()
    }

    /// The VIP's echo service.
    #[must_use]
    pub fn echo(&self) -> SocketAddr {
        (vip(self.options.family), EchoServer::PORT).into()
    }

    /// The web server of a backend.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn http_server(&self, backend: &str) -> Result<&HttpServer> {
        self.http.get(backend).with_context(|| format!("no web server runs on {backend}"))
    }

    /// Starts the servers of a backend.
    ///
    /// # Errors
    ///
    /// One of them does not start.
    pub fn start_servers(&mut self, backend: &str) -> Result<()> {
        let node = self.lab.backend(backend);
        let http = HttpServer::start(node, &self.lab.scratch)?;
        let echo = EchoServer::start(node)?;
        self.http.insert(backend.to_owned(), http);
        self.echo.insert(backend.to_owned(), echo);
        Ok(())
    }

    /// Kills the servers of a backend; the machine itself lives on and refuses connections.
    pub fn kill_servers(&mut self, backend: &str) {
        self.http.remove(backend);
        self.echo.remove(backend);
    }

    /// Leaves namespaces, daemons and web servers behind, and returns a script that removes them. The echo servers live in
    /// this process and end with it.
    ///
    /// # Errors
    ///
    /// The script cannot be written.
    pub fn keep(&mut self) -> Result<PathBuf> {
        let script = self.lab.scratch.path().join("remove.sh");
        std::fs::write(&script, self.removal()).with_context(|| format!("write {}", script.display()))?;
        self.lab.keep()?;
        self.daemons.iter_mut().for_each(Daemon::keep);
        self.decaps.values_mut().for_each(Decap::keep);
        // A server that is never dropped is never killed.
        for server in std::mem::take(&mut self.http).into_values() {
            std::mem::forget(server);
        }
        Ok(script)
    }

    fn removal(&self) -> String {
        let mut script = "#!/bin/sh\n# Ends the processes of this lab and removes what it made.\n".to_owned();
        let mut line = |text: &str| {
            script.push_str(text);
            script.push('\n');
        };
        let binary = self.options.binary.display();
        for name in self.lab.namespaces() {
            line(&format!("ip netns pids {name} | xargs -r kill -9"));
        }
        for (daemon, node) in self.daemons.iter().zip(&self.lab.edges) {
            let (pins, name) = (daemon.pins().display(), node.namespace.name());
            line(&format!("nsenter --net=/run/netns/{name} {binary} unload --pins {pins}"));
            line(&format!("rm -rf {pins}"));
        }
        for (name, decap) in &self.decaps {
            let (pins, name) = (decap.pins().display(), self.lab.backend(name).namespace.name());
            line(&format!("nsenter --net=/run/netns/{name} {binary} unload --pins {pins}"));
        }
        for name in self.lab.namespaces() {
            line(&format!("ip netns del {name}"));
        }
        line(&format!("rm -rf {}", self.lab.scratch.path().display()));
        script
    }
}

/// Waits until every backend of every service is in the ring, where each has had its slots from the beginning. One that answers its first check late,
/// as on a busy machine, gets them from others, and they stay open for long: the daemon is to begin anew then.
fn wait_whole(daemon: &mut Daemon, config: &ConfigFile) -> Result<()> {
    let services = || config.vips.iter().flat_map(|vip| &vip.services);
    for _ in 0..BEGINNINGS {
        let mut open = 0;
        for service in services() {
            let all = "all backends to come up";
            let found =
                daemon.wait_service(&service.name, all, Duration::from_secs(20), Service::is_complete)?;
            open += found.open_slots;
        }
        if open == 0 {
            return Ok(());
        }
        eprintln!("a first check was late, and {open} slots are open: the daemon begins anew");
        daemon.stop()?;
        daemon.unload()?;
        daemon.launch()?;
    }
    Ok(())
}
