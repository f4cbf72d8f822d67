//! A node whose tables hold at least one of everything: the scenario that cases run in.

pub mod nat;

use vip_lb_common::{
    abi::{
        Backend, BackendRef, Lease, LinkAddress, Mode, Peer, Phase, PortEntry, PortKey, RangeKey, RingClass,
        ServiceOptions, ServiceRef, Settings, Slot, Vip, VirtualMac,
    },
    headers::protocol::{TCP, UDP},
};

use super::{
    Scenario,
    scenario::{closed, ip, open},
};
use crate::packet::Mac;

/// A client.
pub const CLIENT: &str = "192.0.2.7";
/// A client.
pub const CLIENT6: &str = "2001:db8:c::7";
/// The VIP with all services of [`port`].
pub const VIP: &str = "10.77.1.1";
/// The VIP with all services of [`port`].
pub const VIP6: &str = "2001:db8:77::1";
/// A VIP with services for every port.
pub const ANY_PORT_VIP: &str = "10.77.1.2";
/// A VIP that this node does not answer for, and whose unknown services are passed.
pub const QUIET_VIP: &str = "10.77.1.3";
/// A VIP that this node does not answer for.
pub const QUIET_VIP6: &str = "2001:db8:77::3";
/// A VIP of which this node has a lease.
pub const LEASED_VIP: &str = "10.77.1.7";
/// A VIP of which this node has a lease.
pub const LEASED_VIP6: &str = "2001:db8:77::7";
/// A VIP of which this node had a lease, which is over.
pub const LAPSED_VIP: &str = "10.77.1.8";
/// A VIP of which this node had a lease, which is over.
pub const LAPSED_VIP6: &str = "2001:db8:77::8";
/// A VIP of which this node has had no lease.
pub const UNLEASED_VIP: &str = "10.77.1.9";
/// A VIP of which this node has had no lease.
pub const UNLEASED_VIP6: &str = "2001:db8:77::9";
/// A VIP that routers know the way to.
pub const ROUTED_VIP: &str = "10.77.1.10";
/// A VIP that routers know the way to.
pub const ROUTED_VIP6: &str = "2001:db8:77::10";
/// A VIP without services, of which this node has a lease.
pub const PLAIN_VIP: &str = "10.77.1.12";
/// A VIP without services, of which this node has a lease.
pub const PLAIN_VIP6: &str = "2001:db8:77::c";
/// A VIP without services, of which this node has no lease.
pub const UNLEASED_PLAIN_VIP: &str = "10.77.1.11";
/// A VIP without services, of which this node has no lease.
pub const UNLEASED_PLAIN_VIP6: &str = "2001:db8:77::b";
/// A VIP with the hardware address of [`ROUTER`], of which this node has a lease.
pub const VIRTUAL_VIP: &str = "10.77.1.13";
/// A VIP with the hardware address of [`ROUTER`], of which this node has a lease.
pub const VIRTUAL_VIP6: &str = "2001:db8:77::d";
/// The virtual router of these two.
pub const ROUTER: u8 = 51;
/// A virtual router of which this node had a lease, which is over.
pub const LAPSED_ROUTER: u8 = 52;
/// A VIP with a backend on this very host.
pub const LOCAL_VIP: &str = "10.77.1.4";
/// A VIP with a backend on this very host.
pub const LOCAL_VIP6: &str = "2001:db8:77::4";
/// A VIP with services for ranges of ports, see [`port::IN_RANGE`].
pub const RANGE_VIP: &str = "10.77.1.5";
/// A VIP with services for ranges of ports.
pub const RANGE_VIP6: &str = "2001:db8:77::5";
/// A VIP whose one UDP service, [`port::AFFINE`], takes fragments without a first one.
pub const PIECES_VIP: &str = "10.77.1.6";
/// A VIP whose one UDP service takes fragments without a first one.
pub const PIECES_VIP6: &str = "2001:db8:77::6";
/// This host's own address, at which peers' tunnels end.
pub const ENDPOINT: &str = "10.77.0.1";
/// This host's own address, at which peers' tunnels end.
pub const ENDPOINT6: &str = "2001:db8:77::e1";
/// Where nodes say by VRRP that they are active.
pub const ADVERTS: &str = "224.0.0.18";
/// Where nodes say by VRRP that they are active.
pub const ADVERTS6: &str = "ff02::12";
/// This host's own address, which peers send their adverts of VRRP to.
pub const SPEAKER: &str = "10.77.0.4";
/// Another node, allowed to send tunnelled packets.
pub const PEER: &str = "10.77.0.2";
/// Another node, allowed to send tunnelled packets.
pub const PEER6: &str = "2001:db8:77::e2";
/// MAC address of [`PEER`].
pub const PEER_MAC: Mac = [0x02, 0, 0, 0, 0, 0x02];
/// MAC address of the next hop to every backend but those of [`port::SPREAD`].
pub const NEXT_HOP: Mac = [0x02, 0, 0, 0, 0, 0xb1];
/// Outer source of IPv4 tunnels.
pub const TUNNEL: &str = "10.77.0.1";
/// Outer source of IPv6 tunnels.
pub const TUNNEL6: &str = "2001:db8:77::e1";
/// Backend at the end of IPv4 tunnels.
pub const FAR: &str = "10.88.0.9";
/// Backend at the end of IPv6 tunnels.
pub const FAR6: &str = "2001:db8:88::9";
/// Largest packet to the backend of [`port::NARROW`].
pub const NARROW_MTU: u16 = 100;
/// Tag of what goes into a VLAN: VID 300 at priority 5.
pub const VLAN: u16 = 300 | 5 << 13;
/// Largest packet to the backend of [`port::JUMBO`].
pub const JUMBO_MTU: u16 = 9000;
/// What [`port::RATIONED`] does with ICMP in a second.
pub const RATE: u16 = 3;
/// Segment size that SYNs to [`port::CLAMPED`] may announce.
pub const CLAMP: u16 = 1400;
/// Interface by which the backend of [`port::ELSEWHERE`] is reached.
pub const OTHER_INTERFACE: u32 = 4242;

/// Ports of [`VIP`] and [`VIP6`], TCP unless said otherwise, each a service of its own kind.
pub mod port {
    /// TCP and UDP to a backend by `l2`. Inline in the VIP.
    pub const L2: u16 = 80;
    /// `ipip` with an IPv4 outer header. Inline in the VIP, TCP; in PORTS, UDP.
    pub const IPIP: u16 = 443;
    /// `ipip` with an IPv6 outer header. Inline in the VIP.
    pub const IPIP6: u16 = 8443;
    /// Ten backends of all modes; TCP and UDP.
    pub const SPREAD: u16 = 8080;
    /// A ring whose slots name no backend.
    pub const EMPTY: u16 = 81;
    /// No ring.
    pub const RINGLESS: u16 = 82;
    /// A backend whose generation is over.
    pub const GONE: u16 = 83;
    /// A backend whose next hop is not known.
    pub const UNRESOLVED: u16 = 84;
    /// A backend on this host.
    pub const LOCAL: u16 = 85;
    /// `ipip` through a path of [`NARROW_MTU`](super::NARROW_MTU).
    pub const NARROW: u16 = 86;
    /// `l2` by another interface.
    pub const ELSEWHERE: u16 = 87;
    /// Affinity by source, many backends.
    pub const AFFINE: u16 = 88;
    /// Ring of 65537 slots.
    pub const MEDIUM: u16 = 89;
    /// Ring of 131071 slots.
    pub const LARGE: u16 = 90;
    /// `ipip` with an IPv6 outer header by another interface.
    pub const ELSEWHERE6: u16 = 91;
    /// `gue` with an IPv4 outer header; TCP and UDP.
    pub const GUE: u16 = 92;
    /// `gue` with an IPv6 outer header; TCP and UDP.
    pub const GUE6: u16 = 93;
    /// `l2` into a VLAN, [`VLAN`](super::VLAN).
    pub const TAGGED: u16 = 94;
    /// `ipip` with an IPv4 outer header into a VLAN.
    pub const TAGGED_IPIP: u16 = 95;
    /// `ipip` with an IPv6 outer header into a VLAN.
    pub const TAGGED_IPIP6: u16 = 96;
    /// `gue` with an IPv4 outer header into a VLAN.
    pub const TAGGED_GUE: u16 = 97;
    /// `gue` with an IPv6 outer header into a VLAN.
    pub const TAGGED_GUE6: u16 = 98;
    /// `ipip` with an IPv4 outer header through a path of [`JUMBO_MTU`](super::JUMBO_MTU).
    pub const JUMBO: u16 = 119;
    /// Open slots; TCP and UDP.
    pub const OPEN: u16 = 100;
    /// Open slots in which all older UDP flows are recorded; TCP and UDP.
    pub const KNOWN: u16 = 101;
    /// Slots about to close; TCP and UDP.
    pub const SETTLING: u16 = 102;
    /// Open slots, affinity by source.
    pub const OPEN_AFFINE: u16 = 103;
    /// Open slots whose `previous` died.
    pub const ORPHANED: u16 = 104;
    /// A path of [`NARROW_MTU`](super::NARROW_MTU), and no ICMP at all: neither steered nor sent.
    pub const MUTE: u16 = 105;
    /// As [`IPIP`]; [`RATE`](super::RATE) ICMP errors in a second, and as many answers.
    pub const RATIONED: u16 = 106;
    /// `l2`; announced segment sizes are limited to [`CLAMP`](super::CLAMP).
    pub const CLAMPED: u16 = 107;
    /// The same into an IPv4 tunnel.
    pub const CLAMPED_IPIP: u16 = 108;
    /// `l2`; flagged as one whose segment sizes are limited, with the limit 0.
    pub const CLAMPED_TO_0: u16 = 109;
    /// Ten backends of all modes; all flows are looked at closely.
    pub const SAMPLED: u16 = 110;
    /// The same of one flow in four.
    pub const SAMPLED_IN_PART: u16 = 111;
    /// Open slots; all flows are looked at closely.
    pub const SAMPLED_OPEN: u16 = 112;
    /// `l2`; announced segment sizes are limited, and all flows looked at closely.
    pub const SAMPLED_CLAMPED: u16 = 113;
    /// Affinity by source; the flows of one client in four are looked at closely.
    pub const SAMPLED_AFFINE: u16 = 114;
    /// No service.
    pub const UNKNOWN: u16 = 9999;
    /// Of [`RANGE_VIP`](super::RANGE_VIP): the first of eight ports of the TCP service of [`L2`]. The next port is that of [`IPIP6`], because
    /// PORTS knows it, and the two from [`NARROWER`] on are that of [`IPIP`]; all other ports are that of [`GONE`].
    pub const IN_RANGE: u16 = 20_000;
    /// The first of two ports inside that range that are a range of their own.
    pub const NARROWER: u16 = IN_RANGE + 4;
}

/// Where new flows of open slots go.
pub const CURRENT: u16 = 1;
/// Where older flows of open slots go.
pub const PREVIOUS: u16 = 12;
/// A backend that a flow may be recorded on besides those two.
pub const THIRD: u16 = 13;
/// Opening that the open slots are in.
pub const EPOCH: u16 = 7;

/// The tables.
pub fn world() -> Scenario {
    let mut world = Scenario::default();
    let services = services(&mut world);
    let mut inline = [PortEntry::default(); 4];
    for (entry, &(port, protocol)) in
        inline.iter_mut().zip(&[(port::L2, TCP), (port::L2, UDP), (port::IPIP, TCP), (port::IPIP6, TCP)])
    {
        *entry = PortEntry { port, protocol, reserved: 0, service: service_at(&services, port, protocol) };
    }
    for (id, address) in [(1, VIP), (2, VIP6)] {
        let vip = Vip { id, flags: Vip::ANSWER | Vip::MORE, services: inline };
        world.vip(address, vip);
        for &(port, protocol, service) in &services {
            if !inline.iter().any(|entry| (entry.port, entry.protocol) == (port, protocol)) {
                world.port(id, protocol, port, service);
            }
        }
    }
    special_vips(&mut world, &services);
    peers(&mut world);
    world
}

fn service_at(services: &[(u16, u8, ServiceRef)], port: u16, protocol: u8) -> ServiceRef {
    services
        .iter()
        .find(|service| (service.0, service.1) == (port, protocol))
        .expect("the world has this service")
        .2
}

/// Port, protocols, ring, flags, and the slots that the ring repeats; none for no ring.
type Kind<'k> = (u16, &'k [u8], RingClass, u8, Vec<Slot>);

/// Backends and rings. Returns port, protocol and service.
fn services(world: &mut Scenario) -> Vec<(u16, u8, ServiceRef)> {
    let l2 = world.backend(CURRENT, Mode::L2, NEXT_HOP, None);
    world.backends.entry(CURRENT).or_default().mtu = JUMBO_MTU;
    let ipip = world.backend(2, Mode::IpipV4, NEXT_HOP, Some((TUNNEL, FAR)));
    let ipip6 = world.backend(3, Mode::IpipV6, NEXT_HOP, Some((TUNNEL6, FAR6)));
    let gone = world.backend(4, Mode::L2, NEXT_HOP, None);
    let unresolved = world.backend(5, Mode::Unresolved, NEXT_HOP, None);
    let local = world.backend(6, Mode::Local, NEXT_HOP, None);
    let narrow = world.backend(7, Mode::IpipV4, NEXT_HOP, Some((TUNNEL, FAR)));
    world.backends.entry(narrow.index).or_default().mtu = NARROW_MTU;
    let elsewhere = world.backend(8, Mode::L2, NEXT_HOP, None);
    let elsewhere6 = world.backend(9, Mode::IpipV6, NEXT_HOP, Some((TUNNEL6, FAR6)));
    for index in [elsewhere.index, elsewhere6.index] {
        world.backends.entry(index).or_default().egress = OTHER_INTERFACE;
    }
    let gue = world.backend(10, Mode::GueV4, NEXT_HOP, Some((TUNNEL, FAR)));
    let gue6 = world.backend(11, Mode::GueV6, NEXT_HOP, Some((TUNNEL6, FAR6)));
    let tagged = [
        (port::TAGGED, Mode::L2, None),
        (port::TAGGED_IPIP, Mode::IpipV4, Some((TUNNEL, FAR))),
        (port::TAGGED_IPIP6, Mode::IpipV6, Some((TUNNEL6, FAR6))),
        (port::TAGGED_GUE, Mode::GueV4, Some((TUNNEL, FAR))),
        (port::TAGGED_GUE6, Mode::GueV6, Some((TUNNEL6, FAR6))),
    ];
    let tagged: Vec<(u16, BackendRef)> = (14..)
        .zip(tagged)
        .map(|(index, (port, mode, tunnel))| {
            let backend = world.backend(index, mode, NEXT_HOP, tunnel);
            let entry = world.backends.entry(index).or_default();
            entry.mode |= Backend::TAGGED;
            entry.vlan = VLAN;
            (port, backend)
        })
        .collect();
    let jumbo = world.backend(40, Mode::IpipV4, NEXT_HOP, Some((TUNNEL, FAR)));
    world.backends.entry(jumbo.index).or_default().mtu = JUMBO_MTU;
    let previous = world.backend(PREVIOUS, Mode::IpipV4, NEXT_HOP, Some((TUNNEL, FAR)));
    world.backend(THIRD, Mode::L2, NEXT_HOP, None);
    let over = |backend: BackendRef| BackendRef { generation: backend.generation + 1, ..backend };
    let many: Vec<BackendRef> = (20..30)
        .map(|index| {
            let mac = [0x02, 0, 0, 0, 1, index as u8];
            match index % 5 {
                0 => world.backend(index, Mode::IpipV6, mac, Some((TUNNEL6, "2001:db8:88::20"))),
                1 | 2 => world.backend(index, Mode::IpipV4, mac, Some((TUNNEL, "10.88.0.20"))),
                _ => world.backend(index, Mode::L2, mac, None),
            }
        })
        .collect();

    let opened = |phase, previous| open(phase, l2, previous, EPOCH);
    let one = |slot: Slot| vec![slot];
    let spread: Vec<Slot> = many.iter().copied().map(closed).collect();
    let both = [TCP, UDP].as_slice();
    let tcp = [TCP].as_slice();
    let mut kinds: Vec<Kind<'_>> = vec![
        (port::L2, both, RingClass::Small, 0, one(closed(l2))),
        (port::IPIP, both, RingClass::Small, 0, one(closed(ipip))),
        (port::IPIP6, both, RingClass::Small, 0, one(closed(ipip6))),
        (port::SPREAD, both, RingClass::Small, 0, spread.clone()),
        (port::EMPTY, tcp, RingClass::Small, 0, one(Slot::default())),
        (port::RINGLESS, tcp, RingClass::Small, 0, Vec::new()),
        (port::GONE, tcp, RingClass::Small, 0, one(closed(over(gone)))),
        (port::UNRESOLVED, tcp, RingClass::Small, 0, one(closed(unresolved))),
        (port::LOCAL, tcp, RingClass::Small, 0, one(closed(local))),
        (port::NARROW, both, RingClass::Small, 0, one(closed(narrow))),
        (port::ELSEWHERE, tcp, RingClass::Small, 0, one(closed(elsewhere))),
        (port::ELSEWHERE6, tcp, RingClass::Small, 0, one(closed(elsewhere6))),
        (port::GUE, both, RingClass::Small, 0, one(closed(gue))),
        (port::GUE6, both, RingClass::Small, 0, one(closed(gue6))),
        (port::JUMBO, both, RingClass::Small, 0, one(closed(jumbo))),
        (port::AFFINE, both, RingClass::Small, ServiceRef::SOURCE_AFFINITY, spread.clone()),
        (port::MEDIUM, tcp, RingClass::Medium, 0, spread.clone()),
        (port::LARGE, tcp, RingClass::Large, 0, spread.clone()),
        (port::OPEN, both, RingClass::Small, 0, one(opened(Phase::Open, previous))),
        (port::KNOWN, both, RingClass::Small, 0, one(opened(Phase::Known, previous))),
        (port::SETTLING, both, RingClass::Small, 0, one(opened(Phase::Settling, previous))),
        (
            port::OPEN_AFFINE,
            both,
            RingClass::Small,
            ServiceRef::SOURCE_AFFINITY,
            one(opened(Phase::Open, previous)),
        ),
        (port::ORPHANED, both, RingClass::Small, 0, one(opened(Phase::Open, over(gone)))),
        (port::MUTE, both, RingClass::Small, 0, one(closed(narrow))),
        (port::CLAMPED, tcp, RingClass::Small, ServiceRef::CLAMP, one(closed(l2))),
        (port::CLAMPED_IPIP, tcp, RingClass::Small, ServiceRef::CLAMP, one(closed(ipip))),
        (port::CLAMPED_TO_0, tcp, RingClass::Small, ServiceRef::CLAMP, one(closed(l2))),
        (port::RATIONED, both, RingClass::Small, 0, one(closed(ipip))),
    ];
    let sampling = ServiceRef::sampling;
    let affine = ServiceRef::SOURCE_AFFINITY | sampling(4);
    kinds.extend([
        (port::SAMPLED, tcp, RingClass::Small, sampling(1), spread.clone()),
        (port::SAMPLED_IN_PART, tcp, RingClass::Small, sampling(4), spread.clone()),
        (port::SAMPLED_OPEN, tcp, RingClass::Small, sampling(1), one(opened(Phase::Open, previous))),
        (port::SAMPLED_CLAMPED, tcp, RingClass::Small, ServiceRef::CLAMP | sampling(1), one(closed(l2))),
        (port::SAMPLED_AFFINE, tcp, RingClass::Small, affine, spread),
    ]);
    kinds.extend(
        tagged.into_iter().map(|(port, backend)| (port, both, RingClass::Small, 0, one(closed(backend)))),
    );
    let mut services = Vec::new();
    for (port, protocols, class, flags, slots) in kinds {
        for &protocol in protocols {
            let service = ServiceRef { id: services.len() as u16 + 1, ring_class: class as u8, flags };
            if !slots.is_empty() {
                world.ring(service, |index| slots[index % slots.len()]);
            }
            world.service_options.insert(service.id, options(port));
            services.push((port, protocol, service));
        }
    }
    services
}

/// What is rarely asked of the service of a port.
fn options(port: u16) -> ServiceOptions {
    let mss = match port {
        port::CLAMPED | port::CLAMPED_IPIP | port::SAMPLED_CLAMPED => CLAMP,
        _ => 0,
    };
    // Clocks differ between kernel and host, so that a budget must be spent either never or always.
    let icmp_rate = match port {
        port::MUTE => 0,
        port::RATIONED => RATE,
        _ => u16::MAX,
    };
    ServiceOptions { mss, icmp_rate, reserved: 0 }
}

fn special_vips(world: &mut Scenario, services: &[(u16, u8, ServiceRef)]) {
    let service = |port, protocol| service_at(services, port, protocol);
    let entry = |port, protocol, service| PortEntry { port, protocol, reserved: 0, service };
    let mut inline = [PortEntry::default(); 4];
    inline[0] = entry(80, TCP, service(port::L2, TCP));
    let any_port = Vip { id: 3, flags: Vip::ANSWER | Vip::MORE | Vip::ANY_PORT, services: inline };
    world.vip(ANY_PORT_VIP, any_port);
    // What PORTS says of port 80 must not matter, because the VIP itself knows better.
    world.port(3, TCP, 80, service(port::EMPTY, TCP));
    world.port(3, TCP, 81, service(port::IPIP6, TCP));
    world.port(3, TCP, 0, service(port::IPIP, TCP));

    let quiet = Vip { id: 4, flags: Vip::PASS_UNKNOWN, services: inline };
    world.vip(QUIET_VIP, quiet);
    world.vip(QUIET_VIP6, quiet);

    let leases = [
        (9, [LEASED_VIP, LEASED_VIP6], Some(u64::MAX)),
        (10, [LAPSED_VIP, LAPSED_VIP6], Some(0)),
        (11, [UNLEASED_VIP, UNLEASED_VIP6], None),
        (20, [PLAIN_VIP, PLAIN_VIP6], Some(u64::MAX)),
        (21, [UNLEASED_PLAIN_VIP, UNLEASED_PLAIN_VIP6], None),
    ];
    for (id, addresses, until) in leases {
        for address in addresses {
            let leased = Vip { id, flags: Vip::LEASED, services: inline };
            let plain = Vip { flags: Vip::LEASED | Vip::PLAIN, services: Default::default(), ..leased };
            world.vip(address, if id < 12 { leased } else { plain });
            world.leases.extend(until.map(|until| (ip(address), Lease { until })));
        }
    }

    virtual_routers(world, inline);

    for address in [ROUTED_VIP, ROUTED_VIP6] {
        world.vip(address, Vip { id: 12, flags: Vip::ECHO, services: inline });
    }

    let mut inline = [PortEntry::default(); 4];
    inline[0] = entry(80, TCP, service(port::LOCAL, TCP));
    let local = Vip { id: 5, flags: Vip::ANSWER | Vip::LOCAL, services: inline };
    world.vip(LOCAL_VIP, local);
    world.vip(LOCAL_VIP6, local);

    let ranges =
        Vip { id: 7, flags: Vip::ANSWER | Vip::MORE | Vip::RANGES | Vip::ANY_PORT, ..Vip::default() };
    world.vip(RANGE_VIP, ranges);
    world.vip(RANGE_VIP6, ranges);
    for (bits, first, of) in [(13, port::IN_RANGE, port::L2), (15, port::NARROWER, port::IPIP)] {
        world.ranges.push((48 + bits, RangeKey::new(7, TCP, first), service(of, TCP)));
    }
    world.port(7, TCP, port::IN_RANGE + 1, service(port::IPIP6, TCP));
    world.port(7, TCP, 0, service(port::GONE, TCP));

    let pieces = Vip { id: 8, flags: Vip::ANSWER | Vip::MORE | Vip::FRAGMENTS, ..Vip::default() };
    world.vip(PIECES_VIP, pieces);
    world.vip(PIECES_VIP6, pieces);
    let affine = service(port::AFFINE, UDP);
    world.port(8, UDP, port::AFFINE, affine);
    let any = PortKey { vip: 8, port: 0, protocol: UDP, kind: PortKey::FRAGMENTS };
    world.ports.insert(any, affine);

    let endpoint = Vip { id: 6, flags: Vip::ENDPOINT, ..Vip::default() };
    world.vip(ENDPOINT, endpoint);
    world.vip(ENDPOINT6, endpoint);
    for address in [ADVERTS, ADVERTS6, SPEAKER] {
        world.vip(address, endpoint.with(Vip::ADVERTS));
    }
}

fn virtual_routers(world: &mut Scenario, services: [PortEntry; 4]) {
    for address in [VIRTUAL_VIP, VIRTUAL_VIP6] {
        let flags = Vip::LEASED | Vip::PASS_UNKNOWN | Vip::of_router(ROUTER);
        world.vip(address, Vip { id: 22, flags, services });
        world.leases.insert(ip(address), Lease { until: u64::MAX });
    }
    for is_v4 in [true, false] {
        for (router, until) in [(ROUTER, u64::MAX), (LAPSED_ROUTER, 0)] {
            world.leases.insert(VirtualMac::new(is_v4, router).key(), Lease { until });
        }
    }
}

fn peers(world: &mut Scenario) {
    world.settings_mut().flags |= Settings::PEERS;
    world.peers.insert(LinkAddress::new(PEER_MAC), Peer { address: ip(PEER) });
    world.decap_sources = vec![ip(PEER), ip(PEER6)];
    world.decap_vips = [VIP, VIP6, LOCAL_VIP, LOCAL_VIP6].map(ip).to_vec();
}
