//! The hardware address of a virtual router, which moves along with its addresses.

use super::Address;

/// A virtual router's hardware address (RFC 9568 section 7.3): `00-00-5E-00-01-{VRID}` over IPv4, `00-00-5E-00-02-{VRID}` over IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VirtualMac {
    bytes: [u8; 6],
}

impl VirtualMac {
    /// Its first bytes, of IANA's block for unicast (RFC 9542 section 2.1).
    const PREFIX: [u8; 4] = [0x00, 0x00, 0x5e, 0x00];
    const V4: u8 = 1;
    const V6: u8 = 2;

    /// The address of a virtual router over IPv4, or over IPv6.
    #[inline(always)]
    #[must_use]
    pub const fn new(is_v4: bool, router_id: u8) -> Self {
        let [a, b, c, d] = Self::PREFIX;
        Self { bytes: [a, b, c, d, if is_v4 { Self::V4 } else { Self::V6 }, router_id] }
    }

    /// A hardware address, if it is one of these.
    #[inline(always)]
    #[must_use]
    pub const fn of(mac: [u8; 6]) -> Option<Self> {
        let [a, b, c, d, family, _] = mac;
        // One comparison for nearly all that are none.
        let is_one = u32::from_ne_bytes([a, b, c, d]) == u32::from_ne_bytes(Self::PREFIX)
            && (family == Self::V4 || family == Self::V6);
        if is_one { Some(Self { bytes: mac }) } else { None }
    }

    /// Its bytes.
    #[inline(always)]
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.bytes
    }

    /// The key of its lease in OWNERS: `ff00::` with the bytes at the end, a multicast address that nobody may use (RFC 4291 section 2.7) and so
    /// no VIP.
    #[inline(always)]
    #[must_use]
    pub const fn key(self) -> Address {
        let [a, b, c, d, e, f] = self.bytes;
        Address::from_words([
            u32::from_ne_bytes([0xff, 0, 0, 0]),
            0,
            u32::from_ne_bytes([0, 0, a, b]),
            u32::from_ne_bytes([c, d, e, f]),
        ])
    }
}

#[cfg(any(test, feature = "std"))]
impl core::fmt::Display for VirtualMac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, c, d, e, g] = self.bytes;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_family_and_identifier() {
        assert_eq!(VirtualMac::new(true, 51).octets(), [0, 0, 0x5e, 0, 1, 51]);
        assert_eq!(VirtualMac::new(true, 51).to_string(), "00:00:5e:00:01:33");
        assert_eq!(VirtualMac::new(false, 255).octets(), [0, 0, 0x5e, 0, 2, 255]);
        for mac in [VirtualMac::new(true, 1), VirtualMac::new(false, 1)] {
            assert_eq!(VirtualMac::of(mac.octets()), Some(mac));
            assert_eq!(mac.key().octets()[10..], mac.octets());
            assert_eq!(mac.key().octets()[..2], [0xff, 0]);
        }
    }

    #[test]
    fn other_addresses_of_the_block_are_none() {
        for other in
            [[0, 0, 0x5e, 0, 0, 1], [0, 0, 0x5e, 0, 3, 1], [1, 0, 0x5e, 0, 1, 1], [0, 0, 0x5e, 1, 1, 1]]
        {
            assert_eq!(VirtualMac::of(other), None, "{other:?}");
        }
    }
}
