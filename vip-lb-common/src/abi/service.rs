//! VIPs and their services.

use super::Address;

/// Services that a [`Vip`] carries itself. A VIP with no more than these needs no second lookup.
pub const INLINE_SERVICES: usize = 4;

/// Value of VIPS (the key is the [`Address`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Vip {
    /// Names the VIP in [`PortKey`].
    pub id: u32,
    /// Combination of the `Vip::*` flags.
    pub flags: u32,
    /// Its first services, those without a port excepted.
    pub services: [PortEntry; INLINE_SERVICES],
}

impl Vip {
    /// This node answers ARP, neighbour solicitations and echo for the address.
    pub const ANSWER: u32 = 1;
    /// Packets that match no service are handed to the stack instead of dropped.
    pub const PASS_UNKNOWN: u32 = 2;
    /// There are more services, in PORTS.
    pub const MORE: u32 = 4;
    /// There is a service for every port, in PORTS under port 0.
    pub const ANY_PORT: u32 = 8;
    /// This host is a backend of one of its services.
    pub const LOCAL: u32 = 16;
    /// In VIP_INDEX: several VIPs have this place, those that are not in it are in VIPS.
    pub const SHARED: u32 = 64;
    /// In VIP_INDEX: the place is taken, which tells an empty one from a VIP of address `::`.
    pub const PLACED: u32 = 128;
    /// No VIP but an address of this host, at which peers' tunnelled packets for a local backend arrive.
    pub const ENDPOINT: u32 = 32;

    /// The same with more flags.
    #[must_use]
    pub const fn with(self, flags: u32) -> Self {
        Self { flags: self.flags | flags, ..self }
    }
}

/// Places of VIP_INDEX, a power of two.
pub const VIP_PLACES: usize = 8192;

/// Value of VIP_INDEX: the VIP whose [`Address::vip_place`] this is.
///
/// VIPS holds all of them; this is the quick way there, and the quick way out for all other traffic: one array access
/// in place of the kernel's hash function and bucket walk, which cost more than a hundred instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VipPlace {
    /// The VIP; unspecified where there is none.
    pub address: Address,
    /// A copy of its entry in VIPS, with [`Vip::SHARED`] where that says more.
    pub vip: Vip,
}

impl VipPlace {
    /// The value for the VIPs that have one place.
    #[must_use]
    pub fn of(vips: &[(Address, Vip)]) -> Self {
        match *vips {
            [] => Self::default(),
            [(address, vip)] => Self { address, vip: vip.with(Vip::PLACED) },
            [(address, vip), ..] => Self { address, vip: vip.with(Vip::PLACED | Vip::SHARED) },
        }
    }
}

/// A service inside a [`Vip`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PortEntry {
    /// Destination port.
    pub port: u16,
    /// IANA protocol number; 0 marks an unused entry.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
    /// The service.
    pub service: ServiceRef,
}

/// Key of PORTS: the services that do not fit into their [`Vip`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(8))]
pub struct PortKey {
    /// [`Vip::id`].
    pub vip: u32,
    /// Destination port, 0 for every port.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
}

/// All that the packet path needs to know of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(4))]
pub struct ServiceRef {
    /// Index into SERVICE_STATS and the RINGS map of its class.
    pub id: u16,
    /// A [`RingClass`](super::RingClass).
    pub ring_class: u8,
    /// Combination of the `ServiceRef::*` flags.
    pub flags: u8,
}

impl ServiceRef {
    /// All flows of a client address keep to one backend.
    pub const SOURCE_AFFINITY: u8 = 1;
}
