//! Decapsulation on a backend by `vip-lb decap`, for kernels without the ipip device.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{
    bpffs, command,
    config::Family,
    namespace::Entry,
    scratch::Scratch,
    topology::{Node, host_prefix, vip},
};

/// A node that decapsulates, by pins of its own. No process runs: dropping this unloads.
#[derive(Debug)]
pub struct Decap {
    binary: PathBuf,
    entry: Entry,
    pins: PathBuf,
    gue_port: Option<u16>,
    kept: bool,
}

impl Decap {
    /// Accepts the tunnels of these edge nodes for both VIPs; those in UDP at this port, or at the usual one.
    ///
    /// # Errors
    ///
    /// The command fails; the error holds what it said.
    pub fn start(
        node: &Node,
        scratch: &Scratch,
        binary: &Path,
        edges: &[IpAddr],
        gue_port: Option<u16>,
    ) -> Result<Self> {
        bpffs::ensure_mounted()?;
        let decap = Self {
            binary: binary.to_owned(),
            entry: node.namespace.entry(),
            pins: Path::new(bpffs::MOUNT_POINT).join(format!("{}-{}", scratch.name(), node.name)),
            gue_port,
            kept: false,
        };
        let from: Vec<_> = edges.iter().copied().map(host_prefix).collect();
        decap
            .allow(&from, &Family::BOTH.map(vip))
            .with_context(|| format!("start decapsulation on {}", node.name))?;
        Ok(decap)
    }

    /// Accepts tunnels from these prefixes for these addresses, and no others any more. Returns what the command prints.
    ///
    /// # Errors
    ///
    /// The command fails; the error holds what it said.
    pub fn allow(&self, from: &[String], vips: &[IpAddr]) -> Result<String> {
        let mut command = self.command("decap");
        command.args(["--interface", Node::DEVICE]);
        for prefix in from {
            command.args(["--from", prefix]);
        }
        for vip in vips {
            command.args(["--vip", &vip.to_string()]);
        }
        if let Some(port) = self.gue_port {
            command.args(["--gue-port", &port.to_string()]);
        }
        command::output_of(&mut command)
    }

    /// Stops, by `vip-lb decap --unload`. Returns what the command prints.
    ///
    /// # Errors
    ///
    /// The command fails; the error holds what it said.
    pub fn unload(&self) -> Result<String> {
        let mut command = self.command("decap");
        command::output_of(command.args(["--interface", Node::DEVICE, "--unload"]))
    }

    /// Folder of its maps.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.pins.join("decap").join(Node::DEVICE)
    }

    /// Folder of all its pins.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Leaves it running.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    fn command(&self, name: &str) -> Command {
        let mut command = self.entry.command(&self.binary);
        command.arg(name).arg("--pins").arg(&self.pins);
        command
    }
}

impl Drop for Decap {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = command::output_of(&mut self.command("unload"))
        {
            eprintln!("{error:#}");
        }
    }
}
