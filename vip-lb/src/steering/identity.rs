//! Names of backends that outlive the daemon.

use std::net::IpAddr;

use vip_lb_common::{abi::Address, hash::mix};

use crate::config::model::Ports;

/// Names a backend of a service: the same on every node, in every release and after every restart. Never 0, which marks
/// a free entry of BACKENDS.
///
/// `service` and `ports` are what clients dial, `protocol` is the IANA number. The service
/// has a part in it so that services with the same backends have different rings.
pub fn identity(service: IpAddr, ports: Ports, protocol: u8, backend: IpAddr) -> u64 {
    let ports = match ports {
        Ports::Every => 0,
        Ports::One(port) => u64::from(port),
        Ports::Range(first, last) => u64::from(first) | u64::from(last) << 16,
    };
    let parts = [words(service), [ports, u64::from(protocol)], words(backend)];
    let identity =
        parts.as_flattened().iter().enumerate().fold(0x7669_702d_6c62, |hash, (position, &word)| {
            mix(hash ^ mix(word.wrapping_add((position as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))))
        });
    identity.max(1)
}

fn words(address: IpAddr) -> [u64; 2] {
    let octets = u128::from_be_bytes(*Address::from(address).octets());
    [(octets >> 64) as u64, octets as u64]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn of(service: &str, port: u16, protocol: u8, backend: &str) -> u64 {
        identity(service.parse().unwrap(), Ports::from_number(port), protocol, backend.parse().unwrap())
    }

    fn range(first: u16, last: u16) -> u64 {
        let [service, backend] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        identity(service, Ports::Range(first, last), 6, backend)
    }

    #[test]
    fn every_part_counts() {
        let all = [
            of("10.0.0.1", 80, 6, "10.0.0.2"),
            of("10.0.0.2", 80, 6, "10.0.0.1"),
            of("10.0.0.1", 81, 6, "10.0.0.2"),
            of("10.0.0.1", 80, 17, "10.0.0.2"),
            of("10.0.0.1", 80, 6, "10.0.0.3"),
            of("2001:db8::1", 80, 6, "10.0.0.2"),
            of("10.0.0.1", 80, 6, "2001:db8::2"),
            range(80, 81),
            range(80, 82),
            range(79, 81),
        ];
        assert_eq!(HashSet::from(all).len(), all.len());
    }

    #[test]
    fn an_identity_never_changes_between_releases() {
        // Pinned entries are recognised by it, and nodes of different releases share rings.
        assert_eq!(of("10.0.0.1", 80, 6, "10.0.0.2"), GOLDEN_V4);
        assert_eq!(of("2001:db8::1", 443, 17, "2001:db8::2"), GOLDEN_V6);
        assert_eq!(of("::ffff:10.0.0.1", 80, 6, "10.0.0.2"), GOLDEN_V4);
        assert_eq!(range(8000, 8999), GOLDEN_RANGE);
    }

    const GOLDEN_V4: u64 = 1_381_057_294_195_379_266;
    const GOLDEN_RANGE: u64 = 7_445_648_282_621_564_956;
    const GOLDEN_V6: u64 = 7_616_292_517_118_320_691;
}
