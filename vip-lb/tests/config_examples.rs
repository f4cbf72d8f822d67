//! Every file in `examples/` is valid and means what its comments say.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use vip_lb::config::{
    self, Config,
    model::{AdminState, Affinity, CheckKind, ForwardMode, HttpCheck, OnDown, Ports, Protocol},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn example(name: &str) -> Config {
    config::load(&folder().join(name)).unwrap_or_else(|errors| panic!("{errors}")).config
}

#[test]
fn every_example_is_valid_without_a_warning() {
    let mut seen = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let loaded = config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(loaded.warnings, [], "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 8, "only {seen} examples in {}", folder().display());
}

#[test]
fn l2_gives_half_of_the_weight_to_its_third_backend() {
    let config = example("l2.yaml");
    let service = &config.vips[0].services[0];
    let weights: Vec<u16> = service.backends.iter().map(|backend| backend.weight.get()).collect();
    assert_eq!(weights, [100, 100, 200]);
    let check = service.backends[0].health.as_ref().unwrap();
    let CheckKind::Http(HttpCheck { path, host, expected_status, .. }) = &check.kind else {
        panic!("an http check")
    };
    assert_eq!((path.as_str(), host.as_str()), ("/healthz", "198.51.100.10"));
    assert_eq!(*expected_status, [(200, 299)]);
}

#[test]
fn ipip_has_the_same_backends_of_both_families_behind_both_vips() {
    let config = example("ipip.yaml");
    assert_ne!(config.vips[0].address.is_ipv4(), config.vips[1].address.is_ipv4());
    let backends = &config.vips[0].services[0].backends;
    assert_eq!(*backends, config.vips[1].services[0].backends);
    assert!(backends.iter().all(|backend| backend.mode == ForwardMode::Ipip));
    assert!(backends.iter().any(|backend| backend.address.is_ipv4()));
    assert!(backends.iter().any(|backend| backend.address.is_ipv6()));
}

#[test]
fn udp_source_affinity_inherits_its_check() {
    let config = example("udp-source-affinity.yaml");
    let [voice, tls] = &config.vips[0].services[..] else { panic!("two services") };
    assert_eq!((voice.protocol, voice.affinity), (Protocol::Udp, Affinity::Source));
    assert_eq!(voice.idle_timeout, Duration::from_secs(300));
    let ports: Vec<u16> =
        voice.backends.iter().map(|backend| backend.health.as_ref().unwrap().port).collect();
    assert_eq!(ports, [8080, 8080, 8081]);
    assert_eq!(
        voice.backends[2].health.as_ref().unwrap().kind,
        voice.backends[0].health.as_ref().unwrap().kind
    );
    assert_eq!(tls.backends[2].state, AdminState::Drain);
    assert!(tls.backends.iter().all(|backend| backend.on_down == OnDown::Cut));
}

#[test]
fn the_pair_names_the_other_node_as_its_peer() {
    let config = example("pair.yaml");
    let other: IpAddr = "192.0.2.12".parse().unwrap();
    assert_eq!(config.node.peers, [other]);
    assert!(config.vips[0].services[0].backends.iter().any(|backend| backend.address == other));
}

#[test]
fn failover_moves_both_families_together_between_nodes_that_speak_with_each_other() {
    let config = example("failover.yaml");
    let peering = config.node.peering.as_ref().expect("peering");
    assert_eq!((peering.share.len(), config.node.peers.len()), (2, 1));
    let [v4, v6] = &config.vips[..] else { panic!("two VIPs") };
    assert!(v4.address.is_ipv4() && v6.address.is_ipv6());
    let [v4, v6] = [v4, v6].map(|vip| vip.vrrp.as_ref().expect("a virtual router"));
    assert_eq!(v4, v6);
    assert_eq!((v4.group.as_deref(), v4.track.len()), (Some("web"), 1));
}

#[test]
fn nat_translates_to_other_ports_and_another_family() {
    let config = example("nat.yaml");
    let source: IpAddr = "192.0.2.5".parse().unwrap();
    assert_eq!(config.node.nat.source("192.0.2.21".parse().unwrap()), Some(source));
    assert_eq!(config.node.tables.nat, 1_048_576);
    let [web, ftp] = &config.vips[0].services[..] else { panic!("two services") };
    assert!(web.backends.iter().all(|backend| backend.mode == ForwardMode::Nat));
    let ports: Vec<_> = web.backends.iter().map(|backend| backend.port.map_or(0, u16::from)).collect();
    assert_eq!(ports, [8080, 8080, 0]);
    let asked: Vec<_> = web.backends.iter().map(|backend| backend.health.as_ref().unwrap().port).collect();
    assert_eq!(asked, [8080, 8080, 80]);
    assert!(web.backends[2].address.is_ipv6() && config.vips[0].address.is_ipv4());
    assert_eq!((ftp.ports, ftp.affinity), (Ports::Range(50_000, 50_999), Affinity::Source));
    assert!(ftp.backends.iter().all(|backend| backend.health.as_ref().unwrap().port == 21));
}

#[test]
fn gue_says_what_is_the_default_and_limits_segments() {
    let config = example("gue.yaml");
    assert_eq!(config.node.gue_port, 6080);
    let service = &config.vips[0].services[0];
    assert_eq!((service.mss, service.icmp_rate), (Some(1492 - 20 - 20), 200));
    assert!(service.backends.iter().all(|backend| backend.mode == ForwardMode::Gue));
}

#[test]
fn mixed_has_a_backend_of_each_mode() {
    let config = example("mixed.yaml");
    let service = &config.vips[0].services[0];
    let modes: Vec<ForwardMode> = service.backends.iter().map(|backend| backend.mode).collect();
    assert_eq!(modes, ForwardMode::ALL);
    assert_eq!(service.mss, Some(1492 - 40 - 20));
    assert!(service.backends[3].address.is_ipv4() && config.vips[0].address.is_ipv6());
}
