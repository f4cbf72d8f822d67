//! HAProxy in the place of the daemon, as Debian ships it.

use std::{
    fs,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::lab::{Lab, Node, command, patience, wait_for};

/// How its servers are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watching {
    /// By its checks alone.
    Checks,
    /// By the connections of clients, too.
    Traffic,
}

/// A proxy on the first edge node, ended when it is dropped.
#[derive(Debug)]
pub(super) struct Haproxy {
    child: Child,
}

impl Haproxy {
    /// Starts it on the VIP, with the lab's backends behind it, checked at another port, and waits until it listens. The defaults are those of the file that Debian's
    /// package brings, the checks those of its manual: `inter 2s fall 3`.
    pub(super) fn start(lab: &Lab, vip: &str, port: u16, checked: u16, watching: Watching) -> Result<Self> {
        let edge = lab.edges.first().context("an edge node")?;
        edge.namespace.ip(&["addr", "replace", &format!("{vip}/32"), "dev", "lo"])?;
        let observe = match watching {
            Watching::Checks => "",
            Watching::Traffic => " observe layer4",
        };
        let servers: String = lab
            .backends
            .iter()
            .map(|backend| {
                let address = backend.address(crate::lab::Family::V4);
                format!(
                    "  server {} {address}:{port} check port {checked} inter 2s fall 3 rise 2{observe}\n",
                    backend.name
                )
            })
            .collect();
        let config = format!(
            "global\n  maxconn 8000\ndefaults\n  mode tcp\n  timeout connect 5000\n  timeout client 50000\n  timeout server 50000\n\
             listen service\n  bind {vip}:{port}\n  balance roundrobin\n{servers}"
        );
        let path = lab.scratch.path().join("haproxy.cfg");
        fs::write(&path, config).with_context(|| format!("write {}", path.display()))?;
        let child = edge
            .namespace
            .command("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start haproxy (Debian package haproxy)")?;
        let mut haproxy = Self { child };
        wait_for("haproxy to listen", Duration::from_secs(10) * patience(), || {
            ensure!(haproxy.child.try_wait()?.is_none(), "haproxy ended at once");
            Ok(listens(edge, port)?.then_some(()))
        })?;
        Ok(haproxy)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listens(node: &Node, port: u16) -> Result<bool> {
    let mut ss = node.namespace.command("ss");
    let listening = command::output_of(ss.args(["-Hltn", &format!("sport = :{port}")]))?;
    Ok(!listening.trim().is_empty())
}

/// The version of the program that is installed.
pub(super) fn version() -> Result<String> {
    let text = command::run("haproxy", &["-v"]).context("ask haproxy (Debian package haproxy)")?;
    let version = text.split_whitespace().nth(2).context("haproxy says no version")?;
    Ok(version.to_owned())
}
