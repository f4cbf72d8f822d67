//! Random numbers that can be had again, and random changes that keep much of a good packet, so that the ways to the deeper stages
//! stay open.

use std::time::{SystemTime, UNIX_EPOCH};

/// A stream of random numbers that can be had again by its seed (SplitMix64, Steele et al., OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// The stream of a seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// The stream of the seed that VIP_LB_TEST_SEED names, or of one from the clock.
    ///
    /// # Panics
    ///
    /// Where the variable holds no number.
    pub fn from_environment() -> Self {
        let seed = match std::env::var("VIP_LB_TEST_SEED") {
            Ok(text) => text.parse().expect("VIP_LB_TEST_SEED is no number"),
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64),
        };
        Self::new(seed)
    }

    /// What to set VIP_LB_TEST_SEED to.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The next number.
    pub fn next_word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        vip_lb_common::hash::mix(self.state)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next_word() % end as u64) as usize
    }

    /// One of the choices.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// Changes a few bytes, or its length.
pub fn mutate(dice: &mut Dice, frame: &mut Vec<u8>) {
    // Headers lie in front.
    const FRONT: usize = 100;
    for _ in 0..dice.below(4) {
        let len = frame.len();
        if len == 0 {
            return;
        }
        let at = dice.below(len.min(FRONT));
        match dice.below(8) {
            0 | 1 => frame[at] = dice.next_word() as u8,
            2 => frame[at] ^= 1 << dice.below(8),
            3 => frame[at] = *dice.pick(&[0, 1, 4, 6, 17, 41, 43, 44, 58, 60, 0x45, 0x46, 0x4f, 0x60, 0xff]),
            4 => {
                let bytes: Vec<u8> = (0..1 + dice.below(40)).map(|_| dice.next_word() as u8).collect();
                frame.splice(at..at, bytes);
            }
            5 => drop(frame.drain(at..at + dice.below(len - at))),
            6 => frame.truncate(dice.below(len)),
            _ => frame.extend((0..dice.below(64)).map(|index| index as u8)),
        }
    }
}
