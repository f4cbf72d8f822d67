//! A backend that is set up by `vip-lb backend setup`, as an operator does it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{
    binary::daemon_binary,
    bpffs, command,
    config::{Family, Mode},
    namespace::Entry,
    scratch::Scratch,
    topology::{Node, edge_address, vip},
};

/// The command on a node, for both VIPs and the first edge node. Dropping it reverts what it applied.
#[derive(Debug)]
pub struct BackendSetup {
    entry: Entry,
    binary: PathBuf,
    pins: PathBuf,
    wish: Vec<String>,
}

impl BackendSetup {
    /// Nothing is done yet.
    ///
    /// # Errors
    ///
    /// There is no binary to test, or no BPF file system.
    pub fn new(node: &Node, mode: Mode, scratch: &Scratch) -> Result<Self> {
        bpffs::ensure_mounted()?;
        let mode = match mode {
            Mode::L2 => "l2",
            Mode::Ipip => "ipip",
            Mode::Gue => "gue",
            Mode::Nat => "nat",
        };
        let mut wish: Vec<String> = ["--mode", mode, "--vip"].map(str::to_owned).to_vec();
        wish.extend(Family::BOTH.map(|family| vip(family).to_string()));
        wish.push("--from".to_owned());
        wish.extend(Family::BOTH.map(|family| edge_address(0, family).to_string()));
        Ok(Self {
            entry: node.namespace.entry(),
            binary: daemon_binary()?,
            pins: Path::new(bpffs::MOUNT_POINT).join(format!("{}-{}", scratch.name(), node.name)),
            wish,
        })
    }

    /// What it would do, as a script.
    ///
    /// # Errors
    ///
    /// The command fails; the error holds what it said.
    pub fn show(&self) -> Result<String> {
        self.vip_lb(&self.about(&["backend", "setup"], &[]))
    }

    /// Does it. Returns what it says.
    ///
    /// # Errors
    ///
    /// As [`Self::show`].
    pub fn apply(&self) -> Result<String> {
        self.vip_lb(&self.about(&["backend", "setup"], &["--apply"]))
    }

    /// Puts back what was changed. Returns what it says.
    ///
    /// # Errors
    ///
    /// As [`Self::show`].
    pub fn revert(&self) -> Result<String> {
        self.vip_lb(
            &["backend", "setup", "--revert", "--pins", &self.pins.display().to_string()].map(str::to_owned),
        )
    }

    /// What `vip-lb doctor --backend` says of the node, as JSON, and how it exits.
    ///
    /// # Errors
    ///
    /// It cannot be run, or prints something else.
    pub fn doctor(&self) -> Result<(Option<i32>, serde_json::Value)> {
        let mut command = self.entry.command(&self.binary);
        let output = command.args(self.about(&["doctor", "--backend"], &["--json"])).output()?;
        let answer = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok((output.status.code(), answer))
    }

    /// Runs `vip-lb` on the node.
    ///
    /// # Errors
    ///
    /// As [`Self::show`].
    pub fn vip_lb(&self, arguments: &[String]) -> Result<String> {
        command::output_of(self.entry.command(&self.binary).args(arguments))
    }

    /// Runs a script on the node in which `vip-lb` is the binary under test.
    ///
    /// # Errors
    ///
    /// A command of it fails.
    pub fn shell(&self, script: &str) -> Result<String> {
        command::output_of(&mut shell(&self.entry, &self.binary, script)?)
    }

    /// Folder of the pins.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Where it remembers what was there before.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        let name = self.pins.file_name().unwrap_or_default().to_string_lossy();
        PathBuf::from(format!("/run/vip-lb/backend/sys%fs%bpf%{name}.json"))
    }

    fn about(&self, command: &[&str], more: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = command.iter().map(ToString::to_string).collect();
        arguments.extend(self.wish.iter().cloned());
        arguments.extend(["--pins".to_owned(), self.pins.display().to_string()]);
        arguments.extend(more.iter().map(ToString::to_string));
        arguments
    }
}

impl Drop for BackendSetup {
    fn drop(&mut self) {
        if self.record().exists()
            && let Err(error) = self.revert()
        {
            eprintln!("{error:#}");
        }
    }
}

/// A shell in a namespace in which `vip-lb` is the binary under test, to run a script.
///
/// # Errors
///
/// The binary is in no folder, or there is no PATH.
pub fn shell(entry: &Entry, binary: &Path, script: &str) -> Result<std::process::Command> {
    let folder = binary.parent().context("the binary is in no folder")?;
    let path = format!("{}:{}", folder.display(), std::env::var("PATH")?);
    let mut shell = entry.command("sh");
    shell.args(["-e", "-c", script]).env("PATH", path);
    Ok(shell)
}
