//! VIPs that an operator moves to another node and back: nothing is lost, the order outlives the daemon, and nobody is left without a node.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use vip_lb_tests::lab::{
    ConfigFile, Family, HttpLoad, LoadOptions, LongConnections, Mode, Site, SiteOptions, UdpFlows,
    VrrpConfig, edge_address, patience, vip, wait_for,
};

const LIMIT: Duration = Duration::from_secs(20);
const LOSSY: i32 = 11;
const NOT_TAKEN: i32 = 13;

#[test]
fn there_and_back_loses_nothing_over_ipv4() -> Result<()> {
    there_and_back(Family::V4)
}

#[test]
fn there_and_back_loses_nothing_over_ipv6() -> Result<()> {
    there_and_back(Family::V6)
}

/// What `handover --json` prints.
#[derive(Debug, Deserialize)]
struct Moved {
    outcome: String,
    changed: bool,
    translated: u64,
    active: Option<IpAddr>,
}

/// Nodes of these priorities, the first of which is active.
fn start(
    mode: Mode,
    family: Family,
    nodes: &[Option<u8>],
    more: impl Fn(usize, &mut VrrpConfig),
) -> Result<Site> {
    let options = SiteOptions { edges: nodes.len(), ..SiteOptions::new(mode, family)? };
    let mut config: ConfigFile = options.config(&[100, 100, 200]);
    config.vips[0].ownership = Some("vrrp".to_owned());
    let mut site = Site::without_daemons(options)?;
    site.start_daemons_with(|edge| {
        let mut config = config.of_edge(edge);
        let mut vrrp = VrrpConfig {
            router_id: 51,
            priority: nodes[edge],
            interval: Some(format!("{}ms", 100 * patience())),
            ..VrrpConfig::default()
        };
        more(edge, &mut vrrp);
        config.vips[0].vrrp = Some(vrrp);
        config
    })?;
    site.wait_router(0, "active")?;
    for edge in 1..nodes.len() {
        site.wait_router(edge, "backup")?;
    }
    site.wait_found_at(0)?;
    Ok(site)
}

/// Runs `handover` for the VIP on a node.
fn hand_over(site: &Site, edge: usize, more: &[&str]) -> Result<(i32, Moved)> {
    let vip = vip(site.options.family).to_string();
    let arguments = [&["handover", &vip, "--json"], more].concat();
    let (code, answer, error) = site.daemons[edge].ask_code(&arguments)?;
    let moved = serde_json::from_str(&answer).with_context(|| format!("{code}: {answer}{error}"))?;
    Ok((code, moved))
}

fn there_and_back(family: Family) -> Result<()> {
    let mut site = start(Mode::L2, family, &[Some(200), Some(100)], |_, _| {})?;
    for service in ["web", "echo", "echo-udp"] {
        for daemon in &site.daemons {
            daemon.wait_service(service, "its slots to close", LIMIT, |of| of.open_slots == 0)?;
        }
    }
    let client = &site.lab.client.namespace;
    let load = HttpLoad::start(client, LoadOptions::steady(site.web()))?;
    let connections = LongConnections::open(client, site.echo(), 60)?;
    let flows = UdpFlows::open(client, site.echo(), 40)?;
    let works = |site: &Site, node: usize| -> Result<()> {
        site.wait_router(node, "active")?;
        site.wait_router(1 - node, "backup")?;
        site.wait_found_at(node)?;
        connections.exchange(5)?;
        flows.exchange(5)
    };

    // The command is back when the other node answers.
    let (code, moved) = hand_over(&site, 0, &[])?;
    ensure!((code, moved.outcome.as_str(), moved.changed) == (0, "moved", true), "{code} {moved:?}");
    ensure!(site.daemons[1].status()?.vips[0].answering, "the other node does not answer yet");
    if family == Family::V4 {
        ensure!(moved.active == Some(edge_address(1, family)), "{moved:?}");
    }
    let router = site.router(0)?;
    let why = &router.changes.last().context("a change")?.why;
    ensure!(why == "it handed over", "{why}");
    works(&site, 1)?;
    let shown = site.daemons[0].ask(&["vip"])?;
    ensure!(shown.contains("handed over by the operator") && shown.contains("--back"), "{shown}");
    let events = site.daemons[0].ask(&["events"])?;
    ensure!(events.contains("an operator hands over to another node"), "{events}");
    let (code, again) = hand_over(&site, 0, &[])?;
    ensure!((code, again.outcome.as_str(), again.changed) == (0, "moved", false), "{code} {again:?}");

    // Of higher priority though it is, it leaves the VIP there: also after a restart, and after a hand-over between daemons.
    site.daemons[0].kill()?;
    site.daemons[0].launch()?;
    site.wait_router(0, "backup")?;
    site.daemons[0].hand_over()?;
    site.wait_router(0, "backup")?;
    wait_for("more adverts than it takes to preempt", LIMIT, || {
        let received = |site: &Site| -> Result<bool> {
            let router = site.router(0)?;
            Ok(router.adverts_received >= 10 && router.state == "backup")
        };
        Ok(received(&site)?.then_some(()))
    })?;
    works(&site, 1)?;
    let (code, _, error) = site.daemons[1].ask_code(&["handover", &vip(family).to_string(), "--back"])?;
    ensure!(code == 1 && error.contains("this node has not handed"), "{code}: {error}");

    let (code, moved) = hand_over(&site, 0, &["--back"])?;
    ensure!((code, moved.outcome.as_str()) == (0, "back"), "{code} {moved:?}");
    ensure!(site.router(0)?.handed_over.is_none(), "the order holds still");
    works(&site, 0)?;

    // Maintenance is the whole node's: it takes no part until it is back.
    let (code, answer, _) = site.daemons[0].ask_code(&["maintenance", "on"])?;
    ensure!(code == 0 && answer.contains(" answers\n"), "{code}: {answer}");
    site.wait_router(0, "initialize")?;
    site.wait_router(1, "active")?;
    site.wait_found_at(1)?;
    connections.exchange(5)?;
    let (code, _, error) = site.daemons[0].ask_code(&["handover", &vip(family).to_string()])?;
    ensure!(code == 1 && error.contains("is not active"), "{code}: {error}");
    site.daemons[0].ask(&["maintenance", "off"])?;
    works(&site, 0)?;

    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
    ensure!(flows.moved().is_empty(), "{:?}", flows.moved());
    ensure!(flows.states().iter().all(|flow| flow.lost == 0), "{:?}", flows.states());
    let report = load.finish();
    ensure!(report.failed().count() == 0, "{:?}", report.errors());

    // Where there is nobody else, the VIP stays, and the command says so.
    ensure!(site.daemons[1].stop()?.is_none_or(|status| status.success()));
    let (code, moved) = hand_over(&site, 0, &[])?;
    ensure!((code, moved.outcome.as_str()) == (NOT_TAKEN, "kept"), "{code} {moved:?}");
    let router = site.router(0)?;
    let why = &router.changes.last().context("a change")?.why;
    ensure!(why == "it handed over, and no other node took its place", "{why}");
    wait_for("the order to be over", LIMIT, || Ok(site.router(0)?.handed_over.is_none().then_some(())))?;
    connections.exchange(5)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
    let (code, answer, _) = site.daemons[0].ask_code(&["maintenance", "on"])?;
    ensure!(code == NOT_TAKEN && answer.contains("no other node is heard to answer"), "{code}: {answer}");
    site.succeeded();
    Ok(())
}

/// Its last word goes to the chosen one alone, so another of higher priority does not act on it.
#[test]
fn a_node_among_peers_can_be_chosen() -> Result<()> {
    let family = Family::V4;
    // Far apart: what one waits less than the other is all that decides between them.
    let nodes = [Some(250), Some(50), Some(100)];
    let site = start(Mode::L2, family, &nodes, |edge, vrrp| {
        vrrp.preempt = Some("never".to_owned());
        vrrp.peers = (0..3).filter(|&other| other != edge).map(|other| edge_address(other, family)).collect();
    })?;
    let [second, third] = [1, 2].map(|edge| edge_address(edge, family));
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 20)?;
    let stranger = site.daemons[0].ask_code(&["handover", &vip(family).to_string(), "--to", "192.0.2.99"])?;
    ensure!(stranger.0 == 1 && stranger.2.contains(&second.to_string()), "{stranger:?}");

    let (code, moved) = hand_over(&site, 0, &["--to", &second.to_string()])?;
    ensure!((code, moved.active) == (0, Some(second)), "{code} {moved:?}");
    site.wait_router(1, "active")?;
    // Of those that are left the highest one is the next, if nobody is chosen.
    let (code, moved) = hand_over(&site, 1, &[])?;
    ensure!((code, moved.active) == (0, Some(edge_address(0, family))), "{code} {moved:?}");
    let (code, moved) = hand_over(&site, 0, &["--to", &third.to_string()])?;
    ensure!((code, moved.active) == (0, Some(third)), "{code} {moved:?}");
    site.wait_router(1, "backup")?;
    // One that was handed over to a node of lower priority is taken back in spite of `preempt: never`.
    let (code, moved) = hand_over(&site, 0, &["--back"])?;
    ensure!((code, moved.outcome.as_str()) == (0, "back"), "{code} {moved:?}");
    site.wait_router(2, "backup")?;
    connections.exchange(5)?;
    site.succeeded();
    Ok(())
}

#[test]
fn translated_connections_are_counted_before_they_end() -> Result<()> {
    let site = start(Mode::Nat, Family::V4, &[Some(200), Some(100)], |_, _| {})?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 7)?;
    connections.exchange(2)?;
    let (code, moved) = hand_over(&site, 0, &[])?;
    ensure!((code, moved.outcome.as_str(), moved.translated) == (LOSSY, "refused", 7), "{code} {moved:?}");
    let (code, _, error) = site.daemons[0].ask_code(&["maintenance", "on"])?;
    ensure!(code == LOSSY && error.contains("7 translated connections"), "{code}: {error}");
    ensure!(site.daemons[0].status()?.vips[0].answering, "it was done all the same");
    connections.exchange(2)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
    let (code, moved) = hand_over(&site, 0, &["--yes"])?;
    ensure!((code, moved.outcome.as_str()) == (0, "moved"), "{code} {moved:?}");
    site.wait_router(1, "active")?;
    site.succeeded();
    Ok(())
}

/// The VIP that is named takes along the one of the other family.
#[test]
fn both_families_of_a_group_move_together() -> Result<()> {
    let options = SiteOptions { edges: 2, ..SiteOptions::new(Mode::L2, Family::V4)? };
    let mut config = options.config(&[100, 100, 200]);
    let mut other = SiteOptions::new(Mode::L2, Family::V6)?.config(&[100, 100, 200]).vips.remove(0);
    for service in &mut other.services {
        service.name.push('6');
    }
    config.vips.push(other);
    let mut site = Site::without_daemons(options)?;
    site.start_daemons_with(|edge| {
        let mut config = config.of_edge(edge);
        for vip in &mut config.vips {
            vip.ownership = Some("vrrp".to_owned());
            vip.vrrp = Some(VrrpConfig {
                router_id: 51,
                priority: Some(if edge == 0 { 200 } else { 100 }),
                interval: Some(format!("{}ms", 100 * patience())),
                group: Some("both".to_owned()),
                ..VrrpConfig::default()
            });
        }
        config
    })?;
    let answering = |expected: [bool; 2]| {
        wait_for(&format!("the nodes to answer for both VIPs: {expected:?}"), LIMIT, || {
            for (daemon, expected) in site.daemons.iter().zip(expected) {
                if daemon.status()?.vips.iter().any(|vip| vip.answering != expected) {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
    };
    answering([true, false])?;
    let (code, moved) = hand_over(&site, 0, &[])?;
    ensure!((code, moved.outcome.as_str()) == (0, "moved"), "{code} {moved:?}");
    answering([false, true])?;
    let (code, _, error) = site.daemons[0].ask_code(&["handover", &vip(Family::V6).to_string()])?;
    ensure!(code == 0, "it is handed over already: {code}: {error}");
    let (code, moved) = hand_over(&site, 0, &["--back"])?;
    ensure!((code, moved.outcome.as_str()) == (0, "back"), "{code} {moved:?}");
    answering([true, false])?;
    site.succeeded();
    Ok(())
}
