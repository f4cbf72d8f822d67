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

#[cfg(test)]
mod tests {
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
}
