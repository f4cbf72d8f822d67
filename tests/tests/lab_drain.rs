//! Drains that end: with `--wait` when nothing is left, with `--force` at once; and orders that outlive the daemon.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{
    Disk, EchoServer, Family, HttpLoad, LoadOptions, LongConnections, Mode, Site, SiteOptions, UdpFlows,
    config::{ConfigFile, HostConfig},
    nothing_lost,
    status::{Backend, DrainReport, OperatorOrder},
    wait_for,
};

const LIMIT: Duration = Duration::from_secs(15);
const IDLE: Duration = Duration::from_secs(3);
const NOT_DRAINED: i32 = 12;

#[test]
fn l2_over_ipv4() -> Result<()> {
    drains_end(Mode::L2, Family::V4)
}

#[test]
fn nat_over_ipv6() -> Result<()> {
    drains_end(Mode::Nat, Family::V6)
}

fn config(options: &SiteOptions) -> ConfigFile {
    let mut config = options.config(&[100, 100, 200]);
    for service in config.services_mut() {
        service.idle_timeout = Some(format!("{}s", IDLE.as_secs()));
    }
    config
}

fn drains_end(mode: Mode, family: Family) -> Result<()> {
    let options = SiteOptions::new(mode, family)?;
    let config = config(&options);
    let site = Site::start(options, &config)?;
    let (daemon, client) = (site.daemon(), &site.lab.client.namespace);
    let load = HttpLoad::start(client, LoadOptions::steady(site.web()))?;
    let connections = LongConnections::open(client, site.echo(), 200)?;
    let flows = UdpFlows::open(client, site.echo(), 20)?;
    let held = on_backend(&connections, "backend-1").len() as u64;
    ensure!(held > 0, "{:?}", connections.by_backend());

    // As long as connections say something, it is not over.
    let (code, answer, complaint) =
        daemon.ask_code(&["drain", "echo/backend-1", "--wait", "--deadline", "6s", "--json"])?;
    ensure!(code == NOT_DRAINED, "{code}: {answer}{complaint}");
    let left = report(&answer)?.backends[0].remaining.clone();
    let known = if mode == Mode::Nat { left.translated } else { left.settled_estimate };
    ensure!(!left.drained && known == held, "{held} connections are left, known are {left:?}");
    ensure!(mode == Mode::Nat || left.seconds_left.is_some(), "{left:?}");
    connections.exchange(5)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());

    // They end: then it is over, one idle timeout after the last sign of life.
    drop(connections);
    let ended = Instant::now();
    let answer = daemon.ask(&["drain", "echo/backend-1", "--wait", "--json"])?;
    let took = ended.elapsed();
    let left = report(&answer)?;
    ensure!(left.backends[0].now.starts_with("drained"), "{answer}");
    ensure!(mode == Mode::Nat || took >= IDLE - Duration::from_secs(1), "done after {took:?}");
    let status = daemon.status()?;
    let backend = status.service("echo")?.backend("backend-1").context("backend-1")?.clone();
    ensure!(
        (backend.ring_slots, backend.previous_slots, backend.entries, backend.nat_connections)
            == (0, 0, 0, 0),
        "{backend:?}"
    );
    let port = format!("sport = :{}", EchoServer::PORT);
    let established =
        site.lab.backend("backend-1").namespace.run("ss", &["-Htn", "state", "established", &port])?;
    ensure!(established.trim().is_empty(), "backend-1 still has connections:\n{established}");

    // By force: its connections break now, and no others.
    daemon.ask(&["undrain", "echo/backend-1"])?;
    let connections = LongConnections::open(client, site.echo(), 60)?;
    let doomed = on_backend(&connections, "backend-2");
    ensure!(!doomed.is_empty(), "{:?}", connections.by_backend());
    let answer = daemon.ask(&["drain", "echo/backend-2", "--force", "--wait", "--json"])?;
    ensure!(report(&answer)?.backends[0].now.starts_with("out (cut by the operator)"), "{answer}");
    wait_for("the connections of backend-2 to break", LIMIT, || {
        Ok(broken(&connections).is_superset(&doomed).then_some(()))
    })?;
    connections.exchange(5)?;
    ensure!(broken(&connections) == doomed, "cut {doomed:?}, broken {:?}", broken(&connections));
    flows.exchange(2)?;
    ensure!(flows.moved().is_empty(), "another service lost something: {:?}", flows.moved());
    let report = load.finish();
    ensure!(report.failed().count() == 0, "another service lost something: {:?}", report.errors());
    site.succeeded();
    Ok(())
}

#[test]
fn orders_outlive_the_daemon() -> Result<()> {
    let options = SiteOptions::new(Mode::L2, Family::V4)?;
    let config = config(&options);
    let mut site = Site::start(options, &config)?;
    site.daemon().ask(&["drain", "web/backend-1"])?;
    site.daemon().ask(&["drain", "backend-2", "--force"])?;
    // A whole machine by its address.
    let third = site.lab.backend("backend-3").address(Family::V4).to_string();
    site.daemon().ask(&["drain", &format!("echo-udp/{third}")])?;
    let before = orders(&site)?;
    ensure!(before.iter().filter(|(.., order)| order.is_some()).count() == 5, "{before:?}");
    site.daemon_mut().kill()?;
    site.daemon_mut().launch()?;
    ensure!(orders(&site)? == before, "before {before:?}, after {:?}", orders(&site)?);
    for (service, backend, order) in &before {
        let status = site.daemon().status()?;
        let in_ring = status.service(service)?.backend(backend).context("a backend")?.is_in_ring();
        ensure!(!in_ring || order.is_none(), "{service}/{backend} is in the ring");
    }
    site.daemon().ask(&["undrain", "backend-2"])?;
    site.daemon().wait_service("web", "backend-2 to return", LIMIT, |service| {
        service.backend("backend-2").is_some_and(Backend::is_in_ring)
    })?;
    // Whoever leaves the configuration comes back without an order.
    let mut without = config.clone();
    for service in without.services_mut() {
        service.backends.remove(0);
    }
    site.daemon().reload(&without)?;
    site.daemon().reload(&config)?;
    ensure!(orders(&site)?.iter().filter(|(.., order)| order.is_some()).count() == 1, "{:?}", orders(&site)?);
    site.succeeded();
    Ok(())
}

/// One order about a host: its backends in every service, those that a later reload adds, over a restart and a hand-over, until it is withdrawn.
#[test]
fn a_whole_host_is_drained_with_what_comes_there_later() -> Result<()> {
    let options = SiteOptions::new(Mode::L2, Family::V4)?;
    let config = config(&options);
    let mut site = Site::start(options, &config)?;
    let client = &site.lab.client.namespace;
    let load = HttpLoad::start(client, LoadOptions::steady(site.web()))?;
    let connections = LongConnections::open(client, site.echo(), 60)?;
    ensure!(!on_backend(&connections, "backend-1").is_empty(), "{:?}", connections.by_backend());
    let address = site.lab.backend("backend-1").address(Family::V4);
    let host = address.to_string();
    let in_rings = |site: &Site| -> Result<Vec<String>> {
        let services = site.daemon().status()?.vips.into_iter().flat_map(|vip| vip.services);
        let named = services.filter(|of| of.backend("backend-1").is_some_and(Backend::is_in_ring));
        Ok(named.map(|service| service.name).collect())
    };

    let (code, answer, complaint) =
        site.daemon().ask_code(&["drain", &host, "--wait", "--deadline", "2s", "--json"])?;
    ensure!(code == NOT_DRAINED, "{code}: {answer}{complaint}");
    ensure!(report(&answer)?.backends.len() == config.vips[0].services.len(), "{answer}");
    ensure!(in_rings(&site)?.is_empty(), "still in the rings of {:?}", in_rings(&site)?);
    // Another service of the same host, which the order knows nothing of.
    let mut more = config.clone();
    more.add_service("web", "web-too", 8088, &[0, 1, 2]);
    site.daemon().reload(&more)?;
    let later = |site: &Site| -> Result<Backend> {
        let status = site.daemon().status()?;
        Ok(status.service("web-too")?.backend("backend-1").context("backend-1")?.clone())
    };
    ensure!(!later(&site)?.is_in_ring(), "{:?}", later(&site)?);
    ensure!(later(&site)?.operator_order.is_some_and(|order| order.host), "{:?}", later(&site)?);
    let hosts = site.daemon().status()?.hosts;
    ensure!(hosts.len() == 1 && hosts[0].address == address, "{hosts:?}");
    ensure!(hosts[0].backends as usize == more.vips[0].services.len(), "{hosts:?}");
    // One of its backends alone does not come back, and that is said.
    let answer = site.daemon().ask(&["undrain", "web/backend-1"])?;
    ensure!(answer.contains(&format!("`vip-lb undrain {host}`")), "{answer}");

    site.daemon_mut().kill()?;
    site.daemon_mut().launch()?;
    ensure!(site.daemon().status()?.hosts == hosts, "after a restart: {:?}", site.daemon().status()?.hosts);
    site.daemon_mut().hand_over()?;
    ensure!(site.daemon().status()?.hosts == hosts, "after a hand-over: {:?}", site.daemon().status()?.hosts);
    ensure!(
        in_rings(&site)?.is_empty() && !later(&site)?.is_in_ring(),
        "in the rings of {:?}",
        in_rings(&site)?
    );
    connections.exchange(5)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());

    // Its connections end, and nothing is left of it anywhere.
    drop(connections);
    let answer = site.daemon().ask(&["drain", &host, "--wait", "--json"])?;
    ensure!(report(&answer)?.backends.iter().all(|backend| backend.now.starts_with("drained")), "{answer}");
    site.daemon().ask(&["undrain", &host])?;
    ensure!(site.daemon().status()?.hosts.is_empty(), "{:?}", site.daemon().status()?.hosts);
    ensure!(in_rings(&site)?.len() == more.vips[0].services.len(), "back in {:?}", in_rings(&site)?);

    // The same by the file.
    let mut drained = more.clone();
    drained.hosts = vec![HostConfig { address, state: "drain".to_owned() }];
    site.daemon().reload(&drained)?;
    ensure!(in_rings(&site)?.is_empty(), "still in the rings of {:?}", in_rings(&site)?);
    ensure!(site.daemon().status()?.hosts[0].admin == "drain", "{:?}", site.daemon().status()?.hosts);
    site.daemon().reload(&more)?;
    ensure!(in_rings(&site)?.len() == more.vips[0].services.len(), "back in {:?}", in_rings(&site)?);
    // By force: now, and in every service.
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 60)?;
    let doomed = on_backend(&connections, "backend-1");
    ensure!(!doomed.is_empty(), "{:?}", connections.by_backend());
    site.daemon().ask(&["drain", &host, "--force"])?;
    wait_for("the connections of the host to break", LIMIT, || {
        Ok(broken(&connections).is_superset(&doomed).then_some(()))
    })?;
    ensure!(broken(&connections) == doomed, "cut {doomed:?}, broken {:?}", broken(&connections));
    let report = load.finish();
    ensure!(report.failed().count() == 0, "another host lost something: {:?}", report.errors());
    site.succeeded();
    Ok(())
}

/// Where state is kept a disk may be full, read-only or not there: that costs what is kept, and nothing else.
#[test]
fn a_disk_that_takes_nothing_disturbs_nobody() -> Result<()> {
    let options = SiteOptions::new(Mode::L2, Family::V4)?;
    let mut config = config(&options);
    let place = std::env::temp_dir().join(format!("vip-lb-state-{}", std::process::id()));
    let disk = Disk::mount(&place)?;
    config.node.state_dir = Some(disk.path().join("state").display().to_string());
    disk.fill();
    let mut site = Site::start(options, &config)?;
    let client = &site.lab.client.namespace;
    let load = HttpLoad::start(client, LoadOptions::steady(site.web()))?;
    let connections = LongConnections::open(client, site.echo(), 40)?;
    for (trouble, complaint) in [("full", "No space left"), ("read-only", "Read-only file system")] {
        if trouble == "read-only" {
            disk.set_read_only(true)?;
        }
        let mut other = config.clone();
        other.service_mut("web").backends[0].weight = if trouble == "full" { 300 } else { 50 };
        site.daemon().write_config(&other)?;
        let answer = site.daemon().ask(&["reload"])?;
        ensure!(answer.contains("weight"), "{trouble}: {answer}");
        ensure!(answer.contains("cannot be kept"), "{trouble}: {answer}");
        let answer = site.daemon().ask(&["drain", "echo/backend-1"])?;
        ensure!(answer.contains("draining"), "{trouble}: {answer}");
        ensure!(answer.contains("may not outlive the daemon"), "{trouble}: {answer}");
        wait_for("the status to warn", LIMIT, || {
            let warnings = site.daemon().status()?.warnings;
            Ok(warnings.iter().any(|warning| warning.contains(complaint)).then_some(()))
        })
        .with_context(|| {
            format!("a {trouble} disk: {:?}", site.daemon().status().map(|status| status.warnings))
        })?;
        site.daemon().ask(&["undrain", "echo/backend-1"])?;
    }
    let (code, ..) = site.daemon().ask_code(&["rollback"])?;
    ensure!(code == 1, "there is nothing to return to");
    site.daemon_mut().kill()?;
    site.daemon_mut().launch()?;
    // Room again: what could not be kept is.
    disk.set_read_only(false)?;
    disk.empty()?;
    wait_for("the state to be kept", LIMIT, || {
        let status = site.daemon().status()?;
        Ok((status.config.revision.is_some() && status.warnings.is_empty()).then_some(()))
    })?;
    connections.exchange(5)?;
    nothing_lost(&connections, load)?;
    site.succeeded();
    Ok(())
}

fn report(answer: &str) -> Result<DrainReport> {
    serde_json::from_str(answer).with_context(|| format!("read {answer}"))
}

fn orders(site: &Site) -> Result<Vec<(String, String, Option<OperatorOrder>)>> {
    let status = site.daemon().status()?;
    let services = status.vips.into_iter().flat_map(|vip| vip.services);
    let backends = services.flat_map(|service| {
        let named = move |backend: Backend| (service.name.clone(), backend.name, backend.operator_order);
        service.backends.clone().into_iter().map(named).collect::<Vec<_>>()
    });
    Ok(backends.collect())
}

/// The client's ends of the connections that a backend has.
fn on_backend(connections: &LongConnections, backend: &str) -> BTreeSet<SocketAddr> {
    connections.states().into_iter().filter(|of| of.backend == backend).map(|of| of.local).collect()
}

fn broken(connections: &LongConnections) -> BTreeSet<SocketAddr> {
    connections.broken().into_iter().map(|of| of.local).collect()
}
