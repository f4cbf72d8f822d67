//! What peers tell of flows, taken in.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use vip_lb_common::abi::{BackendRef, FlowEntry, FlowKey};

use super::{AGAIN, Daemon};
use crate::{
    config::model::RingSize,
    control::{daemon::now, desired::ServiceKey, service::Service},
    peering::{
        flows::{self, Flows, ServiceFlows, Stage},
        message::Message,
        statement::Statement,
    },
    steering::{Record, Records, Trust},
};

/// The slots of a service that a peer has open.
#[derive(Default)]
pub(super) struct HeardSlots {
    pub(super) serves: bool,
    pub(super) shares: u64,
    /// Of which ring: see [`Service::ring_kind`].
    ring: (u32, bool),
    open: Vec<(u32, u64)>,
    /// What has come of the next ones.
    coming: Vec<(u32, u64)>,
}

impl HeardSlots {
    /// Takes in what a peer says of them. Tells whether that was all of it.
    fn hear(&mut self, of: &ServiceFlows) -> bool {
        (self.serves, self.shares, self.ring) = (of.serves, of.shares, (of.ring, of.hidden));
        let Some(open) = &of.open else { return false };
        if open.first {
            self.coming.clear();
        }
        // However much is said, no ring has more slots.
        let room = (RingSize::Large.slots() as usize).saturating_sub(self.coming.len());
        self.coming.extend(open.slots().take(room));
        if open.last {
            self.open = std::mem::take(&mut self.coming);
        }
        open.last
    }
}

impl Daemon {
    /// Takes in what a peer says of flows.
    pub(in crate::control::daemon) fn hear_of_flows(&mut self, peer: IpAddr, message: Message) {
        match message {
            Message::Flows(flows) => self.hear_flows(peer, &flows),
            Message::FlowsAgain => self.share_all_with(peer),
            Message::Prepare => self.prepare_for(peer),
            Message::Prepared => {
                self.go_on_taking_back(|pending| pending.peer == peer);
            }
            Message::Statement(_) | Message::Orders(_) => {}
        }
    }

    fn hear_flows(&mut self, peer: IpAddr, flows: &Flows) {
        if self.sharing_peers().is_none() {
            return;
        }
        for of in &flows.services {
            let missed = self.hear_service(peer, of);
            if missed > 0 {
                self.sharing.counts.missed += missed as u64;
                self.sharing.missed.entry(peer).or_insert_with(|| now() + AGAIN);
            }
        }
        if flows.whole {
            self.sharing.whole.insert(peer);
            self.end_learning();
        }
    }

    /// Returns how much could not be taken in.
    fn hear_service(&mut self, peer: IpAddr, of: &ServiceFlows) -> usize {
        let key = of.key;
        let is_whole = self.sharing.heard.entry(peer).or_default().entry(key).or_default().hear(of);
        if is_whole {
            self.learn_slots(peer, key);
        }
        let Some(service) = self.engine.published(&key) else { return of.records.len() };
        if service.ring_kind() != (of.ring, of.hidden) {
            // That the services differ is said where they are compared.
            return 0;
        }
        if let Err(error) = self.forget_records(of) {
            self.warn(format!("cannot remove flows that are gone at a peer: {error:#}"));
        }
        match self.place_records(peer, of) {
            Ok(missed) => missed,
            Err(error) => {
                self.warn(format!("cannot record flows of a peer: {error:#}"));
                of.records.len()
            }
        }
    }

    /// Has slots remember what those of peers do. To be done again when this node's own ring changes, or who has the traffic.
    pub(in crate::control::daemon) fn learn_all_slots(&mut self) {
        let each = |(&peer, of): (&IpAddr, &BTreeMap<ServiceKey, HeardSlots>)| {
            of.keys().map(|&key| (peer, key)).collect::<Vec<_>>()
        };
        let all: Vec<_> = self.sharing.heard.iter().flat_map(each).collect();
        for (peer, key) in all {
            self.learn_slots(peer, key);
        }
    }

    /// Ends what a peer had open of services that it states no more.
    pub(in crate::control::daemon) fn forget_unstated(&mut self, peer: IpAddr, statement: &Statement) {
        if statement.summary.is_some() {
            // It does not say which it has.
            return;
        }
        let stated: BTreeSet<ServiceKey> = statement.services.iter().map(|service| service.key).collect();
        let Some(heard) = self.sharing.heard.get_mut(&peer) else { return };
        let gone: Vec<ServiceKey> = heard.keys().filter(|key| !stated.contains(key)).copied().collect();
        for key in gone {
            heard.remove(&key);
            if let Some(service) = self.engine.sharer(&key) {
                service.ring.lose(&peer.to_string(), self.ticker.tick());
            }
        }
    }

    fn learn_slots(&mut self, peer: IpAddr, key: ServiceKey) {
        let trust = self.trust_in(peer, &key);
        let Some(heard) = self.sharing.heard.get(&peer).and_then(|of| of.get(&key)) else { return };
        let tick = self.ticker.tick();
        let Some(service) = self.engine.sharer(&key) else { return };
        if service.ring_kind() != heard.ring {
            // Slots of another ring mean nothing here.
            service.ring.lose(&peer.to_string(), tick);
            return;
        }
        let (_, write) = service.learn(&peer.to_string(), &heard.open, trust, tick);
        if write.is_some() {
            self.publish_ring(write);
        }
    }

    fn trust_in(&mut self, peer: IpAddr, key: &ServiceKey) -> Trust {
        let Some(own) = self.engine.sharer(key).map(Service::shares_digest) else {
            return Trust::Own;
        };
        let heard = self.sharing.heard.get(&peer).and_then(|of| of.get(key));
        heard.map_or(Trust::Own, |heard| self.trust(key.vip, heard, own))
    }

    fn forget_records(&mut self, of: &ServiceFlows) -> anyhow::Result<()> {
        let (Some(service), Some(told)) =
            (self.engine.published(&of.key), self.sharing.told.get_mut(&of.key))
        else {
            return Ok(());
        };
        let id = service.reference.id;
        let gone = of.gone.iter().filter_map(|key| told.forget(&flows::flow_key(key, id)));
        let (newborn, flows): (Vec<_>, Vec<_>) = gone.partition(|(_, newborn)| *newborn);
        let pairs = |records: Vec<(Record, bool)>| {
            records.into_iter().map(|(record, _)| (record.key, record.entry)).collect::<Vec<_>>()
        };
        self.dataplane.remove_newborn(&pairs(newborn))?;
        self.dataplane.remove_flows(&pairs(flows))?;
        Ok(())
    }

    /// Returns how many could not be placed.
    fn place_records(&mut self, peer: IpAddr, of: &ServiceFlows) -> anyhow::Result<usize> {
        if of.records.is_empty() {
            return Ok(0);
        }
        let trust = self.trust_in(peer, &of.key);
        let clock = self.clock();
        let mut wanted = Vec::new();
        let mut missed = 0;
        let Some(service) = self.engine.published(&of.key) else { return Ok(of.records.len()) };
        let id = service.reference.id;
        for row in &of.records {
            let &(source, source_port, destination_port, identity, slot, silence, _) = row;
            let backend = service.reference_to(identity);
            let Some(stage) = flows::stage(row).filter(|_| backend != BackendRef::NONE) else {
                missed += 1;
                continue;
            };
            let key = flows::flow_key(&(source, source_port, destination_port), id);
            // A packet in this tick has to leave a trace.
            let seen = clock.tick.saturating_sub(silence.saturating_add(1));
            let entry =
                FlowEntry { backend, epoch: 0, closing: u16::from(stage == Stage::Closing), seen, slot };
            if !self.keeps(&of.key, &key, &entry, trust)? {
                wanted.push((key, entry, stage == Stage::Newborn));
            }
        }
        let Some(service) = self.engine.sharer(&of.key) else { return Ok(of.records.len()) };
        let slots: Vec<_> = wanted.iter().map(|(_, entry, _)| (entry.slot, entry.backend)).collect();
        let (epochs, write) = service.place(&slots, clock.tick);
        if write.is_some() {
            self.publish_ring(write);
        }
        for ((key, entry, newborn), epoch) in wanted.into_iter().zip(epochs) {
            let Some(epoch) = epoch else {
                missed += 1;
                continue;
            };
            let entry = FlowEntry { epoch, ..entry };
            let is_there = self.dataplane.flow(&key)?.is_some();
            if newborn {
                if is_there {
                    self.dataplane.delete_flow(&key)?;
                }
                self.dataplane.insert_newborn(&key, &entry)?;
            } else if is_there || self.budget.take(1) == 1 {
                self.dataplane.insert_flow(&key, &entry)?;
            } else {
                missed += 1;
                continue;
            }
            self.sharing.counts.heard += 1;
            let told = self.sharing.told.entry(of.key).or_default();
            told.heard(Record { key, entry }, newborn, clock);
        }
        Ok(missed)
    }

    /// Whether there is a record that is not to be replaced.
    fn keeps(
        &self,
        service: &ServiceKey,
        key: &FlowKey,
        told: &FlowEntry,
        trust: Trust,
    ) -> anyhow::Result<bool> {
        let (Some(published), Some(known)) = (self.engine.published(service), self.sharing.told.get(service))
        else {
            return Ok(false);
        };
        let entries = [self.dataplane.flow(key)?, self.dataplane.newborn_entry(key)?];
        let flows = entries.into_iter().flatten().map(|entry| Record { key: *key, entry }).collect();
        let honoured = published.honoured(&Records { flows, ..Records::default() });
        Ok(honoured.flows.iter().any(|record| known.keeps(record, told, trust)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::model::{Ports, Protocol},
        peering::flows::OpenSlots,
    };

    /// They filled the memory until it was said that this was all.
    #[test]
    fn slots_that_never_end_are_taken_in_up_to_the_largest_ring() {
        let vip = "192.0.2.1".parse().unwrap();
        let key = ServiceKey { vip, ports: Ports::One(80), protocol: Protocol::Tcp };
        let part = |last, slots| {
            let open = Some(OpenSlots { first: false, last, remembered: vec![(7, vec![1; slots])] });
            let (records, gone) = (Vec::new(), Vec::new());
            ServiceFlows { key, ring: 16_381, hidden: false, serves: true, shares: 1, open, records, gone }
        };
        let mut heard = HeardSlots::default();
        for _ in 0..5 {
            assert!(!heard.hear(&part(false, 60_000)));
        }
        assert!(heard.hear(&part(true, 1)));
        assert_eq!(heard.open.len(), 131_071);
    }
}
