//! The daemon is not in the packet path: killed, stopped or started again, nothing is lost.

use std::time::Duration;

use anyhow::{Result, ensure};
use vip_lb_tests::lab::{
    EchoServer, Family, HttpLoad, LoadOptions, LongConnections, Mode, Node, Site, SiteOptions, Transport,
    status::Service, wait_for, who_answers,
};

const LIMIT: Duration = Duration::from_secs(15);

#[test]
fn l2_over_ipv4() -> Result<()> {
    restarts_lose_nothing(Mode::L2, Family::V4)
}

#[test]
fn ipip_over_ipv6() -> Result<()> {
    restarts_lose_nothing(Mode::Ipip, Family::V6)
}

#[test]
fn nat_over_ipv4() -> Result<()> {
    restarts_lose_nothing(Mode::Nat, Family::V4)
}

fn restarts_lose_nothing(mode: Mode, family: Family) -> Result<()> {
    let options = SiteOptions::new(mode, family)?;
    let config = options.config(&[100, 100, 200]);
    let mut site = Site::start(options, &config)?;
    let ports: Vec<u16> = (20_000..20_100).collect();
    let target = site.echo();
    let mapping = |site: &Site| who_answers(&site.lab.client.namespace, target, Transport::Tcp, &ports);
    let before = mapping(&site)?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 30)?;
    let load = HttpLoad::start(&site.lab.client.namespace, LoadOptions::steady(site.web()))?;

    site.daemon_mut().kill()?;
    connections.exchange(10)?;
    ensure!(mapping(&site)? == before, "without a daemon flows go elsewhere");
    site.daemon_mut().launch()?;
    wait_complete(&site)?;
    connections.exchange(10)?;
    ensure!(mapping(&site)? == before, "after a kill and a start flows go elsewhere");

    // With a slot open: what was remembered must be there after the restart.
    site.daemon().ask(&["drain", "echo/backend-1"])?;
    site.daemon().wait_service("echo", "backend-1 to leave the ring", LIMIT, |service| {
        service.backend("backend-1").is_some_and(|backend| !backend.is_in_ring())
    })?;
    let newcomers = LongConnections::open(&site.lab.client.namespace, site.echo(), 30)?;
    site.daemon_mut().stop()?;
    connections.exchange(10)?;
    site.daemon_mut().launch()?;
    connections.exchange(10)?;
    newcomers.exchange(10)?;
    for held in [&connections, &newcomers] {
        ensure!(held.broken().is_empty(), "{:?}", held.broken());
    }
    wait_for("hundreds of requests", LIMIT, || Ok((load.so_far().requests.len() > 500).then_some(())))?;
    let report = load.finish();
    ensure!(report.failed().count() == 0, "{:?}", report.errors());

    // A stop with on_exit: unload takes everything away.
    let mut leaving = config.clone();
    leaving.node.on_exit = Some("unload".to_owned());
    site.daemon().reload(&leaving)?;
    let status = site.daemon_mut().stop()?;
    ensure!(status.is_some_and(|status| status.success()), "{status:?}");
    nothing_is_attached(&site)
}

#[test]
fn unload_takes_everything_away() -> Result<()> {
    let options = SiteOptions::new(Mode::L2, Family::V4)?;
    let config = options.config(&[100, 100]);
    let mut site = Site::start(options, &config)?;
    site.daemon_mut().stop()?;
    let attached = site.lab.edges[0].namespace.ip(&["link", "show", Node::DEVICE])?;
    ensure!(attached.contains("prog/xdp"), "a stopped daemon goes on forwarding: {attached}");
    let target = (site.echo().ip(), EchoServer::PORT).into();
    LongConnections::open(&site.lab.client.namespace, target, 5)?.exchange(3)?;

    let pins = site.daemon().pins().display().to_string();
    let binary = site.options.binary.display().to_string();
    site.lab.edges[0].namespace.run(&binary, &["unload", "--pins", &pins])?;
    nothing_is_attached(&site)
}

fn wait_complete(site: &Site) -> Result<()> {
    for service in ["web", "echo", "echo-udp"] {
        site.daemon().wait_service(service, "all backends in the ring", LIMIT, Service::is_complete)?;
    }
    Ok(())
}

fn nothing_is_attached(site: &Site) -> Result<()> {
    let link = site.lab.edges[0].namespace.ip(&["link", "show", Node::DEVICE])?;
    ensure!(!link.contains("xdp"), "still attached: {link}");
    ensure!(!site.daemon().pins().exists(), "pins are left in {}", site.daemon().pins().display());
    site.succeeded();
    Ok(())
}
