//! Generated packets through kernel and host side by side, with the oracle's opinion of what came out.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Serialize;
use vip_lb_common::{
    Action, Verdict,
    abi::{LinkAddress, ServiceOptions, Settings},
};

use super::{
    Dice, Outcome, Pair, Program, SHORTEST_FRAME, Scenario,
    generate::{Generator, Packet},
    oracle::{Judged, Oracle},
    world::{nat, world},
};
use crate::packet::check;

/// Packets after which settings change, seconds pass and all tables are compared.
const ROUND: usize = 4_000;
/// Frames of each verdict that are handed to yet another parser.
const SAMPLES_OF_VERDICT: usize = 60;

/// What a run found.
#[derive(Debug, Default)]
pub struct Report {
    /// Packets that were compared.
    pub packets: usize,
    /// What kernel, host and oracle did not agree on, for people. The run ends with the first.
    pub disagreements: Vec<String>,
    /// How packets ended.
    pub verdicts: BTreeMap<&'static str, usize>,
    /// Sound frames that were sent on or answered.
    pub samples: Vec<Sample>,
}

/// A sound frame, what became of it, and what an independent parser needs to know to form its opinion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Name of the verdict.
    pub verdict: &'static str,
    /// What went in, in hex.
    pub input: String,
    /// What came out, in hex.
    pub output: String,
    /// MAC address of the node on the interface that it came in by.
    pub node_mac: String,
    /// MAC addresses of virtual routers, by the VIPs that are answered for with them.
    pub virtual_macs: BTreeMap<String, String>,
    /// Source and destination of the outer headers that frames are put into.
    pub tunnels: Vec<(String, String)>,
    /// UDP port of GUE.
    pub gue_port: u16,
}

/// The world, in which ICMP errors of every seventh service may not be steered, and those of others without end: what is counted by the
/// second depends on a clock, which kernel and host read at different times.
pub fn scenario() -> Scenario {
    let mut scenario = world();
    nat::add(&mut scenario);
    let services: Vec<u16> = scenario.rings.keys().map(|service| service.id).collect();
    for service in services {
        let options: &mut ServiceOptions = scenario.service_options.entry(service).or_default();
        options.icmp_rate = if service % 7 == 0 { 0 } else { u16::MAX };
    }
    scenario.watched()
}

/// Runs this many packets at least. Says in `name` how to have them again.
///
/// # Panics
///
/// Where the programs cannot be loaded.
pub fn run(packets: usize, dice: Dice, name: &str) -> Report {
    let scenario = scenario();
    let mut pair = Pair::new(&scenario);
    let oracle = Oracle::new(&scenario);
    let mut generator = Generator::new(&scenario, dice);
    let mut sampler = Sampler::new(&scenario);
    let mut report = Report::default();
    let mut round_ends = 0;
    while report.packets < packets && report.disagreements.is_empty() {
        if report.packets >= round_ends {
            pair.compare_timeless_tables(&format!("before packet {} of {name}", report.packets));
            begin_round(&mut pair, &mut generator.dice);
            round_ends += ROUND;
        }
        for packet in generator.burst() {
            match judged(&mut pair, &oracle, &packet) {
                Ok(outcome) => {
                    *report.verdicts.entry(outcome.verdict.name()).or_default() += 1;
                    sampler.take(&packet, &outcome);
                    generator.saw(&outcome);
                }
                Err(difference) => {
                    let number = report.packets;
                    report.disagreements.push(described(&scenario, &packet, &difference, number, name));
                    break;
                }
            }
            report.packets += 1;
        }
    }
    if report.disagreements.is_empty() {
        pair.compare_timeless_tables(&format!("at the end of {name}"));
    }
    report.samples = sampler.samples;
    report
}

/// Runs frames through fresh tables, each judged.
///
/// # Errors
///
/// The first disagreement.
///
/// # Panics
///
/// Where the programs cannot be loaded.
pub fn run_frames(frames: &[(Program, Vec<u8>)]) -> Result<Vec<Outcome>, String> {
    let scenario = scenario();
    let (mut pair, oracle) = (Pair::new(&scenario), Oracle::new(&scenario));
    let run = |(program, frame): &(Program, Vec<u8>)| {
        judged(&mut pair, &oracle, &Packet { program: *program, frame: frame.clone() })
    };
    let outcomes = frames.iter().map(run).collect();
    pair.compare_timeless_tables("single frames");
    outcomes
}

/// Runs a packet through kernel and host, and asks the oracle.
fn judged(pair: &mut Pair, oracle: &Oracle, packet: &Packet) -> Result<Outcome, String> {
    let Packet { program, frame } = packet;
    let outcome = pair.compare(*program, frame, 0)?.ok_or("the kernel takes no frame as it is")?;
    let judged = Judged { program: *program, input: frame, outcome: &outcome, tables: pair.tables() };
    oracle
        .judge(&judged)
        .map_err(|fault| format!("{:?}: {fault}\noutput {}", outcome.verdict, hex(&outcome.frame)))?;
    Ok(outcome)
}

/// Seconds pass, budgets and peers come and go.
fn begin_round(pair: &mut Pair, dice: &mut Dice) {
    let settings = pair.settings();
    pair.set_settings(Settings {
        tick: settings.tick + dice.below(3) as u32,
        // Whoever watches sees, and changes nothing.
        flags: *dice.pick(&[0, Settings::PEERS]) | *dice.pick(&[0, Settings::WATCHED, Settings::WATCHDOG]),
        record_budget: *dice.pick(&[0, 3, 50, 1000]),
        survivor_budget: *dice.pick(&[0, 3, 50, 1000]),
        nat_ports: *dice.pick(&[1, 2, 16, 64]),
        ..settings
    });
}

/// What happened, and how to see it again: by the frame alone where fresh tables show it, else by the seed.
fn described(scenario: &Scenario, packet: &Packet, difference: &str, number: usize, name: &str) -> String {
    let again = |frame: &[u8]| {
        let (mut pair, oracle) = (Pair::new(scenario), Oracle::new(scenario));
        judged(&mut pair, &oracle, &Packet { program: packet.program, frame: frame.to_vec() }).err()
    };
    let mut text = format!(
        "packet {number} of {name}, {:?}: {difference}\ninput  {}\n",
        packet.program,
        hex(&packet.frame)
    );
    match again(&packet.frame) {
        Some(_) => {
            let small = shrunk(&packet.frame, |frame| again(frame).is_some());
            text.push_str(&format!(
                "alone it shows the same, shrunk to {} bytes: {}\nrun it again: cargo xtask differential --frame {}{}\n",
                small.len(),
                again(&small).unwrap_or_default(),
                if packet.program == Program::Decapsulator { "decap:" } else { "" },
                hex(&small)
            ));
        }
        None => text.push_str(&format!(
            "alone it does not show this: it depends on packets before it\nrun them again: {name}\n"
        )),
    }
    text
}

/// A frame as short as it can be cut from behind, and with as many zeros as possible, that still fails.
fn shrunk(frame: &[u8], mut fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    // Each try loads the programs again.
    const TRIES: usize = 24;
    let mut small = frame.to_vec();
    let mut tries = 0;
    let mut step = small.len() / 2;
    while step > 0 && tries < TRIES {
        let len = small.len().saturating_sub(step);
        tries += 1;
        if len >= SHORTEST_FRAME && fails(&small[..len]) {
            small.truncate(len);
        } else {
            step /= 2;
        }
    }
    for at in (SHORTEST_FRAME..small.len()).rev().step_by(8) {
        let end = small.len().min(at + 8);
        if tries == TRIES || small[at..end].iter().all(|&byte| byte == 0) {
            continue;
        }
        let mut zeroed = small.clone();
        zeroed[at..end].fill(0);
        tries += 1;
        if fails(&zeroed) {
            small = zeroed;
        }
    }
    small
}

/// Keeps some sound frames of every verdict.
struct Sampler {
    samples: Vec<Sample>,
    taken: BTreeMap<Verdict, usize>,
    node_mac: String,
    virtual_macs: BTreeMap<String, String>,
    tunnels: Vec<(String, String)>,
    gue_port: u16,
}

impl Sampler {
    fn new(scenario: &Scenario) -> Self {
        let mac = scenario.interfaces.get(&super::INGRESS).map_or([0; 6], |LinkAddress { mac, .. }| *mac);
        let ends = scenario.backends.values().map(|backend| (backend.source, backend.address));
        let mut tunnels: Vec<_> = ends.map(|(from, to)| (from.to_string(), to.to_string())).collect();
        tunnels.sort_unstable();
        tunnels.dedup();
        let with_router = scenario.vips.iter().filter(|(_, vip)| vip.flags >> 24 != 0);
        let virtual_macs = with_router
            .map(|(address, vip)| {
                let family = if address.is_v4() { 1 } else { 2 };
                (address.to_string(), hex(&[0, 0, 0x5e, 0, family, (vip.flags >> 24) as u8]))
            })
            .collect();
        Self {
            samples: Vec::new(),
            taken: BTreeMap::new(),
            node_mac: hex(&mac),
            virtual_macs,
            tunnels,
            gue_port: scenario.settings.map_or(0, |settings| settings.gue_port),
        }
    }

    fn take(&mut self, packet: &Packet, outcome: &Outcome) {
        let verdict = outcome.verdict;
        let leaves = matches!(verdict.action(), Action::Forward | Action::Reply);
        if !(leaves || verdict == Verdict::Decapsulated) || check(&packet.frame).is_err() {
            return;
        }
        let taken = self.taken.entry(verdict).or_default();
        if *taken == SAMPLES_OF_VERDICT {
            return;
        }
        *taken += 1;
        self.samples.push(Sample {
            verdict: verdict.name(),
            input: hex(&packet.frame),
            output: hex(&outcome.frame),
            node_mac: self.node_mac.clone(),
            virtual_macs: self.virtual_macs.clone(),
            tunnels: self.tunnels.clone(),
            gue_port: self.gue_port,
        });
    }
}

/// Bytes as two digits each.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from two digits each.
///
/// # Errors
///
/// Where the text is anything else.
pub fn from_hex(text: &str) -> anyhow::Result<Vec<u8>> {
    anyhow::ensure!(text.len().is_multiple_of(2) && text.is_ascii(), "`{text}` is not two digits a byte");
    let digits = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
    digits.map(|two| u8::from_str_radix(two, 16).with_context(|| format!("read `{two}`"))).collect()
}
