//! IPv6.

use core::mem::offset_of;

use network_types::ip::Ipv6Hdr;

use super::{FRAGMENT_LEN, IPV6_LEN, Place};
use crate::{Packet, Verdict, View, abi::Address, checksum::Delta};

/// An IPv6 header (RFC 8200 section 3).
#[derive(Clone, Copy)]
pub struct Ipv6<'p>(View<'p, IPV6_LEN>);

impl<'p> Ipv6<'p> {
    /// The header in these bytes.
    #[inline(always)]
    pub fn new(bytes: View<'p, IPV6_LEN>) -> Self {
        Self(bytes)
    }

    /// The header at `offset`.
    #[inline(always)]
    pub fn at(packet: &'p impl Packet, offset: usize, short: Verdict) -> Result<Self, Verdict> {
        packet.view(offset, short).map(Self)
    }

    /// The version field, 6 in a good packet.
    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.0.u8(0) >> 4
    }

    /// DSCP and ECN.
    #[inline(always)]
    pub fn traffic_class(&self) -> u8 {
        (self.0.be16(0) >> 4) as u8
    }

    /// Bytes behind this header.
    #[inline(always)]
    pub fn payload_len(&self) -> u16 {
        self.0.be16(offset_of!(Ipv6Hdr, payload_len))
    }

    /// Type of the first header behind this one.
    #[inline(always)]
    pub fn next_header(&self) -> u8 {
        self.0.u8(offset_of!(Ipv6Hdr, next_hdr))
    }

    /// Hop limit.
    #[inline(always)]
    pub fn hop_limit(&self) -> u8 {
        self.0.u8(offset_of!(Ipv6Hdr, hop_limit))
    }

    /// Source address.
    #[inline(always)]
    pub fn source(&self) -> Address {
        self.address(offset_of!(Ipv6Hdr, src_addr))
    }

    /// Destination address.
    #[inline(always)]
    pub fn destination(&self) -> Address {
        self.address(offset_of!(Ipv6Hdr, dst_addr))
    }

    /// Whether it is addressed to a group (RFC 4291 section 2.7).
    #[inline(always)]
    pub fn is_multicast(&self) -> bool {
        self.0.u8(offset_of!(Ipv6Hdr, dst_addr)) == 0xff
    }

    /// Sets DSCP and ECN, which no checksum covers.
    #[inline(always)]
    pub fn set_traffic_class(&self, traffic_class: u8) {
        self.0.set_be16(0, (self.0.be16(0) & 0xf00f) | (traffic_class as u16) << 4);
    }

    /// Decrements the hop limit, unless that would leave none.
    #[inline(always)]
    pub fn decrement_hop_limit(&self) -> Result<(), Verdict> {
        let hop_limit = self.hop_limit();
        if hop_limit <= 1 {
            return Err(Verdict::TtlExpired);
        }
        self.set_hop_limit(hop_limit - 1);
        Ok(())
    }

    /// Sets the hop limit, which no checksum covers.
    #[inline(always)]
    pub fn set_hop_limit(&self, hop_limit: u8) {
        self.0.set_u8(offset_of!(Ipv6Hdr, hop_limit), hop_limit);
    }

    /// Writes both addresses.
    #[inline(always)]
    pub fn set_addresses(&self, source: &Address, destination: &Address) {
        for (at, address) in
            [(offset_of!(Ipv6Hdr, src_addr), source), (offset_of!(Ipv6Hdr, dst_addr), destination)]
        {
            let [a, b, c, d] = address.words();
            self.0.set_word(at, a);
            self.0.set_word(at + 4, b);
            self.0.set_word(at + 8, c);
            self.0.set_word(at + 12, d);
        }
    }

    /// Writes everything but the addresses. The lower 20 bits of `flow_label` go into the header (RFC 6437).
    #[inline(always)]
    pub fn set_head(
        &self,
        traffic_class: u8,
        flow_label: u32,
        payload_len: u16,
        next_header: u8,
        hop_limit: u8,
    ) {
        self.0.set_be32(0, 6 << 28 | (traffic_class as u32) << 20 | (flow_label & 0xf_ffff));
        self.0.set_be32(4, (payload_len as u32) << 16 | (next_header as u32) << 8 | hop_limit as u32);
    }

    /// All of it as a part of what a checksum covers.
    #[inline(always)]
    pub fn covered(&self) -> Delta {
        Delta::of(&[self.0.word(0), self.0.word(4)])
            .and(Delta::of(&self.source().words()))
            .and(Delta::of(&self.destination().words()))
    }

    #[inline(always)]
    fn address(&self, at: usize) -> Address {
        Address::from_words([self.0.word(at), self.0.word(at + 4), self.0.word(at + 8), self.0.word(at + 12)])
    }
}

/// A fragment header (RFC 8200 section 4.5).
#[derive(Clone, Copy)]
pub struct FragmentHeader<'p>(View<'p, FRAGMENT_LEN>);

impl<'p> FragmentHeader<'p> {
    /// The header at `offset`.
    #[inline(always)]
    pub fn at(packet: &'p impl Packet, offset: usize, short: Verdict) -> Result<Self, Verdict> {
        packet.view(offset, short).map(Self)
    }

    /// Type of what the fragments of the packet carry.
    #[inline(always)]
    pub fn next_header(&self) -> u8 {
        self.0.u8(0)
    }

    /// Where in its packet the fragment belongs.
    #[inline(always)]
    pub fn place(&self) -> Place {
        let bits = self.0.be16(2);
        Place { offset: bits & 0xfff8, more: bits & 1 != 0 }
    }

    /// Identification, which all fragments of a packet share.
    #[inline(always)]
    pub fn id(&self) -> u32 {
        self.0.be32(4)
    }

    /// Writes the whole header.
    #[inline(always)]
    pub fn write(&self, next_header: u8, place: Place, id: u32) {
        self.0.set_be32(0, (next_header as u32) << 24 | place.offset as u32 | place.more as u32);
        self.0.set_be32(4, id);
    }

    /// All of it as a part of what a checksum covers.
    #[inline(always)]
    pub fn covered(&self) -> Delta {
        Delta::of(&[self.0.word(0), self.0.word(4)])
    }
}
