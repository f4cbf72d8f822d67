//! The ring of one service: what each slot names, and when it opens and closes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use vip_lb_common::abi::{BackendRef, FlowEntry, Phase, Slot};

mod records;
mod shared;
#[cfg(test)]
mod tests;

pub use records::{Record, Records, Timeouts};
use shared::Hold;
pub use shared::{Learnt, Trust};

/// Ticks after which everything the program did under the former ring lies in the tables: one whole tick at least.
const GRACE: u32 = 2;

/// Whether the first packet of a flow can be told from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// TCP with affinity by flow: it is the SYN.
    Visible,
    /// UDP, and affinity by source whatever the protocol.
    Hidden,
}

/// Whether packets to a backend still make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It serves, or is being drained: its flows stay.
    Alive,
    /// Its flows are lost, or cut. The reference is never valid again.
    Dead,
}

/// What [`ServiceRing::retarget`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Slots whose new flows go elsewhere now.
    pub moved: usize,
    /// Slots that were opened for it.
    pub opened: usize,
    /// Slots that left a dead backend, whose flows are lost.
    pub cut: usize,
}

impl Changes {
    /// Whether the ring has to be published.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// What [`ServiceRing::collect`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Slots whose phase changed: if any, the ring has to be published, before anything is deleted.
    pub moved: usize,
    /// Those of them that closed.
    pub closed: usize,
    /// Entries of FLOWS to delete, each only if it still is as it was read: look it up again right before.
    pub flows: Vec<Record>,
    /// Entries of NEWBORN to delete, likewise.
    pub newborn: Vec<Record>,
    /// Entries that stay: those of FLOWS, and those of NEWBORN that may still get there.
    pub occupied: usize,
}

/// All slots of a service, and of the open ones what the map does not hold.
#[derive(Clone, Debug)]
pub struct ServiceRing {
    /// Shared with the writes that publish them, so that a ring is not in memory twice.
    slots: Arc<[Slot]>,
    open: BTreeMap<u32, Life>,
    start: Start,
    timeouts: Timeouts,
    /// Live records by backend, as of the last collection.
    recorded: HashMap<BackendRef, usize>,
    /// Backends that some record named then which the program honours, a silent one included.
    named: HashSet<BackendRef>,
    /// Backends that an open slot named until some tick, for whom records may have appeared that no collection has seen.
    left: HashMap<BackendRef, u32>,
    /// Whether records may be left that belong to no open slot, or that no collection has seen.
    unswept: bool,
    /// Whether nothing is known of the records yet.
    adopted: bool,
    /// How often new flows went elsewhere than before.
    version: u64,
    /// Slots that other nodes have open, by the names of these nodes.
    holds: BTreeMap<String, Hold>,
    /// Whether this node had the traffic when it last told others.
    serves: bool,
}

/// An open slot's past.
#[derive(Clone, Copy, Debug)]
struct Life {
    /// When `previous` got its meaning: everything unrecorded that lives longer went there.
    opened_at: u32,
    /// When the slot was last changed in any way.
    changed_at: u32,
    /// Whether this node has reasons of its own to keep it open, as of the last collection.
    own: bool,
    /// Whether it was opened, or given its `previous`, because another node said so, and this one has no traffic.
    learnt: bool,
}

impl Life {
    fn begin(now: u32) -> Self {
        Self { opened_at: now, changed_at: now, own: true, learnt: false }
    }
}

impl ServiceRing {
    /// A ring that names no backend yet. `slots` is that of its class.
    pub fn new(slots: usize, start: Start, timeouts: Timeouts) -> Self {
        Self {
            slots: vec![Slot::default(); slots].into(),
            open: BTreeMap::new(),
            start,
            timeouts,
            recorded: HashMap::new(),
            named: HashSet::new(),
            left: HashMap::new(),
            unswept: false,
            adopted: false,
            version: 0,
            holds: BTreeMap::new(),
            serves: false,
        }
    }

    /// Takes over the ring that a former daemon published, at the tick found in SETTINGS. What that daemon knew besides is taken to have
    /// happened now, which keeps slots open longer than need be.
    pub fn adopt(published: Vec<Slot>, start: Start, timeouts: Timeouts, now: u32) -> Self {
        let mut ring =
            Self { slots: published.into(), unswept: true, adopted: true, ..Self::new(0, start, timeouts) };
        for (index, slot) in (0..).zip(Arc::make_mut(&mut ring.slots)) {
            let phase = match (Phase::from_u8(slot.phase), start) {
                (Phase::Closed, _) => continue,
                (Phase::Known | Phase::Settling, Start::Hidden) => Phase::Known,
                _ => Phase::Open,
            };
            slot.phase = phase as u8;
            ring.open.insert(index, Life::begin(now));
        }
        ring
    }

    /// When flows count as ended.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Whether the beginnings of flows are visible.
    pub fn start(&self) -> Start {
        self.start
    }

    /// Another idle timeout from now on.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.timeouts = timeouts;
    }

    /// Lets the slots name `picks`, by index; [`BackendRef::NONE`] where there is no backend for new flows. Has to be called after every
    /// death too, even if no pick changed. `now` is the tick of SETTINGS.
    ///
    /// # Panics
    ///
    /// If `picks` is of another size than the ring.
    pub fn retarget(
        &mut self,
        picks: &[BackendRef],
        fate_of: impl Fn(BackendRef) -> Fate,
        now: u32,
    ) -> Changes {
        assert_eq!(picks.len(), self.slots.len(), "one pick for each slot");
        let alive = |backend: BackendRef| !backend.is_none() && fate_of(backend) == Fate::Alive;
        let mut changes = Changes::default();
        for ((index, slot), &pick) in (0..).zip(Arc::make_mut(&mut self.slots)).zip(picks) {
            let former = slot.current;
            changes.moved += usize::from(pick != former);
            if let Some(life) = self.open.get_mut(&index) {
                if pick != former {
                    if slot.phase == Phase::Known as u8 {
                        // What is not recorded has gone to `current` for as long as that was known, and `previous` is the same.
                        life.opened_at = now;
                    }
                    slot.current = pick;
                    slot.phase = Phase::Open as u8;
                    life.changed_at = now;
                    self.left.insert(former, now);
                }
                if slot.previous != slot.current && !alive(slot.previous) {
                    // Packets for a dead `previous` went to the former `current`.
                    slot.previous = if alive(former) { former } else { pick };
                    *life = Life::begin(now);
                    changes.cut += 1;
                }
            } else if pick != former {
                slot.current = pick;
                if alive(former) {
                    slot.previous = former;
                    slot.epoch = slot.epoch.wrapping_add(1);
                    slot.phase = Phase::Open as u8;
                    self.open.insert(index, Life::begin(now));
                    changes.opened += 1;
                } else {
                    slot.previous = pick;
                    changes.cut += usize::from(!former.is_none());
                }
            }
        }
        self.version += u64::from(changes.moved > 0);
        changes
    }

    /// Takes the signs of life from a ring that was replaced, once no CPU uses it any more (the update of a map of maps waits for
    /// that), so that none is lost.
    pub fn merge(&mut self, published: &[Slot]) {
        if self.open.is_empty() {
            return;
        }
        let slots = Arc::make_mut(&mut self.slots);
        for &index in self.open.keys() {
            let Some(read) = published.get(index as usize) else {
                continue;
            };
            let slot = &mut slots[index as usize];
            slot.unrecorded_at = slot.unrecorded_at.max(read.unrecorded_at);
        }
    }

    /// Moves slots on to their next phase and finds the entries that are of no use any more.
    ///
    /// `records` were read after the last publication, and `published` is the live ring as it was read after them. `now` is the tick of
    /// SETTINGS when that began. The order then is: publish (if anything moved), merge the replaced ring, delete.
    pub fn collect(
        &mut self,
        records: &Records,
        published: &[Slot],
        fate_of: impl Fn(BackendRef) -> Fate,
        now: u32,
    ) -> Collected {
        self.merge(published);
        let alive = |backend: BackendRef| !backend.is_none() && fate_of(backend) == Fate::Alive;
        let all = || records.newborn.iter().map(|record| (record, true));
        let all = || all().chain(records.flows.iter().map(|record| (record, false)));
        // The silent ones too: until it is deleted, the program honours a record, and a handshake may follow it at any time.
        let honoured = || all().map(|(record, _)| record.entry).filter(|entry| self.is_valid(entry, alive));
        let named = honoured().map(|entry| entry.backend).collect();
        let elsewhere: HashSet<u32> = honoured()
            .filter(|entry| entry.backend != self.slots[entry.slot as usize].current)
            .map(|entry| entry.slot)
            .collect();
        let mut collected = self.advance(&elsewhere, now);

        self.recorded.clear();
        self.named = named;
        let flows: HashSet<_> = records.flows.iter().map(|record| record.key).collect();
        for (record, newborn) in all() {
            if self.is_live(record, newborn, alive, now) {
                *self.recorded.entry(record.entry.backend).or_default() += 1;
                collected.occupied += usize::from(!(newborn && flows.contains(&record.key)));
            } else if newborn {
                collected.newborn.push(*record);
            } else {
                collected.flows.push(*record);
            }
        }
        self.left.retain(|_, at| now < at.saturating_add(GRACE));
        self.unswept = collected.closed > 0;
        self.adopted = false;
        collected
    }

    /// The ring to publish.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// How often the slots' backends for new flows have changed: as long as it is the same, they are.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The same, to be kept.
    pub fn shared_slots(&self) -> Arc<[Slot]> {
        Arc::clone(&self.slots)
    }

    /// Slots that are open. While there are any, ticks have to pass and tables have to be collected.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Whether there is something to collect: open slots, or records of slots that closed.
    pub fn wants_collection(&self) -> bool {
        self.unswept || !self.open.is_empty() || !self.left.is_empty()
    }

    /// Slots by the backend that their new flows go to.
    pub fn shares(&self) -> HashMap<BackendRef, usize> {
        let mut shares = HashMap::new();
        for slot in self.slots.iter().filter(|slot| !slot.current.is_none()) {
            *shares.entry(slot.current).or_default() += 1;
        }
        shares
    }

    /// Live records that name the backend, as of the last collection.
    pub fn recorded(&self, backend: BackendRef) -> usize {
        self.recorded.get(&backend).copied().unwrap_or(0)
    }

    /// Whether a slot or a record names the backend, or may do. One that takes no new flows is drained when nothing does.
    pub fn names(&self, backend: BackendRef) -> bool {
        self.adopted
            || self.named.contains(&backend)
            || self.left.contains_key(&backend)
            || self.slots.iter().any(|slot| slot.current == backend || slot.previous == backend)
    }

    /// Ticks until the open slots that remember the backend may close at the earliest: without another sign of life, and whatever is
    /// recorded. None if there are no such slots.
    pub fn closes_in(&self, backend: BackendRef, now: u32) -> Option<u32> {
        let open = self.open.iter().filter_map(|(&index, life)| {
            let slot = &self.slots[index as usize];
            let quiet_since = life.opened_at.max(slot.unrecorded_at);
            let closes_at = quiet_since.saturating_add(self.timeouts.idle).saturating_add(1);
            (slot.previous == backend).then(|| closes_at.saturating_sub(now))
        });
        open.max()
    }

    /// Whether the program honours a record: it is of this opening of an open slot, and its backend lives.
    fn is_valid(&self, entry: &FlowEntry, alive: impl Fn(BackendRef) -> bool) -> bool {
        self.open.contains_key(&entry.slot)
            && self.slots[entry.slot as usize].epoch == entry.epoch
            && alive(entry.backend)
    }

    /// Whether a record is valid, and its flow was not silent for too long.
    fn is_live(
        &self,
        Record { entry, .. }: &Record,
        newborn: bool,
        alive: impl Fn(BackendRef) -> bool,
        now: u32,
    ) -> bool {
        let silence = if newborn { self.timeouts.newborn } else { self.timeouts.of(entry) };
        !is_silent(entry.seen, silence, now) && self.is_valid(entry, alive)
    }

    /// Moves the phases on. `elsewhere` are the slots with a valid record that names another backend than `current`.
    fn advance(&mut self, elsewhere: &HashSet<u32>, now: u32) -> Collected {
        let mut collected = Collected::default();
        let idle = self.timeouts.idle;
        let mut closed = Vec::new();
        if self.open.is_empty() {
            return collected;
        }
        let [held, followed] = self.held(now);
        let slots = Arc::make_mut(&mut self.slots);
        for (&index, life) in &mut self.open {
            let slot = &mut slots[index as usize];
            let phase = Phase::from_u8(slot.phase);
            let one_backend = slot.previous == slot.current;
            let quiet = one_backend
                || (is_silent(life.opened_at, idle, now) && is_silent(slot.unrecorded_at, idle, now));
            let steady = now >= life.changed_at.saturating_add(GRACE);
            let all_on_current = !elsewhere.contains(&index);
            let mut next = match (phase, self.start) {
                (Phase::Open, Start::Hidden) if quiet && steady => Phase::Known,
                (Phase::Known, _) if all_on_current && steady => Phase::Closed,
                (Phase::Open, Start::Visible) if quiet && steady && all_on_current => {
                    if one_backend {
                        Phase::Closed
                    } else {
                        Phase::Settling
                    }
                }
                (Phase::Settling, _) if !quiet || !all_on_current => Phase::Open,
                (Phase::Settling, _) if steady => Phase::Closed,
                _ => phase,
            };
            let is_only_learnt = life.learnt && is_silent(slot.unrecorded_at, idle, now);
            life.own = next != Phase::Closed && !is_only_learnt;
            // What another node still has to remember may come here at any time.
            let waits = match next {
                Phase::Closed => held.contains(&index),
                Phase::Known => followed.contains(&index),
                Phase::Open | Phase::Settling => false,
            };
            if waits {
                next = phase;
            }
            if next == phase {
                continue;
            }
            collected.moved += 1;
            life.changed_at = now;
            slot.phase = next as u8;
            match next {
                Phase::Closed => {
                    slot.previous = slot.current;
                    closed.push(index);
                }
                Phase::Known => {
                    self.left.insert(slot.previous, now);
                    slot.previous = slot.current;
                }
                Phase::Open | Phase::Settling => {}
            }
        }
        collected.closed = closed.len();
        for index in closed {
            self.open.remove(&index);
        }
        collected
    }
}

fn is_silent(since: u32, timeout: u32, now: u32) -> bool {
    now.saturating_sub(since) > timeout
}
