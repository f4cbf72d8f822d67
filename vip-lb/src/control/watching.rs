//! Between what people ask to see and what the program shows: names, prefixes and words on one side, numbers on the other.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use vip_lb_common::{
    Action, Verdict,
    abi::{Address, BackendRef, Phase, SNAP, Sighting, Watcher},
    pipeline::Reason,
};

use super::explain::{BackendName, reason_in_words};
use crate::{
    api::model::{
        ChosenBackend, DEFAULT_RATE, FlowHash, Frame, Slot, SlotState, WatchRequest, WatchedPacket,
    },
    dataplane::Seen,
};

/// What the numbers of the program stand for, as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Names of services by their numbers.
    pub services: HashMap<u16, String>,
    /// Backends by their indices.
    pub backends: HashMap<u16, BackendName>,
    /// Kernel names of interfaces by their indices.
    pub interfaces: HashMap<u32, String>,
}

/// What the program is asked for. `interface` finds the index of an interface.
///
/// # Errors
///
/// What is wrong with the request, in words.
pub fn watcher(
    request: &WatchRequest,
    interface: impl FnOnce(&str) -> Option<u32>,
) -> Result<Watcher, String> {
    let (source, source_mask) = prefix("source", request.source.as_deref())?;
    let (destination, destination_mask) = prefix("destination", request.destination.as_deref())?;
    let interface = match request.interface.as_deref() {
        None => 0,
        Some(name) => {
            interface(name).ok_or_else(|| format!("vip-lb is not attached to an interface {name}"))?
        }
    };
    let every = request.every.unwrap_or(1);
    if every == 0 {
        return Err("every: one of 0 packets is none".to_owned());
    }
    if request.source_port == Some(0) || request.destination_port == Some(0) {
        return Err("no packet has port 0".to_owned());
    }
    Ok(Watcher {
        source,
        source_mask,
        destination,
        destination_mask,
        verdicts: verdicts(request.verdict.as_deref())?,
        interface,
        every,
        rate: request.rate.unwrap_or(DEFAULT_RATE),
        source_port: request.source_port.unwrap_or(0),
        destination_port: request.destination_port.unwrap_or(0),
        snap: request.bytes.unwrap_or(0).min(SNAP as u16),
        protocol: protocol(request.protocol.as_deref())?,
        reserved: [0; 5],
    })
}

/// An address and which of its bits count: those of IPv4 lie behind the 96 that say so.
fn prefix(key: &str, text: Option<&str>) -> Result<(Address, Address), String> {
    let Some(text) = text else {
        return Ok((Address::UNSPECIFIED, Address::UNSPECIFIED));
    };
    let wrong = || format!("{key}: expected ADDRESS or ADDRESS/LENGTH, found {text}");
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u32>().map_err(|_| wrong())?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(bits);
    if length > bits {
        return Err(wrong());
    }
    let leading = 128 - bits + length;
    let mask = u128::MAX.checked_shl(128 - leading).unwrap_or(0);
    Ok((address.into(), IpAddr::from(mask.to_be_bytes()).into()))
}

/// One bit for each verdict that is named, or that ends so.
fn verdicts(text: Option<&str>) -> Result<u64, String> {
    let Some(text) = text else { return Ok(u64::MAX) };
    let mut wanted = 0;
    for name in text.split(',').map(str::trim) {
        let action = match name {
            "drop" => Some(Action::Drop),
            "pass" => Some(Action::Pass),
            "reply" => Some(Action::Reply),
            "forward" => Some(Action::Forward),
            _ => None,
        };
        let named = |verdict: &&Verdict| match action {
            Some(action) => verdict.action() == action,
            None => verdict.name() == name,
        };
        let bits = Verdict::ALL.iter().filter(named).fold(0, |bits, &verdict| bits | 1 << verdict as u32);
        if bits == 0 {
            return Err(format!("verdict: there is none called {name}; `vip-lb counters --all` shows them"));
        }
        wanted |= bits;
    }
    Ok(wanted)
}

fn protocol(text: Option<&str>) -> Result<u8, String> {
    match text {
        None => Ok(0),
        Some("tcp") => Ok(6),
        Some("udp") => Ok(17),
        Some("icmp") => Ok(1),
        Some("icmpv6") => Ok(58),
        Some(number) => {
            number.parse().ok().filter(|&number| number != 0).ok_or_else(|| {
                format!("protocol: expected tcp, udp, icmp, icmpv6 or a number, found {number}")
            })
        }
    }
}

impl Directory {
    /// A packet that was seen, in words, with `bytes` of it. `epoch_us` is what to add to CLOCK_MONOTONIC for microseconds since the epoch.
    pub fn packet(&self, seen: &Seen, bytes: usize, epoch_us: u64) -> WatchedPacket {
        let Seen { sighting, came, left } = seen;
        let knows = |flag| sighting.known & flag != 0;
        let verdict = Verdict::from_number(sighting.verdict).unwrap_or(Verdict::NotConfigured);
        let first = |of: &[u8]| of[..of.len().min(bytes)].to_vec();
        let end = |address: Address, port| SocketAddr::new(address.into(), port);
        WatchedPacket {
            at_us: epoch_us + sighting.at / 1000,
            interface: self.interface(sighting.ingress),
            source: end(sighting.source, sighting.source_port),
            destination: end(sighting.destination, sighting.destination_port),
            protocol: sighting.protocol,
            verdict: verdict.into(),
            service: knows(Sighting::SERVICE).then(|| self.service(sighting.service.id)),
            hash: knows(Sighting::SLOT).then_some(FlowHash(sighting.hash)),
            slot: knows(Sighting::SLOT).then(|| self.slot(sighting)),
            backend: knows(Sighting::CHOSEN).then(|| self.chosen(sighting)).flatten(),
            translated: knows(Sighting::TRANSLATED)
                .then(|| if knows(Sighting::NEW) { "new" } else { "known" }.to_owned()),
            egress: (verdict.action() == Action::Forward).then(|| self.interface(sighting.egress)),
            came: Frame::new(sighting.came_len, &first(came)),
            left: (sighting.left_len != 0).then(|| Frame::new(sighting.left_len, &first(left))),
        }
    }

    fn chosen(&self, sighting: &Sighting) -> Option<ChosenBackend> {
        let known = self.backends.get(&sighting.backend.index)?;
        let reason = Reason::from_u8(sighting.reason)?;
        let slot = (sighting.known & Sighting::SLOT != 0).then_some(sighting.slot);
        Some(ChosenBackend {
            name: format!("{}/{}", known.service, known.name),
            address: known.address,
            reason: reason_in_words(reason, sighting.backend, slot),
        })
    }

    fn slot(&self, sighting: &Sighting) -> Slot {
        let current = self.backend(sighting.slot.current);
        let state = match Phase::from_u8(sighting.slot.phase) {
            Phase::Closed => SlotState::Closed { current },
            Phase::Open | Phase::Known | Phase::Settling => SlotState::Open {
                current,
                previous: self.backend(sighting.slot.previous),
                epoch: sighting.slot.epoch.into(),
            },
        };
        Slot { index: sighting.index, state }
    }

    fn backend(&self, reference: BackendRef) -> String {
        if reference.is_none() {
            return "none".to_owned();
        }
        let known = self.backends.get(&reference.index);
        known.map_or_else(|| format!("backend #{}", reference.index), |known| known.name.clone())
    }

    fn service(&self, id: u16) -> String {
        self.services.get(&id).cloned().unwrap_or_else(|| format!("service #{id}"))
    }

    fn interface(&self, index: u32) -> String {
        self.interfaces.get(&index).cloned().unwrap_or_else(|| format!("interface #{index}"))
    }
}

#[cfg(test)]
mod tests;
