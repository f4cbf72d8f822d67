//! Packets that get lost or come late on the way are no failure of a backend.

use std::time::Duration;

use anyhow::{Result, ensure};
use xtask::figures::Figure;

use super::{
    SERVICE, endure,
    moments::{Change, Moment, changes},
    start_with_usual_checks,
};
use crate::lab::{Jitter, NewConnections, Site, StackCounters, patience, status::Status};

/// Of ten thousand packets that a node sends.
const LOST: u32 = 100;
/// Clients that come in a second, to a backend each: what becomes of them is looked at, too.
const CLIENTS: u32 = 100;
/// By so much at most a packet is late, in each direction, beside others that are not.
const JITTER: Duration = Duration::from_millis(100);

/// `health.false_removals`: how many backends left the ring while every hundredth packet in each direction was lost, of clients and of checks, and
/// then while each took another time. What clients meet counts as evidence (`passive: on`).
///
/// # Errors
///
/// A lab cannot be built, or no packet was lost or late.
pub fn losses(time: Duration, tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let removals = under_loss(time, tell)? + under_jitter(time, tell)?;
    Ok(vec![Figure::new("health.false_removals", removals as f64, "removals").aim("== 0")?])
}

fn under_loss(time: Duration, tell: &mut dyn FnMut(&str)) -> Result<usize> {
    let site = start_with_usual_checks()?;
    let edge = &site.lab.edges[0];
    for node in site.lab.backends.iter().chain([edge]) {
        site.lab.switch.lose(&node.name, LOST)?;
    }
    let resent = || StackCounters::read(&edge.namespace)?.get("TcpRetransSegs");
    let (began, before) = (Moment::now()?, resent()?);
    let clients = clients(&site)?;
    endure(time, || Ok(()))?;
    let resent = resent()? - before;
    let clients = served(&clients)?;
    let removals = changes(&site, Change::Removal, began)?.len();
    tell(&format!(
        "1 % lost for {time:?}: {removals} removals; checks sent {resent} segments again; {clients}"
    ));
    // Of fewer than some hundred packets none may be among the lost.
    ensure!(resent > 0 || time < Duration::from_secs(60), "no packet was lost");
    site.succeeded();
    Ok(removals)
}

fn under_jitter(time: Duration, tell: &mut dyn FnMut(&str)) -> Result<usize> {
    let site = start_with_usual_checks()?;
    let wires = site.lab.backends.iter().map(|node| Jitter::between(&site.lab.switch, &node.name, JITTER));
    let wires = wires.collect::<Result<Vec<_>>>()?;
    let began = Moment::now()?;
    let clients = clients(&site)?;
    endure(time, || Ok(()))?;
    let clients = served(&clients)?;
    let removals = changes(&site, Change::Removal, began)?.len();
    let status: Status = site.daemon().status()?;
    let probes = status.service(SERVICE)?.backends.iter().filter_map(|backend| backend.health.probe);
    let slow = probes.map(|probe| probe.p99_ms).fold(0.0, f64::max);
    let delayed: u64 = wires.iter().map(Jitter::delayed).sum();
    tell(&format!(
        "up to {JITTER:?} late in each direction for {time:?}: {removals} removals; {delayed} frames, p99 of the checks {slow} ms; {clients}"
    ));
    ensure!(
        delayed > 0 && slow > JITTER.as_secs_f64() * 1000.0 / 2.0,
        "checks were not late: {delayed} frames, p99 {slow} ms"
    );
    site.succeeded();
    Ok(removals)
}

fn clients(site: &Site) -> Result<NewConnections> {
    NewConnections::start(&site.lab.client.namespace, None, site.echo(), CLIENTS / patience())
}

/// How many were served, of the many that there must have been.
fn served(clients: &NewConnections) -> Result<String> {
    let (answered, failed) = (clients.answered(), clients.failed());
    ensure!(answered > 10 * failed, "{answered} clients were served, {failed} were not");
    Ok(format!("{answered} clients served, {failed} not"))
}
