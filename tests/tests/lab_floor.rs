//! When some backends look bad, or all: tiers that fail over and back, a service that fails open or closed, and a cap on what checks may remove at once.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{
    Family, HttpLoad, HttpReport, LoadOptions, LongConnections, Mode, Node, Site, SiteOptions,
    config::{ConfigFile, MinHealthy},
    nothing_lost, patience,
    status::{Backend, Service},
    vip, wait_for,
};

const LIMIT: Duration = Duration::from_secs(15);
const ALL: [&str; 3] = ["backend-1", "backend-2", "backend-3"];

fn site(family: Family) -> Result<(Site, ConfigFile)> {
    let options = SiteOptions::new(Mode::L2, family)?;
    let config = options.config(&[100, 100, 100]);
    Ok((Site::start(options, &config)?, config))
}

fn wait(site: &Site, what: &str, holds: impl FnMut(&Service) -> bool) -> Result<Service> {
    site.daemon().wait_service("web", what, LIMIT, holds)
}

fn requests(site: &Site) -> Result<HttpReport> {
    HttpLoad::run(&site.lab.client.namespace, LoadOptions::count(site.web(), 300))
}

/// Who answers requests, all of which succeed.
fn answers_of(site: &Site) -> Result<Vec<String>> {
    let report = requests(site)?;
    ensure!(report.failed().count() == 0, "{:?}", report.errors());
    Ok(report.by_backend().keys().map(|name| (*name).to_owned()).collect())
}

fn in_ring(service: &Service) -> Vec<&str> {
    service.backends.iter().filter(|of| of.is_in_ring()).map(|of| of.name.as_str()).collect()
}

#[test]
fn a_standby_takes_over_and_gives_back() -> Result<()> {
    let (mut site, mut config) = site(Family::V4)?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 60)?;
    let before = connections.by_backend();
    ensure!(before.contains_key("backend-3"), "{before:?}");
    for service in config.services_mut() {
        service.backends[2].tier = Some(1);
    }
    site.daemon().reload(&config)?;
    let service = wait(&site, "backend-3 to stand by", |of| in_ring(of) == ["backend-1", "backend-2"])?;
    let standby = service.backend("backend-3").context("backend-3")?;
    ensure!(
        standby.forwarding.reason.as_deref() == Some("standby: an earlier tier is enough"),
        "{standby:?}"
    );
    ensure!(answers_of(&site)? == ["backend-1", "backend-2"]);
    connections.exchange(5)?;
    ensure!(connections.by_backend() == before, "{:?}", connections.by_backend());
    drop(connections);

    // One of the first tier is enough, none is not.
    site.kill_servers("backend-1");
    wait(&site, "backend-1 to leave", |of| in_ring(of) == ["backend-2"])?;
    ensure!(answers_of(&site)? == ["backend-2"]);
    site.kill_servers("backend-2");
    let service = wait(&site, "the standby to take over", |of| in_ring(of) == ["backend-3"])?;
    ensure!((service.floor.state.as_str(), service.floor.tier) == ("met", 1), "{:?}", service.floor);
    ensure!(answers_of(&site)? == ["backend-3"]);
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 20)?;
    site.start_servers("backend-1")?;
    wait(&site, "the first tier to have its service back", |of| in_ring(of) == ["backend-1"])?;
    ensure!(answers_of(&site)? == ["backend-1"]);
    connections.exchange(5)?;
    ensure!(connections.broken().is_empty(), "what the standby has it keeps: {:?}", connections.broken());
    let events = site.daemon().ask(&["events", "--json"])?;
    let told = events.lines().filter(|line| line.contains("floor_changed") && line.contains("\"web\""));
    ensure!(told.filter(|line| line.contains("\"tier\":1")).count() == 1, "{events}");
    site.succeeded();
    Ok(())
}

/// All checks fail and all servers work: it is the checks that are wrong, or this node.
#[test]
fn when_all_checks_fail_everybody_is_served_on() -> Result<()> {
    let (site, _) = site(Family::V6)?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 60)?;
    let load = HttpLoad::start(&site.lab.client.namespace, LoadOptions::steady(site.web()))?;
    for backend in ALL {
        site.http_server(backend)?.set_healthy(false)?;
    }
    let service = wait(&site, "the service to fail open", |of| of.floor.state == "fail_open")?;
    ensure!(in_ring(&service) == ALL, "{service:?}");
    ensure!(service.backends.iter().all(|of| of.health.state == "down"), "{service:?}");
    ensure!(
        service.backends.iter().all(|of| of
            .forwarding
            .reason
            .as_deref()
            .is_some_and(|why| why.contains("fails open"))),
        "{service:?}"
    );
    ensure!(answers_of(&site)? == ALL);
    let text = site.daemon().ask(&["status"])?;
    ensure!(text.contains("0 of 3 backends healthy, 1 needed: fails open"), "{text}");
    let client = SocketAddr::from((site.lab.client.address(Family::V6), 40_000)).to_string();
    let text = site.daemon().ask(&["explain", &client, &site.web().to_string()])?;
    ensure!(text.contains("kept although its check fails: too few are healthy"), "{text}");
    // One that is healthy is enough, and is trusted alone.
    site.http_server("backend-2")?.set_healthy(true)?;
    wait(&site, "the service to trust its checks again", |of| {
        of.floor.state == "met" && in_ring(of) == ["backend-2"]
    })?;
    for backend in ["backend-1", "backend-3"] {
        site.http_server(backend)?.set_healthy(true)?;
    }
    wait(&site, "all to return", Service::is_complete)?;
    connections.exchange(5)?;
    nothing_lost(&connections, load)?;
    site.succeeded();
    Ok(())
}

#[test]
fn a_service_that_fails_closed_answers_nothing_and_gives_up_its_vip() -> Result<()> {
    let (site, mut config) = site(Family::V4)?;
    for service in config.services_mut() {
        service.min_healthy = Some(MinHealthy::Share("50%".to_owned()));
        service.below_min = Some("fail_closed".to_owned());
    }
    site.daemon().reload(&config)?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 60)?;
    site.http_server("backend-1")?.set_healthy(false)?;
    wait(&site, "one of three to leave", |of| in_ring(of) == ["backend-2", "backend-3"])?;
    ensure!(answers_of(&site)? == ["backend-2", "backend-3"]);
    site.http_server("backend-2")?.set_healthy(false)?;
    let service = wait(&site, "the service to close", |of| of.floor.state == "fail_closed")?;
    ensure!(in_ring(&service).is_empty(), "{service:?}");
    let answered = |site: &Site| -> Result<(bool, Option<String>)> {
        let mut vips = site.daemon().status()?.vips;
        Ok(vips.remove(0)).map(|vip| (vip.answering, vip.withdrawn))
    };
    let why = "all of its services have too few healthy backends and fail closed";
    wait_for("the VIP to be given up with its last service", LIMIT, || {
        Ok((answered(&site)? == (false, Some(why.to_owned()))).then_some(()))
    })?;
    let report = requests(&site)?;
    ensure!(report.by_backend().is_empty(), "answered by {:?}", report.by_backend());
    // What answers badly keeps the connections that it has.
    connections.exchange(5)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
    // Nobody answers for the address any more.
    let client = &site.lab.client.namespace;
    client.ip(&["neigh", "flush", "dev", Node::DEVICE])?;
    let address = vip(site.options.family).to_string();
    ensure!(client.run("ping", &["-c", "1", "-W", "1", &address]).is_err(), "the VIP answers");
    site.http_server("backend-2")?.set_healthy(true)?;
    wait(&site, "the service to open", |of| in_ring(of) == ["backend-2", "backend-3"])?;
    wait_for("the VIP to be answered for", LIMIT, || Ok((answered(&site)? == (true, None)).then_some(())))?;
    ensure!(answers_of(&site)? == ["backend-2", "backend-3"]);
    site.succeeded();
    Ok(())
}

#[test]
fn checks_remove_no_more_at_once_than_they_may() -> Result<()> {
    let (mut site, mut config) = site(Family::V4)?;
    for service in config.services_mut() {
        service.max_removed = Some("30%".to_owned());
    }
    site.daemon().reload(&config)?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 60)?;
    for backend in ["backend-1", "backend-2"] {
        site.http_server(backend)?.set_healthy(false)?;
    }
    let service = wait(&site, "one to be removed and one to be kept", |of| of.floor.held == 1)?;
    ensure!(service.floor.healthy == 1 && in_ring(&service).len() == 2, "{service:?}");
    let kept: Vec<&Backend> = service.backends.iter().filter(|of| of.forwarding.reason.is_some()).collect();
    ensure!(kept.iter().any(|of| of.is_in_ring() && of.health.state == "down"), "{kept:?}");
    ensure!(answers_of(&site)?.len() == 2);
    let events = site.daemon().ask(&["events", "--json"])?;
    ensure!(
        events.lines().any(|line| line.contains("floor_changed") && line.contains("\"held\":1")),
        "{events}"
    );
    // A successor knows that one was removed just now.
    site.daemon_mut().hand_over()?;
    let service = site.daemon().status()?.service("web")?.clone();
    ensure!(service.floor.held == 1 && in_ring(&service).len() == 2, "{service:?}");
    // Both are bad for good: the other one's turn comes, half a minute later.
    let limit = LIMIT + Duration::from_secs(30);
    site.daemon()
        .wait_service("web", "the other one to be removed", limit, |of| in_ring(of) == ["backend-3"])?;
    connections.exchange(5)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
    site.succeeded();
    Ok(())
}

#[test]
fn a_backend_that_returns_gets_its_weight_in_steps() -> Result<()> {
    let (mut site, mut config) = site(Family::V4)?;
    for service in config.services_mut() {
        service.slow_start = Some(format!("{}s", 9 * patience()));
    }
    site.daemon().reload(&config)?;
    site.kill_servers("backend-3");
    wait(&site, "backend-3 to leave", |of| in_ring(of) == ["backend-1", "backend-2"])?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 60)?;
    let load = HttpLoad::start(&site.lab.client.namespace, LoadOptions::steady(site.web()))?;
    site.start_servers("backend-3")?;
    let service = wait(&site, "its first steps", |of| {
        of.backend("backend-3").is_some_and(|backend| backend.is_in_ring() && backend.weight_percent >= 20)
    })?;
    let before = service.backend("backend-3").context("backend-3")?.weight_percent;
    // The successor goes on with them.
    site.daemon_mut().hand_over()?;
    let mut steps: Vec<(u8, f64)> = Vec::new();
    site.daemon().wait_service("web", "the whole weight", LIMIT, |of| {
        let Some(backend) = of.backend("backend-3").filter(|backend| backend.is_in_ring()) else {
            return false;
        };
        let step = (backend.weight_percent, backend.ring_share);
        if steps.last() != Some(&step) {
            steps.push(step);
        }
        backend.weight_percent == 100
    })?;
    // However long the hand-over took.
    ensure!(steps.len() > 2, "too few steps were seen: {steps:?}");
    ensure!(steps[0].0 >= before, "the successor began anew after {before} %: {steps:?}");
    ensure!(steps.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{steps:?}");
    for (percent, share) in &steps {
        let weight = f64::from(*percent) / 100.0;
        ensure!((share - weight / (2.0 + weight)).abs() < 0.01, "{percent} %: {share} of the ring");
    }
    connections.exchange(5)?;
    nothing_lost(&connections, load)?;
    site.succeeded();
    Ok(())
}

#[test]
fn probes_of_real_servers_are_measured() -> Result<()> {
    let (site, _) = site(Family::V6)?;
    let service = wait(&site, "ten probes of each backend", |of| {
        of.backends.iter().all(|backend| backend.health.probe.is_some_and(|probe| probe.probes >= 10))
    })?;
    for backend in &service.backends {
        let (probe, connect) =
            backend.health.probe.zip(backend.health.connect).context("both are measured")?;
        ensure!(connect.probes == probe.probes && connect.p50_ms > 0.0, "{backend:?}");
        for of in [probe, connect] {
            ensure!(of.p50_ms <= of.p90_ms && of.p90_ms <= of.p99_ms, "{of:?}");
        }
        ensure!(connect.p50_ms < probe.p50_ms, "an answer comes after its connection: {backend:?}");
    }
    let text = site.daemon().ask(&["status", "--latency"])?;
    ensure!(text.contains("backend-3") && text.contains(" ms"), "{text}");
    site.succeeded();
    Ok(())
}
