//! Weighted Maglev (Eisenbud et al., NSDI 2016, section 3.4).
//!
//! Each backend prefers the slots in an order of its own, and the backends take turns to claim the first slot they prefer that is
//! still free. Here a backend of weight w has its turns at the times 1/w, 3/w, 5/w, ... (Sainte-Laguë, or Webster's method of
//! apportionment), so that shares are those of the weights within about one slot, and the turns of a backend do not depend on who
//! else there is: adding, removing or re-weighting one disturbs the others little.

use std::{cmp::Reverse, collections::BinaryHeap};

use vip_lb_common::hash::{SeedStream, mix};

#[cfg(test)]
mod tests;

/// A backend that takes new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its [`identity`](crate::steering::identity()), unique among the candidates.
    pub identity: u64,
    /// Share relative to the others; 0 for none.
    pub weight: u32,
}

/// Assigns every slot the position of a candidate, or none if no candidate has weight.
///
/// The same on every node with the same seed, whatever the order of the candidates. `slots` is a prime. A candidate whose fair share is
/// less than half a slot may get none.
///
/// # Panics
///
/// With more than 65536 candidates, which is more than BACKENDS holds.
pub fn populate(seed: &[u8; 32], slots: usize, candidates: &[Candidate]) -> Vec<Option<u16>> {
    assert!(candidates.len() <= 1 << 16, "positions are 16 bits");
    let mut ring = vec![None; slots];
    let mut free = Free::all(slots);
    let mut turns: BinaryHeap<_> = candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| candidate.weight > 0)
        .map(|(position, candidate)| Reverse(Turn::first(seed, slots, position as u16, candidate)))
        .collect();
    for _ in 0..slots {
        let Some(mut turn) = turns.peek_mut() else {
            break;
        };
        let slot = turn.0.claim(&mut free);
        ring[slot] = Some(turn.0.position);
        turn.0.pass();
    }
    ring
}

/// The next turn of a candidate. The fields are in the order that turns are taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    /// When, in units of 2^-40.
    time: u64,
    /// Who is first among turns of the same time.
    rank: u64,
    position: u16,
    weight: u32,
    taken: u32,
    /// The slot it prefers next.
    preferred: usize,
    skip: usize,
}

impl Turn {
    fn first(seed: &[u8; 32], slots: usize, position: u16, candidate: &Candidate) -> Self {
        let mut words = SeedStream::new(seed, candidate.identity);
        let mut below = |bound: usize| (words.next_word() % bound.max(1) as u64) as usize;
        Self {
            time: Self::time(0, candidate.weight),
            preferred: below(slots),
            skip: below(slots.saturating_sub(1)) + 1,
            rank: mix(words.next_word()),
            position,
            weight: candidate.weight,
            taken: 0,
        }
    }

    fn time(taken: u32, weight: u32) -> u64 {
        ((u64::from(taken) * 2 + 1) << 40) / u64::from(weight)
    }

    /// The first preferred slot that is free. There has to be one.
    fn claim(&mut self, free: &mut Free) -> usize {
        loop {
            let slot = self.preferred;
            self.preferred += self.skip;
            if self.preferred >= free.slots {
                self.preferred -= free.slots;
            }
            if free.take(slot) {
                return slot;
            }
        }
    }

    fn pass(&mut self) {
        self.taken += 1;
        self.time = Self::time(self.taken, self.weight);
    }
}

/// The slots nobody has claimed, a bit each: preferences jump about, and this fits the innermost cache.
struct Free {
    taken: Vec<u64>,
    slots: usize,
}

impl Free {
    fn all(slots: usize) -> Self {
        Self { taken: vec![0; slots.div_ceil(64)], slots }
    }

    /// Takes a slot, if it is free.
    fn take(&mut self, slot: usize) -> bool {
        let (word, bit) = (&mut self.taken[slot / 64], 1 << (slot % 64));
        let free = *word & bit == 0;
        *word |= bit;
        free
    }
}
