//! A node whose services are translated.

use vip_lb_common::{
    abi::{Backend, BackendRef, Mode, RingClass, ServiceOptions, ServiceRef, Slot, Vip},
    headers::protocol::{TCP, UDP},
};

use super::{
    super::{
        Scenario,
        scenario::{closed, ip},
    },
    NARROW_MTU, NEXT_HOP, OTHER_INTERFACE,
};

/// A VIP with all services of [`port`].
pub const VIP: &str = "10.77.1.15";
/// A VIP with all services of [`port`].
pub const VIP6: &str = "2001:db8:77::15";
/// A VIP with the services of [`VIP`], so that both share all backends.
pub const OTHER_VIP: &str = "10.77.1.16";
/// The address that translated packets leave with, vip-lb's alone.
pub const NODE: &str = "10.77.0.50";
/// The address that translated packets leave with, vip-lb's alone.
pub const NODE6: &str = "2001:db8:77::50";
/// An address that translated packets leave with, the host's too.
pub const HOST: &str = "10.77.0.51";
/// The backend of every service but those of [`port::ACROSS`].
pub const BACKEND: &str = "10.99.0.1";
/// The backend of every service but those of [`port::ACROSS`].
pub const BACKEND6: &str = "2001:db8:99::1";
/// The port of the backend of [`port::MOVED`].
pub const MOVED_TO: u16 = 8443;
/// The VLAN of the backend of [`port::TAGGED`].
pub const VLAN: u16 = 30;
/// First of the ports that connections have on this node.
pub const FIRST_PORT: u16 = 61_000;

/// Ports of [`VIP`] and [`VIP6`], TCP and UDP.
pub mod port {
    /// The port is kept.
    pub const KEPT: u16 = 80;
    /// The port is translated.
    pub const MOVED: u16 = 443;
    /// Frames to the backend carry a tag.
    pub const TAGGED: u16 = 81;
    /// The backend is of the other family.
    pub const ACROSS: u16 = 82;
    /// One backend is translated, the other is reached by `l2`.
    pub const MIXED: u16 = 83;
    /// Through a path of [`NARROW_MTU`](super::NARROW_MTU).
    pub const NARROW: u16 = 84;
    /// By another interface.
    pub const ELSEWHERE: u16 = 85;
    /// To the backend of the other family through a path of [`NARROW_MTU`](super::NARROW_MTU).
    pub const NARROW_ACROSS: u16 = 86;
    /// The address on this node is the host's too.
    pub const HOST: u16 = 87;
    /// The backend of [`KEPT`], by another service.
    pub const SHARED: u16 = 88;
    /// All of them.
    pub const ALL: [u16; 10] =
        [KEPT, MOVED, TAGGED, ACROSS, MIXED, NARROW, ELSEWHERE, NARROW_ACROSS, HOST, SHARED];
}

/// The index of the translated backend of a service.
pub fn backend_of(port: u16, is_v4: bool) -> u16 {
    let place = port::ALL.iter().position(|&other| other == port).expect("the world has this service");
    140 + 2 * place as u16 + u16::from(is_v4)
}

/// The backend of [`port::MIXED`] that is reached by `l2`.
pub const BY_L2: u16 = 139;

/// Its tables.
pub fn world() -> Scenario {
    let mut world = Scenario::default();
    add(&mut world);
    world
}

/// Adds it to other tables.
pub fn add(world: &mut Scenario) {
    let settings = world.settings_mut();
    (settings.nat_first_port, settings.nat_ports) = (FIRST_PORT, 64);
    let by_l2 = world.backend(BY_L2, Mode::L2, NEXT_HOP, None);
    let mut service = 200;
    for (is_v4, vips) in [(true, &[(VIP, 17), (OTHER_VIP, 18)][..]), (false, &[(VIP6, 19)][..])] {
        let places: Vec<(u16, BackendRef)> =
            port::ALL.iter().map(|&port| (port, translated(world, port, is_v4))).collect();
        for &(address, id) in vips {
            world.vip(address, Vip { id, flags: Vip::ANSWER | Vip::MORE, ..Vip::default() });
            for &(port, backend) in
                places.iter().filter(|(port, _)| address != OTHER_VIP || *port == port::KEPT)
            {
                for protocol in [TCP, UDP] {
                    service += 1;
                    let service = ServiceRef {
                        id: service,
                        ring_class: RingClass::Small as u8,
                        flags: ServiceRef::NAT | sampling(port, protocol),
                    };
                    let slots: Vec<Slot> = match port {
                        port::MIXED => vec![closed(backend), closed(by_l2)],
                        _ => vec![closed(backend)],
                    };
                    world.ring(service, |index| slots[index % slots.len()]);
                    let options = ServiceOptions { icmp_rate: 100, ..ServiceOptions::default() };
                    world.service_options.insert(service.id, options);
                    world.port(id, protocol, port, service);
                }
            }
        }
    }
    let own = Vip { id: 20, flags: Vip::NAT_SOURCE | Vip::ANSWER, ..Vip::default() };
    world.vip(NODE, own);
    world.vip(NODE6, own);
    world.vip(HOST, Vip { flags: Vip::NAT_SOURCE | Vip::ENDPOINT, ..own });
}

/// Flows of some services are looked at closely, over either family and across.
fn sampling(port: u16, protocol: u8) -> u8 {
    let is_sampled = protocol == TCP && matches!(port, port::MOVED | port::ACROSS | port::MIXED);
    ServiceRef::sampling(is_sampled.into())
}

/// The translated backend of a service.
fn translated(world: &mut Scenario, port: u16, is_v4: bool) -> BackendRef {
    let to_v4 = is_v4 != matches!(port, port::ACROSS | port::NARROW_ACROSS);
    let (mode, ends) = if to_v4 { (Mode::NatV4, (NODE, BACKEND)) } else { (Mode::NatV6, (NODE6, BACKEND6)) };
    let reference = world.backend(backend_of(port, is_v4), mode, NEXT_HOP, Some(ends));
    let backend: &mut Backend = world.backends.entry(reference.index).or_default();
    match port {
        port::MOVED => backend.port = MOVED_TO,
        port::TAGGED => (backend.mode, backend.vlan) = (backend.mode | Backend::TAGGED, VLAN),
        port::NARROW | port::NARROW_ACROSS => backend.mtu = NARROW_MTU,
        port::ELSEWHERE => backend.egress = OTHER_INTERFACE,
        port::HOST if to_v4 => backend.source = ip(HOST),
        port::SHARED => backend.port = port::KEPT,
        _ => {}
    }
    reference
}
