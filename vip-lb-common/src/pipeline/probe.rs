//! Probes of this node's own checks: they go to the backend that they ask about, whatever the ring of its service says.
//!
//! The rest of their way is that of clients' packets. So a probe sees what a client's packet sees: the same next hop, the same tunnel,
//! the same translation.

use super::{Flow, Job, Next, Stage, nat, parse};
use crate::{
    Packet, Tables, Verdict,
    abi::{BackendRef, Mode, ServiceRef},
    headers::{Ethernet, Ipv4, Ipv6, Tcp, Udp, ether_type, protocol},
    tables::live,
};

/// Finds out which backend a probe is for, and which stage takes it there.
#[inline(always)]
pub(super) fn decide<P: Packet, T: Tables>(packet: &P, tables: &T) -> Result<Next, Verdict> {
    let link = parse::link(packet)?.forgotten();
    let network = match link.ether_type {
        ether_type::IPV4 => {
            let ip = Ipv4::at(packet, link.network, Verdict::ShortFrame)?;
            parse::ipv4(packet, ip, link.network)?
        }
        ether_type::IPV6 => {
            let ip = Ipv6::at(packet, link.network, Verdict::ShortFrame)?;
            parse::ipv6(packet, ip, link.network)?
        }
        _ => return Err(Verdict::NotIp),
    };
    let network = network.forgotten();
    if !network.piece.is_whole() {
        return Err(Verdict::FragmentWithoutFirst);
    }
    let backend = target(packet)?;
    let is_translated = match Mode::from_u8(live(tables, backend).ok_or(Verdict::BackendGone)?.mode) {
        Mode::NatV4 | Mode::NatV6 => true,
        Mode::Unresolved => return Err(Verdict::Unresolved),
        _ => false,
    };
    let flow = match network.protocol {
        protocol::TCP => {
            parse::tcp(Tcp::at(packet, network.transport, Verdict::BadTransportHeader)?, &network)?
        }
        protocol::UDP => {
            parse::udp(Udp::at(packet, network.transport, Verdict::BadTransportHeader)?, &network)?
        }
        // No ping is translated.
        protocol::ICMP | protocol::ICMPV6 if !is_translated => Flow::default(),
        protocol::ICMP | protocol::ICMPV6 => return Err(Verdict::UnsupportedIcmp),
        _ => return Err(Verdict::UnsupportedProtocol),
    };
    let service = ServiceRef { id: ServiceRef::PROBES, ..ServiceRef::default() };
    let job = Job { service, backend, ..Job::new(packet, &link, &network, flow)? };
    let stage = if !is_translated {
        Stage::Deliver
    } else if nat::is_bound(tables, &job) {
        Stage::Nat
    } else {
        // The port of an earlier probe may be bound to that one's backend.
        Stage::NatBind
    };
    Ok(Next::Stage(stage, job))
}

/// The backend that a probe is for: its frame names it where others have the next hop. See [`BackendRef::probe_address`].
#[inline(always)]
fn target(packet: &impl Packet) -> Result<BackendRef, Verdict> {
    Ok(BackendRef::of_probe(Ethernet::of(packet, Verdict::ShortFrame)?.destination()))
}
