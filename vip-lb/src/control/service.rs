//! One service in the maps: its ring and the backends it has, had, and still owes something to.

mod share;

use std::{
    collections::{BTreeMap, HashMap, HashSet, btree_map::Entry},
    net::IpAddr,
};

use vip_lb_common::abi::{Address, Backend, BackendRef, Mode, RingClass, ServiceOptions, ServiceRef, Slot};

use super::{
    desired::{DesiredService, Path},
    indices::BackendIndices,
    slow_start::WHOLE,
    standing::{Cause, Standing},
};
use crate::{
    dataplane::{Publication, Write},
    steering::{Candidate, Collected, Fate, Records, ServiceRing, populate},
};

/// A service as it is published.
#[derive(Clone, Debug)]
pub struct Service {
    /// How the packet path names it.
    pub reference: ServiceRef,
    /// Its slots.
    pub ring: ServiceRing,
    /// Its backends by identity, those included that only linger.
    pub members: BTreeMap<u64, Member>,
    /// Whether it ever had translated connections, so that entries of them may be left.
    translated: bool,
    /// What SERVICES has for it, once it was written.
    options: Option<ServiceOptions>,
    /// Who shares the ring at present, once that was decided.
    targets: Option<Vec<Target>>,
    /// Whether the ring in the map is this one.
    published: bool,
    /// What stands for the ring's shares, with the version of the ring.
    digested: Option<(u64, u64)>,
    /// Whether this is a copy that tries a change: backends that it adds are taken for reachable.
    pub(super) rehearses: bool,
}

/// A backend of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its own address; none if it was found in the maps and is not configured any more.
    pub address: Option<IpAddr>,
    /// What valid references to it look like.
    pub reference: BackendRef,
    /// Its share.
    pub weight: u16,
    /// How much of that counts now, in parts of [`WHOLE`].
    pub share: u8,
    /// What it may do.
    pub standing: Standing,
    /// How packets get there.
    pub path: Path,
    /// Whether it is taken for granted that a way to it will be known.
    assumed: bool,
    /// Its entry in BACKENDS, if it is written.
    written: Option<Backend>,
    /// What its translated connections rely on, also while its next hop is not known.
    translation: Option<Translation>,
}

/// The ends of translated connections on the backend's side. Connections do not survive a change of one of them: their packets
/// would leave with other addresses than the ones that the other side knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Translation {
    source: Address,
    address: Address,
    port: u16,
}

impl Translation {
    fn of(entry: &Backend) -> Option<Self> {
        let Backend { source, address, port, .. } = *entry;
        let translates = matches!(Mode::from_u8(entry.mode), Mode::NatV4 | Mode::NatV6);
        translates.then_some(Self { source, address, port })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    candidate: Candidate,
    reference: BackendRef,
}

impl Member {
    fn new(reference: BackendRef, standing: Standing) -> Self {
        Self {
            address: None,
            reference,
            weight: 0,
            share: WHOLE,
            standing,
            path: Path::Unresolved,
            assumed: false,
            written: None,
            translation: None,
        }
    }
}

/// Writes of a service in the order in which they are safe.
#[derive(Debug, Default)]
pub struct ServiceWrites {
    /// Before the ring: what it refers to.
    pub before: Vec<Write>,
    /// The ring.
    pub ring: Option<Write>,
    /// After the ring: what it refers to no more.
    pub after: Vec<Write>,
    /// What could not be done.
    pub warnings: Vec<String>,
}

impl Service {
    /// A service that is not published yet.
    #[must_use]
    pub fn new(reference: ServiceRef, wanted: &DesiredService) -> Self {
        let ring = ServiceRing::new(wanted.class.slots(), wanted.start, wanted.timeouts);
        Self {
            reference,
            ring,
            members: BTreeMap::new(),
            translated: false,
            options: None,
            targets: None,
            published: false,
            digested: None,
            rehearses: false,
        }
    }

    /// A service that a former daemon published, with the backends it had. `published` tells whether the map has the ring as it is here.
    #[must_use]
    pub fn adopt(
        reference: ServiceRef,
        ring: ServiceRing,
        published: bool,
        options: Option<ServiceOptions>,
        backends: impl IntoIterator<Item = (u16, Backend)>,
    ) -> Self {
        let members = backends.into_iter().map(|(index, entry)| {
            let alive = entry.mode != Mode::Dead as u8;
            let member = Member {
                address: None,
                reference: BackendRef { index, generation: entry.generation },
                weight: 0,
                share: WHOLE,
                standing: if alive {
                    Standing::Draining(Cause::Removed)
                } else {
                    Standing::Out(Cause::Removed)
                },
                path: Path::Unresolved,
                assumed: false,
                written: Some(entry),
                translation: Translation::of(&entry),
            };
            (entry.identity, member)
        });
        // Entries of connections may be left whose backend is not translated any more.
        let translated = true;
        Self {
            reference,
            ring,
            members: members.collect(),
            translated,
            options,
            targets: None,
            published,
            digested: None,
            rehearses: false,
        }
    }

    /// The size class of its ring.
    #[must_use]
    pub fn class(&self) -> RingClass {
        RingClass::from_u8(self.reference.ring_class)
    }

    /// Brings about what is wanted.
    pub fn reconcile(
        &mut self,
        wanted: &DesiredService,
        indices: &mut BackendIndices,
        seed: &[u8; 32],
        now: u32,
    ) -> ServiceWrites {
        let mut writes = ServiceWrites::default();
        self.ring.set_timeouts(wanted.timeouts);
        if self.options != Some(wanted.options) {
            self.options = Some(wanted.options);
            writes.before.push(Write::ServiceOptions { service: self.reference.id, options: wanted.options });
        }
        self.note_wishes(wanted, indices, &mut writes);
        let deaths = self.update_entries(indices, &mut writes);
        let targets = self.serving();
        if deaths || self.targets.as_ref() != Some(&targets) {
            self.retarget(targets, seed, now, &mut writes);
        }
        self.release(indices, &mut writes.after);
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        self.reference.flags = wanted.flags
            | flag(self.is_translated(), ServiceRef::NAT)
            | flag(self.is_indirect(), ServiceRef::INDIRECT);
        writes
    }

    /// Gives up all backends of a service that is no longer published.
    pub fn dissolve(&mut self, indices: &mut BackendIndices) -> Vec<Write> {
        let mut writes = Vec::new();
        for (_, member) in std::mem::take(&mut self.members) {
            writes.push(free(member.reference.index, indices));
        }
        writes
    }

    /// Looks through what was recorded for this service, and moves its slots on.
    pub fn collect(
        &mut self,
        published: &[Slot],
        records: &Records,
        indices: &mut BackendIndices,
        now: u32,
    ) -> (Collected, ServiceWrites) {
        let alive = self.alive();
        let collected = self.ring.collect(records, published, fate_of(&alive), now);
        let mut writes = ServiceWrites::default();
        if collected.moved > 0 {
            writes.ring = Some(self.publish());
        }
        self.release(indices, &mut writes.after);
        (collected, writes)
    }

    /// Frees the former backends that no translated connection names any more: `named` tells whom any did when all of them were
    /// looked through.
    pub fn collect_translated(
        &mut self,
        named: &HashMap<BackendRef, u64>,
        indices: &mut BackendIndices,
    ) -> Vec<Write> {
        for member in self.members.values_mut() {
            let lingers = member.standing == Standing::Draining(Cause::Removed);
            // As long as the ring names it, a connection may begin on it.
            if lingers && !named.contains_key(&member.reference) && !self.ring.names(member.reference) {
                member.translation = None;
            }
        }
        let mut writes = Vec::new();
        self.release(indices, &mut writes);
        writes
    }

    /// What good references to its backends look like.
    #[must_use]
    pub fn references(&self) -> HashSet<BackendRef> {
        self.alive()
    }

    /// Whether connections to one of its backends may be alive: a slot or a record names it, or it is translated to.
    #[must_use]
    pub fn may_have_connections(&self, member: &Member) -> bool {
        let is_known = member.standing.is_alive() && member.written.is_some();
        is_known && (member.translation.is_some() || self.ring.names(member.reference))
    }

    /// Whether packets to some backend, one that lingers included, go another than the usual way.
    fn is_indirect(&self) -> bool {
        self.members.values().filter_map(|member| member.written).any(|entry| !entry.is_usual())
    }

    /// Whether connections to some backend are translated, one that lingers included.
    #[must_use]
    pub fn is_translated(&self) -> bool {
        self.members.values().any(|member| member.translation.is_some())
    }

    /// Whether entries of translated connections may be left.
    #[must_use]
    pub fn was_translated(&self) -> bool {
        self.translated
    }

    /// Addresses that translated connections have on this node.
    pub fn nat_sources(&self) -> impl Iterator<Item = IpAddr> {
        self.members.values().filter_map(|member| Some(member.translation?.source.into()))
    }

    /// Whether only the memory of former backends is left to tidy up.
    #[must_use]
    pub fn has_lingering(&self) -> bool {
        self.members.values().any(|member| member.standing.cause() == Some(Cause::Removed))
    }

    /// Whether packets for one of its backends go up to this host's stack.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.members.values().any(Member::is_local)
    }

    /// Whether a backend that is not configured any more still has flows, on this host.
    #[must_use]
    pub fn has_lingering_local(&self) -> bool {
        let lingering = |member: &&Member| member.standing.cause() == Some(Cause::Removed);
        self.members.values().filter(lingering).any(Member::is_local)
    }

    /// The backend behind an index.
    #[must_use]
    pub fn member(&self, index: u16) -> Option<&Member> {
        self.members.values().find(|member| member.reference.index == index)
    }

    fn note_wishes(
        &mut self,
        wanted: &DesiredService,
        indices: &mut BackendIndices,
        writes: &mut ServiceWrites,
    ) {
        for (&address, backend) in &wanted.backends {
            let member = match self.members.entry(backend.identity) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    let Some(reference) = indices.allocate() else {
                        writes.warnings.push(format!("no free entry for backend {address}: all are in use"));
                        continue;
                    };
                    let member = place.insert(Member::new(reference, backend.standing));
                    member.assumed = self.rehearses;
                    member
                }
            };
            member.address = Some(address);
            member.weight = backend.weight;
            member.share = backend.share;
            member.standing = backend.standing;
            member.path = backend.path.clone();
        }
        let wanted: HashSet<u64> = wanted.backends.values().map(|backend| backend.identity).collect();
        for (identity, member) in &mut self.members {
            if !wanted.contains(identity) {
                member.standing = match member.standing {
                    Standing::Out(_) => Standing::Out(Cause::Removed),
                    Standing::Serving | Standing::Draining(_) => Standing::Draining(Cause::Removed),
                };
            }
        }
    }

    /// Writes the entries of all backends. Tells whether one died.
    fn update_entries(&mut self, indices: &mut BackendIndices, writes: &mut ServiceWrites) -> bool {
        let mut deaths = false;
        for (&identity, member) in &mut self.members {
            let was_alive = member.written.is_some_and(|entry| entry.mode != Mode::Dead as u8);
            let is_alive = member.standing.is_alive();
            if was_alive && !is_alive {
                // References to the life that ended are void from the moment the entry is written.
                member.reference = indices.renew(member.reference.index);
                member.translation = None;
                deaths = true;
            }
            let entry = match member.written {
                _ if !is_alive => Backend::default(),
                // The last way that was known has to do: nobody resolves that of a backend that is not configured, and it may take a moment
                // for one that is again.
                Some(written) if was_alive && member.has_no_other_way() => written,
                _ => member.path.entry(),
            };
            if is_alive && member.begins_anew(&entry) {
                // Rings and connections name the former life, under an index of its own until they do no more.
                let Some(reference) = indices.allocate() else {
                    let name = member.address.map_or_else(|| identity.to_string(), |of| of.to_string());
                    writes.warnings.push(format!(
                        "no free entry for backend {name}, which stays as it was: all are in use"
                    ));
                    continue;
                };
                writes.after.push(free(member.reference.index, indices));
                member.reference = reference;
                member.written = None;
                deaths = true;
            }
            if is_alive && Mode::from_u8(entry.mode) != Mode::Unresolved {
                member.translation = Translation::of(&entry);
                self.translated |= member.translation.is_some();
            }
            let entry = Backend {
                generation: member.reference.generation,
                service: self.reference.id,
                identity,
                ..entry
            };
            if member.written == Some(entry) {
                continue;
            }
            member.written = Some(entry);
            let write = Write::Backend { index: member.reference.index, backend: Box::new(entry) };
            if is_alive {
                writes.before.push(write);
            } else {
                writes.after.push(write);
            }
        }
        deaths
    }

    /// Who takes new flows: those that serve and to which a way is known, or has been. If none is known to any, all that serve, so that packets end as
    /// what they are, on their way to a backend that is not found.
    fn serving(&self) -> Vec<Target> {
        let serving = || self.members.iter().filter(|(_, member)| member.standing == Standing::Serving);
        // Weights as they are, unless some are less than whole: only relative ones matter to the ring.
        let is_whole = serving().all(|(_, member)| member.share == WHOLE);
        let weight =
            |member: &Member| u32::from(member.weight) * u32::from(if is_whole { 1 } else { member.share });
        let some_reachable = serving().any(|(_, member)| member.is_reachable());
        serving()
            .filter(|(_, member)| !some_reachable || member.is_reachable())
            .map(|(&identity, member)| Target {
                candidate: Candidate { identity, weight: weight(member) },
                reference: member.reference,
            })
            .collect()
    }

    fn retarget(&mut self, targets: Vec<Target>, seed: &[u8; 32], now: u32, writes: &mut ServiceWrites) {
        let candidates: Vec<_> = targets.iter().map(|target| target.candidate).collect();
        let picks: Vec<_> = populate(seed, self.class().slots(), &candidates)
            .into_iter()
            .map(|position| position.map_or(BackendRef::NONE, |at| targets[usize::from(at)].reference))
            .collect();
        let alive = self.alive();
        let changes = self.ring.retarget(&picks, fate_of(&alive), now);
        if changes.any() || !self.published {
            self.published = true;
            writes.ring = Some(self.publish());
        }
        self.targets = Some(targets);
    }

    /// Frees what is not configured any more and that nothing refers to.
    fn release(&mut self, indices: &mut BackendIndices, writes: &mut Vec<Write>) {
        let ring = &self.ring;
        self.members.retain(|_, member| {
            let keep = match member.standing {
                Standing::Out(Cause::Removed) => false,
                // Which connections are translated to it only a look at all of them tells.
                Standing::Draining(Cause::Removed) => {
                    member.translation.is_some() || ring.names(member.reference)
                }
                _ => true,
            };
            if !keep {
                writes.push(free(member.reference.index, indices));
            }
            keep
        });
    }

    fn publish(&self) -> Write {
        Write::Ring(Publication {
            service: self.reference.id,
            class: self.class(),
            slots: self.ring.shared_slots(),
        })
    }

    fn alive(&self) -> HashSet<BackendRef> {
        self.members
            .values()
            .filter(|member| member.standing.is_alive())
            .map(|member| member.reference)
            .collect()
    }
}

impl Member {
    /// Whether connections that it has cannot go on with this entry: it is translated now and was not, or the other way round, or its
    /// translated connections have other ends. The ways without translation change in place, because packets stay what they are.
    fn begins_anew(&self, entry: &Backend) -> bool {
        let Some(written) = self.written else { return false };
        let unknown = |mode| matches!(Mode::from_u8(mode), Mode::Dead | Mode::Unresolved);
        match self.translation {
            Some(translation) => !unknown(entry.mode) && Translation::of(entry) != Some(translation),
            None => !unknown(written.mode) && Translation::of(entry).is_some(),
        }
    }

    /// Whether packets find a way to it, the last one that was known if need be.
    fn is_reachable(&self) -> bool {
        let written = self.written.map_or(Mode::Dead, |entry| Mode::from_u8(entry.mode));
        self.assumed || !matches!(written, Mode::Dead | Mode::Unresolved)
    }

    /// Whether no way to it is known but the one that is written.
    fn has_no_other_way(&self) -> bool {
        self.path == Path::Unresolved || self.standing.cause() == Some(Cause::Removed)
    }

    fn is_local(&self) -> bool {
        self.path == Path::Local || self.written.is_some_and(|entry| entry.mode == Mode::Local as u8)
    }
}

fn fate_of(alive: &HashSet<BackendRef>) -> impl Fn(BackendRef) -> Fate + '_ {
    |backend| {
        if alive.contains(&backend) { Fate::Alive } else { Fate::Dead }
    }
}

/// Marks an entry as nobody's.
pub(super) fn free(index: u16, indices: &mut BackendIndices) -> Write {
    let generation = indices.renew(index).generation;
    indices.free(index);
    Write::Backend { index, backend: Box::new(Backend { generation, ..Backend::default() }) }
}
