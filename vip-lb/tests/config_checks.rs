//! What the kinds of health checks mean, and what backends inherit of them.

use std::path::Path;

use vip_lb::config::{
    self,
    model::{
        CheckKind, Dialogue, DnsCheck, DnsCode, DnsRecord, GrpcCheck, HealthCheck, HttpCheck, HttpMethod,
        Protocol, TlsCheck, Trust,
    },
};

/// The checks of the backends of a service that has these keys.
fn checks(keys: &str) -> Vec<HealthCheck> {
    let text = format!(
        "node: {{seed: a long enough seed, interfaces: [eth0]}}
vips:
  - address: 198.51.100.10
    services:
      - {{name: web, mode: l2, {keys}}}
"
    );
    let loaded = config::parse(&text, Path::new("c.yaml")).unwrap_or_else(|errors| panic!("{errors}"));
    let service = &loaded.config.vips[0].services[0];
    service.backends.iter().map(|backend| backend.health.clone().expect("a check")).collect()
}

/// The check of a service on port 443.
fn check(health: &str) -> HealthCheck {
    checks(&format!("port: 443, health: {health}, backends: [{{name: a, address: 10.0.0.1}}]")).remove(0)
}

fn http(health: &str) -> HttpCheck {
    match check(health).kind {
        CheckKind::Http(http) => http,
        other => panic!("{other:?}"),
    }
}

#[test]
fn https_is_http_with_certificates_verified() {
    let tls = |trust, server_name: &str| TlsCheck { trust, server_name: server_name.to_owned() };
    let usual = HttpCheck::get("/", "198.51.100.10");
    let expected = HttpCheck { tls: Some(tls(Trust::System, "198.51.100.10")), ..usual };
    assert_eq!(http("https"), expected);
    for (keys, expected) in [
        ("host: www.example.net", tls(Trust::System, "www.example.net")),
        ("host: \"www.example.net:8443\"", tls(Trust::System, "www.example.net")),
        ("host: \"[2001:db8::1]:8443\"", tls(Trust::System, "2001:db8::1")),
        ("host: www.example.net, server_name: b.example", tls(Trust::System, "b.example")),
        ("ca_file: /etc/ca.pem", tls(Trust::File("/etc/ca.pem".into()), "198.51.100.10")),
        ("verify: false", tls(Trust::Anything, "198.51.100.10")),
    ] {
        assert_eq!(http(&format!("{{kind: https, {keys}}}")).tls, Some(expected), "{keys}");
    }
}

#[test]
fn a_request_can_be_said_in_detail() {
    let check = http(
        "{kind: http, method: POST, http2: true, headers: [\"X-Probe: 1\", \"Authorization: Basic YTpi\"], \
         expected_body: ready, expected_pattern: \"up|ready\"}",
    );
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!((check.method, check.http2), (HttpMethod::Post, true));
    assert_eq!(check.headers, [header("x-probe", "1"), header("authorization", "Basic YTpi")]);
    assert_eq!(check.expected_body.as_deref(), Some("ready"));
    assert_eq!(
        check.expected_pattern.map(|pattern| pattern.as_str().to_owned()).as_deref(),
        Some("up|ready")
    );
}

#[test]
fn grpc_has_tls_if_it_says_so() {
    let grpc = |service: &str, tls| {
        CheckKind::Grpc(GrpcCheck { service: service.to_owned(), host: "198.51.100.10".to_owned(), tls })
    };
    assert_eq!(check("grpc").kind, grpc("", None));
    let tls = TlsCheck { trust: Trust::Anything, server_name: "198.51.100.10".to_owned() };
    assert_eq!(
        check("{kind: grpc, grpc_service: a.B, tls: true, verify: false}").kind,
        grpc("a.B", Some(tls))
    );
}

#[test]
fn dns_goes_the_way_of_its_service() {
    let dns = |transport| DnsCheck {
        name: "www.example.net".to_owned(),
        record: DnsRecord::A,
        transport,
        expected_code: DnsCode::NoError,
        expected_address: None,
    };
    let of_service = |protocol: &str, keys: &str| {
        let backends = "backends: [{name: a, address: 10.0.0.1}]";
        let health = format!("health: {{kind: dns, query: www.example.net{keys}}}");
        let check = checks(&format!("port: 53, protocol: {protocol}, {health}, {backends}")).remove(0);
        assert_eq!(check.port, 53);
        check.kind
    };
    assert_eq!(of_service("udp", ""), CheckKind::Dns(dns(Protocol::Udp)));
    assert_eq!(of_service("tcp", ""), CheckKind::Dns(dns(Protocol::Tcp)));
    let expected = DnsCheck {
        record: DnsRecord::Aaaa,
        expected_address: Some("2001:db8::1".parse().unwrap()),
        ..dns(Protocol::Tcp)
    };
    assert_eq!(
        of_service("udp", ", transport: tcp, record: AAAA, expected_address: \"2001:db8::1\""),
        CheckKind::Dns(expected)
    );
    let refused = DnsCheck { name: String::new(), expected_code: DnsCode::Refused, ..dns(Protocol::Udp) };
    let CheckKind::Dns(root) =
        check("{kind: dns, query: \".\", transport: udp, expected_code: REFUSED}").kind
    else {
        panic!("a dns check")
    };
    assert_eq!(root, refused);
}

#[test]
fn dialogues_are_text_or_bytes() {
    let said =
        |kind: &str| check(&format!("{{kind: {kind}, send: \"PING\\r\\n\", expect: \"hex:2b 50\"}}")).kind;
    let dialogue = Dialogue { send: b"PING\r\n".to_vec(), expect: Some(b"+P".to_vec()) };
    assert_eq!(said("tcp"), CheckKind::Tcp(dialogue.clone()));
    assert_eq!(said("udp"), CheckKind::Udp(dialogue));
}

#[test]
fn what_asks_no_port_needs_none() {
    let backends = "backends: [{name: a, address: 10.0.0.1}]";
    for port in ["0", "8000-8999"] {
        let icmp = checks(&format!("port: {port}, health: icmp, {backends}")).remove(0);
        assert_eq!((icmp.kind, icmp.port), (CheckKind::Icmp, 0));
        let exec =
            checks(&format!("port: {port}, health: {{kind: exec, command: [/bin/true, -x]}}, {backends}"))
                .remove(0);
        assert_eq!(exec.kind, CheckKind::Exec(vec!["/bin/true".into(), "-x".into()]));
        assert_eq!(exec.port, 0);
    }
    assert_eq!(check("icmp").port, 0, "so that all services of a host share it");
    assert_eq!(check("{kind: exec, command: [/bin/true]}").port, 443, "which the command is told");
}

#[test]
fn a_backend_has_the_keys_of_its_kind_from_its_service() {
    let checks = checks(
        "port: 443, health: {kind: https, host: www.example.net, verify: false, path: /a}, backends: [
           {name: a, address: 10.0.0.1},
           {name: b, address: 10.0.0.2, health: {path: /b}},
           {name: c, address: 10.0.0.3, health: http},
           {name: d, address: 10.0.0.4, health: icmp}]",
    );
    let kinds: Vec<&CheckKind> = checks.iter().map(|check| &check.kind).collect();
    let tls = TlsCheck { trust: Trust::Anything, server_name: "www.example.net".to_owned() };
    let https = |path: &str| {
        CheckKind::Http(HttpCheck { tls: Some(tls.clone()), ..HttpCheck::get(path, "www.example.net") })
    };
    let plain = CheckKind::Http(HttpCheck::get("/a", "www.example.net"));
    assert_eq!(kinds, [&https("/a"), &https("/b"), &plain, &CheckKind::Icmp]);
}
