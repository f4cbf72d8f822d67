//! The daemon hands over to its successor: the binary of the same path, which may be another one by now.

use std::{collections::BTreeMap, path::Path, time::SystemTime};

use anyhow::bail;
use tracing::{error, info};

use super::{
    Candidate, Daemon, Observed, Started, handle::Answer, lasted::Lasted, now, running::notify, wall_clock,
};
use crate::{
    api::{
        events::Events,
        model::{ApiError, ErrorKind, UpgradeReport},
        socket::SocketClaim,
    },
    control::hand_over::{Predecessor, Prepared, Relaunch, State, Successor},
    metrics::Reloads,
    network,
};

/// Who controlled the balancer until now.
pub(super) enum Former<'p> {
    /// Nobody who could be asked.
    Gone,
    /// A daemon that hands over.
    Running(&'p mut Predecessor),
    /// This process, which begins anew with what it knows.
    This(State, Box<GoingOn>),
}

impl Former<'_> {
    /// What it knows beside the maps, which it does not write any more from here on.
    pub(super) async fn legacy(self, socket: &Path) -> anyhow::Result<(State, Option<GoingOn>)> {
        match self {
            Self::Gone => Ok((State::default(), None)),
            Self::Running(predecessor) => Ok((predecessor.state(socket).await?, None)),
            Self::This(state, going_on) => Ok((state, Some(*going_on))),
        }
    }
}

/// What goes on for who watches or counts, as long as the process does.
pub(super) struct GoingOn {
    pub(super) started: SystemTime,
    pub(super) events: Events,
    pub(super) observed: Observed,
    pub(super) lasted: Lasted,
    pub(super) reloads: Reloads,
    pub(super) health_changes: BTreeMap<(String, String), u64>,
}

impl GoingOn {
    /// As it begins.
    pub(super) fn new(events: Events) -> Self {
        Self {
            started: wall_clock(),
            events,
            observed: Observed::default(),
            lasted: Lasted::default(),
            reloads: Reloads::default(),
            health_changes: BTreeMap::new(),
        }
    }
}

/// Who asked for a successor.
pub(super) type Asker = Answer<UpgradeReport>;

/// A successor, if there is to be one.
pub(super) struct Succession {
    relaunch: Relaunch,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    successor: Successor,
    /// When the configuration came in force that it read, or should have read.
    read: SystemTime,
    /// By request; a signal waits for no answer.
    askers: Vec<Asker>,
}

impl Succession {
    pub(super) fn new(relaunch: Relaunch) -> Self {
        Self { relaunch, under_way: None }
    }

    /// Starts a successor, unless one is preparing already.
    pub(super) fn begin(&mut self, claim: &SocketClaim, daemon: &Daemon, asker: Option<Asker>) {
        match &mut self.under_way {
            Some(under_way) => under_way.askers.extend(asker),
            None => self.start(claim, daemon, asker.into_iter().collect()),
        }
    }

    /// Whether another configuration came in force while the successor prepared, which it does not know.
    pub(super) fn is_outdated(&self, daemon: &Daemon) -> bool {
        self.under_way.as_ref().is_some_and(|under_way| under_way.read != daemon.file.loaded_at)
    }

    /// Starts another one instead of the one that is preparing.
    pub(super) fn begin_again(&mut self, claim: &SocketClaim, daemon: &Daemon) {
        // Dropped, the former one is killed. It has touched nothing.
        let Some(UnderWay { askers, .. }) = self.under_way.take() else { return };
        info!("another configuration came in force while the successor prepared: it begins again");
        self.start(claim, daemon, askers);
    }

    fn start(&mut self, claim: &SocketClaim, daemon: &Daemon, askers: Vec<Asker>) {
        let started = daemon.can_be_succeeded().and_then(|()| Successor::start(&self.relaunch, claim));
        match started {
            Ok(successor) => {
                let binary = self.relaunch.binary().display();
                info!(pid = successor.pid(), %binary, "a successor was started and prepares to take over");
                self.under_way = Some(UnderWay { successor, read: daemon.file.loaded_at, askers });
            }
            Err(error) => refuse(askers, &error),
        }
    }

    /// Waits until the successor is prepared; for ever, if there is none.
    pub(super) async fn prepared(&mut self) -> anyhow::Result<Prepared> {
        match &mut self.under_way {
            Some(under_way) => under_way.successor.prepared().await,
            None => std::future::pending().await,
        }
    }

    /// Hands over to the successor, which is prepared, and waits until it has taken over.
    pub(super) async fn hand_over(&mut self, state: State) -> anyhow::Result<()> {
        match &mut self.under_way {
            Some(under_way) => under_way.successor.hand_over(state).await,
            None => bail!("there is no successor"),
        }
    }

    /// Names the successor to the service manager, lets it go on alone, and answers whoever asked for it.
    pub(super) async fn take_leave(&mut self, Prepared { version }: Prepared) {
        let Some(UnderWay { successor, askers, .. }) = self.under_way.take() else { return };
        let pid = successor.pid();
        info!(pid, version, "handed over");
        // The service manager takes a word of the main process alone, which this one is until now (sd_notify(3), NotifyAccess=main).
        notify(&[sd_notify::NotifyState::MainPid(pid)]);
        successor.farewell().await;
        let report = UpgradeReport { pid, former_pid: std::process::id(), version };
        for asker in askers {
            // Who hung up knows where to look.
            let _ = asker.send(Ok(report.clone()));
        }
    }

    /// Gives it up.
    pub(super) fn fail(&mut self, error: &anyhow::Error) {
        if let Some(UnderWay { askers, .. }) = self.under_way.take() {
            refuse(askers, error);
        }
    }
}

impl Daemon {
    /// A successor reads the file, or on the disk what is in force instead of it.
    fn can_be_succeeded(&self) -> anyhow::Result<()> {
        if let Some(replaced) = &self.file.replaced
            && self.keeper.in_force().is_none()
        {
            bail!(
                "{} is in force instead of {}, and a successor could not know it, because it is not kept in {}",
                replaced.name,
                self.file.path.display(),
                self.keeper.folder().path().display()
            );
        }
        Ok(())
    }

    /// What a successor cannot read from the maps. After this nothing is written to the disk any more, and no backend probed.
    pub(super) async fn legacy(&mut self) -> State {
        self.end_probes().await;
        self.tracking.stop();
        // Its leases go on: the successor finds them.
        if let Some(mut ending) = self.end_routers(false) {
            ending.ended().await;
        }
        self.finish_state().await;
        self.finish_history().await;
        self.state()
    }

    fn state(&self) -> State {
        State {
            socket: self.config.node.socket.clone(),
            checks: self.health.memories(),
            services: self.floors.memories(now()),
            orders: Some(self.orders.clone()),
            // The end of this daemon, which is told to those who still listen to it.
            last_event: self.events.last() + 1,
        }
    }

    /// Begins anew with what is in the maps: a successor that failed may have written them.
    pub(super) async fn begin_anew(self, network_events: &mut network::Monitor) -> anyhow::Result<Started> {
        let state = self.state();
        let Self { config, file, started, events, observed, lasted, reloads, health_changes, .. } = self;
        // Not the file, which may be another one by now.
        let candidate = Candidate { config, file, warnings: Vec::new() };
        let going_on = GoingOn { started, events, observed, lasted, reloads, health_changes };
        Self::start(candidate, network_events, Former::This(state, Box::new(going_on))).await
    }
}

fn refuse(askers: impl IntoIterator<Item = Asker>, error: &anyhow::Error) {
    let reason = format!("the successor cannot take over, and this daemon goes on: {error:#}");
    error!("{reason}");
    for asker in askers {
        let _ = asker.send(Err(ApiError::new(ErrorKind::Conflict, reason.clone())));
    }
}
