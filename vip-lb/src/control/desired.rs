//! What should be in the maps, from configuration, health, operator and network alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU16,
};

use serde::{Deserialize, Serialize};
use vip_lb_common::{
    abi::{Backend, LinkAddress, Mode, Peer, RingClass, ServiceOptions, ServiceRef, Vip},
    headers::outer_checksum_base,
};

use super::{
    ownership::{Claim, Withdrawal},
    standing::Standing,
};
use crate::{
    config::{
        Config,
        model::{
            self, Affinity, ForwardMode, Node, NodeState, Ownership, Passive, Ports, Protocol, RingSize,
            UnknownService,
        },
    },
    network::{NextHop, Via},
    ownership::vrrp::Router,
    steering::{Start, Timeouts, identity},
};

/// What clients dial: names a service for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceKey {
    /// The VIP.
    pub vip: IpAddr,
    /// Which of its ports. Another range is another service, even if it shares ports with the former one.
    pub ports: Ports,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// Everything the engine brings about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// VIPs with the flags of their entries, as far as services do not decide them.
    pub vips: BTreeMap<IpAddr, u32>,
    /// What this node wants of each of them.
    pub claims: BTreeMap<IpAddr, Claim>,
    /// Services.
    pub services: BTreeMap<ServiceKey, DesiredService>,
    /// Peer nodes.
    pub configured_peers: BTreeSet<IpAddr>,
    /// Those whose MAC address is known, by it.
    pub peers: BTreeMap<[u8; 6], IpAddr>,
    /// Peers' addresses, from which tunnelled packets for local backends may come.
    pub tunnel_peers: BTreeSet<IpAddr>,
    /// Addresses of this host at which such packets arrive.
    pub endpoints: BTreeSet<IpAddr>,
    /// Addresses that adverts of VRRP are sent to.
    pub adverts: BTreeSet<IpAddr>,
    /// Addresses that translated packets leave with, with the flags of their entries.
    pub nat_sources: BTreeMap<IpAddr, u32>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// Size of its ring.
    pub class: RingClass,
    /// [`ServiceRef`] flags.
    pub flags: u8,
    /// What rare packets ask of it.
    pub options: ServiceOptions,
    /// Whether the beginning of its flows is visible.
    pub start: Start,
    /// When its flows count as ended.
    pub timeouts: Timeouts,
    /// Its backends by address.
    pub backends: BTreeMap<IpAddr, DesiredBackend>,
}

/// A backend of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredBackend {
    /// Its stable name.
    pub identity: u64,
    /// Its share.
    pub weight: u16,
    /// How much of that counts now, in parts of [`WHOLE`](super::slow_start::WHOLE).
    pub share: u8,
    /// What it may do.
    pub standing: Standing,
    /// How packets get there.
    pub path: Path,
}

/// How packets get to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// Not known.
    Unresolved,
    /// It is this host.
    Local,
    /// By new MAC addresses.
    L2(Link),
    /// By another header.
    Ipip {
        /// Its frames.
        link: Link,
        /// Outer source.
        source: IpAddr,
        /// Outer destination.
        destination: IpAddr,
    },
    /// By another header and a UDP header.
    Gue {
        /// Its frames.
        link: Link,
        /// Outer source.
        source: IpAddr,
        /// Outer destination.
        destination: IpAddr,
    },
    /// By other addresses and ports.
    Nat {
        /// Its frames.
        link: Link,
        /// New source.
        source: IpAddr,
        /// New destination.
        destination: IpAddr,
        /// New destination port; 0 keeps the one that was dialled.
        port: u16,
    },
}

/// An Ethernet hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Egress interface.
    pub interface: u32,
    /// Destination and source MAC address.
    pub macs: [u8; 12],
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Tag control information (IEEE 802.1Q) of its frames, if they carry a tag.
    pub vlan: Option<u16>,
}

/// What the daemon knows besides the configuration.
pub trait Facts {
    /// Where a backend of a service stands.
    fn standing(&self, service: &ServiceKey, backend: &model::Backend) -> Standing;

    /// How much of a backend's weight counts now, in parts of [`WHOLE`](super::slow_start::WHOLE).
    fn share(&self, service: &ServiceKey, backend: IpAddr) -> u8;

    /// Whether a service has too few healthy backends and fails closed.
    fn is_closed(&self, service: &ServiceKey) -> bool;

    /// Where packets to an address go; none while that is not known.
    fn next_hop(&self, address: IpAddr) -> Option<&NextHop>;

    /// Whether an operator drains this node.
    fn is_node_drained(&self) -> bool;

    /// One of how many flows of a service is to be looked at closely, where the configuration leaves that open.
    fn sampling(&self, service: &ServiceKey) -> u32;

    /// Whether the host has an address itself, so that its stack answers for it.
    fn is_of_host(&self, address: IpAddr) -> bool;

    /// The address of this node that the virtual router of a VIP speaks from, while it can.
    fn router_address(&self, vip: IpAddr) -> Option<IpAddr>;
}

/// Where other nodes send adverts of VRRP to, as far as it is known: the groups, and this node's own addresses where peers are listed.
#[must_use]
pub fn advert_addresses(config: &Config, facts: &impl Facts) -> BTreeSet<IpAddr> {
    let of_vip = |vip: &model::Vip| {
        let vrrp = vip.vrrp.as_ref()?;
        if vrrp.peers.is_empty() {
            Some(Router::of(vrrp.router_id.get(), vip.address).group())
        } else {
            facts.router_address(vip.address)
        }
    };
    config.vips.iter().filter_map(of_vip).collect()
}

impl Desired {
    /// Puts together what should be.
    #[must_use]
    pub fn new(config: &Config, facts: &impl Facts) -> Self {
        let mut desired = Self { adverts: advert_addresses(config, facts), ..Self::default() };
        let drained = match config.node.state {
            _ if facts.is_node_drained() => Some(Withdrawal::NodeOrdered),
            NodeState::Drain => Some(Withdrawal::NodeConfigured),
            NodeState::Enabled => None,
        };
        for vip in &config.vips {
            let keys = vip.services.iter().map(|service| ServiceKey {
                vip: vip.address,
                ports: service.ports,
                protocol: service.protocol,
            });
            let claim = Claim::of(drained, keys.map(|key| facts.is_closed(&key)));
            let mut flags = match vip.ownership {
                _ if !claim.is_wanted() => 0,
                Ownership::Always => Vip::ANSWER,
                Ownership::Vrrp => Vip::LEASED,
                Ownership::Route => Vip::ECHO,
            };
            if vip.is_plain() {
                flags |= Vip::PLAIN;
            }
            if vip.unknown_service == UnknownService::Pass {
                flags |= Vip::PASS_UNKNOWN;
            }
            if let Some(vrrp) = vip.vrrp.as_ref().filter(|vrrp| vrrp.virtual_mac) {
                flags |= Vip::of_router(vrrp.router_id.get());
            }
            for service in &vip.services {
                let key = ServiceKey { vip: vip.address, ports: service.ports, protocol: service.protocol };
                let wanted = desired_service(key, service, &config.node, facts);
                for (backend, configured) in wanted.backends.values().zip(sorted(&service.backends)) {
                    if backend.path == Path::Local {
                        flags |= Vip::LOCAL;
                        let tunnelled = matches!(configured.mode, ForwardMode::Ipip | ForwardMode::Gue);
                        if tunnelled && !config.node.peers.is_empty() {
                            desired.endpoints.insert(configured.address);
                        }
                    }
                    let source = match backend.path {
                        Path::Nat { source, .. } => Some(source),
                        // Its answers come back all the same.
                        Path::Unresolved if configured.mode == ForwardMode::Nat => {
                            source_of(configured, &config.node)
                        }
                        _ => None,
                    };
                    if let Some(source) = source {
                        let answer = if facts.is_of_host(source) { 0 } else { Vip::ANSWER };
                        desired.nat_sources.insert(source, Vip::NAT_SOURCE | answer);
                    }
                }
                desired.services.insert(key, wanted);
            }
            desired.vips.insert(vip.address, flags);
            desired.claims.insert(vip.address, claim);
        }
        for &peer in &config.node.peers {
            desired.configured_peers.insert(peer);
            if !desired.endpoints.is_empty() {
                desired.tunnel_peers.insert(peer);
            }
            if let Some(NextHop::Via(Via { gateway: None, mac: Some(mac), .. })) = facts.next_hop(peer) {
                desired.peers.insert(*mac, peer);
            }
        }
        desired
    }
}

fn desired_service(
    key: ServiceKey,
    service: &model::Service,
    node: &Node,
    facts: &impl Facts,
) -> DesiredService {
    let by_source = service.affinity == Affinity::Source;
    let backends = service.backends.iter().map(|backend| {
        let wanted = DesiredBackend {
            identity: identity(key.vip, key.ports, key.protocol.number(), backend.address),
            weight: backend.weight.get(),
            share: facts.share(&key, backend.address),
            standing: facts.standing(&key, backend),
            path: Path::new(backend, source_of(backend, node), facts.next_hop(backend.address)),
        };
        (backend.address, wanted)
    });
    let translates = service.backends.iter().any(|backend| backend.mode == ForwardMode::Nat);
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    DesiredService {
        class: class_of(service.ring),
        flags: flag(by_source, ServiceRef::SOURCE_AFFINITY)
            | flag(translates, ServiceRef::NAT)
            | flag(service.mss.is_some(), ServiceRef::CLAMP)
            | ServiceRef::sampling(sampled(service, facts.sampling(&key))),
        options: ServiceOptions {
            mss: service.mss.unwrap_or(0),
            icmp_rate: service.icmp_rate,
            ..ServiceOptions::default()
        },
        start: if by_source || service.protocol == Protocol::Udp { Start::Hidden } else { Start::Visible },
        timeouts: Timeouts::with_idle(
            u32::try_from(service.idle_timeout.as_secs()).unwrap_or(u32::MAX).max(1),
        ),
        backends: backends.collect(),
    }
}

/// One of how many flows of a service is looked at closely; 0 for none.
fn sampled(service: &model::Service, by_traffic: u32) -> u32 {
    match (service.passive, service.passive_sample) {
        (Passive::Off, _) => 0,
        (Passive::Observe | Passive::On, Some(one_of)) => one_of.into(),
        (Passive::Observe | Passive::On, None) => by_traffic,
    }
}

/// The configured source of what is sent to a backend; none where the route's own preference holds.
#[must_use]
pub fn source_of(backend: &model::Backend, node: &Node) -> Option<IpAddr> {
    match (backend.mode, backend.address) {
        (ForwardMode::L2, _) => None,
        (ForwardMode::Ipip | ForwardMode::Gue, IpAddr::V4(_)) => node.tunnel_source_v4.map(IpAddr::V4),
        (ForwardMode::Ipip | ForwardMode::Gue, IpAddr::V6(_)) => node.tunnel_source_v6.map(IpAddr::V6),
        (ForwardMode::Nat, address) => node.nat.source(address),
    }
}

/// In the order of a map by address.
fn sorted(backends: &[model::Backend]) -> Vec<&model::Backend> {
    let mut sorted: Vec<_> = backends.iter().collect();
    sorted.sort_by_key(|backend| backend.address);
    sorted
}

/// The class of a configured ring size.
#[must_use]
pub fn class_of(size: RingSize) -> RingClass {
    match size {
        RingSize::Small => RingClass::Small,
        RingSize::Medium => RingClass::Medium,
        RingSize::Large => RingClass::Large,
    }
}

impl Path {
    /// The path to a backend in its mode over a next hop; without a `source`, from the one that the route prefers.
    #[must_use]
    pub fn new(backend: &model::Backend, source: Option<IpAddr>, next_hop: Option<&NextHop>) -> Self {
        let via = match next_hop {
            None => return Self::Unresolved,
            Some(NextHop::Local) => return Self::Local,
            Some(NextHop::Via(via)) => via,
        };
        let Some(mac) = via.mac else {
            return Self::Unresolved;
        };
        let mut macs = [0; 12];
        macs[..6].copy_from_slice(&mac);
        macs[6..].copy_from_slice(&via.source_mac);
        let link = Link {
            interface: via.ifindex,
            macs,
            mtu: u16::try_from(via.mtu).unwrap_or(u16::MAX),
            vlan: via.vlan,
        };
        let source = source.unwrap_or(via.preferred_source);
        let destination = backend.address;
        match backend.mode {
            // Behind a router there is no segment to rewrite MAC addresses on.
            ForwardMode::L2 if via.gateway.is_some() => Self::Unresolved,
            ForwardMode::L2 => Self::L2(link),
            ForwardMode::Ipip => Self::Ipip { link, source, destination },
            ForwardMode::Gue => Self::Gue { link, source, destination },
            ForwardMode::Nat => {
                Self::Nat { link, source, destination, port: backend.port.map_or(0, NonZeroU16::get) }
            }
        }
    }

    /// The entry of BACKENDS for this path, its owner and generation excepted.
    #[must_use]
    pub fn entry(&self) -> Backend {
        match self {
            Self::Unresolved => Backend { mode: Mode::Unresolved as u8, ..Backend::default() },
            Self::Local => Backend { mode: Mode::Local as u8, ..Backend::default() },
            Self::L2(link) => link.entry(Mode::L2),
            Self::Ipip { link, source, destination } => {
                link.tunnel(Mode::IpipV4, Mode::IpipV6, *source, *destination)
            }
            Self::Gue { link, source, destination } => {
                link.tunnel(Mode::GueV4, Mode::GueV6, *source, *destination)
            }
            Self::Nat { link, source, destination, port } => Backend {
                source: (*source).into(),
                address: (*destination).into(),
                port: *port,
                ..link.entry(if destination.is_ipv4() { Mode::NatV4 } else { Mode::NatV6 })
            },
        }
    }
}

impl Link {
    fn entry(&self, mode: Mode) -> Backend {
        let tagged = if self.vlan.is_some() { Backend::TAGGED } else { 0 };
        Backend {
            mode: mode as u8 | tagged,
            egress: self.interface,
            macs: self.macs,
            mtu: self.mtu,
            vlan: self.vlan.unwrap_or(0),
            ..Backend::default()
        }
    }

    /// An entry with another IP header. The checksum's constant part is the same for both kinds of tunnel: it leaves the protocol out.
    fn tunnel(&self, v4: Mode, v6: Mode, source: IpAddr, destination: IpAddr) -> Backend {
        let (mode, outer_checksum) = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                (v4, outer_checksum_base(source.octets(), destination.octets()))
            }
            _ => (v6, 0),
        };
        Backend { source: source.into(), address: destination.into(), outer_checksum, ..self.entry(mode) }
    }
}

/// A peer's entry.
#[must_use]
pub fn peer_entry(mac: [u8; 6], address: IpAddr) -> (LinkAddress, Peer) {
    (LinkAddress::new(mac), Peer { address: address.into() })
}

#[cfg(test)]
mod tests;
