//! `test`: everything that continuous integration checks, in one command.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, bail};

use crate::{
    dist, kernels, lab,
    leftovers::Snapshot,
    previous::{self, Daemon},
    process,
    progress::{self, seconds},
    setup, tidy,
    toolchain::Compiler,
};

/// `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// Run only tests whose name contains this, and no other checks.
    filter: Option<String>,
    /// Run only the tests of one tier, and no other checks. `pure` needs no root.
    #[arg(long, value_enum)]
    tier: Option<Tier>,
    /// Packets that kernel and host are compared by, instead of the usual number.
    #[arg(long, value_name = "N")]
    packets: Option<u64>,
    /// Go on after a step that failed.
    #[arg(long)]
    keep_going: bool,
    /// Install cargo-deny if it is missing; done without asking when CI=true.
    #[arg(long)]
    with_deny: bool,
}

/// What a test needs, from nothing to network namespaces with real clients and servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Tier {
    /// Unit and property tests.
    Pure,
    /// Packets through the loaded program: the test targets `program*`.
    Program,
    /// Network namespaces: the test targets `lab*`.
    Lab,
}

/// Runs the checks; says whether all passed.
pub(crate) fn run(test: &Test) -> Result<bool> {
    let pure = test.tier == Some(Tier::Pure);
    if !pure {
        process::require_root("test", "its labs make network namespaces and attach XDP programs")?;
    }
    let mut runner = Runner::new(test.keep_going);
    runner.step("setup", || {
        if pure {
            // Building is all that these tests need.
            return setup::toolchain().map(|_| Outcome::Passed);
        }
        setup::run(setup::Options { cargo_deny: test.with_deny || setup::in_ci() }).map(|()| Outcome::Passed)
    });
    process::adopt_orphans()?;
    let before = Snapshot::take();

    if test.filter.is_none() && test.tier.is_none() {
        runner.step("formatting", || passes(&["fmt", "--all", "--check"]));
        runner.step("clippy", || passes(&["clippy", "--all-targets", "--", "-D", "warnings"]));
        runner.step("clippy of the BPF program", bpf_clippy);
        runner.step("tidy", tidy);
        runner.step("documentation", || {
            process::succeed(process::cargo(&["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
            Ok(Outcome::Passed)
        });
        runner.step("licences and sources", || {
            if !setup::has_cargo_deny() {
                return Ok(Outcome::Skipped(
                    "cargo-deny is not installed: cargo xtask setup --with-deny".into(),
                ));
            }
            passes(&["deny", "check", "bans", "licenses", "sources"])
        });
    }
    // Why there is none, if there is none.
    let mut without_previous = None;
    if !pure {
        runner.step("daemon of the commit before", || {
            Ok(match previous::ensure(None)? {
                Daemon::At(_) => Outcome::Passed,
                Daemon::Missing(reason) => {
                    without_previous = Some(reason.clone());
                    Outcome::Skipped(reason)
                }
            })
        });
    }
    runner.step("tests", || tests(test, without_previous.as_deref()));
    if test.filter.is_none() && test.tier.is_none() {
        runner.step("packaging", || dist::quick().map(|()| Outcome::Passed));
    }
    if test.filter.is_none() && test.tier.is_none() {
        runner.step("other kernels", || {
            if !kernels::quick()? {
                bail!("not all is well: see above");
            }
            Ok(Outcome::Passed)
        });
        runner.step("budgets of the packet path", || {
            if !lab::budgets_are_kept()? {
                bail!("over budget: see above, and tests/budgets.json");
            }
            Ok(Outcome::Passed)
        });
    }
    runner.always("nothing left behind", || {
        let mut left = process::end_orphans()?;
        left.extend(Snapshot::take().since(&before));
        if !left.is_empty() {
            bail!("left behind:\n  {}", left.join("\n  "));
        }
        Ok(Outcome::Passed)
    });
    Ok(runner.summary())
}

fn passes(arguments: &[&str]) -> Result<Outcome> {
    process::succeed(&mut process::cargo(arguments)).map(|()| Outcome::Passed)
}

fn tidy() -> Result<Outcome> {
    let faults = tidy::check(process::workspace())?;
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(Outcome::Passed)
}

/// The host's clippy does not see the BPF program, which only builds for its own target and with its own compiler.
fn bpf_clippy() -> Result<Outcome> {
    let Compiler { name, sysroot, nightly, .. } = setup::toolchain()?;
    if !sysroot.join("bin/cargo-clippy").is_file() {
        let reason = format!("the BPF compiler in {} comes without clippy", sysroot.display());
        return Ok(Outcome::Skipped(reason));
    }
    let mut clippy = match name {
        Some(name) => {
            let mut rustup = std::process::Command::new("rustup");
            rustup.args(["run", &name, "cargo"]).current_dir(process::workspace());
            rustup
        }
        None => process::cargo(&[]),
    };
    let endian = if cfg!(target_endian = "big") { "bpfeb" } else { "bpfel" };
    clippy
        .args(["clippy", "--release", "--package=vip-lb-ebpf", "--target", &format!("{endian}-unknown-none")])
        .args(nightly.then_some(["-Z", "build-std=core"]).into_iter().flatten())
        .arg("--target-dir")
        .arg(process::target_folder()?.join("bpf-clippy"))
        .args(["--", "-D", "warnings"])
        // As aya-build has it.
        .env("CARGO_ENCODED_RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH));
    process::succeed(&mut clippy)?;
    Ok(Outcome::Passed)
}

/// `without_previous`: why there is no daemon of the commit before.
fn tests(test: &Test, without_previous: Option<&str>) -> Result<Outcome> {
    let mut selections: Vec<Vec<String>> = match test.tier {
        None => vec![vec![]],
        Some(Tier::Pure) => [
            &["--package=vip-lb-common", "--package=vip-lb"][..],
            &["--package=xtask", "--lib", "--bins"],
            &["--package=vip-lb-tests", "--lib"],
        ]
        .iter()
        .map(|arguments| arguments.iter().map(ToString::to_string).collect())
        .collect(),
        Some(Tier::Program) => vec![lab_targets("program")?],
        Some(Tier::Lab) => vec![lab_targets("lab")?],
    };
    if test.tier == Some(Tier::Lab) {
        // Their own package does not have it, and would run one that is out of date.
        process::succeed(&mut process::cargo(&["build", "--package=vip-lb"]))?;
    }
    for selection in &mut selections {
        let mut command = process::cargo(&["test"]);
        command.args(test.keep_going.then_some("--no-fail-fast")).args(selection).args(&test.filter);
        command.envs(without_previous.map(|reason| (previous::NONE, reason)));
        command.envs(test.packets.map(|packets| ("VIP_LB_TEST_PACKETS", packets.to_string())));
        process::succeed(&mut command)?;
    }
    Ok(Outcome::Passed)
}

/// The test targets of the lab whose names begin with `prefix`, as arguments.
fn lab_targets(prefix: &str) -> Result<Vec<String>> {
    const PACKAGE: &str = "vip-lb-tests";
    let metadata = process::output(&mut process::cargo(&["metadata", "--no-deps", "--format-version=1"]))?;
    let names = test_targets(&metadata, PACKAGE, prefix)?;
    if names.is_empty() {
        bail!("{PACKAGE} has no test target {prefix}*");
    }
    let targets = names.into_iter().map(|name| format!("--test={name}"));
    Ok([format!("--package={PACKAGE}")].into_iter().chain(targets).collect())
}

fn test_targets(metadata: &str, package: &str, prefix: &str) -> Result<BTreeSet<String>> {
    let metadata: serde_json::Value = serde_json::from_str(metadata).context("parse cargo's metadata")?;
    let packages = metadata["packages"].as_array().context("cargo's metadata lists no packages")?;
    let targets = packages
        .iter()
        .filter(|entry| entry["name"] == package)
        .filter_map(|entry| entry["targets"].as_array());
    let tests = targets.flatten().filter(|target| target["kind"][0] == "test");
    let names = tests.filter_map(|target| target["name"].as_str());
    Ok(names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect())
}

/// How a step ended that did not fail.
enum Outcome {
    Passed,
    Skipped(String),
}

enum Ended {
    Passed,
    Skipped(String),
    Failed,
    NotRun,
}

/// Runs steps in order, and keeps how they ended.
struct Runner {
    keep_going: bool,
    steps: Vec<(&'static str, Ended, Duration)>,
}

impl Runner {
    fn new(keep_going: bool) -> Self {
        Self { keep_going, steps: Vec::new() }
    }

    /// Runs a step, unless an earlier one failed or the run was interrupted.
    fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<Outcome>) {
        if process::interrupted().is_some() || (!self.keep_going && self.failed() > 0) {
            self.steps.push((name, Ended::NotRun, Duration::ZERO));
        } else {
            self.always(name, work);
        }
    }

    /// Runs a step, whatever happened before.
    fn always(&mut self, name: &'static str, work: impl FnOnce() -> Result<Outcome>) {
        println!("\n=== {name} ===");
        let started = progress::now();
        let ended = match work() {
            Ok(Outcome::Passed) => Ended::Passed,
            Ok(Outcome::Skipped(reason)) => {
                println!("skipped: {reason}");
                Ended::Skipped(reason)
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                Ended::Failed
            }
        };
        self.steps.push((name, ended, started.elapsed()));
    }

    fn failed(&self) -> usize {
        self.steps.iter().filter(|(_, ended, _)| matches!(ended, Ended::Failed)).count()
    }

    /// Prints all steps, and `N passed, M failed` as the last line; says whether all went well.
    fn summary(&self) -> bool {
        println!("\n=== summary ===");
        print!("{}", self.table());
        let passed = self.steps.iter().filter(|(_, ended, _)| matches!(ended, Ended::Passed)).count();
        println!("{passed} passed, {} failed", self.failed());
        self.failed() == 0 && !self.steps.iter().any(|(_, ended, _)| matches!(ended, Ended::NotRun))
    }

    fn table(&self) -> String {
        let width = self.steps.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
        let mut table = String::new();
        for (name, ended, time) in &self.steps {
            let ended = match ended {
                Ended::Passed => format!("passed   {:>10}", seconds(*time)),
                Ended::Failed => format!("FAILED   {:>10}", seconds(*time)),
                Ended::Skipped(reason) => format!("skipped  {reason}"),
                Ended::NotRun => "not run".to_owned(),
            };
            table.push_str(&format!("{name:width$}  {ended}\n"));
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(keep_going: bool) -> (Runner, Vec<&'static str>) {
        let mut runner = Runner::new(keep_going);
        let mut ran = Vec::new();
        runner.step("first", || {
            ran.push("first");
            Ok(Outcome::Skipped("no need".to_owned()))
        });
        runner.step("second", || {
            ran.push("second");
            bail!("it broke")
        });
        runner.step("third", || {
            ran.push("third");
            Ok(Outcome::Passed)
        });
        runner.always("last", || {
            ran.push("last");
            Ok(Outcome::Passed)
        });
        (runner, ran)
    }

    #[test]
    fn a_failure_stops_the_run_but_not_the_last_look() {
        let (stopping, ran) = runner(false);
        assert_eq!(ran, ["first", "second", "last"]);
        assert!(!stopping.summary());
        let table = stopping.table();
        assert!(table.contains("skipped  no need") && table.contains("third   not run"), "{table}");

        let (going_on, ran) = runner(true);
        assert_eq!(ran, ["first", "second", "third", "last"]);
        assert_eq!(going_on.failed(), 1);
        assert!(!going_on.summary());
    }

    #[test]
    fn tiers_are_test_targets_by_name() {
        let metadata = r#"{"packages": [
            {"name": "other", "targets": [{"name": "lab_x", "kind": ["test"]}]},
            {"name": "vip-lb-tests", "targets": [
                {"name": "lab_spread", "kind": ["test"]}, {"name": "lab", "kind": ["bin"]},
                {"name": "program_l2", "kind": ["test"]}, {"name": "lab_drain", "kind": ["test"]}]}]}"#;
        let targets = test_targets(metadata, "vip-lb-tests", "lab").unwrap();
        assert_eq!(targets.into_iter().collect::<Vec<_>>(), ["lab_drain", "lab_spread"]);
    }
}
