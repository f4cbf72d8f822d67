//! A service as nodes speak of it: what is a reference to an entry of BACKENDS here is the backend's identity elsewhere.

use std::collections::HashMap;

use vip_lb_common::{abi::BackendRef, hash::mix};

use super::{Service, fate_of};
use crate::{
    dataplane::Write,
    steering::{Learnt, Records, Start, Trust},
};

impl Service {
    /// Of which ring slots and records are that mean the same here: how many slots it has, and whether the beginnings of flows are hidden.
    #[must_use]
    pub fn ring_kind(&self) -> (u32, bool) {
        (self.class().slots() as u32, self.ring.start() == Start::Hidden)
    }

    /// Who its living backends are, by the references to them.
    #[must_use]
    pub fn identities(&self) -> HashMap<BackendRef, u64> {
        let living = self.members.iter().filter(|(_, member)| member.standing.is_alive());
        living.map(|(&identity, member)| (member.reference, identity)).collect()
    }

    /// The reference to a living backend; [`BackendRef::NONE`] if there is no such backend here.
    #[must_use]
    pub fn reference_to(&self, identity: u64) -> BackendRef {
        let member = self.members.get(&identity).filter(|member| member.standing.is_alive());
        member.map_or(BackendRef::NONE, |member| member.reference)
    }

    /// Stands for who gets new connections, slot by slot: the same on nodes where that is the same.
    pub fn shares_digest(&mut self) -> u64 {
        let version = self.ring.version();
        if let Some((_, digest)) = self.digested.filter(|(of, _)| *of == version) {
            return digest;
        }
        let identities = self.identities();
        let of_slot = |backend: &BackendRef| identities.get(backend).copied().unwrap_or(0);
        let currents = self.ring.slots().iter().map(|slot| of_slot(&slot.current));
        let digest = currents.fold(0, |digest, identity| mix(digest ^ identity));
        self.digested = Some((version, digest));
        digest
    }

    /// The slots that other nodes should keep open, and whom they remember.
    pub fn shared_slots(&mut self, serves: bool, now: u32) -> Vec<(u32, u64)> {
        let identities = self.identities();
        let shared = self.ring.shared(serves, now).into_iter();
        shared.map(|(index, previous)| (index, identities.get(&previous).copied().unwrap_or(0))).collect()
    }

    /// Those of its records that packets go by.
    #[must_use]
    pub fn honoured(&self, records: &Records) -> Records {
        self.ring.honoured(records, fate_of(&self.alive()))
    }

    /// Hears which slots another node has open, and whom they remember. The ring is to be published if that changed it.
    pub fn learn(
        &mut self,
        node: &str,
        told: &[(u32, u64)],
        trust: Trust,
        now: u32,
    ) -> (Learnt, Option<Write>) {
        let told: Vec<_> =
            told.iter().map(|&(index, identity)| (index, self.reference_to(identity))).collect();
        let learnt = self.ring.learn(node, &told, trust, now);
        (learnt, (learnt.changed > 0).then(|| self.publish()))
    }

    /// Has records of another node count here: the epochs of their slots, and the ring, if it has to be published for it.
    pub fn place(&mut self, records: &[(u32, BackendRef)], now: u32) -> (Vec<Option<u16>>, Option<Write>) {
        let before = self.ring.open();
        let place = |&(index, backend): &(u32, BackendRef)| self.ring.place(index, backend, now);
        let epochs = records.iter().map(place).collect();
        let opened = self.ring.open() > before;
        (epochs, opened.then(|| self.publish()))
    }
}
