//! Which backend a flow goes to: slots remember, flows need not.
//!
//! **Invariant**: in an open slot every live flow that is not on `previous` is recorded; in a closed slot every live flow is on
//! `current`. So an unknown flow of an open slot goes to `previous`, and a closed slot needs no table at all.
//!
//! The daemon opens and closes slots (`vip_lb::steering`); this file only obeys and records.

use super::{Flow, Network, Reason, Sign, Step};
use crate::{
    FlowHash, Tables, Verdict,
    abi::{Backend, BackendRef, FlowEntry, FlowKey, Phase, ServiceRef, Settings, Slot, Survivor},
    headers::{TcpFlags, protocol},
    tables::{FlowCell, live},
};

/// Chooses the backend of a packet, whose flow has this [`hash`], and records what the invariant asks for.
#[inline(always)]
pub(super) fn steer<'t, T: Tables>(
    tables: &'t T,
    settings: &Settings,
    service: ServiceRef,
    network: &Network,
    flow: &Flow,
    hash: FlowHash,
) -> Result<(BackendRef, T::Ref<'t, Backend>), Verdict> {
    let by_source = service.flags & ServiceRef::SOURCE_AFFINITY != 0;
    let (index, slot) = tables.slot_of(service, hash).ok_or(Verdict::NoBackend)?;
    tables.observe(Step::Slot { hash, index, slot: *slot });
    let backend = if slot.phase == Phase::Closed as u8 {
        // No table is asked.
        tables.observe(Step::Chosen { backend: slot.current, reason: Reason::Settled });
        slot.current
    } else {
        let key = FlowKey {
            source: network.source,
            source_port: if by_source { 0 } else { flow.source_port() },
            destination_port: if by_source { 0 } else { flow.destination_port() },
            service: service.id,
            reserved: 0,
        };
        OpenSlot { tables, settings, service, index, slot: *slot, key }.choose(flow.sign, by_source)?
    };
    if backend.is_none() {
        return Err(Verdict::NoBackend);
    }
    live(tables, backend).map(|found| (backend, found)).ok_or(Verdict::BackendGone)
}

/// The hash by which a flow is steered; with affinity by source, that of its client.
#[inline(always)]
pub(super) fn hash(settings: &Settings, service: ServiceRef, network: &Network, flow: &Flow) -> FlowHash {
    let ports = if service.flags & ServiceRef::SOURCE_AFFINITY != 0 { 0 } else { flow.ports };
    settings.hash.hash(network.source.words(), ports, network.is_v4)
}

/// A packet in an open slot.
struct OpenSlot<'s, T: Tables> {
    tables: &'s T,
    settings: &'s Settings,
    service: ServiceRef,
    index: u32,
    slot: Slot,
    key: FlowKey,
}

impl<T: Tables> OpenSlot<'_, T> {
    /// Chooses the backend and records what the invariant asks for; [`BackendRef::NONE`] where there is none for new flows.
    #[inline(always)]
    fn choose(&self, sign: Sign, by_source: bool) -> Result<BackendRef, Verdict> {
        match sign {
            Sign::Related(protocol) => Ok(self.related(protocol == protocol::TCP && !by_source)),
            // With affinity by source, a client's first SYN is not its first packet.
            Sign::Segment(flags) if !by_source && flags.opens() => self.handshake(),
            Sign::Segment(flags) if !by_source => Ok(self.segment(flags)),
            Sign::Segment(_) | Sign::Datagram => Ok(self.datagram()),
        }
    }

    /// What is about a flow, but none of its packets: it goes where they go, and leaves no trace. `visible` where beginnings of flows are.
    #[inline(always)]
    fn related(&self, visible: bool) -> BackendRef {
        if let Some((_, entry)) = self.recorded(self.tables.flow(&self.key)) {
            return self.chosen(entry.backend, Reason::Recorded);
        }
        if let Some((_, entry)) = self.recorded(self.tables.newborn(&self.key)) {
            return self.chosen(entry.backend, Reason::Handshake);
        }
        if visible || self.slot.phase == Phase::Open as u8 {
            self.previous(Reason::Older)
        } else {
            self.current(Reason::NewUnrecorded)
        }
    }

    /// A SYN. A live record wins, so that a retransmitted SYN never moves; one that is closing is another connection's.
    #[inline(always)]
    fn handshake(&self) -> Result<BackendRef, Verdict> {
        if let Some((cell, entry)) = self.recorded(self.tables.flow(&self.key)) {
            if entry.closing == 0 {
                return Ok(self.touch(&cell, entry, Reason::Recorded));
            }
            // The port is used again. Without a record of its own the new connection would be taken for the old one, so it either
            // gets one or keeps to the old backend.
            if !self.begin_on_current() {
                cell.set_closing(false);
                return Ok(self.touch(&cell, entry, Reason::Recorded));
            }
            self.tables.remove_flow(&self.key);
            return Ok(self.current(Reason::New));
        }
        if let Some((cell, entry)) = self.recorded(self.tables.newborn(&self.key)) {
            return Ok(self.touch(&cell, entry, Reason::Handshake));
        }
        if self.begin_on_current() {
            return Ok(self.current(Reason::New));
        }
        // A daemon that died while the slot was settling will not close it; a living one may, and reopens it if it must.
        if self.slot.phase == Phase::Settling as u8 && self.tables.seconds() <= self.settings.fresh_until {
            return Err(Verdict::Settling);
        }
        self.mark_unrecorded();
        Ok(self.previous(Reason::Refused))
    }

    /// Any other TCP segment.
    #[inline(always)]
    fn segment(&self, flags: TcpFlags) -> BackendRef {
        if let Some((cell, entry)) = self.recorded(self.tables.flow(&self.key)) {
            if flags.closes() {
                cell.set_closing(true);
            }
            return self.touch(&cell, entry, Reason::Recorded);
        }
        if let Some((cell, entry)) = self.recorded(self.tables.newborn(&self.key)) {
            // The handshake was answered: from here on the record must not be evicted.
            if !flags.resets() {
                self.tables.insert_flow(&self.key, &self.entry(entry.backend, flags.closes()));
            }
            return self.touch(&cell, entry, Reason::Handshake);
        }
        self.mark_unrecorded();
        let survivor = Survivor { seen: self.settings.tick, slot: self.index };
        self.tables.note_survivor(&self.key, &survivor, self.settings);
        self.previous(Reason::Older)
    }

    /// UDP and affinity by source, which have no visible beginning: the daemon says when all older flows are recorded.
    #[inline(always)]
    fn datagram(&self) -> BackendRef {
        if let Some((cell, entry)) = self.recorded(self.tables.flow(&self.key)) {
            return self.touch(&cell, entry, Reason::Recorded);
        }
        if self.slot.phase == Phase::Open as u8 {
            if !self.record(self.slot.previous) {
                self.mark_unrecorded();
            }
            return self.previous(Reason::Older);
        }
        if self.record(self.slot.current) {
            self.current(Reason::New)
        } else {
            self.current(Reason::NewUnrecorded)
        }
    }

    /// A record of this opening whose backend still lives.
    #[inline(always)]
    fn recorded<C: FlowCell>(&self, cell: Option<C>) -> Option<(C, FlowEntry)> {
        let cell = cell?;
        let entry = cell.get();
        (entry.epoch == self.slot.epoch && live(self.tables, entry.backend).is_some())
            .then_some((cell, entry))
    }

    #[inline(always)]
    fn touch<C: FlowCell>(&self, cell: &C, entry: FlowEntry, reason: Reason) -> BackendRef {
        if entry.seen != self.settings.tick {
            cell.set_seen(self.settings.tick);
        }
        self.chosen(entry.backend, reason)
    }

    #[inline(always)]
    fn begin_on_current(&self) -> bool {
        self.tables.may_record(self.settings)
            && self.tables.insert_newborn(&self.key, &self.entry(self.slot.current, false))
    }

    #[inline(always)]
    fn record(&self, backend: BackendRef) -> bool {
        self.tables.may_record(self.settings)
            && self.tables.insert_flow(&self.key, &self.entry(backend, false))
    }

    #[inline(always)]
    fn entry(&self, backend: BackendRef, closing: bool) -> FlowEntry {
        FlowEntry {
            backend,
            epoch: self.slot.epoch,
            closing: closing as u16,
            seen: self.settings.tick,
            slot: self.index,
        }
    }

    #[inline(always)]
    fn mark_unrecorded(&self) {
        if self.slot.unrecorded_at != self.settings.tick {
            self.tables.mark_unrecorded(self.service, self.index, self.settings.tick);
        }
    }

    #[inline(always)]
    fn current(&self, reason: Reason) -> BackendRef {
        self.chosen(self.slot.current, reason)
    }

    /// `previous`, or `current` in the moment between its death and the next ring.
    #[inline(always)]
    fn previous(&self, reason: Reason) -> BackendRef {
        let alive = live(self.tables, self.slot.previous).is_some();
        self.chosen(if alive { self.slot.previous } else { self.slot.current }, reason)
    }

    #[inline(always)]
    fn chosen(&self, backend: BackendRef, reason: Reason) -> BackendRef {
        self.tables.observe(Step::Chosen { backend, reason });
        backend
    }
}
