//! What there is to tell of between two looks at the daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::api::model::{
    AttachedMode, FloorState, FloorStatus, Forwarding, HealthState, Occurrence, SecondOwner,
};

/// What can be seen of the daemon at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    /// Whether this node answers for its VIPs.
    pub(super) vips: BTreeMap<IpAddr, bool>,
    /// Who else does.
    pub(super) second_owners: BTreeSet<(IpAddr, SecondOwner)>,
    /// Whether services have enough healthy backends, by their names.
    pub(super) floors: BTreeMap<String, FloorStatus>,
    /// How backends are, by the names of service and backend.
    pub(super) backends: BTreeMap<(String, String), Backend>,
    /// Where the program is, by the name of the interface.
    pub(super) interfaces: BTreeMap<String, AttachedMode>,
}

/// How a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) health: HealthState,
    pub(super) health_reason: Option<String>,
    pub(super) forwarding: Forwarding,
}

impl Observed {
    /// What happened since, causes before effects. How long what was lasted, and what a verdict rests on, is not seen here.
    pub(super) fn since(&self, before: &Self) -> Vec<Occurrence> {
        let mut told = Vec::new();
        for (interface, &mode) in &self.interfaces {
            if before.interfaces.get(interface) != Some(&mode) {
                told.push(Occurrence::InterfaceAttached { interface: interface.clone(), mode });
            }
        }
        for interface in before.interfaces.keys().filter(|name| !self.interfaces.contains_key(*name)) {
            told.push(Occurrence::InterfaceDetached { interface: interface.clone() });
        }
        for (names, backend) in &self.backends {
            told.extend(backend.since(names, before.backends.get(names)));
        }
        for (names, backend) in &before.backends {
            if !self.backends.contains_key(names) {
                let (service, name) = names.clone();
                let from = Some(backend.forwarding.state);
                told.push(Occurrence::ForwardingChanged {
                    service,
                    backend: name,
                    from,
                    to: None,
                    reason: None,
                    lasted_ms: None,
                });
            }
        }
        for (service, floor) in &self.floors {
            let before = before.floors.get(service);
            // Numbers alone change with every backend, which is told of itself.
            let state = |of: &FloorStatus| (of.state, of.tier, of.held > 0);
            let was = before.map_or((FloorState::Met, floor.tier, false), state);
            if was != state(floor) {
                told.push(Occurrence::FloorChanged { service: service.clone(), floor: *floor });
            }
        }
        for (&vip, &answering) in &self.vips {
            if before.vips.get(&vip).copied().unwrap_or(false) != answering {
                told.push(Occurrence::Ownership { vip, answering, why: None });
            }
        }
        for (&vip, _) in before.vips.iter().filter(|(vip, was)| **was && !self.vips.contains_key(*vip)) {
            told.push(Occurrence::Ownership { vip, answering: false, why: None });
        }
        for (vip, owner) in self.second_owners.difference(&before.second_owners).cloned() {
            told.push(Occurrence::SecondOwner { vip, owner });
        }
        for (vip, owner) in before.second_owners.difference(&self.second_owners).cloned() {
            let looks = self.vips.get(&vip).copied().unwrap_or(false);
            let why =
                if looks { "it is heard no more" } else { "this node no longer answers, and does not look" };
            told.push(Occurrence::SecondOwnerGone { vip, owner, why: why.to_owned() });
        }
        told
    }
}

impl Backend {
    fn since(&self, (service, backend): &(String, String), before: Option<&Self>) -> Vec<Occurrence> {
        let mut told = Vec::new();
        let (service, backend) = (service.clone(), backend.clone());
        let health = before.map(|before| before.health);
        if health != Some(self.health) {
            told.push(Occurrence::HealthChanged {
                service: service.clone(),
                backend: backend.clone(),
                from: health,
                to: self.health,
                reason: self.health_reason.clone(),
                lasted_ms: None,
                evidence: None,
            });
        }
        let forwarding = before.map(|before| &before.forwarding);
        if forwarding != Some(&self.forwarding) {
            told.push(Occurrence::ForwardingChanged {
                service,
                backend,
                from: forwarding.map(|forwarding| forwarding.state),
                to: Some(self.forwarding.state),
                reason: self.forwarding.reason.clone(),
                lasted_ms: None,
            });
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::ForwardingState;

    fn backend(health: HealthState, state: ForwardingState, reason: Option<&str>) -> Backend {
        Backend {
            health,
            health_reason: None,
            forwarding: Forwarding { state, reason: reason.map(str::to_owned) },
        }
    }

    fn observed(backends: &[(&str, Backend)]) -> Observed {
        let names = |name: &str| ("web".to_owned(), name.to_owned());
        Observed {
            vips: [("192.0.2.1".parse().unwrap(), true)].into(),
            second_owners: BTreeSet::new(),
            floors: BTreeMap::new(),
            backends: backends.iter().map(|(name, backend)| (names(name), backend.clone())).collect(),
            interfaces: [("eth0".to_owned(), AttachedMode::Native)].into(),
        }
    }

    fn words(told: &[Occurrence]) -> Vec<String> {
        told.iter().map(|what| serde_json::to_string(what).unwrap()).collect()
    }

    #[test]
    fn nothing_happened_is_nothing_told() {
        let all = observed(&[("a", backend(HealthState::Up, ForwardingState::InRing, None))]);
        assert_eq!(all.since(&all), []);
    }

    #[test]
    fn a_beginning_tells_all_and_an_end_takes_it_back() {
        let all = observed(&[("a", backend(HealthState::Up, ForwardingState::InRing, None))]);
        assert_eq!(
            words(&all.since(&Observed::default())),
            [
                r#"{"event":"interface_attached","interface":"eth0","mode":"native"}"#,
                r#"{"event":"health_changed","service":"web","backend":"a","to":"up"}"#,
                r#"{"event":"forwarding_changed","service":"web","backend":"a","to":"in ring"}"#,
                r#"{"event":"ownership","vip":"192.0.2.1","answering":true}"#,
            ]
        );
        assert_eq!(
            words(&Observed::default().since(&all)),
            [
                r#"{"event":"interface_detached","interface":"eth0"}"#,
                r#"{"event":"forwarding_changed","service":"web","backend":"a","from":"in ring"}"#,
                r#"{"event":"ownership","vip":"192.0.2.1","answering":false}"#,
            ]
        );
    }

    #[test]
    fn a_second_owner_is_told_of_and_why_it_is_no_more() {
        let owner = SecondOwner {
            mac: "02:00:00:00:00:09".into(),
            interface: "eth0.10".into(),
            vlan: Some(10),
            host: None,
        };
        let vip: IpAddr = "192.0.2.1".parse().unwrap();
        let with = |answering, owners: &[SecondOwner]| Observed {
            vips: [(vip, answering)].into(),
            second_owners: owners.iter().map(|owner| (vip, owner.clone())).collect(),
            ..Observed::default()
        };
        let found = with(true, &[owner]);
        let named = r#""vip":"192.0.2.1","mac":"02:00:00:00:00:09","interface":"eth0.10","vlan":10"#;
        assert_eq!(words(&found.since(&with(true, &[]))), [format!(r#"{{"event":"second_owner",{named}}}"#)]);
        assert_eq!(
            words(&with(true, &[]).since(&found)),
            [format!(r#"{{"event":"second_owner_gone",{named},"why":"it is heard no more"}}"#)]
        );
        assert!(words(&with(false, &[]).since(&found))[1].contains("this node no longer answers"));
    }

    #[test]
    fn too_few_healthy_backends_are_news_and_their_number_is_not() {
        let with = |floor| Observed { floors: [("web".to_owned(), floor)].into(), ..Observed::default() };
        let met = FloorStatus { healthy: 3, needed: 1, wanted: 3, ..FloorStatus::default() };
        assert_eq!(with(met).since(&Observed::default()), [], "all is well");
        assert_eq!(with(FloorStatus { healthy: 2, ..met }).since(&with(met)), []);
        let open = FloorStatus { state: FloorState::Open, healthy: 0, ..met };
        assert_eq!(
            words(&with(open).since(&with(met))),
            [
                r#"{"event":"floor_changed","service":"web","state":"fail_open","healthy":0,"needed":1,"wanted":3,"tier":0,"held":0}"#
            ]
        );
        assert_eq!(with(met).since(&with(open)).len(), 1);
        assert_eq!(with(FloorStatus { held: 1, ..met }).since(&with(met)).len(), 1);
        assert_eq!(with(FloorStatus { tier: 1, ..met }).since(&with(met)).len(), 1);
    }

    #[test]
    fn a_backend_that_fails_is_told_with_cause_and_effect() {
        let up = observed(&[("a", backend(HealthState::Up, ForwardingState::InRing, None))]);
        let mut down = backend(HealthState::Down, ForwardingState::Out, Some("unreachable"));
        down.health_reason = Some("connection refused".to_owned());
        assert_eq!(
            words(&observed(&[("a", down)]).since(&up)),
            [
                r#"{"event":"health_changed","service":"web","backend":"a","from":"up","to":"down","reason":"connection refused"}"#,
                r#"{"event":"forwarding_changed","service":"web","backend":"a","from":"in ring","to":"out","reason":"unreachable"}"#,
            ]
        );
        // Another reason of the same state is news as well: it is not the check any more that keeps it out.
        let disabled = observed(&[("a", backend(HealthState::Up, ForwardingState::Out, Some("disabled")))]);
        let unreachable =
            observed(&[("a", backend(HealthState::Up, ForwardingState::Out, Some("unreachable")))]);
        assert_eq!(disabled.since(&unreachable).len(), 1);
    }
}
