//! Packets to an address of this node itself that other nodes or backends send to.

use super::{Fate, Job};
use crate::{Packet, Tables, Verdict, decap};

/// Unwraps what peers tunnel to a backend on this host; all else is ordinary traffic.
#[inline(always)]
pub(super) fn decide<P: Packet, T: Tables>(packet: &mut P, tables: &T, job: &Job) -> Result<Fate, Verdict> {
    // Tunnelled packets are taken out of their tunnel whole: the stack reassembles fragments of them.
    if !job.network.piece.is_whole() {
        return Err(Verdict::NotVip);
    }
    decap::unwrap_for_local_backend(packet, tables, &job.link, &job.network).map(Fate::from)
}
