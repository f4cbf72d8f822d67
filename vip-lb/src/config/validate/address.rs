//! Which addresses may be a VIP, and which may be a machine's.

use std::net::IpAddr;

use super::super::{
    decode::At,
    issue::{Issues, Place},
};

/// A VIP is dialled from anywhere, so its address has to mean the same everywhere.
pub(super) fn check_vip(address: &At<IpAddr>, issues: &mut Issues) {
    if let Some(reason) = unusable(address.value).or_else(|| link_local(address.value)) {
        let found = format!("{}, {reason}", address.value);
        issues.error(&address.place, found, "a unicast address that is neither loopback nor link-local");
    }
}

/// The own address of a machine that is reached over the network.
pub(super) fn check_host(address: IpAddr, place: &Place, expected: &str, issues: &mut Issues) {
    if let Some(reason) = unusable(address) {
        issues.error(place, format!("{address}, {reason}"), expected);
    }
}

/// Whether the address is an IPv6 one that means something only together with an interface (RFC 4291, 2.5.6).
pub(super) fn needs_interface(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn unusable(address: IpAddr) -> Option<&'static str> {
    if let IpAddr::V6(v6) = address
        && v6.to_ipv4_mapped().is_some()
    {
        return Some("an IPv4 address in the form of an IPv6 one");
    }
    let reserved = match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_broadcast(),
        IpAddr::V6(_) => false,
    };
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if reserved => Some("a reserved address"),
        _ => None,
    }
}

fn link_local(address: IpAddr) -> Option<&'static str> {
    let local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    local.then_some("a link-local address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_no_machine_has_are_told_apart() {
        for (text, reason) in [
            ("10.0.0.1", None),
            ("169.254.1.1", None),
            ("2001:db8::1", None),
            ("fd00::1", None),
            ("240.0.0.1", None),
            ("0.0.0.0", Some("the unspecified address")),
            ("::", Some("the unspecified address")),
            ("0.1.2.3", Some("a reserved address")),
            ("255.255.255.255", Some("a reserved address")),
            ("224.0.0.18", Some("a multicast address")),
            ("ff02::12", Some("a multicast address")),
            ("127.8.8.8", Some("a loopback address")),
            ("::1", Some("a loopback address")),
            ("::ffff:10.0.0.1", Some("an IPv4 address in the form of an IPv6 one")),
        ] {
            assert_eq!(unusable(text.parse().unwrap()), reason, "{text}");
        }
    }
}
