//! New connections at a steady rate, whatever becomes of those before.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    namespace::{NamedThread, Namespace},
    patience,
};

/// How long a client waits for its answer, times [`patience`].
const LIMIT: Duration = Duration::from_secs(3);

/// An answer within this was not waited for. A SYN is sent again after a second.
const PROMPT: Duration = Duration::from_millis(700);

/// Clients that come at a steady rate: each connects, sends a line, reads the answer and leaves. They come until this is dropped.
#[derive(Debug)]
pub struct NewConnections {
    _thread: NamedThread,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    stop: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
    /// When the latest of those came that were not answered promptly.
    last_unserved: Mutex<Option<Instant>>,
}

impl NewConnections {
    /// Begins: so many in a second to an echo server, from this address of the namespace, or from the one that its routes prefer.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered, or its settings not be changed.
    pub fn start(
        from: &Namespace,
        source: Option<IpAddr>,
        target: SocketAddr,
        per_second: u32,
    ) -> Result<Self> {
        // Or its ports are used up after half a minute, by connections of before that the kernel remembers for a whole one.
        from.sysctl("net/ipv4/tcp_tw_reuse", "1")?;
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let thread = from.spawn("new connections", move || async move {
            let mut clients = JoinSet::new();
            let mut pace = interval(Duration::from_secs(1) / per_second);
            pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while !shared.stop.load(Ordering::Relaxed) {
                pace.tick().await;
                let counts = Arc::clone(&shared);
                clients.spawn(async move {
                    let came = Instant::now();
                    let mut asked = pin!(ask(source, target));
                    let mut outcome = timeout(PROMPT, &mut asked).await;
                    if !matches!(outcome, Ok(Ok(()))) {
                        counts.was_not_served(came);
                    }
                    if outcome.is_err() {
                        outcome = timeout(LIMIT * patience() - PROMPT, asked).await;
                    }
                    let count = if matches!(outcome, Ok(Ok(()))) { &counts.answered } else { &counts.failed };
                    count.fetch_add(1, Ordering::Relaxed);
                });
                while clients.try_join_next().is_some() {}
            }
        })?;
        Ok(Self { _thread: thread, counts })
    }

    /// How many have got their answer.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.counts.answered.load(Ordering::Relaxed)
    }

    /// How many have not, and given up.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.counts.failed.load(Ordering::Relaxed)
    }

    /// Waits until for `quiet` everybody who came has been answered promptly, and says when the last one came who was not. `None`: nobody
    /// since `from`.
    ///
    /// # Errors
    ///
    /// There still are some after `limit`.
    pub fn wait_for_the_last_unserved(
        &self,
        from: Instant,
        quiet: Duration,
        limit: Duration,
    ) -> Result<Option<Instant>> {
        // Who came just now is known of only when it is no longer prompt.
        let quiet = quiet + PROMPT;
        super::wait_for("clients to be served again", limit, || {
            let last =
                self.counts.last_unserved.lock().expect("no panic while locked").filter(|last| *last > from);
            Ok((last.unwrap_or(from).elapsed() > quiet).then_some(last))
        })
    }
}

impl Counts {
    fn was_not_served(&self, came: Instant) {
        let mut last = self.last_unserved.lock().expect("no panic while locked");
        *last = (*last).max(Some(came));
    }
}

impl Drop for NewConnections {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
    }
}

async fn ask(source: Option<IpAddr>, target: SocketAddr) -> io::Result<()> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind((source, 0).into())?;
    }
    let mut stream = socket.connect(target).await?;
    stream.write_all(b"who\n").await?;
    let mut answer = [0; 128];
    match stream.read(&mut answer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
