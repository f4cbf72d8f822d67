//! What an operator orders at one node holds at all of them: also at one that was away, and after a restart.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use vip_lb_tests::lab::{PeeringConfig, Site, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

/// Waits until a node has these orders about a backend of the service `web`: what, and at which other node it was given.
fn wait_order(site: &Site, edge: usize, backend: &str, expected: Option<(&str, Option<&str>)>) -> Result<()> {
    let mut last = None;
    wait_for(&format!("the order {expected:?} about {backend} at node {}", edge + 1), LIMIT, || {
        let status = site.daemons[edge].status()?;
        let web = status.vips[0].services.iter().find(|service| service.name == "web").context("web")?;
        let found = web.backends.iter().find(|of| of.name == backend).context("the backend")?;
        last = found.operator_order.clone();
        let is_so = last.as_ref().map(|order| (order.order.as_str(), order.by.as_deref())) == expected;
        // It is obeyed as well.
        let is_obeyed = (found.ring_share > 0.0) == expected.is_none();
        Ok((is_so && is_obeyed).then_some(()))
    })
    .with_context(|| format!("last seen: {last:?}"))
}

/// Waits until a node has orders about these addresses on its disk: nobody waits there for what was ordered elsewhere.
fn wait_kept(site: &Site, edge: usize, addresses: &[&str]) -> Result<()> {
    let path = site.daemons[edge].state().join("orders.json");
    wait_for(&format!("orders to be kept at node {}", edge + 1), LIMIT, || {
        let kept = fs::read_to_string(&path).unwrap_or_default();
        Ok(addresses.iter().all(|address| kept.contains(&format!("\"{address}\""))).then_some(()))
    })
}

#[test]
fn drained_once_is_drained_everywhere() -> Result<()> {
    let (mut site, config) = Site::of_peers(3)?;
    // One backend of a service, and everything on a host.
    site.daemons[0].ask(&["drain", "web/backend-1"])?;
    site.daemons[1].ask(&["drain", "10.77.0.12", "--force"])?;
    for (edge, by) in [(0, None), (1, Some("edge-1")), (2, Some("edge-1"))] {
        wait_order(&site, edge, "backend-1", Some(("drain", by)))?;
    }
    for (edge, by) in [(0, Some("edge-2")), (1, None), (2, Some("edge-2"))] {
        wait_order(&site, edge, "backend-2", Some(("cut", by)))?;
    }
    let shown = site.daemons[2].ask(&["status"])?;
    ensure!(shown.contains("backend-1 is ordered so at edge-1"), "{shown}");
    ensure!(shown.contains("host 10.77.0.12: cut by the operator") && shown.contains("at edge-2"), "{shown}");
    let events = site.daemons[2].ask(&["events"])?;
    ensure!(events.contains("web/backend-1: an operator at edge-1 drains it"), "{events}");
    ensure!(events.contains("host 10.77.0.12: an operator at edge-2 cuts all that is there"), "{events}");
    // Their rings are the same, and other services of the first are not concerned.
    site.wait_agreement()?;
    let echo = site.daemons[1].status()?.vips[0].services[1].clone();
    ensure!(echo.name == "echo" && echo.backends[0].operator_order.is_none(), "{echo:?}");

    // It is withdrawn at another node than where it was given, while one is away and cannot hear of it.
    wait_kept(&site, 2, &["10.77.0.11", "10.77.0.12"])?;
    site.daemons[2].kill()?;
    site.daemons[1].ask(&["undrain", "web/backend-1"])?;
    wait_order(&site, 0, "backend-1", None)?;
    site.daemons[0].ask(&["drain", "web/backend-3"])?;
    wait_order(&site, 1, "backend-3", Some(("drain", Some("edge-1"))))?;

    // Alone, it has what it knew; with the others, what they know.
    for edge in 0..2 {
        site.daemons[edge].kill()?;
    }
    site.daemons[2].launch()?;
    wait_order(&site, 2, "backend-1", Some(("drain", Some("edge-1"))))?;
    wait_order(&site, 2, "backend-2", Some(("cut", Some("edge-2"))))?;
    for edge in 0..2 {
        site.daemons[edge].launch()?;
    }
    for edge in 0..3 {
        wait_order(&site, edge, "backend-1", None)?;
    }
    wait_order(&site, 2, "backend-3", Some(("drain", Some("edge-1"))))?;
    site.daemons[2].hand_over()?;
    wait_order(&site, 2, "backend-3", Some(("drain", Some("edge-1"))))?;

    // A backend that one does not know yet is kept in mind for it.
    let secret = site.secret("secret")?;
    let mut without = site.with_peers(&config, 2, &secret);
    without.service_mut("web").backends.remove(2);
    site.daemons[2].reload(&without)?;
    site.daemons[0].ask(&["undrain", "web/backend-3"])?;
    site.daemons[0].ask(&["drain", "web/backend-3", "--force"])?;
    wait_order(&site, 1, "backend-3", Some(("cut", Some("edge-1"))))?;
    site.daemons[2].reload(&site.with_peers(&config, 2, &secret))?;
    wait_order(&site, 2, "backend-3", Some(("cut", Some("edge-1"))))?;

    // The drain of a node is its own.
    site.daemons[0].ask(&["drain", "--node"])?;
    let answering = |edge: usize| -> Result<bool> { Ok(site.daemons[edge].status()?.vips[0].answering) };
    ensure!(!answering(0)? && answering(1)? && answering(2)?, "another node is drained as well");
    site.succeeded();
    Ok(())
}

#[test]
fn who_does_not_share_decides_alone() -> Result<()> {
    let (site, config) = Site::of_peers(2)?;
    let secret = site.secret("secret")?;
    let mut alone = site.with_peers(&config, 1, &secret);
    alone.node.peering =
        Some(PeeringConfig { secret_file: secret.display().to_string(), share: Some(Vec::new()) });
    site.daemons[1].reload(&alone)?;
    site.wait_agreement()?;
    site.daemons[0].ask(&["drain", "web/backend-1"])?;
    site.daemons[1].ask(&["drain", "web/backend-2"])?;
    wait_order(&site, 0, "backend-1", Some(("drain", None)))?;
    site.wait_peers(1, "that the other node's ring is another one", |peering| {
        peering.peers[0].mismatches.iter().any(|mismatch| mismatch.what.contains("the rings differ"))
    })?;
    wait_order(&site, 1, "backend-1", None)?;
    wait_order(&site, 0, "backend-2", None)?;
    // Sharing begins with what both have.
    site.daemons[1].reload(&site.with_peers(&config, 1, &secret))?;
    wait_order(&site, 1, "backend-1", Some(("drain", Some("edge-1"))))?;
    wait_order(&site, 0, "backend-2", Some(("drain", Some("edge-2"))))?;
    site.wait_agreement()?;
    site.succeeded();
    Ok(())
}
