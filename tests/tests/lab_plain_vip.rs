//! A VIP without services, as for a pair of databases: the address is on the interface of the node that has it, and nowhere else that matters.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{
    ConfigFile, Family, Greeter, Mode, Node, Site, SiteOptions, VrrpConfig, patience, vip, wait_for,
};

const LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 5432;
const ROUTER: u8 = 53;

#[test]
fn a_database_is_found_at_the_node_that_has_the_address_over_ipv4() -> Result<()> {
    a_database_is_found(Family::V4)
}

#[test]
fn a_database_is_found_at_the_node_that_has_the_address_over_ipv6() -> Result<()> {
    a_database_is_found(Family::V6)
}

fn a_database_is_found(family: Family) -> Result<()> {
    let (mut site, config) = pair(family)?;
    let _databases =
        site.lab.edges.iter().map(|node| Greeter::start(node, PORT)).collect::<Result<Vec<_>>>()?;
    start(&mut site, &config)?;
    is_served_by(&site, 0)?;
    let page = site.daemons[0].ask(&["vip"])?;
    ensure!(page.contains("  the address is on eth0\n"), "{page}");
    site.lab.client.namespace.run("ping", &["-c", "1", "-W", "5", &vip(family).to_string()])?;

    // Nobody is left to take the address away, and still nobody is led there.
    site.daemons[0].kill()?;
    site.wait_router(1, "active")?;
    ensure!(has_address(&site, 0)?, "who has taken the address of a node without a daemon away?");
    is_served_by(&site, 1)?;
    site.lab.client.namespace.ip(&["neigh", "flush", "dev", Node::DEVICE])?;
    is_served_by(&site, 1)?;
    site.daemons[0].launch()?;
    site.wait_router(0, "backup")?;
    wait_address(&site, 0, false)?;
    is_served_by(&site, 1)?;

    // The operator moves it.
    site.daemons[1].ask(&["drain", "--node"])?;
    site.wait_router(0, "active")?;
    is_served_by(&site, 0)?;
    wait_address(&site, 1, false)?;
    site.daemons[1].ask(&["undrain", "--node"])?;
    site.wait_router(1, "backup")?;

    // An upgrade is no change.
    site.daemons[0].hand_over()?;
    site.wait_router(0, "active")?;
    is_served_by(&site, 0)?;

    // A node whose address was taken away from outside has it again.
    let length = if family == Family::V4 { 32 } else { 128 };
    let prefix = format!("{}/{length}", vip(family));
    site.lab.edges[0].namespace.ip(&["addr", "del", &prefix, "dev", Node::DEVICE])?;
    wait_address(&site, 0, true)?;

    // One that ends takes it along.
    ensure!(site.daemons[0].stop()?.is_none_or(|status| status.success()));
    site.wait_router(1, "active")?;
    ensure!(!has_address(&site, 0)?, "it was left behind");
    is_served_by(&site, 1)?;

    // What somebody else has put there is theirs.
    site.lab.edges[0].namespace.ip(&["addr", "add", &prefix, "dev", "lo"])?;
    site.daemons[0].launch()?;
    let reason = format!("lo has {} already, and vip-lb did not put it there", vip(family));
    wait_for("the node to refuse", LIMIT, || {
        let hindrance = site.daemons[0].status()?.vips.remove(0).vrrp.and_then(|router| router.hindrance);
        Ok((hindrance.as_ref() == Some(&reason)).then_some(()))
    })?;
    ensure!(site.lab.edges[0].namespace.ip(&["addr", "show", "dev", "lo"])?.contains(&prefix), "it is gone");
    site.lab.edges[0].namespace.ip(&["addr", "del", &prefix, "dev", "lo"])?;
    site.wait_router(0, "backup")?;

    // Unloading leaves nothing that would answer.
    site.daemons[1].kill()?;
    site.wait_router(0, "active")?;
    ensure!(has_address(&site, 1)?, "nothing was left to unload");
    site.daemons[1].unload()?;
    ensure!(!has_address(&site, 1)?, "it was left behind");
    is_served_by(&site, 0)?;
    site.succeeded();
    Ok(())
}

#[test]
fn a_vip_that_gets_services_has_no_address_any_more() -> Result<()> {
    let (mut site, config) = pair(Family::V4)?;
    let mut wide = config.clone();
    wide.vips[0].prefix_length = Some(24);
    start(&mut site, &wide)?;
    wait_address(&site, 0, true)?;
    let shown = site.lab.edges[0].namespace.ip(&["addr", "show", "dev", Node::DEVICE])?;
    ensure!(shown.contains("10.77.1.1/24"), "{shown}");
    let mut served = config.clone();
    served.vips[0].services = site.options.config(&[100, 100, 200]).vips[0].services.clone();
    site.daemons[0].reload(&first(&served))?;
    wait_address(&site, 0, false)?;
    ensure!(site.daemons[0].status()?.vips[0].answering, "the reload moved the VIP");
    site.daemons[0].reload(&first(&config))?;
    wait_address(&site, 0, true)?;
    ensure!(site.daemons[0].status()?.vips[0].answering, "the reload moved the VIP");
    site.succeeded();
    Ok(())
}

/// Two nodes; the first one is preferred, and neither takes the place of one that works.
fn pair(family: Family) -> Result<(Site, ConfigFile)> {
    let options = SiteOptions { edges: 2, ..SiteOptions::new(Mode::L2, family)? };
    let mut config = options.config(&[100, 100, 200]);
    config.vips[0].services.clear();
    config.vips[0].ownership = Some("vrrp".to_owned());
    config.vips[0].vrrp = Some(VrrpConfig {
        router_id: ROUTER,
        priority: Some(100),
        interval: Some(format!("{}ms", 100 * patience())),
        preempt: Some("never".to_owned()),
        ..VrrpConfig::default()
    });
    Ok((Site::without_daemons(options)?, config))
}

fn first(config: &ConfigFile) -> ConfigFile {
    let mut config = config.of_edge(0);
    for vrrp in config.vips.iter_mut().filter_map(|vip| vip.vrrp.as_mut()) {
        vrrp.priority = Some(200);
    }
    config
}

fn start(site: &mut Site, config: &ConfigFile) -> Result<()> {
    site.start_daemons_with(|edge| if edge == 0 { first(config) } else { config.of_edge(edge) })?;
    site.wait_router(0, "active")?;
    site.wait_router(1, "backup")
}

/// Waits until new connections of the client reach this node.
fn is_served_by(site: &Site, edge: usize) -> Result<()> {
    let target = SocketAddr::new(vip(site.options.family), PORT);
    let mut last = None;
    wait_for(&format!("node {} to be found", edge + 1), LIMIT, || {
        let found = Greeter::reached(&site.lab.client.namespace, target)?;
        let is_it = found.as_ref().is_ok_and(|name| *name == site.lab.edges[edge].name);
        last = Some(found);
        Ok(is_it.then_some(()))
    })
    .with_context(|| format!("last asked: {last:?}"))
}

fn has_address(site: &Site, edge: usize) -> Result<bool> {
    let shown = site.lab.edges[edge].namespace.ip(&["addr", "show", "dev", Node::DEVICE])?;
    Ok(shown.contains(&format!(" {}/", vip(site.options.family))))
}

fn wait_address(site: &Site, edge: usize, there: bool) -> Result<()> {
    wait_for(&format!("the address of node {} to be there: {there}", edge + 1), LIMIT, || {
        Ok((has_address(site, edge)? == there).then_some(()))
    })
}
