//! A frame as the other parser sees it: link, IP header, and what is behind them.

use std::net::IpAddr;

use etherparse::{
    Ethernet2HeaderSlice, IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice,
    Ipv6RawExtHeaderSlice, SingleVlanHeaderSlice,
};

/// Link layer.
pub(super) struct Seen<'f> {
    /// Destination and source.
    pub(super) macs: &'f [u8],
    /// Type and control information of each tag.
    pub(super) tags: Vec<[u8; 4]>,
    /// Of what follows the tags.
    pub(super) ether_type: u16,
    /// What follows the tags.
    pub(super) rest: &'f [u8],
}

/// An IP packet.
pub(super) struct Ip<'f> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) traffic_class: u8,
    pub(super) hop_limit: u8,
    /// The IPv4 header with options, or the fixed IPv6 header.
    pub(super) header: &'f [u8],
    /// As long as it says it is.
    pub(super) packet: &'f [u8],
    /// What is behind the packet in its frame.
    pub(super) trailer: &'f [u8],
    /// None where an extension header is cut short.
    pub(super) transport: Option<Transport<'f>>,
}

/// What is behind IP header and extension headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transport<'f> {
    /// IANA protocol number.
    pub(super) protocol: u8,
    pub(super) bytes: &'f [u8],
    /// Some part of a packet in which this is not the beginning.
    pub(super) is_later_fragment: bool,
    /// Some part of a packet.
    pub(super) is_fragment: bool,
    /// Extension headers in front.
    pub(super) extensions: usize,
}

impl<'f> Seen<'f> {
    pub(super) fn of(frame: &'f [u8]) -> Result<Self, String> {
        let ethernet = Ethernet2HeaderSlice::from_slice(frame).map_err(|error| error.to_string())?;
        let mut ether_type = ethernet.ether_type().0;
        let mut rest = &frame[14..];
        let mut tags = Vec::new();
        // The third tag is nobody's: what is behind two is a type like any other.
        while matches!(ether_type, 0x8100 | 0x88a8) && tags.len() < 2 {
            let tag = SingleVlanHeaderSlice::from_slice(rest).map_err(|error| error.to_string())?;
            let [a, b] = ether_type.to_be_bytes();
            tags.push([a, b, rest[0], rest[1]]);
            ether_type = tag.ether_type().0;
            rest = &rest[4..];
        }
        Ok(Self { macs: &frame[..12], tags, ether_type, rest })
    }

    pub(super) fn ip(&self) -> Result<Ip<'f>, String> {
        match self.ether_type {
            0x0800 => Ip::v4(self.rest),
            0x86dd => Ip::v6(self.rest),
            other => Err(format!("EtherType {other:#06x} is no IP")),
        }
    }
}

impl<'f> Ip<'f> {
    /// Of the family that the first four bits tell.
    pub(super) fn of(bytes: &'f [u8]) -> Result<Self, String> {
        match bytes.first().map(|byte| byte >> 4) {
            Some(4) => Self::v4(bytes),
            Some(6) => Self::v6(bytes),
            other => Err(format!("IP version {other:?}")),
        }
    }

    fn v4(bytes: &'f [u8]) -> Result<Self, String> {
        let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|error| error.to_string())?;
        let (header_len, len) = (header.slice().len(), usize::from(header.total_len()));
        if len < header_len || len > bytes.len() {
            return Err(format!("total length {len} of {} bytes", bytes.len()));
        }
        let offset = header.fragments_offset().value();
        let transport = Transport {
            protocol: header.protocol().0,
            bytes: &bytes[header_len..len],
            is_later_fragment: offset != 0,
            is_fragment: offset != 0 || header.more_fragments(),
            extensions: 0,
        };
        Ok(Self {
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            traffic_class: bytes[1],
            hop_limit: header.ttl(),
            header: &bytes[..header_len],
            packet: &bytes[..len],
            trailer: &bytes[len..],
            transport: Some(transport),
        })
    }

    fn v6(bytes: &'f [u8]) -> Result<Self, String> {
        let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|error| error.to_string())?;
        let len = 40 + usize::from(header.payload_length());
        if len > bytes.len() {
            return Err(format!("a length of {len} in {} bytes", bytes.len()));
        }
        Ok(Self {
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            traffic_class: bytes[0] << 4 | bytes[1] >> 4,
            hop_limit: header.hop_limit(),
            header: &bytes[..40],
            packet: &bytes[..len],
            trailer: &bytes[len..],
            transport: behind_extensions(header.next_header(), &bytes[40..len]),
        })
    }

    pub(super) fn is_v4(&self) -> bool {
        self.source.is_ipv4()
    }
}

/// Follows hop-by-hop options, routing headers, destination options and fragment headers, in any order and number.
fn behind_extensions(first: IpNumber, bytes: &[u8]) -> Option<Transport<'_>> {
    let (mut protocol, mut rest) = (first, bytes);
    let (mut is_later_fragment, mut is_fragment, mut extensions) = (false, false, 0);
    loop {
        match protocol {
            IpNumber::IPV6_HEADER_HOP_BY_HOP
            | IpNumber::IPV6_ROUTE_HEADER
            | IpNumber::IPV6_DESTINATION_OPTIONS => {
                let header = Ipv6RawExtHeaderSlice::from_slice(rest).ok()?;
                (protocol, rest) = (header.next_header(), &rest[header.slice().len()..]);
            }
            IpNumber::IPV6_FRAGMENTATION_HEADER => {
                let header = Ipv6FragmentHeaderSlice::from_slice(rest).ok()?;
                is_later_fragment |= header.fragment_offset().value() != 0;
                is_fragment |= header.is_fragmenting_payload();
                (protocol, rest) = (header.next_header(), &rest[header.slice().len()..]);
            }
            _ => break,
        }
        extensions += 1;
    }
    Some(Transport { protocol: protocol.0, bytes: rest, is_later_fragment, is_fragment, extensions })
}
