//! A clean Debian system in a folder, into which the package is installed and where the service's binary runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::unit::Unit;
use crate::{process, progress::Step};

/// What happens in the clean system.
const SCRIPT: &str = include_str!("clean-root.sh");

/// Makes a clean system, installs the package there, and lives through its life: first start, restart, upgrade, removal.
pub(super) fn check(step: &mut Step, deb: &Path, unit: &Unit, folder: &Path) -> Result<()> {
    let root = folder.join("root");
    let archive = folder.join("root.tar");
    if !archive.exists() {
        let new = folder.join("root.new.tar");
        let mut bootstrap = Command::new("mmdebstrap");
        bootstrap
            .args(["--variant=minbase", "--include=init-system-helpers", &release()?])
            .arg(&new)
            .args(sources()?);
        step.run("downloading a clean system, about 1 min", &mut bootstrap)?;
        fs::rename(&new, &archive).context("keep the clean system")?;
    }
    super::fresh(&root)?;
    process::succeed(
        Command::new("tar").arg("--extract").arg("--file").arg(&archive).arg("--directory").arg(&root),
    )?;
    fs::copy(deb, root.join("vip-lb.deb")).context("copy the package")?;
    is_as_the_script_runs_it(unit)?;
    let script = folder.join("clean-root.sh");
    fs::write(&script, SCRIPT).with_context(|| format!("write {}", script.display()))?;
    let mut run = Command::new("unshare");
    run.args(["--mount", "--mount-proc", "--net", "--pid", "--fork", "--kill-child", "sh"])
        .arg(&script)
        .arg(&root);
    run.arg(unit.capabilities()?.join(" "));
    step.run("installing, running, upgrading and removing the package", &mut run)?;
    fs::remove_dir_all(&root).context("remove the clean system")
}

/// The script runs what the unit does.
fn is_as_the_script_runs_it(unit: &Unit) -> Result<()> {
    for key in ["ExecStartPre", "ExecStart", "ExecReload"] {
        let command = unit.get(key)?.strip_prefix("/usr/sbin/").context("a program elsewhere")?;
        ensure!(SCRIPT.contains(command), "{key} of the unit is not tried: {command}");
    }
    Ok(())
}

/// This system's release by name.
fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map(str::to_owned).context("/etc/os-release names no release")
}

/// Where this system has its packages from.
fn sources() -> Result<Vec<PathBuf>> {
    let mut sources = vec![PathBuf::from("/etc/apt/sources.list")];
    for entry in fs::read_dir("/etc/apt/sources.list.d").context("read /etc/apt/sources.list.d")? {
        sources.push(entry?.path());
    }
    let is_source = |path: &PathBuf| {
        path.is_file()
            && path.extension().is_some_and(|extension| extension == "sources" || extension == "list")
    };
    sources.retain(is_source);
    if sources.is_empty() {
        bail!("this system has no sources of packages");
    }
    Ok(sources)
}
