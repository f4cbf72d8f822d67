//! New connections at a steady rate, whatever becomes of those before.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::namespace::{NamedThread, Namespace};

/// How long a client waits for its answer.
const LIMIT: Duration = Duration::from_secs(3);

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
}

impl NewConnections {
    /// Begins: so many in a second to an echo server, from this address of the namespace, or from the one that its routes prefer.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered.
    pub fn start(
        from: &Namespace,
        source: Option<IpAddr>,
        target: SocketAddr,
        per_second: u32,
    ) -> Result<Self> {
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
                    let outcome = timeout(LIMIT, ask(source, target)).await;
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
