//! Which records another node knows already.

use std::collections::{HashMap, HashSet};

use vip_lb_common::abi::{FlowEntry, FlowKey};

use super::{Record, Records, Timeouts, Trust};

/// A record on its way to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// As it was read.
    pub record: Record,
    /// Whether it is one of NEWBORN.
    pub newborn: bool,
    /// For how many ticks the flow has been silent, those until it may be told of again taken off.
    pub silence: u32,
}

/// What there is to tell of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// New ones, changed ones, and those that have to be kept from ageing.
    pub reports: Vec<Report>,
    /// Those that were told of and are there no more.
    pub gone: Vec<FlowKey>,
}

/// What was told, and what was heard, so that nobody is told of it again.
#[derive(Clone, Debug, Default)]
pub struct Told {
    known: HashMap<FlowKey, Known>,
    /// Slots that were open.
    slots: HashSet<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    entry: FlowEntry,
    newborn: bool,
    lag: u32,
    /// Whether another node told of it.
    heard: bool,
    /// Whether nobody has to be told.
    is_known: bool,
}

/// The time of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// That of SETTINGS.
    pub tick: u32,
    /// Seconds that have passed in which there was no tick. Records age by ticks, and at another node by its own ones.
    pub lag: u32,
}

impl Told {
    /// What there is to tell of [honoured](super::ServiceRing::honoured) records of a service in the slots that are told to be [open](super::ServiceRing::shared): new ones, changed ones,
    /// and those that were last told of a quarter of their timeout ago and have had packets since, or have hardly aged here.
    pub fn news(&mut self, records: &Records, open: HashSet<u32>, timeouts: Timeouts, clock: Clock) -> News {
        let mut news = News::default();
        self.slots = open;
        let mut former = std::mem::take(&mut self.known);
        for (record, newborn) in all(records) {
            let entry = record.entry;
            let refresh = refresh(&entry, newborn, timeouts);
            let former = former.remove(&record.key).filter(|known| {
                let same = |entry: &FlowEntry| (entry.backend, entry.epoch, entry.closing);
                known.newborn == newborn
                    && same(&known.entry) == same(&entry)
                    && entry.seen <= known.entry.seen.saturating_add(refresh)
                    && clock.lag <= known.lag.saturating_add(refresh)
            });
            // With a slot that is open no more, others forget all that was told of it.
            let is_known = self.slots.contains(&entry.slot);
            if is_known && !former.is_some_and(|known| known.is_known) {
                news.reports.push(report(record, newborn, timeouts, clock));
            }
            let now = Known { entry, newborn, lag: clock.lag, heard: false, is_known };
            self.known.insert(record.key, former.map_or(now, |known| Known { is_known, ..known }));
        }
        // What is gone that another node told of is for that one to tell.
        let is_mine = |(_, known): &(FlowKey, Known)| !known.heard && self.slots.contains(&known.entry.slot);
        news.gone = former.into_iter().filter(is_mine).map(|(key, _)| key).collect();
        news
    }

    /// Notes a record that was heard of, as it is in the tables now.
    pub fn heard(&mut self, record: Record, newborn: bool, clock: Clock) {
        let known = Known { entry: record.entry, newborn, lag: clock.lag, heard: true, is_known: true };
        self.known.insert(record.key, known);
    }

    /// Whatever there is has to be told again: another node may have forgotten it.
    pub fn tell_all(&mut self) {
        self.known.values_mut().for_each(|known| known.is_known = false);
    }

    /// Whether a record is as another node told of it: no packet of the flow has come here since.
    #[must_use]
    pub fn is_hearsay(&self, record: &Record) -> bool {
        self.known.get(&record.key).is_some_and(|known| known.heard && known.entry == record.entry)
    }

    /// Whether an honoured record of this node stays as it is in spite of what another one tells of the same flow: packets have used it since, and it is
    /// not older; or it names another backend, and this node goes by its own.
    #[must_use]
    pub fn keeps(&self, own: &Record, told: &FlowEntry, trust: Trust) -> bool {
        let outdone =
            if own.entry.backend == told.backend { own.entry.seen < told.seen } else { trust != Trust::Own };
        !outdone && !self.is_hearsay(own)
    }

    /// Forgets a record that is gone at the node that told of it. Tells what it was, and whether it was one of NEWBORN.
    pub fn forget(&mut self, key: &FlowKey) -> Option<(Record, bool)> {
        let known = self.known.get(key).filter(|known| known.heard).copied()?;
        self.known.remove(key);
        Some((Record { key: *key, entry: known.entry }, known.newborn))
    }
}

/// All that there is to tell of such records to a node that knows nothing.
#[must_use]
pub fn everything(records: &Records, open: &HashSet<u32>, timeouts: Timeouts, clock: Clock) -> Vec<Report> {
    let is_told = |record: &Record| open.contains(&record.entry.slot);
    let told = all(records).filter(|(record, _)| is_told(record));
    told.map(|(record, newborn)| report(record, newborn, timeouts, clock)).collect()
}

/// A record is told of again when it has aged so much.
fn refresh(entry: &FlowEntry, newborn: bool, timeouts: Timeouts) -> u32 {
    if newborn { timeouts.newborn / 4 } else { timeouts.of(entry) / 4 }
}

fn report(record: Record, newborn: bool, timeouts: Timeouts, clock: Clock) -> Report {
    let silence = clock.tick.saturating_sub(record.entry.seen);
    Report { record, newborn, silence: silence.saturating_sub(refresh(&record.entry, newborn, timeouts)) }
}

/// All records of a service, and whether they are of NEWBORN, each flow once: what moved from NEWBORN to FLOWS while they were read is in both.
pub fn all(records: &Records) -> impl Iterator<Item = (Record, bool)> {
    let established: HashSet<_> = records.flows.iter().map(|record| record.key).collect();
    let newborn = records.newborn.iter().filter(move |record| !established.contains(&record.key));
    newborn.map(|&record| (record, true)).chain(records.flows.iter().map(|&record| (record, false)))
}

#[cfg(test)]
mod tests {
    use vip_lb_common::abi::BackendRef;

    use super::*;

    const TIMEOUTS: Timeouts = Timeouts { idle: 40, closing: 20, newborn: 20 };

    fn record(port: u16, closing: u16, seen: u32) -> Record {
        let backend = BackendRef { index: 1, generation: 1 };
        Record {
            key: FlowKey { source_port: port, ..FlowKey::default() },
            entry: FlowEntry { backend, epoch: 1, closing, seen, slot: 0 },
        }
    }

    fn flows(flows: &[Record]) -> Records {
        Records { flows: flows.to_vec(), ..Records::default() }
    }

    fn told(told: &mut Told, records: &Records, tick: u32) -> Vec<(u16, bool, u32)> {
        let news = told.news(records, [0].into(), TIMEOUTS, Clock { tick, lag: 0 });
        news.reports.iter().map(|news| (news.record.key.source_port, news.newborn, news.silence)).collect()
    }

    #[test]
    fn what_is_known_is_told_again_when_it_has_aged() {
        let mut known = Told::default();
        let both = flows(&[record(1, 0, 100), record(2, 0, 80)]);
        assert_eq!(
            told(&mut known, &both, 100),
            [(1, false, 0), (2, false, 10)],
            "each may be alive for longer than is told"
        );
        assert_eq!(told(&mut known, &flows(&[record(1, 0, 110), record(2, 0, 91)]), 110), [(2, false, 9)]);
        assert_eq!(
            told(&mut known, &flows(&[record(1, 1, 110), record(2, 0, 101)]), 110),
            [(1, false, 0)],
            "a FIN"
        );
    }

    #[test]
    fn what_has_not_aged_because_the_daemon_stood_still_is_told_again() {
        let mut known = Told::default();
        let flow = flows(&[record(1, 0, 100)]);
        let mut count = |lag| known.news(&flow, [0].into(), TIMEOUTS, Clock { tick: 100, lag }).reports.len();
        assert_eq!([count(0), count(10), count(11), count(12)], [1, 0, 1, 0]);
    }

    #[test]
    fn what_another_node_has_forgotten_with_its_slot_is_told_again() {
        let mut known = Told::default();
        let flow = flows(&[record(1, 0, 100)]);
        let clock = Clock { tick: 100, lag: 0 };
        let mut count = |open: &[u32]| {
            let open = open.iter().copied().collect();
            known.news(&flow, open, TIMEOUTS, clock).reports.len()
        };
        assert_eq!([count(&[0]), count(&[0, 1]), count(&[]), count(&[0])], [1, 0, 0, 1]);
    }

    #[test]
    fn a_handshake_is_told_of_until_it_is_a_flow() {
        let mut known = Told::default();
        let begun = Records { newborn: vec![record(1, 0, 100)], flows: Vec::new() };
        assert_eq!(told(&mut known, &begun, 100), [(1, true, 0)]);
        assert_eq!(told(&mut known, &begun, 100), []);
        let answered = Records { newborn: vec![record(1, 0, 100)], flows: vec![record(1, 0, 100)] };
        assert_eq!(told(&mut known, &answered, 100), [(1, false, 0)], "once, and as what it is now");
    }

    #[test]
    fn what_was_heard_is_not_told_back() {
        let mut known = Told::default();
        known.heard(record(1, 0, 100), false, Clock { tick: 100, lag: 0 });
        assert_eq!(told(&mut known, &flows(&[record(1, 0, 100)]), 101), []);
        assert_eq!(
            told(&mut known, &flows(&[record(1, 0, 111)]), 111),
            [(1, false, 0)],
            "it has had packets here"
        );
    }

    #[test]
    fn all_is_told_again_on_demand_and_stays_hearsay() {
        let mut known = Told::default();
        let heard = record(1, 0, 100);
        known.heard(heard, false, Clock { tick: 100, lag: 0 });
        known.tell_all();
        assert_eq!(told(&mut known, &flows(&[heard]), 100), [(1, false, 0)]);
        assert_eq!(told(&mut known, &flows(&[heard]), 100), []);
        assert!(known.is_hearsay(&heard) && !known.is_hearsay(&record(1, 0, 101)));
    }

    /// All peers were told everything again for one that had come back.
    #[test]
    fn who_comes_back_is_told_everything_and_the_others_only_news() {
        let mut known = Told::default();
        let (first, second) = (record(1, 0, 100), record(2, 0, 100));
        told(&mut known, &flows(&[first]), 100);
        let both = flows(&[first, second]);
        let clock = Clock { tick: 120, lag: 0 };
        let ports = |of: Vec<Report>| of.iter().map(|of| of.record.key.source_port).collect::<Vec<_>>();
        let all = everything(&both, &[0].into(), TIMEOUTS, clock);
        assert_eq!(all[0], report(first, false, TIMEOUTS, clock));
        assert_eq!(ports(all), [1, 2]);
        assert_eq!(everything(&both, &[1].into(), TIMEOUTS, clock), [], "of no slot that is open");
        assert_eq!(told(&mut known, &both, 100), [(2, false, 0)]);
    }

    #[test]
    fn what_packets_have_used_here_is_not_undone_by_older_news() {
        let mut known = Told::default();
        let (own, closing) = (record(1, 0, 100), record(1, 1, 99).entry);
        assert!(known.keeps(&own, &closing, Trust::Whole), "the port was used again here");
        assert!(!known.keeps(&own, &FlowEntry { seen: 101, ..closing }, Trust::Own));
        let elsewhere = FlowEntry { backend: BackendRef { index: 2, generation: 1 }, seen: 101, ..closing };
        assert!(known.keeps(&own, &elsewhere, Trust::Own) && !known.keeps(&own, &elsewhere, Trust::Open));
        known.heard(own, false, Clock { tick: 100, lag: 0 });
        assert!(!known.keeps(&own, &elsewhere, Trust::Own), "it is hearsay itself");
    }

    #[test]
    fn what_is_gone_is_told_of_by_whom_it_was_told_of() {
        let mut known = Told::default();
        let clock = Clock { tick: 100, lag: 0 };
        known.heard(record(1, 0, 100), true, clock);
        known.heard(record(3, 0, 100), true, clock);
        told(&mut known, &flows(&[record(2, 0, 100)]), 100);
        assert_eq!(known.forget(&record(2, 0, 100).key), None, "it is this node's own");
        let gone = |known: &mut Told| known.news(&Records::default(), [0].into(), TIMEOUTS, clock).gone;
        assert_eq!(gone(&mut known), [record(2, 0, 100).key]);
        assert_eq!(gone(&mut known), []);
        known.heard(record(3, 0, 100), true, clock);
        assert_eq!(known.forget(&record(3, 0, 100).key), Some((record(3, 0, 100), true)));
    }
}
