//! What was sent to a backend as it is or inside another header, and what was unwrapped.

use std::net::IpAddr;

use vip_lb_common::{
    Verdict,
    abi::{Backend, Mode},
    headers::protocol::UDP,
};

use super::{
    Both, Oracle, same,
    seen::{Ip, Seen},
    transport::sum,
};

impl Oracle {
    /// The backends of a kind that frames with these MAC addresses and tags go to.
    pub(super) fn backends_of<'s>(
        &'s self,
        both: &Both<'_>,
        is: impl Fn(Mode) -> bool,
    ) -> Result<Vec<&'s Backend>, String> {
        let of_mode = self.scenario.backends.values().filter(|backend| is(Mode::from_u8(backend.mode)));
        let reached: Vec<_> = of_mode.filter(|backend| backend.macs == both.after.macs).collect();
        if reached.is_empty() {
            return Err(format!("no such backend has the MAC addresses {:02x?}", both.after.macs));
        }
        let (before, after) = (&both.before.tags, &both.after.tags);
        let tagged: Vec<_> =
            reached.into_iter().filter(|backend| tags_are_right(backend, before, after)).collect();
        if tagged.is_empty() { Err(format!("tags {before:02x?} became {after:02x?}")) } else { Ok(tagged) }
    }

    pub(super) fn by_l2(&self, both: &Both<'_>) -> Result<(), String> {
        self.backends_of(both, |mode| mode == Mode::L2)?;
        self.one_hop_further(&both.before.ip()?, &both.after.ip()?)
    }

    pub(super) fn by_tunnel(&self, both: &Both<'_>, verdict: Verdict) -> Result<(), String> {
        let gue = verdict == Verdict::ForwardedGue;
        let outer = both.after.ip().map_err(|fault| format!("the outer header: {fault}"))?;
        let modes = match (gue, outer.is_v4()) {
            (false, true) => Mode::IpipV4,
            (false, false) => Mode::IpipV6,
            (true, true) => Mode::GueV4,
            (true, false) => Mode::GueV6,
        };
        let backends = self.backends_of(both, |mode| mode == modes)?;
        let len = outer.packet.len();
        let reached = |backend: &Backend| {
            let ends = (IpAddr::from(backend.source), IpAddr::from(backend.address));
            ends == (outer.source, outer.destination) && len <= usize::from(backend.mtu)
        };
        if !backends.iter().any(|backend| reached(backend)) {
            let (from, to) = (outer.source, outer.destination);
            return Err(format!("no backend is reached from {from} to {to} with {len} bytes"));
        }
        if outer.is_v4() {
            same("the sum of the outer IPv4 header", sum(&[outer.header]), 0)?;
        }
        if outer.hop_limit < 2 {
            return Err(format!("the outer hop limit is {}", outer.hop_limit));
        }
        let before = both.before.ip()?;
        same("the outer traffic class", outer.traffic_class, before.traffic_class)?;
        let carried = outer.transport.ok_or("the outer header has extensions")?;
        if carried.is_fragment {
            return Err("the outer header is a fragment's".to_owned());
        }
        let inner = if gue {
            same("the outer protocol", carried.protocol, UDP)?;
            let word = |at: usize| u16::from_be_bytes([carried.bytes[at], carried.bytes[at + 1]]);
            if carried.bytes.len() < 8 {
                return Err("the UDP header is cut short".to_owned());
            }
            let port = self.scenario.settings.map(|settings| settings.gue_port);
            same("the outer UDP port", Some(word(2)), port)?;
            same("the outer UDP length", usize::from(word(4)), carried.bytes.len())?;
            &carried.bytes[8..]
        } else {
            same("the outer protocol", carried.protocol, if before.is_v4() { 4 } else { 41 })?;
            carried.bytes
        };
        let inner = Ip::of(inner).map_err(|fault| format!("in the tunnel: {fault}"))?;
        // In its frame the padding is behind the outer packet now.
        let inner = Ip { trailer: outer.trailer, ..inner };
        self.one_hop_further(&before, &inner).map_err(|fault| format!("in the tunnel: {fault}"))
    }
}

/// A backend behind a tag gets exactly that one; others get none, or those that the frame came with.
fn tags_are_right(backend: &Backend, before: &[[u8; 4]], after: &[[u8; 4]]) -> bool {
    if backend.mode & Backend::TAGGED == 0 {
        return after.is_empty() || after == before;
    }
    let [a, b] = backend.vlan.to_be_bytes();
    after == [[0x81, 0x00, a, b]]
}

/// What came out of a tunnel: from the inner IP header on everything to the end of the frame, its traffic class aside (RFC 6040).
pub(super) fn decapsulated(both: &Both<'_>, handed_over: &[u8]) -> Result<(), String> {
    let Both { before, after } = both;
    let outer = before.ip().map_err(|fault| format!("the outer header: {fault}"))?;
    let carried = outer.transport.ok_or("a tunnel behind extension headers that nobody follows")?;
    same("tags", &after.tags, &before.tags)?;
    same("MAC addresses", after.macs, &handed_over[..12])?;
    let begins = outer.packet.len() - carried.bytes.len();
    // IP in IP, GUE of variant 1, GUE of variant 0.
    let heads: &[usize] = if carried.protocol == UDP { &[8, 12] } else { &[0] };
    let mut fault = String::new();
    for head in heads {
        match before.rest.get(begins + head..) {
            Some(inner) => match unwrapped(inner, after) {
                Ok(()) => return Ok(()),
                Err(error) => fault = error,
            },
            None => fault = "nothing in the tunnel".to_owned(),
        }
    }
    Err(fault)
}

fn unwrapped(inner: &[u8], after: &Seen<'_>) -> Result<(), String> {
    same("length of what came out", after.rest.len(), inner.len())?;
    let v4 = inner.first().is_some_and(|byte| byte >> 4 == 4);
    same("EtherType", after.ether_type, if v4 { 0x0800 } else { 0x86dd })?;
    for (index, (a, b)) in inner.iter().zip(after.rest).enumerate() {
        // The low nibble of IPv6's first byte is half of its traffic class; congestion is in the other half.
        let may_change = if v4 { matches!(index, 1 | 10 | 11) } else { index == 1 };
        if a != b && !may_change {
            return Err(format!("byte {index} of the inner packet is {b:#04x}, should be {a:#04x}"));
        }
    }
    let ecn = |packet: &[u8]| if v4 { packet[1] & !3 } else { packet[1] & !0x30 };
    same("what is beside the congestion bits", ecn(after.rest), ecn(inner))?;
    if v4 {
        // What says that it is shorter than a header can be is for the stack to refuse.
        let header = (usize::from(inner[0] & 0x0f) * 4).max(20);
        let of = |packet: &[u8]| sum(&[&packet[..header.min(packet.len())]]);
        return same("the sum of the inner IPv4 header", of(after.rest), of(inner));
    }
    Ok(())
}
