//! What the programs wrote into their tables.

use std::collections::{BTreeMap, HashMap};

use vip_lb_common::abi::{FlowEntry, FlowKey, Recording, Stats, Survivor};

/// Everything that running packets changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Packets by the name of their verdict, those with none left out.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// SERVICE_STATS, those with nothing left out.
    pub services: BTreeMap<u16, Stats>,
    /// BACKEND_STATS, those with nothing left out.
    pub backends: BTreeMap<u16, Stats>,
    /// FLOWS.
    pub flows: HashMap<FlowKey, FlowEntry>,
    /// NEWBORN.
    pub newborn: HashMap<FlowKey, FlowEntry>,
    /// SURVIVORS.
    pub survivors: HashMap<FlowKey, Survivor>,
    /// Slots of small rings with a mark of an unrecorded packet: service, index, tick.
    pub unrecorded: Vec<(u16, u32, u32)>,
    /// RECORDING of the one CPU that ran.
    pub recording: Recording,
}

impl State {
    /// Panics with the parts that differ.
    #[track_caller]
    pub fn assert_same(&self, other: &Self, case: &str) {
        let Self { verdicts, services, backends, flows, newborn, survivors, unrecorded, recording } = self;
        assert_eq!(*verdicts, other.verdicts, "{case}: VERDICTS");
        assert_eq!(*services, other.services, "{case}: SERVICE_STATS");
        assert_eq!(*backends, other.backends, "{case}: BACKEND_STATS");
        assert_eq!(*flows, other.flows, "{case}: FLOWS");
        assert_eq!(*newborn, other.newborn, "{case}: NEWBORN");
        assert_eq!(*survivors, other.survivors, "{case}: SURVIVORS");
        assert_eq!(*unrecorded, other.unrecorded, "{case}: unrecorded_at of the slots");
        assert_eq!(*recording, other.recording, "{case}: RECORDING");
    }
}
