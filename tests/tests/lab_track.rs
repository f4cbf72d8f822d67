//! Virtual routers depend on more than their link: an interface, healthy backends, a command. What is not well lowers the priority or keeps the node
//! from taking part, so that the VIP moves, with nothing lost, and comes back.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use vip_lb_tests::lab::{
    Family, HttpLoad, LoadOptions, LongConnections, Mode, Site, SiteOptions, TrackConfig, VrrpConfig,
    nothing_lost, patience, wait_for,
};

const LIMIT: Duration = Duration::from_secs(20);
/// A device of the first node, and its other end, which is its link.
const UPLINK: [&str; 2] = ["up0", "up1"];

/// Two nodes, of which the first one has a higher priority as long as all is well there.
fn start(track: impl FnOnce(&Site) -> Vec<TrackConfig>) -> Result<Site> {
    let options = SiteOptions { edges: 2, ..SiteOptions::new(Mode::L2, Family::V4)? };
    let mut config = options.config(&[100, 100, 200]);
    config.vips[0].ownership = Some("vrrp".to_owned());
    let mut site = Site::without_daemons(options)?;
    let first = &site.lab.edges[0].namespace;
    first.ip(&["link", "add", UPLINK[0], "type", "veth", "peer", "name", UPLINK[1]])?;
    for device in UPLINK {
        first.ip(&["link", "set", device, "up"])?;
    }
    let track = track(&site);
    site.start_daemons_with(|edge| {
        let mut config = config.of_edge(edge);
        config.vips[0].vrrp = Some(VrrpConfig {
            router_id: 51,
            priority: Some(if edge == 0 { 200 } else { 100 }),
            interval: Some(format!("{}ms", 100 * patience())),
            track: if edge == 0 { track.clone() } else { Vec::new() },
            ..VrrpConfig::default()
        });
        config
    })?;
    site.wait_router(0, "active")?;
    site.wait_router(1, "backup")?;
    site.wait_found_at(0)?;
    Ok(site)
}

/// Waits until the second node has the VIP, and the first one is `state` with this priority.
fn moved(site: &Site, state: &str, priority: u8) -> Result<()> {
    site.wait_router(1, "active")?;
    site.wait_router(0, state)?;
    site.wait_found_at(1)?;
    let router = site.router(0)?;
    ensure!((router.priority, router.base_priority) == (priority, 200), "{router:?}");
    Ok(())
}

fn came_back(site: &Site) -> Result<()> {
    site.wait_router(0, "active")?;
    site.wait_router(1, "backup")?;
    site.wait_found_at(0)?;
    let router = site.router(0)?;
    ensure!(router.priority == 200 && router.trackers.iter().all(|of| !of.failing), "{router:?}");
    Ok(())
}

#[test]
fn a_link_and_a_command_move_the_vip_and_lose_nothing() -> Result<()> {
    let mut flag = None;
    let mut site = start(|site| {
        let path = site.lab.scratch.path().join("well");
        fs::write(&path, "").expect("the lab's folder can be written");
        let interface = TrackConfig {
            interface: Some(UPLINK[0].to_owned()),
            priority: Some(-150),
            ..TrackConfig::default()
        };
        let command = TrackConfig {
            command: vec!["/usr/bin/test".to_owned(), "-e".to_owned(), path.display().to_string()],
            // A busy machine takes a while to start a process.
            interval: Some(format!("{}ms", 500 * patience())),
            timeout: Some(format!("{}ms", 500 * patience())),
            rise: Some(1),
            fall: Some(2),
            fault: Some(true),
            ..TrackConfig::default()
        };
        flag = Some(path);
        vec![interface, command]
    })?;
    let flag = flag.context("it was made")?;
    for service in ["web", "echo", "echo-udp"] {
        for daemon in &site.daemons {
            daemon.wait_service(service, "its slots to close", LIMIT, |of| of.open_slots == 0)?;
        }
    }
    let load = HttpLoad::start(&site.lab.client.namespace, LoadOptions::steady(site.web()))?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 60)?;

    // The link of another interface is lost: the other node is of higher priority now, and takes over.
    site.lab.edges[0].namespace.ip(&["link", "set", UPLINK[1], "down"])?;
    moved(&site, "backup", 50)?;
    connections.exchange(5)?;
    let tracker = site.router(0)?.trackers.first().cloned().context("a tracker")?;
    ensure!(tracker.failing && tracker.reason.as_deref() == Some("it is down or has no link"), "{tracker:?}");
    let shown = site.daemons[0].ask(&["vip"])?;
    ensure!(shown.contains("priority 50 of 200") && shown.contains("! interface up0: -150"), "{shown}");
    // A configuration that is read again changes nothing of that.
    site.daemons[0].hang_up()?;
    connections.exchange(5)?;
    moved(&site, "backup", 50)?;
    site.lab.edges[0].namespace.ip(&["link", "set", UPLINK[1], "up"])?;
    came_back(&site)?;
    connections.exchange(5)?;
    let events = site.daemons[0].ask(&["events"])?;
    ensure!(
        events.contains("interface up0 fails (it is down or has no link): priority -150")
            && events.contains("interface up0 is well again"),
        "{events}"
    );

    // A command fails: the node takes no part, and says so.
    fs::remove_file(&flag)?;
    moved(&site, "initialize", 200)?;
    let why = &site.router(1)?.changes.last().context("a change")?.why.clone();
    ensure!(why.starts_with("the active node resigned"), "{why}");
    let withdrawn = site.daemons[0].status()?.vips[0].withdrawn.clone();
    ensure!(withdrawn.as_deref().is_some_and(|why| why.ends_with("exit status 1")), "{withdrawn:?}");
    connections.exchange(5)?;
    // The next daemon finds the same.
    site.daemons[0].hand_over()?;
    moved(&site, "initialize", 200)?;
    fs::write(&flag, "")?;
    came_back(&site)?;
    connections.exchange(5)?;

    nothing_lost(&connections, load)?;
    site.succeeded();
    Ok(())
}

#[test]
fn too_few_healthy_backends_move_the_vip() -> Result<()> {
    let mut site = start(|_| {
        vec![TrackConfig { healthy: Some("60%".to_owned()), priority: Some(-150), ..TrackConfig::default() }]
    })?;
    site.kill_servers("backend-1");
    wait_for("a backend to be missed", LIMIT, || {
        let services = &site.daemons[0].status()?.vips[0].services;
        Ok(services
            .iter()
            .flat_map(|service| &service.backends)
            .any(|of| of.health.state == "down")
            .then_some(()))
    })?;
    site.kill_servers("backend-2");
    moved(&site, "backup", 50)?;
    let tracker = site.router(0)?.trackers.first().cloned().context("a tracker")?;
    let reason = tracker.reason.clone().unwrap_or_default();
    ensure!(tracker.failing && reason.ends_with("are needed"), "{tracker:?}");
    for backend in ["backend-1", "backend-2"] {
        site.start_servers(backend)?;
    }
    came_back(&site)?;
    site.succeeded();
    Ok(())
}
