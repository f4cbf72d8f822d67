//! vip-lb and Debian's keepalived in one virtual router: each wins and loses elections, resigns and preempts.

use std::{
    fs,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use vip_lb_tests::lab::{
    ConfigFile, Daemon, Family, Mode, Node, Site, SiteOptions, VrrpConfig, edge_address, patience, vip,
    wait_for,
};

const LIMIT: Duration = Duration::from_secs(20);
const ROUTER: u8 = 51;
/// The edge node that keepalived runs on.
const OTHER: usize = 1;

#[test]
fn elections_over_ipv4() -> Result<()> {
    elections(Family::V4, false)
}

#[test]
fn elections_over_ipv6() -> Result<()> {
    elections(Family::V6, false)
}

#[test]
fn elections_among_unicast_peers() -> Result<()> {
    elections(Family::V4, true)
}

/// keepalived on an edge node. Dropped, it ends.
struct Keepalived(Child);

impl Keepalived {
    fn start(site: &Site, priority: u8, unicast: bool) -> Result<Self> {
        let family = site.options.family;
        let folder = site.lab.scratch.path();
        let file = folder.join("keepalived.conf");
        let unicast = if unicast {
            let (own, peer) = (edge_address(OTHER, family), edge_address(0, family));
            format!("unicast_src_ip {own}\n unicast_peer {{\n {peer}\n }}")
        } else {
            String::new()
        };
        let text = format!(
            "global_defs {{\n router_id other\n vrrp_version 3\n}}\n\
             vrrp_instance other {{\n state BACKUP\n interface {}\n virtual_router_id {ROUTER}\n priority {priority}\n \
             advert_int {}\n version 3\n {unicast}\n virtual_ipaddress {{\n {}\n }}\n}}\n",
            Node::DEVICE,
            0.1 * f64::from(patience()),
            vip(family),
        );
        fs::write(&file, text)?;
        let log = fs::File::options().create(true).append(true).open(folder.join("keepalived.log"))?;
        let pid = |name: &str| folder.join(name).display().to_string();
        let child = site.lab.edges[OTHER]
            .namespace
            .command("keepalived")
            .args(["--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file"])
            .arg(&file)
            .args(["--pid", &pid("keepalived.pid"), "--vrrp_pid", &pid("keepalived-vrrp.pid")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start keepalived")?;
        Ok(Self(child))
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        // SAFETY: the process is a child of this one and has not been waited for.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGTERM) };
        let _ = self.0.wait();
    }
}

fn config(site: &Site, priority: u8, unicast: bool) -> ConfigFile {
    let mut config = site.options.config(&[100, 100, 200]);
    config.vips[0].ownership = Some("vrrp".to_owned());
    config.vips[0].vrrp = Some(VrrpConfig {
        router_id: ROUTER,
        priority: Some(priority),
        interval: Some(format!("{}ms", 100 * patience())),
        peers: if unicast { vec![edge_address(OTHER, site.options.family)] } else { Vec::new() },
        ..VrrpConfig::default()
    });
    config
}

fn elections(family: Family, unicast: bool) -> Result<()> {
    let options = SiteOptions { edges: 2, ..SiteOptions::new(Mode::L2, family)? };
    let mut site = Site::without_daemons(options)?;
    let file = config(&site, 100, unicast);
    let daemon = Daemon::start(&site.lab.edges[0], &site.lab.scratch, &site.options.binary, &file)?;
    site.daemons.push(daemon);
    settle(&site, true, "alone")?;

    let keepalived = Keepalived::start(&site, 150, unicast)?;
    settle(&site, false, "keepalived preempts")?;
    site.daemon().reload(&config(&site, 200, unicast))?;
    settle(&site, true, "vip-lb preempts")?;
    site.daemon().ask(&["drain", "--node"])?;
    settle(&site, false, "vip-lb resigns")?;
    site.daemon().reload(&config(&site, 120, unicast))?;
    site.daemon().ask(&["undrain", "--node"])?;
    settle(&site, false, "keepalived has the higher priority")?;
    drop(keepalived);
    settle(&site, true, "keepalived resigns")?;
    let mut keepalived = Keepalived::start(&site, 150, unicast)?;
    settle(&site, false, "keepalived is back")?;
    keepalived.0.kill()?;
    keepalived.0.wait()?;
    // Killed, it leaves the address on its interface, and keeps answering: that is what a lease is for.
    wait_for("vip-lb to take the place of a killed keepalived", LIMIT, || {
        Ok(site.daemon().status()?.vips[0].answering.then_some(()))
    })?;
    let router = site.daemon().status()?.vips[0].vrrp.clone().context("a router")?;
    anyhow::ensure!(router.adverts_discarded.is_empty() && router.conflict.is_none(), "{router:?}");
    site.succeeded();
    Ok(())
}

/// Waits until the one or the other has the VIP, and only that one.
fn settle(site: &Site, ours: bool, when: &str) -> Result<()> {
    let vip = vip(site.options.family).to_string();
    let mut last = None;
    wait_for(when, LIMIT, || {
        let status = site.daemon().status()?;
        let addresses = site.lab.edges[OTHER].namespace.ip(&["addr", "show", "dev", Node::DEVICE])?;
        let theirs = addresses.contains(&format!("{vip}/"));
        let found = status.vips[0].answering;
        last = Some((found, theirs, status.vips[0].vrrp.clone()));
        Ok((found == ours && theirs != ours).then_some(()))
    })
    .with_context(|| {
        let log = fs::read_to_string(site.lab.scratch.path().join("keepalived.log")).unwrap_or_default();
        format!("last seen as {last:?}; keepalived says\n{log}")
    })
}
