//! ICMP errors about packets that a VIP's backends sent: they go to the backend of the flow that they quote.

use super::{
    Flow, Job, Network, Next, Sign, Stage, Step, configured,
    parse::{self, Payload, Piece},
    refuse_forwarded, service,
};
use crate::{
    Packet, Tables, Verdict,
    abi::{Address, Settings},
    headers::{ICMP_LEN, IPV4_LEN, IPV6_LEN, Icmp, Ipv4, Ipv6, protocol},
    tables::IcmpUse,
};

/// Unreachable (with "fragmentation needed"), time exceeded, parameter problem (RFC 792).
const UNREACHABLE: u16 = 3;
const TIME_EXCEEDED: u16 = 11;
const PARAMETER_PROBLEM: u16 = 12;
/// Unreachable, packet too big, time exceeded, parameter problem (RFC 4443 section 3).
const FIRST_V6: u16 = 1;
const LAST_V6: u16 = 4;

/// Bytes of the quoted packet's payload that every error has (RFC 792; routers may send no more).
const QUOTED_PAYLOAD: usize = 8;

/// Whether an ICMP message is one of the errors that are steered.
#[inline(always)]
pub(crate) fn is_error(packet: &impl Packet, network: &Network) -> Result<bool, Verdict> {
    if network.transport_len < ICMP_LEN {
        return Err(Verdict::BadTransportHeader);
    }
    let kind = Icmp::at(packet, network.transport, Verdict::BadTransportHeader)?.type_and_code() >> u8::BITS;
    Ok(match (network.is_v4, network.protocol) {
        (true, protocol::ICMP) => matches!(kind, UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM),
        (false, protocol::ICMPV6) => (FIRST_V6..=LAST_V6).contains(&kind),
        _ => false,
    })
}

/// Finds the flow that an error is about. The error is passed on as it is, its checksum right or wrong, as a router would.
#[inline(always)]
pub(super) fn decide<T: Tables>(packet: &impl Packet, tables: &T, job: &mut Job) -> Result<Next, Verdict> {
    let network = job.bounded().network;
    let vip = tables.vip(&job.destination).ok_or(Verdict::NotVip)?;
    if configured(tables)?.flags & Settings::PEERS != 0 {
        refuse_forwarded(packet, tables, &vip, &network)?;
    }
    let quote = quote(packet, &network)?;
    if !quote.source.is(&job.destination) {
        return Err(Verdict::IcmpQuote);
    }
    let service = service::find(tables, &vip, quote.protocol, quote.flow.destination_port())?;
    tables.observe(Step::Service(service));
    let rate = tables.service_options(service.id).map_or(0, |options| options.icmp_rate);
    if !tables.may_send(service.id, IcmpUse::Error, rate) {
        return Err(Verdict::IcmpRate);
    }
    // It is steered as the client's own packets are, whoever sent it.
    job.network.source = quote.destination;
    job.flow = quote.flow;
    job.service = service;
    Ok(Next::Then(Stage::of(service)))
}

/// What an error says of the packet that it is about.
pub(crate) struct Quote {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) protocol: u8,
    /// Offset of its transport header.
    pub(super) transport: usize,
    /// The flow as the packets of the other direction show it: a client's, where a VIP's packet is quoted.
    pub(crate) flow: Flow,
}

/// Reads the quoted packet (RFC 792; RFC 4443 section 2.4 c), of which its ports are enough.
#[inline(always)]
pub(crate) fn quote(packet: &impl Packet, network: &Network) -> Result<Quote, Verdict> {
    let at = network.transport + ICMP_LEN;
    let (source, destination, payload) = if network.is_v4 {
        let ip = Ipv4::at(packet, at, Verdict::IcmpQuote)?;
        let header_len = ip.header_len();
        if ip.version() != 4 || header_len < IPV4_LEN || ip.fragment_offset() != 0 {
            return Err(Verdict::IcmpQuote);
        }
        let payload = Payload { protocol: ip.protocol(), offset: at + header_len, piece: Piece::WHOLE };
        (ip.source(), ip.destination(), payload)
    } else {
        let ip = Ipv6::at(packet, at, Verdict::IcmpQuote)?;
        if ip.version() != 6 {
            return Err(Verdict::IcmpQuote);
        }
        let payload =
            parse::payload(packet, ip.next_header(), at + IPV6_LEN).map_err(|_| Verdict::IcmpQuote)?;
        (ip.source(), ip.destination(), payload)
    };
    let end = network.transport + network.transport_len;
    if payload.piece.is_later()
        || !parse::has_ports(payload.protocol)
        || payload.offset + QUOTED_PAYLOAD > end
    {
        return Err(Verdict::IcmpQuote);
    }
    let ports = packet.view::<4>(payload.offset, Verdict::IcmpQuote)?.word(0);
    let flow = Flow { ports: ports.rotate_left(16), sign: Sign::Related(payload.protocol) };
    Ok(Quote { source, destination, protocol: payload.protocol, transport: payload.offset, flow })
}
