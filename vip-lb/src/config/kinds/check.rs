//! The scalars of health checks.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use hyper::header::{self, HeaderName, HeaderValue};
use rustls::pki_types::ServerName;

use super::{DURATION, absolute, duration_in, named, visible};
use crate::config::{
    decode::Kind,
    model::{CheckName, DnsCode, DnsRecord, HttpMethod, Pattern, Protocol, StartState, Via},
    sketch::Shape,
    tree::Value,
};

pub(in crate::config) const CHECK: Kind<CheckName> =
    Kind::new("one of tcp, http, https, grpc, dns, udp, icmp, exec", Shape::Words(CheckName::NAMES), named);
pub(in crate::config) const VIA: Kind<Via> = Kind::new("one of vip, direct", Shape::Words(Via::NAMES), named);
pub(in crate::config) const THRESHOLD: Kind<u32> =
    Kind::new("a number between 1 and 100", Shape::Integer(1, 100), |node| node.integer(1, 100));
pub(in crate::config) const JITTER: Kind<u8> =
    Kind::new("a number of percent between 0 and 50", Shape::Integer(0, 50), |node| node.integer(0, 50));
pub(in crate::config) const INTERVAL: Kind<Duration> =
    Kind::new("a duration from 10ms to 1h, such as 2s", DURATION, |node| {
        duration_in(node, Duration::from_millis(10), Duration::from_hours(1))
    });
pub(in crate::config) const TIMEOUT: Kind<Duration> =
    Kind::new("a duration from 1ms to 1h, such as 500ms", DURATION, |node| {
        duration_in(node, Duration::from_millis(1), Duration::from_hours(1))
    });

pub(in crate::config) const START: Kind<StartState> =
    Kind::new("one of down, up", Shape::Words(StartState::NAMES), named);
pub(in crate::config) const HOLD: Kind<Duration> =
    Kind::new("a duration from 0s to 24h, such as 10s", DURATION, |node| {
        duration_in(node, Duration::ZERO, Duration::from_hours(24))
    });

/// One datagram of any network.
const MOST_BYTES: usize = 1024;

pub(in crate::config) const BYTES: Kind<Vec<u8>> = Kind::new(
    "text such as \"PING\\r\\n\", or bytes in hexadecimal such as \"hex:00 1f\", at most 1024 bytes",
    Shape::Text("^"),
    |node| {
        let text = node.text()?;
        let bytes = match text.strip_prefix("hex:") {
            Some(digits) => from_hex(digits)?,
            None => text.as_bytes().to_owned(),
        };
        (1..=MOST_BYTES).contains(&bytes.len()).then_some(bytes)
    },
);

pub(in crate::config) const METHOD: Kind<HttpMethod> =
    Kind::new("one of GET, HEAD, OPTIONS, POST", Shape::Words(HttpMethod::NAMES), named);
pub(in crate::config) const URL_PATH: Kind<String> = Kind::new(
    "a path that begins with a slash, with its query if it has one, of visible ASCII characters, at most 1024",
    Shape::Text("^/[!-~]*$"),
    |node| visible(node, 1024).filter(|path| path.starts_with('/') && !path.contains('#')),
);
pub(in crate::config) const HOST: Kind<String> = Kind::new(
    "a host name, with a port if it has one, of visible ASCII characters, at most 255",
    Shape::Text("^[^/@?#]+$"),
    |node| visible(node, 255).filter(|host| !host.contains(['/', '@', '?', '#'])),
);
/// Headers that say how the message is sent are the probe's own.
pub(in crate::config) const HEADER: Kind<(String, String)> = Kind::new(
    "a header such as \"X-Probe: 1\", none of Host, Connection, Content-Length, Transfer-Encoding, Upgrade, TE, Keep-Alive",
    Shape::Text("^[!-9;-~]+:"),
    |node| {
        let (name, value) = node.text()?.split_once(':')?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let value = value.trim();
        let is_value = HeaderValue::from_str(value).is_ok();
        let own = [
            header::HOST,
            header::CONNECTION,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::UPGRADE,
            header::TE,
            HeaderName::from_static("keep-alive"),
        ];
        (is_value && value.len() <= 1024 && !own.contains(&name))
            .then(|| (name.as_str().to_owned(), value.to_owned()))
    },
);
pub(in crate::config) const STATUS: Kind<(u16, u16)> = Kind::new(
    "a status code between 100 and 599 or a range of them such as 200-399",
    Shape::IntegerOrText((100, 599), "^[1-5][0-9]{2}-[1-5][0-9]{2}$"),
    |node| match &node.value {
        Value::Text(text) => {
            let (first, last) = text.split_once('-')?;
            let (first, last) = (status(first)?, status(last)?);
            (first <= last).then_some((first, last))
        }
        _ => node.integer(100, 599).map(|code| (code, code)),
    },
);
pub(in crate::config) const BODY: Kind<String> =
    Kind::new("text of at most 1024 bytes", Shape::Text("^"), |node| {
        node.text().filter(|text| (1..=1024).contains(&text.len())).map(str::to_owned)
    });
pub(in crate::config) const PATTERN: Kind<Pattern> = Kind::new(
    "a regular expression of at most 1024 bytes, in the syntax of docs.rs/regex, without Unicode classes",
    Shape::Text("^"),
    |node| node.text().filter(|text| (1..=1024).contains(&text.len()))?.parse().ok(),
);

pub(in crate::config) const TRUTH: Kind<bool> =
    Kind::new("true or false", Shape::Truth, |node| match node.value {
        Value::Bool(truth) => Some(truth),
        _ => None,
    });
pub(in crate::config) const CA_FILE: Kind<PathBuf> =
    Kind::new("an absolute path of at most 4095 bytes", Shape::Text("^/"), |node| absolute(node, 4095));
pub(in crate::config) const SERVER_NAME: Kind<String> =
    Kind::new("a host name without a port, or an IP address", Shape::Text("^[0-9A-Za-z._:-]+$"), |node| {
        visible(node, 253).filter(|name| is_server_name(name))
    });
pub(in crate::config) const GRPC_SERVICE: Kind<String> = Kind::new(
    "the name of a gRPC service, of visible ASCII characters, at most 255",
    Shape::Text("^[!-~]+$"),
    |node| visible(node, 255),
);

pub(in crate::config) const DNS_NAME: Kind<String> = Kind::new(
    "a domain name of at most 253 ASCII characters, its parts of 1 to 63; \".\" for the root",
    Shape::Text("^[!-~]+$"),
    |node| {
        let name = visible(node, 254)?;
        let name = name.strip_suffix('.').unwrap_or(&name);
        let parts = name.split('.').all(|part| (1..=63).contains(&part.len()));
        (name.len() <= 253 && (name.is_empty() || parts) && !name.contains('\\')).then(|| name.to_owned())
    },
);
pub(in crate::config) const RECORD: Kind<DnsRecord> = Kind::new(
    "one of A, AAAA, CAA, CNAME, MX, NS, PTR, SOA, SRV, TXT",
    Shape::Words(DnsRecord::NAMES),
    named,
);
pub(in crate::config) const TRANSPORT: Kind<Protocol> =
    Kind::new("one of tcp, udp", Shape::Words(Protocol::NAMES), named);
pub(in crate::config) const CODE: Kind<DnsCode> = Kind::new(
    "one of NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED",
    Shape::Words(DnsCode::NAMES),
    named,
);
pub(in crate::config) const EXPECTED_ADDRESS: Kind<IpAddr> =
    Kind::new("an IPv4 or IPv6 address", Shape::Text("^[0-9A-Fa-f.:]+$"), |node| node.text()?.parse().ok());

/// The first must be an absolute path, which validation sees to.
pub(in crate::config) const ARGUMENT: Kind<String> =
    Kind::new("text of at most 4096 bytes", Shape::Text("^"), |node| {
        node.text().filter(|text| text.len() <= 4096 && !text.contains('\0')).map(str::to_owned)
    });

/// Whether TLS can verify that a certificate is for it.
pub(in crate::config) fn is_server_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| {
        let &[high, low] = pair else { return None };
        let value = |digit: u8| char::from(digit).to_digit(16);
        u8::try_from(value(high)? * 16 + value(low)?).ok()
    };
    digits.chunks(2).map(pair).collect()
}

fn status(text: &str) -> Option<u16> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let code = text.parse().ok().filter(|_| digits)?;
    (100..=599).contains(&code).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree;

    fn read<T>(kind: &Kind<T>, text: &str) -> Option<T> {
        (kind.read)(&tree::read(text).unwrap())
    }

    #[test]
    fn status_codes_are_single_or_ranges() {
        assert_eq!(read(&STATUS, "200"), Some((200, 200)));
        assert_eq!(read(&STATUS, "200-399"), Some((200, 399)));
        for text in ["99", "600", "399-200", "200-", "-399", "200-600", "2xx", "+20-300", "200-300-400"] {
            assert_eq!(read(&STATUS, text), None, "{text}");
        }
    }

    #[test]
    fn bytes_are_text_or_hexadecimal() {
        let read = |text: &str| read(&BYTES, text);
        assert_eq!(read(r#""PING\r\n""#).as_deref(), Some(&b"PING\r\n"[..]));
        assert_eq!(read(r#""hex:00 fF1f""#).as_deref(), Some(&[0, 0xff, 0x1f][..]));
        assert_eq!(read(r#""hex:4""#), None, "half a byte");
        assert_eq!(read(r#""hex:zz""#), None);
        assert_eq!(read(r#""hex:""#), None, "nothing");
        assert_eq!(read(r#""hex:é0""#), None);
        assert_eq!(read(r#""""#), None);
        assert_eq!(read("7"), None, "a number is not text");
        assert_eq!(read(&"x".repeat(1024)).map(|bytes| bytes.len()), Some(1024));
        assert_eq!(read(&"x".repeat(1025)), None);
    }

    #[test]
    fn headers_are_names_and_values() {
        let read = |text: &str| read(&HEADER, text);
        let header = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(read("\"X-Probe: 1\""), header("x-probe", "1"));
        assert_eq!(read("\"Authorization:Basic a:b\""), header("authorization", "Basic a:b"));
        assert_eq!(read("\"X-Empty:\""), header("x-empty", ""));
        for text in ["\"X Probe: 1\"", "\": 1\"", "\"X\"", "\"Host: a\"", "\"TE: trailers\"", "\"X: a\\nb\""]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn names_of_domains_and_servers() {
        let name = |text: &str| read(&DNS_NAME, text);
        assert_eq!(name("www.example.net.").as_deref(), Some("www.example.net"));
        assert_eq!(name("\".\"").as_deref(), Some(""));
        assert_eq!(name("_sip._udp.example.net").as_deref(), Some("_sip._udp.example.net"));
        assert_eq!(name("a..b"), None);
        assert_eq!(name(&"x".repeat(64)), None);
        assert_eq!(name(&format!("{}x", "x.".repeat(126))).map(|name| name.len()), Some(253));
        assert_eq!(name(&format!("{}x", "x.".repeat(127))), None);
        for (text, good) in [
            ("www.example.net", true),
            ("10.0.0.1", true),
            ("\"2001:db8::1\"", true),
            ("a:80", false),
            ("\"[::1]\"", false),
        ] {
            assert_eq!(read(&SERVER_NAME, text).is_some(), good, "{text}");
        }
    }

    #[test]
    fn patterns_are_regular_expressions_of_bytes() {
        let pattern = read(&PATTERN, r#""status.: *.(ok|ready)""#).unwrap();
        assert!(pattern.compiled().is_match(b"{\"status\": \"ready\", \xff}"));
        assert!(!pattern.compiled().is_match(b"{\"status\": \"no\"}"));
        assert_eq!(read(&PATTERN, "(ok"), None);
        assert_eq!(pattern, r#"status.: *.(ok|ready)"#.parse().unwrap());
    }

    #[test]
    fn truth_is_not_a_word() {
        assert_eq!(read(&TRUTH, "true"), Some(true));
        assert_eq!(read(&TRUTH, "false"), Some(false));
        for text in ["\"true\"", "1", "~"] {
            assert_eq!(read(&TRUTH, text), None, "{text}");
        }
    }
}
