//! Everything that is under way while an event happens, and what became of it.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{
    ledger::Balance,
    requests::{Failure, Requests},
};
use crate::lab::{
    Drops, Gate, LongConnection, LongConnections, Pace, Site, UdpFlow, UdpFlows, status::Counters, wait_for,
};

/// Short requests in a second, each a connection.
const REQUESTS: u32 = 2200;
/// Connections that stay.
const CONNECTIONS: usize = 200;
/// Flows of UDP.
const FLOWS: usize = 50;
/// Between two lines of a connection, two datagrams of a flow.
const PAUSE: Duration = Duration::from_millis(150);
/// Times [`patience`](crate::lab::patience): for what is under way to end.
const LIMIT: Duration = Duration::from_secs(10);

/// Clients of all kinds.
#[derive(Debug)]
pub(super) struct Traffic {
    gate: Gate,
    requests: Requests,
    connections: LongConnections,
    flows: UdpFlows,
}

/// The state of all traffic at one moment at which nothing was under way.
#[derive(Debug)]
pub(super) struct Mark {
    closed_at: Instant,
    opened_at: Instant,
    balance: Balance,
    drops: Drops,
    verdicts: BTreeMap<String, u64>,
    answered: usize,
    connections: Vec<LongConnection>,
    flows: Vec<UdpFlow>,
}

/// What became of the traffic between two marks.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// How long that was.
    pub(super) took: Duration,
    /// Packets that were sent and not received.
    pub(super) lost_packets: u64,
    /// Where the kernel says that it dropped packets.
    pub(super) drops: Drops,
    /// How packets ended in the balancer, as far as that is known.
    pub(super) verdicts: BTreeMap<String, u64>,
    /// Short requests that were answered.
    pub(super) answered: usize,
    /// Short requests that failed.
    pub(super) failures: Vec<Failure>,
    /// Long connections that broke.
    pub(super) broken: Vec<LongConnection>,
    /// Flows that another backend answered.
    pub(super) moved: Vec<UdpFlow>,
    /// Datagrams without an answer.
    pub(super) unanswered: u64,
    /// Backends of the long connections that live.
    pub(super) holding: Vec<String>,
}

impl Traffic {
    /// Begins all of it.
    ///
    /// # Errors
    ///
    /// A connection cannot be opened, a flow is not answered.
    pub(super) fn start(site: &Site) -> Result<Self> {
        let gate = Gate::default();
        let from = &site.lab.client.namespace;
        let pace = Pace::new(PAUSE, &gate);
        Ok(Self {
            connections: LongConnections::open_at(from, site.echo(), CONNECTIONS, &pace)?,
            flows: UdpFlows::open_at(from, site.echo(), FLOWS, &pace)?,
            requests: Requests::start(&from.entry(), site.web(), REQUESTS, &gate)?,
            gate,
        })
    }

    /// Holds everything up for a moment, looks at it, and lets it go on.
    ///
    /// # Errors
    ///
    /// What is under way does not end.
    pub(super) fn mark(&self, site: &Site, before: Option<&Mark>) -> Result<Mark> {
        let closed_at = Instant::now();
        self.gate.close();
        let mark = self.look(site, before);
        self.gate.open();
        mark.map(|mark| Mark { closed_at, opened_at: Instant::now(), ..mark })
    }

    /// Lets the traffic run, until all connections and flows have said something and been answered at least once.
    ///
    /// # Errors
    ///
    /// They are not answered.
    pub(super) fn run_for(&self, time: Duration) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < time {
            crate::lab::interrupt::check()?;
            thread::sleep(Duration::from_millis(20).min(time));
        }
        self.connections.exchange(1)?;
        self.flows.exchange(1)
    }

    /// What happened between a mark and a later one.
    ///
    /// # Errors
    ///
    /// The marks do not fit together.
    pub(super) fn observed(&self, before: &Mark, after: &Mark) -> Result<Observed> {
        ensure!(before.connections.len() == after.connections.len(), "the marks are of other connections");
        let was_whole = |index: usize| before.connections[index].broken.is_none();
        let connections = after.connections.iter().enumerate().filter(|(index, _)| was_whole(*index));
        let (broken, whole): (Vec<_>, Vec<_>) =
            connections.map(|(_, connection)| connection.clone()).partition(|of| of.broken.is_some());
        let flows = || before.flows.iter().zip(&after.flows);
        Ok(Observed {
            took: after.closed_at - before.opened_at,
            verdicts: more(&before.verdicts, &after.verdicts),
            drops: after.drops.since(&before.drops),
            lost_packets: after.balance.since(before.balance)?,
            answered: after.answered - before.answered,
            failures: self.requests.take_failures(),
            broken,
            moved: flows()
                .filter(|(before, after)| before.moved.is_none() && after.moved.is_some())
                .map(|(_, after)| after.clone())
                .collect(),
            unanswered: flows().map(|(before, after)| after.lost - before.lost).sum(),
            holding: whole.into_iter().map(|connection| connection.backend).collect(),
        })
    }

    fn look(&self, site: &Site, before: Option<&Mark>) -> Result<Mark> {
        wait_for("requests under way to end", LIMIT, || Ok((self.requests.under_way() == 0).then_some(())))?;
        let balance = Balance::take(&site.lab, before.map(|mark| mark.balance))?;
        if before.is_none() {
            // What failed before the first mark is not what is asked for.
            drop(self.requests.take_failures());
        }
        let now = Instant::now();
        Ok(Mark {
            closed_at: now,
            opened_at: now,
            balance,
            drops: Drops::read(&site.lab)?,
            verdicts: verdicts(site),
            answered: self.requests.answered(),
            connections: self.connections.states(),
            flows: self.flows.states(),
        })
    }
}

/// What the balancer has counted, by verdict; nothing while no daemon answers.
fn verdicts(site: &Site) -> BTreeMap<String, u64> {
    let counters = site.daemon().ask_json::<Counters>(&["counters"]);
    counters.map_or_else(
        |_| BTreeMap::new(),
        |counters| counters.verdicts.into_iter().map(|of| (of.name, of.packets)).collect(),
    )
}

/// By how much counters grew.
fn more(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let grew =
        after.iter().filter_map(|(name, now)| Some((name.clone(), now.checked_sub(*before.get(name)?)?)));
    grew.filter(|(_, more)| *more > 0).collect()
}
