//! What a Prometheus server scrapes.
//!
//! [`ALL`] lists every metric, [`render`] fills them from what the API answers anyway. The labels are names of the configuration and
//! closed lists, so their number is bounded by the configuration. docs/metrics.md is compared with the list.

pub mod definitions;
mod facts;
mod text;

pub use definitions::{ALL, Kind, Metric};
pub use facts::{Facts, Program, Reloads, render};
pub use text::CONTENT_TYPE;

#[cfg(test)]
mod tests;
