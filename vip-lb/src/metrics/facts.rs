//! From what the daemon knows to the page.

use std::{collections::BTreeMap, time::Duration};

use super::{definitions::*, text::Page};
use crate::{
    api::model::{
        Action, AttachedMode, BackendStatus, Counters, FloorState, ForwardingState, HealthState,
        ServiceStatus, Status, VrrpState,
    },
    health::{
        Histogram, ProbeCounts,
        passive::{Account, Names},
    },
};

/// What the page is made of, all of the same moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// As `vip-lb status` shows it.
    pub status: Status,
    /// As `vip-lb counters` shows them.
    pub counters: Counters,
    /// Readings of the configuration file after the first.
    pub reloads: Reloads,
    /// Changes of health since the daemon started, by the names of service and backend.
    pub health_changes: BTreeMap<(String, String), u64>,
    /// How many probes began, and how many of them late.
    pub probed: ProbeCounts,
    /// How long good probes took, to connect and as a whole, by the names of service and backend.
    pub latencies: BTreeMap<(String, String), [Histogram; 2]>,
    /// What sampled connections have shown, by the names of service and backend; of those that are looked at.
    pub passive: BTreeMap<Names, Account>,
    /// Ports that translated connections to one backend can have.
    pub nat_ports: u16,
    /// What the kernel knows of the packet program.
    pub program: Program,
}

/// Readings of the configuration file after the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    /// Those that came into force.
    pub succeeded: u64,
    /// Those that were refused.
    pub failed: u64,
    /// Whether the last one was refused.
    pub last_failed: bool,
}

/// What the kernel knows of the packet program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Whether the kernel counts runs now.
    pub counted: bool,
    /// Runs, while they were counted.
    pub runs: u64,
    /// Time in these runs.
    pub run_time: Duration,
    /// Instructions that the verifier walked through; `None` before kernel 5.16.
    pub verified_instructions: Option<u32>,
}

/// The page.
#[must_use]
pub fn render(facts: &Facts) -> String {
    let mut page = Page::default();
    node(&mut page, facts);
    peers(&mut page, facts);
    traffic(&mut page, facts);
    probes(&mut page, facts.probed);
    let services: Vec<&ServiceStatus> = facts.status.vips.iter().flat_map(|vip| &vip.services).collect();
    service_metrics(&mut page, facts, &services);
    floor_metrics(&mut page, &services);
    backend_metrics(&mut page, facts, &services);
    page.metric(&NAT_PORTS).sample(&[], facts.nat_ports);
    for (metric, value) in [
        (&TABLE_ENTRIES, (|table| table.entries) as fn(&crate::api::model::TableStatus) -> u64),
        (&TABLE_CAPACITY, |table| table.capacity),
    ] {
        let mut samples = page.metric(metric);
        for table in &facts.status.tables {
            samples.sample(&[&table.name], value(table));
        }
    }
    program(&mut page, &facts.program);
    page.finish()
}

fn node(page: &mut Page, facts: &Facts) {
    let (status, reloads) = (&facts.status, &facts.reloads);
    page.metric(&BUILD_INFO).sample(&[&status.version], 1_u64);
    page.metric(&START_TIME).sample(&[], status.started);
    page.metric(&CONFIG_INFO).sample(&[&status.node, &status.config.hash], 1_u64);
    page.metric(&CONFIG_LOADED).sample(&[], status.config.loaded_at);
    page.metric(&CONFIG_SUCCESSFUL).sample(&[], !reloads.last_failed);
    page.metric(&CONFIG_RELOADS).sample(&["success"], reloads.succeeded).sample(&["failure"], reloads.failed);
    page.metric(&WARNINGS).sample(&[], status.warnings.len() as u64);
    page.metric(&NODE_DRAINED).sample(&[], status.node_admin.is_drained());
}

/// Of the other nodes of the group.
fn peers(page: &mut Page, facts: &Facts) {
    let peering = facts.status.peering.as_ref();
    let all = || peering.into_iter().flat_map(|peering| &peering.peers);
    let mut samples = page.metric(&PEER_CONNECTED);
    for peer in all() {
        samples.sample(&[&peer.address.to_string()], peer.connected);
    }
    let mut samples = page.metric(&PEER_AGREES);
    for peer in all() {
        samples.sample(&[&peer.address.to_string()], peer.agrees == Some(true));
    }
    let mut samples = page.metric(&PEER_MISMATCHES);
    for peer in all() {
        samples.sample(&[&peer.address.to_string()], peer.mismatches.len() as u64);
    }
    let mut samples = page.metric(&PEER_FLOWS);
    for flows in peering.into_iter().filter_map(|peering| peering.flows) {
        for (what, count) in [("told", flows.told), ("heard", flows.heard), ("missed", flows.missed)] {
            samples.sample(&[what], count);
        }
    }
    let mut samples = page.metric(&PEERS_REFUSED);
    for (reason, &count) in peering.into_iter().flat_map(|peering| &peering.refused) {
        samples.sample(&[reason], count);
    }
}

/// Of VIPs whose ownership is by VRRP.
fn vrrp(page: &mut Page, facts: &Facts) {
    let routers: Vec<_> = facts
        .status
        .vips
        .iter()
        .filter_map(|vip| Some((vip.address.to_string(), vip.vrrp.as_ref()?)))
        .collect();
    let mut samples = page.metric(&VRRP_STATE);
    for (vip, router) in &routers {
        for (name, state) in [
            ("initialize", VrrpState::Initialize),
            ("backup", VrrpState::Backup),
            ("active", VrrpState::Active),
        ] {
            samples.sample(&[vip, name], router.state == state);
        }
    }
    let mut samples = page.metric(&VRRP_PRIORITY);
    for (vip, router) in &routers {
        samples.sample(&[vip], u32::from(router.priority));
    }
    let mut samples = page.metric(&VRRP_ADVERTS);
    for (vip, router) in &routers {
        samples.sample(&[vip, "sent"], router.adverts_sent);
        samples.sample(&[vip, "received"], router.adverts_received);
    }
    let mut samples = page.metric(&VRRP_DISCARDED);
    for (vip, router) in &routers {
        for (reason, &count) in &router.adverts_discarded {
            samples.sample(&[vip, reason], count);
        }
    }
    let mut samples = page.metric(&VRRP_TRACKER);
    for (vip, router) in &routers {
        for tracker in &router.trackers {
            samples.sample(&[vip, &tracker.tracker], tracker.failing);
        }
    }
    let mut samples = page.metric(&VRRP_HANDED_OVER);
    for (vip, router) in &routers {
        samples.sample(&[vip], router.handed_over.is_some());
    }
    let mut samples = page.metric(&VRRP_CONFLICT);
    for (vip, router) in &routers {
        samples.sample(&[vip], router.conflict.is_some());
    }
    let mut samples = page.metric(&VRRP_UNHEARD);
    for (vip, router) in &routers {
        samples.sample(&[vip], router.unheard.is_some());
    }
}

/// Of VIPs whose ownership is by routes.
fn routes(page: &mut Page, facts: &Facts) {
    let routes: Vec<_> = facts
        .status
        .vips
        .iter()
        .filter_map(|vip| Some((vip.address.to_string(), vip.route.as_ref()?)))
        .collect();
    let mut samples = page.metric(&ROUTE_RESTORED);
    for (vip, route) in &routes {
        samples.sample(&[vip], route.restored);
    }
    let mut samples = page.metric(&ROUTE_HINDERED);
    for (vip, route) in &routes {
        samples.sample(&[vip], route.hindrance.is_some());
    }
}

fn traffic(page: &mut Page, facts: &Facts) {
    let mut samples = page.metric(&INTERFACE);
    for interface in &facts.status.interfaces {
        let mode = match interface.mode {
            AttachedMode::Native => "native",
            AttachedMode::Generic => "generic",
        };
        samples.sample(&[&interface.name, mode], 1_u64);
    }
    let mut samples = page.metric(&VIP_ANSWERING);
    for vip in &facts.status.vips {
        samples.sample(&[&vip.address.to_string()], vip.answering);
    }
    let mut samples = page.metric(&VIP_SECOND_OWNERS);
    for vip in &facts.status.vips {
        samples.sample(&[&vip.address.to_string()], vip.second_owners.len() as u64);
    }
    let mut samples = page.metric(&VIP_SECOND_OWNERS_FOUND);
    for vip in &facts.status.vips {
        samples.sample(&[&vip.address.to_string()], vip.second_owners_found);
    }
    routes(page, facts);
    vrrp(page, facts);
    let mut samples = page.metric(&PACKETS);
    for count in &facts.counters.verdicts {
        let action = match count.verdict.action {
            Action::Pass => "pass",
            Action::Drop => "drop",
            Action::Reply => "reply",
            Action::Forward => "forward",
        };
        samples.sample(&[&count.verdict.name, action], count.packets);
    }
}

fn probes(page: &mut Page, probed: ProbeCounts) {
    page.metric(&PROBES).sample(&[], probed.begun);
    page.metric(&PROBES_LATE).sample(&[], probed.late);
}

fn service_metrics(page: &mut Page, facts: &Facts, services: &[&ServiceStatus]) {
    type Value = fn(&ServiceStatus) -> u64;
    let mut samples = page.metric(&SERVICE_INFO);
    for vip in &facts.status.vips {
        for service in &vip.services {
            samples.sample(
                &[
                    &service.name,
                    &vip.address.to_string(),
                    &service.port.to_string(),
                    service.protocol.as_str(),
                    service.affinity.as_str(),
                ],
                1_u64,
            );
        }
    }

    let columns: [(&'static Metric, Value); 13] = [
        (&SERVICE_PACKETS, |service| service.traffic.packets),
        (&SERVICE_BYTES, |service| service.traffic.bytes),
        (&SERVICE_CONNECTIONS, |service| service.traffic.new_connections),
        (&SERVICE_SLOTS, |service| service.ring_slots.into()),
        (&SERVICE_OPEN_SLOTS, |service| service.open_slots.into()),
        (&SERVICE_RECORDED, |service| service.recorded_flows),
        (&SERVICE_NEWBORN, |service| service.newborn),
        (&SERVICE_SURVIVORS, |service| service.survivors),
        (&SERVICE_HEALTHY, |service| service.floor.healthy.into()),
        (&SERVICE_WANTED, |service| service.floor.wanted.into()),
        (&SERVICE_NEEDED, |service| service.floor.needed.into()),
        (&SERVICE_HELD, |service| service.floor.held.into()),
        (&SERVICE_TIER, |service| service.floor.tier.into()),
    ];
    for (metric, value) in columns {
        let mut samples = page.metric(metric);
        for service in services {
            samples.sample(&[&service.name], value(service));
        }
    }
}

/// What is done where too few backends are healthy.
fn floor_metrics(page: &mut Page, services: &[&ServiceStatus]) {
    let mut samples = page.metric(&SERVICE_FLOOR);
    for service in services {
        for (state, name) in [
            (FloorState::Met, "met"),
            (FloorState::Open, "fail_open"),
            (FloorState::Closed, "fail_closed"),
            (FloorState::Backup, "backup"),
        ] {
            samples.sample(&[&service.name, name], service.floor.state == state);
        }
    }
}

fn backend_metrics(page: &mut Page, facts: &Facts, services: &[&ServiceStatus]) {
    let backends =
        || services.iter().flat_map(|service| service.backends.iter().map(move |of| (*service, of)));
    let mut samples = page.metric(&BACKEND_INFO);
    for (service, backend) in backends() {
        let address = backend.address.to_string();
        samples.sample(&[&service.name, &backend.name, &address, backend.mode.as_str()], 1_u64);
    }
    let mut column = |metric: &'static Metric, value: &dyn Fn(&ServiceStatus, &BackendStatus) -> u64| {
        let mut samples = page.metric(metric);
        for (service, backend) in backends() {
            samples.sample(&[&service.name, &backend.name], value(service, backend));
        }
    };
    column(&BACKEND_PACKETS, &|_, backend| backend.traffic.packets);
    column(&BACKEND_BYTES, &|_, backend| backend.traffic.bytes);
    column(&BACKEND_CONNECTIONS, &|_, backend| backend.traffic.new_connections);
    column(&BACKEND_UP, &|_, backend| {
        matches!(backend.health.state, HealthState::Up | HealthState::Unchecked).into()
    });
    column(&BACKEND_SINCE, &|_, backend| backend.health.since);
    column(&BACKEND_CHANGES, &|service, backend| {
        let names = (service.name.clone(), backend.name.clone());
        facts.health_changes.get(&names).copied().unwrap_or(0)
    });
    let mut samples = page.metric(&BACKEND_PROBE);
    for (service, backend) in backends() {
        if let Some(milliseconds) = backend.health.last_latency_ms {
            // To the nanosecond: a quotient of decimal fractions would show its rounding.
            samples.sample(&[&service.name, &backend.name], (milliseconds * 1e6).round() / 1e9);
        }
    }
    for (metric, which) in [(&BACKEND_CONNECT, 0), (&BACKEND_PROBES, 1)] {
        let mut samples = page.metric(metric);
        for ((service, backend), histograms) in &facts.latencies {
            let histogram = &histograms[which];
            samples.histogram(&[service, backend], histogram.buckets(), histogram.sum_us);
        }
    }
    passive_metrics(page, &facts.passive);
    let mut samples = page.metric(&BACKEND_STATE);
    for (service, backend) in backends() {
        for (state, name) in [
            (ForwardingState::InRing, "in_ring"),
            (ForwardingState::Draining, "draining"),
            (ForwardingState::Out, "out"),
        ] {
            samples.sample(&[&service.name, &backend.name, name], backend.forwarding.state == state);
        }
    }
    let mut column = |metric: &'static Metric, value: fn(&BackendStatus) -> u64| {
        let mut samples = page.metric(metric);
        for (service, backend) in backends() {
            samples.sample(&[&service.name, &backend.name], value(backend));
        }
    };
    column(&BACKEND_WEIGHT, |backend| backend.weight.into());
    column(&BACKEND_SLOTS, |backend| backend.ring_slots.into());
    column(&BACKEND_PREVIOUS, |backend| backend.previous_slots.into());
    column(&BACKEND_RECORDED, |backend| backend.entries);
    column(&BACKEND_NAT, |backend| backend.nat_connections);
    let mut samples = page.metric(&BACKEND_RATIO);
    for (service, backend) in backends() {
        samples.sample(&[&service.name, &backend.name], f64::from(backend.weight_percent) / 100.0);
    }
}

fn passive_metrics(page: &mut Page, passive: &BTreeMap<Names, Account>) {
    type Value = fn(&Account) -> u64;
    let mut samples = page.metric(&BACKEND_HANDSHAKE);
    for ((service, backend), account) in passive {
        samples.histogram(&[service, backend], account.handshakes.buckets(), account.handshakes.sum());
    }
    let columns: [(&'static Metric, Value); 5] = [
        (&BACKEND_SAMPLED, |account| account.begun),
        (&BACKEND_SYN_AGAIN, |account| account.syn_again),
        (&BACKEND_DATA_AGAIN, |account| account.data_again),
        (&BACKEND_SILENT, |account| account.silent),
        (&BACKEND_SUSPECTED, |account| account.suspicions),
    ];
    for (metric, value) in columns {
        let mut samples = page.metric(metric);
        for ((service, backend), account) in passive {
            samples.sample(&[service, backend], value(account));
        }
    }
}

fn program(page: &mut Page, program: &Program) {
    page.metric(&BPF_STATISTICS).sample(&[], program.counted);
    page.metric(&PROGRAM_RUNS).sample(&[], program.runs);
    page.metric(&PROGRAM_SECONDS).sample(&[], program.run_time.as_secs_f64());
    let mut samples = page.metric(&PROGRAM_VERIFIED);
    if let Some(instructions) = program.verified_instructions {
        samples.sample(&[], instructions);
    }
}
