//! What the file says of the route of a VIP.

use std::time::Duration;

use super::super::{
    decode::{Field, Fields},
    issue::{Issues, Place},
    kinds,
    tree::Node,
};

pub(in crate::config) struct RawRoute {
    pub(in crate::config) device: Field<String>,
    pub(in crate::config) table: Field<u32>,
    pub(in crate::config) metric: Field<u32>,
    pub(in crate::config) linger: Field<Duration>,
}

pub(super) fn route(node: &Node, place: Place, issues: &mut Issues) -> Option<RawRoute> {
    const KEYS: &[&str] = &["device", "table", "metric", "linger"];
    let fields = Fields::open(node, place, KEYS, "a mapping", issues)?;
    Some(RawRoute {
        device: fields.optional("device", &kinds::ROUTE_DEVICE, issues),
        table: fields.optional("table", &kinds::ROUTE_TABLE, issues),
        metric: fields.optional("metric", &kinds::ROUTE_METRIC, issues),
        linger: fields.optional("linger", &kinds::LINGER, issues),
    })
}
