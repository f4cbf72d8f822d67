//! Whatever is rewritten in a header, its checksum stays right: compared with summing everything anew.

use proptest::prelude::*;

use super::*;
use crate::memory::MemoryPacket;
use crate::{Verdict, abi::Address};

/// The one's complement sum of a header with its checksum, all ones where that is right (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// An IPv4 header of any content with a right checksum. Both forms of zero occur.
fn header() -> impl Strategy<Value = [u8; 20]> {
    (any::<[u8; 20]>(), any::<bool>()).prop_map(|(mut header, minus_zero)| {
        header[0] = 0x45;
        header[10..12].fill(0);
        let mut checksum = !sum(&header);
        if checksum == 0 && minus_zero {
            checksum = 0xffff;
        }
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    })
}

fn changed(header: &[u8], change: impl FnOnce(Ipv4<'_>)) -> Vec<u8> {
    let packet = MemoryPacket::new(header, 1);
    change(Ipv4::at(&packet, 0, Verdict::ShortFrame).expect("the header is whole"));
    packet.frame().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decrementing_the_ttl(mut header in header(), ttl in 2_u8..) {
        header = with_ttl(header, ttl);
        let after = changed(&header, |ip| ip.decrement_ttl().unwrap());
        prop_assert_eq!(sum(&after), 0xffff);
        prop_assert_eq!(after[8], ttl - 1);
        prop_assert_eq!(untouched(&after, 8..12), untouched(&header, 8..12));
    }

    #[test]
    fn setting_the_ttl(header in header(), ttl: u8) {
        let after = changed(&header, |ip| ip.set_ttl(ttl));
        prop_assert_eq!(sum(&after), 0xffff);
        prop_assert_eq!((after[8], after[9]), (ttl, header[9]));
        prop_assert_eq!(untouched(&after, 8..12), untouched(&header, 8..12));
    }

    #[test]
    fn setting_the_traffic_class(header in header(), traffic_class: u8) {
        let after = changed(&header, |ip| ip.set_traffic_class(traffic_class));
        prop_assert_eq!(sum(&after), 0xffff);
        prop_assert_eq!((after[0], after[1]), (header[0], traffic_class));
        prop_assert_eq!(&after[2..10], &header[2..10]);
        prop_assert_eq!(&after[12..], &header[12..]);
    }

    #[test]
    fn exchanging_the_addresses(header in header()) {
        let after = changed(&header, |ip| ip.swap_addresses());
        prop_assert_eq!(sum(&after), 0xffff);
        prop_assert_eq!((&after[12..16], &after[16..]), (&header[16..], &header[12..16]));
    }

    #[test]
    fn writing_an_outer_header(
        old: [u8; 20], source: [u8; 4], destination: [u8; 4], traffic_class: u8, total_len: u16, is_v4: bool,
    ) {
        let protocol = if is_v4 { protocol::IPV4 } else { protocol::IPV6 };
        let after = changed(&old, |ip| ip.write_outer(&OuterV4 {
            traffic_class,
            total_len,
            protocol,
            checksum_base: outer_checksum_base(source, destination),
            source: Address::from_v4_word(u32::from_ne_bytes(source)),
            destination: Address::from_v4_word(u32::from_ne_bytes(destination)),
        }));
        prop_assert_eq!(sum(&after), 0xffff);
        let [high, low] = total_len.to_be_bytes();
        let expected = [0x45, traffic_class, high, low, 0, 0, 0x40, 0, OUTER_TTL, protocol];
        prop_assert_eq!(&after[..10], &expected);
        prop_assert_eq!(&after[12..], &[source, destination].concat());
    }

    #[test]
    fn changing_an_icmp_type(mut message: [u8; 24], new: u16) {
        message[2..4].fill(0);
        let checksum = !sum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let packet = MemoryPacket::new(&message, 1);
        Icmp::at(&packet, 0, Verdict::ShortFrame).expect("the message is whole").set_type_and_code(new);
        prop_assert_eq!(sum(packet.frame()), 0xffff);
        prop_assert_eq!(&packet.frame()[..2], &new.to_be_bytes());
        prop_assert_eq!(&packet.frame()[4..], &message[4..]);
    }
}

#[test]
fn a_message_that_becomes_nothing_but_zeros_keeps_a_right_checksum() {
    let message = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    let packet = MemoryPacket::new(&message, 1);
    Icmp::at(&packet, 0, Verdict::ShortFrame).expect("the message is whole").set_type_and_code(0);
    assert_eq!(packet.frame(), [0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    assert_eq!(sum(packet.frame()), 0xffff);
}

/// The header with another TTL and a checksum anew.
fn with_ttl(mut header: [u8; 20], ttl: u8) -> [u8; 20] {
    header[8] = ttl;
    header[10..12].fill(0);
    let checksum = !sum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// A header without some of its bytes.
fn untouched(header: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
    let mut rest = header.to_vec();
    rest.drain(range);
    rest
}
