//! An echo request is answered (RFC 792; RFC 4443 section 4.1).

use std::{net::IpAddr, time::Duration};

use super::{Dial, Limit, dial::random, udp};
use crate::health::Outcome;

const HEADER: usize = 8;

/// Sends one request and waits for its answer. Returns how long the probe took.
pub(super) async fn ask(dial: &Dial, limit: Limit) -> Result<Duration, Outcome> {
    let socket = dial.icmp()?;
    let request = Request::new(dial.to.ip());
    let is_answer = |packet: &[u8]| request.is_answered_by(packet);
    let answer = udp::exchange(&socket, &request.bytes, is_answer, limit).await?;
    answer.map(|_| limit.spent()).ok_or_else(|| udp::silence(limit))
}

/// A request and what tells its answer from all others.
struct Request {
    bytes: Vec<u8>,
    answer_type: u8,
}

impl Request {
    fn new(to: IpAddr) -> Self {
        let (request_type, answer_type) = if to.is_ipv4() { (8, 0) } else { (128, 129) };
        // Nobody else's request carries these 16 bytes.
        let token = [random().to_be_bytes(), random().to_be_bytes()].concat();
        let [high, low, ..] = random().to_be_bytes();
        let mut bytes = vec![request_type, 0, 0, 0, high, low, 0, 1];
        bytes.extend(token);
        if to.is_ipv4() {
            // The kernel sums up ICMPv6, and ICMP only of sockets of its own identifiers.
            let sum = checksum(&bytes).to_be_bytes();
            bytes[2..4].copy_from_slice(&sum);
        }
        Self { bytes, answer_type }
    }

    /// Raw sockets of IPv4 show the IP header (raw(7)), the others do not.
    fn is_answered_by(&self, packet: &[u8]) -> bool {
        let message = match packet.first() {
            Some(first) if first >> 4 == 4 => packet.get(usize::from(first & 0x0f) * 4..).unwrap_or_default(),
            _ => packet,
        };
        message.first() == Some(&self.answer_type) && message.get(HEADER..) == Some(&self.bytes[HEADER..])
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        let request = Request::new("192.0.2.1".parse().unwrap());
        assert_eq!(checksum(&request.bytes), 0, "a message with its sum adds up to nothing");
    }

    #[test]
    fn an_answer_is_known_by_what_it_carries() {
        let request = Request::new("192.0.2.1".parse().unwrap());
        let mut answer = request.bytes.clone();
        assert!(!request.is_answered_by(&answer), "the request itself");
        answer[0] = 0;
        assert!(request.is_answered_by(&answer));
        let with_header = [&[0x46; 24][..], &answer].concat();
        assert!(request.is_answered_by(&with_header), "behind a header of 24 bytes");
        answer[20] ^= 1;
        assert!(!request.is_answered_by(&answer), "somebody else's");
        assert!(!request.is_answered_by(&[0x4f; 3]));
        assert!(!request.is_answered_by(&[]));
        let request = Request::new("2001:db8::1".parse().unwrap());
        assert!(request.is_answered_by(&[&[129][..], &request.bytes[1..]].concat()));
    }
}
