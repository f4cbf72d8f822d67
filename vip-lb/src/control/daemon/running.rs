//! The life of a daemon process: from its start, or from what a predecessor hands over, to its end, or to a successor.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    net::UnixListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};
use tracing::{error, info, warn};

use super::{
    Daemon,
    candidate::at_start,
    follow,
    handle::Handle,
    leaving::Leaving,
    listener::Listener,
    now,
    succession::{Former, Succession},
};
use crate::{
    api::{
        model::Occurrence,
        server,
        socket::{self, SocketClaim},
    },
    config::InvalidConfig,
    control::hand_over::{Descriptors, Predecessor, Relaunch},
    health::HealthEvent,
    network,
};

/// Orders of the API that may wait.
const WAITING_ORDERS: usize = 64;
/// What may wait that peers say.
const WAITING_PEERS: usize = 64;

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The configuration file.
    pub config: PathBuf,
    /// Where to serve the API, instead of where the configuration says.
    pub socket: Option<PathBuf>,
    /// What is inherited from the daemon that started this one to be its successor.
    pub descriptors: Option<Descriptors>,
}

/// Runs the daemon until SIGTERM or SIGINT, or until a successor has taken over.
///
/// # Errors
///
/// What kept it from starting, or [`InvalidConfig`]. Once it runs, it goes on whatever fails, and says what failed.
pub async fn run(options: &RunOptions) -> anyhow::Result<()> {
    let mut predecessor = options.descriptors.map(Predecessor::inherit).transpose()?;
    match Running::start(options, &mut predecessor).await {
        Ok(mut running) => {
            if let Some(predecessor) = predecessor {
                predecessor.took_over().await;
                running.claim.make_own();
            }
            running.serve().await
        }
        Err(error) => {
            if let Some(predecessor) = predecessor {
                let mistakes =
                    error.downcast_ref::<InvalidConfig>().map(|invalid| invalid.mistakes.join("; "));
                let reason = [Some(format!("{error:#}")), mistakes].into_iter().flatten().collect::<Vec<_>>();
                predecessor.failed(reason.join(": ")).await;
            }
            Err(error)
        }
    }
}

/// A daemon, and all that it listens to.
struct Running {
    daemon: Daemon,
    listener: UnixListener,
    claim: SocketClaim,
    signals: Signals,
    succession: Succession,
    network_events: network::Monitor,
    health_events: mpsc::UnboundedReceiver<HealthEvent>,
}

impl Running {
    async fn start(options: &RunOptions, predecessor: &mut Option<Predecessor>) -> anyhow::Result<Self> {
        let succession = Succession::new(Relaunch::of_this_process()?);
        let path = &options.config;
        let mut candidate = at_start(path).map_err(|errors| InvalidConfig::new(path, &errors.errors))?;
        if let Some(socket) = &options.socket {
            candidate.config.node.socket.clone_from(socket);
        }
        for warning in &candidate.warnings {
            warn!("{warning}");
        }
        // First of all: a second daemon must not touch anything.
        let (listener, claim) = match predecessor {
            Some(predecessor) => predecessor.claim(&candidate.config.node.socket)?,
            None => socket::claim(&candidate.config.node.socket).await?,
        };
        let signals = Signals::new()?;
        let mut network_events = network::Monitor::open().context("cannot listen to network changes")?;
        let former = predecessor.as_mut().map_or(Former::Gone, Former::Running);
        let (daemon, health_events) = Daemon::start(candidate, &mut network_events, former).await?;
        Ok(Self { daemon, listener, claim, signals, succession, network_events, health_events })
    }

    async fn serve(self) -> anyhow::Result<()> {
        let Self {
            mut daemon,
            listener: socket_listener,
            claim,
            mut signals,
            mut succession,
            mut network_events,
            mut health_events,
        } = self;
        let (orders, mut waiting) = mpsc::channel(WAITING_ORDERS);
        let (upgrades, mut wanted_successors) = mpsc::channel(WAITING_ORDERS);
        let (peer_events, mut heard_peers) = mpsc::channel(WAITING_PEERS);
        let (stop, stopping) = watch::channel(false);
        let handle = Arc::new(Handle::new(orders, upgrades, daemon.events.clone(), daemon.history.clone()));
        let server = tokio::spawn(server::serve(socket_listener, handle.clone(), async move {
            let mut stopping = stopping;
            // The sender only goes away with the daemon, which is as good a reason.
            let _ = stopping.wait_for(|&stop| stop).await;
        }));
        let mut listener = Listener::new(handle, now());
        notify(&[sd_notify::NotifyState::Ready]);
        daemon.tell(Occurrence::DaemonReady {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        });
        info!(node = daemon.config.node.name, services = daemon.engine.services().count(), "ready");

        let mut file_changes = follow::follow(daemon.file.path.clone());
        let mut ticks = interval(Duration::from_millis(200));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leaving: Option<Leaving> = None;
        let handed_over = loop {
            daemon.follow_routes().await;
            let api = daemon.config.node.api.as_ref();
            daemon.api_problem = listener.follow(api, daemon.file.loaded_at, now());
            daemon.follow_peering(&peer_events).await;
            tokio::select! {
                _ = ticks.tick() => {
                    daemon.tick();
                    daemon.attend_to_peers();
                    daemon.attend_to_sharing();
                    daemon.refresh_probes().await;
                    daemon.look_out().await;
                }
                () = sleep_until(daemon.closely.next_look().into()) => daemon.look_closely(),
                Some(event) = health_events.recv() => {
                    let mut events = vec![event];
                    while let Ok(more) = health_events.try_recv() { events.push(more); }
                    daemon.health_changed(&events);
                }
                event = network_events.next() => match event {
                    Ok(event) => daemon.network_changed(&event).await,
                    Err(error) => {
                        error!(%error, "cannot follow network changes any more; next hops may grow stale");
                        network_events = network::Monitor::open().context("cannot listen to network changes")?;
                        daemon.network_changed(&network::NetworkEvent::Overrun).await;
                    }
                },
                () = daemon.ownership_changed() => {
                    daemon.share_soon();
                    daemon.note_hand_overs();
                    daemon.follow_advert_addresses();
                    daemon.tell_changes();
                }
                () = daemon.tracking.changed() => {
                    daemon.want_vips();
                    daemon.tell_changes();
                }
                Some(event) = heard_peers.recv() => daemon.peer_event(event),
                Some(order) = waiting.recv() => daemon.order(order).await,
                // Who ends is not succeeded any more.
                Some(asker) = wanted_successors.recv(), if leaving.is_none() => {
                    succession.begin(&claim, &daemon, Some(asker));
                }
                _ = signals.upgrade.recv(), if leaving.is_none() => succession.begin(&claim, &daemon, None),
                prepared = succession.prepared(), if leaving.is_none() => match prepared {
                    Ok(_) if succession.is_outdated(&daemon) => succession.begin_again(&claim, &daemon),
                    Ok(prepared) => match succession.hand_over(daemon.legacy().await).await {
                        Ok(()) => {
                            // Before the successor wants to listen there.
                            listener.release().await;
                            daemon.release_peering().await;
                            succession.take_leave(prepared).await;
                            break true;
                        }
                        Err(error) => {
                            (daemon, health_events) = daemon.begin_anew(&mut network_events).await
                                .context("cannot go on after a successor failed")?;
                            succession.fail(&error);
                        }
                    },
                    Err(error) => succession.fail(&error),
                },
                _ = signals.hang_up.recv() => daemon.hang_up().await,
                Some(()) = file_changes.recv() => daemon.file_changed().await,
                () = end_of(&mut leaving) => break false,
                () = any(&mut signals.terminate, &mut signals.interrupt) => {
                    notify(&[sd_notify::NotifyState::Stopping]);
                    match &mut leaving {
                        Some(leaving) => leaving.hurry(),
                        None => {
                            let again = any(&mut signals.terminate, &mut signals.interrupt);
                            leaving = Some(daemon.leave(again).await);
                        }
                    }
                }
            }
        };
        daemon.tell(Occurrence::DaemonStopping { pid: std::process::id() });
        daemon.events.close();
        daemon.watching.stop();
        // The receiver is gone when the server was quicker.
        let _ = stop.send(true);
        drop(waiting);
        drop(wanted_successors);
        listener.stop().await;
        if let Err(error) = server.await {
            warn!(%error, "the API ended badly");
        }
        daemon.finish_history().await;
        if handed_over {
            claim.leave();
        } else {
            claim.refuse();
            // What was heard of other nodes nobody has waited for.
            daemon.finish_state().await;
            daemon.end_probes().await;
            daemon.finish().await;
            drop(claim);
        }
        Ok(())
    }
}

struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
    /// SIGUSR2.
    upgrade: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            hang_up: on(SignalKind::hangup())?,
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            upgrade: on(SignalKind::user_defined2())?,
        })
    }
}

/// Waits for one of two signals.
async fn any(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Waits until the daemon may end; for ever, if nobody has told it to.
async fn end_of(leaving: &mut Option<Leaving>) {
    match leaving {
        Some(leaving) => leaving.is_over().await,
        None => std::future::pending().await,
    }
}

pub(super) fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot notify the service manager");
    }
}
