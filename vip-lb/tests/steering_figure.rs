//! What remembering slots are worth: connections broken by changes of the backends, with the Maglev ring alone and with slots.
//!
//! Run with `--nocapture` to see the table.

use std::net::IpAddr;

use vip_lb::config::model::Ports;
use vip_lb::steering::{
    Budget, Candidate, Fate, Limits, Record, Records, ServiceRing, Start, Timeouts, identity, populate,
};
use vip_lb_common::{
    HashKey, Verdict,
    abi::{
        Backend, BackendRef, FlowEntry, FlowKey, Mode, PortEntry, RingClass, ServiceRef, Settings, Slot, Vip,
    },
    memory::{MemoryPacket, MemoryTables},
    pipeline::process,
};

const VIP: [u8; 4] = [10, 0, 0, 1];
const SERVICE: u16 = 1;
const CLASS: RingClass = RingClass::Small;
const BACKENDS: usize = 10;
const IDLE: u32 = 12;
const ARRIVALS: u32 = 20;
const FLOOD: u32 = 100;
const LIMITS: Limits = Limits { flows: 4096, newborn: 64, survivors: 1024, cpus: 1 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Steering {
    Maglev,
    Slots,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Add,
    Drain,
    RollingRestart,
}

struct Conn {
    number: u32,
    backend: BackendRef,
    ends: u32,
}

struct Simulation {
    steering: Steering,
    flood: bool,
    tables: MemoryTables,
    ring: ServiceRing,
    budget: Budget,
    generations: Vec<u16>,
    up: Vec<usize>,
    conns: Vec<Conn>,
    tick: u32,
    begun: u32,
    broken: u32,
}

impl Simulation {
    fn new(steering: Steering, flood: bool) -> Self {
        let mut vip = Vip::default();
        vip.services[0] = PortEntry {
            port: 80,
            protocol: 6,
            reserved: 0,
            service: ServiceRef { id: SERVICE, ring_class: CLASS as u8, flags: 0 },
        };
        let mut tables = MemoryTables { flows_capacity: LIMITS.flows as usize, ..MemoryTables::default() };
        tables.vips.insert(IpAddr::from(VIP).into(), vip);
        let mut simulation = Self {
            steering,
            flood,
            tables,
            ring: ServiceRing::new(CLASS.slots(), Start::Visible, Timeouts::with_idle(IDLE)),
            budget: Budget::new(LIMITS),
            generations: vec![1; BACKENDS + 3],
            up: (1..=BACKENDS).collect(),
            conns: Vec::new(),
            tick: 0,
            begun: 0,
            broken: 0,
        };
        simulation.retarget();
        simulation
    }

    fn run(&mut self, change: Change) {
        self.pass(45);
        match change {
            Change::Add => {
                self.up.extend([BACKENDS + 1, BACKENDS + 2]);
                self.retarget();
                self.pass(90);
            }
            Change::Drain => {
                self.up.retain(|&backend| backend > 2);
                self.retarget();
                self.pass(90);
            }
            Change::RollingRestart => {
                for backend in 1..=3 {
                    self.up.retain(|&other| other != backend);
                    self.retarget();
                    self.pass_until_drained(backend);
                    self.generations[backend] += 1;
                    self.up.push(backend);
                    self.retarget();
                    self.pass(3);
                }
                self.pass(45);
            }
        }
    }

    fn pass_until_drained(&mut self, backend: usize) {
        let reference = self.reference(backend);
        self.pass(45);
        if self.steering == Steering::Slots {
            for _ in 0..150 {
                if !self.ring.names(reference) {
                    return;
                }
                self.pass(1);
            }
            panic!("{reference:?} is never drained");
        }
    }

    fn pass(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.tick += 1;
            self.tables.settings = Some(Settings {
                tick: self.tick,
                record_budget: self.budget.next_tick(),
                survivor_budget: self.budget.survivors(),
                fresh_until: u32::MAX,
                ..Settings::new(HashKey::from_seed(&[7; 32]))
            });
            if self.flood {
                for number in 0..FLOOD {
                    self.send([198, 18], self.tick * FLOOD + number, 0x02);
                }
            }
            self.clients();
            self.look();
        }
    }

    fn clients(&mut self) {
        let mut conns = std::mem::take(&mut self.conns);
        conns.retain(|conn| {
            if conn.ends <= self.tick
                || self.generations[conn.backend.index as usize] != conn.backend.generation
            {
                return false;
            }
            let speaks = conn.number % 4 == self.tick % 4;
            if speaks && self.send([192, 0], conn.number, 0x10) != Some(conn.backend) {
                self.broken += 1;
                return false;
            }
            true
        });
        for _ in 0..ARRIVALS {
            self.begun += 1;
            let number = self.begun;
            if let Some(backend) = self.send([192, 0], number, 0x02) {
                conns.push(Conn { number, backend, ends: self.tick + 15 + number * 7 % 30 });
            }
        }
        self.conns = conns;
    }

    fn send(&mut self, [a, b]: [u8; 2], number: u32, flags: u8) -> Option<BackendRef> {
        let [_, c, d, e] = number.to_be_bytes();
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, a, b, c, d]);
        frame.extend(VIP);
        frame.extend([128 | e, e, 0, 80]);
        frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        let fate = process(&mut MemoryPacket::new(&frame, 1), &self.tables);
        self.tables.steps.get_mut().clear();
        (fate.verdict == Verdict::ForwardedL2).then(|| self.reference(fate.backend.into()))
    }

    fn reference(&self, backend: usize) -> BackendRef {
        BackendRef { index: backend as u16, generation: self.generations[backend] }
    }

    fn fate_of(&self) -> impl Fn(BackendRef) -> Fate + use<> {
        let generations = self.generations.clone();
        move |backend| {
            if generations[backend.index as usize] == backend.generation { Fate::Alive } else { Fate::Dead }
        }
    }

    fn retarget(&mut self) {
        for (index, &generation) in (0..).zip(&self.generations) {
            let backend = Backend { generation, mode: Mode::L2 as u8, mtu: 1500, ..Backend::default() };
            self.tables.backends.insert(index, backend);
        }
        let candidates: Vec<_> = self
            .up
            .iter()
            .map(|&backend| Candidate {
                identity: identity(VIP.into(), Ports::One(80), 6, IpAddr::from([10, 0, 1, backend as u8])),
                weight: 1,
            })
            .collect();
        let picks: Vec<_> = populate(&[7; 32], CLASS.slots(), &candidates)
            .into_iter()
            .map(|pick| pick.map_or(BackendRef::NONE, |pick| self.reference(self.up[pick as usize])))
            .collect();
        match self.steering {
            Steering::Slots => {
                self.ring.retarget(&picks, self.fate_of(), self.tick);
                self.publish();
            }
            Steering::Maglev => {
                let settled = |current| Slot { current, previous: current, ..Slot::default() };
                let ring: Vec<_> = picks.into_iter().map(settled).collect();
                self.tables.rings.insert(SERVICE, ring.into());
            }
        }
    }

    fn publish(&mut self) {
        let replaced = self.tables.rings.insert(SERVICE, self.ring.slots().to_vec().into());
        if let Some(replaced) = replaced {
            self.ring.merge(&replaced.into_inner());
        }
    }

    fn look(&mut self) {
        self.budget.begin_look();
        let records = |table: &std::collections::HashMap<FlowKey, FlowEntry>| {
            let records = table.iter().map(|(&key, &entry)| Record { key, entry });
            records.collect::<Vec<_>>()
        };
        let records = Records {
            newborn: records(&self.tables.newborn.borrow()),
            flows: records(&self.tables.flows.borrow()),
        };
        let published = self.tables.rings[&SERVICE].borrow().clone();
        let collected = self.ring.collect(&records, &published, self.fate_of(), self.tick);
        if collected.moved > 0 {
            self.publish();
        }
        for record in &collected.newborn {
            self.tables.newborn.get_mut().remove(&record.key);
        }
        for record in &collected.flows {
            self.tables.flows.get_mut().remove(&record.key);
        }
        self.budget.finish_look(collected.occupied);
    }
}

#[test]
fn slots_break_no_connection_where_maglev_alone_does() {
    println!("broken of all connections   {:>8} {:>8}", "Maglev", "slots");
    for change in [Change::Add, Change::Drain, Change::RollingRestart] {
        // A flood delays a drain, for which a rolling restart would wait in vain.
        for flood in [false, true].into_iter().take(if change == Change::RollingRestart { 1 } else { 2 }) {
            let [maglev, slots] = [Steering::Maglev, Steering::Slots].map(|steering| {
                let mut simulation = Simulation::new(steering, flood);
                simulation.run(change);
                (simulation.broken, simulation.begun)
            });
            let name = format!("{change:?}{}", if flood { " + SYN flood" } else { "" });
            let share = |(broken, begun): (u32, u32)| f64::from(broken) / f64::from(begun) * 100.0;
            println!("{name:<27} {:>7.1}% {:>7.1}%", share(maglev), share(slots));
            assert!(maglev.0 > 0, "{name}: nothing was at stake");
            assert_eq!(slots.0, 0, "{name}");
        }
    }
}
