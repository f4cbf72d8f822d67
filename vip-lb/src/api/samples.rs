//! Answers of an imaginary daemon, and a folder for its socket: for the tests of the API and of the command line.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use super::model::{
    Action, AttachedMode, BackendStatus, BondMemberState, BondMemberStatus, BondStatus, ChosenBackend,
    ConfigInfo, Counters, ExplainRequest, ExplainedService, Explanation, FloorStatus, FlowHash, Forwarding,
    ForwardingState, Frame, HandedOverStatus, Health, HealthState, HostStatus, InterfaceStatus, NodeAdmin,
    OperatorOrder, OrderKind, PassiveStatus, PeerMismatch, PeerStatus, PeeringStatus, RouteChange,
    RouteDeviceKind, RouteStatus, SecondOwner, SecondOwnerStatus, ServiceStatus, SharedFlows, Slot,
    SlotState, Status, Step, TableStatus, TrackerStatus, Traffic, Verdict, VerdictCount, VipStatus,
    VirtualMacStatus, VrrpChange, VrrpSpeaker, VrrpState, VrrpStatus, WatchdogStatus, WatchedPacket,
};
use crate::{
    config::model::{
        AdminState, Affinity, ForwardMode, NodeState, Ownership, Ports, Protocol, WatchdogAction,
    },
    health::{Histogram, Percentiles, ProbeCounts, Slower, passive::Account},
    metrics::{Facts, Program, Reloads},
};

/// A TCP packet that is forwarded to a backend of a settled service.
pub(crate) fn watched() -> WatchedPacket {
    WatchedPacket {
        at_us: NOW * 1_000_000 + 42,
        interface: "eth0".into(),
        source: "198.51.100.7:40000".parse().unwrap(),
        destination: "192.0.2.10:80".parse().unwrap(),
        protocol: 6,
        verdict: vip_lb_common::Verdict::ForwardedIpip.into(),
        service: Some("web".into()),
        hash: Some(FlowHash(0x1234_5678)),
        slot: Some(Slot { index: 1234, state: SlotState::Closed { current: "b1".into() } }),
        backend: Some(ChosenBackend {
            name: "web/b1".into(),
            address: "10.0.0.1".parse().unwrap(),
            reason: "every flow of a closed slot".into(),
        }),
        translated: None,
        egress: Some("eth1".into()),
        came: Frame::new(60, &[1; 60]),
        left: Some(Frame::new(80, &[2; 80])),
    }
}

/// The moment at which [`status`] was taken, Unix seconds.
pub(crate) const NOW: u64 = 1_800_000_000;

/// A folder that is removed with everything in it when the test ends.
pub(crate) struct TempFolder(PathBuf);

impl TempFolder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vip-lb-api-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn member(name: &str, index: u32, state: BondMemberState, mode: Option<AttachedMode>) -> BondMemberStatus {
    BondMemberStatus { name: name.into(), index, state, mode, awaited: false }
}

fn backend(name: &str, address: &str, next_hop: &str) -> BackendStatus {
    BackendStatus {
        name: name.into(),
        address: address.parse().unwrap(),
        tier: 0,
        mode: ForwardMode::Ipip,
        weight: 100,
        weight_percent: 100,
        admin: AdminState::Enabled,
        drained_by_operator: false,
        operator_order: None,
        health: Health {
            state: HealthState::Up,
            reason: None,
            since: NOW - 7300,
            last_latency_ms: Some(0.42),
            probe: Some(Percentiles { p50_ms: 0.4, p90_ms: 0.52, p99_ms: 12.3, probes: 100 }),
            connect: Some(Percentiles { p50_ms: 0.1, p90_ms: 0.15, p99_ms: 1.25, probes: 100 }),
            slower: None,
        },
        passive: Some(PassiveStatus {
            connections: 630,
            handshakes: 628,
            handshake_p50_us: Some(512),
            handshake_p95_us: Some(1024),
            handshake_p99_us: Some(8192),
            syn_again: 3,
            ..PassiveStatus::default()
        }),
        forwarding: Forwarding { state: ForwardingState::InRing, reason: None },
        ring_slots: 8190,
        ring_share: 8190.0 / 16381.0,
        previous_slots: 0,
        entries: 0,
        nat_connections: 0,
        next_hop: next_hop.into(),
        traffic: Traffic {
            packets: 1_234_567,
            bytes: 987_654_321,
            new_connections: 40_100,
            packets_per_second: 5123.4,
            bits_per_second: 32_000_000.0,
            new_connections_per_second: 277.0,
        },
    }
}

pub(crate) fn status() -> Status {
    let mut dead = backend("b2", "10.0.0.12", "eth0 unresolved");
    dead.health = Health {
        state: HealthState::Down,
        reason: Some("connection refused".into()),
        since: NOW - 12,
        last_latency_ms: None,
        probe: None,
        connect: None,
        slower: None,
    };
    dead.forwarding = Forwarding { state: ForwardingState::Out, reason: Some("health check failed".into()) };
    (dead.ring_slots, dead.ring_share) = (0, 0.0);
    dead.traffic.packets_per_second = 0.0;
    dead.traffic.new_connections_per_second = 0.0;

    let mut draining = backend("b3", "10.0.0.13", "local");
    draining.mode = ForwardMode::L2;
    draining.weight = 50;
    draining.health =
        Health { state: HealthState::Unchecked, reason: None, since: NOW, ..dead.health.clone() };
    draining.drained_by_operator = true;
    draining.forwarding =
        Forwarding { state: ForwardingState::Draining, reason: Some("drained by the operator".into()) };
    (draining.ring_slots, draining.ring_share, draining.previous_slots, draining.entries) = (0, 0.0, 41, 3);
    draining.traffic.packets_per_second = 12.0;
    draining.traffic.new_connections_per_second = 0.4;

    let web = ServiceStatus {
        name: "web".into(),
        port: Ports::One(80),
        protocol: Protocol::Tcp,
        affinity: Affinity::Flow,
        ring_slots: 16381,
        open_slots: 41,
        recorded_flows: 3,
        newborn: 1,
        survivors: 5,
        floor: FloorStatus { healthy: 1, needed: 1, wanted: 2, held: 1, ..FloorStatus::default() },
        traffic: Traffic {
            packets: 2_469_134,
            bytes: 1_975_308_642,
            new_connections: 80_200,
            packets_per_second: 5135.4,
            bits_per_second: 32_100_000.0,
            new_connections_per_second: 277.4,
        },
        backends: vec![backend("b1", "10.0.0.11", "eth0 02:00:00:00:00:11"), dead, draining],
    };
    let mut resolver = backend("r1", "2001:db8:1::53", "eth1 02:00:00:00:01:53");
    (resolver.ring_slots, resolver.ring_share) = (16381, 1.0);
    resolver.health.slower = Some(Slower { times: 4.0, peers_p50_ms: 0.1 });
    let dns = ServiceStatus {
        name: "dns".into(),
        port: Ports::Every,
        protocol: Protocol::Udp,
        affinity: Affinity::Source,
        open_slots: 0,
        recorded_flows: 0,
        newborn: 0,
        survivors: 0,
        floor: FloorStatus { healthy: 1, needed: 1, wanted: 1, ..FloorStatus::default() },
        traffic: Traffic::default(),
        backends: vec![resolver],
        ..web.clone()
    };

    Status {
        node: "edge1".into(),
        version: "0.1.0".into(),
        pid: 4711,
        started: NOW - 93_784,
        node_admin: NodeAdmin { admin: NodeState::Enabled, ordered_since: Some(NOW - 90) },
        config: ConfigInfo {
            path: "/etc/vip-lb/vip-lb.yaml".into(),
            hash: "3f9a12bc".into(),
            loaded_at: NOW - 300,
            revision: Some(17),
            instead_of_file: None,
        },
        interfaces: vec![
            InterfaceStatus {
                name: "eth0".into(),
                index: 2,
                mode: AttachedMode::Native,
                vlan_offload: Some("turned off".into()),
                bond: None,
            },
            InterfaceStatus {
                name: "eth1".into(),
                index: 13,
                mode: AttachedMode::Generic,
                vlan_offload: None,
                bond: Some("bond0".into()),
            },
        ],
        hosts: vec![HostStatus {
            address: "10.0.0.13".parse().unwrap(),
            admin: AdminState::Enabled,
            operator_order: Some(OperatorOrder {
                order: OrderKind::Drain,
                since: NOW - 65,
                host: true,
                by: None,
            }),
            backends: 1,
        }],
        watchdog: WatchdogStatus { action: WatchdogAction::Pass, after: 30 },
        bonds: vec![BondStatus {
            name: "bond0".into(),
            index: 5,
            members: vec![
                member("eth1", 13, BondMemberState::Standby, Some(AttachedMode::Generic)),
                member("eth2", 14, BondMemberState::Active, None),
                BondMemberStatus {
                    awaited: true,
                    ..member("eth3", 15, BondMemberState::Down, Some(AttachedMode::Native))
                },
            ],
        }],
        vips: vec![
            VipStatus {
                address: "192.0.2.10".parse().unwrap(),
                ownership: Ownership::Always,
                answering: true,
                withdrawn: None,
                vrrp: None,
                second_owners: vec![SecondOwnerStatus {
                    owner: SecondOwner {
                        mac: "02:00:00:00:00:09".into(),
                        interface: "eth0".into(),
                        vlan: None,
                        host: Some("192.0.2.77".parse().unwrap()),
                    },
                    since_ms: 1_700_000_000_000,
                    last_ms: 1_700_000_060_000,
                }],
                second_owners_found: 3,
                route: None,
                services: vec![web],
            },
            VipStatus {
                address: "2001:db8::10".parse().unwrap(),
                ownership: Ownership::Vrrp,
                answering: false,
                withdrawn: Some("this node is drained by the operator".into()),
                vrrp: Some(vrrp()),
                second_owners: Vec::new(),
                second_owners_found: 0,
                route: None,
                services: vec![dns],
            },
            VipStatus {
                address: "203.0.113.10".parse().unwrap(),
                ownership: Ownership::Route,
                answering: true,
                withdrawn: None,
                vrrp: None,
                route: Some(route()),
                second_owners: Vec::new(),
                second_owners_found: 0,
                services: vec![],
            },
        ],
        peering: Some(peering()),
        tables: vec![
            TableStatus { name: "FLOWS".into(), entries: 3, capacity: 262_144 },
            TableStatus { name: "NEWBORN".into(), entries: 32_768, capacity: 65_536 },
        ],
        warnings: vec!["eth1: its driver has no native XDP, attached in generic mode".into()],
    }
}

fn peering() -> PeeringStatus {
    let peer = |address: &str, name: &str| PeerStatus {
        address: address.parse().unwrap(),
        name: Some(name.into()),
        connected: true,
        since: Some(NOW - 100_000),
        not_told: None,
        not_heard: None,
        version: Some("0.1.0".into()),
        started: Some(NOW - 93_784),
        agrees: Some(true),
        mismatches: Vec::new(),
        routers: Vec::new(),
    };
    PeeringStatus {
        secret_file: "/etc/vip-lb/peers".into(),
        port: 7112,
        share: vec!["orders".into(), "flows".into()],
        problem: None,
        peers: vec![
            peer("192.0.2.12", "edge2"),
            PeerStatus {
                agrees: Some(false),
                mismatches: vec![PeerMismatch {
                    what: "service web: idle_timeout is the default here and 5m there".into(),
                    since_ms: (NOW - 40) * 1000,
                }],
                ..peer("192.0.2.13", "edge3")
            },
        ],
        flows: Some(SharedFlows { told: 512, heard: 340, missed: 0, learning: false }),
        refused: [("stranger".to_owned(), 3)].into(),
    }
}

fn route() -> RouteStatus {
    let change = |time_ms, published, why: &str| RouteChange { time_ms, published, why: why.to_owned() };
    RouteStatus {
        published: true,
        protocol: 118,
        table: 254,
        metric: 1024,
        device: "vip-lb".into(),
        device_kind: Some(RouteDeviceKind::Dummy),
        hindrance: None,
        restored: 1,
        changes: vec![
            change(1_700_000_000_000, false, "this node is drained by the operator"),
            change(1_700_000_060_000, true, "this node is able to forward"),
        ],
    }
}

fn vrrp() -> VrrpStatus {
    let change = |time_ms, state, why: &str| VrrpChange { time_ms, state, why: why.to_owned() };
    VrrpStatus {
        router_id: 51,
        interface: "eth0".into(),
        group: Some("all".into()),
        state: VrrpState::Backup,
        priority: 100,
        base_priority: 150,
        trackers: vec![
            TrackerStatus {
                tracker: "interface eth1".into(),
                failing: true,
                reason: Some("it is down or has no link".into()),
                priority: Some(-50),
                fault: false,
            },
            TrackerStatus {
                tracker: "healthy 50%".into(),
                failing: false,
                reason: None,
                priority: None,
                fault: true,
            },
        ],
        hindrance: None,
        heard: Some("fe80::1".parse().unwrap()),
        active: Some(VrrpSpeaker { address: "fe80::1".parse().unwrap(), priority: 200 }),
        handed_over: Some(HandedOverStatus { since_ms: 1_700_000_120_500 }),
        virtual_mac: Some(VirtualMacStatus {
            address: "00:00:5e:00:02:33".into(),
            admitted: false,
            device: Some("vlb-v6-51".into()),
            no_device: None,
        }),
        address_on: None,
        lease_ms: None,
        changes: vec![
            change(1_700_000_000_000, VrrpState::Backup, "it is able to forward"),
            change(1_700_000_060_000, VrrpState::Active, "the active node was silent (fe80::1)"),
            change(1_700_000_120_500, VrrpState::Backup, "a node of higher priority is active (fe80::1)"),
        ],
        adverts_sent: 600,
        adverts_received: 7,
        adverts_discarded: [("ttl".to_owned(), 2)].into(),
        conflict: None,
        unheard: None,
    }
}

pub(crate) fn counters() -> Counters {
    let count = |name: &str, meaning: &str, action, packets| VerdictCount {
        verdict: Verdict { name: name.into(), meaning: meaning.into(), action },
        packets,
    };
    Counters {
        verdicts: vec![
            count("not_vip", "Not for a VIP: other traffic of this host.", Action::Pass, 9_876_543),
            count(
                "forwarded_ipip",
                "Sent to a backend inside another IP header.",
                Action::Forward,
                2_469_134,
            ),
            count("unknown_service", "For a port of a VIP that no service has.", Action::Drop, 17),
            count(
                "bad_length",
                "A length field says more than the frame holds, or less than its header.",
                Action::Drop,
                0,
            ),
        ],
    }
}

pub(crate) fn explanation(request: ExplainRequest) -> Explanation {
    let step = |stage: &str, text: &str| Step { stage: stage.into(), text: text.into() };
    Explanation {
        request,
        steps: vec![
            step("parse", "ethernet, ipv4, tcp syn"),
            step("service", "192.0.2.10:80/tcp is web"),
            step("steer", "slot 4711 is open and no table knows the flow"),
            step("forward", "encapsulated in ipv4"),
        ],
        verdict: Verdict {
            name: "forwarded_ipip".into(),
            meaning: "Sent to a backend inside another IP header.".into(),
            action: Action::Forward,
        },
        service: Some(ExplainedService { name: "web".into(), affinity: Affinity::Flow }),
        hash: Some(FlowHash(0x00c0_ffee)),
        slot: Some(Slot {
            index: 4711,
            state: SlotState::Open { current: "b1".into(), previous: "b3".into(), epoch: 2 },
        }),
        backend: Some(ChosenBackend {
            name: "b3".into(),
            address: "10.0.0.13".parse().unwrap(),
            reason: "unknown flow of an open slot".into(),
        }),
        rewrites: vec![
            "outer ipv4 10.0.0.1 -> 10.0.0.13, 20 bytes".into(),
            "destination mac 02:00:00:00:00:13".into(),
        ],
        egress: Some("eth0".into()),
    }
}

fn account() -> Account {
    let mut account = Account::default();
    (account.begun, account.syn_again, account.suspicions) = (5, 3, 1);
    account.handshakes.add(300);
    account.handshakes.add(70_000);
    account
}

pub(crate) fn facts() -> Facts {
    Facts {
        status: status(),
        counters: counters(),
        reloads: Reloads { succeeded: 3, failed: 1, last_failed: true },
        health_changes: [(("web".to_owned(), "b2".to_owned()), 5)].into(),
        probed: ProbeCounts { begun: 4711, late: 2 },
        latencies: [(
            ("web".to_owned(), "b1".to_owned()),
            [
                Histogram { counts: [3, 1, 0, 0, 0, 0, 0], sum_us: 1600 },
                Histogram { counts: [0, 3, 0, 0, 0, 0, 1], sum_us: 1_203_500 },
            ],
        )]
        .into(),
        passive: [(("web".to_owned(), "b1".to_owned()), account())].into(),
        nat_ports: 4536,
        program: Program {
            counted: true,
            runs: 1000,
            run_time: Duration::from_micros(250),
            verified_instructions: Some(73_000),
        },
    }
}
