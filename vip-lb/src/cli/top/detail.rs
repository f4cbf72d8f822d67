//! All that is known of one backend.

use ratatui::text::{Line, Span};

use super::{
    curve::{Scale, curve},
    draw::toned,
    history::{History, Series},
};
use crate::{
    api::model::{BackendStatus, ForwardingState, HealthState, Percentiles, ServiceStatus, VipStatus},
    cli::render::{Style, Tone, backend_notes, milliseconds, quantity, weight},
};

/// The lines of the page.
pub(super) fn detail(
    history: &History,
    service: &str,
    backend: &str,
    width: usize,
    style: Style,
) -> Vec<Line<'static>> {
    let reading = history.last();
    let services = reading.status.vips.iter().flat_map(|vip| vip.services.iter().map(move |of| (vip, of)));
    let mut found = services.filter(|(_, of)| of.name == service);
    let found =
        found.find_map(|(vip, of)| Some((vip, of, of.backends.iter().find(|of| of.name == backend)?)));
    let Some((vip, of, backend)) = found else {
        return vec![Line::raw(format!(" {service}/{backend} is no longer in the configuration"))];
    };
    let mut lines = facts(vip, of, backend, reading.now, style);
    let series = Series::Backend(of.name.clone(), backend.name.clone());
    let rates = history.rates(&series);
    let room = width.saturating_sub(15).min(120);
    let peak = rates.iter().rev().take(room).copied().fold(0.0, f64::max);
    lines.push(fact("packets/s", vec![Span::raw(curve(&rates, room, Scale::Own))]));
    lines.push(fact("", vec![Span::raw(format!("at most {}", quantity::scaled(peak)))]));
    for note in backend_notes(backend) {
        lines.push(Line::from(toned(format!(" {note}"), Tone::Doubtful, style)));
    }
    lines
}

fn facts(
    vip: &VipStatus,
    service: &ServiceStatus,
    backend: &BackendStatus,
    now: f64,
    style: Style,
) -> Vec<Line<'static>> {
    let age = quantity::duration((now as u64).saturating_sub(backend.health.since));
    let (word, tone) = match backend.health.state {
        HealthState::Up => ("up", Tone::Good),
        HealthState::Down => ("down", Tone::Bad),
        HealthState::Unknown => ("unknown", Tone::Doubtful),
        HealthState::Unchecked => ("unchecked", Tone::Neutral),
    };
    let mut health = vec![toned(word, tone, style), Span::raw(format!(" for {age}"))];
    if let Some(latency) = backend.health.last_latency_ms {
        health.push(Span::raw(format!(", last answer after {latency:.2} ms")));
    }
    let (word, tone) = match backend.forwarding.state {
        ForwardingState::InRing => ("in ring", Tone::Good),
        ForwardingState::Draining => ("draining", Tone::Doubtful),
        ForwardingState::Out => ("out", Tone::Bad),
    };
    let traffic = &backend.traffic;
    vec![
        fact(
            "service",
            vec![Span::raw(format!("{} at {}, {}", service.name, vip.address, service.protocol))],
        ),
        fact("address", vec![Span::raw(format!("{}, mode {}", backend.address, backend.mode))]),
        fact("next hop", vec![Span::raw(backend.next_hop.clone())]),
        fact("health", health),
        fact("probes", vec![Span::raw(took(backend.health.probe, backend.health.connect))]),
        fact("state", vec![toned(word, tone, style)]),
        fact(
            "share",
            vec![Span::raw(format!(
                "{} of the ring, {} of {} slots, weight {}",
                quantity::percent(backend.ring_share),
                backend.ring_slots,
                service.ring_slots,
                weight(backend)
            ))],
        ),
        fact(
            "now",
            vec![Span::raw(format!(
                "{} packets/s, {}bit/s, {} connections/s",
                quantity::scaled(traffic.packets_per_second),
                quantity::with_prefix(traffic.bits_per_second),
                quantity::scaled(traffic.new_connections_per_second)
            ))],
        ),
        fact(
            "total",
            vec![Span::raw(format!(
                "{} packets, {}B, {} connections",
                quantity::count(traffic.packets),
                quantity::with_prefix(traffic.bytes as f64),
                quantity::count(traffic.new_connections)
            ))],
        ),
    ]
}

/// How long probes took, and to connect.
fn took(probe: Option<Percentiles>, connect: Option<Percentiles>) -> String {
    let shown = |of: Percentiles| {
        let [p50, p90, p99] = [of.p50_ms, of.p90_ms, of.p99_ms].map(milliseconds);
        format!("p50 {p50}, p90 {p90}, p99 {p99}")
    };
    match (probe, connect) {
        (None, _) => "none yet".to_owned(),
        (Some(probe), None) => shown(probe),
        (Some(probe), Some(connect)) => format!("{}; to connect {}", shown(probe), shown(connect)),
    }
}

fn fact(name: &str, mut value: Vec<Span<'static>>) -> Line<'static> {
    value.insert(0, Span::raw(format!(" {name:<12} ")));
    Line::from(value)
}
