//! The question "what happens to this packet, and why", and its answer.

use std::{fmt, net::IpAddr, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PacketKind, Verdict};
use crate::config::model::{Affinity, Protocol};

/// A packet of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Address of the client.
    pub source: IpAddr,
    /// Port of the client. Absent: 0 is used, which is exact for a service of source affinity only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Address dialled, usually a VIP.
    pub destination: IpAddr,
    /// Port dialled. Absent where the packet has none: of a fragment, a ping, and the question whose an address is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// TCP or UDP, of a packet of a flow or about one. Absent: TCP.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    /// Which packet. Absent: the first of its flow.
    #[serde(default)]
    pub packet: PacketKind,
    /// What all fragments of a packet have in common, of a fragment. Absent: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fragment_id: Option<u32>,
    /// Kernel name of the interface that it comes in by. Absent: the first one that the program is attached to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

fn tcp() -> Protocol {
    Protocol::Tcp
}

/// The fate of a packet and the way to it. What the packet did not get as far as is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The question.
    pub request: ExplainRequest,
    /// The stages it passed, in order.
    pub steps: Vec<Step>,
    /// How it ends.
    pub verdict: Verdict,
    /// The service it belongs to.
    pub service: Option<ExplainedService>,
    /// Hash of the flow, or of the source address alone with source affinity.
    pub hash: Option<FlowHash>,
    /// The slot of the ring that the hash falls into.
    pub slot: Option<Slot>,
    /// The backend it goes to.
    pub backend: Option<ChosenBackend>,
    /// What would be changed in the packet, one line each.
    pub rewrites: Vec<String>,
    /// Kernel name of the interface it would leave by.
    pub egress: Option<String>,
}

/// What one stage made of the packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Name of the stage: `parse`, `service`, `steer`, `forward`, ...
    pub stage: String,
    /// What it found or did: a lower-case phrase.
    pub text: String,
}

/// The service a packet belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedService {
    /// Its name.
    pub name: String,
    /// What keeps to one backend, and so what the hash is taken over.
    pub affinity: Affinity,
}

/// A 32-bit flow hash, written `0x` and eight hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct FlowHash(pub u32);

/// A text that is no [`FlowHash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 0x and up to eight hexadecimal digits")]
pub struct NotAFlowHash;

impl fmt::Display for FlowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl FromStr for FlowHash {
    type Err = NotAFlowHash;

    fn from_str(text: &str) -> Result<Self, NotAFlowHash> {
        let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+')).ok_or(NotAFlowHash)?;
        u32::from_str_radix(digits, 16).map(Self).map_err(|_| NotAFlowHash)
    }
}

impl TryFrom<String> for FlowHash {
    type Error = NotAFlowHash;

    fn try_from(text: String) -> Result<Self, NotAFlowHash> {
        text.parse()
    }
}

impl From<FlowHash> for String {
    fn from(hash: FlowHash) -> Self {
        hash.to_string()
    }
}

/// A slot of a ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Slot {
    /// Its position in the ring, from 0.
    pub index: u32,
    /// How it decides.
    #[serde(flatten)]
    pub state: SlotState,
}

/// Whether a slot knows its backend by itself or remembers another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum SlotState {
    /// Every flow is on one backend.
    Closed {
        /// Name of that backend.
        current: String,
    },
    /// Its backend changed and flows of the earlier one may live.
    Open {
        /// Name of the backend of new flows.
        current: String,
        /// Name of the backend of the flows that are not recorded.
        previous: String,
        /// Counts the openings of the slot; entries of another epoch are ignored.
        epoch: u32,
    },
}

/// The backend a packet goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChosenBackend {
    /// Its name in the service.
    pub name: String,
    /// Its own address.
    pub address: IpAddr,
    /// Why this one: a lower-case phrase such as `recorded flow` or `unknown flow of an open slot`.
    pub reason: String,
}
