//! How long states of backends lasted.

use std::collections::BTreeMap;

use crate::api::model::Occurrence;

/// Since when backends are as they are, by the names of service and backend: health, and whether they get packets. Unix
/// milliseconds.
#[derive(Debug, Default)]
pub(super) struct Lasted {
    health: BTreeMap<(String, String), u64>,
    forwarding: BTreeMap<(String, String), u64>,
}

impl Lasted {
    /// Adds to what changed at this moment how long it was as before.
    pub(super) fn note(&mut self, now_ms: u64, what: &mut Occurrence) {
        match what {
            Occurrence::HealthChanged { service, backend, lasted_ms, .. } => {
                let before = self.health.insert((service.clone(), backend.clone()), now_ms);
                *lasted_ms = before.map(|before| now_ms.saturating_sub(before));
            }
            Occurrence::ForwardingChanged { service, backend, to, lasted_ms, .. } => {
                let names = (service.clone(), backend.clone());
                let before = self.forwarding.insert(names.clone(), now_ms);
                *lasted_ms = before.map(|before| now_ms.saturating_sub(before));
                // Removed from the configuration.
                if to.is_none() {
                    self.forwarding.remove(&names);
                    self.health.remove(&names);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::{ForwardingState, HealthState};

    fn health(backend: &str) -> Occurrence {
        let (service, backend) = ("web".to_owned(), backend.to_owned());
        let (from, to) = (None, HealthState::Up);
        Occurrence::HealthChanged {
            service,
            backend,
            from,
            to,
            reason: None,
            lasted_ms: None,
            evidence: None,
        }
    }

    fn forwarding(backend: &str, to: Option<ForwardingState>) -> Occurrence {
        let (service, backend) = ("web".to_owned(), backend.to_owned());
        Occurrence::ForwardingChanged { service, backend, from: None, to, reason: None, lasted_ms: None }
    }

    #[test]
    fn a_state_lasts_until_the_next_of_the_same_backend() {
        let mut lasted = Lasted::default();
        let mut after = |now_ms, mut what: Occurrence| {
            lasted.note(now_ms, &mut what);
            match what {
                Occurrence::HealthChanged { lasted_ms, .. }
                | Occurrence::ForwardingChanged { lasted_ms, .. } => lasted_ms,
                other => unreachable!("{other:?}"),
            }
        };
        let in_ring = || Some(ForwardingState::InRing);
        assert_eq!(after(1000, health("a")), None, "nobody knows since when");
        assert_eq!(after(1500, health("b")), None);
        assert_eq!(after(1600, forwarding("a", in_ring())), None);
        assert_eq!(after(3000, health("a")), Some(2000));
        assert_eq!(after(3600, forwarding("a", None)), Some(2000));
        assert_eq!(after(5000, health("a")), None, "it was removed in between");
        assert_eq!(after(2000, health("b")), Some(500));
        assert_eq!(after(1000, health("b")), Some(0), "the clock was set back");
    }
}
