//! The status as a page: the node, its interfaces, then every service with a table of its backends.

use super::{
    Style, Tone, Toned, affinity, peers, protocol, quantity,
    table::{Align, Cell, Table},
};
use crate::{
    api::model::{
        AttachedMode, BackendStatus, BondMemberState, BondStatus, FloorState, FloorStatus, ForwardingState,
        Health, HealthState, HostStatus, NodeAdmin, OperatorOrder, OrderKind, Percentiles, ServiceStatus,
        Status, TableStatus, VipStatus, VrrpState, VrrpStatus,
    },
    config::model::{AdminState, NodeState, Ownership, Ports, WatchdogAction},
};

/// The page; `now` is in Unix seconds.
pub(in crate::cli) fn status(status: &Status, now: u64, style: Style) -> String {
    let mut text = format!(
        "{}: vip-lb {}, pid {}, up {}\n",
        status.node,
        status.version,
        status.pid,
        quantity::duration(now.saturating_sub(status.started))
    );
    text.push_str(&format!(
        "configuration {}, hash {}, loaded {} ago\n",
        status.config.path.display(),
        status.config.hash,
        quantity::duration(now.saturating_sub(status.config.loaded_at))
    ));
    if let Some(drained) = node_drain(&status.node_admin, now) {
        text.push_str(&format!("{}\n", Toned(&drained, Tone::Doubtful, style)));
    }
    if status.watchdog.action == WatchdogAction::Pass {
        text.push_str(&format!(
            "without a daemon packets go to the host after {}\n",
            quantity::duration(status.watchdog.after)
        ));
    }
    for warning in &status.warnings {
        text.push_str(&format!("{} {warning}\n", Toned("warning:", Tone::Doubtful, style)));
    }
    text.push('\n');
    text.push_str(&interfaces(status, style));
    if !status.hosts.is_empty() {
        text.push('\n');
    }
    for host in &status.hosts {
        text.push_str(&host_line(host, now, style));
    }
    if let Some(peering) = &status.peering {
        text.push('\n');
        text.push_str(&peers(peering, now, style));
    }
    for vip in &status.vips {
        text.push('\n');
        text.push_str(&vip_line(vip, style));
        for service in &vip.services {
            text.push('\n');
            text.push_str(&service_block(service, now, style));
        }
    }
    if !status.tables.is_empty() {
        text.push('\n');
        text.push_str(&tables(&status.tables, style));
    }
    text
}

fn interfaces(status: &Status, style: Style) -> String {
    let mut table = Table::new([
        ("INTERFACE", Align::Left),
        ("INDEX", Align::Right),
        ("MODE", Align::Left),
        ("VLAN OFFLOAD", Align::Left),
    ]);
    for interface in &status.interfaces {
        let name = match &interface.bond {
            Some(bond) => format!("{} ({bond})", interface.name),
            None => interface.name.clone(),
        };
        let mode = match interface.mode {
            AttachedMode::Native => "native".into(),
            AttachedMode::Generic => Cell::toned("generic", Tone::Doubtful),
        };
        table.row([
            name.as_str().into(),
            interface.index.to_string().into(),
            mode,
            interface.vlan_offload.as_deref().unwrap_or("-").into(),
        ]);
    }
    let mut text = table.render("", style);
    for bond in &status.bonds {
        text.push_str(&format!("{}: {}\n", bond.name, bond_members(bond)));
    }
    text
}

/// The members that have the program are in the table: what is said here is what the bond has in them, and who waits.
fn bond_members(bond: &BondStatus) -> String {
    let members = bond.members.iter().map(|member| {
        let state = match member.state {
            BondMemberState::Active => "active",
            BondMemberState::Standby => "standby",
            BondMemberState::Down => "down",
        };
        let program = match (member.mode, member.awaited) {
            (None, _) => ", not attached yet",
            (Some(_), true) => ", attached, its link is awaited",
            (Some(_), false) => "",
        };
        format!("{} {state}{program}", member.name)
    });
    let members: Vec<String> = members.collect();
    if members.is_empty() { "no members".to_owned() } else { members.join("; ") }
}

/// That the node gives up its VIPs, if it does.
pub(super) fn node_drain(node: &NodeAdmin, now: u64) -> Option<String> {
    let by = match (node.admin, node.ordered_since) {
        (_, Some(since)) => format!("by the operator {} ago", quantity::duration(now.saturating_sub(since))),
        (NodeState::Drain, None) => "in the configuration".to_owned(),
        (NodeState::Enabled, None) => return None,
    };
    Some(format!("this node is drained {by}: it gives up its VIPs, and forwards what comes"))
}

/// At which other node an order was given.
pub(super) fn given_at(order: &OperatorOrder) -> String {
    order.by.as_ref().map_or_else(String::new, |node| format!(" at {node}"))
}

fn host_line(host: &HostStatus, now: u64, style: Style) -> String {
    let configured = match host.admin {
        AdminState::Enabled => None,
        AdminState::Drain => Some("drained in the configuration".to_owned()),
        AdminState::Disabled => Some("disabled in the configuration".to_owned()),
    };
    let ordered = host.operator_order.as_ref().map(|order| {
        let done = match order.order {
            OrderKind::Drain => "drained",
            OrderKind::Cut => "cut",
        };
        let ago = quantity::duration(now.saturating_sub(order.since));
        format!("{done} by the operator {ago} ago{}", given_at(order))
    });
    let words: Vec<String> = configured.into_iter().chain(ordered).collect();
    let backends = match host.backends {
        0 => "no backend is there".to_owned(),
        1 => "1 backend".to_owned(),
        several => format!("{several} backends"),
    };
    format!("host {}: {}, {backends}\n", host.address, Toned(&words.join(", "), Tone::Doubtful, style))
}

fn vip_line(vip: &VipStatus, style: Style) -> String {
    let ownership = match vip.ownership {
        Ownership::Always => "always".to_owned(),
        Ownership::Vrrp => vip.vrrp.as_ref().map_or_else(|| "vrrp".to_owned(), vrrp_words),
        Ownership::Route => vip.route.as_ref().map_or_else(|| "route".to_owned(), super::vip::place),
    };
    let answering = match (vip.answering, vip.ownership) {
        (true, Ownership::Always | Ownership::Vrrp) => Toned("answering", Tone::Good, style),
        (false, Ownership::Always | Ownership::Vrrp) => Toned("not answering", Tone::Bad, style),
        (true, Ownership::Route) => Toned("published", Tone::Good, style),
        (false, Ownership::Route) => Toned("not published", Tone::Bad, style),
    };
    let why = vip.withdrawn.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    format!("VIP {}, ownership {ownership}, {answering}{why}\n", vip.address)
}

/// What the router of a VIP is, and why.
fn vrrp_words(vrrp: &VrrpStatus) -> String {
    let state = match vrrp.state {
        VrrpState::Initialize => "takes no part",
        VrrpState::Backup => "backup",
        VrrpState::Active => "active",
    };
    let why = vrrp.hindrance.as_ref().or(vrrp.changes.last().map(|change| &change.why));
    let why = why.map_or_else(String::new, |why| format!(" because {why}"));
    format!("vrrp {} on {}, priority {}, {state}{why}", vrrp.router_id, vrrp.interface, vrrp.priority)
}

fn service_block(service: &ServiceStatus, now: u64, style: Style) -> String {
    let protocol = protocol(service.protocol);
    let port = match service.port {
        Ports::Every => format!("every {protocol} port"),
        Ports::One(port) => format!("{protocol} port {port}"),
        Ports::Range(first, last) => format!("{protocol} ports {first}-{last}"),
    };
    let mut text = format!(
        "  {}: {port}, affinity {}, {} slots, {}\n",
        service.name,
        affinity(service.affinity),
        service.ring_slots,
        slots(service)
    );
    let traffic = &service.traffic;
    text.push_str(&format!(
        "  {} packets/s, {}bit/s, {} connections/s; total {} packets, {}B, {} connections\n",
        quantity::scaled(traffic.packets_per_second),
        quantity::with_prefix(traffic.bits_per_second),
        quantity::scaled(traffic.new_connections_per_second),
        quantity::count(traffic.packets),
        quantity::with_prefix(traffic.bytes as f64),
        quantity::count(traffic.new_connections),
    ));
    if service.floor.state != FloorState::Met || service.floor.held > 0 {
        text.push_str(&format!("  {}\n", Toned(&floor_in_words(&service.floor), Tone::Bad, style)));
    }
    let mut table = Table::new([
        ("BACKEND", Align::Left),
        ("ADDRESS", Align::Left),
        ("MODE", Align::Left),
        ("WEIGHT", Align::Right),
        ("SHARE", Align::Right),
        ("HEALTH", Align::Left),
        ("STATE", Align::Left),
        ("PKT/S", Align::Right),
        ("CONN/S", Align::Right),
        ("NEXT HOP", Align::Left),
    ]);
    for backend in &service.backends {
        table.row([
            backend.name.as_str().into(),
            backend.address.to_string().into(),
            backend.mode.as_str().into(),
            weight(backend).into(),
            quantity::percent(backend.ring_share).into(),
            health(backend, now),
            forwarding(backend.forwarding.state),
            quantity::scaled(backend.traffic.packets_per_second).into(),
            quantity::scaled(backend.traffic.new_connections_per_second).into(),
            backend.next_hop.as_str().into(),
        ]);
    }
    text.push_str(&table.render("    ", style));
    for note in service.backends.iter().flat_map(notes) {
        text.push_str(&format!("    {note}\n"));
    }
    text
}

/// Whether enough backends are healthy, and what that means.
pub(super) fn floor_in_words(floor: &FloorStatus) -> String {
    let FloorStatus { state, healthy, needed, wanted, tier, held } = *floor;
    let mut words = format!("{healthy} of {wanted} backends healthy, {needed} needed");
    words.push_str(match state {
        FloorState::Met => "",
        FloorState::Open => ": fails open, the first tier is used whatever its checks say",
        FloorState::Closed => ": fails closed, nobody gets new connections",
        FloorState::Backup => ": the backup tier is used whatever its checks say",
    });
    if state == FloorState::Met && tier > 0 {
        words.push_str(&format!("; tiers up to {tier} are in use"));
    }
    if held > 0 {
        words.push_str(&format!("; {held} kept although their checks fail, as too many failed at once"));
    }
    words
}

fn slots(service: &ServiceStatus) -> String {
    if service.open_slots == 0 {
        return "all closed".to_owned();
    }
    format!(
        "{} open ({} recorded flows, {} newborn, {} survivors)",
        service.open_slots, service.recorded_flows, service.newborn, service.survivors
    )
}

/// `100`, or `30 of 100` while it returns slowly.
pub(in crate::cli) fn weight(backend: &BackendStatus) -> String {
    match backend.weight_percent {
        100 => backend.weight.to_string(),
        percent => {
            let counts = f64::from(backend.weight) * f64::from(percent) / 100.0;
            format!("{} of {}", quantity::scaled(counts), backend.weight)
        }
    }
}

fn health(backend: &BackendStatus, now: u64) -> Cell {
    let (word, tone) = match backend.health.state {
        HealthState::Up => ("up", Tone::Good),
        HealthState::Down => ("down", Tone::Bad),
        HealthState::Unknown => ("unknown", Tone::Doubtful),
        HealthState::Unchecked => return "unchecked".into(),
    };
    let since = quantity::duration(now.saturating_sub(backend.health.since));
    Cell::toned(format!("{word} {since}"), tone)
}

fn forwarding(state: ForwardingState) -> Cell {
    match state {
        ForwardingState::InRing => "in ring".into(),
        ForwardingState::Draining => Cell::toned("draining", Tone::Doubtful),
        ForwardingState::Out => Cell::toned("out", Tone::Bad),
    }
}

/// What the table has no room for: why a backend is not up, why it is not in the ring, what it still holds.
pub(in crate::cli) fn notes(backend: &BackendStatus) -> Vec<String> {
    let name = &backend.name;
    let mut notes = Vec::new();
    if let Some(reason) = &backend.health.reason {
        let is = match backend.health.state {
            HealthState::Up => "up",
            HealthState::Down => "down",
            HealthState::Unknown => "not yet known to be up or down",
            HealthState::Unchecked => "unchecked",
        };
        notes.push(format!("{name} is {is}: {reason}"));
    }
    let is = match backend.forwarding.state {
        ForwardingState::InRing => "in the ring",
        ForwardingState::Draining => "draining",
        ForwardingState::Out => "out",
    };
    if let Some(reason) = &backend.forwarding.reason {
        notes.push(format!("{name} is {is}: {reason}"));
    }
    if backend.drained_by_operator && backend.forwarding.reason.is_none() {
        let whom = match &backend.operator_order {
            Some(order) if order.host => backend.address.to_string(),
            _ => name.clone(),
        };
        notes.push(format!("{name} is {is}: `vip-lb undrain {whom}` ends this"));
    }
    if let Some(node) = backend.operator_order.as_ref().and_then(|order| order.by.as_ref()) {
        notes.push(format!("{name} is ordered so at {node}"));
    }
    if let Some((slower, probe)) = backend.health.slower.zip(backend.health.probe) {
        notes.push(format!(
            "{name} answers its probes in {} (median), the others of this service in {}",
            milliseconds(probe.p50_ms),
            milliseconds(slower.peers_p50_ms)
        ));
    }
    if backend.tier > 0 {
        notes.push(format!("{name} is of tier {}", backend.tier));
    }
    match backend.admin {
        AdminState::Enabled => {}
        AdminState::Drain => notes.push(format!("{name} is set to drain in the configuration")),
        AdminState::Disabled => notes.push(format!("{name} is disabled in the configuration")),
    }
    if backend.previous_slots > 0 || backend.entries > 0 {
        notes.push(format!(
            "{name} is remembered by {} open slots and {} recorded flows",
            backend.previous_slots, backend.entries
        ));
    }
    if backend.nat_connections > 0 {
        notes.push(format!("{name} has {} translated connections", backend.nat_connections));
    }
    notes
}

/// How long the probes of every backend take, as a table for each service.
pub(in crate::cli) fn latencies(status: &Status, style: Style) -> String {
    let mut text = String::new();
    for service in status.vips.iter().flat_map(|vip| &vip.services) {
        let mut table = Table::new([
            ("BACKEND", Align::Left),
            ("PROBES", Align::Right),
            ("P50", Align::Right),
            ("P90", Align::Right),
            ("P99", Align::Right),
            ("CONNECT P50", Align::Right),
            ("P90", Align::Right),
            ("P99", Align::Right),
            ("", Align::Left),
        ]);
        for backend in &service.backends {
            let Health { probe, connect, slower, .. } = &backend.health;
            let cells = |of: &Option<Percentiles>| -> [Cell; 3] {
                let shown = |value: fn(&Percentiles) -> f64| {
                    of.as_ref().map_or_else(|| "-".to_owned(), |of| milliseconds(value(of))).into()
                };
                [shown(|of| of.p50_ms), shown(|of| of.p90_ms), shown(|of| of.p99_ms)]
            };
            let [p50, p90, p99] = cells(probe);
            let [connect_p50, connect_p90, connect_p99] = cells(connect);
            let hint =
                slower.map_or_else(String::new, |slower| format!("{:.0} times its peers", slower.times));
            table.row([
                backend.name.as_str().into(),
                probe.map_or(0, |probe| probe.probes).to_string().into(),
                p50,
                p90,
                p99,
                connect_p50,
                connect_p90,
                connect_p99,
                Cell::toned(hint, Tone::Doubtful),
            ]);
        }
        text.push_str(&format!("{}\n{}\n", service.name, table.render("  ", style)));
    }
    text
}

/// `0.42 ms`, as far as anybody would look at it.
pub(in crate::cli) fn milliseconds(value: f64) -> String {
    if value < 10.0 { format!("{value:.2} ms") } else { format!("{value:.0} ms") }
}

fn tables(tables: &[TableStatus], style: Style) -> String {
    let mut table = Table::new([
        ("TABLE", Align::Left),
        ("ENTRIES", Align::Right),
        ("CAPACITY", Align::Right),
        ("FILLED", Align::Right),
    ]);
    for entry in tables {
        // A table without capacity holds nothing, so it is not full either.
        let filled = entry.entries as f64 / entry.capacity.max(1) as f64;
        let tone = if filled >= 0.9 { Tone::Bad } else { Tone::Neutral };
        table.row([
            entry.name.as_str().into(),
            entry.entries.to_string().into(),
            entry.capacity.to_string().into(),
            Cell::toned(quantity::percent(filled), tone),
        ]);
    }
    table.render("", style)
}

#[cfg(test)]
mod tests;
