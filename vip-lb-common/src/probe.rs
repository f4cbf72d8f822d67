//! Which probe of this node a packet is, or answers.

use crate::{
    Packet, Verdict,
    abi::{Address, ProbeKey},
    headers::{ICMP_LEN, Icmp, Ipv4, Ipv6, Tcp, Udp, ether_type, protocol},
    pipeline::{Network, icmp_error, parse},
};

/// Types of echo request and reply in the upper byte (RFC 792; RFC 4443 section 4).
const ECHO_REQUEST: u16 = 8;
const ECHO_REPLY: u16 = 0;
const ECHO_REQUEST_V6: u16 = 128;
const ECHO_REPLY_V6: u16 = 129;

/// The key under which answers to this packet are known; none for a packet that no check sends.
#[inline(always)]
pub fn sent(packet: &impl Packet) -> Option<ProbeKey> {
    let (network, destination) = network(packet)?;
    let (source_port, destination_port) = ports(packet, &network, [ECHO_REQUEST, ECHO_REQUEST_V6])?;
    Some(key(destination, destination_port, network.source, source_port, network.protocol))
}

/// The key of the probe that this packet may answer, be it an answer of the backend or an ICMP error about the probe (RFC 792, RFC 4443).
#[inline(always)]
pub fn answered(packet: &impl Packet) -> Option<ProbeKey> {
    let (network, destination) = network(packet)?;
    if let Some((source_port, destination_port)) = ports(packet, &network, [ECHO_REPLY, ECHO_REPLY_V6]) {
        // A reply to a ping has the identifier where a request has it.
        let (vip_port, node_port) = if parse::has_ports(network.protocol) {
            (source_port, destination_port)
        } else {
            (0, source_port)
        };
        return Some(key(network.source, vip_port, destination, node_port, network.protocol));
    }
    if !matches!(network.protocol, protocol::ICMP | protocol::ICMPV6)
        || !matches!(icmp_error::is_error(packet, &network), Ok(true))
    {
        return None;
    }
    let quote = icmp_error::quote(packet, &network).ok()?;
    // The quote's flow has the ports as answers have them.
    let (vip_port, node_port) = (quote.flow.source_port(), quote.flow.destination_port());
    Some(key(quote.destination, vip_port, quote.source, node_port, quote.protocol))
}

#[inline(always)]
fn key(vip: Address, vip_port: u16, node: Address, node_port: u16, protocol: u8) -> ProbeKey {
    ProbeKey { vip, node, vip_port, node_port, protocol, reserved: [0; 3] }
}

/// What the IP header says, and the destination.
#[inline(always)]
fn network(packet: &impl Packet) -> Option<(Network, Address)> {
    let link = parse::link(packet).ok()?.forgotten();
    let (network, destination) = match link.ether_type {
        ether_type::IPV4 => {
            let ip = Ipv4::at(packet, link.network, Verdict::ShortFrame).ok()?;
            (parse::ipv4(packet, ip, link.network).ok()?, ip.destination())
        }
        ether_type::IPV6 => {
            let ip = Ipv6::at(packet, link.network, Verdict::ShortFrame).ok()?;
            (parse::ipv6(packet, ip, link.network).ok()?, ip.destination())
        }
        _ => return None,
    };
    network.piece.is_whole().then_some((network.forgotten(), destination))
}

/// Source and destination port; the identifier and 0 of a ping of these types.
#[inline(always)]
fn ports(packet: &impl Packet, network: &Network, ping: [u16; 2]) -> Option<(u16, u16)> {
    let flow = match network.protocol {
        protocol::TCP => {
            parse::tcp(Tcp::at(packet, network.transport, Verdict::BadTransportHeader).ok()?, network).ok()?
        }
        protocol::UDP => {
            parse::udp(Udp::at(packet, network.transport, Verdict::BadTransportHeader).ok()?, network).ok()?
        }
        protocol::ICMP | protocol::ICMPV6 if network.transport_len >= ICMP_LEN => {
            let message = Icmp::at(packet, network.transport, Verdict::BadTransportHeader).ok()?;
            let [v4, v6] = ping;
            let wanted = if network.is_v4 { v4 } else { v6 };
            let identifier = (message.rest() >> u16::BITS) as u16;
            return (message.type_and_code() == wanted << u8::BITS).then_some((identifier, 0));
        }
        _ => return None,
    };
    Some((flow.source_port(), flow.destination_port()))
}
