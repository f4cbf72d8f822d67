//! Where a connection goes that has no entry, or one whose connection is over.

use super::key;
use crate::{
    Packet, Tables, Verdict,
    abi::Mode,
    headers::TcpFlags,
    pipeline::{self, Desk, Job, Next, Stage, conclude, configured, fate_of, forward},
    tables::NatCell,
};

/// Chooses the backend. One that is not reached by translation gets the packet in its own way, with no entry.
#[inline(always)]
pub(crate) fn steer<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    desk: &mut Desk,
) -> Result<Next, Verdict> {
    let settings = configured(tables)?;
    let job = &desk.job;
    let (reference, backend) =
        pipeline::steer::steer(tables, &settings, job.service, &job.network, &job.flow)?;
    let begins = job.flow.tcp.is_none_or(TcpFlags::opens);
    if !matches!(Mode::from_u8(backend.mode), Mode::NatV4 | Mode::NatV6) {
        // Left alone, the entry of the former connection would catch the packets of this one.
        if begins {
            if let Some(flow) = tables.nat_flow(&key(job)).map(|cell| cell.get()) {
                desk.draft.remove(tables, job, &flow);
            }
        }
        let Job { link, network, flow, service, .. } = job.bounded();
        let verdict = forward::forward(packet, &link, &network, &flow, &backend)?;
        let fate = fate_of(verdict, service, reference, &backend, &network, &flow);
        return Ok(Next::Done(conclude(tables, Ok(fate))));
    }
    if !begins {
        return Err(Verdict::NatUnknown);
    }
    desk.job.backend = reference;
    Ok(Next::Later(Stage::NatBind))
}
