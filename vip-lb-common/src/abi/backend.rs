//! Where packets go.

use super::Address;

/// Names an entry of BACKENDS at one time in its life.
///
/// The generation changes whenever the index gets another owner or the owner dies, so whatever was recorded for
/// the former one no longer refers to anything: a reused index never inherits flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(4))]
pub struct BackendRef {
    /// Index into BACKENDS; 0 names none.
    pub index: u16,
    /// The generation that the entry must still have.
    pub generation: u16,
}

impl BackendRef {
    /// Refers to nothing.
    pub const NONE: Self = Self { index: 0, generation: 0 };

    /// Whether this refers to nothing.
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.index == 0
    }

    /// The mark (`SO_MARK`, socket(7)) of sockets whose packets probe this backend.
    #[inline(always)]
    pub const fn probe_mark(self) -> u32 {
        (self.index as u32) << 16 | self.generation as u32
    }

    /// The destination MAC address, of the locally administered ones (IEEE 802), that says so to the program of probes.
    #[inline(always)]
    pub const fn probe_address(mark: u32) -> [u8; 6] {
        let [a, b, c, d] = mark.to_be_bytes();
        [0x02, 0, a, b, c, d]
    }

    /// The backend that a probe's destination MAC address names.
    #[inline(always)]
    pub const fn of_probe([_, _, a, b, c, d]: [u8; 6]) -> Self {
        Self { index: u16::from_be_bytes([a, b]), generation: u16::from_be_bytes([c, d]) }
    }
}

/// How a backend is reached; the value of [`Backend::mode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Free or dead: no reference to the entry is valid.
    Dead = 0,
    /// Alive, but its next hop is not known yet.
    Unresolved = 1,
    /// The backend is this host: its packets go to the stack.
    Local = 2,
    /// Rewrite the MAC addresses.
    L2 = 3,
    /// Prepend an IPv4 header.
    IpipV4 = 4,
    /// Prepend an IPv6 header.
    IpipV6 = 5,
    /// Prepend IPv4 and UDP headers (GUE variant 1, draft-ietf-intarea-gue-09 section 4).
    GueV4 = 6,
    /// Prepend IPv6 and UDP headers.
    GueV6 = 7,
    /// Translate addresses and ports: an IPv4 packet goes to the backend.
    NatV4 = 8,
    /// Translate addresses and ports: an IPv6 packet goes to the backend.
    NatV6 = 9,
}

impl Mode {
    /// The mode stored in a map, [`Backend::TAGGED`] aside; anything unknown counts as dead.
    pub const fn from_u8(value: u8) -> Self {
        match value & !Backend::TAGGED {
            1 => Self::Unresolved,
            2 => Self::Local,
            3 => Self::L2,
            4 => Self::IpipV4,
            5 => Self::IpipV6,
            6 => Self::GueV4,
            7 => Self::GueV6,
            8 => Self::NatV4,
            9 => Self::NatV6,
            _ => Self::Dead,
        }
    }
}

/// One backend of one service: a value of BACKENDS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Backend {
    /// Generation that a [`BackendRef`] must carry.
    pub generation: u16,
    /// A [`Mode`], with [`Backend::TAGGED`] where its frames carry a tag: one comparison tells the usual ways apart.
    pub mode: u8,
    /// Zero.
    pub reserved: u8,
    /// Interface its packets leave by.
    pub egress: u32,
    /// The twelve bytes that start its frames: MAC address of the next hop, then of the egress interface.
    pub macs: [u8; 12],
    /// Largest IP packet that the path takes, in bytes.
    pub mtu: u16,
    /// The service it belongs to.
    pub service: u16,
    /// Hash of (service, backend address), by which a restarted daemon recognises the entry.
    pub identity: u64,
    /// Source of what goes there: of the outer header (ipip, gue), or of the translated packet (nat).
    pub source: Address,
    /// The backend's own address: destination of the outer header (ipip, gue), or of the translated packet (nat).
    pub address: Address,
    /// Sum of the constant 16-bit words of the outer IPv4 header, folded, not complemented (ipip, gue).
    pub outer_checksum: u32,
    /// Tag control information (IEEE 802.1Q) of the one tag that its frames carry, with [`Backend::TAGGED`]; else they carry none,
    /// whatever they came with.
    pub vlan: u16,
    /// Destination port (nat); 0 keeps the port that was dialled.
    pub port: u16,
}

impl Backend {
    /// In [`Backend::mode`]: frames leave with the tag [`Backend::vlan`].
    pub const TAGGED: u8 = 0x80;

    /// Whether it is reached in one of the ways that nearly all packets take: they are part of the program's first function.
    #[inline(always)]
    pub const fn is_usual(&self) -> bool {
        self.mode <= Mode::IpipV6 as u8
    }

    /// The tag that its frames carry, if any.
    #[inline(always)]
    pub const fn tag(&self) -> Option<u16> {
        if self.mode & Self::TAGGED != 0 { Some(self.vlan) } else { None }
    }
}

/// MAC address of an interface, the value of INTERFACES: what the program answers ARP and ND with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(8))]
pub struct LinkAddress {
    /// The address.
    pub mac: [u8; 6],
    /// Zero.
    pub reserved: [u8; 2],
}

impl LinkAddress {
    /// From the six bytes.
    pub const fn new(mac: [u8; 6]) -> Self {
        Self { mac, reserved: [0; 2] }
    }
}

/// Another node, the value of PEERS (the key is its [`LinkAddress`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Peer {
    /// Its own address: packets from there are a client's, not forwarded ones.
    pub address: Address,
}
