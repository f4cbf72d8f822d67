//! One test for each way to forward, the whole life of a site in short: requests are spread, a change breaks nothing, a server that
//! dies is taken out and takes only its own connections along. `cargo xtask kernels` runs these on other kernels, some of them on
//! an emulated processor, so they are frugal.

use std::time::Duration;

use anyhow::{Result, ensure};
use vip_lb_tests::lab::{
    Family, HttpLoad, HttpReport, LoadOptions, LongConnection, LongConnections, Mode, Node, Site,
    SiteOptions,
    status::{Backend, Service},
};

const LIMIT: Duration = Duration::from_secs(15);

#[test]
fn l2() -> Result<()> {
    life_of_a_site(Mode::L2)
}

#[test]
fn ipip() -> Result<()> {
    life_of_a_site(Mode::Ipip)
}

#[test]
fn gue() -> Result<()> {
    life_of_a_site(Mode::Gue)
}

#[test]
fn nat() -> Result<()> {
    life_of_a_site(Mode::Nat)
}

fn life_of_a_site(mode: Mode) -> Result<()> {
    let options = SiteOptions::new(mode, Family::V4)?;
    let config = options.config(&[100, 100, 200]);
    let mut site = Site::start(options, &config)?;
    let device = site.lab.edges[0].namespace.ip(&["link", "show", Node::DEVICE])?;
    ensure!(device.contains(" xdp "), "not attached natively: {device}");
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 24)?;
    ensure!(connections.by_backend().len() == 3, "{:?}", connections.by_backend());
    let spread = requests(&site, "while nothing happened")?;
    ensure!(spread.by_backend().len() == 3, "{:?}", spread.by_backend());

    site.daemon().ask(&["drain", "backend-1"])?;
    wait(&site, "web", "backend-1 to leave the ring", |service| {
        service.backend("backend-1").is_some_and(|backend| !backend.is_in_ring())
    })?;
    let drained = requests(&site, "after a drain")?;
    ensure!(!drained.by_backend().contains_key("backend-1"), "{:?}", drained.by_backend());
    connections.exchange(3)?;
    ensure!(connections.broken().is_empty(), "a drain broke {:?}", connections.broken());
    site.daemon().ask(&["undrain", "backend-1"])?;
    wait(&site, "web", "backend-1 to return", Service::is_complete)?;

    site.kill_servers("backend-2");
    for service in ["web", "echo"] {
        wait(&site, service, "backend-2 to be removed", |service| {
            service.backend("backend-2").is_some_and(Backend::is_removed)
        })?;
    }
    let rest = requests(&site, "after a removal")?;
    ensure!(!rest.by_backend().contains_key("backend-2"), "{:?}", rest.by_backend());
    connections.exchange(3)?;
    let others: Vec<LongConnection> =
        connections.broken().into_iter().filter(|connection| connection.backend != "backend-2").collect();
    ensure!(others.is_empty(), "a death elsewhere broke {others:?}");

    site.start_servers("backend-2")?;
    wait(&site, "web", "backend-2 to return", Service::is_complete)?;
    requests(&site, "after the return")?;
    site.succeeded();
    Ok(())
}

fn wait(site: &Site, service: &str, what: &str, holds: impl FnMut(&Service) -> bool) -> Result<()> {
    site.daemon().wait_service(service, what, LIMIT, holds).map(drop)
}

fn requests(site: &Site, when: &str) -> Result<HttpReport> {
    let report = HttpLoad::run(&site.lab.client.namespace, LoadOptions::count(site.web(), 200))?;
    ensure!(report.failed().count() == 0, "requests failed {when}: {:?}", report.errors());
    Ok(report)
}
