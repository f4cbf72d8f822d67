//! Routes that lead packets for a VIP to a node: when they are there, and that nothing but a reason moves them.

use std::{
    fs,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{
    ConfigFile, Daemon, Family, Mode, RouteConfig, Site, SiteOptions, edge_address, patience, status::Route,
    vip, wait_for,
};

const LIMIT: Duration = Duration::from_secs(20);

/// One node, whose VIP of this family is to be routed.
fn site(family: Family) -> Result<(Site, ConfigFile)> {
    let options = SiteOptions { backends: 2, ..SiteOptions::new(Mode::L2, family)? };
    let mut config = options.config(&[100, 100]);
    config.vips[0].ownership = Some("route".to_owned());
    Ok((Site::without_daemons(options)?, config))
}

/// The node's routes of vip-lb to the VIP, in all tables.
fn routes(site: &Site) -> Result<Vec<String>> {
    let family = if site.options.family == Family::V4 { "-4" } else { "-6" };
    let arguments = [family, "route", "show", "table", "all", "proto", "118"];
    let shown = site.lab.edges[0].namespace.ip(&arguments)?;
    Ok(shown.lines().map(|line| line.trim().to_owned()).collect())
}

fn wait_routes(site: &Site, what: &str, holds: impl Fn(&[String]) -> bool) -> Result<()> {
    let mut last = Vec::new();
    wait_for(what, LIMIT, || {
        last = routes(site)?;
        Ok(holds(&last).then_some(()))
    })
    .with_context(|| format!("the routes are {last:?}"))
}

fn has_device(site: &Site, name: &str) -> Result<bool> {
    let links = site.lab.edges[0].namespace.ip(&["-br", "link", "show"])?;
    Ok(links.lines().any(|line| line.split(['@', ' ']).next() == Some(name)))
}

fn route(daemon: &Daemon) -> Result<Route> {
    daemon.status()?.vips.remove(0).route.context("a route")
}

/// Waits until the daemon says that the route came or went, for this reason.
fn wait_told(daemon: &Daemon, published: bool, why: &str) -> Result<()> {
    let mut last = None;
    wait_for(why, LIMIT, || {
        let route = route(daemon)?;
        let holds = route.published == published
            && route.changes.last().is_some_and(|change| change.published == published && change.why == why);
        last = Some(route);
        Ok(holds.then_some(()))
    })
    .with_context(|| format!("it says {last:?}"))
}

const ABLE: &str = "this node is able to forward";

#[test]
fn a_route_is_there_while_there_is_no_reason_against_it_over_ipv4() -> Result<()> {
    comes_and_goes(Family::V4)
}

#[test]
fn a_route_is_there_while_there_is_no_reason_against_it_over_ipv6() -> Result<()> {
    comes_and_goes(Family::V6)
}

fn comes_and_goes(family: Family) -> Result<()> {
    let (mut site, mut config) = site(family)?;
    for service in config.services_mut() {
        service.below_min = Some("fail_closed".to_owned());
        service.max_removed = Some("100%".to_owned());
    }
    site.start_daemons(&config)?;
    wait_told(site.daemon(), true, ABLE)?;
    let found = routes(&site)?;
    let [only] = &found[..] else { anyhow::bail!("routes {found:?}") };
    let expected = format!("{} dev vip-lb ", vip(family));
    ensure!(only.starts_with(&expected) && only.contains("metric 1024"), "{only}");
    let node = &site.lab.edges[0].namespace;
    let local = node.ip(&["route", "show", "table", "local"])?;
    ensure!(!local.contains(&vip(family).to_string()), "the host has the VIP: {local}");
    ensure!(site.daemon().status()?.vips[0].answering);
    let kind = route(site.daemon())?.device_kind;
    let has_dummies = site.lab.client.namespace.ip(&["link", "add", "some", "type", "dummy"]).is_ok();
    ensure!(kind.as_deref() == Some(if has_dummies { "dummy" } else { "veth" }), "{kind:?}");
    let said = site.daemon().ask(&["vip"])?;
    ensure!(said.contains(": this node publishes a route\n"), "{said}");

    // The operator's word, and the end of it.
    site.daemon().ask(&["drain", "--node"])?;
    wait_told(site.daemon(), false, "this node is drained by the operator")?;
    ensure!(routes(&site)?.is_empty(), "{:?}", routes(&site)?);
    site.daemon().ask(&["undrain", "--node"])?;
    wait_told(site.daemon(), true, ABLE)?;

    // No backend is left.
    for backend in ["backend-1", "backend-2"] {
        site.kill_servers(backend);
    }
    let closed = "all of its services have too few healthy backends and fail closed";
    wait_told(site.daemon(), false, closed)?;
    ensure!(routes(&site)?.is_empty(), "{:?}", routes(&site)?);
    for backend in ["backend-1", "backend-2"] {
        site.start_servers(backend)?;
    }
    wait_told(site.daemon(), true, ABLE)?;

    // Elsewhere on reload, and away with the device.
    config.vips[0].route = Some(RouteConfig { table: Some(1000), metric: Some(7), ..RouteConfig::default() });
    site.daemon().reload(&config)?;
    wait_routes(
        &site,
        "the route in another table",
        |routes| matches!(routes, [only] if only.contains("table 1000") && only.contains("metric 7")),
    )?;
    config.vips[0].route = Some(RouteConfig { device: Some("other".to_owned()), ..RouteConfig::default() });
    site.daemon().reload(&config)?;
    wait_routes(
        &site,
        "the route to another device",
        |routes| matches!(routes, [only] if only.contains("dev other")),
    )?;
    ensure!(!has_device(&site, "vip-lb")?, "the former device is there");
    config.vips[0].route = None;
    config.vips[0].ownership = None;
    site.daemon().reload(&config)?;
    ensure!(routes(&site)?.is_empty(), "{:?}", routes(&site)?);
    ensure!(!has_device(&site, "other")?, "the device is there");
    site.succeeded();
    Ok(())
}

/// `ip monitor route` of the node, into a file.
struct Watch {
    child: Child,
    file: std::path::PathBuf,
}

impl Watch {
    /// Begins to watch the routes of the VIP, and proves that it does with a route of its own.
    fn start(site: &Site) -> Result<Self> {
        let node = &site.lab.edges[0].namespace;
        let file = site.lab.scratch.path().join("monitor");
        let into = fs::File::create(&file)?;
        let mut command = node.command("ip");
        let child = command.args(["monitor", "route"]).stdin(Stdio::null()).stdout(into).spawn()?;
        let watch = Self { child, file };
        watch.mark(site, "192.0.2.200")?;
        Ok(watch)
    }

    /// Waits until the kernel's word about a route made now has come.
    fn mark(&self, site: &Site, route: &str) -> Result<()> {
        let node = &site.lab.edges[0].namespace;
        wait_for("the monitor", LIMIT, || {
            // Nothing is said of one that is there already.
            let _ = node.ip(&["route", "del", "blackhole", route]);
            node.ip(&["route", "add", "blackhole", route])?;
            Ok(fs::read_to_string(&self.file)?.contains(route).then_some(()))
        })
    }

    /// What was said of the VIP since.
    fn said(&self, site: &Site) -> Result<Vec<String>> {
        self.mark(site, "192.0.2.201")?;
        let text = fs::read_to_string(&self.file)?;
        let vip = vip(site.options.family).to_string();
        Ok(text.lines().filter(|line| line.contains(&vip)).map(str::to_owned).collect())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whatever becomes of the daemon, routers notice nothing while packets are forwarded.
#[test]
fn neither_an_upgrade_nor_a_crash_touches_the_route() -> Result<()> {
    for family in Family::BOTH {
        let (mut site, config) = site(family)?;
        site.start_daemons(&config)?;
        wait_told(site.daemon(), true, ABLE)?;
        let before = routes(&site)?;
        let watch = Watch::start(&site)?;
        let (code, _, said) = site.daemon().ask_code(&["handover", &vip(family).to_string()])?;
        ensure!(code != 0 && said.contains("run `vip-lb maintenance on` here"), "{code}: {said}");

        let adopted = "a daemon before has published it, and it is still right";
        site.daemon_mut().hand_over()?;
        wait_told(site.daemon(), true, adopted)?;
        site.daemon_mut().kill()?;
        ensure!(routes(&site)? == before, "the route went with the daemon: {:?}", routes(&site)?);
        site.daemon_mut().launch()?;
        wait_told(site.daemon(), true, adopted)?;
        ensure!(watch.said(&site)?.is_empty(), "{:?}", watch.said(&site)?);
        ensure!(routes(&site)? == before, "{:?}", routes(&site)?);

        // What a killed daemon leaves, the next one judges by its own file, and `unload` removes.
        site.daemon_mut().kill()?;
        let mut moved = config.clone();
        moved.vips[0].route = Some(RouteConfig { metric: Some(5), ..RouteConfig::default() });
        site.daemon().write_config(&moved)?;
        site.daemon_mut().launch()?;
        wait_routes(
            &site,
            "the route of the new file",
            |routes| matches!(routes, [only] if only.contains("metric 5")),
        )?;
        site.daemon_mut().kill()?;
        site.daemon().unload()?;
        ensure!(routes(&site)?.is_empty(), "{:?}", routes(&site)?);
        ensure!(!has_device(&site, "vip-lb")?, "the device is there");
        site.succeeded();
    }
    Ok(())
}

/// It was withdrawn for as long as the next daemon learnt what peers had recorded.
#[test]
fn nodes_that_share_flows_leave_the_route_as_it_is_when_their_daemon_is_replaced() -> Result<()> {
    let (mut site, config) = site(Family::V4)?;
    let secret = site.secret("secret")?;
    let mut config = site.with_peers(&config, 0, &secret);
    // Nobody is there.
    config.node.peers = vec![edge_address(1, Family::V4)];
    site.start_daemons(&config)?;
    wait_told(site.daemon(), true, ABLE)?;
    let watch = Watch::start(&site)?;
    let adopted = "a daemon before has published it, and it is still right";
    site.daemon_mut().hand_over()?;
    wait_told(site.daemon(), true, adopted)?;
    site.daemon_mut().kill()?;
    site.daemon_mut().launch()?;
    wait_told(site.daemon(), true, adopted)?;
    ensure!(watch.said(&site)?.is_empty(), "{:?}", watch.said(&site)?);
    site.succeeded();
    Ok(())
}

#[test]
fn what_somebody_else_does_to_a_route_is_undone_and_told() -> Result<()> {
    for family in Family::BOTH {
        let (mut site, config) = site(family)?;
        site.start_daemons(&config)?;
        wait_told(site.daemon(), true, ABLE)?;
        let node = site.lab.edges[0].namespace.entry();
        let ip = |arguments: &str| -> Result<()> {
            let status = node.command("ip").args(arguments.split(' ')).status()?;
            ensure!(status.success(), "ip {arguments}");
            Ok(())
        };
        let flag = if family == Family::V4 { "-4" } else { "-6" };
        let deeds = [
            format!("{flag} route del {} dev vip-lb", vip(family)),
            "link set vip-lb down".to_owned(),
            "link del vip-lb".to_owned(),
        ];
        for (deed, count) in deeds.iter().zip(1..) {
            ip(deed)?;
            wait_for(deed, LIMIT, || Ok((route(site.daemon())?.restored == count).then_some(())))?;
            wait_routes(&site, "the route to be back", |routes| routes.len() == 1)?;
            ensure!(route(site.daemon())?.published);
        }
        let events = site.daemon().ask(&["events", "--json"])?;
        let told = events.lines().filter(|line| line.contains("\"route_restored\"")).count();
        ensure!(told == deeds.len(), "{events}");

        // A route of somebody else in its place is left, and told of.
        site.daemon().ask(&["drain", "--node"])?;
        wait_routes(&site, "the route to go", <[String]>::is_empty)?;
        ip(&format!("{flag} route add {} dev lo proto static metric 1024", vip(family)))?;
        site.daemon().ask(&["undrain", "--node"])?;
        wait_for("the hindrance", LIMIT, || {
            Ok(route(site.daemon())?.hindrance.filter(|why| why.contains("and not vip-lb's")))
        })?;
        let status = site.daemon().status()?;
        ensure!(
            status.warnings.iter().any(|warning| warning.contains("has no route")),
            "{:?}",
            status.warnings
        );
        ensure!(!status.vips[0].answering);
        ip(&format!("{flag} route del {} dev lo proto static metric 1024", vip(family)))?;
        wait_told(site.daemon(), true, ABLE)?;
        site.succeeded();
    }
    Ok(())
}

/// The one question that a node answers is whether somebody is there.
#[test]
fn a_routed_vip_answers_ping_and_no_arp() -> Result<()> {
    for family in Family::BOTH {
        let (mut site, config) = site(family)?;
        site.start_daemons(&config)?;
        wait_told(site.daemon(), true, ABLE)?;
        let address = vip(family).to_string();
        let client = &site.lab.client.namespace;
        let wait = (2 * patience()).to_string();
        let ping = || client.run("ping", &["-c", "1", "-W", &wait, &address]);
        ensure!(ping().is_err(), "somebody answers ARP or solicitations");
        site.lab.route_vips_through(&site.lab.edges[0])?;
        ping()?;
        site.daemon().ask(&["drain", "--node"])?;
        wait_told(site.daemon(), false, "this node is drained by the operator")?;
        ensure!(ping().is_err(), "a drained node answers");
        site.succeeded();
    }
    Ok(())
}
