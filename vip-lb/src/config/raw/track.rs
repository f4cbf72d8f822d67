//! What the file says of what a virtual router depends on.

use std::{num::NonZeroU8, time::Duration};

use super::{
    super::{
        decode::{At, Field, Fields, List},
        issue::{Issues, Place},
        kinds::{self, check},
        model::Least,
        tree::Node,
    },
    check::COMMAND,
};

pub(super) const TRACK: List = List::any("a list of what is tracked, each a mapping");

pub(in crate::config) struct RawTrack {
    pub(in crate::config) place: Place,
    pub(in crate::config) interface: Field<String>,
    pub(in crate::config) healthy: Field<Least>,
    pub(in crate::config) command: Field<Vec<At<String>>>,
    pub(in crate::config) interval: Field<Duration>,
    pub(in crate::config) timeout: Field<Duration>,
    pub(in crate::config) rise: Field<u32>,
    pub(in crate::config) fall: Field<u32>,
    /// By how much the priority is lowered.
    pub(in crate::config) priority: Field<NonZeroU8>,
    pub(in crate::config) fault: Field<bool>,
}

pub(super) fn track(node: &Node, place: Place, issues: &mut Issues) -> Option<RawTrack> {
    const KEYS: &[&str] =
        &["interface", "healthy", "command", "interval", "timeout", "rise", "fall", "priority", "fault"];
    const EXPECTED: &str = "a mapping with one of interface, healthy and command, and with priority or fault";
    let fields = Fields::open(node, place.clone(), KEYS, EXPECTED, issues)?;
    Some(RawTrack {
        place,
        interface: fields.optional("interface", &kinds::INTERFACE, issues),
        healthy: fields.optional("healthy", &kinds::TRACKED_HEALTHY, issues),
        command: fields.list("command", &COMMAND, issues, |node, place, issues| {
            check::ARGUMENT.decode(node, place, issues)
        }),
        interval: fields.optional("interval", &check::INTERVAL, issues),
        timeout: fields.optional("timeout", &check::TIMEOUT, issues),
        rise: fields.optional("rise", &check::THRESHOLD, issues),
        fall: fields.optional("fall", &check::THRESHOLD, issues),
        priority: fields.optional("priority", &kinds::LOWERED, issues),
        fault: fields.optional("fault", &check::TRUTH, issues),
    })
}
