//! An advert as a whole frame, from the hardware address of its virtual router (RFC 9568 section 7.2): so switches learn where that is.
//!
//! The kernel gives what its sockets send the interface's own address. A frame is put together here, for multicast, whose hardware address
//! needs no resolution.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vip_lb_common::checksum::Sum;

use super::vrrp::Advert;

/// The frame that carries an advert to a group; none where the group and the source are not of one family.
pub(super) fn frame(mac: [u8; 6], source: IpAddr, group: IpAddr, advert: &[u8]) -> Option<Vec<u8>> {
    let (to, ether_type, header) = match (source, group) {
        (IpAddr::V4(source), IpAddr::V4(group)) => {
            let [_, a, b, c] = group.octets();
            // RFC 1112 section 6.4: the last 23 bits.
            ([0x01, 0x00, 0x5e, a & 0x7f, b, c], [0x08, 0x00], ipv4(source, group, advert.len()).to_vec())
        }
        (IpAddr::V6(source), IpAddr::V6(group)) => {
            let [.., a, b, c, d] = group.octets();
            // RFC 2464 section 7.
            ([0x33, 0x33, a, b, c, d], [0x86, 0xdd], ipv6(source, group, advert.len()).to_vec())
        }
        _ => return None,
    };
    Some([&to[..], &mac, &ether_type, &header, advert].concat())
}

/// RFC 791 section 3.1. Never fragmented, so its identification may be 0 (RFC 6864 section 4).
fn ipv4(source: Ipv4Addr, group: Ipv4Addr, length: usize) -> [u8; 20] {
    const DONT_FRAGMENT: u8 = 0x40;
    let [high, low] = ((20 + length) as u16).to_be_bytes();
    let mut header = [
        0x45,
        0,
        high,
        low,
        0,
        0,
        DONT_FRAGMENT,
        0,
        Advert::TTL,
        Advert::PROTOCOL,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    header[12..16].copy_from_slice(&source.octets());
    header[16..].copy_from_slice(&group.octets());
    let (words, _) = header.as_chunks::<2>();
    let sum = words.iter().fold(Sum::new(0), |sum, &word| sum.add(u16::from_be_bytes(word)));
    header[10..12].copy_from_slice(&sum.finish().to_be_bytes());
    header
}

/// RFC 8200 section 3.
fn ipv6(source: Ipv6Addr, group: Ipv6Addr, length: usize) -> [u8; 40] {
    let [high, low] = (length as u16).to_be_bytes();
    let mut header = [0; 40];
    header[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, Advert::PROTOCOL, Advert::TTL]);
    header[8..24].copy_from_slice(&source.octets());
    header[24..].copy_from_slice(&group.octets());
    header
}

#[cfg(test)]
mod tests {
    use super::{super::vrrp::Router, *};

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_advert_over_ipv4_leaves_from_the_routers_address_and_adds_up() {
        let router = Router::V4(51);
        let frame =
            frame(router.mac().octets(), address("192.0.2.11"), router.group(), b"an advert").unwrap();
        assert_eq!(frame[..14], [1, 0, 0x5e, 0, 0, 18, 0, 0, 0x5e, 0, 1, 51, 8, 0]);
        let (header, advert) = frame[14..].split_at(20);
        assert_eq!((header[0], &header[2..4], header[8], header[9]), (0x45, &[0, 29][..], 255, 112));
        assert_eq!(header[12..], [192, 0, 2, 11, 224, 0, 0, 18]);
        let (words, _) = header.as_chunks::<2>();
        let sum = words.iter().fold(Sum::new(0), |sum, &word| sum.add(u16::from_be_bytes(word)));
        assert_eq!((sum.finish(), advert), (0, &b"an advert"[..]));
    }

    #[test]
    fn an_advert_over_ipv6_leaves_from_the_routers_address() {
        let router = Router::V6(51);
        let frame = frame(router.mac().octets(), address("fe80::11"), router.group(), b"an advert").unwrap();
        assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 0x12, 0, 0, 0x5e, 0, 2, 51, 0x86, 0xdd]);
        let (header, advert) = frame[14..].split_at(40);
        assert_eq!(header[..8], [0x60, 0, 0, 0, 0, 9, 112, 255]);
        let addresses = [address("fe80::11"), address("ff02::12")].map(|of| match of {
            IpAddr::V6(of) => of.octets(),
            IpAddr::V4(_) => unreachable!(),
        });
        assert_eq!((&header[8..], advert), (addresses.as_flattened(), &b"an advert"[..]));
    }

    #[test]
    fn families_are_not_mixed() {
        assert_eq!(frame([0; 6], address("192.0.2.11"), Router::V6(1).group(), b""), None);
    }
}
