//! A close look at one target, at once: enough probes for a verdict, nearly side by side, each with little time.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};

use super::{
    Outcome, Percentiles, Shared, Target, lock, now,
    record::{Health, Record},
};
use crate::config::model::HealthCheck;

/// A probe is given this many times what nine of ten of the last ones took. A slow one among a hundred must not make every look slow.
const TIMES_USUAL: f64 = 3.0;

/// Probes begin one after the other, this part of their timeout apart: what passes in a moment fails one of them.
const GAPS: u32 = 5;

/// The time that a probe is given, at least and at most; the most if nothing is known of how long they take.
fn timeout(usual: Option<Percentiles>, least: Duration, most: Duration) -> Duration {
    let wanted = usual.map_or(most, |usual| Duration::from_secs_f64(usual.p90_ms * TIMES_USUAL / 1000.0));
    wanted.max(least).min(most)
}

/// Takes the look. As with all probes, `fall` bad outcomes in a row are a verdict; the first good one ends it.
pub(super) async fn look(record: Arc<Record>, shared: Arc<Shared>, least: Duration) {
    let check = &record.target.check;
    let (timeout, wanted) = {
        let Health { threshold, latencies, .. } = &*lock(&record.health);
        if !threshold.state().is_up() {
            return;
        }
        (
            timeout(latencies.whole.percentiles(), least, check.timeout),
            check.fall.saturating_sub(threshold.failures()).max(1),
        )
    };
    let target =
        Arc::new(Target { check: HealthCheck { timeout, ..check.clone() }, ..(*record.target).clone() });
    let probe = |number: u32| {
        let (target, shared) = (Arc::clone(&target), &shared);
        async move {
            tokio::time::sleep(timeout / GAPS * number).await;
            // The semaphore is never closed.
            let _permit = shared.permits.acquire().await.ok()?;
            let started = now();
            Some(((shared.prober)(target).await, started))
        }
    };
    let mut probes: FuturesUnordered<_> = (0..wanted).map(probe).collect();
    while let Some(Some((outcome, started))) = probes.next().await {
        let is_over = !matches!(outcome, Outcome::Unhealthy { .. } | Outcome::Unreachable { .. });
        record.take(outcome, started, now(), &shared.events);
        if is_over {
            return;
        }
    }
}
