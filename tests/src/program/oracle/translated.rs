//! What was sent to a translated backend, and its answers: addresses and ports as the tables say, the rest as it was.

use std::net::IpAddr;

use vip_lb_common::{
    abi::{Address, Backend, Mode, NatReply, NatReplyKey},
    headers::protocol::{TCP, UDP},
    memory::MemoryTables,
};

use super::{
    Both, Oracle,
    errors::Piece,
    same,
    seen::{Ip, Transport},
    transport::{Ports, headers_one_hop_further, sum},
};

/// Source and destination port, where the packet begins with them.
fn ports(transport: &Transport<'_>) -> Option<(u16, u16)> {
    let has_ports = matches!(transport.protocol, TCP | UDP) && !transport.is_later_fragment;
    let &[a, b, c, d] = transport.bytes.get(..4)? else { return None };
    has_ports.then_some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

fn parts<'i, 'f>(ip: &'i Ip<'f>) -> Result<&'i Transport<'f>, String> {
    ip.transport.as_ref().ok_or_else(|| "translated behind extension headers that nobody follows".to_owned())
}

impl Oracle {
    /// To a backend: from the node's address and one of its ports.
    pub(super) fn by_nat(&self, both: &Both<'_>, tables: &MemoryTables) -> Result<(), String> {
        let (before, after) = (both.before.ip()?, both.after.ip()?);
        let mode = if after.is_v4() { Mode::NatV4 } else { Mode::NatV6 };
        let backends = self.backends_of(both, |found| found == mode)?;
        let ends = |address, source| (IpAddr::from(address), IpAddr::from(source));
        let to_there =
            |backend: &&Backend| ends(backend.address, backend.source) == (after.destination, after.source);
        let backends: Vec<_> = backends.into_iter().filter(to_there).collect();
        if backends.is_empty() {
            return Err(format!("no backend is reached from {} to {}", after.source, after.destination));
        }
        translated(self, &before, &after)?;
        let (Some(old), Some(new)) = (ports(parts(&before)?), ports(parts(&after)?)) else {
            return Ok(());
        };
        // One server may be the backend of several services, at a port of its own for each.
        let at_port = |backend: &&Backend| new.1 == if backend.port == 0 { old.1 } else { backend.port };
        if !backends.iter().any(at_port) {
            return Err(format!(
                "no backend of that address is dialled at {} and reached at {}",
                old.1, new.1
            ));
        }
        let settings = self.scenario.settings.ok_or("translated without settings")?;
        let used = new.0.wrapping_sub(settings.nat_first_port);
        if used >= settings.nat_ports {
            return Err(format!("port {} is none of the node's", new.0));
        }
        let replies = tables.nat_replies.borrow();
        let reply = replies
            .get(&key(&after, new, parts(&after)?.protocol))
            .ok_or_else(|| format!("NAT_REPLIES does not know port {}", new.0))?;
        same("the client of NAT_REPLIES", client(reply), (before.source, old.0))?;
        same("the VIP of NAT_REPLIES", vip(reply), (before.destination, old.1))
    }
}

/// A backend's answer: from the VIP to the client.
pub(super) fn reply(oracle: &Oracle, both: &Both<'_>, tables: &MemoryTables) -> Result<(), String> {
    let (before, after) = (both.before.ip()?, both.after.ip()?);
    let replies = tables.nat_replies.borrow();
    let (old, new) = (parts(&before)?, parts(&after)?);
    let leads_there = |reply: &&NatReply| {
        let tags: Vec<[u8; 4]> = match reply.vlan.to_be_bytes() {
            [0, 0] => Vec::new(),
            [a, b] => vec![[0x81, 0, a, b]],
        };
        reply.macs == both.after.macs && both.after.tags == tags
    };
    translated(oracle, &before, &after)?;
    match (ports(old), ports(new)) {
        (Some(from), Some(to)) => {
            let found = flipped_key(&before, from, old.protocol);
            let reply = replies.get(&found).ok_or("an answer that NAT_REPLIES does not know")?;
            same("the VIP", (after.source, to.0), vip(reply))?;
            same("the client", (after.destination, to.1), client(reply))?;
            if leads_there(&reply) {
                Ok(())
            } else {
                Err("MAC addresses or tags are not the client's".to_owned())
            }
        }
        // Fragments and ICMP errors: of some connection between these two.
        _ => {
            let of_both =
                |reply: &&NatReply| vip(reply).0 == after.source && client(reply).0 == after.destination;
            replies.values().filter(of_both).find(leads_there).map(|_| ()).ok_or_else(|| {
                format!("NAT_REPLIES knows no connection of {} and {}", after.source, after.destination)
            })
        }
    }
}

/// What translation leaves alone.
fn translated(oracle: &Oracle, before: &Ip<'_>, after: &Ip<'_>) -> Result<(), String> {
    let (old, new) = (parts(before)?, parts(after)?);
    if !matches!(old.protocol, TCP | UDP) {
        // The packet that an ICMP error quotes is translated as well. Within a family what remains is judged by its checksum.
        same("hop limit", Some(after.hop_limit), before.hop_limit.checked_sub(1))?;
        let across = before.is_v4() != after.is_v4();
        return if across { oracle.error_of_the_other_family(before, after) } else { Ok(()) };
    }
    if before.is_v4() == after.is_v4() {
        headers_one_hop_further(before, after)?;
    } else {
        same("hop limit", Some(after.hop_limit), before.hop_limit.checked_sub(1))?;
        same("traffic class", after.traffic_class, before.traffic_class)?;
        if after.is_v4() {
            same("the sum of the new IPv4 header", sum(&[after.header]), 0)?;
        }
        let (was, is) = (Piece::of(before)?, Piece::of(after)?);
        same("its place among the fragments", (is.offset, is.more), (was.offset, was.more))?;
        if was.has_id {
            same("identification", is.id, was.id)?;
        }
    }
    oracle.same_transport(before, old, after, new, Ports::Translated)
}

fn key(after: &Ip<'_>, (source_port, destination_port): (u16, u16), protocol: u8) -> NatReplyKey {
    NatReplyKey {
        backend: Address::from(after.destination),
        node: Address::from(after.source),
        backend_port: destination_port,
        port: source_port,
        protocol,
        reserved: [0; 3],
    }
}

fn flipped_key(before: &Ip<'_>, (source_port, destination_port): (u16, u16), protocol: u8) -> NatReplyKey {
    NatReplyKey {
        backend: Address::from(before.source),
        node: Address::from(before.destination),
        backend_port: source_port,
        port: destination_port,
        protocol,
        reserved: [0; 3],
    }
}

fn client(reply: &NatReply) -> (IpAddr, u16) {
    (reply.client.into(), reply.client_port)
}

fn vip(reply: &NatReply) -> (IpAddr, u16) {
    (reply.vip.into(), reply.vip_port)
}
