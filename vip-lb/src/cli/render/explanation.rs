//! An explanation as numbered steps and a summary.

use std::net::{IpAddr, SocketAddr};

use super::{counters::action, protocol};
use crate::{
    api::model::{Explanation, PacketKind, Slot, SlotState},
    config::model::Affinity,
};

/// The steps of the packet, and what came of it.
pub(in crate::cli) fn explanation(explanation: &Explanation) -> String {
    let request = &explanation.request;
    let end = |address: IpAddr, port: Option<u16>| match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => portless(address),
    };
    let source = end(request.source, request.source_port);
    let destination = end(request.destination, request.destination_port);
    let (packet, protocol) = (request.packet, protocol(request.protocol));
    let what = match packet {
        PacketKind::First => protocol.to_owned(),
        PacketKind::Ack | PacketKind::Fin | PacketKind::Rst | PacketKind::Fragment => {
            format!("{protocol} {packet}")
        }
        PacketKind::Unreachable | PacketKind::TooBig | PacketKind::TimeExceeded => {
            format!("{packet} about {protocol}")
        }
        PacketKind::Echo | PacketKind::WhoHas => packet.to_string(),
    };
    let mut text = format!("{what} {source} -> {destination}\n\n");

    let width = explanation.steps.iter().map(|step| step.stage.chars().count()).max().unwrap_or(0);
    for (index, step) in explanation.steps.iter().enumerate() {
        text.push_str(&format!("{:>2}. {:<width$}  {}\n", index + 1, step.stage, step.text));
    }
    if !explanation.steps.is_empty() {
        text.push('\n');
    }

    let mut fact = |name: &str, value: &str| text.push_str(&format!("{name:<9} {value}\n"));
    let verdict = &explanation.verdict;
    fact("verdict", &format!("{} ({}): {}", verdict.name, action(verdict.action), verdict.meaning));
    if let Some(service) = &explanation.service {
        fact("service", &service.name);
    }
    if let Some(hash) = explanation.hash {
        fact("hash", &hash.to_string());
    }
    if let Some(found) = &explanation.slot {
        fact("slot", &slot(found));
    }
    if let Some(backend) = &explanation.backend {
        fact("backend", &format!("{} {}: {}", backend.name, backend.address, backend.reason));
    }
    for (index, rewrite) in explanation.rewrites.iter().enumerate() {
        fact(if index == 0 { "rewrites" } else { "" }, rewrite);
    }
    if let Some(interface) = &explanation.egress {
        fact("egress", interface);
    }
    let by_flow = explanation.service.as_ref().is_some_and(|service| service.affinity == Affinity::Flow);
    if request.source_port.is_none() && packet.has_flow() && packet != PacketKind::Fragment && by_flow {
        fact(
            "note",
            "this service spreads by flow, so the source port decides; it was not given, and 0 was used",
        );
    }
    text
}

/// An address where a port could stand.
fn portless(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

fn slot(slot: &Slot) -> String {
    match &slot.state {
        SlotState::Closed { current } => format!("{}, closed: every flow is on {current}", slot.index),
        SlotState::Open { current, previous, epoch } => {
            format!("{}, open: current {current}, previous {previous}, epoch {epoch}", slot.index)
        }
    }
}

#[cfg(test)]
mod tests;
