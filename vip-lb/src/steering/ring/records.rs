//! What is recorded of flows, and how long it counts.

use std::collections::HashMap;

use vip_lb_common::abi::{FlowEntry, FlowKey};

/// Longest silence, in ticks, of a client that said FIN or RST, or has not answered the SYN-ACK: the last of Linux's six
/// repeated SYNs comes 64 s after the one before, its FIN-WAIT-2 ends after 60 s.
const SHORT_SILENCE: u32 = 60;

/// Silences in ticks. A flow that is silent for longer need not be kept on its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Of any flow.
    pub idle: u32,
    /// After a FIN or RST of the client.
    pub closing: u32,
    /// Of a handshake that is not answered yet.
    pub newborn: u32,
}

impl Timeouts {
    /// Those of a service with this idle timeout, in ticks.
    pub fn with_idle(idle: u32) -> Self {
        Self { idle, closing: idle.min(SHORT_SILENCE), newborn: idle.min(SHORT_SILENCE) }
    }

    /// That of a flow in FLOWS.
    #[must_use]
    pub fn of(&self, entry: &FlowEntry) -> u32 {
        if entry.closing == 0 { self.idle } else { self.closing }
    }
}

/// An entry of FLOWS or NEWBORN as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which flow.
    pub key: FlowKey,
    /// What was recorded of it.
    pub entry: FlowEntry,
}

/// What the tables hold of one service.
///
/// NEWBORN has to be read first: records move from there to FLOWS, and one that moves while the tables are read must be seen in one
/// of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Entries of NEWBORN.
    pub newborn: Vec<Record>,
    /// Entries of FLOWS.
    pub flows: Vec<Record>,
}

impl Records {
    /// Sorts whole tables by service.
    pub fn by_service(
        newborn: impl IntoIterator<Item = Record>,
        flows: impl IntoIterator<Item = Record>,
    ) -> HashMap<u16, Self> {
        let mut services: HashMap<u16, Self> = HashMap::new();
        for record in newborn {
            services.entry(record.key.service).or_default().newborn.push(record);
        }
        for record in flows {
            services.entry(record.key.service).or_default().flows.push(record);
        }
        services
    }
}
