//! Services and their backends, with the service's defaults applied.

use std::{net::IpAddr, num::NonZeroU16, time::Duration};

use super::{
    super::{
        issue::Place,
        model::{
            AdminState, Affinity, Backend, ForwardMode, OnDown, Passive, Ports, Protocol, RingSize, Service,
        },
        raw::{RawBackend, RawService},
    },
    Unique, Validator, address,
    health::{Asked, Level},
};

/// Weight of a backend that gives none: there is room below and above.
const WEIGHT: NonZeroU16 = NonZeroU16::new(100).unwrap();
/// Answers per second and CPU of a service that says nothing: more than a path needs, less than an attack would like.
const ICMP_RATE: u16 = 100;

/// What is done about failures that the traffic shows where nothing is said of it.
fn default_passive(protocol: Protocol) -> Passive {
    match protocol {
        Protocol::Tcp => Passive::Observe,
        Protocol::Udp => Passive::Off,
    }
}

/// The ports of the services of one VIP so far.
#[derive(Default)]
pub(super) struct ServicePorts<'a> {
    each: Unique<'a, (Ports, Protocol)>,
    ranges: Vec<(Ports, Protocol, &'a Place)>,
}

impl<'a> Validator<'a> {
    /// Validates a service of the VIP `vip` (`None` where the VIP's address is invalid); `ports` are those of
    /// the services before.
    pub(super) fn service(
        &mut self,
        raw: &'a RawService,
        vip: Option<IpAddr>,
        ports: &mut ServicePorts<'a>,
    ) -> Option<Service> {
        self.service_name(raw);
        self.service_port(raw, ports);
        let protocol = raw.protocol.or(Protocol::Tcp);
        let ring = raw.ring.or(RingSize::Small);
        self.backends_as_a_whole(raw, ring);
        self.mss(raw);
        let floor = self.floor(raw);
        self.passive(raw);

        let asked = Asked { vip, ports: raw.port.value().copied(), protocol };
        let level = Level::of_service(raw, asked, self.issues);
        let backends = raw.backends.value().map_or(&[][..], Vec::as_slice);
        let (mut names, mut addresses) = (Unique::default(), Unique::default());
        let backends: Vec<_> = backends
            .iter()
            .map(|backend| {
                self.backend_name(backend, &mut names);
                self.backend_address(backend, &mut addresses);
                self.backend_port(backend, raw);
                self.backend(backend, raw, &level)
            })
            .collect();
        Some(Service {
            name: raw.name.value()?.clone(),
            ports: raw.port.value().copied()?,
            protocol,
            affinity: raw.affinity.or(Affinity::Flow),
            ring,
            idle_timeout: raw.idle_timeout.or(protocol.default_idle_timeout()),
            mss: raw.mss.value().copied(),
            icmp_rate: raw.icmp_rate.or(ICMP_RATE),
            slow_start: raw.slow_start.or(Duration::ZERO),
            floor,
            passive: raw.passive.or(default_passive(protocol)),
            passive_sample: raw.passive_sample.value().copied(),
            backends: backends.into_iter().collect::<Option<_>>()?,
        })
    }

    fn service_name(&mut self, raw: &'a RawService) {
        let Some(name) = raw.name.given() else { return };
        if let Err(first) = self.service_names.claim(&name.value, &name.place) {
            let expected = format!("a name that no other service has ({})", first.reference());
            self.issues.error(&name.place, format!("{:?}", name.value), expected);
        }
    }

    fn service_port(&mut self, raw: &'a RawService, ports: &mut ServicePorts<'a>) {
        let Some(port) = raw.port.given() else { return };
        // An invalid protocol may have been meant to be any.
        if raw.protocol.is_present() && raw.protocol.given().is_none() {
            return;
        }
        let protocol = raw.protocol.or(Protocol::Tcp);
        if let Err(first) = ports.each.claim((port.value, protocol), &port.place) {
            let expected = format!("each port once per protocol of the VIP ({})", first.reference());
            self.issues.error(&port.place, format!("{} for {protocol}", port.value), expected);
            return;
        }
        if let Ports::Range(..) = port.value {
            let mut ranges = ports.ranges.iter().filter(|(_, of, _)| *of == protocol);
            if let Some((other, _, first)) = ranges.find(|(other, ..)| other.ranges_overlap(port.value)) {
                let expected = format!("ports outside of the range {other} ({})", first.reference());
                self.issues.error(&port.place, format!("{} for {protocol}", port.value), expected);
            }
            ports.ranges.push((port.value, protocol, &port.place));
        }
    }

    /// Only TCP has segments.
    fn mss(&mut self, raw: &RawService) {
        if let Some(mss) = raw.mss.given()
            && raw.protocol.or(Protocol::Tcp) == Protocol::Udp
        {
            self.issues.error(&mss.place, "a key of tcp services", "it only together with protocol: tcp");
        }
    }

    /// Of UDP a client's packets do not show whether they are answered.
    fn passive(&mut self, raw: &RawService) {
        if let Some(passive) = raw.passive.given()
            && passive.value != Passive::Off
            && raw.protocol.or(Protocol::Tcp) == Protocol::Udp
        {
            self.issues.error(
                &passive.place,
                passive.value.as_str(),
                "off for a udp service, whose clients do not show that they get answers",
            );
        }
    }

    fn backends_as_a_whole(&mut self, raw: &RawService, ring: RingSize) {
        let Some(backends) = raw.backends.given() else {
            return;
        };
        if backends.value.len() > ring.slots() as usize {
            let found = format!("{} backends", backends.value.len());
            let expected = format!("at most one for each of the {ring} slots of the ring");
            self.issues.error(&backends.place, found, expected);
        }
        let takes_new = |backend: &RawBackend| self.state(backend) == AdminState::Enabled;
        if !backends.value.iter().any(takes_new) {
            let expected = "at least one, without which the service takes no new connections";
            self.issues.warning(&backends.place, "no enabled backend", expected);
        }
        if raw.defaults.mode.is_present() {
            return;
        }
        if backends.value.iter().any(|backend| !backend.overrides.mode.is_present()) {
            let expected = "one of l2, ipip, gue, nat, or a mode for every backend";
            self.issues.error(&raw.place.missing("mode"), "nothing", expected);
        }
    }

    fn backend_name(&mut self, raw: &'a RawBackend, names: &mut Unique<'a, &'a str>) {
        let Some(name) = raw.name.given() else { return };
        if let Err(first) = names.claim(&name.value, &name.place) {
            let expected = format!("a name that no other backend of the service has ({})", first.reference());
            self.issues.error(&name.place, format!("{:?}", name.value), expected);
        }
    }

    fn backend_address(&mut self, raw: &'a RawBackend, addresses: &mut Unique<'a, IpAddr>) {
        let Some(address) = raw.address.given() else {
            return;
        };
        address::check_host(
            address.value,
            &address.place,
            "the unicast address of a server, not loopback",
            self.issues,
        );
        self.not_a_vip(address.value, &address.place, "the server's own address");
        if address::needs_interface(address.value) {
            let found = format!("{}, a link-local address", address.value);
            let expected =
                "an address whose interface the routes tell: this one may be looked for on another interface";
            self.issues.warning(&address.place, found, expected);
        }
        if let Err(first) = addresses.claim(address.value, &address.place) {
            let expected =
                format!("an address that no other backend of the service has ({})", first.reference());
            self.issues.error(&address.place, address.value.to_string(), expected);
        }
    }

    /// A port of its own needs translation, and one that was dialled in its place.
    fn backend_port(&mut self, raw: &RawBackend, service: &RawService) {
        let Some(port) = raw.port.given() else { return };
        match mode(raw, service) {
            Some(ForwardMode::Nat) => {}
            Some(mode) => {
                let expected = format!(
                    "it only together with mode: nat, because packets keep their port in mode {mode}"
                );
                self.issues.error(&port.place, "a port of a backend", expected);
                return;
            }
            // Missing or wrong, which has been said.
            None => return,
        }
        if let Some(Ports::Every | Ports::Range(..)) = service.port.value() {
            let expected = "none, because the service has many ports, and the one that was dialled stays";
            self.issues.error(&port.place, "a port of a backend", expected);
        }
    }

    fn backend(&mut self, raw: &RawBackend, service: &RawService, level: &Level<'_>) -> Option<Backend> {
        let port = raw.port.value().copied();
        let health = level.of_backend(&raw.overrides.health, port, self.issues);
        let on_down = service.defaults.on_down.or(OnDown::Auto);
        Some(Backend {
            name: raw.name.value()?.clone(),
            address: raw.address.value().copied()?,
            weight: raw.weight.or(WEIGHT),
            port,
            tier: raw.tier.or(0),
            mode: mode(raw, service)?,
            state: self.state(raw),
            health,
            on_down: raw.overrides.on_down.or(on_down),
        })
    }
}

/// How packets reach a backend, if that is said and well-formed.
fn mode(raw: &RawBackend, service: &RawService) -> Option<ForwardMode> {
    let given = if raw.overrides.mode.is_present() { &raw.overrides.mode } else { &service.defaults.mode };
    given.value().copied()
}
