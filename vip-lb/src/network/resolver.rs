//! Which destinations have to be resolved again after a change of the network: a pure machine.
//!
//! It holds what was last resolved, compares each event with that, and so turns the kernel's stream of
//! notifications into a short list. It also counts who needs which neighbour, so that each is kept fresh once
//! and released with its last user.
//!
//! Events only mark; the truth is always read anew. An event that arrives late can therefore not bring back a
//! state that is already past.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use super::{
    event::NetworkEvent,
    interface::Interface,
    neighbour::Neighbour,
    next_hop::{NextHop, ResolveError, Via},
};

/// A destination that has to be resolved, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The address that packets shall reach.
    pub destination: IpAddr,
    /// The address they shall come from, where policy routing may ask for it.
    pub source_hint: Option<IpAddr>,
}

/// What recording an answer came to: what the caller has to do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Recorded {
    /// Whether the next hop is another one than before.
    pub changed: bool,
    /// The neighbour to keep fresh from now on. If that fails, applying
    /// [`NetworkEvent::NeighbourGone`] for it later brings it up again.
    pub keep: Option<Neighbour>,
    /// The neighbour that no destination needs any more.
    pub release: Option<Neighbour>,
}

/// The set of wanted destinations and what is known of each.
#[derive(Debug, Default)]
pub struct Resolver {
    // Ordered, so that what is to be done is done in the same order on every run.
    destinations: BTreeMap<IpAddr, Destination>,
    stale: BTreeSet<IpAddr>,
    users: HashMap<Neighbour, HashSet<IpAddr>>,
    // Neighbours that were handed out to be kept fresh, and whose kernel entry has not gone since.
    kept: HashSet<Neighbour>,
    links: HashMap<u32, Interface>,
}

#[derive(Debug)]
struct Destination {
    source_hint: Option<IpAddr>,
    /// `None` while there is no next hop: not resolved yet, or an error.
    next_hop: Option<NextHop>,
}

impl Resolver {
    /// A resolver that wants nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a destination, to be resolved at once. Wanting it again with another hint resolves it again;
    /// with the same hint it does nothing.
    pub fn want(&mut self, wanted: Wanted) {
        let Wanted { destination, source_hint } = wanted;
        match self.destinations.get_mut(&destination) {
            Some(known) if known.source_hint == source_hint => return,
            Some(known) => known.source_hint = source_hint,
            None => {
                self.destinations.insert(destination, Destination { source_hint, next_hop: None });
            }
        }
        self.stale.insert(destination);
    }

    /// Removes a destination, and says which neighbour nobody needs any more.
    pub fn forget(&mut self, destination: IpAddr) -> Option<Neighbour> {
        self.stale.remove(&destination);
        let known = self.destinations.remove(&destination)?;
        self.unuse(neighbour_of(known.next_hop.as_ref())?, destination)
    }

    /// Takes note of a change.
    pub fn apply(&mut self, event: &NetworkEvent) {
        match event {
            NetworkEvent::NeighbourChanged { neighbour, mac } => {
                self.mark_users(*neighbour, |via| via.mac != *mac);
            }
            NetworkEvent::NeighbourGone { neighbour } => {
                self.kept.remove(neighbour);
                self.mark_users(*neighbour, |_| true);
            }
            NetworkEvent::RouteChanged { prefix } => {
                let within = self.destinations.keys().filter(|destination| prefix.contains(**destination));
                self.stale.extend(within);
            }
            NetworkEvent::LinkChanged { ifindex, interface } => {
                self.link_changed(*ifindex, interface.as_ref());
            }
            NetworkEvent::Overrun => {
                self.kept.clear();
                self.links.clear();
                self.mark_all();
            }
        }
    }

    /// The destinations to resolve now, each once, in the order of their addresses. What is taken has to be
    /// [recorded](Self::record); a destination that could not be asked about may be
    /// [marked](Self::retry) again.
    pub fn take_stale(&mut self) -> Vec<Wanted> {
        std::mem::take(&mut self.stale)
            .into_iter()
            .filter_map(|destination| {
                let source_hint = self.destinations.get(&destination)?.source_hint;
                Some(Wanted { destination, source_hint })
            })
            .collect()
    }

    /// Has a destination resolved again although no event asks for it.
    pub fn retry(&mut self, destination: IpAddr) {
        if self.destinations.contains_key(&destination) {
            self.stale.insert(destination);
        }
    }

    /// Records what a destination was resolved to. An error leaves it without a next hop until an event gives
    /// reason to ask again. An answer for a destination no longer wanted is ignored.
    pub fn record(&mut self, destination: IpAddr, answer: Result<&NextHop, &ResolveError>) -> Recorded {
        let Some(known) = self.destinations.get_mut(&destination) else {
            return Recorded::default();
        };
        let next_hop = answer.ok().cloned();
        let changed = known.next_hop != next_hop;
        let new = neighbour_of(next_hop.as_ref());
        let old = neighbour_of(known.next_hop.as_ref());
        known.next_hop = next_hop;

        let mut recorded = Recorded { changed, ..Recorded::default() };
        if let Some(neighbour) = new {
            self.users.entry(neighbour).or_default().insert(destination);
            recorded.keep = self.kept.insert(neighbour).then_some(neighbour);
        }
        if let Some(neighbour) = old
            && new != old
        {
            recorded.release = self.unuse(neighbour, destination);
        }
        recorded
    }

    /// Where packets to the destination go, as last recorded.
    #[must_use]
    pub fn next_hop(&self, destination: IpAddr) -> Option<&NextHop> {
        self.destinations.get(&destination)?.next_hop.as_ref()
    }

    fn unuse(&mut self, neighbour: Neighbour, destination: IpAddr) -> Option<Neighbour> {
        let users = self.users.get_mut(&neighbour)?;
        users.remove(&destination);
        if !users.is_empty() {
            return None;
        }
        self.users.remove(&neighbour);
        self.kept.remove(&neighbour);
        Some(neighbour)
    }

    fn mark_users(&mut self, neighbour: Neighbour, concerned: impl Fn(&Via) -> bool) {
        let Some(users) = self.users.get(&neighbour) else {
            return;
        };
        let stale = users.iter().copied().filter(|user| {
            via_of(self.destinations.get(user).and_then(|known| known.next_hop.as_ref()))
                .is_some_and(&concerned)
        });
        self.stale.extend(stale);
    }

    fn mark_all(&mut self) {
        self.stale.extend(self.destinations.keys());
    }

    fn link_changed(&mut self, ifindex: u32, now: Option<&Interface>) {
        let before = match now {
            Some(now) => self.links.insert(ifindex, now.clone()),
            None => self.links.remove(&ifindex),
        };
        let is_live = |interface: &Interface| interface.is_up && interface.has_carrier;
        match (before, now) {
            // IPv4 does not notify routes that die and come back together with their link: whom a link that
            // comes back draws to itself only the kernel knows.
            (before, Some(now)) if is_live(now) && !before.as_ref().is_some_and(is_live) => self.mark_all(),
            (Some(before), Some(now)) if is_live(now) => {
                if (before.mac, before.mtu, &before.kind, before.below)
                    != (now.mac, now.mtu, &now.kind, now.below)
                {
                    self.mark_users_of_link(ifindex);
                }
            }
            _ => self.mark_users_of_link(ifindex),
        }
    }

    fn mark_users_of_link(&mut self, ifindex: u32) {
        let users = self.destinations.iter().filter_map(|(destination, known)| {
            let via = via_of(known.next_hop.as_ref())?;
            [via.ifindex, via.device].contains(&ifindex).then_some(*destination)
        });
        self.stale.extend(users);
    }
}

fn via_of(next_hop: Option<&NextHop>) -> Option<&Via> {
    match next_hop {
        Some(NextHop::Via(via)) => Some(via),
        Some(NextHop::Local) | None => None,
    }
}

fn neighbour_of(next_hop: Option<&NextHop>) -> Option<Neighbour> {
    via_of(next_hop).map(|via| Neighbour { ifindex: via.device, address: via.neighbour })
}

#[cfg(test)]
mod tests;
