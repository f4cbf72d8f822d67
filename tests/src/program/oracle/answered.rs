//! What the node answered itself.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::ArpPacketSlice;
use vip_lb_common::{abi::Address, headers::protocol::TCP};

use super::{
    Both, Judged, Oracle, same,
    transport::{extensions, sum},
};
use crate::{
    packet::check,
    program::{INGRESS, Program},
};

/// An echo reply: addresses swapped, everything else as it was.
pub(super) fn echo(both: &Both<'_>) -> Result<(), String> {
    let (before, after) = (both.before.ip()?, both.after.ip()?);
    swapped_macs(both)?;
    same("tags", &both.after.tags, &both.before.tags)?;
    same("source address", after.source, before.destination)?;
    same("destination address", after.destination, before.source)?;
    same("length", after.packet.len(), before.packet.len())?;
    same("padding", after.trailer, before.trailer)?;
    same("hop limit", after.hop_limit, 64)?;
    same("extension headers", extensions(&after), extensions(&before))?;
    let (Some(old), Some(new)) = (before.transport, after.transport) else {
        return Ok(());
    };
    same("type and code", &new.bytes[..2], if before.is_v4() { &[0, 0] } else { &[129, 0] })?;
    same("identifier, sequence and payload", &new.bytes[4..], &old.bytes[4..])?;
    same("the sum that the checksum is to mend", sum(&[new.bytes]), sum(&[old.bytes]))?;
    if before.is_v4() {
        same("the sum of the IPv4 header", sum(&[after.header]), sum(&[before.header]))
    } else {
        same("the head of the IPv6 header", &after.header[..7], &before.header[..7])
    }
}

/// "Too big" (RFC 1191, RFC 4443 section 3.2): from the VIP to the client, with as much of its packet as fits.
pub(super) fn too_big(both: &Both<'_>, frame: &[u8]) -> Result<(), String> {
    check(frame)?;
    let (before, after) = (both.before.ip()?, both.after.ip()?);
    same("destination MAC address", &both.after.macs[..6], &both.before.macs[6..])?;
    same("tags", &both.after.tags, &both.before.tags)?;
    same("source address", after.source, before.destination)?;
    same("destination address", after.destination, before.source)?;
    let message = after.transport.ok_or("an answer with extension headers")?;
    let (kind, most) = if after.is_v4() { ([3, 4], 576) } else { ([2, 0], 1280) };
    same("protocol", message.protocol, if after.is_v4() { 1 } else { 58 })?;
    same("type and code", message.bytes.get(..2), Some(&kind[..]))?;
    if after.is_v4() {
        same("what is unused (RFC 1191 section 4)", message.bytes.get(4..6), Some(&[0, 0][..]))?;
    }
    if after.packet.len() > most {
        return Err(format!("an answer of {} bytes, at most {most} are allowed", after.packet.len()));
    }
    let quoted = message.bytes.get(8..).unwrap_or_default();
    // A SYN may have had its segment size lowered before it turned out to be too big: from its checksum on it may differ.
    let is_syn = before.transport.is_some_and(|transport| {
        transport.protocol == TCP && transport.bytes.get(13).is_some_and(|flags| flags & 0x02 != 0)
    });
    let compared = if is_syn { quoted.len().min(before.header.len() + 16) } else { quoted.len() };
    if quoted.len() < before.header.len() + 8 || !before.packet.starts_with(&quoted[..compared]) {
        return Err("what is quoted is not the beginning of the packet".to_owned());
    }
    if after.is_v4()
        && usize::from(u16::from_be_bytes([message.bytes[6], message.bytes[7]])) >= before.packet.len()
    {
        return Err("the MTU that it tells would have been enough".to_owned());
    }
    Ok(())
}

fn swapped_macs(both: &Both<'_>) -> Result<(), String> {
    let (before, after) = (both.before.macs, both.after.macs);
    same("destination MAC address", &after[..6], &before[6..])?;
    same("source MAC address", &after[6..], &before[..6])
}

impl Oracle {
    /// MAC address of the interface that all packets come in by.
    fn mac(&self) -> Result<[u8; 6], String> {
        Ok(self.scenario.interfaces.get(&INGRESS).ok_or("answered without an interface")?.mac)
    }

    /// What the stack gets: the frame as it came; but one that was sent to the hardware address of a virtual router (RFC 9568 section 7.3) of which
    /// there is a lease is for the interface, as far as that is known.
    pub(super) fn handed_over(&self, judged: &Judged<'_>) -> Vec<u8> {
        let mut frame = judged.input.to_vec();
        if judged.program != Program::Balancer || frame.len() < 14 {
            return frame;
        }
        let mut key = [0; 16];
        key[0] = 0xff;
        key[10..].copy_from_slice(&frame[..6]);
        let is_virtual = frame[..4] == [0, 0, 0x5e, 0] && matches!(frame[4], 1 | 2);
        let leased = |until: u64| until == u64::MAX;
        let lease = self.scenario.leases.get(&Address::from(IpAddr::from(key)));
        let interface = judged.tables.interfaces.get(&INGRESS);
        if let Some(interface) = interface.filter(|_| is_virtual && lease.is_some_and(|of| leased(of.until)))
        {
            frame[..6].copy_from_slice(&interface.mac);
        }
        frame
    }

    /// The hardware address that a VIP is answered for with.
    fn mac_of(&self, target: IpAddr) -> Result<[u8; 6], String> {
        let flags = self.scenario.vips.get(&Address::from(target)).map_or(0, |vip| vip.flags);
        match (flags >> 24) as u8 {
            0 => self.mac(),
            router => Ok([0, 0, 0x5e, 0, if target.is_ipv4() { 1 } else { 2 }, router]),
        }
    }

    fn answered_from(&self, both: &Both<'_>, target: IpAddr) -> Result<[u8; 6], String> {
        let mac = self.mac_of(target)?;
        same("destination MAC address", &both.after.macs[..6], &both.before.macs[6..])?;
        same("source MAC address", &both.after.macs[6..], &mac[..])?;
        same("tags", &both.after.tags, &both.before.tags)?;
        Ok(mac)
    }

    /// An ARP reply (RFC 826).
    pub(super) fn arp(&self, both: &Both<'_>) -> Result<(), String> {
        let target: [u8; 4] =
            both.before.rest.get(24..28).and_then(|bytes| bytes.try_into().ok()).ok_or("a short question")?;
        let mac = self.answered_from(both, IpAddr::from(target))?;
        same("length", both.after.rest.len(), both.before.rest.len())?;
        same("types and lengths", both.after.rest.get(..6), both.before.rest.get(..6))?;
        same("padding", both.after.rest.get(28..), both.before.rest.get(28..))?;
        let parse = |bytes| ArpPacketSlice::from_slice(bytes).map_err(|error| error.to_string());
        let (question, answer) = (parse(both.before.rest)?, parse(both.after.rest)?);
        same("operation", answer.operation().0, 2)?;
        same("sender's MAC address", answer.sender_hw_addr(), &mac[..])?;
        same("sender", answer.sender_protocol_addr(), question.target_protocol_addr())?;
        same("target's MAC address", answer.target_hw_addr(), question.sender_hw_addr())?;
        same("target", answer.target_protocol_addr(), question.sender_protocol_addr())
    }

    /// A neighbour advertisement (RFC 4861 section 4.4), whatever the solicitation's checksum was.
    pub(super) fn neighbour(&self, both: &Both<'_>, frame: &[u8]) -> Result<(), String> {
        check(frame)?;
        let (before, after) = (both.before.ip()?, both.after.ip()?);
        let question = before.transport.map(|transport| transport.bytes).unwrap_or_default();
        let asked: [u8; 16] =
            question.get(8..24).and_then(|bytes| bytes.try_into().ok()).ok_or("a short question")?;
        let mac = self.answered_from(both, IpAddr::from(asked))?;
        let message = after.transport.ok_or("an answer with extension headers")?;
        same("version, traffic class and flow label", &after.header[..4], &[0x60, 0, 0, 0])?;
        same("hop limit", after.hop_limit, 255)?;
        same("protocol", message.protocol, 58)?;
        same("type and code", message.bytes.get(..2), Some(&[136, 0][..]))?;
        same("target", message.bytes.get(8..24), question.get(8..24))?;
        let mut target = [0; 16];
        target.copy_from_slice(&message.bytes[8..24]);
        same("source address", after.source, IpAddr::from(target))?;
        let nobody = before.source == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let all_nodes = IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 1]);
        same("destination address", after.destination, if nobody { all_nodes } else { before.source })?;
        same("flags", message.bytes[4], if nobody { 0x20 } else { 0x60 })?;
        same("target's MAC address", message.bytes.get(24..), Some(&[&[2, 1], &mac[..]].concat()[..]))
    }
}
