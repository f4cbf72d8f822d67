//! The check of a backend as it is written.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use super::super::{
    decode::{At, Field, Fields, List},
    issue::{Issues, Place},
    kinds::check as kinds,
    model::{CheckName, DnsCode, DnsRecord, HttpMethod, Pattern, Protocol, StartState, Via},
    sketch::{Drawn, Shape},
    tree::Node,
};

const STATUSES: List = List::not_empty("a list of at least one status code or range, such as [200-399]");
const HEADERS: List = List::any("a list of headers, such as [\"X-Probe: 1\"]");
pub(super) const COMMAND: List = List::not_empty(
    "a list of a program's absolute path and its arguments, such as [/usr/local/bin/check, -v]",
);
const HEALTH: &str = "none, one of tcp, http, https, grpc, udp, icmp, or a mapping that describes a check";

pub(in super::super) enum RawHealth {
    /// `health: none`
    None,
    Check(Box<RawCheck>),
}

#[derive(Default)]
pub(in super::super) struct RawCheck {
    pub(in super::super) kind: Field<CheckName>,
    pub(in super::super) via: Field<Via>,
    pub(in super::super) port: Field<u16>,
    pub(in super::super) interval: Field<Duration>,
    pub(in super::super) fast_interval: Field<Duration>,
    pub(in super::super) timeout: Field<Duration>,
    pub(in super::super) rise: Field<u32>,
    pub(in super::super) fall: Field<u32>,
    pub(in super::super) jitter: Field<u8>,
    pub(in super::super) start: Field<StartState>,
    pub(in super::super) flap_hold: Field<Duration>,
    pub(in super::super) flap_hold_max: Field<Duration>,
    pub(in super::super) send: Field<Vec<u8>>,
    pub(in super::super) expect: Field<Vec<u8>>,
    pub(in super::super) method: Field<HttpMethod>,
    pub(in super::super) path: Field<String>,
    pub(in super::super) host: Field<String>,
    pub(in super::super) headers: Field<Vec<At<(String, String)>>>,
    pub(in super::super) http2: Field<bool>,
    pub(in super::super) expected_status: Field<Vec<At<(u16, u16)>>>,
    pub(in super::super) expected_body: Field<String>,
    pub(in super::super) expected_pattern: Field<Pattern>,
    pub(in super::super) grpc_service: Field<String>,
    pub(in super::super) tls: Field<bool>,
    pub(in super::super) verify: Field<bool>,
    pub(in super::super) ca_file: Field<PathBuf>,
    pub(in super::super) server_name: Field<String>,
    pub(in super::super) query: Field<String>,
    pub(in super::super) record: Field<DnsRecord>,
    pub(in super::super) transport: Field<Protocol>,
    pub(in super::super) expected_code: Field<DnsCode>,
    pub(in super::super) expected_address: Field<IpAddr>,
    pub(in super::super) command: Field<Vec<At<String>>>,
}

impl RawCheck {
    /// The keys that not every kind has: where each is written, if it is, and the kinds that have it.
    pub(in super::super) fn keys_of_kinds(&self) -> Vec<(&Place, &'static [CheckName])> {
        const DIALOGUE: &[CheckName] = &[CheckName::Tcp, CheckName::Udp];
        const HTTP: &[CheckName] = &[CheckName::Http, CheckName::Https];
        const HOST: &[CheckName] = &[CheckName::Http, CheckName::Https, CheckName::Grpc];
        const GRPC: &[CheckName] = &[CheckName::Grpc];
        const TLS: &[CheckName] = &[CheckName::Https, CheckName::Grpc];
        const DNS: &[CheckName] = &[CheckName::Dns];
        const EXEC: &[CheckName] = &[CheckName::Exec];
        const SENDING: &[CheckName] = &[
            CheckName::Tcp,
            CheckName::Http,
            CheckName::Https,
            CheckName::Grpc,
            CheckName::Dns,
            CheckName::Udp,
            CheckName::Icmp,
        ];
        let places = [
            (place(&self.via), SENDING),
            (place(&self.send), DIALOGUE),
            (place(&self.expect), DIALOGUE),
            (place(&self.method), HTTP),
            (place(&self.path), HTTP),
            (place(&self.host), HOST),
            (place(&self.headers), HTTP),
            (place(&self.http2), HTTP),
            (place(&self.expected_status), HTTP),
            (place(&self.expected_body), HTTP),
            (place(&self.expected_pattern), HTTP),
            (place(&self.grpc_service), GRPC),
            (place(&self.tls), GRPC),
            (place(&self.verify), TLS),
            (place(&self.ca_file), TLS),
            (place(&self.server_name), TLS),
            (place(&self.query), DNS),
            (place(&self.record), DNS),
            (place(&self.transport), DNS),
            (place(&self.expected_code), DNS),
            (place(&self.expected_address), DNS),
            (place(&self.command), EXEC),
        ];
        places.into_iter().filter_map(|(place, kinds)| Some((place?, kinds))).collect()
    }
}

fn place<T>(field: &Field<T>) -> Option<&Place> {
    field.given().map(|at| &at.place)
}

/// `none`, a kind that needs no keys, or a mapping.
pub(super) fn health(node: &Node, place: Place, issues: &mut Issues) -> Option<RawHealth> {
    const SHORT: &[&str] = &["none", "tcp", "http", "https", "grpc", "udp", "icmp"];
    const KEYS: &[&str] = &[
        "kind",
        "via",
        "port",
        "interval",
        "fast_interval",
        "timeout",
        "rise",
        "fall",
        "jitter",
        "start",
        "flap_hold",
        "flap_hold_max",
        "send",
        "expect",
        "method",
        "path",
        "host",
        "headers",
        "http2",
        "expected_status",
        "expected_body",
        "expected_pattern",
        "grpc_service",
        "tls",
        "verify",
        "ca_file",
        "server_name",
        "query",
        "record",
        "transport",
        "expected_code",
        "expected_address",
        "command",
    ];
    if let Some(sketch) = issues.sketch() {
        sketch.note(Drawn::Scalar(HEALTH, Shape::Words(SHORT)));
    }
    match node.text() {
        Some("none") => return Some(RawHealth::None),
        Some(word) if SHORT.contains(&word) => {
            let kind =
                (kinds::CHECK.read)(node).map_or(Field::Invalid, |value| Field::Given(At { value, place }));
            return Some(RawHealth::Check(Box::new(RawCheck { kind, ..RawCheck::default() })));
        }
        _ => {}
    }
    let fields = Fields::open(node, place, KEYS, HEALTH, issues)?;
    let check = RawCheck {
        kind: fields.optional("kind", &kinds::CHECK, issues),
        via: fields.optional("via", &kinds::VIA, issues),
        port: fields.optional("port", &super::kinds::PORT, issues),
        interval: fields.optional("interval", &kinds::INTERVAL, issues),
        fast_interval: fields.optional("fast_interval", &kinds::INTERVAL, issues),
        timeout: fields.optional("timeout", &kinds::TIMEOUT, issues),
        rise: fields.optional("rise", &kinds::THRESHOLD, issues),
        fall: fields.optional("fall", &kinds::THRESHOLD, issues),
        jitter: fields.optional("jitter", &kinds::JITTER, issues),
        start: fields.optional("start", &kinds::START, issues),
        flap_hold: fields.optional("flap_hold", &kinds::HOLD, issues),
        flap_hold_max: fields.optional("flap_hold_max", &kinds::HOLD, issues),
        send: fields.optional("send", &kinds::BYTES, issues),
        expect: fields.optional("expect", &kinds::BYTES, issues),
        method: fields.optional("method", &kinds::METHOD, issues),
        path: fields.optional("path", &kinds::URL_PATH, issues),
        host: fields.optional("host", &kinds::HOST, issues),
        headers: fields.list("headers", &HEADERS, issues, |node, place, issues| {
            kinds::HEADER.decode(node, place, issues)
        }),
        http2: fields.optional("http2", &kinds::TRUTH, issues),
        expected_status: fields.list("expected_status", &STATUSES, issues, |node, place, issues| {
            kinds::STATUS.decode(node, place, issues)
        }),
        expected_body: fields.optional("expected_body", &kinds::BODY, issues),
        expected_pattern: fields.optional("expected_pattern", &kinds::PATTERN, issues),
        grpc_service: fields.optional("grpc_service", &kinds::GRPC_SERVICE, issues),
        tls: fields.optional("tls", &kinds::TRUTH, issues),
        verify: fields.optional("verify", &kinds::TRUTH, issues),
        ca_file: fields.optional("ca_file", &kinds::CA_FILE, issues),
        server_name: fields.optional("server_name", &kinds::SERVER_NAME, issues),
        query: fields.optional("query", &kinds::DNS_NAME, issues),
        record: fields.optional("record", &kinds::RECORD, issues),
        transport: fields.optional("transport", &kinds::TRANSPORT, issues),
        expected_code: fields.optional("expected_code", &kinds::CODE, issues),
        expected_address: fields.optional("expected_address", &kinds::EXPECTED_ADDRESS, issues),
        command: fields.list("command", &COMMAND, issues, |node, place, issues| {
            kinds::ARGUMENT.decode(node, place, issues)
        }),
    };
    Some(RawHealth::Check(Box::new(check)))
}
