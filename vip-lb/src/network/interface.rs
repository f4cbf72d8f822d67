//! A network interface as the load balancer needs to know it, read from an `RTM_NEWLINK` message.

use std::{fmt, io};

use rtnetlink::packet_route::link::{
    BondMode, BondPortState, InfoBond, InfoBondPort, InfoData, InfoKind, InfoPortData, InfoVlan,
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, MiiStatus, VlanProtocol,
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
    /// The device that its frames leave by (`IFLA_LINK`), for devices on top of another one.
    pub below: Option<Below>,
    /// What a bond says of it, if it is a member of one.
    pub bond_member: Option<BondMember>,
}

#[cfg(test)]
impl Interface {
    /// A device as most are: with a link, on top of nothing.
    pub(crate) fn usual(index: u32, name: &str) -> Self {
        Self {
            index,
            name: name.into(),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            kind: InterfaceKind::Device,
            is_up: true,
            has_carrier: true,
            below: None,
            bond_member: None,
        }
    }
}

/// The device below another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// In this network namespace, by its index.
    Here(u32),
    /// In another network namespace, where nothing can be sent from here.
    Elsewhere,
}

/// A member of a bond as the bond sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BondMember {
    /// The index of the bond.
    pub bond: u32,
    /// Whether the bond sends and receives by it: in `active-backup` mode one member at a time, in `802.3ad` those of the active aggregator, in
    /// other modes every one.
    pub is_active: bool,
    /// Whether the bond's own watch (`miimon` or `arp_interval`) finds its link up.
    pub link_is_up: bool,
}

/// The sort of an interface, as far as it matters to a program attached to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceKind {
    /// A device of a driver of its own: a network card, or a virtual machine's virtio device.
    Device,
    /// One end of a veth pair.
    Veth,
    /// A VLAN device: its frames carry a tag on the device below.
    Vlan {
        /// The VLAN, 0 to 4095.
        id: u16,
        /// Which tag it is.
        tag: VlanTag,
    },
    /// A macvlan: an address of its own on the device below.
    Macvlan,
    /// Several interfaces as one.
    Bond(BondPolicy),
    /// Another virtual device by the kernel's name for its kind, for example `bridge`.
    Virtual(String),
}

/// The kinds of VLAN tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanTag {
    /// IEEE 802.1Q, EtherType 0x8100.
    Customer,
    /// IEEE 802.1ad, EtherType 0x88a8.
    Service,
}

/// How a bond uses its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BondPolicy {
    /// By one of them, the others stand by.
    ActiveBackup,
    /// By all of them, in a way that XDP can follow: `balance-rr`, `balance-xor`, `802.3ad` (kernel 5.15).
    Balanced,
    /// In a way that XDP cannot follow: `broadcast`, `balance-tlb`, `balance-alb`.
    Unsupported,
}

impl fmt::Display for InterfaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => f.write_str("device"),
            Self::Veth => f.write_str("veth"),
            Self::Vlan { .. } => f.write_str("vlan"),
            Self::Macvlan => f.write_str("macvlan"),
            Self::Bond(_) => f.write_str("bond"),
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
        let mut below = None;
        let mut is_elsewhere = false;
        let mut controller = None;
        let mut port = None;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(value) => name.clone_from(value),
                LinkAttribute::Address(value) => mac = <[u8; 6]>::try_from(value.as_slice()).ok(),
                LinkAttribute::Mtu(value) => mtu = *value,
                LinkAttribute::LinkInfo(infos) => {
                    kind = kind_of(infos);
                    port = bond_port(infos);
                }
                // A veth names its peer so.
                LinkAttribute::Link(value) => below = Some(*value),
                LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
                LinkAttribute::Controller(value) => controller = Some(*value),
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
            below: below.map(|index| if is_elsewhere { Below::Elsewhere } else { Below::Here(index) }),
            bond_member: controller.zip(port).map(|(bond, (is_active, link_is_up))| BondMember {
                bond,
                is_active,
                link_is_up,
            }),
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
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(data) => Some(data),
        _ => None,
    });
    match (kind, data) {
        (None, _) => InterfaceKind::Device,
        (Some(InfoKind::Veth), _) => InterfaceKind::Veth,
        (Some(InfoKind::MacVlan), _) => InterfaceKind::Macvlan,
        (Some(InfoKind::Vlan), Some(InfoData::Vlan(vlan))) => vlan_of(vlan),
        (Some(InfoKind::Bond), Some(InfoData::Bond(bond))) => InterfaceKind::Bond(policy_of(bond)),
        (Some(kind), _) => InterfaceKind::Virtual(kind.to_string()),
    }
}

fn vlan_of(infos: &[InfoVlan]) -> InterfaceKind {
    let (mut id, mut tag) = (0, VlanTag::Customer);
    for info in infos {
        match info {
            InfoVlan::Id(value) => id = *value,
            InfoVlan::Protocol(VlanProtocol::Ieee8021Ad) => tag = VlanTag::Service,
            _ => {}
        }
    }
    InterfaceKind::Vlan { id, tag }
}

fn policy_of(infos: &[InfoBond]) -> BondPolicy {
    let mode = infos.iter().find_map(|info| match info {
        InfoBond::Mode(mode) => Some(*mode),
        _ => None,
    });
    match mode {
        Some(BondMode::ActiveBackup) => BondPolicy::ActiveBackup,
        Some(BondMode::BalanceRr | BondMode::BalanceXor | BondMode::Ieee8023Ad) => BondPolicy::Balanced,
        _ => BondPolicy::Unsupported,
    }
}

/// Whether the bond uses the member, and whether it finds its link up.
fn bond_port(infos: &[LinkInfo]) -> Option<(bool, bool)> {
    let port = infos.iter().find_map(|info| match info {
        LinkInfo::PortData(InfoPortData::BondPort(port)) => Some(port),
        _ => None,
    })?;
    let is_active = port.contains(&InfoBondPort::BondPortState(BondPortState::Active));
    // A link that goes down in a while, by `downdelay`, still carries.
    let link_is_up =
        port.iter().any(|info| matches!(info, InfoBondPort::MiiStatus(MiiStatus::Up | MiiStatus::GoingDown)));
    Some((is_active, link_is_up))
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
                below: None,
                bond_member: None,
            }
        );
    }

    fn read(attributes: &[LinkAttribute]) -> Interface {
        let mac = LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]);
        let attributes = [&[mac], attributes].concat();
        Interface::from_message(&message(LinkLayerType::Ether, LinkFlags::Up, &attributes)).unwrap()
    }

    #[test]
    fn a_vlan_device_names_its_tag_and_the_device_below() {
        let info = |infos| {
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vlan),
                LinkInfo::Data(InfoData::Vlan(infos)),
            ])
        };
        for (infos, tag) in [
            (vec![InfoVlan::Id(100)], VlanTag::Customer),
            (vec![InfoVlan::Protocol(VlanProtocol::Ieee8021Q), InfoVlan::Id(100)], VlanTag::Customer),
            (vec![InfoVlan::Protocol(VlanProtocol::Ieee8021Ad), InfoVlan::Id(100)], VlanTag::Service),
        ] {
            let vlan = read(&[LinkAttribute::Link(3), info(infos)]);
            assert_eq!(vlan.kind, InterfaceKind::Vlan { id: 100, tag });
            assert_eq!(vlan.below, Some(Below::Here(3)));
        }
        let moved = read(&[LinkAttribute::Link(3), LinkAttribute::LinkNetNsId(0), info(vec![])]);
        assert_eq!(moved.below, Some(Below::Elsewhere));
    }

    #[test]
    fn a_bond_tells_whether_xdp_can_follow_it() {
        for (mode, policy) in [
            (BondMode::BalanceRr, BondPolicy::Balanced),
            (BondMode::ActiveBackup, BondPolicy::ActiveBackup),
            (BondMode::BalanceXor, BondPolicy::Balanced),
            (BondMode::Broadcast, BondPolicy::Unsupported),
            (BondMode::Ieee8023Ad, BondPolicy::Balanced),
            (BondMode::BalanceTlb, BondPolicy::Unsupported),
            (BondMode::BalanceAlb, BondPolicy::Unsupported),
        ] {
            let bond = read(&[LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bond),
                LinkInfo::Data(InfoData::Bond(vec![InfoBond::Mode(mode)])),
            ])]);
            assert_eq!(bond.kind, InterfaceKind::Bond(policy), "{mode:?}");
        }
    }

    #[test]
    fn a_member_is_what_its_bond_says_of_it() {
        use {BondPortState as State, MiiStatus as Mii};

        for (state, mii, is_active, link_is_up) in [
            (State::Active, Mii::Up, true, true),
            (State::Backup, Mii::Up, false, true),
            (State::Active, Mii::GoingDown, true, true),
            (State::Backup, Mii::GoingBack, false, false),
            (State::Active, Mii::Down, true, false),
        ] {
            let port = vec![InfoBondPort::BondPortState(state), InfoBondPort::MiiStatus(mii)];
            let member = read(&[
                LinkAttribute::Controller(9),
                LinkAttribute::LinkInfo(vec![LinkInfo::PortData(InfoPortData::BondPort(port))]),
            ]);
            let expected = BondMember { bond: 9, is_active, link_is_up };
            assert_eq!(member.bond_member, Some(expected), "{state:?} {mii:?}");
            assert_eq!(member.kind, InterfaceKind::Device);
        }
        assert_eq!(read(&[LinkAttribute::Controller(9)]).bond_member, None, "a port of a bridge");
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
