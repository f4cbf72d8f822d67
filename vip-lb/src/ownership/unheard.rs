//! Adverts that the packet path saw and this process did not hear: because it was kept from its socket, or because something on this host drops them behind the
//! packet path. Pure.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use vip_lb_common::abi::{AdvertKey, AdvertStamp};

use super::vrrp::{Heard, Interval, Priority, Router};

#[cfg(test)]
mod tests;

/// Nodes whose last advert is remembered. To forget one is harmless: the machine knows when it heard of it.
const REMEMBERED: usize = 1024;

/// The last advert of a node, as the packet path saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Where.
    pub link: StampLink,
    /// For which virtual router.
    pub router: Router,
    /// When.
    pub at: Instant,
    /// What it says.
    pub heard: Heard,
    /// One of the addresses that it is about.
    pub address: IpAddr,
}

/// A link, as the packet path tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StampLink {
    /// Index of the device that packets come in by.
    pub interface: u32,
    /// VLAN of their tag; 0 without one.
    pub vlan: u16,
}

impl Stamp {
    /// An entry of ADVERTS; `at` is when that was. None if the interval says nothing.
    #[must_use]
    pub fn of(key: AdvertKey, stamp: AdvertStamp, at: Instant) -> Option<Self> {
        let source = IpAddr::from(key.source);
        let heard = Heard {
            priority: Priority::new(stamp.priority),
            interval: Interval::from_centis(stamp.interval)?,
            source,
        };
        Some(Self {
            link: StampLink { interface: key.interface, vlan: key.vlan },
            router: Router::of(key.router, source),
            at,
            heard,
            address: stamp.address.into(),
        })
    }
}

/// What one router's socket gave, and what is missing of it.
#[derive(Clone, Debug, Default)]
pub struct Unheard {
    /// When a packet of each node was read last, whatever it was.
    read: BTreeMap<IpAddr, Instant>,
    /// For nodes whose stamps were not read: the first of these.
    missing: BTreeMap<IpAddr, Instant>,
}

impl Unheard {
    /// A packet of a node was read.
    pub fn read(&mut self, source: IpAddr, now: Instant) {
        if self.read.len() >= REMEMBERED {
            self.read.clear();
        }
        self.read.insert(source, now);
    }

    /// Those of a router's stamps that were not read, in the order of time.
    pub fn missed<'s>(&self, stamps: impl IntoIterator<Item = &'s Stamp>) -> Vec<Stamp> {
        let is_missed = |stamp: &&Stamp| self.is_unread(stamp.heard.source, stamp.at);
        let mut missed: Vec<_> = stamps.into_iter().filter(is_missed).copied().collect();
        missed.sort_by_key(|stamp| stamp.at);
        missed
    }

    /// Looks at what was missed, time and again. Returns the node whose adverts go on to be seen and do not come: of those that were missing
    /// at an earlier look none was read since, and another one is missing now.
    pub fn look(&mut self, missed: &[Stamp], now: Instant) -> Option<IpAddr> {
        let lives = |stamp: &&Stamp| now < stamp.at + 2 * stamp.heard.interval.lease();
        let missed: BTreeMap<_, _> =
            missed.iter().filter(lives).map(|stamp| (stamp.heard.source, stamp.at)).collect();
        let mut missing = std::mem::take(&mut self.missing);
        missing.retain(|source, first| missed.contains_key(source) && self.is_unread(*source, *first));
        let unheard = missed.iter().find(|(source, at)| missing.get(source).is_some_and(|first| first < *at));
        let unheard = unheard.map(|(source, _)| *source);
        for (source, at) in missed {
            missing.entry(source).or_insert(at);
        }
        self.missing = missing;
        unheard
    }

    fn is_unread(&self, source: IpAddr, at: Instant) -> bool {
        self.read.get(&source).is_none_or(|&read| read < at)
    }
}
