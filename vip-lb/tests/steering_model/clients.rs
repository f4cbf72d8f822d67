//! What clients do, and what each of them expects.

use std::net::IpAddr;

use vip_lb_common::{
    Verdict,
    abi::{Address, BackendRef, Phase},
    memory::MemoryPacket,
    pipeline::{Reason, Step, process},
};

use crate::{
    Kind,
    frames::{ACK, Client, FIN, RST, SYN, frame},
    world::{SERVICE, SLOTS, TIMEOUTS, World},
};

/// A connection that a backend has answered, or a UDP flow, or all flows of a source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conn {
    backend: BackendRef,
    /// Second of its last packet.
    last: u32,
    stage: Stage,
    /// The opening that its SYN was recorded in, if it was.
    recorded: Option<(u32, u16)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The SYN was answered.
    Answered,
    /// The client has sent more.
    Established,
    /// The client has sent a FIN.
    Closing,
}

/// Where a packet went.
struct Reply {
    backend: Option<BackendRef>,
    recorded: Option<(u32, u16)>,
    trace: String,
}

impl World {
    /// Some packets of clients, and of a flood if there is one.
    pub(crate) fn traffic(&mut self, packets: u64) {
        if self.over || self.quiet {
            return;
        }
        for _ in 0..self.random.below(packets + 1) {
            if self.second < self.flood_until {
                for _ in 0..self.random.below(4) {
                    self.flood();
                }
            }
            let client = self.random.below(self.conns.len() as u64) as usize;
            match self.kind {
                Kind::Tcp => self.act(client),
                Kind::Udp | Kind::Source => self.datagram(client),
            }
        }
    }

    pub(crate) fn begin_flood(&mut self) {
        self.flood_until = self.second + self.random.below(20) as u32;
        let until = self.flood_until;
        self.tell(|| format!("flood until {until}"));
    }

    /// More handshakes from nowhere than can be recorded in a tick.
    pub(crate) fn burst(&mut self) {
        for _ in 0..if self.over || self.quiet { 0 } else { 40 } {
            self.flood();
        }
    }

    /// Packets in a second: about one from each client.
    pub(crate) fn pace(&self) -> u64 {
        self.conns.len() as u64 * 2
    }

    /// Lets time pass: one second, before which no handshake may stay unanswered for too long.
    pub(crate) fn pass_second(&mut self) {
        for client in 0..self.conns.len() {
            if let Some(conn) = self.conns[client]
                && conn.stage == Stage::Answered
                && self.second - conn.last >= TIMEOUTS.newborn - 1
            {
                self.act(client);
            }
        }
        self.second += 1;
    }

    pub(crate) fn end_traffic(&mut self) {
        self.conns.fill(None);
        self.over = true;
    }

    /// The flows have come to another node, where records have other epochs.
    pub(crate) fn note_move(&mut self) {
        for client in 0..self.conns.len() {
            let Some(conn) = self.conns[client] else { continue };
            let Client { port, .. } = self.client(client);
            let inner = &self.tables.inner;
            let (flows, newborn) = (inner.flows.borrow(), inner.newborn.borrow());
            let found = flows.iter().chain(newborn.iter()).find(|(key, entry)| {
                key.source == source_of(client) && key.source_port == port && entry.closing == 0
            });
            let recorded = conn.recorded.and(found.map(|(_, entry)| (entry.slot, entry.epoch)));
            drop((flows, newborn));
            self.conns[client] = Some(Conn { recorded, ..conn });
        }
    }

    /// A backend is said to be drained.
    pub(crate) fn check_drained(&mut self, backend: BackendRef) {
        let held = (0..self.conns.len()).find(|&client| {
            self.conns[client].is_some_and(|conn| conn.backend == backend && self.counts(&conn))
        });
        if let Some(client) = held {
            self.violation(&format!("{backend:?} is said to be drained, but client {client} is on it"));
        }
    }

    /// Whether the promise covers a connection.
    fn counts(&self, conn: &Conn) -> bool {
        let silence = match conn.stage {
            Stage::Answered => TIMEOUTS.newborn,
            Stage::Established => TIMEOUTS.idle,
            Stage::Closing => TIMEOUTS.closing,
        };
        // What another node recorded may be forgotten a tick earlier.
        let silence = silence - u32::from(self.spare.is_some());
        self.is_alive(conn.backend) && self.second - conn.last <= silence
    }

    /// A client of a TCP service does something.
    fn act(&mut self, client: usize) {
        let Some(conn) = self.conns[client] else {
            return self.syn(client);
        };
        if !self.counts(&conn) {
            // Lost, or forgotten: whatever such a client sends may go anywhere.
            self.conns[client] = None;
            if self.random.percent(50) {
                self.send(self.client(client), Some(ACK));
            }
            return;
        }
        match (conn.stage, self.random.below(100)) {
            (Stage::Answered, 0..20) if self.is_recorded(&conn) => {
                // The answer was late and the client has repeated its SYN.
                self.checked(client, conn, SYN);
            }
            (Stage::Answered, 20..25) => self.checked(client, conn, FIN),
            (Stage::Answered, _) => self.checked(client, conn, ACK),
            (Stage::Established, 0..55) => self.checked(client, conn, ACK),
            (Stage::Established, 55..65) => self.checked(client, conn, FIN),
            (Stage::Established, 65..70) => {
                self.checked(client, conn, RST);
                self.conns[client] = None;
            }
            // It crashes, and may dial again from the same port.
            (Stage::Established, 70..74) => self.conns[client] = None,
            (Stage::Established, _) => {}
            (Stage::Closing, 0..40) => self.checked(client, conn, ACK),
            (Stage::Closing, 40..70) => self.syn(client),
            (Stage::Closing, _) => self.conns[client] = None,
        }
    }

    /// A SYN, first or repeated. The answer may be lost.
    fn syn(&mut self, client: usize) {
        if self.conns[client].take().is_none() && self.random.percent(30) {
            self.change_port(client);
        }
        let reply = self.send(self.client(client), Some(SYN));
        if let Some(backend) = reply.backend
            && self.random.percent(80)
        {
            self.conns[client] =
                Some(Conn { backend, last: self.second, stage: Stage::Answered, recorded: reply.recorded });
        }
    }

    /// A packet that has to reach the backend of its connection.
    fn checked(&mut self, client: usize, conn: Conn, flags: u8) {
        let reply = self.send(self.client(client), Some(flags));
        self.stats.checked += 1;
        if reply.backend != Some(conn.backend) {
            self.conns[client] = None;
            return self.violation(&format!("client {client} is on {conn:?}, but {}", reply.trace));
        }
        let stage = match flags {
            SYN => conn.stage,
            FIN => Stage::Closing,
            _ if conn.stage == Stage::Closing => Stage::Closing,
            _ => Stage::Established,
        };
        self.conns[client] = Some(Conn { last: self.second, stage, ..conn });
    }

    /// A client of a service whose flows have no visible beginning.
    fn datagram(&mut self, client: usize) {
        if self.kind == Kind::Udp && self.random.percent(4) {
            self.change_port(client);
        }
        let expected = self.conns[client].filter(|conn| self.counts(conn));
        let mut sender = self.client(client);
        let flags = (self.kind == Kind::Source).then(|| {
            sender.port = 1000 + self.random.below(5) as u16;
            [SYN, ACK, ACK, FIN, RST][self.random.below(5) as usize]
        });
        let reply = self.send(sender, flags);
        if let Some(conn) = expected {
            self.stats.checked += 1;
            if reply.backend != Some(conn.backend) {
                self.violation(&format!("client {client} is on {conn:?}, but {}", reply.trace));
            }
        }
        self.conns[client] = reply.backend.map(|backend| Conn {
            backend,
            last: self.second,
            stage: Stage::Established,
            recorded: None,
        });
    }

    /// A packet from somewhere on the internet.
    fn flood(&mut self) {
        let noise = self.random.below(u64::MAX);
        let [a, b, c, d, ..] = noise.to_le_bytes();
        let from = Client { address: [172, 16 | (a & 15), b, c], port: 1 + (noise >> 40) as u16 / 2 };
        let flags = (self.kind != Kind::Udp).then_some(if d % 4 == 0 { ACK } else { SYN });
        self.send(from, flags);
    }

    fn client(&self, client: usize) -> Client {
        Client { address: address_of(client), port: self.ports[client] }
    }

    /// The next connection comes from another port, and so by another slot.
    fn change_port(&mut self, client: usize) {
        self.conns[client] = None;
        self.ports[client] = 40_000 + self.random.below(16) as u16;
    }

    /// Whether the record made of its SYN still counts.
    fn is_recorded(&self, conn: &Conn) -> bool {
        conn.recorded.is_some_and(|(slot, epoch)| {
            let slot = self.tables.inner.rings[&SERVICE].borrow()[slot as usize];
            slot.epoch == epoch && slot.phase != Phase::Closed as u8
        })
    }

    fn send(&mut self, from: Client, flags: Option<u8>) -> Reply {
        self.tables.syn.set(flags == Some(SYN));
        self.tables.inner.steps.get_mut().clear();
        let fate = process(&mut MemoryPacket::new(&frame(from, flags), 1), &self.tables);
        let (mut met, mut why) = (None, None);
        for step in self.tables.inner.steps.get_mut().iter() {
            match *step {
                Step::Slot { index, slot, .. } => met = Some((index % SLOTS as u32, slot)),
                Step::Chosen { reason, .. } => why = Some(reason),
                _ => {}
            }
        }
        self.stats.add(why, fate.verdict);
        let backend = (fate.verdict == Verdict::ForwardedL2).then(|| self.reference(fate.backend));
        let recorded = matches!(why, Some(Reason::New | Reason::Recorded | Reason::Handshake))
            .then(|| met.map(|(index, slot)| (index, slot.epoch)))
            .flatten();
        let trace = if self.story.is_some() || backend.is_none() || !self.violations.is_empty() {
            format!(
                "{flags:x?} from {from:?} met {met:?} and went to {backend:?} ({why:?}, {:?})",
                fate.verdict
            )
        } else {
            format!("its packet went to {backend:?} ({why:?})")
        };
        if self.story.is_some() {
            self.tell(|| trace.clone());
        }
        Reply { backend, recorded, trace }
    }
}

fn address_of(client: usize) -> [u8; 4] {
    [192, 0, 2, client as u8 + 1]
}

fn source_of(client: usize) -> Address {
    Address::from(IpAddr::from(address_of(client)))
}
