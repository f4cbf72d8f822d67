//! Notes of flows chosen by their hash what shows whether their backends answer: SYN, the first acknowledgement after it, repeated SYN, data,
//! what is acknowledged since, repeated data.
//!
//! Only the client's packets are asked, because behind most modes there are no others here. A table of fixed size has one place for each hash.
//! Whoever has it loses it only when it waits for no answer, or has waited for long: a flood takes places from other flows, but no
//! memory, and changes nothing about what is noted of those that have one.

use super::{Desk, Next, Sign, Stage, configured};
use crate::{
    Packet, Tables, Verdict,
    abi::{Address, BackendRef, SAMPLE_KEPT, SAMPLES, Sample, SampleState},
    headers::{Tcp, TcpFlags},
};

/// Notes a packet whose backend is known, if its flow is one of those. Whatever comes of it, the packet goes on.
#[inline(always)]
pub(super) fn decide<P: Packet, T: Tables>(packet: &P, tables: &T, desk: &mut Desk) -> Result<Next, Verdict> {
    let settings = configured(tables)?;
    let job = desk.job.bounded();
    let next = Next::Then(job.then);
    let Sign::Segment(flags) = job.flow.sign else {
        return Ok(next);
    };
    let is_translated = job.then == Stage::Translate;
    let backend = if is_translated { desk.translation.backend } else { job.backend };
    if !job.service.samples(super::steer::hash(&settings, job.service, &job.network, &job.flow)) {
        return Ok(next);
    }
    let tcp = Tcp::at(packet, job.network.transport, Verdict::BadTransportHeader)?;
    let segment = Segment {
        source: job.network.source,
        ports: job.flow.ports,
        service: job.service.id,
        backend,
        flags,
        sequence: tcp.sequence(),
        acknowledged: tcp.acknowledged(),
        payload: job.network.transport_len.wrapping_sub(tcp.header_len()) as u16,
    };
    // The ports are in it even where steering leaves them out, with affinity by source.
    let hash = settings.hash.hash(job.network.source.words(), job.flow.ports, job.network.is_v4);
    tables.sample(hash.slot(SAMPLES as u32), |sample, now| segment.note(sample, now));
    Ok(next)
}

/// What of a TCP segment (RFC 9293 section 3.1) is looked at.
struct Segment {
    source: Address,
    ports: u32,
    service: u16,
    backend: BackendRef,
    flags: TcpFlags,
    sequence: u32,
    acknowledged: u32,
    /// Bytes of data.
    payload: u16,
}

impl Segment {
    /// Notes the segment at `now`, in nanoseconds.
    #[inline(always)]
    fn note(&self, sample: &mut Sample, now: u64) {
        if sample.state == SampleState::Free as u8 || !self.is_of(sample) {
            if !may_go(sample, now) {
                return;
            }
            if self.flags.opens() {
                self.begin(sample, now);
            } else if self.payload != 0 && !self.flags.closes() {
                self.join(sample, now);
            }
            return;
        }
        if self.flags.opens() {
            if sample.state == SampleState::Handshake as u8 && sample.sequence == self.sequence {
                sample.syn_again = sample.syn_again.saturating_add(1);
                sample.backend = self.backend;
            } else {
                self.begin(sample, now);
            }
            return;
        }
        if sample.state == SampleState::Over as u8 {
            return;
        }
        sample.backend = self.backend;
        // Not as proof of an answer: whose address a SYN has borrowed resets what it did not ask for.
        if self.flags.resets() {
            sample.state = SampleState::Over as u8;
            return;
        }
        if sample.state == SampleState::Handshake as u8 {
            sample.shaken_after = microseconds(sample.begun, now);
            sample.acknowledged = self.acknowledged;
            sample.state = SampleState::Established as u8;
        } else {
            self.progress(sample, now);
        }
        if self.payload != 0 {
            self.ask(sample, now);
        }
        if self.flags.finishes() {
            sample.state = SampleState::Over as u8;
        }
    }

    #[inline(always)]
    fn is_of(&self, sample: &Sample) -> bool {
        sample.source == self.source && sample.ports == self.ports && sample.service == self.service
    }

    /// The first packet of a connection. The state is written last, so that others see a flow of its own or none.
    #[inline(always)]
    fn begin(&self, sample: &mut Sample, now: u64) {
        self.enter(sample);
        sample.begun = now;
        sample.asked = 0;
        sample.state = SampleState::Handshake as u8;
    }

    /// Data of a connection that began before.
    #[inline(always)]
    fn join(&self, sample: &mut Sample, now: u64) {
        self.enter(sample);
        sample.begun = 0;
        sample.asked = now;
        sample.state = SampleState::Asked as u8;
    }

    #[inline(always)]
    fn enter(&self, sample: &mut Sample) {
        sample.state = SampleState::Free as u8;
        sample.source = self.source;
        sample.ports = self.ports;
        sample.service = self.service;
        sample.syn_again = 0;
        sample.backend = self.backend;
        sample.sequence = self.sequence;
        sample.acknowledged = self.acknowledged;
        sample.shaken_after = 0;
        sample.answered_after = 0;
        sample.data_again = 0;
    }

    /// What the client acknowledges it has got.
    #[inline(always)]
    fn progress(&self, sample: &mut Sample, now: u64) {
        if !is_newer(self.acknowledged, sample.acknowledged) {
            return;
        }
        sample.acknowledged = self.acknowledged;
        sample.data_again = 0;
        if sample.state == SampleState::Asked as u8 {
            sample.answered_after = microseconds(sample.asked, now);
            sample.state = SampleState::Established as u8;
        }
    }

    /// Data: new, which shows that there is room for it at the other end, or the same again.
    #[inline(always)]
    fn ask(&self, sample: &mut Sample, now: u64) {
        if sample.state == SampleState::Asked as u8 && !is_newer(self.sequence, sample.sequence) {
            sample.data_again = sample.data_again.saturating_add(1);
            return;
        }
        sample.sequence = self.sequence;
        sample.asked = now;
        sample.answered_after = 0;
        sample.data_again = 0;
        sample.state = SampleState::Asked as u8;
    }
}

/// Whether a place may be another flow's.
#[inline(always)]
fn may_go(sample: &Sample, now: u64) -> bool {
    let since = match SampleState::from_u8(sample.state) {
        SampleState::Handshake => sample.begun,
        SampleState::Asked => sample.asked,
        SampleState::Free | SampleState::Established | SampleState::Over => return true,
    };
    now.wrapping_sub(since) >= SAMPLE_KEPT
}

/// Whether a sequence number comes after another one (RFC 9293 section 3.4).
#[inline(always)]
fn is_newer(number: u32, than: u32) -> bool {
    number != than && number.wrapping_sub(than) < 1 << 31
}

/// Microseconds between two moments, at least 1.
#[inline(always)]
fn microseconds(from: u64, to: u64) -> u32 {
    let microseconds = to.wrapping_sub(from) / 1000;
    if microseconds == 0 { 1 } else { microseconds as u32 }
}

#[cfg(test)]
mod tests;
