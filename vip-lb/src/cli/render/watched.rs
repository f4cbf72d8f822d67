//! A packet that was seen, in one line.

use std::net::SocketAddr;

use crate::api::model::{SlotState, WatchedPacket};

/// When and where it came, between whom, and what became of it.
pub(in crate::cli) fn watched(packet: &WatchedPacket) -> String {
    let protocol = match packet.protocol {
        0 => "other".to_owned(),
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        number => format!("protocol {number}"),
    };
    let egress = packet.egress.as_ref().map_or_else(String::new, |name| format!(" > {name}"));
    format!(
        "{} {}{egress} {} > {} {protocol} {} B: {}\n",
        time_of_day(packet.at_us),
        packet.interface,
        end(packet.source),
        end(packet.destination),
        packet.came.length,
        fate(packet)
    )
}

/// How it ended, and why.
pub(in crate::cli) fn fate(packet: &WatchedPacket) -> String {
    let mut text = packet.verdict.name.clone();
    match (&packet.backend, &packet.service) {
        (Some(backend), _) => {
            text.push_str(&format!(", {} {}: {}", backend.name, backend.address, backend.reason));
        }
        (None, Some(service)) => text.push_str(&format!(", service {service}: {}", packet.verdict.meaning)),
        (None, None) => text.push_str(&format!(": {}", packet.verdict.meaning)),
    }
    if let Some(slot) = &packet.slot {
        text.push_str(&format!(", slot {}", slot.index));
        if let SlotState::Open { current, previous, .. } = &slot.state {
            text.push_str(&format!(" (open: current {current}, previous {previous})"));
        }
    }
    match packet.translated.as_deref() {
        Some("new") => text.push_str(", a new translated connection"),
        Some(_) => text.push_str(", a known translated connection"),
        None => {}
    }
    text
}

/// An address, with the port where there is one.
fn end(end: SocketAddr) -> String {
    if end.port() == 0 { end.ip().to_string() } else { end.to_string() }
}

/// In UTC, to the microsecond.
fn time_of_day(at_us: u64) -> String {
    let (seconds, micros) = (at_us / 1_000_000, at_us % 1_000_000);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{micros:06}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{model::Slot, samples};

    #[test]
    fn a_packet_is_one_line() {
        let packet = samples::watched();
        assert_eq!(
            watched(&packet),
            "08:00:00.000042 eth0 > eth1 198.51.100.7:40000 > 192.0.2.10:80 tcp 60 B: forwarded_ipip, web/b1 10.0.0.1: \
             every flow of a closed slot, slot 1234\n"
        );
    }

    #[test]
    fn an_open_slot_and_a_translation_are_told() {
        let state = SlotState::Open { current: "b1".into(), previous: "b2".into(), epoch: 3 };
        let packet = WatchedPacket {
            slot: Some(Slot { index: 7, state }),
            translated: Some("new".into()),
            ..samples::watched()
        };
        let text = fate(&packet);
        assert!(
            text.ends_with("slot 7 (open: current b1, previous b2), a new translated connection"),
            "{text}"
        );
    }
}
