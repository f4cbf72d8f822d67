//! Full NAT: client -> VIP becomes node -> backend, and the answers come back by this node.
//!
//! Both entries of a connection are made and removed together, and never evicted. NAT_FLOWS has it as its client sees it: while it is
//! there it says where the packets go, and neither slot nor FLOWS is asked. NAT_REPLIES has it as its backend sees it; making that entry
//! is what claims a port of this node, so no two CPUs ever give the same away.
//!
//! [`known`] is the way of nearly all packets. [`steer`] chooses the backend of a new connection, [`bind`] writes the entries, [`reply`]
//! takes the answers, and [`translate`] carries out what any of them decided.

mod bind;
pub(super) mod error;
mod ports;
pub(super) mod reply;
mod steer;
pub(super) mod translate;
mod way;

pub(super) use bind::{Draft, bind};
pub(super) use steer::steer;
pub(super) use translate::Translation;
use way::Way;

use super::{Desk, Fate, Flow, Job, Next, Reason, Sign, Stage, Step, configured};
use crate::{
    Packet, Tables, Verdict,
    abi::{Backend, BackendRef, FlowKey, Mode, NatMarks, ServiceRef},
    tables::{NatCell, live},
};

/// A client's packet to a service with translated backends, or an ICMP error about one of the service's.
#[inline(always)]
pub(super) fn known<P: Packet, T: Tables>(packet: &P, tables: &T, desk: &mut Desk) -> Result<Next, Verdict> {
    let settings = configured(tables)?;
    let job = &desk.job;
    let is_error = matches!(job.flow.sign, Sign::Related(_));
    let without_entry = if is_error {
        Ok(Next::Then(Stage::Deliver))
    } else if job.network.piece.is_later() {
        Err(Verdict::FragmentWithoutFirst)
    } else {
        Ok(Next::Then(Stage::NatSteer))
    };
    let Some(cell) = tables.nat_flow(&key(job)) else {
        return without_entry;
    };
    let flow = cell.get();
    let Some(backend) = translated(tables, flow.backend)? else {
        return without_entry;
    };
    if job.flow.opens() && has_ended(flow.marks) {
        return without_entry;
    }
    tables.observe(Step::Chosen { backend: flow.backend, reason: Reason::Translated });
    if !is_error {
        // A later fragment changes nothing: in IPv6 it may name another protocol than its first one (RFC 8200 section 4.5), which is then not
        // the connection's.
        if !job.network.piece.is_later() && !Way::of(packet, &job.link)?.is_of(&flow) {
            desk.job.backend = flow.backend;
            return Ok(Next::Then(Stage::NatBind));
        }
        cell.touch(settings.tick, marks(&job.flow));
    }
    Ok(to_backend(tables, desk, flow.backend, &backend, flow.port, false))
}

/// Whether the packet's connection has entries that lead to the backend of the job, which it may go on with.
#[inline(always)]
pub(super) fn is_bound<T: Tables>(tables: &T, job: &Job) -> bool {
    tables
        .nat_flow(&key(job))
        .map(|cell| cell.get())
        .is_some_and(|flow| flow.backend == job.backend && !(job.flow.opens() && has_ended(flow.marks)))
}

/// Sends the packet on to its backend. The connection has `port` on this node.
#[inline(always)]
fn to_backend<T: Tables>(
    tables: &T,
    desk: &mut Desk,
    reference: BackendRef,
    backend: &Backend,
    port: u16,
    is_new: bool,
) -> Next {
    let job = &desk.job;
    let backend_port = backend_port(job, backend);
    desk.translation = Translation {
        source: backend.source,
        destination: backend.address,
        ports: both(port, backend_port),
        macs: backend.macs,
        tag: backend.tag(),
        mtu: backend.mtu,
        backend: reference,
        fate: Fate {
            verdict: Verdict::ForwardedNat,
            service: job.service.id,
            backend: reference.index,
            egress: backend.egress,
            bytes: job.network.len,
            opens: job.flow.opens(),
        },
    };
    tables.observe(Step::Translation {
        from: (backend.source, port),
        to: (backend.address, backend_port),
        is_new,
    });
    Next::Then(match desk.job.flow.sign {
        Sign::Related(_) => Stage::TranslateError,
        Sign::Segment(_) if desk.job.service.flags & ServiceRef::SAMPLE != 0 => {
            desk.job.then = Stage::Translate;
            Stage::Sample
        }
        Sign::Segment(_) | Sign::Datagram => Stage::Translate,
    })
}

/// The connection's key in NAT_FLOWS, both ports in it whatever the service's affinity.
#[inline(always)]
fn key(job: &Job) -> FlowKey {
    FlowKey {
        source: job.network.source,
        source_port: job.flow.source_port(),
        destination_port: job.flow.destination_port(),
        service: job.service.id,
        reserved: 0,
    }
}

/// The backend behind a reference, if that is still good and the backend is reached by translation.
#[inline(always)]
fn translated<T: Tables>(tables: &T, reference: BackendRef) -> Result<Option<T::Ref<'_, Backend>>, Verdict> {
    let Some(backend) = live(tables, reference) else {
        return Ok(None);
    };
    match Mode::from_u8(backend.mode) {
        Mode::NatV4 | Mode::NatV6 => Ok(Some(backend)),
        Mode::Unresolved => Err(Verdict::Unresolved),
        _ => Ok(None),
    }
}

/// Whether a backend is reached by translation.
#[inline(always)]
pub(super) fn is_translated<T: Tables>(tables: &T, reference: BackendRef) -> bool {
    matches!(translated(tables, reference), Ok(Some(_)) | Err(_))
}

/// The port that a packet goes to.
#[inline(always)]
fn backend_port(job: &Job, backend: &Backend) -> u16 {
    if backend.port == 0 { job.flow.destination_port() } else { backend.port }
}

/// What a packet says of its side of the connection: the `NatMarks::*` bits.
#[inline(always)]
fn marks(flow: &Flow) -> u16 {
    let Sign::Segment(flags) = flow.sign else {
        return NatMarks::DATA;
    };
    let mark = |condition: bool, mark: u16| if condition { mark } else { 0 };
    mark(!flags.synchronizes(), NatMarks::DATA)
        | mark(flags.finishes(), NatMarks::FIN)
        | mark(flags.resets(), NatMarks::RST)
}

/// Whether a client that sent this will begin another connection with its next SYN.
#[inline(always)]
fn has_ended(marks: u16) -> bool {
    marks & (NatMarks::FIN | NatMarks::RST) != 0
}

/// Two ports as they lie in a packet.
#[inline(always)]
fn both(source: u16, destination: u16) -> u32 {
    ((source as u32) << 16 | destination as u32).to_be()
}
