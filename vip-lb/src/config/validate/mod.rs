//! Turns what the file says into what it means, and notes everything that does not fit together.
//!
//! All checks run before any value is given up on, so that one reading of the file tells all that is wrong
//! with it. A function here returns `None` only after an error has been noted, by itself or by the decoder.

mod address;
mod floor;
mod health;
mod host;
mod peering;
mod plain;
mod route;
mod service;
mod track;
mod vrrp;

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    net::IpAddr,
    path::PathBuf,
};

use vip_lb_common::abi::MAX_RANGES;

use self::service::ServicePorts;
use super::{
    issue::{Issues, Place},
    model::{
        AdminState, Api, AttachMode, Config, DEFAULT_GUE_PORT, DEFAULT_PINS, HashSeed, Interface,
        MetricsAccess, Nat, Node, NodeState, OnExit, Ownership, Tables, UnknownService, Vip, Vrrp, Watch,
        Watchdog,
    },
    raw::{RawApi, RawConfig, RawInterface, RawNat, RawNode, RawTables, RawVip, RawWatchdog},
};

/// Most services in one file.
pub const MAX_SERVICES: usize = 4096;
/// Most backends in one file, counted once for each service they serve.
pub const MAX_BACKENDS: usize = 65_535;

const SOCKET: &str = "/run/vip-lb/control.sock";

/// Validates a file; `host_name` is what a node is called that has no name in it.
pub(super) fn validate(raw: &RawConfig, host_name: &str, issues: &mut Issues) -> Option<Config> {
    let vips = raw.vips.value().map_or(&[][..], Vec::as_slice);
    let mut validator = Validator {
        addresses: Unique::default(),
        servers: HashMap::new(),
        host_states: HashMap::new(),
        service_names: Unique::default(),
        routers: HashMap::new(),
        issues,
    };
    for vip in vips {
        validator.vip_address(vip);
        validator.note_servers(vip);
    }
    let hosts = validator.hosts(raw);
    validator.limits(raw);
    let node = raw.node.value().and_then(|node| validator.node(node, host_name));
    // Not collected into an Option at once: the first invalid VIP would hide what is wrong with the others.
    let interfaces = node.as_ref().map_or(&[][..], |node| &node.interfaces);
    let vips: Vec<Option<Vip>> = vips.iter().map(|vip| validator.vip(vip, interfaces)).collect();
    Some(Config { node: node?, hosts: hosts?, vips: vips.into_iter().collect::<Option<_>>()? })
}

struct Validator<'a> {
    /// The VIPs of the whole file, collected before anything else is looked at.
    addresses: Unique<'a, IpAddr>,
    /// The backends of the whole file, likewise, where each is first.
    servers: HashMap<IpAddr, &'a Place>,
    /// What is wanted of whole hosts.
    host_states: HashMap<IpAddr, AdminState>,
    service_names: Unique<'a, &'a str>,
    /// Virtual routers of the VIPs so far, each with what it is and where it was said first.
    routers: HashMap<vrrp::Key, (Vrrp, &'a Place)>,
    issues: &'a mut Issues,
}

impl<'a> Validator<'a> {
    fn vip_address(&mut self, vip: &'a RawVip) {
        let Some(address) = vip.address.given() else {
            return;
        };
        address::check_vip(address, self.issues);
        if let Err(first) = self.addresses.claim(address.value, &address.place) {
            let expected = format!("an address that is no other VIP ({})", first.reference());
            self.issues.error(&address.place, address.value.to_string(), expected);
        }
    }

    fn note_servers(&mut self, vip: &'a RawVip) {
        let services = vip.services.value().into_iter().flatten();
        let backends = services.filter_map(|service| service.backends.value()).flatten();
        for address in backends.filter_map(|backend| backend.address.given()) {
            self.servers.entry(address.value).or_insert(&address.place);
        }
    }

    /// What one file may hold in all.
    fn limits(&mut self, raw: &RawConfig) {
        let Some(vips) = raw.vips.given() else { return };
        let services = || vips.value.iter().filter_map(|vip| vip.services.value()).flatten();
        let backends = services().filter_map(|service| service.backends.value()).flatten();
        for (count, most, what) in
            [(services().count(), MAX_SERVICES, "services"), (backends.count(), MAX_BACKENDS, "backends")]
        {
            if count > most {
                self.issues.error(&vips.place, format!("{count} {what}"), format!("at most {most} in all"));
            }
        }
        let blocks: usize =
            services().filter_map(|service| service.port.value()).map(|ports| ports.blocks().len()).sum();
        if blocks > MAX_RANGES {
            let found = format!("ranges of ports that make {blocks} blocks of a power of two");
            self.issues.error(&vips.place, found, format!("at most {MAX_RANGES} blocks in all"));
        }
        if vips.value.is_empty() {
            self.issues.warning(
                &vips.place,
                "an empty list",
                "at least one VIP, without which nothing is balanced",
            );
        }
    }

    fn node(&mut self, raw: &'a RawNode, host_name: &str) -> Option<Node> {
        let interfaces = self.interfaces(raw);
        let peers = self.peers(raw);
        for source in [
            raw.tunnel_source_v4.given().map(|at| (IpAddr::V4(at.value), &at.place)),
            raw.tunnel_source_v6.given().map(|at| (IpAddr::V6(at.value), &at.place)),
        ] {
            let Some((address, place)) = source else { continue };
            address::check_host(address, place, "the unicast address of this machine", self.issues);
            self.not_a_vip(address, place, "an address of this machine alone");
        }
        let peering = self.peering(raw);
        let nat = raw.nat.value().map_or_else(Nat::default, |nat| self.nat(nat, &peers));
        Some(Node {
            name: raw.name.value().map_or(host_name, String::as_str).to_owned(),
            state: raw.state.or(NodeState::Enabled),
            interfaces: interfaces?,
            seed: HashSeed::from_text(raw.seed.value()?),
            peers,
            peering: peering?,
            tunnel_source_v4: raw.tunnel_source_v4.value().copied(),
            tunnel_source_v6: raw.tunnel_source_v6.value().copied(),
            gue_port: raw.gue_port.or(DEFAULT_GUE_PORT),
            nat,
            on_exit: raw.on_exit.or(OnExit::Keep),
            watchdog: raw.watchdog.value().map_or_else(Watchdog::default, watchdog),
            socket: raw.socket.value().cloned().unwrap_or_else(|| PathBuf::from(SOCKET)),
            api: match raw.api.value() {
                Some(raw) => Some(api(raw)?),
                None => None,
            },
            pins: raw.pins.value().cloned().unwrap_or_else(|| PathBuf::from(DEFAULT_PINS)),
            state_dir: raw.state_dir.value().cloned(),
            watch: raw.watch.or(Watch::Never),
            tables: raw.tables.value().map_or_else(Tables::default, tables),
        })
    }

    /// Answers to what leaves with a source of translation come back to this node, so nobody else may have the address.
    fn nat(&mut self, raw: &'a RawNat, peers: &[IpAddr]) -> Nat {
        const EXPECTED: &str = "an address of this machine alone";
        for source in [
            raw.source_v4.given().map(|at| (IpAddr::V4(at.value), &at.place)),
            raw.source_v6.given().map(|at| (IpAddr::V6(at.value), &at.place)),
        ] {
            let Some((address, place)) = source else { continue };
            address::check_host(address, place, "a unicast address, not loopback", self.issues);
            self.not_a_vip(address, place, EXPECTED);
            if let Some(server) = self.servers.get(&address) {
                let found = format!("{address}, which is a backend ({})", server.reference());
                self.issues.error(place, found, EXPECTED);
            }
            if peers.contains(&address) {
                self.issues.error(place, format!("{address}, which is a peer"), EXPECTED);
            }
            if address::needs_interface(address) {
                let found = format!("{address}, a link-local address");
                self.issues.error(place, found, "an address that routers know the way to");
            }
        }
        Nat {
            source_v4: raw.source_v4.value().copied(),
            source_v6: raw.source_v6.value().copied(),
            ports: raw.ports.value().copied(),
        }
    }

    fn interfaces(&mut self, raw: &'a RawNode) -> Option<Vec<Interface>> {
        let interfaces = raw.interfaces.value()?;
        let mut names = Unique::default();
        for name in interfaces.iter().filter_map(|interface| interface.name.given()) {
            if let Err(first) = names.claim(name.value.as_str(), &name.place) {
                let expected = format!("each interface once ({})", first.reference());
                self.issues.error(&name.place, format!("{:?}", name.value), expected);
            }
        }
        interfaces.iter().map(interface).collect()
    }

    fn peers(&mut self, raw: &'a RawNode) -> Vec<IpAddr> {
        let peers = raw.peers.value().map_or(&[][..], Vec::as_slice);
        let mut seen = Unique::default();
        for peer in peers {
            address::check_host(peer.value, &peer.place, "the unicast address of another node", self.issues);
            self.not_a_vip(peer.value, &peer.place, "the own address of another node");
            if let Err(first) = seen.claim(peer.value, &peer.place) {
                let expected = format!("each peer once ({})", first.reference());
                self.issues.error(&peer.place, peer.value.to_string(), expected);
            }
        }
        peers.iter().map(|peer| peer.value).collect()
    }

    fn vip(&mut self, raw: &'a RawVip, interfaces: &[Interface]) -> Option<Vip> {
        let address = raw.address.value().copied();
        let vrrp = self.vrrp(raw, interfaces);
        let route = self.route(raw, interfaces);
        let plain = self.plain(raw);
        let mut ports = ServicePorts::default();
        let services = raw.services.value().map_or(&[][..], Vec::as_slice);
        let services: Vec<_> =
            services.iter().map(|service| self.service(service, address, &mut ports)).collect();
        Some(Vip {
            address: address?,
            ownership: raw.ownership.or(Ownership::Always),
            vrrp: vrrp?,
            route: route?,
            prefix_length: plain?.prefix_length,
            unknown_service: raw.unknown_service.or(UnknownService::Drop),
            services: services.into_iter().collect::<Option<_>>()?,
        })
    }

    fn not_a_vip(&mut self, address: IpAddr, place: &Place, expected: &str) {
        if let Some(vip) = self.addresses.holder(&address) {
            let found = format!("{address}, which is a VIP ({})", vip.reference());
            self.issues.error(place, found, expected);
        }
    }
}

fn interface(raw: &RawInterface) -> Option<Interface> {
    Some(Interface { name: raw.name.value()?.clone(), attach: raw.attach.or(AttachMode::Auto) })
}

fn api(raw: &RawApi) -> Option<Api> {
    Some(Api {
        listen: *raw.listen.value()?,
        token_file: raw.token_file.value()?.clone(),
        metrics: raw.metrics.or(MetricsAccess::Token),
    })
}

fn watchdog(raw: &RawWatchdog) -> Watchdog {
    let Watchdog { after, action } = Watchdog::default();
    Watchdog { after: raw.after.or(after), action: raw.action.or(action) }
}

fn tables(raw: &RawTables) -> Tables {
    let default = Tables::default();
    Tables {
        flows: raw.flows.or(default.flows),
        newborn: raw.newborn.or(default.newborn),
        survivors: raw.survivors.or(default.survivors),
        nat: raw.nat.or(default.nat),
        fragments: raw.fragments.or(default.fragments),
    }
}

/// Who came first with a value that must not be repeated.
struct Unique<'a, K>(HashMap<K, &'a Place>);

impl<K> Default for Unique<'_, K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<'a, K: Eq + Hash> Unique<'a, K> {
    /// Notes the value, or tells where it is already.
    fn claim(&mut self, key: K, place: &'a Place) -> Result<(), &'a Place> {
        match self.0.entry(key) {
            Entry::Occupied(first) => Err(first.get()),
            Entry::Vacant(free) => {
                free.insert(place);
                Ok(())
            }
        }
    }

    fn holder(&self, key: &K) -> Option<&'a Place> {
        self.0.get(key).copied()
    }
}
