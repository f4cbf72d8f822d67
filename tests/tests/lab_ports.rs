//! A service of a range of ports.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use vip_lb_tests::lab::{EchoServer, Family, Mode, Site, SiteOptions, Transport, vip, wait_for, who_answers};

const FIRST: u16 = 8000;
const LAST: u16 = 8099;
/// Inside the range, with a service of its own.
const EXACT: u16 = 8050;

#[test]
fn a_range_answers_on_its_ports_and_an_exact_port_inside_it_goes_elsewhere_over_ipv4() -> Result<()> {
    a_range_and_an_exact_port(Mode::L2, Family::V4)
}

#[test]
fn a_range_answers_on_its_ports_and_an_exact_port_inside_it_goes_elsewhere_over_ipv6() -> Result<()> {
    a_range_and_an_exact_port(Mode::Ipip, Family::V6)
}

fn a_range_and_an_exact_port(mode: Mode, family: Family) -> Result<()> {
    let options = SiteOptions::new(mode, family)?;
    let mut config = options.config(&[100, 100, 100]);
    for (like, protocol) in [("echo", "tcp"), ("echo-udp", "udp")] {
        config.add_service(like, &format!("range-{protocol}"), FIRST..=LAST, &[0, 1]);
        config.add_service(like, &format!("exact-{protocol}"), EXACT, &[2]);
    }
    let site = Site::start(options, &config)?;
    let listened = [FIRST, FIRST + 1, EXACT - 1, EXACT, EXACT + 1, LAST, LAST + 1];
    let _servers = site
        .lab
        .backends
        .iter()
        .map(|node| EchoServer::start_on(node, &listened))
        .collect::<Result<Vec<_>>>()?;
    let from: Vec<u16> = (20_000..20_024).collect();
    let client = &site.lab.client.namespace;
    for transport in [Transport::Tcp, Transport::Udp] {
        for port in listened.into_iter().filter(|port| *port <= LAST) {
            let answers = who_answers(client, SocketAddr::from((vip(family), port)), transport, &from)?;
            let mut names: Vec<_> = answers.into_values().collect();
            names.sort_unstable();
            names.dedup();
            let expected: &[&str] = if port == EXACT { &["backend-3"] } else { &["backend-1", "backend-2"] };
            ensure!(names == expected, "{transport:?} port {port} was answered by {names:?}");
        }
    }

    let before = site.daemon().counter("unknown_service")?;
    let beyond = SocketAddr::from((vip(family), LAST + 1));
    client.enter(|| -> Result<()> {
        let socket = std::net::UdpSocket::bind(if family == Family::V4 { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.send_to(b"who\n", beyond)?;
        Ok(())
    })??;
    wait_for("the port after the range to be unknown", std::time::Duration::from_secs(5), || {
        Ok((site.daemon().counter("unknown_service")? == before + 1).then_some(()))
    })?;
    site.succeeded();
    Ok(())
}
