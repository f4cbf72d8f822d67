//! A flood of forged handshakes is no failure of a backend.

use std::time::Duration;

use anyhow::{Result, ensure};
use xtask::figures::Figure;

use super::{
    endure,
    moments::{Change, Moment, changes},
    start_with_usual_checks,
};
use crate::lab::{Flood, FloodKind};

/// In a second. Sender, balancer and backends share the processors of one machine, so that fewer may come through.
const RATE: u32 = 100_000;

/// `health.flood_false_removals`: how many backends left the ring under a flood of SYNs from forged sources; `health.flood_rate`: how many of
/// these the balancer forwarded in a second.
///
/// # Errors
///
/// A lab cannot be built, or the flood ended.
pub fn flood(time: Duration, tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let site = start_with_usual_checks()?;
    let forwarded = || site.daemon().counter("forwarded_l2");
    let (began, before) = (Moment::now()?, forwarded()?);
    let flood = Flood::start(&site.lab.client.namespace, site.web(), FloodKind::Syn, RATE)?;
    endure(time, || {
        ensure!(flood.is_running(), "the flood ended");
        Ok(())
    })?;
    let sent = per_second(flood.sent(), time);
    drop(flood);
    let rate = per_second(forwarded()? - before, time);
    ensure!(rate > 1000.0, "only {rate} packets a second are no flood");
    let removals = changes(&site, Change::Removal, began)?.len();
    tell(&format!("flood of {sent} SYNs a second for {time:?}, {rate} forwarded: {removals} removals"));
    site.succeeded();
    Ok(vec![
        Figure::new("health.flood_rate", rate, "packets/s"),
        Figure::new("health.flood_false_removals", removals as f64, "removals").aim("== 0")?,
    ])
}

fn per_second(packets: u64, time: Duration) -> f64 {
    (packets as f64 / time.as_secs_f64()).round()
}
