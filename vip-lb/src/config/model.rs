//! What a valid configuration means. Nothing outside [`crate::config`] ever sees an unvalidated value.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use super::kinds::{duration, shown_duration};
pub use super::ports::{PortBlock, Ports};

/// Gives an enum its names in the configuration file, on the command line and in answers: the same everywhere.
macro_rules! named {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// Every value, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Their names, in the same order.
            pub const NAMES: &[&'static str] = &[$($name),+];

            /// The name in the configuration file.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                let known = Self::ALL.iter().find(|value| value.as_str() == text);
                known.copied().ok_or_else(|| UnknownName {
                    found: text.to_owned(),
                    allowed: Self::ALL.iter().map(|value| value.as_str()).collect(),
                })
            }
        }
    };
}

mod check;
mod floor;
mod peering;
mod route;
mod track;
mod vrrp;

pub use floor::{FloorPolicy, Least};
pub use peering::{DEFAULT_PEERING_PORT, Peering, Share};
pub use route::Route;
pub use track::{Track, TrackEffect, Tracked, TrackedCommand};
pub use vrrp::Vrrp;

pub use check::{
    CheckKind, CheckName, Dialogue, DnsCheck, DnsCode, DnsRecord, GrpcCheck, HealthCheck, HttpCheck,
    HttpMethod, Pattern, StartState, TlsCheck, Trust, Via,
};

/// A name that is none of an enum's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}, expected one of {}", allowed.join(", "))]
pub struct UnknownName {
    /// What was given.
    pub found: String,
    /// Every name that would do.
    pub allowed: Vec<&'static str>,
}

named!(AttachMode { Auto = "auto", Native = "native", Generic = "generic" });
named!(MetricsAccess { Token = "token", Open = "open" });
named!(NodeState { Enabled = "enabled", Drain = "drain" });
named!(Share { Orders = "orders", Flows = "flows" });
named!(OnExit { Keep = "keep", Unload = "unload" });
named!(Watch { Never = "never", Safe = "safe", Always = "always" });
named!(WatchdogAction { Forward = "forward", Pass = "pass" });
named!(Ownership { Always = "always", Vrrp = "vrrp", Route = "route" });
named!(Preempt { Higher = "higher", Never = "never" });
named!(Checksum { PseudoHeader = "pseudo_header", Plain = "plain" });
named!(UnknownService { Drop = "drop", Pass = "pass" });
named!(Protocol { Tcp = "tcp", Udp = "udp" });
named!(Affinity { Flow = "flow", Source = "source" });
named!(RingSize { Small = "16381", Medium = "65537", Large = "131071" });
named!(Passive { Off = "off", Observe = "observe", On = "on" });
named!(ForwardMode { L2 = "l2", Ipip = "ipip", Gue = "gue", Nat = "nat" });
named!(AdminState { Enabled = "enabled", Drain = "drain", Disabled = "disabled" });
named!(BelowMin { FailOpen = "fail_open", FailClosed = "fail_closed", Backup = "backup" });
named!(OnDown { Auto = "auto", Cut = "cut", Drain = "drain" });

/// Where programs, maps and links are pinned unless told otherwise.
pub const DEFAULT_PINS: &str = "/sys/fs/bpf/vip-lb";

/// IANA's port of GUE.
pub const DEFAULT_GUE_PORT: u16 = 6080;

/// A whole, valid configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This machine.
    pub node: Node,
    /// What is wanted of hosts as a whole; addresses are unique. Backends have it in their [`state`](Backend::state) already.
    pub hosts: Vec<Host>,
    /// The virtual IPs, in the order of the file; addresses are unique.
    pub vips: Vec<Vip>,
}

/// All backends at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The address.
    pub address: IpAddr,
    /// Whether they take new connections.
    pub state: AdminState,
}

/// What concerns this machine rather than a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Shown in status; defaults to the host name.
    pub name: String,
    /// Whether it is to be found at its VIPs.
    pub state: NodeState,
    /// Where the XDP program is attached; at least one, names unique.
    pub interfaces: Vec<Interface>,
    /// Keys the flow hash. All nodes of a VIP carry the same one.
    pub seed: HashSeed,
    /// Other vip-lb nodes (their addresses on the interfaces above). Packets they forwarded are not steered again.
    pub peers: Vec<IpAddr>,
    /// How this node speaks with its peers; not at all where absent.
    pub peering: Option<Peering>,
    /// Source of outer IPv4 headers; the route's own preferred source where absent.
    pub tunnel_source_v4: Option<Ipv4Addr>,
    /// Source of outer IPv6 headers; the route's own preferred source where absent.
    pub tunnel_source_v6: Option<Ipv6Addr>,
    /// UDP port that GUE packets go to, by default 6080 (IANA: gue).
    pub gue_port: u16,
    /// How translated packets leave this node.
    pub nat: Nat,
    /// What a stopping daemon leaves behind.
    pub on_exit: OnExit,
    /// What becomes of packets while there is no daemon.
    pub watchdog: Watchdog,
    /// Path of the control socket, by default `/run/vip-lb/control.sock`.
    pub socket: PathBuf,
    /// Where the API is served over TCP as well; nowhere where absent.
    pub api: Option<Api>,
    /// Folder of the pins on bpffs, by default `/sys/fs/bpf/vip-lb`.
    pub pins: PathBuf,
    /// Folder of what outlives the daemon; see [`state::folder_of`](crate::state::folder_of) for what holds where absent.
    pub state_dir: Option<PathBuf>,
    /// Whether the file is read again when it changes.
    pub watch: Watch,
    /// Sizes of the tables.
    pub tables: Tables,
}

/// Whether this node is to be found at its VIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// As their ownership says. The default.
    Enabled,
    /// It answers for none of them, announces none, and forwards what comes all the same.
    Drain,
}

/// The API over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// A loopback address and a port.
    pub listen: SocketAddr,
    /// File with the token that requests must carry.
    pub token_file: PathBuf,
    /// Who may read `/metrics` there.
    pub metrics: MetricsAccess,
}

/// Who may read the metrics over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MetricsAccess {
    /// Whoever has the token. The default.
    Token,
    /// Everybody on this host.
    Open,
}

/// One attachment point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Kernel name, as in `ip link`.
    pub name: String,
    /// Which attachment is acceptable.
    pub attach: AttachMode,
}

/// Which XDP mode is acceptable on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// Native if the driver can, else generic, saying so. The default.
    Auto,
    /// Native or an error.
    Native,
    /// Generic even where native would work.
    Generic,
}

/// 32 bytes of key material that the flow hash and the Maglev permutations are derived from.
///
/// Any text in the file is stretched to it, so that a pass phrase serves as well as hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct HashSeed(pub [u8; 32]);

impl fmt::Debug for HashSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashSeed(..)")
    }
}

/// What a stopping daemon leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnExit {
    /// Programs and maps stay pinned and forward on. The default.
    Keep,
    /// Detach and remove the pins.
    Unload,
}

/// What a change of the configuration file sets off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Watch {
    /// Nothing: it is read again when somebody says so. The default.
    Never,
    /// It is read again, if no connection is lost by that.
    Safe,
    /// It is read again.
    Always,
}

/// How translated packets leave this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    /// Their source where the backend is IPv4: an address of this host, or one that only this node's program answers for. The
    /// preferred source of the route where absent.
    pub source_v4: Option<Ipv4Addr>,
    /// The same where the backend is IPv6.
    pub source_v6: Option<Ipv6Addr>,
    /// First and last of the ports that translated connections have on this node; see [`Nat::ports_for`].
    pub ports: Option<(u16, u16)>,
}

impl Nat {
    /// Ports beside those that Linux gives its own connections (net.ipv4.ip_local_port_range is 32768 to 60999).
    pub const BESIDE_THE_HOST: (u16, u16) = (61_000, u16::MAX);
    /// Ports of an address that the host does not use.
    pub const OF_ITS_OWN: (u16, u16) = (1024, u16::MAX);

    /// The configured source of what goes to a backend.
    #[must_use]
    pub fn source(&self, backend: IpAddr) -> Option<IpAddr> {
        match backend {
            IpAddr::V4(_) => self.source_v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.source_v6.map(IpAddr::V6),
        }
    }

    /// First and last port. `shared` tells whether the host uses a source address, too.
    #[must_use]
    pub fn ports_for(&self, shared: bool) -> (u16, u16) {
        self.ports.unwrap_or(if shared { Self::BESIDE_THE_HOST } else { Self::OF_ITS_OWN })
    }
}

/// Entries of the tables, 1024 to 16777216 each. The flow tables only fill while slots are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// FLOWS, default 262144.
    pub flows: u32,
    /// NEWBORN, default 65536.
    pub newborn: u32,
    /// SURVIVORS, default 65536.
    pub survivors: u32,
    /// NAT_FLOWS and NAT_REPLIES, default 262144: the most translated connections at a time.
    pub nat: u32,
    /// FRAGMENTS, default 16384.
    pub fragments: u32,
}

impl Default for Tables {
    fn default() -> Self {
        Self { flows: 262_144, newborn: 65_536, survivors: 65_536, nat: 262_144, fragments: 16_384 }
    }
}

/// What the packet path does without a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// How long after the daemon's last sign of life.
    pub after: Duration,
    /// What happens then.
    pub action: WatchdogAction,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self { after: Duration::from_secs(30), action: WatchdogAction::Forward }
    }
}

/// What happens to packets to VIPs once the daemon has been silent for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WatchdogAction {
    /// They are forwarded on, by what the daemon knew last. The default.
    Forward,
    /// The host gets them, as if the program were not there.
    Pass,
}

/// A virtual IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// The address clients dial.
    pub address: IpAddr,
    /// Which node answers for it.
    pub ownership: Ownership,
    /// How nodes agree on that, where they do by VRRP.
    pub vrrp: Option<Vrrp>,
    /// How its route is published, where that is what leads packets here.
    pub route: Option<Route>,
    /// What happens to packets for ports that no service of this VIP has.
    pub unknown_service: UnknownService,
    /// Of the address on the interface, where it is put there; that of the address alone where absent. Only without services.
    pub prefix_length: Option<u8>,
    /// None where the address itself is put on an interface of its owner; (ports, protocol) unique within the VIP, ranges of a protocol without common ports.
    pub services: Vec<Service>,
}

impl Vip {
    /// Whether it has no services: the address itself is put on an interface of its owner, and what comes is the host's.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.services.is_empty()
    }

    /// Of the address on the interface.
    #[must_use]
    pub fn prefix_length(&self) -> u8 {
        self.prefix_length.unwrap_or(if self.address.is_ipv4() { 32 } else { 128 })
    }
}

/// Which node answers ARP, neighbour solicitations and echo for a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ownership {
    /// This one, for ever, also without a daemon.
    Always,
    /// The one that is active by VRRP.
    Vrrp,
    /// Every one that publishes a route to it, and none answers ARP and neighbour solicitations: routers choose.
    Route,
}

/// Whether a node takes the place of an active node of lower priority (RFC 9568 section 6.1, Preempt_Mode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preempt {
    /// If its own is higher. The default.
    Higher,
    /// It waits until that one stops.
    Never,
}

/// What is in the checksum of adverts over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// A pseudo-header as well, as keepalived and FRR have it. The default.
    PseudoHeader,
    /// The advert alone, as RFC 9568 section 5.2.8 says.
    Plain,
}

/// Fate of a packet to a VIP without a matching service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnknownService {
    /// Dropped, the default: passed on, it could loop.
    Drop,
    /// Handed to this host's stack.
    Pass,
}

/// VIP, port and protocol, and the servers behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Unique in the file.
    pub name: String,
    /// What clients dial: the port itself comes before a range, and a range before every port.
    pub ports: Ports,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// What keeps to one backend.
    pub affinity: Affinity,
    /// Size of the Maglev table.
    pub ring: RingSize,
    /// How long a flow may be silent and still be kept together with its backend; default 600 s TCP, 60 s UDP.
    pub idle_timeout: Duration,
    /// Largest segment size that SYNs may announce, in bytes (RFC 9293 section 3.7.1); TCP only.
    pub mss: Option<u16>,
    /// ICMP errors that each CPU steers in a second, and answers it sends to packets that are too big; default 100.
    pub icmp_rate: u16,
    /// In which time a backend that returns gets its whole weight; at once where zero, the default.
    pub slow_start: Duration,
    /// What becomes of it when backends fail their checks.
    pub floor: FloorPolicy,
    /// What is done about failures that its traffic shows; TCP only.
    pub passive: Passive,
    /// One of so many flows is looked at for that; as few or many as cost little where absent.
    pub passive_sample: Option<u16>,
    /// At least one; names and addresses unique within the service.
    pub backends: Vec<Backend>,
}

/// Transport protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Protocol number 6.
    Tcp,
    /// Protocol number 17.
    Udp,
}

impl Protocol {
    /// The number in the IPv4 and IPv6 headers (IANA protocol numbers).
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The `idle_timeout` of a service that gives none.
    pub const fn default_idle_timeout(self) -> Duration {
        match self {
            Self::Tcp => Duration::from_secs(600),
            Self::Udp => Duration::from_secs(60),
        }
    }
}

/// What keeps to one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// Each flow by itself. The default.
    Flow,
    /// All flows of one client address.
    Source,
}

/// What is done about failures that the traffic of a service shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Passive {
    /// Nothing is looked at. The default of UDP, which shows nothing.
    Off,
    /// They are told, and counted. The default of TCP.
    Observe,
    /// The checks look at the backend at once.
    On,
}

/// Size class of a Maglev table; each is a prime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RingSize {
    /// 16381 slots, the default; balances up to about 160 backends within 2 %.
    #[serde(rename = "16381")]
    Small,
    /// 65537 slots.
    #[serde(rename = "65537")]
    Medium,
    /// 131071 slots.
    #[serde(rename = "131071")]
    Large,
}

impl RingSize {
    /// How many slots the table has.
    pub const fn slots(self) -> u32 {
        match self {
            Self::Small => 16_381,
            Self::Medium => 65_537,
            Self::Large => 131_071,
        }
    }
}

/// A server of a service, with the service's defaults already applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Unique within its service.
    pub name: String,
    /// Its own address, not the VIP.
    pub address: IpAddr,
    /// Port that it listens on (nat only); the port that was dialled where absent.
    pub port: Option<NonZeroU16>,
    /// Share relative to the other backends of the service.
    pub weight: NonZeroU16,
    /// When it is used: the first tier as long as enough of its backends are healthy, the others after it; default 0.
    pub tier: u8,
    /// How packets reach it.
    pub mode: ForwardMode,
    /// Whether it takes new connections: the stricter of what it and its host are set to.
    pub state: AdminState,
    /// How it is found to be alive; `None` means always up.
    pub health: Option<HealthCheck>,
    /// What a failed check does to its connections.
    pub on_down: OnDown,
}

/// What happens when too few backends of a service are healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BelowMin {
    /// The first tier is used whatever its checks say, and all others that are healthy. The default.
    FailOpen,
    /// Nobody gets new connections.
    FailClosed,
    /// The last tier is used whatever its checks say, and all others that are healthy.
    Backup,
}

/// How packets reach a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForwardMode {
    /// Rewrite the MAC addresses; needs the same segment.
    L2,
    /// Encapsulate in an IPv4 or IPv6 header (RFC 2003, RFC 2473, RFC 4213).
    Ipip,
    /// Encapsulate in an IPv4 or IPv6 header and a UDP header (GUE variant 1, draft-ietf-intarea-gue-09 section 4).
    Gue,
    /// Translate addresses and ports of both sides (RFC 2663 section 4.4, RFC 7915 across families).
    Nat,
}

/// What the operator wants of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdminState {
    /// Takes its share. The default.
    Enabled,
    /// Keeps its connections, gets no new ones.
    Drain,
    /// Out at once; its connections are cut.
    Disabled,
}

/// What a failed health check does to the connections of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDown {
    /// Cut when it cannot be reached, drained when it answers but is unhealthy. The default.
    Auto,
    /// They move to other backends, which reset them.
    Cut,
    /// They stay until they end.
    Drain,
}
