//! An advert as bytes (RFC 9568 section 5.2).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Version| Type  | Virtual Rtr ID|   Priority    | IPvX Addr Cnt |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Reserve| Max Advertise Interval|          Checksum             |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                       IPvX Address(es)                        |
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;
use vip_lb_common::{
    abi::{Address, VirtualMac},
    checksum::Sum,
};

use super::{Interval, Priority};

/// The protocol number of VRRP in IP headers.
const PROTOCOL: u8 = 112;

/// Version 3 and type ADVERTISEMENT, the only one there is.
const VERSION_AND_TYPE: u8 = 0x31;

/// Bytes before the addresses.
const HEADER: usize = 8;

/// Where the checksum is.
const CHECKSUM: std::ops::Range<usize> = 6..8;

/// TTL or hop limit of every advert: what was sent by a router farther away has less (RFC 9568 section 5.1).
const TTL: u8 = 255;

/// A virtual router: an identifier within a link, and a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Router {
    /// For IPv4 addresses.
    V4(u8),
    /// For IPv6 addresses.
    V6(u8),
}

impl Router {
    /// Of this identifier, for the family of this address.
    #[must_use]
    pub const fn of(id: u8, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4(id),
            IpAddr::V6(_) => Self::V6(id),
        }
    }

    /// The identifier, VRID.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::V4(id) | Self::V6(id) => id,
        }
    }

    /// Where adverts go if peers are not listed one by one (RFC 9568 sections 5.1.1.2 and 5.1.2.2).
    #[must_use]
    pub const fn group(self) -> IpAddr {
        match self {
            Self::V4(_) => IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18)),
            Self::V6(_) => IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12)),
        }
    }

    /// The MAC address that moves with the virtual router (RFC 9568 section 7.3).
    #[must_use]
    pub const fn mac(self) -> VirtualMac {
        VirtualMac::new(matches!(self, Self::V4(_)), self.id())
    }
}

/// The addresses of an advert, all of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Of a virtual router for IPv4.
    V4(Vec<Ipv4Addr>),
    /// Of a virtual router for IPv6; the first is its link-local address (RFC 9568 section 5.2.9).
    V6(Vec<Ipv6Addr>),
}

impl Addresses {
    fn len(&self) -> usize {
        match self {
            Self::V4(addresses) => addresses.len(),
            Self::V6(addresses) => addresses.len(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::V4(addresses) => addresses.iter().flat_map(Ipv4Addr::octets).collect(),
            Self::V6(addresses) => addresses.iter().flat_map(Ipv6Addr::octets).collect(),
        }
    }
}

/// What the active node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// For which virtual router.
    pub router: Router,
    /// The sender's priority; `None` (zero on the wire) if it stops being active.
    pub priority: Option<Priority>,
    /// When to expect the next one.
    pub interval: Interval,
    /// The addresses it answers for.
    pub addresses: Addresses,
}

/// Whether the checksum over IPv4 begins with a pseudo-header.
///
/// RFC 5798 said so, and Debian's keepalived 2.2.7 and FRR 8.4.4 ignore adverts without it; RFC 9568 section 5.2.8 leaves it out. Over
/// IPv6 it is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PseudoHeader {
    /// As keepalived and FRR do.
    Included,
    /// As RFC 9568 says.
    LeftOut,
}

/// Why an advert is not heard. The names are those of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Malformed {
    /// RFC 9568 section 7.1: the IP TTL or hop limit must be 255.
    #[error("TTL {0}, not 255: it was not sent on this link")]
    Ttl(u8),
    /// Shorter than its header or than the addresses it counts.
    #[error("{found} bytes, at least {expected} expected")]
    Short {
        /// Bytes that came.
        found: usize,
        /// Bytes it should have.
        expected: usize,
    },
    /// Another version; 2 is the one of RFC 3768.
    #[error("version {0}, only 3 is spoken here")]
    Version(u8),
    /// A type that RFC 9568 does not know.
    #[error("type {0}, only 1 is defined")]
    Type(u8),
    /// The sum is wrong, with the pseudo-header and without.
    #[error("wrong checksum {0:#06x}")]
    Checksum(u16),
    /// An interval of zero.
    #[error("an advertisement interval of zero")]
    Interval,
    /// No address at all.
    #[error("no address")]
    NoAddress,
}

impl Advert {
    /// The TTL or hop limit that an advert is sent with.
    pub const TTL: u8 = TTL;

    /// The protocol number of VRRP in IP headers.
    pub const PROTOCOL: u8 = PROTOCOL;

    /// As bytes behind an IP header from `source` to `destination`.
    ///
    /// More than 255 addresses do not fit: the count is a byte, so those beyond are left out.
    #[must_use]
    pub fn encode(&self, source: IpAddr, destination: IpAddr, pseudo_header: PseudoHeader) -> Vec<u8> {
        let count = self.addresses.len().min(usize::from(u8::MAX));
        let each = if matches!(self.addresses, Addresses::V4(_)) { 4 } else { 16 };
        let [high, low] = self.interval.centis().to_be_bytes();
        let priority = self.priority.map_or(0, Priority::get);
        let mut bytes = vec![VERSION_AND_TYPE, self.router.id(), priority, count as u8, high, low, 0, 0];
        bytes.extend_from_slice(&self.addresses.bytes()[..count * each]);
        let sum = checksum(&bytes, source, destination, pseudo_header);
        bytes[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// From the bytes behind an IP header from `source` to `destination` with this TTL, and which checksum its sender uses.
    ///
    /// Bytes behind the addresses are allowed: old senders put authentication there. Reserved bits are ignored.
    ///
    /// # Errors
    ///
    /// The first of the checks of RFC 9568 section 7.1 that it fails.
    pub fn decode(
        bytes: &[u8],
        source: IpAddr,
        destination: IpAddr,
        ttl: u8,
    ) -> Result<(Self, PseudoHeader), Malformed> {
        if ttl != TTL {
            return Err(Malformed::Ttl(ttl));
        }
        let short = |expected| Malformed::Short { found: bytes.len(), expected };
        let (&[version_and_type, id, priority, count, high, low, sum_high, sum_low], behind) =
            bytes.split_first_chunk::<HEADER>().ok_or_else(|| short(HEADER))?;
        if version_and_type >> 4 != VERSION_AND_TYPE >> 4 {
            return Err(Malformed::Version(version_and_type >> 4));
        }
        if version_and_type & 0xf != VERSION_AND_TYPE & 0xf {
            return Err(Malformed::Type(version_and_type & 0xf));
        }
        let kinds = [PseudoHeader::Included, PseudoHeader::LeftOut];
        let pseudo_header = kinds
            .into_iter()
            .find(|&kind| checksum(bytes, source, destination, kind) == 0)
            .ok_or(Malformed::Checksum(u16::from_be_bytes([sum_high, sum_low])))?;
        let interval = Interval::from_centis(u16::from_be_bytes([high, low]) & Interval::MAX)
            .ok_or(Malformed::Interval)?;
        if count == 0 {
            return Err(Malformed::NoAddress);
        }
        let count = usize::from(count);
        let addresses = match source {
            IpAddr::V4(_) => {
                chunks(behind, count).map(Addresses::V4).ok_or_else(|| short(HEADER + 4 * count))
            }
            IpAddr::V6(_) => {
                chunks(behind, count).map(Addresses::V6).ok_or_else(|| short(HEADER + 16 * count))
            }
        }?;
        let router = Router::of(id, source);
        Ok((Self { router, priority: Priority::new(priority), interval, addresses }, pseudo_header))
    }
}

/// The first `count` addresses, if there are as many.
fn chunks<const N: usize, A: From<[u8; N]>>(bytes: &[u8], count: usize) -> Option<Vec<A>> {
    let (chunks, _) = bytes.as_chunks::<N>();
    Some(chunks.get(..count)?.iter().map(|&octets| A::from(octets)).collect())
}

/// The checksum field if it was zero, or zero if it is right.
fn checksum(bytes: &[u8], source: IpAddr, destination: IpAddr, pseudo_header: PseudoHeader) -> u16 {
    let start = match (source, pseudo_header) {
        (IpAddr::V4(_), PseudoHeader::LeftOut) => Sum::default(),
        (IpAddr::V4(source), PseudoHeader::Included) => {
            let addresses = [Some(source), v4(destination)].into_iter().flatten();
            addresses
                .fold(Sum::default(), |sum, address| sum.add_u32(address.to_bits()))
                .add(u16::from(PROTOCOL))
                .add(bytes.len() as u16)
        }
        (IpAddr::V6(_), _) => Sum::pseudo_header(
            &Address::from(source),
            &Address::from(destination),
            bytes.len() as u16,
            PROTOCOL,
        ),
    };
    let (pairs, odd) = bytes.as_chunks::<2>();
    let sum = pairs.iter().fold(start, |sum, &pair| sum.add(u16::from_be_bytes(pair)));
    odd.iter().fold(sum, |sum, &byte| sum.add(u16::from_be_bytes([byte, 0]))).finish()
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests;
