//! The active node is cut off from one moment to the next, and nobody sees its link go.

use std::time::{Duration, Instant};

use anyhow::Result;
use xtask::figures::Figure;

use super::{Kind, gap_since, pair::Pair, summary};
use crate::lab::patience;

/// The active node comes back as such, and the backup waits for the shortest time that its adverts allow.
const PRIORITIES: [u8; 2] = [210, 200];

/// `failover.[keepalived_]cut_INTERVALms_median_ms` and `_p95_ms`: for how long nobody answered.
pub(super) fn cut(
    kind: Kind,
    interval_ms: u32,
    runs: usize,
    tell: &mut dyn FnMut(&str),
) -> Result<Vec<Figure>> {
    let pair = Pair::start(kind, interval_ms, PRIORITIES)?;
    let probes = pair.probes()?;
    let switch = &pair.site.lab.switch;
    let mut gaps = Vec::new();
    for run in 0..runs {
        // By the golden ratio: however many runs there are, they are spread over the time between adverts.
        let phase = f64::from(interval_ms * patience()) / 1000.0 * (run as f64 * 0.618).fract();
        std::thread::sleep(Duration::from_secs_f64(phase));
        let moment = Instant::now();
        switch.set_silent("edge-1", true)?;
        gaps.push(gap_since(&probes, moment)?);
        switch.set_silent("edge-1", false)?;
        pair.wait_owner(0)?;
        pair.found_anew_at(0)?;
        probes.wait_answered_since(Instant::now(), super::LIMIT)?;
    }
    pair.site.succeeded();
    let name = format!("{}cut_{interval_ms}ms", kind.prefix());
    let aim = match (kind, interval_ms) {
        (Kind::VipLb, 100) => Some("<= 350"),
        (Kind::VipLb, 10) => Some("<= 60"),
        _ => None,
    };
    let (figures, words) = summary(&name, &gaps, aim)?;
    tell(&format!(
        "active node cut off, adverts each {interval_ms} ms, {}: nobody answered for {words}",
        kind.describe()?
    ));
    Ok(figures)
}
