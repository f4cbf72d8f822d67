//! iperf3: a stream of TCP at a given rate, and what it took.

use std::{
    net::SocketAddr,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{command, namespace::Namespace, topology::Node, wait_for};

/// An iperf3 server; killed when it is dropped.
#[derive(Debug)]
pub struct IperfServer {
    child: Child,
}

impl IperfServer {
    /// The port it listens on.
    pub const PORT: u16 = 5201;

    /// Starts it on a node, on all addresses, and waits until it listens.
    ///
    /// # Errors
    ///
    /// iperf3 is not installed, or does not listen.
    pub fn start(node: &Node) -> Result<Self> {
        let child = node
            .namespace
            .command("iperf3")
            .args(["--server", "--port", &Self::PORT.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start iperf3 (Debian package iperf3)")?;
        let server = Self { child };
        let listening = format!("sport = :{}", Self::PORT);
        wait_for("iperf3 to listen", Duration::from_secs(5), || {
            let sockets = node.namespace.run("ss", &["-Htln", &listening])?;
            Ok((!sockets.trim().is_empty()).then_some(()))
        })?;
        Ok(server)
    }
}

impl Drop for IperfServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What became of one stream from client to server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IperfReport {
    /// Segments that were sent again.
    pub retransmits: u64,
    /// Payload that arrived.
    pub bytes: u64,
    /// Of payload that arrived.
    pub bits_per_second: f64,
    /// Segment size of the connection.
    pub segment: u32,
}

/// Sends from a client to a server for some seconds, at this many megabits a second.
///
/// # Errors
///
/// iperf3 fails, or what it prints is not understood.
pub fn iperf(client: &Namespace, server: SocketAddr, seconds: u32, megabits: u32) -> Result<IperfReport> {
    let mut command = client.command("iperf3");
    command.args(["--client", &server.ip().to_string(), "--port", &server.port().to_string(), "--json"]);
    command.args(["--time", &seconds.to_string(), "--bitrate", &format!("{megabits}M")]);
    // The kernel spreads the segments evenly over time, as no program can.
    command.args(["--fq-rate", &format!("{megabits}M")]);
    let text = command::output_of(&mut command)?;
    let output: Output =
        serde_json::from_str(&text).with_context(|| format!("read what iperf3 says: {text}"))?;
    ensure!(output.error.is_none(), "iperf3: {:?}", output.error);
    let (start, end) = (output.start, output.end);
    Ok(IperfReport {
        retransmits: end.sum_sent.retransmits,
        bytes: end.sum_received.bytes,
        bits_per_second: end.sum_received.bits_per_second,
        segment: start.tcp_mss_default,
    })
}

#[derive(Deserialize)]
struct Output {
    error: Option<String>,
    start: Start,
    end: End,
}

#[derive(Deserialize)]
struct Start {
    tcp_mss_default: u32,
}

#[derive(Deserialize)]
struct End {
    sum_sent: Sent,
    sum_received: Received,
}

#[derive(Deserialize)]
struct Sent {
    retransmits: u64,
}

#[derive(Deserialize)]
struct Received {
    bytes: u64,
    bits_per_second: f64,
}
