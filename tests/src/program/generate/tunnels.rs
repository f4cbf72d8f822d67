//! Packets inside of packets, to the balancer's own addresses and to the decapsulator.

use std::net::IpAddr;

use super::{Generator, Packet, layers::plain_ip};
use crate::{packet::eth, program::Program};

impl Generator {
    /// A client's packet in a tunnel: IP in IP of any family in any family, or GUE.
    pub(super) fn tunnelled(&mut self) -> Vec<Packet> {
        let program = *self.dice.pick(&[Program::Balancer, Program::Decapsulator]);
        let places = if self.places.own.is_empty() { &self.places.addresses } else { &self.places.own };
        let to = *self.dice.pick(places);
        let from = self.tunnel_source(to);
        let link = self.link();
        let outer = if self.dice.below(4) == 0 { self.ip(link, from, to) } else { plain_ip(link, from, to) };
        let outer = outer.traffic_class(*self.dice.pick(&[0, 0, 1, 2, 3, 0xb8]));

        let target = self.target();
        let client = self.client(target.address);
        let inner = self.ip(eth(), client, target.address);
        let port = self.client_port();
        let inner = self.transport(inner, target.protocol, port, target.port);
        let inner = inner.payload(&vec![0x11; self.dice.below(200)]);

        let gue_port = self.places.gue_port;
        let source_port = 49_152 + self.dice.below(1000) as u16;
        let frame = match self.dice.below(12) {
            0..6 => inner.inside(outer),
            6..10 => {
                let udp = outer.udp(source_port, gue_port);
                // Variant 1 has no header of its own, and in IPv4 its checksum is usually 0 (draft-ietf-intarea-gue-09).
                let udp = if self.dice.below(2) == 0 { udp.claim_checksum(0) } else { udp };
                inner.inside(udp)
            }
            // Variant 0 with the shortest header, an option flag, or a control message.
            10 => {
                let head = *self.dice.pick(&[[0, 4, 0, 0], [0, 41, 0, 0], [1, 4, 0, 0], [0x20, 1, 0, 0]]);
                let packet = inner.bytes().split_off(14);
                outer.udp(source_port, gue_port).payload(&[&head[..], &packet].concat())
            }
            _ => {
                let packet = inner.bytes().split_off(14);
                let cut = self.dice.below(packet.len());
                let next = if target.address.is_ipv4() { 4 } else { 41 };
                outer.claim_next(next).payload(&packet[..cut])
            }
        };
        vec![Packet { program, frame: frame.bytes() }]
    }

    /// A peer in most cases, else a stranger.
    fn tunnel_source(&mut self, to: IpAddr) -> IpAddr {
        let of_family: Vec<IpAddr> =
            self.places.peers.iter().copied().filter(|peer| peer.is_ipv4() == to.is_ipv4()).collect();
        if of_family.is_empty() || self.dice.below(10) == 0 {
            return self.client(to);
        }
        *self.dice.pick(&of_family)
    }
}
