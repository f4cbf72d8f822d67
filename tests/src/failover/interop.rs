//! vip-lb and others in one virtual router, Debian's keepalived and FRR: each wins and loses elections, resigns and preempts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use vip_lb_common::abi::VirtualMac;
use xtask::figures::Figure;

use crate::lab::{
    ConfigFile, Daemon, Family, Keepalived, Mode, Node, Site, SiteOptions, VrrpConfig, edge_address,
    patience, vip, wait_for,
};

const LIMIT: Duration = Duration::from_secs(20);
const ROUTER: u8 = 51;
/// The edge node that the other one runs on.
const OTHER: usize = 1;

/// Who the other node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// keepalived, by multicast.
    Keepalived(Family),
    /// keepalived, by unicast over IPv4.
    KeepalivedUnicast,
    /// keepalived with `use_vmac`, by multicast; vip-lb has the virtual MAC address too.
    KeepalivedVirtualMac(Family),
    /// FRR's vrrpd.
    Frr(Family),
    /// FRR's vrrpd, which always has the virtual MAC address; vip-lb has it too.
    FrrVirtualMac(Family),
}

impl Peer {
    /// All of them.
    const ALL: [Self; 9] = [
        Self::Keepalived(Family::V4),
        Self::Keepalived(Family::V6),
        Self::KeepalivedUnicast,
        Self::KeepalivedVirtualMac(Family::V4),
        Self::KeepalivedVirtualMac(Family::V6),
        Self::Frr(Family::V4),
        Self::Frr(Family::V6),
        Self::FrrVirtualMac(Family::V4),
        Self::FrrVirtualMac(Family::V6),
    ];

    /// Whether the VIP has one hardware address, whoever has it.
    fn has_virtual_mac(self) -> bool {
        matches!(self, Self::KeepalivedVirtualMac(_) | Self::FrrVirtualMac(_))
    }
}

/// `failover.interop_ok`: with how many others all elections went as they should.
pub(super) fn all(tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let mut well = 0;
    for peer in Peer::ALL {
        match elections(peer) {
            Ok(()) => {
                well += 1;
                tell(&format!("elections with {peer:?}: each wins, loses, resigns and preempts"));
            }
            Err(error) => tell(&format!("elections with {peer:?}: {error:#}")),
        }
    }
    let aim = format!("== {}", Peer::ALL.len());
    Ok(vec![Figure::new("failover.interop_ok", f64::from(well), "kinds of peers").aim(&aim)?])
}

/// The other node. Dropped, it ends.
struct Other {
    program: Program,
    has_vip: fn(&Site) -> Result<bool>,
}

enum Program {
    Keepalived(Keepalived),
    Frr(Frr),
}

impl Program {
    /// What it has said.
    fn log(&self) -> String {
        match self {
            Self::Keepalived(keepalived) => keepalived.log(),
            Self::Frr(frr) => fs::read_to_string(&frr.log).unwrap_or_default(),
        }
    }
}

struct Frr {
    /// In the order in which they end.
    children: Vec<Child>,
    log: PathBuf,
}

impl Drop for Frr {
    fn drop(&mut self) {
        for child in &mut self.children {
            // SAFETY: the process is a child of this one and has not been waited for.
            unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
            let _ = child.wait();
        }
    }
}

fn start_keepalived(site: &Site, priority: u8, more: &str) -> Result<Other> {
    let text = format!(
        "global_defs {{\n router_id other\n vrrp_version 3\n}}\n\
         vrrp_instance other {{\n state BACKUP\n interface {}\n virtual_router_id {ROUTER}\n priority {priority}\n \
         advert_int {}\n version 3\n {more}\n virtual_ipaddress {{\n {}\n }}\n}}\n",
        Node::DEVICE,
        0.1 * f64::from(patience()),
        vip(site.options.family),
    );
    let keepalived = Keepalived::start(&site.lab.edges[OTHER], &site.lab.scratch, &text)?;
    Ok(Other {
        program: Program::Keepalived(keepalived),
        has_vip: |site| {
            let addresses = site.lab.edges[OTHER].namespace.ip(&["addr", "show"])?;
            Ok(addresses.contains(&format!("{}/", vip(site.options.family))))
        },
    })
}

/// FRR wants the addresses on a macvlan with the MAC address of the virtual router, which it takes down while it is backup.
fn frr(site: &Site, priority: u8) -> Result<Other> {
    let family = site.options.family;
    let node = &site.lab.edges[OTHER].namespace;
    let (number, key, prefix) = if family == Family::V4 { (1, "ip", 32) } else { (2, "ipv6", 128) };
    let links = node.ip(&["link", "show"])?;
    if !links.contains("vrrp@") {
        node.ip(&["link", "add", "vrrp", "link", Node::DEVICE, "type", "macvlan", "mode", "bridge"])?;
        node.ip(&["link", "set", "vrrp", "address", &format!("00:00:5e:00:{number:02x}:{ROUTER:02x}")])?;
        node.ip(&["addr", "add", &format!("{}/{prefix}", vip(family)), "dev", "vrrp", "nodad"])
            .or_else(|_| node.ip(&["addr", "add", &format!("{}/{prefix}", vip(family)), "dev", "vrrp"]))?;
        node.ip(&["link", "set", "vrrp", "up"])?;
    }
    let text = format!(
        "interface {}\n vrrp {ROUTER} version 3\n vrrp {ROUTER} priority {priority}\n vrrp {ROUTER} advertisement-interval {}\n \
         vrrp {ROUTER} {key} {}\nexit\n",
        Node::DEVICE,
        100 * patience(),
        vip(family),
    );
    // They give up root, and write their sockets here.
    let folder = frr_folder(site);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir(&folder)?;
    let files = [("zebra", write(site, "zebra.conf", "")?), ("vrrpd", write(site, "vrrpd.conf", &text)?)];
    node.run("chown", &["frr:frr", folder.to_str().context("a path in UTF-8")?])?;
    let log = site.lab.scratch.path().join("frr.log");
    let mut children = Vec::new();
    for (daemon, file) in files {
        let mut command = node.command(Path::new("/usr/lib/frr").join(daemon));
        command.arg("-f").arg(file).arg("-i").arg(folder.join(format!("{daemon}.pid")));
        command.arg("-z").arg(folder.join("zserv.api")).arg("--vty_socket").arg(&folder);
        command.args(["-P", "0", "--log", "stdout"]);
        children.insert(0, spawn(&log, command)?);
        let socket = folder.join(format!("{daemon}.vty"));
        wait_for(daemon, LIMIT, || Ok(socket.exists().then_some(())))?;
    }
    Ok(Other {
        program: Program::Frr(Frr { children, log }),
        has_vip: |site| {
            let mut ask = site.lab.edges[OTHER].namespace.command("vtysh");
            ask.arg("--vty_socket").arg(frr_folder(site)).args(["-d", "vrrpd", "-c", "show vrrp json"]);
            let answer = ask.output()?;
            let routers: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
            let family = if site.options.family == Family::V4 { "v4" } else { "v6" };
            Ok(routers[0][family]["status"].as_str() == Some("Master"))
        },
    })
}

fn frr_folder(site: &Site) -> PathBuf {
    site.lab.scratch.path().join("frr")
}

fn write(site: &Site, name: &str, text: &str) -> Result<PathBuf> {
    let path = site.lab.scratch.path().join(name);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

fn spawn(log: &Path, mut command: Command) -> Result<Child> {
    let log = fs::File::options().create(true).append(true).open(log)?;
    let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
    child.with_context(|| format!("start {}", command.get_program().display()))
}

fn config(site: &Site, priority: u8, peers: &[std::net::IpAddr], virtual_mac: bool) -> ConfigFile {
    let mut config = site.options.config(&[100, 100, 200]);
    config.vips[0].ownership = Some("vrrp".to_owned());
    config.vips[0].vrrp = Some(VrrpConfig {
        router_id: ROUTER,
        priority: Some(priority),
        interval: Some(format!("{}ms", 100 * patience())),
        peers: peers.to_vec(),
        virtual_mac,
        ..VrrpConfig::default()
    });
    config
}

/// Has a node of ours and another one win and lose elections, resign and preempt.
///
/// # Errors
///
/// The one or the other does not do what it should.
pub fn elections(peer: Peer) -> Result<()> {
    let (family, peers) = match peer {
        Peer::Keepalived(family)
        | Peer::KeepalivedVirtualMac(family)
        | Peer::Frr(family)
        | Peer::FrrVirtualMac(family) => (family, vec![]),
        Peer::KeepalivedUnicast => (Family::V4, vec![edge_address(OTHER, Family::V4)]),
    };
    let peers = &peers[..];
    let start = |site: &Site, priority| match peer {
        Peer::Keepalived(_) => start_keepalived(site, priority, ""),
        Peer::KeepalivedVirtualMac(_) => start_keepalived(site, priority, "use_vmac"),
        Peer::KeepalivedUnicast => {
            let (own, other) = (edge_address(OTHER, Family::V4), edge_address(0, Family::V4));
            start_keepalived(
                site,
                priority,
                &format!("unicast_src_ip {own}\n unicast_peer {{\n {other}\n }}"),
            )
        }
        Peer::Frr(_) | Peer::FrrVirtualMac(_) => frr(site, priority),
    };
    let config = |site: &Site, priority| config(site, priority, peers, peer.has_virtual_mac());
    let options = SiteOptions { edges: 2, ..SiteOptions::new(Mode::L2, family)? };
    let mut site = Site::without_daemons(options)?;
    if peer.has_virtual_mac() {
        know_for_good(&site)?;
    }
    let file = config(&site, 100);
    let daemon = Daemon::start(&site.lab.edges[0], &site.lab.scratch, &site.options.binary, &file)?;
    site.daemons.push(daemon);
    wait_for("vip-lb to be active alone", LIMIT, || {
        Ok(site.daemon().status()?.vips[0].answering.then_some(()))
    })?;

    let settle = |site: &Site, other: &Other, ours, when: &str| {
        settle(site, other, ours, when)?;
        if peer.has_virtual_mac() { answers(site).with_context(|| when.to_owned()) } else { Ok(()) }
    };
    let other = start(&site, 150)?;
    settle(&site, &other, false, "the other preempts")?;
    site.daemon().reload(&config(&site, 200))?;
    settle(&site, &other, true, "vip-lb preempts")?;
    site.daemon().ask(&["drain", "--node"])?;
    settle(&site, &other, false, "vip-lb resigns")?;
    site.daemon().reload(&config(&site, 120))?;
    site.daemon().ask(&["undrain", "--node"])?;
    settle(&site, &other, false, "the other has the higher priority")?;
    drop(other);
    wait_for("vip-lb to take over from one that ended", LIMIT, || {
        Ok(site.daemon().status()?.vips[0].answering.then_some(()))
    })?;
    let other = start(&site, 150)?;
    settle(&site, &other, false, "the other is back")?;
    let router = site.daemon().status()?.vips[0].vrrp.clone().context("a router")?;
    ensure!(router.adverts_discarded.is_empty() && router.conflict.is_none(), "{router:?}");
    site.succeeded();
    Ok(())
}

/// Has the client know the VIP by the virtual MAC address, and never ask for it or hear of it.
fn know_for_good(site: &Site) -> Result<()> {
    let mac = VirtualMac::new(site.options.family == Family::V4, ROUTER).to_string();
    let address = vip(site.options.family).to_string();
    let entry = ["neigh", "replace", &address, "lladdr", &mac, "dev", Node::DEVICE, "nud", "permanent"];
    site.lab.client.namespace.ip(&entry).map(drop)
}

/// Whether whoever has the VIP is reached at the one hardware address.
fn answers(site: &Site) -> Result<()> {
    let (client, address) = (&site.lab.client.namespace, vip(site.options.family).to_string());
    wait_for("an answer at the virtual MAC address", LIMIT, || {
        Ok(client.run("ping", &["-c", "1", "-W", "1", &address]).ok().map(drop))
    })
}

/// Waits until the one or the other has the VIP, and only that one.
fn settle(site: &Site, other: &Other, ours: bool, when: &str) -> Result<()> {
    let mut last = None;
    wait_for(when, LIMIT, || {
        let status = site.daemon().status()?;
        let (found, theirs) = (status.vips[0].answering, (other.has_vip)(site)?);
        last = Some((found, theirs, status.vips[0].vrrp.clone()));
        Ok((found == ours && theirs != ours).then_some(()))
    })
    .with_context(|| format!("last seen as {last:?}; the other says\n{}", other.program.log()))
}
