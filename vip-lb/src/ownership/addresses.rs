//! The addresses of VIPs without services on the interfaces of their owner, put there and taken away by netlink (rtnetlink(7)).
//!
//! They carry [`ORIGINATOR`] as their protocol (`IFA_PROTO`, kernel 5.18), so that a daemon knows what one before it left behind, and never
//! takes away what somebody else has configured.

use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo},
    },
};

use super::{kernel::ask, obstacle::Obstacle};
use crate::network::{ORIGINATOR, interface_name};

/// An address without an end.
const FOREVER: u32 = u32::MAX;

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Index of the interface.
    index: u32,
    address: IpAddr,
    length: u8,
    /// Whether vip-lb has put it there.
    is_ours: bool,
}

/// Whether somebody else has put an address on this host already.
///
/// # Errors
///
/// Somebody has; or the kernel does not say.
pub(super) fn check(vips: impl IntoIterator<Item = IpAddr>) -> Result<(), Obstacle> {
    let held = all().map_err(Obstacle::Unknown)?;
    Ok(vips.into_iter().try_for_each(|vip| is_free(vip, &held))?)
}

fn is_free(vip: IpAddr, held: &[Held]) -> anyhow::Result<()> {
    let foreign = held.iter().find(|held| held.address == vip && !held.is_ours);
    let name = foreign.map(|held| name_of(held.index)).unwrap_or_default();
    ensure!(foreign.is_none(), "{name} has {vip} already, and vip-lb did not put it there");
    Ok(())
}

/// Puts an address on an interface, and nowhere else.
///
/// # Errors
///
/// Somebody else has put it somewhere; or the kernel refuses it.
pub(super) fn put(index: u32, vip: IpAddr, length: u8) -> Result<(), Obstacle> {
    let held = all().map_err(Obstacle::Unknown)?;
    is_free(vip, &held)?;
    let mut is_there = false;
    for held in held.into_iter().filter(|held| held.address == vip) {
        if (held.index, held.length) == (index, length) {
            is_there = true;
        } else {
            remove(held)?;
        }
    }
    if is_there {
        return Ok(());
    }
    let request = RouteNetlinkMessage::NewAddress(message(index, vip, length));
    ask(request, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
        .with_context(|| format!("cannot put {vip}/{length} on {}", name_of(index)))?;
    Ok(())
}

/// Takes away what vip-lb has put on any interface and `stays` does not know. Returns it.
///
/// # Errors
///
/// The kernel refuses it.
pub fn sweep(stays: impl Fn(IpAddr) -> bool) -> anyhow::Result<Vec<(IpAddr, String)>> {
    let left = all()?.into_iter().filter(|held| held.is_ours && !stays(held.address));
    left.map(|held| remove(held).map(|()| (held.address, name_of(held.index)))).collect()
}

fn remove(held: Held) -> anyhow::Result<()> {
    let Held { index, address, length, .. } = held;
    match ask(RouteNetlinkMessage::DelAddress(message(index, address, length)), NLM_F_ACK) {
        Err(error) if error.raw_os_error() != Some(libc::EADDRNOTAVAIL) => {
            Err(error).with_context(|| format!("cannot take {address}/{length} away from {}", name_of(index)))
        }
        _ => Ok(()),
    }
}

fn name_of(index: u32) -> String {
    interface_name(index).unwrap_or_else(|| format!("interface {index}"))
}

fn message(index: u32, address: IpAddr, length: u8) -> AddressMessage {
    let (family, host) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    let mut message = AddressMessage::default();
    (message.header.family, message.header.prefix_len, message.header.index) = (family, length, index);
    // The lease says that nobody else has it; a wait for duplicates would only delay it.
    let mut flags = AddressFlags::Nodad;
    if length == host {
        flags |= AddressFlags::Noprefixroute;
    }
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Flags(flags),
        AddressAttribute::Protocol(AddressProtocol::from(ORIGINATOR)),
    ];
    if address.is_ipv6() {
        // Deprecated: no connection of this host begins with it by itself, but all to it are taken (RFC 6724 section 5, rule 3).
        let mut times = CacheInfo::default();
        (times.ifa_preferred, times.ifa_valid) = (0, FOREVER);
        message.attributes.push(AddressAttribute::CacheInfo(times));
    }
    message
}

/// All addresses of this host.
fn all() -> anyhow::Result<Vec<Held>> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answers = ask(request, NLM_F_DUMP).context("cannot ask the kernel for its addresses")?;
    Ok(answers.iter().filter_map(held).collect())
}

fn held(answer: &RouteNetlinkMessage) -> Option<Held> {
    let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
    let (mut address, mut is_ours) = (None, false);
    for attribute in &message.attributes {
        match attribute {
            // On a link between two points the other attribute is the other end's (linux/if_addr.h).
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(other) => address = address.or(Some(*other)),
            AddressAttribute::Protocol(protocol) => is_ours = u8::from(*protocol) == ORIGINATOR,
            _ => {}
        }
    }
    Some(Held { index: message.header.index, address: address?, length: message.header.prefix_len, is_ours })
}
