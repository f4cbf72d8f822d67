//! Packets that come by at the worst moment.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    convert::Infallible,
};

use proptest::prelude::*;

use super::*;

/// What a packet does to the tables between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packet {
    /// One of the client's, if it finds its entry.
    OfClient,
    /// One of the backend's, likewise.
    OfBackend,
    /// A handshake of the client's: it gets another port where it finds no entry.
    Handshake,
    /// A handshake of another client's, which takes the port if it is free.
    Other,
}

#[derive(Default)]
struct Tables {
    flows: RefCell<HashMap<FlowKey, NatFlow>>,
    replies: RefCell<HashMap<NatReplyKey, NatReply>>,
    steps: Cell<usize>,
    /// What comes before the step of that number.
    packets: Vec<(usize, Packet)>,
}

fn flow_key() -> FlowKey {
    FlowKey { source_port: 1, ..FlowKey::default() }
}

fn reply_key(port: u16) -> NatReplyKey {
    NatReplyKey { port, ..NatReplyKey::default() }
}

const PORT: u16 = 61_000;
const ANOTHER: u16 = 61_001;
const READ: u32 = 10;
const LATER: u32 = 11;

fn read() -> Ended {
    Ended::Whole {
        flow: (flow_key(), NatFlow { port: PORT, seen: READ, ..NatFlow::default() }),
        reply: (reply_key(PORT), NatReply { client_port: 1, seen: READ, ..NatReply::default() }),
    }
}

impl Tables {
    fn new(packets: Vec<(usize, Packet)>) -> Self {
        let tables = Self { packets, ..Self::default() };
        let Ended::Whole { flow, reply } = read() else { unreachable!() };
        tables.flows.borrow_mut().insert(flow.0, flow.1);
        tables.replies.borrow_mut().insert(reply.0, reply.1);
        tables
    }

    /// Lets the packets through that come before this step.
    fn step(&self) {
        let now = self.steps.replace(self.steps.get() + 1);
        for (_, packet) in self.packets.iter().filter(|(at, _)| *at == now) {
            self.receive(*packet);
        }
    }

    fn receive(&self, packet: Packet) {
        let (mut flows, mut replies) = (self.flows.borrow_mut(), self.replies.borrow_mut());
        match packet {
            Packet::OfClient => {
                if let Some(flow) = flows.get_mut(&flow_key()) {
                    flow.seen = LATER;
                }
            }
            Packet::OfBackend => {
                if let Some(reply) = replies.get_mut(&reply_key(PORT)) {
                    reply.seen = LATER;
                }
            }
            Packet::Handshake => match flows.get_mut(&flow_key()) {
                Some(flow) => flow.seen = LATER,
                None => {
                    flows.insert(flow_key(), NatFlow { port: ANOTHER, seen: LATER, ..NatFlow::default() });
                    let reply = NatReply { client_port: 1, seen: LATER, ..NatReply::default() };
                    replies.insert(reply_key(ANOTHER), reply);
                }
            },
            Packet::Other => {
                replies.entry(reply_key(PORT)).or_insert(NatReply {
                    client_port: 2,
                    seen: LATER,
                    ..NatReply::default()
                });
            }
        }
    }

    /// The port of the client's connection, and whether the reply to it is there.
    fn connection(&self) -> Option<(u16, bool)> {
        let port = self.flows.borrow().get(&flow_key())?.port;
        let reply = self.replies.borrow().get(&reply_key(port)).copied();
        Some((port, reply.is_some_and(|reply| reply.client_port == 1)))
    }
}

impl NatTables for Tables {
    type Error = Infallible;

    fn flow(&self, key: &FlowKey) -> Result<Option<NatFlow>, Infallible> {
        self.step();
        Ok(self.flows.borrow().get(key).copied())
    }

    fn take_flow(&self, key: &FlowKey) -> Result<Option<NatFlow>, Infallible> {
        self.step();
        Ok(self.flows.borrow_mut().remove(key))
    }

    fn put_flow(&self, key: &FlowKey, flow: &NatFlow) -> Result<bool, Infallible> {
        self.step();
        let mut flows = self.flows.borrow_mut();
        let is_new = !flows.contains_key(key);
        flows.entry(*key).or_insert(*flow);
        Ok(is_new)
    }

    fn reply(&self, key: &NatReplyKey) -> Result<Option<NatReply>, Infallible> {
        self.step();
        Ok(self.replies.borrow().get(key).copied())
    }

    fn take_reply(&self, key: &NatReplyKey) -> Result<Option<NatReply>, Infallible> {
        self.step();
        Ok(self.replies.borrow_mut().remove(key))
    }

    fn put_reply(&self, key: &NatReplyKey, reply: &NatReply) -> Result<bool, Infallible> {
        self.step();
        let mut replies = self.replies.borrow_mut();
        let is_new = !replies.contains_key(key);
        replies.entry(*key).or_insert(*reply);
        Ok(is_new)
    }
}

fn run(packets: Vec<(usize, Packet)>) -> (bool, Tables) {
    let tables = Tables::new(packets);
    let Ok(gone) = remove(&tables, &read());
    (gone, tables)
}

#[test]
fn a_silent_connection_goes_whole() {
    let (gone, tables) = run(vec![]);
    assert!(gone && tables.flows.borrow().is_empty() && tables.replies.borrow().is_empty());
}

#[test]
fn a_packet_before_its_side_is_taken_keeps_the_connection_whole() {
    let steps = run(vec![]).1.steps.get();
    let mut kept = 0;
    for at in 0..steps {
        for packet in [Packet::OfClient, Packet::OfBackend] {
            let (gone, tables) = run(vec![(at, packet)]);
            let expected = if gone { None } else { Some((PORT, true)) };
            assert_eq!(tables.connection(), expected, "{packet:?} before step {at}");
            if gone {
                assert!(tables.replies.borrow().is_empty(), "{packet:?} before step {at} left a reply");
            } else {
                kept += 1;
            }
        }
    }
    // Before the first look at a side and between that and its removal: the client's two steps come after one look at the reply,
    // the backend's last step is the last of all.
    assert_eq!(kept, 3 + 5);
}

#[test]
fn halves_go_unless_they_were_touched() {
    let Ended::Whole { flow, reply } = read() else { unreachable!() };
    for (half, packet) in
        [(Ended::Flow(flow.0, flow.1), Packet::OfClient), (Ended::Reply(reply.0, reply.1), Packet::OfBackend)]
    {
        assert_eq!(remove(&Tables::new(vec![]), &half), Ok(true), "{half:?}");
        for at in 0..2 {
            let tables = Tables::new(vec![(at, packet)]);
            assert_eq!(remove(&tables, &half), Ok(false), "{half:?}");
            assert_eq!(tables.connection(), Some((PORT, true)), "{half:?}");
        }
    }
}

proptest! {
    /// Whatever comes when: a client that has a connection in the end has both sides of it, unless another client has taken its port while
    /// it was free.
    #[test]
    fn no_side_is_ever_taken_from_a_connection_that_lives(
        packets in proptest::collection::vec(
            (0_usize..8, prop_oneof![
                Just(Packet::OfClient), Just(Packet::OfBackend), Just(Packet::Handshake), Just(Packet::Other),
            ]),
            0..6,
        ),
    ) {
        let (_, tables) = run(packets.clone());
        if let Some((port, answered)) = tables.connection() {
            let taken = tables.replies.borrow().get(&reply_key(port)).is_some_and(|reply| reply.client_port == 2);
            prop_assert!(answered || (taken && packets.iter().any(|(_, packet)| *packet == Packet::Other)));
            prop_assert!(!taken, "the client's side was put back although its port is another's: {packets:?}");
        }
    }
}
