//! Who sees a packet, and what is noted of it on its way.
//!
//! Watching changes nothing about a packet: it is looked at before it enters the general way and after it has left it, and the steps
//! of the pipeline are noted in between.

use crate::{
    Packet, Verdict,
    abi::{Address, Sighting, Watcher},
    headers::{Arp, IPV6_LEN, Ipv4, Ipv6, ether_type, protocol},
    pipeline::{
        Fate, Step,
        parse::{self, Network},
    },
};

/// The two ends of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Who sent it: of ARP, the address of the asker.
    pub source: Address,
    /// Whom it is for: of ARP and neighbour solicitations, the address asked for.
    pub destination: Address,
    /// Port of the source; 0 where there is none.
    pub source_port: u16,
    /// Port of the destination; 0 where there is none.
    pub destination_port: u16,
    /// Protocol behind the IP header; 0 where that makes no sense.
    pub protocol: u8,
}

impl Ends {
    /// Of a packet, as far as it can be read: one that is malformed has addresses only.
    ///
    /// # Errors
    ///
    /// A packet that has no addresses.
    #[inline(always)]
    pub fn of(packet: &impl Packet) -> Result<Self, Verdict> {
        let link = parse::link(packet)?.forgotten();
        match link.ether_type {
            ether_type::IPV4 => {
                let ip = Ipv4::at(packet, link.network, Verdict::ShortFrame)?;
                let ends = Self { source: ip.source(), destination: ip.destination(), ..Self::default() };
                Ok(ends.with_ports(packet, parse::ipv4(packet, ip, link.network)))
            }
            ether_type::IPV6 => {
                let ip = Ipv6::at(packet, link.network, Verdict::ShortFrame)?;
                let mut ends = Self { source: ip.source(), destination: ip.destination(), ..Self::default() };
                if ip.is_multicast() {
                    // The only packets to a group that are any VIP's.
                    let message = packet.view::<24>(link.network + IPV6_LEN, Verdict::ShortFrame)?;
                    ends.destination = Address::from_words([
                        message.word(8),
                        message.word(12),
                        message.word(16),
                        message.word(20),
                    ]);
                    ends.protocol = protocol::ICMPV6;
                    return Ok(ends);
                }
                Ok(ends.with_ports(packet, parse::ipv6(packet, ip, link.network)))
            }
            ether_type::ARP => {
                let arp = Arp::at(packet, link.network, Verdict::ShortFrame)?;
                Ok(Self { source: arp.sender(), destination: arp.target(), ..Self::default() })
            }
            _ => Err(Verdict::NotIp),
        }
    }

    #[inline(always)]
    fn with_ports(self, packet: &impl Packet, network: Result<Network, Verdict>) -> Self {
        let Ok(network) = network.map(Network::forgotten) else {
            return self;
        };
        let ends = Self { protocol: network.protocol, ..self };
        if !parse::has_ports(network.protocol) || network.piece.is_later() {
            return ends;
        }
        match packet.view::<4>(network.transport, Verdict::ShortFrame) {
            Ok(ports) => Self { source_port: ports.be16(0), destination_port: ports.be16(2), ..ends },
            Err(_) => ends,
        }
    }

    /// Of a packet in the other direction.
    #[inline(always)]
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }
}

impl Watcher {
    /// Whether a packet between these ends is wanted.
    #[inline(always)]
    pub fn wants_ends(&self, ends: &Ends, ingress: u32) -> bool {
        let same = |of: &Address, wanted: &Address, mask: &Address| {
            let (of, wanted, mask) = (of.words(), wanted.words(), mask.words());
            (of[0] ^ wanted[0]) & mask[0]
                | (of[1] ^ wanted[1]) & mask[1]
                | (of[2] ^ wanted[2]) & mask[2]
                | (of[3] ^ wanted[3]) & mask[3]
                == 0
        };
        let number = |of: u32, wanted: u32| wanted == 0 || of == wanted;
        self.every != 0
            && number(ingress, self.interface)
            && number(ends.protocol.into(), self.protocol.into())
            && number(ends.source_port.into(), self.source_port.into())
            && number(ends.destination_port.into(), self.destination_port.into())
            && same(&ends.source, &self.source, &self.source_mask)
            && same(&ends.destination, &self.destination, &self.destination_mask)
    }
}

/// Where the bits are of those who would see a packet only if it leaves as an answer of what they ask for.
pub const AS_ANSWER: u32 = 16;

impl Sighting {
    /// Notes a step.
    #[inline(always)]
    pub fn note(&mut self, step: &Step) {
        match *step {
            Step::Destination { .. } => {}
            Step::Service(service) => {
                self.service = service;
                self.known |= Self::SERVICE;
            }
            Step::Slot { hash, index, slot } => {
                self.hash = hash.0;
                self.index = index;
                self.slot = slot;
                self.known |= Self::SLOT;
            }
            Step::Chosen { backend, reason } => {
                self.backend = backend;
                self.reason = reason as u8;
                self.known |= Self::CHOSEN;
            }
            Step::Translation { is_new, .. } => {
                self.known |= Self::TRANSLATED | if is_new { Self::NEW } else { 0 };
            }
        }
    }

    /// Notes how the packet ends.
    #[inline(always)]
    pub fn seal(&mut self, fate: &Fate) {
        self.verdict = fate.verdict as u32;
        self.egress = fate.egress;
    }
}
