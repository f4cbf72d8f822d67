//! What can be told of the packaging without installing it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{EXPOSURE, fresh, is_silent, packaging, unit::Unit};
use crate::process;

/// Checks unit, maintainer scripts, the shipped configuration and the man pages of a binary, in a folder for what is made on the way.
pub(super) fn all(binary: &Path, folder: &Path) -> Result<()> {
    fresh(folder)?;
    unit(folder).context("the unit")?;
    scripts().context("the maintainer scripts")?;
    configuration(binary).context("the shipped configuration")?;
    man_pages(binary, &folder.join("man")).context("the man pages")?;
    completions(binary, folder).context("the completions")
}

fn unit(folder: &Path) -> Result<()> {
    let unit = Unit::read()?;
    // It is verified whether its programs are there.
    let path = folder.join("vip-lb.service");
    fs::write(&path, unit.with_binary("/bin/true")).with_context(|| format!("write {}", path.display()))?;
    is_silent(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path))?;
    let mut rating = Command::new("systemd-analyze");
    rating.args(["security", "--offline=true", "--no-pager", &format!("--threshold={EXPOSURE}")]).arg(&path);
    let said = process::output(&mut rating).context("more exposed than it may be")?;
    let line = said.lines().find(|line| line.contains("exposure level")).context("no rating")?;
    println!("{}", line.trim());
    Ok(())
}

fn scripts() -> Result<()> {
    for name in ["postinst", "prerm", "postrm"] {
        is_silent(Command::new("sh").arg("-n").arg(packaging().join("debian").join(name)))?;
    }
    Ok(())
}

fn configuration(binary: &Path) -> Result<()> {
    let said = process::output(Command::new(binary).arg("check").arg(packaging().join("vip-lb.yaml")))?;
    ensure!(said.lines().count() == 1, "it has warnings:\n{said}");
    Ok(())
}

fn man_pages(binary: &Path, folder: &Path) -> Result<()> {
    process::output(Command::new(binary).args(["generate", "man"]).arg(folder))?;
    let pages: Vec<_> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    ensure!(!pages.is_empty(), "there are none");
    for page in &pages {
        is_silent(Command::new("mandoc").args(["-T", "lint", "-W", "error"]).arg(page))?;
    }
    println!("{} man pages", pages.len());
    Ok(())
}

fn completions(binary: &Path, folder: &Path) -> Result<()> {
    let script = process::output(Command::new(binary).args(["generate", "completions", "bash"]))?;
    let path = folder.join("completions.bash");
    fs::write(&path, script).with_context(|| format!("write {}", path.display()))?;
    is_silent(Command::new("bash").arg("-n").arg(&path))?;
    // As a shell asks it: the word after `vip-lb do`.
    let ask = "source \"$1\"; COMP_WORDS=(vip-lb do); COMP_CWORD=1; \
               $(complete -p vip-lb | sed 's/.*-F \\([^ ]*\\) .*/\\1/') vip-lb do vip-lb; echo \"${COMPREPLY[*]}\"";
    let said = process::output(Command::new("bash").args(["-c", ask, "bash"]).arg(&path))?;
    ensure!(said.trim() == "doctor", "`vip-lb do` is completed to {said:?}");
    Ok(())
}
