//! Floods from forged sources, sent by hping3.

use std::{
    net::{IpAddr, SocketAddr},
    process::{Child, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::namespace::Namespace;

/// Which packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodKind {
    /// Handshakes that never complete.
    Syn,
    /// Packets of connections that never were.
    Ack,
}

/// A flood that runs until it is dropped: some ten thousand packets a second, each from another address and port.
#[derive(Debug)]
pub struct Flood {
    child: Child,
}

impl Flood {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// hping3 is not installed, or the target is IPv6, which it does not speak.
    pub fn start(from: &Namespace, target: SocketAddr, kind: FloodKind) -> Result<Self> {
        ensure!(matches!(target.ip(), IpAddr::V4(_)), "hping3 sends IPv4 only");
        let flag = match kind {
            FloodKind::Syn => "--syn",
            FloodKind::Ack => "--ack",
        };
        let child = from
            .command("hping3")
            .args(["--quiet", flag, "--rand-source", "--interval", "u50", "--destport"])
            .arg(target.port().to_string())
            .arg(target.ip().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start hping3 (Debian package hping3)")?;
        Ok(Self { child })
    }

    /// Whether it still runs.
    ///
    /// # Errors
    ///
    /// The kernel does not know the process.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
