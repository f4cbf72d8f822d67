//! What a valid configuration means: defaults, and what backends inherit.

use std::{net::IpAddr, num::NonZeroU8, path::Path, time::Duration};

use vip_lb::{
    config::{
        self, Config,
        model::{
            AdminState, Affinity, AttachMode, Backend, BelowMin, CheckKind, Checksum, Dialogue, FloorPolicy,
            ForwardMode, HashSeed, HealthCheck, HttpCheck, Interface, Least, Nat, OnDown, OnExit, Ownership,
            Passive, Peering, Ports, Preempt, Protocol, RingSize, Share, Tables, Track, TrackEffect, Tracked,
            TrackedCommand, UnknownService, Vrrp, Watchdog, WatchdogAction,
        },
    },
    ownership::vrrp::{Interval, Priority},
};

fn parse(text: &str) -> Config {
    config::parse(text, Path::new("c.yaml")).unwrap_or_else(|errors| panic!("{errors}")).config
}

/// A file with one service of the given further keys.
fn service(keys: &str) -> Config {
    parse(&format!(
        "node: {{seed: a long enough seed, interfaces: [eth0]}}
vips:
  - address: 198.51.100.10
    services:
      - {{name: web, port: 80, {keys}}}
"
    ))
}

fn backend(keys: &str) -> Backend {
    service(keys).vips.remove(0).services.remove(0).backends.remove(0)
}

fn check(keys: &str) -> HealthCheck {
    backend(keys).health.expect("a check")
}

#[test]
fn the_shortest_file_gets_the_documented_defaults() {
    let mut config = service("mode: l2, backends: [{name: a, address: 10.0.0.1}]");
    let node = &config.node;
    assert!(!node.name.is_empty(), "the host name");
    assert_eq!(node.interfaces, [Interface { name: "eth0".into(), attach: AttachMode::Auto }]);
    assert_eq!(node.seed, HashSeed::from_text("a long enough seed"));
    assert_eq!(node.peers, [] as [IpAddr; 0]);
    assert_eq!(node.peering, None);
    assert_eq!((node.tunnel_source_v4, node.tunnel_source_v6), (None, None));
    assert_eq!(node.on_exit, OnExit::Keep);
    assert_eq!(node.watchdog, Watchdog { after: Duration::from_secs(30), action: WatchdogAction::Forward });
    assert_eq!(node.socket, Path::new("/run/vip-lb/control.sock"));
    assert_eq!(node.pins, Path::new("/sys/fs/bpf/vip-lb"));
    assert_eq!(node.tables, Tables::default());

    let tables = [node.tables.flows, node.tables.newborn, node.tables.survivors];
    assert_eq!(tables, [262_144, 65_536, 65_536]);
    assert_eq!((node.tables.nat, node.tables.fragments), (262_144, 16_384));
    assert_eq!((node.gue_port, node.nat), (6080, Nat::default()));
    assert_eq!(node.nat.ports_for(true), (61_000, 65_535), "beside those of the host");
    assert_eq!(node.nat.ports_for(false), (1024, 65_535));

    let mut vip = config.vips.remove(0);
    assert_eq!((vip.ownership, vip.vrrp), (Ownership::Always, None));
    assert_eq!(vip.unknown_service, UnknownService::Drop);

    let mut service = vip.services.remove(0);
    assert_eq!(service.protocol, Protocol::Tcp);
    assert_eq!(service.affinity, Affinity::Flow);
    assert_eq!(service.ring, RingSize::Small);
    assert_eq!(service.idle_timeout, Duration::from_secs(600));
    assert_eq!((service.mss, service.icmp_rate), (None, 100));
    assert_eq!((service.passive, service.passive_sample), (Passive::Observe, None));

    let backend = service.backends.remove(0);
    assert_eq!(backend.weight.get(), 100);
    assert_eq!(backend.mode, ForwardMode::L2);
    assert_eq!(backend.port, None);
    assert_eq!(backend.state, AdminState::Enabled);
    assert_eq!(backend.on_down, OnDown::Auto);
    let check = HealthCheck::new(CheckKind::Tcp(Dialogue::default()), 80);
    assert_eq!((check.interval, check.timeout), (Duration::from_secs(2), Duration::from_secs(1)));
    assert_eq!((check.rise, check.fall, check.jitter_percent), (2, 3, 10));
    assert_eq!(backend.health, Some(check));
}

#[test]
fn every_key_is_taken_over() {
    let config = parse(
        "
node:
  name: edge-1
  seed: \"a long enough seed\"
  interfaces: [eth0, {name: eth1, attach: native}, {name: eth2, attach: generic}]
  peers: [192.0.2.12, 2001:db8::12]
  peering: {secret_file: /etc/peers, port: 7000, listen: 192.0.2.11, share: [orders]}
  tunnel_source_v4: 192.0.2.1
  tunnel_source_v6: 2001:db8::1
  gue_port: 6081
  nat: {source_v4: 192.0.2.3, source_v6: 2001:db8::3, ports: 1024-32767}
  on_exit: unload
  watchdog: {after: 2m, action: pass}
  socket: /run/other.sock
  pins: /sys/fs/bpf/other
  tables: {flows: 1024, newborn: 2048, survivors: 16777216, nat: 4096, fragments: 8192}
vips:
  - address: 2001:db8:100::10
    ownership: vrrp
    vrrp: {router_id: 7, interface: eth1, priority: 200, interval: 100ms, preempt: never, preempt_delay: 30s,
           peers: [2001:db8::12], group: all, virtual_mac: true, refresh: 30s, checksum: plain,
           track: [{interface: eth2, priority: -50}, {healthy: 50%, fault: true}, {command: [/bin/ok, -v], priority: -1},
                   {command: [/bin/ok], interval: 1s, timeout: 300ms, rise: 1, fall: 4, fault: true}]}
    unknown_service: pass
    services:
      - name: dns
        port: 53
        protocol: udp
        mode: ipip
        affinity: source
        ring: 131071
        idle_timeout: 90s
        icmp_rate: 7
        on_down: drain
        health: {kind: http, port: 8080, path: '/ready?full=1', host: dns.example, expected_status: [200, 300-399],
                 interval: 500ms, timeout: 250ms, rise: 1, fall: 1, jitter: 0}
        backends:
          - {name: a, address: 2001:db8::a, weight: 65535, state: disabled}
          - {name: b, address: 192.0.2.2, weight: 1}
",
    );
    let node = &config.node;
    assert_eq!(node.name, "edge-1");
    let attach: Vec<AttachMode> = node.interfaces.iter().map(|interface| interface.attach).collect();
    assert_eq!(attach, [AttachMode::Auto, AttachMode::Native, AttachMode::Generic]);
    assert_eq!(node.peers, ["192.0.2.12", "2001:db8::12"].map(|peer| peer.parse::<IpAddr>().unwrap()));
    let peering = Peering {
        secret_file: "/etc/peers".into(),
        port: 7000,
        listen: Some("192.0.2.11".parse().unwrap()),
        share: [Share::Orders].into(),
    };
    assert_eq!(node.peering, Some(peering));
    assert_eq!(node.tunnel_source_v4, Some("192.0.2.1".parse().unwrap()));
    assert_eq!(node.tunnel_source_v6, Some("2001:db8::1".parse().unwrap()));
    assert_eq!(node.gue_port, 6081);
    let [backend_v4, backend_v6] = ["192.0.2.9", "2001:db8::9"].map(|text| text.parse::<IpAddr>().unwrap());
    assert_eq!(node.nat.source(backend_v4), Some("192.0.2.3".parse().unwrap()));
    assert_eq!(node.nat.source(backend_v6), Some("2001:db8::3".parse().unwrap()));
    assert_eq!([true, false].map(|shared| node.nat.ports_for(shared)), [(1024, 32_767); 2]);
    assert_eq!(node.on_exit, OnExit::Unload);
    assert_eq!(node.watchdog, Watchdog { after: Duration::from_mins(2), action: WatchdogAction::Pass });
    assert_eq!(node.socket, Path::new("/run/other.sock"));
    assert_eq!(node.pins, Path::new("/sys/fs/bpf/other"));
    assert_eq!(
        node.tables,
        Tables { flows: 1024, newborn: 2048, survivors: 16_777_216, nat: 4096, fragments: 8192 }
    );
    let vip = &config.vips[0];
    assert_eq!(vip.unknown_service, UnknownService::Pass);
    assert_eq!(vip.ownership, Ownership::Vrrp);
    let router = Vrrp {
        router_id: NonZeroU8::new(7).unwrap(),
        interface: "eth1".to_owned(),
        priority: Priority::new(200).unwrap(),
        interval: Interval::from_centis(10).unwrap(),
        preempt: Preempt::Never,
        preempt_delay: Duration::from_secs(30),
        peers: vec!["2001:db8::12".parse().unwrap()],
        group: Some("all".to_owned()),
        track: vec![
            Track {
                what: Tracked::Interface("eth2".to_owned()),
                effect: TrackEffect::Lower(NonZeroU8::new(50).unwrap()),
            },
            Track { what: Tracked::Healthy(Least::Percent(50)), effect: TrackEffect::Fault },
            Track {
                what: Tracked::Command(TrackedCommand {
                    command: vec!["/bin/ok".to_owned(), "-v".to_owned()],
                    interval: Duration::from_secs(5),
                    timeout: Duration::from_secs(2),
                    rise: 2,
                    fall: 2,
                }),
                effect: TrackEffect::Lower(NonZeroU8::MIN),
            },
            Track {
                what: Tracked::Command(TrackedCommand {
                    command: vec!["/bin/ok".to_owned()],
                    interval: Duration::from_secs(1),
                    timeout: Duration::from_millis(300),
                    rise: 1,
                    fall: 4,
                }),
                effect: TrackEffect::Fault,
            },
        ],
        virtual_mac: true,
        refresh: Some(Duration::from_secs(30)),
        checksum: Checksum::Plain,
    };
    assert_eq!(vip.vrrp, Some(router));
    let service = &vip.services[0];
    assert_eq!((service.ports, service.protocol), (Ports::One(53), Protocol::Udp));
    assert_eq!((service.mss, service.icmp_rate), (None, 7));
    assert_eq!(service.passive, Passive::Off, "of UDP");
    assert_eq!((service.affinity, service.ring), (Affinity::Source, RingSize::Large));
    assert_eq!(service.idle_timeout, Duration::from_secs(90));
    let [a, b] = &service.backends[..] else { panic!("two backends") };
    assert_eq!((a.weight.get(), a.state), (65_535, AdminState::Disabled));
    assert_eq!((b.weight.get(), b.state), (1, AdminState::Enabled));
    let kind = CheckKind::Http(HttpCheck {
        expected_status: vec![(200, 200), (300, 399)],
        ..HttpCheck::get("/ready?full=1", "dns.example")
    });
    let check = HealthCheck {
        interval: Duration::from_millis(500),
        timeout: Duration::from_millis(250),
        rise: 1,
        fall: 1,
        jitter_percent: 0,
        ..HealthCheck::new(kind, 8080)
    };
    for backend in [a, b] {
        assert_eq!((backend.mode, backend.on_down), (ForwardMode::Ipip, OnDown::Drain));
        assert_eq!(backend.health.as_ref(), Some(&check));
    }
}

#[test]
fn a_backend_says_otherwise_for_itself_alone() {
    let config = service(
        "mode: l2, on_down: cut, health: {kind: http, path: /a, interval: 5s, fall: 7}, backends: [
          {name: a, address: 10.0.0.1},
          {name: b, address: 10.0.0.2, mode: ipip, on_down: drain, health: {port: 81, interval: 3s}},
          {name: c, address: 10.0.0.3, health: none},
          {name: d, address: 10.0.0.4, health: tcp},
        ]",
    );
    let [a, b, c, d] = &config.vips[0].services[0].backends[..] else { panic!("four backends") };
    assert_eq!((a.mode, a.on_down), (ForwardMode::L2, OnDown::Cut));
    assert_eq!((b.mode, b.on_down), (ForwardMode::Ipip, OnDown::Drain));
    let [a, b, d] = [a, b, d].map(|backend| backend.health.clone().unwrap());
    assert_eq!((a.port, a.interval, a.fall), (80, Duration::from_secs(5), 7));
    assert_eq!((b.port, b.interval, b.fall), (81, Duration::from_secs(3), 7));
    assert_eq!(a.kind, b.kind);
    assert_eq!(c.health, None);
    // Another kind of question with the service's timing.
    assert_eq!((d.kind, d.port, d.fall), (CheckKind::Tcp(Dialogue::default()), 80, 7));
}

#[test]
fn a_mode_for_every_backend_is_as_good_as_one_for_the_service() {
    let config = service(
        "backends: [{name: a, address: 10.0.0.1, mode: ipip}, {name: b, address: 10.0.0.2, mode: l2}]",
    );
    let modes: Vec<ForwardMode> =
        config.vips[0].services[0].backends.iter().map(|backend| backend.mode).collect();
    assert_eq!(modes, [ForwardMode::Ipip, ForwardMode::L2]);
}

#[test]
fn short_forms_of_health_are_whole_checks() {
    let tail = "mode: l2, backends: [{name: a, address: 10.0.0.1}]";
    assert_eq!(check(&format!("health: tcp, {tail}")), check(tail));
    assert_eq!(check(&format!("health: {{}}, {tail}")), check(tail));
    assert_eq!(check(&format!("health: http, {tail}")), check(&format!("health: {{kind: http}}, {tail}")));
    assert_eq!(backend(&format!("health: none, {tail}")).health, None);
    assert_eq!(
        check(&format!("health: http, {tail}")).kind,
        CheckKind::Http(HttpCheck::get("/", "198.51.100.10"))
    );
}

#[test]
fn an_ipv6_vip_is_a_host_in_brackets() {
    let config = parse(
        "node: {seed: a long enough seed, interfaces: [eth0]}
vips:
  - address: 2001:db8::10
    services: [{name: web, port: 80, mode: l2, health: http, backends: [{name: a, address: 10.0.0.1}]}]
",
    );
    let check = config.vips[0].services[0].backends[0].health.as_ref().unwrap();
    let CheckKind::Http(HttpCheck { host, .. }) = &check.kind else { panic!("an http check") };
    assert_eq!(host, "[2001:db8::10]");
}

#[test]
fn a_short_interval_shortens_the_default_timeout() {
    let check = check("mode: l2, health: {interval: 200ms}, backends: [{name: a, address: 10.0.0.1}]");
    assert_eq!(check.timeout, Duration::from_millis(200));
}

#[test]
fn port_0_is_every_port_once_per_protocol() {
    let config = parse(
        "node: {seed: a long enough seed, interfaces: [eth0]}
vips:
  - address: 198.51.100.10
    services:
      - {name: t, port: 0, mode: l2, health: {port: 22}, backends: [{name: a, address: 10.0.0.1}]}
      - {name: u, port: 0, protocol: udp, mode: l2, health: none, backends: [{name: a, address: 10.0.0.1}]}
      - {name: web, port: 80, mode: l2, backends: [{name: a, address: 10.0.0.1}]}
",
    );
    let [tcp, udp, web] = &config.vips[0].services[..] else { panic!("three services") };
    assert_eq!(tcp.backends[0].health.as_ref().unwrap().port, 22);
    assert_eq!(udp.idle_timeout, Duration::from_secs(60));
    assert_eq!(web.backends[0].health.as_ref().unwrap().port, 80);
}

#[test]
fn ranges_of_ports_are_read() {
    let config = parse(
        "node: {seed: a long enough seed, interfaces: [eth0]}
vips:
  - address: 198.51.100.10
    services:
      - {name: r, port: 8000-8999, mode: l2, health: {port: 22}, backends: [{name: a, address: 10.0.0.1}]}
      - {name: inside, port: 8080, mode: l2, backends: [{name: a, address: 10.0.0.1}]}
      - {name: next, port: 9000-9001, mode: l2, health: none, backends: [{name: a, address: 10.0.0.1}]}
      - {name: udp, port: 8500-9500, protocol: udp, mode: l2, health: none, backends: [{name: a, address: 10.0.0.1}]}
      - {name: rest, port: 0, mode: l2, health: none, backends: [{name: a, address: 10.0.0.1}]}
",
    );
    let ports: Vec<Ports> = config.vips[0].services.iter().map(|service| service.ports).collect();
    assert_eq!(
        ports,
        [
            Ports::Range(8000, 8999),
            Ports::One(8080),
            Ports::Range(9000, 9001),
            Ports::Range(8500, 9500),
            Ports::Every
        ]
    );
    assert_eq!(config.vips[0].services[0].backends[0].health.as_ref().unwrap().port, 22);
}

#[test]
fn a_backend_with_a_port_of_its_own_is_asked_on_it() {
    let config = service(
        "mode: nat, mss: 1400, health: {fall: 7}, backends: [
          {name: a, address: 10.0.0.1},
          {name: b, address: 10.0.0.2, port: 8080},
          {name: c, address: 10.0.0.3, port: 8080, health: {rise: 4}},
          {name: d, address: 10.0.0.4, port: 8080, health: {port: 81}},
          {name: e, address: 10.0.0.5, mode: gue},
          {name: f, address: '2001:db8::6', port: 8080, health: none},
        ]",
    );
    let service = &config.vips[0].services[0];
    assert_eq!(service.mss, Some(1400));
    let of = |read: fn(&Backend) -> Option<u16>| service.backends.iter().map(read).collect::<Vec<_>>();
    let own = of(|backend| backend.port.map(u16::from));
    assert_eq!(own, [None, Some(8080), Some(8080), Some(8080), None, Some(8080)]);
    let asked = of(|backend| backend.health.as_ref().map(|check| check.port));
    assert_eq!(asked, [Some(80), Some(8080), Some(8080), Some(81), Some(80), None]);
    let modes: Vec<ForwardMode> = service.backends.iter().map(|backend| backend.mode).collect();
    assert_eq!((modes[0], modes[4]), (ForwardMode::Nat, ForwardMode::Gue));
    // What the check of the service says goes before the backend's port.
    let check = check("mode: nat, health: {port: 81}, backends: [{name: a, address: 10.0.0.1, port: 8080}]");
    assert_eq!(check.port, 81);
}

/// Translation leaves a backend free to serve as many as it likes.
#[test]
fn translated_backends_may_be_shared() {
    let config = parse(
        "node: {seed: a long enough seed, interfaces: [eth0]}
vips:
  - address: 198.51.100.10
    services:
      - {name: a, port: 80, mode: nat, backends: [{name: a, address: 10.0.0.1, port: 8080}]}
      - {name: b, port: 443, mode: nat, backends: [{name: a, address: 10.0.0.1, port: 8080}]}
  - address: 2001:db8::10
    services:
      - {name: c, port: 80, mode: nat, backends: [{name: a, address: 10.0.0.1, port: 8080}]}
      - {name: d, port: 81, mode: l2, backends: [{name: a, address: 10.0.0.1}]}
",
    );
    assert_eq!(config.vips.iter().flat_map(|vip| &vip.services).count(), 4);
}

/// The service's check lacks a port that no backend needs from it.
#[test]
fn a_port_given_by_every_backend_need_not_be_the_services() {
    let config = parse(
        "node: {seed: a long enough seed, interfaces: [eth0]}
vips:
  - address: 198.51.100.10
    services:
      - {name: all, port: 0, mode: l2, health: {fall: 5}, backends: [{name: a, address: 10.0.0.1, health: {port: 22}}]}
",
    );
    let check = config.vips[0].services[0].backends[0].health.clone().unwrap();
    assert_eq!((check.port, check.fall), (22, 5));
}

#[test]
fn the_names_of_values_are_read_back() {
    for protocol in Protocol::ALL {
        assert_eq!(protocol.to_string().parse(), Ok(*protocol));
    }
    let unknown = "sctp".parse::<Protocol>().unwrap_err();
    assert_eq!(unknown.to_string(), "found \"sctp\", expected one of tcp, udp");
    assert_eq!(Protocol::ALL.iter().map(|protocol| protocol.number()).collect::<Vec<_>>(), [6, 17]);
    for ring in RingSize::ALL {
        assert_eq!(ring.slots().to_string(), ring.as_str());
    }
    assert_eq!(serde_json::to_value(AdminState::Drain).unwrap(), AdminState::Drain.as_str());
}

#[test]
fn of_a_backend_and_its_host_the_stricter_state_holds() {
    let config = parse(
        "node: {seed: a long enough seed, interfaces: [eth0]}
hosts:
  - {address: 10.0.0.1, state: drain}
  - {address: 10.0.0.2, state: enabled}
vips:
  - address: 198.51.100.10
    services:
      - name: web
        port: 80
        mode: l2
        backends:
          - {name: a, address: 10.0.0.1}
          - {name: b, address: 10.0.0.2, state: drain}
          - {name: c, address: 10.0.0.3}
      - name: mail
        port: 25
        mode: l2
        backends: [{name: a, address: 10.0.0.1, state: disabled}, {name: c, address: 10.0.0.3}]
",
    );
    let states = |service: usize| -> Vec<AdminState> {
        config.vips[0].services[service].backends.iter().map(|backend| backend.state).collect()
    };
    assert_eq!(states(0), [AdminState::Drain, AdminState::Drain, AdminState::Enabled]);
    assert_eq!(states(1), [AdminState::Disabled, AdminState::Enabled]);
}

#[test]
fn floors_and_tiers() {
    let of = |keys: &str| service(keys).vips.remove(0).services.remove(0);
    let plain = of("mode: l2, backends: [{name: a, address: 10.0.0.1}]");
    assert_eq!((plain.floor, plain.backends[0].tier), (FloorPolicy::default(), 0));
    let given = of(
        "mode: l2, min_healthy: 30%, below_min: backup, max_removed: 100%, backends: [{name: a, address: 10.0.0.1}, {name: b, address: 10.0.0.2, tier: 2}]",
    );
    let floor = FloorPolicy {
        min_healthy: Least::Percent(30),
        below_min: BelowMin::Backup,
        max_removed_percent: 100,
    };
    assert_eq!((given.floor, given.backends[1].tier), (floor, 2));
    assert_eq!([0, 1, 3, 4, 10].map(|all| floor.min_healthy.of(all)), [0, 1, 1, 2, 3], "rounded up");
}

#[test]
fn a_vip_without_services_has_an_address_of_full_length_unless_told_otherwise() {
    let of = |address: &str, keys: &str| {
        let text = format!(
            "node: {{seed: a long enough seed, interfaces: [eth0]}}\nvips:\n  - address: {address}\n    ownership: vrrp\n    vrrp: {{router_id: 7}}\n    {keys}\n"
        );
        let vip = parse(&text).vips.remove(0);
        (vip.is_plain(), vip.prefix_length())
    };
    assert_eq!(of("198.51.100.10", ""), (true, 32));
    assert_eq!(of("198.51.100.10", "services: []"), (true, 32));
    assert_eq!(of("198.51.100.10", "prefix_length: 24"), (true, 24));
    assert_eq!(of("\"2001:db8::10\"", ""), (true, 128));
    assert!(
        !service("mode: l2, health: none, backends: [{name: a, address: 198.51.100.11}]").vips[0].is_plain()
    );
}
