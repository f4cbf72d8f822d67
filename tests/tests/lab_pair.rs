//! The common pair: two nodes that are balancer and server both, each the other's peer. What the first one forwards to the
//! second one is served there, and steered no second time.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use vip_lb_tests::lab::{
    Daemon, EchoServer, Family, HttpLoad, HttpServer, Lab, LabOptions, LoadOptions, LongConnections, Mode,
    Node, SiteOptions,
    config::{BackendConfig, ConfigFile},
    status::{Backend, Service},
    vip, wait_for,
};

const LIMIT: Duration = Duration::from_secs(15);
const NAMES: [&str; 2] = ["edge-1", "edge-2"];

#[test]
fn l2_over_ipv4() -> Result<()> {
    pair(Mode::L2, Family::V4)
}

#[test]
fn l2_over_ipv6() -> Result<()> {
    pair(Mode::L2, Family::V6)
}

#[test]
fn ipip_over_ipv4() -> Result<()> {
    pair(Mode::Ipip, Family::V4)
}

#[test]
fn ipip_over_ipv6() -> Result<()> {
    pair(Mode::Ipip, Family::V6)
}

#[test]
fn gue_over_ipv4() -> Result<()> {
    pair(Mode::Gue, Family::V4)
}

fn pair(mode: Mode, family: Family) -> Result<()> {
    let mut pair = Pair::start(mode, family)?;
    pair.through("edge-1")?;
    pair.spreads_over_both()?;
    pair.takes_each_packet_once()?;
    pair.any_node_will_do()?;
    pair.restarts_keep_the_peer_in_mind()?;
    pair.serves_alone()?;
    pair.serves_what_a_removed_backend_still_has()?;
    pair.daemons.values().for_each(Daemon::succeeded);
    Ok(())
}

/// What is declared first is dropped first: daemons before the namespaces they run in.
struct Pair {
    daemons: BTreeMap<String, Daemon>,
    http: BTreeMap<String, HttpServer>,
    echo: BTreeMap<String, EchoServer>,
    lab: Lab,
    options: SiteOptions,
}

impl Pair {
    fn start(mode: Mode, family: Family) -> Result<Self> {
        let mut pair = Self {
            daemons: BTreeMap::new(),
            http: BTreeMap::new(),
            echo: BTreeMap::new(),
            lab: Lab::new(&LabOptions { edges: 2, ..LabOptions::default() })?,
            options: SiteOptions::new(mode, family)?,
        };
        for node in &mut pair.lab.edges {
            node.hold_vips()?;
        }
        for name in NAMES {
            pair.start_servers(name)?;
        }
        for name in NAMES {
            let config = pair.config(name, &NAMES);
            let daemon = Daemon::start(pair.node(name), &pair.lab.scratch, &pair.options.binary, &config)?;
            pair.daemons.insert(name.to_owned(), daemon);
        }
        pair.wait_complete()?;
        Ok(pair)
    }

    /// The file of one node, with these backends.
    fn config(&self, name: &str, backends: &[&str]) -> ConfigFile {
        let mut config = self.options.config(&[]);
        name.clone_into(&mut config.node.name);
        let other = NAMES.into_iter().find(|other| *other != name).expect("a pair");
        config.node.peers = vec![self.node(other).address(self.options.family)];
        for service in config.services_mut() {
            // Probes that one node sends to the other in a tunnel would count as packets there.
            if let Some(health) = &mut service.health {
                health.via = Some("direct".to_owned());
            }
            let backends = backends.iter().map(|backend| BackendConfig {
                name: (*backend).to_owned(),
                address: self.node(backend).address(self.options.family),
                port: None,
                mode: None,
                weight: 100,
                state: None,
                tier: None,
            });
            service.backends = backends.collect();
        }
        config
    }

    fn node(&self, name: &str) -> &Node {
        let mut nodes = self.lab.edges.iter();
        nodes.find(|node| node.name == name).expect("a node of the pair")
    }

    fn daemon(&self, name: &str) -> &Daemon {
        &self.daemons[name]
    }

    /// The client sends what is for the VIP to this node.
    fn through(&self, name: &str) -> Result<()> {
        self.lab.route_vips_through(self.node(name))
    }

    fn start_servers(&mut self, name: &str) -> Result<()> {
        let http = HttpServer::start(self.node(name), &self.lab.scratch)?;
        let echo = EchoServer::start(self.node(name))?;
        self.http.insert(name.to_owned(), http);
        self.echo.insert(name.to_owned(), echo);
        Ok(())
    }

    fn wait_complete(&self) -> Result<()> {
        for daemon in self.daemons.values() {
            for service in ["web", "echo", "echo-udp"] {
                daemon.wait_service(service, "both nodes in the ring", LIMIT, |service| {
                    service.backends.len() == NAMES.len() && service.is_complete()
                })?;
            }
        }
        Ok(())
    }

    fn request(&self, count: usize) -> Result<BTreeMap<String, usize>> {
        let target = (vip(self.options.family), HttpServer::PORT).into();
        let report = HttpLoad::run(&self.lab.client.namespace, LoadOptions::count(target, count))?;
        ensure!(report.failed().count() == 0, "failed: {:?}", report.errors());
        let counts = report.by_backend().into_iter();
        Ok(counts.map(|(name, count)| (name.to_owned(), count)).collect())
    }

    fn connect(&self, count: usize) -> Result<LongConnections> {
        let target = (vip(self.options.family), EchoServer::PORT).into();
        LongConnections::open(&self.lab.client.namespace, target, count)
    }

    /// How a packet ends that was forwarded, and how it arrives at the other node.
    fn verdicts(&self) -> (&'static str, &'static str) {
        match self.options.mode {
            Mode::L2 => ("forwarded_l2", "from_peer"),
            Mode::Ipip => ("forwarded_ipip", "decapsulated"),
            Mode::Gue => ("forwarded_gue", "decapsulated"),
            Mode::Nat => unreachable!("a pair forwards what it has steered as it came"),
        }
    }

    fn spreads_over_both(&self) -> Result<()> {
        let counts = self.request(1000)?;
        let of = |name| counts.get(name).copied().unwrap_or(0);
        // Six standard deviations.
        ensure!(of("edge-1").abs_diff(500) < 95 && of("edge-2") == 1000 - of("edge-1"), "{counts:?}");
        Ok(())
    }

    /// All that the first node has forwarded arrived at the second one, which steered nothing.
    fn takes_each_packet_once(&self) -> Result<()> {
        let (sent, received) = self.verdicts();
        let (first, second) = (self.daemon("edge-1"), self.daemon("edge-2"));
        ensure!(first.counter("local_backend")? > 1000, "{}", first.ask(&["counters"])?);
        wait_for("all forwarded packets to arrive", LIMIT, || {
            let count = first.counter(sent)?;
            Ok((count > 1000 && second.counter(received)? == count).then_some(()))
        })
        .with_context(|| counters(first, second))?;
        for (daemon, verdict) in [
            (first, received),
            (first, "peer_loop"),
            (second, "peer_loop"),
            (second, "local_backend"),
            (second, sent),
            (second, "decap_source"),
            (second, "decap_destination"),
        ] {
            ensure!(daemon.counter(verdict)? == 0, "{verdict}: {}", counters(first, second));
        }
        Ok(())
    }

    /// A connection goes on through the other node: it picks the same backend.
    fn any_node_will_do(&self) -> Result<()> {
        let connections = self.connect(30)?;
        ensure!(connections.by_backend().len() == 2, "{:?}", connections.by_backend());
        for name in ["edge-2", "edge-1"] {
            self.through(name)?;
            connections.exchange(3)?;
            ensure!(connections.broken().is_empty(), "through {name}: {:?}", connections.broken());
        }
        ensure!(self.daemon("edge-2").counter("local_backend")? > 0, "nothing went through edge-2");
        Ok(())
    }

    /// Not even in the moment of its start does a daemon take a peer's packets for a client's.
    fn restarts_keep_the_peer_in_mind(&mut self) -> Result<()> {
        let connections = self.connect(30)?;
        let target = (vip(self.options.family), HttpServer::PORT).into();
        let load = HttpLoad::start(&self.lab.client.namespace, LoadOptions::steady(target))?;
        let before = self.daemon("edge-2").counter("local_backend")?;
        let open = |daemon: &Daemon| -> Result<u32> {
            let status = daemon.status()?;
            Ok(status.service("web")?.open_slots + status.service("echo")?.open_slots)
        };
        let open_before = open(self.daemon("edge-2"))?;
        for _ in 0..3 {
            let daemon = self.daemons.get_mut("edge-2").expect("a node of the pair");
            daemon.kill()?;
            daemon.launch()?;
            let (before, open) = (open_before, open(daemon)?);
            ensure!(open <= before, "a restart opened slots: {open} are, after {before}");
            connections.exchange(2)?;
        }
        self.wait_complete()?;
        let report = load.finish();
        ensure!(report.failed().count() == 0, "{:?}", report.errors());
        ensure!(report.by_backend().len() == 2, "{:?}", report.by_backend());
        ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
        let after = self.daemon("edge-2").counter("local_backend")?;
        ensure!(after == before, "{} packets of the peer were steered again", after - before);
        Ok(())
    }

    /// Without the second node's servers all goes to the first one, whose connections know nothing of it.
    fn serves_alone(&mut self) -> Result<()> {
        let connections = self.connect(30)?;
        self.http.remove("edge-2");
        self.echo.remove("edge-2");
        for daemon in self.daemons.values() {
            for service in ["web", "echo"] {
                daemon.wait_service(service, "edge-2 to be removed", LIMIT, |service| {
                    service.backend("edge-2").is_some_and(Backend::is_removed)
                })?;
            }
        }
        let alone = self.request(300)?;
        ensure!(alone.len() == 1 && alone.contains_key("edge-1"), "{alone:?}");
        connections.exchange(5)?;
        let broken = connections.broken();
        ensure!(broken.iter().all(|connection| connection.backend == "edge-2"), "{broken:?}");
        self.start_servers("edge-2")?;
        self.wait_complete()?;
        let both = self.request(300)?;
        ensure!(both.len() == 2, "{both:?}");
        connections.exchange(5)?;
        let broken = connections.broken();
        ensure!(broken.iter().all(|connection| connection.backend == "edge-2"), "{broken:?}");
        Ok(())
    }

    /// A node that is no backend any more still takes from its peer what belongs to the connections it has.
    fn serves_what_a_removed_backend_still_has(&self) -> Result<()> {
        let connections = self.connect(30)?;
        ensure!(connections.by_backend().len() == 2, "{:?}", connections.by_backend());
        for name in NAMES {
            self.daemon(name).reload(&self.config(name, &["edge-1"]))?;
        }
        connections.exchange(5)?;
        ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
        let newcomers = self.request(100)?;
        ensure!(newcomers.len() == 1 && newcomers.contains_key("edge-1"), "{newcomers:?}");
        for name in NAMES {
            self.daemon(name).reload(&self.config(name, &NAMES))?;
        }
        let joined = |service: &Service| service.backends.len() == 2 && service.is_complete();
        for name in NAMES {
            self.daemon(name).wait_service("echo", "edge-2 to join again", LIMIT, joined)?;
        }
        connections.exchange(5)?;
        ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
        Ok(())
    }
}

fn counters(first: &Daemon, second: &Daemon) -> String {
    let of = |daemon: &Daemon| daemon.ask(&["counters"]).unwrap_or_default();
    format!("edge-1:\n{}\nedge-2:\n{}", of(first), of(second))
}
