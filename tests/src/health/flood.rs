//! A flood of forged handshakes is no failure of a backend.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use xtask::figures::Figure;

use super::{
    moments::{Change, Moment, changes},
    start_with_usual_checks,
};
use crate::lab::{Flood, FloodKind, interrupt};

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
    let mut flood = Flood::start(&site.lab.client.namespace, site.web(), FloodKind::Syn)?;
    let mut left = time;
    while !left.is_zero() {
        interrupt::check()?;
        ensure!(flood.is_running()?, "the flood ended");
        let step = left.min(Duration::from_secs(1));
        thread::sleep(step);
        left -= step;
    }
    drop(flood);
    let rate = ((forwarded()? - before) as f64 / time.as_secs_f64()).round();
    ensure!(rate > 1000.0, "only {rate} packets a second are no flood");
    let removals = changes(&site, Change::Removal, began)?.len();
    tell(&format!("flood of {rate} SYNs a second for {time:?}: {removals} removals"));
    site.succeeded();
    Ok(vec![
        Figure::new("health.flood_rate", rate, "packets/s"),
        Figure::new("health.flood_false_removals", removals as f64, "removals").aim("== 0")?,
    ])
}
