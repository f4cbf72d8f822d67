//! One type for addresses of both families.

#[cfg(any(test, feature = "std"))]
use core::net::IpAddr;

use super::VIP_PLACES;

/// An IPv6 address, or an IPv4 address mapped into `::ffff:0:0/96` (RFC 4291 section 2.5.5.2), in network byte order.
///
/// The alignment lets the program copy and compare it in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C, align(4))]
pub struct Address {
    bytes: [u8; 16],
}

impl Address {
    /// `::`, which no packet may be addressed to.
    pub const UNSPECIFIED: Self = Self { bytes: [0; 16] };

    const MAPPED_PREFIX: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

    /// From the four words of an IPv6 address as they lie in memory.
    #[inline(always)]
    pub const fn from_words(words: [u32; 4]) -> Self {
        // SAFETY: both types are 16 plain bytes.
        let bytes = unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) };
        Self { bytes }
    }

    /// From the one word of an IPv4 address as it lies in memory.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        Self::from_words([0, 0, Self::MAPPED_PREFIX, word])
    }

    /// The four words as they lie in memory.
    #[inline(always)]
    pub const fn words(&self) -> [u32; 4] {
        // SAFETY: 16 plain bytes, aligned like u32.
        unsafe { core::mem::transmute::<[u8; 16], [u32; 4]>(self.bytes) }
    }

    /// Where VIP_INDEX has this address, if it is a VIP: multiplicative hashing (Knuth, TAOCP 6.4) of the words.
    #[inline(always)]
    pub const fn vip_place(&self) -> u32 {
        let [a, b, c, d] = self.words();
        (a ^ b ^ c ^ d).wrapping_mul(0x9E37_79B1) >> (u32::BITS - VIP_PLACES.trailing_zeros())
    }

    /// Equality without a loop or a call.
    #[inline(always)]
    pub const fn is(&self, other: &Self) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.words(), other.words());
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
    }

    /// The bytes in network order.
    #[inline(always)]
    pub const fn octets(&self) -> &[u8; 16] {
        &self.bytes
    }

    /// Whether this stands for an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        let words = self.words();
        words[0] == 0 && words[1] == 0 && words[2] == Self::MAPPED_PREFIX
    }
}

#[cfg(any(test, feature = "std"))]
impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        let bytes = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        Self { bytes }
    }
}

#[cfg(any(test, feature = "std"))]
impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        IpAddr::from(address.bytes).to_canonical()
    }
}

#[cfg(any(test, feature = "std"))]
impl core::fmt::Display for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_survive_the_round_trip() {
        for text in ["10.1.2.3", "2001:db8::1", "::", "255.255.255.255"] {
            let ip: IpAddr = text.parse().unwrap();
            let address = Address::from(ip);
            assert_eq!(IpAddr::from(address), ip);
            assert_eq!(address.is_v4(), ip.is_ipv4(), "{text}");
            assert_eq!(Address::from_words(address.words()), address);
            assert!(address.is(&address) && !address.is(&Address::from_v4_word(7)), "{text}");
            assert!((address.vip_place() as usize) < VIP_PLACES, "{text}");
        }
        assert_eq!(
            Address::from_v4_word(u32::from_ne_bytes([10, 1, 2, 3])),
            Address::from(IpAddr::from([10, 1, 2, 3]))
        );
    }
}
