//! Ways to backends in words.

use std::path::Path;

use super::*;
use crate::{
    config,
    doctor::{Host, InterfaceFacts, Level},
    network::{HostAddress, Interface, XdpFeatures},
    privileges::Privileges,
};

const BACKEND: &str = "10.0.0.11";
const BACKEND6: &str = "2001:db8::11";

fn config(vip: &str, mode: &str, backend: &str) -> Config {
    let nat = if mode == "nat" { "nat: {ports: 61000-65535}, " } else { "" };
    let text = format!(
        "node: {{{nat}seed: a long enough seed, interfaces: [eth0]}}
vips:
  - address: {vip}
    services: [{{name: web, port: 80, mode: {mode}, backends: [{{name: b1, address: '{backend}'}}]}}]
"
    );
    config::parse(&text, Path::new("x.yaml")).unwrap_or_else(|errors| panic!("{errors}")).config
}

fn via(address: &str, mtu: u32) -> Via {
    Via {
        ifindex: 2,
        vlan: None,
        device: 2,
        source_mac: [2, 0, 0, 0, 0, 1],
        gateway: None,
        neighbour: address.parse().unwrap(),
        mac: Some([2, 0, 0, 0, 0, 2]),
        mtu,
        preferred_source: "10.0.0.1".parse().unwrap(),
    }
}

fn facts(config: &Config, address: &str, via: Via) -> Facts {
    let interface_mtu = via.mtu;
    let next_hop = NextHop::Via(via);
    let features = Some(XdpFeatures::from_bits(1 | 4));
    Facts {
        host: Host {
            release: "6.1".into(),
            version: Some((6, 1)),
            has_btf: true,
            jit: None,
            pins: None,
            privileges: Privileges::default(),
            memory: None,
            map_memory: None,
            is_clock_synchronised: None,
            cpus: 2,
        },
        config: Some(config.clone()),
        interfaces: vec![InterfaceFacts {
            name: "eth0".into(),
            wanted: AttachMode::Auto,
            device: Ok(Interface::usual(2, "eth0")),
            features,
            program: None,
            channels: None,
            indirection: None,
            offloads: Vec::new(),
        }],
        paths: vec![BackendPath {
            address: address.parse().unwrap(),
            answer: PathAnswer::Found { next_hop, egress: "eth0".into(), features, interface_mtu },
        }],
        addresses: vec![HostAddress {
            interface: "eth0".into(),
            address: "10.0.0.1".parse().unwrap(),
            length: 24,
        }],
        local_ports: Some((32_768, 60_999)),
        routes: false,
        strict: Vec::new(),
    }
}

fn bad(config: &Config, facts: &Facts) -> Vec<Finding> {
    let findings = super::super::vip::all(config, facts).into_iter().chain(all(config, facts));
    findings.filter(|finding| finding.level != Level::Ok).collect()
}

#[test]
fn a_way_as_it_should_be_has_nothing_but_good_news() {
    for mode in ["l2", "nat"] {
        let config = config("198.51.100.10", mode, BACKEND);
        assert_eq!(bad(&config, &facts(&config, BACKEND, via(BACKEND, 1500))), [], "{mode}");
    }
}

#[test]
fn each_fault_is_found_by_its_check_alone() {
    type Break = fn(&mut Facts);
    fn way(facts: &mut Facts) -> &mut Via {
        match &mut facts.paths[0].answer {
            PathAnswer::Found { next_hop: NextHop::Via(via), .. } => via,
            other => panic!("{other:?}"),
        }
    }
    let cases: [(Check, Level, Option<&str>, Break); 7] = [
        (Check::Route, Level::Problem, None, |f| f.paths[0].answer = PathAnswer::Missing("no route".into())),
        (Check::Route, Level::Problem, None, |f| way(f).gateway = Some("10.0.0.254".parse().unwrap())),
        (Check::Neighbour, Level::Warning, Some("ping -c 1 -W 2 10.0.0.11"), |f| way(f).mac = None),
        (Check::Vip, Level::Problem, Some("ip address del 198.51.100.10/24 dev eth0"), |f| {
            f.addresses[0].address = "198.51.100.10".parse().unwrap();
        }),
        (Check::Vip, Level::Problem, Some("ip address del 198.51.100.10/32 dev lo"), |f| {
            f.addresses[0] =
                HostAddress { interface: "lo".into(), address: "198.51.100.10".parse().unwrap(), length: 32 };
        }),
        (Check::Egress, Level::Problem, None, |f| {
            let PathAnswer::Found { egress, features, .. } = &mut f.paths[0].answer else { panic!() };
            (*egress, *features) = ("eth1".into(), Some(XdpFeatures::from_bits(1)));
        }),
        (
            Check::NatPorts,
            Level::Problem,
            Some("sysctl -w net.ipv4.ip_local_port_range=\"1024 60999\""),
            |f| {
                f.local_ports = Some((1024, 65_535));
            },
        ),
    ];
    for (check, level, fix, make_wrong) in cases {
        let mode = if check == Check::NatPorts { "nat" } else { "l2" };
        let config = config("198.51.100.10", mode, BACKEND);
        let mut facts = facts(&config, BACKEND, via(BACKEND, 1500));
        make_wrong(&mut facts);
        let bad = bad(&config, &facts);
        assert_eq!(bad.len(), 1, "{check:?}: {bad:?}");
        assert_eq!((bad[0].check, bad[0].level, bad[0].fix.as_deref()), (check, level, fix));
    }
}

#[test]
fn a_backend_on_the_node_itself_has_the_vip_on_its_loopback() {
    let config = config("198.51.100.10", "l2", BACKEND);
    let mut facts = facts(&config, BACKEND, via(BACKEND, 1500));
    let PathAnswer::Found { next_hop, .. } = &mut facts.paths[0].answer else { panic!() };
    *next_hop = NextHop::Local;
    facts.addresses[0] =
        HostAddress { interface: "lo".into(), address: "198.51.100.10".parse().unwrap(), length: 32 };
    assert_eq!(bad(&config, &facts), []);
    facts.addresses[0].interface = "eth0".into();
    assert_eq!(bad(&config, &facts).len(), 1);
}

#[test]
fn a_mode_that_adds_bytes_is_held_against_the_way() {
    for (vip, mode, backend, mtu, level) in [
        ("198.51.100.10", "l2", BACKEND, 1500, None),
        ("198.51.100.10", "ipip", BACKEND, 1500, Some(Level::Note)),
        ("198.51.100.10", "ipip", BACKEND, 1000, Some(Level::Note)),
        ("2001:db8:1::1", "ipip", BACKEND, 1299, Some(Level::Problem)),
        ("2001:db8:1::1", "ipip", BACKEND, 1300, Some(Level::Note)),
        ("2001:db8:1::1", "ipip", BACKEND6, 1319, Some(Level::Problem)),
        ("2001:db8:1::1", "gue", BACKEND, 1307, Some(Level::Problem)),
        ("2001:db8:1::1", "gue", BACKEND6, 1327, Some(Level::Problem)),
        ("2001:db8:1::1", "gue", BACKEND6, 1328, Some(Level::Note)),
        ("2001:db8:1::1", "l2", BACKEND6, 1279, Some(Level::Problem)),
    ] {
        let config = config(vip, mode, backend);
        let found = bad(&config, &facts(&config, backend, via(backend, mtu)));
        let levels: Vec<Level> = found.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, level.into_iter().collect::<Vec<_>>(), "{vip} {mode} {backend} {mtu}: {found:?}");
    }
}

#[test]
fn an_interface_that_is_too_small_is_mended_and_a_route_is_not() {
    let config = config("2001:db8:1::1", "ipip", BACKEND6);
    let mut facts = facts(&config, BACKEND6, via(BACKEND6, 1300));
    assert_eq!(bad(&config, &facts)[0].fix.as_deref(), Some("ip link set dev eth0 mtu 1320"));
    let PathAnswer::Found { interface_mtu, .. } = &mut facts.paths[0].answer else { panic!() };
    *interface_mtu = 1500;
    assert_eq!(bad(&config, &facts)[0].fix, None);
}

#[test]
fn answers_that_a_strict_filter_drops_on_a_router_with_routes_to_vips_are_foreseen() {
    let found = |route: &str, mode: &str, change: fn(&mut Facts)| {
        let text = format!(
            "node: {{seed: a long enough seed, interfaces: [eth0]}}
vips:
  - address: 198.51.100.10
    ownership: route
    route: {{linger: 0s{route}}}
    services: [{{name: web, port: 80, mode: {mode}, backends: [{{name: b1, address: '{BACKEND}'}}]}}]
"
        );
        let config =
            config::parse(&text, Path::new("x.yaml")).unwrap_or_else(|errors| panic!("{errors}")).config;
        let mut facts = facts(&config, BACKEND, via(BACKEND, 1500));
        (facts.routes, facts.strict) = (true, vec!["eth0".to_owned()]);
        change(&mut facts);
        all(&config, &facts).into_iter().find(|finding| finding.check == Check::ReversePath)
    };
    let warning = found("", "l2", |_| ()).expect("a finding");
    assert_eq!(warning.level, Level::Warning);
    assert_eq!(
        warning.found,
        "rp_filter of eth0 is strict, and 198.51.100.10, from which backends there answer, has its route to vip-lb"
    );
    assert_eq!(warning.fix.as_deref(), Some("sysctl -w net.ipv4.conf.eth0.rp_filter=2"));
    let lax = found("", "l2", |facts| facts.strict = vec!["eth1".to_owned()]);
    assert_eq!(lax.expect("a finding").level, Level::Ok);
    assert_eq!(found("", "l2", |facts| facts.routes = false), None, "it is nobody's router");
    assert_eq!(found(", table: 100", "l2", |_| ()), None, "the way back does not ask that table");
    let mut nat = found("", "nat", |_| ());
    assert_eq!(nat.take(), None, "backends answer to the node itself");
}
