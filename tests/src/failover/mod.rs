//! How soon a VIP is answered for again when its node is gone, and what a planned move costs: figures from a lab with real nodes, and the
//! same with keepalived in our place.
//!
//! A client sends a datagram each millisecond. Where a node is gone, what counts is the longest time between two of them that were answered.
//!
//! Each [`Scenario`] is a module with a function that plays it. `cargo xtask bench --suite failover` plays all of them,
//! `lab_failover_figures` short versions.

mod cut;
mod handover;
mod interop;
mod killed;
mod overload;
mod pair;
mod partition;

use std::time::Duration;

use anyhow::Result;
use xtask::figures::Figure;

pub use interop::{Peer, elections};
pub use pair::{Kind, Pair};

use handover::Slots;

use crate::{health::percentile, lab::UdpProbes};

/// Between two datagrams.
const EVERY: Duration = Duration::from_millis(1);

/// Longer than any change takes.
const LIMIT: Duration = Duration::from_secs(20);

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Times that a node is gone, or a VIP moved there and back.
    pub runs: usize,
    /// Connections that are open while a VIP is moved on purpose.
    pub connections: usize,
    /// How long all processors are busy with something else.
    pub overload: Duration,
}

/// What is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// A VIP is moved on purpose, there and back.
    Handover,
    /// The active node is cut off, without a sign.
    Cut,
    /// The daemon of the active node is killed, or stopped.
    Killed,
    /// Nodes do not hear each other, or only one the other, or begin at the same moment.
    Partition,
    /// All processors are busy.
    Overload,
    /// keepalived and FRR in the same virtual router.
    Interop,
}

impl Scenario {
    /// Plays it, and tells each result as a line.
    ///
    /// # Errors
    ///
    /// A lab cannot be built, or a VIP is not answered for any more.
    pub fn play(self, options: &Options, tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
        let Options { runs, connections, overload } = *options;
        Ok(match self {
            Self::Handover => {
                let mut figures = handover::there_and_back(Slots::Settled, runs, connections, tell)?;
                figures.extend(handover::there_and_back(Slots::Open, runs, connections, tell)?);
                figures.extend(handover::by_keepalived(runs, tell)?);
                figures
            }
            Self::Cut => {
                let mut figures = cut::cut(Kind::VipLb, 100, runs, tell)?;
                figures.extend(cut::cut(Kind::VipLb, 10, runs, tell)?);
                figures.extend(cut::cut(Kind::Keepalived, 100, runs, tell)?);
                figures
            }
            Self::Killed => killed::killed(runs, tell)?,
            Self::Partition => partition::partition(tell)?,
            Self::Overload => overload::overload(overload, tell)?,
            Self::Interop => interop::all(tell)?,
        })
    }
}

/// The median and the 95th percentile of gaps, in milliseconds, as figures and in words.
fn summary(name: &str, gaps: &[f64], aim: Option<&str>) -> Result<(Vec<Figure>, String)> {
    let [median, p95] = [50, 95].map(|percent| percentile(gaps, percent));
    let figure = Figure::new(&format!("failover.{name}_p95_ms"), p95, "ms");
    let figures = vec![
        Figure::new(&format!("failover.{name}_median_ms"), median, "ms"),
        match aim {
            Some(aim) => figure.aim(aim)?,
            None => figure,
        },
    ];
    Ok((figures, format!("{median:.0} ms, 95 of 100 within {p95:.0} ms, {} runs", gaps.len())))
}

/// The longest time without an answer since a moment, in milliseconds, once answers come again.
fn gap_since(probes: &UdpProbes, moment: std::time::Instant) -> Result<f64> {
    probes.wait_answered_since(std::time::Instant::now(), LIMIT)?;
    let gap = probes.longest_gap_since(moment).map(|gap| gap.length).unwrap_or_default();
    Ok(gap.as_secs_f64() * 1000.0)
}
