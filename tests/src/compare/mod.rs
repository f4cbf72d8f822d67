//! Side by side: the same lab, the same clients and the same events, once with vip-lb and once with Linux IPVS in the edge nodes.
//!
//! What is counted are connections that an event broke though their backend lived on. IPVS has no checks of its own, so that a
//! backend is dead is told to it by the lab; how fast either finds out is not compared.

mod event;
mod ipvs;
mod table;
mod vip_lb;

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Result, ensure};

pub use event::Event;
pub(crate) use ipvs::make_director;
pub use ipvs::{Ipvs, Scheduler};
pub use table::Comparison;
pub use vip_lb::VipLb;

use crate::lab::{
    EchoServer, Family, HttpLoad, HttpServer, LoadOptions, LongConnections, Site, vip, wait_for,
};

/// Long-lived connections of each event.
const CONNECTIONS: usize = 40;
/// Requests that follow each event.
const REQUESTS: usize = 60;
/// Each request is a line or an answer of nginx; slow machines have their patience besides.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(15);
/// What every event begins with, and returns to.
const WEIGHTS: [u16; 3] = [100, 100, 200];

/// What forwards in the edge nodes.
pub trait Balancer {
    /// Column of the table.
    fn name(&self) -> &'static str;

    /// The lab it runs in.
    fn site(&mut self) -> &mut Site;

    /// Puts other weights, or another number of backends, in force on both edge nodes, and waits until they are.
    ///
    /// # Errors
    ///
    /// They do not come into force.
    fn set_weights(&mut self, weights: &[u16]) -> Result<()>;

    /// No new connections to the first backend, or again.
    ///
    /// # Errors
    ///
    /// That does not come into force.
    fn drain_first(&mut self, drain: bool) -> Result<()>;

    /// Whether its servers answer or not, the second backend is taken out, or is in again.
    ///
    /// # Errors
    ///
    /// That does not come into force.
    fn set_second_dead(&mut self, dead: bool) -> Result<()>;

    /// Kills the process that controls the first edge node without a farewell. `false` if there is none.
    ///
    /// # Errors
    ///
    /// It cannot be killed.
    fn kill_control(&mut self) -> Result<bool>;

    /// Starts it again.
    ///
    /// # Errors
    ///
    /// It does not come up.
    fn start_control(&mut self) -> Result<()>;

    /// Has the first edge node read its whole configuration again.
    ///
    /// # Errors
    ///
    /// It refuses.
    fn reload(&mut self) -> Result<()>;

    /// Has the answers of backends go by this edge node, if that is its way.
    ///
    /// # Errors
    ///
    /// Routes cannot be changed.
    fn lead_answers_through(&self, edge: usize) -> Result<()>;

    /// Waits until the second edge node has learnt of so many open connections of the first, if that is its way.
    ///
    /// # Errors
    ///
    /// It does not learn of them.
    fn synchronise(&mut self, connections: usize) -> Result<()>;

    /// Waits until nothing is on its way from an earlier change to this state.
    ///
    /// # Errors
    ///
    /// That takes too long.
    fn settle(&mut self) -> Result<()>;
}

/// What an event did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Long-lived connections whose backend lived.
    pub connections: usize,
    /// Those of them that broke.
    pub broken: usize,
    /// Short requests, each on a connection of its own: those begun before the event and after it, or only after it where a backend died.
    pub requests: usize,
    /// Those of them without an answer.
    pub failed: usize,
    /// Why connections broke and requests failed, and how often.
    pub reasons: BTreeMap<String, usize>,
}

/// Plays an event, counts the damage, and returns to where it began. `None` if the balancer has no such thing.
///
/// # Errors
///
/// The event cannot be played; a connection that breaks is no error.
pub fn play(event: Event, balancer: &mut dyn Balancer) -> Result<Option<Damage>> {
    lead_through(balancer, 0)?;
    if event.fails_over() {
        balancer.settle()?;
    }
    event.prepare(balancer)?;
    let connections = LongConnections::open(&balancer.site().lab.client.namespace, echo(), CONNECTIONS)?;
    connections.exchange(4)?;
    ensure!(connections.broken().is_empty(), "before {}: {:?}", event.name(), connections.broken());
    if event.fails_over() {
        balancer.synchronise(CONNECTIONS)?;
    }
    let load = HttpLoad::start(
        &balancer.site().lab.client.namespace,
        LoadOptions { workers: 4, ..LoadOptions::steady(web()) },
    )?;

    let Some(dead) = event.happen(balancer)? else { return Ok(None) };
    let happened = std::time::Instant::now();
    wait_for("requests after the event", LIMIT * 2, || {
        Ok((load.so_far().since(happened).requests.len() >= REQUESTS).then_some(()))
    })?;
    connections.exchange(4)?;
    let report = load.finish();
    let report = if dead.is_some() { report.since(happened) } else { report };
    let mut elsewhere = connections.states();
    elsewhere.retain(|connection| dead != Some(connection.backend.as_str()));
    let broken: Vec<_> = elsewhere.iter().filter_map(|connection| connection.broken.as_ref()).collect();
    let mut reasons = BTreeMap::new();
    for (_, reason) in &broken {
        *reasons.entry(format!("connection: {reason}")).or_default() += 1;
    }
    reasons.extend(report.errors().into_iter().map(|(error, count)| (format!("request: {error}"), count)));
    let damage = Damage {
        connections: elsewhere.len(),
        broken: broken.len(),
        requests: report.requests.len(),
        failed: report.failed().count(),
        reasons,
    };
    event.undo(balancer)?;
    Ok(Some(damage))
}

/// Sends the client's packets through one of the edge nodes, as when that one takes over.
fn lead_through(balancer: &mut dyn Balancer, edge: usize) -> Result<()> {
    let lab = &balancer.site().lab;
    lab.route_vips_through(&lab.edges[edge])?;
    balancer.lead_answers_through(edge)
}

fn web() -> SocketAddr {
    (vip(Family::V4), HttpServer::PORT).into()
}

fn echo() -> SocketAddr {
    (vip(Family::V4), EchoServer::PORT).into()
}
