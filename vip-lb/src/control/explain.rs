//! Answers "what happens to this packet, and why" by the code that decides it in the kernel.
//!
//! The packet that a request describes is built and run through [`pipeline::process`], over the maps of the loaded program
//! and without its writes. What the pipeline reports on the way, how it ends, and what it did to the bytes are put into
//! words here; nothing is decided a second time.

use std::{ffi::CString, net::IpAddr};

use thiserror::Error;
use vip_lb_common::{
    Tables,
    abi::{BackendRef, LinkAddress, ServiceRef, Slot as RingSlot},
    memory::MemoryPacket,
    pipeline::{self, Fate, Reason, Step},
};

use crate::{
    api::model::{ExplainRequest, Explanation, PacketKind},
    config::model::{Ports, Protocol},
    dataplane::{Dataplane, ObservedTables},
};

mod build;
mod frame;
mod words;

use build::build;
pub(super) use frame::mac;
use words::Words;
pub(super) use words::reason_in_words;

/// What the numbers in the maps stand for.
pub trait Names {
    /// The service with this number.
    fn service(&self, id: u16) -> Option<ServiceName>;

    /// The backend with this index.
    fn backend(&self, index: u16) -> Option<BackendName>;

    /// Why the backend with this index gets no new connections, or gets them although its check fails. `None`: it is in service as it should.
    fn standing(&self, index: u16) -> Option<String>;

    /// The kernel's name of the interface with this index.
    fn interface(&self, index: u32) -> Option<String>;
}

/// A service by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// The name.
    pub name: String,
    /// The ports it has.
    pub ports: Ports,
}

/// A backend by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendName {
    /// The name in its service.
    pub name: String,
    /// Its own address.
    pub address: IpAddr,
    /// Name of its service.
    pub service: String,
}

/// An interface that no packet of ours comes in by.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("vip-lb is not attached to {interface}, but to {}", attached.join(", "))]
pub struct NotAttached {
    /// The interface asked about.
    pub interface: String,
    /// Those that there are.
    pub attached: Vec<String>,
}

/// Explains what would happen now to the packet that a request describes, and that comes in by the interface named, or the first one that
/// the program is attached to. Changes nothing.
///
/// # Errors
///
/// [`NoSuchPacket`](crate::api::model::NoSuchPacket) or [`NotAttached`], if the request makes no sense; any other if the maps cannot be read.
pub fn explain(
    dataplane: &Dataplane,
    request: &ExplainRequest,
    names: &impl Names,
) -> anyhow::Result<Explanation> {
    let open = || ObservedTables::new(dataplane);
    let attached = dataplane.attached();
    let arrival = match &request.interface {
        None => Arrival::on_first_of(attached, &open()),
        Some(interface) if attached.contains(interface) => {
            Arrival::on_first_of(vec![interface.clone()], &open())
        }
        Some(interface) => return Err(NotAttached { interface: interface.clone(), attached }.into()),
    };
    explain_over(request, arrival, names, open, ObservedTables::finish)
}

/// Where the packet comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Arrival {
    /// Kernel index of the interface; 0 if the program is attached to none.
    index: u32,
    /// The interface's own address, which the frame is sent to.
    mac: [u8; 6],
}

impl Arrival {
    /// The first of these interfaces that exists and that the program knows.
    fn on_first_of(mut interfaces: Vec<String>, tables: &impl Tables) -> Self {
        interfaces.sort();
        let mut arrivals = interfaces.into_iter().filter_map(|name| {
            let name = CString::new(name).ok()?;
            // SAFETY: the name is a live C string.
            let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
            let mac = tables.link_address(index)?.mac;
            Some(Self { index, mac })
        });
        arrivals.next().unwrap_or(Self { index: 0, mac: LinkAddress::default().mac })
    }
}

/// [`explain`] over any tables. `open` gives them as they are now; `finish` takes the steps out that they heard of.
fn explain_over<T: Tables>(
    request: &ExplainRequest,
    arrival: Arrival,
    names: &impl Names,
    open: impl Fn() -> T,
    finish: impl Fn(T) -> anyhow::Result<Vec<Step>>,
) -> anyhow::Result<Explanation> {
    request.check()?;
    let run = |request: &ExplainRequest| -> anyhow::Result<Run> {
        let tables = open();
        let before = build(request, arrival.mac);
        let mut packet = MemoryPacket::new(&before, arrival.index);
        let fate = pipeline::process(&mut packet, &tables);
        Ok(Run { before, after: packet.frame().to_vec(), fate, steps: once(finish(tables)?) })
    };
    let first = run(request)?;
    let tables = open();
    let words = Words { request, arrival, names, tables: &tables };
    let mut explanation = words.explanation(&first);
    if request.packet == PacketKind::First && request.protocol == Protocol::Tcp {
        let later = run(&ExplainRequest { packet: PacketKind::Ack, ..request.clone() })?;
        explanation.steps.extend(words.established(&first, &later));
    }
    // Reading is looking things up, too, which may have failed.
    finish(tables)?;
    Ok(explanation)
}

/// Each step once: a packet that turns out not to be a plain one is looked at again from the start.
fn once(steps: Vec<Step>) -> Vec<Step> {
    let mut told = Vec::new();
    for step in steps {
        if !told.contains(&step) {
            told.push(step);
        }
    }
    told
}

/// A packet's way through the pipeline.
struct Run {
    before: Vec<u8>,
    after: Vec<u8>,
    fate: Fate,
    steps: Vec<Step>,
}

impl Run {
    fn chosen(&self) -> Option<(BackendRef, Reason)> {
        // The last one is the one that held.
        self.steps.iter().rev().find_map(|step| match step {
            Step::Chosen { backend, reason } => Some((*backend, *reason)),
            _ => None,
        })
    }

    fn service(&self) -> Option<ServiceRef> {
        self.steps.iter().find_map(|step| match step {
            Step::Service(service) => Some(*service),
            _ => None,
        })
    }

    fn slot(&self) -> Option<RingSlot> {
        self.steps.iter().find_map(|step| match step {
            Step::Slot { slot, .. } => Some(*slot),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
