//! The steering invariant, checked over random histories.
//!
//! The packets run through the pipeline that the kernel program is made of, the ring is the daemon's. Changes, deaths, floods, port
//! reuse, lost answers, pauses and restarts of the daemon come at random. The oracle: while its backend has not died and it was not silent
//! for longer than promised, every packet of a connection reaches the backend that answered its handshake.
//!
//! Some histories are about two nodes that share what they record: the flows move from one to the other, and the promise is the same.
//!
//! `VIP_LB_MODEL_HISTORIES` sets how many histories are run; `VIP_LB_MODEL_SEED` (with the name of a test) tells one
//! of them in full.

mod clients;
mod daemon;
mod frames;
mod spare;
mod tables;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use vip_lb_common::{Verdict, pipeline::Reason};

use world::{TIMEOUTS, World};

/// What kind of service a history is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Source,
}

/// What is wrong on purpose, to see that the check finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    /// Entries of an older opening are honoured.
    NoEpoch,
    /// A SYN follows an entry that is closing.
    SynFollowsClosing,
    /// A SYN does not look for entries.
    SynIgnoresEntries,
    /// Slots close whatever was sent to `previous` unrecorded.
    CloseIgnoresUnrecorded,
    /// Slots close whatever is recorded on other backends.
    CloseIgnoresRecords,
    /// `previous` follows `current`.
    PreviousFollowsCurrent,
    /// Slots close without settling first.
    NoSettling,
    /// Records are deleted before the close is published.
    DeleteBeforePublish,
    /// The tick makes up for a standstill.
    LeapingTick,
    /// A node closes slots that the other one has open.
    NothingIsHeld,
    /// A node does not take over what the other one's slots remember.
    NothingIsLearnt,
    /// Records are not told.
    NothingIsTold,
    /// Flows are recorded between the last word and the move.
    NothingIsFrozen,
    /// Two nodes keep open whatever the other one has open.
    HoldsAreTold,
}

/// What the histories met, so that none of it is missing unnoticed.
#[derive(Clone, Copy, Debug, Default)]
struct Stats {
    checked: u64,
    opened: u64,
    closed: u64,
    closed_meanwhile: u64,
    settled: u64,
    drained: u64,
    recorded: u64,
    handshakes: u64,
    new: u64,
    older: u64,
    refused: u64,
    new_unrecorded: u64,
    settling: u64,
    no_backend: u64,
    gone: u64,
    moved: u64,
    rebooted: u64,
}

impl Stats {
    fn fields(&mut self) -> [(&'static str, &mut u64); 17] {
        [
            ("checked", &mut self.checked),
            ("opened", &mut self.opened),
            ("closed", &mut self.closed),
            ("closed_meanwhile", &mut self.closed_meanwhile),
            ("settled", &mut self.settled),
            ("drained", &mut self.drained),
            ("recorded", &mut self.recorded),
            ("handshakes", &mut self.handshakes),
            ("new", &mut self.new),
            ("older", &mut self.older),
            ("refused", &mut self.refused),
            ("new_unrecorded", &mut self.new_unrecorded),
            ("settling", &mut self.settling),
            ("no_backend", &mut self.no_backend),
            ("gone", &mut self.gone),
            ("moved", &mut self.moved),
            ("rebooted", &mut self.rebooted),
        ]
    }

    fn add(&mut self, reason: Option<Reason>, verdict: Verdict) {
        match reason {
            Some(Reason::Recorded) => self.recorded += 1,
            Some(Reason::Handshake) => self.handshakes += 1,
            Some(Reason::New) => self.new += 1,
            Some(Reason::Older) => self.older += 1,
            Some(Reason::Refused) => self.refused += 1,
            Some(Reason::NewUnrecorded) => self.new_unrecorded += 1,
            // The model has whole packets only, and no translation.
            Some(Reason::Settled | Reason::Translated | Reason::SamePacket) | None => {}
        }
        match verdict {
            Verdict::Settling => self.settling += 1,
            Verdict::NoBackend => self.no_backend += 1,
            Verdict::BackendGone => self.gone += 1,
            _ => {}
        }
    }

    fn merge(&mut self, mut other: Self) {
        for ((_, sum), (_, more)) in self.fields().into_iter().zip(other.fields()) {
            *sum += *more;
        }
    }
}

/// What a history is about.
#[derive(Clone, Copy, Debug)]
struct Subject {
    kind: Kind,
    /// One or two.
    nodes: usize,
    defect: Option<Defect>,
}

impl Subject {
    fn sound(kind: Kind, nodes: usize) -> Self {
        Self { kind, nodes, defect: None }
    }
}

/// One history: some minutes of changes and traffic, then silence until everything is settled again.
fn history(seed: u64, subject: Subject, tell: bool) -> World {
    let mut world = World::new(seed, subject, tell);
    // From calm to wild: slots have to close between changes as well as be open through many.
    let unrest = 1 + world.random.below(10);
    for _ in 0..60 + world.random.below(60) {
        world.traffic(world.pace());
        world.pass_second();
        world.daemon_second();
        world.spare_second();
        if world.second >= world.paused_until {
            if world.random.percent(60) {
                world.look();
            }
            if world.random.percent(unrest) {
                world.change();
            }
            if world.random.percent(10) {
                world.remove_drained();
            }
            if world.random.percent(unrest / 2) {
                if world.random.percent(60) {
                    world.pause();
                } else {
                    world.restart();
                }
            }
        }
        if world.random.percent(unrest / 2) {
            world.begin_flood();
        }
    }
    world.stats.closed_meanwhile = world.stats.closed;
    world.end_traffic();
    world.paused_until = 0;
    for _ in 0..4 * TIMEOUTS.idle {
        world.pass_second();
        world.daemon_second();
        world.spare_second();
        world.look();
    }
    let left = world.tables.inner.flows.borrow().len() + world.tables.inner.newborn.borrow().len();
    let has_to_end = matches!(subject.defect, None | Some(Defect::HoldsAreTold));
    if has_to_end && (world.ring.open() > 0 || world.ring.wants_collection() || left > 0) {
        world.violations.push(format!("{} slots never closed, {left} records were left", world.ring.open()));
    }
    world
}

/// Violations found in so many histories, and what the histories met. With a defect, the first that is found ends the search.
fn search(subject: Subject, histories: u64) -> (Vec<(u64, String)>, Stats) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicU64::new(0);
    let work = || {
        let mut found = Vec::new();
        let mut stats = Stats::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= histories {
                return (found, stats);
            }
            let world = history(seed, subject, false);
            stats.merge(world.stats);
            found.extend(world.violations.into_iter().map(|violation| (seed, violation)));
            if !found.is_empty() && subject.defect.is_some() {
                next.store(histories, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut sum = (Vec::new(), Stats::default());
        for worker in workers {
            let (found, stats) = worker.join().unwrap();
            sum.0.extend(found);
            sum.1.merge(stats);
        }
        sum
    })
}

fn histories() -> u64 {
    std::env::var("VIP_LB_MODEL_HISTORIES").map_or(1500, |count| count.parse().unwrap())
}

/// Runs the histories of a kind; none may violate the invariant, and each of `met` must have come up.
fn holds(subject: Subject, met: &[&str]) {
    if let Ok(seed) = std::env::var("VIP_LB_MODEL_SEED") {
        let world = history(seed.parse().unwrap(), subject, true);
        println!("{}", world.story.unwrap_or_default().join("\n"));
        assert!(world.violations.is_empty(), "{:#?}", world.violations);
        return;
    }
    let (found, mut stats) = search(subject, histories());
    println!("{subject:?}: {stats:?}");
    if let Some((seed, violation)) = found.iter().min() {
        panic!("{} violations, among them seed {seed} (see VIP_LB_MODEL_SEED), {violation}", found.len());
    }
    for (name, count) in stats.fields() {
        assert!(!met.contains(&name) || *count > 0, "no history met: {name}");
    }
}

/// The check has to find what is wrong.
fn finds(kind: Kind, defect: Defect) {
    finds_with(1, kind, defect);
}

fn finds_with(nodes: usize, kind: Kind, defect: Defect) {
    let (found, stats) = search(Subject { kind, nodes, defect: Some(defect) }, histories().max(1000));
    assert!(!found.is_empty(), "{defect:?} went unnoticed in {} checked packets", stats.checked);
    println!("{defect:?}: seed {}, {}", found[0].0, found[0].1);
}

#[test]
fn tcp_connections_stay_where_they_began() {
    let met = [
        "checked",
        "opened",
        "closed_meanwhile",
        "drained",
        "recorded",
        "handshakes",
        "new",
        "older",
        "refused",
        "settling",
        "no_backend",
        "gone",
    ];
    holds(Subject::sound(Kind::Tcp, 1), &met);
}

#[test]
fn udp_flows_stay_where_they_began() {
    let met = [
        "checked",
        "opened",
        "closed_meanwhile",
        "drained",
        "recorded",
        "new",
        "older",
        "new_unrecorded",
        "no_backend",
    ];
    holds(Subject::sound(Kind::Udp, 1), &met);
}

#[test]
fn sources_stay_where_they_began() {
    holds(
        Subject::sound(Kind::Source, 1),
        &["checked", "opened", "closed_meanwhile", "drained", "recorded", "new", "older"],
    );
}

#[test]
fn flows_stay_where_they_began_when_they_move_to_another_node() {
    let met = ["checked", "opened", "closed_meanwhile", "drained", "recorded", "moved", "rebooted"];
    for kind in [Kind::Tcp, Kind::Udp, Kind::Source] {
        holds(Subject::sound(kind, 2), &met);
    }
}

#[test]
fn a_node_that_closes_what_another_one_has_open_is_found() {
    finds_with(2, Kind::Tcp, Defect::NothingIsHeld);
}

#[test]
fn a_node_that_remembers_other_backends_is_found() {
    finds_with(2, Kind::Tcp, Defect::NothingIsLearnt);
    finds_with(2, Kind::Udp, Defect::NothingIsLearnt);
}

#[test]
fn records_that_are_not_told_are_found() {
    finds_with(2, Kind::Tcp, Defect::NothingIsTold);
    finds_with(2, Kind::Udp, Defect::NothingIsTold);
}

#[test]
fn recording_between_last_word_and_move_is_found() {
    finds_with(2, Kind::Tcp, Defect::NothingIsFrozen);
}

#[test]
fn nodes_that_hold_each_other_are_found() {
    finds_with(2, Kind::Tcp, Defect::HoldsAreTold);
}

#[test]
fn honouring_entries_of_an_older_opening_is_found() {
    finds(Kind::Tcp, Defect::NoEpoch);
}

#[test]
fn a_syn_following_closing_entries_is_found() {
    finds(Kind::Tcp, Defect::SynFollowsClosing);
}

#[test]
fn a_syn_ignoring_entries_is_found() {
    finds(Kind::Tcp, Defect::SynIgnoresEntries);
}

#[test]
fn closing_in_spite_of_unrecorded_flows_is_found() {
    finds(Kind::Tcp, Defect::CloseIgnoresUnrecorded);
    finds(Kind::Udp, Defect::CloseIgnoresUnrecorded);
}

#[test]
fn closing_in_spite_of_records_elsewhere_is_found() {
    finds(Kind::Tcp, Defect::CloseIgnoresRecords);
    finds(Kind::Udp, Defect::CloseIgnoresRecords);
}

#[test]
fn previous_following_current_is_found() {
    finds(Kind::Tcp, Defect::PreviousFollowsCurrent);
    finds(Kind::Udp, Defect::PreviousFollowsCurrent);
}

#[test]
fn closing_without_settling_is_found() {
    finds(Kind::Tcp, Defect::NoSettling);
}

#[test]
fn deleting_before_publishing_is_found() {
    finds(Kind::Tcp, Defect::DeleteBeforePublish);
}

#[test]
fn a_leaping_tick_is_found() {
    finds(Kind::Tcp, Defect::LeapingTick);
}
