//! What comes back from backends, and from routers on the way there.

use super::{Translation, both, marks};
use crate::{
    Packet, Tables, Verdict,
    abi::{NatReplyKey, ServiceRef},
    headers::protocol,
    pipeline::{Desk, Fate, Flow, Job, Next, Sign, Stage, Step, configured, fragment, icmp_error, parse},
    tables::{IcmpUse, NatCell, live},
};

/// Sends an answer, or an ICMP error about what went to a backend, on to the client; none where it is no translated connection's.
#[inline(always)]
pub(crate) fn find<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    desk: &mut Desk,
) -> Result<Option<Next>, Verdict> {
    let job = &mut desk.job;
    let (backend, node, protocol) = if job.network.piece.is_later() {
        let Some(first) = fragment::followed(tables, &fragment::key(job)) else {
            return Ok(None);
        };
        job.flow = Flow { ports: first.ports, sign: Sign::Datagram };
        (job.network.source, job.destination, job.network.protocol)
    } else if parse::has_ports(job.network.protocol) {
        (job.network.source, job.destination, job.network.protocol)
    } else if matches!(job.network.protocol, protocol::ICMP | protocol::ICMPV6)
        && job.network.piece.is_whole()
    {
        let network = job.bounded().network;
        if !matches!(icmp_error::is_error(packet, &network), Ok(true)) {
            return Ok(None);
        }
        let Ok(quote) = icmp_error::quote(packet, &network) else {
            return Ok(None);
        };
        job.flow = quote.flow;
        (quote.destination, quote.source, quote.protocol)
    } else {
        return Ok(None);
    };
    let Job { network, flow, .. } = &desk.job;
    let key = NatReplyKey {
        backend,
        node,
        backend_port: flow.source_port(),
        port: flow.destination_port(),
        protocol,
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
    let is_error = matches!(flow.sign, Sign::Related(_));
    if is_error {
        let rate = tables.service_options(reply.service).map_or(0, |options| options.icmp_rate);
        // Probes are this node's own, and as many as it wants.
        if reply.service != ServiceRef::PROBES && !tables.may_send(reply.service, IcmpUse::Error, rate) {
            return Err(Verdict::IcmpRate);
        }
    } else {
        cell.touch(settings.tick, marks(flow));
    }
    let grows = network.is_v4 && !reply.client.is_v4();
    desk.translation = Translation {
        source: reply.vip,
        destination: reply.client,
        ports: both(reply.vip_port, reply.client_port),
        macs: reply.macs,
        tag: (reply.vlan != 0).then_some(reply.vlan),
        // Nobody knows the way to the client. What came through a path goes back through one like it, unless it grows.
        mtu: if grows { backend.mtu } else { u16::MAX },
        backend: reply.backend,
        fate: Fate {
            service: reply.service,
            egress: reply.egress,
            bytes: network.len,
            ..Fate::from(Verdict::TranslatedReply)
        },
    };
    tables.observe(Step::Translation {
        from: (reply.vip, reply.vip_port),
        to: (reply.client, reply.client_port),
        is_new: false,
    });
    let stage = match flow.sign {
        Sign::Related(_) => Stage::TranslateError,
        Sign::Segment(flags) if flags.synchronizes() => Stage::Clamp,
        Sign::Segment(_) | Sign::Datagram => Stage::Translate,
    };
    desk.job.service.id = reply.service;
    desk.job.then = Stage::Translate;
    Ok(Some(Next::Then(stage)))
}
