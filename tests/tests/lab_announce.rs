//! The VIP is on the segment although no edge node holds the address: ARP, neighbour solicitations and echo are answered by
//! the packet program, also without a daemon.

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{Family, Mode, Node, Site, SiteOptions, vip};

#[test]
fn ipv4() -> Result<()> {
    let site = site(Family::V4)?;
    answers_for_the_vip(&site)?;
    site.succeeded();
    Ok(())
}

#[test]
fn ipv6_and_its_solicited_node_group() -> Result<()> {
    let mut site = site(Family::V6)?;
    // RFC 4291, section 2.7.1: ff02::1:ff and the last 24 bits of fd77:1::1. Real cards filter by it.
    let groups = |site: &Site| site.lab.edges[0].namespace.ip(&["-6", "maddr", "show", "dev", Node::DEVICE]);
    ensure!(groups(&site)?.contains("ff02::1:ff00:1"), "not joined: {}", groups(&site)?);
    answers_for_the_vip(&site)?;
    // Promise: the daemon is not in the packet path, and frames that a card filters away are lost.
    site.daemon_mut().kill()?;
    let frames = site.lab.edges[0].namespace.ip(&["maddr", "show", "dev", Node::DEVICE])?;
    ensure!(frames.contains("33:33:ff:00:00:01"), "left with the daemon: {frames}");
    answers_for_the_vip(&site)?;
    site.succeeded();
    Ok(())
}

fn site(family: Family) -> Result<Site> {
    let options = SiteOptions::new(Mode::L2, family)?;
    let config = options.config(&[100, 100, 100]);
    Site::start(options, &config)
}

fn answers_for_the_vip(site: &Site) -> Result<()> {
    let address = vip(site.options.family).to_string();
    let edge = &site.lab.edges[0].namespace;
    let held = edge.ip(&["addr", "show"])?;
    ensure!(!held.contains(&format!(" {address}/")), "the edge node holds the VIP: {held}");

    let client = &site.lab.client.namespace;
    client.ip(&["neigh", "flush", "dev", Node::DEVICE])?;
    client.run("ping", &["-c", "3", "-i", "0.2", "-W", "2", &address]).context("ping the VIP")?;
    let mac = site.lab.edges[0].mac_text()?;
    let neighbour = client.ip(&["neigh", "show", &address])?;
    ensure!(neighbour.contains(&mac), "the client knows the VIP as {neighbour}, not at {mac}");

    let large = ["-c", "1", "-W", "2", "-s", "1400", &address];
    client.run("ping", &large).context("ping the VIP with 1400 bytes")?;
    Ok(())
}
