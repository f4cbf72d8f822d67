//! Answers of backends.

use super::{Translation, both, marks};
use crate::{
    Tables, Verdict,
    abi::NatReplyKey,
    pipeline::{Desk, Fate, Job, Next, Stage, Step, configured},
    tables::{NatCell, live},
};

/// Sends an answer on to its client; none where it is no translated connection's.
#[inline(always)]
pub(crate) fn find<T: Tables>(tables: &T, desk: &mut Desk) -> Result<Option<Next>, Verdict> {
    let Job { network, flow, .. } = &desk.job;
    let key = NatReplyKey {
        backend: network.source,
        node: network.destination,
        backend_port: flow.source_port(),
        port: flow.destination_port(),
        protocol: network.protocol,
        reserved: [0; 3],
    };
    let Some(cell) = tables.nat_reply(&key) else {
        return Ok(None);
    };
    let settings = configured(tables)?;
    let reply = cell.get();
    let Some(backend) = live(tables, reply.backend) else {
        return Err(Verdict::BackendGone);
    };
    cell.touch(settings.tick, marks(flow));
    let grows = network.is_v4 && !reply.client.is_v4();
    desk.translation = Translation {
        source: reply.vip,
        destination: reply.client,
        ports: both(reply.vip_port, reply.client_port),
        macs: reply.macs,
        tag: (reply.vlan != 0).then_some(reply.vlan),
        // Nobody knows the way to the client. What came through a path goes back through one like it, unless it grows.
        mtu: if grows { backend.mtu } else { u16::MAX },
        fate: Fate { egress: reply.egress, bytes: network.len, ..Fate::from(Verdict::TranslatedReply) },
    };
    tables.observe(Step::Translation {
        from: (reply.vip, reply.vip_port),
        to: (reply.client, reply.client_port),
        is_new: false,
    });
    Ok(Some(Next::Later(Stage::Translate)))
}
