//! Checks of health.

use super::*;

#[test]
fn health_checks() {
    let health = |text| replaced("mode: l2", &format!("mode: l2\n        health: {text}"));
    for (text, expected) in [
        (
            "ping",
            vec![
                "17: vips[0].services[0].health: found \"ping\", expected none, one of tcp, http, https, grpc, udp, icmp, or a \
                 mapping that describes a check",
            ],
        ),
        (
            "{kind: ping}",
            vec![
                "24: vips[0].services[0].health.kind: found \"ping\", expected one of tcp, http, https, grpc, dns, udp, \
                 icmp, exec",
            ],
        ),
        (
            // The kind may have been meant to be http, so nothing is said of the path.
            "{kind: htp, path: /x}",
            vec![
                "24: vips[0].services[0].health.kind: found \"htp\", expected one of tcp, http, https, grpc, dns, udp, \
                 icmp, exec",
            ],
        ),
        (
            "{path: /x, expected_status: [200]}",
            vec![
                "24: vips[0].services[0].health.path: found a key of http and https checks, expected it only together \
                 with kind: http or https",
                "45: vips[0].services[0].health.expected_status: found a key of http and https checks, expected it \
                 only together with kind: http or https",
            ],
        ),
        (
            "{kind: http, path: x, host: a b, expected_status: [99, 200-600, 399-200, 2xx]}",
            vec![
                "36: vips[0].services[0].health.path: found \"x\", expected a path that begins with a slash, with its \
                 query if it has one, of visible ASCII characters, at most 1024",
                "45: vips[0].services[0].health.host: found \"a b\", expected a host name, with a port if it has one, of \
                 visible ASCII characters, at most 255",
                "68: vips[0].services[0].health.expected_status[0]: found 99, expected a status code between 100 and 599 \
                 or a range of them such as 200-399",
                "72: vips[0].services[0].health.expected_status[1]: found \"200-600\", expected a status code between \
                 100 and 599 or a range of them such as 200-399",
                "81: vips[0].services[0].health.expected_status[2]: found \"399-200\", expected a status code between \
                 100 and 599 or a range of them such as 200-399",
                "90: vips[0].services[0].health.expected_status[3]: found \"2xx\", expected a status code between 100 and \
                 599 or a range of them such as 200-399",
            ],
        ),
        (
            "{interval: 1s, timeout: 1500ms}",
            vec!["41: vips[0].services[0].health.timeout: found 1500ms, expected at most the interval of 1s"],
        ),
        (
            "{timeout: 3s}",
            vec!["27: vips[0].services[0].health.timeout: found 3s, expected at most the interval of 2s"],
        ),
        (
            // An interval that cannot be read says nothing of the timeout.
            "{interval: 1, timeout: 3s}",
            vec![
                "28: vips[0].services[0].health.interval: found 1, expected a duration from 10ms to 1h, such as 2s",
            ],
        ),
        (
            "{rise: 0, fall: 101, jitter: 51, port: 0}",
            vec![
                "24: vips[0].services[0].health.rise: found 0, expected a number between 1 and 100",
                "33: vips[0].services[0].health.fall: found 101, expected a number between 1 and 100",
                "46: vips[0].services[0].health.jitter: found 51, expected a number of percent between 0 and 50",
                "56: vips[0].services[0].health.port: found 0, expected a port between 1 and 65535",
            ],
        ),
    ] {
        let expected: Vec<String> = expected.into_iter().map(|line| format!("c.yaml:10:{line}")).collect();
        assert_eq!(errors(&health(text)).to_string(), expected.join("\n"), "\nthe errors of {text}");
    }
}

#[test]
fn a_fault_in_an_aliased_value_is_told_at_its_anchor_for_each_use() {
    let text = replaced("mode: l2", "mode: l2\n        health: &check {rise: 0}")
        .replace("10.0.0.2", "10.0.0.2, health: *check");
    let fault = "found 0, expected a number between 1 and 100";
    assert_eq!(
        errors(&text).to_string(),
        format!(
            "c.yaml:10:31: vips[0].services[0].health.rise: {fault}\n\
             c.yaml:10:31: vips[0].services[0].backends[1].health.rise: {fault}"
        )
    );
}

/// A backend that changes one of the two times is told, not the service.
#[test]
fn a_backends_times_are_compared_with_its_services() {
    let service = "mode: l2\n        health: {interval: 5s, timeout: 4s}";
    let text = replaced("mode: l2", service).replace("10.0.0.2}", "10.0.0.2, health: {interval: 3s}}");
    assert_eq!(
        errors(&text).to_string(),
        "c.yaml:13:61: vips[0].services[0].backends[1].health.interval: found 3s, expected at least the timeout of 4s"
    );
}

#[test]
fn keys_of_the_kinds_of_checks() {
    let health = |text| replaced("mode: l2", &format!("mode: l2\n        health: {text}"));
    let at = "vips[0].services[0].health";
    for (text, expected) in [
        (
            "{kind: https, tls: true, query: a}",
            &[
                "36: {at}.tls: found a key of grpc checks, expected it only together with kind: grpc",
                "49: {at}.query: found a key of dns checks, expected it only together with kind: dns",
            ][..],
        ),
        (
            "{kind: grpc, path: /x, ca_file: /ca.pem, server_name: a.example}",
            &[
                "36: {at}.path: found a key of http and https checks, expected it only together with kind: http or https",
                "49: {at}.ca_file: found a key of TLS, expected it only together with tls: true",
                "71: {at}.server_name: found a key of TLS, expected it only together with tls: true",
            ],
        ),
        (
            "{kind: https, verify: false, ca_file: /ca.pem}",
            &[
                "55: {at}.ca_file: found a file that nothing is verified by, expected it only together with verify: true",
            ],
        ),
        (
            "{kind: https, verify: maybe, ca_file: ca.pem, server_name: \"a:443\"}",
            &[
                "39: {at}.verify: found \"maybe\", expected true or false",
                "55: {at}.ca_file: found \"ca.pem\", expected an absolute path of at most 4095 bytes",
                "76: {at}.server_name: found \"a:443\", expected a host name without a port, or an IP address",
            ],
        ),
        (
            "{kind: http, method: get, headers: [X], http2: 2, expected_pattern: (}",
            &[
                "38: {at}.method: found \"get\", expected one of GET, HEAD, OPTIONS, POST",
                "53: {at}.headers[0]: found \"X\", expected a header such as \"X-Probe: 1\", none of Host, Connection, \
                 Content-Length, Transfer-Encoding, Upgrade, TE, Keep-Alive",
                "64: {at}.http2: found 2, expected true or false",
                "85: {at}.expected_pattern: found \"(\", expected a regular expression of at most 1024 bytes, in the \
                 syntax of docs.rs/regex, without Unicode classes",
            ],
        ),
        (
            "{kind: http, method: HEAD, expected_body: ok}",
            &[
                "59: {at}.expected_body: found a body that is expected, expected none, because the answer to HEAD has none",
            ],
        ),
        (
            "{kind: dns, record: X, transport: sctp, expected_code: 0}",
            &[
                "24: {at}.kind: found dns without a query, expected a key query beside it: the name to ask for",
                "37: {at}.record: found \"X\", expected one of A, AAAA, CAA, CNAME, MX, NS, PTR, SOA, SRV, TXT",
                "51: {at}.transport: found \"sctp\", expected one of tcp, udp",
                "72: {at}.expected_code: found 0, expected one of NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED",
            ],
        ),
        (
            "{kind: dns, query: a, expected_address: \"2001:db8::1\"}",
            &[
                "57: {at}.expected_address: found 2001:db8::1 with record: A, expected an IPv4 address with record: A or \
                 an IPv6 address with record: AAAA",
            ],
        ),
        (
            "{kind: udp, send: 7, expect: \"hex:0\"}",
            &[
                "35: {at}.send: found 7, expected text such as \"PING\\r\\n\", or bytes in hexadecimal such as \
                 \"hex:00 1f\", at most 1024 bytes",
                "46: {at}.expect: found \"hex:0\", expected text such as \"PING\\r\\n\", or bytes in hexadecimal such as \
                 \"hex:00 1f\", at most 1024 bytes",
            ],
        ),
        (
            "{kind: icmp, port: 7}",
            &["36: {at}.port: found a port, expected none, because icmp checks ask no port"],
        ),
        (
            "{kind: exec}",
            &["24: {at}.kind: found exec without a command, expected a key command beside it: what to run"],
        ),
        (
            "{kind: exec, command: [check, -v]}",
            &["40: {at}.command[0]: found \"check\", expected the absolute path of a program"],
        ),
        (
            "{kind: exec, command: []}",
            &[
                "39: {at}.command: found an empty list, expected a list of a program's absolute path and its arguments, \
                 such as [/usr/local/bin/check, -v]",
            ],
        ),
    ] {
        let expected: Vec<String> =
            expected.iter().map(|line| format!("c.yaml:10:{}", line.replace("{at}", at))).collect();
        assert_eq!(errors(&health(text)).to_string(), expected.join("\n"), "\nthe errors of {text}");
    }
}
