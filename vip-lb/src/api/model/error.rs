//! How the API says no.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{error}")]
pub struct ApiError {
    /// What was attempted and why it failed: a lower-case phrase without full stop.
    pub error: String,
    /// What a program can decide by.
    pub kind: ErrorKind,
    /// One line per finding; with [`ErrorKind::InvalidConfig`] one per mistake in the file. Often empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl ApiError {
    /// An error without details.
    pub fn new(kind: ErrorKind, error: impl Into<String>) -> Self {
        Self { error: error.into(), kind, details: Vec::new() }
    }

    /// A configuration that is not valid; `details` holds one line per mistake.
    pub fn invalid_config(error: impl Into<String>, details: Vec<String>) -> Self {
        Self { error: error.into(), kind: ErrorKind::InvalidConfig, details }
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request makes no sense: unknown route, method or field, malformed or oversized body.
    BadRequest,
    /// What it names does not exist.
    NotFound,
    /// It makes sense, but not in the present state.
    Conflict,
    /// The configuration file has mistakes; nothing was changed.
    InvalidConfig,
    /// Over TCP, without the right token.
    Unauthorized,
    /// The daemon is starting or stopping.
    Unavailable,
    /// The daemon failed to do it.
    Internal,
}
