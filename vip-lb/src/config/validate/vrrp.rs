//! Whether what is said of VRRP fits together.

use std::net::IpAddr;

use super::{Unique, Validator, address};
use crate::{
    config::{
        issue::Place,
        model::{Checksum, Interface, Ownership, Preempt, Vrrp},
        raw::{RawVip, RawVrrp},
    },
    ownership::vrrp::{Interval, Priority, Router},
};

/// A virtual router: its interface, and what names it there.
pub(super) type Key = (String, Router);

impl<'a> Validator<'a> {
    /// The VIP's part in its virtual router, if it has one. The outer `None` is given only after an error.
    #[expect(clippy::option_option, reason = "the outer one is the validator's: an error was noted")]
    pub(super) fn vrrp(&mut self, raw: &'a RawVip, interfaces: &[Interface]) -> Option<Option<Vrrp>> {
        match (raw.ownership.or(Ownership::Always), raw.vrrp.given()) {
            (Ownership::Always | Ownership::Route, None) => Some(None),
            (Ownership::Always | Ownership::Route, Some(said)) => {
                self.issues.error(
                    &said.place,
                    "vrrp without `ownership: vrrp`",
                    "it only where `ownership` is vrrp",
                );
                None
            }
            (Ownership::Vrrp, None) if raw.vrrp.is_present() => None,
            (Ownership::Vrrp, None) => {
                let place = &raw.ownership.given()?.place;
                self.issues.error(
                    place,
                    "vrrp without a router",
                    "`vrrp` beside it, a mapping with at least router_id",
                );
                None
            }
            (Ownership::Vrrp, Some(said)) => {
                let vrrp = self.router(raw, &said.value, &said.place, interfaces)?;
                self.agrees(*raw.address.value()?, vrrp, &said.place).map(Some)
            }
        }
    }

    fn router(
        &mut self,
        raw: &'a RawVip,
        said: &'a RawVrrp,
        place: &'a Place,
        interfaces: &[Interface],
    ) -> Option<Vrrp> {
        let interface = match (said.interface.value(), interfaces) {
            (Some(interface), _) => Some(interface.clone()),
            (None, [only]) if !said.interface.is_present() => Some(only.name.clone()),
            (None, _) => {
                if !said.interface.is_present() && !interfaces.is_empty() {
                    self.issues.error(
                        place,
                        "no interface, and the node has several",
                        "`interface`, by which adverts go",
                    );
                }
                None
            }
        };
        let peers = said.peers.value().map_or(&[][..], Vec::as_slice);
        let mut seen = Unique::default();
        for peer in peers {
            const EXPECTED: &str = "the own address of another node, of the VIP's family";
            address::check_host(peer.value, &peer.place, EXPECTED, self.issues);
            self.not_a_vip(peer.value, &peer.place, EXPECTED);
            if raw.address.value().is_some_and(|vip| vip.is_ipv4() != peer.value.is_ipv4()) {
                self.issues.error(&peer.place, format!("{}, of the other family", peer.value), EXPECTED);
            }
            if let Err(first) = seen.claim(peer.value, &peer.place) {
                let expected = format!("each peer once ({})", first.reference());
                self.issues.error(&peer.place, peer.value.to_string(), expected);
            }
        }
        let priority = said.priority.or(Priority::DEFAULT);
        let track = self.tracks(said.track.value().map_or(&[][..], Vec::as_slice), priority);
        Some(Vrrp {
            router_id: *said.router_id.value()?,
            interface: interface?,
            priority,
            interval: said.interval.or(Interval::DEFAULT),
            preempt: said.preempt.or(Preempt::Higher),
            preempt_delay: said.preempt_delay.or(std::time::Duration::ZERO),
            peers: peers.iter().map(|peer| peer.value).collect(),
            group: said.group.value().cloned(),
            track,
            virtual_mac: said.virtual_mac.or(false),
            refresh: said.refresh.value().copied(),
            checksum: said.checksum.or(Checksum::PseudoHeader),
        })
    }

    /// VIPs of one router move together, so all is said of them alike; and routers of one hardware address are one.
    fn agrees(&mut self, vip: IpAddr, vrrp: Vrrp, place: &'a Place) -> Option<Vrrp> {
        let router = Router::of(vrrp.router_id.get(), vip);
        let same_mac = |(interface, other): &&Key| *interface != vrrp.interface && *other == router;
        if vrrp.virtual_mac
            && let Some(((other, _), (_, at))) =
                self.routers.iter().find(|(key, (of, _))| of.virtual_mac && same_mac(key))
        {
            let found = format!("virtual_mac of router {}, as on {other}", vrrp.router_id);
            let expected = format!("another router_id for each interface ({})", at.reference());
            self.issues.error(place, found, expected);
            return None;
        }
        let key = (vrrp.interface.clone(), router);
        let (first, at) = self.routers.entry(key).or_insert_with(|| (vrrp.clone(), place));
        if *first == vrrp {
            return Some(vrrp);
        }
        let found = format!("another {} for router {}", differing(first, &vrrp), vrrp.router_id);
        let expected = format!("what is said of this router elsewhere ({})", at.reference());
        self.issues.error(place, found, expected);
        None
    }
}

/// The first key in which two differ.
fn differing(a: &Vrrp, b: &Vrrp) -> &'static str {
    [
        ("priority", a.priority != b.priority),
        ("interval", a.interval != b.interval),
        ("preempt", a.preempt != b.preempt),
        ("preempt_delay", a.preempt_delay != b.preempt_delay),
        ("peers", a.peers != b.peers),
        ("group", a.group != b.group),
        ("track", a.track != b.track),
        ("virtual_mac", a.virtual_mac != b.virtual_mac),
        ("refresh", a.refresh != b.refresh),
    ]
    .into_iter()
    .find_map(|(key, differs)| differs.then_some(key))
    .unwrap_or("checksum")
}
