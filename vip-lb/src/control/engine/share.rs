//! What nodes tell each other of the services' slots.

use super::{super::desired::ServiceKey, Engine};
use crate::control::service::Service;

/// What there is to tell of the slots of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedSlots {
    /// The service.
    pub service: ServiceKey,
    /// Whether this node has its traffic.
    pub serves: bool,
    /// Stands for who gets new connections.
    pub shares: u64,
    /// The slots that are open, and whom they remember.
    pub open: Vec<(u32, u64)>,
}

impl Engine {
    /// What there is to tell of all services. `serves` tells of a service whether this node has its traffic. `now` is the tick of SETTINGS.
    pub fn shared_slots(&mut self, serves: impl Fn(&ServiceKey) -> bool, now: u32) -> Vec<SharedSlots> {
        let of = |(key, service): (&ServiceKey, &mut Service)| {
            let serves = serves(key);
            SharedSlots {
                service: *key,
                serves,
                shares: service.shares_digest(),
                open: service.shared_slots(serves, now),
            }
        };
        self.services.iter_mut().map(of).collect()
    }

    /// A service, to be told of what another node recorded of it.
    pub fn sharer(&mut self, key: &ServiceKey) -> Option<&mut Service> {
        self.services.get_mut(key)
    }

    /// Another node is not heard any more.
    pub fn lose_node(&mut self, node: &str, now: u32) {
        self.services.values_mut().for_each(|service| service.ring.lose(node, now));
    }
}
