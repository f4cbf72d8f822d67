//! What others say to a group's routers.

use std::{net::IpAddr, time::Instant};

use tracing::debug;

use super::{Running, now};
use crate::{
    dataplane::Owners,
    ownership::{
        link::Received,
        report::{Discarded, RouterReport, Speaker},
        vrrp::{Addresses, Advert, GroupEvent, Heard},
    },
};

/// Packets that are read at a time, more than the kernel keeps (`net.core.rmem_default`): whoever floods keeps this node from nothing else.
const AT_A_TIME: usize = 1000;

impl Running {
    /// Reads all that has come.
    pub(in super::super) fn receive(&mut self, owners: &Owners) {
        let Some(mut machine) = self.machine.take() else { return };
        for router in 0..self.routers.len() {
            for _ in 0..AT_A_TIME {
                let Some(received) = self.routers[router].receive() else { break };
                self.routers[router].unheard.read(received.source, now());
                if let Some(heard) = self.hear(router, &received) {
                    let orders = machine.on(GroupEvent::Heard { router, heard }, now());
                    self.carry_out(&mut machine, orders, owners);
                }
            }
        }
        self.machine = Some(machine);
    }

    /// What a packet says to a router, if it is for this one.
    pub(super) fn hear(&mut self, router: usize, received: &Received) -> Option<Heard> {
        let setup = &self.setup.routers[router];
        let state = &mut self.routers[router];
        if state.link.as_ref().is_some_and(|link| link.interface.source == received.source) {
            return None;
        }
        let Received { bytes, source, destination, ttl } = received;
        let advert = match Advert::decode(bytes, *source, *destination, *ttl) {
            Ok((advert, _)) => advert,
            Err(malformed) => {
                debug!(%source, %malformed, "discarded an advert");
                state.discard(Discarded::Malformed(malformed));
                return None;
            }
        };
        if advert.router != setup.router {
            return None;
        }
        if !setup.peers.is_empty() && !setup.peers.contains(source) {
            state.discard(Discarded::Stranger);
            return None;
        }
        let theirs: Vec<IpAddr> = match &advert.addresses {
            Addresses::V4(all) => all.iter().copied().map(IpAddr::V4).collect(),
            Addresses::V6(all) => all.iter().copied().map(IpAddr::V6).collect(),
        };
        // A virtual router over IPv6 may have a link-local address as well (RFC 9568 section 5.2.9).
        let is_link_local = |vip: &IpAddr| matches!(vip, IpAddr::V6(vip) if vip.is_unicast_link_local());
        let same = theirs.iter().filter(|vip| !is_link_local(vip)).all(|vip| setup.vips.contains(vip))
            && setup.vips.iter().all(|vip| theirs.contains(vip));
        state.report.conflict = (!same).then(|| {
            let listed: Vec<_> = theirs.iter().map(ToString::to_string).collect();
            format!(
                "{source} speaks for router {} with other addresses: {}",
                setup.router.id(),
                listed.join(", ")
            )
        });
        if !same && !theirs.iter().any(|vip| setup.vips.contains(vip)) {
            // It is another router that took the same identifier: to give way to it would leave these addresses to nobody.
            state.discard(Discarded::OtherAddresses);
            return None;
        }
        state.report.received += 1;
        let heard = Heard { priority: advert.priority, interval: advert.interval, source: *source };
        note_heard(&mut state.report, heard, now());
        Some(heard)
    }
}

/// For the record.
pub(super) fn note_heard(report: &mut RouterReport, heard: Heard, at: Instant) {
    report.heard = Some(heard.source);
    report.speaker = heard.priority.map(|priority| Speaker {
        address: heard.source,
        priority,
        until: at + heard.interval.down(priority),
    });
}
