//! Whether what is said of a VIP's route fits together.

use super::Validator;
use crate::{
    config::{
        model::{Interface, Ownership, Route},
        raw::RawVip,
    },
    network::{LOOPBACK, PROBE_INNER, PROBE_OUTER},
};

impl<'a> Validator<'a> {
    /// How the VIP's route is published, if it is. The outer `None` is given only after an error.
    #[expect(clippy::option_option, reason = "the outer one is the validator's: an error was noted")]
    pub(super) fn route(&mut self, raw: &'a RawVip, interfaces: &[Interface]) -> Option<Option<Route>> {
        let is_routed = raw.ownership.value() == Some(&Ownership::Route);
        let Some(said) = raw.route.given() else {
            let published = is_routed.then(Route::default);
            return (!raw.route.is_present()).then_some(published);
        };
        if !is_routed {
            self.issues.error(
                &said.place,
                "route without `ownership: route`",
                "it only where `ownership` is route",
            );
            return None;
        }
        if let Some(device) = said.value.device.given() {
            let is_used = interfaces.iter().any(|interface| interface.name == device.value);
            if is_used || [LOOPBACK.0, PROBE_OUTER, PROBE_INNER].contains(&device.value.as_str()) {
                let found = format!("{:?}, which carries other packets", device.value);
                self.issues.error(&device.place, found, "a device for these routes alone");
            }
        }
        let default = Route::default();
        Some(Some(Route {
            device: said.value.device.value().cloned().unwrap_or(default.device),
            table: said.value.table.or(default.table),
            metric: said.value.metric.or(default.metric),
            linger: said.value.linger.or(default.linger),
        }))
    }
}
