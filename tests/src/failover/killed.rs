//! The daemon of the active node is killed or stopped: it falls silent by itself, before the other node answers.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xtask::figures::Figure;

use super::{EVERY, Kind, gap_since, pair::Pair, summary};
use crate::lab::{ArpWatch, Family, LongConnections, patience, vip};

/// `failover.sigkill_two_owner_ms` and `failover.sigstop_two_owner_ms`: the longest that two nodes answered at once;
/// `failover.killed_broken_connections`; `failover.sigstop_flaps`: how often the VIP moved when stopped daemons went on.
pub(super) fn killed(runs: usize, tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let mut pair = Pair::start(Kind::VipLb, 100, [200, 200])?;
    let connections = LongConnections::open(&pair.site.lab.client.namespace, pair.site.echo(), 60)?;
    let mut figures = Vec::new();
    let mut flaps = 0;
    for (name, signal) in [("sigkill", libc::SIGKILL), ("sigstop", libc::SIGSTOP)] {
        let (mut gaps, mut both) = (Vec::new(), Duration::ZERO);
        for run in 0..runs {
            let active = run % 2;
            let outcome = replace(&mut pair, active, signal)?;
            gaps.push(outcome.gap);
            both = both.max(outcome.both);
            flaps += outcome.flaps;
        }
        // An even number of times, so that the next round begins with the first node, too.
        if runs % 2 == 1 {
            replace(&mut pair, 1, libc::SIGKILL)?;
        }
        let both = both.as_secs_f64() * 1000.0;
        let (of_gaps, words) = summary(name, &gaps, None)?;
        tell(&format!("{name} of the active daemon: two answered for {both:.0} ms, nobody for {words}"));
        figures.extend(of_gaps);
        figures.push(Figure::new(&format!("failover.{name}_two_owner_ms"), both, "ms").aim("== 0")?);
    }
    connections.exchange(3)?;
    let broken = connections.broken();
    tell(&format!("of 60 connections {} broke; {flaps} moves when stopped daemons went on", broken.len()));
    pair.site.succeeded();
    figures.push(
        Figure::new("failover.killed_broken_connections", broken.len() as f64, "connections").aim("== 0")?,
    );
    figures.push(Figure::new("failover.sigstop_flaps", flaps as f64, "moves").aim("== 0")?);
    Ok(figures)
}

struct Outcome {
    /// Milliseconds without an answer.
    gap: f64,
    both: Duration,
    flaps: usize,
}

/// Signals the daemon of the active node, waits for the other one, and has the first one be its backup.
fn replace(pair: &mut Pair, active: usize, signal: i32) -> Result<Outcome> {
    let next = 1 - active;
    pair.wait_owner(active)?;
    pair.found_anew_at(active)?;
    let [former_mac, next_mac] = [active, next].map(|edge| pair.site.lab.edges[edge].mac());
    let (former_mac, next_mac) = (former_mac?, next_mac?);
    let watch = ArpWatch::start(&pair.site.lab.client, vip(Family::V4), EVERY * 2 * patience())?;
    let probes = pair.probes()?;
    let moment = Instant::now();
    pair.site.daemons[active].signal(signal)?;
    pair.site.wait_router(next, "active")?;
    pair.site.wait_found_at(next)?;
    let gap = gap_since(&probes, moment)?;
    let changed = pair.site.last_change(next)?;
    if signal == libc::SIGSTOP {
        pair.site.daemons[active].signal(libc::SIGCONT)?;
    } else {
        // It is waited for, and started again.
        pair.site.daemons[active].kill()?;
        pair.site.daemons[active].launch()?;
    }
    pair.site.wait_router(active, "backup")?;
    let flaps = pair.site.changes_since(next, changed)?;
    let both = watch.both_answered(moment, former_mac, next_mac)?;
    let answers = watch.answers();
    ensure!(answers.len() > 20, "only {} answers to ARP", answers.len());
    ensure!(answers.last().context("answers")?.mac == next_mac, "the former one answers again");
    Ok(Outcome { gap, both, flaps })
}
