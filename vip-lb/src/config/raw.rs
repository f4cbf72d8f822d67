//! The file as it is written: every field may be missing, nothing is checked against anything else.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    path::PathBuf,
    time::Duration,
};

use super::{
    decode::{At, Field, Fields, List},
    issue::{Issues, Place},
    kinds,
    model::{
        AdminState, Affinity, AttachMode, BelowMin, ForwardMode, Least, MetricsAccess, NodeState, OnDown,
        OnExit, Ownership, Passive, Ports, Protocol, RingSize, Share, UnknownService, Watch, WatchdogAction,
    },
    sketch::{Drawn, Sketch},
    tree::{Node, Value},
};

mod check;
mod route;
mod track;
mod vrrp;

pub(super) use check::{RawCheck, RawHealth};
pub(super) use route::RawRoute;
pub(super) use track::RawTrack;
pub(super) use vrrp::RawVrrp;

const NODE: &str = "a mapping that describes this machine, with at least interfaces and seed";
const INTERFACE: &str = "the name of an interface or a mapping with name and attach";
const INTERFACES: List = List::not_empty("a list of at least one interface, such as [eth0]");
const PEERS: List = List::any("a list of addresses of other nodes");
const SHARE: List = List::any("a list of what is shared, such as [orders]");
const HOSTS: List = List::any("a list of addresses of backends, each with a state");
const VIPS: List = List::any("a list of virtual IPs");
/// VIPs without services are told from mistakes where ownership is known.
const SERVICES: List = List::any(SERVICES_EXPECTED);
pub(super) const SERVICES_EXPECTED: &str = "a list of at least one service";
const BACKENDS: List = List::not_empty("a list of at least one backend");
pub(super) struct RawConfig {
    pub(super) node: Field<RawNode>,
    pub(super) hosts: Field<Vec<RawHost>>,
    pub(super) vips: Field<Vec<RawVip>>,
}

pub(super) struct RawNode {
    pub(super) name: Field<String>,
    pub(super) state: Field<NodeState>,
    pub(super) interfaces: Field<Vec<RawInterface>>,
    pub(super) seed: Field<String>,
    pub(super) peers: Field<Vec<At<IpAddr>>>,
    pub(super) peering: Field<RawPeering>,
    pub(super) tunnel_source_v4: Field<Ipv4Addr>,
    pub(super) tunnel_source_v6: Field<Ipv6Addr>,
    pub(super) gue_port: Field<u16>,
    pub(super) nat: Field<RawNat>,
    pub(super) on_exit: Field<OnExit>,
    pub(super) watchdog: Field<RawWatchdog>,
    pub(super) socket: Field<PathBuf>,
    pub(super) api: Field<RawApi>,
    pub(super) pins: Field<PathBuf>,
    pub(super) state_dir: Field<PathBuf>,
    pub(super) watch: Field<Watch>,
    pub(super) tables: Field<RawTables>,
}

pub(super) struct RawApi {
    pub(super) listen: Field<SocketAddr>,
    pub(super) token_file: Field<PathBuf>,
    pub(super) metrics: Field<MetricsAccess>,
}

pub(super) struct RawPeering {
    pub(super) secret_file: Field<PathBuf>,
    pub(super) port: Field<u16>,
    pub(super) listen: Field<IpAddr>,
    pub(super) share: Field<Vec<At<Share>>>,
}

pub(super) struct RawInterface {
    pub(super) name: Field<String>,
    pub(super) attach: Field<AttachMode>,
}

pub(super) struct RawNat {
    pub(super) source_v4: Field<Ipv4Addr>,
    pub(super) source_v6: Field<Ipv6Addr>,
    pub(super) ports: Field<(u16, u16)>,
}

pub(super) struct RawWatchdog {
    pub(super) after: Field<Duration>,
    pub(super) action: Field<WatchdogAction>,
}

pub(super) struct RawTables {
    pub(super) flows: Field<u32>,
    pub(super) newborn: Field<u32>,
    pub(super) survivors: Field<u32>,
    pub(super) nat: Field<u32>,
    pub(super) fragments: Field<u32>,
}

pub(super) struct RawHost {
    pub(super) address: Field<IpAddr>,
    pub(super) state: Field<AdminState>,
}

pub(super) struct RawVip {
    pub(super) place: Place,
    pub(super) address: Field<IpAddr>,
    pub(super) ownership: Field<Ownership>,
    pub(super) vrrp: Field<RawVrrp>,
    pub(super) route: Field<RawRoute>,
    pub(super) unknown_service: Field<UnknownService>,
    pub(super) prefix_length: Field<u8>,
    pub(super) services: Field<Vec<RawService>>,
}

pub(super) struct RawService {
    pub(super) place: Place,
    pub(super) name: Field<String>,
    pub(super) port: Field<Ports>,
    pub(super) protocol: Field<Protocol>,
    pub(super) affinity: Field<Affinity>,
    pub(super) ring: Field<RingSize>,
    pub(super) idle_timeout: Field<Duration>,
    pub(super) mss: Field<u16>,
    pub(super) icmp_rate: Field<u16>,
    pub(super) min_healthy: Field<Least>,
    pub(super) below_min: Field<BelowMin>,
    pub(super) max_removed: Field<u8>,
    pub(super) slow_start: Field<Duration>,
    pub(super) passive: Field<Passive>,
    pub(super) passive_sample: Field<u16>,
    pub(super) defaults: RawDefaults,
    pub(super) backends: Field<Vec<RawBackend>>,
}

/// What a service gives for all its backends, or a backend for itself.
pub(super) struct RawDefaults {
    pub(super) mode: Field<ForwardMode>,
    pub(super) health: Field<RawHealth>,
    pub(super) on_down: Field<OnDown>,
}

pub(super) struct RawBackend {
    pub(super) name: Field<String>,
    pub(super) address: Field<IpAddr>,
    pub(super) port: Field<NonZeroU16>,
    pub(super) weight: Field<NonZeroU16>,
    pub(super) state: Field<AdminState>,
    pub(super) tier: Field<u8>,
    pub(super) overrides: RawDefaults,
}

/// The shape of the file: what [`decode`] asks for.
pub(super) fn sketch() -> Vec<Drawn> {
    let mut issues = Issues::sketching();
    drop(decode(&Node::nothing(), &mut issues));
    issues.sketch().map(Sketch::leave).unwrap_or_default()
}

/// Reads the whole file. `None` if it is not even a mapping.
pub(super) fn decode(root: &Node, issues: &mut Issues) -> Option<RawConfig> {
    let place = Place { at: Some(root.at), key: String::new() };
    const KEYS: &[&str] = &["node", "hosts", "vips"];
    let fields = Fields::open(root, place, KEYS, "a mapping with the keys node, vips", issues)?;
    let node = fields.with("node", issues, node);
    Some(RawConfig {
        node: fields.demand(node, "node", NODE, issues),
        hosts: fields.list("hosts", &HOSTS, issues, host),
        vips: fields.required_list("vips", &VIPS, issues, vip),
    })
}

fn node(node: &Node, place: Place, issues: &mut Issues) -> Option<RawNode> {
    const KEYS: &[&str] = &[
        "name",
        "state",
        "interfaces",
        "seed",
        "peers",
        "peering",
        "tunnel_source_v4",
        "tunnel_source_v6",
        "gue_port",
        "nat",
        "on_exit",
        "watchdog",
        "socket",
        "api",
        "pins",
        "state_dir",
        "watch",
        "tables",
    ];
    let fields = Fields::open(node, place, KEYS, NODE, issues)?;
    Some(RawNode {
        name: fields.optional("name", &kinds::NODE_NAME, issues),
        state: fields.optional("state", &kinds::NODE_STATE, issues),
        interfaces: fields.required_list("interfaces", &INTERFACES, issues, interface),
        seed: fields.required("seed", &kinds::SEED, issues),
        peers: fields
            .list("peers", &PEERS, issues, |node, place, issues| kinds::ADDRESS.decode(node, place, issues)),
        peering: fields.with("peering", issues, peering),
        tunnel_source_v4: fields.optional("tunnel_source_v4", &kinds::ADDRESS_V4, issues),
        tunnel_source_v6: fields.optional("tunnel_source_v6", &kinds::ADDRESS_V6, issues),
        gue_port: fields.optional("gue_port", &kinds::PORT, issues),
        nat: fields.with("nat", issues, nat),
        on_exit: fields.optional("on_exit", &kinds::ON_EXIT, issues),
        watchdog: fields.with("watchdog", issues, watchdog),
        socket: fields.optional("socket", &kinds::SOCKET, issues),
        api: fields.with("api", issues, api),
        pins: fields.optional("pins", &kinds::PINS, issues),
        state_dir: fields.optional("state_dir", &kinds::STATE_DIR, issues),
        watch: fields.optional("watch", &kinds::WATCH, issues),
        tables: fields.with("tables", issues, tables),
    })
}

/// An interface is its name, or a mapping where more than the name is to be said.
fn interface(node: &Node, place: Place, issues: &mut Issues) -> Option<RawInterface> {
    if issues.sketch().is_some() {
        kinds::INTERFACE.decode(node, place.clone(), issues);
    } else if !matches!(node.value, Value::Map(_)) {
        let name = kinds::INTERFACE.decode(node, place, issues)?;
        return Some(RawInterface { name: Field::Given(name), attach: Field::Absent });
    }
    let fields = Fields::open(node, place, &["name", "attach"], INTERFACE, issues)?;
    Some(RawInterface {
        name: fields.required("name", &kinds::INTERFACE, issues),
        attach: fields.optional("attach", &kinds::ATTACH, issues),
    })
}

fn api(node: &Node, place: Place, issues: &mut Issues) -> Option<RawApi> {
    let keys = &["listen", "token_file", "metrics"];
    let fields = Fields::open(node, place, keys, "a mapping with at least listen and token_file", issues)?;
    Some(RawApi {
        listen: fields.required("listen", &kinds::LISTEN, issues),
        token_file: fields.required("token_file", &kinds::TOKEN_FILE, issues),
        metrics: fields.optional("metrics", &kinds::METRICS_ACCESS, issues),
    })
}

fn peering(node: &Node, place: Place, issues: &mut Issues) -> Option<RawPeering> {
    let keys = &["secret_file", "port", "listen", "share"];
    let fields = Fields::open(node, place, keys, "a mapping with at least secret_file", issues)?;
    Some(RawPeering {
        secret_file: fields.required("secret_file", &kinds::SECRET_FILE, issues),
        port: fields.optional("port", &kinds::PORT, issues),
        listen: fields.optional("listen", &kinds::ADDRESS, issues),
        share: fields
            .list("share", &SHARE, issues, |node, place, issues| kinds::SHARE.decode(node, place, issues)),
    })
}

fn nat(node: &Node, place: Place, issues: &mut Issues) -> Option<RawNat> {
    let keys = &["source_v4", "source_v6", "ports"];
    let fields = Fields::open(
        node,
        place,
        keys,
        "a mapping with any of the keys source_v4, source_v6, ports",
        issues,
    )?;
    Some(RawNat {
        source_v4: fields.optional("source_v4", &kinds::ADDRESS_V4, issues),
        source_v6: fields.optional("source_v6", &kinds::ADDRESS_V6, issues),
        ports: fields.optional("ports", &kinds::PORT_RANGE, issues),
    })
}

fn watchdog(node: &Node, place: Place, issues: &mut Issues) -> Option<RawWatchdog> {
    let expected = "a mapping with any of the keys after, action";
    let fields = Fields::open(node, place, &["after", "action"], expected, issues)?;
    Some(RawWatchdog {
        after: fields.optional("after", &kinds::WATCHDOG_AFTER, issues),
        action: fields.optional("action", &kinds::WATCHDOG_ACTION, issues),
    })
}

fn tables(node: &Node, place: Place, issues: &mut Issues) -> Option<RawTables> {
    let keys = &["flows", "newborn", "survivors", "nat", "fragments"];
    let expected = "a mapping with any of the keys flows, newborn, survivors, nat, fragments";
    let fields = Fields::open(node, place, keys, expected, issues)?;
    Some(RawTables {
        flows: fields.optional("flows", &kinds::TABLE, issues),
        newborn: fields.optional("newborn", &kinds::TABLE, issues),
        survivors: fields.optional("survivors", &kinds::TABLE, issues),
        nat: fields.optional("nat", &kinds::TABLE, issues),
        fragments: fields.optional("fragments", &kinds::TABLE, issues),
    })
}

fn host(node: &Node, place: Place, issues: &mut Issues) -> Option<RawHost> {
    let keys = &["address", "state"];
    let fields = Fields::open(node, place, keys, "a mapping with address and state", issues)?;
    Some(RawHost {
        address: fields.required("address", &kinds::ADDRESS, issues),
        state: fields.required("state", &kinds::STATE, issues),
    })
}

fn vip(node: &Node, place: Place, issues: &mut Issues) -> Option<RawVip> {
    const KEYS: &[&str] =
        &["address", "ownership", "vrrp", "route", "unknown_service", "prefix_length", "services"];
    let expected = "a mapping with at least address and services";
    let fields = Fields::open(node, place.clone(), KEYS, expected, issues)?;
    Some(RawVip {
        place,
        address: fields.required("address", &kinds::ADDRESS, issues),
        ownership: fields.optional("ownership", &kinds::OWNERSHIP, issues),
        vrrp: fields.with("vrrp", issues, vrrp::vrrp),
        route: fields.with("route", issues, route::route),
        unknown_service: fields.optional("unknown_service", &kinds::UNKNOWN_SERVICE, issues),
        prefix_length: fields.optional("prefix_length", &kinds::PREFIX_LENGTH, issues),
        services: fields.list("services", &SERVICES, issues, service),
    })
}

fn service(node: &Node, place: Place, issues: &mut Issues) -> Option<RawService> {
    const KEYS: &[&str] = &[
        "name",
        "port",
        "protocol",
        "mode",
        "affinity",
        "ring",
        "idle_timeout",
        "mss",
        "icmp_rate",
        "min_healthy",
        "below_min",
        "max_removed",
        "slow_start",
        "passive",
        "passive_sample",
        "on_down",
        "health",
        "backends",
    ];
    let fields =
        Fields::open(node, place.clone(), KEYS, "a mapping with at least name, port and backends", issues)?;
    Some(RawService {
        place,
        name: fields.required("name", &kinds::NAME, issues),
        port: fields.required("port", &kinds::SERVICE_PORT, issues),
        protocol: fields.optional("protocol", &kinds::PROTOCOL, issues),
        affinity: fields.optional("affinity", &kinds::AFFINITY, issues),
        ring: fields.optional("ring", &kinds::RING, issues),
        idle_timeout: fields.optional("idle_timeout", &kinds::IDLE_TIMEOUT, issues),
        mss: fields.optional("mss", &kinds::MSS, issues),
        icmp_rate: fields.optional("icmp_rate", &kinds::ICMP_RATE, issues),
        min_healthy: fields.optional("min_healthy", &kinds::MIN_HEALTHY, issues),
        below_min: fields.optional("below_min", &kinds::BELOW_MIN, issues),
        max_removed: fields.optional("max_removed", &kinds::MAX_REMOVED, issues),
        slow_start: fields.optional("slow_start", &kinds::SLOW_START, issues),
        passive: fields.optional("passive", &kinds::PASSIVE, issues),
        passive_sample: fields.optional("passive_sample", &kinds::PASSIVE_SAMPLE, issues),
        defaults: defaults(&fields, issues),
        backends: fields.required_list("backends", &BACKENDS, issues, backend),
    })
}

fn backend(node: &Node, place: Place, issues: &mut Issues) -> Option<RawBackend> {
    const KEYS: &[&str] =
        &["name", "address", "port", "weight", "state", "tier", "mode", "health", "on_down"];
    let fields = Fields::open(node, place, KEYS, "a mapping with at least name and address", issues)?;
    Some(RawBackend {
        name: fields.required("name", &kinds::NAME, issues),
        address: fields.required("address", &kinds::ADDRESS, issues),
        port: fields.optional("port", &kinds::BACKEND_PORT, issues),
        weight: fields.optional("weight", &kinds::WEIGHT, issues),
        state: fields.optional("state", &kinds::STATE, issues),
        tier: fields.optional("tier", &kinds::TIER, issues),
        overrides: defaults(&fields, issues),
    })
}

fn defaults(fields: &Fields<'_>, issues: &mut Issues) -> RawDefaults {
    RawDefaults {
        mode: fields.optional("mode", &kinds::MODE, issues),
        health: fields.with("health", issues, check::health),
        on_down: fields.optional("on_down", &kinds::ON_DOWN, issues),
    }
}
