//! A load balancer leaves before its maintenance: it gives up its VIPs, another takes them, and whatever still comes is forwarded.

use std::time::Duration;

use anyhow::{Result, ensure};
use vip_lb_tests::lab::{
    Family, HttpLoad, LoadOptions, LongConnections, Mode, Node, Site, SiteOptions, nothing_lost, vip,
    wait_for,
};

const LIMIT: Duration = Duration::from_secs(15);
const IDLE: Duration = Duration::from_secs(3);
const NOT_DRAINED: i32 = 12;

#[test]
fn ipv4() -> Result<()> {
    leaves_without_a_loss(Family::V4)
}

#[test]
fn ipv6() -> Result<()> {
    leaves_without_a_loss(Family::V6)
}

fn leaves_without_a_loss(family: Family) -> Result<()> {
    let options = SiteOptions { edges: 2, ..SiteOptions::new(Mode::L2, family)? };
    let mut config = options.config(&[100, 100, 200]);
    for service in config.services_mut() {
        service.idle_timeout = Some(format!("{}s", IDLE.as_secs()));
    }
    let mut site = Site::start(options, &config)?;
    let second = config.of_edge(1);
    let mut aside = second.clone();
    aside.node.state = Some("drain".to_owned());
    site.daemons[1].reload(&aside)?;
    ensure!(!answering(&site, 1)?.0, "by its file the second node stands aside");
    // What happened at the start is over: open slots are of one node, and connections in them do not survive another one.
    for service in ["web", "echo", "echo-udp"] {
        site.daemons[1].wait_service(service, "its slots to close", LIMIT, |of| of.open_slots == 0)?;
    }
    forget_neighbours(&site)?;
    let load = HttpLoad::start(&site.lab.client.namespace, LoadOptions::steady(site.web()))?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 60)?;
    ensure!(found_at(&site)? == site.lab.edges[0].mac_text()?, "the client found {}", found_at(&site)?);

    // The other one comes first, as an operator would do it.
    site.daemons[1].reload(&second)?;
    let answer = site.daemon().ask(&["drain", "--node"])?;
    ensure!(
        answer.contains("gives up its VIPs") && answer.contains("no other node is configured"),
        "{answer}"
    );
    ensure!(answering(&site, 0)? == (false, Some("this node is drained by the operator".to_owned())));
    ensure!(answering(&site, 1)?.0);
    // Who knows it still is served.
    connections.exchange(5)?;
    let (code, answer, _) = site.daemon().ask_code(&["drain", "--node", "--wait", "--deadline", "2s"])?;
    ensure!(code == NOT_DRAINED && answer.contains("packets/s"), "{code}: {answer}");
    // Who asks anew finds the other one.
    forget_the_vip(&site)?;
    wait_for("the client to find the other node", LIMIT, || {
        Ok((found_at(&site)? == site.lab.edges[1].mac_text()?).then_some(()))
    })?;
    let answer = site.daemon().ask(&["drain", "--node", "--wait"])?;
    ensure!(answer.contains("nothing comes any more"), "{answer}");
    connections.exchange(5)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());

    // The order outlives the daemon, and a hand-over.
    site.daemon_mut().kill()?;
    site.daemon_mut().launch()?;
    ensure!(!answering(&site, 0)?.0, "after a restart");
    site.daemon_mut().hand_over()?;
    ensure!(!answering(&site, 0)?.0, "after a hand-over");
    // It forwards whatever is sent there.
    let before = site.daemon().counter("forwarded_l2")?;
    site.lab.route_vips_through(&site.lab.edges[0])?;
    connections.exchange(5)?;
    ensure!(site.daemon().counter("forwarded_l2")? > before + 60, "nothing came to the first node");
    nothing_lost(&connections, load)?;

    site.daemon().ask(&["undrain", "--node"])?;
    ensure!(answering(&site, 0)? == (true, None), "it is back");
    site.succeeded();
    Ok(())
}

/// Whether a node answers for the VIP, and why it does not want to be found there.
fn answering(site: &Site, edge: usize) -> Result<(bool, Option<String>)> {
    let mut vips = site.daemons[edge].status()?.vips;
    ensure!(vips.len() == 1, "{vips:?}");
    Ok(vips.remove(0)).map(|vip| (vip.answering, vip.withdrawn))
}

/// So that the client asks anew; while nothing is under way.
fn forget_neighbours(site: &Site) -> Result<()> {
    site.lab.client.namespace.ip(&["neigh", "flush", "dev", Node::DEVICE])?;
    Ok(())
}

/// What an announcement of another node would do, under load: one entry that is known. A flush also ends what is being asked for at
/// that moment, and its connections with "no route to host".
fn forget_the_vip(site: &Site) -> Result<()> {
    let vip = vip(site.options.family).to_string();
    site.lab.client.namespace.ip(&["neigh", "del", &vip, "dev", Node::DEVICE])?;
    Ok(())
}

/// The MAC address that the client has for the VIP; empty while it asks.
fn found_at(site: &Site) -> Result<String> {
    let neighbours =
        site.lab.client.namespace.ip(&["-json", "neigh", "show", &vip(site.options.family).to_string()])?;
    let neighbours: serde_json::Value = serde_json::from_str(&neighbours)?;
    Ok(neighbours[0]["lladdr"].as_str().unwrap_or_default().to_owned())
}
