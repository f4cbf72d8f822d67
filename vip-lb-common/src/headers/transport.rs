//! TCP, UDP and ICMP.

use core::mem::offset_of;

use network_types::{icmp::Icmpv4Hdr, tcp::TcpHdr, udp::UdpHdr};

use super::{ICMP_LEN, TCP_LEN, UDP_LEN};
use crate::{
    Packet, Verdict, View,
    checksum::{self, Delta},
};

/// Offset of the checksum in a TCP header.
pub const TCP_CHECKSUM: usize = offset_of!(TcpHdr, check);
/// Offset of the checksum in a UDP header.
pub const UDP_CHECKSUM: usize = offset_of!(UdpHdr, check);

/// A TCP header (RFC 9293 section 3.1).
#[derive(Clone, Copy)]
pub struct Tcp<'p>(View<'p, TCP_LEN>);

impl<'p> Tcp<'p> {
    /// The header in these bytes.
    #[inline(always)]
    pub fn new(bytes: View<'p, TCP_LEN>) -> Self {
        Self(bytes)
    }

    /// The header at `offset`.
    #[inline(always)]
    pub fn at(packet: &'p impl Packet, offset: usize, short: Verdict) -> Result<Self, Verdict> {
        packet.view(offset, short).map(Self)
    }

    /// Both ports as they lie in the packet.
    #[inline(always)]
    pub fn ports(&self) -> u32 {
        self.0.word(0)
    }

    /// Sequence number of its first byte, or of its SYN.
    #[inline(always)]
    pub fn sequence(&self) -> u32 {
        self.0.be32(offset_of!(TcpHdr, seq))
    }

    /// The byte that the sender expects next; means something only with ACK.
    #[inline(always)]
    pub fn acknowledged(&self) -> u32 {
        self.0.be32(offset_of!(TcpHdr, ack_seq))
    }

    /// Header length in bytes, options included.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        ((self.0.u8(offset_of!(TcpHdr, _bitfield_1)) >> 4) as usize) * 4
    }

    /// The checksum.
    #[inline(always)]
    pub fn checksum(&self) -> u16 {
        self.0.be16(offset_of!(TcpHdr, check))
    }

    /// Writes the checksum.
    #[inline(always)]
    pub fn set_checksum(&self, checksum: u16) {
        self.0.set_be16(offset_of!(TcpHdr, check), checksum);
    }

    /// Writes both ports as they shall lie in the packet and mends the checksum, of which `delta` says what else changed.
    /// Returns the checksum as it lies there.
    #[inline(always)]
    pub fn set_ports(&self, ports: u32, delta: Delta) -> u16 {
        let at = offset_of!(TcpHdr, check);
        let checksum = delta.replace(self.ports(), ports).apply(self.0.half_word(at));
        self.0.set_word(0, ports);
        self.0.set_half_word(at, checksum);
        checksum
    }

    /// The flags.
    #[inline(always)]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags(self.0.u8(offset_of!(TcpHdr, _bitfield_1) + 1))
    }
}

/// The lower eight flags of a TCP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const ACK: u8 = 0x10;

    /// The first packet of a connection: SYN alone of the four that matter.
    #[inline(always)]
    pub const fn opens(self) -> bool {
        self.0 & (Self::FIN | Self::SYN | Self::RST | Self::ACK) == Self::SYN
    }

    /// The client will send no more.
    #[inline(always)]
    pub const fn closes(self) -> bool {
        self.0 & (Self::FIN | Self::RST) != 0
    }

    /// It carries the sender's initial sequence number: a SYN, or the answer to one.
    #[inline(always)]
    pub const fn synchronizes(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// The sender will send no more, but may receive.
    #[inline(always)]
    pub const fn finishes(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// The client knows nothing of the connection, or pretends so.
    #[inline(always)]
    pub const fn resets(self) -> bool {
        self.0 & Self::RST != 0
    }
}

/// A UDP header (RFC 768).
#[derive(Clone, Copy)]
pub struct Udp<'p>(View<'p, UDP_LEN>);

impl<'p> Udp<'p> {
    /// The header in these bytes.
    #[inline(always)]
    pub fn new(bytes: View<'p, UDP_LEN>) -> Self {
        Self(bytes)
    }

    /// The header at `offset`.
    #[inline(always)]
    pub fn at(packet: &'p impl Packet, offset: usize, short: Verdict) -> Result<Self, Verdict> {
        packet.view(offset, short).map(Self)
    }

    /// Both ports as they lie in the packet.
    #[inline(always)]
    pub fn ports(&self) -> u32 {
        self.0.word(0)
    }

    /// Destination port.
    #[inline(always)]
    pub fn destination_port(&self) -> u16 {
        self.0.be16(2)
    }

    /// Whether there is a checksum: 0 says that the sender made none.
    #[inline(always)]
    pub fn has_checksum(&self) -> bool {
        self.0.half_word(offset_of!(UdpHdr, check)) != 0
    }

    /// Writes both ports as they shall lie in the packet and mends the checksum, if there is one. `delta` says what else changed.
    /// Returns the checksum as it lies there.
    #[inline(always)]
    pub fn set_ports(&self, ports: u32, delta: Delta) -> u16 {
        let at = offset_of!(UdpHdr, check);
        let checksum = match self.0.half_word(at) {
            0 => 0,
            old => match delta.replace(self.ports(), ports).apply(old) {
                // Zero would say that there is none.
                0 => u16::MAX,
                new => new,
            },
        };
        self.0.set_word(0, ports);
        self.0.set_half_word(at, checksum);
        checksum
    }

    /// Bytes from this header on.
    #[inline(always)]
    pub fn len(&self) -> u16 {
        self.0.be16(offset_of!(UdpHdr, len))
    }

    /// Writes a whole header over `payload` bytes, without a checksum: over IPv4 that is optional (RFC 768), over IPv6 a tunnel may leave it
    /// out (RFC 6935), since what is inside has its own.
    #[inline(always)]
    pub fn write(&self, source_port: u16, destination_port: u16, payload: u16) {
        self.0.set_be16(0, source_port);
        self.0.set_be16(2, destination_port);
        self.0.set_be32(4, ((UDP_LEN as u32) + payload as u32) << 16);
    }

    /// Whether the length field says that there is nothing, not even the header.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An ICMP header of either family (RFC 792, RFC 4443): type, code, checksum.
#[derive(Clone, Copy)]
pub struct Icmp<'p>(View<'p, ICMP_LEN>);

impl<'p> Icmp<'p> {
    /// The header at `offset`.
    #[inline(always)]
    pub fn at(packet: &'p impl Packet, offset: usize, short: Verdict) -> Result<Self, Verdict> {
        packet.view(offset, short).map(Self)
    }

    /// Writes the header of a message whose other bytes `sum` holds, those of the pseudo-header included (RFC 4443 section 2.3). `kind` is
    /// type and code, `rest` the second word.
    #[inline(always)]
    pub fn write(&self, kind: u16, rest: u32, sum: checksum::Sum) {
        let checksum = sum.add(kind).add_u32(rest).finish();
        self.0.set_be32(0, (kind as u32) << u16::BITS | checksum as u32);
        self.0.set_be32(4, rest);
    }

    /// Type in the upper, code in the lower byte.
    #[inline(always)]
    pub fn type_and_code(&self) -> u16 {
        self.0.be16(offset_of!(Icmpv4Hdr, type_))
    }

    /// The second word: the MTU of "too big", the pointer of a parameter problem.
    #[inline(always)]
    pub fn rest(&self) -> u32 {
        self.0.be32(4)
    }

    /// The checksum as it lies in the packet.
    #[inline(always)]
    pub fn checksum(&self) -> u16 {
        self.0.half_word(offset_of!(Icmpv4Hdr, check))
    }

    /// Writes the header of a message that was another, with checksum `old`, of which `delta` says what else changed: what `kind` and `rest`
    /// were is in there as removed. Returns the checksum as it lies there.
    #[inline(always)]
    pub fn rewrite(&self, kind: u16, rest: u32, old: u16, delta: Delta) -> u16 {
        let checksum = delta.add(kind.to_be() as u32).add(rest.to_be()).apply(old);
        self.0.set_be16(offset_of!(Icmpv4Hdr, type_), kind);
        self.0.set_half_word(offset_of!(Icmpv4Hdr, check), checksum);
        self.0.set_be32(4, rest);
        checksum
    }

    /// Mends the checksum after a change of what it covers.
    #[inline(always)]
    pub fn mend(&self, delta: Delta) {
        let at = offset_of!(Icmpv4Hdr, check);
        self.0.set_half_word(at, delta.apply(self.0.half_word(at)));
    }

    /// Changes type and code, and the checksum with them. Swapping addresses in the pseudo-header leaves it right.
    ///
    /// Of the two zeros of one's complement it is the one that is right for all messages: 0 is not, where the message is nothing but zeros.
    #[inline(always)]
    pub fn set_type_and_code(&self, new: u16) {
        let at = offset_of!(Icmpv4Hdr, check);
        let sum = checksum::replace(self.0.be16(at), self.type_and_code(), new);
        self.0.set_be16(at, if sum == 0 { 0xffff } else { sum });
        self.0.set_be16(offset_of!(Icmpv4Hdr, type_), new);
    }
}
