//! `health`: how soon checks notice what. `cargo xtask bench --suite health` runs it.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum as _};
use vip_lb_tests::{
    health::{Balancer, Options, Scenario},
    lab::interrupt,
};
use xtask::figures::Report;

#[derive(Parser)]
#[command(about = "Breaks backends in every way, and measures how soon checks notice it")]
struct Arguments {
    /// The load balancer's binary.
    #[arg(long, value_name = "FILE", env = "VIP_LB_BIN")]
    binary: Option<PathBuf>,
    /// Only this. Can be given several times.
    #[arg(long, value_name = "SCENARIO", value_enum)]
    only: Vec<Scenario>,
    /// Whose black hole is measured; everybody's whom this kernel can run if not given. Can be given several times.
    #[arg(long, value_name = "BALANCER", value_enum)]
    balancer: Vec<Balancer>,
    /// Removals and returns to measure.
    #[arg(long, value_name = "N", default_value_t = 20)]
    runs: usize,
    /// How long packets are lost, come late, or are a flood, and how long many backends are checked.
    #[arg(long, value_name = "N", default_value = "0.5")]
    minutes: f64,
    /// Backends that are checked at once.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    backends: usize,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    interrupt::install();
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("health: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was as promised.
fn run(arguments: &Arguments) -> Result<bool> {
    if let Some(binary) = &arguments.binary {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("VIP_LB_BIN", binary) };
    }
    let trouble =
        Duration::try_from_secs_f64(arguments.minutes * 60.0).context("read the number of minutes")?;
    let options = Options {
        runs: arguments.runs,
        trouble,
        backends: arguments.backends,
        balancers: arguments.balancer.clone(),
    };
    let mut figures = Vec::new();
    for scenario in Scenario::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(scenario) {
            figures.extend(scenario.play(&options, &mut |line| println!("{line}"))?);
        }
    }
    Report::new(figures).conclude(arguments.json.as_deref())
}
