//! `previous`: the daemon of the commit before, which upgrades begin with and downgrades end with.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{process, progress, setup};

/// What the daemon is built from. A commit that changes none of it has the daemon of the commit before it.
const SOURCES: &[&str] = &["vip-lb", "vip-lb-common", "vip-lb-ebpf", "Cargo.toml", "Cargo.lock"];

/// The variable that names such a daemon to the labs.
pub(crate) const VARIABLE: &str = "VIP_LB_PREVIOUS";

/// The variable that tells the labs why there is none.
pub(crate) const NONE: &str = "VIP_LB_NO_PREVIOUS";

/// `cargo xtask previous`.
#[derive(Debug, clap::Args)]
pub(crate) struct Previous {
    /// A commit, instead of the last one before this whose daemon may differ.
    revision: Option<String>,
}

/// Builds it and says where it is.
pub(crate) fn run(previous: &Previous) -> Result<u8> {
    setup::toolchain()?;
    match ensure(previous.revision.as_deref())? {
        Daemon::At(path) => println!("{}", path.display()),
        Daemon::Missing(reason) => bail!(reason),
    }
    Ok(0)
}

/// The daemon of the commit before.
#[derive(Debug)]
pub(crate) enum Daemon {
    /// Here.
    At(PathBuf),
    /// There cannot be one, and why.
    Missing(String),
}

/// The binary, built unless it is there. What `VIP_LB_PREVIOUS` names is taken as it is.
///
/// # Errors
///
/// It does not build.
pub(crate) fn ensure(revision: Option<&str>) -> Result<Daemon> {
    if revision.is_none()
        && let Some(path) = env::var_os(VARIABLE)
    {
        return Ok(Daemon::At(path.into()));
    }
    let found = match revision {
        Some(revision) => git(&["rev-parse", "--verify", &format!("{revision}^{{commit}}")]),
        None => find(),
    };
    let commit = match found {
        Ok(commit) => commit,
        Err(error) => return Ok(Daemon::Missing(format!("{error:#}"))),
    };
    let folder = process::target_folder()?.join("previous");
    let (binary, mark) = (folder.join("vip-lb"), folder.join("commit"));
    if !binary.is_file() || fs::read_to_string(&mark).map_or(true, |built| built != commit) {
        build(&commit, &folder).with_context(|| format!("build the daemon of commit {commit}"))?;
        fs::write(&mark, &commit).with_context(|| format!("write {}", mark.display()))?;
    }
    Ok(Daemon::At(binary))
}

/// The last commit whose daemon may be another one than that of the working folder.
fn find() -> Result<String> {
    let with_sources = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.push("--");
        all.extend(SOURCES);
        git(&all)
    };
    let is_changed = !with_sources(&["status", "--porcelain"])?.is_empty();
    let commits = with_sources(&["log", "--format=%H", "--max-count=2"])?;
    let is_shallow = git(&["rev-parse", "--is-shallow-repository"])? == "true";
    match pick(&commits, is_changed) {
        Some(commit) => Ok(commit.to_owned()),
        None if is_shallow => bail!(
            "this clone is shallow and does not hold the commit before: do `git fetch --deepen=100`, or name its daemon in {VARIABLE}"
        ),
        None => bail!("there is no commit before this one"),
    }
}

/// Of the last commits, newest first, the first one whose daemon is not that of the working folder.
fn pick(commits: &str, is_changed: bool) -> Option<&str> {
    commits.lines().nth(usize::from(!is_changed))
}

fn build(commit: &str, folder: &Path) -> Result<()> {
    let started = progress::now();
    println!("building the daemon of commit {commit}");
    let sources = folder.join("sources");
    if sources.exists() {
        fs::remove_dir_all(&sources).with_context(|| format!("remove {}", sources.display()))?;
    }
    fs::create_dir_all(&sources).with_context(|| format!("create {}", sources.display()))?;
    let mut archive = Command::new("git")
        .args(["archive", commit])
        .current_dir(process::workspace())
        .stdout(Stdio::piped())
        .spawn()
        .context("start git")?;
    let packed = archive.stdout.take().context("the output of git")?;
    // Extracted as new: cargo builds what is newer than what it has.
    process::succeed(Command::new("tar").args(["-x", "-m", "-C"]).arg(&sources).stdin(packed))?;
    if !archive.wait().context("wait for git")?.success() {
        bail!("git archive failed");
    }
    give_it_a_version(&sources)?;
    // In the target folder of this workspace, where all that both depend on is built already. Of the program itself there is one name for both: it is
    // copied away, and the one of the working folder has its name again afterwards.
    let copied = build_in(&sources).and_then(|built| {
        // Renamed into place: a lab that runs it goes on with the former one.
        let (fresh, binary) = (folder.join("vip-lb.new"), folder.join("vip-lb"));
        fs::copy(&built, &fresh).context("copy the daemon")?;
        fs::rename(&fresh, &binary).with_context(|| format!("put {} in place", binary.display()))
    });
    let restored = build_in(process::workspace()).context("build the daemon of the working folder");
    copied?;
    restored?;
    println!("built in {}", progress::seconds(started.elapsed()));
    Ok(())
}

/// Marks its packages as others than those of the working folder. By path they are the same: cargo counts from the root of the workspace, and would take
/// what it built of the one for the other.
fn give_it_a_version(sources: &Path) -> Result<()> {
    let path = sources.join("Cargo.toml");
    let manifest = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let marked = marked(&manifest).with_context(|| format!("{} gives no version", path.display()))?;
    fs::write(&path, marked).with_context(|| format!("write {}", path.display()))
}

/// The manifest with another version, which requirements take for the same (Semantic Versioning 2.0.0, section 10).
fn marked(manifest: &str) -> Option<String> {
    const BEGIN: &str = "\nversion = \"";
    let begin = manifest.find(BEGIN)? + BEGIN.len();
    let (before, version) = manifest.split_at(begin);
    let (version, after) = version.split_once('"')?;
    Some(format!("{before}{version}+before\"{after}"))
}

/// Builds the daemon from these sources, and returns where it is.
fn build_in(sources: &Path) -> Result<PathBuf> {
    let target = process::target_folder()?;
    process::succeed(
        Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--package=vip-lb", "--bin=vip-lb", "--target-dir"])
            .arg(&target)
            .current_dir(sources),
    )?;
    Ok(target.join("debug/vip-lb"))
}

fn git(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    let output = process::output(command.args(arguments).current_dir(process::workspace()));
    Ok(output.context("ask git for the commit before")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_version_is_marked() {
        let manifest =
            "[workspace.package]\nversion = \"0.1.0\"\n[workspace.dependencies]\naya = { version = \"1\" }\n";
        let expected = "[workspace.package]\nversion = \"0.1.0+before\"\n[workspace.dependencies]\naya = { version = \"1\" }\n";
        assert_eq!(marked(manifest).as_deref(), Some(expected));
        assert_eq!(marked("[package]\n"), None);
    }

    #[test]
    fn the_commit_before_depends_on_what_is_changed() {
        assert_eq!(pick("b\na\n", false), Some("a"));
        assert_eq!(pick("b\na\n", true), Some("b"), "the working folder is newer than the last commit");
        assert_eq!(pick("b\n", false), None);
        assert_eq!(pick("", true), None);
    }
}
