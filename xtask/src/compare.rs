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
const MODULES: &[&str] = &["ip_vs", "ip_vs_wrr", "ip_vs_mh"];
const FIGURES: &str = "/tmp/figures.json";
/// For each mode.
const LIMIT: Duration = Duration::from_secs(45 * 60);

/// `cargo xtask compare`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How packets reach the backends: ipip and nat, unless some are named. Can be given several times.
    #[arg(long, value_enum, default_values = ["ipip", "nat"])]
    mode: Vec<Mode>,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Compares; says whether vip-lb kept what it promises.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    process::require_root("compare", "it builds what the labs need")?;
    setup::run(setup::Options { cargo_deny: false })?;
    process::succeed(&mut process::cargo(&[
        "build",
        "--package=vip-lb",
        "--package=vip-lb-tests",
        "--bin=vip-lb",
        "--bin=compare",
    ]))?;
    let target = process::target_folder()?;
    let kernel = Kernel::debian(KERNEL, &target.join("kernels"))?;
    println!("comparing on kernel {} in a virtual machine", kernel.release);
    let mut guest = lab_guest(Guest::new(&kernel), &target.join("debug/vip-lb"))?
        .binary(&target.join("debug/compare"))?
        .command("ipvsadm")?;
    for module in MODULES {
        guest = guest.module(module)?;
    }
    let modes: String = arguments.mode.iter().map(|mode| format!(" --mode {}", mode.name())).collect();
    let limit = LIMIT * u32::try_from(arguments.mode.len()).context("count the modes")?;
    let script = format!("export VIP_LB_TEST_PATIENCE={PATIENCE}\nexec /bin/compare{modes} --json {FIGURES}");
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
