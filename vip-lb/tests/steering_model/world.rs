//! All that a history is about: tables, servers, clients, the daemon's state, two clocks.

use vip_lb::steering::{Budget, Limits, ServiceRing, Start, Timeouts, Told};
use vip_lb_common::{
    HashKey,
    abi::{Address, Backend, BackendRef, Mode, PortEntry, RingClass, ServiceRef, Settings, Slot, Vip},
    hash::mix,
    memory::MemoryTables,
};

use crate::{
    Defect, Kind, Stats, Subject,
    clients::Conn,
    frames::{PORT, VIP},
    spare::Node,
    tables::ModelTables,
};

pub(crate) const SLOTS: usize = 5;
pub(crate) const SERVICE: u16 = 1;
pub(crate) const TIMEOUTS: Timeouts = Timeouts { idle: 14, closing: 5, newborn: 5 };
const LIMITS: Limits = Limits { flows: 64, newborn: 32, survivors: 32, cpus: 1 };
const BACKENDS: u16 = 5;
const MOST_CLIENTS: u64 = 10;

/// SplitMix64: a history is a seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0) % bound
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// What the operator and the health checks say of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerState {
    Up,
    Draining,
    Dead,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) generation: u16,
    pub(crate) weight: u16,
    pub(crate) state: ServerState,
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) kind: Kind,
    pub(crate) defect: Option<Defect>,
    pub(crate) tables: ModelTables,
    pub(crate) servers: Vec<Server>,
    pub(crate) ring: ServiceRing,
    pub(crate) budget: Budget,
    /// What the other node was told, or has told.
    pub(crate) told: Told,
    /// The node that has no traffic, if there are two.
    pub(crate) spare: Option<Node>,
    /// Nobody sends: the spare node does something.
    pub(crate) quiet: bool,
    /// Seconds of real time.
    pub(crate) second: u32,
    pub(crate) tick: u32,
    /// The daemon stands still until this second.
    pub(crate) paused_until: u32,
    pub(crate) flood_until: u32,
    /// The history is over: no more packets, no more restarts.
    pub(crate) over: bool,
    pub(crate) conns: Vec<Option<Conn>>,
    /// The port that each client dials from.
    pub(crate) ports: Vec<u16>,
    pub(crate) violations: Vec<String>,
    pub(crate) stats: Stats,
    /// Everything that happened, if it is to be told.
    pub(crate) story: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, Subject { kind, nodes, defect }: Subject, tell: bool) -> Self {
        let tables = Self::empty_tables(kind, nodes, defect);
        let servers = (0..=BACKENDS)
            .map(|index| Server {
                generation: 1,
                weight: 1,
                state: if (1..=3).contains(&index) { ServerState::Up } else { ServerState::Dead },
            })
            .collect();
        let mut world = Self {
            random: Random(mix(seed)),
            kind,
            defect,
            tables,
            servers,
            ring: ServiceRing::new(SLOTS, kind.start(), TIMEOUTS),
            budget: Budget::new(LIMITS),
            told: Told::default(),
            spare: None,
            quiet: false,
            second: 1,
            tick: 1,
            paused_until: 0,
            flood_until: 0,
            over: false,
            conns: Vec::new(),
            ports: Vec::new(),
            violations: Vec::new(),
            stats: Stats::default(),
            story: tell.then(Vec::new),
        };
        for index in 1..=BACKENDS {
            world.write_backend(index);
        }
        world.retarget();
        let clients = 2 + world.random.below(MOST_CLIENTS - 1);
        world.conns = vec![None; clients as usize];
        world.ports = vec![40_000; clients as usize];
        if nodes == 2 {
            world.add_spare();
        }
        world
    }

    /// Tables of a node that knows nothing yet.
    pub(crate) fn empty_tables(kind: Kind, nodes: usize, defect: Option<Defect>) -> ModelTables {
        let mut inner = MemoryTables {
            flows_capacity: LIMITS.flows as usize,
            settings: Some(Settings {
                tick: 1,
                fresh_until: u32::MAX,
                ..Settings::new(HashKey::from_seed(&[7; 32]))
            }),
            ..MemoryTables::default()
        };
        let mut vip = Vip { id: 1, ..Vip::default() };
        vip.services[0] = PortEntry {
            port: PORT,
            protocol: if kind == Kind::Udp { 17 } else { 6 },
            reserved: 0,
            service: ServiceRef {
                id: SERVICE,
                ring_class: RingClass::Small as u8,
                flags: if kind == Kind::Source { ServiceRef::SOURCE_AFFINITY } else { 0 },
            },
        };
        inner.vips.insert(Address::from(std::net::IpAddr::from(VIP)), vip);
        inner.rings.insert(SERVICE, vec![Slot::default(); SLOTS].into());
        // Nodes that share have room for what the other one recorded, too.
        ModelTables::new(inner, SLOTS as u32, nodes * LIMITS.newborn as usize, defect)
    }

    pub(crate) fn limits() -> Limits {
        LIMITS
    }

    pub(crate) fn tell(&mut self, what: impl FnOnce() -> String) {
        let (second, tick) = (self.second, self.tick);
        if let Some(story) = &mut self.story {
            story.push(format!("{second:>4} [{tick}] {}", what()));
        }
    }

    pub(crate) fn violation(&mut self, what: &str) {
        self.tell(|| format!("VIOLATION {what}"));
        self.violations.push(format!("second {}: {what}", self.second));
    }

    /// Publishes what is known of a server, at all nodes.
    pub(crate) fn write_backend(&mut self, index: u16) {
        let server = self.servers[index as usize];
        let mode = if server.state == ServerState::Dead { Mode::Dead } else { Mode::L2 };
        let backend = Backend {
            generation: server.generation,
            mode: mode as u8,
            mtu: 1500,
            service: SERVICE,
            ..Backend::default()
        };
        self.tables.inner.backends.insert(index, backend);
        if let Some(spare) = &mut self.spare {
            spare.write_backend(index, backend);
        }
    }

    pub(crate) fn reference(&self, index: u16) -> BackendRef {
        BackendRef { index, generation: self.servers[index as usize].generation }
    }

    pub(crate) fn is_alive(&self, backend: BackendRef) -> bool {
        let server = self.servers[backend.index as usize];
        server.generation == backend.generation && server.state != ServerState::Dead
    }
}

impl Kind {
    pub(crate) fn start(self) -> Start {
        match self {
            Self::Tcp => Start::Visible,
            Self::Udp | Self::Source => Start::Hidden,
        }
    }
}
