//! The daemon: one task that owns all map writes, fed by health, network, signals and the API.

mod arrivals;
mod bonds;
mod candidate;
mod checks;
mod collection;
mod follow;
mod handle;
mod interfaces;
mod lasted;
mod listener;
mod metrics;
mod nat;
mod news;
mod next_hops;
mod orders;
mod plan;
mod rates;
mod reach;
mod remaining;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, bail};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, error, info, warn};
use vip_lb_common::{HashKey, abi::Settings};

use self::{
    arrivals::Arrivals,
    candidate::{Candidate, ConfigFile, at_start},
    handle::Handle,
    interfaces::Interfaces,
    lasted::Lasted,
    rates::Rates,
};
use super::{
    apply::apply,
    desired::{Desired, Facts, ServiceKey},
    engine::{Engine, Plan},
    observed::Observed,
    standing::Standing,
};
use crate::{
    api::{events::Events, model::Occurrence, server, socket},
    config::{Config, InvalidConfig, model},
    dataplane::{self, Capacities, Dataplane, LoadOptions, Write},
    health::{self, HealthEvent, Target},
    metrics::Reloads,
    network::{self, Network, NextHop, Resolver},
    state::{self, Folder, History, Keeper, OrderKey, Orders},
    steering::{Budget, Limits, Ticker},
};

/// Orders of the API that may wait.
const WAITING_ORDERS: usize = 64;

/// Runs the daemon until SIGTERM or SIGINT. `socket`, if given, is used instead of the configuration's.
///
/// # Errors
///
/// What kept it from starting, or [`InvalidConfig`]. Once it runs, it goes on whatever fails, and says what failed.
pub async fn run(path: &Path, socket: Option<&Path>) -> anyhow::Result<()> {
    let mut candidate = at_start(path).map_err(|errors| InvalidConfig::new(path, &errors.errors))?;
    if let Some(socket) = socket {
        candidate.config.node.socket = socket.to_owned();
    }
    for warning in &candidate.warnings {
        warn!("{warning}");
    }
    // First of all: a second daemon must not touch anything.
    let (socket_listener, claim) = socket::claim(&candidate.config.node.socket).await?;
    let mut signals = Signals::new()?;
    let mut network_events = network::Monitor::open().context("cannot listen to network changes")?;
    let (mut daemon, mut health_events) = Daemon::start(candidate, &mut network_events).await?;

    let (orders, mut waiting) = mpsc::channel(WAITING_ORDERS);
    let (stop, stopping) = watch::channel(false);
    let handle = Arc::new(Handle::new(orders, daemon.events.clone(), daemon.history.clone()));
    let server = tokio::spawn(server::serve(socket_listener, handle.clone(), async move {
        let mut stopping = stopping;
        // The sender only goes away with the daemon, which is as good a reason.
        let _ = stopping.wait_for(|&stop| stop).await;
    }));
    let mut listener = listener::Listener::new(handle, now());
    notify(&[sd_notify::NotifyState::Ready]);
    daemon.tell(Occurrence::DaemonReady {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
    });
    info!(node = daemon.config.node.name, services = daemon.engine.services().count(), "ready");

    let mut file_changes = follow::follow(daemon.file.path.clone());
    let mut ticks = interval(Duration::from_millis(200));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let api = daemon.config.node.api.as_ref();
        daemon.api_problem = listener.follow(api, daemon.file.loaded_at, now());
        tokio::select! {
            _ = ticks.tick() => daemon.tick(),
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
            Some(order) = waiting.recv() => daemon.order(order).await,
            _ = signals.hang_up.recv() => daemon.hang_up().await,
            Some(()) = file_changes.recv() => daemon.file_changed().await,
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
        }
    }
    notify(&[sd_notify::NotifyState::Stopping]);
    daemon.tell(Occurrence::DaemonStopping { pid: std::process::id() });
    daemon.events.close();
    // The receiver is gone when the server was quicker.
    let _ = stop.send(true);
    drop(waiting);
    listener.stop().await;
    if let Err(error) = server.await {
        warn!(%error, "the API ended badly");
    }
    if let Some(keeping) = daemon.keeping.take()
        && tokio::time::timeout(state::keeper::PATIENCE, keeping).await.is_err()
    {
        warn!("the disk does not answer; the last events are not kept");
    }
    daemon.finish();
    drop(claim);
    Ok(())
}

struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            hang_up: on(SignalKind::hangup())?,
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot notify the service manager");
    }
}

/// Everything the owner of the maps knows.
struct Daemon {
    config: Config,
    file: ConfigFile,
    started: SystemTime,
    dataplane: Dataplane,
    engine: Engine,
    health: health::Monitor,
    interfaces: Interfaces,
    resolver: Resolver,
    /// Why addresses have no next hop.
    unreachable: BTreeMap<IpAddr, String>,
    /// What was last told to the log of that sort which passes by itself.
    reported: BTreeSet<String>,
    service_rates: Rates<u16>,
    backend_rates: Rates<u16>,
    service_arrivals: Arrivals<u16>,
    backend_arrivals: Arrivals<u16>,
    orders: Orders,
    keeper: Arc<Keeper>,
    /// Why a file that changed by itself is not in force.
    file_doubt: Option<String>,
    /// What went wrong and still may matter.
    warnings: Vec<String>,
    /// Why the API is not served over TCP.
    api_problem: Option<String>,
    events: Events,
    /// What was last told to those who watch.
    observed: Observed,
    reloads: Reloads,
    lasted: Lasted,
    history: History,
    /// Brings the events to the disk, until there are no more.
    keeping: Option<JoinHandle<()>>,
    /// Changes of health by the names of service and backend.
    health_changes: BTreeMap<(String, String), u64>,
    network: Network,
    /// Configured sources of translated packets that the host has not: the program alone answers for them.
    foreign_sources: BTreeSet<IpAddr>,
    ticker: Ticker,
    started_at: Instant,
    budget: Budget,
    settings: Settings,
    next_collection: Instant,
    next_connections: Instant,
    next_reading: Instant,
}

impl Daemon {
    async fn start(
        Candidate { config, file, .. }: Candidate,
        network_events: &mut network::Monitor,
    ) -> anyhow::Result<(Self, mpsc::UnboundedReceiver<HealthEvent>)> {
        let started_at = now();
        let network = Network::open().context("cannot ask the kernel about its network")?;
        let found_interfaces = Interfaces::look_up(&config, &network).await?;
        let (dataplane, found) = Dataplane::open(&LoadOptions {
            pins: config.node.pins.clone(),
            flows: config.node.tables.flows,
            newborn: config.node.tables.newborn,
            survivors: config.node.tables.survivors,
            nat: config.node.tables.nat,
            fragments: config.node.tables.fragments,
        })?;
        if let Some(cost) = dataplane.cost() {
            debug!(?cost, "the program is loaded");
        }
        let hash = HashKey::from_seed(&config.node.seed.0);
        if found.settings.is_some_and(|settings| settings.hash != hash) {
            bail!(
                "the maps under {} were made with another seed, and flows would move: give back the former `node.seed`, or run \
                 `vip-lb unload` first, which ends forwarding",
                config.node.pins.display()
            );
        }
        let adopted = found.settings.is_some();
        let engine = Engine::adopt(config.node.seed.0, &found, |service| {
            dataplane.ring(service.id, vip_lb_common::abi::RingClass::from_u8(service.ring_class))
        })?;
        let capacities = dataplane.capacities()?;
        let Capacities { flows, newborn, survivors, .. } = capacities;
        let limits = Limits { flows, newborn, survivors, cpus: Dataplane::possible_cpus()? };
        let tick = found.settings.map_or(1, |settings| settings.tick);
        let (health, health_events) = health::Monitor::start();
        let state_folder = Folder::new(&state::folder_of(config.node.state_dir.as_deref()));
        let history = History::new(state_folder.path());
        let events = Events::after(history.last());
        let keeper = Keeper::start(state_folder).context("cannot start the thread that keeps the state")?;
        let left = keeper.found();
        let mut daemon = Self {
            file,
            started: wall_clock(),
            dataplane,
            engine,
            health,
            interfaces: Interfaces::new(&config.node.pins),
            resolver: Resolver::new(),
            unreachable: BTreeMap::new(),
            reported: BTreeSet::new(),
            service_rates: Rates::default(),
            backend_rates: Rates::default(),
            service_arrivals: Arrivals::default(),
            backend_arrivals: Arrivals::default(),
            orders: left.orders,
            keeper: Arc::new(keeper),
            file_doubt: None,
            warnings: Vec::new(),
            api_problem: None,
            keeping: Some(tokio::spawn(history.clone().keep(events.subscribe(None)))),
            events,
            history,
            lasted: Lasted::default(),
            observed: Observed::default(),
            reloads: Reloads::default(),
            health_changes: BTreeMap::new(),
            network,
            foreign_sources: BTreeSet::new(),
            ticker: Ticker::new(tick, Duration::ZERO),
            started_at,
            budget: Budget::new(limits),
            settings: Settings {
                // As they were: a peer's packets must not pass for a client's, not for a moment.
                flags: found.settings.map_or(0, |settings| settings.flags),
                tick,
                ..Settings::new(hash)
            },
            next_collection: started_at,
            next_connections: started_at,
            next_reading: started_at,
            config,
        };
        left.warnings.into_iter().for_each(|warning| daemon.warn(warning));
        let model::Tables { flows, newborn, survivors, nat, fragments } = daemon.config.node.tables;
        if capacities != (Capacities { flows, newborn, survivors, nat, fragments }) {
            daemon.warn(
                "`node.tables` differs from the pinned tables, which stay until `vip-lb unload`".to_owned(),
            );
        }
        let refusals = daemon.refusals(&daemon.config);
        if !refusals.is_empty() {
            bail!(
                "what is pinned under {} cannot be taken over: {}; change it back, or run `vip-lb unload` first, which ends \
                 forwarding",
                daemon.config.node.pins.display(),
                refusals.join("; ")
            );
        }
        let config = daemon.config.clone();
        daemon.look_up_nat_sources(&config).await;
        daemon.check_nat_ports();
        daemon.want_next_hops();
        daemon.resolve().await;
        daemon.check_health(adopted);
        if !adopted {
            // Nothing is forwarded yet, so nothing is lost by waiting, and rings are filled once instead of backend by backend.
            daemon.wait_for_first_checks(network_events).await;
        }
        let flags = daemon.settings.flags;
        daemon.settings = Settings { flags, ..daemon.configured_settings() };
        daemon.write_settings();
        daemon.reconcile();
        // From the first packet on, what begins may be recorded.
        daemon.collect(started_at);
        daemon.grant();
        let config = daemon.config.clone();
        let own = daemon.answered_sources();
        daemon.interfaces.apply(&config, &own, found_interfaces, &mut daemon.dataplane)?;
        // What changed since they were looked up nobody has told them.
        daemon.interfaces.refresh(&daemon.network).await?;
        daemon.advance_bonds();
        daemon.report_problems();
        // If that fails, status says so.
        drop(daemon.keep_config());
        daemon.tell_changes();
        Ok((daemon, health_events))
    }

    fn finish(self) {
        let config = &self.config.node;
        match config.on_exit {
            model::OnExit::Keep => {
                info!("stopped; forwarding goes on with what is pinned under {}", config.pins.display());
            }
            model::OnExit::Unload => {
                match dataplane::unload_balancer(&config.pins) {
                    Ok(_) => info!("stopped and unloaded"),
                    Err(error) => error!(%error, "cannot unload"),
                }
                self.interfaces.restore();
            }
        }
    }

    /// Brings the maps to what configuration, health, operator and network ask for.
    fn reconcile(&mut self) {
        let desired = Desired::new(&self.config, self);
        let plan = self.engine.reconcile(&desired, self.ticker.tick());
        self.carry_out(plan);
        let settings = self.configured_settings();
        if settings != self.settings {
            self.settings = settings;
            self.write_settings();
        }
    }

    /// The settings with all that configuration and peers decide.
    fn configured_settings(&self) -> Settings {
        let (first, last) = self.nat_ports();
        Settings {
            flags: if self.engine.has_peers() { Settings::PEERS } else { 0 },
            gue_port: self.config.node.gue_port,
            nat_first_port: first,
            nat_ports: last - first + 1,
            ..self.settings
        }
    }

    fn carry_out(&mut self, plan: Plan) {
        for warning in plan.warnings {
            self.warn(warning);
        }
        for error in apply(plan.writes, &mut self.dataplane, &mut self.engine) {
            self.warn(format!("{error:#}"));
        }
    }

    fn warn(&mut self, warning: String) {
        /// A warning that comes again and again must not fill the memory.
        const KEPT: usize = 100;
        warn!("{warning}");
        if !self.warnings.contains(&warning) && self.warnings.len() < KEPT {
            self.tell(Occurrence::Warning { text: warning.clone() });
            self.warnings.push(warning);
        }
    }

    fn write_settings(&mut self) {
        if let Err(error) = self.dataplane.write(&Write::Settings(Box::new(self.settings))) {
            self.warn(format!("{error:#}"));
        }
    }

    /// Where a backend stands if its check says so.
    fn standing_with(
        &self,
        service: &ServiceKey,
        backend: &model::Backend,
        health: Option<&health::State>,
    ) -> Standing {
        let order = self.orders.of(&OrderKey { service: *service, backend: backend.address });
        Standing::of(backend.state, order.map(|order| order.kind), health, backend.on_down)
    }

    fn health_changed(&mut self, events: &[HealthEvent]) {
        debug!(changes = events.len(), "health changed");
        self.reconcile();
        self.tell_changes();
    }
}

impl Facts for Daemon {
    fn standing(&self, service: &ServiceKey, backend: &model::Backend) -> Standing {
        let health =
            target(backend).map(|target| self.health.state(&target).unwrap_or(health::State::Unknown));
        self.standing_with(service, backend, health.as_ref())
    }

    fn next_hop(&self, address: IpAddr) -> Option<&NextHop> {
        self.resolver.next_hop(address)
    }

    fn is_of_host(&self, address: IpAddr) -> bool {
        !self.foreign_sources.contains(&address)
    }
}

/// What a backend's check probes; none if it has no check.
fn target(backend: &model::Backend) -> Option<Target> {
    backend.health.clone().map(|check| Target { address: backend.address, check })
}

#[expect(clippy::disallowed_methods, reason = "the daemon is the edge where the clock is read")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the daemon is the edge where the clock is read")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}
