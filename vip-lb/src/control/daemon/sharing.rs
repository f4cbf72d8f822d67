//! What this node and its peers know of flows in open slots, so that a VIP can move while there are any.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use tracing::{debug, warn};

use super::{Daemon, handover::TakingBack, now};
use crate::{
    api::model::SharedFlows,
    config::model::{Ownership, Share},
    control::{
        desired::ServiceKey,
        engine::SharedSlots,
        ownership::{Claim, Withdrawal},
    },
    dataplane::Write,
    peering::{
        flows::{self, Flows, ServiceFlows},
        message::Message,
        task::{Peering, Tell, Way},
    },
    steering::{Clock, Records, Told, Trust, everything},
};

mod hear;
mod queue;

use hear::HeardSlots;
use queue::Queue;

/// How long nothing is recorded while flows move to another node.
const FROZEN: Duration = Duration::from_secs(5);
/// How long a move waits for peers to know what is recorded.
const MOVE: Duration = Duration::from_millis(1500);
/// How long a node that starts waits for peers at first, and for one that has begun to tell.
const LEARNING: Duration = Duration::from_secs(3);
const LEARNING_MUCH: Duration = Duration::from_secs(30);
/// How often a peer is asked for all of it again, if not all could be taken in.
const AGAIN: Duration = Duration::from_secs(10);
/// Messages that wait for a peer at most. If there are more, it is told from the beginning later.
const WAITING: usize = 2048;

/// What is told, and what was heard.
#[derive(Default)]
pub(super) struct Sharing {
    told: BTreeMap<ServiceKey, Told>,
    said: BTreeMap<ServiceKey, SharedSlots>,
    waiting: BTreeMap<IpAddr, Queue>,
    /// Peers that know nothing, and are told everything.
    fresh: BTreeSet<IpAddr>,
    heard: BTreeMap<IpAddr, BTreeMap<ServiceKey, HeardSlots>>,
    /// Peers that have told all they had.
    whole: BTreeSet<IpAddr>,
    /// Peers of which something could not be taken in, and when to ask again.
    missed: BTreeMap<IpAddr, Instant>,
    frozen_until: Option<Instant>,
    /// Since when this node learns what its peers know, before it takes part.
    learning: Option<Instant>,
    pub(super) taking_back: TakingBack,
    counts: SharedFlows,
}

impl Daemon {
    /// The connections to peers that share flows.
    fn sharing_peers(&self) -> Option<&Peering> {
        let peering = self.config.node.peering.as_ref()?;
        peering.share.contains(&Share::Flows).then(|| self.peers.running()).flatten()
    }

    /// Whether peers are told of flows.
    pub(super) fn shares_flows(&self) -> bool {
        self.sharing_peers().is_some()
    }

    /// What was told and heard.
    pub(super) fn shared_flows(&self) -> Option<SharedFlows> {
        let flows = SharedFlows { learning: self.is_learning(), ..self.sharing.counts };
        self.shares_flows().then_some(flows)
    }

    /// Keeps VIPs with others as long as this node does not know what they do. One that always answers has nobody to wait for.
    pub(super) fn withhold_unlearnt(&mut self) {
        if !self.is_learning() {
            return;
        }
        for vip in self.config.vips.iter().filter(|vip| vip.ownership != Ownership::Always) {
            let claim = self.claims.entry(vip.address).or_insert(Claim::Wanted);
            if claim.is_wanted() {
                *claim = Claim::Withdrawn(Withdrawal::Learning);
            }
        }
    }

    fn clock(&self) -> Clock {
        let seconds = now().duration_since(self.started_at).as_secs() as u32;
        // A tick that began somewhere is ahead or behind by the same number at all times.
        Clock {
            tick: self.ticker.tick(),
            lag: seconds.wrapping_sub(self.ticker.tick().wrapping_sub(self.first_tick)),
        }
    }

    /// Whether this node has the traffic of a VIP.
    fn serves(&self) -> BTreeSet<IpAddr> {
        self.config.vips.iter().map(|vip| vip.address).filter(|&vip| self.answers_for(vip)).collect()
    }

    /// Tells peers what is news of slots and records, these by the numbers of services.
    pub(super) fn share(&mut self, mut records: HashMap<u16, Records>) {
        let Some(peers) = self.sharing_peers().map(|running| running.setup().peers.clone()) else {
            return self.share_no_more();
        };
        self.budget.share_with(1 + peers.len() as u32);
        let (serves, clock) = (self.serves(), self.clock());
        let fresh = std::mem::take(&mut self.sharing.fresh);
        let (mut news_of_all, mut all_of_all) = (Vec::new(), Vec::new());
        for slots in self.engine.shared_slots(|key| serves.contains(&key.vip), clock.tick) {
            let key = slots.service;
            let Some(service) = self.engine.sharer(&key) else { continue };
            let former = self.sharing.said.get(&key);
            let began = slots.serves && !former.is_some_and(|former| former.serves);
            let is_news = former != Some(&slots);
            let told = self.sharing.told.entry(key).or_default();
            if began {
                told.tell_all();
            }
            let found = records.remove(&service.reference.id).unwrap_or_default();
            let (records, timeouts) = (service.honoured(&found), service.ring.timeouts());
            let open: HashSet<u32> = slots.open.iter().map(|&(index, _)| index).collect();
            let all =
                if fresh.is_empty() { Vec::new() } else { everything(&records, &open, timeouts, clock) };
            let news = told.news(&records, open, timeouts, clock);
            let has_news = is_news || !news.reports.is_empty() || !news.gone.is_empty();
            if !has_news && fresh.is_empty() {
                continue;
            }
            let identities = service.identities();
            let row = |report| {
                let steering_to = |report: &crate::steering::Report| report.record.entry.backend;
                identities.get(&steering_to(report)).map(|&identity| flows::row(report, identity))
            };
            let rows: Vec<_> = news.reports.iter().filter_map(row).collect();
            let all_rows: Vec<_> = all.iter().filter_map(row).collect();
            // Each record once, however many are told.
            self.sharing.counts.told += rows.len().max(all_rows.len()) as u64;
            let (ring, hidden) = service.ring_kind();
            let of = ServiceFlows {
                key,
                ring,
                hidden,
                serves: slots.serves,
                shares: slots.shares,
                open: None,
                records: rows,
                gone: news.gone.iter().map(flows::row_key).collect(),
            };
            if !fresh.is_empty() {
                let all = ServiceFlows { records: all_rows, ..of.clone() };
                all_of_all.extend(flows::messages(all, Some(&slots.open)));
            }
            if has_news {
                news_of_all.extend(flows::messages(of, is_news.then_some(&slots.open[..])));
            }
            self.sharing.said.insert(key, slots);
        }
        let engine = &self.engine;
        self.sharing.told.retain(|key, _| engine.published(key).is_some());
        self.sharing.said.retain(|key, _| engine.published(key).is_some());
        all_of_all.push(Flows { whole: true, ..Flows::default() });
        self.sharing.waiting.retain(|peer, _| peers.contains(peer));
        for peer in peers {
            let messages = if fresh.contains(&peer) { &all_of_all } else { &news_of_all };
            self.sharing.waiting.entry(peer).or_default().tell(messages);
        }
        self.pour();
    }

    /// Forgets what peers know. What this node waits for ends by its time.
    fn share_no_more(&mut self) {
        self.budget.share_with(1);
        let Sharing { heard, learning, taking_back, frozen_until, .. } = std::mem::take(&mut self.sharing);
        self.sharing = Sharing { learning, taking_back, frozen_until, ..Sharing::default() };
        for peer in heard.into_keys() {
            self.engine.lose_node(&peer.to_string(), self.ticker.tick());
        }
    }

    /// Tells what waits, as far as the connections take it.
    fn pour(&mut self) {
        let Some(running) = self.peers.running() else { return };
        let mut overflown = Vec::new();
        for (&peer, waiting) in &mut self.sharing.waiting {
            while let Some(message) = waiting.next() {
                match running.tell(peer, message) {
                    Ok(Tell::Number(_)) => waiting.took(),
                    Ok(Tell::Full) => break,
                    // A new connection begins with all of it.
                    Ok(Tell::Away) => *waiting = Queue::default(),
                    Err(error) => {
                        warn!(%error, "peers cannot be told of flows");
                        waiting.took();
                    }
                }
            }
            if waiting.len() > WAITING {
                overflown.push(peer);
            }
        }
        overflown.into_iter().for_each(|peer| self.share_all_with(peer));
    }

    /// Has a peer told all of it, from the beginning.
    pub(super) fn share_all_with(&mut self, peer: IpAddr) {
        self.sharing.waiting.entry(peer).or_default().begin_again();
        self.sharing.fresh.insert(peer);
        self.next_collection = now();
    }

    /// Has what is news told with the next tick.
    pub(super) fn share_soon(&mut self) {
        if self.shares_flows() {
            self.next_collection = now();
        }
    }

    /// What has to be done now and then, several times in a second.
    pub(super) fn attend_to_sharing(&mut self) {
        self.end_learning();
        let now = now();
        self.go_on_taking_back(|pending| now >= pending.until);
        let Some(running) = self.sharing_peers() else { return };
        let hears = |peer: &IpAddr| {
            let views = running.peers();
            views.iter().any(|view| view.address == *peer && matches!(view.hears, Way::Open { .. }))
        };
        let lost: Vec<IpAddr> = self.sharing.heard.keys().filter(|peer| !hears(peer)).copied().collect();
        for peer in lost {
            debug!(%peer, "what this node has heard of flows is kept for an idle timeout");
            self.sharing.heard.remove(&peer);
            self.sharing.whole.remove(&peer);
            self.sharing.missed.remove(&peer);
            self.engine.lose_node(&peer.to_string(), self.ticker.tick());
        }
        self.ask_again(now);
        self.pour();
    }

    /// Asks peers for all of what could not be taken in. One that cannot be asked now is asked as soon as it can be.
    fn ask_again(&mut self, now: Instant) {
        let Some(running) = self.peers.running() else { return };
        self.sharing.missed.retain(|&peer, at| {
            now < *at || !matches!(running.tell(peer, &Message::FlowsAgain), Ok(Tell::Number(_)))
        });
    }

    /// Whether nothing may be recorded, because flows are about to move.
    pub(super) fn is_frozen(&self) -> bool {
        self.sharing.frozen_until.is_some_and(|until| now() < until)
    }

    /// Has peers know all that is recorded, and records nothing more for a moment: an unknown flow goes to what its slot remembers, here as there.
    pub(super) fn freeze(&mut self) {
        self.sharing.frozen_until = Some(now() + FROZEN);
        self.grant();
        self.collect(now());
    }

    /// Whether flows would have to be known elsewhere, if they moved.
    pub(super) fn has_flows_to_share(&self) -> bool {
        self.sharing_peers().is_some() && self.engine.open_rings().next().is_some()
    }

    /// Before flows move to another node on purpose. Returns the peers that do not know all of it in time, or that cannot take it in.
    pub(super) async fn prepare_move(&mut self) -> Vec<IpAddr> {
        if !self.has_flows_to_share() {
            return Vec::new();
        }
        self.freeze();
        let deadline = now() + MOVE;
        let is_waiting = |daemon: &Self| daemon.sharing.waiting.values().any(|waiting| !waiting.is_empty());
        while is_waiting(self) && now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.pour();
        }
        let Some(running) = self.sharing_peers() else { return Vec::new() };
        let mut left = Vec::new();
        for peer in running.setup().peers.clone() {
            let taken = tokio::time::timeout_at(deadline.into(), running.all_taken_in(peer)).await;
            if taken != Ok(true) || self.sharing.waiting.get(&peer).is_some_and(|waiting| !waiting.is_empty())
            {
                left.push(peer);
            }
        }
        left
    }

    /// Asks the peer that has VIPs, and speaks from this address, to tell what it has recorded. Returns the peer, and how long to wait for it; none
    /// where nothing has to be told, or nobody can be asked.
    pub(super) fn ask_to_prepare(&mut self, active: Option<IpAddr>) -> Option<(IpAddr, Instant)> {
        let views = self.sharing_peers()?.peers();
        let connected = || views.iter().filter(|view| view.is_connected()).map(|view| view.address);
        let is_active = |peer: &IpAddr| active.is_some_and(|active| self.states_address(*peer, active));
        // It may have the VIPs for so short a time that it has not said so.
        let peer = connected().find(is_active).or_else(|| connected().next())?;
        self.sharing.waiting.entry(peer).or_default().ask_to_prepare();
        self.pour();
        Some((peer, now() + MOVE))
    }

    /// A peer wants to have flows: it is told all of it, and then that this was all.
    fn prepare_for(&mut self, peer: IpAddr) {
        if self.has_flows_to_share() {
            self.freeze();
        }
        self.sharing.waiting.entry(peer).or_default().end_preparation();
        self.pour();
    }

    /// Begins to learn what peers know, unless this node has a VIP already: a daemon that goes on has no time for it.
    pub(super) async fn begin_learning(&mut self) {
        let shares = self.config.node.peering.as_ref().is_some_and(|of| of.share.contains(&Share::Flows));
        let leased = self.dataplane.leases().and_then(|owners| owners.all()).unwrap_or_default();
        let goes_on = leased.iter().any(|(_, left)| !left.is_zero()) || self.finds_routes().await;
        let moves = self.config.vips.iter().any(|vip| vip.ownership != Ownership::Always);
        self.sharing.learning = (shares && moves && !goes_on).then(now);
    }

    /// Whether this node does not know yet what its peers do.
    pub(super) fn is_learning(&self) -> bool {
        self.sharing.learning.is_some()
    }

    fn end_learning(&mut self) {
        let Some(since) = self.sharing.learning else { return };
        let views = self.sharing_peers().map(Peering::peers).unwrap_or_default();
        let is_open = |way: &Way| matches!(way, Way::Open { .. });
        let whole = |peer: &IpAddr| self.sharing.whole.contains(peer);
        let tells = views.iter().any(|view| is_open(&view.hears) && !whole(&view.address));
        let lasted = now().duration_since(since);
        let limit = if tells { LEARNING_MUCH } else { LEARNING };
        if (!views.is_empty() && views.iter().all(|view| whole(&view.address))) || lasted >= limit {
            debug!(?lasted, "this node knows what its peers do");
            self.sharing.learning = None;
            self.reconcile();
            self.tell_changes();
        }
    }

    fn publish_ring(&mut self, write: Option<Write>) {
        let writes = write.into_iter().collect();
        self.carry_out(crate::control::engine::Plan { writes, warnings: Vec::new() });
    }

    fn trust(&self, vip: IpAddr, heard: &HeardSlots, own_shares: u64) -> Trust {
        match (heard.serves && !self.answers_for(vip), heard.shares == own_shares) {
            (false, _) => Trust::Own,
            (true, false) => Trust::Open,
            (true, true) => Trust::Whole,
        }
    }
}
