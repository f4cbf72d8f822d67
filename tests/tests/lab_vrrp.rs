//! Nodes that agree by VRRP on who answers for a VIP: one that is killed or stopped falls silent by itself before another answers, and what
//! is planned loses nothing.

use std::{
    net::IpAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use vip_lb_tests::lab::{
    ConfigFile, Family, HttpLoad, LoadOptions, LongConnections, Mode, Node, RawLink, Site, SiteOptions,
    VrrpConfig, nothing_lost, patience, vip, wait_for,
};

const LIMIT: Duration = Duration::from_secs(20);
const ROUTER: u8 = 51;

#[test]
fn a_killed_node_falls_silent_before_another_answers_over_ipv4() -> Result<()> {
    is_replaced(Family::V4, libc::SIGKILL)
}

#[test]
fn a_killed_node_falls_silent_before_another_answers_over_ipv6() -> Result<()> {
    is_replaced(Family::V6, libc::SIGKILL)
}

#[test]
fn a_stopped_node_falls_silent_before_another_answers_over_ipv4() -> Result<()> {
    is_replaced(Family::V4, libc::SIGSTOP)
}

#[test]
fn a_stopped_node_falls_silent_before_another_answers_over_ipv6() -> Result<()> {
    is_replaced(Family::V6, libc::SIGSTOP)
}

/// Two nodes; the first one is preferred, and neither takes the place of one that works.
fn pair(family: Family, interval_ms: u32) -> Result<(Site, ConfigFile)> {
    let options = SiteOptions { edges: 2, ..SiteOptions::new(Mode::L2, family)? };
    let config = config(&options, interval_ms);
    let site = Site::without_daemons(options)?;
    Ok((site, config))
}

fn config(options: &SiteOptions, interval_ms: u32) -> ConfigFile {
    let mut config = options.config(&[100, 100, 200]);
    config.vips[0].ownership = Some("vrrp".to_owned());
    config.vips[0].vrrp = Some(VrrpConfig {
        router_id: ROUTER,
        priority: Some(200),
        interval: Some(format!("{}ms", interval_ms * patience())),
        preempt: Some("never".to_owned()),
        ..VrrpConfig::default()
    });
    config
}

/// Starts the daemons of a pair, and waits until the first node is active and the second one watches.
fn start(site: &mut Site, config: &ConfigFile) -> Result<()> {
    site.start_daemons_with(|edge| {
        let mut config = config.of_edge(edge);
        if let Some(vrrp) = &mut config.vips[0].vrrp
            && edge == 1
        {
            vrrp.priority = Some(100);
        }
        config
    })?;
    site.wait_router(0, "active")?;
    site.wait_router(1, "backup")
}

fn is_replaced(family: Family, signal: i32) -> Result<()> {
    let (mut site, config) = pair(family, 100)?;
    start(&mut site, &config)?;
    site.wait_found_at(0)?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 60)?;
    let changes = site.router(1)?.changes.len();

    send(&site, 0, signal)?;
    site.wait_router(1, "active")?;
    let ended = lease_end(&site, 0)?;
    let router = site.router(1)?;
    let taken = router.changes.last().context("a change")?;
    ensure!(taken.state == "active" && taken.why.starts_with("the active node was silent"), "{taken:?}");
    ensure!(
        u128::from(taken.time_ms) + 1 >= ended,
        "the second node answers from {}, the lease of the first lasts until {ended}",
        taken.time_ms
    );
    // Neighbours are told; nobody has to forget anything.
    site.wait_found_at(1)?;
    connections.exchange(5)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());

    if signal == libc::SIGSTOP {
        send(&site, 0, libc::SIGCONT)?;
        site.wait_router(0, "backup")?;
        let vips = site.daemons[0].status()?.vips;
        ensure!(!vips[0].answering, "both answer");
    } else {
        site.daemons[0].kill()?;
        site.daemons[0].launch()?;
        site.wait_router(0, "backup")?;
    }
    let router = site.router(1)?;
    ensure!(router.changes.len() == changes + 1, "it changed again: {:?}", router.changes);
    connections.exchange(5)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
    no_second_owner(&site)?;
    site.succeeded();
    Ok(())
}

#[test]
fn what_is_planned_loses_nothing() -> Result<()> {
    // Three of these are longer than a hand-over takes, also on a busy machine.
    let (mut site, config) = pair(Family::V4, 1000)?;
    start(&mut site, &config)?;
    site.wait_found_at(0)?;
    for service in ["web", "echo", "echo-udp"] {
        for daemon in &site.daemons {
            daemon.wait_service(service, "its slots to close", LIMIT, |of| of.open_slots == 0)?;
        }
    }
    let load = HttpLoad::start(&site.lab.client.namespace, LoadOptions::steady(site.web()))?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 60)?;

    // An upgrade moves nothing: the lease goes on.
    let before = site.router(1)?.changes.len();
    site.daemons[0].hand_over()?;
    site.wait_router(0, "active")?;
    let router = site.router(0)?;
    let why = &router.changes.last().context("a change")?.why;
    ensure!(why == "the daemon before was active, and its lease still lasted", "{why}");
    let router = site.router(1)?;
    ensure!(router.changes.len() == before, "the upgrade moved the VIP: {:?}", router.changes);
    connections.exchange(5)?;

    // What is configured anew changes no owner by itself.
    let mut lower = config.clone();
    if let Some(vrrp) = &mut lower.vips[0].vrrp {
        vrrp.priority = Some(50);
    }
    site.daemons[0].reload(&lower)?;
    connections.exchange(5)?;
    let changes = site.router(0)?.changes;
    ensure!(changes.len() == 2, "the reload moved the VIP: {changes:?}");
    site.daemons[0].reload(&config)?;

    // A drained node says so, and the other takes over.
    site.daemons[0].ask(&["drain", "--node"])?;
    site.wait_router(1, "active")?;
    let router = site.router(1)?;
    let why = &router.changes.last().context("a change")?.why;
    ensure!(why.starts_with("the active node resigned"), "{why}");
    site.wait_found_at(1)?;
    ensure!(!site.daemons[0].status()?.vips[0].answering, "both answer");
    connections.exchange(5)?;
    site.daemons[0].ask(&["undrain", "--node"])?;
    site.wait_router(0, "backup")?;

    // So does one that is stopped.
    ensure!(site.daemons[1].stop()?.is_none_or(|status| status.success()));
    site.wait_router(0, "active")?;
    site.wait_found_at(0)?;
    connections.exchange(5)?;
    nothing_lost(&connections, load)?;
    no_second_owner(&site)?;
    site.succeeded();
    Ok(())
}

#[test]
fn neighbours_are_told_again_where_that_is_wanted() -> Result<()> {
    let (mut site, mut config) = pair(Family::V4, 100)?;
    config.vips[0].vrrp.as_mut().context("a router")?.refresh = Some("1s".to_owned());
    start(&mut site, &config)?;
    let IpAddr::V4(address) = vip(Family::V4) else { bail!("a VIP of IPv4") };
    let link = RawLink::both_ways(&site.lab.client.namespace, Node::DEVICE)?;
    // The last of those that tell of the take-over comes after three seconds.
    let (began, mut again) = (Instant::now(), 0);
    wait_for("neighbours to be told again", LIMIT, || {
        while let Some(frame) = link.receive(Duration::from_millis(10))? {
            let is_told = frame.get(12..14) == Some(&[8, 6])
                && frame.get(28..32) == Some(&address.octets())
                && frame.get(38..42) == Some(&address.octets());
            again += u32::from(is_told && began.elapsed() > Duration::from_secs(4));
        }
        Ok((again >= 3).then_some(()))
    })?;
    site.succeeded();
    Ok(())
}

/// Where one family of a group cannot go on, the other goes with it.
#[test]
fn both_families_of_a_group_move_together() -> Result<()> {
    let (mut site, mut config) = pair(Family::V4, 100)?;
    let mut other = SiteOptions::new(Mode::L2, Family::V6)?.config(&[100, 100, 200]).vips.remove(0);
    (other.ownership, other.vrrp) = (config.vips[0].ownership.clone(), config.vips[0].vrrp.clone());
    for service in &mut other.services {
        service.name.push('6');
    }
    config.vips.push(other);
    site.start_daemons_with(|edge| {
        let mut config = config.of_edge(edge);
        for vrrp in config.vips.iter_mut().filter_map(|vip| vip.vrrp.as_mut()) {
            vrrp.group = Some("both".to_owned());
            vrrp.priority = Some(if edge == 0 { 200 } else { 100 });
        }
        config
    })?;
    wait_answering(&site, [true, false])?;

    let first = &site.lab.edges[0].namespace;
    first.ip(&["-6", "address", "flush", "dev", Node::DEVICE, "scope", "link"])?;
    wait_answering(&site, [false, true])?;
    let vips = site.daemons[0].status()?.vips;
    for vip in &vips {
        let why = &vip.vrrp.as_ref().and_then(|vrrp| vrrp.changes.last()).context("a change")?.why;
        ensure!(!vip.answering && !why.is_empty(), "{vips:?}");
    }
    // Its adverts fail before it looks at its interface again.
    wait_for("the reason to be named", LIMIT, || {
        let router = site.daemons[0].status()?.vips[1].vrrp.clone().context("a router")?;
        let is_named = router.hindrance.as_deref() == Some("eth0 has no link-local IPv6 address");
        Ok(is_named.then_some(()))
    })?;
    site.succeeded();
    Ok(())
}

/// A hand-over is none.
fn no_second_owner(site: &Site) -> Result<()> {
    for daemon in &site.daemons {
        let found = daemon.ask(&["events", "--json"]).unwrap_or_default();
        ensure!(!found.contains("\"second_owner"), "{found}");
    }
    Ok(())
}

/// Waits until each node answers for both VIPs, or for none.
fn wait_answering(site: &Site, expected: [bool; 2]) -> Result<()> {
    let mut last = None;
    wait_for(&format!("the nodes to answer for both VIPs: {expected:?}"), LIMIT, || {
        let mut found = Vec::new();
        for daemon in &site.daemons {
            found.push(daemon.status()?.vips.iter().map(|vip| vip.answering).collect::<Vec<_>>());
        }
        let reached = found == expected.map(|answering| vec![answering; 2]);
        last = Some(found);
        Ok(reached.then_some(()))
    })
    .with_context(|| format!("last seen as {last:?}"))
}

/// When the lease of a node ends or ended, in milliseconds since 1970.
fn lease_end(site: &Site, edge: usize) -> Result<u128> {
    let entries = site.daemons[edge].map_entries("OWNERS")?;
    ensure!(entries.len() == 1, "{entries:?}");
    let until = entries[0]["formatted"]["value"]["until"].as_u64().with_context(|| format!("{entries:?}"))?;
    // In this order: a test that has to wait between the two takes the end for an earlier one, and none for too early.
    let wall = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let monotonic = vip_lb::dataplane::monotonic();
    Ok((wall + Duration::from_nanos(until)).saturating_sub(monotonic).as_millis())
}

fn send(site: &Site, edge: usize, signal: i32) -> Result<()> {
    let pid = site.daemons[edge].pid().context("the daemon runs")?;
    // SAFETY: the process is a child of this test's, or its successor.
    ensure!(unsafe { libc::kill(pid as libc::pid_t, signal) } == 0, "cannot signal {pid}");
    Ok(())
}
