//! VIPs with a virtual MAC address: whoever has the VIP has the address, so a client that never hears of a move need not. Frames to it are
//! taken by the node that has it, for the packet path and for the host's own programs, and by nobody else.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use vip_lb_common::abi::VirtualMac;
use vip_lb_tests::lab::{
    ConfigFile, Family, Greeter, HttpLoad, LoadOptions, LongConnections, Mode, Node, Site, SiteOptions,
    VrrpConfig, edge_address, nothing_lost, patience, vip, wait_for,
};

const LIMIT: Duration = Duration::from_secs(20);
const ROUTER: u8 = 54;
const PORT: u16 = 5432;

#[test]
fn a_client_that_hears_of_no_move_finds_the_vip_over_ipv4() -> Result<()> {
    a_client_that_hears_of_no_move_finds_the_vip(Family::V4)
}

#[test]
fn a_client_that_hears_of_no_move_finds_the_vip_over_ipv6() -> Result<()> {
    a_client_that_hears_of_no_move_finds_the_vip(Family::V6)
}

fn a_client_that_hears_of_no_move_finds_the_vip(family: Family) -> Result<()> {
    // Three of these are longer than a hand-over takes, also on a busy machine.
    let (mut site, config) = pair(family, 500)?;
    know(&site, "permanent")?;
    start(&mut site, &config)?;
    is_at(&site, 0)?;
    for service in ["web", "echo", "echo-udp"] {
        for daemon in &site.daemons {
            daemon.wait_service(service, "its slots to close", LIMIT, |of| of.open_slots == 0)?;
        }
    }
    let load = HttpLoad::start(&site.lab.client.namespace, LoadOptions::steady(site.web()))?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 60)?;
    let address = vip(family).to_string();

    site.daemons[0].ask(&["handover", &address])?;
    is_at(&site, 1)?;
    connections.exchange(3)?;
    site.daemons[0].ask(&["handover", &address, "--back"])?;
    is_at(&site, 0)?;
    connections.exchange(3)?;

    // An upgrade changes nothing.
    let before = device(&site, 0)?;
    site.daemons[0].hand_over()?;
    site.wait_router(0, "active")?;
    ensure!(device(&site, 0)? == before, "another device after the upgrade");
    connections.exchange(3)?;

    ensure!(site.daemons[0].stop()?.is_none_or(|status| status.success()));
    is_at(&site, 1)?;
    ensure!(device(&site, 0)?.is_none(), "the device was left behind");
    connections.exchange(3)?;
    nothing_lost(&connections, load)?;

    // A client that asks is told the same by everybody.
    know(&site, "stale")?;
    site.lab.client.namespace.ip(&["neigh", "flush", "dev", Node::DEVICE])?;
    wait_known(&site)?;
    site.daemons[0].launch()?;
    site.wait_router(0, "backup")?;
    site.daemons[1].ask(&["drain", "--node"])?;
    is_at(&site, 0)?;
    wait_known(&site)?;
    for daemon in &site.daemons {
        let found = daemon.ask(&["events", "--json"]).unwrap_or_default();
        ensure!(!found.contains("\"second_owner"), "{found}");
    }
    site.succeeded();
    Ok(())
}

#[test]
fn what_a_killed_daemon_leaves_goes_with_the_next_one() -> Result<()> {
    let (mut site, config) = pair(Family::V4, 100)?;
    know(&site, "permanent")?;
    start(&mut site, &config)?;
    is_at(&site, 0)?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 60)?;
    let page = site.daemons[0].ask(&["vip"])?;
    let name = name(Family::V4);
    let line = format!("  virtual MAC {}, taken on eth0 ({name} is up)\n", mac(Family::V4));
    ensure!(page.contains(&line), "{page}");
    // It answers nobody, and what is sent to all comes once.
    let edge = &site.lab.edges[0].namespace;
    let shown = edge.ip(&["link", "show", &name])?;
    ensure!(shown.contains("NOARP") && shown.contains(&format!("brd {}", mac(Family::V4))), "{shown}");
    let shown = edge.ip(&["addr", "show", "dev", &name])?;
    ensure!(!shown.contains("inet"), "{shown}");
    ensure!(broadcasts(&site, 0)? == 1, "what is sent to all came more than once");

    // Whoever takes it away has it back.
    edge.ip(&["link", "del", &name])?;
    wait_for("the device to be back", LIMIT, || {
        Ok(device(&site, 0)?.is_some_and(|(_, is_up)| is_up).then_some(()))
    })?;
    ensure!(site.router(0)?.state == "active", "it gave the VIP up");

    site.daemons[0].kill()?;
    site.wait_router(1, "active")?;
    is_learnt(&site, 1)?;
    connections.exchange(3)?;
    ensure!(device(&site, 0)?.is_some_and(|(_, is_up)| is_up), "nothing was left behind");
    site.daemons[0].launch()?;
    site.wait_router(0, "backup")?;
    is_at(&site, 1)?;
    connections.exchange(3)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());

    // With another configuration it has no place there.
    site.daemons[1].kill()?;
    site.wait_router(0, "active")?;
    let mut without = config.of_edge(1);
    for vrrp in without.vips.iter_mut().filter_map(|vip| vip.vrrp.as_mut()) {
        (vrrp.virtual_mac, vrrp.priority) = (false, Some(100));
    }
    ensure!(device(&site, 1)?.is_some(), "nothing was left behind");
    site.daemons[1].write_config(&without)?;
    site.daemons[1].launch()?;
    wait_for("the device to go", LIMIT, || Ok(device(&site, 1)?.is_none().then_some(())))?;

    site.daemons[0].kill()?;
    ensure!(device(&site, 0)?.is_some(), "nothing was left to unload");
    site.daemons[0].unload()?;
    ensure!(device(&site, 0)?.is_none(), "the device was left behind");
    site.succeeded();
    Ok(())
}

#[test]
fn a_reload_that_changes_the_address_gives_the_vip_up_first() -> Result<()> {
    let (mut site, config) = pair(Family::V4, 100)?;
    let mut without = config.clone();
    without.vips[0].vrrp.as_mut().context("a router")?.virtual_mac = false;
    site.start_daemons_with(|edge| of_edge(&without, edge))?;
    site.wait_router(0, "active")?;
    site.wait_router(1, "backup")?;
    site.wait_found_at(0)?;
    site.daemons[0].reload(&of_edge(&config, 0))?;
    site.wait_router(1, "active")?;
    site.daemons[1].reload(&of_edge(&config, 1))?;
    is_at(&site, 0)?;
    wait_known(&site)?;
    site.daemons[0].reload(&of_edge(&without, 0))?;
    is_at(&site, 1)?;
    wait_for("the device to go", LIMIT, || Ok(device(&site, 0)?.is_none().then_some(())))?;
    site.succeeded();
    Ok(())
}

#[test]
fn the_hosts_own_programs_get_what_is_theirs_over_ipv4() -> Result<()> {
    the_hosts_own_programs_get_what_is_theirs(Family::V4)
}

#[test]
fn the_hosts_own_programs_get_what_is_theirs_over_ipv6() -> Result<()> {
    the_hosts_own_programs_get_what_is_theirs(Family::V6)
}

/// A VIP without services, as for a pair of databases, that is also the gateway to somewhere behind the nodes.
fn the_hosts_own_programs_get_what_is_theirs(family: Family) -> Result<()> {
    const BEHIND: [&str; 2] = ["10.99.0.1/32", "fd99::1/128"];
    let (mut site, mut config) = pair(family, 100)?;
    config.vips[0].services.clear();
    know(&site, "permanent")?;
    let behind = BEHIND[usize::from(family == Family::V6)];
    for edge in &site.lab.edges {
        edge.namespace.ip(&["addr", "add", behind, "dev", "lo"])?;
        // The strictest way to look at where packets come from.
        edge.namespace.sysctl("net/ipv4/conf/all/rp_filter", "1")?;
    }
    let client = &site.lab.client.namespace;
    client.ip(&["route", "add", behind, "via", &vip(family).to_string(), "dev", Node::DEVICE, "onlink"])?;
    let _servers =
        site.lab.edges.iter().map(|edge| Greeter::start(edge, PORT)).collect::<Result<Vec<_>>>()?;
    start(&mut site, &config)?;
    for daemon in &site.daemons {
        // A veth in native mode is the one driver that does not look again whom a frame is for.
        let warning = "eth0 is a veth in native mode";
        ensure!(daemon.ask(&["status"])?.contains(warning), "no warning");
        let text = daemon.config_text()?;
        let generic = text.replace("  - eth0\n", "  - {name: eth0, attach: generic}\n");
        ensure!(generic != text, "{text}");
        daemon.write_config_text(&generic)?;
        daemon.ask(&["reload"])?;
        let status = daemon.ask(&["status"])?;
        ensure!(!status.contains(warning), "{status}");
    }
    for edge in [0, 1] {
        if edge == 1 {
            site.daemons[0].ask(&["drain", "--node"])?;
        }
        is_at(&site, edge)?;
        is_served_by(&site, edge, vip(family)).context("the VIP")?;
        let address: IpAddr = behind.split('/').next().unwrap_or_default().parse()?;
        is_served_by(&site, edge, address).context("behind the VIP")?;
        site.lab.client.namespace.run("ping", &["-c", "1", "-W", "5", &vip(family).to_string()])?;
    }
    site.succeeded();
    Ok(())
}

/// One that does not hear the other, and so takes the VIP with its address as well. What it answers is what the other would.
#[test]
fn another_owner_of_the_same_address_is_named_by_its_adverts() -> Result<()> {
    let (mut site, config) = pair(Family::V4, 100)?;
    start(&mut site, &config)?;
    is_at(&site, 0)?;
    let mut deaf = of_edge(&config, 1);
    // With peers it is not of the group, and hears no multicast.
    deaf.vips[0].vrrp.as_mut().context("a router")?.peers = vec![edge_address(0, Family::V4)];
    site.daemons[1].reload(&deaf)?;
    site.wait_router(1, "active")?;
    ensure!(site.router(0)?.state == "active", "it gave way to a lower priority");
    let own = site.lab.edges[1].address(Family::V4);
    let line = format!("! it is also held by {} ({own}) on eth0, for ", mac(Family::V4));
    wait_for("the other to be named", LIMIT, || {
        Ok(site.daemons[0].ask(&["vip"])?.contains(&line).then_some(()))
    })?;

    site.daemons[1].reload(&of_edge(&config, 1))?;
    site.wait_router(1, "backup")?;
    wait_for("the other to be gone", LIMIT, || {
        Ok(site.daemons[0].status()?.vips[0].second_owners.is_empty().then_some(()))
    })?;
    site.succeeded();
    Ok(())
}

/// It went on as the active node, and answered nobody.
#[test]
fn a_node_whose_interface_does_not_take_the_address_leaves_the_vip_to_another() -> Result<()> {
    let (mut site, config) = pair(Family::V4, 100)?;
    // As keepalived makes it with `use_vmac`.
    let edge = &site.lab.edges[0].namespace;
    let mac = mac(Family::V4);
    let other = ["link", "add", "link", Node::DEVICE, "name", "vrrp", "address", &mac, "type", "macvlan"];
    edge.ip(&[&other[..], &["mode", "bridge"]].concat())?;
    edge.sysctl("net/ipv6/conf/vrrp/disable_ipv6", "1")?;
    edge.ip(&["link", "set", "vrrp", "up"])?;
    site.start_daemons_with(|edge| of_edge(&config, edge))?;
    is_at(&site, 1)?;
    site.wait_router(0, "initialize")?;
    let why = site.router(0)?.hindrance.unwrap_or_default();
    ensure!(why.starts_with(&format!("cannot have eth0 take frames to {mac}: ")), "{why}");
    site.succeeded();
    Ok(())
}

/// Two nodes; the first one is preferred, and neither takes the place of one that works.
fn pair(family: Family, interval_ms: u32) -> Result<(Site, ConfigFile)> {
    let options = SiteOptions { edges: 2, ..SiteOptions::new(Mode::L2, family)? };
    let mut config = options.config(&[100, 100, 200]);
    config.vips[0].ownership = Some("vrrp".to_owned());
    config.vips[0].vrrp = Some(VrrpConfig {
        router_id: ROUTER,
        interval: Some(format!("{}ms", interval_ms * patience())),
        preempt: Some("never".to_owned()),
        virtual_mac: true,
        ..VrrpConfig::default()
    });
    Ok((Site::without_daemons(options)?, config))
}

fn of_edge(config: &ConfigFile, edge: usize) -> ConfigFile {
    let mut config = config.of_edge(edge);
    for vrrp in config.vips.iter_mut().filter_map(|vip| vip.vrrp.as_mut()) {
        vrrp.priority = Some(if edge == 0 { 200 } else { 100 });
    }
    config
}

fn start(site: &mut Site, config: &ConfigFile) -> Result<()> {
    site.start_daemons_with(|edge| of_edge(config, edge))?;
    site.wait_router(0, "active")?;
    site.wait_router(1, "backup")
}

fn mac(family: Family) -> String {
    VirtualMac::new(family == Family::V4, ROUTER).to_string()
}

fn name(family: Family) -> String {
    format!("vlb-v{}-{ROUTER}", if family == Family::V4 { 4 } else { 6 })
}

/// Has the client know the VIP by its virtual MAC address.
fn know(site: &Site, state: &str) -> Result<()> {
    let (address, mac) = (vip(site.options.family).to_string(), mac(site.options.family));
    let entry = ["neigh", "replace", &address, "lladdr", &mac, "dev", Node::DEVICE, "nud", state];
    site.lab.client.namespace.ip(&entry).map(drop)
}

/// Waits until the client has found out that address itself.
fn wait_known(site: &Site) -> Result<()> {
    let (client, address) = (&site.lab.client.namespace, vip(site.options.family).to_string());
    wait_for("the client to find the VIP at its virtual MAC address", LIMIT, || {
        let _ = client.run("ping", &["-c", "1", "-W", "1", &address]);
        let neighbours: serde_json::Value =
            serde_json::from_str(&client.ip(&["-json", "neigh", "show", &address])?)?;
        Ok((neighbours[0]["lladdr"].as_str() == Some(&mac(site.options.family))).then_some(()))
    })
}

/// The device of a node that lets frames in: its index, and whether it is up.
fn device(site: &Site, edge: usize) -> Result<Option<(u64, bool)>> {
    let links = site.lab.edges[edge].namespace.ip(&["-json", "link", "show"])?;
    let links: serde_json::Value = serde_json::from_str(&links)?;
    let name = name(site.options.family);
    let link = links.as_array().and_then(|all| all.iter().find(|of| of["ifname"].as_str() == Some(&name)));
    let read = |of: &serde_json::Value| -> Result<(u64, bool)> {
        ensure!(of["address"].as_str() == Some(&mac(site.options.family)), "{of}");
        let flags = of["flags"].as_array().context("flags")?;
        let is_up = flags.iter().any(|flag| flag.as_str() == Some("UP"));
        Ok((of["ifindex"].as_u64().context("an index")?, is_up))
    };
    link.map(read).transpose()
}

/// Waits until a node has the VIP, and the other one takes nothing that is sent to it.
fn is_at(site: &Site, edge: usize) -> Result<()> {
    site.wait_router(edge, "active")?;
    is_learnt(site, edge)?;
    let mut last = None;
    wait_for("one node alone to take frames to the address", LIMIT, || {
        let up = [0, 1].map(|of| device(site, of).map(|found| found.is_some_and(|(_, is_up)| is_up)));
        let up = [up[0].as_ref().is_ok_and(|up| *up), up[1].as_ref().is_ok_and(|up| *up)];
        last = Some(up);
        Ok((up == [edge == 0, edge == 1]).then_some(()))
    })
    .with_context(|| format!("last seen as {last:?}"))?;
    let told = site.router(edge)?.virtual_mac.context("a virtual MAC address")?;
    let (address, name) = (mac(site.options.family), name(site.options.family));
    ensure!(told.admitted && told.address == address && told.device.as_deref() == Some(&name), "{told:?}");
    Ok(())
}

/// Waits until the switch knows the way to the address.
fn is_learnt(site: &Site, edge: usize) -> Result<()> {
    let learnt = format!("{} dev {} ", mac(site.options.family), site.lab.edges[edge].name);
    let mut last = String::new();
    wait_for(&format!("the switch to learn where node {} is", edge + 1), LIMIT, || {
        last = site.lab.switch.namespace().run("bridge", &["fdb", "show"])?;
        Ok(last.contains(&learnt).then_some(()))
    })
    .with_context(|| format!("no {learnt}in\n{last}"))
}

/// How often a datagram that the client sends to all comes to a program on a node.
fn broadcasts(site: &Site, edge: usize) -> Result<usize> {
    let there = site.lab.edges[edge].namespace.enter(|| UdpSocket::bind("0.0.0.0:6000"))??;
    there.set_read_timeout(Some(Duration::from_secs(1) * patience()))?;
    let here = site.lab.client.namespace.enter(|| UdpSocket::bind("0.0.0.0:0"))??;
    here.set_broadcast(true)?;
    here.send_to(b"to all", "10.77.0.255:6000")?;
    let (mut came, mut buffer) = (0, [0; 64]);
    while there.recv(&mut buffer).is_ok() {
        came += 1;
    }
    Ok(came)
}

/// Waits until the client is answered by a program on a node.
fn is_served_by(site: &Site, edge: usize, address: IpAddr) -> Result<()> {
    let target = SocketAddr::new(address, PORT);
    let mut last = None;
    wait_for(&format!("node {} to serve {target}", edge + 1), LIMIT, || {
        let found = Greeter::reached(&site.lab.client.namespace, target)?;
        let is_it = found.as_ref().is_ok_and(|name| *name == site.lab.edges[edge].name);
        last = Some(found);
        Ok(is_it.then_some(()))
    })
    .with_context(|| format!("last: {last:?}"))
}
