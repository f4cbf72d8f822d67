//! Where packets can go: read from the tables.

use std::net::IpAddr;

use vip_lb_common::{
    abi::{Address, Backend, Mode, RangeKey, Vip},
    headers::protocol::{TCP, UDP},
};

use super::super::Scenario;
use crate::packet::Mac;

/// A service as a client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) address: IpAddr,
    pub(super) protocol: u8,
    pub(super) port: u16,
}

/// Everything that packets name. All in an order that depends on the scenario alone.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// Services.
    pub(super) targets: Vec<Target>,
    /// All addresses of VIPS.
    pub(super) addresses: Vec<IpAddr>,
    /// Those that peers' tunnels end at or that translated packets leave with.
    pub(super) own: Vec<IpAddr>,
    /// Addresses of other nodes.
    pub(super) peers: Vec<IpAddr>,
    /// MAC addresses of other nodes.
    pub(super) peer_macs: Vec<Mac>,
    /// Hardware addresses of virtual routers that have or had a lease.
    pub(super) router_macs: Vec<Mac>,
    /// Address and port of translated backends, and the address that their packets leave with.
    pub(super) translated: Vec<(IpAddr, u16, IpAddr)>,
    /// UDP port of GUE.
    pub(super) gue_port: u16,
    /// First of the ports of translated connections, and how many there are.
    pub(super) nat_ports: (u16, u16),
}

impl Places {
    pub(super) fn of(scenario: &Scenario) -> Self {
        let mut targets = Vec::new();
        let (mut addresses, mut own) = (Vec::new(), Vec::new());
        for (&address, vip) in &scenario.vips {
            let ip = IpAddr::from(address);
            addresses.push(ip);
            if vip.flags & Vip::OWN != 0 {
                own.push(ip);
            }
            targets.extend(targets_of(scenario, ip, vip));
        }
        let mut translated: Vec<_> = scenario
            .backends
            .values()
            .filter(|backend| is_translated(backend))
            .map(|backend| (backend.address.into(), backend.port, backend.source.into()))
            .collect();
        let mut peers: Vec<IpAddr> = scenario
            .decap_sources
            .iter()
            .copied()
            .chain(scenario.peers.values().map(|peer| peer.address))
            .map(Address::into)
            .collect();
        let mut peer_macs: Vec<Mac> = scenario.peers.keys().map(|link| link.mac).collect();
        // Their leases have keys of their own in OWNERS, which no VIP can have.
        let of_router = |key: &Address| key.octets().starts_with(&[0xff, 0]);
        let mut router_macs: Vec<Mac> = scenario
            .leases
            .keys()
            .filter(|key| of_router(key))
            .filter_map(|key| key.octets().last_chunk().copied())
            .collect();
        router_macs.sort_unstable();
        targets.sort_unstable();
        targets.dedup();
        addresses.sort_unstable();
        own.sort_unstable();
        translated.sort_unstable();
        peers.sort_unstable();
        peers.dedup();
        peer_macs.sort_unstable();
        let settings = scenario.settings.expect("packets are made for a node with settings");
        Self {
            targets,
            addresses,
            own,
            peers,
            peer_macs,
            router_macs,
            translated,
            gue_port: settings.gue_port,
            nat_ports: (settings.nat_first_port, settings.nat_ports),
        }
    }
}

fn is_translated(backend: &Backend) -> bool {
    matches!(Mode::from_u8(backend.mode), Mode::NatV4 | Mode::NatV6)
}

fn targets_of(scenario: &Scenario, address: IpAddr, vip: &Vip) -> Vec<Target> {
    let target = |protocol, port| Target { address, protocol, port };
    let inline = vip.services.iter().map(|entry| (entry.protocol, entry.port));
    let more = scenario.ports.keys().filter(|key| key.vip == vip.id).map(|key| (key.protocol, key.port));
    // A service of every port has port 0 in PORTS; what it is dialled at does not matter.
    let mut targets: Vec<Target> = inline
        .chain(more)
        .filter(|&(protocol, _)| protocol == TCP || protocol == UDP)
        .map(|(protocol, port)| target(protocol, if port == 0 { 4321 } else { port }))
        .collect();
    for &(bits, key, _) in &scenario.ranges {
        if key.vip == vip.id.to_be_bytes() {
            let free = RangeKey::BITS - bits;
            let first = u16::from_be_bytes(key.port);
            let last = first | ((1_u32 << free.min(16)) - 1) as u16;
            targets.extend([target(key.protocol, first), target(key.protocol, last)]);
        }
    }
    targets
}
