//! The checks: each is a function from facts to findings.

mod backend;
mod host;
mod interface;
mod path;
mod vip;

pub use backend::backend;

use super::{Facts, Finding};

/// Everything that is to be said of a node.
#[must_use]
pub fn node(facts: &Facts) -> Vec<Finding> {
    let mut findings = host::all(&facts.host);
    for interface in &facts.interfaces {
        findings.extend(interface::all(interface, facts.host.cpus));
    }
    if let Some(config) = &facts.config {
        findings.extend(vip::all(config, facts));
        findings.extend(path::all(config, facts));
    }
    findings
}
