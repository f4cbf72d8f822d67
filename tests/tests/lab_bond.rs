//! An edge node behind two links that are bonded: the program runs on both members, and a link that fails takes no connection along.

use std::time::Duration;

use anyhow::{Result, ensure};
use vip_lb_tests::lab::{
    Family, HttpLoad, LoadOptions, LongConnections, Mode, Namespace, Node, Site, SiteOptions, edge_address,
    wait_for,
};

const BOND: &str = "bond0";
/// The second link, and its port at the switch.
const SECOND: (&str, &str) = ("eth1", "edge-1b");
const LIMIT: Duration = Duration::from_secs(15);

#[test]
#[ignore = "needs bonds: `cargo xtask kernels` runs it where there are some"]
fn a_bond_forwards_and_fails_over() -> Result<()> {
    let options = SiteOptions { backends: 2, ..SiteOptions::new(Mode::L2, Family::V4)? };
    let mut config = options.config(&[100, 100]);
    config.node.interfaces = vec![BOND.to_owned()];
    let mut site = Site::without_daemons(options)?;
    bond(&site)?;
    site.start_daemons(&config)?;

    let lab = &site.lab;
    let edge = &lab.edges[0].namespace;
    ensure!(active_member(edge)? == Node::DEVICE);
    for member in [Node::DEVICE, SECOND.0] {
        wait_for(&format!("the program on {member}"), LIMIT, || {
            Ok(edge.ip(&["link", "show", member])?.contains(" xdp ").then_some(()))
        })?;
    }
    let connections = LongConnections::open(&lab.client.namespace, site.echo(), 12)?;
    ensure!(connections.by_backend().len() == 2, "{:?}", connections.by_backend());
    requests(&site, "over the first link")?;

    lab.switch.set_port(&lab.edges[0].name, false)?;
    wait_for("the second link to take over", LIMIT, || Ok((active_member(edge)? == SECOND.0).then_some(())))?;
    connections.exchange(3)?;
    requests(&site, "over the second link")?;

    lab.switch.set_port(&lab.edges[0].name, true)?;
    lab.switch.set_port(SECOND.1, false)?;
    wait_for("the first link to take over", LIMIT, || {
        Ok((active_member(edge)? == Node::DEVICE).then_some(()))
    })?;
    connections.exchange(3)?;
    requests(&site, "over the first link again")?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
    site.succeeded();
    Ok(())
}

/// Connects the edge node a second time and bonds both links, one of which stands by. The bond gets the node's addresses.
fn bond(site: &Site) -> Result<()> {
    let edge = &site.lab.edges[0].namespace;
    site.lab.switch.connect(edge, SECOND.0, SECOND.1)?;
    site.lab.switch.face_xdp(SECOND.1)?;
    edge.ip(&["link", "add", BOND, "type", "bond", "mode", "active-backup", "miimon", "50"])?;
    for member in [Node::DEVICE, SECOND.0] {
        edge.ip(&["addr", "flush", "dev", member])?;
        edge.ip(&["link", "set", member, "down"])?;
        edge.ip(&["link", "set", member, "master", BOND])?;
    }
    edge.ip(&["link", "set", BOND, "up"])?;
    let address = format!("{}/24", edge_address(0, Family::V4));
    edge.ip(&["addr", "add", &address, "dev", BOND])?;
    wait_for("the bond to have a link", LIMIT, || {
        Ok(edge.ip(&["-br", "link", "show", BOND])?.contains("LOWER_UP").then_some(()))
    })
}

/// The member that the bond sends by.
fn active_member(edge: &Namespace) -> Result<String> {
    let shown = edge.ip(&["-d", "link", "show", BOND])?;
    let mut words = shown.split_whitespace().skip_while(|word| *word != "active_slave");
    Ok(words.nth(1).unwrap_or_default().to_owned())
}

fn requests(site: &Site, when: &str) -> Result<()> {
    let options = LoadOptions::count(site.web(), 100);
    let report = HttpLoad::run(&site.lab.client.namespace, options)?;
    ensure!(report.failed().count() == 0, "requests failed {when}: {:?}", report.errors());
    ensure!(report.by_backend().len() == 2, "{when}: {:?}", report.by_backend());
    Ok(())
}
