//! Orders that change something, and what they changed.

use std::{fmt, net::IpAddr, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
pub use crate::state::OrderKind;

/// Names backends: `SERVICE/BACKEND`, or `BACKEND` for the backends of that name in all services. The address of a server does as well as a
/// name; without a service it stands for the whole host: all that is at this address, and will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct BackendSelector {
    service: Option<String>,
    backend: String,
}

impl BackendSelector {
    /// Whether this backend of this service is meant, by its name or its address. What can be read as an address is one.
    pub fn matches(&self, service: &str, backend: &str, address: IpAddr) -> bool {
        let is_meant = match self.backend.parse::<IpAddr>() {
            Ok(meant) => meant == address,
            Err(_) => self.backend == backend,
        };
        is_meant && self.service.as_deref().is_none_or(|name| name == service)
    }

    /// The address of the whole host that is meant, if it is one.
    pub fn host(&self) -> Option<IpAddr> {
        if self.service.is_some() { None } else { self.backend.parse().ok() }
    }
}

/// A selector in which the service or the backend is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected SERVICE/BACKEND or BACKEND, neither empty")]
pub struct EmptySelector;

impl FromStr for BackendSelector {
    type Err = EmptySelector;

    fn from_str(text: &str) -> Result<Self, EmptySelector> {
        let (service, backend) = match text.split_once('/') {
            Some((service, backend)) => (Some(service), backend),
            None => (None, text),
        };
        if backend.is_empty() || service.is_some_and(str::is_empty) {
            return Err(EmptySelector);
        }
        Ok(Self { service: service.map(str::to_owned), backend: backend.to_owned() })
    }
}

impl TryFrom<String> for BackendSelector {
    type Error = EmptySelector;

    fn try_from(text: String) -> Result<Self, EmptySelector> {
        text.parse()
    }
}

impl From<BackendSelector> for String {
    fn from(selector: BackendSelector) -> Self {
        selector.to_string()
    }
}

impl fmt::Display for BackendSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Some(service) => write!(f, "{service}/{}", self.backend),
            None => f.write_str(&self.backend),
        }
    }
}

/// Body of `POST /v1/drain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Which backends.
    pub backend: BackendSelector,
    /// Cuts them instead: the connections that they have are lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// Body of `POST /v1/undrain`, and the query of `GET /v1/remaining`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackendRequest {
    /// Which backends.
    pub backend: BackendSelector,
}

/// What draining or undraining did, or how far it is: one entry per backend that the selector matched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DrainReport {
    /// The host, if the selector means all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostChange>,
    /// Empty only of a host at whose address no backend is: a selector that matches nothing is an error.
    pub backends: Vec<BackendChange>,
    /// What else an operator should know, such as that the order will not outlive the daemon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl DrainReport {
    /// Whether nothing is left of any of them.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.backends.iter().all(|backend| backend.remaining.drained)
    }
}

/// What an order meant for a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostChange {
    /// The address that its backends have.
    pub address: IpAddr,
    /// False if it was so already.
    pub changed: bool,
    /// The operator's order that holds for everything at this address, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OperatorOrder>,
}

/// What an order meant for one backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackendChange {
    /// Name of its service.
    pub service: String,
    /// Its name in that service.
    pub backend: String,
    /// False if it was so already.
    pub changed: bool,
    /// How it is now, such as `draining, 41 open slots` or `in ring`: a lower-case phrase.
    pub now: String,
    /// The operator's order that holds for it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OperatorOrder>,
    /// What it still has.
    pub remaining: Remaining,
}

/// Who took over from whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeReport {
    /// Process id of the daemon that runs now.
    pub pid: u32,
    /// That of the one that answers, and ends.
    pub former_pid: u32,
    /// Release of the one that runs now.
    pub version: String,
}

/// An operator's order, which holds over what the configuration says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperatorOrder {
    /// What was ordered.
    pub order: OrderKind,
    /// Since when, Unix seconds.
    pub since: u64,
    /// Whether it is about the whole host of the backend.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host: bool,
    /// The node where it was given, if that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What is known of the connections of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Remaining {
    /// Slots that send new connections to it; as long as there are any, it cannot be drained.
    pub current_slots: u32,
    /// Open slots that send it what is not recorded.
    pub open_slots: u32,
    /// Connections begun since its slots opened, which are recorded: a count.
    pub recorded: u64,
    /// Translated connections (mode nat), those included that have ended a moment ago: a count.
    pub translated: u64,
    /// Older connections, which are not recorded: those that showed a sign of life since the slots opened and not longer ago than one idle
    /// timeout. An estimate: a silent one is not in it, one that has ended is for that long, and in a flood some are not noted.
    pub settled_estimate: u64,
    /// Whether no slot and no entry names it, nor may do.
    pub drained: bool,
    /// Seconds until it can be drained at the earliest, unless a sign of life comes; absent if that is not for time to decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u32>,
}

/// What bringing a configuration in force did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReloadReport {
    /// What was done.
    #[serde(flatten)]
    pub plan: Plan,
    /// The number under which the configuration is kept; absent if it could not be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}
