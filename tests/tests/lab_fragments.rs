//! Datagrams that the sender's stack cuts into fragments, of which only the first has the ports.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::UdpSocket,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use vip_lb_tests::lab::{Family, Mode, Site, SiteOptions, StackCounters, patience};

const CLIENTS: usize = 24;
const ROUNDS: usize = 20;
/// Three fragments on a path of 1500 bytes.
const DATAGRAM: usize = 4000;
const LIMIT: Duration = Duration::from_secs(2);
/// Of one datagram, before it counts as unanswered.
const ATTEMPTS: usize = 3;

#[test]
fn datagrams_in_fragments_are_answered_whole_l2_over_ipv4() -> Result<()> {
    datagrams_in_fragments_are_answered_whole(Mode::L2, Family::V4)
}

#[test]
fn datagrams_in_fragments_are_answered_whole_l2_over_ipv6() -> Result<()> {
    datagrams_in_fragments_are_answered_whole(Mode::L2, Family::V6)
}

#[test]
fn datagrams_in_fragments_are_answered_whole_ipip_over_ipv4() -> Result<()> {
    datagrams_in_fragments_are_answered_whole(Mode::Ipip, Family::V4)
}

#[test]
fn datagrams_in_fragments_are_answered_whole_ipip_over_ipv6() -> Result<()> {
    datagrams_in_fragments_are_answered_whole(Mode::Ipip, Family::V6)
}

/// Many clients at once, each a flow of its own: their fragments come mixed, and all of a datagram must reach the backend of its flow, which could
/// not put it together otherwise.
fn datagrams_in_fragments_are_answered_whole(mode: Mode, family: Family) -> Result<()> {
    let options = SiteOptions::new(mode, family)?;
    let config = options.config(&[100, 100, 100]);
    let site = Site::start(options, &config)?;
    // What did not fit the tunnel in the first round stays in parts, which is no failure.
    for setting in ["net/ipv4/ipfrag_time", "net/ipv6/ip6frag_time"] {
        for node in &site.lab.backends {
            node.namespace.sysctl(setting, "600")?;
        }
    }
    let target = site.echo();
    let clients = site.lab.client.namespace.enter(|| -> Result<Vec<UdpSocket>> {
        let any = if family == Family::V4 { "0.0.0.0:0" } else { "[::]:0" };
        (0..CLIENTS)
            .map(|_| {
                let socket = UdpSocket::bind(any)?;
                socket.connect(target)?;
                socket.set_read_timeout(Some(LIMIT * patience()))?;
                Ok(socket)
            })
            .collect()
    })??;

    // The first round in a tunnel tells the client's stack what fits.
    let mut backends = vec![String::new(); CLIENTS];
    for (client, (socket, backend)) in clients.iter().zip(&mut backends).enumerate() {
        *backend = exchange(socket, &datagram(client, 0)).with_context(|| format!("client {client}"))?;
    }
    for round in 1..=ROUNDS {
        for (client, socket) in clients.iter().enumerate() {
            socket.send(&datagram(client, round))?;
        }
        for (client, socket) in clients.iter().enumerate() {
            let sent = datagram(client, round);
            let answered = match receive(socket, &sent)? {
                Some(name) => name,
                None => exchange(socket, &sent).with_context(|| format!("client {client}, round {round}"))?,
            };
            ensure!(
                answered == backends[client],
                "client {client} of {} was answered by {answered}",
                backends[client]
            );
        }
    }
    backends.sort_unstable();
    backends.dedup();
    ensure!(backends.len() == 3, "only {backends:?} answered");

    let mut whole = BTreeMap::new();
    for node in &site.lab.backends {
        let counters = StackCounters::read(&node.namespace)?;
        let ip = if family == Family::V4 { "Ip" } else { "Ip6" };
        whole.insert(&node.name, counters.get(&format!("{ip}ReasmOKs"))?);
        // Two backends with a part each would both wait in vain for the rest.
        ensure!(
            counters.get(&format!("{ip}ReasmFails"))? == 0,
            "{} could not put a datagram together",
            node.name
        );
    }
    let total: i64 = whole.values().sum();
    ensure!(total >= (CLIENTS * (ROUNDS + 1)) as i64, "{whole:?} are fewer than were answered");
    ensure!(site.daemon().counter("fragment_without_first")? == 0);
    site.succeeded();
    Ok(())
}

/// What a client says in a round; nobody else says the same.
fn datagram(client: usize, round: usize) -> Vec<u8> {
    let text = format!("client {client} round {round} ");
    text.bytes().cycle().take(DATAGRAM).collect()
}

/// Sends a datagram, again if it is lost, and returns the name of the backend that echoed it.
fn exchange(socket: &UdpSocket, sent: &[u8]) -> Result<String> {
    for _ in 0..ATTEMPTS {
        socket.send(sent)?;
        if let Some(name) = receive(socket, sent)? {
            return Ok(name);
        }
    }
    bail!("no answer to {ATTEMPTS} datagrams")
}

/// The name of the backend that echoed this datagram. Answers to earlier ones, sent twice, may still come; anything else is an error.
fn receive(socket: &UdpSocket, sent: &[u8]) -> Result<Option<String>> {
    let started = Instant::now();
    let mut buffer = vec![0; 1 << 16];
    while started.elapsed() < LIMIT * patience() {
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            // The socket hears what its stack has just learned: the datagram did not fit, the next one will.
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => return Ok(None),
            Err(error) => return Err(error).context("receive an answer"),
        };
        let space =
            buffer[..length].iter().position(|byte| *byte == b' ').context("an answer without a name")?;
        let (name, echoed) = (&buffer[..space], &buffer[space + 1..length]);
        if echoed == sent {
            return Ok(Some(String::from_utf8_lossy(name).into_owned()));
        }
        ensure!(echoed.len() == sent.len(), "{} bytes came back, not {}", echoed.len(), sent.len());
    }
    Ok(None)
}
