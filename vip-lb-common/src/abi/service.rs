//! VIPs and their services.

use super::{Address, VirtualMac};
use crate::{FlowHash, tables::IcmpUse};

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
    /// This node answers ARP, neighbour solicitations and echo for the address, always.
    pub const ANSWER: u32 = 1;
    /// It does so as long as OWNERS has a lease for the address that holds.
    pub const LEASED: u32 = 2048;
    /// It answers echo for the address and nothing else: routers know the way here.
    pub const ECHO: u32 = 4096;
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
    /// No VIP but an address that translated packets leave with, and backends' answers come to. With [`Vip::ANSWER`] it is vip-lb's alone,
    /// without it the host's too.
    pub const NAT_SOURCE: u32 = 256;
    /// There are services for ranges of ports, in RANGES.
    pub const RANGES: u32 = 512;
    /// In PORTS there is, under [`PortKey::FRAGMENTS`], the service that fragments without a known first one go to.
    pub const FRAGMENTS: u32 = 1024;
    /// It has no services: whatever comes to it is the host's own, as long as that has the address. Only who answers ARP and neighbour
    /// solicitations for it is decided here.
    pub const PLAIN: u32 = 8192;
    /// No VIP but an address that adverts of VRRP are sent to: the group, or this node's own where peers are listed. It comes with
    /// [`Vip::ENDPOINT`], so that programs and daemons from before leave what is sent there to the host.
    pub const ADVERTS: u32 = 16384;
    /// The identifier of its virtual router, in the place of flags: if there is one, it is answered for with that router's hardware address.
    pub const ROUTER: u32 = 0xff << Self::ROUTER_SHIFT;
    /// Any of the flags of an address that is no VIP.
    pub const OWN: u32 = Self::ENDPOINT | Self::NAT_SOURCE | Self::ADVERTS;

    const ROUTER_SHIFT: u32 = 24;

    /// [`Vip::ROUTER`] of this identifier.
    #[must_use]
    pub const fn of_router(id: u8) -> u32 {
        (id as u32) << Self::ROUTER_SHIFT
    }

    /// The hardware address to answer with in the place of the interface's own, if there is one.
    #[inline(always)]
    #[must_use]
    pub const fn virtual_mac(&self, is_v4: bool) -> Option<VirtualMac> {
        if self.flags & Self::ROUTER == 0 {
            return None;
        }
        Some(VirtualMac::new(is_v4, (self.flags >> Self::ROUTER_SHIFT) as u8))
    }

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
    /// 0, or [`PortKey::FRAGMENTS`].
    pub kind: u8,
}

impl PortKey {
    /// In [`PortKey::kind`], with port 0: the only service of this VIP and protocol, where its affinity needs no ports.
    pub const FRAGMENTS: u8 = 1;
}

/// Data of a key of RANGES, an LPM trie: VIP and protocol whole, then as many bits of the port as a block of the range has in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct RangeKey {
    /// [`Vip::id`], in network byte order like all data of a trie.
    pub vip: [u8; 4],
    /// IANA protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
    /// Destination port in network byte order.
    pub port: [u8; 2],
}

impl RangeKey {
    /// Bits of a whole key.
    pub const BITS: u32 = 64;

    /// The key of one port.
    #[inline(always)]
    pub const fn new(vip: u32, protocol: u8, port: u16) -> Self {
        Self { vip: vip.to_be_bytes(), protocol, reserved: 0, port: port.to_be_bytes() }
    }
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
    /// Some backend is reached by nat: NAT_FLOWS is asked before the slot.
    pub const NAT: u8 = 2;
    /// The segment size that SYNs announce is limited to [`ServiceOptions::mss`].
    pub const CLAMP: u8 = 4;
    /// Some backend is reached by gue, or through a VLAN whose tag its frames carry.
    pub const INDIRECT: u8 = 8;
    /// With any of these, all packets of the service go the general way. Without, those to such backends would be steered twice.
    pub const GENERAL: u8 = Self::NAT | Self::INDIRECT;
    /// Which of its flows are looked at closely: see [`ServiceRef::samples`].
    pub const SAMPLE: u8 = 0x70;
    /// With any of these, some packets do.
    pub const UNUSUAL: u8 = Self::GENERAL | Self::CLAMP | Self::SAMPLE;

    /// As [`ServiceRef::id`]: no service, but the probes of this node's checks. Their entries of BACKENDS, NAT_FLOWS and NAT_REPLIES are
    /// their own, and no service counts them.
    pub const PROBES: u16 = u16::MAX;

    /// What the steps of [`ServiceRef::sampling`] are powers of, as that of two.
    const SAMPLE_STEP: u32 = 2;

    /// The flags by which one of so many flows is looked at closely, or of more: all, or one of a power of four up to 4096. Of 0, none is.
    #[must_use]
    pub const fn sampling(one_of: u32) -> u8 {
        if one_of == 0 {
            return 0;
        }
        let step = one_of.ilog2() / Self::SAMPLE_STEP + 1;
        let most = (Self::SAMPLE >> Self::SAMPLE.trailing_zeros()) as u32;
        (if step < most { step } else { most } << Self::SAMPLE.trailing_zeros()) as u8
    }

    /// Whether the flow of this hash is one of those that are looked at closely.
    #[inline(always)]
    pub const fn samples(self, hash: FlowHash) -> bool {
        let step = ((self.flags & Self::SAMPLE) >> Self::SAMPLE.trailing_zeros()) as u32;
        step != 0 && hash.0 & ((1 << (Self::SAMPLE_STEP * (step - 1))) - 1) == 0
    }
}

/// What only rare packets ask of a service: the value of SERVICES, by [`ServiceRef::id`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ServiceOptions {
    /// Largest segment size that a SYN may announce, in bytes (RFC 9293 section 3.7.1); 0 sets no limit.
    pub mss: u16,
    /// ICMP errors that each CPU may steer in a second, and answers that it may send to packets that are too big.
    pub icmp_rate: u16,
    /// Zero.
    pub reserved: u32,
}

/// What this CPU did with ICMP for a service: the value of ICMP_ACCOUNTS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct IcmpAccount {
    /// The second (CLOCK_MONOTONIC) that the counts are of.
    pub second: u32,
    /// ICMP errors steered in it.
    pub errors: u16,
    /// Answers sent in it.
    pub answers: u16,
}

impl IcmpAccount {
    /// Takes one from the budget of `rate` in the second `now`. False when it is spent.
    #[inline(always)]
    pub fn spend(&mut self, use_of: IcmpUse, rate: u16, now: u32) -> bool {
        if self.second != now {
            *self = Self { second: now, errors: 0, answers: 0 };
        }
        let spent = match use_of {
            IcmpUse::Error => &mut self.errors,
            IcmpUse::Answer => &mut self.answers,
        };
        let granted = *spent < rate;
        *spent += granted as u16;
        granted
    }
}
