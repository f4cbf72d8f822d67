//! VRRP.

use super::VRRP_LEN;
use crate::{Packet, Verdict, View};

/// Version 3 and type ADVERTISEMENT, the only one there is.
const ADVERTISEMENT: u8 = 0x31;

/// What an advert of VRRP begins with, whatever its family (RFC 9568 section 5.2).
#[derive(Clone, Copy)]
pub struct Vrrp<'p>(View<'p, VRRP_LEN>);

impl<'p> Vrrp<'p> {
    /// The TTL or hop limit of every advert: what was sent by a router farther away has less (RFC 9568 section 5.1.1.3).
    pub const TTL: u8 = 255;

    /// The advert at `offset`.
    #[inline(always)]
    pub fn at(packet: &'p impl Packet, offset: usize, short: Verdict) -> Result<Self, Verdict> {
        packet.view(offset, short).map(Self)
    }

    /// Whether it is an advert of version 3.
    #[inline(always)]
    pub fn is_advert(&self) -> bool {
        self.0.u8(0) == ADVERTISEMENT
    }

    /// The virtual router's identifier, VRID.
    #[inline(always)]
    pub fn router(&self) -> u8 {
        self.0.u8(1)
    }

    /// The sender's priority; 0 if it stops being active.
    #[inline(always)]
    pub fn priority(&self) -> u8 {
        self.0.u8(2)
    }

    /// How many addresses follow.
    #[inline(always)]
    pub fn addresses(&self) -> u8 {
        self.0.u8(3)
    }

    /// When the next one is to be expected, hundredths of a second.
    #[inline(always)]
    pub fn interval(&self) -> u16 {
        self.0.be16(4) & 0xfff
    }
}
