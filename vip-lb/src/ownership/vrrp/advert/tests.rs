//! Adverts of this program read back, those of others as they were on the wire, and what is not heard.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

/// An advert with the addresses of its IP header.
struct Recorded {
    source: &'static str,
    bytes: &'static str,
    advert: Advert,
    pseudo_header: PseudoHeader,
}

impl Recorded {
    fn source(&self) -> IpAddr {
        self.source.parse().expect("an address of a test")
    }

    fn destination(&self) -> IpAddr {
        self.advert.router.group()
    }

    fn bytes(&self) -> Vec<u8> {
        let digits: Vec<u8> = self.bytes.bytes().filter(|byte| *byte != b' ').collect();
        let (pairs, []) = digits.as_chunks::<2>() else { panic!("{} has half a byte", self.bytes) };
        pairs
            .iter()
            .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect::<Option<_>>()
            .expect("hexadecimal digits")
    }
}

fn v4(addresses: &[[u8; 4]]) -> Addresses {
    Addresses::V4(addresses.iter().copied().map(Ipv4Addr::from).collect())
}

fn v6(addresses: &[&str]) -> Addresses {
    Addresses::V6(addresses.iter().map(|address| address.parse().expect("an address of a test")).collect())
}

fn advert(router: Router, priority: u8, centis: u16, addresses: Addresses) -> Advert {
    let interval = Interval::from_centis(centis).expect("an interval of a test");
    Advert { router, priority: Priority::new(priority), interval, addresses }
}

/// What keepalived 2.2.7 (Debian 12, `vrrp_version 3`) and FRR 8.4.4 (Debian 12) sent over a pair of veth devices.
fn recorded() -> [Recorded; 7] {
    let keepalived_v4 = [[10, 9, 0, 100], [10, 9, 0, 101]];
    let keepalived_v6 = ["fe80::52", "fd09::100"];
    let included = PseudoHeader::Included;
    [
        Recorded {
            source: "10.9.0.1",
            bytes: "3133 9602 0064 38ee 0a09 0064 0a09 0065",
            advert: advert(Router::V4(51), 150, 100, v4(&keepalived_v4)),
            pseudo_header: included,
        },
        Recorded {
            source: "fe80::436:27ff:fe00:ad69",
            bytes: "3134 fe02 0019 fe04 fe80 0000 0000 0000 0000 0000 0000 0052 \
                    fd09 0000 0000 0000 0000 0000 0000 0100",
            advert: advert(Router::V6(52), 254, 25, v6(&keepalived_v6)),
            pseudo_header: included,
        },
        Recorded {
            source: "10.9.0.1",
            bytes: "3105 7801 0032 615d 0a09 00c8",
            advert: advert(Router::V4(5), 120, 50, v4(&[[10, 9, 0, 200]])),
            pseudo_header: included,
        },
        Recorded {
            source: "10.9.0.1",
            bytes: "3105 0001 0032 d95d 0a09 00c8",
            advert: advert(Router::V4(5), 0, 50, v4(&[[10, 9, 0, 200]])),
            pseudo_header: included,
        },
        Recorded {
            source: "fe80::200:5eff:fe00:205",
            bytes: "3105 7801 0032 f899 fd09 0000 0000 0000 0000 0000 0000 0200",
            advert: advert(Router::V6(5), 120, 50, v6(&["fd09::200"])),
            pseudo_header: included,
        },
        Recorded {
            source: "fe80::200:5eff:fe00:205",
            bytes: "3105 0001 0032 709a fd09 0000 0000 0000 0000 0000 0000 0200",
            advert: advert(Router::V6(5), 0, 50, v6(&["fd09::200"])),
            pseudo_header: included,
        },
        // The first one without the pseudo-header, summed by hand: 3133 + 9602 + 0064 + 0a09 + 0064 + 0a09 + 0065 = dc74.
        Recorded {
            source: "10.9.0.1",
            bytes: "3133 9602 0064 238b 0a09 0064 0a09 0065",
            advert: advert(Router::V4(51), 150, 100, v4(&keepalived_v4)),
            pseudo_header: PseudoHeader::LeftOut,
        },
    ]
}

#[test]
fn adverts_of_keepalived_and_frr_are_read_and_written_to_the_byte() {
    for recorded in recorded() {
        let (bytes, source, destination) = (recorded.bytes(), recorded.source(), recorded.destination());
        let decoded = Advert::decode(&bytes, source, destination, Advert::TTL);
        assert_eq!(decoded, Ok((recorded.advert.clone(), recorded.pseudo_header)));
        assert_eq!(recorded.advert.encode(source, destination, recorded.pseudo_header), bytes);
    }
}

#[test]
fn what_is_not_heard_has_a_name() {
    let [recorded, ..] = recorded();
    let (source, destination) = (recorded.source(), recorded.destination());
    let summed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = recorded.bytes();
        change(&mut bytes);
        if bytes.len() >= HEADER {
            bytes[CHECKSUM].fill(0);
            let sum = checksum(&bytes, source, destination, PseudoHeader::Included);
            bytes[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        }
        Advert::decode(&bytes, source, destination, Advert::TTL).map(|(advert, _)| advert)
    };
    type Change<'a> = &'a dyn Fn(&mut Vec<u8>);
    let cases: [(Change<'_>, _); 8] = [
        (&|bytes| bytes[0] = 0x21, Err(Malformed::Version(2))),
        (&|bytes| bytes[0] = 0x32, Err(Malformed::Type(2))),
        (&|bytes| bytes[3] = 0, Err(Malformed::NoAddress)),
        (&|bytes| bytes[3] = 3, Err(Malformed::Short { found: 16, expected: 20 })),
        (&|bytes| bytes.truncate(7), Err(Malformed::Short { found: 7, expected: 8 })),
        (&|bytes| bytes[4..6].fill(0), Err(Malformed::Interval)),
        // Reserved bits, and what old senders put behind the addresses.
        (&|bytes| bytes[4] |= 0xf0, Ok(recorded.advert.clone())),
        (&|bytes| bytes.extend([0; 8]), Ok(recorded.advert.clone())),
    ];
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        assert_eq!(summed(change), expected, "case {number}");
    }
    let decode = |bytes: &[u8], ttl| Advert::decode(bytes, source, destination, ttl).map(|_| ());
    assert_eq!(decode(&recorded.bytes(), 254), Err(Malformed::Ttl(254)));
    let mut broken = recorded.bytes();
    broken[8] ^= 1;
    assert_eq!(decode(&broken, Advert::TTL), Err(Malformed::Checksum(0x38ee)));
}

#[test]
fn groups_and_macs_are_those_of_the_rfc() {
    assert_eq!(Router::V4(7).group().to_string(), "224.0.0.18");
    assert_eq!(Router::V6(7).group().to_string(), "ff02::12");
    assert_eq!(Router::V4(7).mac().octets(), [0, 0, 0x5e, 0, 1, 7]);
    assert_eq!(Router::V6(7).mac().octets(), [0, 0, 0x5e, 0, 2, 7]);
}

fn any_advert() -> impl Strategy<Value = Advert> {
    let addresses = prop_oneof![
        prop::collection::vec(any::<Ipv4Addr>(), 1..40).prop_map(Addresses::V4),
        prop::collection::vec(any::<Ipv6Addr>(), 1..40).prop_map(Addresses::V6),
    ];
    (any::<u8>(), any::<u8>(), 1..=Interval::MAX, addresses).prop_map(|(id, priority, centis, addresses)| {
        let router = match addresses {
            Addresses::V4(_) => Router::V4(id),
            Addresses::V6(_) => Router::V6(id),
        };
        advert(router, priority, centis, addresses)
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(advert in any_advert(), v4 in any::<Ipv4Addr>(), v6 in any::<Ipv6Addr>(), included: bool) {
        let source = match advert.router {
            Router::V4(_) => IpAddr::V4(v4),
            Router::V6(_) => IpAddr::V6(v6),
        };
        let kind = if included { PseudoHeader::Included } else { PseudoHeader::LeftOut };
        let destination = advert.router.group();
        let bytes = advert.encode(source, destination, kind);
        let decoded = Advert::decode(&bytes, source, destination, Advert::TTL).map(|(advert, _)| advert);
        prop_assert_eq!(decoded, Ok(advert));
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..80), source: IpAddr, destination: IpAddr) {
        let _ = Advert::decode(&bytes, source, destination, Advert::TTL);
    }
}
