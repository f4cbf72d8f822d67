//! Which of this node's ports a connection asks for.

use crate::{FlowHash, abi::Settings};

/// Ports that a new connection asks for before it is refused.
const TRIES: u32 = 16;

/// The ports that one connection asks for, one after the other. They begin anywhere in the range and lie a stride apart, both known to nobody
/// without the seed; no two of them are the same while the range has as many, and a range of fewer is asked for whole.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    first: u16,
    count: u32,
    start: u32,
    stride: u32,
}

impl Ports {
    /// Those of the connection with this hash.
    #[inline(always)]
    pub(super) fn new(settings: &Settings, hash: FlowHash) -> Self {
        let count = if settings.nat_ports == 0 { 1 } else { settings.nat_ports as u32 };
        let (low, high) = (hash.0 & 0xffff, hash.0 >> 16);
        // All strides together stay below `count`, so that the ports do not meet at the other end of the range.
        let strides = count / TRIES;
        Self {
            first: settings.nat_first_port,
            count,
            start: (low * count) >> 16,
            stride: if strides > 1 { 1 + ((high * strides) >> 16) } else { 1 },
        }
    }

    /// How many there are.
    #[inline(always)]
    pub(super) fn len(&self) -> u32 {
        if self.count < TRIES { self.count } else { TRIES }
    }

    /// The port at an index below [`len`](Self::len).
    #[inline(always)]
    pub(super) fn at(&self, index: u32) -> u16 {
        let offset = self.start + index * self.stride;
        let within = if offset < self.count { offset } else { offset - self.count };
        self.first.wrapping_add(within as u16)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::HashKey;

    proptest! {
        #[test]
        fn all_are_different_and_in_the_range(nat_first_port: u16, count: u16, hash: u32) {
            let nat_ports = count.min(u16::MAX - nat_first_port).max(1);
            let settings = Settings { nat_first_port, nat_ports, ..Settings::new(HashKey::from_seed(&[7; 32])) };
            let ports = Ports::new(&settings, FlowHash(hash));
            let asked: BTreeSet<u16> = (0..ports.len()).map(|index| ports.at(index)).collect();
            prop_assert_eq!(asked.len(), usize::from(nat_ports).min(16));
            let last = nat_first_port.saturating_add(nat_ports - 1);
            prop_assert!(asked.iter().all(|port| (nat_first_port..=last).contains(port)), "{:?}", asked);
        }
    }
}
