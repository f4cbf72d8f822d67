//! Under a flood of forged packets, backends are added, drained and restarted in turn, and no connection breaks.

use std::time::Duration;

use anyhow::{Result, ensure};
use vip_lb_tests::lab::{
    Family, Flood, FloodKind, LongConnections, Mode, Site, SiteOptions, status::Service,
};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn syn_flood_l2() -> Result<()> {
    changes_under_flood(Mode::L2, FloodKind::Syn)
}

#[test]
fn ack_flood_l2() -> Result<()> {
    changes_under_flood(Mode::L2, FloodKind::Ack)
}

#[test]
fn syn_flood_ipip() -> Result<()> {
    changes_under_flood(Mode::Ipip, FloodKind::Syn)
}

#[test]
fn ack_flood_ipip() -> Result<()> {
    changes_under_flood(Mode::Ipip, FloodKind::Ack)
}

fn changes_under_flood(mode: Mode, kind: FloodKind) -> Result<()> {
    let mut options = SiteOptions::new(mode, Family::V4)?;
    options.backends = 4;
    let config = options.config(&[100, 100, 200]);
    let four = options.config(&[100, 100, 200, 100]);
    let site = Site::start(options, &config)?;
    let client = &site.lab.client.namespace;
    let mut held = vec![("before the flood", LongConnections::open(client, site.echo(), 40)?)];
    let flood = Flood::start(client, site.echo(), kind, Flood::MODERATE)?;
    held[0].1.exchange(5)?;

    site.daemon().reload(&four)?;
    wait(&site, "backend-4 to join", |service| service.backends.len() == 4 && service.is_complete())?;
    nothing_broke(&held, "add")?;
    held.push(("after the add", LongConnections::open(client, site.echo(), 20)?));

    drain(&site, "backend-1")?;
    nothing_broke(&held, "drain")?;
    held.push(("after the drain", LongConnections::open(client, site.echo(), 20)?));
    undrain(&site, "backend-1")?;
    nothing_broke(&held, "undrain")?;

    // As a rolling restart shows itself to the balancer: each backend leaves and returns in turn.
    for backend in ["backend-1", "backend-2", "backend-3", "backend-4"] {
        drain(&site, backend)?;
        nothing_broke(&held, backend)?;
        undrain(&site, backend)?;
    }
    nothing_broke(&held, "rolling restart")?;
    ensure!(flood.is_running(), "the flood ended before the scenario did");
    site.succeeded();
    Ok(())
}

fn drain(site: &Site, backend: &str) -> Result<()> {
    site.daemon().ask(&["drain", &format!("echo/{backend}")])?;
    wait(site, &format!("{backend} to leave the ring"), |service| {
        service.backend(backend).is_some_and(|backend| !backend.is_in_ring())
    })
}

fn undrain(site: &Site, backend: &str) -> Result<()> {
    site.daemon().ask(&["undrain", &format!("echo/{backend}")])?;
    wait(site, &format!("{backend} to return"), Service::is_complete)
}

fn wait(site: &Site, what: &str, holds: impl FnMut(&Service) -> bool) -> Result<()> {
    site.daemon().wait_service("echo", what, LIMIT, holds).map(drop)
}

fn nothing_broke(held: &[(&str, LongConnections)], what: &str) -> Result<()> {
    for (when, connections) in held {
        connections.exchange(5)?;
        ensure!(
            connections.broken().is_empty(),
            "opened {when}, broken by {what}: {:?}",
            connections.broken()
        );
    }
    Ok(())
}
