//! Nodes that speak with each other: they agree, or say what differs, and nobody without the secret has a say.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use vip_lb_tests::lab::{Family, Site, edge_address};

const LIMIT: Duration = Duration::from_secs(20);
const DISAGREE: i32 = 14;

/// What `peers --check` ends with, and what it prints.
fn check(site: &Site, edge: usize) -> Result<(i32, String)> {
    let (code, text, _) = site.daemons[edge].ask_code(&["peers", "--check"])?;
    Ok((code, text))
}

fn events(site: &Site, edge: usize) -> Result<String> {
    site.daemons[edge].ask(&["events"])
}

#[test]
fn nodes_agree_and_say_what_differs_until_it_does_not() -> Result<()> {
    let (mut site, config) = Site::of_peers(2)?;
    let (code, text) = check(&site, 0)?;
    ensure!(code == 0 && text.contains("edge-2  10.77.0.6") && text.contains("yes"), "{code}: {text}");
    ensure!(site.daemons[0].ask(&["status"])?.contains("edge-2  10.77.0.6"), "it is in the status");
    let secret = site.secret("secret")?;

    // A service that is otherwise on one of them.
    let mut other = site.with_peers(&config, 1, &secret);
    other.service_mut("web").idle_timeout = Some("7m".to_owned());
    other.service_mut("web").backends[0].weight = 55;
    site.daemons[1].reload(&other)?;
    ensure!(check(&site, 1)?.0 == DISAGREE, "who has another configuration knows at once that it is one");
    let what = |peering: &vip_lb_tests::lab::Peering| {
        peering.peers[0]
            .mismatches
            .iter()
            .map(|mismatch| mismatch.what.clone())
            .collect::<Vec<_>>()
            .join("; ")
    };
    let found = site.wait_peers(0, "a mismatch", |peering| peering.peers[0].agrees == Some(false))?;
    let text = what(&found);
    ensure!(
        text.starts_with("service web: idle_timeout is ")
            && text.contains(" here and 7m there")
            && text.contains("backend configured otherwise there: backend-1 (10.77.0.11)"),
        "{text}"
    );
    ensure!(found.peers[0].mismatches.len() == 1, "the other services are as they were: {text}");
    site.wait_peers(1, "a mismatch", |peering| what(peering).contains("idle_timeout is 7m here"))?;
    let (code, shown) = check(&site, 0)?;
    ensure!(code == DISAGREE && shown.contains("! edge-2 (10.77.0.6): service web: "), "{code}: {shown}");
    ensure!(site.daemons[0].ask(&["peers"])?.contains("no"), "without --check it only shows");
    site.daemons[1].reload(&site.with_peers(&config, 1, &secret))?;
    site.wait_agreement()?;
    let told = events(&site, 0)?;
    let (before, since) = told
        .split_once("peer edge-2 (10.77.0.6): service web: idle_timeout")
        .with_context(|| told.clone())?;
    for part in [before, since] {
        ensure!(part.contains("it does the same as this node"), "{told}");
    }

    // A backend that one of them cannot reach.
    let backend = &site.lab.backends[1];
    backend.swallow_answers_to(edge_address(1, Family::V4))?;
    site.wait_peers(0, "another ring", |peering| {
        what(peering).contains("the rings differ although the configuration agrees")
            && what(peering).contains("only this node's has backend-2 (10.77.0.12)")
    })?;
    backend.namespace.ip(&["route", "del", "blackhole", &format!("{}/32", edge_address(1, Family::V4))])?;
    site.wait_agreement()?;

    // One that is gone, comes back, and hands over to another process.
    site.daemons[1].kill()?;
    site.wait_peers(0, "the loss", |peering| !peering.peers[0].connected)?;
    let (code, shown) = check(&site, 0)?;
    ensure!(code == DISAGREE && shown.contains("edge-2 (10.77.0.6)"), "{code}: {shown}");
    site.daemons[1].launch()?;
    site.wait_agreement()?;
    site.daemons[1].hand_over()?;
    site.wait_agreement()?;
    site.daemons[0].hand_over()?;
    site.wait_agreement()?;
    ensure!(events(&site, 0)?.contains("peer edge-2 (10.77.0.6): lost: "), "{}", events(&site, 0)?);
    site.succeeded();
    Ok(())
}

#[test]
fn without_the_secret_nobody_is_heard() -> Result<()> {
    let (site, config) = Site::of_peers(2)?;
    let (secret, other) = (site.secret("secret")?, site.secret("other")?);

    // Another secret, which is told on both sides.
    site.daemons[1].reload(&site.with_peers(&config, 1, &other))?;
    for edge in 0..2 {
        site.wait_peers(edge, "the refusal", |peering| {
            let peer = &peering.peers[0];
            let said = [&peer.not_told, &peer.not_heard];
            said.iter().all(|why| why.as_ref().is_some_and(|why| why.contains("its secret is another one")))
        })?;
    }
    ensure!(check(&site, 0)?.0 == DISAGREE, "it is not there");
    // The same file with the right text, read again at a reload.
    fs::copy(&secret, &other)?;
    site.daemons[1].ask(&["reload"])?;
    site.wait_agreement()?;

    // A file that others may read.
    fs::set_permissions(&other, fs::Permissions::from_mode(0o644))?;
    site.daemons[1].ask(&["reload"])?;
    let found = site.wait_peers(1, "the problem", |peering| peering.problem.is_some())?;
    let problem = found.problem.context("a problem")?;
    ensure!(problem.contains("may be used by others than its owner (mode 0644)"), "{problem}");
    ensure!(site.daemons[1].status()?.warnings.contains(&problem), "it is a warning");
    site.wait_peers(0, "the loss", |peering| !peering.peers[0].connected)?;
    // It is looked at again without anybody asking for it.
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600))?;
    site.wait_agreement()?;

    // And never without one.
    let mut none = site.with_peers(&config, 1, &secret);
    let path = site.lab.scratch.path().join("invalid.yaml");
    if let Some(peering) = &mut none.node.peering {
        peering.secret_file = String::new();
    }
    fs::write(&path, none.to_yaml()?)?;
    let (code, _, error) = site.daemons[1].ask_code(&["check", &path.display().to_string()])?;
    ensure!(code == 3 && error.contains("node.peering.secret_file"), "{code}: {error}");

    // Who speaks no more says so.
    site.daemons[1].reload(&config.of_edge(1))?;
    ensure!(site.daemons[1].status()?.peering.is_none(), "it is not configured");
    let (code, _, error) = site.daemons[1].ask_code(&["peers"])?;
    ensure!(code == 1 && error.contains("no `node.peering`"), "{code}: {error}");
    site.succeeded();
    Ok(())
}

#[test]
fn strangers_change_nothing() -> Result<()> {
    let (mut site, _) = Site::of_peers(2)?;
    let node = SocketAddr::new(edge_address(0, Family::V4), Site::PEER_PORT);
    let since = site.wait_peers(0, "peers", |_| true)?.peers[0].since;

    // From an address that no peer has: not even a word is read.
    site.lab.client.namespace.enter(|| -> Result<()> {
        let mut stream = TcpStream::connect_timeout(&node, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        ensure!(stream.read(&mut [0]).unwrap_or(0) == 0, "a stranger is answered");
        Ok(())
    })??;
    // From one that a peer has: nonsense of all sorts, and connections that say nothing.
    let open = site.lab.edges[1].namespace.enter(|| -> Result<Vec<TcpStream>> {
        for number in 0..50_u32 {
            let mut stream = TcpStream::connect_timeout(&node, LIMIT)?;
            let mut nonsense = b"vip-lb/p\0\x01\x06edge-2".to_vec();
            nonsense.extend((0..2000_u32).map(|at| (at * number % 251) as u8));
            // It may hang up in the middle of it.
            let _ = stream.write_all(&nonsense[(number as usize % 12)..]);
            // It has been judged by then, and is not ended for the next ones.
            stream.set_read_timeout(Some(LIMIT))?;
            let _ = stream.read_to_end(&mut Vec::new());
        }
        (0..1000).map(|_| Ok(TcpStream::connect_timeout(&node, LIMIT)?)).collect()
    })??;
    let found = site.wait_peers(0, "the refusals", |peering| {
        let count = |why: &str| peering.refused.get(why).copied().unwrap_or(0);
        count("stranger") == 1 && count("crowd") > 900 && count("malformed") > 10
    })?;
    ensure!(found.peers[0].connected && found.peers[0].since == since, "the connection was lost: {found:?}");
    ensure!(site.daemons[0].status()?.vips[0].answering, "it serves on");
    ensure!(check(&site, 0)?.0 == 0, "they agree");

    // A peer gets in past all of them.
    site.daemons[1].kill()?;
    site.wait_peers(0, "the loss", |peering| !peering.peers[0].connected)?;
    site.daemons[1].launch()?;
    site.wait_agreement()?;
    drop(open);

    // What a node says is recorded, and said again to another one.
    site.daemons[1].kill()?;
    let recorded = record(&site, 1)?;
    site.daemons[1].launch()?;
    site.wait_agreement()?;
    let second = SocketAddr::new(edge_address(1, Family::V4), Site::PEER_PORT);
    let said = site.lab.edges[0].namespace.enter(|| -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&second, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(&recorded)?;
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        Ok(said)
    })??;
    ensure!(said.starts_with(b"vip-lb/p"), "{said:?}");
    site.wait_peers(1, "the refusal", |peering| peering.refused.get("secret") == Some(&1))?;
    ensure!(check(&site, 1)?.0 == 0, "and nothing else has happened");
    site.succeeded();
    Ok(())
}

/// In the place of a node's daemon, takes down what another node says to it: who it is, and its signature.
fn record(site: &Site, edge: usize) -> Result<Vec<u8>> {
    let address = SocketAddr::new(edge_address(edge, Family::V4), Site::PEER_PORT);
    site.lab.edges[edge].namespace.enter(|| -> Result<Vec<u8>> {
        let listener = TcpListener::bind(address)?;
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut hello = b"vip-lb/p\0\x01\x06edge-2".to_vec();
        hello.extend([7; 48]);
        stream.write_all(&hello)?;
        let mut recorded = vec![0; hello.len() + 32];
        stream.read_exact(&mut recorded)?;
        Ok(recorded)
    })?
}
