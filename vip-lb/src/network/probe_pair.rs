//! The pair of virtual Ethernet devices that probes through the VIP leave by.
//!
//! Sockets are bound to the outer end. What they send arrives at the inner end, where a program takes it; nothing else is routed there. The
//! settings that such packets need are the pair's own: those of the host's interfaces stay as they are.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

use rtnetlink::{
    LinkVeth,
    packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage, AddressScope},
        link::{LinkAttribute, LinkFlags, LinkMessage},
        route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};
use thiserror::Error;

use super::{
    Network, Sysctl,
    ethtool::turn_off_checksum_offload,
    interface::{Interface, InterfaceError, InterfaceKind},
};

/// The end that sockets are bound to.
pub const OUTER: &str = "vip-probe";

/// The end where the program of probes is.
pub const INNER: &str = "vip-probe-in";

/// Number of the routing table that leads there, and priority of the rule that leads to it. IPv6 sends nothing by an interface that no
/// route has.
const TABLE: u32 = 0x7650;

/// Attributes of IFLA_AF_SPEC (linux/if_link.h), which sets what `/proc/sys/net/ipv4/conf` has: a service that is kept from writing there can
/// do this.
pub(super) const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET_CONF: u16 = 1;
pub(super) const NLA_F_NESTED: u16 = 0x8000;
/// Numbers of settings (linux/ip.h).
pub(super) const FORWARDING: u16 = 1;
const RP_FILTER: u16 = 8;
const ACCEPT_LOCAL: u16 = 23;
/// Loose: what comes in here has an address that is reached by another interface, or is a VIP that this host has itself.
const LOOSE: u32 = 2;

/// The pair, ready for use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePair {
    /// Index of the sockets' end.
    pub outer: u32,
    /// Index of the other one.
    pub inner: u32,
    /// MAC address of the sockets' end.
    pub mac: [u8; 6],
}

/// Why there is no pair.
#[derive(Debug, Error)]
pub enum ProbePairError {
    /// A device of another kind has the name.
    #[error("there is a device `{name}` that is no veth, but {kind}; rename it, or check with `via: direct`")]
    Taken {
        /// The name.
        name: &'static str,
        /// What sort of device it is.
        kind: InterfaceKind,
    },
    /// The kernel refuses something.
    #[error("cannot {step} the devices that probes leave by, {OUTER} and {INNER}")]
    Refused {
        /// What was tried.
        step: &'static str,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

impl Network {
    /// Makes the pair, or takes the one that is there, and sets it up.
    ///
    /// # Errors
    ///
    /// The caller lacks `CAP_NET_ADMIN`, the kernel has no veth, or the names are taken.
    pub async fn probe_pair(&self) -> Result<ProbePair, ProbePairError> {
        let (outer, inner) = match (self.end(OUTER).await?, self.end(INNER).await?) {
            (Some(outer), Some(inner)) => (outer, inner),
            _ => {
                let message = LinkVeth::new(OUTER, INNER).build();
                self.change("create", RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
                    .await?;
                match (self.end(OUTER).await?, self.end(INNER).await?) {
                    (Some(outer), Some(inner)) => (outer, inner),
                    _ => return Err(refused("find", io::ErrorKind::NotFound.into())),
                }
            }
        };
        // Complete packets only: nobody computes a checksum after the program.
        turn_off_checksum_offload(OUTER).map_err(|source| refused("turn off checksum offload of", source))?;
        // The host's own setting counts where it is stricter; where it is off, nothing is looked up, and nothing need be found.
        let filters = Sysctl::ipv4("all", "rp_filter").read().is_ok_and(|strictness| strictness != 0);
        let settings = [(FORWARDING, 0), (RP_FILTER, if filters { LOOSE } else { 0 }), (ACCEPT_LOCAL, 1)];
        for index in [outer.index, inner.index] {
            self.change("set up", RouteNetlinkMessage::SetLink(up(index, &settings)), 0).await?;
        }
        let address = RouteNetlinkMessage::NewAddress(dummy_address(outer.index));
        self.change("give an address to", address, NLM_F_CREATE | NLM_F_EXCL)
            .await
            .or_else(|error| error.unless(&[libc::EEXIST]))?;
        self.lead_to(outer.index).await?;
        Ok(ProbePair { outer: outer.index, inner: inner.index, mac: outer.mac })
    }

    /// Removes the pair, and what leads to it. Tells whether it was there.
    ///
    /// # Errors
    ///
    /// The caller lacks `CAP_NET_ADMIN`.
    pub async fn remove_probe_pair(&self) -> Result<bool, ProbePairError> {
        let Ok(Some(outer)) = self.end(OUTER).await else {
            return Ok(false);
        };
        let rule = RouteNetlinkMessage::DelRule(rule());
        self.change("remove the rule of", rule, 0).await.or_else(|error| error.unless(&[libc::ENOENT]))?;
        let mut message = LinkMessage::default();
        message.header.index = outer.index;
        self.change("remove", RouteNetlinkMessage::DelLink(message), 0)
            .await
            .or_else(|error| error.unless(&[libc::ENODEV]))?;
        Ok(true)
    }

    /// One end, if it is there.
    async fn end(&self, name: &'static str) -> Result<Option<Interface>, ProbePairError> {
        match self.interface(name).await {
            Ok(Interface { kind, .. }) if kind != InterfaceKind::Veth => {
                Err(ProbePairError::Taken { name, kind })
            }
            Ok(interface) => Ok(Some(interface)),
            Err(InterfaceError::NotFound { .. }) => Ok(None),
            Err(error) => Err(refused("look at", io::Error::other(error))),
        }
    }

    /// A route in a table of its own, and the rule by which sockets of the outer end find it. IPv4 needs neither.
    async fn lead_to(&self, outer: u32) -> Result<(), ProbePairError> {
        let mut route = RouteMessage::default();
        route.header = RouteHeader {
            address_family: AddressFamily::Inet6,
            table: RouteHeader::RT_TABLE_UNSPEC,
            protocol: RouteProtocol::Static,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        route.attributes = vec![RouteAttribute::Table(TABLE), RouteAttribute::Oif(outer)];
        let requests = [
            ("add a route to", RouteNetlinkMessage::NewRoute(route)),
            ("add the rule of", RouteNetlinkMessage::NewRule(rule())),
        ];
        for (step, request) in requests {
            // A host without IPv6 probes none.
            let expected = [libc::EEXIST, libc::EAFNOSUPPORT, libc::EOPNOTSUPP, libc::EACCES];
            self.change(step, request, NLM_F_CREATE | NLM_F_EXCL)
                .await
                .or_else(|error| error.unless(&expected))?;
        }
        Ok(())
    }

    async fn change(
        &self,
        step: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), ProbePairError> {
        self.requests.send(message, flags).await.map(drop).map_err(|source| refused(step, source))
    }
}

impl ProbePairError {
    /// Nothing, where the kernel says one of these.
    fn unless(self, numbers: &[i32]) -> Result<(), Self> {
        match &self {
            Self::Refused { source, .. }
                if source.raw_os_error().is_some_and(|number| numbers.contains(&number)) =>
            {
                Ok(())
            }
            _ => Err(self),
        }
    }
}

fn refused(step: &'static str, source: io::Error) -> ProbePairError {
    ProbePairError::Refused { step, source }
}

/// Up, without address resolution: the program says whom a packet is for.
pub(super) fn up(index: u32, settings: &[(u16, u32)]) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up | LinkFlags::Noarp;
    message.header.change_mask = LinkFlags::Up | LinkFlags::Noarp;
    let settings: Vec<u8> =
        settings.iter().flat_map(|&(number, value)| attribute(number, &value.to_ne_bytes())).collect();
    let of_family = attribute(IFLA_INET_CONF | NLA_F_NESTED, &settings);
    let of_families = attribute(libc::AF_INET as u16 | NLA_F_NESTED, &of_family);
    message.attributes.push(LinkAttribute::Other(DefaultNla::new(IFLA_AF_SPEC | NLA_F_NESTED, of_families)));
    message
}

/// The IPv4 dummy address (RFC 7600 section 4.8), for this host only. To the reverse path filter an interface without any address is one
/// that nothing may come in by.
fn dummy_address(index: u32) -> AddressMessage {
    const DUMMY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8));
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.scope = AddressScope::Host;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(DUMMY), AddressAttribute::Address(DUMMY)];
    message
}

/// A netlink attribute (linux/netlink.h): its length with the header, its kind, its bytes, padded to four.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    const HEADER: usize = 4;
    let len = u16::try_from(HEADER + value.len()).expect("an attribute is short");
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(HEADER), 0);
    bytes
}

fn rule() -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = AddressFamily::Inet6;
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![
        RuleAttribute::Priority(TABLE),
        RuleAttribute::Table(TABLE),
        RuleAttribute::Oifname(OUTER.to_owned()),
    ];
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        assert_eq!(attribute(3, &[1, 2, 3, 4, 5]), [[9, 0, 3, 0], [1, 2, 3, 4], [5, 0, 0, 0]].concat());
        assert_eq!(attribute(RP_FILTER, &LOOSE.to_ne_bytes()).len(), 8);
    }
}
