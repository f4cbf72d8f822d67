//! The daemon: one task that owns all map writes, fed by health, network, signals and the API.

mod arrivals;
mod bonds;
mod candidate;
mod checks;
mod collection;
mod drains;
mod floors;
mod follow;
mod handle;
mod handover;
mod heir;
mod interfaces;
mod lasted;
mod leaving;
mod listener;
mod lookout;
mod metrics;
mod names;
mod nat;
mod news;
mod next_hops;
mod node;
mod orders;
mod ownership;
mod passive;
mod peering;
mod plan;
mod probes;
mod quiet;
mod rates;
mod reach;
mod remaining;
mod routes;
mod running;
mod shared_orders;
mod sharing;
mod statement;
mod status;
mod succession;
mod tracking;
mod watching;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};
use vip_lb_common::{HashKey, abi::Settings};

use self::{
    arrivals::Arrivals,
    candidate::{Candidate, ConfigFile},
    floors::Floors,
    interfaces::Interfaces,
    lasted::Lasted,
    leaving::Leaving,
    passive::Closely,
    quiet::Quiet,
    rates::Rates,
    routes::Routes,
    succession::{Former, GoingOn},
    watching::Watching,
};
use super::{
    apply::apply,
    desired::{Desired, Facts, ServiceKey},
    engine::{Engine, Plan},
    observed::Observed,
    ownership::Claim,
    standing::Standing,
};
use crate::{
    api::{events::Events, model::Occurrence},
    config::{
        Config,
        model::{self, CheckName},
    },
    dataplane::{self, Capacities, Dataplane, LoadOptions, Write},
    health::{self, HealthEvent, Target, Way},
    metrics::Reloads,
    network::{self, HostRoutes, Network, NextHop, Resolver},
    ownership::Task,
    state::{self, Folder, History, Keeper, Keeping, OrderKey, Orders},
    steering::{Budget, Limits, Ticker},
};

pub use running::{RunOptions, run};

/// A daemon that is about to run, and the stream of its health events.
type Started = (Daemon, mpsc::UnboundedReceiver<HealthEvent>);

/// Everything the owner of the maps knows.
struct Daemon {
    config: Config,
    file: ConfigFile,
    started: SystemTime,
    dataplane: Dataplane,
    engine: Engine,
    health: health::Monitor,
    interfaces: Interfaces,
    probes: probes::Probes,
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
    floors: Floors,
    /// What this node wants of its VIPs, by which it answers for them.
    claims: BTreeMap<IpAddr, Claim>,
    /// Where adverts of VRRP are noted.
    advert_addresses: BTreeSet<IpAddr>,
    /// Who else answers for them.
    looking: lookout::Looking,
    /// Speaks VRRP; none before the maps are filled, and once it has ended.
    vrrp: Option<Task>,
    routes: Routes,
    /// Whether it is drained itself, as was last noted.
    node_drained: bool,
    quiet: Quiet,
    peers: peering::Peers,
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
    /// Brings the events to the disk.
    keeping: Option<Keeping>,
    /// Changes of health by the names of service and backend.
    health_changes: BTreeMap<(String, String), u64>,
    watching: Watching,
    closely: Closely,
    tracking: tracking::Tracking,
    network: Network,
    /// Configured sources of translated packets that the host has not: the program alone answers for them.
    foreign_sources: BTreeSet<IpAddr>,
    /// What peers are told of flows, and tell.
    sharing: sharing::Sharing,
    ticker: Ticker,
    /// The tick when this daemon started.
    first_tick: u32,
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
        former: Former<'_>,
    ) -> anyhow::Result<Started> {
        let started_at = now();
        let network = Network::open().context("cannot ask the kernel about its network")?;
        let host_routes = HostRoutes::open().context("cannot ask the kernel about routes")?;
        let found_interfaces = Interfaces::look_up(&config, &network).await?;
        let mut dataplane = Dataplane::open(&LoadOptions {
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
        if let Some(layout) = dataplane.migrated_from() {
            info!(layout, "the pinned maps have an older layout and are migrated");
        }
        // All that takes its time is done.
        let (legacy, going_on) = former.legacy(&config.node.socket).await?;
        let found = dataplane.found()?;
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
        let probes = probes::Probes::default();
        let (health, health_events) = health::Monitor::start(probes.ways.clone());
        let state_folder = Folder::new(&state::folder_of(config.node.state_dir.as_deref()));
        let history = History::new(state_folder.path());
        let GoingOn { started, events, observed, lasted, reloads, health_changes } =
            going_on.unwrap_or_else(|| GoingOn::new(Events::after(history.last().max(legacy.last_event))));
        let keeper = Keeper::start(state_folder).context("cannot start the thread that keeps the state")?;
        let (orders, left_warnings) = orders_of(legacy.orders, &keeper);
        let watching = Watching::start(dataplane.sightings()?, started_at);
        let mut daemon = Self {
            file,
            started,
            dataplane,
            engine,
            health,
            interfaces: Interfaces::new(&config.node.pins),
            probes,
            resolver: Resolver::new(),
            unreachable: BTreeMap::new(),
            reported: BTreeSet::new(),
            service_rates: Rates::default(),
            backend_rates: Rates::default(),
            service_arrivals: Arrivals::default(),
            backend_arrivals: Arrivals::default(),
            orders,
            floors: Floors::taking_over(legacy.services),
            claims: BTreeMap::new(),
            advert_addresses: BTreeSet::new(),
            looking: lookout::Looking::default(),
            vrrp: None,
            routes: Routes::new(host_routes),
            node_drained: false,
            quiet: Quiet::new(started_at),
            peers: peering::Peers::default(),
            keeper: Arc::new(keeper),
            file_doubt: None,
            warnings: Vec::new(),
            api_problem: None,
            keeping: Some(Keeping::begin(&history, events.subscribe(None))),
            events,
            history,
            lasted,
            observed,
            reloads,
            health_changes,
            watching,
            closely: Closely::new(started_at),
            tracking: tracking::Tracking::default(),
            network,
            foreign_sources: BTreeSet::new(),
            sharing: sharing::Sharing::default(),
            ticker: Ticker::new(tick, Duration::ZERO),
            first_tick: tick,
            started_at,
            budget: Budget::new(limits),
            settings: Settings {
                // As they were: a peer's packets must not pass for a client's, not for a moment.
                flags: found.settings.map_or(0, |settings| settings.flags & Settings::PEERS),
                tick,
                ..Settings::new(hash)
            },
            next_collection: started_at,
            next_connections: started_at,
            next_reading: started_at,
            config,
        };
        left_warnings.into_iter().for_each(|warning| daemon.warn(warning));
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
        let flags = daemon.settings.flags;
        daemon.settings = Settings { flags, ..daemon.configured_settings() };
        if !adopted {
            // Probes find them.
            daemon.write_settings();
        }
        daemon.open_probes().await;
        daemon.check_health(adopted, &legacy.checks);
        if !adopted {
            // Nothing is forwarded yet, so nothing is lost by waiting, and rings are filled once instead of backend by backend.
            daemon.wait_for_first_checks(network_events).await;
        }
        daemon.renew();
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
        daemon.dataplane.finish_take_over()?;
        daemon.probes.translates = true;
        daemon.point_probes();
        daemon.begin_learning().await;
        daemon.withhold_unlearnt();
        // Rings are published and backends checked: this node may be found.
        daemon.vrrp = Some(Task::start(daemon.dataplane.leases()?, daemon.dataplane.adverts()?)?);
        daemon.look_up_interfaces().await;
        daemon.set_up_routers();
        daemon.set_up_routes().await;
        daemon.report_problems();
        // If that fails, status says so.
        drop(daemon.keep_config());
        daemon.tell_changes();
        Ok((daemon, health_events))
    }

    /// Brings to the disk what waits to be kept there. From here on nothing is.
    async fn finish_state(&self) {
        if let Err(error) = self.keeper.finish().wait().await {
            warn!(%error, "the disk does not take what is to be kept");
        }
    }

    /// Brings the last events to the disk. From here on none are kept.
    async fn finish_history(&mut self) {
        if let Some(keeping) = self.keeping.take()
            && let Err(error) = keeping.finish().await
        {
            warn!(%error, "the last events are not kept");
        }
    }

    /// Has packets go elsewhere, while this node still forwards, which is first of all. Returns what to wait for before it ends. If it is told to end
    /// again meanwhile, there is nothing to wait for.
    async fn leave(&mut self, again: impl Future<Output = ()>) -> Leaving {
        let at_once = tokio::select! {
            _ = self.prepare_move() => false,
            () = again => true,
        };
        let routers = self.end_routers(true);
        let linger = self.withdraw_routes().await.unwrap_or_default();
        let mut leaving = Leaving::new(routers, now() + linger);
        if at_once {
            leaving.hurry();
        }
        leaving
    }

    async fn finish(self) {
        self.remove_route_devices().await;
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
                if let Err(error) = self.network.remove_probe_pair().await {
                    error!("{:#}", anyhow::Error::new(error));
                }
            }
        }
    }

    /// Brings the maps to what configuration, health, operator and network ask for.
    fn reconcile(&mut self) {
        self.decide();
        let desired = Desired::new(&self.config, self);
        let plan = self.engine.reconcile(&desired, self.ticker.tick());
        self.carry_out(plan);
        self.claims = desired.claims;
        self.advert_addresses = desired.adverts;
        self.withhold_unlearnt();
        self.want_vips();
        self.want_routes();
        self.note_node_drain();
        let settings = self.configured_settings();
        if settings != self.settings {
            self.settings = settings;
            self.write_settings();
        }
        self.point_probes();
    }

    /// The settings with all that configuration and peers decide.
    fn configured_settings(&self) -> Settings {
        let (first, last) = self.nat_ports();
        Settings {
            flags: self.flags(),
            patience: self.patience(),
            gue_port: self.config.node.gue_port,
            nat_first_port: first,
            nat_ports: last - first + 1,
            ..self.settings
        }
    }

    fn carry_out(&mut self, plan: Plan) {
        self.closely.is_stale = true;
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
        let ruling = self.orders.ruling(&OrderKey { service: *service, backend: backend.address });
        Standing::of(backend.state, ruling.map(|ruling| ruling.order.kind), health, backend.on_down)
    }

    fn health_changed(&mut self, events: &[HealthEvent]) {
        debug!(changes = events.len(), "health changed");
        self.reconcile();
        self.tell_changes();
    }
}

impl Daemon {
    /// Where a backend stands by itself, and whether it is wanted in service.
    fn stand(&self, service: &ServiceKey, backend: &model::Backend) -> (Standing, bool) {
        let health = target(service.vip, backend)
            .map(|target| self.health.state(&target).unwrap_or(health::State::Unknown));
        (self.standing_with(service, backend, health.as_ref()), self.is_wanted(service, backend))
    }
}

impl Facts for Daemon {
    fn standing(&self, service: &ServiceKey, backend: &model::Backend) -> Standing {
        let decided = self.floors.of(service, backend.address);
        decided.map_or_else(|| self.stand(service, backend).0, |decided| decided.standing)
    }

    fn share(&self, service: &ServiceKey, backend: IpAddr) -> u8 {
        self.floors.share(service, backend)
    }

    fn is_closed(&self, service: &ServiceKey) -> bool {
        self.floors.is_closed(service)
    }

    fn sampling(&self, service: &ServiceKey) -> u32 {
        self.sampling_of(service)
    }

    fn next_hop(&self, address: IpAddr) -> Option<&NextHop> {
        self.resolver.next_hop(address)
    }

    fn is_node_drained(&self) -> bool {
        self.orders.node().is_some()
    }

    fn is_of_host(&self, address: IpAddr) -> bool {
        !self.foreign_sources.contains(&address)
    }

    fn router_address(&self, vip: IpAddr) -> Option<IpAddr> {
        self.router_of(vip)?.source
    }
}

/// The orders that hold, and what could not be read: those that a predecessor knows, which the disk may not have, or those of the disk.
fn orders_of(known: Option<Orders>, keeper: &Keeper) -> (Orders, Vec<String>) {
    let found = keeper.found();
    match known {
        Some(orders) => {
            if orders != found.orders {
                // Nobody waits for that; if it fails, status says so.
                drop(keeper.keep_orders(orders.clone()));
            }
            (orders, Vec::new())
        }
        None => (found.orders, found.warnings),
    }
}

/// What the check of a VIP's backend probes; none if it has no check.
fn target(vip: IpAddr, backend: &model::Backend) -> Option<Target> {
    let check = backend.health.clone()?;
    let way = match (check.via, check.kind.name()) {
        // A command asks by itself, and no ping is translated.
        (model::Via::Direct, _) | (_, CheckName::Exec) => Way::Direct,
        (_, CheckName::Icmp) if backend.mode == model::ForwardMode::Nat => Way::Direct,
        (model::Via::Vip, _) => Way::Vip(vip, backend.mode),
    };
    Some(Target { address: backend.address, way, check })
}

#[expect(clippy::disallowed_methods, reason = "the daemon is the edge where the clock is read")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the daemon is the edge where the clock is read")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}
