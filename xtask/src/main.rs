//! The development commands: `cargo xtask setup`, `test`, `demo`, `bench`, `differential`, `fuzz`, `kernels`, `compare`,
//! `soak`, `previous`, `dist`, `tidy`.

mod check;
mod compare;
mod differential;
mod dist;
mod fuzz;
mod kernels;
mod lab;
mod leftovers;
mod previous;
mod process;
mod progress;
mod setup;
mod tidy;
mod toolchain;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The development commands of vip-lb.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what building, testing and the labs need; a moment when all is there.
    Setup {
        /// Install cargo-deny as well; done without asking when CI=true.
        #[arg(long)]
        with_deny: bool,
    },
    /// Check everything that continuous integration checks.
    Test(check::Test),
    /// Watch real traffic to a VIP spread over backends, and one of them die and come back.
    Demo(lab::Demo),
    /// Measure what a packet costs, with `--suite change` what changes lose and break under traffic, with `--suite health` how soon checks notice what,
    /// with `--suite failover` how soon a VIP moves.
    Bench(lab::Bench),
    /// Mix reloads, kills, upgrades and mischief at random under traffic, and check after each that nothing was lost.
    Soak(lab::Soak),
    /// Build the daemon of the commit before, which upgrades are tried from.
    Previous(previous::Previous),
    /// Run generated packets through kernel and host side by side, and have other parsers judge what comes out.
    Differential(differential::Differential),
    /// Let a fuzzer look for inputs that break something.
    Fuzz(fuzz::Fuzz),
    /// Try the programs, their tests and a lab for each mode on other kernels, in virtual machines.
    Kernels(kernels::Arguments),
    /// Play the same events with vip-lb and with Linux IPVS, and count what breaks, in a virtual machine.
    Compare(compare::Arguments),
    /// Build a static binary and a Debian package, and check them in a clean system.
    Dist(dist::Dist),
    /// Check the rules of this repository that no other tool knows.
    Tidy,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command and returns its exit code.
fn run(command: Command) -> Result<u8> {
    process::forward_signals()?;
    match command {
        Command::Setup { with_deny } => {
            process::require_root("setup", "it installs packages and mounts the BPF file system")?;
            setup::run(setup::Options { cargo_deny: with_deny || setup::in_ci() })?;
            Ok(0)
        }
        Command::Test(test) => Ok(u8::from(!check::run(&test)?)),
        Command::Demo(demo) => lab::demo(&demo),
        Command::Bench(bench) => lab::bench(&bench),
        Command::Soak(soak) => lab::soak(&soak),
        Command::Previous(previous) => previous::run(&previous),
        Command::Differential(differential) => differential::run(&differential),
        Command::Fuzz(fuzz) => fuzz::run(&fuzz),
        Command::Kernels(arguments) => Ok(u8::from(!kernels::run(&arguments)?)),
        Command::Compare(arguments) => Ok(u8::from(!compare::run(&arguments)?)),
        Command::Dist(arguments) => dist::run(&arguments).map(|()| 0),
        Command::Tidy => {
            let faults = tidy::check(process::workspace())?;
            for fault in &faults {
                println!("{fault}");
            }
            Ok(u8::from(!faults.is_empty()))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn arguments_of_the_benchmark_pass_through() {
        let parsed = Arguments::try_parse_from(["xtask", "bench", "--instructions", "--", "--rounds", "5"]);
        assert!(format!("{parsed:?}").contains(r#"arguments: ["--rounds", "5"]"#), "{parsed:?}");
    }
}
