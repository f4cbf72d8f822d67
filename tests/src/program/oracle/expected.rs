//! How a good packet to a VIP may end, from the tables' description alone.

use std::collections::BTreeSet;

use etherparse::{TcpHeaderSlice, UdpHeaderSlice};
use vip_lb_common::{
    Verdict,
    abi::{Address, Backend, LinkAddress, Mode, PortKey, ServiceRef, Settings, Vip},
    headers::protocol::{ICMPV6, TCP, UDP},
};

use super::{
    Judged, Oracle,
    seen::{Ip, Seen},
};
use crate::program::Program;

/// Extension headers that the pipeline follows.
const MOST_EXTENSIONS: usize = 6;

impl Oracle {
    /// Whether the packet ended as a packet like this may. About most malformed packets there is no opinion.
    pub(super) fn expect_verdict(&self, judged: &Judged<'_>) -> Result<(), String> {
        let verdict = judged.outcome.verdict;
        match self.acceptable(judged) {
            Some(acceptable) if !acceptable.contains(&verdict) => {
                Err(format!("it ended as {verdict:?}, should as one of {acceptable:?}"))
            }
            _ => Ok(()),
        }
    }

    fn acceptable(&self, judged: &Judged<'_>) -> Option<BTreeSet<Verdict>> {
        if judged.program != Program::Balancer {
            return None;
        }
        let seen = Seen::of(judged.input).ok()?;
        let ip = seen.ip().ok()?;
        let Some(vip) = self.scenario.vips.get(&Address::from(ip.destination)) else {
            let multicast = ip.destination.is_multicast();
            return (!multicast).then(|| BTreeSet::from([Verdict::NotVip]));
        };
        if vip.flags & Vip::PLAIN != 0 && ip.transport.is_some_and(|of| of.protocol != ICMPV6) {
            return Some(BTreeSet::from([Verdict::PlainVip]));
        }
        let transport = ip.transport?;
        if vip.flags & Vip::OWN != 0 || transport.is_fragment || transport.extensions > MOST_EXTENSIONS {
            return None;
        }
        let (protocol, bytes) = (transport.protocol, transport.bytes);
        let port = match protocol {
            TCP => TcpHeaderSlice::from_slice(bytes).ok()?.destination_port(),
            UDP => {
                let udp = UdpHeaderSlice::from_slice(bytes).ok()?;
                let len = usize::from(udp.length());
                (8..=bytes.len()).contains(&len).then_some(udp.destination_port())?
            }
            _ => return None,
        };
        if let Some(of_peer) = self.of_peer(judged, &seen, &ip, vip) {
            return Some(BTreeSet::from([of_peer]));
        }
        let mut acceptable = BTreeSet::new();
        let services = self.services(vip, protocol, port);
        for service in &services {
            self.add_ends(*service, &seen, &ip, &mut acceptable);
        }
        if services.is_empty() {
            let passed = vip.flags & Vip::PASS_UNKNOWN != 0;
            acceptable.insert(if passed { Verdict::UnknownServicePassed } else { Verdict::UnknownService });
        }
        Some(acceptable)
    }

    fn of_peer(&self, judged: &Judged<'_>, seen: &Seen<'_>, ip: &Ip<'_>, vip: &Vip) -> Option<Verdict> {
        let flags = judged.tables.settings?.flags;
        let mut mac = [0; 6];
        mac.copy_from_slice(&seen.macs[6..]);
        let peer = self.scenario.peers.get(&LinkAddress::new(mac))?;
        let forwarded = flags & Settings::PEERS != 0 && peer.address != Address::from(ip.source);
        let local = vip.flags & Vip::LOCAL != 0;
        forwarded.then_some(if local { Verdict::FromPeer } else { Verdict::PeerLoop })
    }

    /// The services that a packet may belong to: one where the VIP itself has it, else all that PORTS and RANGES have.
    fn services(&self, vip: &Vip, protocol: u8, port: u16) -> Vec<ServiceRef> {
        let inline = vip.services.iter().find(|entry| (entry.protocol, entry.port) == (protocol, port));
        if let Some(entry) = inline {
            return vec![entry.service];
        }
        let key = |port| PortKey { vip: vip.id, port, protocol, kind: 0 };
        let named = (vip.flags & Vip::MORE != 0).then(|| self.scenario.ports.get(&key(port))).flatten();
        if let Some(service) = named {
            return vec![*service];
        }
        let mut services = Vec::new();
        if vip.flags & Vip::ANY_PORT != 0 {
            services.extend(self.scenario.ports.get(&key(0)));
        }
        for (bits, range, service) in &self.scenario.ranges {
            let free = 64_u32.saturating_sub(*bits).min(16);
            let first = u16::from_be_bytes(range.port);
            let same_block = u32::from(first) >> free == u32::from(port) >> free;
            if range.vip == vip.id.to_be_bytes() && range.protocol == protocol && same_block {
                services.push(*service);
            }
        }
        services
    }

    /// How a packet may end that belongs to a service.
    fn add_ends(&self, service: ServiceRef, seen: &Seen<'_>, ip: &Ip<'_>, ends: &mut BTreeSet<Verdict>) {
        let Some(ring) = self.rings.get(&service.id) else {
            ends.insert(Verdict::NoBackend);
            return;
        };
        if ring.settling {
            ends.insert(Verdict::Settling);
        }
        for &(index, generation) in &ring.backends {
            match self.scenario.backends.get(&index) {
                _ if index == 0 => drop(ends.insert(Verdict::NoBackend)),
                Some(backend) if backend.generation == generation => {
                    ends.extend(ends_at(backend, seen, ip));
                }
                _ => drop(ends.insert(Verdict::BackendGone)),
            }
        }
    }
}

fn ends_at(backend: &Backend, seen: &Seen<'_>, ip: &Ip<'_>) -> Vec<Verdict> {
    let (forwarded, overhead) = match Mode::from_u8(backend.mode) {
        Mode::Dead => return vec![Verdict::BackendGone],
        Mode::Unresolved => return vec![Verdict::Unresolved],
        Mode::Local => return vec![Verdict::LocalBackend],
        Mode::L2 => (Verdict::ForwardedL2, 0),
        Mode::IpipV4 => (Verdict::ForwardedIpip, 20),
        Mode::IpipV6 => (Verdict::ForwardedIpip, 40),
        Mode::GueV4 => (Verdict::ForwardedGue, 28),
        Mode::GueV6 => (Verdict::ForwardedGue, 48),
        Mode::NatV4 => (Verdict::ForwardedNat, if ip.is_v4() { 0 } else { -20 }),
        Mode::NatV6 => (Verdict::ForwardedNat, if ip.is_v4() { 20 } else { 0 }),
    };
    let mut ends = Vec::new();
    let too_big = ip.packet.len() as i64 + overhead > i64::from(backend.mtu);
    let expired = ip.hop_limit <= 1;
    if too_big {
        ends.extend([Verdict::TooBig, Verdict::TooBigAnswered]);
    }
    if expired {
        ends.push(Verdict::TtlExpired);
    }
    if !expired && !too_big {
        ends.push(forwarded);
    }
    if forwarded == Verdict::ForwardedNat {
        let nat = [Verdict::NatExhausted, Verdict::NatUnknown, Verdict::NatUntranslatable];
        ends.extend(nat.into_iter().chain([Verdict::TtlExpired, Verdict::TooBig, Verdict::TooBigAnswered]));
        // Answers carry one customer tag at most.
        if !matches!(&seen.tags[..], [] | [[0x81, 0x00, ..]]) {
            ends.push(Verdict::TagMismatch);
        }
    }
    ends
}
