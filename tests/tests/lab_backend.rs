//! `vip-lb backend setup` on real hosts: it alone makes a plain machine a backend in every mode, and `--revert` leaves no trace.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use vip_lb_tests::lab::{
    BackendSetup, Daemon, Decap, Family, HttpLoad, HttpServer, Lab, LabOptions, LoadOptions, Mode, Node,
    Settings, SiteOptions, command, daemon_binary, edge_address, status::Service, vip,
};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn l2() -> Result<()> {
    makes_a_plain_machine_a_backend(Mode::L2, Family::V4)
}

#[test]
fn ipip() -> Result<()> {
    makes_a_plain_machine_a_backend(Mode::Ipip, Family::V4)
}

#[test]
fn ipip_over_ipv6() -> Result<()> {
    makes_a_plain_machine_a_backend(Mode::Ipip, Family::V6)
}

#[test]
fn gue() -> Result<()> {
    makes_a_plain_machine_a_backend(Mode::Gue, Family::V4)
}

#[test]
fn nat() -> Result<()> {
    makes_a_plain_machine_a_backend(Mode::Nat, Family::V4)
}

fn makes_a_plain_machine_a_backend(mode: Mode, family: Family) -> Result<()> {
    const BACKENDS: usize = 2;
    let mut lab = plain_lab(BACKENDS)?;
    let binary = daemon_binary()?;
    let before: Vec<Settings> =
        lab.backends.iter().map(|node| Settings::read(&node.namespace)).collect::<Result<_>>()?;
    let mut setups = Vec::new();
    for node in &mut lab.backends {
        let setup = BackendSetup::new(node, mode, &lab.scratch)?;
        let said = setup.apply()?;
        match mode {
            Mode::Nat => ensure!(said.starts_with("nothing to change\n"), "{said}"),
            _ => ensure!(said.contains(&format!("{}: added to lo\n", vip(family))), "{said}"),
        }
        let again = setup.apply()?;
        ensure!(again.starts_with("nothing to change\n"), "the second time: {again}");
        node.note_vips(mode != Mode::Nat);
        setups.push(setup);
    }
    let servers: Vec<HttpServer> =
        lab.backends.iter().map(|node| HttpServer::start(node, &lab.scratch)).collect::<Result<_>>()?;
    let options = SiteOptions { backends: BACKENDS, ..SiteOptions::new(mode, family)? };
    let mut config = options.config(&[100; BACKENDS]);
    config.vips[0].services.retain(|service| service.name == "web");
    let daemon = Daemon::start(&lab.edges[0], &lab.scratch, &binary, &config)?;
    daemon.wait_service("web", "all backends to come up", LIMIT, Service::is_complete)?;
    let target = (vip(family), HttpServer::PORT).into();
    let report = HttpLoad::run(&lab.client.namespace, LoadOptions::count(target, 200))?;
    ensure!(report.failed().count() == 0, "{:?}", report.errors());
    ensure!(report.by_backend().len() == BACKENDS, "{:?}", report.by_backend());
    daemon.succeeded();
    drop((daemon, servers));

    for ((setup, before), node) in setups.iter().zip(&before).zip(&lab.backends) {
        let said = setup.revert()?;
        ensure!((said == "nothing to put back\n") == (mode == Mode::Nat), "{said}");
        Settings::read(&node.namespace)?
            .expect(before)
            .with_context(|| format!("{} in mode {mode:?}", node.name))?;
        ensure!(!setup.pins().exists() && !setup.record().exists(), "something is left of {}", node.name);
        ensure!(setup.revert()? == "nothing to put back\n");
    }
    Ok(())
}

#[test]
fn what_was_there_before_is_there_again() -> Result<()> {
    let lab = plain_lab(1)?;
    let node = &lab.backends[0];
    let address = vip(Family::V4).to_string();
    // One VIP is there, one setting half right, one too high, and tunnels of somebody else are unpacked for another VIP.
    node.namespace.ip(&["addr", "add", &format!("{address}/32"), "dev", "lo"])?;
    node.namespace.sysctl("net/ipv4/conf/all/arp_announce", "1")?;
    node.namespace.sysctl(&format!("net/ipv4/conf/{}/arp_ignore", Node::DEVICE), "3")?;
    node.namespace.sysctl("net/ipv4/conf/all/rp_filter", "1")?;
    let decap =
        Decap::start(node, &lab.scratch, &daemon_binary()?, &[edge_address(3, Family::V4)], Some(7000))?;
    decap.allow(&["10.9.0.0/16".to_owned()], &["10.9.9.9".parse()?])?;
    let before = Settings::read(&node.namespace)?;
    let unpacked = dump(&decap)?;

    let setup = BackendSetup::new(node, Mode::Ipip, &lab.scratch)?;
    ensure!(setup.pins() == decap.pins());
    let said = setup.apply()?;
    for part in [
        "net.ipv4.conf.all.arp_announce: 1 -> 2\n",
        "net.ipv4.conf.eth0.arp_ignore: 3 -> 1\n",
        "net.ipv4.conf.eth0.rp_filter: 0 -> 2\n",
        "gue on port 7000, from 10.9.0.0/16, 10.77.0.5/32",
    ] {
        ensure!(said.contains(part), "{part}: {said}");
    }
    ensure!(!said.contains(&format!("{address}: added")), "{said}");
    ensure!(dump(&decap)? != unpacked);
    let said = setup.revert()?;
    Settings::read(&node.namespace)?.without_numbers().expect(&before.without_numbers()).context(said)?;
    ensure!(dump(&decap)? == unpacked, "unpacked is {}", dump(&decap)?);
    Ok(())
}

#[test]
fn what_somebody_else_changed_since_is_left_alone() -> Result<()> {
    let lab = plain_lab(1)?;
    let node = &lab.backends[0];
    let setup = BackendSetup::new(node, Mode::L2, &lab.scratch)?;
    setup.apply()?;
    node.namespace.sysctl("net/ipv4/conf/all/arp_ignore", "2")?;
    let said = setup.revert()?;
    ensure!(said.contains("net.ipv4.conf.all.arp_ignore: left at 2, which was set since\n"), "{said}");
    ensure!(said.contains("net.ipv4.conf.all.arp_announce: 2 -> 0\n"), "{said}");
    Ok(())
}

#[test]
fn the_commands_that_it_prints_do_the_same_as_it_does() -> Result<()> {
    let lab = plain_lab(1)?;
    let node = &lab.backends[0];
    let setup = BackendSetup::new(node, Mode::Gue, &lab.scratch)?;
    let before = Settings::read(&node.namespace)?;
    let script = setup.show()?;
    Settings::read(&node.namespace)?.expect(&before).context("it only prints")?;
    setup.shell(&script)?;
    let by_hand = Settings::read(&node.namespace)?;
    let again = setup.show()?;
    ensure!(again.lines().all(|line| line.starts_with('#')), "still to do: {again}");
    ensure!(setup.revert()? == "nothing to put back\n", "what a person did is his");
    setup.vip_lb(&["unload", "--pins", &setup.pins().display().to_string()].map(str::to_owned))?;
    for family in Family::BOTH {
        node.namespace.ip(&["addr", "del", &vip(family).to_string(), "dev", "lo"])?;
    }
    for name in ["arp_ignore", "arp_announce"] {
        node.namespace.sysctl(&format!("net/ipv4/conf/all/{name}"), "0")?;
    }

    setup.apply()?;
    Settings::read(&node.namespace)?.without_numbers().expect(&by_hand.without_numbers())?;
    setup.revert()?;
    Settings::read(&node.namespace)?.expect(&before)
}

/// Machines that know nothing of the VIPs, and one edge node.
fn plain_lab(backends: usize) -> Result<Lab> {
    Lab::new(&LabOptions { edges: 1, backends, plain: (0..backends).collect() })
}

/// The maps of a decapsulator.
fn dump(decap: &Decap) -> Result<String> {
    let maps = ["DECAP_SOURCES", "DECAP_VIPS", "SETTINGS"].map(|name| {
        let path = decap.maps().join(name).display().to_string();
        command::run("bpftool", &["map", "dump", "pinned", &path])
    });
    Ok(maps.into_iter().collect::<Result<Vec<_>>>()?.concat())
}
