//! `dist`: a static release binary and a Debian package of it, checked by installing it into a clean system and running the service's
//! binary there as the service would.

mod checks;
mod elf;
mod package;
mod root;
mod unit;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    process,
    progress::{self, Steps},
    setup,
};
use package::Package;
use unit::Unit;

/// Where cargo puts a binary that is built for a target by name.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What the system lets the service do, as `systemd-analyze security` rates it, times ten: at most.
const EXPOSURE: u32 = 30;

/// `cargo xtask dist`.
#[derive(Debug, clap::Args)]
pub(crate) struct Dist {
    /// Leave out the clean system, which takes a download of some 100 MB.
    #[arg(long)]
    without_root: bool,
}

/// Builds and checks. What fails is an error.
pub(crate) fn run(arguments: &Dist) -> Result<()> {
    process::require_root("dist", "it installs packages, and the service needs what root may do")?;
    setup::run(setup::Options { cargo_deny: false })?;
    setup::packages_of_dist()?;
    let started = progress::now();
    let target = process::target_folder()?;
    let folder = target.join("dist");
    let mut steps = Steps::new(5 - usize::from(arguments.without_root));

    let mut step = steps.begin("static binary");
    step.run("compiling, some minutes", &mut build())?;
    let built = target.join(TARGET).join("release/vip-lb");
    let bytes = fs::read(&built).with_context(|| format!("read {}", built.display()))?;
    ensure!(elf::is_static(&bytes)?, "{} asks for a dynamic linker", built.display());

    let mut step = steps.begin("package");
    let package = Package { binary: &built, folder: &folder };
    let deb = package.build(&mut step)?;

    let mut step = steps.begin("unit, scripts and man pages");
    step.found("");
    let unit = Unit::read()?;
    checks::all(&built, &folder.join("checks"))?;

    let mut step = steps.begin("lintian");
    let mut lintian = std::process::Command::new("lintian");
    // Where it is unpacked by root, as here, lintian asks to be told that this is meant.
    lintian
        .args(["--allow-root", "--fail-on", "error,warning", "--suppress-tags", package::ACCEPTED])
        .arg(&deb);
    step.run("looking", &mut lintian)?;

    if !arguments.without_root {
        let mut step = steps.begin("clean system");
        root::check(&mut step, &deb, &unit, &folder)?;
    }
    println!("{} and {} in {}", built.display(), deb.display(), progress::seconds(started.elapsed()));
    println!("{} bytes, {} bytes", bytes.len(), fs::metadata(&deb)?.len());
    Ok(())
}

/// What can be checked in seconds, with the binary that tests have built.
pub(crate) fn quick() -> Result<()> {
    process::succeed(&mut process::cargo(&["build", "--package=vip-lb"]))?;
    let target = process::target_folder()?;
    checks::all(&target.join("debug/vip-lb"), &target.join("dist/checks"))
}

/// `crt-static` links glibc statically. The target is named so that build scripts and macros, which are not static, are built apart.
fn build() -> std::process::Command {
    let mut command = process::cargo(&["build", "--release", "--package=vip-lb", "--target", TARGET]);
    let variable = format!("CARGO_TARGET_{}_RUSTFLAGS", TARGET.replace('-', "_").to_uppercase());
    command.env(variable, "-C target-feature=+crt-static").env_remove("RUSTFLAGS");
    command
}

/// The folder with everything that is packaged beside the binary.
fn packaging() -> PathBuf {
    process::workspace().join("packaging")
}

/// A folder without anything in it.
fn fresh(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}

/// Fails with what a command said if it said anything or failed.
fn is_silent(command: &mut std::process::Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start `{}`", process::describe(command)))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if !output.status.success() || !said.trim().is_empty() {
        bail!("`{}` ended with {}:\n{}", process::describe(command), output.status, said.trim());
    }
    Ok(())
}
