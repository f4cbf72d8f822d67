//! `kernels`: every program, the program tests and a lab for each mode, on the kernels that people run.

mod parts;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use xtask::{
    figures::{Figure, Report},
    guest::{Guest, Kernel},
};

use crate::{process, progress, setup};
use parts::{Part, Scope, VIRTIO, script, virtio_test};
use report::{Ended, Kernels as Results, ended_parts};

/// Debian's kernels that are tried beside the running one.
const SERIES: &[&str] = &["6.1", "6.12"];

/// What the labs need of a kernel that has it as modules. A module that is built in is not missed.
const MODULES: &[&str] = &["veth", "bridge", "8021q", "bonding", "dummy", "macvlan"];

/// Programs of this machine that the labs call.
const COMMANDS: &[&str] = &["ip", "ethtool", "nginx", "bpftool", "ping", "bridge"];

/// How much longer things take on an emulated processor, with a machine that others use too.
pub(crate) const PATIENCE: u32 = 8;

/// Packets of the comparison between kernel and host in a guest.
const GUEST_PACKETS: u32 = 5_000;

const FIGURES: &str = "/tmp/figures.json";

/// `cargo xtask kernels`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only this kernel: `6.1`, `6.12` or `running`. Can be given several times.
    #[arg(long, value_name = "KERNEL")]
    only: Vec<String>,
    /// Only this part of what is tried, as the table names it. Can be given several times.
    #[arg(long, value_name = "PART", value_parser = clap::builder::PossibleValuesParser::new(parts::names()))]
    part: Vec<String>,
}

/// Tries all kernels; says whether all is well.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    process::require_root("kernels", "it loads XDP programs and makes network namespaces")?;
    setup::run(setup::Options { cargo_deny: false })?;
    let scope = match &arguments.part[..] {
        [] => Scope::Everything,
        names => Scope::Named(names.to_vec()),
    };
    let binaries = Binaries::build(&scope)?;
    let mut results = Results::default();
    for series in wanted(&arguments.only)? {
        match series {
            Wanted::Debian(series) => results.add(series, debian(series, &scope, &binaries)?),
            Wanted::Running => {
                let (series, tried) = here(&scope, &binaries)?;
                results.add(&series, tried);
            }
        }
    }
    print!("\n{}", results.table());
    if let Some(path) = &arguments.json {
        Report::new(results.figures()).write(path)?;
    }
    Ok(results.all_well())
}

/// What `cargo xtask test` runs on Debian's kernels; the running one has had all tests.
pub(crate) fn quick() -> Result<bool> {
    let binaries = Binaries::build(&Scope::Quick)?;
    let mut results = Results::default();
    for series in SERIES {
        results.add(series, debian(series, &Scope::Quick, &binaries)?);
    }
    print!("\n{}", results.table());
    Ok(results.all_well())
}

/// What a kernel made of it.
struct Tried {
    release: String,
    parts: Vec<(&'static str, Ended)>,
    figures: Vec<Figure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Debian(&'static str),
    Running,
}

fn wanted(only: &[String]) -> Result<Vec<Wanted>> {
    let all =
        SERIES.iter().map(|series| (*series, Wanted::Debian(series))).chain([("running", Wanted::Running)]);
    let all: Vec<_> = all.collect();
    if let Some(unknown) = only.iter().find(|name| all.iter().all(|(known, _)| known != name)) {
        let known: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        bail!("no kernel `{unknown}` is tried here, only {}", known.join(", "));
    }
    let chosen = all.into_iter().filter(|(name, _)| only.is_empty() || only.iter().any(|only| only == name));
    Ok(chosen.map(|(_, wanted)| wanted).collect())
}

/// What is run, by name.
struct Binaries {
    daemon: PathBuf,
    bench: PathBuf,
    tests: BTreeMap<String, PathBuf>,
}

impl Binaries {
    fn build(scope: &Scope) -> Result<Self> {
        process::succeed(&mut process::cargo(&[
            "build",
            "--package=vip-lb",
            "--package=vip-lb-tests",
            "--bin=vip-lb",
            "--bin=bench",
        ]))?;
        let mut targets: BTreeSet<&str> = scope.parts().filter_map(|part| part.target).collect();
        targets.extend(scope.has_virtio().then_some(VIRTIO));
        let mut command = process::cargo(&[
            "test",
            "--no-run",
            "--package=vip-lb-tests",
            "--message-format=json-render-diagnostics",
        ]);
        command.args(targets.iter().map(|target| format!("--test={target}")));
        let tests = test_executables(&process::output(&mut command)?)?;
        if let Some(missing) = targets.iter().find(|target| !tests.contains_key(**target)) {
            bail!("cargo built no test {missing}");
        }
        let folder = process::target_folder()?.join("debug");
        Ok(Self { daemon: folder.join("vip-lb"), bench: folder.join("bench"), tests })
    }

    fn of(&self, part: &Part) -> &Path {
        part.target.and_then(|target| self.tests.get(target)).unwrap_or(&self.bench)
    }
}

/// The executables of tests in cargo's messages, one JSON object a line.
fn test_executables(messages: &str) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for line in messages.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("parse cargo's messages")?;
        if message["profile"]["test"] == true
            && let (Some(name), Some(path)) =
                (message["target"]["name"].as_str(), message["executable"].as_str())
        {
            found.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    Ok(found)
}

/// A kernel of Debian. That a guest fails is a result like others.
fn debian(series: &str, scope: &Scope, binaries: &Binaries) -> Result<Tried> {
    let kernel = Kernel::debian(series, &process::target_folder()?.join("kernels"))?;
    println!("\n=== kernel {} in a virtual machine ===", kernel.release);
    let mut parts = Vec::new();
    let mut figures = Vec::new();
    if scope.parts().next().is_some() {
        let (text, collected) = in_guest(&kernel, scope, binaries).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            (String::new(), Vec::new())
        });
        let ended = ended_parts(&text);
        let of = |part: &Part| (part.name, ended.get(part.name).copied().unwrap_or(Ended::NotRun));
        parts.extend(scope.parts().map(of));
        figures = figures_of(&collected)?;
    }
    if scope.has_virtio() {
        println!("--- virtio, with a guest of its own");
        let words = ["--nocapture", "--include-ignored", "--exact", &virtio_test(series)].map(str::to_owned);
        parts.push(("virtio", run_here(&binaries.tests[VIRTIO], &words)?));
    }
    Ok(Tried { release: kernel.release, parts, figures })
}

/// What the script wrote, and the report of the figures.
fn in_guest(kernel: &Kernel, scope: &Scope, binaries: &Binaries) -> Result<(String, Vec<u8>)> {
    let mut guest = Guest::new(kernel).binary(&binaries.bench)?;
    for part in scope.parts() {
        if let Some(target) = part.target {
            guest = guest.binary_named(binaries.of(part), target)?;
        }
    }
    if scope.has_labs() {
        guest = lab_guest(guest, &binaries.daemon)?;
    }
    let environment =
        [("VIP_LB_TEST_PATIENCE", PATIENCE.to_string()), ("VIP_LB_TEST_PACKETS", GUEST_PACKETS.to_string())];
    let limit: Duration = scope.parts().map(|part| part.limit).sum();
    let output = guest
        .memory(3072)
        .time_limit(limit + Duration::from_secs(120))
        .echo(true)
        .collect(FIGURES)
        .run(&script(scope, &environment, FIGURES))?;
    if output.code != 0 {
        bail!("the guest ended with code {}; its console:\n{}", output.code, output.console);
    }
    Ok((output.text, output.collected))
}

/// A guest with what labs need: the daemon, the programs that the labs call, the modules.
pub(crate) fn lab_guest<'kernel>(guest: Guest<'kernel>, daemon: &Path) -> Result<Guest<'kernel>> {
    let mut guest = guest.binary(daemon)?;
    for command in COMMANDS {
        guest = guest.command(command)?;
    }
    for module in MODULES {
        guest = guest.module(module)?;
    }
    Ok(guest)
}

/// The figures in a report; none when the program that writes it failed.
fn figures_of(report: &[u8]) -> Result<Vec<Figure>> {
    if report.is_empty() {
        return Ok(Vec::new());
    }
    let report: Report = serde_json::from_slice(report).context("parse the figures of a kernel")?;
    Ok(report.figures)
}

/// The running kernel, and its series.
fn here(scope: &Scope, binaries: &Binaries) -> Result<(String, Tried)> {
    let release =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    let release = release.trim().to_owned();
    println!("\n=== the running kernel {release} ===");
    let json = std::env::temp_dir().join(format!("vip-lb-kernels-{}.json", std::process::id()));
    let mut parts = Vec::new();
    for part in scope.parts_here() {
        println!("--- {}", part.name);
        let words = part.words(&json.to_string_lossy());
        parts.push((part.name, run_here(binaries.of(part), &words)?));
    }
    let report = std::fs::read(&json).unwrap_or_default();
    // It is there unless the program that writes it failed.
    std::fs::remove_file(&json).ok();
    let series = release.split('.').take(2).collect::<Vec<_>>().join(".");
    Ok((series, Tried { release, parts, figures: figures_of(&report)? }))
}

fn run_here(program: &Path, words: &[String]) -> Result<Ended> {
    let started = progress::now();
    let ended = process::run(std::process::Command::new(program).args(words))?;
    Ok(Ended::after(ended.code().unwrap_or(1), started.elapsed().as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_chosen_by_name() {
        let only = |names: &[&str]| wanted(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(only(&[]).unwrap().len(), SERIES.len() + 1);
        assert_eq!(only(&["running", "6.12"]).unwrap(), [Wanted::Debian("6.12"), Wanted::Running]);
        assert!(only(&["6.13"]).unwrap_err().to_string().contains("6.1, 6.12, running"));
    }

    #[test]
    fn executables_are_found_in_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"xtask"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","target":{"name":"lab_spread"},"profile":{"test":true},"executable":"/t/lab_spread-1f"}
{"reason":"build-finished","success":true}"#;
        let found = test_executables(messages).unwrap();
        assert_eq!(found, BTreeMap::from([("lab_spread".to_owned(), PathBuf::from("/t/lab_spread-1f"))]));
    }
}
