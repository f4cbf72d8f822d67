//! Those who watch packets: what they ask for, and what the program shows them.

use std::io;

use anyhow::{Context as _, ensure};
use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};
use vip_lb_common::abi::{Sighting, WATCHERS, WatchCount, Watcher};

use super::{
    loader::{LoadError, take},
    raw::Raw,
};

/// The maps of those who watch.
pub(super) struct Watchers {
    entries: Array<MapData, Raw<Watcher>>,
    counts: PerCpuArray<MapData, Raw<WatchCount>>,
    /// Until somebody reads it.
    events: Option<RingBuf<MapData>>,
}

/// A packet that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What is known of it.
    pub sighting: Sighting,
    /// Its first bytes as it came.
    pub came: Vec<u8>,
    /// Its first bytes as it left.
    pub left: Vec<u8>,
}

/// What the program shows, in the order in which it shows it.
pub struct Sightings(AsyncFd<RingBuf<MapData>>);

impl Watchers {
    pub(super) fn take(bpf: &mut aya::Ebpf) -> Result<Self, LoadError> {
        Ok(Self {
            entries: take(bpf, "WATCHERS")?,
            counts: take(bpf, "WATCH_COUNTS")?,
            events: Some(take(bpf, "EVENTS")?),
        })
    }

    /// Who may watch under each of these numbers.
    pub(super) fn numbers() -> std::ops::Range<u32> {
        0..WATCHERS as u32
    }

    pub(super) fn set(&mut self, number: u32, watcher: &Watcher) -> anyhow::Result<()> {
        self.entries.set(number, Raw(*watcher), 0).context("cannot write WATCHERS")
    }

    pub(super) fn count(&self, number: u32) -> anyhow::Result<WatchCount> {
        let counts = self.counts.get(&number, 0).context("cannot read WATCH_COUNTS")?;
        Ok(counts.iter().fold(WatchCount::default(), |sum, Raw(count)| WatchCount {
            matched: sum.matched + count.matched,
            shown: sum.shown + count.shown,
            missed: sum.missed + count.missed,
            ..sum
        }))
    }

    pub(super) fn sightings(&mut self) -> anyhow::Result<Sightings> {
        let events = self.events.take().context("EVENTS is read already")?;
        // SAFETY: the map owns its descriptor and keeps it.
        let registered = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) };
        Ok(Sightings(registered.map_err(io::Error::from).context("cannot wait for EVENTS")?))
    }
}

impl Sightings {
    /// The next packet that is shown.
    ///
    /// # Errors
    ///
    /// Where the kernel cannot be waited for, or an event is not as this version makes it.
    pub async fn next(&mut self) -> anyhow::Result<Seen> {
        loop {
            let mut guard = self.0.readable_mut().await.context("cannot wait for EVENTS")?;
            if let Some(event) = guard.get_inner_mut().next() {
                return parse(&event);
            }
            guard.clear_ready();
        }
    }
}

fn parse(event: &[u8]) -> anyhow::Result<Seen> {
    let (head, rest) =
        event.split_at_checked(size_of::<Sighting>()).context("an event is shorter than its head")?;
    // SAFETY: as many bytes as it has, any of which make one; read as if unaligned.
    let sighting = unsafe { head.as_ptr().cast::<Sighting>().read_unaligned() };
    let (came, left) = (usize::from(sighting.came), usize::from(sighting.left));
    ensure!(rest.len() >= came + left, "an event has fewer bytes than it says");
    Ok(Seen { sighting, came: rest[..came].to_vec(), left: rest[came..came + left].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_head_and_two_times_bytes() {
        let sighting = Sighting { came: 3, left: 2, ingress: 7, ..Sighting::NONE };
        // SAFETY: a type without padding.
        let head: [u8; size_of::<Sighting>()] = unsafe { std::mem::transmute(sighting) };
        let event = [&head[..], &[1, 2, 3, 4, 5, 0, 0, 0]].concat();
        let seen = parse(&event).unwrap();
        assert_eq!(seen, Seen { sighting, came: vec![1, 2, 3], left: vec![4, 5] });
        assert!(parse(&event[..head.len() + 4]).is_err());
        assert!(parse(&head[1..]).is_err());
    }
}
