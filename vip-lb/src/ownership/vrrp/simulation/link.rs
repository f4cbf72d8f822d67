//! The link and its nodes, a millisecond at a time.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::super::*;

/// The longest way of an advert. The skews of any two nodes differ by more, as the protocol needs it.
const SLOWEST_MS: u64 = 3;

/// How much tracking lowers a priority: 75 between nodes that differ by 50, so the order changes and no two are equal.
const LOWERED: u8 = 75;

/// How often a node looks what its packet path saw, even if no time has come.
const LOOK_MS: u64 = 1000;

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// Milliseconds since the start.
    pub(super) at: u64,
    /// For so many milliseconds.
    pub(super) lasts: u64,
    pub(super) kind: TroubleKind,
}

#[derive(Clone, Debug)]
pub(super) enum TroubleKind {
    /// The node stands still, as after SIGSTOP.
    Stopped { node: usize },
    /// It is gone without a word and comes back.
    Killed { node: usize },
    /// It ends in good order and comes back.
    Restarted { node: usize },
    /// Nothing gets from one to the other, in this direction.
    Cut { from: usize, to: usize },
    /// What it sends does not leave it, and it knows.
    Mute { node: usize },
    /// What comes gets to its packet path and not to its socket, as behind a firewall on the host.
    Deaf { node: usize },
    /// An operator asks it to hand over, and wants that back in the end.
    HandOver { node: usize },
    /// Tracking lowers its priority.
    Lowered { node: usize },
}

struct Node {
    machine: Machine,
    profile: Profile,
    /// Until when the packet path answers, whatever becomes of the daemon.
    lease: Instant,
    stopped_until: Instant,
    gone_until: Option<Instant>,
    mute_until: Instant,
    deaf_until: Instant,
    lowered_until: Option<Instant>,
    handed_over_until: Option<Instant>,
    /// What its packet path saw last of each other node, and when.
    seen: BTreeMap<IpAddr, (Instant, Heard)>,
    /// When its daemon last read an advert of each.
    read: BTreeMap<IpAddr, Instant>,
    look_at: Instant,
}

impl Node {
    fn runs(&self, now: Instant) -> bool {
        self.gone_until.is_none() && now >= self.stopped_until
    }
}

/// From one node to another.
#[derive(Clone)]
struct Way {
    cut_until: Instant,
    /// Since when adverts have been getting through.
    open_since: Instant,
    /// Since when those that were sent have been getting through, if any were.
    clear_since: Instant,
    lost: u8,
}

struct Packet {
    at: Instant,
    to: usize,
    heard: Heard,
    is_seen: bool,
}

pub(super) struct Link {
    now: Instant,
    nodes: Vec<Node>,
    ways: Vec<Vec<Way>>,
    packets: Vec<Packet>,
    random: u64,
    lost_in_a_row: u8,
    /// For how many milliseconds each pair have both had a lease.
    both: Vec<Vec<u64>>,
}

impl Link {
    #[expect(clippy::disallowed_methods, reason = "some moment to count from")]
    pub(super) fn new(profiles: &[Profile], seed: u64, lost_in_a_row: u8) -> Self {
        let now = Instant::now();
        let count = profiles.len();
        let nodes = profiles
            .iter()
            .map(|&profile| {
                let mut machine = Machine::new(profile);
                machine.on(Event::Ready(true), now);
                Node {
                    machine,
                    profile,
                    lease: now,
                    stopped_until: now,
                    gone_until: None,
                    mute_until: now,
                    deaf_until: now,
                    lowered_until: None,
                    handed_over_until: None,
                    seen: BTreeMap::new(),
                    read: BTreeMap::new(),
                    look_at: now,
                }
            })
            .collect();
        let way = Way { cut_until: now, open_since: now, clear_since: now, lost: 0 };
        Self {
            now,
            nodes,
            ways: vec![vec![way; count]; count],
            packets: Vec::new(),
            random: seed | 1,
            lost_in_a_row,
            both: vec![vec![0; count]; count],
        }
    }

    /// Nodes whose machine says so.
    pub(super) fn active(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].machine.state() == State::Active).collect()
    }

    /// Nodes that have a lease.
    pub(super) fn answering(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].lease > self.now).collect()
    }

    pub(super) fn begin(&mut self, trouble: &Trouble) {
        let until = self.now + Duration::from_millis(trouble.lasts);
        match trouble.kind {
            TroubleKind::Stopped { node } => {
                self.nodes[node].stopped_until = self.nodes[node].stopped_until.max(until);
            }
            TroubleKind::Killed { node } => self.go(node, until),
            TroubleKind::Restarted { node } => {
                if self.nodes[node].runs(self.now) {
                    self.tell(node, Event::Shutdown);
                    self.go(node, until);
                }
            }
            TroubleKind::Cut { from, to } => {
                let way = &mut self.ways[from][to];
                way.cut_until = way.cut_until.max(until);
            }
            TroubleKind::Mute { node } => {
                self.nodes[node].mute_until = self.nodes[node].mute_until.max(until);
            }
            TroubleKind::Deaf { node } => {
                self.nodes[node].deaf_until = self.nodes[node].deaf_until.max(until);
            }
            TroubleKind::HandOver { node } => {
                if self.nodes[node].runs(self.now) {
                    self.nodes[node].handed_over_until = Some(until);
                    self.tell(node, Event::HandOver);
                }
            }
            TroubleKind::Lowered { node } => {
                if self.nodes[node].runs(self.now) {
                    let lowered = self.nodes[node].profile.priority.lowered(LOWERED);
                    self.nodes[node].lowered_until = Some(until);
                    self.tell(node, Event::Priority(lowered));
                }
            }
        }
    }

    /// Its daemon is gone; what the packet path was given stays. A process that is stopped and killed is gone.
    fn go(&mut self, node: usize, until: Instant) {
        let (now, node) = (self.now, &mut self.nodes[node]);
        node.machine = Machine::new(node.profile);
        node.gone_until = Some(node.gone_until.map_or(until, |before| before.max(until)));
        node.stopped_until = now;
        node.lowered_until = None;
        node.read.clear();
    }

    /// One millisecond; what does not hold at its end.
    pub(super) fn step(&mut self) -> Result<(), String> {
        self.now += Duration::from_millis(1);
        self.arrive();
        for node in 0..self.nodes.len() {
            if self.nodes[node].gone_until.is_some_and(|until| self.now >= until) {
                self.nodes[node].gone_until = None;
                // Its socket is a new one.
                self.packets.retain(|packet| packet.to != node);
                // The orders of operators are kept.
                if self.nodes[node].handed_over_until.is_some() {
                    self.tell(node, Event::HandOver);
                }
                // What its predecessor left still holds or is over.
                self.tell(node, Event::Resume(self.nodes[node].lease));
            }
            if self.nodes[node].runs(self.now) {
                self.run(node)?;
            }
        }
        self.watch()
    }

    /// Packet paths live whatever becomes of daemons.
    fn arrive(&mut self) {
        let (now, nodes) = (self.now, &mut self.nodes);
        self.packets.retain_mut(|packet| {
            if packet.at > now || packet.is_seen {
                return true;
            }
            packet.is_seen = true;
            let node = &mut nodes[packet.to];
            node.seen.insert(packet.heard.source, (packet.at, packet.heard));
            now >= node.deaf_until
        });
    }

    /// What the packet path saw and the daemon did not read.
    fn look(&mut self, node: usize) {
        let of = &self.nodes[node];
        let is_unread = |source: &IpAddr, at: &Instant| of.read.get(source).is_none_or(|read| read < at);
        let unread: Vec<_> =
            of.seen.iter().filter(|(source, (at, _))| is_unread(source, at)).map(|(_, seen)| *seen).collect();
        for (at, heard) in unread {
            self.tell(node, Event::Seen { at, heard });
        }
    }

    /// What was heard comes before the timer.
    fn run(&mut self, node: usize) -> Result<(), String> {
        let now = self.now;
        let mut arrived: Vec<_> =
            self.packets.extract_if(.., |packet| packet.to == node && packet.at <= now).collect();
        arrived.sort_by_key(|packet| packet.at);
        for packet in arrived {
            self.nodes[node].read.insert(packet.heard.source, now);
            self.tell(node, Event::Heard(packet.heard));
        }
        if self.nodes[node].lowered_until.is_some_and(|until| now >= until) {
            self.nodes[node].lowered_until = None;
            self.tell(node, Event::Priority(self.nodes[node].profile.priority));
        }
        if self.nodes[node].handed_over_until.is_some_and(|until| now >= until) {
            self.nodes[node].handed_over_until = None;
            self.tell(node, Event::TakeBack);
        } else if !self.nodes[node].machine.has_handed_over() {
            // It is over, as the daemon notes.
            self.nodes[node].handed_over_until = None;
        }
        let is_due = self.nodes[node].machine.deadline().is_some_and(|due| now >= due);
        if is_due || now >= self.nodes[node].look_at {
            self.nodes[node].look_at = now + Duration::from_millis(LOOK_MS);
            self.look(node);
        }
        if self.nodes[node].machine.deadline().is_some_and(|due| now >= due) {
            let actions = self.tell(node, Event::Timer);
            if self.lost_in_a_row == 0 && actions.contains(&Action::Became(State::Active, Why::Silence)) {
                self.silent(node)?;
            }
        }
        Ok(())
    }

    /// Nobody that `node` could hear has a lease when it takes over from one that fell silent, was it stopped, killed or mute. One whose
    /// advert is still on its way has just taken over itself.
    fn silent(&self, node: usize) -> Result<(), String> {
        let lease = self.nodes[node].profile.interval.lease();
        let is_heard = |other: usize| self.now - self.ways[other][node].clear_since > 2 * lease;
        let speaks = |other: usize| {
            let source = self.nodes[other].profile.source;
            self.packets.iter().any(|packet| packet.to == node && packet.heard.source == source)
        };
        let other =
            self.answering().into_iter().find(|&other| other != node && is_heard(other) && !speaks(other));
        match other {
            Some(other) => Err(format!("{node} takes over while {other} has a lease")),
            None => Ok(()),
        }
    }

    fn tell(&mut self, node: usize, event: Event) -> Vec<Action> {
        let actions = self.nodes[node].machine.on(event, self.now);
        for &action in &actions {
            match action {
                Action::Send(priority) => self.send(node, priority),
                Action::Lease(until) => self.nodes[node].lease = until,
                Action::EndLease => self.nodes[node].lease = self.now,
                Action::Announce | Action::Became(..) => {}
            }
        }
        actions
    }

    fn send(&mut self, from: usize, priority: Option<Priority>) {
        if self.now < self.nodes[from].mute_until {
            return;
        }
        let Profile { interval, source, .. } = self.nodes[from].profile;
        for to in (0..self.nodes.len()).filter(|&to| to != from) {
            let delay = Duration::from_millis(self.draw(SLOWEST_MS) + 1);
            let lost = self.draw(3) == 0;
            let way = &mut self.ways[from][to];
            way.lost = if lost && way.lost < self.lost_in_a_row { way.lost + 1 } else { 0 };
            if self.now >= way.cut_until && way.lost == 0 {
                let heard = Heard { priority, interval, source };
                self.packets.push(Packet { at: self.now + delay, to, heard, is_seen: false });
            }
        }
        if priority.is_some() {
            self.tell(from, Event::Sent);
        }
    }

    /// 0 up to `below`, by xorshift (Marsaglia 2003).
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn watch(&mut self) -> Result<(), String> {
        let now = self.now;
        for (from, ways) in self.ways.iter_mut().enumerate() {
            for (to, way) in ways.iter_mut().enumerate() {
                let clear = now >= way.cut_until && self.nodes[to].runs(now);
                let open = clear && now >= self.nodes[from].mute_until && self.nodes[from].runs(now);
                if !clear {
                    way.clear_since = now;
                }
                if !open {
                    way.open_since = now;
                }
            }
        }
        let answering = self.answering();
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                let both = answering.contains(&a) && answering.contains(&b);
                self.both[a][b] = if both { self.both[a][b] + 1 } else { 0 };
                // One advert of the higher one gets through in that time, or the lower one's, which is answered at once.
                let hears = u64::from(self.lost_in_a_row) * 100 + 100 + SLOWEST_MS + 1;
                // One that is deaf sees it when it looks.
                let was_deaf =
                    |node: usize| now < self.nodes[node].deaf_until + Duration::from_millis(LOOK_MS + hears);
                let hears = if was_deaf(a) || was_deaf(b) { hears + LOOK_MS } else { hears };
                let open_since = self.ways[a][b].open_since.max(self.ways[b][a].open_since);
                let open = (now - open_since).as_millis() as u64;
                if open > hears && self.both[a][b] > hears {
                    return Err(format!("{a} and {b} both answer, and hear each other for {open} ms"));
                }
            }
        }
        Ok(())
    }
}
