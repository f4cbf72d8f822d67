//! Packets as large as the path takes, and larger: large files both ways through tunnels, and routers that take less.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use vip_lb_tests::lab::{
    Family, FarHost, HttpServer, Mode, Node, Site, SiteOptions, StackCounters, Transfer, config::ConfigFile,
    learned_mtu,
};

const FILE: usize = 8 << 20;
/// Ethernet's.
const MTU: u32 = 1500;
/// What the link behind the router takes.
const NARROW_MTU: u32 = 1400;
/// So many that each of three backends gets one of them, but once in a million runs.
const MOST_DOWNLOADS: u32 = 40;

#[test]
fn an_upload_that_does_not_fit_ipip_is_told_so_over_ipv4() -> Result<()> {
    an_upload_that_does_not_fit_is_told_so(Mode::Ipip, Family::V4, MTU - 20)
}

#[test]
fn an_upload_that_does_not_fit_ipip_is_told_so_over_ipv6() -> Result<()> {
    an_upload_that_does_not_fit_is_told_so(Mode::Ipip, Family::V6, MTU - 40)
}

#[test]
fn an_upload_that_does_not_fit_gue_is_told_so_over_ipv4() -> Result<()> {
    an_upload_that_does_not_fit_is_told_so(Mode::Gue, Family::V4, MTU - 20 - 8)
}

#[test]
fn an_upload_that_does_not_fit_gue_is_told_so_over_ipv6() -> Result<()> {
    an_upload_that_does_not_fit_is_told_so(Mode::Gue, Family::V6, MTU - 40 - 8)
}

#[test]
fn nobody_is_told_anything_where_backends_announce_what_fits() -> Result<()> {
    let files = Files::start(Mode::Ipip, Family::V4, |_| {})?;
    for node in &files.site.lab.backends {
        node.namespace.ip(&["route", "change", "10.77.0.0/24", "dev", Node::DEVICE, "advmss", "1440"])?;
    }
    files.both_ways()?;
    ensure!(files.site.daemon().counter("too_big_answered")? == 0);
    ensure!(files.learned()?.is_none());
    files.site.succeeded();
    Ok(())
}

#[test]
fn the_mss_of_a_service_limits_what_its_backends_send() -> Result<()> {
    const MSS: u16 = 1000;
    for family in Family::BOTH {
        let files = Files::start(Mode::L2, family, |config| config.service_mut("web").mss = Some(MSS))?;
        let client = &files.site.lab.client.namespace;
        // Merged segments would be counted as one.
        client.run("ethtool", &["-K", Node::DEVICE, "gro", "off"])?;
        files.both_ways()?;
        let received = StackCounters::read(client)?;
        let segments = received.get("TcpInSegs")?;
        let least = (FILE / usize::from(MSS)) as i64;
        ensure!(segments > least, "{family:?}: {segments} segments are fewer than {least} of {MSS} bytes");
        files.site.succeeded();
    }
    Ok(())
}

#[test]
fn a_narrow_router_is_heard_by_the_backend_over_ipv4() -> Result<()> {
    a_narrow_router_is_heard_by_the_backend(Family::V4)
}

#[test]
fn a_narrow_router_is_heard_by_the_backend_over_ipv6() -> Result<()> {
    a_narrow_router_is_heard_by_the_backend(Family::V6)
}

/// The client sends segments for 1500 bytes, which do not fit with the headers of the mode in front. It hears of it, and sends smaller ones.
fn an_upload_that_does_not_fit_is_told_so(mode: Mode, family: Family, fits: u32) -> Result<()> {
    let files = Files::start(mode, family, |_| {})?;
    files.both_ways()?;
    let daemon = files.site.daemon();
    ensure!(daemon.counter("too_big_answered")? > 0);
    let learned = files.learned()?;
    ensure!(learned == Some(fits), "the client has learned {learned:?}, not {fits}");

    // A client that knows need not be told again.
    let told = daemon.counter("too_big_answered")?;
    files.both_ways()?;
    ensure!(daemon.counter("too_big_answered")? == told);
    files.site.succeeded();
    Ok(())
}

/// The client is behind a router whose link to it is narrow. What the backend sends, straight to the client, does not fit; the router's
/// ICMP error goes to the VIP, and the backend must hear it.
fn a_narrow_router_is_heard_by_the_backend(family: Family) -> Result<()> {
    let files = Files::start(Mode::L2, family, |_| {})?;
    let lab = &files.site.lab;
    let client = FarHost::behind(&lab.client, lab, NARROW_MTU)?;
    let web = files.site.web();
    let mut deaf = lab.backends.iter().collect::<Vec<_>>();
    // Every connection is another flow, so each backend's turn comes.
    for _ in 0..MOST_DOWNLOADS {
        if deaf.is_empty() {
            break;
        }
        files.transfer.download(&client.namespace, web, "file")?;
        let mut still_deaf = Vec::new();
        for node in deaf {
            let heard = too_big_heard(node, family)?;
            let learned = learned_mtu(&node.namespace, FarHost::address(family))?;
            match (heard, learned) {
                (0, None) => still_deaf.push(node),
                (_, Some(NARROW_MTU)) => {}
                _ => bail!("{} heard {heard} errors and learned {learned:?}", node.name),
            }
        }
        deaf = still_deaf;
    }
    ensure!(deaf.is_empty(), "backends that heard nothing: {deaf:?}");

    // That it was these errors: without them the file does not arrive.
    let mut deaf = files.config.clone();
    deaf.service_mut("web").icmp_rate = Some(0);
    files.site.daemon().reload(&deaf)?;
    for node in &lab.backends {
        for family in ["-4", "-6"] {
            node.namespace.ip(&[family, "route", "flush", "cache"])?;
        }
    }
    ensure!(
        files.transfer.download_stalls(&client.namespace, web, "file", 2)?,
        "the file arrived without any error"
    );
    ensure!(files.site.daemon().counter("icmp_rate")? > 0);
    files.site.succeeded();
    Ok(())
}

/// ICMP errors of "too big" that the stack of a node got.
fn too_big_heard(node: &Node, family: Family) -> Result<i64> {
    let counter = if family == Family::V4 { "IcmpInDestUnreachs" } else { "Icmp6InPktTooBigs" };
    StackCounters::read(&node.namespace)?.get(counter)
}

/// A site whose web servers have a large file, `/files/file`, which the client has too.
struct Files {
    transfer: Transfer,
    config: ConfigFile,
    site: Site,
}

impl Files {
    fn start(mode: Mode, family: Family, change: impl FnOnce(&mut ConfigFile)) -> Result<Self> {
        let options = SiteOptions::new(mode, family)?;
        let mut config = options.config(&[100, 100, 100]);
        change(&mut config);
        let site = Site::start(options, &config)?;
        let transfer = Transfer::new(&site.lab.scratch, FILE)?;
        let files = Self { transfer, config, site };
        for server in files.servers()? {
            fs::write(server.files().join("file"), files.transfer.bytes())
                .context("give a server the file")?;
        }
        Ok(files)
    }

    fn servers(&self) -> Result<Vec<&HttpServer>> {
        self.site.lab.backends.iter().map(|node| self.site.http_server(&node.name)).collect()
    }

    /// Moves the file down and up again. What one server has got then is the file.
    fn both_ways(&self) -> Result<()> {
        let client = &self.site.lab.client.namespace;
        self.transfer.download(client, self.site.web(), "file").context("download")?;
        self.transfer.upload(client, self.site.web(), "copy").context("upload")?;
        let mut copies = 0;
        for server in self.servers()? {
            let copy = server.files().join("copy");
            if copy.exists() {
                let bytes = fs::read(&copy)?;
                ensure!(
                    bytes == self.transfer.bytes(),
                    "{} bytes came, and not those of the file",
                    bytes.len()
                );
                fs::remove_file(&copy)?;
                copies += 1;
            }
        }
        ensure!(copies == 1, "{copies} servers got the file");
        Ok(())
    }

    /// The MTU that the client has learned for the way to the VIP.
    fn learned(&self) -> Result<Option<u32>> {
        learned_mtu(&self.site.lab.client.namespace, self.site.web().ip())
    }
}
