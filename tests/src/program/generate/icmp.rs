//! ICMP and ICMPv6: echo, and errors that quote packets.

use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use vip_lb_common::headers::protocol::{TCP, UDP};

use super::{Generator, layers::plain_ip};
use crate::packet::{Extension, Frame, eth};

/// The ends of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
}

impl Generator {
    /// An echo request or reply to any address of the node.
    pub(super) fn echo(&mut self) -> Frame {
        let to = *self.dice.pick(&self.places.addresses);
        let (link, client) = (self.link(), self.client(to));
        let ip = self.ip(link, client, to);
        let (id, sequence) = (self.client_port(), self.dice.below(4) as u16);
        let echo = match self.dice.below(8) {
            0 => ip.echo_reply(id, sequence),
            1 => ip.icmp(self.dice.next_word() as u8, self.dice.below(4) as u8, [0; 4]),
            _ => ip.echo_request(id, sequence),
        };
        self.payload(echo)
    }

    /// An error about a packet that a VIP sent, that a node sent to a translated backend, or that nobody sent.
    pub(super) fn icmp_error(&mut self) -> Frame {
        let translated = if self.dice.below(3) == 0 { self.translated_packet() } else { None };
        let (to, quote) = match translated {
            Some((ends, packet)) => (ends.source, packet),
            None => {
                let target = self.target();
                let client = self.client(target.address);
                (target.address, self.quoted_answer(target.address, client, target.protocol, target.port))
            }
        };
        // Often another VIP than the quoted packet's.
        let to = if self.dice.below(16) == 0 { *self.dice.pick(&self.places.addresses) } else { to };
        let v4 = to.is_ipv4();
        let router = match (self.dice.below(3), v4) {
            (0, _) => self.client(to),
            (_, true) => IpAddr::from([198, 51, 100, 1]),
            (_, false) => IpAddr::from([0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1]),
        };
        let (kind, code) = if v4 {
            // RFC 792, RFC 1191, RFC 1812.
            *self.dice.pick(&[
                (3, 1),
                (3, 2),
                (3, 3),
                (3, 4),
                (3, 4),
                (3, 13),
                (3, 14),
                (11, 0),
                (11, 1),
                (12, 0),
                (12, 1),
                (4, 0),
                (5, 1),
            ])
        } else {
            // RFC 4443 section 3.
            *self.dice.pick(&[(1, 0), (1, 4), (2, 0), (2, 0), (3, 0), (3, 1), (4, 0), (4, 1), (100, 0)])
        };
        let link = self.link();
        let ip = self.ip(link, router, to);
        let mtu = *self.dice.pick(&[1500, 1480, 1280, 576, 0]);
        let [high, low] = u16::to_be_bytes(mtu);
        let pointer = self.dice.below(48) as u8;
        let rest = match (kind, v4) {
            (12, true) => [pointer, 0, 0, 0],
            (4, false) => [0, 0, 0, pointer],
            _ => [0, 0, high, low],
        };
        let error = ip.icmp(kind, code, rest);
        let header = if v4 { 20 } else { 40 };
        let len = match self.dice.below(8) {
            0 => header + 8,
            1 => header + 7,
            2 => header,
            3 => self.dice.below(header + 9),
            // At least the header and eight bytes, as most routers of old did.
            4 | 5 => header + 8 + self.dice.below(60),
            _ => quote.len(),
        };
        error.payload(&quote[..len.min(quote.len()).min(548)])
    }

    /// A packet of a VIP to a client, from its IP header on.
    fn quoted_answer(&mut self, vip: IpAddr, client: IpAddr, protocol: u8, port: u16) -> Vec<u8> {
        let client_port = self.client_port();
        let ip =
            if self.dice.below(3) == 0 { self.ip(eth(), vip, client) } else { plain_ip(eth(), vip, client) };
        let ip = match self.dice.below(12) {
            0 if vip.is_ipv4() => ip.fragment(*self.dice.pick(&[0, 0, 8, 1480]), self.dice.below(2) == 0),
            0 => ip.extension(Extension::Fragment { offset: 0, more: true, id: 3 }),
            _ => ip,
        };
        let packet = match protocol {
            TCP | UDP => self.transport(ip, protocol, port, client_port),
            _ => ip,
        };
        let packet = match self.dice.below(16) {
            // An error about an answer to an echo request.
            0 => plain_ip(eth(), vip, client).echo_reply(client_port, 1),
            _ => packet.payload(&vec![0x55; self.dice.below(64)]),
        };
        packet.bytes().split_off(14)
    }

    /// Both ends of one of the packets that left translated.
    pub(super) fn translated_ends(&mut self) -> Option<Ends> {
        Some(self.translated_packet()?.0)
    }

    /// One of the packets that left translated, from its IP header on, and its ends. While none did, now and then a made-up one.
    fn translated_packet(&mut self) -> Option<(Ends, Vec<u8>)> {
        if self.translated.is_empty() || self.dice.below(16) == 0 {
            return self.made_up_translated_packet();
        }
        let which = self.dice.below(self.translated.len());
        let frame = &self.translated[which];
        let sliced = SlicedPacket::from_ethernet(frame).ok()?;
        let (source, destination): (IpAddr, IpAddr) = match sliced.net.as_ref()? {
            NetSlice::Ipv4(ip) => (ip.header().source().into(), ip.header().destination().into()),
            NetSlice::Ipv6(ip) => (ip.header().source().into(), ip.header().destination().into()),
            NetSlice::Arp(_) => return None,
        };
        let (protocol, source_port, destination_port) = match sliced.transport.as_ref()? {
            TransportSlice::Tcp(tcp) => (TCP, tcp.source_port(), tcp.destination_port()),
            TransportSlice::Udp(udp) => (UDP, udp.source_port(), udp.destination_port()),
            _ => return None,
        };
        let tags = 4 * sliced.vlan_ids().len();
        let packet = frame[14 + tags..].to_vec();
        Some((Ends { source, destination, protocol, source_port, destination_port }, packet))
    }

    fn made_up_translated_packet(&mut self) -> Option<(Ends, Vec<u8>)> {
        if self.places.translated.is_empty() {
            return None;
        }
        let (backend, port, node) = *self.dice.pick(&self.places.translated);
        let (first, ports) = self.places.nat_ports;
        let source_port = first.wrapping_add(self.dice.below(ports.max(1).into()) as u16);
        let destination_port = if port == 0 { self.dice.pick(&self.places.targets).port } else { port };
        let protocol = *self.dice.pick(&[TCP, UDP]);
        let ends = Ends { source: node, destination: backend, protocol, source_port, destination_port };
        let packet = self
            .transport(plain_ip(eth(), node, backend), protocol, source_port, destination_port)
            .payload(b"?");
        Some((ends, packet.bytes().split_off(14)))
    }
}
