//! ICMP errors that crossed the families, and what both families say of fragments (RFC 7915).

use etherparse::{Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice};
use vip_lb_common::headers::protocol::TCP;

use super::{
    Oracle, same,
    seen::{Ip, Transport},
    transport::{addresses, extensions, sum},
};

/// Where in its packet a fragment belongs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Piece {
    /// In bytes.
    pub(super) offset: u16,
    pub(super) more: bool,
    /// The half that both families have.
    pub(super) id: u16,
    /// A fragment, or one with the header of a fragment.
    pub(super) has_id: bool,
}

impl Piece {
    pub(super) fn of(ip: &Ip<'_>) -> Result<Self, String> {
        if ip.is_v4() { Self::v4(ip.header) } else { Self::v6(ip.header[6], extensions(ip)) }
    }

    fn v4(header: &[u8]) -> Result<Self, String> {
        let header = Ipv4HeaderSlice::from_slice(header).map_err(|error| error.to_string())?;
        let (offset, more) = (header.fragments_offset().value() * 8, header.more_fragments());
        Ok(Self { offset, more, id: header.identification(), has_id: offset != 0 || more })
    }

    /// Behind a header that says what is `next`.
    fn v6(next: u8, behind: &[u8]) -> Result<Self, String> {
        if next != 44 {
            return Ok(Self::default());
        }
        let header = Ipv6FragmentHeaderSlice::from_slice(behind).map_err(|error| error.to_string())?;
        Ok(Self {
            offset: header.fragment_offset().value() * 8,
            more: header.more_fragments(),
            id: header.identification() as u16,
            has_id: true,
        })
    }
}

/// A packet that an error quotes, of which the end may be missing.
struct Quoted<'f> {
    ends: [Vec<u8>; 2],
    hop_limit: u8,
    traffic_class: u8,
    piece: Piece,
    protocol: u8,
    /// As its header tells, behind IP header and fragment header.
    len: usize,
    /// As much as there is of that.
    transport: &'f [u8],
}

impl<'f> Quoted<'f> {
    fn v4(bytes: &'f [u8]) -> Result<Self, String> {
        let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|error| format!("quoted: {error}"))?;
        let header_len = header.slice().len();
        Ok(Self {
            ends: [header.source().to_vec(), header.destination().to_vec()],
            hop_limit: header.ttl(),
            traffic_class: bytes[1],
            piece: Piece::v4(header.slice())?,
            protocol: header.protocol().0,
            len: usize::from(header.total_len()).saturating_sub(header_len),
            transport: &bytes[header_len..],
        })
    }

    fn v6(bytes: &'f [u8]) -> Result<Self, String> {
        let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|error| format!("quoted: {error}"))?;
        let piece = Piece::v6(header.next_header().0, &bytes[40..])?;
        let front = if piece.has_id { 8 } else { 0 };
        Ok(Self {
            ends: [header.source().to_vec(), header.destination().to_vec()],
            hop_limit: header.hop_limit(),
            traffic_class: bytes[0] << 4 | bytes[1] >> 4,
            piece,
            protocol: if piece.has_id { bytes[40] } else { header.next_header().0 },
            len: usize::from(header.payload_length()).saturating_sub(front),
            transport: &bytes[40 + front..],
        })
    }

    fn of(ip: &Ip<'_>, message: &Transport<'f>) -> Result<Self, String> {
        let bytes = message.bytes.get(8..).ok_or("an error that quotes nothing")?;
        if ip.is_v4() { Self::v4(bytes) } else { Self::v6(bytes) }
    }
}

impl Oracle {
    /// The error of the one family says what that of the other said, about the packet that its receiver sent.
    pub(super) fn error_of_the_other_family(&self, before: &Ip<'_>, after: &Ip<'_>) -> Result<(), String> {
        let (old, new) = (message(before)?, message(after)?);
        same("protocol", new.protocol, if after.is_v4() { 1 } else { 58 })?;
        same("traffic class", after.traffic_class, before.traffic_class)?;
        if after.is_v4() {
            same("the sum of the new IPv4 header", sum(&[after.header]), 0)?;
        }
        let (was, is) = (Quoted::of(before, &old)?, Quoted::of(after, &new)?);
        let octets = addresses(after);
        let (source, destination) = octets.split_at(octets.len() / 2);
        same("quoted addresses", [&is.ends[0][..], &is.ends[1][..]], [destination, source])?;
        same("quoted hop limit", is.hop_limit, was.hop_limit)?;
        same("quoted traffic class", is.traffic_class, was.traffic_class)?;
        same("quoted protocol", is.protocol, was.protocol)?;
        same("quoted place", (is.piece.offset, is.piece.more), (was.piece.offset, was.piece.more))?;
        if was.piece.has_id && is.piece.has_id {
            same("quoted identification", is.piece.id, was.piece.id)?;
        }
        // One that lies may be longer than IPv4 can tell.
        let longest = if after.is_v4() { 0xffff - 20 } else { usize::MAX };
        same("quoted length", is.len, was.len.min(longest))?;
        same("bytes quoted", is.transport.len(), was.transport.len())?;
        let checksum = if was.protocol == TCP { 16..18 } else { 6..8 };
        for (index, (a, b)) in was.transport.iter().zip(is.transport).enumerate() {
            if a != b && index >= 4 && !checksum.contains(&index) {
                return Err(format!("byte {index} of what is quoted is {b:#04x}, should be {a:#04x}"));
            }
        }
        let covered = |ip: &Ip<'_>, message: &Transport<'_>| {
            let len = (message.bytes.len() as u32).to_be_bytes();
            let pseudo = [&addresses(ip)[..], &len, &[0, 58]].concat();
            sum(&[if ip.is_v4() { &[] } else { &pseudo[..] }, message.bytes])
        };
        // A quoted IPv4 header that is as wrong as it was counts as much; a new one counts nothing.
        same("the sum that the message's checksum is to mend", covered(after, &new), covered(before, &old))?;
        self.says_the_same(before.is_v4(), old.bytes, new.bytes, &was)
    }

    fn says_the_same(&self, was_v4: bool, old: &[u8], new: &[u8], quoted: &Quoted<'_>) -> Result<(), String> {
        let word = |bytes: &[u8]| u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let found = (new[0], new[1], word(new));
        let (kind, code, rest) = (old[0], old[1], word(old));
        let is_too_big = if was_v4 { (kind, code) == (3, 4) } else { kind == 2 };
        if is_too_big {
            let sizes = self.sizes(was_v4, rest, quoted);
            let right = if was_v4 { (2, 0) } else { (3, 4) };
            same("type and code", (found.0, found.1), right)?;
            return if sizes.contains(&found.2) {
                Ok(())
            } else {
                Err(format!("an MTU of {} is none of {sizes:?}", found.2))
            };
        }
        let right = if was_v4 { in_icmpv6(kind, code, rest) } else { in_icmp(kind, code, rest) };
        same("what the error says", Some(found), right)
    }

    /// What may be told of a path: as much as the router's, or a backend's.
    fn sizes(&self, was_v4: bool, told: u32, quoted: &Quoted<'_>) -> Vec<u32> {
        let mut paths: Vec<u32> = self.scenario.backends.values().map(|backend| backend.mtu.into()).collect();
        paths.push(0xffff);
        let right = |path: u32| {
            if !was_v4 {
                let more = if quoted.piece.has_id { 28 } else { 20 };
                return told.min(0xffff).saturating_sub(more).min(path).max(68);
            }
            let told = match told & 0xffff {
                0 => {
                    let usual = [32_000, 17_914, 8166, 4352, 2002, 1492];
                    let below = |size: &&u32| **size < quoted.len as u32 + 20;
                    usual.iter().find(below).copied().unwrap_or(1260)
                }
                told => told,
            };
            (told + 20).min(path).max(1280)
        };
        paths.into_iter().map(right).collect()
    }
}

/// The ICMP message of a packet, directly behind its IP header.
fn message<'f>(ip: &Ip<'f>) -> Result<Transport<'f>, String> {
    let whole = |message: &Transport<'_>| message.bytes.len() >= 8 && message.extensions == 0;
    let missing = "an error that crossed the families without a header, or behind others";
    ip.transport.filter(whole).ok_or_else(|| missing.to_owned())
}

/// Section 4.2, but for "fragmentation needed".
fn in_icmpv6(kind: u8, code: u8, rest: u32) -> Option<(u8, u8, u32)> {
    Some(match (kind, code) {
        (3, 0 | 1 | 5..=8 | 11 | 12) => (1, 0, 0),
        (3, 2) => (4, 1, 6),
        (3, 3) => (1, 4, 0),
        (3, 9 | 10 | 13 | 15) => (1, 1, 0),
        (11, code) => (3, code, 0),
        (12, 0 | 2) => {
            // Figure 3.
            let places = [(0, 0), (1, 1), (2, 4), (3, 4), (8, 7), (9, 6)];
            let addresses = (12..16).map(|at| (at, 8)).chain((16..20).map(|at| (at, 24)));
            let place = places.into_iter().chain(addresses).find(|place| place.0 == rest >> 24)?;
            (4, 0, place.1)
        }
        _ => return None,
    })
}

/// Section 5.2, but for "packet too big".
fn in_icmp(kind: u8, code: u8, rest: u32) -> Option<(u8, u8, u32)> {
    Some(match (kind, code) {
        (1, 0 | 2 | 3) => (3, 1, 0),
        (1, 1) => (3, 10, 0),
        (1, 4) => (3, 3, 0),
        (3, code) => (11, code, 0),
        (4, 1) => (3, 2, 0),
        (4, 0) => {
            // Figure 6.
            let places = [(0, 0), (1, 1), (4, 2), (5, 2), (6, 9), (7, 8)];
            let addresses = (8..24).map(|at| (at, 12)).chain((24..40).map(|at| (at, 16)));
            let place = places.into_iter().chain(addresses).find(|place| place.0 == rest)?;
            (12, 0, place.1 << 24)
        }
        _ => return None,
    })
}
