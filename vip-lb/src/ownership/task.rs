//! The thread that speaks VRRP, renews leases and tells neighbours.
//!
//! It is a thread of its own, because an advert must not wait for whatever else the daemon does, and one that goes before all others of the
//! machine ([`realtime`]), which it does for some microseconds at a time. It alone writes OWNERS. Before any timer it reads all that has come, so that a
//! node that did not run for a while hears first what was said meanwhile; and before it takes another node for dead it looks into ADVERTS, whether the packet
//! path has seen what did not come.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::{Arc, Mutex, PoisonError, TryLockError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::sync::Notify;
use tracing::{info, warn};
use vip_lb_common::abi::AdvertStamp;

use self::{ending::linger, running::Running};
use super::{
    addresses, admission,
    report::RouterReport,
    unheard::{Stamp, StampLink},
};
use crate::dataplane::{Adverts, Owners, monotonic};

mod ending;
mod realtime;
mod running;
mod setup;

pub use ending::Ending;
pub use setup::{GroupSetup, RouterSetup};

/// Until it tries again to tell what it could not, because the daemon was reading.
const AGAIN: Duration = Duration::from_millis(1);

/// How often it looks whether interfaces and their addresses are as they were.
const REFRESH: Duration = Duration::from_secs(1);

/// By which links the packet path sees what comes to interfaces that are no devices of their own: VLANs, bonds, macvlans.
pub type StampLinks = BTreeMap<String, BTreeSet<StampLink>>;

enum Command {
    Setup(Vec<GroupSetup>),
    Links(StampLinks),
    Wanted(BTreeMap<IpAddr, bool>),
    Lowered(BTreeMap<IpAddr, u8>),
    HandedOver {
        since_ms: BTreeMap<IpAddr, u64>,
        heirs: Vec<IpAddr>,
    },
    /// End: with a last word, or without a change, for another process to go on.
    End {
        last_word: bool,
    },
}

/// What daemon and thread share.
struct Shared {
    reports: Mutex<Vec<RouterReport>>,
    changed: Notify,
}

/// The daemon's end of it. Dropped without [`Self::end`], it ends with a last word.
pub struct Task {
    commands: mpsc::Sender<Command>,
    wake: OwnedFd,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    delayable: Option<io::Error>,
}

impl Task {
    /// Starts the thread, with nothing to do yet.
    ///
    /// # Errors
    ///
    /// The kernel gives no more threads or descriptors.
    pub fn start(owners: Owners, adverts: Adverts) -> anyhow::Result<Self> {
        // SAFETY: the call takes no pointers.
        let wake = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if wake < 0 {
            return Err(io::Error::last_os_error()).context("cannot make an event descriptor");
        }
        // SAFETY: the kernel just made it for us.
        let wake = unsafe { OwnedFd::from_raw_fd(wake) };
        let woken = wake.try_clone().context("cannot copy an event descriptor")?;
        let shared = Arc::new(Shared { reports: Mutex::default(), changed: Notify::new() });
        let (commands, orders) = mpsc::channel();
        let thread = Thread {
            orders,
            woken,
            owners,
            adverts,
            links: StampLinks::new(),
            shared: shared.clone(),
            groups: Vec::new(),
            untold: false,
            sweep: None,
        };
        let (first, began) = mpsc::channel();
        let thread = std::thread::Builder::new().name("vrrp".to_owned()).spawn(move || {
            let _ = first.send(realtime::enter().err());
            thread.run();
        });
        let thread = thread.context("cannot start the thread that speaks VRRP")?;
        let delayable = began.recv().context("the thread that speaks VRRP ended at once")?;
        Ok(Self { commands, wake, shared, thread: Some(thread), delayable })
    }

    /// Why the thread has to wait for others when all processors are busy; `None` if it has not.
    #[must_use]
    pub fn delayable(&self) -> Option<&io::Error> {
        self.delayable.as_ref()
    }

    /// Sets which routers there are. Those that are as before go on.
    pub fn set_up(&self, groups: Vec<GroupSetup>) {
        self.order(Command::Setup(groups));
    }

    /// Tells by which links the packet path sees what comes to interfaces.
    pub fn seen_by(&self, links: StampLinks) {
        self.order(Command::Links(links));
    }

    /// Tells which VIPs this node wants, and is able to forward.
    pub fn want(&self, wanted: BTreeMap<IpAddr, bool>) {
        self.order(Command::Wanted(wanted));
    }

    /// Tells by how much the priorities of the routers of VIPs are lowered now; not at all where nothing is said. Routers of a group are lowered by
    /// the most that one of them is.
    pub fn lower(&self, by: BTreeMap<IpAddr, u8>) {
        self.order(Command::Lowered(by));
    }

    /// Tells which VIPs are handed over, and since when, which is the name of the order: milliseconds since 1970. A router gives way once
    /// for each order, and with the last word to one node alone, if own addresses of that are given. It takes back what is no longer ordered.
    pub fn hand_over(&self, since_ms: BTreeMap<IpAddr, u64>, heirs: Vec<IpAddr>) {
        self.order(Command::HandedOver { since_ms, heirs });
    }

    /// All routers as they are.
    #[must_use]
    pub fn reports(&self) -> Vec<RouterReport> {
        self.shared.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a router became something else.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Ends the thread. With a last word others take over at once; without one the leases last as they are, for another daemon to go on.
    pub fn end(mut self, last_word: bool) -> Ending {
        self.order(Command::End { last_word });
        Ending::of(self.thread.take(), self.commands.clone())
    }

    fn order(&self, command: Command) {
        // A thread that is gone leaves the leases to end by themselves, and its end is told where it is waited for.
        let _ = self.commands.send(command);
        let one = 1_u64.to_ne_bytes();
        // SAFETY: the bytes live until the call returns.
        unsafe { libc::write(self.wake.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.order(Command::End { last_word: true });
            ending::join(thread);
        }
    }
}

struct Thread {
    orders: mpsc::Receiver<Command>,
    woken: OwnedFd,
    owners: Owners,
    adverts: Adverts,
    links: StampLinks,
    shared: Arc<Shared>,
    groups: Vec<Running>,
    /// The daemon does not know the last reports yet.
    untold: bool,
    /// Removes devices.
    sweep: Option<JoinHandle<()>>,
}

impl Thread {
    fn run(mut self) {
        let mut refresh_at = now();
        loop {
            self.wait(refresh_at);
            while let Ok(command) = self.orders.try_recv() {
                match command {
                    Command::Setup(setups) => self.set_up(setups),
                    Command::Links(links) => self.links = links,
                    Command::Wanted(wanted) => {
                        for group in &mut self.groups {
                            group.want(&wanted, &self.owners);
                        }
                    }
                    Command::Lowered(by) => {
                        for group in &mut self.groups {
                            group.lower(&by, &self.owners);
                        }
                    }
                    Command::HandedOver { since_ms, heirs } => {
                        for group in &mut self.groups {
                            group.hand_over(&since_ms, &heirs, &self.owners);
                        }
                    }
                    Command::End { last_word } => {
                        if last_word {
                            self.end();
                        } else {
                            self.groups.drain(..).for_each(Running::leave);
                        }
                        return;
                    }
                }
            }
            let refresh = now() >= refresh_at;
            for group in &mut self.groups {
                if refresh {
                    group.refresh(&self.owners);
                }
                group.receive(&self.owners);
            }
            // Whose time has not come by now does not act before the next look.
            let at = now();
            let looks = refresh || self.groups.iter().any(|group| group.is_about_to_take_over(at));
            if looks && !self.groups.is_empty() {
                let stamps = self.stamps();
                for group in &mut self.groups {
                    group.look(&stamps, &self.links, refresh, &self.owners);
                }
            }
            for group in &mut self.groups {
                group.act(at, &self.owners);
            }
            if refresh {
                refresh_at = now() + REFRESH;
            }
            self.report();
        }
    }

    /// What the packet path saw last of all nodes that speak.
    fn stamps(&self) -> Vec<Stamp> {
        let all = self.adverts.all().unwrap_or_else(|error| {
            warn!("{error:#}");
            Vec::new()
        });
        // One clock by two names.
        let (since_boot, now) = (monotonic(), now());
        let moment = |at: Duration| match since_boot.checked_sub(at) {
            Some(ago) => now.checked_sub(ago),
            None => Some(now + (at - since_boot)),
        };
        let stamp =
            |(key, stamp): (_, AdvertStamp)| Stamp::of(key, stamp, moment(Duration::from_nanos(stamp.at))?);
        all.into_iter().filter_map(stamp).collect()
    }

    fn set_up(&mut self, setups: Vec<GroupSetup>) {
        let mut former = std::mem::take(&mut self.groups);
        let mut groups = Vec::new();
        for setup in setups {
            let known = former.iter().position(|group| group.goes_on_as(&setup));
            groups.push(match known {
                Some(known) => {
                    let mut group = former.swap_remove(known);
                    group.change(setup, &self.owners);
                    group
                }
                None => Running::new(setup),
            });
        }
        for mut admission in former.into_iter().flat_map(|group| group.shut_down(&self.owners)) {
            if let Err(error) = admission.close() {
                warn!(%error, "cannot close a virtual MAC address");
            }
        }
        self.groups = groups;
        // What a daemon before left for VIPs that are leased no more.
        let leased = |vip: &IpAddr| self.groups.iter().any(|group| group.leases(*vip));
        match self.owners.all() {
            Ok(all) => {
                all.iter().filter(|(vip, _)| !leased(vip)).for_each(|(vip, _)| end_lease(&self.owners, *vip));
            }
            Err(error) => warn!("{error:#}"),
        }
        let is_put = |vip| self.groups.iter().any(|group| group.puts(vip));
        match addresses::sweep(is_put) {
            Ok(left) => {
                for (vip, interface) in left {
                    info!(%vip, interface, "took away the address that a daemon before had left");
                }
            }
            Err(error) => warn!("{error:#}"),
        }
        self.sweep_devices();
        for group in &mut self.groups {
            group.refresh(&self.owners);
        }
    }

    /// Removes devices that no router needs. Elsewhere, because the kernel waits for all processors before one is gone, and adverts must not.
    fn sweep_devices(&mut self) {
        self.finish_sweep();
        let is_needed = |parent, mac| self.groups.iter().any(|group| group.admits(parent, mac));
        let left = match admission::left_behind(is_needed) {
            Ok(left) => left,
            Err(error) => return warn!("{error:#}"),
        };
        if left.is_empty() {
            return;
        }
        let remove = move || {
            for device in left {
                match device.remove() {
                    Ok(name) => info!(device = name, "removed a device that no virtual MAC address needs"),
                    Err(error) => warn!("{error:#}"),
                }
            }
        };
        match std::thread::Builder::new().name("devices".to_owned()).spawn(remove) {
            Ok(thread) => self.sweep = Some(thread),
            Err(error) => warn!(%error, "cannot start a thread that removes devices"),
        }
    }

    fn finish_sweep(&mut self) {
        if self.sweep.take().is_some_and(|thread| thread.join().is_err()) {
            warn!("the thread that removes devices ended badly");
        }
    }

    /// Says the last word. What comes until others have heard it, and switches know where they are, is still taken.
    fn end(&mut self) {
        let wait = self.groups.iter().filter_map(Running::handing_over).max();
        let closed: Vec<_> = self.groups.drain(..).flat_map(|group| group.shut_down(&self.owners)).collect();
        if let Some(wait) = wait {
            linger(&self.orders, wait);
        }
        for admission in closed {
            if let Err(error) = admission.remove() {
                warn!("{error:#}");
            }
        }
        self.finish_sweep();
    }

    fn report(&mut self) {
        let reports: Vec<_> = self.groups.iter().flat_map(Running::reports).collect();
        // Whoever holds the lock may be a thread that has to wait for a processor.
        let mut known = match self.shared.reports.try_lock() {
            Ok(known) => known,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.untold = true;
                return;
            }
        };
        self.untold = false;
        let same = known.len() == reports.len()
            && known.iter().zip(&reports).all(|(known, new)| {
                let speaker = |of: &RouterReport| of.speaker.map(|speaker| speaker.address);
                let told = |of: &RouterReport| (of.source, of.admitted.clone(), of.unheard.clone());
                (&known.vips, &known.changes, &known.hindrance, &known.conflict, told(known))
                    == (&new.vips, &new.changes, &new.hindrance, &new.conflict, told(new))
                    && (known.handed_over, speaker(known), known.priority)
                        == (new.handed_over, speaker(new), new.priority)
            });
        *known = reports;
        drop(known);
        if !same {
            self.shared.changed.notify_one();
        }
    }

    /// Until something has come, or something is due.
    fn wait(&self, refresh_at: Instant) {
        let due = self.groups.iter().filter_map(Running::due).chain([refresh_at]).min().unwrap_or(refresh_at);
        let due = if self.untold { due.min(now() + AGAIN) } else { due };
        let left = due.saturating_duration_since(now());
        let timeout =
            libc::timespec { tv_sec: left.as_secs() as libc::time_t, tv_nsec: left.subsec_nanos().into() };
        let watched = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let links = self.groups.iter().flat_map(Running::links).map(|link| link.as_fd().as_raw_fd());
        let mut all: Vec<_> = std::iter::once(self.woken.as_raw_fd()).chain(links).map(watched).collect();
        // SAFETY: descriptors and timeout live until the call returns; no signal mask is given.
        unsafe {
            libc::ppoll(all.as_mut_ptr(), all.len() as libc::nfds_t, &raw const timeout, std::ptr::null())
        };
        let mut count = [0; 8];
        // SAFETY: the buffer lives until the call returns. It has nothing to say but that something came.
        unsafe { libc::read(self.woken.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

fn end_lease(owners: &Owners, vip: IpAddr) {
    if let Err(error) = owners.end(vip) {
        warn!("{error:#}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the thread is the edge where the clock is read")]
fn now() -> Instant {
    Instant::now()
}
