//! What the file says of VRRP.

use std::{net::IpAddr, num::NonZeroU8, time::Duration};

use super::super::{
    decode::{At, Field, Fields},
    issue::{Issues, Place},
    kinds::{self, check},
    model::{Checksum, Preempt},
    tree::Node,
};
use super::{
    PEERS,
    track::{RawTrack, TRACK, track},
};
use crate::ownership::vrrp::{Interval, Priority};

pub(in crate::config) struct RawVrrp {
    pub(in crate::config) router_id: Field<NonZeroU8>,
    pub(in crate::config) interface: Field<String>,
    pub(in crate::config) priority: Field<Priority>,
    pub(in crate::config) interval: Field<Interval>,
    pub(in crate::config) preempt: Field<Preempt>,
    pub(in crate::config) preempt_delay: Field<Duration>,
    pub(in crate::config) peers: Field<Vec<At<IpAddr>>>,
    pub(in crate::config) group: Field<String>,
    pub(in crate::config) track: Field<Vec<RawTrack>>,
    pub(in crate::config) virtual_mac: Field<bool>,
    pub(in crate::config) refresh: Field<Duration>,
    pub(in crate::config) checksum: Field<Checksum>,
}

pub(super) fn vrrp(node: &Node, place: Place, issues: &mut Issues) -> Option<RawVrrp> {
    const KEYS: &[&str] = &[
        "router_id",
        "interface",
        "priority",
        "interval",
        "preempt",
        "preempt_delay",
        "peers",
        "group",
        "track",
        "virtual_mac",
        "refresh",
        "checksum",
    ];
    let fields = Fields::open(node, place, KEYS, "a mapping with at least router_id", issues)?;
    Some(RawVrrp {
        router_id: fields.required("router_id", &kinds::ROUTER_ID, issues),
        interface: fields.optional("interface", &kinds::INTERFACE, issues),
        priority: fields.optional("priority", &kinds::PRIORITY, issues),
        interval: fields.optional("interval", &kinds::ADVERT_INTERVAL, issues),
        preempt: fields.optional("preempt", &kinds::PREEMPT, issues),
        preempt_delay: fields.optional("preempt_delay", &kinds::PREEMPT_DELAY, issues),
        peers: fields
            .list("peers", &PEERS, issues, |node, place, issues| kinds::ADDRESS.decode(node, place, issues)),
        group: fields.optional("group", &kinds::NAME, issues),
        track: fields.list("track", &TRACK, issues, track),
        virtual_mac: fields.optional("virtual_mac", &check::TRUTH, issues),
        refresh: fields.optional("refresh", &kinds::REFRESH, issues),
        checksum: fields.optional("checksum", &kinds::CHECKSUM, issues),
    })
}
