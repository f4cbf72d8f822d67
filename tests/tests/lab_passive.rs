//! Failures that the traffic itself shows: a backend that swallows its packets is found by its clients' SYNs, and nobody else is.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use vip_lb_tests::lab::{
    Family, Flood, FloodKind, Mode, NewConnections, Site, SiteOptions, command::run, patience,
    status::Backend, wait_for,
};

const LIMIT: Duration = Duration::from_secs(20);

/// Clients in a second, as many as an ordinary machine can do besides everything else.
const CLIENTS: u32 = 300;

/// A site whose checks find a dead backend after a minute, the traffic excepted.
fn site(mode: Mode, passive: &str) -> Result<Site> {
    let options = SiteOptions::new(mode, Family::V4)?;
    let mut config = options.config(&[100, 100, 100]);
    config.vips[0].services.retain(|service| service.protocol == "tcp");
    for service in config.services_mut() {
        service.passive = Some(passive.to_owned());
        let health = service.health.as_mut().context("a check")?;
        health.interval = "2m".to_owned();
        health.timeout = "30s".to_owned();
    }
    Site::start(options, &config)
}

fn clients(site: &Site, source: Option<IpAddr>, per_second: u32) -> Result<NewConnections> {
    NewConnections::start(&site.lab.client.namespace, source, site.echo(), per_second / patience())
}

/// Waits until the daemon looks at all flows, and knows from enough of them how it usually is.
fn wait_until_usual(site: &Site) -> Result<()> {
    wait_for("handshakes with all backends to be seen", LIMIT, || {
        let seen = backends(site)?.iter().all(|backend| {
            backend["passive"]["handshakes"].as_u64() > Some(100)
                && backend["passive"]["handshake_p50_us"].is_u64()
        });
        Ok(seen.then_some(()))
    })
}

fn backends(site: &Site) -> Result<Vec<Value>> {
    let status: Value = site.daemon().ask_json(&["status"])?;
    let services = status["vips"][0]["services"].as_array().context("services")?;
    let echo = services.iter().find(|service| service["name"] == "echo").context("the service")?;
    Ok(echo["backends"].as_array().context("backends")?.clone())
}

fn count(site: &Site, of: &str) -> Result<u64> {
    Ok(backends(site)?.iter().filter_map(|backend| backend["passive"][of].as_u64()).sum())
}

fn events(site: &Site) -> Result<Vec<Value>> {
    let told = site.daemon().ask(&["events", "--json"])?;
    told.lines().map(|line| serde_json::from_str(line).context("an event")).collect()
}

fn suspicions(site: &Site) -> Result<Vec<Value>> {
    Ok(events(site)?.into_iter().filter(|event| event["event"] == "suspected").collect())
}

/// Everybody is up, and has been all the time.
fn nobody_was_removed(site: &Site) -> Result<()> {
    let down: Vec<_> = events(site)?.into_iter().filter(|event| event["to"] == "down").collect();
    ensure!(down.is_empty(), "{down:?}");
    Ok(())
}

/// The checks alone would take a minute and more: three probes, half a minute apart.
fn a_black_hole_is_left(mode: Mode) -> Result<()> {
    let site = site(mode, "on")?;
    let clients = clients(&site, None, CLIENTS)?;
    wait_until_usual(&site)?;
    nobody_was_removed(&site)?;
    site.lab.backend("backend-2").set_mute(true)?;
    site.daemon().wait_service("echo", "backend-2 to leave the ring", LIMIT, |service| {
        service.backend("backend-2").is_some_and(Backend::is_removed)
    })?;
    let told = wait_for("the events to be kept", LIMIT, || {
        let told = events(&site)?;
        Ok(told.iter().any(|event| event["to"] == "down").then_some(told))
    })?;
    let of = |wanted: &str| {
        let found = told.iter().position(|event| {
            event["event"] == wanted
                && event["backend"] == "backend-2"
                && event["to"] != "up"
                && event["service"] == "echo"
        });
        found.with_context(|| format!("no {wanted} in {told:?}"))
    };
    let suspected = of("suspected")?;
    ensure!(suspected < told.iter().position(|event| event["to"] == "down").context("down")?, "{told:?}");
    let event = &told[suspected];
    ensure!(event["probed"] == true && event["question"] == "handshake", "{event}");
    ensure!(event["unanswered"].as_u64() >= Some(3) && event["networks"] == 1, "{event}");
    ensure!(event["others_answered"].as_u64() > Some(0), "{event}");
    let others: Vec<_> =
        told.iter().filter(|event| event["to"] == "down" && event["backend"] != "backend-2").collect();
    ensure!(others.is_empty(), "{others:?}");

    // It speaks again, and comes back by its checks.
    let answered = clients.answered();
    site.lab.backend("backend-2").set_mute(false)?;
    wait_for("clients to be served as before", LIMIT, || {
        Ok((clients.answered() > answered + 100).then_some(()))
    })?;
    site.succeeded();
    Ok(())
}

#[test]
fn a_black_hole_is_left_l2() -> Result<()> {
    a_black_hole_is_left(Mode::L2)
}

#[test]
fn a_black_hole_is_left_ipip() -> Result<()> {
    a_black_hole_is_left(Mode::Ipip)
}

#[test]
fn a_black_hole_is_left_nat() -> Result<()> {
    a_black_hole_is_left(Mode::Nat)
}

#[test]
fn who_only_observes_tells_and_leaves_the_backend_where_it_is() -> Result<()> {
    let site = site(Mode::L2, "observe")?;
    let _clients = clients(&site, None, CLIENTS)?;
    wait_until_usual(&site)?;
    site.lab.backend("backend-3").set_mute(true)?;
    let told = wait_for("a suspicion", LIMIT, || Ok(suspicions(&site)?.into_iter().next()))?;
    ensure!(told["backend"] == "backend-3" && told["probed"] == false, "{told}");
    // A second one, so that whatever the first one could have led to has happened.
    wait_for("another suspicion", LIMIT, || Ok((suspicions(&site)?.len() > 1).then_some(())))?;
    nobody_was_removed(&site)?;
    let socket = site.daemon().socket().display().to_string();
    let page =
        run("curl", &["-sS", "--max-time", "5", "--unix-socket", &socket, "http://localhost/metrics"])?;
    let suspected = "vip_lb_backend_suspicions_total{service=\"echo\",backend=\"backend-3\"}";
    let line = page.lines().find(|line| line.starts_with(suspected)).context("the metric")?;
    ensure!(!line.ends_with(" 0"), "{line}");
    ensure!(
        page.contains(
            "vip_lb_backend_handshake_seconds_bucket{service=\"echo\",backend=\"backend-1\",le=\"+Inf\"}"
        ),
        "{page}"
    );
    site.succeeded();
    Ok(())
}

#[test]
fn a_client_whose_own_network_is_broken_puts_nobody_under_suspicion() -> Result<()> {
    let site = site(Mode::L2, "on")?;
    let broken: IpAddr = [10, 77, 0, 200].into();
    site.lab.client.namespace.ip(&["addr", "add", "10.77.0.200/24", "dev", "eth0"])?;
    for backend in &site.lab.backends {
        backend.swallow_answers_to(broken)?;
    }
    let healthy = clients(&site, Some(site.lab.client.address(Family::V4)), 60)?;
    wait_until_usual(&site)?;
    let connections = count(&site, "connections")?;
    let lost = clients(&site, Some(broken), CLIENTS)?;
    let answered = healthy.answered();
    wait_for("many of its SYNs to be seen", LIMIT, || {
        let seen = count(&site, "connections")? - connections;
        Ok((seen > 1500 && healthy.answered() > answered + 100).then_some(()))
    })?;
    ensure!(lost.answered() == 0, "{} were answered", lost.answered());
    let suspicions = suspicions(&site)?;
    ensure!(suspicions.is_empty(), "{suspicions:?}");
    nobody_was_removed(&site)?;
    site.succeeded();
    Ok(())
}

#[test]
fn a_flood_of_forged_syns_puts_nobody_under_suspicion() -> Result<()> {
    let site = site(Mode::L2, "on")?;
    let clients = clients(&site, None, 100)?;
    wait_until_usual(&site)?;
    let flood = Flood::start(&site.lab.client.namespace, site.echo(), FloodKind::Syn, 20_000)?;
    let answered = clients.answered();
    wait_for("clients to be served amid the flood", LIMIT, || {
        Ok((clients.answered() > answered + 600).then_some(()))
    })?;
    ensure!(flood.is_running(), "the flood ended by itself");
    drop(flood);
    let suspicions = suspicions(&site)?;
    ensure!(suspicions.is_empty(), "{suspicions:?}");
    nobody_was_removed(&site)?;
    site.succeeded();
    Ok(())
}
