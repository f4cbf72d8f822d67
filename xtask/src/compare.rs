//! `compare`: vip-lb beside Linux IPVS, in a virtual machine whose kernel has both.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use xtask::{
    figures::Report,
    guest::{Guest, Kernel},
};

use crate::{
    kernels::{PATIENCE, lab_guest},
    lab::Mode,
    process, setup,
};

/// The kernel whose IPVS is compared with.
const KERNEL: &str = "6.12";
/// IPVS and the schedulers that are compared.
const MODULES: &[&str] = &["ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_mh"];
/// What has it do so.
const COMMANDS: &[&str] = &["ipvsadm", "keepalived"];
const FIGURES: &str = "/tmp/figures.json";
/// For each mode.
const LIMIT: Duration = Duration::from_secs(45 * 60);
/// Who is measured by their black holes.
const BALANCERS: [&str; 3] = ["passive", "active", "keepalived"];
/// For each balancer to begin with, and for each of its runs.
const BLACK_HOLE_LIMIT: [Duration; 2] = [Duration::from_secs(5 * 60), Duration::from_secs(60)];

/// `cargo xtask compare`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How packets reach the backends: ipip and nat, unless some are named. Can be given several times.
    #[arg(long, value_enum, default_values = ["ipip", "nat"])]
    mode: Vec<Mode>,
    /// Compare something else instead, beside keepalived: for how long clients are lost to a backend that falls silent, so many times.
    #[arg(long, value_name = "RUNS", conflicts_with = "mode")]
    black_hole: Option<u32>,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Compares; says whether vip-lb kept what it promises.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    process::require_root("compare", "it builds what the labs need")?;
    setup::run(setup::Options { cargo_deny: false })?;
    let comparison = Comparison::of(arguments)?;
    process::succeed(process::cargo(&["build", "--package=vip-lb", "--package=vip-lb-tests"]).args([
        "--bin=vip-lb",
        "--bin",
        comparison.program,
    ]))?;
    let target = process::target_folder()?;
    let kernel = Kernel::debian(KERNEL, &target.join("kernels"))?;
    println!("comparing on kernel {} in a virtual machine", kernel.release);
    let mut guest = lab_guest(Guest::new(&kernel), &target.join("debug/vip-lb"))?
        .binary(&target.join("debug").join(comparison.program))?;
    for command in COMMANDS {
        guest = guest.command(command)?;
    }
    for module in MODULES {
        guest = guest.module(module)?;
    }
    let Comparison { program, words, limit } = comparison;
    let script =
        format!("export VIP_LB_TEST_PATIENCE={PATIENCE}\nexec /bin/{program} {words} --json {FIGURES}");
    let output = guest.memory(3072).time_limit(limit).echo(true).collect(FIGURES).run(&script)?;
    if output.collected.is_empty() {
        bail!("the comparison ended with code {} and left no figures", output.code);
    }
    let report: Report =
        serde_json::from_slice(&output.collected).context("parse the figures of the guest")?;
    if let Some(path) = &arguments.json {
        let mut report = Report::new(report.figures);
        report.machine.kernel.clone_from(&kernel.release);
        report.write(path)?;
    }
    Ok(output.code == 0)
}

/// What runs in the virtual machine.
struct Comparison {
    /// Of the tests crate.
    program: &'static str,
    words: String,
    limit: Duration,
}

impl Comparison {
    fn of(arguments: &Arguments) -> Result<Self> {
        let repeated = |option: &str, values: &[&str]| -> String {
            values.iter().map(|value| format!(" --{option} {value}")).collect()
        };
        if let Some(runs) = arguments.black_hole {
            let [beginning, run] = BLACK_HOLE_LIMIT;
            let balancers = u32::try_from(BALANCERS.len()).context("count the balancers")?;
            return Ok(Self {
                program: "health",
                words: format!("--only black-hole --runs {runs}{}", repeated("balancer", &BALANCERS)),
                limit: (beginning + run * runs) * balancers,
            });
        }
        let modes: Vec<_> = arguments.mode.iter().map(|mode| mode.name()).collect();
        Ok(Self {
            program: "compare",
            words: repeated("mode", &modes),
            limit: LIMIT * u32::try_from(modes.len()).context("count the modes")?,
        })
    }
}
