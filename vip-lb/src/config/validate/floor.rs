//! What becomes of a service when backends fail their checks.

use std::collections::BTreeSet;

use super::{
    super::{
        model::{BelowMin, FloorPolicy, Least},
        raw::RawService,
    },
    Validator,
};

impl Validator<'_> {
    pub(super) fn floor(&mut self, raw: &RawService) -> FloorPolicy {
        let default = FloorPolicy::default();
        let backends = raw.backends.value().map_or(&[][..], Vec::as_slice);
        let tiers: BTreeSet<u8> = backends.iter().map(|backend| backend.tier.or(0)).collect();
        if let Some(below_min) = raw.below_min.given()
            && below_min.value == BelowMin::Backup
            && tiers.len() < 2
        {
            let expected = "it only with backends of several tiers, of which the last one is the backup";
            self.issues.error(&below_min.place, "backup", expected);
        }
        if let Some(min_healthy) = raw.min_healthy.given()
            && let Least::Count(count) = min_healthy.value
            && usize::from(count) > backends.len()
        {
            let expected = format!("at most {}, as there are no more backends", backends.len());
            self.issues.warning(&min_healthy.place, count.to_string(), expected);
        }
        FloorPolicy {
            min_healthy: raw.min_healthy.or(default.min_healthy),
            below_min: raw.below_min.or(default.below_min),
            max_removed_percent: raw.max_removed.or(default.max_removed_percent),
        }
    }
}
