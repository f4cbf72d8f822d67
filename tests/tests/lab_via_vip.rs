//! What checks through the VIP find out, and checks of the backend's own address do not: each fault is made on a real backend, has to be
//! noticed, and has to be forgiven when it is mended.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{
    Daemon, Family, Mode, Namespace, Node, Site, SiteOptions, StackCounters, UdpFlow, UdpFlows,
    config::{ConfigFile, HealthConfig, MinHealthy},
    status::Backend,
    vip, wait_for,
};

const LIMIT: Duration = Duration::from_secs(15);

/// The backend that gets into trouble.
const TROUBLED: &str = "backend-1";

#[test]
fn l2_a_vip_that_is_missing_is_noticed() -> Result<()> {
    let site = start(Mode::L2, Family::V4)?;
    let backend = &site.lab.backend(TROUBLED).namespace;
    let address = format!("{}/32", vip(Family::V4));
    notices(
        &site,
        "VIP missing on the backend",
        || backend.ip(&["addr", "del", &address, "dev", "lo"]),
        || backend.ip(&["addr", "add", &address, "dev", "lo"]),
    )?;
    // A check of its own address sees nothing of that.
    let config = checked(&site, |health| health.via = Some("direct".to_owned()));
    site.daemon().reload(&config)?;
    backend.ip(&["addr", "del", &address, "dev", "lo"])?;
    stays_up(&site)?;
    site.succeeded();
    Ok(())
}

#[test]
fn l2_a_port_that_is_closed_and_a_host_that_is_gone_are_noticed() -> Result<()> {
    let mut site = start(Mode::L2, Family::V6)?;
    let began = Instant::now();
    site.kill_servers(TROUBLED);
    let down = wait(&site, "it to go down", Backend::is_removed)?;
    report("port closed", began);
    ensure!(down.health.reason.as_deref() == Some("connection refused"), "{down:?}");
    site.start_servers(TROUBLED)?;
    wait(&site, "it to return", Backend::is_in_ring)?;
    let node = site.lab.backend(TROUBLED);
    notices(&site, "host gone", || site.lab.set_cable(node, false), || site.lab.set_cable(node, true))?;
    site.succeeded();
    Ok(())
}

#[test]
fn l2_a_filter_of_the_reverse_path_that_drops_is_noticed() -> Result<()> {
    let site = start(Mode::L2, Family::V4)?;
    let backend = &site.lab.backend(TROUBLED).namespace;
    // Its own packets to the edge node leave by another device of the same segment than those of the edge node come in by.
    site.lab.switch.connect(backend, "other", "backend-1-other")?;
    let edge = &site.lab.edges[0];
    let address = edge.address(Family::V4).to_string();
    let mac = edge.namespace.ip(&["-br", "link", "show", "dev", Node::DEVICE])?;
    let mac = mac.split_whitespace().nth(2).context("the edge node's MAC address")?;
    backend.ip(&["neigh", "replace", &address, "lladdr", mac, "dev", "other", "nud", "permanent"])?;
    backend.ip(&["route", "add", &format!("{address}/32"), "dev", "other"])?;
    stays_up(&site)?;
    let filter = |strictness: &'static str| {
        move || {
            backend.sysctl("net/ipv4/conf/all/rp_filter", strictness)?;
            backend.sysctl(&format!("net/ipv4/conf/{}/rp_filter", Node::DEVICE), strictness)
        }
    };
    notices(&site, "rp_filter drops", filter("1"), filter("0"))?;
    site.succeeded();
    Ok(())
}

#[test]
fn a_service_that_listens_on_one_address_only_is_seen_as_clients_see_it() -> Result<()> {
    for mode in [Mode::L2, Mode::Ipip] {
        let site = start(mode, Family::V4)?;
        let backend = site.lab.backend(TROUBLED);
        let own = listen(&backend.namespace, backend.address(Family::V4), 81)?;
        let of_vip = listen(&backend.namespace, vip(Family::V4), 82)?;
        let ask = |port: u16, via: &str| {
            let config = checked(&site, |health| {
                health.kind = "tcp".to_owned();
                health.path = None;
                health.port = Some(port);
                health.via = Some(via.to_owned());
            });
            // The other backends listen on neither: only the troubled one is looked at.
            site.daemon().reload(&config)
        };
        ask(81, "direct")?;
        stays_up(&site)?;
        ask(81, "vip")?;
        let began = Instant::now();
        let down = wait(&site, "it to go down", Backend::is_removed)?;
        report(&format!("{mode:?}: bound only to its own address"), began);
        ensure!(down.health.reason.as_deref() == Some("connection refused"), "{down:?}");
        ask(82, "vip")?;
        wait(&site, "it to return", Backend::is_in_ring)?;
        stays_up(&site)?;
        ask(82, "direct")?;
        wait(&site, "a direct check to fail", Backend::is_removed)?;
        report(&format!("{mode:?}: bound only to the VIP, with a direct check"), began);
        drop((own, of_vip));
        site.succeeded();
    }
    Ok(())
}

#[test]
fn a_tunnel_that_nobody_unpacks_is_noticed() -> Result<()> {
    for mode in [Mode::Ipip, Mode::Gue] {
        let mut site = start(mode, Family::V6)?;
        let began = Instant::now();
        site.stop_decap(TROUBLED);
        wait(&site, "it to go down", Backend::is_removed)?;
        report(&format!("{mode:?}: decapsulation missing"), began);
        site.start_decap(TROUBLED, None)?;
        wait(&site, "it to return", Backend::is_in_ring)?;
        site.succeeded();
    }
    Ok(())
}

#[test]
fn the_node_may_have_the_vip_itself() -> Result<()> {
    for (mode, family) in [(Mode::L2, Family::V4), (Mode::Ipip, Family::V6), (Mode::Nat, Family::V4)] {
        let mut site = start(mode, family)?;
        let edge = &site.lab.edges[0].namespace;
        let length = if family == Family::V4 { 32 } else { 128 };
        edge.ip(&["addr", "add", &format!("{}/{length}", vip(family)), "dev", "lo"])?;
        edge.sysctl("net/ipv4/conf/all/rp_filter", "1")?;
        // Its probes come from the address as it was told at the start, and from then on.
        stays_up(&site)?;
        site.daemon_mut().stop()?;
        site.daemon_mut().launch()?;
        wait(&site, "it to be up after a restart", Backend::is_in_ring)?;
        stays_up(&site)?;
        let began = Instant::now();
        site.kill_servers(TROUBLED);
        wait(&site, "it to go down", Backend::is_removed)?;
        report(&format!("{mode:?}: port closed, the node has the VIP"), began);
        site.succeeded();
    }
    Ok(())
}

/// One daemon after the other has the devices that probes leave by.
#[test]
fn whoever_takes_over_goes_on_with_the_checks_through_the_vip() -> Result<()> {
    type Change = fn(&mut Daemon) -> Result<()>;
    let changes: [(&str, Change); 3] = [
        ("a hand-over", Daemon::hand_over),
        ("a restart", |daemon| {
            daemon.stop()?;
            daemon.launch()
        }),
        ("a kill", |daemon| {
            daemon.kill()?;
            daemon.launch()
        }),
    ];
    let mut site = start(Mode::L2, Family::V4)?;
    let address = format!("{}/32", vip(Family::V4));
    for (name, change) in changes {
        let told = site.daemon().log().len();
        let flows = UdpFlows::open(&site.lab.client.namespace, site.echo(), 20)?;
        change(site.daemon_mut()).context(name)?;
        stays_up(&site).context(name)?;
        let log = site.daemon().log().split_off(told);
        ensure!(!log.contains("backend is down"), "{name} took a backend out:\n{log}");
        ensure!(!log.contains("own addresses"), "{name} made checks go elsewhere:\n{log}");
        flows.exchange(3)?;
        let unharmed = |flow: &UdpFlow| flow.moved.is_none() && flow.lost == 0;
        ensure!(flows.states().iter().all(unharmed), "{name} harmed flows: {:?}", flows.states());
        drop(flows);
        // They do go through the VIP.
        let backend = &site.lab.backend(TROUBLED).namespace;
        notices(
            &site,
            &format!("VIP missing after {name}"),
            || backend.ip(&["addr", "del", &address, "dev", "lo"]),
            || backend.ip(&["addr", "add", &address, "dev", "lo"]),
        )?;
    }
    site.succeeded();
    Ok(())
}

fn start(mode: Mode, family: Family) -> Result<Site> {
    let options = SiteOptions::new(mode, family)?;
    let config = options.config(&[100, 100]);
    Site::start(options, &config)
}

/// The configuration of the site with another check.
fn checked(site: &Site, change: impl Fn(&mut HealthConfig)) -> ConfigFile {
    let mut config = site.options.config(&[100, 100]);
    for service in config.services_mut() {
        if let Some(health) = &mut service.health {
            change(health);
        }
        // What checks find is looked at here, also where they find that all are down.
        service.min_healthy = Some(MinHealthy::Count(0));
        service.max_removed = Some("100%".to_owned());
    }
    config
}

fn notices<T, U>(
    site: &Site,
    fault: &str,
    make: impl FnOnce() -> Result<T>,
    mend: impl FnOnce() -> Result<U>,
) -> Result<()> {
    let began = Instant::now();
    make()?;
    wait(site, &format!("{TROUBLED} to go down: {fault}"), Backend::is_removed)?;
    report(fault, began);
    mend()?;
    wait(site, &format!("{TROUBLED} to return: {fault}"), Backend::is_in_ring)?;
    Ok(())
}

/// What a run with `--nocapture` says.
fn report(fault: &str, began: Instant) {
    println!("noticed after {} ms: {fault}", began.elapsed().as_millis());
}

/// Several probes of each backend later it is still in the ring.
fn stays_up(site: &Site) -> Result<()> {
    let probes = || StackCounters::read(&site.lab.edges[0].namespace)?.get("TcpActiveOpens");
    let before = probes()?;
    wait_for("ten more probes", LIMIT, || Ok((probes()? >= before + 10).then_some(())))?;
    let status = site.daemon().status()?;
    let backend = status.service("web")?.backend(TROUBLED).context("the backend is gone")?.clone();
    ensure!(backend.is_in_ring() && backend.health.state == "up", "{backend:?}");
    Ok(())
}

fn wait(site: &Site, what: &str, holds: impl Fn(&Backend) -> bool) -> Result<Backend> {
    let found = site
        .daemon()
        .wait_service("web", what, LIMIT, |service| service.backend(TROUBLED).is_some_and(&holds))?;
    found.backend(TROUBLED).cloned().context("the backend is gone")
}

fn listen(namespace: &Namespace, address: IpAddr, port: u16) -> Result<TcpListener> {
    let to = SocketAddr::new(address, port);
    namespace.enter(move || TcpListener::bind(to))?.with_context(|| format!("listen on {to}"))
}
