//! The other nodes of the group.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How this node and its peers get on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeeringStatus {
    /// File with the secret that all nodes of the group have.
    pub secret_file: PathBuf,
    /// The TCP port of all of them.
    pub port: u16,
    /// What they have in common, as `node.peering.share` says.
    pub share: Vec<String>,
    /// Why this node speaks with nobody, a lower-case phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// In the order of `node.peers`.
    pub peers: Vec<PeerStatus>,
    /// What was told and heard of recorded flows; absent where they are not shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows: Option<SharedFlows>,
    /// Connections of others that came to nothing since the daemon began, by why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
}

/// Recorded flows between nodes, since the daemon began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SharedFlows {
    /// Records that peers were told, repetitions included.
    pub told: u64,
    /// Records of peers that were taken in, likewise.
    pub heard: u64,
    /// Those that could not be: there was no room, or the backend is not there. They are asked for again.
    pub missed: u64,
    /// Whether this node waits with its part until it has learnt what peers know.
    pub learning: bool,
}

impl PeeringStatus {
    /// Whether all peers are there and do the same as this node.
    #[must_use]
    pub fn all_agree(&self) -> bool {
        self.problem.is_none() && self.peers.iter().all(|peer| peer.agrees == Some(true))
    }
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerStatus {
    /// Its address in `node.peers`.
    pub address: IpAddr,
    /// Its name, once it has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether both nodes hear each other.
    pub connected: bool,
    /// Since when they do, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Why it does not hear this node, a lower-case phrase; absent if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_told: Option<String>,
    /// Why this node does not hear it, a lower-case phrase; absent if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_heard: Option<String>,
    /// Its release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When its daemon started, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// Whether it does the same as this node; absent while nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agrees: Option<bool>,
    /// What it does otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mismatches: Vec<PeerMismatch>,
    /// Its part in virtual routers, as it says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routers: Vec<PeerRouter>,
}

/// The part of another node in a virtual router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerRouter {
    /// The router's addresses.
    pub vips: Vec<IpAddr>,
    /// From which its adverts come; absent without a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Whether it is active there.
    pub active: bool,
    /// What keeps it from taking over, a lower-case phrase; absent if it would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hindrance: Option<String>,
}

/// What two nodes do not have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerMismatch {
    /// A lower-case phrase, in which the other node is `there`.
    pub what: String,
    /// Since when this node knows, milliseconds since 1970.
    pub since_ms: u64,
}
