//! Where a packet to an address goes next: the pure decision from the kernel's answers.
//!
//! The kernel's own route lookup (policy rules, ECMP and all) answers for one destination; what that answer
//! means for a program that writes Ethernet headers is decided here.

use std::{io, net::IpAddr};

use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use thiserror::Error;

use super::{
    interface::{Interface, InterfaceError},
    neighbour::Neighbour,
};

/// Where packets to a destination go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// The address is on this host: its stack takes the packet.
    Local,
    /// Out of an interface, in an Ethernet frame to a neighbour.
    Via(Via),
}

/// An Ethernet egress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// The index of the egress interface.
    pub ifindex: u32,
    /// The egress interface's own hardware address: the frame's source.
    pub source_mac: [u8; 6],
    /// The router, if the destination is not on the link. May be IPv6 for an IPv4 destination (RFC 5549).
    pub gateway: Option<IpAddr>,
    /// Whose hardware address is needed: the gateway, or else the destination.
    pub neighbour: IpAddr,
    /// The neighbour's hardware address: the frame's destination. `None` while it is not resolved.
    pub mac: Option<[u8; 6]>,
    /// The largest packet that may go this way in bytes, without the Ethernet header: the route's own limit
    /// or the interface's, whichever is smaller.
    pub mtu: u32,
    /// The address of this host that the kernel would send from; the hint, if one was given.
    pub preferred_source: IpAddr,
    /// Tag control information (IEEE 802.1Q) that frames carry; the egress interface is then the device below.
    pub vlan: Option<u16>,
}

/// Why an address has no next hop.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// No route leads there (`ENETUNREACH`).
    #[error("no route to {destination}")]
    NoRoute {
        /// The address asked for.
        destination: IpAddr,
    },
    /// A route of type `unreachable` covers it (`EHOSTUNREACH`).
    #[error("the route to {destination} is of type unreachable")]
    Unreachable {
        /// The address asked for.
        destination: IpAddr,
    },
    /// A route of type `blackhole` covers it (`EINVAL`).
    #[error("the route to {destination} is of type blackhole")]
    Blackhole {
        /// The address asked for.
        destination: IpAddr,
    },
    /// A route of type `prohibit` covers it (`EACCES`).
    #[error("the route to {destination} is of type prohibit")]
    Prohibited {
        /// The address asked for.
        destination: IpAddr,
    },
    /// The address does not name one host: broadcast, multicast or anycast.
    #[error("{destination} is {kind}, and packets can only be forwarded to a unicast address")]
    NotUnicast {
        /// The address asked for.
        destination: IpAddr,
        /// What it is.
        kind: &'static str,
    },
    /// An IPv6 link-local address means nothing without its interface.
    #[error("{destination} is link-local, and which link is not known")]
    LinkLocal {
        /// The address asked for.
        destination: IpAddr,
    },
    /// Destination and source hint are of different families.
    #[error("source {hint} is not of the address family of {destination}")]
    FamilyMismatch {
        /// The address asked for.
        destination: IpAddr,
        /// The source that was to be used.
        hint: IpAddr,
    },
    /// The destination has a route, but not from the source given, most often because that address is not on
    /// this host.
    #[error("{destination} has a route, but not from source {hint}: is that an address of this host?")]
    SourceRejected {
        /// The address asked for.
        destination: IpAddr,
        /// The source that was to be used.
        hint: IpAddr,
    },
    /// This host has no address of that family to send from.
    #[error("the route to {destination} has no source address: the host has none of that family")]
    NoSource {
        /// The address asked for.
        destination: IpAddr,
    },
    /// The route leads out of an interface that cannot be used.
    #[error("the route to {destination} leads out of an interface that cannot forward")]
    Egress {
        /// The address asked for.
        destination: IpAddr,
        /// What is wrong with the interface.
        source: InterfaceError,
    },
    /// The route leads out of an interface that is down.
    #[error("the route to {destination} leads out of interface `{interface}`, which is down")]
    EgressDown {
        /// The address asked for.
        destination: IpAddr,
        /// The interface's name.
        interface: String,
    },
    /// The kernel's answer makes no sense to us.
    #[error("the kernel's route to {destination} cannot be used: {reason}")]
    Unsupported {
        /// The address asked for.
        destination: IpAddr,
        /// What about it.
        reason: String,
    },
    /// The kernel did not answer.
    #[error("cannot ask the kernel about {subject} on the way to {destination}")]
    Netlink {
        /// The address asked for.
        destination: IpAddr,
        /// What was asked about.
        subject: &'static str,
        /// What the request came to.
        source: io::Error,
    },
}

impl ResolveError {
    /// The meaning of an error number that answers a route lookup. Routes that refuse answer as errors, in
    /// both families.
    pub(super) fn from_route_lookup(destination: IpAddr, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENETUNREACH) => Self::NoRoute { destination },
            Some(libc::EHOSTUNREACH) => Self::Unreachable { destination },
            Some(libc::EINVAL) => Self::Blackhole { destination },
            Some(libc::EACCES) => Self::Prohibited { destination },
            _ => Self::Netlink { destination, subject: "the route", source },
        }
    }
}

/// What of a route lookup's answer matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RouteAnswer {
    pub(super) kind: RouteType,
    pub(super) ifindex: Option<u32>,
    pub(super) gateway: Option<IpAddr>,
    pub(super) preferred_source: Option<IpAddr>,
    /// The route's own limit in bytes: configured, or learned by path MTU discovery.
    pub(super) mtu: Option<u32>,
}

/// What a route answer says to do, before the link layer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    Local,
    Neighbour(Neighbour),
}

impl RouteAnswer {
    pub(super) fn from_message(message: &RouteMessage) -> Self {
        let mut answer = Self {
            kind: message.header.kind,
            ifindex: None,
            gateway: None,
            preferred_source: None,
            mtu: None,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => answer.ifindex = Some(*index),
                RouteAttribute::Gateway(address) => answer.gateway = ip(address),
                RouteAttribute::Via(RouteVia::Inet(address)) => answer.gateway = Some((*address).into()),
                RouteAttribute::Via(RouteVia::Inet6(address)) => answer.gateway = Some((*address).into()),
                RouteAttribute::PrefSource(address) => answer.preferred_source = ip(address),
                RouteAttribute::Metrics(metrics) => {
                    answer.mtu = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) if *mtu != 0 => Some(*mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        answer
    }

    /// The first half of the decision: whose hardware address is needed, if any.
    pub(super) fn hop(&self, destination: IpAddr) -> Result<Hop, ResolveError> {
        let not_unicast = |kind| Err(ResolveError::NotUnicast { destination, kind });
        match self.kind {
            RouteType::Local => Ok(Hop::Local),
            RouteType::Unicast => {
                let ifindex = self.ifindex.ok_or_else(|| ResolveError::Unsupported {
                    destination,
                    reason: "it names no interface".to_owned(),
                })?;
                Ok(Hop::Neighbour(Neighbour { ifindex, address: self.gateway.unwrap_or(destination) }))
            }
            RouteType::Broadcast => not_unicast("a broadcast address"),
            RouteType::Multicast => not_unicast("a multicast address"),
            RouteType::Anycast => not_unicast("an anycast address"),
            RouteType::BlackHole => Err(ResolveError::Blackhole { destination }),
            RouteType::Unreachable => Err(ResolveError::Unreachable { destination }),
            RouteType::Prohibit => Err(ResolveError::Prohibited { destination }),
            RouteType::Throw | RouteType::Unspec => Err(ResolveError::NoRoute { destination }),
            other => Err(ResolveError::Unsupported { destination, reason: format!("its type is {other:?}") }),
        }
    }

    /// The second half: the egress interface and the neighbour's hardware address make the hop complete.
    pub(super) fn via(
        &self,
        destination: IpAddr,
        hint: Option<IpAddr>,
        interface: &Interface,
        mac: Option<[u8; 6]>,
    ) -> Result<Via, ResolveError> {
        if !interface.is_up {
            return Err(ResolveError::EgressDown { destination, interface: interface.name.clone() });
        }
        // An IPv4 answer leaves the preferred source out when it is the one that was asked with.
        let preferred_source = hint
            .or(self.preferred_source)
            .filter(|source| !source.is_unspecified())
            .ok_or(ResolveError::NoSource { destination })?;
        Ok(Via {
            ifindex: interface.index,
            source_mac: interface.mac,
            gateway: self.gateway,
            neighbour: self.gateway.unwrap_or(destination),
            mac,
            mtu: self.mtu.map_or(interface.mtu, |mtu| mtu.min(interface.mtu)),
            preferred_source,
            vlan: None,
        })
    }
}

/// Refuses what need not be asked: what no route lookup can answer usefully.
pub(super) fn check_question(destination: IpAddr, hint: Option<IpAddr>) -> Result<(), ResolveError> {
    if destination.is_multicast() {
        return Err(ResolveError::NotUnicast { destination, kind: "a multicast address" });
    }
    if destination.is_unspecified() {
        return Err(ResolveError::NotUnicast { destination, kind: "the unspecified address" });
    }
    if matches!(destination, IpAddr::V6(address) if address.is_unicast_link_local()) {
        return Err(ResolveError::LinkLocal { destination });
    }
    match hint {
        Some(hint) if hint.is_ipv4() != destination.is_ipv4() => {
            Err(ResolveError::FamilyMismatch { destination, hint })
        }
        _ => Ok(()),
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
