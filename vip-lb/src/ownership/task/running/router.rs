//! A router of a group on its interface: its link, its addresses there, and what it tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant, SystemTime},
};

use anyhow::anyhow;
use tracing::{info, warn};

use super::super::{RouterSetup, now};
use crate::ownership::{
    addresses,
    admission::Admission,
    announcement::{self, Schedule},
    link::{Interface, Link, Received},
    obstacle::{Doubt, Look, Obstacle},
    report::{Change, Discarded, RouterReport},
    unheard::Unheard,
    vrrp::State,
};

/// Changes that a router remembers.
const REMEMBERED: usize = 10;
/// How long a node leaves a VIP to others whose address it could not put on its interface, or whose hardware address it could not let in.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// For how long frames to a virtual MAC address are taken after it was given up: as long as its next owner announces it.
pub(super) const LINGER: Duration = Duration::from_secs(3);

pub(super) struct RouterState {
    pub(super) link: Option<Link>,
    /// Whether its interface is as it was.
    pub(super) doubt: Doubt,
    /// When addresses could not be put on the interface, or its own be let in, and why.
    refused: Option<(Instant, String)>,
    /// What lets its own hardware address in.
    admission: Option<Admission>,
    /// When it is let in no more.
    close_at: Option<Instant>,
    pub(super) announcements: Schedule,
    pub(super) unheard: Unheard,
    pub(super) report: RouterReport,
}

impl RouterState {
    pub(super) fn new(router: &RouterSetup) -> Self {
        Self {
            link: None,
            doubt: Doubt::default(),
            refused: None,
            admission: None,
            close_at: None,
            announcements: Schedule::default(),
            unheard: Unheard::default(),
            report: RouterReport {
                router: router.router,
                source: None,
                vips: router.vips.clone(),
                state: State::Initialize,
                changes: vec![change(State::Initialize, "it was set up just now".to_owned())],
                hindrance: None,
                priority: router.profile.priority.get(),
                heard: None,
                speaker: None,
                handed_over: None,
                holds: false,
                admitted: None,
                lease: None,
                sent: 0,
                received: 0,
                discarded: BTreeMap::new(),
                conflict: None,
                unheard: None,
            },
        }
    }

    pub(super) fn receive(&self) -> Option<Received> {
        self.link.as_ref()?.receive().unwrap_or_else(|error| {
            warn!(%error, "cannot receive adverts");
            None
        })
    }

    /// Looks at its interface and all that it needs there.
    pub(super) fn look(&mut self, setup: &RouterSetup) -> Look<Interface> {
        let known = self.link.as_ref().map(|link| link.interface.clone());
        let found = Interface::look_up(&setup.interface, setup.router, &setup.vips).and_then(|found| {
            let usable = self.check_addresses(setup).and_then(|()| self.prepare(setup, &found));
            match usable {
                // On another interface nothing is as it was.
                Err(obstacle) if known.as_ref() != Some(&found) => Err(obstacle.into_error().into()),
                usable => usable.map(|()| found),
            }
        });
        Look::at(known.as_ref(), found)
    }

    /// The kernel does not say how its interface is.
    pub(super) fn doubt(&mut self, setup: &RouterSetup, error: &anyhow::Error) {
        let interface = &setup.interface;
        if self.doubt.begin(now()) {
            warn!(interface, "goes on with what was known, because the kernel does not answer: {error:#}");
        }
        if self.doubt.lasts_long(now()) && self.report.hindrance.is_none() {
            self.report.hindrance = Some(format!(
                "the kernel does not say how {interface} is: {error:#}; it is taken to be as it was"
            ));
        }
    }

    /// All was asked about it.
    pub(super) fn settle_doubt(&mut self, setup: &RouterSetup) {
        if self.doubt.settle() {
            info!(interface = setup.interface, "the kernel answers again");
            self.report.hindrance = None;
        }
    }

    /// Whether the addresses of this node's part may be put on the interface, and its own be let in.
    fn check_addresses(&self, setup: &RouterSetup) -> Result<(), Obstacle> {
        match &self.refused {
            Some((at, why)) if now() < *at + REFUSED_FOR => Err(anyhow!("{why}").into()),
            _ if setup.addresses.is_empty() => Ok(()),
            _ => addresses::check(setup.addresses.keys().copied()),
        }
    }

    /// Gets ready to let its own hardware address in, if it has one.
    fn prepare(&mut self, setup: &RouterSetup, interface: &Interface) -> Result<(), Obstacle> {
        let Some(mac) = setup.mac() else { return Ok(()) };
        let is_ready = self.admission.as_ref().map(|admission| admission.is_ready(interface.index()));
        if !is_ready.transpose()?.unwrap_or(false) {
            self.admission = None;
            self.admission = Some(Admission::prepare(interface.index(), mac)?);
        }
        self.tell_admitted();
        Ok(())
    }

    /// Puts its addresses on the interface, and lets its hardware address in; whether that is done.
    pub(super) fn hold(&mut self, setup: &RouterSetup) -> bool {
        let Some(link) = &self.link else { return false };
        let put = |(&vip, &length)| addresses::put(link.interface.index(), vip, length);
        let result = setup.addresses.iter().try_for_each(put);
        let result = result.and_then(|()| self.admission.as_mut().map_or(Ok(()), Admission::open));
        self.close_at = None;
        if self.report.holds
            && let Err(Obstacle::Unknown(error)) = &result
        {
            self.doubt(setup, error);
            return true;
        }
        self.report.holds = result.is_ok();
        self.refused = result.err().map(|obstacle| (now(), format!("{:#}", obstacle.into_error())));
        self.tell_admitted();
        self.report.holds
    }

    /// Takes its addresses away. Its hardware address is let in a while longer: until switches know where that is now, frames to it still come here,
    /// and are forwarded.
    pub(super) fn release(&mut self, setup: &RouterSetup) {
        take_away(setup.addresses.keys());
        self.report.holds = false;
        if self.close_at.is_none() && self.admission.as_ref().is_some_and(Admission::is_open) {
            self.close_at = Some(now() + LINGER);
        }
    }

    /// When something is to be done.
    pub(super) fn due(&self) -> Option<Instant> {
        self.announcements.next().into_iter().chain(self.close_at).min()
    }

    /// Does what is due.
    pub(super) fn act(&mut self, setup: &RouterSetup) {
        while self.announcements.take(now(), setup.refresh()) {
            self.announce();
        }
        if self.close_at.is_some_and(|at| now() >= at) {
            self.close_at = None;
            if let Some(Err(error)) = self.admission.as_mut().map(Admission::close) {
                warn!(%error, "cannot close a virtual MAC address");
            }
            self.tell_admitted();
        }
    }

    /// What lets its hardware address in, for who closes it.
    pub(super) fn into_admission(self) -> Option<Admission> {
        self.admission
    }

    fn tell_admitted(&mut self) {
        self.report.admitted = self.admission.as_ref().map(Admission::report);
    }

    pub(super) fn discard(&mut self, why: Discarded) {
        *self.report.discarded.entry(why.name()).or_default() += 1;
    }

    pub(super) fn announce(&self) {
        let Some(link) = &self.link else { return };
        for vip in &self.report.vips {
            if let Err(error) = link.send_frame(&announcement::frame(*vip, link.mac)) {
                warn!(%vip, %error, "cannot announce");
            }
        }
    }

    pub(super) fn became(&mut self, state: State, why: String) {
        self.report.state = state;
        if state == State::Active {
            self.report.speaker = None;
        }
        self.report.changes.push(change(state, why));
        let surplus = self.report.changes.len().saturating_sub(REMEMBERED);
        self.report.changes.drain(..surplus);
    }
}

pub(super) fn take_away<'a>(vips: impl IntoIterator<Item = &'a IpAddr>) {
    let vips: BTreeSet<_> = vips.into_iter().collect();
    if vips.is_empty() {
        return;
    }
    if let Err(error) = addresses::sweep(|address| !vips.contains(&address)) {
        warn!("{error:#}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the thread is the edge where the clock is read")]
fn change(state: State, why: String) -> Change {
    Change { at: SystemTime::now(), state, why }
}
