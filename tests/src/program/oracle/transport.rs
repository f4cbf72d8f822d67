//! What may differ between a packet and the same packet on its way: hop limit, a SYN's segment size, translated ports, checksums.

use etherparse::TcpHeaderSlice;
use vip_lb_common::headers::protocol::{TCP, UDP};

use super::{
    Oracle, same,
    seen::{Ip, Transport},
};

/// The sum of 16-bit words in one's complement (RFC 1071), 0 and 0xffff being one number. A checksum that was right or wrong by some
/// amount is so after an update if and only if the sum over everything that it covers has not changed.
pub(super) fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        for word in part.chunks(2) {
            sum += u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0));
        }
    }
    (sum % 0xffff) as u16
}

/// Bytes of the addresses, as far as a pseudo header's sum goes.
pub(super) fn addresses(ip: &Ip<'_>) -> Vec<u8> {
    let octets = |address| match address {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    [octets(ip.source), octets(ip.destination)].concat()
}

/// What became of both ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ports {
    Kept,
    Translated,
}

impl Oracle {
    /// The same packet, one hop further.
    pub(super) fn one_hop_further(&self, before: &Ip<'_>, after: &Ip<'_>) -> Result<(), String> {
        headers_one_hop_further(before, after)?;
        same("source address", after.source, before.source)?;
        same("destination address", after.destination, before.destination)?;
        let (old, new) = (&before.packet[before.header.len()..], &after.packet[after.header.len()..]);
        if old == new {
            return Ok(());
        }
        match (before.transport, after.transport) {
            (Some(old), Some(new)) => self.same_transport(before, &old, after, &new, Ports::Kept),
            _ => Err("the bytes behind the IP header differ".to_owned()),
        }
    }

    /// The same segment or datagram but for translated ports, its checksum, and the segment size of a SYN where services limit that.
    pub(super) fn same_transport(
        &self,
        before: &Ip<'_>,
        old: &Transport<'_>,
        after: &Ip<'_>,
        new: &Transport<'_>,
        ports: Ports,
    ) -> Result<(), String> {
        same("protocol", new.protocol, old.protocol)?;
        same("length behind the IP header", new.bytes.len(), old.bytes.len())?;
        let checksum = match old.protocol {
            _ if old.is_later_fragment => None,
            TCP => Some(16),
            UDP => Some(6),
            _ => None,
        };
        let Some(at) = checksum else {
            return same("payload", new.bytes, old.bytes);
        };
        let clamped = self.clamped(old, new)?;
        for (index, (a, b)) in old.bytes.iter().zip(new.bytes).enumerate() {
            let may_change = (ports == Ports::Translated && index < 4)
                || (at..at + 2).contains(&index)
                || clamped.contains(&index);
            if a != b && !may_change {
                return Err(format!("byte {index} behind the IP header is {b:#04x}, should be {a:#04x}"));
            }
        }
        let has_checksum = old.protocol == TCP || old.bytes.get(at..at + 2) != Some(&[0, 0]);
        if !has_checksum {
            return same("the checksum that was not there", new.bytes.get(at..at + 2), Some(&[0, 0][..]));
        }
        if old.bytes.len() < at + 2 {
            return Ok(());
        }
        same(
            "the sum that the transport's checksum is to mend",
            sum(&[&addresses(after), new.bytes]),
            sum(&[&addresses(before), old.bytes]),
        )
    }

    /// Where the segment size of a SYN was lowered to what a service allows.
    fn clamped(&self, old: &Transport<'_>, new: &Transport<'_>) -> Result<std::ops::Range<usize>, String> {
        let none = 0..0;
        if old.protocol != TCP || old.is_later_fragment {
            return Ok(none);
        }
        let (Ok(before), Ok(after)) =
            (TcpHeaderSlice::from_slice(old.bytes), TcpHeaderSlice::from_slice(new.bytes))
        else {
            return Ok(none);
        };
        if before.options() == after.options() || !before.syn() {
            return Ok(none);
        }
        let differing: Vec<usize> =
            (20..20 + before.options().len()).filter(|&index| old.bytes[index] != new.bytes[index]).collect();
        let (first, last) = (differing[0], differing[differing.len() - 1]);
        // Its value follows the kind 2 and the length 4 (RFC 9293 section 3.2).
        let end = 20 + before.options().len();
        let is_value = |at: &usize| old.bytes[at - 2..*at] == [2, 4] && last <= at + 1 && at + 2 <= end;
        let value = (first - 1..=first).find(is_value);
        let Some(at) = value else {
            return Err("TCP options differ elsewhere than in a segment size".to_owned());
        };
        let size = |bytes: &[u8]| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let (was, is) = (size(old.bytes), size(new.bytes));
        let allowed = self.scenario.service_options.values().any(|options| options.mss == is);
        if is < was && allowed {
            Ok(at..at + 2)
        } else {
            Err(format!("a segment size of {was} became {is}, which no service asks for"))
        }
    }
}

/// Both headers but for addresses and hop limit, which falls by one; the checksum of IPv4 is as right as it was.
pub(super) fn headers_one_hop_further(before: &Ip<'_>, after: &Ip<'_>) -> Result<(), String> {
    same("whether it is IPv4", after.is_v4(), before.is_v4())?;
    same("length of the packet", after.packet.len(), before.packet.len())?;
    same("length of the header", after.header.len(), before.header.len())?;
    same("padding", after.trailer, before.trailer)?;
    same("hop limit", Some(after.hop_limit), before.hop_limit.checked_sub(1))?;
    let free = |index| if before.is_v4() { matches!(index, 8 | 10..20) } else { index >= 7 };
    for (index, (a, b)) in before.header.iter().zip(after.header).enumerate() {
        if a != b && !free(index) {
            return Err(format!("byte {index} of the IP header is {b:#04x}, should be {a:#04x}"));
        }
    }
    if before.is_v4() {
        same("the sum of the IPv4 header", sum(&[after.header]), sum(&[before.header]))?;
    }
    same("extension headers", extensions(after), extensions(before))
}

/// What is between the fixed header and the transport; all of it where the other parser does not find the transport.
pub(super) fn extensions<'f>(ip: &Ip<'f>) -> &'f [u8] {
    let behind = ip.transport.map_or(0, |transport| transport.bytes.len());
    &ip.packet[ip.header.len()..ip.packet.len() - behind]
}
