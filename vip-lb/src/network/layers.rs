//! Devices on top of others: a VLAN device or a macvlan has no driver that a packet could be redirected to. Its frames leave by the device
//! below, and what the upper one would do to them, the packet path does: the tag of the VLAN, the source address of the macvlan.

use thiserror::Error;

use super::interface::{Below, Interface, InterfaceKind, VlanTag};

/// Why frames cannot be written for a device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayerError {
    /// Two VLAN devices on top of each other (QinQ).
    #[error("it is on top of VLAN device `{below}`, and frames with two tags are not supported")]
    NestedTags {
        /// The lower one.
        below: String,
    },
    /// A VLAN device whose tag is a service tag.
    #[error("`{device}` writes tags of 802.1ad, and only those of 802.1Q are supported")]
    ServiceTag {
        /// The device.
        device: String,
    },
    /// The device below cannot be sent by.
    #[error("the device below `{device}` is in another network namespace")]
    Elsewhere {
        /// The device.
        device: String,
    },
    /// The kernel does not say what is below.
    #[error("the kernel does not tell the device below `{device}`")]
    Unknown {
        /// The device.
        device: String,
    },
}

/// A device and those below it, down to the one that frames leave by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layers {
    top: Interface,
    below: Vec<Interface>,
    vlan: Option<u16>,
}

impl Layers {
    /// The uppermost device, which may be the only one.
    pub(super) fn new(top: Interface) -> Self {
        let vlan = vlan_of(&top);
        Self { top, below: Vec::new(), vlan }
    }

    /// The index of the device that has to be [pushed](Self::push) next; `None` when the lowest one is there.
    pub(super) fn missing(&self) -> Result<Option<u32>, LayerError> {
        let lowest = self.lowest();
        let device = || lowest.name.clone();
        match lowest.kind {
            InterfaceKind::Vlan { tag: VlanTag::Service, .. } => {
                return Err(LayerError::ServiceTag { device: device() });
            }
            InterfaceKind::Vlan { .. } if self.tags() > 1 => {
                return Err(LayerError::NestedTags { below: device() });
            }
            InterfaceKind::Vlan { .. } | InterfaceKind::Macvlan => {}
            InterfaceKind::Device
            | InterfaceKind::Veth
            | InterfaceKind::Bond(_)
            | InterfaceKind::Virtual(_) => return Ok(None),
        }
        match lowest.below {
            Some(Below::Here(index)) => Ok(Some(index)),
            Some(Below::Elsewhere) => Err(LayerError::Elsewhere { device: device() }),
            None => Err(LayerError::Unknown { device: device() }),
        }
    }

    /// Adds the device below the lowest.
    pub(super) fn push(&mut self, below: Interface) {
        self.vlan = self.vlan.or(vlan_of(&below));
        self.below.push(below);
    }

    /// The uppermost device: its addresses and its MTU hold.
    pub(super) fn top(&self) -> &Interface {
        &self.top
    }

    /// The device that frames leave by.
    pub(super) fn lowest(&self) -> &Interface {
        self.below.last().unwrap_or(&self.top)
    }

    /// The tag control information that frames carry: the VLAN's number, with priority 0.
    pub(super) fn vlan(&self) -> Option<u16> {
        self.vlan
    }

    fn tags(&self) -> usize {
        std::iter::once(&self.top).chain(&self.below).filter_map(vlan_of).count()
    }
}

fn vlan_of(interface: &Interface) -> Option<u16> {
    match interface.kind {
        InterfaceKind::Vlan { id, .. } => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::interface::BondPolicy;

    fn device(index: u32, name: &str, kind: InterfaceKind) -> Interface {
        let below = matches!(kind, InterfaceKind::Vlan { .. } | InterfaceKind::Macvlan)
            .then_some(Below::Here(index - 1));
        Interface { kind, below, ..Interface::usual(index, name) }
    }

    fn vlan(id: u16) -> InterfaceKind {
        InterfaceKind::Vlan { id, tag: VlanTag::Customer }
    }

    /// The first device is the top; each other one is what is missing below.
    fn stack(mut devices: Vec<Interface>) -> Result<Layers, LayerError> {
        let mut layers = Layers::new(devices.remove(0));
        while let Some(index) = layers.missing()? {
            assert_eq!(devices[0].index, index);
            layers.push(devices.remove(0));
        }
        assert!(devices.is_empty(), "asked for no more than {layers:?}");
        Ok(layers)
    }

    #[test]
    fn frames_leave_by_the_lowest_device_with_the_one_tag_on_the_way() {
        let eth0 = || device(2, "eth0", InterfaceKind::Device);
        let bond0 = || device(2, "bond0", InterfaceKind::Bond(BondPolicy::ActiveBackup));
        let bridge = || device(2, "br0", InterfaceKind::Virtual("bridge".into()));
        for (case, devices, lowest, tag) in [
            ("a card", vec![eth0()], "eth0", None),
            ("a bond", vec![bond0()], "bond0", None),
            ("a bridge", vec![bridge()], "br0", None),
            ("a VLAN device", vec![device(3, "eth0.100", vlan(100)), eth0()], "eth0", Some(100)),
            ("on a bond", vec![device(3, "bond0.7", vlan(7)), bond0()], "bond0", Some(7)),
            ("on a bridge", vec![device(3, "br0.7", vlan(7)), bridge()], "br0", Some(7)),
            ("VLAN 0", vec![device(3, "eth0.0", vlan(0)), eth0()], "eth0", Some(0)),
            ("a macvlan", vec![device(3, "m0", InterfaceKind::Macvlan), eth0()], "eth0", None),
            (
                "a macvlan on a VLAN device",
                vec![device(4, "m0", InterfaceKind::Macvlan), device(3, "eth0.9", vlan(9)), eth0()],
                "eth0",
                Some(9),
            ),
            (
                "a VLAN device on a macvlan",
                vec![device(4, "m0.9", vlan(9)), device(3, "m0", InterfaceKind::Macvlan), eth0()],
                "eth0",
                Some(9),
            ),
        ] {
            let top = devices[0].name.clone();
            let layers = stack(devices).unwrap();
            assert_eq!(
                (layers.top().name.as_str(), layers.lowest().name.as_str(), layers.vlan()),
                (top.as_str(), lowest, tag),
                "{case}"
            );
        }
    }

    #[test]
    fn what_cannot_be_written_says_why() {
        let service = InterfaceKind::Vlan { id: 7, tag: VlanTag::Service };
        let moved = Interface { below: Some(Below::Elsewhere), ..device(3, "eth0.100", vlan(100)) };
        let lost = Interface { below: None, ..device(3, "m0", InterfaceKind::Macvlan) };
        for (devices, text) in [
            (
                vec![device(4, "eth0.7.100", vlan(100)), device(3, "eth0.7", vlan(7))],
                "it is on top of VLAN device `eth0.7`, and frames with two tags are not supported",
            ),
            (
                vec![device(3, "eth0.7", service.clone())],
                "`eth0.7` writes tags of 802.1ad, and only those of 802.1Q are supported",
            ),
            (
                vec![device(4, "eth0.7.100", vlan(100)), device(3, "eth0.7", service)],
                "`eth0.7` writes tags of 802.1ad, and only those of 802.1Q are supported",
            ),
            (vec![moved], "the device below `eth0.100` is in another network namespace"),
            (vec![lost], "the kernel does not tell the device below `m0`"),
        ] {
            assert_eq!(stack(devices).unwrap_err().to_string(), text);
        }
    }
}
