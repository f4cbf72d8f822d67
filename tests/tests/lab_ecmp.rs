//! Nodes behind a router that spreads, by the files of `packaging/`: BIRD as the router, BIRD and FRR on the nodes.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{
    ConfigFile, Family, FarHost, HttpLoad, LoadOptions, LongConnections, Mode, RouteConfig, Routing, Site,
    SiteOptions, Speaker, nothing_lost, patience, wait_for,
};

const LIMIT: Duration = Duration::from_secs(20);

/// Long enough for a busy machine, where it does not matter how soon a node is missed.
const PATIENT_BFD_MS: u32 = 500;

#[test]
fn a_planned_exit_loses_nothing_with_bird_over_ipv4() -> Result<()> {
    planned_exit(Speaker::Bird, Family::V4)
}

#[test]
fn a_planned_exit_loses_nothing_with_bird_over_ipv6() -> Result<()> {
    planned_exit(Speaker::Bird, Family::V6)
}

#[test]
fn a_planned_exit_loses_nothing_with_frr_over_ipv4() -> Result<()> {
    planned_exit(Speaker::Frr, Family::V4)
}

#[test]
fn a_planned_exit_loses_nothing_with_frr_over_ipv6() -> Result<()> {
    planned_exit(Speaker::Frr, Family::V6)
}

#[test]
fn a_lost_node_breaks_no_connection_over_ipv4() -> Result<()> {
    lost_node(Family::V4)
}

#[test]
fn a_lost_node_breaks_no_connection_over_ipv6() -> Result<()> {
    lost_node(Family::V6)
}

/// Clients behind a router that spreads over so many nodes.
struct Spread {
    routing: Vec<Routing>,
    far: FarHost,
    site: Site,
    config: ConfigFile,
}

impl Spread {
    /// All but the daemons: nothing is published yet.
    fn new(family: Family, edges: usize, speaker: Speaker, bfd_ms: u32) -> Result<Self> {
        let options = SiteOptions { edges, ..SiteOptions::new(Mode::L2, family)? };
        let mut config = options.config(&[100, 100, 200]);
        // Nothing is forwarded any more once a daemon has ended.
        config.node.on_exit = Some("unload".to_owned());
        config.vips[0].ownership = Some("route".to_owned());
        config.vips[0].route =
            Some(RouteConfig { linger: Some(format!("{}s", 3 * patience())), ..RouteConfig::default() });
        let site = Site::without_daemons(options)?;
        let far = FarHost::behind(&site.lab.client, &site.lab, 1500)?;
        let mut routing = vec![Routing::router(&site.lab, bfd_ms)?];
        for edge in 0..edges {
            routing.push(Routing::node(&site.lab, edge, speaker, bfd_ms)?);
        }
        Ok(Self { routing, far, site, config })
    }

    /// Waits until the router sends packets to exactly these nodes.
    fn wait(&self, nodes: &[usize]) -> Result<()> {
        Routing::wait_next_hops(&self.site.lab, self.site.options.family, nodes).with_context(|| {
            let logs: Vec<String> = self.routing.iter().map(Routing::log).collect();
            format!("the routing daemons say\n{}", logs.join("\n---\n"))
        })
    }

    /// Waits until all slots are settled on all nodes.
    fn settle(&self) -> Result<()> {
        for service in ["web", "echo"] {
            for daemon in &self.site.daemons {
                daemon.wait_service(service, "its slots to close", LIMIT, |of| of.open_slots == 0)?;
            }
        }
        Ok(())
    }

    /// Packets of clients to the echo service that each node has forwarded.
    fn packets(&self) -> Result<Vec<u64>> {
        let of = |daemon: &vip_lb_tests::lab::Daemon| {
            let counters: serde_json::Value = serde_json::from_str(&daemon.get("/v1/status")?)?;
            let services = counters["vips"][0]["services"].as_array().context("services")?;
            let echo = services.iter().find(|service| service["name"] == "echo").context("echo")?;
            echo["packets"].as_u64().context("a number")
        };
        self.site.daemons.iter().map(of).collect()
    }
}

fn planned_exit(speaker: Speaker, family: Family) -> Result<()> {
    let mut spread = Spread::new(family, 2, speaker, PATIENT_BFD_MS * patience())?;
    ensure!(Routing::next_hops(&spread.site.lab, family)?.is_empty(), "something is published already");
    spread.site.start_daemons(&spread.config.clone())?;
    spread.wait(&[0, 1])?;
    spread.settle()?;
    let site = &spread.site;
    let load = HttpLoad::start(&spread.far.namespace, LoadOptions::steady(site.web()))?;
    let connections = LongConnections::open(&spread.far.namespace, site.echo(), 60)?;
    connections.exchange(3)?;
    let packets = spread.packets()?;
    ensure!(packets.iter().all(|&of_node| of_node > 0), "a node gets nothing: {packets:?}");

    // A drained node is not asked any more, and comes back.
    site.daemons[1].ask(&["drain", "--node"])?;
    spread.wait(&[0])?;
    connections.exchange(3)?;
    site.daemons[1].ask(&["undrain", "--node"])?;
    spread.wait(&[0, 1])?;
    connections.exchange(3)?;

    // So is one that is told to end, which forwards until routers know, and some time more.
    let pid = site.daemon().pid().context("the daemon runs")?;
    // SAFETY: kill takes two numbers; the process has not been waited for.
    ensure!(unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) } == 0);
    spread.wait(&[1])?;
    let vip = site.daemon().status().context("it ended before the router had heard")?.vips.remove(0);
    let change = vip.route.context("a route")?.changes.pop().context("a change")?;
    ensure!(!change.published && change.why == "the daemon of this node ends", "{change:?}");
    let programs = site.lab.edges[0].namespace.ip(&["link", "show", "eth0"])?;
    ensure!(programs.contains("xdp"), "nothing forwards any more: {programs}");
    wait_for("the daemon to be gone", LIMIT, || Ok((!site.daemon().socket().exists()).then_some(())))?;
    wait_for("the program to be gone", LIMIT, || {
        Ok((!site.lab.edges[0].namespace.ip(&["link", "show", "eth0"])?.contains("xdp")).then_some(()))
    })?;
    connections.exchange(3)?;
    let links = site.lab.edges[0].namespace.ip(&["-br", "link", "show"])?;
    ensure!(!links.lines().any(|line| line.starts_with("vip-lb")), "the device is there: {links}");
    nothing_lost(&connections, load)?;
    site.succeeded();
    Ok(())
}

/// Three nodes; the cable of one is pulled. BFD misses it after 150 ms, and what it had goes to the others.
fn lost_node(family: Family) -> Result<()> {
    let mut spread = Spread::new(family, 3, Speaker::Bird, 50 * patience())?;
    spread.config.outlast_cuts();
    spread.site.start_daemons(&spread.config.clone())?;
    spread.wait(&[0, 1, 2])?;
    spread.settle()?;
    let site = &spread.site;
    let connections = LongConnections::open(&spread.far.namespace, site.echo(), 150)?;
    let before = spread.packets()?;
    // BFD may miss a node for a moment when the machine is busy.
    let had = wait_for("packets through all nodes", LIMIT, || {
        connections.exchange(3)?;
        let now = spread.packets()?;
        let had: Vec<u64> = now.iter().zip(&before).map(|(after, before)| after - before).collect();
        Ok(had.iter().all(|&of_node| of_node > 0).then_some(had))
    })?;
    let backends: BTreeSet<String> = connections.by_backend().into_keys().collect();
    ensure!(backends.len() == 3, "{backends:?}");

    let pulled = Instant::now();
    site.lab.set_cable(&site.lab.edges[0], false)?;
    spread.wait(&[1, 2])?;
    let missed = pulled.elapsed();
    connections.exchange(3)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
    println!(
        "{family:?}: {had:?} packets by node before, node 1 out after {} ms, 0 of 150 connections broken",
        missed.as_millis()
    );

    // It is back, and some connections go through it again.
    site.lab.set_cable(&site.lab.edges[0], true)?;
    spread.wait(&[0, 1, 2])?;
    let before = spread.packets()?[0];
    connections.exchange(3)?;
    wait_for("packets through the node that is back", LIMIT, || {
        Ok((spread.packets()?[0] > before).then_some(()))
    })?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
    site.succeeded();
    Ok(())
}
