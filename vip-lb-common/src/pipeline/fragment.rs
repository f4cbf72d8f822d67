//! Fragments: only the first of a packet's has ports, so the others follow it.

use super::{Flow, Job, Next, Reason, Sign, Stage, Step, configured, nat, refuse_forwarded};
use crate::{
    Packet, Tables, Verdict,
    abi::{BackendRef, Fragment, FragmentKey, PortKey, ServiceRef, Settings, Vip},
    tables::live,
};

/// Where a later fragment goes: where its first one went; without that one, to the VIP's one service whose affinity needs no ports.
#[inline(always)]
pub(super) fn decide<T: Tables>(packet: &impl Packet, tables: &T, job: &mut Job) -> Result<Next, Verdict> {
    let vip = tables.vip(&job.destination).ok_or(Verdict::NotVip)?;
    if configured(tables)?.flags & Settings::PEERS != 0 {
        refuse_forwarded(packet, tables, &vip, &job.network)?;
    }
    if let Some(first) = followed(tables, &key(job)) {
        tables.observe(Step::Chosen { backend: first.backend, reason: Reason::SamePacket });
        job.flow = Flow { ports: first.ports, sign: Sign::Datagram };
        job.service = first.service;
        job.backend = first.backend;
    } else {
        job.service = without_first(tables, &vip, job.network.protocol)?;
    }
    tables.observe(Step::Service(job.service));
    let elsewhere = !job.backend.is_none() && !nat::is_translated(tables, job.backend);
    Ok(Next::Then(if elsewhere { Stage::Deliver } else { Stage::of(job.service) }))
}

/// Remembers where a first fragment goes.
#[inline(always)]
pub(super) fn remember<T: Tables>(tables: &T, job: &Job, backend: BackendRef) {
    if job.network.piece.is_first() {
        let seen = tables.seconds();
        let fragment = Fragment { ports: job.flow.ports, service: job.service, backend, seen };
        tables.insert_fragment(&key(job), &fragment);
    }
}

#[inline(always)]
pub(super) fn key(job: &Job) -> FragmentKey {
    FragmentKey {
        source: job.network.source,
        destination: job.destination,
        id: job.network.piece.id,
        // In IPv6 a later fragment may name another header than the first (RFC 8200 section 4.5).
        protocol: if job.network.is_v4 { job.network.protocol } else { 0 },
        reserved: [0; 3],
    }
}

/// The first fragment, if it came by not too long ago and its backend still lives.
#[inline(always)]
pub(super) fn followed<T: Tables>(tables: &T, key: &FragmentKey) -> Option<Fragment> {
    let first = tables.fragment(key)?;
    let age = tables.seconds().wrapping_sub(first.seen);
    (age <= Fragment::LIFETIME && live(tables, first.backend).is_some()).then_some(first)
}

/// The service of fragments that nothing is known of.
#[inline(always)]
fn without_first<T: Tables>(tables: &T, vip: &Vip, protocol: u8) -> Result<ServiceRef, Verdict> {
    if vip.flags & Vip::FRAGMENTS == 0 {
        return Err(Verdict::FragmentWithoutFirst);
    }
    let key = PortKey { vip: vip.id, port: 0, protocol, kind: PortKey::FRAGMENTS };
    tables.port(&key).ok_or(Verdict::FragmentWithoutFirst)
}
