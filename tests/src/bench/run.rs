//! Runs of all cases and floors, interleaved.

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp};
use vip_lb_common::Action;

use super::{
    balancer::{self, Balancer},
    cases::{CASES, Case, FLOOR_TRAFFIC, Floor, PORT, Senders, Setup, Traffic},
    object::Objects,
    packets::{self, Client, Ends},
    statistics::Quartiles,
    wrapper::{Floors, Wrapper},
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Different flows.
    pub flows: usize,
    /// Rounds, in each of which every program runs once.
    pub rounds: usize,
    /// Packets of a round for each program; at least all flows.
    pub packets: u32,
    /// Only the cases that are measured in time.
    pub timed: bool,
}

impl Effort {
    fn cases(&self) -> impl Iterator<Item = &'static Case> + use<> {
        let timed = self.timed;
        CASES.iter().filter(move |case| case.timed || !timed)
    }
}

/// What a lane was about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subject {
    /// The balancer in a case.
    Case(&'static Case),
    /// A floor.
    Floor(Floor),
}

impl Subject {
    /// The name in figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Case(case) => case.name,
            Self::Floor(floor) => floor.name(),
        }
    }
}

/// What was measured of one subject, round by round, net of the wrapper.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Of what.
    pub subject: Subject,
    /// Nanoseconds for each packet.
    pub rounds: Vec<f64>,
}

impl Measurement {
    /// Median and quartiles.
    pub fn quartiles(&self) -> Quartiles {
        Quartiles::of(self.rounds.clone())
    }

    /// How many times as long as `other` this took: the median over the rounds.
    pub fn ratio_to(&self, other: &Self) -> f64 {
        let ratios = self.rounds.iter().zip(&other.rounds).map(|(a, b)| a / b);
        Quartiles::of(ratios.collect()).median
    }
}

/// The largest net time of the drop floor that a sound run may have, in nanoseconds (of any sign).
const NOTHING: f64 = 3.0;

/// Everything loaded, ready to be timed.
#[derive(Debug)]
pub struct Bench {
    balancers: Vec<(Setup, Balancer)>,
    floors: Floors,
    sets: Vec<(Traffic, Wrapper)>,
    strangers: Vec<Client>,
    effort: Effort,
}

impl Bench {
    /// Loads what all cases need.
    ///
    /// # Errors
    ///
    /// When the kernel does not take a program, or a first packet does not end as its case says.
    pub fn load(objects: &Objects, effort: Effort) -> Result<Self> {
        let all = packets::clients(effort.flows + effort.packets as usize);
        let (clients, strangers) = all.split_at(effort.flows);
        let mut balancers: Vec<(Setup, Balancer)> = Vec::new();
        let mut sets: Vec<(Traffic, Wrapper)> = Vec::new();
        for case in effort.cases() {
            if balancers.iter().all(|(setup, _)| *setup != case.setup) {
                let balancer = Balancer::load(&objects.balancer, &case.setup, clients)
                    .with_context(|| format!("prepare {}", case.name))?;
                balancers.push((case.setup, balancer));
            }
            if sets.iter().all(|(traffic, _)| *traffic != case.traffic) {
                let mut frames = frames(case.traffic, clients, strangers);
                packets::shuffle(&mut frames);
                sets.push((case.traffic, Wrapper::load(&objects.bench, &frames)?));
            }
        }
        let floors = Floors::load(&objects.bench)?;
        let bench = Self { balancers, floors, sets, strangers: strangers.to_vec(), effort };
        bench.check_actions(&clients[..1])?;
        Ok(bench)
    }

    /// Times all cases and floors, in turn in every round, so that drift of the machine hits them alike.
    ///
    /// # Errors
    ///
    /// When a packet was not restored, ended as its case does not say, or nothing took time.
    pub fn run(&mut self) -> Result<Vec<Measurement>> {
        let cases = self.effort.cases().map(Subject::Case);
        let subjects: Vec<Subject> = Floor::ALL.map(Subject::Floor).into_iter().chain(cases).collect();
        let mut measurements: Vec<Measurement> =
            subjects.iter().map(|&subject| Measurement { subject, rounds: Vec::new() }).collect();
        let packets = self.effort.packets.max(self.effort.flows as u32);
        // The first round warms caches, and counts for nothing.
        for round in 0..=self.effort.rounds {
            let mut nulls = Vec::new();
            for (_, set) in &mut self.sets {
                nulls.push(set.time(None, packets)?);
            }
            for measurement in &mut measurements {
                let (set, gross) = self.time(measurement.subject, packets)?;
                if round > 0 {
                    measurement.rounds.push(gross - nulls[set]);
                }
            }
        }
        let nothing = measurements[0].quartiles().median;
        ensure!(
            nothing.abs() <= NOTHING,
            "a program that does nothing took {nothing:.1} ns: the machine is too busy to measure"
        );
        self.check_verdicts()?;
        Ok(measurements)
    }

    /// Instructions that the verifier looked at, by program of the balancer's object.
    ///
    /// # Errors
    ///
    /// When the kernel does not say (before 5.16).
    pub fn verified_instructions(&mut self) -> Result<Vec<(String, f64)>> {
        self.balancers[0].1.verified_instructions()
    }

    /// The program of a subject.
    ///
    /// # Errors
    ///
    /// Never after `load`.
    pub fn program(&self, subject: Subject) -> Result<&Xdp> {
        match subject {
            Subject::Floor(floor) => self.floors.program(floor),
            Subject::Case(case) => self.balancer(&case.setup)?.program(),
        }
    }

    /// Number of the packet set, and nanoseconds with the wrapper.
    fn time(&mut self, subject: Subject, packets: u32) -> Result<(usize, f64)> {
        let traffic = match subject {
            Subject::Floor(_) => FLOOR_TRAFFIC,
            Subject::Case(case) => case.traffic,
        };
        if let Subject::Case(case) = subject
            && case.traffic.senders == Senders::Strangers
        {
            let (setup, balancer) = self
                .balancers
                .iter_mut()
                .find(|(loaded, _)| *loaded == case.setup)
                .context("find the balancer of a case")?;
            balancer.forget(setup, &self.strangers)?;
        }
        let program: ProgramFd = self.program(subject)?.fd()?.try_clone()?;
        let at = self
            .sets
            .iter()
            .position(|(loaded, _)| *loaded == traffic)
            .with_context(|| format!("find the packets of {}", subject.name()))?;
        let gross = self.sets[at]
            .1
            .time(Some(&program), packets)
            .with_context(|| format!("time {}", subject.name()))?;
        Ok((at, gross))
    }

    fn balancer(&self, setup: &Setup) -> Result<&Balancer> {
        self.balancers
            .iter()
            .find_map(|(loaded, balancer)| (loaded == setup).then_some(balancer))
            .context("find the balancer of a case")
    }

    /// One packet of each case, without the wrapper.
    fn check_actions(&self, client: &[Client]) -> Result<()> {
        const XDP_DROP: u32 = 1;
        const XDP_PASS: u32 = 2;
        const XDP_TX: u32 = 3;
        for case in self.effort.cases() {
            let expected = match case.verdict.action() {
                Action::Forward | Action::Reply => XDP_TX,
                Action::Pass => XDP_PASS,
                Action::Drop => XDP_DROP,
            };
            let frame = &frames(case.traffic, client, &self.strangers[..1])[0];
            let got = run_once(self.balancer(&case.setup)?.program()?, frame)?;
            ensure!(
                got == expected,
                "a packet of {} ended with XDP action {got}, expected {expected}",
                case.name
            );
        }
        let frame = &frames(FLOOR_TRAFFIC, client, &[])[0];
        for floor in [Floor::Swap, Floor::RingMac, Floor::RingIpip] {
            let got = run_once(self.floors.program(floor)?, frame)?;
            ensure!(got == XDP_TX, "{} ended with XDP action {got}", floor.name());
        }
        Ok(())
    }

    fn check_verdicts(&self) -> Result<()> {
        for (setup, balancer) in &self.balancers {
            let of_setup = self.effort.cases().filter(|case| case.setup == *setup);
            let expected: Vec<_> = of_setup.map(|case| case.verdict).collect();
            balancer.check_verdicts(&expected)?;
            balancer.check_shown(setup)?;
        }
        Ok(())
    }
}

fn frames(traffic: Traffic, clients: &[Client], strangers: &[Client]) -> Vec<Vec<u8>> {
    let Traffic { destination, payload, senders } = traffic;
    let of_client = |&client: &Client| packets::frame(Ends::of_client(client, destination, PORT), payload);
    match senders {
        Senders::Clients => clients.iter().map(of_client).collect(),
        Senders::Strangers => strangers.iter().map(of_client).collect(),
        Senders::Backends => {
            let of_backend = |number: usize| {
                let (backend, port) = balancer::connection(number);
                let ends = Ends {
                    source: balancer::backend_address(backend, destination.is_ipv6()),
                    source_port: PORT,
                    destination,
                    destination_port: port,
                };
                packets::frame(ends, payload)
            };
            (0..clients.len()).map(of_backend).collect()
        }
    }
}

fn run_once(program: &Xdp, frame: &[u8]) -> Result<u32> {
    let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
    Ok(program.test_run(options)?.return_value)
}
