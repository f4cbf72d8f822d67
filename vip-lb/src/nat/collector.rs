//! Decides which translated connections have ended.

use std::collections::{HashMap, HashSet};

use vip_lb_common::abi::{BackendRef, FlowKey, NatFlow, NatMarks, NatReply, NatReplyKey};

use crate::config::model::Protocol;

/// Seconds that a TCP connection may take from its SYN to the first segment after the handshake, of both sides.
const HANDSHAKE: u32 = 30;
/// Seconds that a connection may be silent of which one side has said that it sends no more.
const CLOSING: u32 = 60;
/// Seconds that one may be silent of which both sides have, or that was reset: the last acknowledgements.
const CLOSED: u32 = 10;
/// Seconds that a UDP flow without an answer may be silent.
const UNANSWERED: u32 = 30;

/// What was read of the tables, flows first.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// All of NAT_FLOWS.
    pub flows: Vec<(FlowKey, NatFlow)>,
    /// All of NAT_REPLIES.
    pub replies: Vec<(NatReplyKey, NatReply)>,
}

/// What a service says of the age of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceLife {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Seconds that an established connection may be silent.
    pub idle: u32,
}

/// A connection to remove, as it was read; where one side is missing, only the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Both entries.
    Whole {
        /// The client's side.
        flow: (FlowKey, NatFlow),
        /// The backend's side.
        reply: (NatReplyKey, NatReply),
    },
    /// An entry of NAT_FLOWS alone.
    Flow(FlowKey, NatFlow),
    /// An entry of NAT_REPLIES alone.
    Reply(NatReplyKey, NatReply),
}

/// What a look came to.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// What is to be removed.
    pub ended: Vec<Ended>,
    /// Connections that name each backend, those included that have ended just now.
    pub named: HashMap<BackendRef, u64>,
    /// Services that entries belong to, likewise.
    pub services: HashSet<u16>,
}

/// Looks through the tables again and again.
///
/// The two are not read at the same moment, so an entry whose other side is missing may belong to a connection that has just begun. It
/// goes if it is still alone the next time.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    lone_flows: HashSet<(FlowKey, BackendRef, u16)>,
    lone_replies: HashSet<(NatReplyKey, FlowKey)>,
}

impl Collector {
    /// Decides over all entries. `is_alive` tells whether a reference to a backend is good, `life_of` knows the services there are,
    /// `now` is the tick when the tables began to be read.
    pub fn collect(
        &mut self,
        look: &Look,
        is_alive: impl Fn(BackendRef) -> bool,
        life_of: impl Fn(u16) -> Option<ServiceLife>,
        now: u32,
    ) -> Collected {
        let mut collected = Collected::default();
        let (mut lone_flows, mut lone_replies) = (HashSet::new(), HashSet::new());
        let mut flows: HashMap<FlowKey, NatFlow> = look.flows.iter().copied().collect();
        for &(key, reply) in &look.replies {
            let of_client = flow_key(&reply);
            collected.services.insert(reply.service);
            let life = life_of(reply.service).filter(|_| is_alive(reply.backend));
            *collected.named.entry(reply.backend).or_default() += 1;
            match flows.get(&of_client).copied() {
                Some(flow) if (flow.backend, flow.port) == (reply.backend, key.port) => {
                    flows.remove(&of_client);
                    if life.is_none_or(|life| has_ended(&flow, &reply, life, now)) {
                        let (flow, reply) = ((of_client, flow), (key, reply));
                        collected.ended.push(Ended::Whole { flow, reply });
                    }
                }
                // The client's port has moved on to another connection, or its side is not there yet or any more.
                _ => {
                    if life.is_none() || self.lone_replies.contains(&(key, of_client)) {
                        collected.ended.push(Ended::Reply(key, reply));
                    }
                    lone_replies.insert((key, of_client));
                }
            }
        }
        for (key, flow) in flows {
            collected.services.insert(key.service);
            *collected.named.entry(flow.backend).or_default() += 1;
            let name = (key, flow.backend, flow.port);
            let is_void = life_of(key.service).is_none() || !is_alive(flow.backend);
            if is_void || self.lone_flows.contains(&name) {
                collected.ended.push(Ended::Flow(key, flow));
            }
            lone_flows.insert(name);
        }
        (self.lone_flows, self.lone_replies) = (lone_flows, lone_replies);
        collected
    }
}

/// The client's side of a connection, from the backend's.
fn flow_key(reply: &NatReply) -> FlowKey {
    FlowKey {
        source: reply.client,
        source_port: reply.client_port,
        destination_port: reply.vip_port,
        service: reply.service,
        reserved: 0,
    }
}

fn has_ended(flow: &NatFlow, reply: &NatReply, life: ServiceLife, now: u32) -> bool {
    // Either may be of a later tick than `now`, and then it is not silent.
    let silence = silence(flow.seen, now).min(silence(reply.seen, now));
    let either = flow.marks | reply.marks;
    let both = flow.marks & reply.marks;
    let allowed = match life.protocol {
        Protocol::Tcp if either & NatMarks::RST != 0 || both & NatMarks::FIN != 0 => CLOSED,
        Protocol::Tcp if either & NatMarks::FIN != 0 => CLOSING,
        Protocol::Tcp if both & NatMarks::DATA != 0 => life.idle,
        Protocol::Tcp => HANDSHAKE,
        Protocol::Udp if reply.marks & NatMarks::DATA != 0 => life.idle,
        Protocol::Udp => UNANSWERED.min(life.idle),
    };
    silence > allowed
}

/// Ticks since then, counted around the end of their numbers; 0 if it is yet to come.
fn silence(seen: u32, now: u32) -> u32 {
    let ticks = now.wrapping_sub(seen);
    if ticks > u32::MAX / 2 { 0 } else { ticks }
}

#[cfg(test)]
mod tests;
