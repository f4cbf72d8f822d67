//! What the packet path saw and this process did not hear.

use std::time::Instant;

use super::{Running, hear::note_heard};
use crate::{
    dataplane::Owners,
    ownership::{
        task::{RouterSetup, StampLinks, now},
        unheard::{Stamp, StampLink},
        vrrp::{GroupEvent, State},
    },
};

impl Running {
    /// Whether its time to take over has come.
    pub(in crate::ownership::task) fn is_about_to_take_over(&self, at: Instant) -> bool {
        self.machine.as_ref().is_some_and(|machine| {
            machine.state() == State::Backup && machine.deadline().is_some_and(|due| at >= due)
        })
    }

    /// Takes note of what the packet path saw and this process did not hear. `judges` says whether it is to be told that it never does, which needs
    /// some time between two looks.
    pub(in crate::ownership::task) fn look(
        &mut self,
        stamps: &[Stamp],
        links: &StampLinks,
        judges: bool,
        owners: &Owners,
    ) {
        let Some(mut machine) = self.machine.take() else { return };
        for router in 0..self.routers.len() {
            let missed = self.missed(router, stamps, links);
            let (setup, state) = (&self.setup.routers[router], &mut self.routers[router]);
            if judges {
                let unheard = state.unheard.look(&missed, now());
                state.report.unheard = unheard.map(|source| {
                    format!(
                        "adverts of {source} for router {} arrive on {} but do not reach this process: a firewall on this \
                         host drops protocol 112?",
                        setup.router.id(),
                        setup.interface
                    )
                });
            }
            for Stamp { at, heard, .. } in missed {
                note_heard(&mut self.routers[router].report, heard, at);
                let orders = machine.on(GroupEvent::Seen { router, at, heard }, now());
                self.carry_out(&mut machine, orders, owners);
            }
        }
        self.machine = Some(machine);
    }

    /// The stamps for a router of which nothing was read.
    fn missed(&self, router: usize, stamps: &[Stamp], links: &StampLinks) -> Vec<Stamp> {
        let (setup, state) = (&self.setup.routers[router], &self.routers[router]);
        let Some(link) = &state.link else { return Vec::new() };
        let itself = StampLink { interface: link.interface.index(), vlan: 0 };
        let is_here =
            |link| link == itself || links.get(&setup.interface).is_some_and(|links| links.contains(&link));
        let is_for_it = |stamp: &&Stamp| {
            is_here(stamp.link) && is_for(stamp, setup) && stamp.heard.source != link.interface.source
        };
        state.unheard.missed(stamps.iter().filter(is_for_it))
    }
}

/// Whether a stamp is of an advert that a router would hear. All its addresses are not known, only one.
pub(super) fn is_for(stamp: &Stamp, setup: &RouterSetup) -> bool {
    stamp.router == setup.router
        && (setup.peers.is_empty() || setup.peers.contains(&stamp.heard.source))
        && setup.vips.contains(&stamp.address)
}
