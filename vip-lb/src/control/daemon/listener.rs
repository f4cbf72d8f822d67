//! The API over TCP: follows the configuration, and tries again where it could not be had.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tracing::{info, warn};

use super::handle::Handle;
use crate::{
    api::{
        limited::Limited,
        server::{self, Access, Gate},
        token::Token,
    },
    config::model::{Api, MetricsAccess},
};

/// How long a port that is taken, or a file that is no good, is left alone before the next try.
const PAUSE: Duration = Duration::from_secs(2);

/// The listener, if there is one.
pub(super) struct Listener {
    handle: Arc<Handle>,
    running: Option<Running>,
    /// Why there is none though there should be.
    problem: Option<String>,
    /// The reading of the configuration that was followed, and when to try again if that failed.
    followed: Option<SystemTime>,
    next_try: Instant,
}

struct Running {
    address: SocketAddr,
    gate: Gate,
    /// Until it was told.
    stop: Option<oneshot::Sender<()>>,
    /// Ends when the port is free.
    closed: oneshot::Receiver<Infallible>,
    server: JoinHandle<()>,
}

impl Listener {
    pub(super) fn new(handle: Arc<Handle>, now: Instant) -> Self {
        Self { handle, running: None, problem: None, followed: None, next_try: now }
    }

    /// Does what the configuration read at `loaded_at` says, if that is news or failed a while ago. The token is read again with every
    /// configuration. Says why there is no listener where there should be one.
    pub(super) fn follow(
        &mut self,
        wanted: Option<&Api>,
        loaded_at: SystemTime,
        now: Instant,
    ) -> Option<String> {
        let retry = self.problem.is_some() && now >= self.next_try;
        if self.followed != Some(loaded_at) || retry {
            self.followed = Some(loaded_at);
            self.next_try = now + PAUSE;
            let problem = self.apply(wanted).err().map(|error| format!("{error:#}"));
            if let Some(problem) = &problem
                && self.problem.as_ref() != Some(problem)
            {
                warn!("{problem}");
            }
            self.problem = problem;
        }
        self.problem.clone()
    }

    fn apply(&mut self, wanted: Option<&Api>) -> anyhow::Result<()> {
        let Some(wanted) = wanted else {
            self.cease();
            return Ok(());
        };
        let address = wanted.listen;
        let not_served = || format!("the API is not served on {address}");
        let token = Token::read(&wanted.token_file);
        if self.running.as_ref().is_some_and(|running| running.address != address) {
            self.cease();
        }
        let running = match &self.running {
            Some(running) => running,
            None => self.running.insert(start(self.handle.clone(), address).with_context(not_served)?),
        };
        // A token that cannot be read lets nobody in, those with the former one neither.
        let open_metrics = wanted.metrics == MetricsAccess::Open;
        running.gate.set(token.as_ref().ok().map(|token| Access { token: token.clone(), open_metrics }));
        token.map(drop).with_context(not_served)
    }

    /// Takes no more requests. Those under way end within the server's grace.
    fn cease(&mut self) -> Option<JoinHandle<()>> {
        let mut running = self.running.take()?;
        running.tell_to_stop();
        Some(running.server)
    }

    /// Takes no more requests, and waits until somebody else can listen on the port. Those under way go on.
    pub(super) async fn release(&mut self) {
        if let Some(running) = &mut self.running {
            running.tell_to_stop();
            // An error is what comes: the other end goes with the socket.
            let _ = (&mut running.closed).await;
        }
    }

    /// Ends the listener and waits for the requests under way.
    pub(super) async fn stop(&mut self) {
        if let Some(server) = self.cease() {
            // It says itself what went wrong.
            let _ = server.await;
        }
    }
}

impl Running {
    fn tell_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The receiver is gone when the server was quicker.
            let _ = stop.send(());
        }
    }
}

fn start(handle: Arc<Handle>, address: SocketAddr) -> anyhow::Result<Running> {
    let listener = StdListener::bind(address).context("cannot listen")?;
    listener.set_nonblocking(true).context("cannot make the socket non-blocking")?;
    let listener = TcpListener::from_std(listener).context("cannot wait for connections")?;
    let gate = Gate::default();
    let (stop, stopped) = oneshot::channel();
    let (open, closed) = oneshot::channel();
    let served = server::serve_tcp(Limited::new(listener, open), handle, gate.clone(), async {
        // Dropped with the daemon, which is as good a reason.
        let _ = stopped.await;
    });
    let server = tokio::spawn(async move {
        if let Err(error) = served.await {
            warn!(%error, %address, "the API over TCP ended badly");
        }
    });
    info!(%address, "the API is served over TCP");
    Ok(Running { address, gate, stop: Some(stop), closed, server })
}
