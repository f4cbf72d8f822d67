//! In which order, and at what pace, the program comes onto the members of a bond: a pure machine.
//!
//! Many drivers reset their card when a program comes or goes, and its link is gone for as long as that takes. With all members at once
//! the bond would lose its link; so they come one after the other. First those that carry nothing, then those that stand by, last those that
//! the bond sends by; and after each the machine waits until the link has been back for a while, with a limit. A member that the bond
//! depends on is left alone while another one may still come back.
//!
//! Links that are taken over, and generic mode, reset nothing and need no pace.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How long a member's link must have been up without a break before the next member's turn: the bond's own watch (`miimon`, usually 100 ms) and a
/// driver that resets its card a moment later are both seen within.
pub const STEADY: Duration = Duration::from_secs(1);

/// Longest wait for a link to come back. With slow LACP a member may take more than 30 s until it is in the aggregator again
/// (IEEE 802.1AX, section 6.4: three periods of 30 s at worst).
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A member at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its kernel index.
    pub index: u32,
    /// Whether the bond sends by it.
    pub is_active: bool,
    /// Whether the bond could send by it: its link is up, and in modes that use all members it is one of those in use.
    pub carries: bool,
    /// Whether the program is there.
    pub is_attached: bool,
    /// Whether the program can come without a reset of the card.
    pub keeps_link: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Attach to a member, then [report](Pacer::attached) it or leave it out, and ask again.
    Attach {
        /// Its index.
        member: u32,
        /// No other member carries, so that the bond may lose its link.
        is_last_link: bool,
    },
    /// Wait for a change of the members, but not longer than until `until`.
    Wait {
        /// When to ask again.
        until: Instant,
    },
    /// The program is on every member.
    Done,
}

/// The pace of one bond.
#[derive(Clone, Debug, Default)]
pub struct Pacer {
    /// The member that was attached last and is not back yet.
    pending: Option<Pending>,
    /// Since when only one member carries that is not attached yet.
    alone_since: Option<Instant>,
    /// Members that have carried.
    seen: BTreeSet<u32>,
    /// Members that did not come back in time.
    given_up: BTreeSet<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    member: u32,
    deadline: Instant,
    steady_since: Option<Instant>,
}

impl Pacer {
    /// Decides from the members as they are now.
    pub fn next(&mut self, members: &[Member], now: Instant) -> Step {
        self.seen.extend(members.iter().filter(|member| member.carries).map(|member| member.index));
        self.given_up.retain(|index| members.iter().any(|member| member.index == *index && !member.carries));
        let mut waiting: Vec<&Member> = members.iter().filter(|member| !member.is_attached).collect();
        waiting.sort_by_key(|member| (!member.keeps_link, member.carries, member.is_active, member.index));
        let Some(first) = waiting.first() else {
            *self = Self { seen: std::mem::take(&mut self.seen), ..Self::default() };
            return Step::Done;
        };
        let attach = |is_last_link| Step::Attach { member: first.index, is_last_link };
        if first.keeps_link {
            return attach(false);
        }
        if let Some(until) = self.wait_for_pending(members, now) {
            return Step::Wait { until };
        }
        let others = members.iter().filter(|member| member.index != first.index);
        if !first.carries || others.clone().any(|member| member.carries) {
            self.alone_since = None;
            return attach(false);
        }
        // Somebody who was there and may come back is worth waiting for.
        let may_return =
            |member: &Member| self.seen.contains(&member.index) && !self.given_up.contains(&member.index);
        if others.clone().any(may_return) {
            let until = *self.alone_since.get_or_insert(now) + PATIENCE;
            if now < until {
                return Step::Wait { until };
            }
        }
        attach(true)
    }

    /// Takes note that a member was attached in a way that may have reset its card.
    pub fn attached(&mut self, member: &Member, now: Instant) {
        if member.carries {
            self.pending =
                Some(Pending { member: member.index, deadline: now + PATIENCE, steady_since: None });
        }
    }

    /// The member whose link is awaited.
    #[must_use]
    pub fn awaited(&self) -> Option<u32> {
        self.pending.map(|pending| pending.member)
    }

    /// Until when to wait for the member that was attached last; `None` if there is nothing to wait for any more.
    fn wait_for_pending(&mut self, members: &[Member], now: Instant) -> Option<Instant> {
        let pending = self.pending.as_mut()?;
        let Some(member) = members.iter().find(|member| member.index == pending.member) else {
            self.pending = None;
            return None;
        };
        pending.steady_since = member.carries.then(|| pending.steady_since.unwrap_or(now));
        let steady_at = pending.steady_since.map(|since| since + STEADY);
        if steady_at.is_some_and(|at| at <= now) {
            self.pending = None;
            return None;
        }
        if pending.deadline <= now {
            self.given_up.insert(pending.member);
            self.pending = None;
            return None;
        }
        Some(steady_at.map_or(pending.deadline, |at| at.min(pending.deadline)))
    }
}

#[cfg(test)]
mod tests;
