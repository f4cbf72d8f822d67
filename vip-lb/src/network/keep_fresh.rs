//! Neighbours that stay resolved although only XDP uses them.

use std::{
    collections::HashMap,
    fmt, io,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE},
    packet_route::{RouteNetlinkMessage, route::RouteProtocol},
};
use thiserror::Error;
use tokio::{task::AbortHandle, time::MissedTickBehavior};

use super::{
    neighbour::{Entry, EntryFlags, Neighbour, ORIGINATOR, use_message},
    netlink::{Network, Requests},
};

/// How often neighbours are used where the kernel does not manage them: what the kernel takes for its own
/// (`interval_probe_time_ms`, 5 s).
const TRIGGER_INTERVAL: Duration = Duration::from_secs(5);

/// How a neighbour is kept fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// By the kernel, whether this process lives or not.
    Managed,
    /// By this process, as long as it lives, because the kernel is older than 5.16.
    Triggered,
    /// Not at all: the entry's hardware address is fixed (permanent, or a device without ARP).
    Fixed,
}

/// A neighbour entry that the kernel would not change.
#[derive(Debug, Error)]
#[error("cannot {attempt} neighbour {} on interface #{}", .neighbour.address, .neighbour.ifindex)]
pub struct NeighbourError {
    /// What was tried.
    attempt: Attempt,
    /// Whose entry it is.
    pub neighbour: Neighbour,
    /// What the request came to.
    pub source: io::Error,
}

#[derive(Clone, Copy, Debug)]
enum Attempt {
    KeepFresh,
    Release,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeepFresh => "keep fresh",
            Self::Release => "release",
        })
    }
}

/// What is kept fresh, and how.
#[derive(Default)]
pub(super) struct Keeping {
    support: Support,
    entries: HashMap<Neighbour, Kept>,
    triggering: Option<AbortHandle>,
}

/// Whether the kernel manages neighbours. A kernel before 5.16 may as well take the request and ignore the
/// unknown attribute as refuse it, so this is only known once an entry was read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Support {
    #[default]
    Unknown,
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    how: Freshness,
    /// Whether another control plane had it exempted from garbage collection before.
    was_externally_learned: bool,
}

impl Kept {
    fn is_triggered(&self) -> bool {
        self.how == Freshness::Triggered
    }
}

impl Network {
    /// Never asks the kernel to manage neighbours, but triggers them itself, as on kernels before 5.16.
    #[must_use]
    pub fn without_managed_neighbours(self) -> Self {
        lock(&self.keeping).support = Support::No;
        self
    }

    /// Has a neighbour resolved now and kept resolved. May be repeated at any time, and has to be once its
    /// entry [has gone](super::NetworkEvent::NeighbourGone).
    ///
    /// The entry is also exempted from garbage collection (`NTF_EXT_LEARNED`), so that thousands of
    /// neighbours do not run against `gc_thresh3`. A permanent entry is left alone.
    pub async fn keep_fresh(&self, address: IpAddr, ifindex: u32) -> Result<Freshness, NeighbourError> {
        let neighbour = Neighbour { ifindex, address };
        let support = lock(&self.keeping).support;
        let result = match self.keep(neighbour, support).await {
            Err(error) if support == Support::Unknown && is_refusal(&error) => {
                let result = self.keep(neighbour, Support::No).await;
                if result.is_ok() {
                    lock(&self.keeping).support = Support::No;
                }
                result
            }
            result => result,
        };
        result.map_err(|source| NeighbourError { attempt: Attempt::KeepFresh, neighbour, source })
    }

    /// Undoes [`Self::keep_fresh`] if it was this program that made the entry managed, now or in an earlier
    /// run; the entry then ages like any other. Says whether there was anything to undo.
    pub async fn release(&self, address: IpAddr, ifindex: u32) -> Result<bool, NeighbourError> {
        let neighbour = Neighbour { ifindex, address };
        let kept = lock(&self.keeping).entries.remove(&neighbour);
        match self.give_up(neighbour, kept).await {
            // The entry, or its interface, has gone in the meantime.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(false),
            Err(source) => {
                if let Some(kept) = kept {
                    lock(&self.keeping).entries.insert(neighbour, kept);
                }
                Err(NeighbourError { attempt: Attempt::Release, neighbour, source })
            }
            Ok(undone) => Ok(undone),
        }
    }

    async fn keep(&self, neighbour: Neighbour, support: Support) -> io::Result<Freshness> {
        let flags = EntryFlags { managed: support != Support::No, externally_learned: true };
        let mut before = None;
        match self.requests.use_entry(neighbour, flags, NLM_F_CREATE | NLM_F_EXCL).await {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                before = self.requests.neighbour(neighbour).await?;
                if let Some(how) = before.as_ref().and_then(|entry| self.already_fresh(entry)) {
                    return Ok(how);
                }
                self.requests.use_entry(neighbour, flags, NLM_F_CREATE | NLM_F_REPLACE).await?;
            }
            Err(error) => return Err(error),
        }
        let is_managed = match support {
            Support::Yes => true,
            Support::No => false,
            Support::Unknown => {
                let entry = self.requests.neighbour(neighbour).await?;
                let is_managed = entry.is_some_and(|entry| entry.is_managed);
                lock(&self.keeping).support = if is_managed { Support::Yes } else { Support::No };
                is_managed
            }
        };
        let how = if is_managed { Freshness::Managed } else { Freshness::Triggered };
        let was_externally_learned = before.is_some_and(|entry| entry.is_externally_learned);
        self.remember(neighbour, Kept { how, was_externally_learned });
        Ok(how)
    }

    /// How an existing entry is kept fresh without us changing it, if it is.
    fn already_fresh(&self, entry: &Entry) -> Option<Freshness> {
        if entry.is_fixed {
            return Some(Freshness::Fixed);
        }
        if !entry.is_managed {
            return None;
        }
        if is_ours(entry) {
            self.remember(entry.neighbour, Kept { how: Freshness::Managed, was_externally_learned: false });
        }
        Some(Freshness::Managed)
    }

    async fn give_up(&self, neighbour: Neighbour, kept: Option<Kept>) -> io::Result<bool> {
        let Some(entry) = self.requests.neighbour(neighbour).await? else {
            return Ok(false);
        };
        let is_triggered = kept.as_ref().is_some_and(Kept::is_triggered);
        let is_managed_by_us = entry.is_managed && (kept.is_some() || is_ours(&entry));
        if entry.is_fixed || !(is_triggered || is_managed_by_us) {
            return Ok(false);
        }
        let externally_learned = kept.is_some_and(|kept| kept.was_externally_learned);
        let flags = EntryFlags { managed: false, externally_learned };
        self.requests.use_entry(neighbour, flags, NLM_F_REPLACE).await?;
        Ok(true)
    }

    fn remember(&self, neighbour: Neighbour, kept: Kept) {
        let mut keeping = lock(&self.keeping);
        // What was true before the first time stays what has to be restored.
        keeping.entries.entry(neighbour).and_modify(|known| known.how = kept.how).or_insert(kept);
        if kept.is_triggered() && keeping.triggering.is_none() {
            let task = trigger_forever(self.requests.clone(), Arc::clone(&self.keeping));
            keeping.triggering = Some(tokio::spawn(task).abort_handle());
        }
    }

    pub(super) fn stop_triggering(&self) {
        if let Some(task) = lock(&self.keeping).triggering.take() {
            task.abort();
        }
    }
}

impl Requests {
    async fn use_entry(&self, neighbour: Neighbour, flags: EntryFlags, request: u16) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewNeighbour(use_message(neighbour, flags));
        self.send(message, request).await.map(drop)
    }

    /// Uses an entry that is still to be triggered and has not become permanent.
    async fn trigger(&self, neighbour: Neighbour, keeping: &Mutex<Keeping>) -> io::Result<()> {
        let is_fixed = self.neighbour(neighbour).await?.is_some_and(|entry| entry.is_fixed);
        // Asked last, so that a release in the meantime is not undone.
        if is_fixed || !lock(keeping).entries.get(&neighbour).is_some_and(Kept::is_triggered) {
            return Ok(());
        }
        let flags = EntryFlags { managed: false, externally_learned: true };
        self.use_entry(neighbour, flags, NLM_F_CREATE | NLM_F_REPLACE).await
    }
}

async fn trigger_forever(requests: Requests, keeping: Arc<Mutex<Keeping>>) {
    let mut interval = tokio::time::interval(TRIGGER_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let triggered: Vec<Neighbour> = lock(&keeping)
            .entries
            .iter()
            .filter_map(|(neighbour, kept)| kept.is_triggered().then_some(*neighbour))
            .collect();
        for neighbour in triggered {
            if let Err(error) = requests.trigger(neighbour, &keeping).await {
                let Neighbour { ifindex, address } = neighbour;
                tracing::debug!(ifindex, %address, %error, "cannot trigger a neighbour");
            }
        }
    }
}

fn is_ours(entry: &Entry) -> bool {
    entry.originator == Some(RouteProtocol::Other(ORIGINATOR))
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

/// Nothing in here panics while it holds the lock, and what it guards is never half changed.
fn lock(keeping: &Mutex<Keeping>) -> MutexGuard<'_, Keeping> {
    keeping.lock().unwrap_or_else(PoisonError::into_inner)
}
