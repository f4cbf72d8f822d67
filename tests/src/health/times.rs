//! How long it takes until a backend is out, and until it is back.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use xtask::figures::Figure;

use super::{
    FALL, INTERVAL, RISE, SLACK, TIMEOUT, TROUBLED,
    fault::{Fault, Scene},
    moments::{Change, Moment, wait},
    percentile, start,
};
use crate::lab::{Mode, interrupt, patience};

/// `health.removal_median_ms`, `health.removal_p95_ms`, and the same of `return`: from the moment before the VIP is taken from a backend, whose
/// probes are silent from then on, or given back.
///
/// # Errors
///
/// It is not removed, or does not return, at all.
pub fn times(runs: usize, tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    ensure!(runs > 0, "there are no times of no runs");
    let mut site = start(Mode::L2)?;
    let mut scene = Scene::prepare(&mut site)?;
    let (mut removals, mut returns) = (Vec::new(), Vec::new());
    for run in 0..runs {
        interrupt::check()?;
        // Faults come at any moment between two probes.
        let share = (run * 7 % runs) as f64 / runs as f64;
        thread::sleep(INTERVAL.mul_f64(1.0 + share) * patience());
        let began = Moment::now()?;
        scene.make(Fault::VipMissing)?;
        removals.push(wait(scene.site(), TROUBLED, Change::Removal, began)?.since(began));
        thread::sleep(INTERVAL.mul_f64(1.0 + share) * patience());
        let began = Moment::now()?;
        scene.mend(Fault::VipMissing)?;
        returns.push(wait(scene.site(), TROUBLED, Change::Return, began)?.since(began));
    }
    drop(scene);
    site.succeeded();
    let slack = |promised: Duration| (promised * patience() + SLACK).as_millis();
    let mut figures = Vec::new();
    for (name, times, limit) in
        [("removal", removals, slack(INTERVAL * FALL + TIMEOUT)), ("return", returns, slack(INTERVAL * RISE))]
    {
        let [median, p95] = [50, 95].map(|percent| percentile(&times, percent));
        tell(&format!(
            "{name:8} after {median:.0} ms, 95 of 100 within {p95:.0} ms, promised within {limit} ms, {runs} runs"
        ));
        figures.push(Figure::new(&format!("health.{name}_median_ms"), median, "ms"));
        let p95 = Figure::new(&format!("health.{name}_p95_ms"), p95, "ms");
        figures.push(p95.aim(&format!("<= {limit}"))?);
    }
    Ok(figures)
}
