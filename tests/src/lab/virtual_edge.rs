//! The first edge node as a virtual machine: another kernel, and a network interface with a real driver.
//!
//! It takes the place of `edge-1` on the lab's switch, with that node's addresses. The machine runs the daemon under test, and a shell
//! on a TCP port by which the lab looks into it.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use xtask::guest::{Guest, Kernel, Nic, Output};

use super::{
    config::{ConfigFile, Family},
    namespace::Entry,
    patience,
    site::Site,
    status::Status,
    topology::edge_address,
    wait_for,
};

const TAP: &str = "edge-1";
const SHELL_PORT: u16 = 7000;
const SOCKET: &str = "/tmp/vip-lb.sock";
const CONFIG: &str = "/tmp/vip-lb.yaml";
const LOG: &str = "/tmp/vip-lb.log";
/// Booting takes some ten seconds on a machine that has nothing else to do.
const BOOT_LIMIT: Duration = Duration::from_secs(240);
/// No scenario needs longer.
const TIME_LIMIT: Duration = Duration::from_secs(1800);
/// The daemon is built without optimisation and runs on an emulated processor.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Two to receive by, and one for each of the two processors to send from XDP without a lock.
const QUEUES: u8 = 4;

/// A machine that runs the daemon; switched off when dropped.
#[derive(Debug)]
pub struct VirtualEdge {
    client: Entry,
    off: Arc<AtomicBool>,
    machine: Option<JoinHandle<Result<Output>>>,
}

impl VirtualEdge {
    /// The interface that XDP is attached to.
    pub const DEVICE: &str = "eth0";

    /// Boots a kernel at the switch of a site without edge nodes, and waits until the daemon answers. What the lab asks the
    /// machine, it asks from the client's namespace.
    ///
    /// # Errors
    ///
    /// The machine does not boot, or the daemon does not start; the error holds its log.
    pub fn boot(site: &Site, kernel: &Kernel, config: &ConfigFile) -> Result<Self> {
        site.lab.switch.add_tap(TAP)?;
        let off = Arc::new(AtomicBool::new(false));
        let nic = Nic {
            namespace: site.lab.switch.namespace().name().to_owned(),
            tap: TAP.to_owned(),
            queues: QUEUES,
            mac: [0x52, 0x54, 0, 0x4c, 0x42, 1],
        };
        let file = site.lab.scratch.path().join("virtual-edge.yaml");
        std::fs::write(&file, text(config)?).with_context(|| format!("write {}", file.display()))?;
        let (kernel, daemon, switch) = (kernel.clone(), site.options.binary.clone(), Arc::clone(&off));
        let machine = std::thread::Builder::new()
            .name("virtual machine".to_owned())
            .spawn(move || run(&kernel, nic, &daemon, &file, switch))
            .context("start the thread of a virtual machine")?;
        let mut edge = Self { client: site.lab.client.namespace.entry(), off, machine: Some(machine) };
        let ready = wait_for("the virtual machine", BOOT_LIMIT, || {
            if edge.machine.as_ref().is_some_and(JoinHandle::is_finished) {
                bail!("it ended: {:?}", edge.end());
            }
            Ok(edge.status().ok().map(drop))
        });
        ready.with_context(|| edge.run(&format!("tail -n 40 {LOG}")).unwrap_or_default())?;
        Ok(edge)
    }

    /// Has a line carried out by busybox's shell in the machine, and returns what it writes.
    ///
    /// # Errors
    ///
    /// The shell cannot be reached, or does not end in time.
    pub fn run(&self, line: &str) -> Result<String> {
        let address = SocketAddr::from((edge_address(0, Family::V4), SHELL_PORT));
        let limit = ANSWER_LIMIT * patience();
        let talk = || -> Result<String> {
            let mut stream = TcpStream::connect_timeout(&address, limit)?;
            stream.set_read_timeout(Some(limit))?;
            stream.write_all(line.as_bytes())?;
            stream.write_all(b"\n")?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        self.client.enter(talk)?.with_context(|| format!("run `{line}` in the virtual machine"))
    }

    /// Runs `vip-lb` with these words.
    ///
    /// # Errors
    ///
    /// As [`Self::run`]. A command that fails is none; it says so in what it writes.
    pub fn ask(&self, words: &str) -> Result<String> {
        self.run(&format!("vip-lb --socket {SOCKET} {words} 2>&1"))
    }

    /// `vip-lb status`.
    ///
    /// # Errors
    ///
    /// As [`Self::run`], or the daemon does not answer.
    pub fn status(&self) -> Result<Status> {
        let text = self.ask("status --json")?;
        serde_json::from_str(&text).with_context(|| format!("read the status: {text}"))
    }

    /// Puts another configuration in force.
    ///
    /// # Errors
    ///
    /// As [`Self::run`], or the daemon refuses it.
    pub fn reload(&self, config: &ConfigFile) -> Result<()> {
        let written = format!("cat > {CONFIG} << 'END'\n{}\nEND\n", text(config)?);
        let said = self.run(&format!("{written}vip-lb --socket {SOCKET} reload 2>&1 && echo reloaded"))?;
        anyhow::ensure!(said.trim_end().ends_with("reloaded"), "the daemon refused to reload: {said}");
        Ok(())
    }

    /// Packets that XDP saw, by receive queue: the driver's own counters.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub fn xdp_packets_by_queue(&self) -> Result<Vec<u64>> {
        Ok(parse_queues(&self.run(&format!("ethtool -S {}", Self::DEVICE))?))
    }

    /// Waits for the end, and says what the machine left.
    fn end(&mut self) -> Option<Result<Output>> {
        self.off.store(true, Ordering::Relaxed);
        self.machine.take()?.join().ok()
    }
}

impl Drop for VirtualEdge {
    fn drop(&mut self) {
        // That it was switched off is no news.
        let _ = self.end();
    }
}

/// The configuration as the machine needs it.
fn text(config: &ConfigFile) -> Result<String> {
    let mut config = config.clone();
    config.node.socket = Some(SOCKET.to_owned());
    config.to_yaml()
}

fn run(kernel: &Kernel, nic: Nic, daemon: &Path, config: &Path, off: Arc<AtomicBool>) -> Result<Output> {
    const FILE: &str = "/guest/vip-lb.yaml";
    let (v4, v6) = (edge_address(0, Family::V4), edge_address(0, Family::V6));
    let device = VirtualEdge::DEVICE;
    let script = format!(
        "echo 0 > /proc/sys/net/ipv6/conf/{device}/accept_dad\n\
         ip addr add {v4}/24 dev {device} && ip addr add {v6}/64 dev {device} nodad\n\
         ethtool -L {device} combined 2\n\
         ip link set {device} up\n\
         cp {FILE} {CONFIG}\n\
         vip-lb run --config {CONFIG} > {LOG} 2>&1 &\n\
         exec nc -ll -p {SHELL_PORT} -e /bin/sh\n"
    );
    Guest::new(kernel)
        .nic(nic)?
        .module("macvlan")?
        .binary_named(daemon, "vip-lb")?
        .command("ip")?
        .command("ethtool")?
        .file(config, FILE)?
        .time_limit(TIME_LIMIT)
        .switched_off_by(off)
        .run(&script)
}

/// The values of `rx_queue_0_xdp_packets` (6.1) or `rx0_xdp_packets` (6.12), in the order of the queues.
fn parse_queues(statistics: &str) -> Vec<u64> {
    let values = statistics.lines().filter_map(|line| {
        let (name, value) = line.trim().split_once(": ")?;
        let queue = name.strip_prefix("rx_queue_").or_else(|| name.strip_prefix("rx"))?;
        // `rx_xdp_packets`, where it is, is the sum of all.
        queue.strip_suffix("_xdp_packets")?.parse::<u16>().ok()?;
        value.parse().ok()
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::parse_queues;

    #[test]
    fn queues_are_read_in_the_words_of_both_kernels() {
        for (first, second) in [("rx_queue_0", "rx_queue_1"), ("rx0", "rx1")] {
            let text = format!(
                "NIC statistics:\n     rx_xdp_packets: 10\n     {first}_packets: 9\n     {first}_xdp_packets: 7\n     {first}_xdp_tx: 5\n     \
                 {second}_xdp_packets: 3\n     tx_queue_0_xdp_tx: 8\n"
            );
            assert_eq!(parse_queues(&text), [7, 3], "{first}");
        }
    }
}
