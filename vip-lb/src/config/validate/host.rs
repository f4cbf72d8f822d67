//! What is wanted of all backends at one address.

use std::net::IpAddr;

use super::{
    super::{
        model::{AdminState, Host},
        raw::{RawBackend, RawConfig},
    },
    Unique, Validator,
};

impl<'a> Validator<'a> {
    /// Validates the list of hosts. Backends have to be known already.
    pub(super) fn hosts(&mut self, raw: &'a RawConfig) -> Option<Vec<Host>> {
        let mut seen: Unique<'_, IpAddr> = Unique::default();
        let hosts = raw.hosts.value().map_or(&[][..], Vec::as_slice);
        for address in hosts.iter().filter_map(|host| host.address.given()) {
            if let Err(first) = seen.claim(address.value, &address.place) {
                let expected = format!("each host once ({})", first.reference());
                self.issues.error(&address.place, address.value.to_string(), expected);
            } else if !self.servers.contains_key(&address.value) {
                let expected = "the address of a backend, without which this does nothing";
                self.issues.warning(&address.place, address.value.to_string(), expected);
            }
        }
        let hosts = hosts.iter().map(|host| {
            let (address, state) = (*host.address.value()?, *host.state.value()?);
            self.host_states.insert(address, state);
            Some(Host { address, state })
        });
        // All of them are looked at, whatever the first one is.
        hosts.collect::<Vec<_>>().into_iter().collect()
    }

    /// What is wanted of a backend: the stricter of what it and its host are set to.
    pub(super) fn state(&self, raw: &RawBackend) -> AdminState {
        let host = raw.address.value().and_then(|address| self.host_states.get(address));
        raw.state.or(AdminState::Enabled).max(host.copied().unwrap_or(AdminState::Enabled))
    }
}
