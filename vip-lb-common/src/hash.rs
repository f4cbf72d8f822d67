//! The keyed flow hash.
//!
//! Multilinear hashing (Lemire and Kaser, "Strongly universal string hashing is fast", 2014): each 32-bit word is
//! multiplied by its own secret 64-bit number, the upper half of the sum is the hash. Over a random key any two flows
//! collide with probability 2^-32, whoever chose them, so an outsider without the seed cannot aim connections at one backend. A final
//! keyed bijection hides the linearity from somebody who watches which backend answers.

/// A flow's 32-bit hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct FlowHash(pub u32);

impl FlowHash {
    /// The slot of a ring of `slots` slots: the hash scaled instead of divided, as `hash * slots / 2^32`.
    #[inline(always)]
    pub const fn slot(self, slots: u32) -> u32 {
        ((self.0 as u64 * slots as u64) >> 32) as u32
    }
}

/// The secret numbers, derived from the seed that all nodes share.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct HashKey {
    /// Added to the sum.
    pub offset: u64,
    /// One for the ports and one for each word of the source address, the last word (all of an IPv4 address) first.
    pub multipliers: [u64; 5],
    /// Odd multiplier of the final mix.
    pub finish: u64,
    /// Zero.
    pub reserved: u64,
}

impl core::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

impl HashKey {
    /// Stretches a seed to the numbers, the same on every node: SplitMix64 (Steele et al., OOPSLA 2014) over its four words.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let mut stream = SeedStream::new(seed, 0);
        Self {
            offset: stream.next_word(),
            multipliers: core::array::from_fn(|_| stream.next_word()),
            finish: stream.next_word() | 1,
            reserved: 0,
        }
    }

    /// Hash of a flow of one service. `source` holds the words of the address as they lie in memory, `ports` both ports
    /// as they lie in the packet, or 0 for affinity by source.
    #[inline(always)]
    pub fn hash(&self, source: [u32; 4], ports: u32, is_v4: bool) -> FlowHash {
        let word = |multiplier: u64, word: u32| multiplier.wrapping_mul(word as u64);
        let mut sum = self
            .offset
            .wrapping_add(word(self.multipliers[0], ports))
            .wrapping_add(word(self.multipliers[1], source[3]));
        if !is_v4 {
            sum = sum
                .wrapping_add(word(self.multipliers[2], source[0]))
                .wrapping_add(word(self.multipliers[3], source[1]))
                .wrapping_add(word(self.multipliers[4], source[2]));
        }
        let high = (sum >> 32) as u32;
        let mixed = (high ^ (high >> 15)).wrapping_mul(self.finish as u32);
        FlowHash(mixed ^ (mixed >> 16))
    }
}

/// An endless stream of words from a seed; `purpose` keeps streams of different use apart.
#[derive(Clone, Debug)]
pub struct SeedStream {
    state: [u64; 4],
    turn: usize,
}

impl SeedStream {
    /// Begins the stream of one purpose.
    pub fn new(seed: &[u8; 32], purpose: u64) -> Self {
        let mut state = [0; 4];
        for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(8)) {
            let mut eight = [0; 8];
            eight.copy_from_slice(bytes);
            *word = u64::from_le_bytes(eight) ^ mix(purpose);
        }
        Self { state, turn: 0 }
    }

    /// The next word; every word of the seed has a part in it.
    pub fn next_word(&mut self) -> u64 {
        let mut word = 0;
        for (index, state) in self.state.iter_mut().enumerate() {
            *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            word = mix(word ^ *state ^ ((self.turn * 4 + index) as u64));
        }
        self.turn += 1;
        word
    }
}

/// SplitMix64's finaliser, a bijection.
pub const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(slots: u32, flows: impl Iterator<Item = ([u32; 4], u32, bool)>) -> f64 {
        let key = HashKey::from_seed(&[7; 32]);
        let mut counts = vec![0u32; slots as usize];
        let mut total = 0;
        for (source, ports, is_v4) in flows {
            counts[key.hash(source, ports, is_v4).slot(slots) as usize] += 1;
            total += 1;
        }
        let expected = f64::from(total) / f64::from(slots);
        counts.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum::<f64>()
            / f64::from(slots - 1)
    }

    #[test]
    fn neighbouring_flows_spread_evenly() {
        // Chi-square over its degrees of freedom: about 1 for a random spread of this many.
        let ports = spread(101, (0..50_000u32).map(|p| ([0, 0, 0, 0x0a00_0001], p.to_be(), true)));
        let sources = spread(101, (0..50_000u32).map(|s| ([1, 2, 3, s.to_be()], 0x5000_1234, false)));
        let prefixes = spread(101, (0..50_000u32).map(|s| ([s.to_be(), 2, 3, 1], 0x5000_1234, false)));
        for (name, value) in [("ports", ports), ("sources", sources), ("prefixes", prefixes)] {
            assert!(value < 1.7, "{name}: {value}");
        }
    }

    #[test]
    fn another_seed_is_another_spread() {
        let mut other = [7; 32];
        other[31] ^= 1;
        let (a, b) = (HashKey::from_seed(&[7; 32]), HashKey::from_seed(&other));
        let same = (0..10_000u32)
            .filter(|&p| a.hash([0, 0, 0, 9], p, true).slot(100) == b.hash([0, 0, 0, 9], p, true).slot(100))
            .count();
        assert!(same < 200, "{same} of 10000 flows fall alike, 100 expected");
    }

    #[test]
    fn the_hash_of_a_flow_never_changes_between_releases() {
        // Nodes of different releases share VIPs during an upgrade.
        let key = HashKey::from_seed(b"0123456789abcdef0123456789abcdef");
        assert_eq!(key.hash([1, 2, 3, 4], 0x1234_5678, false), FlowHash(2_815_176_477));
        assert_eq!(key.hash([0, 0, 0xffff_0000, 4], 0x1234_5678, true), FlowHash(2268314812));
    }

    #[test]
    fn slots_stay_in_the_ring() {
        for slots in [1, 7, 16_381, 131_071] {
            assert!(FlowHash(u32::MAX).slot(slots) == slots - 1 && FlowHash(0).slot(slots) == 0);
        }
    }
}
