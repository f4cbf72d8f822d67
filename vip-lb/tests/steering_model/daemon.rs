//! What the daemon of the model does: ticks, collections, changes of the backends.

use vip_lb::steering::{Budget, Candidate, Fate, Record, Records, ServiceRing, populate};
use vip_lb_common::abi::{BackendRef, FlowEntry, FlowKey, Phase};

use crate::{
    Defect, Kind,
    world::{SERVICE, SLOTS, ServerState, TIMEOUTS, World},
};

impl World {
    /// The daemon's part of a second.
    pub(crate) fn daemon_second(&mut self) {
        if self.second < self.paused_until {
            return;
        }
        let mut seconds = 1;
        if self.paused_until > 0 {
            if self.defect == Some(Defect::LeapingTick) {
                seconds = self.second - self.tick;
            }
            self.paused_until = 0;
            if self.random.percent(50) {
                self.restart();
            }
        }
        self.tick += seconds;
        if let Some(settings) = &mut self.tables.inner.settings {
            settings.tick = self.tick;
            settings.record_budget = self.budget.next_tick();
            settings.survivor_budget = self.budget.survivors();
        }
    }

    pub(crate) fn pause(&mut self) {
        self.paused_until = self.second + 2 + self.random.below(40) as u32;
        let until = self.paused_until;
        self.tell(|| format!("the daemon stands still until {until}"));
    }

    /// The daemon is killed and started again.
    pub(crate) fn restart(&mut self) {
        self.tell(|| "the daemon restarts".into());
        let published = self.tables.inner.rings[&SERVICE].borrow().clone();
        self.ring = ServiceRing::adopt(published, self.kind.start(), TIMEOUTS, self.tick);
        self.budget = Budget::new(Self::limits());
        self.told = vip_lb::steering::Told::default();
        self.retarget();
    }

    /// Walks the tables, while packets go on.
    pub(crate) fn look(&mut self) {
        self.budget.begin_look();
        let newborn = records(&self.tables.inner.newborn.borrow());
        self.traffic(1);
        let flows = records(&self.tables.inner.flows.borrow());
        self.traffic(1);
        let mut live = self.tables.inner.rings[&SERVICE].borrow().clone();
        if self.defect == Some(Defect::CloseIgnoresUnrecorded) {
            live.clear();
        }
        if self.kind == Kind::Tcp {
            if self.settling() > 0 && self.random.percent(30) {
                self.burst();
                self.traffic(self.pace());
            }
            self.traffic(2);
        }
        let found = if self.defect == Some(Defect::CloseIgnoresRecords) {
            Records::default()
        } else {
            Records { newborn, flows }
        };
        let fates = self.fates();
        let settling = self.settling();
        let collected = self.ring.collect(&found, &live, fates, self.tick);
        self.stats.closed += collected.closed as u64;
        self.stats.settled += settling.saturating_sub(self.settling()) as u64;
        let delete_first = self.defect == Some(Defect::DeleteBeforePublish);
        if collected.moved > 0 && !delete_first {
            self.publish();
            self.traffic(1);
            if !self.over && !self.quiet && self.random.percent(15) {
                // Killed before anything was deleted, and started again with another configuration.
                self.restart();
                self.change();
                self.traffic(self.pace());
                return;
            }
        }
        let kept = if !self.over && self.random.percent(30) {
            // Deleting is housekeeping: nothing may hang on when it is done.
            collected.newborn.len() + collected.flows.len()
        } else {
            remove(self.tables.inner.newborn.get_mut(), &collected.newborn)
                + remove(self.tables.inner.flows.get_mut(), &collected.flows)
        };
        if collected.moved > 0 && delete_first {
            self.traffic(1);
            self.publish();
        }
        self.budget.finish_look(collected.occupied + kept);
    }

    fn settling(&self) -> usize {
        let slots = self.ring.slots().iter();
        slots.filter(|slot| slot.phase == Phase::Settling as u8).count()
    }

    /// The set of backends changes.
    pub(crate) fn change(&mut self) {
        let index = 1 + self.random.below(self.servers.len() as u64 - 1) as u16;
        let state = self.servers[index as usize].state;
        match (state, self.random.below(100)) {
            (ServerState::Dead, _) => self.set_state(index, ServerState::Up),
            (ServerState::Up, 0..35) => self.set_state(index, ServerState::Draining),
            (ServerState::Up, 35..55) => {
                self.set_state(index, ServerState::Draining);
                self.traffic(6);
                self.set_state(index, ServerState::Up);
            }
            (ServerState::Up, 55..80) => {
                self.servers[index as usize].weight = 1 + self.random.below(3) as u16;
                self.outdate_spare();
                self.retarget();
            }
            (ServerState::Draining, 0..60) => self.set_state(index, ServerState::Up),
            _ => self.kill(index),
        }
    }

    /// Takes out what is drained.
    pub(crate) fn remove_drained(&mut self) {
        for index in 1..self.servers.len() as u16 {
            let backend = self.reference(index);
            if self.servers[index as usize].state == ServerState::Draining && !self.ring.names(backend) {
                self.check_drained(backend);
                self.stats.drained += 1;
                self.kill(index);
            }
        }
    }

    fn set_state(&mut self, index: u16, state: ServerState) {
        self.tell(|| format!("backend {index} is {state:?}"));
        self.servers[index as usize].state = state;
        self.write_backend(index);
        self.outdate_spare();
        self.retarget();
    }

    fn kill(&mut self, index: u16) {
        self.tell(|| format!("backend {index} dies"));
        self.servers[index as usize].state = ServerState::Dead;
        self.servers[index as usize].generation += 1;
        self.write_backend(index);
        self.outdate_spare();
        self.traffic(2);
        self.retarget();
    }

    /// Which backends live now.
    pub(crate) fn fates(&self) -> impl Fn(BackendRef) -> Fate + use<> {
        let servers = self.servers.clone();
        move |backend| {
            let server = servers[backend.index as usize];
            let alive = server.generation == backend.generation && server.state != ServerState::Dead;
            if alive { Fate::Alive } else { Fate::Dead }
        }
    }

    /// Lets the ring follow the backends.
    pub(crate) fn retarget(&mut self) {
        let up: Vec<u16> = (1..self.servers.len() as u16)
            .filter(|&index| self.servers[index as usize].state == ServerState::Up)
            .collect();
        let candidates: Vec<_> = up
            .iter()
            .map(|&index| Candidate {
                identity: u64::from(index),
                weight: self.servers[index as usize].weight.into(),
            })
            .collect();
        let picks: Vec<_> = populate(&[3; 32], SLOTS, &candidates)
            .into_iter()
            .map(|pick| pick.map_or(BackendRef::NONE, |position| self.reference(up[position as usize])))
            .collect();
        let fates = self.fates();
        let changes = self.ring.retarget(&picks, fates, self.tick);
        self.stats.opened += changes.opened as u64;
        if changes.any() {
            self.publish();
        }
    }

    pub(crate) fn publish(&mut self) {
        let mut slots = self.ring.slots().to_vec();
        for slot in &mut slots {
            match self.defect {
                Some(Defect::PreviousFollowsCurrent) => slot.previous = slot.current,
                Some(Defect::NoSettling) if slot.phase == Phase::Settling as u8 => {
                    slot.phase = Phase::Open as u8;
                }
                _ => {}
            }
        }
        self.tell(|| format!("published {slots:?}"));
        let replaced = self.tables.inner.rings.insert(SERVICE, slots.into());
        if let Some(replaced) = replaced
            && self.defect != Some(Defect::CloseIgnoresUnrecorded)
        {
            self.ring.merge(&replaced.into_inner());
        }
    }
}

type Table = std::collections::HashMap<FlowKey, FlowEntry>;

pub(crate) fn records(table: &Table) -> Vec<Record> {
    let mut records: Vec<_> = table.iter().map(|(&key, &entry)| Record { key, entry }).collect();
    // The order of a hash map differs from run to run; a history must not.
    records.sort_by_key(|record| (record.key.source, record.key.source_port));
    records
}

/// Deletes what is still as it was read; returns how many were not.
fn remove(table: &mut Table, stale: &[Record]) -> usize {
    let before = table.len();
    for record in stale {
        if table.get(&record.key) == Some(&record.entry) {
            table.remove(&record.key);
        }
    }
    stale.len() - (before - table.len())
}
