//! Services and their backends, with the service's defaults applied.

use std::{net::IpAddr, num::NonZeroU16};

use super::{
    super::{
        model::{AdminState, Affinity, Backend, OnDown, Protocol, RingSize, Service},
        raw::{RawBackend, RawService},
    },
    Unique, Validator, address,
    health::{Asked, Level},
};

/// Weight of a backend that gives none: there is room below and above.
const WEIGHT: NonZeroU16 = NonZeroU16::new(100).unwrap();

impl<'a> Validator<'a> {
    /// Validates a service of the VIP `vip` (`None` where the VIP's address is invalid); `ports` are those of
    /// the services before.
    pub(super) fn service(
        &mut self,
        raw: &'a RawService,
        vip: Option<IpAddr>,
        ports: &mut Unique<'a, (u16, Protocol)>,
    ) -> Option<Service> {
        self.service_name(raw);
        self.service_port(raw, ports);
        let protocol = raw.protocol.or(Protocol::Tcp);
        let ring = raw.ring.or(RingSize::Small);
        self.backends_as_a_whole(raw, ring);

        let asked = Asked { vip, port: raw.port.value().copied(), protocol };
        let level = Level::of_service(raw, asked, self.issues);
        let backends = raw.backends.value().map_or(&[][..], Vec::as_slice);
        let (mut names, mut addresses) = (Unique::default(), Unique::default());
        let backends: Vec<_> = backends
            .iter()
            .map(|backend| {
                self.backend_name(backend, &mut names);
                self.backend_address(backend, &mut addresses);
                self.backend(backend, raw, &level)
            })
            .collect();
        Some(Service {
            name: raw.name.value()?.clone(),
            port: raw.port.value().copied()?,
            protocol,
            affinity: raw.affinity.or(Affinity::Flow),
            ring,
            idle_timeout: raw.idle_timeout.or(protocol.default_idle_timeout()),
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

    fn service_port(&mut self, raw: &'a RawService, ports: &mut Unique<'a, (u16, Protocol)>) {
        let Some(port) = raw.port.given() else { return };
        // An invalid protocol may have been meant to be any.
        if raw.protocol.is_present() && raw.protocol.given().is_none() {
            return;
        }
        let protocol = raw.protocol.or(Protocol::Tcp);
        if let Err(first) = ports.claim((port.value, protocol), &port.place) {
            let expected = format!("each port once per protocol of the VIP ({})", first.reference());
            self.issues.error(&port.place, format!("{} for {protocol}", port.value), expected);
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
        let takes_new = |backend: &RawBackend| backend.state.or(AdminState::Enabled) == AdminState::Enabled;
        if !backends.value.iter().any(takes_new) {
            let expected = "at least one, without which the service takes no new connections";
            self.issues.warning(&backends.place, "no enabled backend", expected);
        }
        if raw.defaults.mode.is_present() {
            return;
        }
        if backends.value.iter().any(|backend| !backend.overrides.mode.is_present()) {
            let expected = "one of l2, ipip, or a mode for every backend";
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

    fn backend(&mut self, raw: &RawBackend, service: &RawService, level: &Level<'_>) -> Option<Backend> {
        let health = level.of_backend(&raw.overrides.health, self.issues);
        let mode = raw.overrides.mode.value().or(service.defaults.mode.value());
        let on_down = service.defaults.on_down.or(OnDown::Auto);
        Some(Backend {
            name: raw.name.value()?.clone(),
            address: raw.address.value().copied()?,
            weight: raw.weight.or(WEIGHT),
            mode: *mode?,
            state: raw.state.or(AdminState::Enabled),
            health,
            on_down: raw.overrides.on_down.or(on_down),
        })
    }
}
