//! `bench`: what a packet costs. `cargo xtask bench` runs it, with `--instructions` inside a virtual machine.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser;
use vip_lb_tests::{
    bench::{
        budget::{Counts, check_budgets},
        control, figures,
        object::Objects,
        pin_to_cpu,
        run::{Bench, Effort, Measurement},
    },
    ending::exit_code,
};
use xtask::figures::{Figure, Report};

#[derive(Parser)]
#[command(about = "Measures what a packet costs, next to floors in the same run")]
struct Arguments {
    /// The load balancer's binary. `cargo xtask` says where it is to every program; what is measured here needs no daemon.
    #[arg(long = "binary", value_name = "FILE")]
    _binary: Option<PathBuf>,
    /// Read times as counts: this machine's clock advances one nanosecond for each instruction.
    #[arg(long)]
    instructions: bool,
    /// Only load the programs, and say what the verifier of this kernel looked at.
    #[arg(long, conflicts_with = "instructions")]
    verified: bool,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Take the BPF objects from this folder in place of the built-in ones.
    #[arg(long, value_name = "FOLDER")]
    objects: Option<PathBuf>,
    /// Rounds to take the median of.
    #[arg(long, default_value_t = 31)]
    rounds: usize,
    /// Run on this CPU.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
}

/// Packets in a round; with many flows each is met at least once.
const PACKETS: u32 = 100_000;
const MANY_FLOWS: usize = 100_000;
/// Where every run gives the same, a few are enough.
const COUNTED_ROUNDS: usize = 3;
const COUNTED_PACKETS: u32 = 10_000;

fn main() -> ExitCode {
    exit_code("bench", &run(&Arguments::parse()))
}

/// Whether all budgets are kept. An aim that is missed is reported, and fails nothing.
fn run(arguments: &Arguments) -> Result<bool> {
    pin_to_cpu(arguments.cpu)?;
    let objects = match &arguments.objects {
        Some(folder) => Objects::from_folder(folder)?,
        None => Objects::built_in(),
    };
    let (figures, counts) = if arguments.verified {
        let counts = figures::verified_alone(&objects.balancer)?;
        (figures::of_kernels(&counts, &Counts::budgets()?)?, counts)
    } else if arguments.instructions {
        count(&objects)?
    } else {
        time(&objects, arguments.rounds)?
    };
    println!();
    for figure in &figures {
        let aim = figure.aim.as_ref().map_or_else(String::new, |aim| {
            format!("{aim:>10}  {}", if figure.ok { "ok" } else { "MISSED" })
        });
        println!("{:44} {:>9} {:12} {aim}", figure.name, figure.value, figure.unit);
    }
    if let Some(path) = &arguments.json {
        Report::new(figures).write(path)?;
    }
    let violations = check_budgets(&counts, &Counts::budgets()?);
    for violation in &violations {
        println!("over budget: {violation}");
    }
    Ok(violations.is_empty())
}

fn count(objects: &Objects) -> Result<(Vec<Figure>, Counts)> {
    let effort = Effort { flows: 1, rounds: COUNTED_ROUNDS, packets: COUNTED_PACKETS, timed: false };
    let mut bench = Bench::load(objects, effort)?;
    let measurements = bench.run()?;
    let counts = figures::instructions(&mut bench, &measurements)?;
    Ok((figures::of_counts(&counts)?, counts))
}

fn time(objects: &Objects, rounds: usize) -> Result<(Vec<Figure>, Counts)> {
    let run = |flows: usize| -> Result<(Vec<Measurement>, Counts)> {
        let effort = Effort { flows, rounds, packets: PACKETS, timed: true };
        let mut bench = Bench::load(objects, effort)?;
        let measurements = bench.run().with_context(|| format!("measure {flows} flows"))?;
        println!("{flows} flows, {rounds} rounds, ns for each packet net of the harness (quartiles)");
        for measurement in &measurements {
            let spread = measurement.quartiles();
            println!(
                "  {:20} {:7.1}  ({:.1} to {:.1})",
                measurement.subject.name(),
                spread.median,
                spread.lower,
                spread.upper
            );
        }
        Ok((measurements, figures::verified(&mut bench)?))
    };
    let (one, counts) = run(1)?;
    let (many, _) = run(MANY_FLOWS)?;
    let mut all = figures::of_times(&one, &many)?;
    all.extend(figures::of_counts(&counts)?);
    all.extend(control::figures()?);
    Ok((all, counts))
}
