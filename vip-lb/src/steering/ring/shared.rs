//! What nodes tell each other of their slots, so that any of them may take over while slots are open.
//!
//! A flow whose packets begin to come to another node is unknown there, and goes to that node's `previous`. So both have to have the same
//! `previous`, the other one must not close the slot earlier, and it has to know the records ([`ServiceRing::place`]).

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use vip_lb_common::abi::{BackendRef, Phase, Slot};

use super::{Fate, Life, Record, Records, ServiceRing};

/// Slots that another node has open for reasons of its own.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    slots: HashSet<u32>,
    /// Whether this node does as that one says.
    followed: bool,
    /// Until when that counts, if nothing more is heard of the node.
    until: Option<u32>,
}

/// What another node's word on the past of slots is worth here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// This node has traffic of its own, which counts for more.
    Own,
    /// The other node has the traffic, but its slots have other backends: what it has open is open here.
    Open,
    /// It has, and its slots have the same backends: what it has closed is closed here, too.
    Whole,
}

/// What [`ServiceRing::learn`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    /// Slots that remember another backend now: if any, the ring has to be published.
    pub changed: usize,
    /// Slots in which flows of the other node would break here, and those of this node if that were mended.
    pub differing: usize,
}

impl ServiceRing {
    /// The slots that other nodes should keep open, each with the backend that it remembers: not those that would close now if no other node had
    /// them open, or are open only because another one said so. Two nodes that believed each other would never close.
    ///
    /// Whether this node has the traffic (`serves`) has to be told each time: when that begins, flows may be on any `previous` that were silent since
    /// long before.
    pub fn shared(&mut self, serves: bool, now: u32) -> Vec<(u32, BackendRef)> {
        if serves && !self.serves {
            self.open
                .values_mut()
                .for_each(|life| *life = Life { changed_at: life.changed_at, ..Life::begin(now) });
        }
        self.serves = serves;
        let own = self.open.iter().filter(|(_, life)| life.own);
        own.map(|(&index, _)| (index, self.slots[index as usize].previous)).collect()
    }

    /// Those records that the program honours: of this opening of an open slot, and with a backend that lives.
    pub fn honoured(&self, records: &Records, fate_of: impl Fn(BackendRef) -> Fate) -> Records {
        let alive = |backend: BackendRef| !backend.is_none() && fate_of(backend) == Fate::Alive;
        let honoured = |records: &[Record]| {
            records.iter().filter(|record| self.is_valid(&record.entry, alive)).copied().collect()
        };
        Records { newborn: honoured(&records.newborn), flows: honoured(&records.flows) }
    }

    /// Hears which slots another node has open for reasons of its own, all of them, and which backends they remember; [`BackendRef::NONE`] stands
    /// for one that is unknown here. This node closes none of them earlier.
    pub fn learn(&mut self, node: &str, told: &[(u32, BackendRef)], trust: Trust, now: u32) -> Learnt {
        let told: BTreeMap<u32, BackendRef> = told.iter().copied().collect();
        let learnt = match trust {
            Trust::Own => self.compare(&told),
            Trust::Open => self.follow(&told, false, now),
            Trust::Whole => self.follow(&told, true, now),
        };
        let followed = trust != Trust::Own;
        let slots = told.into_keys().collect();
        self.holds.insert(node.to_owned(), Hold { slots, followed, until: None });
        learnt
    }

    fn follow(&mut self, told: &BTreeMap<u32, BackendRef>, is_whole: bool, now: u32) -> Learnt {
        let mut learnt = Learnt::default();
        let slots = Arc::make_mut(&mut self.slots);
        let concerned: BTreeSet<u32> = told.keys().chain(self.open.keys()).copied().collect();
        for index in concerned {
            let Some(slot) = slots.get_mut(index as usize) else { continue };
            let is_open = self.open.contains_key(&index);
            let Some(&previous) = told.get(&index) else {
                // There all flows of the slot are on `current`, and whatever is recorded of it here is void.
                if is_open && is_whole {
                    learnt.changed += 1;
                    self.left.insert(slot.previous, now);
                    slot.previous = slot.current;
                    slot.phase = Phase::Closed as u8;
                    self.open.remove(&index);
                    self.unswept = true;
                }
                continue;
            };
            let remembered = if is_open { slot.previous } else { slot.current };
            if previous == remembered {
                continue;
            }
            if previous.is_none() {
                learnt.differing += 1;
                continue;
            }
            learnt.changed += 1;
            if is_open {
                self.left.insert(slot.previous, now);
            } else {
                slot.epoch = slot.epoch.wrapping_add(1);
            }
            self.open.insert(index, Life { learnt: true, own: false, ..Life::begin(now) });
            slot.previous = previous;
            slot.phase = Phase::Open as u8;
        }
        learnt
    }

    fn compare(&self, told: &BTreeMap<u32, BackendRef>) -> Learnt {
        let differs = |(index, previous): (&u32, &BackendRef)| {
            let slot = self.slots.get(*index as usize)?;
            let remembered = if self.open.contains_key(index) { slot.previous } else { slot.current };
            (remembered != *previous).then_some(())
        };
        Learnt { changed: 0, differing: told.iter().filter_map(differs).count() }
    }

    /// Another node is not heard any more. Its flows may come here, the silent ones after one idle timeout.
    pub fn lose(&mut self, node: &str, now: u32) {
        let until = now.saturating_add(self.timeouts.idle).saturating_add(1);
        if let Some(hold) = self.holds.get_mut(node) {
            hold.until.get_or_insert(until);
        }
    }

    /// The epoch by which a record of another node counts here, if it is of this slot and names this backend. May open the slot: the ring has to be
    /// published then. None if there is no such slot.
    pub fn place(&mut self, index: u32, backend: BackendRef, now: u32) -> Option<u16> {
        if index as usize >= self.slots.len() {
            return None;
        }
        self.left.insert(backend, now);
        let is_open = self.open.contains_key(&index);
        let slot = if is_open { self.slots[index as usize] } else { self.open_as_it_is(index, now) };
        Some(slot.epoch)
    }

    /// Opens a closed slot, all of whose flows are on `current`.
    fn open_as_it_is(&mut self, index: u32, now: u32) -> Slot {
        let slot = &mut Arc::make_mut(&mut self.slots)[index as usize];
        slot.previous = slot.current;
        slot.epoch = slot.epoch.wrapping_add(1);
        slot.phase = Phase::Open as u8;
        self.open.insert(index, Life { learnt: true, own: false, ..Life::begin(now) });
        *slot
    }

    /// The open slots that another node has open too: all of them, and those of a node that this one follows.
    pub(super) fn held(&self, now: u32) -> [HashSet<u32>; 2] {
        let lasting = || self.holds.values().filter(|hold| hold.until.is_none_or(|until| now < until));
        let is_open = |index: &&u32| self.open.contains_key(index);
        let all = lasting().flat_map(|hold| &hold.slots).filter(is_open).copied().collect();
        let followed = lasting().filter(|hold| hold.followed);
        [all, followed.flat_map(|hold| &hold.slots).filter(is_open).copied().collect()]
    }
}
