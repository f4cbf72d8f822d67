//! Which packet is explained, and which cannot exist.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ExplainRequest;
use crate::config::model::{Protocol, UnknownName};

/// A packet of a flow, about a flow, or about an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PacketKind {
    /// The first of its flow: a SYN, or a datagram.
    #[default]
    First,
    /// A segment of a TCP connection that exists already.
    Ack,
    /// The last segment of a TCP connection.
    Fin,
    /// A reset of a TCP connection.
    Rst,
    /// A later fragment, which has no ports.
    Fragment,
    /// An ICMP error that quotes an answer of the flow: its client cannot be reached.
    Unreachable,
    /// An ICMP error that quotes an answer of the flow: it is too big for the path to the client.
    TooBig,
    /// An ICMP error that quotes an answer of the flow: its hops ran out.
    TimeExceeded,
    /// A ping.
    Echo,
    /// The question whose an address is: ARP, or a neighbour solicitation.
    WhoHas,
}

impl PacketKind {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::First,
        Self::Ack,
        Self::Fin,
        Self::Rst,
        Self::Fragment,
        Self::Unreachable,
        Self::TooBig,
        Self::TimeExceeded,
        Self::Echo,
        Self::WhoHas,
    ];

    /// The name that commands and the API use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Ack => "ack",
            Self::Fin => "fin",
            Self::Rst => "rst",
            Self::Fragment => "fragment",
            Self::Unreachable => "unreachable",
            Self::TooBig => "too-big",
            Self::TimeExceeded => "time-exceeded",
            Self::Echo => "echo",
            Self::WhoHas => "who-has",
        }
    }

    /// Whether it is of a flow, or about one.
    #[must_use]
    pub const fn has_flow(self) -> bool {
        !matches!(self, Self::Echo | Self::WhoHas)
    }

    const fn needs_tcp(self) -> bool {
        matches!(self, Self::Ack | Self::Fin | Self::Rst)
    }
}

impl fmt::Display for PacketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for PacketKind {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let known = Self::ALL.iter().find(|kind| kind.as_str() == text);
        known.copied().ok_or_else(|| UnknownName {
            found: text.to_owned(),
            allowed: Self::ALL.iter().map(|kind| kind.as_str()).collect(),
        })
    }
}

/// A packet that cannot exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchPacket {
    /// Its ends are of two families.
    #[error("{source_address} and {destination} are of different families: no packet has both")]
    MixedFamilies {
        /// The client asked about.
        source_address: IpAddr,
        /// The destination asked about.
        destination: IpAddr,
    },
    /// What must have a port has none.
    #[error("the port is missing: write {example}")]
    PortMissing {
        /// With a port.
        example: SocketAddr,
    },
    /// What has no ports was given one.
    #[error("`{packet}` has no ports: leave out :{port}")]
    PortGiven {
        /// The packet asked about.
        packet: PacketKind,
        /// The port.
        port: u16,
    },
    /// Only TCP has it.
    #[error("`{packet}` is of TCP only")]
    NotOfTcp {
        /// The packet asked about.
        packet: PacketKind,
    },
    /// What is no fragment was given the number of one.
    #[error("`{packet}` is no fragment, and has no fragment id")]
    NoFragment {
        /// The packet asked about.
        packet: PacketKind,
    },
    /// The number is too large for IPv4.
    #[error("the fragment id of an IPv4 packet is 65535 at most")]
    LargeId,
}

impl ExplainRequest {
    /// Whether there is such a packet.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn check(&self) -> Result<(), NoSuchPacket> {
        let packet = self.packet;
        let (source_address, destination) = (self.source, self.destination);
        if source_address.is_ipv4() != destination.is_ipv4() {
            return Err(NoSuchPacket::MixedFamilies { source_address, destination });
        }
        match self.destination_port.or(self.source_port) {
            Some(port) if !packet.has_flow() => return Err(NoSuchPacket::PortGiven { packet, port }),
            _ => {}
        }
        // A later fragment has none, so it need not be told.
        if self.destination_port.is_none() && packet.has_flow() && packet != PacketKind::Fragment {
            return Err(NoSuchPacket::PortMissing { example: SocketAddr::new(destination, 80) });
        }
        if packet.needs_tcp() && self.protocol != Protocol::Tcp {
            return Err(NoSuchPacket::NotOfTcp { packet });
        }
        match self.fragment_id {
            Some(_) if packet != PacketKind::Fragment => Err(NoSuchPacket::NoFragment { packet }),
            Some(id) if destination.is_ipv4() && id > u16::MAX.into() => Err(NoSuchPacket::LargeId),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for kind in PacketKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        let wrong = "syn".parse::<PacketKind>().unwrap_err();
        assert!(wrong.to_string().starts_with("found \"syn\", expected one of first, ack, "), "{wrong}");
    }

    #[test]
    fn packets_that_cannot_exist_are_told_from_those_that_can() {
        let of = |packet| ExplainRequest {
            source: "192.0.2.1".parse().unwrap(),
            source_port: None,
            destination: "192.0.2.2".parse().unwrap(),
            destination_port: Some(80),
            protocol: Protocol::Tcp,
            packet,
            fragment_id: None,
            interface: None,
        };
        for &packet in PacketKind::ALL.iter().filter(|packet| packet.has_flow()) {
            assert_eq!(of(packet).check(), Ok(()), "{packet}");
        }
        let portless = |packet| ExplainRequest { destination_port: None, ..of(packet) };
        for packet in [PacketKind::Echo, PacketKind::WhoHas, PacketKind::Fragment] {
            assert_eq!(portless(packet).check(), Ok(()), "{packet}");
        }
        let udp = ExplainRequest { protocol: Protocol::Udp, ..of(PacketKind::Fin) };
        let mixed = ExplainRequest { source: "2001:db8::1".parse().unwrap(), ..of(PacketKind::First) };
        let numbered = |packet, id| ExplainRequest { fragment_id: Some(id), ..of(packet) };
        for (request, wrong) in [
            (mixed, "2001:db8::1 and 192.0.2.2 are of different families: no packet has both"),
            (portless(PacketKind::TooBig), "the port is missing: write 192.0.2.2:80"),
            (of(PacketKind::Echo), "`echo` has no ports: leave out :80"),
            (udp, "`fin` is of TCP only"),
            (numbered(PacketKind::Ack, 7), "`ack` is no fragment, and has no fragment id"),
            (numbered(PacketKind::Fragment, 65_536), "the fragment id of an IPv4 packet is 65535 at most"),
        ] {
            assert_eq!(request.check().map_err(|error| error.to_string()), Err(wrong.to_owned()));
        }
        let v6 = ExplainRequest {
            source: "2001:db8::1".parse().unwrap(),
            destination: "2001:db8::2".parse().unwrap(),
            ..numbered(PacketKind::Fragment, 65_536)
        };
        assert_eq!(v6.check(), Ok(()));
    }
}
