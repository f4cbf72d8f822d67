//! Who else is at a VIP that this node answers for: a host that has the address as well, or a node that wrongly believes it is its turn.
//!
//! On a link with switches nobody hears what others answer to each other, so the owner asks, as a host does that is about to take an address
//! (RFC 5227 section 2.1.1, RFC 4862 section 5.4.2): whoever answers such a probe has the address too. What others say by themselves is taken
//! as well. Nothing waits for it: a node takes over first, and asks then.
//!
//! A node that has just lost a VIP may still be heard for a moment, and this node may be about to lose it. So a [`Claim`] counts once this node
//! has answered for [`GRACE`] before it, and for as long after it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::claim::Claim;

#[cfg(test)]
mod tests;

/// What a hand-over may take.
const GRACE: Duration = Duration::from_secs(1);
/// Between two probes for a VIP that is this node's alone.
const INTERVAL: Duration = Duration::from_secs(10);
/// Between two probes while there is somebody else.
const CLOSE_INTERVAL: Duration = Duration::from_secs(2);
/// One that was not heard for so long is gone: it left five probes unanswered. Longer than [`DEFEND_INTERVAL`], so that each claim is answered.
const FORGOTTEN: Duration = Duration::from_secs(11);
/// Between two probes for different VIPs, so that many of them make no burst.
const SPACING: Duration = Duration::from_millis(20);
/// Between two announcements that take the address back (RFC 5227 section 2.4, DEFEND_INTERVAL).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// Others that a VIP remembers; whoever makes addresses up must not fill the memory.
const MOST: usize = 16;

/// A link on which a VIP is looked after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Kernel index of its interface on this host.
    pub index: u32,
    /// Its name.
    pub interface: String,
    /// The VLAN that it is in, where the interface is a VLAN device.
    pub vlan: Option<u16>,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// At which the VIP is announced there: the same, or a virtual router's.
    pub announced: [u8; 6],
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Who else has the address?
    Probe(IpAddr, Place),
    /// It is here.
    Announce(IpAddr, Place),
}

/// Another owner of a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Where it was heard.
    pub place: Place,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// When it was heard first.
    pub since: Instant,
    /// When it was heard last.
    pub last: Instant,
}

/// All VIPs that this node answers for, and who else does.
#[derive(Debug, Default)]
pub struct Others {
    vips: BTreeMap<IpAddr, Watched>,
    /// How often somebody was found, by VIP.
    found: BTreeMap<IpAddr, u64>,
    /// The earliest moment of the next probe.
    next_slot: Option<Instant>,
}

#[derive(Debug)]
struct Watched {
    places: BTreeSet<Place>,
    /// Since when this node answers.
    since: Instant,
    probe_at: Instant,
    defend_at: Instant,
    heard: Vec<Heard>,
}

#[derive(Debug)]
struct Heard {
    other: Other,
    /// Whether it has been counted.
    counts: bool,
}

impl Others {
    /// Sets for which VIPs this node answers now, and where.
    pub fn answered(&mut self, vips: BTreeMap<IpAddr, BTreeSet<Place>>, now: Instant) {
        self.vips.retain(|vip, _| vips.contains_key(vip));
        for (vip, places) in vips {
            let watched = self.vips.entry(vip).or_insert_with(|| Watched {
                places: BTreeSet::new(),
                since: now,
                probe_at: now + GRACE,
                defend_at: now,
                heard: Vec::new(),
            });
            watched.heard.retain(|heard| places.contains(&heard.other.place));
            watched.places = places;
        }
    }

    /// Forgets how often somebody was found at VIPs that are configured no more.
    pub fn keep(&mut self, is_configured: impl Fn(IpAddr) -> bool) {
        self.found.retain(|vip, _| is_configured(*vip));
    }

    /// Somebody else said that it has an address.
    pub fn heard(&mut self, claim: Claim, place: &Place, now: Instant) {
        let Some(watched) = self.vips.get_mut(&claim.address) else { return };
        if !watched.places.contains(place) || now < watched.since + GRACE {
            return;
        }
        let full = watched.heard.len() >= MOST;
        let is_known = |known: &&mut Heard| known.other.mac == claim.mac && known.other.place == *place;
        match watched.heard.iter_mut().find(is_known) {
            Some(known) => known.other.last = now,
            None if !full => {
                let other = Other { place: place.clone(), mac: claim.mac, since: now, last: now };
                watched.heard.push(Heard { other, counts: false });
                watched.probe_at = watched.probe_at.min(now + CLOSE_INTERVAL);
            }
            None => {}
        }
    }

    /// Goes on to the present moment: what is to be sent now.
    pub fn advance(&mut self, now: Instant) -> Vec<Ask> {
        let mut asks = Vec::new();
        for (&vip, watched) in &mut self.vips {
            watched.heard.retain(|heard| now < heard.other.last + FORGOTTEN);
            for heard in watched.heard.iter_mut().filter(|heard| !heard.counts) {
                heard.counts = now >= heard.other.since + GRACE;
                *self.found.entry(vip).or_default() += u64::from(heard.counts);
            }
            let each = || watched.places.iter().cloned();
            if watched.heard.iter().any(|heard| heard.counts) && now >= watched.defend_at {
                asks.extend(each().map(|place| Ask::Announce(vip, place)));
                watched.defend_at = now + DEFEND_INTERVAL;
            }
            if now >= watched.probe_at {
                asks.extend(each().map(|place| Ask::Probe(vip, place)));
                watched.probe_at = if watched.heard.is_empty() {
                    let slot = self.next_slot.map_or(now + INTERVAL, |slot| slot.max(now + INTERVAL));
                    self.next_slot = Some(slot + SPACING);
                    slot
                } else {
                    now + CLOSE_INTERVAL
                };
            }
        }
        asks
    }

    /// Who else has a VIP, in the order in which they were heard first.
    pub fn of(&self, vip: IpAddr) -> impl Iterator<Item = &Other> {
        let heard = self.vips.get(&vip).into_iter().flat_map(|watched| &watched.heard);
        heard.filter(|heard| heard.counts).map(|heard| &heard.other)
    }

    /// All of them by VIP.
    pub fn all(&self) -> impl Iterator<Item = (IpAddr, &Other)> {
        self.vips.keys().flat_map(|&vip| self.of(vip).map(move |other| (vip, other)))
    }

    /// How often somebody was found at a VIP since the daemon began.
    #[must_use]
    pub fn found(&self, vip: IpAddr) -> u64 {
        self.found.get(&vip).copied().unwrap_or(0)
    }
}
