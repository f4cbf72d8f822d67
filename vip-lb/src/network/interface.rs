//! A network interface as the load balancer needs to know it, read from an `RTM_NEWLINK` message.

use std::{fmt, io};

use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use thiserror::Error;

/// The longest name of an interface in bytes: `IFNAMSIZ` less the terminating zero.
const MAX_NAME_LENGTH: usize = libc::IFNAMSIZ - 1;

/// An Ethernet device of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The number by which the kernel and redirects name it; never 0.
    pub index: u32,
    /// Its present name; another process may rename it, the index stays.
    pub name: String,
    /// Its own hardware address.
    pub mac: [u8; 6],
    /// The largest network-layer packet it sends, in bytes, without the Ethernet header.
    pub mtu: u32,
    /// What sort of device it is.
    pub kind: InterfaceKind,
    /// Whether it was set up by the administrator (`IFF_UP`).
    pub is_up: bool,
    /// Whether it has a link to the other end (`IFF_LOWER_UP`).
    pub has_carrier: bool,
}

/// The sort of an interface, as far as it matters to a program attached to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceKind {
    /// A device of a driver of its own: a network card, or a virtual machine's virtio device.
    Device,
    /// One end of a veth pair.
    Veth,
    /// A virtual device by the kernel's name for its kind, for example `bridge`, `vlan` or `bond`.
    Virtual(String),
}

impl fmt::Display for InterfaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => f.write_str("device"),
            Self::Veth => f.write_str("veth"),
            Self::Virtual(kind) => f.write_str(kind),
        }
    }
}

/// Why an interface cannot be had.
#[derive(Debug, Error)]
pub enum InterfaceError {
    /// No interface of this network namespace has that name.
    #[error("interface `{name}` does not exist")]
    NotFound {
        /// The name that was asked for.
        name: String,
    },
    /// The name cannot be one of an interface.
    #[error("`{name}` is not an interface name: 1 to {MAX_NAME_LENGTH} bytes, no space and no slash")]
    InvalidName {
        /// The name that was asked for.
        name: String,
    },
    /// The interface is the loopback, which has no link layer to forward on.
    #[error("interface `{name}` is a loopback: packets can only be forwarded over Ethernet")]
    Loopback {
        /// The interface's name.
        name: String,
    },
    /// The interface carries something other than Ethernet frames.
    #[error("interface `{name}` is not an Ethernet device")]
    NotEthernet {
        /// The interface's name.
        name: String,
    },
    /// The kernel did not answer.
    #[error("cannot ask the kernel about interface `{name}`")]
    Netlink {
        /// The interface's name, or `#` and its index.
        name: String,
        /// What the request came to.
        source: io::Error,
    },
}

impl Interface {
    /// Reads a link message. The error is [`InterfaceError::Loopback`] or
    /// [`InterfaceError::NotEthernet`].
    pub(super) fn from_message(message: &LinkMessage) -> Result<Self, InterfaceError> {
        let index = message.header.index;
        let mut name = format!("#{index}");
        let mut mac = None;
        let mut mtu = 0;
        let mut kind = InterfaceKind::Device;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(value) => name.clone_from(value),
                LinkAttribute::Address(value) => mac = <[u8; 6]>::try_from(value.as_slice()).ok(),
                LinkAttribute::Mtu(value) => mtu = *value,
                LinkAttribute::LinkInfo(infos) => kind = kind_of(infos),
                _ => {}
            }
        }
        let flags = message.header.flags;
        if flags.contains(LinkFlags::Loopback) {
            return Err(InterfaceError::Loopback { name });
        }
        let Some(mac) = mac.filter(|_| message.header.link_layer_type == LinkLayerType::Ether) else {
            return Err(InterfaceError::NotEthernet { name });
        };
        Ok(Self {
            index,
            name,
            mac,
            mtu,
            kind,
            is_up: flags.contains(LinkFlags::Up),
            has_carrier: flags.contains(LinkFlags::LowerUp),
        })
    }
}

/// Refuses what the kernel would answer with a less clear error.
pub(super) fn check_name(name: &str) -> Result<(), InterfaceError> {
    let fits = (1..=MAX_NAME_LENGTH).contains(&name.len());
    if fits && !name.contains(|c: char| c == '/' || c == '\0' || c.is_whitespace()) {
        Ok(())
    } else {
        Err(InterfaceError::InvalidName { name: name.to_owned() })
    }
}

fn kind_of(infos: &[LinkInfo]) -> InterfaceKind {
    infos
        .iter()
        .find_map(|info| match info {
            LinkInfo::Kind(InfoKind::Veth) => Some(InterfaceKind::Veth),
            LinkInfo::Kind(kind) => Some(InterfaceKind::Virtual(kind.to_string())),
            _ => None,
        })
        .unwrap_or(InterfaceKind::Device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(layer: LinkLayerType, flags: LinkFlags, attributes: &[LinkAttribute]) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.link_layer_type = layer;
        message.header.flags = flags;
        message.attributes = attributes.to_vec();
        message
    }

    #[test]
    fn an_ethernet_device_is_read_whole() {
        let read = Interface::from_message(&message(
            LinkLayerType::Ether,
            LinkFlags::Up | LinkFlags::LowerUp,
            &[
                LinkAttribute::IfName("eth0".into()),
                LinkAttribute::Mtu(9000),
                LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
                LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]),
            ],
        ))
        .unwrap();
        assert_eq!(
            read,
            Interface {
                index: 7,
                name: "eth0".into(),
                mac: [2, 0, 0, 0, 0, 1],
                mtu: 9000,
                kind: InterfaceKind::Veth,
                is_up: true,
                has_carrier: true,
            }
        );
    }

    #[test]
    fn a_device_without_a_kind_is_a_device_and_others_keep_the_kernels_word() {
        assert_eq!(kind_of(&[]), InterfaceKind::Device);
        assert_eq!(kind_of(&[LinkInfo::Kind(InfoKind::Bridge)]).to_string(), "bridge");
    }

    #[test]
    fn what_has_no_ethernet_address_is_refused_by_name() {
        let name = LinkAttribute::IfName("x0".into());
        let mac = LinkAttribute::Address(vec![0; 6]);
        let loopback = message(LinkLayerType::Loopback, LinkFlags::Loopback, &[name.clone(), mac.clone()]);
        assert!(matches!(
            Interface::from_message(&loopback),
            Err(InterfaceError::Loopback { name }) if name == "x0"
        ));
        for bad in [
            message(LinkLayerType::Tunnel, LinkFlags::Up, &[name.clone(), mac]),
            message(LinkLayerType::Ether, LinkFlags::Up, &[name]),
        ] {
            assert!(matches!(
                Interface::from_message(&bad),
                Err(InterfaceError::NotEthernet { name }) if name == "x0"
            ));
        }
    }

    #[test]
    fn names_that_cannot_exist_are_refused() {
        for name in ["", "sixteen-bytes-xx", "a/b", "a b", "a\0"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["a", "fifteen-bytes-x", "eth0.100", "enp1s0f0np0"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }
}
