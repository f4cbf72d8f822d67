//! VRRP.

use super::*;

const ADDRESS: &str = "  - address: 198.51.100.10\n";

fn vip(keys: &str) -> String {
    replaced(ADDRESS, &format!("{ADDRESS}    {keys}\n"))
}

#[test]
fn ownership_and_router_belong_together() {
    for (keys, expected) in [
        (
            "ownership: vrrp",
            "c.yaml:6:16: vips[0].ownership: found vrrp without a router, expected `vrrp` beside it, a mapping with at least router_id",
        ),
        (
            "vrrp: {router_id: 7}",
            "c.yaml:6:11: vips[0].vrrp: found vrrp without `ownership: vrrp`, expected it only where `ownership` is vrrp",
        ),
    ] {
        assert_eq!(errors(&vip(keys)).to_string(), expected);
    }
}

#[test]
fn what_a_router_may_be() {
    let of = |keys: &str| {
        let text = replaced(ADDRESS, &format!("{ADDRESS}    ownership: vrrp\n    vrrp: {{{keys}}}\n"));
        errors(&text).to_string()
    };
    for (keys, key, found, expected) in [
        ("router_id: 0", "router_id", "0", "an identifier between 1 and 255"),
        ("router_id: 7, priority: 256", "priority", "256", "a priority between 1 and 255"),
        (
            "router_id: 7, interval: 15ms",
            "interval",
            "\"15ms\"",
            "a duration of whole hundredths of a second from 10ms to 40950ms, such as 100ms",
        ),
        (
            "router_id: 7, interval: 41s",
            "interval",
            "\"41s\"",
            "a duration of whole hundredths of a second from 10ms to 40950ms, such as 100ms",
        ),
        ("router_id: 7, preempt: always", "preempt", "\"always\"", "one of higher, never"),
        ("router_id: 7, virtual_mac: 1", "virtual_mac", "1", "true or false"),
        ("router_id: 7, refresh: 500ms", "refresh", "\"500ms\"", "a duration between 1s and 1h, such as 30s"),
        ("router_id: 7, checksum: none", "checksum", "\"none\"", "one of pseudo_header, plain"),
    ] {
        let all = of(keys);
        assert!(
            all.contains(&format!("vips[0].vrrp.{key}: found {found}, expected {expected}")),
            "{keys}: {all}"
        );
    }
    let other = of("router_id: 7, peers: [2001:db8::1]");
    assert!(other.contains("vips[0].vrrp.peers[0]: found 2001:db8::1, of the other family"), "{other}");
    let own = of("router_id: 7, peers: [198.51.100.10]");
    assert!(own.contains("198.51.100.10, which is a VIP"), "{own}");
}

#[test]
fn a_node_with_several_interfaces_has_to_name_one() {
    let text = vip("ownership: vrrp\n    vrrp: {router_id: 7}").replace("[eth0]", "[eth0, eth1]");
    assert_eq!(
        errors(&text).to_string(),
        "c.yaml:7:11: vips[0].vrrp: found no interface, and the node has several, expected `interface`, by which adverts go"
    );
}

#[test]
fn vips_of_one_router_agree() {
    let second = "  - {address: 198.51.100.11, ownership: vrrp, vrrp: {router_id: 7, priority: 50}, services: \
                  [{name: two, port: 80, mode: l2, health: none, backends: [{name: a, address: 10.0.0.1}]}]}\n";
    let text = vip("ownership: vrrp\n    vrrp: {router_id: 7}") + second;
    let found = errors(&text).to_string();
    assert!(
        found.contains("vips[1].vrrp: found another priority for router 7, expected what is said of this router elsewhere (vips[0].vrrp in line 7)"),
        "{found}"
    );
}

#[test]
fn a_router_with_a_virtual_mac_is_on_one_interface() {
    let text = |keys: &str| {
        let vip = |number: u8, interface: &str| {
            format!(
                "  - {{address: 198.51.100.{number}, ownership: vrrp, vrrp: {{router_id: 7, interface: {interface}{keys}}}}}\n"
            )
        };
        format!(
            "node: {{seed: a long enough seed, interfaces: [eth0, eth1]}}\nvips:\n{}{}",
            vip(10, "eth0"),
            vip(11, "eth1")
        )
    };
    assert_eq!(
        errors(&text(", virtual_mac: true")).to_string(),
        "c.yaml:4:53: vips[1].vrrp: found virtual_mac of router 7, as on eth0, expected another router_id for each interface \
         (vips[0].vrrp in line 3)"
    );
    let without = config::parse(&text(""), Path::new("c.yaml"));
    assert!(without.is_ok(), "without one they are two routers");
}

#[test]
fn what_is_tracked_has_one_subject_and_one_effect() {
    let of = |priority: u8, items: &str| {
        let text = replaced(
            ADDRESS,
            &format!(
                "{ADDRESS}    ownership: vrrp\n    vrrp: {{router_id: 7, priority: {priority}, track: [{items}]}}\n"
            ),
        );
        errors(&text).to_string()
    };
    for (items, expected) in [
        (
            "{priority: -5}",
            "track[0]: found nothing to track, expected one of interface, healthy and command",
        ),
        (
            "{interface: a, healthy: 1, fault: true}",
            "track[0]: found interface and healthy, expected one of interface, healthy and command",
        ),
        (
            "{interface: a}",
            "track[0]: found nothing that follows from it, expected `priority: -N`, or `fault: true`, beside it",
        ),
        (
            "{interface: a, priority: -5, fault: true}",
            "track[0].priority: found priority beside fault, expected one of the two",
        ),
        (
            "{interface: a, priority: 5}",
            "track[0].priority: found 5, expected a number between -254 and -1, which is added to the priority",
        ),
        (
            "{healthy: 0%, fault: true}",
            "track[0].healthy: found \"0%\", expected a number of backends between 1 and 65535, or a share of them between 1% and 100%",
        ),
        (
            "{interface: a, rise: 2, fault: true}",
            "track[0].rise: found it with interface, expected it only with command",
        ),
        (
            "{command: [check], fault: true}",
            "track[0].command[0]: found \"check\", expected the absolute path of a program",
        ),
        (
            "{command: [/c], interval: 1s, timeout: 2s, fault: true}",
            "track[0].timeout: found a timeout longer than interval, expected at most interval",
        ),
        (
            "{interface: a, priority: -5}, {interface: a, fault: true}",
            "track[1]: found interface a, expected each once (vips[0].vrrp.track[0] in line 7)",
        ),
    ] {
        let all = of(100, items);
        assert!(all.contains(&format!("vips[0].vrrp.{expected}")), "{items}: {all}");
    }
    let owner = of(255, "{interface: a, priority: -5}");
    assert!(owner.contains("found a priority to be lowered from 255, expected fault instead"), "{owner}");
}

#[test]
fn a_vip_without_services_is_owned_by_vrrp() {
    let text = |keys: &str| {
        format!(
            "node: {{seed: a long enough seed, interfaces: [eth0]}}\nvips:\n  - address: 198.51.100.10\n{keys}"
        )
    };
    let none = "c.yaml:3:5: vips[0].services: found nothing, expected a list of at least one service";
    assert_eq!(errors(&text("    ownership: always\n")).to_string(), none);
    for (keys, expected) in [
        (
            "unknown_service: drop",
            "6:22: vips[0].unknown_service: found unknown_service without services, expected it only beside services; without any, \
             all that comes is this host's",
        ),
        (
            "prefix_length: 33",
            "6:20: vips[0].prefix_length: found 33, expected a number of bits between 1 and 32",
        ),
        (
            "prefix_length: 0",
            "6:20: vips[0].prefix_length: found 0, expected a number of bits between 1 and 128",
        ),
    ] {
        let keys = format!("    ownership: vrrp\n    vrrp: {{router_id: 7}}\n    {keys}\n");
        assert_eq!(errors(&text(&keys)).to_string(), format!("c.yaml:{expected}"));
    }
    let beside = errors(&vip("prefix_length: 24")).to_string();
    let expected = "found a prefix length beside services, expected it only without services, where the address is put on an interface";
    assert_eq!(beside, format!("c.yaml:6:20: vips[0].prefix_length: {expected}"));
}
