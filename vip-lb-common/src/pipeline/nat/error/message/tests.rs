//! What becomes of each type and code in the other family.

use super::*;

const NONE: u16 = u16::MAX;
const LOST: Result<Message, Verdict> = Err(Verdict::NatUntranslatable);

fn message(kind: u8, code: u8, rest: u32) -> Message {
    Message { kind: u16::from_be_bytes([kind, code]), rest }
}

/// RFC 7915 section 4.2, in its order.
#[test]
fn what_icmp_says_in_icmpv6() {
    for code in [0, 1, 5, 6, 7, 8, 11, 12] {
        assert_eq!(message(3, code, 7).to_v6(100, NONE), Ok(message(1, 0, 0)), "unreachable, code {code}");
    }
    for code in [9, 10, 13, 15] {
        assert_eq!(message(3, code, 7).to_v6(100, NONE), Ok(message(1, 1, 0)), "unreachable, code {code}");
    }
    assert_eq!(message(3, 2, 7).to_v6(100, NONE), Ok(message(4, 1, 6)));
    assert_eq!(message(3, 3, 7).to_v6(100, NONE), Ok(message(1, 4, 0)));
    for code in [14, 16, 17, 32, 0xff] {
        assert_eq!(message(3, code, 0).to_v6(100, NONE), LOST, "unreachable, code {code}");
    }
    for code in [0, 1] {
        assert_eq!(
            message(11, code, 7).to_v6(100, NONE),
            Ok(message(3, code, 0)),
            "time exceeded, code {code}"
        );
    }
    for kind in [0, 4, 5, 8, 9, 10, 13, 14, 15, 16, 17, 18] {
        assert_eq!(message(kind, 0, 0).to_v6(100, NONE), LOST, "type {kind}");
    }
}

#[test]
fn what_icmpv6_says_in_icmp() {
    for (code, right) in [(0, 1), (1, 10), (2, 1), (3, 1), (4, 3)] {
        assert_eq!(
            message(1, code, 7).to_v4(false, NONE),
            Ok(message(3, right, 0)),
            "unreachable, code {code}"
        );
    }
    for code in [5, 6, 0xff] {
        assert_eq!(message(1, code, 0).to_v4(false, NONE), LOST, "unreachable, code {code}");
    }
    for code in [0, 1] {
        assert_eq!(
            message(3, code, 7).to_v4(false, NONE),
            Ok(message(11, code, 0)),
            "time exceeded, code {code}"
        );
    }
    assert_eq!(message(4, 1, 40).to_v4(false, NONE), Ok(message(3, 2, 0)));
    assert_eq!(message(4, 2, 40).to_v4(false, NONE), LOST);
    for kind in [0, 5, 100, 128, 135] {
        assert_eq!(message(kind, 0, 0).to_v4(false, NONE), LOST, "type {kind}");
    }
}

/// RFC 7915 figure 3.
#[test]
fn pointers_into_ipv4_headers() {
    let right = |pointer| match pointer {
        0 => Some(0),
        1 => Some(1),
        2 | 3 => Some(4),
        8 => Some(7),
        9 => Some(6),
        12..=15 => Some(8),
        16..=19 => Some(24),
        _ => None,
    };
    for pointer in 0..=0xff_u32 {
        let right = right(pointer).map_or(LOST, |pointer| Ok(message(4, 0, pointer)));
        for code in [0, 2] {
            // The rest of the word is unused.
            let problem = message(12, code, pointer << 24 | 0x1234);
            assert_eq!(problem.to_v6(100, NONE), right, "pointer {pointer}, code {code}");
        }
    }
    assert_eq!(message(12, 1, 0).to_v6(100, NONE), LOST, "a missing option");
}

/// RFC 7915 figure 6.
#[test]
fn pointers_into_ipv6_headers() {
    let right = |pointer| match pointer {
        0 => Some(0),
        1 => Some(1),
        4 | 5 => Some(2),
        6 => Some(9),
        7 => Some(8),
        8..=23 => Some(12),
        24..=39 => Some(16),
        _ => None,
    };
    for pointer in (0..=0xff).chain([0x100, 0x0100_0000, u32::MAX]) {
        let right = right(pointer).map_or(LOST, |pointer: u32| Ok(message(12, 0, pointer << 24)));
        assert_eq!(message(4, 0, pointer).to_v4(false, NONE), right, "pointer {pointer}");
    }
}

#[test]
fn sizes_that_ipv6_hosts_are_told() {
    for (told, path, right) in [
        (1480, NONE, 1500),
        (1480, 1500, 1500),
        (1481, 1500, 1500),
        (1400, 1500, 1420),
        (1260, 1500, 1280),
        // Less than every IPv6 link takes would not be believed.
        (1259, 1500, 1280),
        (576, 1500, 1280),
        (1400, 1000, 1280),
        (0xffff, NONE, 0xffff),
    ] {
        assert_eq!(message(3, 4, told).to_v6(1500, path), Ok(message(2, 0, right)), "{told} of {path}");
        // The upper half of the word is unused.
        assert_eq!(message(3, 4, told | 0xabcd_0000).to_v6(1500, path), Ok(message(2, 0, right)));
    }
    for (len, right) in [
        (0, 1280),
        (1492, 1280),
        (1493, 1512),
        (1500, 1512),
        (2002, 1512),
        (2003, 2022),
        (4353, 4372),
        (9000, 8186),
        (17_914, 8186),
        (32_000, 17_934),
        (0xffff, 32_020),
    ] {
        assert_eq!(message(3, 4, 0).to_v6(len, NONE), Ok(message(2, 0, right)), "of {len} bytes");
    }
}

#[test]
fn sizes_that_ipv4_hosts_are_told() {
    for (told, is_fragment, path, right) in [
        (1500, false, NONE, 1480),
        (1500, true, NONE, 1472),
        (1280, false, 1500, 1260),
        (1280, true, 1500, 1252),
        (9000, false, 1500, 1500),
        (0x1_0000_0000_u64 - 1, false, NONE, 0xffff - 20),
        // 0 would say that the router knows none.
        (20, false, 1500, 68),
        (0, true, 1500, 68),
    ] {
        let told = told as u32;
        let right = Ok(message(3, 4, right));
        assert_eq!(message(2, 0, told).to_v4(is_fragment, path), right, "{told}, {is_fragment}, {path}");
    }
}
