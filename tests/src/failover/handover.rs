//! A VIP is moved on purpose.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xtask::figures::Figure;

use super::{Kind, LIMIT, gap_since, pair::Pair, summary};
use crate::lab::{LongConnections, vip};

const PRIORITIES: [u8; 2] = [200, 100];

/// Least datagrams that are looked at.
const PROBES: usize = 10_000;

/// `failover.handover_lost_probes` of [`PROBES`] or more and `failover.handover_broken_connections`: by `vip-lb handover`, there and back.
pub(super) fn there_and_back(
    runs: usize,
    connections: usize,
    tell: &mut dyn FnMut(&str),
) -> Result<Vec<Figure>> {
    let pair = Pair::start(Kind::VipLb, 100, PRIORITIES)?;
    let site = &pair.site;
    for service in ["web", "echo", "echo-udp"] {
        for daemon in &site.daemons {
            daemon.wait_service(service, "its slots to close", LIMIT, |of| of.open_slots == 0)?;
        }
    }
    let open = LongConnections::open(&site.lab.client.namespace, site.echo(), connections)?;
    let probes = pair.probes()?;
    let address = vip(site.options.family).to_string();
    let (from, mut moves) = (Instant::now(), 0);
    while moves < 2 * runs || from.elapsed() < super::EVERY * PROBES as u32 {
        site.daemons[0].ask(&["handover", &address])?;
        settle(&pair, 1)?;
        site.daemons[0].ask(&["handover", &address, "--back"])?;
        settle(&pair, 0)?;
        moves += 2;
    }
    let (sent, lost) = probes.between(from, Instant::now());
    open.exchange(2)?;
    let broken = open.broken();
    tell(&format!(
        "{moves} hand-overs: {lost} of {sent} datagrams lost, {} of {connections} connections broken{}",
        broken.len(),
        broken.first().map(|first| format!(", the first {first:?}")).unwrap_or_default()
    ));
    site.succeeded();
    Ok(vec![
        Figure::new("failover.handover_moves", moves as f64, "hand-overs"),
        Figure::new("failover.handover_probes", sent as f64, "datagrams"),
        Figure::new("failover.handover_lost_probes", lost as f64, "datagrams").aim("== 0")?,
        Figure::new("failover.handover_broken_connections", broken.len() as f64, "connections")
            .aim("== 0")?,
    ])
}

/// `failover.keepalived_stop_median_ms` and `_p95_ms`: for how long nobody answered when keepalived's active node was stopped as it should be, which is
/// how it hands over.
pub(super) fn by_keepalived(runs: usize, tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let mut pair = Pair::start(Kind::Keepalived, 100, PRIORITIES)?;
    let probes = pair.probes()?;
    let mut gaps = Vec::new();
    for run in 0..runs {
        let active = run % 2;
        let moment = Instant::now();
        drop(pair.keepalived[active].take().context("the active keepalived")?);
        pair.wait_owner(1 - active)?;
        gaps.push(gap_since(&probes, moment)?);
        pair.start_keepalived(active)?;
        settle(&pair, 1 - active)?;
        ensure!(pair.keepalived[active].is_some());
    }
    let (figures, words) = summary("keepalived_stop", &gaps, None)?;
    tell(&format!("active node stopped, {}: nobody answered for {words}", Kind::Keepalived.describe()?));
    Ok(figures)
}

/// Waits until a node has the VIP alone, is found by the client, and has been for a moment.
fn settle(pair: &Pair, edge: usize) -> Result<()> {
    pair.wait_owner(edge)?;
    pair.site.wait_found_at(edge)?;
    // What would be lost afterwards belongs to this move.
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}
