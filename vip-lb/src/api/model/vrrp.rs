//! The virtual router of a VIP.

use std::{collections::BTreeMap, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A virtual router on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VrrpStatus {
    /// Its name on the link.
    pub router_id: u8,
    /// By which it speaks.
    pub interface: String,
    /// With whose routers it moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What it is.
    pub state: VrrpState,
    /// What its adverts say, after all that lowered it.
    pub priority: u8,
    /// What is configured.
    pub base_priority: u8,
    /// What it depends on, in the order of the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trackers: Vec<TrackerStatus>,
    /// What keeps it from taking part, a lower-case phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hindrance: Option<String>,
    /// The node heard last, by its own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<IpAddr>,
    /// The other node that is active, as far as it was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<VrrpSpeaker>,
    /// An operator's order that another node is to have the VIP, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_over: Option<HandedOverStatus>,
    /// The hardware address that moves along with the VIP, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_mac: Option<VirtualMacStatus>,
    /// The interface on which the address is, of a VIP without services; absent while it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_on: Option<String>,
    /// For how long it may answer from now on, milliseconds; absent while it is not active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Its last changes, the newest last.
    pub changes: Vec<VrrpChange>,
    /// Adverts that have left.
    pub adverts_sent: u64,
    /// Adverts of other nodes that were heard.
    pub adverts_received: u64,
    /// Those that were not, by why.
    pub adverts_discarded: BTreeMap<String, u64>,
    /// A node that speaks for this router but for other addresses, a lower-case phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<String>,
    /// Adverts of another node that arrive at the packet path and do not reach the daemon, a lower-case phrase. They count as if they had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unheard: Option<String>,
}

/// Another node that is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VrrpSpeaker {
    /// Its own address.
    pub address: IpAddr,
    /// As it says.
    pub priority: u8,
}

/// A virtual MAC address on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualMacStatus {
    /// The address.
    pub address: String,
    /// Whether the interface takes frames to it now: while this node is active, and for a moment after.
    pub admitted: bool,
    /// The macvlan device that has the interface take them; absent while that is not known, and where there can be none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Why there is no such device, a lower-case phrase: the daemon has the interface take them then, as long as it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_device: Option<String>,
}

/// An order to hand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandedOverStatus {
    /// When it was given, milliseconds since 1970.
    pub since_ms: u64,
}

/// Something that a virtual router depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrackerStatus {
    /// What it is: `interface eth1`, `healthy 50%`, `command /usr/local/bin/check -v`.
    pub tracker: String,
    /// Whether it is not well.
    pub failing: bool,
    /// Why, a lower-case phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is added to the priority while it is not well, a negative number; absent where the node takes no part instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Whether the node takes no part while it is not well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fault: bool,
}

/// What a virtual router is on a node (RFC 9568 section 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VrrpState {
    /// It takes no part.
    Initialize,
    /// It watches the active node.
    Backup,
    /// It answers.
    Active,
}

/// It became something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VrrpChange {
    /// When, milliseconds since 1970.
    pub time_ms: u64,
    /// What it became.
    pub state: VrrpState,
    /// Why, a lower-case phrase.
    pub why: String,
}
