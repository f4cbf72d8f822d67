//! Slow start: a backend that returns to a service that works gets its weight in steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    floor::{Decided, Decision},
    standing::{Cause, Standing},
};

/// A whole weight, in the parts that a weight is raised by.
pub const WHOLE: u8 = 10;

/// The backends of one service that are on their way to their whole weight.
#[derive(Clone, Debug, Default)]
pub struct SlowStart {
    begun: BTreeMap<IpAddr, Instant>,
    shares: BTreeMap<IpAddr, u8>,
    next: Option<Instant>,
}

impl SlowStart {
    /// What the former daemon knew: who began, and how many milliseconds ago.
    #[must_use]
    pub fn taking_over(begun: &BTreeMap<IpAddr, u64>, now: Instant) -> Self {
        let at = |age: u64| now.checked_sub(Duration::from_millis(age));
        let begun = begun.iter().filter_map(|(address, age)| Some((*address, at(*age)?)));
        Self { begun: begun.collect(), ..Self::default() }
    }

    /// What the next daemon should know, as [`SlowStart::taking_over`] wants it.
    #[must_use]
    pub fn memory(&self, now: Instant) -> BTreeMap<IpAddr, u64> {
        let age = |begun: &Instant| now.saturating_duration_since(*begun).as_millis() as u64;
        self.begun.iter().map(|(address, begun)| (*address, age(begun))).collect()
    }

    /// Takes in what was decided, as of `now`; `over` is the time that a whole weight takes. Without a decision `before` the service is new, or the
    /// daemon is: nobody returns.
    pub fn advance(&mut self, over: Duration, before: Option<&Decision>, after: &Decision, now: Instant) {
        let serves = |decided: &Decided| decided.standing == Standing::Serving;
        self.begun.retain(|address, _| after.backends.get(address).is_some_and(serves));
        if let Some(before) = before {
            let stayed = |address: &IpAddr| before.backends.get(address).is_some_and(serves);
            let serving: BTreeSet<IpAddr> =
                after.backends.iter().filter(|(_, decided)| serves(decided)).map(|(of, _)| *of).collect();
            // Where nobody was, all begin together, and there is nothing to be spared.
            let works = serving.iter().any(&stayed);
            for address in serving.iter().filter(|address| works && !stayed(address)) {
                if returns(before.backends.get(address), after.backends.get(address)) {
                    self.begun.insert(*address, now);
                }
            }
        }
        self.begun.retain(|_, begun| now.saturating_duration_since(*begun) < over);
        let step = over / u32::from(WHOLE - 1);
        let steps = |begun: &Instant| steps(now.saturating_duration_since(*begun), step);
        // The first part at once, the last one when the time is over.
        self.shares = self.begun.iter().map(|(address, begun)| (*address, steps(begun) + 1)).collect();
        self.next = self.begun.values().map(|begun| *begun + step * u32::from(steps(begun) + 1)).min();
    }

    /// How much of its weight a backend has, in parts of [`WHOLE`].
    #[must_use]
    pub fn share(&self, backend: IpAddr) -> u8 {
        self.shares.get(&backend).copied().unwrap_or(WHOLE)
    }

    /// When the next share changes.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.next
    }
}

/// Steps that are over, less than [`WHOLE`] of them.
fn steps(elapsed: Duration, step: Duration) -> u8 {
    let over = elapsed.as_nanos().checked_div(step.as_nanos()).unwrap_or(u128::from(WHOLE));
    over.min(u128::from(WHOLE - 1)) as u8
}

/// Whether somebody who serves now, and did not, has been away. A standby was there, and whoever is forced to serve is needed now.
fn returns(before: Option<&Decided>, after: Option<&Decided>) -> bool {
    let was_ready =
        before.is_some_and(|before| matches!(before.standing.cause(), Some(Cause::Standby | Cause::Closed)));
    !was_ready && after.is_some_and(|after| after.kept.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::floor::{FloorStatus, Kept};

    const OVER: Duration = Duration::from_secs(90);

    fn address(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    /// `s`erving, `k`ept, `w`aiting as standby, `x` out, `.` not configured.
    fn decision(letters: &str) -> Decision {
        let backends =
            (1..).zip(letters.chars()).filter(|(_, letter)| *letter != '.').map(|(number, letter)| {
                let (standing, kept) = match letter {
                    's' => (Standing::Serving, None),
                    'k' => (Standing::Serving, Some(Kept::Open)),
                    'w' => (Standing::Draining(Cause::Standby), None),
                    _ => (Standing::Out(Cause::Unreachable), None),
                };
                (address(number), Decided { standing, kept })
            });
        Decision { backends: backends.collect(), summary: FloorStatus::default() }
    }

    struct Story {
        slow: SlowStart,
        last: Option<Decision>,
        start: Instant,
        over: Duration,
    }

    impl Story {
        fn new(over: Duration) -> Self {
            #[expect(clippy::disallowed_methods, reason = "any instant will do")]
            let start = Instant::now();
            Self { slow: SlowStart::default(), last: None, start, over }
        }

        /// The shares at some second, and in how many seconds from the start they change.
        fn at(&mut self, seconds: u64, letters: &str) -> (Vec<u8>, Option<u64>) {
            let decision = decision(letters);
            let now = self.start + Duration::from_secs(seconds);
            self.slow.advance(self.over, self.last.as_ref(), &decision, now);
            self.last = Some(decision);
            let shares = (1..=letters.len() as u8).map(|number| self.slow.share(address(number))).collect();
            (shares, self.slow.next().map(|next| next.duration_since(self.start).as_secs()))
        }
    }

    #[test]
    fn whoever_returns_gets_its_weight_in_steps() {
        let mut story = Story::new(OVER);
        assert_eq!(story.at(0, "ssx"), (vec![10, 10, 10], None), "the daemon is new");
        assert_eq!(story.at(100, "sss"), (vec![10, 10, 1], Some(110)));
        assert_eq!(story.at(109, "sss"), (vec![10, 10, 1], Some(110)));
        assert_eq!(story.at(110, "sss"), (vec![10, 10, 2], Some(120)));
        assert_eq!(story.at(155, "sxs"), (vec![10, 10, 6], Some(160)));
        assert_eq!(story.at(156, "sss"), (vec![10, 1, 6], Some(160)), "each by itself");
        assert_eq!(story.at(189, "sss"), (vec![10, 4, 9], Some(190)));
        assert_eq!(story.at(190, "sss"), (vec![10, 4, 10], Some(196)));
        assert_eq!(story.at(200, "sxs"), (vec![10, 10, 10], None));
        assert_eq!(story.at(210, "sss"), (vec![10, 1, 10], Some(220)), "from the beginning");
        assert_eq!(story.at(400, "sss"), (vec![10, 10, 10], None));
    }

    #[test]
    fn a_backend_that_comes_new_to_a_service_that_works_begins_slowly() {
        let mut story = Story::new(OVER);
        story.at(0, "ss.");
        assert_eq!(story.at(1, "sss").0, [10, 10, 1]);
    }

    #[test]
    fn the_next_daemon_goes_on_with_the_steps() {
        let mut story = Story::new(OVER);
        story.at(0, "ssx");
        story.at(100, "sss");
        let after = |seconds| story.start + Duration::from_secs(seconds);
        let memory = story.slow.memory(after(125));
        assert_eq!(memory, BTreeMap::from([(address(3), 25_000)]));
        let slow = SlowStart::taking_over(&memory, after(126));
        let mut next = Story { slow, last: None, ..story };
        assert_eq!(next.at(127, "sss"), (vec![10, 10, 3], Some(131)));
        assert_eq!(next.at(131, "sss"), (vec![10, 10, 4], Some(141)));
    }

    #[test]
    fn who_is_needed_now_or_was_ready_has_its_weight_at_once() {
        let mut story = Story::new(OVER);
        story.at(0, "sxw");
        assert_eq!(story.at(1, "sxs").0, [10, 10, 10], "a standby");
        assert_eq!(story.at(2, "kkk").0, [10, 10, 10], "all are used, whatever checks say");
        story.at(3, "xxx");
        assert_eq!(story.at(4, "ssx").0, [10, 10, 10], "nobody else is there");
        let mut off = Story::new(Duration::ZERO);
        off.at(0, "sx");
        assert_eq!(off.at(1, "ss"), (vec![10, 10], None));
    }
}
