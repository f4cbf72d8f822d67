//! Clients and backends in VLANs: the tag of a packet is added, changed or removed, as the route of its backend needs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{
    Decap, EchoServer, Family, Mode, Node, Site, SiteOptions, Transport,
    config::{ConfigFile, Ports},
    vip, who_answers,
};

/// Backends of the services at these ports are in [`BACKEND_VLAN`].
const L2_TAGGED: u16 = 8;
const IPIP_TAGGED: u16 = 9;
const BACKEND_VLAN: u8 = 100;
const CLIENT_VLAN: u8 = 200;
/// Connections for each case, enough that each of two backends gets one, but once in 30000 runs.
const QUESTIONS: u16 = 16;

#[test]
#[ignore = "needs VLAN devices: `cargo xtask kernels` runs it where there are some"]
fn tags_are_added_changed_and_removed() -> Result<()> {
    let options = SiteOptions { backends: 2, ..SiteOptions::new(Mode::L2, Family::V4)? };
    let mut site = Site::without_daemons(options)?;
    let lab = &site.lab;
    add_vlan(&lab.edges[0], BACKEND_VLAN, 5)?;
    add_vlan(&lab.client, CLIENT_VLAN, 2)?;
    for (index, node) in (11..).zip(&lab.backends) {
        add_vlan(node, BACKEND_VLAN, index)?;
        // The way back to clients of the other VLAN, which the backends are not in: a tag that stays on is not accepted.
        let (network, via) =
            (format!("{}/24", host(CLIENT_VLAN, 0)), lab.client.address(Family::V4).to_string());
        node.namespace.ip(&["route", "add", &network, "via", &via])?;
    }
    let edge = [IpAddr::from(host(BACKEND_VLAN, 5))];
    let _decaps = lab
        .backends
        .iter()
        .map(|node| Decap::start(node, &lab.scratch, &site.options.binary, &edge, None))
        .collect::<Result<Vec<_>>>()?;
    let _servers = lab
        .backends
        .iter()
        .map(|node| EchoServer::start_on(node, &[L2_TAGGED, IPIP_TAGGED]))
        .collect::<Result<Vec<_>>>()?;
    site.start_daemons(&configuration(&site.options))?;

    every_service_answers(&site, Node::DEVICE)?;
    every_service_answers(&site, &device(CLIENT_VLAN))?;
    site.succeeded();
    Ok(())
}

/// The services of every site, whose backends have no tag, and the same for backends in a VLAN in two modes.
fn configuration(options: &SiteOptions) -> ConfigFile {
    let mut config = options.config(&[100, 100]);
    for (like, protocol) in [("echo", "tcp"), ("echo-udp", "udp")] {
        for (port, mode) in [(L2_TAGGED, Mode::L2), (IPIP_TAGGED, Mode::Ipip)] {
            let name = format!("tagged-{port}-{protocol}");
            config.add_service(like, &name, Ports::One(port), &[0, 1]);
            let service = config.service_mut(&name);
            service.mode = mode;
            for (index, backend) in (11..).zip(&mut service.backends) {
                backend.address = host(BACKEND_VLAN, index).into();
            }
        }
    }
    config
}

/// Asks every service, over TCP and UDP, from a client on one of its devices.
fn every_service_answers(site: &Site, from: &str) -> Result<()> {
    let client = &site.lab.client.namespace;
    let address = vip(Family::V4);
    client.ip(&["route", "replace", &format!("{address}/32"), "dev", from])?;
    let first = if from == Node::DEVICE { 20_000 } else { 21_000 };
    let ports: Vec<u16> = (first..first + QUESTIONS).collect();
    let cases =
        [(EchoServer::PORT, "forwarded_l2"), (L2_TAGGED, "forwarded_l2"), (IPIP_TAGGED, "forwarded_ipip")];
    for transport in [Transport::Tcp, Transport::Udp] {
        for (port, verdict) in cases {
            let case = format!("from {from} to port {port}");
            let before = site.daemon().counter(verdict)?;
            let answers = who_answers(client, SocketAddr::new(address, port), transport, &ports)
                .context(case.clone())?;
            let mut names: Vec<_> = answers.into_values().collect();
            names.sort_unstable();
            names.dedup();
            ensure!(names == ["backend-1", "backend-2"], "{case} {transport:?} was answered by {names:?}");
            let forwarded = site.daemon().counter(verdict)? - before;
            ensure!(forwarded >= u64::from(QUESTIONS), "{case}: only {forwarded} packets were {verdict}");
        }
    }
    Ok(())
}

/// Gives a node a device of a VLAN, and there the address 10.77.VLAN.HOST. It has a MAC address of its own, so that a frame to it is not accepted
/// without the tag.
fn add_vlan(node: &Node, vlan: u8, number: u8) -> Result<()> {
    let name = device(vlan);
    let namespace = &node.namespace;
    let id = vlan.to_string();
    namespace.ip(&["link", "add", &name, "link", Node::DEVICE, "type", "vlan", "id", &id])?;
    namespace.ip(&["link", "set", &name, "address", &format!("02:00:0a:4d:{vlan:02x}:{number:02x}")])?;
    namespace.ip(&["addr", "add", &format!("{}/24", host(vlan, number)), "dev", &name])?;
    namespace.ip(&["link", "set", &name, "up"])?;
    Ok(())
}

fn device(vlan: u8) -> String {
    format!("{}.{vlan}", Node::DEVICE)
}

fn host(vlan: u8, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, vlan, number)
}
