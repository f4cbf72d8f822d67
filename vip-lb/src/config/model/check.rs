//! Health checks: what is asked, and how results make a state.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use regex::bytes::{Regex, RegexBuilder};

use super::{Protocol, UnknownName};

named!(CheckName {
    Tcp = "tcp",
    Http = "http",
    Https = "https",
    Grpc = "grpc",
    Dns = "dns",
    Udp = "udp",
    Icmp = "icmp",
    Exec = "exec",
});
named!(Via { Vip = "vip", Direct = "direct" });
named!(StartState { Down = "down", Up = "up" });
named!(HttpMethod { Get = "GET", Head = "HEAD", Options = "OPTIONS", Post = "POST" });
named!(DnsRecord {
    A = "A",
    Aaaa = "AAAA",
    Caa = "CAA",
    Cname = "CNAME",
    Mx = "MX",
    Ns = "NS",
    Ptr = "PTR",
    Soa = "SOA",
    Srv = "SRV",
    Txt = "TXT",
});
named!(DnsCode {
    NoError = "NOERROR",
    FormErr = "FORMERR",
    ServFail = "SERVFAIL",
    NxDomain = "NXDOMAIN",
    NotImp = "NOTIMP",
    Refused = "REFUSED",
});

/// How a backend is found to be alive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: CheckKind,
    /// Where probes are addressed to.
    pub via: Via,
    /// Port that is asked; by default the backend's, or else the service's own. 0 where the kind asks none.
    pub port: u16,
    /// Time between two probes, default 2 s.
    pub interval: Duration,
    /// The same while results contradict the state; see [`HealthCheck::fast_interval`] for what holds where absent.
    pub fast_interval: Option<Duration>,
    /// How long one probe may take, default 1 s or `interval`, whichever is shorter; at most `interval`.
    pub timeout: Duration,
    /// Successes in a row that make it healthy, default 2.
    pub rise: u32,
    /// Failures in a row that make it unhealthy, default 3.
    pub fall: u32,
    /// Share of the interval by which probes are spread, 0 to 50 percent, default 10.
    pub jitter_percent: u8,
    /// What it is taken for before its first result.
    pub start: StartState,
    /// For how long it is held down when it has begun to flap, 0 for never, default 10 s. Doubled with every further flap.
    pub flap_hold: Duration,
    /// The longest that it is held down, default 5 min.
    pub flap_hold_max: Duration,
}

/// Where probes are addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// The VIP: they go to the backend as clients' packets do. The default.
    Vip,
    /// The backend's own address, by this host's routes.
    Direct,
}

/// Probes of a backend that is changing are at least this far apart, unless its interval is shorter still.
const MIN_FAST_INTERVAL: Duration = Duration::from_millis(100);

impl HealthCheck {
    /// A check by the defaults.
    #[must_use]
    pub fn new(kind: CheckKind, port: u16) -> Self {
        Self {
            kind,
            via: Via::Vip,
            port,
            interval: Duration::from_secs(2),
            fast_interval: None,
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            jitter_percent: 10,
            start: StartState::Down,
            flap_hold: Duration::from_secs(10),
            flap_hold_max: Duration::from_mins(5),
        }
    }

    /// Time between two probes while results contradict the state: as given, else a quarter of the interval, but at
    /// least 100 ms; never longer than the interval.
    #[must_use]
    pub fn fast_interval(&self) -> Duration {
        let usual = (self.interval / 4).max(MIN_FAST_INTERVAL);
        self.fast_interval.unwrap_or(usual).min(self.interval)
    }
}

/// What a backend is taken for before its first result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartState {
    /// Down until it has passed one probe. The default.
    Down,
    /// Up until it has failed `fall` probes.
    Up,
}

/// A kind of check by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CheckName {
    /// A connection is accepted, and what is sent is answered.
    Tcp,
    /// A request over HTTP/1.1 or HTTP/2 is answered.
    Http,
    /// The same over TLS.
    Https,
    /// A health request of gRPC.
    Grpc,
    /// A query of DNS.
    Dns,
    /// A datagram is answered, or at least not refused.
    Udp,
    /// An echo request is answered.
    Icmp,
    /// A command ends well.
    Exec,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// A TCP connection is accepted, and what is expected comes.
    Tcp(Dialogue),
    /// A request over HTTP is answered as expected.
    Http(HttpCheck),
    /// The service says `SERVING` (grpc.health.v1).
    Grpc(GrpcCheck),
    /// A query is answered as expected.
    Dns(DnsCheck),
    /// A datagram is answered as expected. Where nothing is expected, it is only not refused.
    Udp(Dialogue),
    /// An echo request is answered (RFC 792, RFC 4443 section 4).
    Icmp,
    /// A command ends with status 0. The program by its absolute path, then its arguments.
    Exec(Vec<String>),
}

impl CheckKind {
    /// The kind as the configuration names it.
    #[must_use]
    pub fn name(&self) -> CheckName {
        match self {
            Self::Tcp(_) => CheckName::Tcp,
            Self::Http(HttpCheck { tls: None, .. }) => CheckName::Http,
            Self::Http(HttpCheck { tls: Some(_), .. }) => CheckName::Https,
            Self::Grpc(_) => CheckName::Grpc,
            Self::Dns(_) => CheckName::Dns,
            Self::Udp(_) => CheckName::Udp,
            Self::Icmp => CheckName::Icmp,
            Self::Exec(_) => CheckName::Exec,
        }
    }
}

impl CheckName {
    /// Whether a port of the backend is asked.
    #[must_use]
    pub const fn asks_port(self) -> bool {
        !matches!(self, Self::Icmp | Self::Exec)
    }
}

/// What is sent and what is to come back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dialogue {
    /// Sent at the beginning; nothing, or an empty datagram, if it is empty.
    pub send: Vec<u8>,
    /// What the answer must contain.
    pub expect: Option<Vec<u8>>,
}

/// A request over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpCheck {
    /// Default `GET`.
    pub method: HttpMethod,
    /// Path and query, default `/`.
    pub path: String,
    /// Host header or `:authority`; the VIP by default, in brackets where it is IPv6.
    pub host: String,
    /// Further headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// HTTP/2 instead of HTTP/1.1: over TLS as ALPN agrees, else with prior knowledge (RFC 9113 section 3).
    pub http2: bool,
    /// Accepted status codes as inclusive ranges, default 200-399.
    pub expected_status: Vec<(u16, u16)>,
    /// What the body must contain.
    pub expected_body: Option<String>,
    /// What the body must match.
    pub expected_pattern: Option<Pattern>,
    /// TLS, or plain text.
    pub tls: Option<TlsCheck>,
}

impl HttpCheck {
    /// A GET of `path` in plain HTTP/1.1, by the defaults.
    #[must_use]
    pub fn get(path: &str, host: &str) -> Self {
        Self {
            method: HttpMethod::Get,
            path: path.to_owned(),
            host: host.to_owned(),
            headers: Vec::new(),
            http2: false,
            expected_status: vec![(200, 399)],
            expected_body: None,
            expected_pattern: None,
            tls: None,
        }
    }
}

/// A method of HTTP (RFC 9110 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpMethod {
    /// With a body in the answer.
    Get,
    /// Without.
    Head,
    /// What the server can do.
    Options,
    /// With an empty body in the request.
    Post,
}

/// A request of the gRPC health checking protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrpcCheck {
    /// Whose health is asked for; the whole server's if it is empty.
    pub service: String,
    /// The `:authority`; the VIP by default.
    pub host: String,
    /// TLS, or plain text.
    pub tls: Option<TlsCheck>,
}

/// How a server proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsCheck {
    /// What its certificate is verified by.
    pub trust: Trust,
    /// The name or address that the certificate is for. A name is sent as SNI (RFC 6066 section 3).
    pub server_name: String,
}

/// What certificates are verified by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// The authorities that this system trusts.
    System,
    /// The authorities in this PEM file, and no others.
    File(PathBuf),
    /// Nothing: any certificate will do.
    Anything,
}

/// A query of DNS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsCheck {
    /// The name that is asked for, without a dot at its end; empty is the root.
    pub name: String,
    /// The type of record, default `A`.
    pub record: DnsRecord,
    /// UDP or TCP; by default the service's protocol.
    pub transport: Protocol,
    /// The code the answer must have, default `NOERROR`.
    pub expected_code: DnsCode,
    /// An address that must be among the answers.
    pub expected_address: Option<IpAddr>,
}

/// Types of records (RFC 1035 section 3.2.2; AAAA: RFC 3596, SRV: RFC 2782, CAA: RFC 8659).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DnsRecord {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// Who may issue certificates.
    Caa,
    /// Another name.
    Cname,
    /// Mail servers.
    Mx,
    /// Name servers.
    Ns,
    /// A name of an address.
    Ptr,
    /// The begin of a zone.
    Soa,
    /// Servers of a service.
    Srv,
    /// Text.
    Txt,
}

impl DnsRecord {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ns => 2,
            Self::Cname => 5,
            Self::Soa => 6,
            Self::Ptr => 12,
            Self::Mx => 15,
            Self::Txt => 16,
            Self::Aaaa => 28,
            Self::Srv => 33,
            Self::Caa => 257,
        }
    }
}

/// Codes of answers (RFC 1035 section 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DnsCode {
    /// Answered.
    NoError,
    /// The query was not understood.
    FormErr,
    /// The server failed.
    ServFail,
    /// There is no such name.
    NxDomain,
    /// The server does not do this.
    NotImp,
    /// The server does not want to.
    Refused,
}

impl DnsCode {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::NoError => 0,
            Self::FormErr => 1,
            Self::ServFail => 2,
            Self::NxDomain => 3,
            Self::NotImp => 4,
            Self::Refused => 5,
        }
    }
}

/// A regular expression, of bytes and without Unicode classes: an answer need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(String);

impl Pattern {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Ready to be looked for.
    ///
    /// # Panics
    ///
    /// Never: what cannot be compiled is no pattern.
    #[must_use]
    pub fn compiled(&self) -> Regex {
        compiled(&self.0).expect("it was compiled before")
    }
}

impl FromStr for Pattern {
    type Err = regex::Error;

    fn from_str(text: &str) -> Result<Self, regex::Error> {
        compiled(text).map(|_| Self(text.to_owned()))
    }
}

fn compiled(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).unicode(false).size_limit(1 << 20).build()
}
