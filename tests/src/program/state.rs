//! What the programs wrote into their tables.

use std::collections::{BTreeMap, HashMap};

use vip_lb_common::abi::{
    AdvertKey, AdvertStamp, FlowEntry, FlowKey, Fragment, FragmentKey, NatFlow, NatReply, NatReplyKey,
    Recording, Sample, SampleState, Stats, Survivor,
};

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
    /// FRAGMENTS, without the time of the entries.
    pub fragments: HashMap<FragmentKey, Fragment>,
    /// ADVERTS, with 1 for every time.
    pub adverts: HashMap<AdvertKey, AdvertStamp>,
    /// SAMPLES by place, with 1 for every time.
    pub samples: BTreeMap<u32, Sample>,
    /// NAT_FLOWS.
    pub nat_flows: HashMap<FlowKey, NatFlow>,
    /// NAT_REPLIES.
    pub nat_replies: HashMap<NatReplyKey, NatReply>,
    /// Slots of small rings with a mark of an unrecorded packet: service, index, tick. Only of services that have sent a packet on, because
    /// all rings are half a million slots: a mark of one that was dropped is seen after the next that was not.
    pub unrecorded: Vec<(u16, u32, u32)>,
    /// RECORDING of the one CPU that ran.
    pub recording: Recording,
}

/// Entries of FRAGMENTS without their time, which is another clock's on each side.
pub(super) fn timeless(fragments: HashMap<FragmentKey, Fragment>) -> HashMap<FragmentKey, Fragment> {
    fragments.into_iter().map(|(key, fragment)| (key, Fragment { seen: 0, ..fragment })).collect()
}

/// Entries of ADVERTS without their times, which are another clock's on each side.
pub(super) fn whenever(adverts: HashMap<AdvertKey, AdvertStamp>) -> HashMap<AdvertKey, AdvertStamp> {
    adverts.into_iter().map(|(key, stamp)| (key, AdvertStamp { at: stamp.at.min(1), ..stamp })).collect()
}

/// Places of SAMPLES that are taken, without their times, which are another clock's on each side.
pub(super) fn without_times(samples: impl Iterator<Item = (u32, Sample)>) -> BTreeMap<u32, Sample> {
    let taken = samples.filter(|(_, sample)| sample.state != SampleState::Free as u8);
    let without = |sample: Sample| Sample {
        begun: sample.begun.min(1),
        asked: sample.asked.min(1),
        shaken_after: sample.shaken_after.min(1),
        answered_after: sample.answered_after.min(1),
        ..sample
    };
    taken.map(|(place, sample)| (place, without(sample))).collect()
}

impl State {
    /// Panics with the parts that differ.
    #[track_caller]
    pub fn assert_same(&self, other: &Self, case: &str) {
        let Self {
            verdicts,
            services,
            backends,
            flows,
            newborn,
            survivors,
            fragments,
            adverts,
            samples,
            nat_flows,
            nat_replies,
            unrecorded,
            recording,
        } = self;
        assert_eq!(*verdicts, other.verdicts, "{case}: VERDICTS");
        assert_eq!(*services, other.services, "{case}: SERVICE_STATS");
        assert_eq!(*backends, other.backends, "{case}: BACKEND_STATS");
        assert_eq!(*flows, other.flows, "{case}: FLOWS");
        assert_eq!(*newborn, other.newborn, "{case}: NEWBORN");
        assert_eq!(*survivors, other.survivors, "{case}: SURVIVORS");
        assert_eq!(*fragments, other.fragments, "{case}: FRAGMENTS");
        assert_eq!(*adverts, other.adverts, "{case}: ADVERTS");
        assert_eq!(*samples, other.samples, "{case}: SAMPLES");
        assert_eq!(*nat_flows, other.nat_flows, "{case}: NAT_FLOWS");
        assert_eq!(*nat_replies, other.nat_replies, "{case}: NAT_REPLIES");
        assert_eq!(*unrecorded, other.unrecorded, "{case}: unrecorded_at of the slots");
        assert_eq!(*recording, other.recording, "{case}: RECORDING");
    }
}
