//! Writes both entries of a connection, or both anew.

use super::{Way, backend_port, has_ended, key, marks, ports::Ports, to_backend, translated};
use crate::{
    Packet, Tables, Verdict,
    abi::{Backend, FlowKey, NatFlow, NatReply, NatReplyKey},
    pipeline::{Desk, Job, Next, configured},
    tables::NatCell,
};

/// The entries of a connection, to be written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Draft {
    key: FlowKey,
    flow: NatFlow,
    reply_key: NatReplyKey,
    reply: NatReply,
    /// The key of answers of the connection before.
    old_key: NatReplyKey,
}

/// Binds the packet's connection to the backend of the job, and sends the packet there: a new connection, the next one of the same client's
/// port, or one whose client is reached by another way than before.
#[inline(always)]
pub(crate) fn bind<P: Packet, T: Tables>(packet: &P, tables: &T, desk: &mut Desk) -> Result<Next, Verdict> {
    let settings = configured(tables)?;
    let backend = translated(tables, desk.job.backend)?.ok_or(Verdict::BackendGone)?;
    let Desk { job, draft, .. } = desk;
    draft.fill(packet, job, &backend, settings.tick)?;
    let renewed = match tables.nat_flow(&draft.key).map(|cell| cell.get()) {
        Some(old) if old.backend == job.backend => draft.renew(tables, job, &old),
        Some(old) => {
            draft.remove(tables, job, &old);
            false
        }
        None => false,
    };
    // All that is on the desk is read anew from here on. What LLVM kept of it would not fit on the stack.
    let desk = core::hint::black_box(desk);
    let Desk { job, draft, .. } = desk;
    if !renewed {
        let network = &job.network;
        let hash = settings.hash.hash(network.source.words(), job.flow.ports, network.is_v4);
        draft.claim(tables, Ports::new(&settings, hash))?;
    }
    let desk = core::hint::black_box(desk);
    let NatFlow { backend: reference, port, .. } = desk.draft.flow;
    // Another CPU may have been quicker to bind the connection, to another backend.
    let backend = translated(tables, reference)?.ok_or(Verdict::BackendGone)?;
    Ok(to_backend(tables, desk, reference, &backend, port, !renewed))
}

impl Draft {
    /// The entries without a port.
    #[inline(always)]
    fn fill(&mut self, packet: &impl Packet, job: &Job, backend: &Backend, tick: u32) -> Result<(), Verdict> {
        let way = Way::of(packet, &job.link)?;
        self.key = key(job);
        self.flow = NatFlow {
            backend: job.backend,
            seen: tick,
            port: 0,
            marks: marks(&job.flow),
            vlan: way.vlan,
            router: way.router(),
            ingress: way.ingress,
        };
        self.reply_key = reply_key(job, backend, 0);
        self.reply = NatReply {
            client: job.network.source,
            vip: job.destination,
            client_port: job.flow.source_port(),
            vip_port: job.flow.destination_port(),
            service: job.service.id,
            vlan: way.vlan,
            backend: job.backend,
            egress: way.ingress,
            macs: way.macs_back(),
            seen: tick,
            marks: 0,
            reserved: 0,
        };
        Ok(())
    }

    /// Replaces both entries. False where the answers' one is not this connection's; then there is none of the client's either.
    #[inline(always)]
    fn renew<T: Tables>(&mut self, tables: &T, job: &Job, old: &NatFlow) -> bool {
        self.reply_key.port = old.port;
        let Some(cell) = tables.nat_reply(&self.reply_key).filter(|cell| is_of(&cell.get(), &self.key))
        else {
            tables.remove_nat_flow(&self.key);
            return false;
        };
        self.flow.port = old.port;
        if !job.flow.opens() || !has_ended(old.marks) {
            self.flow.marks |= old.marks;
            self.reply.marks = cell.get().marks;
        }
        // Where the daemon removes them at this moment, the next packet finds none and begins anew.
        tables.replace_nat_flow(&self.key, &self.flow)
            && tables.replace_nat_reply(&self.reply_key, &self.reply)
    }

    /// Claims a port and makes both entries. Where another CPU was quicker with the same connection, that one's entry is the result.
    #[inline(always)]
    fn claim<T: Tables>(&mut self, tables: &T, ports: Ports) -> Result<(), Verdict> {
        self.reply.marks = 0;
        let mut index = 0;
        // Hidden from LLVM, which would write the loop out.
        while core::hint::black_box(index) < ports.len() {
            self.reply_key.port = ports.at(index);
            if tables.insert_nat_reply(&self.reply_key, &self.reply) {
                self.flow.port = self.reply_key.port;
                if !tables.insert_nat_flow(&self.key, &self.flow) {
                    tables.remove_nat_reply(&self.reply_key);
                    self.flow = tables.nat_flow(&self.key).ok_or(Verdict::NatExhausted)?.get();
                }
                return Ok(());
            }
            index += 1;
        }
        Err(Verdict::NatExhausted)
    }

    /// Removes both entries of a connection, the client's first: whoever finds none begins anew, with another port if need be.
    ///
    /// Where the backend's entry no longer tells its address, the daemon removes the answers' one, which nobody follows to a dead backend.
    #[inline(always)]
    pub(super) fn remove<T: Tables>(&mut self, tables: &T, job: &Job, old: &NatFlow) {
        self.key = key(job);
        tables.remove_nat_flow(&self.key);
        let Some(backend) = tables.backend(old.backend.index) else {
            return;
        };
        self.old_key = reply_key(job, &backend, old.port);
        if tables.nat_reply(&self.old_key).is_some_and(|cell| is_of(&cell.get(), &self.key)) {
            tables.remove_nat_reply(&self.old_key);
        }
    }
}

/// The key of the answers of a connection that has `port` on this node.
#[inline(always)]
fn reply_key(job: &Job, backend: &Backend, port: u16) -> NatReplyKey {
    NatReplyKey {
        backend: backend.address,
        node: backend.source,
        backend_port: backend_port(job, backend),
        port,
        protocol: job.network.protocol,
        reserved: [0; 3],
    }
}

/// Whether answers go to the connection with this key.
#[inline(always)]
fn is_of(reply: &NatReply, key: &FlowKey) -> bool {
    reply.client.is(&key.source)
        && reply.client_port == key.source_port
        && reply.vip_port == key.destination_port
        && reply.service == key.service
}
