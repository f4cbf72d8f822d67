//! Routers that move together: both families of a VIP, or the two sides of a gateway.
//!
//! * All are active, or none is. One that gives way or fails takes the others along.
//! * A backup takes over when *every* router of the group has reason to. Where one family's adverts still come, the active node
//!   lives, and a node that took over for the other family alone would be driven out again by the first, over and over.
//! * The group is able while all its routers are.

use std::time::Instant;

use super::{Action, Event, Heard, Machine, Priority, Profile, State};

#[cfg(test)]
mod tests;

/// What a router of the group is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its place among the group's routers.
    pub router: usize,
    /// What it is to do.
    pub action: Action,
}

/// Something that happened to the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// Whether this router is able to forward.
    Ready {
        /// Which one.
        router: usize,
        /// Whether it is.
        ready: bool,
    },
    /// All are able, and the packet path has a lease of each until then: [`Event::Resume`].
    Resume(Instant),
    /// An advert came for this router.
    Heard {
        /// Which one.
        router: usize,
        /// What it says.
        heard: Heard,
    },
    /// An advert of this router has left.
    Sent {
        /// Which one.
        router: usize,
    },
    /// The packet path saw an advert for this router: [`Event::Seen`].
    Seen {
        /// Which one.
        router: usize,
        /// When.
        at: Instant,
        /// What it says.
        heard: Heard,
    },
    /// The time that [`Group::deadline`] gave has come.
    Timer,
    /// By how much tracking lowers the priority of all of them now; 0 takes back what it did before.
    Lowered(u8),
    /// Something else is configured of each router, as [`Event::Profile`]; what lowers priorities is told anew.
    Profiles(Vec<Profile>),
    /// As [`Event::HandOver`].
    HandOver,
    /// As [`Event::TakeBack`].
    TakeBack,
    /// As [`Event::Shutdown`].
    Shutdown,
}

/// Routers of this node that move together; one alone is a group of one.
#[derive(Clone, Debug)]
pub struct Group {
    routers: Vec<Router>,
}

#[derive(Clone, Debug)]
struct Router {
    machine: Machine,
    profile: Profile,
    ready: bool,
}

impl Group {
    /// Takes no part yet.
    #[must_use]
    pub fn new(profiles: impl IntoIterator<Item = Profile>) -> Self {
        let router = |profile| Router { machine: Machine::new(profile), profile, ready: false };
        Self { routers: profiles.into_iter().map(router).collect() }
    }

    /// What all its routers are.
    #[must_use]
    pub fn state(&self) -> State {
        self.routers.first().map_or(State::Initialize, |router| router.machine.state())
    }

    /// Of this router, as its adverts say.
    #[must_use]
    pub fn priority(&self, router: usize) -> Option<Priority> {
        Some(self.routers.get(router)?.machine.priority())
    }

    /// Whether it leaves the place to another node.
    #[must_use]
    pub fn has_handed_over(&self) -> bool {
        self.routers.iter().any(|router| router.machine.has_handed_over())
    }

    /// When [`GroupEvent::Timer`] is due; `None` while it takes no part.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let deadlines = self.routers.iter().filter_map(|router| router.machine.deadline());
        if self.state() == State::Active { deadlines.min() } else { deadlines.max() }
    }

    /// What to do about something that happened.
    pub fn on(&mut self, event: GroupEvent, now: Instant) -> Vec<Order> {
        let mut orders = Vec::new();
        match event {
            GroupEvent::Ready { router, ready } => {
                self.routers[router].ready = ready;
                let ready = self.routers.iter().all(|router| router.ready);
                self.all(Event::Ready(ready), now, &mut orders);
            }
            GroupEvent::Resume(lease) => {
                self.routers.iter_mut().for_each(|router| router.ready = true);
                self.all(Event::Resume(lease), now, &mut orders);
            }
            GroupEvent::Heard { router, heard } => self.one(router, Event::Heard(heard), now, &mut orders),
            GroupEvent::Sent { router } => self.one(router, Event::Sent, now, &mut orders),
            GroupEvent::Seen { router, at, heard } => {
                self.one(router, Event::Seen { at, heard }, now, &mut orders);
            }
            GroupEvent::Timer => self.timer(now, &mut orders),
            GroupEvent::Lowered(by) => {
                for router in 0..self.routers.len() {
                    let priority = self.routers[router].profile.priority.lowered(by);
                    self.one(router, Event::Priority(priority), now, &mut orders);
                }
            }
            GroupEvent::Profiles(profiles) => {
                for (router, profile) in profiles.into_iter().enumerate() {
                    self.routers[router].profile = profile;
                    self.one(router, Event::Profile(profile), now, &mut orders);
                }
            }
            GroupEvent::HandOver => self.all(Event::HandOver, now, &mut orders),
            GroupEvent::TakeBack => self.all(Event::TakeBack, now, &mut orders),
            GroupEvent::Shutdown => self.all(Event::Shutdown, now, &mut orders),
        }
        orders
    }

    fn timer(&mut self, now: Instant, orders: &mut Vec<Order>) {
        let is_due = |router: &Router| router.machine.deadline().is_some_and(|due| now >= due);
        if self.state() == State::Backup && !self.routers.iter().all(is_due) {
            return;
        }
        for router in 0..self.routers.len() {
            self.one(router, Event::Timer, now, orders);
        }
    }

    fn all(&mut self, event: Event, now: Instant, orders: &mut Vec<Order>) {
        for router in 0..self.routers.len() {
            self.give(router, event, now, orders);
        }
    }

    /// One router's event, and the others follow where it goes.
    fn one(&mut self, router: usize, event: Event, now: Instant, orders: &mut Vec<Order>) {
        let before = self.routers[router].machine.state();
        self.give(router, event, now, orders);
        let after = self.routers[router].machine.state();
        if before != after {
            for other in (0..self.routers.len()).filter(|&other| other != router) {
                self.give(other, Event::Follow(after == State::Active), now, orders);
            }
        }
    }

    fn give(&mut self, router: usize, event: Event, now: Instant, orders: &mut Vec<Order>) {
        let actions = self.routers[router].machine.on(event, now);
        orders.extend(actions.into_iter().map(|action| Order { router, action }));
    }
}
