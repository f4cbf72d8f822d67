//! What is needed in each mode of hosts in words.

use std::collections::BTreeMap;

use super::*;
use crate::network::{DefaultRoute, HostAddress, Interface};

const VIP: &str = "198.51.100.10";
const VIP6: &str = "2001:db8:100::10";

fn wish(mode: ForwardMode, vips: &[&str]) -> Wish {
    Wish {
        vips: vips.iter().map(|vip| vip.parse().unwrap()).collect(),
        mode,
        from: vec![([192, 0, 2, 1].into(), 32)],
        gue_port: 6080,
    }
}

/// A host as it comes: one interface, every setting 0, no VIP.
fn host() -> HostFacts {
    let ethernet = vec!["eth0".to_owned()];
    let mut facts = HostFacts {
        interface: Interface::usual(2, "eth0"),
        ethernet,
        addresses: vec![HostAddress { interface: "lo".into(), address: [127, 0, 0, 1].into(), length: 8 }],
        sysctls: BTreeMap::new(),
        decapsulator: None,
        tunnels: Vec::new(),
        default_routes: Vec::new(),
    };
    for name in [ARP_IGNORE, ARP_ANNOUNCE, RP_FILTER] {
        for scope in ["all", "eth0"] {
            facts.sysctls.insert(Sysctl::ipv4(scope, name), 0);
        }
    }
    for scope in ["lo", "eth0"] {
        facts.sysctls.insert(Sysctl::ipv6(scope, DISABLE_IPV6), 0);
    }
    facts
}

fn set(facts: &mut HostFacts, scope: &str, name: &str, value: i64) {
    facts.sysctls.insert(Sysctl::ipv4(scope, name), value);
}

/// The commands that are needed.
fn commands(wish: &Wish, facts: &HostFacts) -> Vec<String> {
    let needs = needs(wish, facts, Path::new(DEFAULT_PINS));
    for need in &needs {
        assert_eq!(need.change.is_some(), need.found.is_some(), "{need:?}");
    }
    needs.into_iter().filter(|need| need.change.is_some()).map(|need| need.command).collect()
}

const SILENCE: [&str; 2] =
    ["sysctl -w net.ipv4.conf.all.arp_ignore=1", "sysctl -w net.ipv4.conf.all.arp_announce=2"];
const DECAP: &str = "vip-lb decap --interface eth0 --from 192.0.2.1/32 --vip 198.51.100.10";
const ADDRESS: &str = "ip address add 198.51.100.10/32 dev lo";

#[test]
fn each_mode_has_its_needs_and_the_address_is_last() {
    let facts = host();
    for (mode, expected) in [
        (ForwardMode::L2, &[SILENCE[0], SILENCE[1], ADDRESS][..]),
        (ForwardMode::Ipip, &[SILENCE[0], SILENCE[1], DECAP, ADDRESS]),
        (ForwardMode::Gue, &[SILENCE[0], SILENCE[1], DECAP, ADDRESS]),
        (ForwardMode::Nat, &[]),
    ] {
        assert_eq!(commands(&wish(mode, &[VIP]), &facts), expected, "{mode}");
    }
}

#[test]
fn ipv6_needs_no_silence_but_itself() {
    let mut facts = host();
    let wish = wish(ForwardMode::L2, &[VIP6]);
    assert_eq!(commands(&wish, &facts), ["ip address add 2001:db8:100::10/128 dev lo"]);
    facts.sysctls.insert(Sysctl::ipv6("lo", DISABLE_IPV6), 1);
    facts.sysctls.remove(&Sysctl::ipv6("eth0", DISABLE_IPV6));
    assert_eq!(
        commands(&wish, &facts)[..2],
        ["sysctl -w net.ipv6.conf.lo.disable_ipv6=0", "sysctl -w net.ipv6.conf.eth0.disable_ipv6=0"]
    );
}

#[test]
fn nothing_is_needed_of_a_host_that_has_all() {
    let mut facts = host();
    set(&mut facts, "all", ARP_IGNORE, 2);
    set(&mut facts, "eth0", ARP_ANNOUNCE, 2);
    facts.addresses.push(HostAddress { interface: "lo".into(), address: VIP.parse().unwrap(), length: 32 });
    facts.decapsulator = Some(Decapsulator {
        from: [([192, 0, 2, 1].into(), 32), ([10, 0, 0, 0].into(), 8)].into(),
        vips: [VIP.parse().unwrap(), VIP6.parse().unwrap()].into(),
        gue_port: 6080,
    });
    for mode in [ForwardMode::L2, ForwardMode::Ipip, ForwardMode::Gue] {
        assert_eq!(commands(&wish(mode, &[VIP]), &facts), [] as [String; 0], "{mode}");
    }
    // The port matters to those that use it.
    facts.decapsulator.as_mut().unwrap().gue_port = 6081;
    assert!(commands(&wish(ForwardMode::Ipip, &[VIP]), &facts).is_empty());
    assert_eq!(commands(&wish(ForwardMode::Gue, &[VIP]), &facts).len(), 1);
}

#[test]
fn an_address_elsewhere_is_not_one_of_the_loopback() {
    let mut facts = host();
    facts.addresses.push(HostAddress { interface: "eth0".into(), address: VIP.parse().unwrap(), length: 24 });
    assert!(commands(&wish(ForwardMode::L2, &[VIP]), &facts).contains(&ADDRESS.to_owned()));
}

#[test]
fn the_larger_value_of_an_interface_and_all_counts() {
    let mut facts = host();
    let wish = wish(ForwardMode::L2, &[VIP]);
    let filter = "sysctl -w net.ipv4.conf.eth0.rp_filter=2".to_owned();
    for (all, own, is_strict) in
        [(0, 0, false), (1, 0, true), (0, 1, true), (2, 1, false), (1, 2, false), (2, 0, false)]
    {
        set(&mut facts, "all", RP_FILTER, all);
        set(&mut facts, "eth0", RP_FILTER, own);
        assert_eq!(commands(&wish, &facts).contains(&filter), is_strict, "all {all}, eth0 {own}");
    }
    set(&mut facts, "eth0", ARP_IGNORE, 3);
    let lowered = "sysctl -w net.ipv4.conf.eth0.arp_ignore=1".to_owned();
    assert!(commands(&wish, &facts).contains(&lowered), "3 answers for addresses of the loopback");
    assert!(commands(&wish, &facts).contains(&SILENCE[0].to_owned()));
}

#[test]
fn a_second_interface_must_be_silent_too() {
    let mut facts = host();
    set(&mut facts, "eth0", ARP_IGNORE, 1);
    set(&mut facts, "eth0", ARP_ANNOUNCE, 2);
    let wish = wish(ForwardMode::L2, &[VIP]);
    assert_eq!(commands(&wish, &facts), [ADDRESS]);
    facts.ethernet.push("eth1".into());
    assert_eq!(commands(&wish, &facts), [SILENCE[0], SILENCE[1], ADDRESS]);
}

#[test]
fn what_is_unpacked_for_others_goes_on() {
    let mut facts = host();
    let others = Decapsulator {
        from: [([10, 0, 0, 0].into(), 8)].into(),
        vips: [[198, 51, 100, 99].into()].into(),
        gue_port: 7000,
    };
    facts.decapsulator = Some(others.clone());
    let change = |mode, port| {
        let wish = Wish { gue_port: port, ..wish(mode, &[VIP]) };
        let needs = needs(&wish, &facts, Path::new("/sys/fs/bpf/other"));
        let need = needs.into_iter().find(|need| need.kind == NeedKind::Decapsulation).unwrap();
        let Some(Change::Decapsulation { before, after, .. }) = need.change else { panic!() };
        assert_eq!(before.as_ref(), Some(&others));
        (after, need.command)
    };
    let (after, command) = change(ForwardMode::Ipip, 6080);
    assert_eq!((after.from.len(), after.vips.len(), after.gue_port), (2, 2, 7000));
    assert_eq!(
        command,
        "vip-lb decap --interface eth0 --from 10.0.0.0/8 192.0.2.1/32 --vip 198.51.100.10 198.51.100.99 \
         --gue-port 7000 --pins /sys/fs/bpf/other"
    );
    assert_eq!(change(ForwardMode::Gue, 6080).0.gue_port, 6080);
}

#[test]
fn segment_sizes_fit_the_tunnel() {
    let mut facts = host();
    let route = |is_v4, advmss| DefaultRoute {
        gateway: Some(if is_v4 { [192, 0, 2, 254].into() } else { VIP6.parse().unwrap() }),
        interface: "eth0".into(),
        is_v4,
        source: None,
        mtu: None,
        advmss,
        metric: 0,
    };
    facts.default_routes = vec![route(true, None), route(false, None)];
    let v6 = |mode, vips: &[&str]| Wish { from: vec![(VIP6.parse().unwrap(), 128)], ..wish(mode, vips) };
    for (wish, expected) in [
        (wish(ForwardMode::L2, &[VIP]), &[][..]),
        (wish(ForwardMode::Nat, &[VIP]), &[]),
        (wish(ForwardMode::Ipip, &[VIP]), &["1440"]),
        (wish(ForwardMode::Ipip, &[VIP, VIP6]), &["1440", "1420"]),
        (v6(ForwardMode::Ipip, &[VIP, VIP6]), &["1420", "1400"]),
        (wish(ForwardMode::Gue, &[VIP, VIP6]), &["1432", "1412"]),
        (v6(ForwardMode::Gue, &[VIP, VIP6]), &["1412", "1392"]),
    ] {
        let advice = segment_sizes(&wish, &facts);
        let sizes: Vec<&str> =
            advice.iter().filter_map(|advice| advice.command.as_ref()?.rsplit(' ').next()).collect();
        assert_eq!(sizes, expected, "{wish:?}");
    }
    let advice = segment_sizes(&wish(ForwardMode::Ipip, &[VIP]), &facts);
    assert_eq!(
        advice[0].command.as_deref(),
        Some("ip route change default via 192.0.2.254 dev eth0 advmss 1440")
    );
    facts.default_routes = vec![route(true, Some(1440))];
    assert_eq!(segment_sizes(&wish(ForwardMode::Ipip, &[VIP]), &facts), []);
}
