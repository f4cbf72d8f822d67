//! What changes in the host's network, read from the kernel's notifications.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::AddressScope,
    link::LinkMessage,
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage},
};

use super::{
    interface::Interface,
    neighbour::{Entry, Neighbour},
};

/// A change in the host's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkEvent {
    /// The state of a neighbour was notified. Most of these say nothing new: the kernel also notifies every
    /// change of an entry's age.
    NeighbourChanged {
        /// Whose entry it is.
        neighbour: Neighbour,
        /// Its hardware address; `None` while it is not resolved.
        mac: Option<[u8; 6]>,
    },
    /// The neighbour's entry was removed, and with it the kernel's duty to keep it resolved.
    NeighbourGone {
        /// Whose entry it was.
        neighbour: Neighbour,
    },
    /// Packets to these addresses may go another way than before.
    RouteChanged {
        /// The addresses.
        prefix: Prefix,
    },
    /// An interface is new or has changed.
    LinkChanged {
        /// Its index.
        ifindex: u32,
        /// What it is now; `None` if it is gone or cannot carry Ethernet frames.
        interface: Option<Interface>,
    },
    /// Notifications were lost: anything may have changed.
    Overrun,
}

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// All addresses whose first `length` bits are those of `address`. A length beyond the family's is cut to
    /// it.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Self {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        Self { address, length: length.min(longest) }
    }

    /// Whether the address lies within; an address of the other family never does.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let length = u32::from(self.length);
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - length).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - length).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl NetworkEvent {
    /// Reads a notification; `None` for those that cannot change where a packet goes.
    pub(super) fn from_message(message: &RouteNetlinkMessage) -> Option<Self> {
        match message {
            RouteNetlinkMessage::NewNeighbour(message) => Entry::from_message(message)
                .map(|entry| Self::NeighbourChanged { neighbour: entry.neighbour, mac: entry.mac }),
            RouteNetlinkMessage::DelNeighbour(message) => {
                Entry::from_message(message).map(|entry| Self::NeighbourGone { neighbour: entry.neighbour })
            }
            RouteNetlinkMessage::NewRoute(message) | RouteNetlinkMessage::DelRoute(message) => {
                route_prefix(message).map(|prefix| Self::RouteChanged { prefix })
            }
            // An address that goes takes with it the routes that prefer it as their source, which IPv4 does
            // not notify. One that comes is notified as a route of the local table.
            RouteNetlinkMessage::DelAddress(message) if message.header.scope == AddressScope::Universe => {
                everything(message.header.family).map(|prefix| Self::RouteChanged { prefix })
            }
            // A policy rule may send anything anywhere.
            RouteNetlinkMessage::NewRule(message) | RouteNetlinkMessage::DelRule(message) => {
                everything(message.header.family).map(|prefix| Self::RouteChanged { prefix })
            }
            RouteNetlinkMessage::NewLink(message) => {
                link_changed(message, Interface::from_message(message).ok())
            }
            RouteNetlinkMessage::DelLink(message) => link_changed(message, None),
            _ => None,
        }
    }
}

/// Bridges notify their ports' settings as links of their own family; those are not the links.
fn link_changed(message: &LinkMessage, interface: Option<Interface>) -> Option<NetworkEvent> {
    (message.header.interface_family == AddressFamily::Unspec)
        .then_some(NetworkEvent::LinkChanged { ifindex: message.header.index, interface })
}

fn everything(family: AddressFamily) -> Option<Prefix> {
    match family {
        AddressFamily::Inet => Some(Prefix::new(Ipv4Addr::UNSPECIFIED.into(), 0)),
        AddressFamily::Inet6 => Some(Prefix::new(Ipv6Addr::UNSPECIFIED.into(), 0)),
        _ => None,
    }
}

fn route_prefix(message: &RouteMessage) -> Option<Prefix> {
    if message.header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let every = everything(message.header.address_family)?;
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    // A default route has no destination attribute.
    Some(destination.map_or(every, |address| Prefix::new(address, message.header.destination_prefix_length)))
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::{
        address::AddressMessage,
        link::{LinkAttribute, LinkLayerType},
        neighbour::{NeighbourAttribute, NeighbourState},
        rule::RuleMessage,
    };

    use super::*;
    use crate::network::neighbour::key_message;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), length.parse().unwrap())
    }

    #[test]
    fn a_prefix_contains_exactly_its_own() {
        for (text, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("2001:db8::1/128", "2001:db8::1", "2001:db8::2"),
            ("::/0", "ff02::1", "0.0.0.0"),
        ] {
            assert!(prefix(text).contains(inside.parse().unwrap()), "{inside} in {text}");
            assert!(!prefix(text).contains(outside.parse().unwrap()), "{outside} not in {text}");
        }
    }

    fn route(family: AddressFamily, destination: Option<(&str, u8)>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        if let Some((address, length)) = destination {
            message.header.destination_prefix_length = length;
            let address: IpAddr = address.parse().unwrap();
            message.attributes.push(RouteAttribute::Destination(address.into()));
        }
        message
    }

    #[test]
    fn a_route_says_whose_packets_it_concerns() {
        for (message, expected) in [
            (route(AddressFamily::Inet, Some(("192.0.2.0", 24))), Some("192.0.2.0/24")),
            (route(AddressFamily::Inet6, Some(("2001:db8::", 32))), Some("2001:db8::/32")),
            (route(AddressFamily::Inet, None), Some("0.0.0.0/0")),
            (route(AddressFamily::Inet6, None), Some("::/0")),
            (route(AddressFamily::Mpls, None), None),
        ] {
            let expected = expected.map(|text| NetworkEvent::RouteChanged { prefix: prefix(text) });
            for wrapped in [
                RouteNetlinkMessage::NewRoute(message.clone()),
                RouteNetlinkMessage::DelRoute(message.clone()),
            ] {
                assert_eq!(NetworkEvent::from_message(&wrapped), expected);
            }
        }
        let mut cached = route(AddressFamily::Inet6, None);
        cached.header.flags = RouteFlags::Cloned;
        assert_eq!(NetworkEvent::from_message(&RouteNetlinkMessage::NewRoute(cached)), None);
    }

    #[test]
    fn an_address_that_goes_or_a_rule_concerns_its_whole_family() {
        let address = |family, scope| {
            let mut message = AddressMessage::default();
            message.header.family = family;
            message.header.scope = scope;
            message
        };
        let global = address(AddressFamily::Inet6, AddressScope::Universe);
        let link_local = address(AddressFamily::Inet6, AddressScope::Link);
        let mut rule = RuleMessage::default();
        rule.header.family = AddressFamily::Inet;
        for (message, expected) in [
            (RouteNetlinkMessage::NewAddress(global.clone()), None),
            (RouteNetlinkMessage::DelAddress(global), Some("::/0")),
            (RouteNetlinkMessage::DelAddress(link_local), None),
            (RouteNetlinkMessage::NewRule(rule.clone()), Some("0.0.0.0/0")),
            (RouteNetlinkMessage::DelRule(rule), Some("0.0.0.0/0")),
        ] {
            let expected = expected.map(|text| NetworkEvent::RouteChanged { prefix: prefix(text) });
            assert_eq!(NetworkEvent::from_message(&message), expected, "{message:?}");
        }
    }

    #[test]
    fn a_neighbour_changes_or_goes() {
        let neighbour = Neighbour { ifindex: 3, address: "192.0.2.7".parse().unwrap() };
        let mut message = key_message(neighbour);
        message.header.state = NeighbourState::Stale;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 2]));
        assert_eq!(
            NetworkEvent::from_message(&RouteNetlinkMessage::NewNeighbour(message.clone())),
            Some(NetworkEvent::NeighbourChanged { neighbour, mac: Some([2, 0, 0, 0, 0, 2]) })
        );
        assert_eq!(
            NetworkEvent::from_message(&RouteNetlinkMessage::DelNeighbour(message)),
            Some(NetworkEvent::NeighbourGone { neighbour })
        );
    }

    #[test]
    fn a_link_changes_or_goes_and_a_bridge_port_is_no_link() {
        let mut message = LinkMessage::default();
        message.header.index = 3;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.attributes = vec![LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]), LinkAttribute::Mtu(1500)];
        assert!(matches!(
            NetworkEvent::from_message(&RouteNetlinkMessage::NewLink(message.clone())),
            Some(NetworkEvent::LinkChanged { ifindex: 3, interface: Some(interface) }) if interface.mtu == 1500
        ));
        assert_eq!(
            NetworkEvent::from_message(&RouteNetlinkMessage::DelLink(message.clone())),
            Some(NetworkEvent::LinkChanged { ifindex: 3, interface: None })
        );
        message.header.interface_family = AddressFamily::Bridge;
        assert_eq!(NetworkEvent::from_message(&RouteNetlinkMessage::NewLink(message)), None);
    }
}
