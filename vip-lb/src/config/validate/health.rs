//! Health checks: a backend's keys over the service's over the defaults.

use std::{net::IpAddr, num::NonZeroU16, time::Duration};

use super::super::{
    decode::{At, Field},
    issue::{Issues, Place},
    kinds::shown_duration,
    model::{CheckKind, HealthCheck, Ports, Protocol},
    raw::{RawCheck, RawHealth, RawKind, RawService},
};

const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(1);
const RISE: u32 = 2;
const FALL: u32 = 3;
const JITTER: u8 = 10;
const STATUS: (u16, u16) = (200, 399);

/// What is asked where the file does not say: the service. `None` is what the file says wrongly.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) vip: Option<IpAddr>,
    pub(super) ports: Option<Ports>,
    pub(super) protocol: Protocol,
}

/// The check of a service, which its backends have unless they say otherwise.
pub(super) struct Level<'a> {
    asked: Asked,
    raw: Option<&'a RawCheck>,
    check: Option<HealthCheck>,
}

impl<'a> Level<'a> {
    /// Validates what the service says. What only its backends need is demanded only if some of them say
    /// nothing themselves.
    pub(super) fn of_service(raw: &'a RawService, asked: Asked, issues: &mut Issues) -> Self {
        let backends = raw.backends.value().map_or(&[][..], Vec::as_slice);
        let inherited = backends.iter().any(|backend| !backend.overrides.health.is_present());
        let level = |raw, check| Self { asked, raw, check };
        match &raw.defaults.health {
            Field::Invalid => level(None, None),
            Field::Absent => {
                let check = inherited.then(|| default_check(&raw.place, asked, issues)).flatten();
                level(None, check)
            }
            Field::Given(At { value: RawHealth::None, .. }) => level(None, None),
            Field::Given(At { value: RawHealth::Check(own), place }) => {
                let layers = Layers { own, below: None };
                let check = layers.check(asked, inherited.then_some(place), issues);
                level(Some(own), check)
            }
        }
    }

    /// The check of a backend that says `raw`. It is asked on its own `port` if it has one, unless the check names another.
    pub(super) fn of_backend(
        &self,
        raw: &Field<RawHealth>,
        port: Option<NonZeroU16>,
        issues: &mut Issues,
    ) -> Option<HealthCheck> {
        let own_port = port.map(|port| Ports::One(port.get()));
        match raw {
            Field::Absent => {
                let named = self.raw.is_some_and(|check| check.port.is_present());
                let check = self.check.clone()?;
                let port = port.map_or(check.port, NonZeroU16::get);
                Some(if named { check } else { HealthCheck { port, ..check } })
            }
            Field::Invalid | Field::Given(At { value: RawHealth::None, .. }) => None,
            Field::Given(At { value: RawHealth::Check(own), place }) => {
                let asked = Asked { ports: own_port.or(self.asked.ports), ..self.asked };
                Layers { own, below: self.raw }.check(asked, Some(place), issues)
            }
        }
    }
}

/// A service that says nothing of health: asked by TCP where that is a question at all.
fn default_check(service: &Place, asked: Asked, issues: &mut Issues) -> Option<HealthCheck> {
    let expected = match (asked.protocol, asked.ports.and_then(many)) {
        (Protocol::Udp, _) => {
            "none or a check, which is made over TCP: there is no check of a UDP port".to_owned()
        }
        (Protocol::Tcp, Some(many)) => format!("none or a mapping with a port, {many}"),
        (Protocol::Tcp, None) => {
            let own = RawCheck::default();
            return Layers { own: &own, below: None }.check(asked, None, issues);
        }
    };
    issues.error(&service.missing("health"), "nothing", expected);
    None
}

/// Why a service with these ports does not say which one to ask.
fn many(ports: Ports) -> Option<&'static str> {
    match ports {
        Ports::Every => Some("because the service has every port"),
        Ports::Range(..) => Some("because the service has a range of ports"),
        Ports::One(_) => None,
    }
}

/// One level's keys over those of the level below.
struct Layers<'a> {
    own: &'a RawCheck,
    below: Option<&'a RawCheck>,
}

impl<'a> Layers<'a> {
    /// The resulting check, after noting what is wrong with this level's own keys. `needed` is where a
    /// missing port is missed.
    fn check(&self, asked: Asked, needed: Option<&Place>, issues: &mut Issues) -> Option<HealthCheck> {
        self.http_keys(issues);
        self.times(issues);
        let own_port = asked.ports.and_then(Ports::one);
        let port = self.top(|check| &check.port);
        if let Some(place) = needed
            && !port.is_present()
            && let Some(many) = asked.ports.and_then(many)
        {
            let expected = format!("a port between 1 and 65535, {many}");
            issues.error(&place.missing("port"), "nothing", expected);
        }
        let interval = self.interval();
        Some(HealthCheck {
            kind: self.kind(asked.vip?),
            port: port.value().copied().or(own_port)?,
            interval,
            timeout: self.top(|check| &check.timeout).or(TIMEOUT.min(interval)),
            rise: self.top(|check| &check.rise).or(RISE),
            fall: self.top(|check| &check.fall).or(FALL),
            jitter_percent: self.top(|check| &check.jitter).or(JITTER),
        })
    }

    /// Keys of HTTP in a check that is none.
    fn http_keys(&self, issues: &mut Issues) {
        let kind = self.top(|check| &check.kind);
        let known = kind.given().is_some() || !kind.is_present();
        if !known || kind.or(RawKind::Tcp) == RawKind::Http {
            return;
        }
        let own = self.own;
        let places = [
            own.path.given().map(|at| &at.place),
            own.host.given().map(|at| &at.place),
            own.expected_status.given().map(|at| &at.place),
        ];
        for place in places.into_iter().flatten() {
            issues.error(place, "a key of http checks", "it only together with kind: http");
        }
    }

    /// A probe must have ended before the next one begins. Said at the level that gives one of the two.
    fn times(&self, issues: &mut Issues) {
        let timeout = self.top(|check| &check.timeout);
        let invalid = |field: &Field<Duration>| field.is_present() && field.given().is_none();
        let Some(given) = timeout.given() else { return };
        if invalid(self.top(|check| &check.interval)) || given.value <= self.interval() {
            return;
        }
        let interval = shown_duration(self.interval());
        let timeout = shown_duration(given.value);
        if self.own.timeout.is_present() {
            issues.error(&given.place, timeout, format!("at most the interval of {interval}"));
        } else if let Some(own) = self.own.interval.given() {
            issues.error(&own.place, interval, format!("at least the timeout of {timeout}"));
        }
    }

    fn interval(&self) -> Duration {
        self.top(|check| &check.interval).or(INTERVAL)
    }

    fn kind(&self, vip: IpAddr) -> CheckKind {
        match self.top(|check| &check.kind).or(RawKind::Tcp) {
            RawKind::Tcp => CheckKind::Tcp,
            RawKind::Http => CheckKind::Http {
                path: self.top(|check| &check.path).value().map_or("/", String::as_str).to_owned(),
                host: self.top(|check| &check.host).value().cloned().unwrap_or_else(|| authority(vip)),
                expected_status: match self.top(|check| &check.expected_status).value() {
                    Some(ranges) => ranges.iter().map(|range| range.value).collect(),
                    None => vec![STATUS],
                },
            },
        }
    }

    /// The uppermost field that is there.
    fn top<T>(&self, field: impl Fn(&'a RawCheck) -> &'a Field<T>) -> &'a Field<T> {
        let own = field(self.own);
        match self.below {
            Some(below) if !own.is_present() => field(below),
            _ => own,
        }
    }
}

/// An address as a Host header writes it (RFC 3986, 3.2.2).
fn authority(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
