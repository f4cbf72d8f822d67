//! The Internet checksum (RFC 1071) as a value that is added to.

use crate::abi::Address;

/// A running one's complement sum of 16-bit words in network byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u32);

impl Sum {
    /// Starts from an earlier partial sum.
    #[inline(always)]
    pub const fn new(partial: u32) -> Self {
        Self(partial)
    }

    /// The pseudo-header that transport checksums over IPv6 begin with (RFC 8200 section 8.1); `len` are the bytes behind it.
    #[inline(always)]
    pub const fn pseudo_header(source: &Address, destination: &Address, len: u16, protocol: u8) -> Self {
        Self(0).add(len).add(protocol as u16).add_address(source).add_address(destination)
    }

    /// Adds a 16-bit word given as a number (network order 0x1234 is the number 0x1234). At most some ten thousand words may be
    /// added before the sum is taken.
    #[inline(always)]
    pub const fn add(self, word: u16) -> Self {
        Self(self.0 + word as u32)
    }

    /// Adds the two words of a 32-bit number in network order.
    #[inline(always)]
    pub const fn add_u32(self, word: u32) -> Self {
        Self(self.0 + (word >> 16) + (word & 0xffff))
    }

    #[inline(always)]
    const fn add_address(self, address: &Address) -> Self {
        let [a, b, c, d] = address.words();
        self.add_u32(u32::from_be(a))
            .add_u32(u32::from_be(b))
            .add_u32(u32::from_be(c))
            .add_u32(u32::from_be(d))
    }

    /// Folded to 16 bits, not complemented.
    #[inline(always)]
    pub const fn folded(self) -> u16 {
        let once = (self.0 >> 16) + (self.0 & 0xffff);
        ((once >> 16) + once) as u16
    }

    /// The checksum field.
    #[inline(always)]
    pub const fn finish(self) -> u16 {
        !self.folded()
    }
}

/// The checksum field after one word of what it covers changed from `old` to `new` (RFC 1624, equation 3).
#[inline(always)]
pub const fn replace(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::new(!checksum as u32).add(!old).add(new).finish()
}

/// The change of a sum when words of what it covers are replaced by others (RFC 1624, equation 3).
///
/// Words and checksum fields are given as they lie in memory, so that nothing is swapped: one's complement sums are the same in either byte
/// order (RFC 1071 section 2), and a word of 32 bits counts like its two halves, because 2^16 is 1 modulo 2^16 - 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u64);

impl Delta {
    /// Four bytes became others.
    #[inline(always)]
    #[must_use]
    pub const fn replace(self, old: u32, new: u32) -> Self {
        self.remove(old).add(new)
    }

    /// Four bytes are no longer covered.
    #[inline(always)]
    #[must_use]
    pub const fn remove(self, old: u32) -> Self {
        self.add(!old)
    }

    /// Four more bytes are covered.
    #[inline(always)]
    #[must_use]
    pub const fn add(self, new: u32) -> Self {
        Self(self.0 + new as u64)
    }

    /// These words are covered: what it takes to add them all, or with [`without`](Self::without) to remove them.
    #[inline(always)]
    #[must_use]
    pub const fn of<const N: usize>(words: &[u32; N]) -> Self {
        let mut delta = Self(0);
        let mut index = 0;
        while index < N {
            delta = delta.add(words[index]);
            index += 1;
        }
        delta
    }

    /// What the other adds is no longer covered.
    #[inline(always)]
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        self.remove(other.folded())
    }

    /// An address became another, of the same family or not. The prefix of an IPv4 address in its long form sums up to nothing.
    #[inline(always)]
    #[must_use]
    pub const fn replace_address(self, old: &Address, new: &Address) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (old.words(), new.words());
        self.replace(a, e).replace(b, f).replace(c, g).replace(d, h)
    }

    /// Both changes.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    #[inline(always)]
    const fn folded(self) -> u32 {
        // From at most 40 bits to 32.
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        ((sum >> 32) + (sum & 0xffff_ffff)) as u32
    }

    /// The checksum field after the change.
    #[inline(always)]
    #[must_use]
    pub const fn apply(self, field: u16) -> u16 {
        let sum = self.add(!field as u32).folded() as u64;
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        !(sum as u16)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc_1071_example() {
        let sum = [0x0001, 0xf203, 0xf4f5, 0xf6f7].iter().fold(Sum::default(), |sum, &word| sum.add(word));
        assert_eq!(sum.folded(), 0xddf2);
    }

    #[test]
    fn rfc_1624_example_does_not_yield_minus_zero() {
        // Section 4: HC = 0xDD2F, m = 0x5555, m' = 0x3285; the result is 0x0000.
        assert_eq!(replace(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn replacing_equals_summing_anew() {
        for (old, new) in [(0u16, 1u16), (0xffff, 0), (0x4006, 0x3f06), (1, 0xffff)] {
            let rest = 0x1234;
            let before = Sum::default().add(rest).add(old).finish();
            let after = Sum::default().add(rest).add(new).finish();
            assert_eq!(replace(before, old, new), after, "{old:#x} -> {new:#x}");
        }
    }

    fn summed(words: &[u32]) -> u16 {
        words.iter().fold(Sum::default(), |sum, word| sum.add_u32(u32::from_be(*word))).finish()
    }

    proptest! {
        #[test]
        fn a_delta_equals_summing_anew(
            kept in 1_u32..,
            old in proptest::collection::vec(any::<u32>(), 0..12),
            new in proptest::collection::vec(any::<u32>(), 0..12),
        ) {
            let with = |words: &[u32]| summed(&[&[kept], words].concat());
            let delta = old.iter().fold(Delta::default(), |delta, word| delta.remove(*word));
            let delta = new.iter().fold(delta, |delta, word| delta.add(*word));
            prop_assert_eq!(u16::from_be(delta.apply(with(&old).to_be())), with(&new));
        }

        #[test]
        fn the_prefix_of_a_mapped_address_counts_nothing(checksum: u16, old: u32, new: u32) {
            let addresses = (Address::from_v4_word(old), Address::from_v4_word(new));
            prop_assert_eq!(
                Delta::default().replace_address(&addresses.0, &addresses.1).apply(checksum),
                Delta::default().replace(old, new).apply(checksum)
            );
        }
    }
}
