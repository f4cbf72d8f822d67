//! `compare`: vip-lb beside Linux IPVS, in the same lab through the same events. `cargo xtask compare` runs it inside a virtual
//! machine, whose kernel has IPVS.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use vip_lb_tests::{
    compare::{Balancer, Damage, Event, Ipvs, Row, Scheduler, VipLb, figures, play, table},
    lab::{Mode, interrupt},
};
use xtask::figures::Report;

#[derive(Parser)]
#[command(about = "Plays the same events with vip-lb and with Linux IPVS, and counts what breaks")]
struct Arguments {
    /// How packets reach the backends.
    #[arg(long, value_enum, default_value = "ipip")]
    mode: ModeArgument,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArgument {
    L2,
    Ipip,
}

fn main() -> ExitCode {
    interrupt::install();
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether vip-lb kept its promises. How IPVS fares fails nothing.
fn run(arguments: &Arguments) -> Result<bool> {
    let mode = match arguments.mode {
        ModeArgument::L2 => Mode::L2,
        ModeArgument::Ipip => Mode::Ipip,
    };
    let ipvs = |scheduler| play_all(&mut Ipvs::start(mode, scheduler).context("start IPVS")?);
    let (second, third) = (ipvs(Scheduler::RoundRobin)?, ipvs(Scheduler::Maglev)?);
    let mut vip_lb = VipLb::start(mode).context("start vip-lb")?;
    let first = play_all(&mut vip_lb)?;
    vip_lb.succeeded();
    let names = [vip_lb.name(), Scheduler::RoundRobin.describe(), Scheduler::Maglev.describe()];

    let damages = first.into_iter().zip(second).zip(third);
    let rows: Vec<Row> = Event::ALL
        .into_iter()
        .zip(damages)
        .map(|(event, ((vip_lb, ipvs), maglev))| Row { event, damage: [vip_lb, ipvs, maglev] })
        .collect();
    print!("\n{}", table(&names, &rows));
    let report = Report::new(figures(&rows)?);
    if let Some(path) = &arguments.json {
        report.write(path)?;
    }
    Ok(report.missed().next().is_none())
}

fn play_all(balancer: &mut dyn Balancer) -> Result<Vec<Option<Damage>>> {
    Event::ALL
        .into_iter()
        .map(|event| {
            let damage = play(event, balancer)
                .with_context(|| format!("{}: {}", balancer.name(), event.describe()))?;
            println!("{}: {}: {damage:?}", balancer.name(), event.describe());
            Ok(damage)
        })
        .collect()
}
