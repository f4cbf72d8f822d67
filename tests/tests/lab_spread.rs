//! Requests to the VIP are spread by weight; a backend that dies is removed, one that comes back returns, and the
//! connections of the others know nothing of it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use vip_lb_tests::lab::{
    Family, HttpLoad, LoadOptions, LongConnection, LongConnections, Mode, Site, SiteOptions,
    status::{Backend, Service},
    wait_for,
};

const LIMIT: Duration = Duration::from_secs(15);
const WEIGHTS: [(&str, u16); 3] = [("backend-1", 100), ("backend-2", 100), ("backend-3", 200)];

#[test]
fn l2_over_ipv4() -> Result<()> {
    spread_removal_return(Mode::L2, Family::V4)
}

#[test]
fn l2_over_ipv6() -> Result<()> {
    spread_removal_return(Mode::L2, Family::V6)
}

#[test]
fn ipip_over_ipv4() -> Result<()> {
    spread_removal_return(Mode::Ipip, Family::V4)
}

#[test]
fn ipip_over_ipv6() -> Result<()> {
    spread_removal_return(Mode::Ipip, Family::V6)
}

#[test]
fn gue_over_ipv4() -> Result<()> {
    spread_removal_return(Mode::Gue, Family::V4)
}

#[test]
fn gue_over_ipv6() -> Result<()> {
    spread_removal_return(Mode::Gue, Family::V6)
}

#[test]
fn nat_over_ipv4() -> Result<()> {
    spread_removal_return(Mode::Nat, Family::V4)
}

#[test]
fn nat_over_ipv6() -> Result<()> {
    spread_removal_return(Mode::Nat, Family::V6)
}

fn spread_removal_return(mode: Mode, family: Family) -> Result<()> {
    let options = SiteOptions::new(mode, family)?;
    let config = options.config(&WEIGHTS.map(|(_, weight)| weight));
    let mut site = Site::start(options, &config)?;
    let client = &site.lab.client.namespace;

    let spread = HttpLoad::run(client, LoadOptions::count(site.web(), 2000))?;
    ensure!(spread.failed().count() == 0, "failed while nothing happened: {:?}", spread.errors());
    // Five standard deviations of a share of a quarter in 2000 requests.
    ensure!(spread.share_error(&WEIGHTS) <= 0.2, "{:?} for {WEIGHTS:?}", spread.by_backend());

    let connections = LongConnections::open(client, site.echo(), 40)?;
    ensure!(connections.by_backend().len() == 3, "{:?}", connections.by_backend());
    let load = HttpLoad::start(client, LoadOptions::steady(site.web()))?;

    // A server that died: the machine refuses connections.
    site.kill_servers("backend-2");
    for service in ["web", "echo", "echo-udp"] {
        wait_removed(&site, service, "backend-2")?;
    }
    let removed = Instant::now();
    wait_requests(&load, removed, 300)?;
    let after = load.so_far().since(removed);
    ensure!(after.failed().count() == 0, "failed after the removal: {:?}", after.errors());
    ensure!(!after.by_backend().contains_key("backend-2"));
    connections.exchange(5)?;
    ensure!(
        broken_elsewhere(&connections, "backend-2").is_empty(),
        "{:?}",
        broken_elsewhere(&connections, "backend-2")
    );

    site.start_servers("backend-2")?;
    wait_complete(&site, "web")?;
    let returned = Instant::now();
    wait_requests(&load, returned, 500)?;
    let after = load.finish().since(returned);
    ensure!(after.by_backend().contains_key("backend-2"), "{:?}", after.by_backend());
    ensure!(after.failed().count() == 0, "failed after the return: {:?}", after.errors());
    connections.exchange(5)?;
    ensure!(
        broken_elsewhere(&connections, "backend-2").is_empty(),
        "{:?}",
        broken_elsewhere(&connections, "backend-2")
    );

    // A machine that is gone: nothing answers any more, not even with a refusal.
    let survivors_before = broken_elsewhere(&connections, "backend-2").len();
    site.lab.set_cable(site.lab.backend("backend-2"), false)?;
    wait_removed(&site, "web", "backend-2")?;
    let load = HttpLoad::run(&site.lab.client.namespace, LoadOptions::count(site.web(), 300))?;
    ensure!(load.failed().count() == 0, "failed after the removal: {:?}", load.errors());
    site.lab.set_cable(site.lab.backend("backend-2"), true)?;
    wait_complete(&site, "web")?;
    connections.exchange(5)?;
    ensure!(broken_elsewhere(&connections, "backend-2").len() == survivors_before);
    site.succeeded();
    Ok(())
}

fn wait_removed(site: &Site, service: &str, backend: &str) -> Result<Service> {
    site.daemon().wait_service(
        service,
        &format!("{backend} to be removed from {service}"),
        LIMIT,
        |service| service.backend(backend).is_some_and(Backend::is_removed),
    )
}

fn wait_complete(site: &Site, service: &str) -> Result<Service> {
    site.daemon().wait_service(service, "all backends in the ring", LIMIT, Service::is_complete)
}

fn wait_requests(load: &HttpLoad, since: Instant, count: usize) -> Result<()> {
    wait_for("requests", LIMIT, || Ok((load.so_far().since(since).requests.len() >= count).then_some(())))
}

fn broken_elsewhere(connections: &LongConnections, dead: &str) -> Vec<LongConnection> {
    connections.broken().into_iter().filter(|connection| connection.backend != dead).collect()
}
