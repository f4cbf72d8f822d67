//! What has an interface take frames that are sent to the hardware address of a virtual router.
//!
//! Network cards drop what is sent to an address that is not theirs. A macvlan device adds its address to the card's filter as long as it is up,
//! whatever becomes of this process; it is there for nothing else. So its MTU is too small for IPv6 (RFC 8200 section 5), it takes no part in ARP,
//! and its broadcast address is its own: what is sent to all would otherwise come to the host's programs twice. Its mode is bridge, because in
//! others the interface itself would not hear the multicast of another node with the same address, its adverts above all.
//!
//! Where there can be no macvlan, a packet socket adds the address (`PACKET_MR_UNICAST`, packet(7)), which is gone with the process.
//!
//! Frames for the host's stack get the interface's own address from the packet path.

use std::io;

use anyhow::Context as _;
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL},
    packet_route::{
        RouteNetlinkMessage,
        link::{
            InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
        },
    },
};
use socket2::Socket;
use vip_lb_common::abi::VirtualMac;

use super::{kernel::ask, obstacle::Obstacle, report::Admitted, tap};
use crate::network::interface_name;

/// What the names of its devices begin with.
const NAME: &str = "vlb-v";
/// The alias (`ip link set DEVICE alias ...`), for whoever wonders.
const ALIAS: &str = "vip-lb: virtual MAC address";
/// The least that the kernel lets it have.
const MTU: u32 = 68;

/// The way by which an interface is to let an address in.
#[derive(Debug)]
pub(super) struct Admission {
    /// Index of the interface.
    parent: u32,
    mac: VirtualMac,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Macvlan(Device),
    /// A socket while it is let in.
    Socket {
        open: Option<Socket>,
        why: String,
    },
}

/// A device of this module.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    index: u32,
    name: String,
    parent: u32,
    mac: VirtualMac,
    is_up: bool,
}

impl Admission {
    /// Gets ready to let the address in, and lets nothing in yet that is not already.
    ///
    /// # Errors
    ///
    /// The kernel does not say which devices there are.
    pub(super) fn prepare(parent: u32, mac: VirtualMac) -> anyhow::Result<Self> {
        let links = links().context("cannot ask the kernel for its interfaces")?;
        let known = links.iter().filter_map(device).find(|of| (of.parent, of.mac) == (parent, mac));
        let way = match known.map_or_else(|| create(parent, mac, &links), Ok) {
            Ok(device) => Way::Macvlan(device),
            Err(error) => Way::Socket { open: None, why: refusal(&error) },
        };
        Ok(Self { parent, mac, way })
    }

    /// Whether it is ready still, on an interface of this index.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub(super) fn is_ready(&self, parent: u32) -> Result<bool, Obstacle> {
        match &self.way {
            _ if self.parent != parent => Ok(false),
            Way::Macvlan(known) => known.is_there(link(known.index)),
            Way::Socket { .. } => Ok(true),
        }
    }

    /// Lets it in.
    ///
    /// # Errors
    ///
    /// The interface does not take it; or it was let in, and the kernel does not say whether it still is.
    pub(super) fn open(&mut self) -> Result<(), Obstacle> {
        let (mac, parent, was_open) = (self.mac, self.parent, self.is_open());
        let result = match &mut self.way {
            Way::Macvlan(device) => set_up(device, true),
            Way::Socket { open: Some(_), .. } => Ok(()),
            Way::Socket { open, .. } => {
                tap::admitting(parent, mac.octets()).map(|socket| *open = Some(socket))
            }
        };
        result.map_err(|error| {
            let is_gone = error.raw_os_error() == Some(libc::ENODEV);
            let what = format!("cannot have {} take frames to {mac}", name_of(parent));
            let error = anyhow::Error::new(error).context(what);
            if was_open && !is_gone { Obstacle::Unknown(error) } else { Obstacle::Known(error) }
        })
    }

    /// Does so no more.
    ///
    /// # Errors
    ///
    /// The device is gone.
    pub(super) fn close(&mut self) -> io::Result<()> {
        match &mut self.way {
            Way::Macvlan(device) => set_up(device, false),
            Way::Socket { open, .. } => {
                *open = None;
                Ok(())
            }
        }
    }

    /// Whether it is let in.
    pub(super) fn is_open(&self) -> bool {
        match &self.way {
            Way::Macvlan(device) => device.is_up,
            Way::Socket { open, .. } => open.is_some(),
        }
    }

    /// What there is to tell of it.
    pub(super) fn report(&self) -> Admitted {
        let (device, why_none) = match &self.way {
            Way::Macvlan(device) => (Some(device.name.clone()), None),
            Way::Socket { why, .. } => (None, Some(why.clone())),
        };
        Admitted { device, why_none, is_open: self.is_open() }
    }

    /// Keeps it as it is for as long as the process lives, for another one that goes on.
    pub(super) fn leave(self) {
        if let Way::Socket { open: Some(socket), .. } = self.way {
            std::mem::forget(socket);
        }
    }

    /// Undoes it all.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        match self.way {
            Way::Macvlan(device) => Left(device).remove().map(drop),
            Way::Socket { .. } => Ok(()),
        }
    }
}

impl Device {
    /// Whether it is the one that the kernel found by its index.
    fn is_there(&self, found: io::Result<Option<Self>>) -> Result<bool, Obstacle> {
        let known = (self.parent, self.mac, &self.name);
        match found {
            Ok(found) => Ok(found.is_some_and(|found| (found.parent, found.mac, &found.name) == known)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(error) => {
                let what = format!("cannot ask the kernel for {}", self.name);
                Err(Obstacle::Unknown(anyhow::Error::new(error).context(what)))
            }
        }
    }
}

/// A device that nobody needs.
pub(super) struct Left(Device);

impl Left {
    /// Removes it, and returns its name.
    pub(super) fn remove(self) -> anyhow::Result<String> {
        remove(self.0.index).with_context(|| format!("cannot remove {}", self.0.name)).map(|()| self.0.name)
    }
}

/// Devices that were made here, and of which `is_needed` does not know interface and address.
///
/// # Errors
///
/// The kernel does not say which there are.
pub(super) fn left_behind(is_needed: impl Fn(u32, VirtualMac) -> bool) -> anyhow::Result<Vec<Left>> {
    let links = links().context("cannot ask the kernel for its interfaces")?;
    let left = links.iter().filter_map(device).filter(|device| !is_needed(device.parent, device.mac));
    Ok(left.map(Left).collect())
}

/// Removes all devices of virtual MAC addresses. Returns their names.
///
/// # Errors
///
/// The kernel refuses it.
pub fn remove_devices() -> anyhow::Result<Vec<String>> {
    left_behind(|_, _| false)?.into_iter().map(Left::remove).collect()
}

/// Makes the device, which is down.
fn create(parent: u32, mac: VirtualMac, links: &[LinkMessage]) -> io::Result<Device> {
    let taken: Vec<&str> = links.iter().filter_map(name).collect();
    let [.., family, id] = mac.octets();
    let family = if family == 1 { 4 } else { 6 };
    let mut names = std::iter::once(format!("{NAME}{family}-{id}"))
        .chain((2_u32..1000).map(|number| format!("{NAME}{family}-{id}-{number}")));
    let name = names.find(|name| !taken.contains(&name.as_str())).ok_or(io::ErrorKind::AlreadyExists)?;
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.clone()),
        LinkAttribute::Link(parent),
        LinkAttribute::Address(mac.octets().to_vec()),
        LinkAttribute::Broadcast(mac.octets().to_vec()),
        LinkAttribute::Mtu(MTU),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)])),
        ]),
    ];
    ask(RouteNetlinkMessage::NewLink(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)?;
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name));
    let found = ask(RouteNetlinkMessage::GetLink(message), NLM_F_ACK)?;
    let device = found.iter().filter_map(new_link).find_map(device).ok_or(io::ErrorKind::NotFound)?;
    let mut message = LinkMessage::default();
    message.header.index = device.index;
    message.attributes.push(LinkAttribute::IfAlias(ALIAS.to_owned()));
    ask(RouteNetlinkMessage::SetLink(message), NLM_F_ACK)?;
    Ok(device)
}

/// Why there is no macvlan, a lower-case phrase.
fn refusal(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "this kernel has no macvlan".to_owned(),
        Some(libc::EBUSY) => "the interface is a port of a bridge or a bond".to_owned(),
        Some(libc::EADDRINUSE) => "another macvlan has this address".to_owned(),
        _ => format!("the kernel refuses a macvlan: {error}"),
    }
}

fn set_up(device: &mut Device, up: bool) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = device.index;
    message.header.change_mask = LinkFlags::Up | LinkFlags::Noarp;
    message.header.flags = if up { LinkFlags::Up | LinkFlags::Noarp } else { LinkFlags::Noarp };
    ask(RouteNetlinkMessage::SetLink(message), NLM_F_ACK)?;
    device.is_up = up;
    Ok(())
}

fn remove(index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match ask(RouteNetlinkMessage::DelLink(message), NLM_F_ACK) {
        Err(error) if error.raw_os_error() != Some(libc::ENODEV) => Err(error),
        _ => Ok(()),
    }
}

fn links() -> io::Result<Vec<LinkMessage>> {
    let answers = ask(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
    Ok(answers.iter().filter_map(new_link).cloned().collect())
}

/// One device, if it is of this module.
fn link(index: u32) -> io::Result<Option<Device>> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    Ok(ask(RouteNetlinkMessage::GetLink(message), NLM_F_ACK)?.iter().filter_map(new_link).find_map(device))
}

fn new_link(answer: &RouteNetlinkMessage) -> Option<&LinkMessage> {
    if let RouteNetlinkMessage::NewLink(message) = answer { Some(message) } else { None }
}

fn name(message: &LinkMessage) -> Option<&str> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// A macvlan by its name and address: one that was made a moment before its maker was killed has no more.
fn device(message: &LinkMessage) -> Option<Device> {
    let name = name(message).filter(|name| name.starts_with(NAME))?;
    let (mut parent, mut mac, mut is_macvlan) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Link(index) => parent = Some(*index),
            LinkAttribute::Address(bytes) => {
                mac = bytes.as_slice().try_into().ok().and_then(VirtualMac::of);
            }
            LinkAttribute::LinkInfo(infos) => {
                is_macvlan = infos.contains(&LinkInfo::Kind(InfoKind::MacVlan));
            }
            _ => {}
        }
    }
    let is_up = message.header.flags.contains(LinkFlags::Up);
    let device =
        Device { index: message.header.index, name: name.to_owned(), parent: parent?, mac: mac?, is_up };
    is_macvlan.then_some(device)
}

fn name_of(index: u32) -> String {
    interface_name(index).unwrap_or_else(|| format!("interface {index}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, kind: InfoKind, mac: [u8; 6]) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.flags = LinkFlags::Up;
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Link(3),
            LinkAttribute::Address(mac.to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]),
        ];
        message
    }

    #[test]
    fn only_a_macvlan_of_this_name_and_address_is_taken_for_vip_lbs() {
        let mac = VirtualMac::new(true, 51);
        let ours = found("vlb-v4-51", InfoKind::MacVlan, mac.octets());
        let known = Device { index: 7, name: "vlb-v4-51".to_owned(), parent: 3, mac, is_up: true };
        assert_eq!(device(&ours), Some(known));
        for other in [
            found("vrrp.51", InfoKind::MacVlan, mac.octets()),
            found("vlb-v4-51", InfoKind::Veth, mac.octets()),
            found("vlb-v4-51", InfoKind::MacVlan, [2, 0, 0, 0, 0, 1]),
        ] {
            assert_eq!(device(&other), None, "{:?}", other.attributes);
        }
    }

    /// The node resigned when the kernel was slow.
    #[test]
    fn a_device_is_gone_only_when_the_kernel_says_so() {
        let mac = VirtualMac::new(true, 51);
        let known = Device { index: 7, name: "vlb-v4-51".to_owned(), parent: 3, mac, is_up: true };
        let failed = |code| Err(io::Error::from_raw_os_error(code));
        for (case, found, expected) in [
            ("it is there, and down", Ok(Some(Device { is_up: false, ..known.clone() })), Some(true)),
            ("another one", Ok(Some(Device { parent: 4, ..known.clone() })), Some(false)),
            ("none of these", Ok(None), Some(false)),
            ("none", failed(libc::ENODEV), Some(false)),
            ("no answer in time", failed(libc::EAGAIN), None),
            ("no memory", failed(libc::ENOBUFS), None),
        ] {
            assert_eq!(known.is_there(found).ok(), expected, "{case}");
        }
    }

    #[test]
    fn the_longest_name_fits() {
        assert!(format!("{NAME}4-255-999").len() < libc::IFNAMSIZ);
    }
}
