//! When the daemon noticed what, by its own events: they are told when the maps are written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use vip_lb::api::model::{Event, ForwardingState, Occurrence};

use super::SERVICE;
use crate::lab::{Site, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

/// What may become of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It gets no new flows any more. One that answers wrongly may go on with those it has.
    Removal,
    /// It gets new flows again.
    Return,
}

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

impl Moment {
    /// This one.
    pub(super) fn now() -> Result<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
        Ok(Self(u64::try_from(since.as_millis())?))
    }

    /// Milliseconds from an earlier one.
    pub(super) fn since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64
    }
}

/// Waits until that happened to a backend, `since` then or later, and tells when.
pub(super) fn wait(site: &Site, backend: &str, change: Change, since: Moment) -> Result<Moment> {
    wait_for(&format!("{change:?} of {backend}"), LIMIT, || {
        Ok(changes(site, change, since)?.into_iter().find(|(name, _)| name == backend).map(|(_, at)| at))
    })
}

/// To which backends that happened, and when.
pub(super) fn changes(site: &Site, wanted: Change, since: Moment) -> Result<Vec<(String, Moment)>> {
    let told = site.daemon().ask(&["events", "--json"])?;
    let mut changes = Vec::new();
    for line in told.lines() {
        let event: Event = serde_json::from_str(line).with_context(|| format!("read {line}"))?;
        let Occurrence::ForwardingChanged { service, backend, from, to, .. } = event.what else { continue };
        let was_and_is = [from, to].map(|state| state == Some(ForwardingState::InRing));
        let change = match was_and_is {
            [true, false] => Some(Change::Removal),
            [false, true] => Some(Change::Return),
            _ => None,
        };
        if service == SERVICE && change == Some(wanted) && event.time_ms >= since.0 {
            changes.push((backend, Moment(event.time_ms)));
        }
    }
    Ok(changes)
}
