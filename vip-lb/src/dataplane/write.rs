//! A change of the maps, as data.

use std::{net::IpAddr, sync::Arc};

use vip_lb_common::abi::{
    Backend, LinkAddress, Peer, PortKey, RangeKey, RingClass, ServiceOptions, ServiceRef, Settings, Slot, Vip,
};

/// A ring to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The service.
    pub service: u16,
    /// Its size class.
    pub class: RingClass,
    /// As many as the class says; shared with whoever decided on them, for they are many.
    pub slots: Arc<[Slot]>,
}

/// One change of one map. A list of them is a plan: what is referred to comes before what refers to it, and goes after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Replaces the settings.
    Settings(Box<Settings>),
    /// Inserts or replaces a backend.
    Backend {
        /// Its index.
        index: u16,
        /// The entry.
        backend: Box<Backend>,
    },
    /// Publishes a ring, all slots at once.
    Ring(Publication),
    /// Takes a ring away.
    RemoveRing {
        /// The service.
        service: u16,
        /// Its size class.
        class: RingClass,
    },
    /// Inserts or replaces an entry of PORTS.
    Port {
        /// VIP, port and protocol.
        key: PortKey,
        /// The service.
        service: ServiceRef,
    },
    /// Removes an entry of PORTS.
    RemovePort(PortKey),
    /// Inserts or replaces a block of ports in RANGES.
    Range {
        /// Bits of the key that count, the protocol's and VIP's included.
        bits: u32,
        /// VIP, protocol and first port.
        key: RangeKey,
        /// The service.
        service: ServiceRef,
    },
    /// Removes a block of ports from RANGES.
    RemoveRange {
        /// Bits of the key that count.
        bits: u32,
        /// VIP, protocol and first port.
        key: RangeKey,
    },
    /// Replaces what SERVICES has for a service.
    ServiceOptions {
        /// The service.
        service: u16,
        /// Its options.
        options: ServiceOptions,
    },
    /// Inserts or replaces a VIP, or an address of this host at which tunnels end or answers of backends arrive.
    Vip {
        /// The address.
        address: IpAddr,
        /// The entry.
        vip: Vip,
    },
    /// Removes a VIP.
    RemoveVip(IpAddr),
    /// Inserts or replaces a peer node.
    Peer {
        /// Its MAC address.
        mac: LinkAddress,
        /// The entry.
        peer: Peer,
    },
    /// Removes a peer node.
    RemovePeer(LinkAddress),
    /// Allows an address to send tunnelled packets to backends on this host.
    TunnelPeer(IpAddr),
    /// Allows it no more.
    RemoveTunnelPeer(IpAddr),
    /// Sets the MAC address that this node answers with on an interface.
    Interface {
        /// Kernel index.
        index: u32,
        /// The address.
        mac: LinkAddress,
    },
    /// Has this node answer on an interface no more.
    RemoveInterface(u32),
}
