//! What only mode `nat` promises: backends that know nothing, other ports, the other family, addresses and ports of this node that
//! are given out and come back.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{
    EchoServer, Family, HttpLoad, HttpServer, LoadOptions, LongConnections, Mode, Node, Site, SiteOptions,
    Transport, UdpFlows, backend_address,
    config::{ConfigFile, NatConfig, ServiceConfig, VipConfig},
    edge_address, fetch, nat_source, patience,
    status::Service,
    vip, wait_for, who_answers,
};

const LIMIT: Duration = Duration::from_secs(15);
/// A connection that both sides have closed is removed 10 s later, by a look every 3 s.
const COLLECTED: Duration = Duration::from_secs(30);
/// Services of [`every_family`]: ports that no server listens on.
const WEB: u16 = 8080;
const ECHO: u16 = 7007;
const REFUSED: u16 = 7009;

/// Backends of the same family have these ports, those of the other one the next.
fn port(first: u16, vip: Family, backends: Family) -> u16 {
    if vip == backends { first } else { first + 1 }
}

/// Both VIPs, each with services over backends of both families.
fn every_family(options: &SiteOptions) -> ConfigFile {
    let mut config = options.config(&[100, 100, 100]);
    config.node.nat = None;
    let template = config.vips[0].services[0].clone();
    let service =
        |name: &str, family: Family, backends: Family, dialled: u16, listens: u16, protocol: &str| {
            let mut service = ServiceConfig {
                name: format!("{name}-{protocol}-{family:?}-to-{backends:?}"),
                port: port(dialled, family, backends).into(),
                protocol: protocol.to_owned(),
                ..template.clone()
            };
            for (index, backend) in service.backends.iter_mut().enumerate() {
                backend.address = backend_address(index, backends);
                backend.port = Some(listens);
            }
            service
        };
    let services = |family| {
        let pairs = Family::BOTH.map(|backends| (family, backends));
        pairs.into_iter().flat_map(|(family, backends)| {
            [
                service("web", family, backends, WEB, HttpServer::PORT, "tcp"),
                service("echo", family, backends, ECHO, EchoServer::PORT, "tcp"),
                service("echo", family, backends, ECHO, EchoServer::PORT, "udp"),
                service("refused", family, backends, REFUSED, REFUSED, "udp"),
            ]
        })
    };
    config.vips = Family::BOTH
        .map(|family| VipConfig {
            address: vip(family),
            ownership: None,
            vrrp: None,
            route: None,
            prefix_length: None,
            services: services(family).collect(),
        })
        .into();
    config
}

#[test]
fn either_family_reaches_either_family_at_another_port() -> Result<()> {
    let options = SiteOptions::new(Mode::Nat, Family::V4)?;
    let config = every_family(&options);
    let site = Site::start(options, &config)?;
    let client = &site.lab.client.namespace;
    for backend in &site.lab.backends {
        let held = backend.namespace.ip(&["addr", "show"])?;
        for family in Family::BOTH {
            ensure!(!held.contains(&vip(family).to_string()), "{} holds a VIP: {held}", backend.name);
        }
    }
    for (family, backends) in PAIRS {
        let name = format!("{family:?} to {backends:?}");
        let at = |first| SocketAddr::from((vip(family), port(first, family, backends)));
        let report = HttpLoad::run(client, LoadOptions::count(at(WEB), 300))?;
        ensure!(report.failed().count() == 0, "{name}: {:?}", report.errors());
        ensure!(report.by_backend().len() == 3, "{name}: {:?}", report.by_backend());

        let connections = LongConnections::open(client, at(ECHO), 24)?;
        ensure!(connections.by_backend().len() == 3, "{name}: {:?}", connections.by_backend());
        let peers = peers(&site)?;
        let node = edge_address(0, backends);
        ensure!(
            peers.iter().all(|(_, peer)| peer.ip() == node && peer.port() >= 61_000),
            "{name}: the backends' connections are with {peers:?}"
        );
        ensure!(peers.len() == 24, "{name}: {peers:?}");
        drop(connections);

        let flows = UdpFlows::open(client, at(ECHO), 24)?;
        flows.exchange(3)?;
        ensure!(flows.by_backend().len() == 3, "{name}: {:?}", flows.by_backend());
        ensure!(flows.moved().is_empty(), "{name}: {:?}", flows.moved());
        drop(flows);
        closed(&site)?;

        // The backend's ICMP error becomes one of the client's family.
        let socket = client.enter(|| asked(at(REFUSED)))??;
        let error = socket.recv(&mut [0; 16]).err().map(|error| error.kind());
        ensure!(
            error == Some(io::ErrorKind::ConnectionRefused),
            "{name}: a port without a server: {error:?}"
        );
    }
    let daemon = site.daemon();
    ensure!(daemon.counter("forwarded_nat")? > 0 && daemon.counter("translated_reply")? > 0);
    site.succeeded();
    Ok(())
}

/// VIP and backends.
const PAIRS: [(Family, Family); 4] =
    [(Family::V4, Family::V4), (Family::V4, Family::V6), (Family::V6, Family::V4), (Family::V6, Family::V6)];

#[test]
fn two_vips_share_backends() -> Result<()> {
    let options = SiteOptions::new(Mode::Nat, Family::V4)?;
    let mut config = options.config(&[100, 100, 100]);
    let second = IpAddr::from(Ipv4Addr::new(10, 77, 1, 2));
    let mut services = config.vips[0].services.clone();
    services.iter_mut().for_each(|service| service.name.push_str("-2"));
    config.vips.push(VipConfig {
        address: second,
        ownership: None,
        vrrp: None,
        route: None,
        prefix_length: None,
        services,
    });
    let site = Site::start(options, &config)?;
    let client = &site.lab.client.namespace;
    client.ip(&["route", "add", &format!("{second}/32"), "dev", Node::DEVICE])?;
    let echoes = [site.echo(), SocketAddr::from((second, EchoServer::PORT))];

    let held = echoes.map(|echo| LongConnections::open(client, echo, 24));
    // The same socket asks both, so that but for the VIP all is the same.
    for port in 20_000..20_050 {
        let answers = client.enter(|| ask_both(port, &echoes))??;
        ensure!(answers.iter().map(|(from, _)| *from).eq(echoes), "{answers:?} for {echoes:?}");
        ensure!(
            answers.iter().enumerate().all(|(number, (_, text))| text.ends_with(&format!(" {number}"))),
            "{answers:?}"
        );
    }
    let ports: Vec<u16> = (21_000..21_050).collect();
    for echo in echoes {
        ensure!(who_answers(client, echo, Transport::Tcp, &ports)?.len() == ports.len());
    }
    for held in held {
        let held = held?;
        ensure!(held.by_backend().len() == 3, "{:?}", held.by_backend());
        held.exchange(3)?;
        ensure!(held.broken().is_empty(), "{:?}", held.broken());
    }
    site.succeeded();
    Ok(())
}

/// In the other modes it would talk to itself, because it has the VIP.
#[test]
fn a_backend_may_be_a_client_even_its_own() -> Result<()> {
    let options = SiteOptions::new(Mode::Nat, Family::V4)?;
    let config = options.config(&[100, 100, 100]);
    let site = Site::start(options, &config)?;
    let client = &site.lab.backends[0].namespace;
    client.ip(&["route", "add", &format!("{}/32", vip(Family::V4)), "dev", Node::DEVICE])?;
    let report = HttpLoad::run(client, LoadOptions::count(site.web(), 200))?;
    ensure!(report.failed().count() == 0, "{:?}", report.errors());
    ensure!(report.by_backend().len() == 3, "{:?}", report.by_backend());
    site.succeeded();
    Ok(())
}

/// Sends its number to each from one port, and returns what came from where, in the order of the questions.
fn ask_both(port: u16, echoes: &[SocketAddr]) -> Result<Vec<(SocketAddr, String)>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    socket.set_read_timeout(Some(Duration::from_secs(2) * patience()))?;
    let mut buffer = [0; 512];
    let mut answers = Vec::new();
    for (number, echo) in echoes.iter().enumerate() {
        socket.send_to(number.to_string().as_bytes(), echo)?;
        let (length, from) = socket.recv_from(&mut buffer).with_context(|| format!("no answer of {echo}"))?;
        answers.push((from, String::from_utf8_lossy(&buffer[..length]).into_owned()));
    }
    Ok(answers)
}

/// A backend serves as many connections at a time as there are ports. Those that found one know nothing of those that did not, also
/// while the backend is drained, and once they have ended the ports serve others.
#[test]
fn ports_run_out_and_come_back() -> Result<()> {
    const PORTS: usize = 4;
    let options = SiteOptions { backends: 1, ..SiteOptions::new(Mode::Nat, Family::V4)? };
    let mut config = options.config(&[100]);
    config.node.nat = Some(NatConfig { ports: Some("61000-61003".to_owned()), ..NatConfig::default() });
    ask_directly(&mut config);
    let site = Site::start(options, &config)?;
    let (client, daemon) = (&site.lab.client.namespace, site.daemon());
    let connections = LongConnections::open(client, site.echo(), PORTS)?;
    let before = daemon.counter("nat_exhausted")?;
    ensure!(before == 0, "{before} packets found no port, of {PORTS} connections");
    let echo = site.echo();
    let further = client.enter(|| TcpStream::connect_timeout(&echo, Duration::from_secs(1)))?;
    ensure!(further.is_err(), "connection {} has a port: {further:?}", PORTS + 1);
    ensure!(daemon.counter("nat_exhausted")? > 0, "no port is left, but nothing was counted");
    // Another port of the backend and another protocol have them all to themselves.
    fetch(client, site.web(), "/")?;
    let flows = UdpFlows::open(client, site.echo(), PORTS)?;
    flows.exchange(2)?;
    connections.exchange(3)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());

    daemon.ask(&["drain", "echo/backend-1"])?;
    let drained = wait(&site, "echo", "the drain", |service| service.backends[0].ring_slots == 0)?;
    let backend = &drained.backends[0];
    ensure!(backend.forwarding.state == "draining" && backend.nat_connections == 4, "{backend:?}");
    let said = daemon.ask(&["status"])?;
    ensure!(said.contains("backend-1 has 4 translated connections"), "{said}");
    connections.exchange(3)?;
    ensure!(connections.broken().is_empty(), "a drain broke {:?}", connections.broken());

    drop(connections);
    drop(flows);
    wait_for("the entries to be removed", COLLECTED, || {
        let status = daemon.status()?;
        let echo = status.service("echo")?.backends[0].nat_connections;
        Ok((echo == 0).then_some(()))
    })?;
    daemon.ask(&["undrain", "echo/backend-1"])?;
    wait(&site, "echo", "the return", Service::is_complete)?;
    let others = LongConnections::open(client, site.echo(), PORTS)?;
    others.exchange(3)?;
    ensure!(others.broken().is_empty(), "{:?}", others.broken());
    site.succeeded();
    Ok(())
}

/// The ports of probes through the VIP run out like those of clients, and no backend is down for that.
#[test]
fn backends_are_up_while_probes_have_no_port() -> Result<()> {
    let options = SiteOptions { backends: 1, ..SiteOptions::new(Mode::Nat, Family::V4)? };
    let mut config = options.config(&[100]);
    config.node.nat = Some(NatConfig { ports: Some("61000-61003".to_owned()), ..NatConfig::default() });
    let site = Site::start(options, &config)?;
    let daemon = site.daemon();
    // Four ports last for four probes, and are free again ten seconds later. Three failures in a row would take the backend out.
    let exhausted = || Ok((daemon.counter("nat_exhausted")? >= 4).then_some(()));
    wait_for("probes to find no port", Duration::from_secs(60), exhausted)?;
    let status = daemon.status()?;
    let backend = &status.service("web")?.backends[0];
    ensure!(backend.health.state == "up" && backend.is_in_ring(), "{backend:?}");
    ensure!(!daemon.log().contains("backend is down"), "{}", daemon.log());
    site.succeeded();
    Ok(())
}

/// Connections that were closed, such as were reset, and flows that fell silent.
#[test]
fn nothing_is_left_of_connections_that_have_ended() -> Result<()> {
    let options = SiteOptions::new(Mode::Nat, Family::V6)?;
    let mut config = options.config(&[100, 100, 100]);
    config.service_mut("echo-udp").idle_timeout = Some("2s".to_owned());
    ask_directly(&mut config);
    let mut site = Site::start(options, &config)?;
    let client = &site.lab.client.namespace;
    let report = HttpLoad::run(client, LoadOptions::count(site.web(), 300))?;
    ensure!(report.failed().count() == 0, "{:?}", report.errors());
    drop(UdpFlows::open(client, site.echo(), 100)?);
    let ports: Vec<u16> = (20_000..20_100).collect();
    who_answers(client, site.echo(), Transport::Tcp, &ports)?;
    let lasting = LongConnections::open(client, site.echo(), 6)?;
    let flows = UdpFlows::open(client, site.echo(), 4)?;
    let entries = |site: &Site| -> Result<[u64; 2]> {
        let status = site.daemon().status()?;
        Ok([status.entries("NAT_FLOWS")?, status.entries("NAT_REPLIES")?])
    };
    let many = entries(&site)?;
    ensure!(many.iter().all(|count| *count >= 500), "{many:?}");
    // Another daemon finds what the former one left.
    site.daemon_mut().kill()?;
    site.daemon_mut().launch()?;
    wait_for("all entries but those of open connections to be removed", COLLECTED, || {
        Ok((entries(&site)? == [10, 10]).then_some(()))
    })
    .with_context(|| format!("there are {:?}", entries(&site)))?;
    lasting.exchange(3)?;
    flows.exchange(3)?;
    ensure!(flows.moved().is_empty(), "{:?}", flows.moved());
    ensure!(lasting.broken().is_empty(), "{:?}", lasting.broken());
    site.succeeded();
    Ok(())
}

/// No host has the addresses that translated packets leave with: the program answers for them, also without a daemon.
#[test]
fn an_address_of_its_own_is_answered_for() -> Result<()> {
    let options = SiteOptions::new(Mode::Nat, Family::V4)?;
    let mut config = every_family(&options);
    config.node.nat = Some(NatConfig::address_of_its_own(0));
    let mut site = Site::start(options, &config)?;
    let own = site.lab.edges[0].namespace.ip(&["-json", "addr", "show", "dev", Node::DEVICE])?;
    let links: serde_json::Value = serde_json::from_str(&own)?;
    let mac = links[0]["address"].as_str().context("the edge's MAC address")?.to_owned();
    for family in Family::BOTH {
        let source = nat_source(0, family);
        ensure!(!own.contains(&format!("\"{source}\"")), "the edge node has {source}: {own}");
        let echo = SocketAddr::from((vip(family), ECHO));
        let connections = LongConnections::open(&site.lab.client.namespace, echo, 24)?;
        let peers = peers(&site)?;
        ensure!(peers.len() == 24 && peers.iter().all(|(_, peer)| peer.ip() == source), "{peers:?}");
        for daemon_runs in [true, false] {
            if !daemon_runs {
                site.daemon_mut().kill()?;
            }
            for backend in &site.lab.backends {
                backend.namespace.ip(&["neigh", "flush", "dev", Node::DEVICE])?;
            }
            connections.exchange(3)?;
            for backend in &site.lab.backends {
                let known = backend.namespace.ip(&["neigh", "show", &source.to_string()])?;
                ensure!(known.contains(&mac), "{} knows {source} as {known:?}, not at {mac}", backend.name);
            }
        }
        site.daemon_mut().launch()?;
        connections.exchange(3)?;
        ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
        drop(connections);
        closed(&site)?;
    }
    site.succeeded();
    Ok(())
}

/// The backends and the other ends of the echo connections that their kernels have. Connections to
/// two backends may come from the same port.
fn peers(site: &Site) -> Result<BTreeSet<(&str, SocketAddr)>> {
    let mut peers = BTreeSet::new();
    for backend in &site.lab.backends {
        let filter = format!("sport = :{}", EchoServer::PORT);
        let lines = backend.namespace.run("ss", &["-Htn", "state", "established", &filter])?;
        for line in lines.lines() {
            let peer = line.split_whitespace().nth(3).with_context(|| format!("read `{line}` of ss"))?;
            let peer = peer.parse().with_context(|| format!("read `{peer}` of ss"))?;
            peers.insert((backend.name.as_str(), peer));
        }
    }
    Ok(peers)
}

/// Waits until the backends' kernels have no echo connection any more.
fn closed(site: &Site) -> Result<()> {
    wait_for("the backends' connections to be closed", LIMIT, || Ok(peers(site)?.is_empty().then_some(())))
}

/// A socket that has sent a datagram, and hears what ICMP says of it.
fn asked(target: SocketAddr) -> io::Result<UdpSocket> {
    let any =
        if target.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(2) * patience()))?;
    socket.connect(target)?;
    socket.send(b"is there anybody")?;
    Ok(socket)
}

fn wait(site: &Site, service: &str, what: &str, holds: impl FnMut(&Service) -> bool) -> Result<Service> {
    site.daemon().wait_service(service, what, LIMIT, holds)
}

/// Probes through the VIP are connections as well, and go on.
fn ask_directly(config: &mut ConfigFile) {
    for health in config.services_mut().filter_map(|service| service.health.as_mut()) {
        health.via = Some("direct".to_owned());
    }
}
