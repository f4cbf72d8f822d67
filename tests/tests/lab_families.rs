//! What crosses the address families in mode `nat` besides whole packets: ICMP errors of routers with smaller MTUs on either side of the node,
//! and datagrams in fragments.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use vip_lb_tests::lab::{
    Family, FarHost, HttpServer, Mode, Site, SiteOptions, Transfer,
    config::{BackendConfig, ConfigFile, HealthConfig, NatConfig, ServiceConfig},
    learned_mtu, nat_source, patience, vip,
};

/// What the link behind the router takes.
const NARROW_MTU: u32 = 1400;
/// By which IPv6 packets are larger.
const DIFFERENCE: u32 = 20;
/// Of a fragment header.
const FRAGMENT_HEADER: u32 = 8;
const FILE: usize = 2 << 20;
/// Three fragments on a path of 1500 bytes.
const DATAGRAM: usize = 4000;
const ROUNDS: u8 = 10;
/// Of one datagram, of which the first ones may be lost to every narrow place there and back.
const ATTEMPTS: u32 = 8;
const LIMIT: Duration = Duration::from_secs(10);
/// The far server's port, and the one that it is checked at.
const PORT: u16 = 7011;
const CHECKED_PORT: u16 = 7012;

fn other(family: Family) -> Family {
    if family == Family::V4 { Family::V6 } else { Family::V4 }
}

#[test]
fn a_router_near_an_ipv4_client_is_heard_by_an_ipv6_backend() -> Result<()> {
    a_router_near_the_client_is_heard_by_the_backend(Family::V4, NARROW_MTU + DIFFERENCE)
}

#[test]
fn a_router_near_an_ipv6_client_is_heard_by_an_ipv4_backend() -> Result<()> {
    a_router_near_the_client_is_heard_by_the_backend(Family::V6, NARROW_MTU - DIFFERENCE)
}

#[test]
fn a_router_near_an_ipv6_backend_is_heard_by_an_ipv4_client() -> Result<()> {
    let told = Told { stream: NARROW_MTU - DIFFERENCE, fragments: NARROW_MTU - DIFFERENCE - FRAGMENT_HEADER };
    a_router_near_the_backend_is_heard_by_the_client(Family::V4, told)
}

#[test]
fn a_router_near_an_ipv4_backend_is_heard_by_an_ipv6_client() -> Result<()> {
    // What IPv6 clients have fragmented, IPv4 routers may fragment further: they need not be told.
    let told = Told { stream: NARROW_MTU + DIFFERENCE, fragments: NARROW_MTU + DIFFERENCE };
    a_router_near_the_backend_is_heard_by_the_client(Family::V6, told)
}

/// One backend of the family that the VIP is not of.
fn across(family: Family) -> Result<(SiteOptions, ConfigFile)> {
    let options = SiteOptions { backends: 1, ..SiteOptions::new(Mode::Nat, family)? };
    let backends = SiteOptions { family: other(family), ..options.clone() };
    let mut config = options.config(&[100]);
    config.node.nat = Some(NatConfig::address_of_its_own(0));
    for service in &mut config.vips[0].services {
        service.backends = vec![backends.backend(0, 100)];
    }
    Ok((options, config))
}

/// The client's router takes less than the segment does. What the backend sends becomes a packet of the client's family, the router's ICMP error
/// about it one of the backend's.
fn a_router_near_the_client_is_heard_by_the_backend(family: Family, told: u32) -> Result<()> {
    let (options, config) = across(family)?;
    let site = Site::start(options, &config)?;
    let backend = &site.lab.backends[0];
    let client = FarHost::behind(&site.lab.client, &site.lab, NARROW_MTU)?;
    let transfer = Transfer::new(&site.lab.scratch, FILE)?;
    let server: &HttpServer = site.http_server(&backend.name)?;
    fs::write(server.files().join("file"), transfer.bytes()).context("give the server the file")?;
    transfer.download(&client.namespace, site.web(), "file")?;
    let learned = learned_mtu(&backend.namespace, nat_source(0, other(family)))?;
    ensure!(learned == Some(told), "the backend has learned {learned:?}, not {told}");
    ensure!(site.daemon().counter("nat_untranslatable")? == 0);

    // That it was these errors: without them the file does not arrive.
    let mut deaf = config.clone();
    deaf.service_mut("web").icmp_rate = Some(0);
    site.daemon().reload(&deaf)?;
    for protocol in ["-4", "-6"] {
        backend.namespace.ip(&[protocol, "route", "flush", "cache"])?;
    }
    ensure!(
        transfer.download_stalls(&client.namespace, site.web(), "file", 2)?,
        "the file arrived without any error"
    );
    site.succeeded();
    Ok(())
}

/// MTUs that the client has learned in the end.
#[derive(Clone, Copy)]
struct Told {
    /// By a TCP connection.
    stream: u32,
    /// By datagrams in fragments.
    fragments: u32,
}

/// The backend is behind a router that takes less than the segment does.
fn a_router_near_the_backend_is_heard_by_the_client(family: Family, told: Told) -> Result<()> {
    let (options, mut config) = across(family)?;
    let far = FarHost::address(other(family));
    let template = config.vips[0].services[0].clone();
    let service = |protocol: &str| ServiceConfig {
        name: format!("far-{protocol}"),
        port: PORT.into(),
        protocol: protocol.to_owned(),
        health: template.health.clone().map(|check| HealthConfig {
            kind: "tcp".to_owned(),
            path: None,
            port: Some(CHECKED_PORT),
            ..check
        }),
        backends: template.backends.iter().map(|one| BackendConfig { address: far, ..one.clone() }).collect(),
        ..template.clone()
    };
    config.vips[0].services = vec![service("tcp"), service("udp")];
    let mut site = Site::without_daemons(options)?;
    let server = FarHost::behind(&site.lab.backends[0], &site.lab, NARROW_MTU)?;
    // The kernel takes the connections of the checks; nobody asks for them.
    let _checked = server.namespace.enter(|| TcpListener::bind((far, CHECKED_PORT)))??;
    site.start_daemons(&config)?;
    let client = &site.lab.client.namespace;
    let target = SocketAddr::from((vip(family), PORT));
    let learned = || learned_mtu(client, target.ip());
    let sent: Vec<u8> = (0..FILE).map(|at| (at * at / 7) as u8).collect();
    let listener = server.namespace.enter(|| TcpListener::bind((far, PORT)))??;
    let received = thread::spawn(move || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        listener.accept()?.0.read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let mut stream = client.enter(|| TcpStream::connect_timeout(&target, LIMIT * patience()))??;
    stream.set_write_timeout(Some(LIMIT * patience()))?;
    stream.write_all(&sent).context("upload")?;
    stream.shutdown(Shutdown::Write)?;
    // The server closes once it has everything.
    stream.set_read_timeout(Some(LIMIT * patience()))?;
    let more = stream.read(&mut [0; 1]).context("wait for the server to close")?;
    ensure!(more == 0, "the server says something");
    let received = received.join().expect("no panic")?;
    ensure!(received == sent, "{} bytes came, and not those that were sent", received.len());
    ensure!(learned()? == Some(told.stream), "the client has learned {:?}, not {}", learned()?, told.stream);

    let socket = server.namespace.enter(|| UdpSocket::bind((far, PORT)))??;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let asker = client.enter(|| datagrams_to(target))??;
    for round in 0..ROUNDS {
        exchange(&socket, &asker, round).with_context(|| format!("round {round}"))?;
    }
    ensure!(
        learned()? == Some(told.fragments),
        "the client has learned {:?}, not {}",
        learned()?,
        told.fragments
    );
    let daemon = site.daemon();
    ensure!(daemon.counter("nat_untranslatable")? == 0);
    ensure!(daemon.counter("fragment_without_first")? == 0);
    site.succeeded();
    Ok(())
}

fn datagrams_to(target: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket)
}

/// Sends a datagram until it has arrived whole and come back whole: each size that does not fit costs one.
fn exchange(server: &UdpSocket, client: &UdpSocket, round: u8) -> Result<()> {
    let sent: Vec<u8> = (0..DATAGRAM).map(|at| (at / 8) as u8 ^ round).collect();
    let started = Instant::now();
    let mut buffer = vec![0; 1 << 16];
    for _ in 0..ATTEMPTS * patience() {
        // It may tell what its stack has just learned instead.
        told(client.send(&sent).map(drop))?;
        let Some((length, from)) = heard(server.recv_from(&mut buffer))? else {
            continue;
        };
        if buffer[..length] != sent {
            continue;
        }
        told(server.send_to(&buffer[..length], from).map(drop))?;
        if let Some(length) = heard(client.recv(&mut buffer))?
            && buffer[..length] == sent
        {
            return Ok(());
        }
    }
    bail!("no answer in {ATTEMPTS} attempts and {:?}", started.elapsed())
}

/// Nothing within the time, or news of the path, is no failure.
fn heard<T>(result: std::io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => Ok(None),
        Err(error) => Err(error).context("receive a datagram"),
    }
}

fn told(result: std::io::Result<()>) -> Result<()> {
    heard(result).map(drop).context("send a datagram")
}
