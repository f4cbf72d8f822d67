//! How soon checks notice what, and what they must not take for a failure: figures from a lab with real servers.
//!
//! Each [`Scenario`] is a module with one function that plays it and returns its [`Figure`]s. `cargo xtask bench --suite health` plays all of
//! them, `lab_health_figures` short versions.

mod black_hole;
mod director;
mod fault;
mod flood;
mod haproxy;
mod losses;
mod modes;
mod moments;
mod scale;
mod times;

use std::time::Duration;

use anyhow::Result;
use xtask::figures::Figure;

pub use black_hole::{Balancer, black_hole};
pub use fault::Fault;
pub use flood::flood;
pub use losses::losses;
pub use modes::modes;
pub use scale::scale;
pub use times::times;

use crate::lab::{Family, Mode, Site, SiteOptions, config::MinHealthy, interrupt, patience};

/// The backend that gets into trouble.
const TROUBLED: &str = "backend-1";

/// Of the service that is looked at.
const SERVICE: &str = "web";

/// The checks of these labs, times [`patience`].
const INTERVAL: Duration = Duration::from_millis(400);
const TIMEOUT: Duration = Duration::from_millis(200);
const FALL: u32 = 3;
const RISE: u32 = 2;
/// What a promise has beside what the check's numbers say.
const SLACK: Duration = Duration::from_millis(50);

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Options {
    /// Removals and returns, and backends that fall silent.
    pub runs: usize,
    /// How long packets are lost, come late, or are a flood.
    pub trouble: Duration,
    /// How many are checked at once.
    pub backends: usize,
    /// Whose black hole is measured; none: everybody's whom this kernel can run.
    pub balancers: Vec<Balancer>,
}

/// What is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// A backend loses the VIP and gets it back: how soon it is out, and in again.
    Times,
    /// A backend swallows all packets under load: how soon no new connection goes to it, by vip-lb and by others.
    BlackHole,
    /// Every fault in every mode.
    Modes,
    /// Lost and late packets.
    Losses,
    /// Forged handshakes.
    Flood,
    /// Many backends.
    Scale,
}

impl Scenario {
    /// Plays it, and tells each result as a line.
    ///
    /// # Errors
    ///
    /// A lab cannot be built, or a backend is not removed or does not return at all.
    pub fn play(self, options: &Options, tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
        match self {
            Self::Times => times(options.runs, tell),
            Self::BlackHole => {
                let mut figures = Vec::new();
                for balancer in Balancer::chosen(&options.balancers, tell)? {
                    figures.extend(black_hole(balancer, options.runs, tell)?);
                }
                Ok(figures)
            }
            Self::Modes => modes(&[Mode::L2, Mode::Ipip, Mode::Gue, Mode::Nat], tell),
            Self::Losses => losses(options.trouble, tell),
            Self::Flood => flood(options.trouble, tell),
            Self::Scale => scale(options.backends, options.trouble, tell),
        }
    }
}

/// Waits, and looks once a second whether all goes on as it should.
fn endure(time: Duration, mut look: impl FnMut() -> Result<()>) -> Result<()> {
    let mut left = time;
    while !left.is_zero() {
        interrupt::check()?;
        look()?;
        let step = left.min(Duration::from_secs(1));
        std::thread::sleep(step);
        left -= step;
    }
    Ok(())
}

/// Two backends in a mode, over IPv4, with the checks of these labs.
fn start(mode: Mode) -> Result<Site> {
    let options = SiteOptions::new(mode, Family::V4)?;
    let mut config = options.config(&[100, 100]);
    for health in config.services_mut().filter_map(|service| service.health.as_mut()) {
        health.interval = format!("{}ms", (INTERVAL * patience()).as_millis());
        health.timeout = format!("{}ms", (TIMEOUT * patience()).as_millis());
        (health.fall, health.rise) = (FALL, RISE);
        // Faults come one after the other here.
        health.flap_hold = Some("0s".to_owned());
    }
    for service in config.services_mut() {
        // What the checks find is looked at, also where they find that all are down.
        service.min_healthy = Some(MinHealthy::Count(0));
        service.max_removed = Some("100%".to_owned());
    }
    Site::start(options, &config)
}

/// Checks as by default, times [`patience`], which look at once where clients meet a failure: what only passes for one must not be one to them.
fn start_with_usual_checks() -> Result<Site> {
    let options = SiteOptions::new(Mode::L2, Family::V4)?;
    let mut config = options.config(&[100, 100, 100]);
    for health in config.services_mut().filter_map(|service| service.health.as_mut()) {
        (health.interval, health.timeout) = (format!("{}s", 2 * patience()), format!("{}s", patience()));
        (health.fall, health.rise) = (3, 2);
    }
    for service in config.services_mut().filter(|service| service.protocol == "tcp") {
        service.passive = Some("on".to_owned());
    }
    Site::start(options, &config)
}

/// The smallest value that so many of a hundred do not exceed.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert_eq!([50, 95, 100].map(|percent| percentile(&values, percent)), [10.0, 19.0, 20.0]);
        assert_eq!(percentile(&[7.0], 95), 7.0);
    }
}
