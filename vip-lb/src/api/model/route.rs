//! The route of a VIP.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The route that leads packets for a VIP to this node, by routing daemons on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteStatus {
    /// Whether it is in the kernel.
    pub published: bool,
    /// The protocol number that it has there.
    pub protocol: u8,
    /// The routing table.
    pub table: u32,
    /// Its metric.
    pub metric: u32,
    /// The device that it leads to.
    pub device: String,
    /// What the device is; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_kind: Option<RouteDeviceKind>,
    /// What keeps it away that should not, a lower-case phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hindrance: Option<String>,
    /// How often somebody else removed or changed it, and it was put back.
    pub restored: u64,
    /// When it came and went, the newest last.
    pub changes: Vec<RouteChange>,
}

/// What routes of VIPs lead to: it swallows what is sent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RouteDeviceKind {
    /// A dummy.
    Dummy,
    /// One end of a veth pair, where the kernel has no dummies.
    Veth,
}

/// The route of a VIP came or went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteChange {
    /// When, milliseconds since 1970.
    pub time_ms: u64,
    /// Whether it is there since.
    pub published: bool,
    /// Why, a lower-case phrase.
    pub why: String,
}
