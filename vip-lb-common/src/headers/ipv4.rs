//! IPv4.

use core::mem::offset_of;

use network_types::ip::Ipv4Hdr;

use super::{IPV4_LEN, Place};
use crate::{
    Packet, Verdict, View,
    abi::Address,
    checksum::{self, Delta},
};

/// An IPv4 header (RFC 791).
#[derive(Clone, Copy)]
pub struct Ipv4<'p>(View<'p, IPV4_LEN>);

impl<'p> Ipv4<'p> {
    /// The header in these bytes.
    #[inline(always)]
    pub fn new(bytes: View<'p, IPV4_LEN>) -> Self {
        Self(bytes)
    }

    /// The header at `offset`.
    #[inline(always)]
    pub fn at(packet: &'p impl Packet, offset: usize, short: Verdict) -> Result<Self, Verdict> {
        packet.view(offset, short).map(Self)
    }

    /// The version field, 4 in a good packet.
    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.0.u8(0) >> 4
    }

    /// Header length in bytes, options included; anything from 0 to 60.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        ((self.0.u8(0) & 0x0f) as usize) * 4
    }

    /// Version 4 and no options, in one comparison.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.0.u8(0) == 0x45
    }

    /// DSCP and ECN.
    #[inline(always)]
    pub fn traffic_class(&self) -> u8 {
        self.0.u8(offset_of!(Ipv4Hdr, tos))
    }

    /// Length in bytes from this header on.
    #[inline(always)]
    pub fn total_len(&self) -> u16 {
        self.0.be16(offset_of!(Ipv4Hdr, tot_len))
    }

    /// More fragments follow, or this is a later one.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.0.half_word(offset_of!(Ipv4Hdr, frags)) & 0x3fff_u16.to_be() != 0
    }

    /// Identification, which all fragments of a packet share.
    #[inline(always)]
    pub fn id(&self) -> u16 {
        self.0.be16(offset_of!(Ipv4Hdr, id))
    }

    /// Where in its packet this fragment belongs, in units of eight bytes.
    #[inline(always)]
    pub fn fragment_offset(&self) -> u16 {
        self.0.be16(offset_of!(Ipv4Hdr, frags)) & 0x1fff
    }

    /// More fragments follow.
    #[inline(always)]
    pub fn more_fragments(&self) -> bool {
        self.0.be16(offset_of!(Ipv4Hdr, frags)) & MORE_FRAGMENTS != 0
    }

    /// What it says of fragments.
    #[inline(always)]
    pub fn place(&self) -> Place {
        Place { offset: self.fragment_offset() << 3, more: self.more_fragments() }
    }

    /// All of it as a part of what a checksum covers.
    #[inline(always)]
    pub fn covered(&self) -> Delta {
        let words = [self.0.word(0), self.0.word(4), self.0.word(8), self.0.word(12), self.0.word(16)];
        Delta::of(&words)
    }

    /// Time to live.
    #[inline(always)]
    pub fn ttl(&self) -> u8 {
        self.0.u8(offset_of!(Ipv4Hdr, ttl))
    }

    /// Protocol of the payload.
    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        self.0.u8(offset_of!(Ipv4Hdr, proto))
    }

    /// Source address.
    #[inline(always)]
    pub fn source(&self) -> Address {
        Address::from_v4_word(self.0.word(offset_of!(Ipv4Hdr, src_addr)))
    }

    /// Destination address.
    #[inline(always)]
    pub fn destination(&self) -> Address {
        Address::from_v4_word(self.0.word(offset_of!(Ipv4Hdr, dst_addr)))
    }

    /// Decrements the time to live and mends the checksum (RFC 1141), unless that would leave none.
    #[inline(always)]
    pub fn decrement_ttl(&self) -> Result<(), Verdict> {
        let ttl = self.ttl();
        if ttl <= 1 {
            return Err(Verdict::TtlExpired);
        }
        self.set_ttl_byte(ttl - 1);
        // The word of TTL and protocol fell by 0x0100, so the complemented sum rises by it, end-around. One's complement sums are the same in
        // either byte order (RFC 1071 section 2), so nothing is swapped but the constant.
        let at = offset_of!(Ipv4Hdr, check);
        let sum = self.0.half_word(at) as u64 + 0x0100_u16.to_be() as u64;
        self.0.set_half_word(at, (sum + ((sum + 1) >> 16)) as u16);
        Ok(())
    }

    /// Sets the time to live and mends the checksum (RFC 1624).
    #[inline(always)]
    pub fn set_ttl(&self, ttl: u8) {
        let at = offset_of!(Ipv4Hdr, check);
        let word = |ttl: u8| (ttl as u16) << 8 | self.protocol() as u16;
        self.0.set_be16(at, checksum::replace(self.0.be16(at), word(self.ttl()), word(ttl)));
        self.set_ttl_byte(ttl);
    }

    /// Sets DSCP and ECN and mends the checksum (RFC 1624).
    #[inline(always)]
    pub fn set_traffic_class(&self, traffic_class: u8) {
        let (at, old) = (offset_of!(Ipv4Hdr, check), self.0.be16(0));
        let new = (old & 0xff00) | traffic_class as u16;
        self.0.set_be16(at, checksum::replace(self.0.be16(at), old, new));
        self.0.set_be16(0, new);
    }

    /// Exchanges source and destination, which leaves the checksum right.
    #[inline(always)]
    pub fn swap_addresses(&self) {
        let (source, destination) = (offset_of!(Ipv4Hdr, src_addr), offset_of!(Ipv4Hdr, dst_addr));
        let word = self.0.word(source);
        self.0.set_word(source, self.0.word(destination));
        self.0.set_word(destination, word);
    }

    /// Writes both addresses and mends the checksum (RFC 1624).
    #[inline(always)]
    pub fn set_addresses(&self, source: &Address, destination: &Address) {
        let check = offset_of!(Ipv4Hdr, check);
        let mut delta = Delta::default();
        for (at, address) in
            [(offset_of!(Ipv4Hdr, src_addr), source), (offset_of!(Ipv4Hdr, dst_addr), destination)]
        {
            let new = address.words()[3];
            delta = delta.replace(self.0.word(at), new);
            self.0.set_word(at, new);
        }
        self.0.set_half_word(check, delta.apply(self.0.half_word(check)));
    }

    /// Writes a whole header without options.
    #[inline(always)]
    pub fn write(&self, header: &HeaderV4) {
        let [.., source] = header.source.words();
        let [.., destination] = header.destination.words();
        let first = 0x4500_0000 | (header.traffic_class as u32) << 16 | header.total_len as u32;
        let second = (header.id as u32) << 16 | header.fragments.bits() as u32;
        let third = (header.ttl as u32) << 24 | (header.protocol as u32) << 16;
        let checksum = checksum::Sum::default()
            .add_u32(first)
            .add_u32(second)
            .add_u32(third)
            .add_u32(u32::from_be(source))
            .add_u32(u32::from_be(destination))
            .finish();
        self.0.set_be32(0, first);
        self.0.set_be32(4, second);
        self.0.set_be32(8, third | checksum as u32);
        self.0.set_word(offset_of!(Ipv4Hdr, src_addr), source);
        self.0.set_word(offset_of!(Ipv4Hdr, dst_addr), destination);
    }

    /// Writes the header of a tunnel.
    #[inline(always)]
    pub fn write_outer(&self, outer: &OuterV4) {
        let first = 0x4500 | outer.traffic_class as u16;
        let checksum = checksum::Sum::new(outer.checksum_base)
            .add(outer.traffic_class as u16)
            .add(outer.total_len)
            .add(outer.protocol as u16)
            .finish();
        self.0.set_be32(0, (first as u32) << 16 | outer.total_len as u32);
        self.0.set_be32(4, OUTER_ID_AND_FLAGS);
        self.0.set_be32(8, OUTER_TTL_AND_ZERO | (outer.protocol as u32) << 16 | checksum as u32);
        self.0.set_word(offset_of!(Ipv4Hdr, src_addr), outer.source.words()[3]);
        self.0.set_word(offset_of!(Ipv4Hdr, dst_addr), outer.destination.words()[3]);
    }

    #[inline(always)]
    fn set_ttl_byte(&self, ttl: u8) {
        self.0.set_u8(offset_of!(Ipv4Hdr, ttl), ttl);
    }
}

/// An IPv4 header without options.
#[derive(Clone, Copy, Debug)]
pub struct HeaderV4 {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Bytes from this header on.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// What it says of fragments.
    pub fragments: Fragments,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
}

/// What an IPv4 header says of fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragments {
    /// It is whole, and routers must not fragment it.
    Forbidden,
    /// It is whole or a fragment, and may be fragmented.
    Allowed(Place),
}

impl Fragments {
    /// Flags and fragment offset.
    #[inline(always)]
    fn bits(self) -> u16 {
        match self {
            Self::Forbidden => DONT_FRAGMENT,
            Self::Allowed(place) => place.offset >> 3 | if place.more { MORE_FRAGMENTS } else { 0 },
        }
    }
}

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;

/// What distinguishes one outer IPv4 header from another.
pub struct OuterV4 {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Bytes from the outer header on.
    pub total_len: u16,
    /// [`protocol::IPV4`](super::protocol::IPV4) or [`protocol::IPV6`](super::protocol::IPV6).
    pub protocol: u8,
    /// Result of [`outer_checksum_base`] for this protocol and these addresses.
    pub checksum_base: u32,
    /// Outer source.
    pub source: Address,
    /// Outer destination.
    pub destination: Address,
}

/// Identification 0 and "don't fragment" (RFC 6864: an atomic datagram needs no identification).
const OUTER_ID_AND_FLAGS: u32 = 0x0000_4000;
/// Hop limit of outer headers.
pub const OUTER_TTL: u8 = 64;
const OUTER_TTL_AND_ZERO: u32 = (OUTER_TTL as u32) << 24;

/// Sum of the words of an outer IPv4 header that are the same for every packet to one backend: all but traffic class and
/// length. The protocol is left out too, because a backend takes inner packets of both families.
#[inline(always)]
pub const fn outer_checksum_base(source: [u8; 4], destination: [u8; 4]) -> u32 {
    checksum::Sum::new(0x4500)
        .add_u32(OUTER_ID_AND_FLAGS)
        .add_u32(OUTER_TTL_AND_ZERO)
        .add_u32(u32::from_be_bytes(source))
        .add_u32(u32::from_be_bytes(destination))
        .folded() as u32
}
