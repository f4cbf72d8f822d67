//! A VIP is moved on purpose.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xtask::figures::Figure;

use super::{Kind, gap_since, pair::Pair, summary};
use crate::lab::{Family, LongConnections};

const PRIORITIES: [u8; 2] = [200, 100];

/// Least datagrams that are looked at.
const PROBES: usize = 10_000;

/// For how long a move that is done is still looked at.
const AFTERWARDS: Duration = Duration::from_millis(200);

/// Of the backends, in turn: never those of the time before, with which slots would close.
const WEIGHTS: [[u16; 3]; 3] = [[400, 100, 100], [100, 400, 100], [100, 100, 400]];

/// Whether slots are open while a VIP is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slots {
    /// All are closed: nothing has changed for a while.
    Settled,
    /// Backends change before each move, and nodes share what they record.
    Open,
}

impl Slots {
    /// As figures have it.
    fn prefix(self) -> &'static str {
        match self {
            Self::Settled => "handover",
            Self::Open => "handover_open",
        }
    }
}

/// `failover.handover_lost_probes` of [`PROBES`] or more and `failover.handover_broken_connections`: by `vip-lb handover`, there and back; and
/// `failover.handover_open_...`, the same while slots are open.
pub(super) fn there_and_back(
    slots: Slots,
    runs: usize,
    connections: usize,
    tell: &mut dyn FnMut(&str),
) -> Result<Vec<Figure>> {
    let pair = match slots {
        Slots::Settled => Pair::start(Kind::VipLb, 100, PRIORITIES)?,
        Slots::Open => Pair::of_peers(Family::V4, None)?,
    };
    pair.wait_settled()?;
    let mut open = Vec::new();
    let mut connect = |count| -> Result<()> {
        open.push(LongConnections::open(&pair.site.lab.client.namespace, pair.site.echo(), count)?);
        Ok(())
    };
    connect(connections / 2)?;
    if slots == Slots::Open {
        pair.change_weights(WEIGHTS[2])?;
    }
    connect(connections - connections / 2)?;

    let probes = pair.probes()?;
    let (from, before, mut moves) = (Instant::now(), probes.sent(), 0);
    while moves < 2 * runs || probes.sent() - before < PROBES {
        for edge in [1, 0] {
            if slots == Slots::Open {
                pair.change_weights(WEIGHTS[moves % WEIGHTS.len()])?;
            }
            pair.move_to(edge)?;
            // What would be lost afterwards belongs to this move.
            std::thread::sleep(AFTERWARDS);
            open.iter().try_for_each(|connections| connections.exchange(1))?;
            moves += 1;
        }
    }
    let (sent, lost) = probes.between(from, Instant::now());
    let broken: Vec<_> = open.iter().flat_map(LongConnections::broken).collect();
    tell(&format!(
        "{moves} hand-overs, slots {}: {lost} of {sent} datagrams lost, {} of {connections} connections broken{}",
        if slots == Slots::Open { "open" } else { "settled" },
        broken.len(),
        broken.first().map(|first| format!(", the first {first:?}")).unwrap_or_default()
    ));
    pair.site.succeeded();
    let figure = |name, value: usize, unit| {
        Figure::new(&format!("failover.{}_{name}", slots.prefix()), value as f64, unit)
    };
    Ok(vec![
        figure("moves", moves, "hand-overs"),
        figure("probes", sent, "datagrams"),
        figure("lost_probes", lost, "datagrams").aim("== 0")?,
        figure("broken_connections", broken.len(), "connections").aim("== 0")?,
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
        pair.site.wait_found_at(1 - active)?;
        std::thread::sleep(AFTERWARDS);
        ensure!(pair.keepalived[active].is_some());
    }
    let (figures, words) = summary("keepalived_stop", &gaps, None)?;
    tell(&format!("active node stopped, {}: nobody answered for {words}", Kind::Keepalived.describe()?));
    Ok(figures)
}
