//! The other nodes of the group: what this one states, what they do, and whether it is the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{
    Daemon,
    heir::{Known, heirs},
    now, wall_clock,
};
use crate::{
    api::model::{Occurrence, PeerMismatch, PeerRouter, PeerStatus, PeeringStatus},
    config::model::Share,
    ownership::RouterSetup,
    peering::{
        compare::{Memory, Mismatch},
        message::Message,
        secret::Secret,
        statement::{RouterStatement, Statement},
        task::{Heard, PeerEvent, PeerView, Peering, Setup, Tell, Way},
    },
    state::Target,
};

/// How long a port that is taken, or a file that is no good, is left alone before the next try.
const PAUSE: Duration = Duration::from_secs(2);
/// How often others hear of what changes all the time.
const PACE: Duration = Duration::from_secs(1);

/// What is known of the group.
#[derive(Default)]
pub(super) struct Peers {
    /// The connections; none where they are not configured, or cannot be had.
    running: Option<Peering>,
    /// Why not, though they should be there.
    problem: Option<String>,
    /// The reading of the configuration that was followed, and when to try again if that failed.
    followed: Option<SystemTime>,
    next_try: Option<Instant>,
    others: BTreeMap<IpAddr, Other>,
    /// What this node states, and since when.
    own: Option<(Statement, Instant)>,
    /// Who has been told that.
    told: BTreeSet<IpAddr>,
    pub(super) stated: super::statement::Stated,
    /// What each peer does not know yet of the orders that are shared.
    pub(super) untold: BTreeMap<IpAddr, BTreeSet<Target>>,
}

/// A peer.
#[derive(Default)]
struct Other {
    name: Option<String>,
    statement: Option<Statement>,
    memory: Memory,
    mismatches: Vec<Mismatch>,
    /// Whether it was connected, and agreed, as of what was told.
    connected: bool,
    agreed: bool,
}

impl Daemon {
    /// Whether a peer has this address, or states that one of its virtual routers speaks from it.
    pub(super) fn states_address(&self, peer: IpAddr, address: IpAddr) -> bool {
        let statement = self.peers.others.get(&peer).and_then(|other| other.statement.as_ref());
        let speaks = |statement: &Statement| statement.routers.iter().any(|of| of.address == Some(address));
        peer == address || statement.is_some_and(speaks)
    }
}

impl Peers {
    /// The connections to the others, if there are any.
    pub(super) fn running(&self) -> Option<&Peering> {
        self.running.as_ref()
    }

    /// Whether this node speaks with such a peer.
    fn has(&self, peer: IpAddr) -> bool {
        self.running().is_some_and(|running| running.setup().peers.contains(&peer))
    }

    /// Forgets those that are not listed any more. Returns what there is to tell of it.
    fn keep(&mut self, listed: &[IpAddr]) -> Vec<Occurrence> {
        let gone = self.others.extract_if(.., |peer, _| !listed.contains(peer));
        let lost = gone.filter(|(_, other)| other.connected).map(|(peer, other)| {
            let why = "it is no peer any more by the configuration".to_owned();
            Occurrence::PeerLost { peer, name: other.name, why }
        });
        lost.collect()
    }
}

impl Daemon {
    /// Does what the configuration says, if that is news or failed a while ago. The secret is read again with every configuration.
    pub(super) async fn follow_peering(&mut self, events: &mpsc::Sender<PeerEvent>) {
        let now = now();
        let retry = self.peers.problem.is_some() && self.peers.next_try.is_none_or(|at| now >= at);
        if self.peers.followed == Some(self.file.loaded_at) && !retry {
            return;
        }
        self.peers.followed = Some(self.file.loaded_at);
        self.peers.next_try = Some(now + PAUSE);
        let problem = self.apply_peering(events).await.err();
        let problem = problem.map(|error| format!("this node speaks with no peer: {error:#}"));
        if problem != self.peers.problem {
            self.peers.problem = problem;
            self.report_problems();
        }
    }

    async fn apply_peering(&mut self, events: &mpsc::Sender<PeerEvent>) -> anyhow::Result<()> {
        let node = &self.config.node;
        let setup = node.peering.as_ref().map(|peering| {
            Ok(Setup {
                name: node.name.clone(),
                secret: Secret::read(&peering.secret_file)?,
                port: peering.port,
                address: peering.listen,
                peers: node.peers.clone(),
                share: peering.share.clone(),
            })
        });
        let setup: Option<Setup> = match setup.transpose() {
            Ok(setup) => setup,
            Err(error) => {
                self.release_peering().await;
                return Err(error);
            }
        };
        if setup.as_ref() == self.peers.running.as_ref().map(Peering::setup) {
            return Ok(());
        }
        self.release_peering().await;
        if let Some(setup) = &setup {
            self.peers.keep(&setup.peers).into_iter().for_each(|lost| self.tell(lost));
        }
        self.peers.own = None;
        if let Some(setup) = setup {
            self.peers.running = Some(Peering::start(setup, events.clone())?);
        }
        self.peers.untold.clear();
        Ok(())
    }

    /// Ends the connections, and waits until somebody else can listen on the port.
    pub(super) async fn release_peering(&mut self) {
        if let Some(running) = self.peers.running.take() {
            running.stop().await;
        }
    }

    /// Takes in what happened at the peers.
    pub(super) fn peer_event(&mut self, event: PeerEvent) {
        match event {
            // Of a connection that ended because the configuration does not list its peer any more.
            PeerEvent::Connected { peer, .. } | PeerEvent::Heard(Heard { peer, .. })
                if !self.peers.has(peer) =>
            {
                debug!(%peer, "what it still said is dropped: it is no peer any more");
            }
            PeerEvent::Connected { peer, name } => {
                debug!(%peer, name, "a peer is to be told everything");
                self.peers.told.remove(&peer);
                self.state_to_peers();
                self.tell_all_orders(peer);
                self.share_all_with(peer);
            }
            PeerEvent::Heard(heard) => self.hear(heard),
            PeerEvent::NotUnderstood(taken) => taken.tell(),
            PeerEvent::Changed => {}
        }
        self.look_at_peers();
    }

    fn hear(&mut self, heard: Heard) {
        let (peer, name) = (heard.peer, heard.name.clone());
        let (message, taken) = heard.open();
        match message {
            Message::Statement(statement) => {
                self.forget_unstated(peer, &statement);
                let other = self.peers.others.entry(peer).or_default();
                other.name = Some(name);
                other.statement = Some(*statement);
            }
            Message::Orders(words) => self.hear_orders(peer, words),
            of_flows => self.hear_of_flows(peer, of_flows),
        }
        taken.tell();
    }

    /// States how this node is, to all who do not know it yet, and looks at what they state.
    pub(super) fn attend_to_peers(&mut self) {
        if self.peers.running.is_none() && self.peers.others.is_empty() {
            return;
        }
        self.renew_statement();
        self.state_to_peers();
        self.pass_orders_on();
        self.look_at_peers();
    }

    fn renew_statement(&mut self) {
        let Some(secret) = self.peers.running().map(|running| running.setup().secret.clone()) else { return };
        let now = now();
        let statement = self.statement(&secret);
        let is_news = self.peers.own.as_ref().is_none_or(|(own, at)| {
            if now < *at + PACE { !own.says_the_same(&statement) } else { *own != statement }
        });
        if is_news {
            self.peers.own = Some((statement, now));
            self.peers.told.clear();
        }
    }

    fn state_to_peers(&mut self) {
        let (Some(running), Some((own, _))) = (&self.peers.running, &self.peers.own) else { return };
        // Others are told once they listen.
        let listens = |peer: &&IpAddr| !self.peers.told.contains(*peer) && running.room(**peer) > 0;
        let untold: Vec<IpAddr> = running.setup().peers.iter().filter(listens).copied().collect();
        if untold.is_empty() {
            return;
        }
        let message = Message::Statement(Box::new(own.fitting()));
        for peer in untold {
            match running.tell(peer, &message) {
                Ok(Tell::Number(_)) => {
                    self.peers.told.insert(peer);
                }
                Ok(Tell::Full | Tell::Away) => {}
                Err(error) => {
                    warn!(%error, "this node cannot state how it is");
                    self.peers.told.insert(peer);
                }
            }
        }
    }

    /// Compares, and tells what is news.
    fn look_at_peers(&mut self) {
        let views = self.peers.running().map(Peering::peers).unwrap_or_default();
        let now = now();
        let Peers { others, own, running, .. } = &mut self.peers;
        let mut news = Vec::new();
        for view in &views {
            let other = others.entry(view.address).or_default();
            other.look(view, own.as_ref().map(|(own, _)| own), now, &mut news);
        }
        if running.is_none() {
            for (peer, other) in std::mem::take(others) {
                if other.connected {
                    let why = "this node speaks with no peer any more".to_owned();
                    news.push(Occurrence::PeerLost { peer, name: other.name, why });
                }
            }
        }
        news.into_iter().for_each(|what| self.tell(what));
    }

    /// How this node and its peers get on; nothing where that is not configured.
    pub(super) fn peering_status(&self) -> Option<PeeringStatus> {
        let configured = self.config.node.peering.as_ref()?;
        let running = self.peers.running();
        let peers = match running {
            Some(running) => running.peers().iter().map(|view| self.peer_status(view)).collect(),
            None => self.config.node.peers.iter().map(|&address| absent(address)).collect(),
        };
        let refused = running.map(Peering::refused).unwrap_or_default();
        Some(PeeringStatus {
            secret_file: configured.secret_file.clone(),
            port: configured.port,
            share: configured.share.iter().map(Share::to_string).collect(),
            problem: self.peers.problem.clone(),
            peers,
            flows: self.shared_flows(),
            refused: refused.into_iter().map(|(why, count)| (why.name().to_owned(), count)).collect(),
        })
    }

    fn peer_status(&self, view: &PeerView) -> PeerStatus {
        let other = self.peers.others.get(&view.address);
        let statement = other.and_then(|other| other.statement.as_ref());
        let closed = |way: &Way| if let Way::Closed { why } = way { Some(why.clone()) } else { None };
        let (now, wall) = (now(), wall_clock());
        let mismatch = |mismatch: &Mismatch| PeerMismatch {
            what: mismatch.what.clone(),
            since_ms: wall
                .checked_sub(now.saturating_duration_since(mismatch.since))
                .and_then(|since| since.duration_since(UNIX_EPOCH).ok())
                .map_or(0, |since| since.as_millis() as u64),
        };
        let mismatches: Vec<_> = other.iter().flat_map(|other| &other.mismatches).map(mismatch).collect();
        PeerStatus {
            address: view.address,
            name: view.name.clone(),
            connected: view.is_connected(),
            since: view.since().map(super::status::seconds),
            not_told: closed(&view.tells),
            not_heard: closed(&view.hears),
            version: statement.map(|of| of.version.clone()),
            started: statement.map(|of| of.started),
            agrees: (view.is_connected() && statement.is_some()).then_some(mismatches.is_empty()),
            mismatches,
            routers: statement.iter().flat_map(|of| &of.routers).map(router).collect(),
        }
    }

    /// The own addresses of the node that is called so, on the links of these routers.
    pub(super) fn heirs(&self, routers: &[RouterSetup], to: &str) -> Result<Vec<IpAddr>, String> {
        let views = self.peers.running().map(Peering::peers).unwrap_or_default();
        let known: Vec<Known<'_>> = views
            .iter()
            .map(|view| Known {
                name: view.name.as_deref(),
                address: view.address,
                statement: self.peers.others.get(&view.address).and_then(|other| other.statement.as_ref()),
            })
            .collect();
        heirs(routers, to, &known)
    }

    /// What peers that would take these VIPs over do otherwise with them; of one alone, if that is known by these own addresses.
    pub(super) fn differences_at(&self, vips: &[IpAddr], heirs: &[IpAddr]) -> Vec<String> {
        let mut differences = Vec::new();
        for (address, other) in &self.peers.others {
            let Some(statement) = &other.statement else { continue };
            let routers = || vips.iter().filter_map(|vip| statement.router_of(*vip));
            let is_heir = heirs.is_empty()
                || routers().filter_map(|router| router.address).any(|own| heirs.contains(&own));
            if !is_heir || routers().any(|router| router.hindrance.is_some()) || routers().next().is_none() {
                continue;
            }
            let matters = other.mismatches.iter().filter(|mismatch| mismatch.about.concerns(vips));
            let name = other.name.clone().unwrap_or_else(|| address.to_string());
            differences.extend(matters.map(|mismatch| format!("{name}: {}", mismatch.what)));
        }
        differences
    }

    /// What an operator should know of the group, beside what its own part of the status says.
    pub(super) fn peering_problem(&self) -> Option<String> {
        self.peers.problem.clone()
    }
}

impl Other {
    fn look(&mut self, view: &PeerView, own: Option<&Statement>, now: Instant, news: &mut Vec<Occurrence>) {
        let peer = view.address;
        let connected = view.is_connected();
        if connected != self.connected {
            self.connected = connected;
            self.name.clone_from(&view.name);
            let name = self.name.clone();
            news.push(if connected {
                Occurrence::PeerConnected { peer, name }
            } else {
                let closed = |way: &Way| if let Way::Closed { why } = way { Some(why.clone()) } else { None };
                let why = closed(&view.hears).or_else(|| closed(&view.tells)).unwrap_or_default();
                Occurrence::PeerLost { peer, name, why }
            });
        }
        if matches!(view.hears, Way::Closed { .. }) {
            // What it said may be true no more; the next connection begins with a statement.
            self.statement = None;
        }
        if !connected {
            self.agreed = false;
            (self.memory, self.mismatches) = (Memory::default(), Vec::new());
            return;
        }
        let (Some(own), Some(theirs)) = (own, &self.statement) else { return };
        let found = self.memory.compare(own, theirs, now);
        let is_known =
            |mismatch: &Mismatch| self.mismatches.iter().any(|known| known.about == mismatch.about);
        for mismatch in found.iter().filter(|mismatch| !is_known(mismatch)) {
            let what = mismatch.what.clone();
            warn!(%peer, what, "a peer does otherwise");
            news.push(Occurrence::PeerMismatch { peer, name: self.name.clone(), what });
        }
        if found.is_empty() && !self.agreed {
            news.push(Occurrence::PeerAgrees { peer, name: self.name.clone() });
        }
        self.agreed = found.is_empty();
        self.mismatches = found;
    }
}

/// A peer that nothing can be known of.
fn absent(address: IpAddr) -> PeerStatus {
    let why = Some("this node speaks with no peer".to_owned());
    PeerStatus {
        address,
        name: None,
        connected: false,
        since: None,
        not_told: why.clone(),
        not_heard: why,
        version: None,
        started: None,
        agrees: None,
        mismatches: Vec::new(),
        routers: Vec::new(),
    }
}

fn router(stated: &RouterStatement) -> PeerRouter {
    let RouterStatement { vips, address, active, hindrance, .. } = stated;
    PeerRouter { vips: vips.clone(), address: *address, active: *active, hindrance: hindrance.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody was told that it was lost.
    #[test]
    fn a_connected_peer_that_is_listed_no_more_is_told_to_be_lost() {
        let [stays, gone, absent] = [1, 2, 3].map(|last| IpAddr::from([192, 0, 2, last]));
        let other = |connected| Other { name: Some("lb-2".to_owned()), connected, ..Other::default() };
        let others = [(stays, other(true)), (gone, other(true)), (absent, other(false))];
        let mut peers = Peers { others: others.into(), ..Peers::default() };
        let why = "it is no peer any more by the configuration".to_owned();
        let lost = Occurrence::PeerLost { peer: gone, name: Some("lb-2".to_owned()), why };
        assert_eq!(peers.keep(&[stays]), [lost]);
        assert_eq!(peers.others.into_keys().collect::<Vec<_>>(), [stays]);
        assert_eq!(Peers { others: [(stays, other(true))].into(), ..Peers::default() }.keep(&[stays]), []);
    }
}
