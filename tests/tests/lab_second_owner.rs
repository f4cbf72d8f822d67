//! Somebody else at the VIP: a host that has the address, one that merely says so, and another virtual router under the same number. Each is
//! named, and told of again when it is gone.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{
    ConfigFile, Daemon, Family, Mode, Node, RawLink, Site, SiteOptions, VrrpConfig, patience, vip, wait_for,
};

const LIMIT: Duration = Duration::from_secs(30);
const ROUTER: u8 = 52;

#[test]
fn a_host_that_has_the_address_is_named_over_ipv4() -> Result<()> {
    a_host_that_has_the_address_is_named(Family::V4)
}

#[test]
fn a_host_that_has_the_address_is_named_over_ipv6() -> Result<()> {
    a_host_that_has_the_address_is_named(Family::V6)
}

/// It says nothing by itself: its answers to others do not come by here.
fn a_host_that_has_the_address_is_named(family: Family) -> Result<()> {
    let (mut site, config) = two_nodes(family)?;
    start_first(&mut site, &config)?;
    wait_alone(&site)?;
    let (host, address) = (&site.lab.edges[1], vip(family));
    // So that the node knows it by an address of its own.
    let own = host.address(family);
    site.lab.edges[0].namespace.run("ping", &["-c", "1", "-W", "5", &own.to_string()])?;

    let length = if family == Family::V4 { 32 } else { 128 };
    let prefix = format!("{address}/{length}");
    // Nodes of the lab detect no duplicates, so neither side is told by the kernel.
    host.namespace.ip(&["addr", "add", &prefix, "dev", Node::DEVICE])?;
    is_found(&site, &host.mac_text()?, None, Some(own))?;
    let page = site.daemon().ask(&["vip"])?;
    let line = format!("! it is also held by {} ({own}) on {}, for ", host.mac_text()?, Node::DEVICE);
    ensure!(page.contains(&line), "{page}");
    let warning = format!("{address} is also held by {}", host.mac_text()?);
    let status = site.daemon().ask(&["status"])?;
    ensure!(status.contains(&warning), "{status}");
    let metrics = site.daemon().get("/metrics")?;
    for (name, value) in [("vip_second_owners", 1), ("vip_second_owners_found_total", 1)] {
        let sample = format!("vip_lb_{name}{{vip=\"{address}\"}} {value}");
        ensure!(metrics.contains(&sample), "no {sample} in {metrics}");
    }

    host.namespace.ip(&["addr", "del", &prefix, "dev", Node::DEVICE])?;
    wait_alone(&site)?;
    let events = second_owner_events(&site)?;
    ensure!(events == ["second_owner", "second_owner_gone"], "{events:?}");
    site.succeeded();
    Ok(())
}

/// One announcement, as of a host that was there for a moment, moves the neighbours; the owner takes them back.
#[test]
fn one_that_merely_says_so_is_named_and_neighbours_are_told_better() -> Result<()> {
    const SAID: &str = "02:00:00:00:00:99";
    let (mut site, mut config) = two_nodes(Family::V4)?;
    config.vips[0].ownership = Some("vrrp".to_owned());
    config.vips[0].vrrp = Some(VrrpConfig {
        router_id: ROUTER,
        interval: Some(format!("{}ms", 100 * patience())),
        ..VrrpConfig::default()
    });
    start_first(&mut site, &config)?;
    wait_answering(&site)?;
    let address = vip(Family::V4);
    let client = &site.lab.client.namespace;
    client.run("ping", &["-c", "1", "-W", "5", &address.to_string()])?;
    let found_at = |mac: &str| -> Result<Option<()>> {
        let neighbours = client.ip(&["-json", "neigh", "show", &address.to_string()])?;
        let neighbours: serde_json::Value = serde_json::from_str(&neighbours)?;
        Ok((neighbours[0]["lladdr"].as_str() == Some(mac)).then_some(()))
    };
    let ours = site.lab.edges[0].mac_text()?;
    found_at(&ours)?.context("the client does not find the node")?;

    let link = RawLink::sender(&site.lab.edges[1].namespace, Node::DEVICE)?;
    // As often as it takes: what is heard in the first second may be of the node before, and Linux takes nothing new within a second.
    let mut believed = false;
    wait_for("it to be believed and found", LIMIT, || {
        link.send(&announcement(address, SAID)?)?;
        believed |= found_at(SAID)?.is_some();
        let others = &site.daemon().status()?.vips[0].second_owners;
        Ok((believed && others.iter().any(|other| other.mac == SAID)).then_some(()))
    })?;
    wait_for("the client to be told better", LIMIT, || found_at(&ours))?;
    wait_alone(&site)?;
    let events = second_owner_events(&site)?;
    ensure!(events == ["second_owner", "second_owner_gone"], "{events:?}");
    site.succeeded();
    Ok(())
}

/// Two that were given the same number by mistake.
#[test]
fn a_router_of_the_same_number_is_named() -> Result<()> {
    let (mut site, mut config) = two_nodes(Family::V4)?;
    config.vips[0].ownership = Some("vrrp".to_owned());
    config.vips[0].vrrp = Some(VrrpConfig { router_id: ROUTER, ..VrrpConfig::default() });
    start_first(&mut site, &config)?;
    wait_answering(&site)?;
    let mut other = config.of_edge(1);
    other.vips[0].address = "10.77.1.9".parse()?;
    let _other = Daemon::start(&site.lab.edges[1], &site.lab.scratch, &site.options.binary, &other)?;
    let own = site.lab.edges[1].address(Family::V4);
    let said = format!("{own} speaks for router {ROUTER} with other addresses: 10.77.1.9");
    wait_for("the first node to name it", LIMIT, || {
        Ok(site.daemon().ask(&["vip"])?.contains(&said).then_some(()))
    })?;
    wait_for("the event", LIMIT, || {
        let events = site.daemon().ask(&["events", "--json"])?;
        Ok(events.lines().any(|line| line.contains("\"warning\"") && line.contains(&said)).then_some(()))
    })?;
    ensure!(site.daemon().ask(&["status"])?.contains(&said), "no warning");
    ensure!(site.daemon().status()?.vips[0].answering, "it gave way to a router of other addresses");
    site.succeeded();
    Ok(())
}

#[test]
#[ignore = "needs VLAN devices: `cargo xtask kernels` runs it where there are some"]
fn a_host_in_a_vlan_is_named_with_it() -> Result<()> {
    const VLAN: &str = "100";
    let (mut site, config) = two_nodes(Family::V4)?;
    for (node, own) in site.lab.edges.iter().zip(["10.77.100.5/24", "10.77.100.6/24"]) {
        let name = format!("{}.{VLAN}", Node::DEVICE);
        node.namespace.ip(&["link", "add", &name, "link", Node::DEVICE, "type", "vlan", "id", VLAN])?;
        node.namespace.ip(&["addr", "add", own, "dev", &name])?;
        node.namespace.ip(&["link", "set", &name, "up"])?;
    }
    let host = &site.lab.edges[1];
    let mac = host.mac_text()?;
    // Told to answer only for what the asked device has, as a host with one address on each of its networks.
    host.namespace.sysctl("net/ipv4/conf/all/arp_ignore", "1")?;
    let prefix = format!("{}/32", vip(Family::V4));
    host.namespace.ip(&["addr", "add", &prefix, "dev", &format!("{}.{VLAN}", Node::DEVICE)])?;
    start_first(&mut site, &config)?;
    is_found(&site, &mac, Some(100), None)?;
    ensure!(site.daemon().status()?.vips[0].second_owners.len() == 1, "it is on one of the two links");
    site.succeeded();
    Ok(())
}

/// A node, and a machine that is none, on one link with servers that have the VIP and are silent about it.
fn two_nodes(family: Family) -> Result<(Site, ConfigFile)> {
    let options = SiteOptions { edges: 2, ..SiteOptions::new(Mode::L2, family)? };
    let config = options.config(&[100, 100, 200]);
    Ok((Site::without_daemons(options)?, config))
}

fn start_first(site: &mut Site, config: &ConfigFile) -> Result<()> {
    let daemon = Daemon::start(&site.lab.edges[0], &site.lab.scratch, &site.options.binary, config)?;
    site.daemons.push(daemon);
    Ok(())
}

fn wait_answering(site: &Site) -> Result<()> {
    wait_for("the node to answer", LIMIT, || Ok(site.daemon().status()?.vips[0].answering.then_some(())))
}

fn is_found(site: &Site, mac: &str, vlan: Option<u16>, host: Option<IpAddr>) -> Result<()> {
    let mut last = None;
    wait_for(&format!("{mac} to be found"), LIMIT, || {
        let others = site.daemon().status()?.vips[0].second_owners.clone();
        let is_it = others.iter().any(|other| other.mac == mac && other.vlan == vlan && other.host == host);
        last = Some(others);
        Ok(is_it.then_some(()))
    })
    .with_context(|| format!("last seen: {last:?}"))
}

/// Also after long enough for all neighbours to have been heard.
fn wait_alone(site: &Site) -> Result<()> {
    wait_for("the node to be alone", LIMIT, || {
        Ok(site.daemon().status()?.vips[0].second_owners.is_empty().then_some(()))
    })
}

fn second_owner_events(site: &Site) -> Result<Vec<String>> {
    let events = site.daemon().ask(&["events", "--json"])?;
    let mut names = Vec::new();
    for line in events.lines() {
        let event: serde_json::Value = serde_json::from_str(line)?;
        names.extend(
            event["event"].as_str().filter(|name| name.starts_with("second_owner")).map(str::to_owned),
        );
    }
    Ok(names)
}

/// A gratuitous ARP: a request of an address for itself.
fn announcement(address: IpAddr, mac: &str) -> Result<Vec<u8>> {
    let mac = mac.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>()?;
    let IpAddr::V4(address) = address else { anyhow::bail!("{address} is no IPv4 address") };
    let address = address.octets();
    let head = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]];
    Ok([&head.concat()[..], &mac, &address, &[0; 6], &address].concat())
}
