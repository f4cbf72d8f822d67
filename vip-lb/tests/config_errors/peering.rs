//! How nodes speak with each other.

use super::*;

fn with(keys: &str) -> String {
    replaced("  interfaces: [eth0]\n", &format!("  interfaces: [eth0]\n{keys}"))
}

#[test]
fn a_node_speaks_with_peers_that_it_knows_and_with_a_secret() {
    let alone = "  peering:\n    secret_file: /etc/vip-lb/peers\n";
    for (keys, expected) in [
        (
            alone.to_owned(),
            "node.peering: found no `peers` of this node, expected the addresses of the other nodes in `node.peers`",
        ),
        (
            format!("  peers: []\n{alone}"),
            "node.peering: found no `peers` of this node, expected the addresses of the other nodes in `node.peers`",
        ),
        (
            "  peers: [192.0.2.12]\n  peering: {port: 7112}\n".to_owned(),
            "node.peering.secret_file: found nothing, expected an absolute path of at most 4095 bytes",
        ),
        (
            format!("  peers: [\"fe80::12\"]\n{alone}"),
            "node.peers[0]: found fe80::12, a link-local address, expected an address that says by itself where it is, for `node.peering`",
        ),
        (
            format!("  peers: [192.0.2.12]\n{alone}    listen: 198.51.100.10\n"),
            "node.peering.listen: found 198.51.100.10, which is a VIP (vips[0].address in line 9), expected an address of this machine alone",
        ),
        (
            format!("  peers: [192.0.2.12]\n{alone}    listen: 127.0.0.1\n"),
            "node.peering.listen: found 127.0.0.1, a loopback address, expected the unicast address of this machine",
        ),
        (
            format!("  peers: [192.0.2.12]\n{alone}    port: 0\n"),
            "node.peering.port: found 0, expected a port between 1 and 65535",
        ),
        (
            format!("  peers: [192.0.2.12]\n{alone}    share: [order]\n"),
            "node.peering.share[0]: found \"order\", expected one of orders, flows",
        ),
    ] {
        let all = errors(&with(&keys)).to_string();
        assert!(all.contains(expected), "{keys}: {all}");
        assert_eq!(all.lines().count(), 1, "{keys}: {all}");
    }
}
