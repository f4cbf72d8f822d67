//! Fragments of both families, several of one packet in a row.

use std::net::IpAddr;

use super::{Generator, Packet, layers::plain_ip};
use crate::{
    packet::{Extension, Frame, eth},
    program::Program,
};

impl Generator {
    /// A packet in pieces: in order, out of order, with pieces missing or overlapping, or one piece anywhere.
    pub(super) fn fragments(&mut self) -> Vec<Packet> {
        let target = self.target();
        let client = self.client(target.address);
        let kind = self.dice.below(8);
        let ends = if kind == 1 { self.translated_ends() } else { None };
        let (source, destination, protocol, segment) = match (kind, ends) {
            // A long echo request.
            (0, _) => {
                let plain = plain_ip(eth(), client, target.address);
                let echo = plain.echo_request(7, 9).payload(&[0x42; 900]);
                let protocol = if client.is_ipv4() { 1 } else { 58 };
                (client, target.address, protocol, behind_ip(&echo, client))
            }
            // A translated backend's long answer.
            (_, Some(ends)) => {
                let plain = plain_ip(eth(), ends.destination, ends.source);
                let ports = (ends.destination_port, ends.source_port);
                let answer = self.transport(plain, ends.protocol, ports.0, ports.1).payload(&[0x24; 1000]);
                (ends.destination, ends.source, ends.protocol, behind_ip(&answer, ends.source))
            }
            (_, None) => {
                let plain = plain_ip(eth(), client, target.address);
                let port = self.client_port();
                let len = *self.dice.pick(&[16, 100, 600, 1400]);
                let whole =
                    self.transport(plain, target.protocol, port, target.port).payload(&vec![0x33; len]);
                (client, target.address, target.protocol, behind_ip(&whole, client))
            }
        };
        let link = self.link();
        let id = self.dice.below(8) as u32;
        let ttl = *self.dice.pick(&[64, 64, 64, 2, 1]);
        let pieces = self.pieces(segment.len());
        let fragment = |(offset, end): (usize, usize)| {
            let more = end < segment.len();
            let ip = plain_ip(link.clone(), source, destination).ttl(ttl);
            let ip = if destination.is_ipv4() {
                ip.id(id as u16).claim_next(protocol.into()).fragment(offset as u16, more)
            } else {
                ip.extension(Extension::Fragment { offset: offset as u16, more, id })
                    .claim_next(protocol.into())
            };
            let frame = ip.payload(&segment[offset..end]).bytes();
            Packet { program: Program::Balancer, frame }
        };
        pieces.into_iter().map(fragment).collect()
    }

    /// Where each piece begins and ends, each beginning at a multiple of eight.
    fn pieces(&mut self, len: usize) -> Vec<(usize, usize)> {
        let step = *self.dice.pick(&[8, 16, 24, 104, 552, 1400]);
        let step = if len / step > 5 { (len / 5).next_multiple_of(8).max(8) } else { step };
        let mut pieces: Vec<(usize, usize)> =
            (0..len).step_by(step).map(|offset| (offset, len.min(offset + step))).collect();
        match self.dice.below(10) {
            0 => pieces.reverse(),
            1 => drop(pieces.remove(0)),
            2 => {
                let (a, b) = (self.dice.below(pieces.len()), self.dice.below(pieces.len()));
                pieces.swap(a, b);
            }
            3 => {
                let again = *self.dice.pick(&pieces);
                pieces.push(again);
            }
            // The second reaches back into the first (RFC 5722 forbids it in IPv6).
            4 if pieces.len() > 1 => pieces[1].0 = pieces[1].0.saturating_sub(8),
            5 => pieces = vec![*self.dice.pick(&pieces)],
            // A whole packet that says it is a fragment (RFC 6946 calls it atomic).
            6 => pieces = vec![(0, len)],
            _ => {}
        }
        pieces
    }
}

/// What is behind the plain IP header of an untagged frame.
fn behind_ip(frame: &Frame, address: IpAddr) -> Vec<u8> {
    frame.bytes().split_off(if address.is_ipv4() { 14 + 20 } else { 14 + 40 })
}
