//! What is left of backends that are drained.

use std::collections::{HashMap, HashSet};

use vip_lb_common::abi::{BackendRef, FlowKey, Phase};

use super::{Daemon, drains::Changed};
use crate::{
    api::model::{ApiError, BackendChange, BackendSelector, DrainReport, ErrorKind, Remaining},
    control::{daemon::orders::internal, desired::Facts as _, service::Service, standing::Standing},
    state::OrderKey,
    steering::identity,
};

/// Entries of the tables by the backend that they name.
#[derive(Default)]
struct Named {
    recorded: HashMap<BackendRef, HashSet<FlowKey>>,
    translated: HashMap<BackendRef, u64>,
    /// Of older flows only the slot is known: by service and slot.
    survivors: HashMap<(u16, u32), u64>,
}

impl Daemon {
    /// What the backends that a selector means still have; `changed` tells for whom an order changed something.
    pub(super) fn remaining(
        &self,
        selector: &BackendSelector,
        changed: &Changed,
    ) -> Result<DrainReport, ApiError> {
        let selected = self.selected(selector);
        let host = self.host_change(selector, changed);
        let is_known = host.as_ref().is_some_and(|host| host.changed || host.order.is_some());
        if selected.is_empty() && !is_known {
            return Err(ApiError::new(ErrorKind::NotFound, format!("no backend is called `{selector}`")));
        }
        let named = self.named().map_err(internal)?;
        let backends = selected.into_iter().filter_map(|(key, backend)| {
            let service = super::plan::find_service(&self.config, &key.service)?;
            let standing = self.standing(&key.service, backend);
            let remaining = self.remaining_of(&key, standing, &named);
            Some(BackendChange {
                service: service.name.clone(),
                backend: backend.name.clone(),
                changed: changed.backends.contains(&key),
                now: match standing {
                    Standing::Serving => "in ring".to_owned(),
                    Standing::Draining(cause) if remaining.drained => format!("drained ({cause})"),
                    Standing::Draining(cause) => format!("draining ({cause})"),
                    Standing::Out(cause) => format!("out ({cause})"),
                },
                order: self
                    .orders
                    .ruling(&key)
                    .map(|ruling| self.operator_order(key.backend, Some(&key), ruling)),
                remaining,
            })
        });
        Ok(DrainReport { host, backends: backends.collect(), warnings: Vec::new() })
    }

    fn remaining_of(&self, key: &OrderKey, standing: Standing, named: &Named) -> Remaining {
        let service = &key.service;
        let identity = identity(service.vip, service.ports, service.protocol.number(), key.backend);
        let published = self.engine.published(service);
        let member = published.and_then(|published| Some((published, published.members.get(&identity)?)));
        let is_drained = standing != Standing::Serving;
        let Some((published, member)) = member else {
            return Remaining { drained: is_drained, ..Remaining::default() };
        };
        let reference = member.reference;
        let slots = published.ring.slots();
        let recorded = named.recorded.get(&reference).map_or(0, HashSet::len) as u64;
        let translated = named.translated.get(&reference).copied().unwrap_or(0);
        let is_named = recorded > 0 || translated > 0 || published.ring.names(reference);
        let remembering = remembering(published, reference);
        let settled = remembering
            .iter()
            .filter_map(|slot| named.survivors.get(&(published.reference.id, *slot)).copied());
        Remaining {
            current_slots: slots.iter().filter(|slot| slot.current == reference).count() as u32,
            open_slots: remembering.len() as u32,
            recorded,
            translated,
            settled_estimate: settled.sum(),
            drained: is_drained && !is_named,
            seconds_left: published.ring.closes_in(reference, self.ticker.tick()),
        }
    }

    fn named(&self) -> anyhow::Result<Named> {
        let mut named = Named::default();
        // NEWBORN first: what moves to FLOWS meanwhile is seen in one of them. What is in both is one flow.
        for (key, entry) in self.dataplane.newborn()?.into_iter().chain(self.dataplane.flows()?) {
            named.recorded.entry(entry.backend).or_default().insert(key);
        }
        for (_, flow) in self.dataplane.nat_flows()? {
            *named.translated.entry(flow.backend).or_default() += 1;
        }
        let idle: HashMap<u16, u32> = self
            .engine
            .services()
            .map(|(_, service)| (service.reference.id, service.ring.timeouts().idle))
            .collect();
        let now = self.ticker.tick();
        for (key, survivor) in self.dataplane.survivors()? {
            let silence = now.saturating_sub(survivor.seen);
            if idle.get(&key.service).is_some_and(|&idle| silence <= idle) {
                *named.survivors.entry((key.service, survivor.slot)).or_default() += 1;
            }
        }
        Ok(named)
    }
}

/// Open slots that send what is not recorded to a backend.
fn remembering(service: &Service, reference: BackendRef) -> Vec<u32> {
    let slots = (0..).zip(service.ring.slots());
    let open = slots.filter(|(_, slot)| slot.phase != Phase::Closed as u8 && slot.previous == reference);
    open.map(|(index, _)| index).collect()
}
