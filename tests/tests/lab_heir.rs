//! A VIP that moves to the node that was named: adverts go to all, and the last word to that one alone.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use vip_lb_tests::lab::{
    ConfigFile, Family, LongConnections, Mode, Site, SiteOptions, VrrpConfig, patience, vip,
};

const LOSSY: i32 = 11;

/// What `handover --json` prints.
#[derive(Debug, Deserialize)]
struct Moved {
    outcome: String,
    #[serde(default)]
    differences: Vec<String>,
}

fn hand_over(site: &Site, edge: usize, more: &[&str]) -> Result<(i32, Moved)> {
    let vip = vip(site.options.family).to_string();
    let (code, answer, error) =
        site.daemons[edge].ask_code(&[&["handover", &vip, "--json"], more].concat())?;
    let moved = serde_json::from_str(&answer).with_context(|| format!("{code}: {answer}{error}"))?;
    Ok((code, moved))
}

/// Why it is refused.
fn refused(site: &Site, edge: usize, more: &[&str]) -> Result<String> {
    let vip = vip(site.options.family).to_string();
    let (code, answer, error) = site.daemons[edge].ask_code(&[&["handover", &vip], more].concat())?;
    ensure!(code == 1, "{code}: {answer}{error}");
    Ok(error)
}

#[test]
fn a_named_node_takes_over_by_multicast_over_ipv4() -> Result<()> {
    named(Family::V4)
}

#[test]
fn a_named_node_takes_over_by_multicast_over_ipv6() -> Result<()> {
    named(Family::V6)
}

fn named(family: Family) -> Result<()> {
    let options = SiteOptions { edges: 3, ..SiteOptions::new(Mode::L2, family)? };
    let mut config: ConfigFile = options.config(&[100, 100, 200]);
    config.vips[0].ownership = Some("vrrp".to_owned());
    let mut site = Site::without_daemons(options)?;
    let secret = site.secret("secret")?;
    let file = |site: &Site, edge: usize| {
        let mut config = site.with_peers(&config, edge, &secret);
        config.vips[0].vrrp = Some(VrrpConfig {
            router_id: 51,
            priority: Some([200, 150, 100][edge]),
            interval: Some(format!("{}ms", 100 * patience())),
            // The second one would take it from the third. The first one takes it at the beginning, whoever was able before.
            preempt: (edge > 0).then(|| "never".to_owned()),
            ..VrrpConfig::default()
        });
        config
    };
    let files: Vec<_> = (0..3).map(|edge| file(&site, edge)).collect();
    site.start_daemons_with(|edge| files[edge].clone())?;
    site.wait_router(0, "active")?;
    site.wait_agreement()?;
    site.wait_found_at(0)?;
    site.wait_peers(0, "all to be able to take over", |peering| {
        peering.peers.iter().all(|peer| {
            !peer.routers.is_empty() && peer.routers.iter().all(|router| router.hindrance.is_none())
        })
    })?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 20)?;

    let unknown = refused(&site, 0, &["--to", "edge-9"])?;
    ensure!(unknown.contains("no peer of this node is called edge-9: known are edge-2, edge-3"), "{unknown}");

    // The node of the lowest priority, by its name: without it the second one would take over.
    let (code, moved) = hand_over(&site, 0, &["--to", "edge-3"])?;
    ensure!((code, moved.outcome.as_str()) == (0, "moved"), "{code} {moved:?}");
    site.wait_router(2, "active")?;
    site.wait_router(1, "backup")?;
    site.wait_found_at(2)?;
    connections.exchange(5)?;
    let events = site.daemons[0].ask(&["events"])?;
    ensure!(events.contains("an operator hands over to edge-3"), "{events}");

    // To one that would not take it.
    site.daemons[0].ask(&["drain", "--node"])?;
    site.wait_router(0, "initialize")?;
    site.wait_peers(2, "the drain", |peering| {
        let routers = &peering.peers[0].routers;
        !routers.is_empty() && routers.iter().all(|router| router.hindrance.is_some())
    })?;
    let why = refused(&site, 2, &["--to", "edge-1"])?;
    ensure!(why.contains("edge-1 would not take ") && why.contains("drained by the operator"), "{why}");
    site.wait_router(2, "active")?;

    // To one where connections might reach other backends: it asks.
    let mut other = file(&site, 1);
    other.service_mut("echo").backends[0].weight = 7;
    site.daemons[1].reload(&other)?;
    site.wait_peers(2, "a mismatch", |peering| {
        let second = peering.peers.iter().find(|peer| peer.name.as_deref() == Some("edge-2"));
        second.is_some_and(|peer| peer.agrees == Some(false))
    })?;
    let (code, moved) = hand_over(&site, 2, &["--to", "edge-2"])?;
    ensure!((code, moved.outcome.as_str()) == (LOSSY, "refused"), "{code} {moved:?}");
    ensure!(moved.differences.iter().any(|what| what.starts_with("edge-2: service echo: ")), "{moved:?}");
    site.wait_router(2, "active")?;
    site.daemons[1].reload(&file(&site, 1))?;
    site.wait_agreement()?;
    let (code, moved) = hand_over(&site, 2, &["--to", "edge-2"])?;
    ensure!((code, moved.outcome.as_str()) == (0, "moved"), "{code} {moved:?}");
    site.wait_router(1, "active")?;
    site.wait_found_at(1)?;
    connections.exchange(5)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
    site.succeeded();
    Ok(())
}
