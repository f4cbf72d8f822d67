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

/// Where a packet comes from and goes to.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Source address.
    pub source: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Destination port.
    pub destination_port: u16,
}

impl Ends {
    /// From a client.
    pub fn of_client(client: Client, destination: IpAddr, destination_port: u16) -> Self {
        Self { source: client.address(destination), source_port: client.port, destination, destination_port }
    }

    fn reversed(self) -> Self {
        Self {
            source: self.destination,
            source_port: self.destination_port,
            destination: self.source,
            destination_port: self.source_port,
        }
    }
}

/// MAC address of the next hop towards all senders.
pub const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// MAC address of the interface that packets come in by.
pub const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Puts values into an order that has nothing to do with that of their making (Fisher and Yates). Flows that are met in the order in which
/// they were recorded are found up to twice as fast as they are, because their entries lie side by side.
pub fn shuffle<T>(values: &mut [T]) {
    let mut stream = SeedStream::new(&[2; 32], 0);
    for last in (1..values.len()).rev() {
        values.swap(last, (stream.next_word() % (last as u64 + 1)) as usize);
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The first packet of a TCP connection, with the size of segments that its sender takes.
    TcpSyn,
    /// A later one.
    TcpAck,
    /// The same, of a length that fills a set's packet.
    LongTcpAck,
    /// A datagram.
    Udp,
    /// The first fragment of a datagram (IPv4).
    FirstFragment,
    /// Another fragment of the same.
    LaterFragment,
    /// "Fragmentation needed" about a TCP packet that was sent the other way (IPv4).
    IcmpError,
}

impl Payload {
    /// IANA protocol number.
    pub fn protocol(self) -> u8 {
        match self {
            Self::TcpSyn | Self::TcpAck | Self::LongTcpAck => 6,
            Self::Udp | Self::FirstFragment | Self::LaterFragment => 17,
            Self::IcmpError => 1,
        }
    }

    fn least_len(self) -> usize {
        match self {
            Self::TcpSyn => 24,
            Self::TcpAck => 20,
            Self::LongTcpAck => 122,
            Self::Udp | Self::FirstFragment | Self::LaterFragment => 8,
            Self::IcmpError => 36,
        }
    }

    /// Flags and offset of the IPv4 header.
    fn fragment(self) -> u16 {
        match self {
            Self::FirstFragment => 0x2000,
            Self::LaterFragment => 1480 / 8,
            _ => 0x4000,
        }
    }
}

/// A frame of 60 bytes, or of the headers' length where these are longer.
pub fn frame(ends: Ends, payload: Payload) -> Vec<u8> {
    let ip_len = if ends.destination.is_ipv4() { 20 } else { 40 };
    let transport = transport(ends, payload, (SHORTEST - 14 - ip_len).max(payload.least_len()));
    let mut frame = [OWN, ROUTER].concat();
    frame.extend(if ends.destination.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
    frame.extend(ip(ends, payload.protocol(), payload.fragment(), transport.len()));
    frame.extend(transport);
    frame
}

fn transport(ends: Ends, payload: Payload, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    if payload == Payload::LaterFragment {
        return bytes;
    }
    if payload == Payload::IcmpError {
        bytes[..2].copy_from_slice(&[3, 4]);
        bytes[6..8].copy_from_slice(&1400_u16.to_be_bytes());
        bytes[8..28].copy_from_slice(&ip(ends.reversed(), 6, 0x4000, 1480));
        bytes[28..30].copy_from_slice(&ends.destination_port.to_be_bytes());
        bytes[30..32].copy_from_slice(&ends.source_port.to_be_bytes());
        let checksum = sum(bytes.iter().copied()).finish();
        bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
        return bytes;
    }
    bytes[..2].copy_from_slice(&ends.source_port.to_be_bytes());
    bytes[2..4].copy_from_slice(&ends.destination_port.to_be_bytes());
    let checksum_at = if payload.protocol() == 6 {
        bytes[4..8].copy_from_slice(&1_u32.to_be_bytes());
        bytes[12] = 5 << 4;
        bytes[13] = 0x10;
        bytes[14..16].copy_from_slice(&[0xff; 2]);
        if payload == Payload::TcpSyn {
            bytes[12..14].copy_from_slice(&[6 << 4, 0x02]);
            bytes[20..24].copy_from_slice(&[2, 4, 0x05, 0xb4]);
        }
        16
    } else {
        // A fragmented datagram is longer than what is here of it, and nobody here sums it up.
        let whole = if payload == Payload::FirstFragment { 3000 } else { len as u16 };
        bytes[4..6].copy_from_slice(&whole.to_be_bytes());
        6
    };
    let pseudo = sum(octets(ends.source).chain(octets(ends.destination)))
        .add(len as u16)
        .add(payload.protocol().into());
    let checksum = Sum::new(pseudo.folded().into()).add(sum(bytes.iter().copied()).folded());
    bytes[checksum_at..checksum_at + 2].copy_from_slice(&checksum.finish().to_be_bytes());
    bytes
}

/// An IP header in front of `len` bytes.
fn ip(ends: Ends, protocol: u8, fragment: u16, len: usize) -> Vec<u8> {
    let addresses = octets(ends.source).chain(octets(ends.destination));
    if !ends.destination.is_ipv4() {
        let mut ip = vec![0x60, 0, 0, 0];
        ip.extend((len as u16).to_be_bytes());
        ip.extend([protocol, 64]);
        ip.extend(addresses);
        return ip;
    }
    let mut ip = vec![0x45, 0];
    ip.extend((20 + len as u16).to_be_bytes());
    ip.extend([0, 0]);
    ip.extend(fragment.to_be_bytes());
    ip.extend([64, protocol, 0, 0]);
    ip.extend(addresses);
    let checksum = sum(ip.iter().copied()).finish();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    ip
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
            (v4, Payload::LongTcpAck, 156),
            (v4, Payload::Udp, 60),
            (v6, Payload::TcpSyn, 78),
            (v6, Payload::TcpAck, 74),
            (v6, Payload::Udp, 62),
        ];
        for (vip, payload, len) in cases {
            let frame = frame(Ends::of_client(CLIENT, vip, 80), payload);
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
    fn an_error_sums_up_and_quotes_the_other_direction() {
        let vip: IpAddr = "10.200.1.1".parse().unwrap();
        let frame = frame(Ends::of_client(CLIENT, vip, 80), Payload::IcmpError);
        assert_eq!(sum(frame[34..].iter().copied()).finish(), 0);
        assert_eq!(sum(frame[42..62].iter().copied()).finish(), 0);
        assert_eq!(frame[54..58], [10, 200, 1, 1]);
        assert_eq!(frame[58..62], frame[26..30]);
        assert_eq!(frame[62..66], [0, 80, 4, 210]);
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
