//! Which node answers for a VIP by VRRP.

use std::{net::IpAddr, num::NonZeroU8, time::Duration};

use super::{Checksum, Preempt, Track};
use crate::ownership::vrrp::{Interval, Priority};

/// What this node's part in the virtual router of a VIP is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vrrp {
    /// Names the virtual router on its link; VIPs of one interface and family that share it move together.
    pub router_id: NonZeroU8,
    /// By which adverts go and come.
    pub interface: String,
    /// Who is preferred.
    pub priority: Priority,
    /// Between adverts.
    pub interval: Interval,
    /// Whether this node takes the place of one of lower priority.
    pub preempt: Preempt,
    /// For how long it must have been able to before it does.
    pub preempt_delay: Duration,
    /// To whom adverts are sent one by one; none for multicast.
    pub peers: Vec<IpAddr>,
    /// Routers of the same name move together.
    pub group: Option<String>,
    /// What it depends on beside its own link.
    pub track: Vec<Track>,
    /// Whether the virtual router has a hardware address of its own, which moves along.
    pub virtual_mac: bool,
    /// How often neighbours are told again where the VIP is; `None` only when it came.
    pub refresh: Option<Duration>,
    /// Of adverts over IPv4.
    pub checksum: Checksum,
}
