//! What an ICMP error says, in the words of the other family (RFC 7915 sections 4.2 and 5.2).

use super::super::translate::DIFFERENCE;
use crate::{Verdict, headers::FRAGMENT_LEN};

/// The start of an ICMP message of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Type in the upper, code in the lower byte.
    pub(super) kind: u16,
    /// The second word: the MTU of "too big", the pointer of a parameter problem.
    pub(super) rest: u32,
}

// Types of ICMP (RFC 792), and codes of the first.
const UNREACHABLE: u16 = 3;
const PROTOCOL_UNREACHABLE: u16 = 2;
const PORT_UNREACHABLE: u16 = 3;
const FRAGMENTATION_NEEDED: u16 = 4;
const TIME_EXCEEDED: u16 = 11;
const PARAMETER_PROBLEM: u16 = 12;
/// Codes of "unreachable" that say that a host or network is not to be had: 0, 1, source route failed, unknown, isolated, the type of service
/// (RFC 1122 section 3.2.2.1).
const NO_WAY: u32 = 1 << 0 | 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 12;
/// Those that say that it may not be had: prohibited (RFC 1812 section 5.2.7.1), precedence too low.
const NOT_ALLOWED: u32 = 1 << 9 | 1 << 10 | 1 << 13 | 1 << 15;

// Types of ICMPv6 (RFC 4443), and codes of the first and last.
const UNREACHABLE_V6: u16 = 1;
const NO_ROUTE: u16 = 0;
const PROHIBITED: u16 = 1;
const BEYOND_SCOPE: u16 = 2;
const ADDRESS_UNREACHABLE: u16 = 3;
const PORT_UNREACHABLE_V6: u16 = 4;
const PACKET_TOO_BIG: u16 = 2;
const TIME_EXCEEDED_V6: u16 = 3;
const PARAMETER_PROBLEM_V6: u16 = 4;
const WRONG_FIELD: u16 = 0;
const UNKNOWN_NEXT_HEADER: u16 = 1;

/// The least MTU of an IPv6 link (RFC 8200 section 5): hosts do not believe less.
const LEAST_V6: u16 = 1280;
/// The least MTU of an IPv4 link (RFC 791 section 3.2). A router that says 0 knows none.
const LEAST_V4: u16 = 68;

impl Message {
    /// An ICMP error for an IPv6 host. `quoted_len` is the total length of the quoted packet, `mtu` what its path takes further on.
    #[inline(always)]
    pub(super) fn to_v6(self, quoted_len: u16, mtu: u16) -> Result<Self, Verdict> {
        let (kind, code) = (self.kind >> 8, self.kind & 0xff);
        let is_of = |codes: u32| code < 16 && codes >> code & 1 != 0;
        let message = |kind: u16, code, rest| Ok(Self { kind: kind << 8 | code, rest });
        if kind == UNREACHABLE && code == FRAGMENTATION_NEEDED {
            let told = match self.rest as u16 {
                0 => plateau(quoted_len),
                told => told,
            };
            let told = told.saturating_add(DIFFERENCE);
            let fits = if told < mtu { told } else { mtu };
            message(PACKET_TOO_BIG, 0, if fits < LEAST_V6 { LEAST_V6 } else { fits } as u32)
        } else if kind == UNREACHABLE && code == PORT_UNREACHABLE {
            message(UNREACHABLE_V6, PORT_UNREACHABLE_V6, 0)
        } else if kind == UNREACHABLE && code == PROTOCOL_UNREACHABLE {
            message(PARAMETER_PROBLEM_V6, UNKNOWN_NEXT_HEADER, NEXT_HEADER_V6)
        } else if kind == UNREACHABLE && is_of(NO_WAY) {
            message(UNREACHABLE_V6, NO_ROUTE, 0)
        } else if kind == UNREACHABLE && is_of(NOT_ALLOWED) {
            message(UNREACHABLE_V6, PROHIBITED, 0)
        } else if kind == TIME_EXCEEDED {
            message(TIME_EXCEEDED_V6, code, 0)
        } else if kind == PARAMETER_PROBLEM && (code == 0 || code == 2) {
            message(PARAMETER_PROBLEM_V6, WRONG_FIELD, pointer_to_v6(self.rest >> 24)?)
        } else {
            Err(Verdict::NatUntranslatable)
        }
    }

    /// An ICMPv6 error for an IPv4 host. `is_fragment` tells that the quoted packet has a fragment header, which its sender knows nothing of;
    /// `mtu` is what its path takes further on.
    #[inline(always)]
    pub(super) fn to_v4(self, is_fragment: bool, mtu: u16) -> Result<Self, Verdict> {
        let (kind, code) = (self.kind >> 8, self.kind & 0xff);
        let message = |kind: u16, code, rest| Ok(Self { kind: kind << 8 | code, rest });
        if kind == PACKET_TOO_BIG {
            let told = if self.rest > u16::MAX as u32 { u16::MAX } else { self.rest as u16 };
            let more = if is_fragment { DIFFERENCE + FRAGMENT_LEN as u16 } else { DIFFERENCE };
            let told = told.saturating_sub(more);
            let fits = if told < mtu { told } else { mtu };
            let fits = if fits < LEAST_V4 { LEAST_V4 } else { fits };
            message(UNREACHABLE, FRAGMENTATION_NEEDED, fits as u32)
        } else if kind == UNREACHABLE_V6 && code == PORT_UNREACHABLE_V6 {
            message(UNREACHABLE, PORT_UNREACHABLE, 0)
        } else if kind == UNREACHABLE_V6 && code == PROHIBITED {
            message(UNREACHABLE, HOST_PROHIBITED, 0)
        } else if kind == UNREACHABLE_V6
            && (code == NO_ROUTE || code == BEYOND_SCOPE || code == ADDRESS_UNREACHABLE)
        {
            message(UNREACHABLE, HOST_UNREACHABLE, 0)
        } else if kind == TIME_EXCEEDED_V6 {
            message(TIME_EXCEEDED, code, 0)
        } else if kind == PARAMETER_PROBLEM_V6 && code == WRONG_FIELD {
            message(PARAMETER_PROBLEM, 0, pointer_to_v4(self.rest)? << 24)
        } else if kind == PARAMETER_PROBLEM_V6 && code == UNKNOWN_NEXT_HEADER {
            message(UNREACHABLE, PROTOCOL_UNREACHABLE, 0)
        } else {
            Err(Verdict::NatUntranslatable)
        }
    }
}

/// More codes of "unreachable" in ICMP.
const HOST_UNREACHABLE: u16 = 1;
const HOST_PROHIBITED: u16 = 10;

/// The MTU that a router probably has which does not tell it: the greatest of the usual ones that is less than the packet (RFC 1191 section 7.1),
/// as far as it matters to an IPv6 host.
#[inline(always)]
fn plateau(len: u16) -> u16 {
    match len {
        32_001.. => 32_000,
        17_915.. => 17_914,
        8_167.. => 8_166,
        4_353.. => 4_352,
        2_003.. => 2_002,
        1_493.. => 1_492,
        _ => LEAST_V6 - DIFFERENCE,
    }
}

/// Offset of the next header in an IPv6 header.
const NEXT_HEADER_V6: u32 = 6;

/// The field of an IPv6 header that is called like the one at this offset of an IPv4 header (RFC 7915 figure 3).
#[inline(always)]
fn pointer_to_v6(pointer: u32) -> Result<u32, Verdict> {
    match pointer {
        0 | 1 => Ok(pointer),
        2 | 3 => Ok(4),
        8 => Ok(7),
        9 => Ok(NEXT_HEADER_V6),
        12..=15 => Ok(8),
        16..=19 => Ok(24),
        _ => Err(Verdict::NatUntranslatable),
    }
}

/// The field of an IPv4 header that is called like the one at this offset of an IPv6 header (RFC 7915 figure 6).
#[inline(always)]
fn pointer_to_v4(pointer: u32) -> Result<u32, Verdict> {
    match pointer {
        0 | 1 => Ok(pointer),
        4 | 5 => Ok(2),
        NEXT_HEADER_V6 => Ok(9),
        7 => Ok(8),
        8..=23 => Ok(12),
        24..=39 => Ok(16),
        _ => Err(Verdict::NatUntranslatable),
    }
}

#[cfg(test)]
mod tests;
