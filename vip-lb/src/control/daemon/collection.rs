//! What happens every second: the tick, what may be recorded, what was recorded, and the counters.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use vip_lb_common::abi::Settings;

use super::{Daemon, now};
use crate::{
    config::model::WatchdogAction,
    control::engine::Look,
    dataplane,
    steering::{Record, Records},
};

/// Seconds after a tick for which the daemon counts as alive.
const FRESH: u32 = 5;
/// A collection may take this share of the daemon's time: one part in ten.
pub(super) const COLLECTION_SHARE: u32 = 10;
/// With more backends than this, counters for rates are read every few seconds only.
const MANY_BACKENDS: usize = 1000;

impl Daemon {
    pub(super) fn tick(&mut self) {
        let now = now();
        if let Some(tick) = self.ticker.advance(now.duration_since(self.started_at)) {
            self.settings.tick = tick;
            self.grant();
            self.learn_all_slots();
            if now >= self.next_collection {
                self.collect(now);
            }
            if now >= self.next_connections {
                self.collect_connections(now);
            }
        }
        if now >= self.next_reading {
            self.read_counters(now);
            self.adjust_sampling(now);
        }
        self.advance_floors(now);
        self.advance_bonds();
        self.attend_to_watchers();
    }

    /// Publishes the tick with what may be recorded in it.
    pub(super) fn grant(&mut self) {
        self.renew();
        self.settings.record_budget = if self.is_frozen() { 0 } else { self.budget.next_tick() };
        self.settings.survivor_budget = self.budget.survivors();
        self.write_settings();
    }

    /// Tells packets that there is a daemon. Takes effect with the settings.
    pub(super) fn renew(&mut self) {
        self.settings.fresh_until = dataplane::monotonic().as_secs() as u32 + FRESH;
    }

    /// What packets are asked besides the usual.
    pub(super) fn flags(&self) -> u32 {
        let peers = if self.engine.has_peers() { Settings::PEERS } else { 0 };
        let watchdog = match self.config.node.watchdog.action {
            WatchdogAction::Forward => 0,
            WatchdogAction::Pass => Settings::WATCHDOG,
        };
        let watched = if self.watching.is_watched() { Settings::WATCHED } else { 0 };
        peers | watchdog | watched
    }

    /// Seconds that packets go without a daemon after it has ceased to count as alive, if there is a watchdog.
    pub(super) fn patience(&self) -> u16 {
        let after = self.config.node.watchdog.after;
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() != 0);
        u16::try_from(seconds.saturating_sub(FRESH.into())).unwrap_or(u16::MAX)
    }

    /// Looks through what packets recorded, and closes the slots that may close.
    pub(super) fn collect(&mut self, started: Instant) {
        self.budget.begin_look();
        let wanted = self.engine.wants_collection();
        let result = if wanted {
            self.look_and_collect()
        } else {
            self.share(HashMap::new());
            Ok(0)
        };
        match result {
            Ok(occupied) => self.budget.finish_look(occupied),
            Err(error) => self.warn(format!("cannot look through the recorded flows: {error:#}")),
        }
        self.next_collection = started + now().duration_since(started) * COLLECTION_SHARE;
    }

    pub(super) fn look_and_collect(&mut self) -> anyhow::Result<usize> {
        let tick = self.ticker.tick();
        let record = |(key, entry)| Record { key, entry };
        let mut look = Look {
            // NEWBORN first: what moves to FLOWS meanwhile is seen in one of them.
            newborn: self.dataplane.newborn()?.into_iter().map(record).collect(),
            flows: self.dataplane.flows()?.into_iter().map(record).collect(),
            rings: HashMap::new(),
        };
        for (service, class) in self.engine.open_rings() {
            if let Some(ring) = self.dataplane.ring(service, class)? {
                look.rings.insert(service, ring);
            }
        }
        let records =
            self.shares_flows().then(|| Records::by_service(look.newborn.clone(), look.flows.clone()));
        let collection = self.engine.collect(look, tick);
        self.carry_out(collection.plan);
        let pairs = |records: Vec<Record>| {
            records.into_iter().map(|record| (record.key, record.entry)).collect::<Vec<_>>()
        };
        let newborn_kept = self.dataplane.remove_newborn(&pairs(collection.newborn))?;
        let flows_kept = self.dataplane.remove_flows(&pairs(collection.flows))?;
        self.forget_survivors()?;
        self.share(records.unwrap_or_default());
        Ok(collection.occupied + newborn_kept + flows_kept)
    }

    /// Survivors of services without open slots are of no use.
    pub(super) fn forget_survivors(&self) -> anyhow::Result<()> {
        let open: BTreeSet<u16> = self.engine.open_rings().map(|(service, _)| service).collect();
        let survivors = self.dataplane.survivors()?;
        let left: Vec<_> =
            survivors.into_iter().map(|(key, _)| key).filter(|key| !open.contains(&key.service)).collect();
        self.dataplane.remove_survivors(&left)
    }

    pub(super) fn read_counters(&mut self, now: Instant) {
        let mut backends = 0;
        for (_, service) in self.engine.services() {
            if let Ok(stats) = self.dataplane.service_stats(service.reference.id) {
                self.service_rates.read(service.reference.id, stats, now);
                self.quiet.read(service.reference.id, stats.packets, now);
                self.service_arrivals.read(service.reference.id, stats.new_connections, now);
            }
            for member in service.members.values() {
                backends += 1;
                if let Ok(stats) = self.dataplane.backend_stats(member.reference.index) {
                    self.backend_rates.read(member.reference.index, stats, now);
                    self.backend_arrivals.read(member.reference.index, stats.new_connections, now);
                }
            }
        }
        // A bond's members get the program one by one, between the orders.
        self.tell_changes();
        self.service_rates.keep_read_at(now);
        self.quiet.keep_read_at(now);
        self.backend_rates.keep_read_at(now);
        self.service_arrivals.keep_read_at(now);
        self.backend_arrivals.keep_read_at(now);
        self.next_reading = now + Duration::from_secs(if backends > MANY_BACKENDS { 5 } else { 1 });
    }
}
