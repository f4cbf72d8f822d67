//! `change`: events under traffic, each once or mixed at random. `cargo xtask bench --suite change` and `cargo xtask soak` run it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Parser;
use vip_lb_tests::{
    change::{Event, NO_PREVIOUS, SoakOptions, Stage, previous_binary, soak},
    lab::{Mode, interrupt},
};
use xtask::figures::{Figure, Report};

#[derive(Parser)]
#[command(about = "Changes things under traffic, and counts what is lost and what breaks")]
struct Arguments {
    /// The load balancer's binary.
    #[arg(long, value_name = "FILE", env = "VIP_LB_BIN")]
    binary: Option<PathBuf>,
    /// That of the commit before.
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// Mix the events at random for so long, instead of playing each once.
    #[arg(long, value_name = "N")]
    soak_minutes: Option<f64>,
    /// The order of an earlier run again, by the seed that it printed.
    #[arg(long, value_name = "S", requires = "soak_minutes")]
    seed: Option<u64>,
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
            eprintln!("change: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was as planned.
fn run(arguments: &Arguments) -> Result<bool> {
    if let Some(binary) = &arguments.binary {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("VIP_LB_BIN", binary) };
    }
    let previous = arguments.previous.clone().or_else(previous_binary);
    if previous.is_none() {
        println!("without upgrade and downgrade: {NO_PREVIOUS}");
    }
    let figures = match arguments.soak_minutes {
        Some(minutes) => soak_for(minutes, arguments.seed, previous)?,
        None => play_all(previous.as_deref())?,
    };
    Report::new(figures).conclude(arguments.json.as_deref())
}

fn play_all(previous: Option<&Path>) -> Result<Vec<Figure>> {
    let mut stage = Stage::start(Mode::L2, previous.map(Path::to_owned))?;
    let mut figures = Vec::new();
    for event in Event::ALL.into_iter().filter(|event| previous.is_some() || !event.needs_previous()) {
        let outcome = stage.play(event).with_context(|| event.describe())?;
        print!("{}", outcome.describe());
        figures.extend(outcome.figures()?);
    }
    stage.succeeded();
    Ok(figures)
}

fn soak_for(minutes: f64, seed: Option<u64>, previous: Option<PathBuf>) -> Result<Vec<Figure>> {
    let of_clock = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    };
    let seed = seed.unwrap_or_else(of_clock);
    println!("--seed {seed} plays the same events again");
    let time = Duration::try_from_secs_f64(minutes * 60.0).context("read the number of minutes")?;
    let soak = soak(&SoakOptions { time, seed, previous }, |line| print!("{line}"))?;
    println!("{} events, {} violations, seed {seed}", soak.events, soak.violations.len());
    for violation in &soak.violations {
        println!("  {violation}");
    }
    soak.figures()
}
