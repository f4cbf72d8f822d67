//! What should be in the maps, from configuration, health, operator and network alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use vip_lb_common::{
    abi::{Backend, LinkAddress, Mode, Peer, RingClass, ServiceRef, Vip},
    headers::outer_checksum_base,
};

use super::standing::Standing;
use crate::{
    config::{
        Config,
        model::{self, Affinity, ForwardMode, Protocol, RingSize, UnknownService},
    },
    network::{NextHop, Via},
    steering::{Start, Timeouts, identity},
};

/// What clients dial: names a service for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The VIP.
    pub vip: IpAddr,
    /// 0 for every port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// Everything the engine brings about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// VIPs with the flags of their entries, as far as services do not decide them.
    pub vips: BTreeMap<IpAddr, u32>,
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
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// Size of its ring.
    pub class: RingClass,
    /// [`ServiceRef`] flags.
    pub flags: u8,
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
}

/// What the daemon knows besides the configuration.
pub trait Facts {
    /// Where a backend of a service stands.
    fn standing(&self, service: &model::Service, backend: &model::Backend) -> Standing;

    /// Where packets to an address go; none while that is not known.
    fn next_hop(&self, address: IpAddr) -> Option<&NextHop>;
}

impl Desired {
    /// Puts together what should be.
    #[must_use]
    pub fn new(config: &Config, facts: &impl Facts) -> Self {
        let mut desired = Self::default();
        for vip in &config.vips {
            let mut flags = Vip::ANSWER;
            if vip.unknown_service == UnknownService::Pass {
                flags |= Vip::PASS_UNKNOWN;
            }
            for service in &vip.services {
                let key = ServiceKey { vip: vip.address, port: service.port, protocol: service.protocol };
                let wanted = desired_service(key, service, facts);
                for (backend, configured) in wanted.backends.values().zip(sorted(&service.backends)) {
                    if backend.path == Path::Local {
                        flags |= Vip::LOCAL;
                        if configured.mode == ForwardMode::Ipip && !config.node.peers.is_empty() {
                            desired.endpoints.insert(configured.address);
                        }
                    }
                }
                desired.services.insert(key, wanted);
            }
            desired.vips.insert(vip.address, flags);
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

fn desired_service(key: ServiceKey, service: &model::Service, facts: &impl Facts) -> DesiredService {
    let by_source = service.affinity == Affinity::Source;
    let backends = service.backends.iter().map(|backend| {
        let wanted = DesiredBackend {
            identity: identity(key.vip, key.port, key.protocol.number(), backend.address),
            weight: backend.weight.get(),
            standing: facts.standing(service, backend),
            path: Path::new(backend, facts.next_hop(backend.address)),
        };
        (backend.address, wanted)
    });
    DesiredService {
        class: class_of(service.ring),
        flags: if by_source { ServiceRef::SOURCE_AFFINITY } else { 0 },
        start: if by_source || service.protocol == Protocol::Udp { Start::Hidden } else { Start::Visible },
        timeouts: Timeouts::with_idle(
            u32::try_from(service.idle_timeout.as_secs()).unwrap_or(u32::MAX).max(1),
        ),
        backends: backends.collect(),
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
    /// The path to a backend in its mode over a next hop.
    #[must_use]
    pub fn new(backend: &model::Backend, next_hop: Option<&NextHop>) -> Self {
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
        let link = Link { interface: via.ifindex, macs, mtu: u16::try_from(via.mtu).unwrap_or(u16::MAX) };
        match backend.mode {
            // Behind a router there is no segment to rewrite MAC addresses on.
            ForwardMode::L2 if via.gateway.is_some() => Self::Unresolved,
            ForwardMode::L2 => Self::L2(link),
            ForwardMode::Ipip => {
                Self::Ipip { link, source: via.preferred_source, destination: backend.address }
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
                let (mode, outer_checksum) = match (source, destination) {
                    (IpAddr::V4(source), IpAddr::V4(destination)) => {
                        (Mode::IpipV4, outer_checksum_base(source.octets(), destination.octets()))
                    }
                    _ => (Mode::IpipV6, 0),
                };
                Backend {
                    source: (*source).into(),
                    address: (*destination).into(),
                    outer_checksum,
                    ..link.entry(mode)
                }
            }
        }
    }
}

impl Link {
    fn entry(&self, mode: Mode) -> Backend {
        Backend {
            mode: mode as u8,
            egress: self.interface,
            macs: self.macs,
            mtu: self.mtu,
            ..Backend::default()
        }
    }
}

/// A peer's entry.
#[must_use]
pub fn peer_entry(mac: [u8; 6], address: IpAddr) -> (LinkAddress, Peer) {
    (LinkAddress::new(mac), Peer { address: address.into() })
}
