//! The drain of a node.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::NodeState;

/// What is wanted of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeAdmin {
    /// By the configuration.
    pub admin: NodeState,
    /// Since when an operator drains it, Unix seconds; absent if none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered_since: Option<u64>,
}

impl NodeAdmin {
    /// Whether it is to give up its VIPs.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.admin == NodeState::Drain || self.ordered_since.is_some()
    }
}

/// What draining or undraining this node did, or how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeReport {
    /// Its name.
    pub node: String,
    /// False if it was so already.
    pub changed: bool,
    /// What is wanted of it.
    #[serde(flatten)]
    pub admin: NodeAdmin,
    /// Whether it is drained and no packet for a VIP has come for one idle timeout, each service by its own.
    pub quiet: bool,
    /// Seconds until that can be so, unless a packet comes; absent while the node is not drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// The VIPs for which one of several nodes is active, while this one is drained: which other node has each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vips: Vec<VipElsewhere>,
    /// Translated connections (mode `nat`) of VIPs that would leave this node, or have: they end with that. A count of those whose client has
    /// not said that it ends them.
    #[serde(default)]
    pub translated: u64,
    /// What still comes, in the order of the configuration.
    pub services: Vec<ServiceQuiet>,
    /// What else an operator should know, such as that no other node is configured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl NodeReport {
    /// Whether another node is active for each VIP that nodes agree on.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.vips.iter().all(|vip| vip.active.is_some())
    }
}

/// A VIP of a node that is drained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VipElsewhere {
    /// The VIP.
    pub vip: IpAddr,
    /// The other node that is active for it, by its own address, as far as it is heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<IpAddr>,
}

/// How quiet a service is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceQuiet {
    /// Its name.
    pub service: String,
    /// Its VIP.
    pub vip: IpAddr,
    /// Packets of clients per second at the moment.
    pub packets_per_second: f64,
    /// Seconds since the last of them, as far as this daemon knows, and not longer than the node is drained.
    pub quiet_for: u64,
    /// Seconds after which a silent connection counts as ended.
    pub idle_timeout: u64,
}

impl ServiceQuiet {
    /// Seconds until it has been quiet for long enough, unless a packet comes.
    #[must_use]
    pub fn seconds_left(&self) -> u64 {
        self.idle_timeout.saturating_sub(self.quiet_for)
    }
}
