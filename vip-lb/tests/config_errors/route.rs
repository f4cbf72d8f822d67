//! Routes of VIPs.

use super::*;

const ADDRESS: &str = "  - address: 198.51.100.10\n";

fn vip(keys: &str) -> String {
    replaced(ADDRESS, &format!("{ADDRESS}    {keys}\n"))
}

#[test]
fn a_route_belongs_to_its_ownership() {
    for keys in ["route: {table: 100}", "ownership: always\n    route: {table: 100}"] {
        let all = errors(&vip(keys)).to_string();
        let expected = "vips[0].route: found route without `ownership: route`, expected it only where `ownership` is route";
        assert!(all.contains(expected), "{keys}: {all}");
    }
    let all = errors(&vip("ownership: route\n    vrrp: {router_id: 7}")).to_string();
    assert!(all.contains("vips[0].vrrp: found vrrp without `ownership: vrrp`"), "{all}");
}

#[test]
fn what_a_route_may_be() {
    let device = "a device for these routes alone";
    let name = "the name of a network interface of at most 12 bytes, no slash, colon or blank, not . or ..";
    let table = "the number of a routing table between 1 and 4294967295, not 255";
    let metric = "a metric between 1 and 16777215";
    let linger = "a duration between 0s and 1m, such as 5s";
    for (key, value, found, expected) in [
        ("device", "eth0", "\"eth0\", which carries other packets", device),
        ("device", "lo", "\"lo\", which carries other packets", device),
        ("device", "vip-probe", "\"vip-probe\", which carries other packets", device),
        ("device", "thirteen-byte", "\"thirteen-byte\"", name),
        ("table", "0", "0", table),
        ("table", "255", "255", table),
        ("table", "4294967296", "4294967296", table),
        ("table", "main", "\"main\"", table),
        ("metric", "0", "0", metric),
        ("metric", "16777216", "16777216", metric),
        ("linger", "61s", "\"61s\"", linger),
        ("linger", "5", "5", linger),
    ] {
        let all = errors(&vip(&format!("ownership: route\n    route: {{{key}: {value}}}"))).to_string();
        assert!(
            all.contains(&format!("vips[0].route.{key}: found {found}, expected {expected}")),
            "{key}: {value}: {all}"
        );
    }
}
