//! Handing VIPs over to another node, and taking them back.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Body of `POST /v1/handover`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandoverRequest {
    /// One of the VIPs; those of the same virtual router and of its group move along.
    pub vip: IpAddr,
    /// The node that is to take over: the name of a peer that this node speaks with, or its own address; or the address of one of the router's
    /// `peers`. Absent for the one of the highest priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Although translated connections end, or the other node does otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub yes: bool,
}

/// Body of `POST /v1/handover/back`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TakeBackRequest {
    /// One of the VIPs that were handed over.
    pub vip: IpAddr,
}

/// What an order to hand over, or to take back, did. How it goes on is in the status of the VIPs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandoverReport {
    /// All that move.
    pub vips: Vec<IpAddr>,
    /// False if it was so already, or if nothing was done because connections may be lost.
    pub changed: bool,
    /// Whether they are handed over now, or are about to be.
    pub handed_over: bool,
    /// Translated connections (mode `nat`) of these VIPs, which live on this node and end when the VIPs leave it: a count of those whose
    /// client has not said that it ends them. Of an order to take back, 0: such connections are the other node's.
    pub translated: u64,
    /// The own addresses of the node that was chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heirs: Vec<IpAddr>,
    /// What nodes that would take over do otherwise with these VIPs, one lower-case phrase each: connections may reach other backends there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// What else an operator should know, such as that the order will not outlive the daemon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
