//! Random packets that keep much of a good one, so that the ways to the deeper stages stay open.

use std::time::{SystemTime, UNIX_EPOCH};

use super::world::{self, port};
use crate::packet::{Frame, eth};

/// A stream of random numbers that can be had again by its seed (SplitMix64, Steele et al., OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// The stream of the seed that VIP_LB_TEST_SEED names, or of one from the clock.
    ///
    /// # Panics
    ///
    /// Where the variable holds no number.
    pub fn from_environment() -> Self {
        let seed = match std::env::var("VIP_LB_TEST_SEED") {
            Ok(text) => text.parse().expect("VIP_LB_TEST_SEED is no number"),
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64),
        };
        Self { seed, state: seed }
    }

    /// What to set VIP_LB_TEST_SEED to.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The next number.
    pub fn next_word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        vip_lb_common::hash::mix(self.state)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next_word() % end as u64) as usize
    }

    /// One of the choices.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// A client's packet to any service of the world, with any of the usual flags.
pub fn traffic(dice: &mut Dice) -> Vec<u8> {
    const PORTS: [u16; 20] = [
        port::L2,
        port::IPIP,
        port::IPIP6,
        port::SPREAD,
        port::EMPTY,
        port::RINGLESS,
        port::GONE,
        port::UNRESOLVED,
        port::LOCAL,
        port::NARROW,
        port::ELSEWHERE,
        port::AFFINE,
        port::MEDIUM,
        port::LARGE,
        port::OPEN,
        port::KNOWN,
        port::SETTLING,
        port::OPEN_AFFINE,
        port::ORPHANED,
        port::UNKNOWN,
    ];
    let link = match dice.below(8) {
        0 => eth().tag(100),
        1 => eth().service_tag(7).tag(100),
        2 => eth().from_mac(world::PEER_MAC),
        _ => eth(),
    };
    let client = dice.below(40);
    let ip = match dice.below(3) {
        0 => link.ipv6(&format!("2001:db8:c::{client}"), world::VIP6),
        1 => {
            let vip = *dice.pick(&[world::VIP, world::ANY_PORT_VIP, world::LOCAL_VIP]);
            link.ipv4(&format!("192.0.2.{client}"), vip)
        }
        _ => link.ipv4(&format!("192.0.2.{client}"), world::VIP),
    };
    let ip = ip.ttl(*dice.pick(&[64, 64, 64, 2, 1]));
    let (from, to) = (1000 + dice.below(20) as u16, *dice.pick(&PORTS));
    let frame = match dice.below(3) {
        0 => ip.udp(from, to),
        _ => {
            let change: fn(Frame) -> Frame = *dice.pick(&[
                Frame::syn,
                Frame::syn,
                Frame::fin,
                Frame::rst,
                Frame::syn_ack,
                |frame| frame,
                |frame| frame,
                |frame| frame,
            ]);
            change(ip.tcp(from, to))
        }
    };
    frame.payload(&vec![0x5a; *dice.pick(&[0, 1, 7, 100, 1400])]).bytes()
}

/// A packet of few clients, or back to them, at the services of [`world::nat`].
pub fn translated_traffic(dice: &mut Dice) -> Vec<u8> {
    use world::nat;
    let is_v4 = dice.below(2) == 0;
    let number = dice.below(4);
    let client = if is_v4 { format!("192.0.2.{number}") } else { format!("2001:db8:c::{number}") };
    let vip = if is_v4 { *dice.pick(&[nat::VIP, nat::OTHER_VIP]) } else { nat::VIP6 };
    let node = if is_v4 { *dice.pick(&[nat::NODE, nat::NODE, nat::HOST]) } else { nat::NODE6 };
    let backend = if is_v4 { nat::BACKEND } else { nat::BACKEND6 };
    let link = match dice.below(12) {
        0 => eth().tag(100),
        1 => eth().service_tag(7).tag(100),
        2 => eth().from_mac(world::NEXT_HOP),
        _ => eth(),
    };
    let ip =
        |link: Frame, from: &str, to: &str| if is_v4 { link.ipv4(from, to) } else { link.ipv6(from, to) };
    let service = *dice.pick(&nat::port::ALL);
    let client_port = 1000 + dice.below(3) as u16;
    let backend_port = if service == nat::port::MOVED { nat::MOVED_TO } else { service };
    let node_port = nat::FIRST_PORT + dice.below(16) as u16;
    let error = |frame: Frame| if is_v4 { frame.icmp(3, 4, [0; 4]) } else { frame.icmp(2, 0, [0; 4]) };
    let ttl = *dice.pick(&[64, 64, 64, 2, 1]);
    let (frame, from, to) = match dice.below(8) {
        0..4 => (ip(link, &client, vip).ttl(ttl), client_port, service),
        4..6 => (ip(link, backend, node).ttl(ttl), backend_port, node_port),
        6 => (ip(error(ip(link, &client, vip).ttl(ttl)), vip, &client), service, client_port),
        _ => (ip(error(ip(link, backend, node).ttl(ttl)), node, backend), node_port, backend_port),
    };
    let frame = match dice.below(12) {
        0 => frame.piece(0, true, number as u16),
        1 => {
            let later = frame.piece(1408, dice.below(2) == 0, number as u16);
            return later.claim_next(17).payload(&[0x5a; 64]).bytes();
        }
        _ => frame,
    };
    let frame = match dice.below(3) {
        0 => frame.udp(from, to),
        _ => {
            let change: fn(Frame) -> Frame = *dice.pick(&[
                Frame::syn,
                Frame::syn,
                Frame::fin,
                Frame::rst,
                Frame::syn_ack,
                |frame| frame,
                |frame| frame,
            ]);
            change(frame.tcp(from, to))
        }
    };
    frame.payload(&vec![0x5a; *dice.pick(&[0, 1, 7, 100, 1400])]).bytes()
}

/// Changes a few bytes, or its length.
pub fn mutate(dice: &mut Dice, frame: &mut Vec<u8>) {
    // Headers lie in front.
    const FRONT: usize = 100;
    for _ in 0..dice.below(4) {
        let len = frame.len();
        if len == 0 {
            return;
        }
        let at = dice.below(len.min(FRONT));
        match dice.below(8) {
            0 | 1 => frame[at] = dice.next_word() as u8,
            2 => frame[at] ^= 1 << dice.below(8),
            3 => frame[at] = *dice.pick(&[0, 1, 4, 6, 17, 41, 43, 44, 58, 60, 0x45, 0x46, 0x4f, 0x60, 0xff]),
            4 => {
                let bytes: Vec<u8> = (0..1 + dice.below(40)).map(|_| dice.next_word() as u8).collect();
                frame.splice(at..at, bytes);
            }
            5 => drop(frame.drain(at..at + dice.below(len - at))),
            6 => frame.truncate(dice.below(len)),
            _ => frame.extend((0..dice.below(64)).map(|index| index as u8)),
        }
    }
}
