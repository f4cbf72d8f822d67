//! The packet path over the world of tables, packet after packet, so that they meet what earlier ones left.

use std::cell::RefCell;

use crate::program::{
    Host, Program, Scenario,
    oracle::{Judged, Oracle},
    world::world,
};

/// Most packets of one input that are run.
const PACKETS: usize = 64;

/// The world without its rings, which are large and which packets only mark.
struct Fixture {
    host: Host,
    oracle: Oracle,
    ringless: Scenario,
}

thread_local! {
    static FIXTURE: RefCell<Fixture> = RefCell::new(Fixture::new());
}

impl Fixture {
    fn new() -> Self {
        let scenario = world();
        let (host, oracle) = (Host::new(&scenario), Oracle::new(&scenario));
        Self { host, oracle, ringless: Scenario { rings: [].into(), ..scenario } }
    }

    /// Forgets every packet.
    fn reset(&mut self) {
        let rings = std::mem::take(&mut self.host.tables.rings);
        self.host.tables = self.ringless.memory();
        self.host.tables.rings = rings;
    }
}

/// Runs frames that follow each other, each behind its length in two bytes, big-endian; the last ends with the input. [`Host::run`]
/// panics where a byte outside of a frame is touched, the oracle finds fault with what comes out.
pub fn one(data: &[u8]) {
    run(Program::Balancer, &frames(data));
}

/// Runs frames one after the other through tables that have seen no packet before.
pub(super) fn run(program: Program, frames: &[&[u8]]) {
    FIXTURE.with_borrow_mut(|fixture| {
        fixture.reset();
        for frame in frames {
            let outcome = &fixture.host.run(program, frame, 0);
            let judged = Judged { program, input: frame, outcome, tables: &fixture.host.tables };
            if let Err(fault) = fixture.oracle.judge(&judged) {
                panic!("{:?}: {fault}\ninput  {frame:02x?}\noutput {:02x?}", outcome.verdict, outcome.frame);
            }
        }
    });
}

/// The frames of an input.
pub fn frames(mut data: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let [a, b, rest @ ..] = data
        && frames.len() < PACKETS
    {
        let len = usize::from(u16::from_be_bytes([*a, *b])).min(rest.len());
        frames.push(&rest[..len]);
        data = &rest[len..];
    }
    frames
}

/// The input of these frames.
///
/// # Panics
///
/// Where one is longer than 65535 bytes.
pub fn input(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut data = Vec::new();
    for frame in frames {
        data.extend(u16::try_from(frame.len()).expect("a frame of at most 65535 bytes").to_be_bytes());
        data.extend(frame);
    }
    data
}
