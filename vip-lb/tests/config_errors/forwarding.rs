//! Ports, limits, and what leaves this node.

use super::*;

#[test]
fn ranges_of_ports() {
    let expected = "a port between 0 and 65535, 0 meaning every port, or a range such as 8000-8999";
    for text in ["8999-8000", "80-80", "0-80", "80-65536", "80-", "80 - 90", "\"80\""] {
        let found = errors(&replaced("port: 80", &format!("port: {text}"))).to_string();
        let shown = text.trim_matches('"');
        assert_eq!(
            found,
            format!("c.yaml:8:15: vips[0].services[0].port: found {shown:?}, expected {expected}")
        );
    }
    let more = "          - {name: b, address: 10.0.0.2}\n";
    let service = |name: &str, keys: &str| {
        format!(
            "      - {{name: {name}, health: none, mode: l2, {keys}, backends: [{{name: a, address: 10.0.0.1}}]}}\n"
        )
    };
    let services = [
        service("r", "port: 8000-8999"),
        service("inside", "port: 8080"),
        service("udp", "port: 8500-9500, protocol: udp"),
        service("twice", "port: 8000-8999"),
        service("overlap", "port: 8999-9000"),
        service("around", "port: 1-65535"),
        service("beside", "port: 9001-9002"),
    ];
    let found = errors(&replaced(more, &services.concat())).to_string();
    let range = "vips[0].services[1].port in line 12";
    assert_eq!(
        found,
        format!(
            "c.yaml:15:53: vips[0].services[4].port: found 8000-8999 for tcp, expected each port once per protocol of the \
             VIP ({range})\n\
             c.yaml:16:55: vips[0].services[5].port: found 8999-9000 for tcp, expected ports outside of the range \
             8000-8999 ({range})\n\
             c.yaml:17:54: vips[0].services[6].port: found 1-65535 for tcp, expected ports outside of the range \
             8000-8999 ({range})\n\
             c.yaml:18:54: vips[0].services[7].port: found 9001-9002 for tcp, expected ports outside of the range \
             1-65535 (vips[0].services[6].port in line 17)"
        )
    );
    check(&[
        (
            "port: 80",
            "port: 80-89",
            &[
                "7:9: vips[0].services[0].health: found nothing, expected none or a mapping with a port, because the \
                 service has a range of ports",
            ],
        ),
        (
            "port: 80",
            "port: 80-89\n        health: tcp",
            &[
                "9:17: vips[0].services[0].health.port: found nothing, expected a port between 1 and 65535, because the \
                 service has a range of ports",
            ],
        ),
    ]);
}

#[test]
fn too_many_ranges_for_their_table() {
    // 30 blocks each, of which the table holds 16384.
    let vip = |number: usize| {
        format!(
            "  - address: 198.51.{}.{}\n    services: [{{name: s{number}, port: 1-65534, mode: l2, health: none, backends: \
             [{{name: a, address: 10.0.0.1}}]}}]\n",
            number / 250,
            number % 250 + 1
        )
    };
    let text = |count| {
        let vips: String = (0..count).map(vip).collect();
        format!("node: {{seed: a long enough seed, interfaces: [eth0]}}\nvips:\n{vips}")
    };
    assert!(config::parse(&text(546), Path::new("c.yaml")).is_ok());
    assert_eq!(
        errors(&text(547)).to_string(),
        "c.yaml:3:3: vips: found ranges of ports that make 16410 blocks of a power of two, expected at most 16384 blocks \
         in all"
    );
}

#[test]
fn ports_of_backends() {
    let mode = |mode: &str, port: &str, backend: &str| {
        errors(
            &BASE
                .replace("mode: l2", &format!("mode: {mode}\n        health: none"))
                .replace("port: 80", &format!("port: {port}"))
                .replace("address: 10.0.0.1", &format!("address: 10.0.0.1, {backend}")),
        )
        .to_string()
    };
    for other in ["l2", "ipip", "gue"] {
        let expected = format!(
            "c.yaml:12:48: vips[0].services[0].backends[0].port: found a port of a backend, expected it only together with \
             mode: nat, because packets keep their port in mode {other}"
        );
        assert_eq!(mode(other, "80", "port: 8080"), expected);
        // What the backend says of its mode goes before the service's.
        let column = 48 + format!("mode: {other}, ").len();
        assert_eq!(
            mode("nat", "80", &format!("mode: {other}, port: 8080")),
            expected.replace("12:48", &format!("12:{column}"))
        );
    }
    for many in ["0", "80-89"] {
        assert_eq!(
            mode("nat", many, "port: 8080"),
            "c.yaml:12:48: vips[0].services[0].backends[0].port: found a port of a backend, expected none, because the \
             service has many ports, and the one that was dialled stays"
        );
    }
    assert_eq!(
        mode("nat", "80", "port: 0"),
        "c.yaml:12:48: vips[0].services[0].backends[0].port: found 0, expected a port between 1 and 65535"
    );
    // What the mode is nobody knows, so nothing is said of the port.
    assert_eq!(
        mode("natt", "80", "port: 8080"),
        "c.yaml:9:15: vips[0].services[0].mode: found \"natt\", expected one of l2, ipip, gue, nat"
    );
}

#[test]
fn segment_sizes_and_rates() {
    check(&[
        (
            "mode: l2",
            "mode: l2\n        mss: 535\n        icmp_rate: -1",
            &[
                "10:14: vips[0].services[0].mss: found 535, expected a number of bytes between 536 and 9000",
                "11:20: vips[0].services[0].icmp_rate: found -1, expected a number of packets per second between 0 and \
                 65535",
            ],
        ),
        (
            "mode: l2",
            "mode: l2\n        mss: 1400\n        protocol: udp\n        health: none",
            &[
                "10:14: vips[0].services[0].mss: found a key of tcp services, expected it only together with protocol: \
                 tcp",
            ],
        ),
    ]);
}

#[test]
fn passive_detection() {
    check(&[
        (
            "mode: l2",
            "mode: l2\n        passive: yes\n        passive_sample: 0",
            &[
                "10:18: vips[0].services[0].passive: found \"yes\", expected one of off, observe, on",
                "11:25: vips[0].services[0].passive_sample: found 0, expected a number of flows between 1 and 4096",
            ],
        ),
        (
            "mode: l2",
            "mode: l2\n        passive: on\n        protocol: udp\n        health: none",
            &[
                "10:18: vips[0].services[0].passive: found on, expected off for a udp service, whose clients do not show \
                 that they get answers",
            ],
        ),
    ]);
}

#[test]
fn sources_of_translated_packets() {
    check(&[
        (
            "interfaces: [eth0]",
            "interfaces: [eth0]\n  gue_port: 0\n  nat: {source_v4: 127.0.0.1, source_v6: 10.0.0.9, ports: 61000}",
            &[
                "4:13: node.gue_port: found 0, expected a port between 1 and 65535",
                "5:20: node.nat.source_v4: found 127.0.0.1, a loopback address, expected a unicast address, not loopback",
                "5:42: node.nat.source_v6: found \"10.0.0.9\", expected an IPv6 address",
                "5:59: node.nat.ports: found 61000, expected a range of ports within 1 to 65535, such as 61000-65535",
            ],
        ),
        (
            "interfaces: [eth0]",
            "interfaces: [eth0]\n  nat: {source_v4: 198.51.100.10, source_v6: fe80::1}",
            &[
                "4:20: node.nat.source_v4: found 198.51.100.10, which is a VIP (vips[0].address in line 6), expected an \
                 address of this machine alone",
                "4:46: node.nat.source_v6: found fe80::1, a link-local address, expected an address that routers know the \
                 way to",
            ],
        ),
        (
            "interfaces: [eth0]",
            "interfaces: [eth0]\n  nat: {source_v4: 10.0.0.2}",
            &[
                "4:20: node.nat.source_v4: found 10.0.0.2, which is a backend (vips[0].services[0].backends[1].address in \
                 line 13), expected an address of this machine alone",
            ],
        ),
        (
            "interfaces: [eth0]",
            "interfaces: [eth0]\n  peers: [10.0.0.7]\n  nat: {source_v4: 10.0.0.7}",
            &[
                "5:20: node.nat.source_v4: found 10.0.0.7, which is a peer, expected an address of this machine alone",
            ],
        ),
    ]);
}
