//! The words that set fields.

use super::{
    Frame,
    header::{Ethernet, Extension, Header, Ipv4, Ipv6, Mac, Tcp},
};

pub(super) const TCP_ACK: u8 = 0x10;
const TCP_FIN: u8 = 0x01;
const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;

/// Fields.
impl Frame {
    /// Source MAC address.
    #[must_use]
    pub fn from_mac(mut self, mac: Mac) -> Self {
        self.ethernet().source = mac;
        self
    }

    /// Destination MAC address.
    #[must_use]
    pub fn to_mac(mut self, mac: Mac) -> Self {
        self.ethernet().destination = mac;
        self
    }

    /// TTL or hop limit of the latest IP header.
    #[must_use]
    pub fn ttl(mut self, value: u8) -> Self {
        match self.latest_ip() {
            Header::Ipv4(ip) => ip.ttl = value,
            Header::Ipv6(ip) => ip.hop_limit = value,
            _ => unreachable!("only IP headers are looked for"),
        }
        self
    }

    /// DSCP (upper six bits) and ECN (lower two) of the latest IP header.
    #[must_use]
    pub fn traffic_class(mut self, value: u8) -> Self {
        match self.latest_ip() {
            Header::Ipv4(ip) => ip.traffic_class = value,
            Header::Ipv6(ip) => ip.traffic_class = value,
            _ => unreachable!("only IP headers are looked for"),
        }
        self
    }

    /// Flow label of the latest IPv6 header.
    #[must_use]
    pub fn flow_label(mut self, value: u32) -> Self {
        self.latest_v6().flow_label = value;
        self
    }

    /// Identification of the latest IPv4 header.
    #[must_use]
    pub fn id(mut self, value: u16) -> Self {
        self.latest_v4().id = value;
        self
    }

    /// Clears "don't fragment" of the latest IPv4 header.
    #[must_use]
    pub fn may_fragment(mut self) -> Self {
        self.latest_v4().fragment &= !0x4000;
        self
    }

    /// Makes the latest IPv4 header that of a fragment. `offset` is in bytes, a multiple of 8.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        assert!(offset.is_multiple_of(8), "a fragment's offset counts eight bytes");
        self.latest_v4().fragment = (offset / 8) | (u16::from(more) << 13);
        self
    }

    /// Makes the packet a fragment of either family: the fields of an IPv4 header, or a fragment header behind IPv6. `offset` is in bytes, a
    /// multiple of 8. Must stand directly behind the IP header or its extension headers.
    #[must_use]
    pub fn piece(self, offset: u16, more: bool, id: u16) -> Self {
        if self.is_v4() {
            self.fragment(offset, more).id(id)
        } else {
            assert!(offset.is_multiple_of(8), "a fragment's offset counts eight bytes");
            self.extension(Extension::Fragment { offset, more, id: id.into() })
        }
    }

    /// Adds an option to the latest IPv4 or TCP header; all options together are padded to four bytes.
    #[must_use]
    pub fn option(mut self, bytes: &[u8]) -> Self {
        let options = self.latest("an IPv4 or TCP header", |header| match header {
            Header::Ipv4(ip) => Some(&mut ip.options),
            Header::Tcp(tcp) => Some(&mut tcp.options),
            _ => None,
        });
        options.extend(bytes);
        self
    }

    /// SYN alone: opens a connection.
    #[must_use]
    pub fn syn(self) -> Self {
        self.flags(TCP_SYN)
    }

    /// SYN and ACK.
    #[must_use]
    pub fn syn_ack(self) -> Self {
        self.flags(TCP_SYN | TCP_ACK)
    }

    /// FIN and ACK: the client will send no more.
    #[must_use]
    pub fn fin(self) -> Self {
        self.flags(TCP_FIN | TCP_ACK)
    }

    /// RST alone.
    #[must_use]
    pub fn rst(self) -> Self {
        self.flags(TCP_RST)
    }

    /// All eight lower flags of the latest TCP header.
    #[must_use]
    pub fn flags(mut self, flags: u8) -> Self {
        self.latest_tcp().flags = flags;
        self
    }

    /// Sequence number of the latest TCP header.
    #[must_use]
    pub fn sequence(mut self, sequence: u32) -> Self {
        self.latest_tcp().sequence = sequence;
        self
    }

    /// Acknowledgement number of the latest TCP header.
    #[must_use]
    pub fn acknowledged(mut self, acknowledged: u32) -> Self {
        self.latest_tcp().acknowledged = acknowledged;
        self
    }

    fn latest_ip(&mut self) -> &mut Header {
        self.latest("an IP header", |header| {
            matches!(header, Header::Ipv4(_) | Header::Ipv6(_)).then_some(header)
        })
    }

    fn latest_v4(&mut self) -> &mut Ipv4 {
        self.latest("an IPv4 header", |header| match header {
            Header::Ipv4(ip) => Some(ip),
            _ => None,
        })
    }

    fn latest_v6(&mut self) -> &mut Ipv6 {
        self.latest("an IPv6 header", |header| match header {
            Header::Ipv6(ip) => Some(ip),
            _ => None,
        })
    }

    fn latest_tcp(&mut self) -> &mut Tcp {
        self.latest("a TCP header", |header| match header {
            Header::Tcp(tcp) => Some(tcp),
            _ => None,
        })
    }

    fn ethernet(&mut self) -> &mut Ethernet {
        self.latest("an Ethernet header", |header| match header {
            Header::Ethernet(ethernet) => Some(ethernet),
            _ => None,
        })
    }

    fn latest<'f, T>(&'f mut self, what: &str, pick: impl FnMut(&'f mut Header) -> Option<T>) -> T {
        self.headers
            .iter_mut()
            .rev()
            .find_map(pick)
            .unwrap_or_else(|| panic!("this word needs {what} before it"))
    }
}
