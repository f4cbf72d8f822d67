//! A second opinion on what came out, by another parser (`etherparse`) and from the tables' description: none of the pipeline's code.
//!
//! It knows less than the pipeline on purpose. Where it has an opinion it must be right: an output that it finds fault with is a fault of
//! the pipeline or of the oracle, and either is worth knowing.

mod answered;
mod errors;
mod expected;
mod forwarded;
mod seen;
mod translated;
mod transport;

use std::collections::{BTreeSet, HashMap};

use vip_lb_common::{
    Action, Verdict,
    abi::{BackendRef, Phase, ServiceRef},
    memory::MemoryTables,
};

use super::{Outcome, Program, Scenario};
use crate::packet::check;
use seen::Seen;

/// What a packet met, what it was, and what it became.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'p> {
    /// The program.
    pub program: Program,
    /// The frame that went in.
    pub input: &'p [u8],
    /// What became of it.
    pub outcome: &'p Outcome,
    /// The tables after it.
    pub tables: &'p MemoryTables,
}

/// Knows the tables' description.
#[derive(Clone, Debug)]
pub struct Oracle {
    /// Without its rings.
    scenario: Scenario,
    rings: HashMap<u16, RingSummary>,
}

/// What the slots of a ring name.
#[derive(Clone, Debug, Default)]
struct RingSummary {
    backends: BTreeSet<(u16, u16)>,
    settling: bool,
}

impl Oracle {
    /// For these tables.
    pub fn new(scenario: &Scenario) -> Self {
        let summary = |(service, slots): (&ServiceRef, &Vec<_>)| {
            let mut summary = RingSummary::default();
            for slot in slots {
                let vip_lb_common::abi::Slot { current, previous, phase, .. } = slot;
                for BackendRef { index, generation } in [current, previous] {
                    summary.backends.insert((*index, *generation));
                }
                summary.settling |= *phase == Phase::Settling as u8;
            }
            (service.id, summary)
        };
        let rings = scenario.rings.iter().map(summary).collect();
        Self { scenario: Scenario { rings: HashMap::new(), ..scenario.clone() }, rings }
    }

    /// Says what is wrong with what became of a packet.
    ///
    /// # Errors
    ///
    /// What is wrong, for people.
    pub fn judge(&self, judged: &Judged<'_>) -> Result<(), String> {
        let Judged { program, input, outcome, .. } = *judged;
        let verdict = outcome.verdict;
        if verdict.action() == Action::Pass && verdict != Verdict::Decapsulated {
            return if outcome.frame == self.handed_over(judged) {
                self.expect_verdict(judged)
            } else {
                Err("what goes to the stack was changed".to_owned())
            };
        }
        match verdict {
            Verdict::ForwardedL2 => self.by_l2(&both(judged)?),
            Verdict::ForwardedIpip | Verdict::ForwardedGue => self.by_tunnel(&both(judged)?, verdict),
            Verdict::ForwardedNat => self.by_nat(&both(judged)?, judged.tables),
            Verdict::TranslatedReply => translated::reply(self, &both(judged)?, judged.tables),
            Verdict::EchoAnswered => answered::echo(&both(judged)?),
            Verdict::ArpAnswered => self.arp(&both(judged)?),
            Verdict::NeighbourAnswered => self.neighbour(&both(judged)?, &outcome.frame),
            Verdict::TooBigAnswered => answered::too_big(&both(judged)?, &outcome.frame),
            Verdict::Decapsulated => forwarded::decapsulated(&both(judged)?, &self.handed_over(judged)),
            _ => Ok(()),
        }?;
        if verdict.action() != Action::Drop && check(input).is_ok() {
            check(&outcome.frame)
                .map_err(|fault| format!("the input was sound, the output is not: {fault}"))?;
        }
        if program == Program::Balancer { self.expect_verdict(judged) } else { Ok(()) }
    }
}

/// Input and output, taken apart as far as the IP header.
struct Both<'p> {
    before: Seen<'p>,
    after: Seen<'p>,
}

fn both<'p>(judged: &Judged<'p>) -> Result<Both<'p>, String> {
    Ok(Both {
        before: Seen::of(judged.input).map_err(|fault| format!("the input: {fault}"))?,
        after: Seen::of(&judged.outcome.frame).map_err(|fault| format!("the output: {fault}"))?,
    })
}

/// Fails with both values unless they are equal.
fn same<T: Copy + PartialEq + std::fmt::Debug>(what: &str, found: T, right: T) -> Result<(), String> {
    if found == right { Ok(()) } else { Err(format!("{what} is {found:02x?}, should be {right:02x?}")) }
}

#[cfg(test)]
mod tests;
