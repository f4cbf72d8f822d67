//! Lengths and versions that contradict the frame.

use vip_lb_common::Verdict::{BadIpHeader, BadLength, BadTransportHeader};

use super::Case;
use crate::{
    packet::{Extension, eth},
    program::world::{CLIENT, CLIENT6, VIP, VIP6},
};

pub(super) fn cases() -> Vec<Case> {
    let v4 = || eth().ipv4(CLIENT, VIP);
    let v6 = || eth().ipv6(CLIENT6, VIP6);
    let lies = vec![
        ("IPv4 of version 5", v4().claim_version(5).tcp(1, 80), BadIpHeader),
        ("IPv4 of version 6", v4().claim_version(6).tcp(1, 80), BadIpHeader),
        ("IPv4 with a header of 16 bytes", v4().claim_header_len(16).tcp(1, 80), BadIpHeader),
        ("IPv4 with a header of 0 bytes", v4().claim_header_len(0).tcp(1, 80), BadIpHeader),
        ("IPv4 longer than its frame", v4().claim_len(41).tcp(1, 80), BadLength),
        ("IPv4 as long as can be", v4().claim_len(0xffff).tcp(1, 80), BadLength),
        ("IPv4 shorter than its header", v4().claim_len(19).tcp(1, 80), BadLength),
        ("IPv4 of length 0", v4().claim_len(0).tcp(1, 80), BadLength),
        ("IPv4 shorter than its options", v4().option(&[1; 8]).claim_len(27).tcp(1, 80), BadLength),
        ("IPv4 with options beyond the frame", v4().claim_header_len(60).tcp(1, 80), BadLength),
        ("IPv4 too short for TCP", v4().claim_len(39).tcp(1, 80), BadTransportHeader),
        ("IPv4 with no room for TCP", v4().claim_len(20).tcp(1, 80), BadTransportHeader),
        ("IPv4 too short for UDP", v4().claim_len(27).udp(1, 80), BadTransportHeader),
        ("IPv4 too short for ICMP", v4().claim_len(27).echo_request(1, 1), BadTransportHeader),
        ("IPv6 of version 4", v6().claim_version(4).tcp(1, 80), BadIpHeader),
        ("IPv6 longer than its frame", v6().claim_len(21).tcp(1, 80), BadLength),
        ("IPv6 as long as can be", v6().claim_len(0xffff).tcp(1, 80), BadLength),
        ("IPv6 too short for TCP", v6().claim_len(19).tcp(1, 80), BadTransportHeader),
        ("IPv6 of length 0", v6().claim_len(0).tcp(1, 80), BadTransportHeader),
        ("IPv6 too short for ICMPv6", v6().claim_len(7).echo_request(1, 1), BadTransportHeader),
        (
            "IPv6 shorter than its extension header",
            v6().claim_len(15).extension(Extension::HopByHop(1)).tcp(1, 80),
            BadLength,
        ),
        (
            "an extension header beyond the frame",
            v6().extension(Extension::DestinationOptions(1))
                .claim_next(60)
                .payload(&[6, 200, 0, 0, 0, 0, 0, 0]),
            BadLength,
        ),
        ("an extension header cut short", v6().claim_next(60).payload(&[6, 0, 0, 0]), BadLength),
        ("TCP with a header of 16 bytes", v4().tcp(1, 80).claim_header_len(16), BadTransportHeader),
        ("TCP with a header of 0 bytes", v6().tcp(1, 80).claim_header_len(0), BadTransportHeader),
        ("TCP with a header beyond the packet", v4().tcp(1, 80).claim_header_len(24), BadTransportHeader),
        (
            "TCP with a header that reaches into the padding",
            v4().tcp(1, 80).claim_header_len(24).trailer(&[0; 6]),
            BadTransportHeader,
        ),
        ("UDP longer than its packet", v4().udp(1, 80).claim_len(9), BadTransportHeader),
        ("UDP that counts the padding", v6().udp(1, 80).claim_len(9).trailer(&[0; 6]), BadTransportHeader),
        ("UDP shorter than its header", v4().udp(1, 80).claim_len(7).payload(b"x"), BadTransportHeader),
        ("UDP of length 0", v6().udp(1, 80).claim_len(0), BadTransportHeader),
    ];
    lies.into_iter().map(|(name, frame, verdict)| Case::new(name, &frame, verdict).unsound()).collect()
}
