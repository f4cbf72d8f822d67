//! Sequences of packets that meet their own traces in the tables.

mod nat;

use vip_lb_common::{
    Verdict,
    abi::{BackendRef, FlowEntry, FlowKey, Recording, Settings},
};

use super::{
    Pair, Program, Scenario,
    scenario::ip,
    world::{
        CLIENT, CLIENT6, CURRENT, EPOCH, PREVIOUS, THIRD, UNLEASED_VIP, UNLEASED_VIP6, VIP, VIP6, port, world,
    },
};
use crate::packet::{Frame, arp_request, assert_same_bytes, check, eth, neighbour_solicitation};

mod fragments;
mod icmp;
mod samples;

/// What it shows, the tables that it needs, and the story itself.
pub type Told = (&'static str, fn() -> Scenario, fn(&mut Story));

/// All stories.
pub fn all() -> Vec<Told> {
    [STEERING, fragments::ALL, icmp::ALL, samples::ALL, nat::ALL].concat()
}

const STEERING: &[Told] = &[
    (
        "a connection in an open slot is recorded for its life",
        world,
        a_connection_in_an_open_slot_is_recorded_for_its_life,
    ),
    (
        "older connections keep to the previous backend and show it",
        world,
        older_connections_keep_to_the_previous_backend_and_show_it,
    ),
    ("a flow keeps to the backend it was recorded on", world, a_flow_keeps_to_the_backend_it_was_recorded_on),
    ("datagrams are recorded where they go", world, datagrams_are_recorded_where_they_go),
    ("a spent budget delays and never misplaces", small_budgets, a_spent_budget_delays_and_never_misplaces),
    ("a full table refuses and evicts nobody", small_flows, a_full_table_refuses_and_evicts_nobody),
    ("a settled service touches no table", world, a_settled_service_touches_no_table),
    ("a node answers as long as its lease lasts", world, a_node_answers_as_long_as_its_lease_lasts),
    ("a node that nobody attends to leaves packets to the host", watchdog, an_unattended_node_leaves_packets),
];

fn watchdog() -> Scenario {
    let mut scenario = world();
    let settings = scenario.settings_mut();
    settings.flags |= Settings::WATCHDOG;
    settings.patience = 1;
    scenario
}

fn small_budgets() -> Scenario {
    let mut scenario = world();
    scenario.settings_mut().record_budget = 2;
    scenario.settings_mut().survivor_budget = 1;
    scenario
}

fn small_flows() -> Scenario {
    let mut scenario = world();
    scenario.flows_capacity = Some(4);
    scenario
}

/// A sequence of one client's packets to an open slot.
pub struct Story {
    pair: Pair,
    families: [Family; 2],
    /// The translated connections that it has seen, and their ports on this node.
    known_ports: Vec<(FlowKey, u16)>,
}

/// A name, and a frame of a client to the VIP.
type Family = (&'static str, fn() -> Frame);

impl Story {
    /// Begins on fresh tables.
    pub fn new(pair: Pair) -> Self {
        Self {
            pair,
            families: [("IPv4", || eth().ipv4(CLIENT, VIP)), ("IPv6", || eth().ipv6(CLIENT6, VIP6))],
            known_ports: Vec::new(),
        }
    }

    /// The verdicts that its packets got.
    pub fn verdicts(&self) -> impl Iterator<Item = &'static str> {
        self.pair.state().verdicts.into_keys()
    }

    /// Sends a packet of either family, which must go to `backend`.
    #[track_caller]
    fn sends(&mut self, name: &str, packet: impl Fn(Frame) -> Frame, backend: u16) {
        for (family, ip) in self.families {
            let name = format!("{family}: {name}");
            let before = self.packets_to(backend);
            self.pair.run(&name, Program::Balancer, &packet(ip()).bytes(), 0);
            self.pair.compare_tables(&name);
            assert_eq!(self.packets_to(backend), before + 1, "{name}: packets to backend {backend}");
        }
    }

    /// Sends a packet of either family, which must go to some backend.
    #[track_caller]
    fn passes(&mut self, name: &str, packet: impl Fn(Frame) -> Frame) {
        for (family, ip) in self.families {
            let name = format!("{family}: {name}");
            let outcome = self.pair.run(&name, Program::Balancer, &packet(ip()).bytes(), 0);
            self.pair.compare_tables(&name);
            assert_eq!(outcome.verdict.action(), vip_lb_common::Action::Forward, "{name}");
        }
    }

    /// Sends a packet of either family, which must be dropped.
    #[track_caller]
    fn loses(&mut self, name: &str, packet: impl Fn(Frame) -> Frame, verdict: Verdict) {
        for (family, ip) in self.families {
            let name = format!("{family}: {name}");
            let outcome = self.pair.run(&name, Program::Balancer, &packet(ip()).bytes(), 0);
            self.pair.compare_tables(&name);
            assert_eq!(outcome.verdict, verdict, "{name}");
        }
    }

    /// Sends a packet of either family, which must leave as `expected` of the same family.
    #[track_caller]
    fn turns(
        &mut self,
        name: &str,
        packet: impl Fn(Frame) -> Frame,
        verdict: Verdict,
        expected: impl Fn(Frame) -> Frame,
    ) {
        for (family, ip) in self.families {
            let name = format!("{family}: {name}");
            let outcome = self.pair.run(&name, Program::Balancer, &packet(ip()).bytes(), 0);
            self.pair.compare_tables(&name);
            assert_eq!(outcome.verdict, verdict, "{name}");
            assert_same_bytes(&name, &expected(ip()).bytes(), &outcome.frame);
            assert_eq!(check(&outcome.frame), Ok(()), "{name}: the frame that came out");
        }
    }

    fn packets_to(&self, backend: u16) -> u64 {
        let backends = self.pair.state().backends;
        backends.get(&backend).copied().unwrap_or_default().packets
    }

    /// Entries of FLOWS, NEWBORN and SURVIVORS, for both families together.
    #[track_caller]
    fn entries(&self, flows: usize, newborn: usize, survivors: usize) {
        let state = self.pair.state();
        assert_eq!(
            (state.flows.len(), state.newborn.len(), state.survivors.len()),
            (flows, newborn, survivors),
            "entries of FLOWS, NEWBORN and SURVIVORS"
        );
    }
}

fn tcp(source_port: u16, port: u16) -> impl Fn(Frame) -> Frame {
    move |ip| ip.tcp(source_port, port)
}

fn syn(source_port: u16, port: u16) -> impl Fn(Frame) -> Frame {
    move |ip| ip.tcp(source_port, port).syn()
}

fn udp(source_port: u16, port: u16) -> impl Fn(Frame) -> Frame {
    move |ip| ip.udp(source_port, port).payload(b"?")
}

fn a_connection_in_an_open_slot_is_recorded_for_its_life(story: &mut Story) {
    story.sends("SYN", syn(1, port::OPEN), CURRENT);
    story.entries(0, 2, 0);
    story.sends("SYN again", syn(1, port::OPEN), CURRENT);
    story.entries(0, 2, 0);
    story.pair.set_tick(101);
    story.sends("ACK", tcp(1, port::OPEN), CURRENT);
    story.entries(2, 2, 0);
    story.pair.set_tick(150);
    story.sends("data", |ip| ip.tcp(1, port::OPEN).payload(b"GET /"), CURRENT);
    let seen: Vec<u32> = flows(story).map(|entry| entry.seen).collect();
    assert_eq!(seen, [150, 150], "a recorded flow shows its last packet");
    story.sends("FIN", |ip| ip.tcp(1, port::OPEN).fin(), CURRENT);
    assert!(flows(story).all(|entry| entry.closing == 1));
    story.sends("the last ACK", tcp(1, port::OPEN), CURRENT);
    // The same port again is another connection: the old entry goes.
    story.sends("SYN of the next connection", syn(1, port::OPEN), CURRENT);
    story.entries(0, 2, 0);
}

fn flows(story: &Story) -> impl Iterator<Item = FlowEntry> {
    story.pair.state().flows.into_values()
}

fn older_connections_keep_to_the_previous_backend_and_show_it(story: &mut Story) {
    story.sends("data", tcp(1, port::OPEN), PREVIOUS);
    story.entries(0, 0, 2);
    let state = story.pair.state();
    assert_eq!(state.unrecorded.len(), 2, "each slot tells when it sent a packet without a record");
    assert!(state.unrecorded.iter().all(|&(_, _, tick)| tick == 100));
    story.pair.set_tick(107);
    story.sends("more data", tcp(1, port::OPEN), PREVIOUS);
    let state = story.pair.state();
    assert!(state.survivors.values().all(|survivor| survivor.seen == 107));
    assert!(state.unrecorded.iter().all(|&(_, _, tick)| tick == 107));
    story.sends("RST", |ip| ip.tcp(1, port::OPEN).rst(), PREVIOUS);
    story.sends("SYN of the next connection", syn(1, port::OPEN), CURRENT);
    story.sends("its RST", |ip| ip.tcp(1, port::OPEN).rst(), CURRENT);
    // A reset proves nothing: it does not make a record that outlives the handshake's.
    story.entries(0, 2, 2);
}

fn a_flow_keeps_to_the_backend_it_was_recorded_on(story: &mut Story) {
    story.sends("SYN", syn(1, port::OPEN), CURRENT);
    story.sends("ACK", tcp(1, port::OPEN), CURRENT);
    // As a later change of `current` leaves it: recorded on a backend that is neither of the slot's.
    change_flows(story, |entry| entry.backend.index = THIRD);
    story.sends("data", tcp(1, port::OPEN), THIRD);
    story.sends("a repeated SYN", syn(1, port::OPEN), THIRD);
    // Entries of another opening, and of a backend that is gone, do not count.
    change_flows(story, |entry| entry.epoch = EPOCH - 1);
    change_newborn(story, |entry| entry.epoch = EPOCH - 1);
    story.sends("data after the slot was closed and opened", tcp(1, port::OPEN), PREVIOUS);
    change_flows(story, |entry| {
        entry.epoch = EPOCH;
        entry.backend = BackendRef { index: THIRD, generation: 9 };
    });
    story.sends("data after the backend died", tcp(1, port::OPEN), PREVIOUS);
    story.sends("SYN after the backend died", syn(1, port::OPEN), CURRENT);
    story.sends("ACK after the backend died", tcp(1, port::OPEN), CURRENT);
    story.entries(2, 2, 2);
}

/// Changes the entries of FLOWS.
fn change_flows(story: &mut Story, change: impl Fn(&mut FlowEntry)) {
    let mut flows = story.pair.state().flows;
    flows.values_mut().for_each(change);
    story.pair.set_flows(&flows);
}

/// Changes the entries of NEWBORN.
fn change_newborn(story: &mut Story, change: impl Fn(&mut FlowEntry)) {
    let mut newborn = story.pair.state().newborn;
    newborn.values_mut().for_each(change);
    story.pair.set_newborn(&newborn);
}

fn datagrams_are_recorded_where_they_go(story: &mut Story) {
    story.sends("UDP of an open slot", udp(1, port::OPEN), PREVIOUS);
    story.entries(2, 0, 0);
    story.sends("more of it", udp(1, port::OPEN), PREVIOUS);
    story.sends("UDP where all older is known", udp(1, port::KNOWN), CURRENT);
    story.entries(4, 0, 0);
    story.sends("UDP of a slot about to close", udp(2, port::SETTLING), CURRENT);
    story.entries(6, 0, 0);
    // A source with affinity is one flow, whatever its ports.
    story.sends("a client with affinity", syn(1, port::OPEN_AFFINE), PREVIOUS);
    story.sends("its next connection", syn(2, port::OPEN_AFFINE), PREVIOUS);
    story.entries(8, 0, 0);
}

fn a_spent_budget_delays_and_never_misplaces(story: &mut Story) {
    story.sends("SYN within the budget", syn(1, port::OPEN), CURRENT);
    story.sends("SYN beyond it", syn(2, port::OPEN), PREVIOUS);
    story.sends("its ACK", tcp(2, port::OPEN), PREVIOUS);
    story.loses("SYN to a slot about to close", syn(3, port::SETTLING), Verdict::Settling);
    story.sends("UDP beyond the budget", udp(4, port::OPEN), PREVIOUS);
    story.sends("UDP beyond the budget where all older is known", udp(4, port::KNOWN), CURRENT);
    story.entries(0, 2, 1);
    story.pair.set_tick(101);
    story.sends("a SYN in the next second", syn(5, port::OPEN), CURRENT);
    let state = story.pair.state();
    assert_eq!((state.recording.recorded, state.recording.refused), (2, 8));
}

fn a_full_table_refuses_and_evicts_nobody(story: &mut Story) {
    for source_port in [1, 2] {
        story.sends("SYN", syn(source_port, port::OPEN), CURRENT);
        story.sends("ACK", tcp(source_port, port::OPEN), CURRENT);
    }
    story.entries(4, 4, 0);
    story.sends("a third SYN", syn(3, port::OPEN), CURRENT);
    story.sends("whose ACK finds no room", tcp(3, port::OPEN), CURRENT);
    story.entries(4, 6, 0);
    story.sends("UDP without room", udp(4, port::OPEN), PREVIOUS);
    story.sends("the first still has its record", tcp(1, port::OPEN), CURRENT);
    let state = story.pair.state();
    assert_eq!(state.recording.refused, 4);
    // An end makes room for the next connection of the same port, not before.
    story.sends("FIN", |ip| ip.tcp(1, port::OPEN).fin(), CURRENT);
    story.sends("SYN of the same port", syn(1, port::OPEN), CURRENT);
    story.sends("and its ACK", tcp(1, port::OPEN), CURRENT);
    story.entries(4, 6, 0);
}

fn a_settled_service_touches_no_table(story: &mut Story) {
    for source_port in 0..50 {
        for settled in [port::L2, port::IPIP, port::IPIP6, port::SPREAD] {
            for packet in [Frame::syn as fn(Frame) -> Frame, Frame::fin, Frame::rst] {
                for (family, ip) in story.families {
                    let frame = packet(ip().tcp(source_port, settled)).bytes();
                    story.pair.run(family, Program::Balancer, &frame, 0);
                }
            }
        }
    }
    story.entries(0, 0, 0);
    story.pair.compare_tables("settled");
    assert_eq!(story.pair.state().recording, Recording::default());
}

fn an_unattended_node_leaves_packets(story: &mut Story) {
    let settings = story.pair.settings();
    let late = story.pair.seconds().wrapping_sub(3);
    for (fresh_until, expected) in [(late, Verdict::Unattended), (u32::MAX, Verdict::ForwardedL2)] {
        story.pair.set_settings(Settings { fresh_until, ..settings });
        for (family, ip) in story.families {
            let frame = ip().tcp(1000, 80).bytes();
            let outcome = story.pair.run(family, Program::Balancer, &frame, 0);
            assert_eq!(outcome.verdict, expected, "{family}");
        }
    }
}

/// Hours are between what is asked and the end of the lease, so that no slow machine changes the outcome.
fn a_node_answers_as_long_as_its_lease_lasts(story: &mut Story) {
    const HOUR: i64 = 3600;
    let vips = [UNLEASED_VIP, UNLEASED_VIP6].map(ip);
    let asked = [
        ("IPv4", arp_request(CLIENT, UNLEASED_VIP), Verdict::ArpAnswered),
        ("IPv6", neighbour_solicitation(CLIENT6, UNLEASED_VIP6), Verdict::NeighbourAnswered),
    ];
    let ask = |story: &mut Story, state: &str, is_owner: bool| {
        for (family, question, answered) in &asked {
            let name = format!("{family}: {state}");
            let outcome = story.pair.run(&name, Program::Balancer, &question.clone().bytes(), 0);
            assert_eq!(outcome.verdict, if is_owner { *answered } else { Verdict::NotOwner }, "{name}");
        }
    };
    ask(story, "before any lease", false);
    for (state, seconds, is_owner) in [
        ("with a lease", HOUR, true),
        ("with one that was renewed", 2 * HOUR, true),
        // The machine may not have run for so long.
        ("with one that ended", -1, false),
        ("with another one", HOUR, true),
        ("with one that was taken back", -HOUR * 1_000_000, false),
    ] {
        story.pair.set_leases(&vips, seconds);
        ask(story, state, is_owner);
    }
    story.pair.compare_tables("leases");
}
