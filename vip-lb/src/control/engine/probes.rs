//! Entries of BACKENDS for the probes of this node's checks. No ring names them, and they live through all that a check finds: a backend that
//! is out is still asked.

use std::collections::BTreeMap;

use vip_lb_common::abi::{Backend, BackendRef, Mode, ServiceRef};

use super::{
    super::{desired::Path, indices::BackendIndices, service::free},
    Engine, Plan,
};
use crate::{config::model::ForwardMode, dataplane::Write, health::Probed};

/// The entries there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes(BTreeMap<Probed, (BackendRef, Backend)>);

impl Engine {
    /// Plans the way to entries for these probes.
    pub fn reconcile_probes(&mut self, wanted: &BTreeMap<Probed, Path>) -> Plan {
        self.probes.reconcile(wanted, &mut self.indices)
    }

    /// Whether any backend is probed by translated packets.
    #[must_use]
    pub fn probes_are_translated(&self) -> bool {
        self.probes.are_translated()
    }

    /// How the program of probes names a backend; none while packets find no way to it.
    #[must_use]
    pub fn probed(&self, probed: &Probed) -> Option<BackendRef> {
        let (reference, entry) = self.probes.0.get(probed)?;
        (Mode::from_u8(entry.mode) != Mode::Unresolved).then_some(*reference)
    }
}

impl Probes {
    /// References that connections may have.
    pub(super) fn references(&self) -> impl Iterator<Item = BackendRef> {
        self.0.values().map(|(reference, _)| *reference)
    }

    /// Whether translated connections of probes may be left.
    pub(super) fn are_translated(&self) -> bool {
        self.0.keys().any(|probed| probed.mode == ForwardMode::Nat)
    }

    fn reconcile(&mut self, wanted: &BTreeMap<Probed, Path>, indices: &mut BackendIndices) -> Plan {
        let mut plan = Plan::default();
        self.0.retain(|probed, (reference, _)| {
            let keep = wanted.contains_key(probed);
            if !keep {
                plan.writes.push(free(reference.index, indices));
            }
            keep
        });
        for (probed, path) in wanted {
            let entry = |reference: BackendRef| Backend {
                generation: reference.generation,
                service: ServiceRef::PROBES,
                // Not 0, which marks a free entry.
                identity: u64::MAX,
                // Probes are sent to the port that is asked.
                port: 0,
                ..path.entry()
            };
            let reference = match self.0.get(probed) {
                Some((reference, written)) if *written == entry(*reference) => continue,
                Some((reference, _)) => *reference,
                None => match indices.allocate() {
                    Some(reference) => reference,
                    None => {
                        plan.warnings.push(format!(
                            "no free entry to check backend {} with: all are in use",
                            probed.address
                        ));
                        continue;
                    }
                },
            };
            let backend = entry(reference);
            self.0.insert(*probed, (reference, backend));
            plan.writes.push(Write::Backend { index: reference.index, backend: Box::new(backend) });
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::desired::Link;

    fn l2(mac: u8) -> Path {
        Path::L2(Link { interface: 3, macs: [mac; 12], mtu: 1500, vlan: None })
    }

    fn writes(plan: Plan) -> Vec<(u16, Backend)> {
        plan.writes
            .into_iter()
            .map(|write| match write {
                Write::Backend { index, backend } => (index, *backend),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_probed_backend_has_an_entry_as_long_as_it_is_wanted_whatever_its_way() {
        let mut engine = Engine::new([7; 32]);
        let probed = Probed { address: "10.0.0.1".parse().unwrap(), mode: ForwardMode::L2 };
        let wanted = |path| BTreeMap::from([(probed, path)]);

        let first = writes(engine.reconcile_probes(&wanted(Path::Unresolved)));
        assert_eq!(first.len(), 1);
        assert_eq!(engine.probed(&probed), None, "nothing leads there yet");
        let resolved = writes(engine.reconcile_probes(&wanted(l2(1))));
        let reference = engine.probed(&probed).unwrap();
        assert_eq!((resolved[0].0, resolved[0].1.generation), (first[0].0, reference.generation));
        assert_eq!((resolved[0].1.service, resolved[0].1.mode), (ServiceRef::PROBES, Mode::L2 as u8));
        assert!(writes(engine.reconcile_probes(&wanted(l2(1)))).is_empty());
        assert_eq!(writes(engine.reconcile_probes(&wanted(l2(2)))).len(), 1);
        assert_eq!(engine.probed(&probed), Some(reference), "the backend is the same");

        let gone = writes(engine.reconcile_probes(&BTreeMap::new()));
        assert_eq!((gone[0].0, gone[0].1.identity), (reference.index, 0));
        assert_ne!(gone[0].1.generation, reference.generation, "probes under way find nothing");
        assert_eq!(engine.probed(&probed), None);
    }
}
