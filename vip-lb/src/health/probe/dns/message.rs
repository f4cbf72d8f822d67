//! Messages of DNS (RFC 1035 section 4), as far as a query and its addresses go.

use std::net::IpAddr;

use crate::config::model::DnsRecord;

/// Class of the Internet (RFC 1035 section 3.2.4).
const IN: u16 = 1;

const HEADER: usize = 12;

/// More compressed names than this in one message are a loop.
const MAX_RECORDS: usize = 4096;

/// A query with recursion desired. `name` has parts of 1 to 63 bytes, or is empty: the root.
pub(super) fn query(id: u16, name: &str, record: DnsRecord) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + name.len() + 6);
    message.extend(id.to_be_bytes());
    // QR 0, opcode 0, RD; one question, nothing else.
    message.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for part in name.split('.').filter(|part| !part.is_empty()) {
        message.push(part.len() as u8);
        message.extend(part.as_bytes());
    }
    message.push(0);
    message.extend(record.number().to_be_bytes());
    message.extend(IN.to_be_bytes());
    message
}

/// Whether it claims to be the answer to the query `id`.
pub(super) fn is_answer(message: &[u8], id: u16) -> bool {
    message.len() >= HEADER && message[..2] == id.to_be_bytes() && message[2] & 0x80 != 0
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The code (RFC 1035 section 4.1.1).
    pub(super) code: u8,
    /// Whether there is more than the datagram holds.
    pub(super) is_truncated: bool,
    /// The addresses in the answer section, of whatever name: a chain of CNAMEs leads to them.
    pub(super) addresses: Vec<IpAddr>,
}

impl Answer {
    /// Reads an answer to `query`; `None` if it is none.
    ///
    /// A message that is cut off within its records has those before.
    pub(super) fn read(message: &[u8], query: &[u8]) -> Option<Self> {
        let id = u16::from_be_bytes([*query.first()?, *query.get(1)?]);
        if !is_answer(message, id) {
            return None;
        }
        let code = message[3] & 0x0f;
        let is_truncated = message[2] & 0x02 != 0;
        let count = |at: usize| usize::from(u16::from_be_bytes([message[at], message[at + 1]]));
        let mut answer = Self { code, is_truncated, addresses: Vec::new() };
        let mut rest = Cursor { message, at: HEADER };
        match count(4) {
            // Errors may come without the question (RFC 1035 section 4.1.1 leaves it open, servers do).
            0 if code != 0 => return Some(answer),
            1 => rest.same_question(query)?,
            _ => return None,
        }
        for _ in 0..count(6).min(MAX_RECORDS) {
            let Some(record) = rest.record() else { break };
            match record {
                (1, IN, &[a, b, c, d]) => answer.addresses.push(IpAddr::from([a, b, c, d])),
                (28, IN, data) => {
                    if let Ok(address) = <[u8; 16]>::try_from(data) {
                        answer.addresses.push(IpAddr::from(address));
                    }
                }
                _ => {}
            }
        }
        Some(answer)
    }
}

struct Cursor<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Cursor<'m> {
    /// Passes the question, if it is that of the query but for the case of its letters.
    fn same_question(&mut self, query: &[u8]) -> Option<()> {
        let asked = query.get(HEADER..)?;
        let repeated = self.take(asked.len())?;
        repeated.eq_ignore_ascii_case(asked).then_some(())
    }

    /// Type, class and data of the next record.
    fn record(&mut self) -> Option<(u16, u16, &'m [u8])> {
        self.skip_name()?;
        let kind = self.number()?;
        let class = self.number()?;
        let _lifetime = self.take(4)?;
        let length = self.number()?;
        Some((kind, class, self.take(usize::from(length))?))
    }

    /// Passes a name; one that is compressed ends with its pointer (RFC 1035 section 4.1.4), which is not followed.
    fn skip_name(&mut self) -> Option<()> {
        loop {
            let length = self.take(1)?[0];
            match length {
                0 => return Some(()),
                1..=63 => drop(self.take(usize::from(length))?),
                0xc0.. => return self.take(1).map(drop),
                _ => return None,
            }
        }
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let bytes = self.message.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUERY: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03net\x00\x00\x01\x00\x01";

    /// The answer to [`QUERY`] with these flags and records.
    fn answer(flags: [u8; 2], records: &[&[u8]]) -> Vec<u8> {
        let mut message = b"\x12\x34".to_vec();
        message.extend(flags);
        message.extend([0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
        message.extend(&QUERY[HEADER..]);
        message.extend(records.concat());
        message
    }

    fn addresses(message: &[u8]) -> Option<Vec<String>> {
        Some(Answer::read(message, QUERY)?.addresses.iter().map(ToString::to_string).collect())
    }

    const CNAME: &[u8] = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01a\xc0\x10";
    const A: &[u8] = b"\x01a\xc0\x10\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x07";
    const AAAA: &[u8] =
        b"\xc0\x0c\x00\x1c\x00\x01\x00\x00\x00\x3c\x00\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01";

    #[test]
    fn a_query_is_written_as_rfc_1035_says() {
        assert_eq!(query(0x1234, "www.example.net", DnsRecord::A), QUERY);
        assert_eq!(query(1, "", DnsRecord::Ns)[HEADER..], [0, 0, 2, 0, 1], "the root");
    }

    #[test]
    fn answers_are_read() {
        let ok = [0x81, 0x80];
        assert_eq!(addresses(&answer(ok, &[CNAME, A])).unwrap(), ["10.0.0.7"]);
        assert_eq!(addresses(&answer(ok, &[AAAA])).unwrap(), ["2001:db8::1"]);
        let refused = Answer::read(&answer([0x81, 0x85], &[]), QUERY).unwrap();
        assert_eq!((refused.code, refused.is_truncated, refused.addresses), (5, false, vec![]));
        assert!(Answer::read(&answer([0x83, 0x80], &[]), QUERY).unwrap().is_truncated);
        let mut capitals = answer(ok, &[A]);
        capitals[HEADER + 1..HEADER + 4].copy_from_slice(b"WwW");
        assert_eq!(addresses(&capitals).unwrap(), ["10.0.0.7"]);
    }

    #[test]
    fn what_is_no_answer_to_the_query_is_none() {
        let good = answer([0x81, 0x80], &[A]);
        let changed = |at: usize, byte: u8| {
            let mut message = good.clone();
            message[at] = byte;
            message
        };
        assert_eq!(addresses(&changed(0, 0x13)), None, "another id");
        assert_eq!(addresses(&changed(2, 0x01)), None, "a query");
        assert_eq!(addresses(&changed(HEADER + 1, b'x')), None, "another name");
        assert_eq!(addresses(&changed(5, 0)), None, "no question and no error");
        assert_eq!(addresses(&good[..HEADER - 1]), None, "half a header");
        assert_eq!(addresses(&good[..good.len() - 1]).unwrap(), [""; 0], "half a record");
        let without = [&b"\x12\x34\x80\x01\x00\x00\x00\x00\x00\x00\x00\x00"[..]].concat();
        assert_eq!(Answer::read(&without, QUERY).unwrap().code, 1, "an error without the question");
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(
            flags in any::<[u8; 2]>(),
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            cut in 0usize..200,
        ) {
            let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
            let message = answer(flags, &records);
            let read = Answer::read(&message[..cut.min(message.len())], QUERY);
            prop_assert!(read.is_none_or(|answer| answer.addresses.len() <= 20));
        }
    }
}
