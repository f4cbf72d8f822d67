//! Where a connection goes that has no entry, or one whose connection is over; and one that is noted before it goes its way.

use super::key;
use crate::{
    Tables, Verdict,
    abi::{Mode, ServiceRef},
    pipeline::{self, Desk, Job, Next, Sign, Stage, configured},
    tables::NatCell,
};

/// Chooses the backend. One that is not reached by translation gets the packet in its own way, with no entry.
#[inline(always)]
pub(crate) fn steer<T: Tables>(tables: &T, desk: &mut Desk) -> Result<Next, Verdict> {
    let settings = configured(tables)?;
    let Desk { job, draft, .. } = desk;
    let hash = pipeline::steer::hash(&settings, job.service, &job.network, &job.flow);
    let (reference, backend) =
        pipeline::steer::steer(tables, &settings, job.service, &job.network, &job.flow, hash)?;
    let begins = match job.flow.sign {
        Sign::Segment(flags) => flags.opens(),
        Sign::Datagram | Sign::Related(_) => true,
    };
    job.backend = reference;
    if job.service.flags & ServiceRef::NAT == 0 {
        return Ok(deliver(job));
    }
    if !matches!(Mode::from_u8(backend.mode), Mode::NatV4 | Mode::NatV6) {
        // Left alone, the entry of the former connection would catch the packets of this one.
        if begins && let Some(flow) = tables.nat_flow(&key(job)).map(|cell| cell.get()) {
            draft.remove(tables, job, &flow);
        }
        return Ok(deliver(job));
    }
    if begins { Ok(Next::Then(Stage::NatBind)) } else { Err(Verdict::NatUnknown) }
}

/// Sends the packet in the way of its backend's mode.
#[inline(always)]
fn deliver(job: &mut Job) -> Next {
    job.then = Stage::Deliver;
    Next::Then(if job.service.flags & ServiceRef::SAMPLE != 0 { Stage::Sample } else { Stage::Deliver })
}
