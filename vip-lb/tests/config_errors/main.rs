//! What a wrong configuration is told: the exact lines, all of them at once.

use std::path::Path;

use vip_lb::config::{self, ConfigErrors};

mod forwarding;
mod health;
mod peering;
mod route;
mod vrrp;

/// Valid; every case replaces one piece of it.
const BASE: &str = "\
node:
  seed: a long enough seed
  interfaces: [eth0]
vips:
  - address: 198.51.100.10
    services:
      - name: web
        port: 80
        mode: l2
        backends:
          - {name: a, address: 10.0.0.1}
          - {name: b, address: 10.0.0.2}
";

fn errors(text: &str) -> ConfigErrors {
    match config::parse(text, Path::new("c.yaml")) {
        Ok(loaded) => panic!("taken for valid: {:?}\n{text}", loaded.config),
        Err(errors) => errors,
    }
}

fn replaced(from: &str, to: &str) -> String {
    assert_eq!(BASE.matches(from).count(), 1, "{from:?} is in the base once");
    BASE.replacen(from, to, 1)
}

/// Replaces `from` by `to` in the base and compares the errors, given without the name of the file.
fn check(cases: &[(&str, &str, &[&str])]) {
    for (from, to, expected) in cases {
        let found = errors(&replaced(from, to)).to_string();
        let expected: Vec<String> = expected.iter().map(|line| format!("c.yaml:{line}")).collect();
        assert_eq!(found, expected.join("\n"), "\nthe errors of replacing {from:?} by {to:?}");
    }
}

#[test]
fn the_base_is_valid() {
    let loaded = config::parse(BASE, Path::new("c.yaml")).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, []);
}

#[test]
fn keys() {
    check(&[
        (
            "port: 80",
            "prot: 80",
            &[
                "7:9: vips[0].services[0].port: found nothing, expected a port between 0 and 65535, 0 meaning every port, or a range such as 8000-8999",
                "8:9: vips[0].services[0].prot: found an unknown key, expected one of name, port, protocol, mode, \
                 affinity, ring, idle_timeout, mss, icmp_rate, min_healthy, below_min, max_removed, slow_start, passive, passive_sample, on_down, health, backends; did you mean port?",
            ],
        ),
        (
            "name: a, address",
            "name: a, zone: x, address",
            &[
                "11:23: vips[0].services[0].backends[0].zone: found an unknown key, expected one of name, address, port, \
               weight, state, tier, mode, health, on_down",
            ],
        ),
        (
            "name: b,",
            "name: b, name: c,",
            &[
                "12:23: vips[0].services[0].backends[1].name: found a repeated key, expected it once (it is already in \
               line 12)",
            ],
        ),
        (
            "port: 80",
            "port:",
            &[
                "8:13: vips[0].services[0].port: found an empty value, expected a port between 0 and 65535, 0 meaning \
               every port, or a range such as 8000-8999",
            ],
        ),
        (
            "interfaces: [eth0]\n",
            "interfaces: [eth0]\n  \"on\\texit\": keep\n",
            &[
                "4:3: node[\"on\\texit\"]: found an unknown key, expected one of name, state, interfaces, seed, peers, peering, \
               tunnel_source_v4, tunnel_source_v6, gue_port, nat, on_exit, watchdog, socket, api, pins, state_dir, watch, tables; did you mean on_exit?",
            ],
        ),
    ]);
}

#[test]
fn floors() {
    check(&[
        (
            "port: 80",
            "port: 80\n        below_min: backup",
            &[
                "9:20: vips[0].services[0].below_min: found backup, expected it only with backends of several tiers, of which the last one is the \
              backup",
            ],
        ),
        (
            "port: 80",
            "port: 80\n        min_healthy: half\n        max_removed: 0%",
            &[
                "9:22: vips[0].services[0].min_healthy: found \"half\", expected a number of backends between 0 and 65535, or a share of them \
                 between 0% and 100%",
                "10:22: vips[0].services[0].max_removed: found \"0%\", expected a share between 1% and 100%",
            ],
        ),
        (
            "10.0.0.1}",
            "10.0.0.1, tier: 10}",
            &["11:48: vips[0].services[0].backends[0].tier: found 10, expected a tier between 0 and 9"],
        ),
    ]);
    let text = replaced("port: 80", "port: 80\n        min_healthy: 3");
    let warnings = config::parse(&text, Path::new("c.yaml")).unwrap().warnings;
    assert_eq!(
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "c.yaml:9:22: vips[0].services[0].min_healthy: found 3, expected at most 2, as there are no more backends"
        ]
    );
}

#[test]
fn hosts() {
    let hosts = |list: &str| format!("interfaces: [eth0]\nhosts: [{list}]");
    for (list, expected) in [
        (
            "{address: 10.0.0.1}",
            &["4:9: hosts[0].state: found nothing, expected one of enabled, drain, disabled"][..],
        ),
        (
            "{address: 10.0.0.1, state: drain}, {address: 10.0.0.1, state: off}",
            &[
                "4:54: hosts[1].address: found 10.0.0.1, expected each host once (hosts[0].address in line 4)",
                "4:71: hosts[1].state: found \"off\", expected one of enabled, drain, disabled",
            ],
        ),
    ] {
        check(&[("interfaces: [eth0]", &hosts(list), expected)]);
    }
}

#[test]
fn a_host_that_no_backend_has_is_told_of() {
    let text =
        replaced("interfaces: [eth0]", "interfaces: [eth0]\nhosts: [{address: 10.0.0.9, state: drain}]");
    let warnings: Vec<String> =
        config::parse(&text, Path::new("c.yaml")).unwrap().warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "c.yaml:4:19: hosts[0].address: found 10.0.0.9, expected the address of a backend, without which this does nothing"
        ]
    );
}

#[test]
fn types_and_ranges() {
    check(&[
        (
            "port: 80",
            "port: 70000",
            &[
                "8:15: vips[0].services[0].port: found 70000, expected a port between 0 and 65535, 0 meaning every port, or a range such as 8000-8999",
            ],
        ),
        (
            "port: 80",
            "port: \"80\"",
            &[
                "8:15: vips[0].services[0].port: found \"80\", expected a port between 0 and 65535, 0 meaning every port, or a range such as 8000-8999",
            ],
        ),
        (
            "10.0.0.1",
            "10.0.0.1, weight: 0",
            &[
                "11:50: vips[0].services[0].backends[0].weight: found 0, expected a weight between 1 and 65535",
            ],
        ),
        (
            "10.0.0.1",
            "10.0.0.1, weight: 65536",
            &[
                "11:50: vips[0].services[0].backends[0].weight: found 65536, expected a weight between 1 and 65535",
            ],
        ),
        (
            "10.0.0.1",
            "10.0.0.256",
            &[
                "11:32: vips[0].services[0].backends[0].address: found \"10.0.0.256\", expected an IPv4 or IPv6 address",
            ],
        ),
        (
            "mode: l2",
            "mode: L2",
            &["9:15: vips[0].services[0].mode: found \"L2\", expected one of l2, ipip, gue, nat"],
        ),
        (
            "mode: l2",
            "mode: l2\n        ring: 65536\n        idle_timeout: 0s\n        protocol: sctp\n        affinity: [flow]",
            &[
                "10:15: vips[0].services[0].ring: found 65536, expected one of 16381, 65537, 131071",
                "11:23: vips[0].services[0].idle_timeout: found \"0s\", expected a duration from 1s to 24h, such as 10m",
                "12:19: vips[0].services[0].protocol: found \"sctp\", expected one of tcp, udp",
                "13:19: vips[0].services[0].affinity: found a list, expected one of flow, source",
            ],
        ),
        (
            "name: web",
            "name: a name",
            &[
                "7:15: vips[0].services[0].name: found \"a name\", expected a name of 1 to 63 letters, digits, dots, \
               dashes and underscores, beginning with a letter or digit",
            ],
        ),
        (
            "interfaces: [eth0]",
            "interfaces: [eth0, a/b, {name: eth1, attach: fast}, {attach: auto}]",
            &[
                "3:22: node.interfaces[1]: found \"a/b\", expected the name of a network interface: 1 to 15 bytes, no \
                 slash, colon or blank, not . or ..",
                "3:48: node.interfaces[2].attach: found \"fast\", expected one of auto, native, generic",
                "3:55: node.interfaces[3].name: found nothing, expected the name of a network interface: 1 to 15 \
                 bytes, no slash, colon or blank, not . or ..",
            ],
        ),
        (
            "interfaces: [eth0]",
            "interfaces: []\n  tables: {flows: 1023, newborn: 16777217, survivors: 1024}\n  socket: run/x",
            &[
                "3:15: node.interfaces: found an empty list, expected a list of at least one interface, such as [eth0]",
                "4:19: node.tables.flows: found 1023, expected a number of entries between 1024 and 16777216",
                "4:34: node.tables.newborn: found 16777217, expected a number of entries between 1024 and 16777216",
                "5:11: node.socket: found \"run/x\", expected an absolute path of at most 107 bytes",
            ],
        ),
    ]);
}

#[test]
fn addresses() {
    check(&[
        (
            "198.51.100.10",
            "169.254.1.1",
            &[
                "5:14: vips[0].address: found 169.254.1.1, a link-local address, expected a unicast address that is \
               neither loopback nor link-local",
            ],
        ),
        (
            "198.51.100.10",
            "ff02::1",
            &[
                "5:14: vips[0].address: found ff02::1, a multicast address, expected a unicast address that is neither \
               loopback nor link-local",
            ],
        ),
        (
            "10.0.0.1",
            "127.0.0.1",
            &[
                "11:32: vips[0].services[0].backends[0].address: found 127.0.0.1, a loopback address, expected the \
               unicast address of a server, not loopback",
            ],
        ),
        (
            "10.0.0.1",
            "\"::\"",
            &[
                "11:32: vips[0].services[0].backends[0].address: found ::, the unspecified address, expected the \
               unicast address of a server, not loopback",
            ],
        ),
        (
            "10.0.0.1",
            "198.51.100.10",
            &["11:32: vips[0].services[0].backends[0].address: found 198.51.100.10, which is a VIP \
               (vips[0].address in line 5), expected the server's own address"],
        ),
        (
            "interfaces: [eth0]",
            "interfaces: [eth0]\n  peers: [192.0.2.1, 198.51.100.10, 192.0.2.1]\n  tunnel_source_v6: ::1\n  \
             tunnel_source_v4: 198.51.100.10",
            &[
                "4:22: node.peers[1]: found 198.51.100.10, which is a VIP (vips[0].address in line 8), expected the \
                 own address of another node",
                "4:37: node.peers[2]: found 192.0.2.1, expected each peer once (node.peers[0] in line 4)",
                "5:21: node.tunnel_source_v6: found ::1, a loopback address, expected the unicast address of this machine",
                "6:21: node.tunnel_source_v4: found 198.51.100.10, which is a VIP (vips[0].address in line 8), \
                 expected an address of this machine alone",
            ],
        ),
    ]);
}

#[test]
fn what_has_to_be_unique() {
    check(&[
        (
            "name: b, address: 10.0.0.2",
            "name: a, address: 10.0.0.1",
            &[
                "12:20: vips[0].services[0].backends[1].name: found \"a\", expected a name that no other backend of \
                 the service has (vips[0].services[0].backends[0].name in line 11)",
                "12:32: vips[0].services[0].backends[1].address: found 10.0.0.1, expected an address that no other \
                 backend of the service has (vips[0].services[0].backends[0].address in line 11)",
            ],
        ),
        (
            "interfaces: [eth0]",
            "interfaces: [eth0, {name: eth0}]",
            &["3:29: node.interfaces[1].name: found \"eth0\", expected each interface once (node.interfaces[0] in \
               line 3)"],
        ),
        (
            "          - {name: b, address: 10.0.0.2}\n",
            "      - {name: web, port: 80, mode: l2, backends: [{name: a, address: 10.0.0.1}]}
      - {name: dns, port: 80, protocol: udp, health: none, mode: l2, backends: [{name: a, address: 10.0.0.1}]}
  - {address: 198.51.100.10, services: [{name: x, port: 80, mode: l2, backends: [{name: a, address: 10.0.0.1}]}]}
",
            &[
                "12:16: vips[0].services[1].name: found \"web\", expected a name that no other service has \
                 (vips[0].services[0].name in line 7)",
                "12:27: vips[0].services[1].port: found 80 for tcp, expected each port once per protocol of the VIP \
                 (vips[0].services[0].port in line 8)",
                "14:15: vips[1].address: found 198.51.100.10, expected an address that is no other VIP \
                 (vips[0].address in line 5)",
            ],
        ),
    ]);
}

#[test]
fn what_a_service_needs() {
    check(&[
        (
            "        mode: l2\n",
            "",
            &[
                "7:9: vips[0].services[0].mode: found nothing, expected one of l2, ipip, gue, nat, or a mode for every backend",
            ],
        ),
        (
            "port: 80",
            "port: 0",
            &[
                "7:9: vips[0].services[0].health: found nothing, expected none or a mapping with a port, because the \
               service has every port",
            ],
        ),
        (
            "port: 80",
            "port: 0\n        health: tcp",
            &[
                "9:17: vips[0].services[0].health.port: found nothing, expected a port between 1 and 65535, because the \
               service has every port",
            ],
        ),
        (
            "port: 80",
            "port: 80\n        protocol: udp",
            &[
                "7:9: vips[0].services[0].health: found nothing, expected none or a check that says what to ask, because \
               nothing can be asked of every UDP service",
            ],
        ),
        (
            "services:",
            "services: []\n  - address: 198.51.100.11\n    services:",
            &["6:15: vips[0].services: found an empty list, expected a list of at least one service"],
        ),
    ]);
}

#[test]
fn a_seed_that_is_refused_is_not_shown() {
    for (seed, column, found) in [
        ("geheim1", 9, "text of 7 characters"),
        ("\"  geheim  \"", 9, "text of 10 characters"),
        ("12345678", 9, "a number"),
        ("[geheim12]", 9, "a list"),
        ("", 7, "an empty value"),
    ] {
        let expected = "expected a text in quotes, at least 8 characters, the same on every node and known to nobody \
                        else, because whoever knows it can aim connections at one backend";
        assert_eq!(
            errors(&replaced("a long enough seed", seed)).to_string(),
            format!("c.yaml:2:{column}: node.seed: found {found}, {expected}")
        );
    }
}

#[test]
fn all_errors_are_told_at_once_in_the_order_of_the_lines() {
    let text = BASE
        .replace("a long enough seed", "short")
        .replace("[eth0]", "eth0")
        .replace("198.51.100.10", "0.0.0.0")
        .replace("port: 80", "port: http")
        .replace("l2", "l3")
        .replace("name: b", "nam: b")
        .replace("10.0.0.2", "10.0.0.1");
    let lines: Vec<u64> = errors(&text).errors.iter().filter_map(|issue| issue.line).collect();
    assert_eq!(lines, [2, 3, 5, 8, 9, 12, 12, 12]);
}

#[test]
fn syntax_errors_have_the_same_form() {
    for (text, expected) in [
        (
            "a: b: c\n",
            "c.yaml:1:5: found a syntax error (mapping values are not allowed in this context), expected YAML",
        ),
        ("node:\n  name: \"x\n", "c.yaml:2:9: found a syntax error (unclosed quote), expected YAML"),
        ("a: *b\n", "c.yaml:1:4: found a syntax error (reference to unknown value), expected YAML"),
        ("", "c.yaml:1:1: found an empty value, expected a mapping with the keys node, vips"),
        ("- x\n", "c.yaml:1:1: found a list, expected a mapping with the keys node, vips"),
    ] {
        assert_eq!(errors(text).to_string(), expected, "{text:?}");
    }
}

#[test]
fn files_that_cannot_be_read_are_told_in_the_same_form() {
    let missing = config::load(Path::new("/nowhere/vip-lb.yaml")).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "/nowhere/vip-lb.yaml: found no readable file (No such file or directory (os error 2)), expected a YAML file"
    );
    let program = std::env::current_exe().unwrap();
    let binary = config::load(&program).unwrap_err();
    assert_eq!(binary.errors[0].expected, "text in UTF-8");
    assert!(binary.errors[0].line.is_some());
}

#[test]
fn limits_hold_for_the_whole_file() {
    use std::fmt::Write;

    let mut text = String::from(
        "node: {seed: a long enough seed, interfaces: [eth0]}\nvips:\n  - address: 198.51.100.10\n    services:\n",
    );
    for port in 1..=4097 {
        writeln!(
            text,
            "      - {{name: s{port}, port: {port}, mode: l2, backends: [{{name: a, address: 10.0.0.1}}]}}"
        )
        .unwrap();
    }
    assert_eq!(
        errors(&text).to_string(),
        "c.yaml:3:3: vips: found 4097 services, expected at most 4096 in all"
    );
}

#[test]
fn a_service_has_no_more_backends_than_slots() {
    use std::fmt::Write;

    let mut more = String::from("          - {name: b, address: 10.0.0.2}\n");
    for index in 3..=16_382 {
        writeln!(more, "          - {{name: b{index}, address: 10.1.{}.{}}}", index / 256, index % 256)
            .unwrap();
    }
    let text = BASE.replace("          - {name: b, address: 10.0.0.2}\n", &more);
    assert_eq!(
        errors(&text).to_string(),
        "c.yaml:11:11: vips[0].services[0].backends: found 16382 backends, expected at most one for each of the 16381 \
         slots of the ring"
    );
}

#[test]
fn errors_are_data_for_scripts() {
    let errors = errors(&replaced("port: 80", "port: 70000"));
    let json = serde_json::to_value(&errors).unwrap();
    let expected = serde_json::json!({"errors": [{
        "file": "c.yaml",
        "line": 8,
        "column": 15,
        "key": "vips[0].services[0].port",
        "found": "70000",
        "expected": "a port between 0 and 65535, 0 meaning every port, or a range such as 8000-8999",
    }]});
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_value::<ConfigErrors>(json).unwrap(), errors);
}

#[test]
fn what_is_hardly_meant_is_warned_of() {
    for (from, to, expected) in [
        (
            "          - {name: a, address: 10.0.0.1}\n          - {name: b, address: 10.0.0.2}\n",
            "          - {name: a, address: 10.0.0.1, state: drain}\n          - {name: b, address: 10.0.0.2, state: disabled}\n",
            "c.yaml:11:11: vips[0].services[0].backends: found no enabled backend, expected at least one, without which \
             the service takes no new connections",
        ),
        (
            "10.0.0.1",
            "fe80::1",
            "c.yaml:11:32: vips[0].services[0].backends[0].address: found fe80::1, a link-local address, expected an \
             address whose interface the routes tell: this one may be looked for on another interface",
        ),
    ] {
        let loaded = config::parse(&replaced(from, to), Path::new("c.yaml"))
            .unwrap_or_else(|errors| panic!("{errors}"));
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, [expected]);
    }
    let text = "node: {seed: a long enough seed, interfaces: [eth0]}\nvips: []\n";
    let loaded = config::parse(text, Path::new("c.yaml")).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        loaded.warnings[0].to_string(),
        "c.yaml:2:7: vips: found an empty list, expected at least one VIP, without which nothing is balanced"
    );
}

#[test]
fn the_api_over_tcp() {
    const LISTEN: &str = "a loopback address with a port, such as 127.0.0.1:9177 or \"[::1]:9177\"";
    for listen in
        ["0.0.0.0:9177", "192.0.2.1:9177", "\"[::]:9177\"", "127.0.0.1", "127.0.0.1:0", "localhost:9177"]
    {
        let api = format!("interfaces: [eth0]\n  api: {{listen: {listen}, token_file: /etc/token}}");
        let found = errors(&replaced("interfaces: [eth0]", &api)).to_string();
        let value = listen.trim_matches('"');
        assert_eq!(
            found,
            format!("c.yaml:4:17: node.api.listen: found {value:?}, expected {LISTEN}"),
            "{listen}"
        );
    }
    check(&[
        (
            "interfaces: [eth0]",
            "interfaces: [eth0]\n  api: {listen: 127.0.0.1:9177, metrics: yes}",
            &[
                "4:8: node.api.token_file: found nothing, expected an absolute path of at most 4095 bytes",
                "4:42: node.api.metrics: found \"yes\", expected one of token, open",
            ],
        ),
        (
            "interfaces: [eth0]",
            "interfaces: [eth0]\n  api: 127.0.0.1:9177",
            &[
                "4:8: node.api: found \"127.0.0.1:9177\", expected a mapping with at least listen and token_file",
            ],
        ),
    ]);
}
