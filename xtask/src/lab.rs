//! `demo`, `bench` and `soak`: set up, build, run the program of the tests crate that does it.

use std::{
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use xtask::{
    figures::Report,
    guest::{Guest, Kernel, Output},
};

use crate::{
    previous::{self, Daemon},
    process, progress, setup,
};

/// The kernel on which instructions are counted: a figure is only comparable on the same one.
const INSTRUCTIONS_KERNEL: &str = "6.12";

/// How packets reach the backends of a lab.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Mode {
    /// Rewrite MAC addresses: backends on the same segment.
    L2,
    /// Encapsulate: backends anywhere.
    Ipip,
    /// Encapsulate in UDP: the same, and routers can tell flows apart.
    Gue,
    /// Translate addresses and ports: backends anywhere, which need nothing.
    Nat,
}

impl Mode {
    /// As programs of the tests crate spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Nat => "nat",
        }
    }
}

/// `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// How packets reach the backends.
    #[arg(long, value_enum, default_value = "l2")]
    mode: Mode,
    /// An IPv6 VIP.
    #[arg(long)]
    ipv6: bool,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave the lab up and say how to enter it.
    #[arg(long)]
    keep: bool,
}

/// `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What to measure: what packets cost, what changes under traffic lose and break, how soon checks notice what, or how soon a VIP moves.
    #[arg(long, value_enum, default_value = "packets")]
    suite: Suite,
    /// Count instructions in a virtual machine instead of measuring time: the same result in every run.
    #[arg(long)]
    instructions: bool,
    /// For the benchmark itself: see `cargo xtask bench -- --help`.
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// What `bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Suite {
    /// What packets cost.
    Packets,
    /// What reloads, kills, upgrades and mischief lose and break.
    Change,
    /// How soon checks notice what, and what they do not take for a failure.
    Health,
    /// How soon a VIP is answered for again when its node is gone, and what a planned move costs, beside keepalived.
    Failover,
}

/// `cargo xtask soak`.
#[derive(Debug, clap::Args)]
pub(crate) struct Soak {
    /// How long.
    #[arg(long, value_name = "N", default_value = "10")]
    minutes: f64,
    /// The order of an earlier run again, by the seed that it printed.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the demo; its exit code is the command's.
pub(crate) fn demo(demo: &Demo) -> Result<u8> {
    process::require_root("demo", "it makes network namespaces and attaches XDP programs")?;
    let mut arguments = vec!["--mode".to_owned(), demo.mode.name().to_owned()];
    arguments.extend(demo.ipv6.then(|| "--ipv6".to_owned()));
    arguments.extend(demo.keep.then(|| "--keep".to_owned()));
    arguments.extend(json_argument(demo.json.as_deref())?);
    let binary = prepare("demo")?;
    run("demo", &binary, &arguments)
}

/// Runs the benchmark; its exit code is the command's.
pub(crate) fn bench(bench: &Bench) -> Result<u8> {
    process::require_root("bench", "it loads XDP programs")?;
    if bench.instructions && bench.suite != Suite::Packets {
        bail!("--instructions counts what packets cost: it goes with no other suite");
    }
    let mut arguments: Vec<String> = json_argument(bench.json.as_deref())?.into_iter().collect();
    arguments.extend(bench.arguments.iter().cloned());
    match bench.suite {
        Suite::Packets => {}
        Suite::Change => return change(arguments),
        Suite::Health => return run("health", &prepare("health")?, &arguments),
        Suite::Failover => return run("failover", &prepare("failover")?, &arguments),
    }
    let binary = prepare("bench")?;
    if bench.instructions {
        let output = count_instructions(&binary.with_file_name("bench"), &bench.arguments)?;
        if let Some(path) = &bench.json {
            output.report()?.write(path)?;
        }
        return Ok(u8::try_from(output.guest.code).unwrap_or(1));
    }
    run("bench", &binary, &arguments)
}

/// Mixes events at random; the exit code says whether nothing was lost.
pub(crate) fn soak(soak: &Soak) -> Result<u8> {
    process::require_root("soak", "it makes network namespaces and attaches XDP programs")?;
    let mut arguments = vec![format!("--soak-minutes={}", soak.minutes)];
    arguments.extend(soak.seed.map(|seed| format!("--seed={seed}")));
    arguments.extend(json_argument(soak.json.as_deref())?);
    change(arguments)
}

/// Runs the program that changes things under traffic, with the daemon of the commit before, if it can be had.
fn change(mut arguments: Vec<String>) -> Result<u8> {
    let binary = prepare("change")?;
    match previous::ensure(None)? {
        Daemon::At(path) => arguments.push(format!("--previous={}", path.display())),
        Daemon::Missing(reason) => println!("without upgrades: {reason}"),
    }
    run("change", &binary, &arguments)
}

/// Sets up, builds what `program` needs, and returns the path of the load balancer's binary.
fn prepare(program: &str) -> Result<PathBuf> {
    setup::run(setup::Options { cargo_deny: false })?;
    let started = progress::now();
    println!("building in release mode, some minutes the first time");
    process::succeed(&mut process::cargo(&["build", "--release", "--package=vip-lb"]))?;
    process::succeed(&mut process::cargo(&[
        "build",
        "--release",
        "--package=vip-lb-tests",
        "--bin",
        program,
    ]))?;
    println!("built in {}\n", progress::seconds(started.elapsed()));
    Ok(process::target_folder()?.join("release/vip-lb"))
}

fn run(program: &str, binary: &Path, arguments: &[String]) -> Result<u8> {
    let mut command =
        process::cargo(&["run", "--quiet", "--release", "--package=vip-lb-tests", "--bin", program, "--"]);
    // Signals that end this process are the child's to act on: it cleans up, and this process ends after it.
    let status = process::run(command.arg("--binary").arg(binary).args(arguments))?;
    Ok(exit_code(status))
}

/// Counts the instructions that packets cost, and says whether all budgets are kept. Needs no release build: what is counted
/// is the BPF object, which is always optimised.
pub(crate) fn budgets_are_kept() -> Result<bool> {
    process::succeed(&mut process::cargo(&["build", "--package=vip-lb-tests", "--bin=bench"]))?;
    let output = count_instructions(&process::target_folder()?.join("debug/bench"), &[])?;
    Ok(output.guest.code == 0)
}

/// What a count brought.
struct Count {
    guest: Output,
    kernel: String,
}

impl Count {
    /// The guest's figures with the commit and the host of this machine.
    fn report(&self) -> Result<Report> {
        if self.guest.collected.is_empty() {
            bail!("the benchmark ended with code {} and left no figures", self.guest.code);
        }
        let guest: Report =
            serde_json::from_slice(&self.guest.collected).context("parse the figures of the guest")?;
        let mut report = Report::new(guest.figures);
        report.machine.kernel.clone_from(&self.kernel);
        Ok(report)
    }
}

/// The same benchmark in a guest whose clock counts instructions.
fn count_instructions(program: &Path, arguments: &[String]) -> Result<Count> {
    const FIGURES: &str = "/tmp/figures.json";
    let kernel = Kernel::debian(INSTRUCTIONS_KERNEL, &process::target_folder()?.join("kernels"))?;
    println!("counting instructions on kernel {} in a virtual machine", kernel.release);
    let mut line = format!("exec bench --instructions --json {FIGURES}");
    for argument in arguments {
        line.push_str(&format!(" '{}'", argument.replace('\'', "'\\''")));
    }
    let guest = Guest::new(&kernel)
        .binary(program)?
        .icount(true)
        .memory(2048)
        .time_limit(Duration::from_secs(20 * 60))
        .echo(true)
        .collect(FIGURES)
        .run(&line)?;
    Ok(Count { guest, kernel: kernel.release })
}

fn json_argument(path: Option<&Path>) -> Result<Option<String>> {
    let Some(path) = path else { return Ok(None) };
    let path = std::path::absolute(path).with_context(|| format!("find {}", path.display()))?;
    Ok(Some(format!("--json={}", path.display())))
}

/// As a shell has it: 128 and the signal's number for a process that was ended by one.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_pass_through() {
        for (raw, code) in [(0, 0), (3 << 8, 3), (libc::SIGINT, 130), (libc::SIGKILL, 137)] {
            assert_eq!(exit_code(ExitStatus::from_raw(raw)), code);
        }
    }

    #[test]
    fn the_file_of_figures_does_not_depend_on_the_folder() {
        let argument = json_argument(Some(Path::new("out.json"))).unwrap().unwrap();
        assert!(argument.starts_with("--json=/") && argument.ends_with("/out.json"), "{argument}");
    }
}
