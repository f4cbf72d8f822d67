//! What there is to tell of a virtual router.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Instant, SystemTime},
};

use super::vrrp::{Malformed, Priority, Router, State};

/// A virtual router on this node, as it is now.
#[derive(Clone, Debug)]
pub struct RouterReport {
    /// Its name on the link.
    pub router: Router,
    /// Its addresses.
    pub vips: Vec<IpAddr>,
    /// From which address its adverts come; absent without a link.
    pub source: Option<IpAddr>,
    /// What it is.
    pub state: State,
    /// Its last changes, the newest last; at least the one that made it what it is.
    pub changes: Vec<Change>,
    /// What keeps it from taking part, or may because the kernel does not say, a lower-case phrase.
    pub hindrance: Option<String>,
    /// What its adverts say, after all that lowered it.
    pub priority: u8,
    /// The node heard last, by its own address.
    pub heard: Option<IpAddr>,
    /// The other node that is active, as far as was heard.
    pub speaker: Option<Speaker>,
    /// What an operator ordered, and what became of it.
    pub handed_over: Option<HandedOver>,
    /// Whether those of its addresses that are put on the interface are there.
    pub holds: bool,
    /// How its interface takes frames to its virtual MAC address; none where it has none, and before that is known.
    pub admitted: Option<Admitted>,
    /// Until when it may answer, while it is active.
    pub lease: Option<Instant>,
    /// Adverts that have left.
    pub sent: u64,
    /// Adverts of other nodes.
    pub received: u64,
    /// Adverts that were not heard, by why.
    pub discarded: BTreeMap<&'static str, u64>,
    /// A node that speaks for this router but for other addresses, a lower-case phrase.
    pub conflict: Option<String>,
    /// Adverts that the packet path sees and that do not come here, a lower-case phrase.
    pub unheard: Option<String>,
}

/// How an interface takes frames to a virtual MAC address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The macvlan that lets them in.
    pub device: Option<String>,
    /// Why there is no such device, a lower-case phrase; the daemon lets them in then.
    pub why_none: Option<String>,
    /// Whether they are let in now.
    pub is_open: bool,
}

/// Another node that is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// Its own address.
    pub address: IpAddr,
    /// As it said.
    pub priority: Priority,
    /// Until when it may be taken for active, if it says no more.
    pub until: Instant,
}

/// An order to hand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedOver {
    /// By which it is known: when it was given, milliseconds since 1970.
    pub since_ms: u64,
    /// Whether this node has been active since, so that the order is carried out no more.
    pub is_over: bool,
}

/// It became something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: SystemTime,
    /// What it became.
    pub state: State,
    /// Why, a lower-case phrase.
    pub why: String,
}

/// Why adverts are not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// It is none.
    Malformed(Malformed),
    /// Peers are listed, and the sender is none of them.
    Stranger,
    /// It is for this router's identifier, but none of its addresses.
    OtherAddresses,
}

impl Discarded {
    /// In a word, as counters name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed(Malformed::Ttl(_)) => "ttl",
            Self::Malformed(Malformed::Short { .. }) => "short",
            Self::Malformed(Malformed::Version(_)) => "version",
            Self::Malformed(Malformed::Type(_)) => "type",
            Self::Malformed(Malformed::Checksum(_)) => "checksum",
            Self::Malformed(Malformed::Interval) => "interval",
            Self::Malformed(Malformed::NoAddress) => "no_address",
            Self::Stranger => "stranger",
            Self::OtherAddresses => "other_addresses",
        }
    }
}
