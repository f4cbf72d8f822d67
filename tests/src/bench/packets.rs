//! The packets that are measured: as short as Ethernet allows, one for each flow.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use vip_lb_common::{checksum::Sum, hash::SeedStream};

/// Shortest frame without its checksum (IEEE 802.3).
const SHORTEST: usize = 60;

/// A client of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// Lower 24 bits of its address, of either family.
    pub host: u32,
    /// Its port.
    pub port: u16,
}

impl Client {
    /// Its address in the family of `peer`.
    pub fn address(self, peer: IpAddr) -> IpAddr {
        match peer {
            IpAddr::V4(_) => Ipv4Addr::from_bits(198 << 24 | self.host).into(),
            IpAddr::V6(_) => {
                Ipv6Addr::from_bits(0x2001_0db8_0000_0000_0000_0000_0000_0000 | u128::from(self.host)).into()
            }
        }
    }
}

/// Different clients, the same in every run.
pub fn clients(count: usize) -> Vec<Client> {
    let mut stream = SeedStream::new(&[1; 32], 0);
    let mut seen = HashSet::new();
    let mut clients = Vec::with_capacity(count);
    while clients.len() < count {
        let word = stream.next_word();
        let client = Client { host: (word & 0xff_ffff) as u32 | 1, port: 1024 | (word >> 32) as u16 };
        if seen.insert(client) {
            clients.push(client);
        }
    }
    clients
}

/// Puts values into an order that has nothing to do with that of their making (Fisher and Yates). Flows that are met in the order in which
/// they were recorded are found up to twice as fast as they are, because their entries lie side by side.
pub fn shuffle<T>(values: &mut [T]) {
    let mut stream = SeedStream::new(&[2; 32], 0);
    for last in (1..values.len()).rev() {
        values.swap(last, (stream.next_word() % (last as u64 + 1)) as usize);
    }
}

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The first packet of a TCP connection.
    TcpSyn,
    /// A later one.
    TcpAck,
    /// A datagram.
    Udp,
}

impl Payload {
    /// IANA protocol number.
    pub fn protocol(self) -> u8 {
        match self {
            Self::TcpSyn | Self::TcpAck => 6,
            Self::Udp => 17,
        }
    }

    fn header_len(self) -> usize {
        match self {
            Self::TcpSyn | Self::TcpAck => 20,
            Self::Udp => 8,
        }
    }
}

/// A frame from `client` to `destination`, of 60 bytes, or of the headers' length where these are longer.
pub fn frame(client: Client, destination: IpAddr, port: u16, payload: Payload) -> Vec<u8> {
    let source = client.address(destination);
    let ip_len = if destination.is_ipv4() { 20 } else { 40 };
    let transport_len = (SHORTEST - 14 - ip_len).max(payload.header_len());

    let mut transport = vec![0; transport_len];
    transport[..2].copy_from_slice(&client.port.to_be_bytes());
    transport[2..4].copy_from_slice(&port.to_be_bytes());
    let checksum_at = match payload {
        Payload::TcpSyn | Payload::TcpAck => {
            transport[4..8].copy_from_slice(&1_u32.to_be_bytes());
            transport[12] = 5 << 4;
            transport[13] = if payload == Payload::TcpSyn { 0x02 } else { 0x10 };
            transport[14..16].copy_from_slice(&[0xff; 2]);
            16
        }
        Payload::Udp => {
            transport[4..6].copy_from_slice(&(transport_len as u16).to_be_bytes());
            6
        }
    };
    let pseudo = sum(octets(source).chain(octets(destination)))
        .add(transport_len as u16)
        .add(payload.protocol().into());
    let checksum = Sum::new(pseudo.folded().into()).add(sum(transport.iter().copied()).folded());
    transport[checksum_at..checksum_at + 2].copy_from_slice(&checksum.finish().to_be_bytes());

    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if destination.is_ipv4() {
        frame.extend([0x08, 0x00]);
        let mut ip = vec![0x45, 0];
        ip.extend((20 + transport_len as u16).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, payload.protocol(), 0, 0]);
        ip.extend(octets(source).chain(octets(destination)));
        let checksum = sum(ip.iter().copied()).finish();
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend(ip);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((transport_len as u16).to_be_bytes());
        frame.extend([payload.protocol(), 64]);
        frame.extend(octets(source).chain(octets(destination)));
    }
    frame.extend(transport);
    frame
}

fn octets(address: IpAddr) -> impl Iterator<Item = u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
    .into_iter()
}

fn sum(bytes: impl Iterator<Item = u8>) -> Sum {
    bytes.enumerate().fold(Sum::default(), |sum, (at, byte)| {
        sum.add(if at % 2 == 0 { u16::from(byte) << 8 } else { byte.into() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Client = Client { host: 7, port: 1234 };

    #[test]
    fn frames_are_as_short_as_they_can_be_and_sum_up() {
        let (v4, v6): (IpAddr, IpAddr) = ("10.200.1.1".parse().unwrap(), "fd00::1".parse().unwrap());
        let cases = [
            (v4, Payload::TcpSyn, 60),
            (v4, Payload::TcpAck, 60),
            (v4, Payload::Udp, 60),
            (v6, Payload::TcpAck, 74),
            (v6, Payload::Udp, 62),
        ];
        for (vip, payload, len) in cases {
            let frame = frame(CLIENT, vip, 80, payload);
            assert_eq!(frame.len(), len, "{vip} {payload:?}");
            let (addresses, transport) = if vip.is_ipv4() { (26, 34) } else { (22, 54) };
            if vip.is_ipv4() {
                assert_eq!(sum(frame[14..34].iter().copied()).finish(), 0, "{payload:?}");
            }
            let whole = sum(frame[addresses..].iter().copied())
                .add((len - transport) as u16)
                .add(payload.protocol().into());
            assert_eq!(whole.finish(), 0, "{vip} {payload:?}");
        }
    }

    #[test]
    fn clients_differ_and_stay_the_same() {
        let some = clients(1000);
        assert_eq!(some, clients(1000));
        assert_eq!(some.iter().collect::<HashSet<_>>().len(), 1000);
    }

    #[test]
    fn a_shuffle_loses_nothing_and_leaves_little_in_place() {
        let mut values: Vec<usize> = (0..1000).collect();
        shuffle(&mut values);
        assert!(values.iter().enumerate().filter(|(at, value)| at == *value).count() < 20);
        values.sort_unstable();
        assert_eq!(values, (0..1000).collect::<Vec<_>>());
    }
}
