//! The other node: it has no traffic, hears what is recorded, and takes over now and then.

use vip_lb::steering::{Budget, Clock, Record, Records, Report, ServiceRing, Told, Trust};
use vip_lb_common::{
    Tables as _,
    abi::{Backend, BackendRef, FlowEntry, FlowKey, Phase},
};

use crate::{
    Defect,
    daemon::records,
    tables::ModelTables,
    world::{SLOTS, TIMEOUTS, World},
};

/// What a node has of its own. Servers, clients and the time are the same for both.
pub(crate) struct Node {
    tables: ModelTables,
    ring: ServiceRing,
    budget: Budget,
    told: Told,
    tick: u32,
    /// The backends have changed, and this node does not know yet.
    outdated: bool,
    /// What it has no room for. As long as there is some, nothing moves on purpose.
    refused: usize,
}

impl Node {
    pub(crate) fn write_backend(&mut self, index: u16, backend: Backend) {
        self.tables.inner.backends.insert(index, backend);
    }
}

impl World {
    /// Adds the other node.
    pub(crate) fn add_spare(&mut self) {
        self.spare = Some(Node {
            tables: Self::empty_tables(self.kind, 2, self.defect),
            ring: ServiceRing::new(SLOTS, self.kind.start(), TIMEOUTS),
            budget: Budget::new(Self::limits()),
            told: Told::default(),
            // Clocks of nodes have nothing to do with each other.
            tick: 5000 + self.random.below(100) as u32,
            outdated: false,
            refused: 0,
        });
        for index in 1..self.servers.len() as u16 {
            self.write_backend(index);
        }
        self.as_spare(|spare| {
            let tick = spare.tick;
            spare.tables.inner.settings.as_mut().unwrap().tick = tick;
            spare.retarget();
        });
    }

    /// Its part of a second: time, what was told, its own look, perhaps a change of place.
    pub(crate) fn spare_second(&mut self) {
        if self.spare.is_none() {
            return;
        }
        self.as_spare(|spare| {
            spare.daemon_second();
            if spare.random.percent(60) {
                spare.look();
            }
        });
        if self.random.percent(60) {
            self.update_spare();
        }
        if !self.over && self.random.percent(1) {
            self.reboot_spare();
        }
        if self.second >= self.paused_until {
            if self.random.percent(70) {
                self.as_spare(|spare| spare.tell_spare(false));
                self.tell_spare(true);
            }
            // Each move begins the idle timeout anew.
            if !self.over && self.random.percent(6) {
                self.move_over();
            }
        }
    }

    /// Does something as the other node, whose packets are none.
    fn as_spare(&mut self, act: impl FnOnce(&mut Self)) {
        let paused_until = std::mem::take(&mut self.paused_until);
        let was_quiet = std::mem::replace(&mut self.quiet, true);
        self.swap();
        act(self);
        self.swap();
        self.quiet = was_quiet;
        self.paused_until = paused_until;
    }

    fn swap(&mut self) {
        let Some(spare) = &mut self.spare else { return };
        std::mem::swap(&mut self.tables, &mut spare.tables);
        std::mem::swap(&mut self.ring, &mut spare.ring);
        std::mem::swap(&mut self.budget, &mut spare.budget);
        std::mem::swap(&mut self.told, &mut spare.told);
        std::mem::swap(&mut self.tick, &mut spare.tick);
    }

    /// The backends have changed.
    pub(crate) fn outdate_spare(&mut self) {
        if let Some(spare) = &mut self.spare {
            spare.outdated = true;
        }
    }

    fn update_spare(&mut self) {
        if self.spare.as_mut().is_some_and(|spare| std::mem::take(&mut spare.outdated)) {
            self.as_spare(Self::retarget);
        }
    }

    /// It comes back with empty maps, and has to be told everything.
    fn reboot_spare(&mut self) {
        self.tell(|| "the spare node reboots".into());
        self.stats.rebooted += 1;
        self.add_spare();
        self.told = Told::default();
    }

    fn clock(&self) -> Clock {
        // A tick that began somewhere else lags by another number, always the same one.
        Clock { tick: self.tick, lag: (self.second + 10_000) - self.tick }
    }

    fn shared(&mut self, serves: bool) -> Vec<(u32, BackendRef)> {
        if self.defect == Some(Defect::HoldsAreTold) {
            let open =
                self.ring.slots().iter().zip(0..).filter(|(slot, _)| slot.phase != Phase::Closed as u8);
            open.map(|(slot, index)| (index, slot.previous)).collect()
        } else {
            self.ring.shared(serves, self.tick)
        }
    }

    /// Whether there is a record that is not to be replaced.
    fn keeps(&self, key: &FlowKey, told: &FlowEntry, trust: Trust) -> bool {
        let inner = &self.tables.inner;
        let entries = [inner.flows.borrow().get(key).copied(), inner.newborn.borrow().get(key).copied()];
        let records = entries.into_iter().flatten().map(|entry| Record { key: *key, entry });
        let of_both = Records { flows: records.collect(), ..Records::default() };
        let honoured = self.ring.honoured(&of_both, self.fates());
        honoured.flows.iter().any(|record| self.told.keeps(record, told, trust))
    }

    /// The node with the traffic tells the other one, or the other way round.
    fn tell_spare(&mut self, serves: bool) {
        let slots = self.shared(serves);
        let found = Records {
            newborn: records(&self.tables.inner.newborn.borrow()),
            flows: records(&self.tables.inner.flows.borrow()),
        };
        let found = self.ring.honoured(&found, self.fates());
        let open = slots.iter().map(|&(index, _)| index).collect();
        let news = self.told.news(&found, open, TIMEOUTS, self.clock());
        let currents: Vec<_> = self.ring.slots().iter().map(|slot| slot.current).collect();
        let mut refused = 0;
        self.as_spare(|spare| {
            let same = spare.ring.slots().iter().map(|slot| slot.current).eq(currents);
            let trust = match (serves && spare.defect != Some(Defect::NothingIsLearnt), same) {
                (false, _) => Trust::Own,
                (true, false) => Trust::Open,
                (true, true) => Trust::Whole,
            };
            let mut changed = spare.ring.learn("other", &slots, trust, spare.tick).changed > 0;
            if spare.defect == Some(Defect::NothingIsHeld) {
                spare.ring.lose("other", 0);
            }
            for (Record { key, entry }, newborn) in news.gone.iter().filter_map(|key| spare.told.forget(key))
            {
                let inner = &spare.tables.inner;
                let mut table = if newborn { inner.newborn.borrow_mut() } else { inner.flows.borrow_mut() };
                if table.get(&key) == Some(&entry) {
                    table.remove(&key);
                }
            }
            for &Report { record: Record { key, entry }, newborn, silence } in &news.reports {
                if !spare.is_alive(entry.backend) || spare.defect == Some(Defect::NothingIsTold) {
                    continue;
                }
                // A packet in this tick has to leave a trace.
                let seen = spare.tick.saturating_sub(silence + 1);
                if spare.keeps(&key, &FlowEntry { seen, ..entry }, trust) {
                    continue;
                }
                let before = spare.ring.open();
                let epoch = spare.ring.place(entry.slot, entry.backend, spare.tick).unwrap();
                changed |= spare.ring.open() > before;
                let entry = FlowEntry { epoch, seen, ..entry };
                let inner = &spare.tables.inner;
                let is_there = inner.flows.borrow().contains_key(&key);
                let has_room = if newborn {
                    inner.flows.borrow_mut().remove(&key);
                    spare.tables.insert_newborn(&key, &entry)
                } else {
                    (is_there || spare.budget.take(1) == 1) && spare.tables.insert_flow(&key, &entry)
                };
                refused += usize::from(!has_room);
                spare.told.heard(Record { key, entry }, newborn, spare.clock());
            }
            if changed {
                spare.publish();
            }
        });
        if let Some(spare) = &mut self.spare {
            spare.refused += refused;
        }
    }

    /// The flows move to the other node, because somebody wants it.
    fn move_over(&mut self) {
        self.update_spare();
        if self.defect != Some(Defect::NothingIsFrozen)
            && let Some(settings) = &mut self.tables.inner.settings
        {
            settings.record_budget = 0;
        }
        let was_quiet = std::mem::replace(&mut self.quiet, true);
        self.look();
        self.quiet = was_quiet;
        self.tell_spare(true);
        if self.spare.as_mut().is_none_or(|spare| std::mem::take(&mut spare.refused) > 0) {
            // It asks for all of it again.
            self.told = Told::default();
            return;
        }
        self.traffic(4);
        self.tell(|| "the flows move to the other node".into());
        self.stats.moved += 1;
        self.swap();
        // What it has heard the other one may forget before it is told anything.
        self.told.tell_all();
        self.note_move();
    }
}
