//! Whether two nodes do the same, and if not, what they do otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::statement::{ServiceStatement, Statement, Summary};
use crate::control::desired::ServiceKey;

/// How long two nodes may say that both answer for a VIP while it moves.
const MOVING: Duration = Duration::from_secs(5);

/// What two nodes do not have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What it is about: the same as long as it lasts.
    pub about: Subject,
    /// A lower-case phrase, in which the other node is `there`.
    pub what: String,
    /// Since when this node knows.
    pub since: Instant,
}

/// What may differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The seed of the hash.
    Seed,
    /// The configuration of a VIP.
    Vip(IpAddr),
    /// Who answers for a VIP.
    Owner(IpAddr),
    /// The configuration of a service.
    Service(ServiceKey),
    /// The ring of a service.
    Ring(ServiceKey),
    /// The configuration of VIPs, nobody knows of which.
    Vips,
    /// The configuration of services, likewise.
    Services,
    /// Rings, likewise.
    Rings,
}

impl Subject {
    /// Whether it makes a difference to connections of these VIPs.
    #[must_use]
    pub fn concerns(&self, vips: &[IpAddr]) -> bool {
        match self {
            Self::Seed | Self::Vips | Self::Services | Self::Rings => true,
            Self::Vip(vip) | Self::Owner(vip) => vips.contains(vip),
            Self::Service(key) | Self::Ring(key) => vips.contains(&key.vip),
        }
    }
}

/// What was compared before, with one other node.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    since: BTreeMap<Subject, Instant>,
}

impl Memory {
    /// What there is to say against the other node now. What may well be on its way is none of it yet.
    pub fn compare(&mut self, own: &Statement, theirs: &Statement, now: Instant) -> Vec<Mismatch> {
        let found = differences(own, theirs);
        let known: BTreeSet<_> = found.iter().map(|difference| &difference.about).collect();
        self.since.retain(|about, _| known.contains(about));
        let mut mismatches = Vec::new();
        for Difference { about, what, patience } in found {
            let since = *self.since.entry(about.clone()).or_insert(now);
            if now.saturating_duration_since(since) >= patience {
                mismatches.push(Mismatch { about, what, since });
            }
        }
        mismatches
    }
}

struct Difference {
    about: Subject,
    what: String,
    patience: Duration,
}

fn differences(own: &Statement, theirs: &Statement) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut say = |about, what, patience| found.push(Difference { about, what, patience });
    let same_seed = own.seed == theirs.seed;
    if !same_seed {
        say(Subject::Seed, "the seed is another one there (`node.seed`)".to_owned(), Duration::ZERO);
    }
    let has_no_settings = theirs.summary.as_ref().is_some_and(|summary| summary.vips.is_some());
    for (&vip, here) in &own.vips {
        let Some(there) = theirs.vips.get(&vip) else {
            say(Subject::Vip(vip), format!("VIP {vip} is only here"), Duration::ZERO);
            continue;
        };
        let settings = settings(&here.settings, &there.settings);
        if !settings.is_empty() && !has_no_settings {
            say(Subject::Vip(vip), format!("VIP {vip}: {}", settings.join(", ")), Duration::ZERO);
        }
        let elects = |settings: &BTreeMap<String, String>| {
            settings.get("ownership").is_some_and(|ownership| ownership == "vrrp")
        };
        let both_elect = elects(&here.settings) && (has_no_settings || elects(&there.settings));
        if here.answers && there.answers && both_elect {
            say(
                Subject::Owner(vip),
                format!("VIP {vip}: both nodes answer for it: do adverts of VRRP get from one to the other?"),
                MOVING,
            );
        }
    }
    for vip in theirs.vips.keys().filter(|vip| !own.vips.contains_key(*vip)) {
        say(Subject::Vip(*vip), format!("VIP {vip} is only there"), Duration::ZERO);
    }
    if let Some(summary) = &theirs.summary {
        found.extend(summed_up(own, summary, same_seed));
        return found;
    }
    // Of a VIP that only one has, its services are no news.
    let both = |key: &ServiceKey| own.vips.contains_key(&key.vip) && theirs.vips.contains_key(&key.vip);
    let there: BTreeMap<ServiceKey, &ServiceStatement> =
        theirs.services.iter().map(|service| (service.key, service)).collect();
    for here in own.services.iter().filter(|service| both(&service.key)) {
        let Some(there) = there.get(&here.key) else {
            let what = format!("service {} is only here", named(here));
            say(Subject::Service(here.key), what, Duration::ZERO);
            continue;
        };
        let configured = configuration(here, there);
        if !configured.is_empty() {
            let what = format!("service {}: {}", here.name, configured.join(", "));
            say(Subject::Service(here.key), what, Duration::ZERO);
        } else if same_seed && here.ring != there.ring {
            let (what, patience) = rings(here, there);
            say(Subject::Ring(here.key), format!("service {}: {what}", here.name), patience);
        }
    }
    for there in theirs.services.iter().filter(|service| both(&service.key)) {
        if !own.services.iter().any(|here| here.key == there.key) {
            let what = format!("service {} is only there", named(there));
            say(Subject::Service(there.key), what, Duration::ZERO);
        }
    }
    found
}

/// What differs from a node that has too much to say.
fn summed_up(own: &Statement, theirs: &Summary, same_seed: bool) -> Vec<Difference> {
    const WHICH: &str = "there are too many to be told one by one";
    let mut found = Vec::new();
    let mut say = |about, what: &str, patience| {
        found.push(Difference { about, what: format!("{what}: {WHICH}"), patience });
    };
    if theirs.vips.as_ref().is_some_and(|vips| *vips != own.vips_digest()) {
        say(Subject::Vips, "VIPs are configured otherwise there", Duration::ZERO);
    }
    let here = own.summary();
    if here.services != theirs.services {
        say(Subject::Services, "services are configured otherwise there", Duration::ZERO);
    } else if same_seed && here.rings != theirs.rings {
        let patience = own.services.iter().map(|service| service.share_patience).max();
        let what = "the rings of services differ although the configuration agrees";
        say(Subject::Rings, what, patience.unwrap_or_default());
    }
    found
}

/// What is said of each key by both, or by one of them.
fn settings(here: &BTreeMap<String, String>, there: &BTreeMap<String, String>) -> Vec<String> {
    let keys: BTreeSet<_> = here.keys().chain(there.keys()).collect();
    let value = |of: &BTreeMap<String, String>, key: &str| {
        of.get(key).cloned().unwrap_or_else(|| "the default".to_owned())
    };
    keys.into_iter()
        .filter(|key| here.get(*key) != there.get(*key))
        .map(|key| format!("{key} is {} here and {} there", value(here, key), value(there, key)))
        .collect()
}

fn configuration(here: &ServiceStatement, there: &ServiceStatement) -> Vec<String> {
    let mut differences = settings(&here.settings, &there.settings);
    if here.backends == there.backends {
        return differences;
    }
    if here.listed.is_empty() || there.listed.is_empty() {
        differences.push("its backends are configured otherwise there".to_owned());
        return differences;
    }
    let names = |found: Vec<IpAddr>| enumerate(found.into_iter().map(|address| backend(here, address)));
    let of = |list: &ServiceStatement, wanted: &dyn Fn(&IpAddr) -> bool| -> Vec<IpAddr> {
        list.listed.keys().filter(|address| wanted(address)).copied().collect()
    };
    let other = |address: &IpAddr| {
        let [here, there] = [here, there].map(|of| of.listed.get(address).map(|of| of.configuration));
        there.is_some() && here != there
    };
    for (found, what) in [
        (of(here, &other), "configured otherwise there"),
        (of(here, &|address| !there.listed.contains_key(address)), "only here"),
        (of(there, &|address| !here.listed.contains_key(address)), "only there"),
    ] {
        if !found.is_empty() {
            differences.push(format!("{} {}: {}", plural(found.len()), what, names(found)));
        }
    }
    differences
}

/// How rings differ of services that are configured in the same way, and how long that may be.
fn rings(here: &ServiceStatement, there: &ServiceStatement) -> (String, Duration) {
    const AGREES: &str = "although the configuration agrees";
    if here.listed.is_empty() || there.listed.is_empty() {
        return (format!("the rings differ {AGREES}"), here.patience);
    }
    let slots = |of: &ServiceStatement, address: &IpAddr| of.listed.get(address).map_or(0, |of| of.slots);
    let only = |one: &ServiceStatement, other: &ServiceStatement| {
        let alone = one.listed.keys().filter(|address| slots(one, address) > 0 && slots(other, address) == 0);
        let names: Vec<_> = alone.map(|address| backend(here, *address)).collect();
        (!names.is_empty()).then(|| enumerate(names.into_iter()))
    };
    // Each slot that one backend has more is one that another has less.
    let more = |one: &ServiceStatement, other: &ServiceStatement| -> u64 {
        let surplus = |address| slots(one, address).saturating_sub(slots(other, address));
        one.listed.keys().map(|address| u64::from(surplus(address))).sum()
    };
    let moved = more(here, there).max(more(there, here));
    let (only_here, only_there) = (only(here, there), only(there, here));
    let members: Vec<_> = [
        only_here.map(|names| format!("only this node's has {names}")),
        only_there.map(|names| format!("only the one there has {names}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if members.is_empty() {
        let what =
            format!("the rings have other shares of the same backends {AGREES} (at least {moved} slots)");
        return (what, here.share_patience);
    }
    (format!("the rings differ {AGREES} (at least {moved} slots): {}", members.join(", ")), here.patience)
}

fn backend(here: &ServiceStatement, address: IpAddr) -> String {
    match here.listed.get(&address) {
        Some(listed) if !listed.name.is_empty() => format!("{} ({address})", listed.name),
        _ => address.to_string(),
    }
}

fn named(service: &ServiceStatement) -> String {
    let ServiceStatement { key, name, .. } = service;
    format!("{name} ({} port {}/{})", key.vip, key.ports, key.protocol)
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "backend" } else { "backends" }
}

/// The first of them, and how many more there are.
fn enumerate(names: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<String> = names.collect();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let shown = names.join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests;
