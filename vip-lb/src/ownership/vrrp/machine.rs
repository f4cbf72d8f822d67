//! The state machine of one virtual router (RFC 9568 section 6.4), with what the RFC leaves open decided.
//!
//! * **The lease.** A node answers only while its lease lasts. [`Action::Lease`] gives one for each advert that was really sent
//!   ([`Event::Sent`]), for three of its intervals from then on, so it ends before any node that heard the advert may act. A node that was stopped and goes on after its lease
//!   begins as a backup: somebody else may be active, and says so within one interval.
//! * **Woken late, or deaf.** What the packet path saw and this node did not hear ([`Event::Seen`]) counts from when it was seen: it puts a backup's timer
//!   off, and has an active node give way. So a daemon that was kept from reading its socket does not seize the VIP, nor does one whose socket gets nothing,
//!   because a firewall on the host drops it behind the packet path. What is seen never makes a node speak up: where adverts are seen no more, the timer
//!   runs out as ever.
//! * **Readiness.** A node that could not forward does not take part ([`Event::Ready`]): it resigns, and begins anew once it can.
//! * **Preemption** may be delayed: until a node has been able for this long it lets nodes of lower priority stay active. One that is
//!   silent is replaced at once, delay or not.
//! * **Handing over** ([`Event::HandOver`]) is a resignation after which this node takes part as a backup that preempts nobody, until it is active
//!   again: because nobody else took its place, because who did fell silent, or because it takes it back ([`Event::TakeBack`]).
//!
//! Pure: it sees no clock and no socket. Where two things happen at once, what was heard comes before the timer.

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{Interval, Priority};

#[cfg(test)]
mod tests;

/// What is configured of a virtual router on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Of this node, before anything was lowered.
    pub priority: Priority,
    /// Between the adverts of this node.
    pub interval: Interval,
    /// Whether it takes the place of an active node of lower priority. A node of priority 255 always does (RFC 9568 section 6.1).
    pub preempt: bool,
    /// For how long it must have been able before it does.
    pub preempt_delay: Duration,
    /// From which its adverts are sent; decides between nodes of equal priority.
    pub source: IpAddr,
}

/// An advert of another node, as far as the decision needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// `None` if the sender stops being active.
    pub priority: Option<Priority>,
    /// When it says the next one comes.
    pub interval: Interval,
    /// Who sent it.
    pub source: IpAddr,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Whether this node is able to forward: its rings are there, its backends checked, its interface up.
    Ready(bool),
    /// As `Ready(true)`, on a node whose packet path has a lease until then, of a daemon before this one. While it lasts nobody who heard
    /// that daemon has taken over: this one goes on in its place.
    Resume(Instant),
    /// An advert came.
    Heard(Heard),
    /// The packet path saw an advert, which did not come here, or not yet. Told before [`Event::Timer`].
    Seen {
        /// When; what came before what is known already says nothing, nor does what is yet to come.
        at: Instant,
        /// What it says.
        heard: Heard,
    },
    /// The time that [`Machine::deadline`] gave has come.
    Timer,
    /// An advert with a priority, which [`Action::Send`] asked for, has left this node, now. Of the last word nothing is told.
    Sent,
    /// Tracking raised or lowered the priority.
    Priority(Priority),
    /// Something else is configured. What it is stays; the source does, too.
    Profile(Profile),
    /// An operator wants another node to be active, as long as there is one.
    HandOver,
    /// That is withdrawn: this node takes the place of a lower one that is active, whatever is configured of preemption.
    TakeBack,
    /// Another router of the same group became active, or ceased to be: this one follows.
    Follow(bool),
    /// The daemon ends, and lets others take over.
    Shutdown,
}

/// Something to do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send an advert; [`Event::Sent`] follows when it has left. `None` says that this node stops.
    Send(Option<Priority>),
    /// Answer for the addresses until then. Replaces any earlier lease.
    Lease(Instant),
    /// Stop answering now.
    EndLease,
    /// Tell neighbours that the addresses are here: gratuitous ARP, unsolicited neighbour advertisements.
    Announce,
    /// For the record.
    Became(State, Why),
}

/// What a node is (RFC 9568 section 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It takes no part.
    Initialize,
    /// It watches the active node.
    Backup,
    /// It answers.
    Active,
}

/// Why a node became what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// It is able to forward.
    Ready,
    /// A daemon before this one was active, and its lease still lasts.
    Resumed,
    /// It is not able to forward.
    NotReady,
    /// It has the addresses as its own: priority 255.
    Owner,
    /// The active node was silent for too long.
    Silence,
    /// The active node said that it stops.
    Resigned,
    /// The active node has a lower priority.
    Preempts,
    /// A node of higher priority is active.
    HigherPriority,
    /// A node of the same priority and a higher address is active.
    HigherAddress,
    /// Its lease ended before it could send: it was stopped, or nothing could be sent.
    LeaseEnded,
    /// An operator asked for it.
    HandOver,
    /// It handed over, and no other node took its place.
    NobodyElse,
    /// An operator wanted it back.
    TakesBack,
    /// Another router of its group did.
    Follows,
    /// The daemon ends.
    Shutdown,
}

impl State {
    /// In a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Backup => "backup",
            Self::Active => "active",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "it is able to forward",
            Self::Resumed => "the daemon before was active, and its lease still lasted",
            Self::NotReady => "it is not able to forward",
            Self::Owner => "its priority is 255",
            Self::Silence => "the active node was silent",
            Self::Resigned => "the active node resigned",
            Self::Preempts => "the active node has a lower priority",
            Self::HigherPriority => "a node of higher priority is active",
            Self::HigherAddress => "a node of the same priority and a higher address is active",
            Self::LeaseEnded => "its lease ended before it could send",
            Self::HandOver => "it handed over",
            Self::NobodyElse => "it handed over, and no other node took its place",
            Self::TakesBack => "it takes back what it handed over",
            Self::Follows => "it follows another router of its group",
            Self::Shutdown => "the daemon ends",
        })
    }
}

/// What goes with each state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Initialize,
    Backup(Backup),
    Active(Active),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Backup {
    /// Since when it waits for the active node.
    since: Instant,
    /// For how long: Active_Down_Timer.
    wait: Wait,
    /// What the active node says its interval is: Active_Adver_Interval.
    theirs: Interval,
    /// Whether a node that this one preempts was heard since then.
    lower: bool,
    /// From when it takes the place of a lower one.
    preempts_from: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Until the active node counts as gone: Active_Down_Interval.
    Down,
    /// Until it is this node's turn after the active one said that it stops: Skew_Time.
    Skew,
    /// Until nobody has taken what this node handed over.
    Offer,
}

/// What an operator wants of who is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Nothing: the protocol decides.
    None,
    /// Another node.
    Another,
    /// This one again.
    Back,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Active {
    /// When to send the next advert: Adver_Timer.
    advert_at: Instant,
    /// Until when it may answer; until when the first advert must have left.
    lease: Instant,
    /// Since when it is.
    since: Instant,
    /// Whether neighbours were told.
    announced: bool,
}

impl Backup {
    fn deadline(&self, priority: Priority) -> Instant {
        self.since
            + match self.wait {
                Wait::Down => self.theirs.down(priority),
                Wait::Skew => self.theirs.skew(priority),
                Wait::Offer => self.theirs.offer(),
            }
    }

    const fn why(&self) -> Why {
        match (self.wait, self.lower) {
            (_, true) => Why::Preempts,
            (Wait::Skew, false) => Why::Resigned,
            (Wait::Down, false) => Why::Silence,
            (Wait::Offer, false) => Why::NobodyElse,
        }
    }
}

/// One virtual router on this node.
#[derive(Clone, Debug)]
pub struct Machine {
    profile: Profile,
    /// The profile's, or what tracking made of it.
    priority: Priority,
    role: Role,
    wish: Wish,
}

impl Machine {
    /// Takes no part yet.
    #[must_use]
    pub const fn new(profile: Profile) -> Self {
        Self { priority: profile.priority, profile, role: Role::Initialize, wish: Wish::None }
    }

    /// What this node is.
    #[must_use]
    pub const fn state(&self) -> State {
        match self.role {
            Role::Initialize => State::Initialize,
            Role::Backup(_) => State::Backup,
            Role::Active(_) => State::Active,
        }
    }

    /// What it sends adverts with.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        self.priority
    }

    /// Whether it leaves the place to another node, as [`Event::HandOver`] asked for.
    #[must_use]
    pub fn has_handed_over(&self) -> bool {
        self.wish == Wish::Another
    }

    /// When [`Event::Timer`] is due; `None` while it takes no part.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.role {
            Role::Initialize => None,
            Role::Backup(backup) => Some(backup.deadline(self.priority)),
            Role::Active(active) => Some(active.advert_at),
        }
    }

    /// What to do about something that happened.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match (self.role, event) {
            (_, Event::Priority(priority)) => {
                self.priority = priority;
                Vec::new()
            }
            (_, Event::Profile(profile)) => {
                self.profile = Profile { source: self.profile.source, ..profile };
                self.priority = profile.priority;
                Vec::new()
            }
            (_, Event::Heard(heard) | Event::Seen { heard, .. }) if heard.source == self.profile.source => {
                Vec::new()
            }
            (_, Event::Seen { at, .. }) if at > now => Vec::new(),
            (Role::Initialize, Event::HandOver) => {
                self.wish = Wish::Another;
                Vec::new()
            }
            (Role::Initialize | Role::Active(_), Event::TakeBack) => {
                self.wish = Wish::None;
                Vec::new()
            }
            (Role::Initialize, Event::Resume(lease)) if now < lease && !self.has_handed_over() => {
                let active = Active { advert_at: now, lease, since: now, announced: true };
                let mut actions = vec![Action::Became(State::Active, Why::Resumed)];
                actions.append(&mut self.advertise(active, now));
                actions
            }
            (Role::Initialize, Event::Ready(true) | Event::Resume(_)) => self.begin(now),
            (Role::Initialize, _) => Vec::new(),
            (Role::Backup(_) | Role::Active(_), Event::Ready(false)) => self.end(Why::NotReady),
            (Role::Backup(_) | Role::Active(_), Event::Shutdown) => self.end(Why::Shutdown),
            (Role::Backup(backup), event) => self.as_backup(backup, event, now),
            // It did not run for a while, and somebody else may be active: what is heard first must not make it speak up, nor what it was
            // about to say renew its lease.
            (
                Role::Active(active),
                Event::Timer | Event::Sent | Event::Heard(_) | Event::Seen { .. } | Event::Follow(false),
            ) if now >= active.lease => {
                let mut actions = self.leave(Why::LeaseEnded, self.profile.preempt_delay, now);
                if let Role::Backup(backup) = self.role {
                    actions.append(&mut self.as_backup(backup, event, now));
                }
                actions
            }
            (Role::Active(active), event) => self.as_active(active, event, now),
        }
    }

    /// RFC 9568 section 6.4.1.
    fn begin(&mut self, now: Instant) -> Vec<Action> {
        if self.priority == Priority::OWNER && !self.has_handed_over() {
            self.take_over(Why::Owner, now)
        } else {
            self.back_up(Why::Ready, self.profile.interval, self.profile.preempt_delay, now)
        }
    }

    /// RFC 9568 section 6.4.2.
    fn as_backup(&mut self, mut backup: Backup, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::Timer if now >= backup.deadline(self.priority) => {
                return self.take_over(backup.why(), now);
            }
            Event::Heard(Heard { priority: Some(theirs), .. })
                if theirs < self.priority && self.wish == Wish::Back =>
            {
                return self.take_over(Why::TakesBack, now);
            }
            Event::Heard(heard) => {
                if self.wish == Wish::Back && heard.priority.is_some() {
                    // Somebody else became active who is not to give way.
                    self.wish = Wish::None;
                }
                backup = self.after(backup, heard, now);
            }
            Event::Seen { at, heard } if at > backup.since => backup = self.after(backup, heard, at),
            Event::TakeBack => {
                // Only what was handed over can be taken back.
                if self.has_handed_over() {
                    self.wish = Wish::Back;
                }
            }
            Event::HandOver => {
                self.wish = Wish::Another;
                if backup.lower {
                    // It did not count that node's adverts until now.
                    backup = Backup { since: now, lower: false, ..backup };
                }
            }
            Event::Follow(true) => return self.take_over(Why::Follows, now),
            Event::Timer
            | Event::Seen { .. }
            | Event::Follow(false)
            | Event::Ready(_)
            | Event::Resume(_)
            | Event::Sent
            | Event::Priority(_)
            | Event::Profile(_)
            | Event::Shutdown => {}
        }
        self.role = Role::Backup(backup);
        Vec::new()
    }

    /// A backup after an advert that came at this time.
    fn after(&self, backup: Backup, heard: Heard, at: Instant) -> Backup {
        match heard.priority {
            None => Backup { since: at, wait: Wait::Skew, lower: false, ..backup },
            Some(theirs)
                if theirs < self.priority
                    && (self.takes_back() || self.preempts() && at >= backup.preempts_from) =>
            {
                Backup { lower: true, ..backup }
            }
            Some(_) => Backup { since: at, wait: Wait::Down, theirs: heard.interval, lower: false, ..backup },
        }
    }

    /// RFC 9568 section 6.4.3.
    fn as_active(&mut self, active: Active, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::Timer if now < active.advert_at => Vec::new(),
            Event::Timer => self.advertise(active, now),
            Event::Sent => {
                let lease = now + self.profile.interval.lease();
                self.role = Role::Active(Active { lease, announced: true, ..active });
                let announce = (!active.announced).then_some(Action::Announce);
                std::iter::once(Action::Lease(lease)).chain(announce).collect()
            }
            Event::Heard(heard) if self.gives_way(heard) => self.give_way(heard, now),
            Event::Seen { at, heard } if at > active.since && self.gives_way(heard) => {
                self.give_way(heard, at)
            }
            // Asserts itself at once, towards one that stops and one that is wrong.
            Event::Heard(_) => self.advertise(active, now),
            Event::HandOver => {
                self.wish = Wish::Another;
                self.resign(Why::HandOver, Wait::Offer, now)
            }
            Event::Follow(false) => self.resign(Why::Follows, Wait::Down, now),
            Event::Seen { .. }
            | Event::Follow(true)
            | Event::TakeBack
            | Event::Ready(_)
            | Event::Resume(_)
            | Event::Priority(_)
            | Event::Profile(_)
            | Event::Shutdown => Vec::new(),
        }
    }

    /// Whether an active node leaves the place to the one that says so.
    fn gives_way(&self, heard: Heard) -> bool {
        heard.priority.is_some_and(|theirs| (theirs, heard.source) > (self.priority, self.profile.source))
    }

    fn give_way(&mut self, heard: Heard, at: Instant) -> Vec<Action> {
        let higher = heard.priority > Some(self.priority);
        let why = if higher { Why::HigherPriority } else { Why::HigherAddress };
        let mut actions = vec![Action::EndLease];
        actions.append(&mut self.back_up(why, heard.interval, Duration::ZERO, at));
        actions
    }

    /// Whether it wants back what it handed over.
    fn takes_back(&self) -> bool {
        self.wish == Wish::Back
    }

    const fn preempts(&self) -> bool {
        let may = self.profile.preempt || matches!(self.priority, Priority::OWNER);
        may && !matches!(self.wish, Wish::Another)
    }

    fn advertise(&mut self, active: Active, now: Instant) -> Vec<Action> {
        let advert_at = now + self.profile.interval.duration();
        self.role = Role::Active(Active { advert_at, ..active });
        vec![Action::Send(Some(self.priority))]
    }

    fn take_over(&mut self, why: Why, now: Instant) -> Vec<Action> {
        self.wish = Wish::None;
        let lease = now + self.profile.interval.lease();
        let active = Active { advert_at: now, lease, since: now, announced: false };
        let mut actions = vec![Action::Became(State::Active, why)];
        actions.append(&mut self.advertise(active, now));
        actions
    }

    fn back_up(&mut self, why: Why, theirs: Interval, pause: Duration, now: Instant) -> Vec<Action> {
        self.watch(theirs, Wait::Down, pause, now);
        vec![Action::Became(State::Backup, why)]
    }

    fn watch(&mut self, theirs: Interval, wait: Wait, pause: Duration, now: Instant) {
        let preempts_from = now + pause;
        self.role = Role::Backup(Backup { since: now, wait, theirs, lower: false, preempts_from });
    }

    /// Becomes a backup without a word: nobody may rely on what this node said last.
    fn leave(&mut self, why: Why, pause: Duration, now: Instant) -> Vec<Action> {
        let mut actions = vec![Action::EndLease];
        actions.append(&mut self.back_up(why, self.profile.interval, pause, now));
        actions
    }

    /// Becomes a backup and says so, so that others need not wait.
    fn resign(&mut self, why: Why, wait: Wait, now: Instant) -> Vec<Action> {
        self.watch(self.profile.interval, wait, Duration::ZERO, now);
        vec![Action::EndLease, Action::Send(None), Action::Became(State::Backup, why)]
    }

    /// Takes no part any more.
    fn end(&mut self, why: Why) -> Vec<Action> {
        let was_active = self.state() == State::Active;
        self.role = Role::Initialize;
        let last_word: &[Action] = if was_active { &[Action::EndLease, Action::Send(None)] } else { &[] };
        last_word.iter().copied().chain([Action::Became(State::Initialize, why)]).collect()
    }
}
