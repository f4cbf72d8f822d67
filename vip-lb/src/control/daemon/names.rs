//! What the numbers in the maps stand for, for whoever explains packets.

use super::Daemon;
use crate::{
    api::model::{Forwarding, ForwardingState},
    control::explain::{BackendName, Names, ServiceName},
};

impl Names for Daemon {
    fn service(&self, id: u16) -> Option<ServiceName> {
        let (key, _) = self.engine.services().find(|(_, service)| service.reference.id == id)?;
        let name = self.configured(key)?.name.clone();
        Some(ServiceName { name, ports: key.ports })
    }

    fn backend(&self, index: u16) -> Option<BackendName> {
        let mut services = self.engine.services();
        let (key, member) = services.find_map(|(key, service)| Some((key, service.member(index)?)))?;
        let service = self.configured(key)?;
        let address = member.address?;
        let name = service.backends.iter().find(|backend| backend.address == address).map_or_else(
            || format!("{address} (removed from the configuration)"),
            |backend| backend.name.clone(),
        );
        Some(BackendName { name, address, service: service.name.clone() })
    }

    fn standing(&self, index: u16) -> Option<String> {
        let mut services = self.engine.services();
        let (key, member) = services.find_map(|(key, service)| Some((key, service.member(index)?)))?;
        let mut backends = self.configured(key)?.backends.iter();
        let backend = backends.find(|backend| Some(backend.address) == member.address)?;
        let Forwarding { state, reason } = self.forwarding(key, backend);
        let reason = reason?;
        Some(match state {
            ForwardingState::InRing => reason,
            ForwardingState::Draining => format!("draining: {reason}"),
            ForwardingState::Out => format!("out: {reason}"),
        })
    }

    fn interface(&self, index: u32) -> Option<String> {
        self.interfaces.name_of(index)
    }
}
