//! Packets on their way through the running program, for those who watch.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ChosenBackend, FlowHash, Slot, Verdict};

/// Packets that each CPU shows in a second unless asked for more.
pub const DEFAULT_RATE: u32 = 1_000;

/// Which packets to show: those that everything given is true of. All of a query is text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {
    /// Address or prefix of the client, such as `198.51.100.0/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Port of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Address or prefix dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Port dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or the number of a protocol behind the IP header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Kernel name of the interface that they come in by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Names of verdicts with commas between, or `drop`, `pass`, `reply`, `forward` for all that end so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Show one of so many; absent: every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u32>,
    /// Packets that each CPU shows in a second at most; absent: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// Bytes of each packet, from its Ethernet header on, that are shown; absent: none. At most 9216.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u16>,
}

/// What whoever watches hears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Watched {
    /// A packet.
    Packet(Box<WatchedPacket>),
    /// How it goes, about once a second: packets since the beginning.
    Count {
        /// Those that were asked for.
        matched: u64,
        /// Those that were to be shown, but were too many: for the rate, the ring buffer or the reader.
        missed: u64,
    },
}

/// A packet that was seen, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WatchedPacket {
    /// When it came, microseconds since the Unix epoch.
    pub at_us: u64,
    /// Interface that it came in by.
    pub interface: String,
    /// Who sent it; port 0 where there is none.
    pub source: SocketAddr,
    /// Whom it is for: of ARP and neighbour solicitations, the address asked for.
    pub destination: SocketAddr,
    /// Number of the protocol behind the IP header; 0 where that makes no sense.
    pub protocol: u8,
    /// How it ended.
    pub verdict: Verdict,
    /// Name of the service that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Hash of its flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<FlowHash>,
    /// The slot that it fell into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// The backend chosen for it, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<ChosenBackend>,
    /// Whether its addresses and ports were translated: `new` for the first packet of a connection, `known` for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translated: Option<String>,
    /// Interface that it left by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<String>,
    /// The frame that came.
    pub came: Frame,
    /// The frame that left; absent if it was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Frame>,
}

/// A frame, or its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// Bytes that it had.
    pub length: u32,
    /// The first of them in hexadecimal digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bytes: String,
}

impl Frame {
    /// Of a frame's length and its first bytes.
    #[must_use]
    pub fn new(length: u32, bytes: &[u8]) -> Self {
        use std::fmt::Write as _;
        let mut digits = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            let _ = write!(digits, "{byte:02x}");
        }
        Self { length, bytes: digits }
    }

    /// The first bytes. None if the digits make none.
    #[must_use]
    pub fn decoded(&self) -> Option<Vec<u8>> {
        let digits = self.bytes.as_bytes().chunks(2);
        digits
            .map(|two| {
                u8::from_str_radix(std::str::from_utf8(two).ok().filter(|two| two.len() == 2)?, 16).ok()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_two_digits_each() {
        let frame = Frame::new(1500, &[0, 0x7f, 0xff]);
        assert_eq!(frame.bytes, "007fff");
        assert_eq!(frame.decoded(), Some(vec![0, 0x7f, 0xff]));
        for wrong in ["0", "0g", "éé"] {
            assert_eq!(Frame { length: 0, bytes: wrong.into() }.decoded(), None, "{wrong}");
        }
    }
}
