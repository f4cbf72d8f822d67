//! Packets of every kind that the packet path knows or must refuse, most of them good enough to get deep.
//!
//! Where they go is read from the [`Scenario`]: a service, a VIP or a backend that is added to it gets its packets by itself. Clients
//! and ports are few, so flows come back and meet what they left in the tables; answers of translated backends are made from what was
//! seen leaving ([`Generator::saw`]).

mod fragments;
mod icmp;
mod layers;
mod local;
mod places;
mod tunnels;

use std::{collections::VecDeque, net::IpAddr};

use vip_lb_common::Verdict;

use super::{Dice, Outcome, Program, Scenario, cases, cases::Case, mutate};
use crate::packet::Frame;
use places::{Places, Target};

/// Packets that left for translated backends of which answers are made.
const REMEMBERED: usize = 64;
/// Longest frame: what an Ethernet of 1500 bytes carries.
const LONGEST: usize = 1514;

/// A packet on its way to a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The program that it meets.
    pub program: Program,
    /// The frame, of 14 bytes at least.
    pub frame: Vec<u8>,
}

/// A stream of packets that can be had again by its seed.
#[derive(Debug)]
pub struct Generator {
    /// What it decides by.
    pub dice: Dice,
    places: Places,
    cases: Vec<Case>,
    translated: VecDeque<Vec<u8>>,
}

impl Generator {
    /// Packets for these tables.
    pub fn new(scenario: &Scenario, dice: Dice) -> Self {
        let cases = [cases::all(), cases::steer::without_budget()].concat();
        Self { dice, places: Places::of(scenario), cases, translated: VecDeque::new() }
    }

    /// The next packets, which belong together: several where they are fragments of one.
    pub fn burst(&mut self) -> Vec<Packet> {
        const MUTATED_OF_100: usize = 22;
        let mut burst = self.good_burst();
        for Packet { frame, .. } in &mut burst {
            if self.dice.below(100) < MUTATED_OF_100 {
                mutate(&mut self.dice, frame);
            }
            frame.truncate(LONGEST);
        }
        burst.retain(|packet| packet.frame.len() >= super::SHORTEST_FRAME);
        burst
    }

    /// Learns from what became of a packet.
    pub fn saw(&mut self, outcome: &Outcome) {
        if outcome.verdict == Verdict::ForwardedNat {
            if self.translated.len() == REMEMBERED {
                self.translated.pop_front();
            }
            self.translated.push_back(outcome.frame.clone());
        }
    }

    fn good_burst(&mut self) -> Vec<Packet> {
        let one = |frame: &Frame| vec![Packet { program: Program::Balancer, frame: frame.bytes() }];
        match self.dice.below(100) {
            0..48 => one(&self.client_packet()),
            48..56 => self.fragments(),
            56..60 => one(&self.echo()),
            60..66 => one(&self.icmp_error()),
            66..70 => one(&self.resolution()),
            70..78 => self.tunnelled(),
            78..84 => one(&self.answer()),
            84..87 => one(&self.lie()),
            87..90 => one(&self.oddity()),
            _ => {
                let case = self.dice.pick(&self.cases);
                vec![Packet { program: case.program, frame: case.frame.clone() }]
            }
        }
    }

    /// A client's packet to a service, or to a port that may have none.
    fn client_packet(&mut self) -> Frame {
        let target = self.target();
        let link = self.link();
        let client = self.client(target.address);
        let ip = self.ip(link, client, target.address);
        let port = self.client_port();
        let transport = self.transport(ip, target.protocol, port, target.port);
        self.payload(transport)
    }

    fn target(&mut self) -> Target {
        let mut target = *self.dice.pick(&self.places.targets);
        match self.dice.below(40) {
            0 => target.port = self.dice.next_word() as u16,
            1 => target.protocol = 23 - target.protocol,
            2 => target.address = *self.dice.pick(&self.places.addresses),
            _ => {}
        }
        target
    }

    /// One of a few clients; now and then a peer, whose own packets are a client's.
    fn client(&mut self, of: IpAddr) -> IpAddr {
        if self.dice.below(30) == 0 {
            let peers: Vec<IpAddr> =
                self.places.peers.iter().copied().filter(|peer| peer.is_ipv4() == of.is_ipv4()).collect();
            if !peers.is_empty() {
                return *self.dice.pick(&peers);
            }
        }
        let number = 1 + self.dice.below(12) as u16;
        match of {
            IpAddr::V4(_) => IpAddr::from([192, 0, 2, number as u8]),
            IpAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, number]),
        }
    }

    fn client_port(&mut self) -> u16 {
        1000 + self.dice.below(16) as u16
    }

    /// The answer to a packet that left translated; a client's packet where none did.
    fn answer(&mut self) -> Frame {
        let Some(ends) = self.translated_ends() else {
            return self.client_packet();
        };
        let link = self.link();
        let ip = self.ip(link, ends.destination, ends.source);
        let transport = self.transport(ip, ends.protocol, ends.destination_port, ends.source_port);
        self.payload(transport)
    }
}

#[cfg(test)]
mod tests;
