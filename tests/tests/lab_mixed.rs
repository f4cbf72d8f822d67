//! Backends in different modes in one service.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use vip_lb_tests::lab::{
    Family, HttpLoad, LoadOptions, LongConnection, LongConnections, Mode, Site, SiteOptions, UdpFlows,
    status::{Backend, Service},
};

const LIMIT: Duration = Duration::from_secs(15);

#[test]
fn every_mode_in_one_service_over_ipv4() -> Result<()> {
    every_mode_in_one_service(Family::V4)
}

#[test]
fn every_mode_in_one_service_over_ipv6() -> Result<()> {
    every_mode_in_one_service(Family::V6)
}

fn every_mode_in_one_service(family: Family) -> Result<()> {
    let mut options = SiteOptions::new(Mode::L2, family)?;
    options.backends = 4;
    options.other_modes = BTreeMap::from([(1, Mode::Ipip), (2, Mode::Gue), (3, Mode::Nat)]);
    let mut config = options.config(&[100; 4]);
    config.node.gue_port = Some(6090);
    let mut site = Site::start(options, &config)?;
    let client = &site.lab.client.namespace;

    let report = HttpLoad::run(client, LoadOptions::count(site.web(), 400))?;
    ensure!(report.failed().count() == 0, "{:?}", report.errors());
    ensure!(report.by_backend().len() == 4, "{:?}", report.by_backend());
    let connections = LongConnections::open(client, site.echo(), 40)?;
    ensure!(connections.by_backend().len() == 4, "{:?}", connections.by_backend());
    let flows = UdpFlows::open(client, site.echo(), 40)?;
    ensure!(flows.by_backend().len() == 4, "{:?}", flows.by_backend());
    for verdict in ["forwarded_l2", "forwarded_ipip", "forwarded_gue", "forwarded_nat", "translated_reply"] {
        ensure!(site.daemon().counter(verdict)? > 0, "no packet was {verdict}");
    }

    // One drains after the other; slots open that remember a backend of another mode.
    for name in ["backend-1", "backend-2", "backend-3", "backend-4"] {
        site.daemon().ask(&["drain", name])?;
        wait(&site, "web", name, |service| {
            service.backend(name).is_some_and(|backend| !backend.is_in_ring())
        })?;
        let report = HttpLoad::run(client, LoadOptions::count(site.web(), 100))?;
        ensure!(report.failed().count() == 0, "without {name}: {:?}", report.errors());
        ensure!(!report.by_backend().contains_key(name), "{:?}", report.by_backend());
        site.daemon().ask(&["undrain", name])?;
        wait(&site, "web", name, Service::is_complete)?;
    }
    nothing_broke(&connections, &flows, "drains")?;

    // Both unpack either, and what is unpacked is the same.
    for service in config.services_mut() {
        service.backends[1].mode = Some(Mode::Gue);
        service.backends[2].mode = Some(Mode::Ipip);
    }
    site.daemon().reload(&config)?;
    nothing_broke(&connections, &flows, "exchanged tunnels")?;

    for dead in ["backend-4", "backend-1"] {
        site.kill_servers(dead);
        for service in ["web", "echo"] {
            wait(&site, service, dead, |service| service.backend(dead).is_some_and(Backend::is_removed))?;
        }
    }
    let report = HttpLoad::run(&site.lab.client.namespace, LoadOptions::count(site.web(), 200))?;
    ensure!(report.failed().count() == 0, "{:?}", report.errors());
    connections.exchange(3)?;
    let elsewhere: Vec<LongConnection> = connections
        .broken()
        .into_iter()
        .filter(|broken| !["backend-4", "backend-1"].contains(&broken.backend.as_str()))
        .collect();
    ensure!(elsewhere.is_empty(), "deaths elsewhere broke {elsewhere:?}");
    site.succeeded();
    Ok(())
}

fn nothing_broke(connections: &LongConnections, flows: &UdpFlows, what: &str) -> Result<()> {
    connections.exchange(3)?;
    flows.exchange(2)?;
    ensure!(connections.broken().is_empty(), "{what} broke {:?}", connections.broken());
    ensure!(flows.moved().is_empty(), "{what} moved {:?}", flows.moved());
    Ok(())
}

fn wait(site: &Site, service: &str, backend: &str, holds: impl FnMut(&Service) -> bool) -> Result<Service> {
    site.daemon().wait_service(service, &format!("{backend} to leave or return"), LIMIT, holds)
}
