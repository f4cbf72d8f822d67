//! Those who watch packets: what they ask for is written into the maps, and what the program shows is handed to them.
//!
//! One who leaves is found by the next tick, which takes back what was asked for. If the daemon itself is gone, the program shows nothing
//! any more as soon as it counts as dead.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::AbortHandle};
use tracing::{debug, error};
use vip_lb_common::abi::{WATCHERS, WatchCount, Watcher};

use super::{Daemon, wall_clock};
use crate::{
    api::model::{ApiError, ErrorKind, WatchRequest, Watched},
    config::model::Service,
    control::{
        desired::ServiceKey,
        explain::BackendName,
        watching::{Directory, watcher},
    },
    dataplane::{self, Dataplane, Seen, Sightings},
};

/// Packets that may wait for one who watches.
const WAITING: usize = 1024;
/// Time between two counts.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Those who watch. The daemon lets them in and out; a task of its own hands them what the program shows. Dropped, it ends all streams.
pub(super) struct Watching {
    audience: Arc<Mutex<Audience>>,
    task: AbortHandle,
    next_count: Instant,
}

#[derive(Default)]
struct Audience {
    seats: [Option<Seat>; WATCHERS],
    directory: Directory,
}

/// One who watches.
struct Seat {
    /// CLOCK_MONOTONIC in nanoseconds. What came before was shown to whoever had the seat before.
    since: u64,
    /// Bytes of a packet that were asked for.
    bytes: usize,
    hears: mpsc::Sender<Watched>,
    /// Packets that found no room in `hears`.
    missed: u64,
    /// What had been counted under the seat's number before.
    before: WatchCount,
}

impl Watching {
    /// Begins to listen to what the program shows.
    pub(super) fn start(sightings: Sightings, now: Instant) -> Self {
        let audience = Arc::default();
        let task = tokio::spawn(hand_on(sightings, Arc::clone(&audience))).abort_handle();
        Self { audience, task, next_count: now }
    }

    /// Whether anybody watches.
    pub(super) fn is_watched(&self) -> bool {
        self.audience().seats.iter().any(Option::is_some)
    }

    /// Ends all streams.
    pub(super) fn stop(&self) {
        self.audience().seats = Default::default();
    }

    fn audience(&self) -> MutexGuard<'_, Audience> {
        lock(&self.audience)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop();
        self.task.abort();
    }
}

fn lock(audience: &Mutex<Audience>) -> MutexGuard<'_, Audience> {
    audience.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands on what the program shows, as long as it can be read.
async fn hand_on(mut sightings: Sightings, audience: Arc<Mutex<Audience>>) {
    loop {
        match sightings.next().await {
            Ok(seen) => lock(&audience).show(&seen),
            Err(error) => {
                error!("packets cannot be shown any more: {error:#}");
                lock(&audience).seats = Default::default();
                return;
            }
        }
    }
}

impl Audience {
    fn show(&mut self, seen: &Seen) {
        let epoch = since_epoch().saturating_sub(dataplane::monotonic());
        let Self { seats, directory } = self;
        for (number, seat) in seats.iter_mut().enumerate() {
            let shown = seen.sighting.watchers & (1 << number) != 0;
            let Some(seat) = seat.as_mut().filter(|seat| shown && seen.sighting.at >= seat.since) else {
                continue;
            };
            let packet = directory.packet(seen, seat.bytes, epoch.as_micros() as u64);
            if seat.hears.try_send(Watched::Packet(Box::new(packet))).is_err() {
                seat.missed += 1;
            }
        }
    }
}

fn since_epoch() -> Duration {
    wall_clock().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

impl Daemon {
    /// Lets somebody watch.
    pub(super) fn watch(&mut self, request: &WatchRequest) -> Result<mpsc::Receiver<Watched>, ApiError> {
        let interface = |name: &str| {
            let mut attached = self.interfaces.iter();
            attached.find(|attached| attached.interface.name == name).map(|attached| attached.interface.index)
        };
        let wanted =
            watcher(request, interface).map_err(|wrong| ApiError::new(ErrorKind::BadRequest, wrong))?;
        self.attend_to_watchers();
        let free = self.watching.audience().seats.iter().position(Option::is_none);
        let Some(seat) = free else {
            let text = format!("{WATCHERS} others watch packets already");
            return Err(ApiError::new(ErrorKind::Conflict, text));
        };
        let number = seat as u32;
        let failed = |error: anyhow::Error| ApiError::new(ErrorKind::Internal, format!("{error:#}"));
        let before = self.dataplane.watch_count(number).map_err(failed)?;
        let (hears, hearing) = mpsc::channel(WAITING);
        let directory = self.directory();
        {
            let mut audience = self.watching.audience();
            audience.directory = directory;
            let since = dataplane::monotonic().as_nanos() as u64;
            audience.seats[seat] = Some(Seat { since, bytes: wanted.snap.into(), hears, missed: 0, before });
        }
        self.dataplane.watch(number, &wanted).map_err(failed)?;
        debug!(number, ?request, "packets are watched");
        self.write_flags();
        Ok(hearing)
    }

    /// Takes back what those asked for who have left, and tells the others how it goes.
    pub(super) fn attend_to_watchers(&mut self) {
        if !self.watching.is_watched() {
            return self.write_flags();
        }
        for number in Dataplane::watch_numbers() {
            let mut audience = self.watching.audience();
            let seat = &mut audience.seats[number as usize];
            if seat.as_ref().is_none_or(|seat| !seat.hears.is_closed()) {
                continue;
            }
            *seat = None;
            drop(audience);
            if let Err(error) = self.dataplane.watch(number, &Watcher::NOBODY) {
                self.warn(format!("{error:#}"));
            }
        }
        self.write_flags();
        let now = super::now();
        if now >= self.watching.next_count {
            self.watching.next_count = now + COUNT_EVERY;
            self.tell_counts();
        }
    }

    fn tell_counts(&mut self) {
        let directory = self.directory();
        let mut audience = self.watching.audience();
        audience.directory = directory;
        for (number, seat) in (0..).zip(&mut audience.seats) {
            let Some(seat) = seat else { continue };
            let Ok(count) = self.dataplane.watch_count(number) else { continue };
            let matched = count.matched - seat.before.matched;
            let missed = count.missed - seat.before.missed + seat.missed;
            // One who does not even take this hears of it by the next.
            let _ = seat.hears.try_send(Watched::Count { matched, missed });
        }
    }

    fn write_flags(&mut self) {
        let flags = self.flags();
        if flags != self.settings.flags {
            self.settings.flags = flags;
            self.write_settings();
        }
    }

    /// What the program's numbers stand for at present.
    fn directory(&self) -> Directory {
        let mut directory = Directory::default();
        for attached in self.interfaces.iter() {
            directory.interfaces.insert(attached.interface.index, attached.interface.name.clone());
        }
        let vips = self.config.vips.iter();
        let configured: BTreeMap<ServiceKey, &Service> = vips
            .flat_map(|vip| {
                vip.services.iter().map(|service| {
                    let Service { ports, protocol, .. } = *service;
                    (ServiceKey { vip: vip.address, ports, protocol }, service)
                })
            })
            .collect();
        for (key, published) in self.engine.services() {
            let Some(service) = configured.get(key) else { continue };
            directory.services.insert(published.reference.id, service.name.clone());
            let names: BTreeMap<IpAddr, &str> =
                service.backends.iter().map(|backend| (backend.address, backend.name.as_str())).collect();
            for member in published.members.values() {
                let Some(address) = member.address else { continue };
                let name = names.get(&address).map_or_else(|| address.to_string(), ToString::to_string);
                let backend = BackendName { name, address, service: service.name.clone() };
                directory.backends.insert(member.reference.index, backend);
            }
        }
        directory
    }
}
