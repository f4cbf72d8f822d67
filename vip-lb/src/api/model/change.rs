//! Orders that change something, and what they changed.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names backends: `SERVICE/BACKEND`, or `BACKEND` for the backends of that name in all services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct BackendSelector {
    service: Option<String>,
    backend: String,
}

impl BackendSelector {
    /// Whether this backend of this service is meant.
    pub fn matches(&self, service: &str, backend: &str) -> bool {
        self.backend == backend && self.service.as_deref().is_none_or(|name| name == service)
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

/// Body of `POST /v1/drain` and `POST /v1/undrain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Which backends.
    pub backend: BackendSelector,
}

/// What draining or undraining did, one entry per backend that the selector matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrainReport {
    /// Never empty: a selector that matches nothing is an error.
    pub backends: Vec<BackendChange>,
}

/// What an order meant for one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackendChange {
    /// Name of its service.
    pub service: String,
    /// Its name in that service.
    pub backend: String,
    /// False if it was so already.
    pub changed: bool,
    /// How it is now, such as `draining, 41 open slots` or `in ring`: a lower-case phrase.
    pub now: String,
}

/// What reading the configuration file again did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReloadReport {
    /// False if the file means what is already in force.
    pub changed: bool,
    /// What was done, one line each.
    pub changes: Vec<String>,
    /// What the file says that is valid but doubtful, one line each.
    pub warnings: Vec<String>,
}
