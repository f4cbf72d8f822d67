//! Captures in the pcapng format (draft-ietf-opsawg-pcapng-05), as much of it as is needed: interfaces and packets with comments.

use std::collections::HashMap;

/// Section 4.1.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
/// Section 4.2.
const INTERFACE_DESCRIPTION: u32 = 1;
/// Section 4.3.
const ENHANCED_PACKET: u32 = 6;
/// Reveals the writer's byte order.
const MAGIC: u32 = 0x1a2b_3c4d;
/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;

const OPTION_COMMENT: u16 = 1;
const OPTION_SHB_USER_APPLICATION: u16 = 4;
const OPTION_IF_NAME: u16 = 2;
const OPTION_IF_TIME_RESOLUTION: u16 = 9;
const OPTION_EPB_FLAGS: u16 = 2;

/// Which way a packet goes (section 4.3.1, `epb_flags`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// It came.
    Inbound = 1,
    /// It left.
    Outbound = 2,
}

/// A packet of a capture.
pub(super) struct Packet<'p> {
    /// Name of the interface.
    pub(super) interface: &'p str,
    /// When it was seen, microseconds since the Unix epoch.
    pub(super) at_us: u64,
    /// Its first bytes.
    pub(super) bytes: &'p [u8],
    /// Bytes that it had.
    pub(super) length: u32,
    /// Whether it came or left.
    pub(super) direction: Direction,
    /// What there is to say of it.
    pub(super) comment: &'p str,
}

/// A capture that is being written: what it returns is to be written out, in this order.
#[derive(Default)]
pub(super) struct Capture {
    interfaces: HashMap<String, u32>,
}

impl Capture {
    /// What the file begins with.
    pub(super) fn head() -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(MAGIC.to_ne_bytes());
        // Version 1.0, and a section of unknown length.
        body.extend(1_u16.to_ne_bytes());
        body.extend(0_u16.to_ne_bytes());
        body.extend((-1_i64).to_ne_bytes());
        let application = concat!("vip-lb ", env!("CARGO_PKG_VERSION"));
        option(&mut body, OPTION_SHB_USER_APPLICATION, application.as_bytes());
        end_of_options(&mut body);
        block(SECTION_HEADER, &body)
    }

    /// A packet, behind the description of its interface where that is new.
    pub(super) fn packet(&mut self, packet: &Packet<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let known = self.interfaces.len() as u32;
        let interface = *self.interfaces.entry(packet.interface.to_owned()).or_insert_with(|| {
            out.extend(interface_description(packet.interface));
            known
        });
        let mut body = Vec::new();
        body.extend(interface.to_ne_bytes());
        body.extend(((packet.at_us >> 32) as u32).to_ne_bytes());
        body.extend((packet.at_us as u32).to_ne_bytes());
        body.extend((packet.bytes.len() as u32).to_ne_bytes());
        body.extend(packet.length.to_ne_bytes());
        body.extend(packet.bytes);
        pad(&mut body);
        option(&mut body, OPTION_COMMENT, packet.comment.as_bytes());
        option(&mut body, OPTION_EPB_FLAGS, &(packet.direction as u32).to_ne_bytes());
        end_of_options(&mut body);
        out.extend(block(ENHANCED_PACKET, &body));
        out
    }
}

fn interface_description(name: &str) -> Vec<u8> {
    /// Ten to the power of minus six seconds, as are times by default; said for readers that ask.
    const MICROSECONDS: u8 = 6;

    let mut body = Vec::new();
    body.extend(ETHERNET.to_ne_bytes());
    body.extend(0_u16.to_ne_bytes());
    // No limit to a packet's bytes.
    body.extend(0_u32.to_ne_bytes());
    option(&mut body, OPTION_IF_NAME, name.as_bytes());
    option(&mut body, OPTION_IF_TIME_RESOLUTION, &[MICROSECONDS]);
    end_of_options(&mut body);
    block(INTERFACE_DESCRIPTION, &body)
}

/// A block: type, length, body, length (section 3.1).
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 12).to_ne_bytes();
    [&kind.to_ne_bytes()[..], &length, body, &length].concat()
}

/// An option: code, length, value, padded to four bytes (section 3.5).
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_ne_bytes());
    body.extend((value.len() as u16).to_ne_bytes());
    body.extend(value);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types and bodies of the blocks, whose two lengths must be the same.
    fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let number = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
        let mut blocks = Vec::new();
        while !file.is_empty() {
            let length = number(&file[4..8]) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(number(&file[length - 4..length]) as usize, length);
            blocks.push((number(&file[..4]), file[8..length - 4].to_vec()));
            file = &file[length..];
        }
        blocks
    }

    #[test]
    fn interfaces_are_described_once_and_before_their_packets() {
        let mut capture = Capture::default();
        let mut file = Capture::head();
        for (interface, direction) in
            [("eth0", Direction::Inbound), ("eth1", Direction::Outbound), ("eth0", Direction::Inbound)]
        {
            let bytes = [1, 2, 3, 4, 5];
            file.extend(capture.packet(&Packet {
                interface,
                at_us: (7 << 32) + 9,
                bytes: &bytes,
                length: 1500,
                direction,
                comment: "web/b1",
            }));
        }
        let blocks = blocks(&file);
        let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [SECTION_HEADER, 1, 6, 1, 6, 6]);
        let words = |body: &[u8]| -> Vec<u32> {
            body.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
        };
        let [_, _, first, _, second, third] = &blocks[..] else { panic!("{kinds:?}") };
        assert_eq!(words(&first.1)[..5], [0, 7, 9, 5, 1500]);
        assert_eq!([words(&second.1)[0], words(&third.1)[0]], [1, 0]);
        // The bytes and three more, then the comment, the direction and the end.
        assert_eq!(first.1[20..28], [1, 2, 3, 4, 5, 0, 0, 0]);
        assert_eq!(first.1[32..38], *b"web/b1");
        assert_eq!(words(&first.1).last(), Some(&0));
        assert_eq!(words(&second.1)[words(&second.1).len() - 2], Direction::Outbound as u32);
    }
}
