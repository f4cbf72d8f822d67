//! Addresses as people type them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

/// A text that is not the address, port or prefix expected; says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

/// A client: an address, and perhaps a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its address.
    pub address: IpAddr,
    /// Its port, if it was given.
    pub port: Option<u16>,
}

impl FromStr for Source {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(address) = address(text) {
            return Ok(Self { address, port: None });
        }
        address_and_port(text).map(|(address, port)| Self { address, port: Some(port) }).ok_or_else(|| {
            AddressError("expected ADDRESS or ADDRESS:PORT, IPv6 with a port as [2001:db8::1]:1234".into())
        })
    }
}

/// What is dialled: an address and, where there is one, a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The address.
    pub address: IpAddr,
    /// Its port, if it was given.
    pub port: Option<u16>,
}

impl FromStr for Destination {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(address) = address(text) {
            return Ok(Self { address, port: None });
        }
        address_and_port(text)
            .map(|(address, port)| Self { address, port: Some(port) })
            .ok_or_else(|| AddressError("expected ADDRESS:PORT, IPv6 as [2001:db8::1]:80".into()))
    }
}

/// An address and the number of its leading bits that count; the others are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// The address; bits beyond the length are zero.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Bits that count: at most 32 or 128, by the family.
    pub fn length(self) -> u8 {
        self.length
    }
}

impl FromStr for Prefix {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let expected = || AddressError("expected ADDRESS or ADDRESS/LENGTH".into());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| expected())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(length) => length.parse().map_err(|_| expected())?,
            None => bits,
        };
        if length > bits {
            return Err(AddressError(format!("the length of such a prefix is at most {bits}")));
        }
        let network = masked(address, length);
        if network != address {
            return Err(AddressError(format!("it has bits beyond its length: write {network}/{length}")));
        }
        Ok(Self { address, length })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// The address with all bits after the first `length` cleared.
fn masked(address: IpAddr, length: u8) -> IpAddr {
    let length = u32::from(length);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// An address, IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return inner.parse().ok().map(IpAddr::V6);
    }
    text.parse().ok()
}

/// An address with a port. A zone (`%eth0`) has no place in a packet and is refused.
fn address_and_port(text: &str) -> Option<(IpAddr, u16)> {
    let address: SocketAddr = text.parse().ok()?;
    (!text.contains('%')).then_some((address.ip(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        for (text, expected) in [
            ("198.51.100.7", Some(("198.51.100.7", None))),
            ("198.51.100.7:40000", Some(("198.51.100.7", Some(40000)))),
            ("198.51.100.7:0", Some(("198.51.100.7", Some(0)))),
            ("2001:db8::1", Some(("2001:db8::1", None))),
            ("[2001:db8::1]", Some(("2001:db8::1", None))),
            ("[2001:db8::1]:1234", Some(("2001:db8::1", Some(1234)))),
            ("2001:db8::1:1234", Some(("2001:db8::1:1234", None))),
            ("::ffff:10.0.0.1", Some(("::ffff:10.0.0.1", None))),
            ("[198.51.100.7]", None),
            ("[198.51.100.7]:80", None),
            ("198.51.100.7:65536", None),
            ("198.51.100.7:", None),
            ("198.51.100", None),
            ("[fe80::1%3]:80", None),
            ("fe80::1%eth0", None),
            ("localhost:80", None),
            (":80", None),
            ("", None),
        ] {
            let expected = expected.map(|(address, port)| Source { address: address.parse().unwrap(), port });
            assert_eq!(text.parse().ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn destinations() {
        let ok = |address: &str, port| Ok(Destination { address: address.parse().unwrap(), port });
        let expected = "expected ADDRESS:PORT, IPv6 as [2001:db8::1]:80";
        let err = |text: &str| Err(AddressError(text.into()));
        for (text, result) in [
            ("192.0.2.10:80", ok("192.0.2.10", Some(80))),
            ("[2001:db8::10]:443", ok("2001:db8::10", Some(443))),
            ("192.0.2.10", ok("192.0.2.10", None)),
            ("2001:db8::10", ok("2001:db8::10", None)),
            ("[2001:db8::10]", ok("2001:db8::10", None)),
            ("192.0.2.10:http", err(expected)),
            ("[fe80::1%3]:80", err(expected)),
            ("", err(expected)),
        ] {
            assert_eq!(text.parse::<Destination>(), result, "{text:?}");
        }
    }

    #[test]
    fn prefixes() {
        let expected = "expected ADDRESS or ADDRESS/LENGTH";
        for (text, result) in [
            ("10.0.0.1", Ok("10.0.0.1/32")),
            ("10.0.0.0/24", Ok("10.0.0.0/24")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("2001:db8::1", Ok("2001:db8::1/128")),
            ("2001:db8::/32", Ok("2001:db8::/32")),
            ("::/0", Ok("::/0")),
            ("10.0.0.1/24", Err("it has bits beyond its length: write 10.0.0.0/24")),
            ("2001:db8::1/64", Err("it has bits beyond its length: write 2001:db8::/64")),
            ("10.0.0.0/33", Err("the length of such a prefix is at most 32")),
            ("::/129", Err("the length of such a prefix is at most 128")),
            ("10.0.0.0/", Err(expected)),
            ("10.0.0.0/-1", Err(expected)),
            ("10.0.0/8", Err(expected)),
            ("", Err(expected)),
        ] {
            let parsed = text.parse::<Prefix>().map(|prefix| prefix.to_string());
            assert_eq!(
                parsed,
                result.map(str::to_owned).map_err(|error| AddressError(error.into())),
                "{text:?}"
            );
        }
    }
}
