//! What an event did, held against what was planned.

use std::net::SocketAddr;

use anyhow::Result;
use xtask::figures::Figure;

use super::{
    event::{Event, Plan},
    traffic::Observed,
};

/// What an event did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which.
    pub event: Event,
    /// Packets that were sent and not received.
    pub lost_packets: u64,
    /// Long connections that broke, short requests that failed, UDP flows that another backend answered.
    pub broken_connections: usize,
    /// What is not as planned, in words: lost packets, connections broken that should live, and those that live though the plan said that they would be cut.
    pub unplanned: Vec<String>,
    /// Short requests that were answered.
    pub requests: usize,
    /// The same in a second.
    pub request_rate: f64,
}

impl Outcome {
    /// Judges what was observed. `owner` tells which backend a short request from this address goes to while nothing is changed.
    ///
    /// # Errors
    ///
    /// The owner cannot be found out.
    pub(super) fn new(
        event: Event,
        plan: &Plan,
        observed: &Observed,
        owner: impl Fn(SocketAddr) -> Result<Option<String>>,
    ) -> Result<Self> {
        let cut = plan.cut.as_deref();
        let Observed { lost_packets, failures, broken, moved, unanswered, holding, .. } = observed;
        let mut unplanned = Vec::new();
        for failure in failures {
            let owner = failure.local.filter(|_| cut.is_some()).map(&owner).transpose()?.flatten();
            if cut.is_none() || owner.as_deref() != cut {
                unplanned.push(format!("a request from {:?} failed: {}", failure.local, failure.reason));
            }
        }
        for connection in broken.iter().filter(|connection| Some(connection.backend.as_str()) != cut) {
            let reason = connection.broken.as_ref().map_or("", |(_, reason)| reason);
            unplanned.push(format!(
                "a connection from {} to {} broke: {reason}",
                connection.local, connection.backend
            ));
        }
        for flow in moved.iter().filter(|flow| Some(flow.backend.as_str()) != cut) {
            let to = flow.moved.as_ref().map_or("", |(_, to)| to);
            unplanned.push(format!("a UDP flow moved from {} to {to}", flow.backend));
        }
        for _ in holding.iter().filter(|backend| Some(backend.as_str()) == cut) {
            unplanned
                .push(format!("a connection to {} lives, though it was to be cut", cut.unwrap_or_default()));
        }
        if *lost_packets > 0 {
            unplanned.push(format!(
                "{lost_packets} packets were lost; {}; the balancer counted {:?}",
                observed.drops, observed.verdicts
            ));
        }
        if *unanswered > 0 {
            unplanned.push(format!("{unanswered} datagrams had no answer"));
        }
        Ok(Self {
            event,
            lost_packets: *lost_packets,
            broken_connections: failures.len() + broken.len() + moved.len(),
            unplanned,
            requests: observed.answered,
            request_rate: observed.answered as f64 / observed.took.as_secs_f64(),
        })
    }

    /// Whether all is as planned.
    #[must_use]
    pub fn is_as_planned(&self) -> bool {
        self.unplanned.is_empty()
    }

    /// `change.EVENT.lost_packets`, `.broken_connections`, `.unplanned` and `.requests`.
    ///
    /// # Errors
    ///
    /// Never: the aims are well formed.
    pub fn figures(&self) -> Result<Vec<Figure>> {
        let name = |what: &str| format!("change.{}.{what}", self.event.name());
        let broken = Figure::new(&name("broken_connections"), self.broken_connections as f64, "connections");
        Ok(vec![
            Figure::new(&name("lost_packets"), self.lost_packets as f64, "packets").aim("== 0")?,
            if self.event.cuts() { broken.aim("> 0")? } else { broken.aim("== 0")? },
            Figure::new(&name("unplanned"), self.unplanned.len() as f64, "").aim("== 0")?,
            Figure::new(&name("requests"), self.request_rate.round(), "requests/s").aim(">= 2000")?,
        ])
    }

    /// One line for people, and one for each thing that was not planned, up to a few.
    #[must_use]
    pub fn describe(&self) -> String {
        const SHOWN: usize = 10;
        let mut text = format!(
            "{:44} {:>6} lost {:>6} broken {:>6} unplanned {:>8.0} requests/s\n",
            self.event.describe(),
            self.lost_packets,
            self.broken_connections,
            self.unplanned.len(),
            self.request_rate
        );
        for line in self.unplanned.iter().take(SHOWN) {
            text.push_str(&format!("    {line}\n"));
        }
        if let Some(more) = self.unplanned.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            text.push_str(&format!("    and {more} more\n"));
        }
        text
    }
}
