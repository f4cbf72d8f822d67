//! Health checks: a backend's keys over the service's over the defaults.

mod kind;

use std::{net::IpAddr, num::NonZeroU16, time::Duration};

use super::super::{
    decode::{At, Field},
    issue::{Issues, Place},
    kinds::shown_duration,
    model::{CheckKind, CheckName, HealthCheck, Ports, Protocol},
    raw::{RawCheck, RawHealth, RawService},
};

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
                let keeps = named || check.kind.name() == CheckName::Icmp;
                let port = port.map_or(check.port, NonZeroU16::get);
                Some(if keeps { check } else { HealthCheck { port, ..check } })
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
            "none or a check that says what to ask, because nothing can be asked of every UDP service"
                .to_owned()
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
        let kind = self.kind(issues)?;
        self.times(issues);
        let port = self.port(kind, asked, needed, issues);
        let kind = self.asks(kind, asked, issues);
        let usual = HealthCheck::new(kind?, port?);
        let interval = self.top(|check| &check.interval).or(usual.interval);
        Some(HealthCheck {
            via: self.top(|check| &check.via).or(usual.via),
            interval,
            fast_interval: self.top(|check| &check.fast_interval).value().copied(),
            timeout: self.top(|check| &check.timeout).or(usual.timeout.min(interval)),
            rise: self.top(|check| &check.rise).or(usual.rise),
            fall: self.top(|check| &check.fall).or(usual.fall),
            jitter_percent: self.top(|check| &check.jitter).or(usual.jitter_percent),
            start: self.top(|check| &check.start).or(usual.start),
            flap_hold: self.top(|check| &check.flap_hold).or(usual.flap_hold),
            flap_hold_max: self.top(|check| &check.flap_hold_max).or(usual.flap_hold_max),
            ..usual
        })
    }

    /// The port that is asked; 0 where none is.
    fn port(
        &self,
        kind: CheckName,
        asked: Asked,
        needed: Option<&Place>,
        issues: &mut Issues,
    ) -> Option<u16> {
        let port = self.top(|check| &check.port);
        if kind == CheckName::Icmp {
            if let Some(own) = self.own.port.given() {
                issues.error(&own.place, "a port", "none, because icmp checks ask no port");
            }
            return Some(0);
        }
        let own_port = asked.ports.and_then(Ports::one);
        let port_or_own = port.value().copied().or(own_port);
        if !kind.asks_port() {
            return Some(port_or_own.unwrap_or(0));
        }
        if let Some(place) = needed
            && !port.is_present()
            && let Some(many) = asked.ports.and_then(many)
        {
            let expected = format!("a port between 1 and 65535, {many}");
            issues.error(&place.missing("port"), "nothing", expected);
        }
        port_or_own
    }

    /// A probe must have ended before the next one begins, and fast is not slow. Said at the level that gives one of
    /// the two.
    fn times(&self, issues: &mut Issues) {
        self.at_most_interval("timeout", |check| &check.timeout, issues);
        // The service's may be longer than the interval of one backend: then nothing is faster.
        if self.own.fast_interval.is_present() {
            self.at_most_interval("fast_interval", |check| &check.fast_interval, issues);
        }
    }

    fn at_most_interval(
        &self,
        name: &str,
        field: impl Fn(&'a RawCheck) -> &'a Field<Duration>,
        issues: &mut Issues,
    ) {
        let invalid = |field: &Field<Duration>| field.is_present() && field.given().is_none();
        let Some(given) = self.top(&field).given() else { return };
        if invalid(self.top(|check| &check.interval)) || given.value <= self.interval() {
            return;
        }
        let interval = shown_duration(self.interval());
        let time = shown_duration(given.value);
        if field(self.own).is_present() {
            issues.error(&given.place, time, format!("at most the interval of {interval}"));
        } else if let Some(own) = self.own.interval.given() {
            issues.error(&own.place, interval, format!("at least the {name} of {time}"));
        }
    }

    fn interval(&self) -> Duration {
        self.top(|check| &check.interval).or(HealthCheck::new(CheckKind::Icmp, 0).interval)
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
