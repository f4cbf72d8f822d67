//! `compare`: vip-lb beside Linux IPVS, in the same lab through the same events. `cargo xtask compare` runs it inside a virtual
//! machine, whose kernel has IPVS.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser;
use vip_lb_tests::{
    compare::{Balancer, Comparison, Damage, Event, Ipvs, Scheduler, VipLb, play},
    ending::exit_code,
    lab::{Mode, command, interrupt},
};
use xtask::figures::Report;

/// What the tables cannot say.
const NOTES: &str = "\
Counted are connections whose backend lived, and requests begun before and after an event (after it only where a backend died).
IPVS is told what happens by the lab: it has no checks and no control process of its own.
Its reload is that of Debian's service, flush and load; keepalived applies differences instead.
";

#[derive(Parser)]
#[command(about = "Plays the same events with vip-lb and with Linux IPVS, and counts what breaks")]
struct Arguments {
    /// How packets reach the backends; can be given several times.
    #[arg(long, value_enum, required = true)]
    mode: Vec<Mode>,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    interrupt::install();
    exit_code("compare", &run(&Arguments::parse()))
}

/// Whether vip-lb kept its promises. How IPVS fares fails nothing.
fn run(arguments: &Arguments) -> Result<bool> {
    let comparisons =
        arguments.mode.iter().map(|mode| compare(*mode)).collect::<Result<Vec<Comparison>>>()?;
    let release =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    let ipvsadm = command::run("ipvsadm", &["--version"])?;
    println!("\nkernel {}, {}, vip-lb {}", release.trim(), ipvsadm.trim(), env!("CARGO_PKG_VERSION"));
    let mut figures = Vec::new();
    for comparison in &comparisons {
        println!("\n{}", comparison.table());
        figures.extend(comparison.figures()?);
    }
    print!("{NOTES}");
    Report::new(figures).conclude(arguments.json.as_deref())
}

fn compare(mode: Mode) -> Result<Comparison> {
    let ipvs = |scheduler| play_all(mode, &mut Ipvs::start(mode, scheduler).context("start IPVS")?);
    let mut vip_lb = VipLb::start(mode).context("start vip-lb")?;
    let ours = play_all(mode, &mut vip_lb)?;
    vip_lb.succeeded();
    drop(vip_lb);
    Ok(Comparison::new(mode, &[ours, ipvs(Scheduler::RoundRobin)?, ipvs(Scheduler::Maglev)?]))
}

/// The title of the balancer's column, and what is in it.
fn play_all(mode: Mode, balancer: &mut dyn Balancer) -> Result<(&'static str, Vec<Option<Damage>>)> {
    let column = Event::ALL.into_iter().map(|event| {
        let name = format!("{}, {}: {}", mode.name(), balancer.name(), event.describe());
        let damage = play(event, balancer).with_context(|| name.clone())?;
        match &damage {
            Some(Damage { connections, broken, requests, failed, reasons }) => {
                println!("{name}: {broken} of {connections} connections broken, {failed} of {requests} requests failed");
                for (reason, count) in reasons {
                    println!("    {count} x {reason}");
                }
            }
            None => println!("{name}: there is no such thing"),
        }
        Ok(damage)
    });
    let column = column.collect::<Result<_>>()?;
    Ok((balancer.name(), column))
}
