//! What asks the node itself, and what nobody expects.

use std::net::IpAddr;

use super::{Generator, layers::plain_ip};
use crate::packet::{Frame, arp_request, eth, neighbour_solicitation, neighbour_solicitation_to};

impl Generator {
    /// ARP or a neighbour solicitation, for one of the node's addresses or for another.
    pub(super) fn resolution(&mut self) -> Frame {
        let target = *self.dice.pick(&self.places.addresses);
        let target = match (self.dice.below(12), target) {
            (0, IpAddr::V4(_)) => IpAddr::from([10, 99, 0, 1]),
            (0, IpAddr::V6(_)) => IpAddr::from([0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 1]),
            (_, target) => target,
        };
        let asker = self.client(target).to_string();
        let text = target.to_string();
        if target.is_ipv4() {
            let arp = arp_request(if self.dice.below(6) == 0 { "0.0.0.0" } else { &asker }, &text);
            return match self.dice.below(12) {
                0 => arp.operation(2),
                1 => arp.operation(self.dice.below(30) as u16),
                2 => arp.arp_macs([0xff; 6], [0x02; 6]),
                _ => arp.pad_to(60),
            };
        }
        match self.dice.below(8) {
            0 => neighbour_solicitation("::", &text),
            1 => neighbour_solicitation_to(&text, &asker, &text),
            2 => neighbour_solicitation(&asker, &text).ttl(64),
            3 => neighbour_solicitation(&asker, &text).payload(&[1, 1, 2, 3, 4, 5, 6, 7]),
            // An advertisement, which nobody asked for.
            4 => plain_ip(eth(), self.client(target), target).ttl(255).icmp(136, 0, [0; 4]).payload(&[0; 16]),
            _ => neighbour_solicitation(&asker, &text),
        }
    }

    /// Protocols and EtherTypes that the node does not know, and noise.
    pub(super) fn oddity(&mut self) -> Frame {
        let to = *self.dice.pick(&self.places.addresses);
        let (link, client) = (self.link(), self.client(to));
        match self.dice.below(6) {
            0 => {
                let noise = self.noise();
                link.claim_next(self.dice.next_word() as u16).payload(&noise)
            }
            1 => {
                let noise = self.noise();
                link.claim_next(*self.dice.pick(&[0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8])).payload(&noise)
            }
            _ => {
                // IGMP, GRE, ESP, AH, mobility, HIP, shim6, "no next header", SCTP, experiments, any.
                let any = self.dice.next_word() as u8;
                let protocol = *self.dice.pick(&[2, 47, 50, 51, 135, 139, 140, 59, 132, 253, 255, any]);
                let noise = self.noise();
                plain_ip(link, client, to).claim_next(protocol.into()).payload(&noise)
            }
        }
    }

    fn noise(&mut self) -> Vec<u8> {
        let len = self.dice.below(80);
        (0..len).map(|_| self.dice.next_word() as u8).collect()
    }
}
