//! Linux IPVS in the edge nodes, told what to do by `ipvsadm`. Needs the modules ip_vs, ip_vs_wrr and ip_vs_mh.

use std::{fs::File, process::Stdio, time::Duration};

use anyhow::{Context, Result};

use super::{Balancer, WEIGHTS, echo, web};
use crate::lab::{
    Family, Mode, Namespace, Node, Site, SiteOptions, backend_address, command::output_of, vip, wait_for,
};

/// The kernel sends what it has collected every other second.
const SYNC_LIMIT: Duration = Duration::from_secs(30);

/// The two ways in which IPVS is usually run as a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Weighted round robin; the other node learns of connections by the synchronisation daemon of the kernel.
    RoundRobin,
    /// Maglev hashing; nothing is synchronised, and a connection in its middle is taken up by the same hash
    /// (`net.ipv4.vs.sloppy_tcp`).
    Maglev,
}

/// Both edge nodes with IPVS.
#[derive(Debug)]
pub struct Ipvs {
    site: Site,
    scheduler: Scheduler,
    weights: Vec<u16>,
}

impl Ipvs {
    /// Builds the lab.
    ///
    /// # Errors
    ///
    /// It does not come up, or the kernel has no IPVS.
    pub fn start(mode: Mode, scheduler: Scheduler) -> Result<Self> {
        let options = SiteOptions { edges: 2, backends: 4, ..SiteOptions::new(mode, Family::V4)? };
        let site = Site::without_daemons(options)?;
        let mut ipvs = Self { site, scheduler, weights: Vec::new() };
        for (index, node) in ipvs.site.lab.edges.iter().enumerate() {
            ipvs.prepare(index, node).with_context(|| format!("prepare IPVS on {}", node.name))?;
        }
        ipvs.set_weights(&WEIGHTS)?;
        Ok(ipvs)
    }

    fn prepare(&self, index: usize, node: &Node) -> Result<()> {
        let namespace = &node.namespace;
        make_director(namespace)?;
        for service in services() {
            admin(namespace, &[&["-A", "-t", service.as_str()][..], self.scheduler.options()].concat())?;
        }
        match self.scheduler {
            Scheduler::RoundRobin => {
                let role = if index == 0 { "master" } else { "backup" };
                admin(
                    namespace,
                    &["--start-daemon", role, "--mcast-interface", Node::DEVICE, "--syncid", "1"],
                )
            }
            Scheduler::Maglev => namespace.sysctl("net/ipv4/vs/sloppy_tcp", "1"),
        }
    }

    /// Adds, changes or removes the entry of a backend on both nodes.
    fn edit(&self, operation: &str, backend: usize, weight: Option<u16>) -> Result<()> {
        let address = backend_address(backend, Family::V4);
        let weight = weight.map(|weight| weight.to_string());
        for node in &self.site.lab.edges {
            for service in services() {
                let port = service.rsplit(':').next().unwrap_or_default();
                let server = format!("{address}:{port}");
                let mut words = vec![operation, "-t", &service, "-r", &server];
                if let Some(weight) = &weight {
                    words.extend(self.forwarding());
                    words.extend(["-w", weight.as_str()]);
                }
                admin(&node.namespace, &words)?;
            }
        }
        Ok(())
    }

    /// The options of ipvsadm for the lab's way to forward.
    fn forwarding(&self) -> &'static [&'static str] {
        match self.site.options.mode {
            Mode::L2 => &["-g"],
            Mode::Ipip => &["-i"],
            Mode::Gue => &["-i", "--tun-type", "gue", "--tun-port", "6080"],
            Mode::Nat => &["-m"],
        }
    }
}

impl Scheduler {
    /// Column of the table.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::RoundRobin => "IPVS wrr, synchronised",
            Self::Maglev => "IPVS mh, sloppy_tcp",
        }
    }

    /// As ipvsadm calls it. Without ports in the hash a client would have one backend for all its connections.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::RoundRobin => &["-s", "wrr"],
            Self::Maglev => &["-s", "mh", "-b", "mh-port"],
        }
    }
}

impl Balancer for Ipvs {
    fn name(&self) -> &'static str {
        self.scheduler.describe()
    }

    fn site(&mut self) -> &mut Site {
        &mut self.site
    }

    fn set_weights(&mut self, weights: &[u16]) -> Result<()> {
        for (backend, &weight) in weights.iter().enumerate() {
            let operation = if backend < self.weights.len() { "-e" } else { "-a" };
            self.edit(operation, backend, Some(weight))?;
        }
        for backend in weights.len()..self.weights.len() {
            self.edit("-d", backend, None)?;
        }
        self.weights = weights.to_vec();
        Ok(())
    }

    fn drain_first(&mut self, drain: bool) -> Result<()> {
        self.edit("-e", 0, Some(if drain { 0 } else { WEIGHTS[0] }))
    }

    fn set_second_dead(&mut self, dead: bool) -> Result<()> {
        if dead { self.edit("-d", 1, None) } else { self.edit("-a", 1, Some(WEIGHTS[1])) }
    }

    fn kill_control(&mut self) -> Result<bool> {
        Ok(false)
    }

    fn start_control(&mut self) -> Result<()> {
        Ok(())
    }

    /// As Debian's service does: what there is goes, what was saved comes. keepalived, where it is used, applies differences.
    fn reload(&mut self) -> Result<()> {
        let node = &self.site.lab.edges[0];
        let saved = self.site.lab.scratch.path().join("ipvs.rules");
        let rules = admin_output(&node.namespace, &["--save", "-n"])?;
        std::fs::write(&saved, rules).with_context(|| format!("write {}", saved.display()))?;
        admin(&node.namespace, &["--clear"])?;
        let rules = File::open(&saved).with_context(|| format!("open {}", saved.display()))?;
        let status = node.namespace.command("ipvsadm").arg("--restore").stdin(Stdio::from(rules)).status();
        anyhow::ensure!(status.context("start ipvsadm")?.success(), "ipvsadm --restore failed");
        Ok(())
    }

    /// Masquerading changes the destination only: the backends' way to the client leads through the director, by an address that
    /// VRRP moves along with the VIP.
    fn lead_answers_through(&self, edge: usize) -> Result<()> {
        if self.site.options.mode != Mode::Nat {
            return Ok(());
        }
        let lab = &self.site.lab;
        lab.route_answers_through(&lab.edges[edge])
    }

    fn synchronise(&mut self, connections: usize) -> Result<()> {
        if self.scheduler == Scheduler::Maglev {
            return Ok(());
        }
        let second = &self.site.lab.edges[1].namespace;
        let echo = echo().to_string();
        wait_for("the second node to learn of the connections", SYNC_LIMIT, || {
            let table = admin_output(second, &["-L", "-n", "-c"])?;
            let known =
                table.lines().filter(|line| line.contains("ESTABLISHED") && line.contains(&echo)).count();
            Ok((known >= connections).then_some(()))
        })
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Lets a node take packets to the VIP, without answering ARP for it, and forward them.
pub(crate) fn make_director(namespace: &Namespace) -> Result<()> {
    for scope in ["all", Node::DEVICE] {
        namespace.sysctl(&format!("net/ipv4/conf/{scope}/arp_ignore"), "1")?;
        namespace.sysctl(&format!("net/ipv4/conf/{scope}/send_redirects"), "0")?;
    }
    namespace.sysctl("net/ipv4/ip_forward", "1")?;
    namespace.ip(&["addr", "add", &format!("{}/32", vip(Family::V4)), "dev", "lo"])?;
    Ok(())
}

/// Address and port of the services, as ipvsadm wants them.
fn services() -> [String; 2] {
    [web(), echo()].map(|service| service.to_string())
}

fn admin(namespace: &Namespace, words: &[&str]) -> Result<()> {
    admin_output(namespace, words).map(drop)
}

fn admin_output(namespace: &Namespace, words: &[&str]) -> Result<String> {
    output_of(namespace.command("ipvsadm").args(words))
}
