//! What the builder builds, checked by hand and by an independent parser.

use super::*;

#[test]
fn what_is_built_is_right_by_another_parser() {
    let frames = [
        ("tcp", eth().ipv4("192.0.2.7", "10.77.1.1").tcp(40000, 80).syn()),
        ("udp", eth().ipv4("192.0.2.7", "10.77.1.1").udp(5353, 53).payload(b"odd")),
        (
            "options",
            eth().ipv4("192.0.2.7", "10.77.1.1").option(&[7, 7, 4, 0, 0, 0, 0]).tcp(1, 2).option(&[1; 3]),
        ),
        ("echo", eth().ipv4("192.0.2.7", "10.77.1.1").echo_request(7, 9).payload(b"ping")),
        ("tagged", eth().service_tag(7).tag(100).ipv4("192.0.2.7", "10.77.1.1").tcp(1, 2).payload(b"x")),
        ("tcp6", eth().ipv6("2001:db8::7", "2001:db8:77::1").tcp(40000, 80).payload(b"hello")),
        ("udp6", eth().ipv6("2001:db8::7", "2001:db8:77::1").udp(5353, 53).payload(b"hello")),
        ("echo6", eth().ipv6("2001:db8::7", "2001:db8:77::1").echo_request(7, 9)),
        (
            "extensions",
            eth()
                .ipv6("2001:db8::7", "2001:db8:77::1")
                .extension(Extension::HopByHop(0))
                .extension(Extension::DestinationOptions(2))
                .extension(Extension::Routing(1))
                .extension(Extension::atomic_fragment())
                .tcp(40000, 80),
        ),
        ("piece", eth().ipv4("192.0.2.7", "10.77.1.1").piece(0, true, 7).udp(1, 2).payload(&[0; 8])),
        ("piece6", eth().ipv6("2001:db8::7", "2001:db8:77::1").piece(8, false, 7).payload(&[0; 9])),
        (
            "icmp error",
            eth()
                .ipv4("203.0.113.1", "10.77.1.1")
                .icmp(3, 4, [0, 0, 5, 0])
                .ipv4("10.77.1.1", "192.0.2.7")
                .tcp(80, 1),
        ),
        ("arp", arp_request("192.0.2.7", "10.77.1.1")),
        ("solicitation", neighbour_solicitation("2001:db8::7", "2001:db8:77::1")),
        ("dad", neighbour_solicitation("::", "2001:db8:77::1")),
        ("tunnel", eth().ipv4("10.0.0.1", "10.0.0.2").ipv6("2001:db8::7", "2001:db8:77::1").udp(1, 2)),
        ("padded", eth().ipv4("192.0.2.7", "10.77.1.1").udp(1, 2).pad_to(60)),
    ];
    for (name, frame) in frames {
        assert_eq!(check(&frame.bytes()), Ok(()), "{name}");
    }
}

#[test]
fn a_syn_byte_by_byte() {
    let frame = eth().tag(100).ipv4("192.0.2.7", "10.77.1.1").ttl(63).tcp(40000, 80).syn().pad_to(64);
    #[rustfmt::skip]
    let expected = [
        0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0xc1, 0x81, 0x00, 0, 100, 0x08, 0x00,
        0x45, 0, 0, 40, 0, 0, 0x40, 0, 63, 6, 0x6e, 0x7b, 192, 0, 2, 7, 10, 77, 1, 1,
        0x9c, 0x40, 0, 80, 0, 0, 0x03, 0xe8, 0, 0, 0, 0, 0x50, 0x02, 0xfa, 0xf0, 0x47, 0x24, 0, 0,
        0, 0, 0, 0, 0, 0,
    ];
    assert_same_bytes("a SYN", &expected, &frame.bytes());
}

#[test]
fn pieces_say_so_in_either_family() {
    let v4 = eth().ipv4("192.0.2.7", "10.77.1.1").piece(1480, true, 0x1234).payload(b"x").bytes();
    assert_eq!(v4[14 + 4..14 + 8], [0x12, 0x34, 0x20, 185]);
    let v6 = eth().ipv6("2001:db8::7", "2001:db8:77::1").piece(1448, false, 0x1234).udp(1, 2).bytes();
    assert_eq!((v6[14 + 6], &v6[14 + 40..14 + 48]), (44, &[17, 0, 0x05, 0xa8, 0, 0, 0x12, 0x34][..]));
}

#[test]
fn lies_are_told_and_noticed() {
    let honest = || eth().ipv4("192.0.2.7", "10.77.1.1");
    let lies = [
        ("length", honest().claim_len(2000).tcp(1, 2)),
        ("header length", honest().claim_header_len(16).tcp(1, 2)),
        ("version", honest().claim_version(5).tcp(1, 2)),
        ("checksum", honest().claim_checksum(1).tcp(1, 2)),
        ("tcp header", honest().tcp(1, 2).claim_header_len(60)),
        ("tcp checksum", honest().tcp(1, 2).claim_checksum(1).payload(b"x")),
        ("udp length", honest().udp(1, 2).claim_len(90)),
        ("protocol", honest().claim_next(17).tcp(1, 2)),
        ("ether type", eth().claim_next(0x86dd).ipv4("192.0.2.7", "10.77.1.1").tcp(1, 2)),
    ];
    for (name, frame) in lies {
        assert!(check(&frame.bytes()).is_err(), "{name} went unnoticed");
    }
}

#[test]
fn a_packet_inside_another_loses_its_link_layer() {
    let inner = eth().tag(7).ipv4("192.0.2.7", "10.77.1.1").tcp(1, 2).trailer(b"trail");
    let outer = inner.clone().inside(eth().ipv6("2001:db8::1", "2001:db8::2"));
    assert_eq!(
        outer,
        eth().ipv6("2001:db8::1", "2001:db8::2").ipv4("192.0.2.7", "10.77.1.1").tcp(1, 2).trailer(b"trail")
    );
}

#[test]
fn a_diff_shows_the_bytes_in_question() {
    let left: Vec<u8> = (0..20).collect();
    let mut right = left.clone();
    assert_eq!(hexdump_diff(&left, &right), None);
    right[17] = 0xff;
    right.push(20);
    let diff = hexdump_diff(&left, &right).unwrap();
    assert_eq!(
        diff,
        "  expected 20 bytes, found 21\n\
         \x20 0000: 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f\n\
         - 0010: 10 11 12 13\n\
         + 0010: 10 ff 12 13 14\n\
         \x20          ^^       ^^\n"
    );
}
