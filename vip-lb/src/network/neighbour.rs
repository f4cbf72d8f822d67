//! An entry of the kernel's neighbour table (ARP and neighbour discovery), read and written as messages.
//!
//! XDP traffic never confirms a neighbour, so an entry that only XDP uses would grow stale and be thrown
//! away. A *managed* entry (`NTF_EXT_MANAGED`, kernel 5.16) is resolved again and again by the kernel itself,
//! whether a daemon is alive or not.

use std::net::IpAddr;

use rtnetlink::packet_route::{
    AddressFamily,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
        NeighbourState,
    },
    route::RouteProtocol,
};

/// The protocol number (`NDA_PROTOCOL`) that marks the entries made managed by this program, so that a
/// restarted daemon knows its own. Not assigned in the kernel's `rtnetlink.h`.
pub const ORIGINATOR: u8 = 118;

/// Whose hardware address is meant: an address is only unique together with its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// The index of the interface that leads there.
    pub ifindex: u32,
    /// The neighbour's network-layer address.
    pub address: IpAddr,
}

/// What of a neighbour table entry matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) neighbour: Neighbour,
    /// The hardware address, if the entry's state says that it may be used.
    pub(super) mac: Option<[u8; 6]>,
    /// Whether the administrator or the device fixes the hardware address, so that nothing needs resolving.
    pub(super) is_fixed: bool,
    /// Whether the kernel keeps it resolved by itself.
    pub(super) is_managed: bool,
    /// Whether it is exempt from garbage collection as the work of a control plane.
    pub(super) is_externally_learned: bool,
    /// Who made it.
    pub(super) originator: Option<RouteProtocol>,
}

impl Entry {
    /// Reads a neighbour message; `None` for what is no ARP or neighbour discovery entry (bridge forwarding
    /// entries, proxies).
    pub(super) fn from_message(message: &NeighbourMessage) -> Option<Self> {
        let header = &message.header;
        if header.flags.contains(NeighbourFlags::Proxy) {
            return None;
        }
        let mut address = None;
        let mut mac = None;
        let mut is_managed = false;
        let mut originator = None;
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(value)) => {
                    address = Some(IpAddr::V4(*value));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(value)) => {
                    address = Some(IpAddr::V6(*value));
                }
                NeighbourAttribute::LinkLayerAddress(value) => mac = value.as_slice().try_into().ok(),
                NeighbourAttribute::ExtFlags(flags) => {
                    is_managed = flags.contains(NeighbourExtFlags::Managed);
                }
                NeighbourAttribute::Protocol(value) => originator = Some(*value),
                _ => {}
            }
        }
        let is_fixed = matches!(header.state, NeighbourState::Permanent | NeighbourState::Noarp);
        let is_valid = is_fixed
            || matches!(
                header.state,
                NeighbourState::Reachable
                    | NeighbourState::Stale
                    | NeighbourState::Delay
                    | NeighbourState::Probe
            );
        Some(Self {
            neighbour: Neighbour { ifindex: header.ifindex, address: address? },
            mac: mac.filter(|_| is_valid),
            is_fixed,
            is_managed,
            is_externally_learned: header.flags.contains(NeighbourFlags::ExtLearned),
            originator,
        })
    }
}

/// The flags of a neighbour request: what the entry shall be afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryFlags {
    pub(super) managed: bool,
    pub(super) externally_learned: bool,
}

/// A message that names an entry and nothing else.
pub(super) fn key_message(neighbour: Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = neighbour.ifindex;
    let (family, address) = match neighbour.address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    message.header.family = family;
    message.attributes.push(NeighbourAttribute::Destination(address));
    message
}

/// A message that makes the kernel resolve an entry and gives it these flags. With `NTF_USE` the kernel
/// leaves state and hardware address alone, except that it turns a permanent entry into an ordinary one
/// (net/core/neighbour.c, `__neigh_update`): never send this for a permanent one.
pub(super) fn use_message(neighbour: Neighbour, flags: EntryFlags) -> NeighbourMessage {
    let mut message = key_message(neighbour);
    message.header.state = NeighbourState::None;
    message.header.flags = NeighbourFlags::Use;
    if flags.externally_learned {
        message.header.flags |= NeighbourFlags::ExtLearned;
    }
    if flags.managed {
        message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        message.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::Other(ORIGINATOR)));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn neighbour(address: &str) -> Neighbour {
        Neighbour { ifindex: 3, address: address.parse().unwrap() }
    }

    fn entry(state: NeighbourState) -> Entry {
        let mut message = key_message(neighbour("192.0.2.7"));
        message.header.state = state;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(MAC.to_vec()));
        Entry::from_message(&message).unwrap()
    }

    #[test]
    fn only_a_valid_state_lends_its_hardware_address() {
        for (state, mac, is_fixed) in [
            (NeighbourState::None, None, false),
            (NeighbourState::Incomplete, None, false),
            (NeighbourState::Failed, None, false),
            (NeighbourState::Reachable, Some(MAC), false),
            (NeighbourState::Stale, Some(MAC), false),
            (NeighbourState::Delay, Some(MAC), false),
            (NeighbourState::Probe, Some(MAC), false),
            (NeighbourState::Noarp, Some(MAC), true),
            (NeighbourState::Permanent, Some(MAC), true),
        ] {
            let entry = entry(state);
            assert_eq!((entry.mac, entry.is_fixed), (mac, is_fixed), "{state}");
        }
    }

    #[test]
    fn what_is_asked_for_is_what_is_read_back() {
        for address in ["192.0.2.7", "2001:db8::7"] {
            for managed in [false, true] {
                for externally_learned in [false, true] {
                    let flags = EntryFlags { managed, externally_learned };
                    let message = use_message(neighbour(address), flags);
                    assert!(message.header.flags.contains(NeighbourFlags::Use));
                    let entry = Entry::from_message(&message).unwrap();
                    assert_eq!(entry.neighbour, neighbour(address));
                    assert_eq!(entry.is_managed, managed);
                    assert_eq!(entry.is_externally_learned, externally_learned);
                    assert_eq!(entry.originator, managed.then_some(RouteProtocol::Other(ORIGINATOR)));
                }
            }
        }
    }

    #[test]
    fn proxies_and_bridge_entries_are_not_neighbours() {
        let mut proxy = key_message(neighbour("192.0.2.7"));
        proxy.header.flags = NeighbourFlags::Proxy;
        assert_eq!(Entry::from_message(&proxy), None);

        let mut bridge = NeighbourMessage::default();
        bridge.header.family = AddressFamily::Bridge;
        bridge.attributes.push(NeighbourAttribute::LinkLayerAddress(MAC.to_vec()));
        assert_eq!(Entry::from_message(&bridge), None);
    }
}
