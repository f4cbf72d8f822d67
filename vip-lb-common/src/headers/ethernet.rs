//! Ethernet, and ARP over it.

use core::mem::offset_of;

use network_types::{arp::ArpHdr, eth::EthHdr};

use super::{ARP_LEN, ETHERNET_LEN, ether_type};
use crate::{Packet, Verdict, View, abi::Address, packet::words};

/// The addresses and type of a frame.
#[derive(Clone, Copy)]
pub struct Ethernet<'p>(View<'p, ETHERNET_LEN>);

impl<'p> Ethernet<'p> {
    /// The header in these bytes.
    #[inline(always)]
    pub fn new(bytes: View<'p, ETHERNET_LEN>) -> Self {
        Self(bytes)
    }

    /// The header at the front of `packet`.
    #[inline(always)]
    pub fn of(packet: &'p impl Packet, short: Verdict) -> Result<Self, Verdict> {
        packet.view(0, short).map(Self)
    }

    /// EtherType, or the tag's where there is one.
    #[inline(always)]
    pub fn ether_type(&self) -> u16 {
        self.0.be16(offset_of!(EthHdr, ether_type))
    }

    /// Writes the EtherType of an untagged frame.
    #[inline(always)]
    pub fn set_ether_type(&self, ether_type: u16) {
        self.0.set_be16(offset_of!(EthHdr, ether_type), ether_type);
    }

    /// Whether the frame is untagged and of this type.
    #[inline(always)]
    pub fn is(&self, ether_type: u16) -> bool {
        self.0.half_word(offset_of!(EthHdr, ether_type)) == ether_type.to_be()
    }

    /// Destination MAC address.
    #[inline(always)]
    pub fn destination(&self) -> [u8; 6] {
        let [a, b, c, d] = self.0.word(0).to_ne_bytes();
        let [e, f] = self.0.half_word(4).to_ne_bytes();
        [a, b, c, d, e, f]
    }

    /// Source MAC address.
    #[inline(always)]
    pub fn source(&self) -> [u8; 6] {
        let at = offset_of!(EthHdr, src_addr);
        let [a, b] = self.0.half_word(at).to_ne_bytes();
        let [c, d, e, f] = self.0.word(at + 2).to_ne_bytes();
        [a, b, c, d, e, f]
    }

    /// Destination and source address, twelve bytes as they lie there.
    #[inline(always)]
    pub fn macs(&self) -> [u8; 12] {
        let [a, b, c, d] = self.0.word(0).to_ne_bytes();
        let [e, f, g, h] = self.0.word(4).to_ne_bytes();
        let [i, j, k, l] = self.0.word(8).to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    /// Writes destination and source address, twelve bytes as they shall lie there.
    #[inline(always)]
    pub fn set_macs(&self, macs: &[u8; 12]) {
        let [a, b, c] = words(macs);
        self.0.set_word(0, a);
        self.0.set_word(4, b);
        self.0.set_word(8, c);
    }

    /// Writes both addresses.
    #[inline(always)]
    pub fn set_addresses(&self, destination: [u8; 6], source: [u8; 6]) {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (destination, source);
        self.set_macs(&[a, b, c, d, e, f, g, h, i, j, k, l]);
    }

    /// Exchanges destination and source.
    #[inline(always)]
    pub fn swap_addresses(&self) {
        let (low, high) = (self.0.word(0), self.0.half_word(4));
        self.0.set_word(0, self.0.word(6));
        self.0.set_half_word(4, self.0.half_word(10));
        self.0.set_word(6, low);
        self.0.set_half_word(10, high);
    }
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(Clone, Copy)]
pub struct Arp<'p>(View<'p, ARP_LEN>);

impl<'p> Arp<'p> {
    const REQUEST: u16 = 1;
    const REPLY: u16 = 2;

    /// The packet at `offset`.
    #[inline(always)]
    pub fn at(packet: &'p impl Packet, offset: usize, short: Verdict) -> Result<Self, Verdict> {
        packet.view(offset, short).map(Self)
    }

    /// Asks for an IPv4 address over Ethernet, and is no announcement of the sender's own.
    #[inline(always)]
    pub fn is_question(&self) -> bool {
        self.0.be16(offset_of!(ArpHdr, htype)) == 1
            && self.0.be16(offset_of!(ArpHdr, ptype)) == ether_type::IPV4
            && self.0.be16(offset_of!(ArpHdr, hlen)) == 0x0604
            && self.0.be16(offset_of!(ArpHdr, oper)) == Self::REQUEST
            && self.0.word(offset_of!(ArpHdr, spa)) != self.0.word(offset_of!(ArpHdr, tpa))
    }

    /// The address of who asks.
    #[inline(always)]
    pub fn sender(&self) -> Address {
        Address::from_v4_word(self.0.word(offset_of!(ArpHdr, spa)))
    }

    /// The address asked for.
    #[inline(always)]
    pub fn target(&self) -> Address {
        Address::from_v4_word(self.0.word(offset_of!(ArpHdr, tpa)))
    }

    /// Turns a question into the answer that `mac` holds the address asked for.
    #[inline(always)]
    pub fn answer(&self, mac: [u8; 6]) {
        let (sha, spa) = (offset_of!(ArpHdr, sha), offset_of!(ArpHdr, spa));
        let (tha, tpa) = (offset_of!(ArpHdr, tha), offset_of!(ArpHdr, tpa));
        let (asked, asker) = (self.0.word(tpa), self.0.word(spa));
        let (asker_mac_low, asker_mac_high) = (self.0.word(sha), self.0.half_word(sha + 4));
        self.0.set_be16(offset_of!(ArpHdr, oper), Self::REPLY);
        let [a, b, c, d, e, f] = mac;
        self.0.set_word(sha, u32::from_ne_bytes([a, b, c, d]));
        self.0.set_half_word(sha + 4, u16::from_ne_bytes([e, f]));
        self.0.set_word(spa, asked);
        self.0.set_word(tha, asker_mac_low);
        self.0.set_half_word(tha + 4, asker_mac_high);
        self.0.set_word(tpa, asker);
    }
}
