//! What the kinds of checks ask, and the keys that only some of them have.

use std::net::IpAddr;

use super::{Asked, Layers};
use crate::config::{
    decode::At,
    issue::Issues,
    kinds::check::is_server_name,
    model::{
        CheckKind, CheckName, Dialogue, DnsCheck, DnsCode, DnsRecord, GrpcCheck, HttpCheck, HttpMethod,
        Protocol, TlsCheck, Trust,
    },
};

impl Layers<'_> {
    /// The kind, after noting the keys of other ones; `None` if it is said wrongly.
    pub(super) fn kind(&self, issues: &mut Issues) -> Option<CheckName> {
        let kind = self.top(|check| &check.kind);
        if kind.is_present() && kind.given().is_none() {
            return None;
        }
        let kind = kind.or(CheckName::Tcp);
        for (place, kinds) in self.own.keys_of_kinds() {
            if !kinds.contains(&kind) {
                let found = format!("a key of {} checks", list(kinds, "and"));
                issues.error(place, found, format!("it only together with kind: {}", list(kinds, "or")));
            }
        }
        Some(kind)
    }

    /// What a check of this kind asks. `None` if something is missing or wrong.
    pub(super) fn asks(&self, kind: CheckName, asked: Asked, issues: &mut Issues) -> Option<CheckKind> {
        Some(match kind {
            CheckName::Tcp => CheckKind::Tcp(self.dialogue()),
            CheckName::Udp => CheckKind::Udp(self.dialogue()),
            CheckName::Icmp => CheckKind::Icmp,
            CheckName::Http => {
                self.no_body(issues);
                CheckKind::Http(self.http(asked.vip?, None))
            }
            CheckName::Https => {
                self.no_body(issues);
                let tls = self.tls(asked.vip?, issues);
                CheckKind::Http(self.http(asked.vip?, Some(tls)))
            }
            CheckName::Grpc => {
                let vip = asked.vip?;
                let tls = self.top(|check| &check.tls).or(false);
                if !tls {
                    self.no_tls(issues);
                }
                CheckKind::Grpc(GrpcCheck {
                    service: self.top(|check| &check.grpc_service).value().cloned().unwrap_or_default(),
                    host: self.host(vip),
                    tls: tls.then(|| self.tls(vip, issues)),
                })
            }
            CheckName::Dns => CheckKind::Dns(self.dns(asked.protocol, issues)?),
            CheckName::Exec => CheckKind::Exec(self.command(issues)?),
        })
    }

    fn dialogue(&self) -> Dialogue {
        Dialogue {
            send: self.top(|check| &check.send).value().cloned().unwrap_or_default(),
            expect: self.top(|check| &check.expect).value().cloned(),
        }
    }

    fn http(&self, vip: IpAddr, tls: Option<TlsCheck>) -> HttpCheck {
        let usual = HttpCheck::get("/", "");
        let headers = self.top(|check| &check.headers).value();
        let statuses = self.top(|check| &check.expected_status).value();
        HttpCheck {
            method: self.top(|check| &check.method).or(usual.method),
            path: self.top(|check| &check.path).value().cloned().unwrap_or(usual.path),
            host: self.host(vip),
            headers: headers.map_or(usual.headers, |headers| values(headers)),
            http2: self.top(|check| &check.http2).or(usual.http2),
            expected_status: statuses.map_or(usual.expected_status, |ranges| values(ranges)),
            expected_body: self.top(|check| &check.expected_body).value().cloned(),
            expected_pattern: self.top(|check| &check.expected_pattern).value().cloned(),
            tls,
        }
    }

    /// What is expected of a body where there is none (RFC 9110 section 9.3.2).
    fn no_body(&self, issues: &mut Issues) {
        if self.top(|check| &check.method).or(HttpMethod::Get) != HttpMethod::Head {
            return;
        }
        let own = self.own;
        let places =
            [own.expected_body.given().map(|at| &at.place), own.expected_pattern.given().map(|at| &at.place)];
        for place in places.into_iter().flatten() {
            issues.error(place, "a body that is expected", "none, because the answer to HEAD has none");
        }
    }

    fn host(&self, vip: IpAddr) -> String {
        self.top(|check| &check.host).value().cloned().unwrap_or_else(|| authority(vip))
    }

    /// What is verified: the name in `server_name`, else in `host`, else the VIP.
    fn tls(&self, vip: IpAddr, issues: &mut Issues) -> TlsCheck {
        let verify = self.top(|check| &check.verify).or(true);
        let file = self.top(|check| &check.ca_file).value();
        let trust = match file {
            _ if !verify => Trust::Anything,
            Some(file) => Trust::File(file.clone()),
            None => Trust::System,
        };
        if !verify && let Some(own) = self.own.ca_file.given() {
            issues.error(
                &own.place,
                "a file that nothing is verified by",
                "it only together with verify: true",
            );
        }
        let host = || {
            let host = self.top(|check| &check.host).value()?;
            let name = host_name(host);
            is_server_name(name).then(|| name.to_owned())
        };
        let named = self.top(|check| &check.server_name).value().cloned();
        TlsCheck { trust, server_name: named.or_else(host).unwrap_or_else(|| vip.to_string()) }
    }

    /// Keys of TLS in a check without it.
    fn no_tls(&self, issues: &mut Issues) {
        let own = self.own;
        let places = [
            own.verify.given().map(|at| &at.place),
            own.ca_file.given().map(|at| &at.place),
            own.server_name.given().map(|at| &at.place),
        ];
        for place in places.into_iter().flatten() {
            issues.error(place, "a key of TLS", "it only together with tls: true");
        }
    }

    fn dns(&self, protocol: Protocol, issues: &mut Issues) -> Option<DnsCheck> {
        let record = self.top(|check| &check.record).or(DnsRecord::A);
        let query = self.top(|check| &check.query);
        if !query.is_present()
            && let Some(kind) = self.own.kind.given()
        {
            issues.error(&kind.place, "dns without a query", "a key query beside it: the name to ask for");
        }
        let expected = self.top(|check| &check.expected_address);
        if let Some(own) = self.own.expected_address.given() {
            let of_record = match record {
                DnsRecord::A => own.value.is_ipv4(),
                DnsRecord::Aaaa => own.value.is_ipv6(),
                _ => false,
            };
            if !of_record {
                let expected = "an IPv4 address with record: A or an IPv6 address with record: AAAA";
                issues.error(&own.place, format!("{} with record: {record}", own.value), expected);
            }
        }
        Some(DnsCheck {
            name: query.value()?.clone(),
            record,
            transport: self.top(|check| &check.transport).or(protocol),
            expected_code: self.top(|check| &check.expected_code).or(DnsCode::NoError),
            expected_address: expected.value().copied(),
        })
    }

    fn command(&self, issues: &mut Issues) -> Option<Vec<String>> {
        let command = self.top(|check| &check.command);
        if !command.is_present()
            && let Some(kind) = self.own.kind.given()
        {
            issues.error(&kind.place, "exec without a command", "a key command beside it: what to run");
        }
        let words = command.value()?;
        if let Some(program) = words.first()
            && !program.value.starts_with('/')
        {
            if self.own.command.is_present() {
                issues.error(
                    &program.place,
                    format!("{:?}", program.value),
                    "the absolute path of a program",
                );
            }
            return None;
        }
        Some(values(words))
    }
}

fn values<T: Clone>(list: &[At<T>]) -> Vec<T> {
    list.iter().map(|at| at.value.clone()).collect()
}

/// An address as a Host header writes it (RFC 3986, 3.2.2).
fn authority(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// What a host header names, without the port and the brackets of an IPv6 address.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        // A bare IPv6 address has several colons.
        None if host.matches(':').count() > 1 => host,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

fn list(kinds: &[CheckName], last: &str) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    match names.split_last() {
        Some((only, [])) => (*only).to_owned(),
        Some((end, others)) => format!("{} {last} {end}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_names_in_them() {
        for (host, name) in [
            ("www.example.net", "www.example.net"),
            ("www.example.net:8443", "www.example.net"),
            ("[2001:db8::1]:8443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("10.0.0.1:443", "10.0.0.1"),
        ] {
            assert_eq!(host_name(host), name);
        }
    }

    #[test]
    fn kinds_are_listed_in_words() {
        use CheckName::{Grpc, Http, Https};
        assert_eq!(list(&[Http], "or"), "http");
        assert_eq!(list(&[Http, Https, Grpc], "or"), "http, https or grpc");
    }
}
