//! VIPs without services, whose address is put on an interface of the owner.

use super::Validator;
use crate::config::{
    model::Ownership,
    raw::{RawVip, SERVICES_EXPECTED},
};

/// What is said of a VIP that may have no services.
pub(super) struct Plain {
    /// Of the address on the interface.
    pub(super) prefix_length: Option<u8>,
}

impl<'a> Validator<'a> {
    /// Whether there may be no services, and what is said only there. None after an error.
    pub(super) fn plain(&mut self, raw: &'a RawVip) -> Option<Plain> {
        if raw.services.is_present() && raw.services.given().is_none() {
            return None;
        }
        let length = raw.prefix_length.given();
        let services = raw.services.given();
        if services.is_some_and(|services| !services.value.is_empty()) {
            if let Some(length) = length {
                let expected = "it only without services, where the address is put on an interface";
                self.issues.error(&length.place, "a prefix length beside services", expected);
                return None;
            }
            return Some(Plain { prefix_length: None });
        }
        if raw.ownership.or(Ownership::Always) != Ownership::Vrrp {
            match services {
                Some(services) => self.issues.error(&services.place, "an empty list", SERVICES_EXPECTED),
                None => self.issues.error(&raw.place.missing("services"), "nothing", SERVICES_EXPECTED),
            }
            return None;
        }
        if let Some(said) = raw.unknown_service.given() {
            let expected = "it only beside services; without any, all that comes is this host's";
            self.issues.error(&said.place, "unknown_service without services", expected);
            return None;
        }
        if let (Some(length), Some(address)) = (length, raw.address.value())
            && address.is_ipv4()
            && length.value > 32
        {
            self.issues.error(&length.place, length.value.to_string(), "a number of bits between 1 and 32");
            return None;
        }
        Some(Plain { prefix_length: length.map(|length| length.value) })
    }
}
