//! `failover`: how soon a VIP is answered for again, and what a planned move costs. `cargo xtask bench --suite failover` runs it.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum as _};
use vip_lb_tests::{
    ending::exit_code,
    failover::{Options, Scenario},
    lab::interrupt,
};
use xtask::figures::Report;

#[derive(Parser)]
#[command(about = "Moves VIPs on purpose and takes their nodes away, beside keepalived")]
struct Arguments {
    /// The load balancer's binary.
    #[arg(long, value_name = "FILE", env = "VIP_LB_BIN")]
    binary: Option<PathBuf>,
    /// Only this. Can be given several times.
    #[arg(long, value_name = "SCENARIO", value_enum)]
    only: Vec<Scenario>,
    /// Times that a node is gone, or a VIP moved there and back.
    #[arg(long, value_name = "N", default_value_t = 10)]
    runs: usize,
    /// Connections that are open while a VIP is moved on purpose.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    connections: usize,
    /// How long all processors are busy with something else.
    #[arg(long, value_name = "N", default_value = "10")]
    minutes: f64,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    interrupt::install();
    exit_code("failover", &run(&Arguments::parse()))
}

/// Whether all was as promised.
fn run(arguments: &Arguments) -> Result<bool> {
    if let Some(binary) = &arguments.binary {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("VIP_LB_BIN", binary) };
    }
    let overload =
        Duration::try_from_secs_f64(arguments.minutes * 60.0).context("read the number of minutes")?;
    let Arguments { runs, connections, .. } = *arguments;
    let options = Options { runs, connections, overload };
    let mut figures = Vec::new();
    for scenario in Scenario::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(scenario) {
            figures.extend(scenario.play(&options, &mut |line| println!("{line}"))?);
        }
    }
    Report::new(figures).conclude(arguments.json.as_deref())
}
