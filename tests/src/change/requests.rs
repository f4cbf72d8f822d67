//! Short HTTP requests at a fixed rate, each on a connection of its own.
//!
//! Plain threads and blocking sockets: what a request costs is the kernel's work, so that the rate is reached beside servers and a
//! balancer on the same few processors.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::lab::{Entry, Gate, patience};

/// Threads that ask. A request takes about a millisecond, so each has room to wait for a retransmission and catch up.
const WORKERS: u32 = 16;
/// Times [`patience`]: longer than TCP takes to repeat a lost SYN twice. What takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A worker that is this far behind its schedule begins a new one: it does not make up for what a standstill took.
const FORGET: Duration = Duration::from_millis(500);

/// A request without an answer.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The client's end, if there was a connection at all.
    pub(super) local: Option<SocketAddr>,
    /// In words.
    pub(super) reason: String,
}

/// Requests that are being sent.
#[derive(Debug)]
pub(super) struct Requests {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    answered: AtomicUsize,
    under_way: AtomicUsize,
    stop: AtomicBool,
    failures: Mutex<Vec<Failure>>,
}

impl Requests {
    /// Begins to send `rate` requests a second, fewer by the factor of [`patience`], from a namespace.
    ///
    /// # Errors
    ///
    /// A thread cannot be made.
    pub(super) fn start(from: &Entry, target: SocketAddr, rate: u32, gate: &Gate) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let interval = Duration::from_secs(1) * WORKERS * patience() / rate;
        let worker = |number: u32| {
            let (shared, entry, gate) = (Arc::clone(&shared), from.clone(), gate.clone());
            thread::Builder::new()
                .name(format!("requests {number}"))
                .spawn(move || {
                    let first = interval * number / WORKERS;
                    if let Err(error) = entry.enter(|| work(target, first, interval, &gate, &shared)) {
                        shared.fail(None, &error);
                    }
                })
                .context("start a thread that sends requests")
        };
        let workers = (0..WORKERS).map(worker).collect::<Result<_>>()?;
        Ok(Self { shared, workers })
    }

    /// Requests that were answered until now.
    #[must_use]
    pub(super) fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Requests that have neither an answer nor failed.
    #[must_use]
    pub(super) fn under_way(&self) -> usize {
        self.shared.under_way.load(Ordering::SeqCst)
    }

    /// Those that failed since this was last asked.
    #[must_use]
    pub(super) fn take_failures(&self) -> Vec<Failure> {
        std::mem::take(&mut *self.shared.failures.lock().expect("no panic while locked"))
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            // A panic over there has been printed already.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn fail(&self, local: Option<SocketAddr>, error: &io::Error) {
        let failure = Failure { local, reason: error.to_string() };
        self.failures.lock().expect("no panic while locked").push(failure);
    }
}

fn work(target: SocketAddr, first: Duration, interval: Duration, gate: &Gate, shared: &Shared) {
    let mut due = Instant::now() + first;
    while !shared.stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if due > now {
            // In pieces, so that the end does not wait for a slow schedule.
            thread::sleep((due - now).min(Duration::from_millis(50)));
            continue;
        }
        // Counted before the gate is looked at: who closed it and then finds nothing under way finds nothing later.
        shared.under_way.fetch_add(1, Ordering::SeqCst);
        if gate.is_closed() {
            shared.under_way.fetch_sub(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let mut local = None;
        match ask(target, &mut local) {
            Ok(()) => drop(shared.answered.fetch_add(1, Ordering::Relaxed)),
            Err(error) => shared.fail(local, &error),
        }
        shared.under_way.fetch_sub(1, Ordering::SeqCst);
        due += interval;
        if due + FORGET < Instant::now() {
            due = Instant::now();
        }
    }
}

/// One request and the whole answer, until the server closes.
fn ask(target: SocketAddr, local: &mut Option<SocketAddr>) -> io::Result<()> {
    let limit = TIMEOUT * patience();
    let mut stream = TcpStream::connect_timeout(&target, limit)?;
    *local = stream.local_addr().ok();
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::with_capacity(512);
    stream.read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"\n") {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&answer);
    Err(io::Error::other(format!("the answer is `{}`", said.lines().next().unwrap_or_default())))
}
