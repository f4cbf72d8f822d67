//! What a change would do to connections: the planner's own work on a copy of its state, compared with the original.
//!
//! Nothing is computed in another way than for the real change. A connection stays if the references that lead to its backend stay good; so
//! what is lost is read off the references, and what moves off the slots.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use vip_lb_common::abi::{BackendRef, Phase, RingClass};

use super::{
    desired::{Desired, ServiceKey},
    engine::Engine,
    service::{Member, Service},
    standing::Standing,
};

/// What a change does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// To the services, by what clients dial.
    pub services: BTreeMap<ServiceKey, ServiceEffect>,
    /// What could not be planned.
    pub warnings: Vec<String>,
}

/// What a change does to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEffect {
    /// Its number, if it is published already.
    pub id: Option<u16>,
    /// Whether it is there afterwards.
    pub stays: bool,
    /// Size of its ring.
    pub slots: usize,
    /// Slots whose new flows go to another backend than before; none of a service that comes or goes.
    pub moved: usize,
    /// Those of them that remember the backend whose flows they had.
    pub remembering: usize,
    /// Its backends by identity, those included that only linger.
    pub backends: BTreeMap<u64, BackendEffect>,
}

/// What a change does to a backend of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendEffect {
    /// Its own address; none if it is not configured any more.
    pub address: Option<IpAddr>,
    /// How it is referred to, if it is published already.
    pub reference: Option<BackendRef>,
    /// Where it stands afterwards; none if it is gone then.
    pub standing: Option<Standing>,
    /// Slots whose new flows it gets.
    pub slots_before: usize,
    /// Slots whose new flows it will get.
    pub slots_after: usize,
    /// Whether it may have connections.
    pub has_connections: bool,
    /// Whether these are lost.
    pub loses_them: bool,
}

impl ServiceEffect {
    /// Whether anything about it changes.
    #[must_use]
    pub fn any(&self) -> bool {
        self.id.is_none()
            || !self.stays
            || self.moved > 0
            || self.backends.values().any(|backend| {
                backend.loses_them
                    || backend.reference.is_none()
                    || backend.slots_before != backend.slots_after
            })
    }
}

impl Engine {
    /// What [`Engine::reconcile`] would do, without doing it. To backends that come new nobody has looked for a way yet: it is taken for granted.
    #[must_use]
    pub fn rehearse(&self, desired: &Desired, now: u32) -> Effects {
        let mut copy = self.for_rehearsal();
        let plan = copy.reconcile(desired, now);
        Effects { warnings: plan.warnings, ..Effects::between(self, &copy) }
    }
}

impl Effects {
    /// What became of the services from one state to another.
    #[must_use]
    pub fn between(before: &Engine, after: &Engine) -> Self {
        let keys: BTreeSet<_> = before.services().chain(after.services()).map(|(key, _)| *key).collect();
        let effect = |key: ServiceKey| (key, effect(before.published(&key), after.published(&key)));
        Self { services: keys.into_iter().map(effect).collect(), warnings: Vec::new() }
    }
}

fn effect(before: Option<&Service>, after: Option<&Service>) -> ServiceEffect {
    let class = before.or(after).map_or(RingClass::Small, Service::class);
    let (mut moved, mut remembering) = (0, 0);
    if let (Some(before), Some(after)) = (before, after) {
        let (former, latter) = (Owners::of(before), Owners::of(after));
        for (old, new) in before.ring.slots().iter().zip(after.ring.slots()) {
            let owner = former.of_slot(old.current);
            if owner == latter.of_slot(new.current) {
                continue;
            }
            moved += 1;
            remembering += usize::from(owner.is_some() && new.phase != Phase::Closed as u8);
        }
    }
    let sides = (Side::of(before), Side::of(after));
    let identities: BTreeSet<u64> = sides.0.identities().chain(sides.1.identities()).collect();
    let backends = identities.into_iter().map(|identity| (identity, backend_effect(identity, &sides)));
    ServiceEffect {
        id: before.map(|service| service.reference.id),
        stays: after.is_some(),
        slots: class.slots(),
        moved,
        remembering,
        backends: backends.collect(),
    }
}

fn backend_effect(identity: u64, (before, after): &(Side<'_>, Side<'_>)) -> BackendEffect {
    let (known, kept) = (before.member(identity), after.member(identity));
    let has_connections =
        before.service.zip(known).is_some_and(|(service, member)| service.may_have_connections(member));
    let stays_good = known.is_some_and(|member| after.references.contains(&member.reference));
    BackendEffect {
        address: kept.and_then(|member| member.address).or_else(|| known.and_then(|member| member.address)),
        reference: known.map(|member| member.reference),
        standing: kept.map(|member| member.standing),
        slots_before: before.slots_of(known),
        slots_after: after.slots_of(kept),
        has_connections,
        loses_them: has_connections && !stays_good,
    }
}

/// A service before or after.
struct Side<'s> {
    service: Option<&'s Service>,
    references: HashSet<BackendRef>,
    shares: HashMap<BackendRef, usize>,
}

impl<'s> Side<'s> {
    fn of(service: Option<&'s Service>) -> Self {
        Self {
            service,
            references: service.map(Service::references).unwrap_or_default(),
            shares: service.map(|service| service.ring.shares()).unwrap_or_default(),
        }
    }

    fn identities(&self) -> impl Iterator<Item = u64> + use<'s> {
        self.service.into_iter().flat_map(|service| service.members.keys().copied())
    }

    fn member(&self, identity: u64) -> Option<&'s Member> {
        self.service?.members.get(&identity)
    }

    fn slots_of(&self, member: Option<&Member>) -> usize {
        member.and_then(|member| self.shares.get(&member.reference)).copied().unwrap_or(0)
    }
}

/// Who has which reference.
struct Owners(HashMap<BackendRef, u64>);

impl Owners {
    fn of(service: &Service) -> Self {
        Self(service.members.iter().map(|(&identity, member)| (member.reference, identity)).collect())
    }

    fn of_slot(&self, reference: BackendRef) -> Option<u64> {
        self.0.get(&reference).copied()
    }
}
