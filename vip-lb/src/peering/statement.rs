//! What a node says of itself, so that others can tell whether they and it do the same.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::{channel, secret::Secret};
use crate::{
    config::model::{
        Affinity, Backend, FloorPolicy, HashSeed, HealthCheck, RingSize, Service, Vip, shown_duration,
    },
    control::desired::ServiceKey,
    steering::identity,
};

/// Most backends that are stated one by one, those of all services together; of more there is only their digest.
const LISTED: usize = 4096;
/// Most bytes of a statement: beside it a message has its number and its kind.
const ROOM: usize = channel::LARGEST - 100;
/// How long the rings of two nodes may differ because one hears of a backend later than the other, beside what checks take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statement {
    /// Its name.
    pub node: String,
    /// The release that it runs.
    pub version: String,
    /// When its daemon started, Unix seconds.
    pub started: u64,
    /// The seed as it shows with the common secret alone: nobody else can try seeds on it.
    pub seed: String,
    /// Its VIPs.
    pub vips: BTreeMap<IpAddr, VipStatement>,
    /// Its services.
    pub services: Vec<ServiceStatement>,
    /// Its virtual routers.
    pub routers: Vec<RouterStatement>,
    /// What stands for what has no room in a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

/// What stands for parts of a statement that say nothing themselves: digests of all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Of the services, as they are configured.
    pub services: String,
    /// Of their rings.
    pub rings: String,
    /// Of the settings of VIPs; absent if they are stated one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vips: Option<String>,
}

/// A VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VipStatement {
    /// What must be the same on all nodes, by the keys of the configuration.
    pub settings: BTreeMap<String, String>,
    /// Whether the node answers for it.
    pub answers: bool,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatement {
    /// What clients dial.
    #[serde(flatten)]
    pub key: ServiceKey,
    /// Its name there.
    #[serde(default)]
    pub name: String,
    /// What must be the same on all nodes, by the keys of the configuration; what is as usual is not mentioned.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// What must be the same of its backends.
    #[serde(default)]
    pub backends: String,
    /// Who gets new connections, slot by slot.
    #[serde(default)]
    pub ring: String,
    /// Slots that still remember an earlier backend.
    #[serde(default)]
    pub open: u32,
    /// Its backends one by one; none of a node that has too many.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub listed: BTreeMap<IpAddr, Listed>,
    /// For how long two nodes that do the same may have other backends in its ring. Known of this node's own alone.
    #[serde(skip)]
    pub patience: Duration,
    /// For how long they may have other shares of the same backends, likewise.
    #[serde(skip)]
    pub share_patience: Duration,
}

/// A backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listed {
    /// Stands for its configuration.
    pub configuration: u32,
    /// Its slots in the ring.
    pub slots: u32,
    /// Its name on this node, for this node.
    #[serde(skip)]
    pub name: String,
}

/// A virtual router (VRRP).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterStatement {
    /// Its identifier.
    pub id: u8,
    /// Its addresses.
    pub vips: Vec<IpAddr>,
    /// From which address the node's adverts come; absent without a link.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// Whether it is active there.
    #[serde(default)]
    pub active: bool,
    /// What keeps the node from taking over, a lower-case phrase; absent if it would.
    #[serde(default)]
    pub hindrance: Option<String>,
}

/// The ring of a service, as it counts for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RingFacts {
    /// Its digest.
    pub digest: String,
    /// Slots by the address of their backend.
    pub slots: BTreeMap<IpAddr, u32>,
    /// Open ones.
    pub open: u32,
}

impl RingFacts {
    /// Of slots that name backends by their [identity](fn@identity), in their order; 0 where there is none. Which addresses these are, `backends` tell.
    #[must_use]
    pub fn new(key: &ServiceKey, slots: &[u64], open: u32, backends: impl Iterator<Item = IpAddr>) -> Self {
        let mut digest = Digest::new("ring");
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        let mut bytes = Vec::with_capacity(slots.len() * 8);
        for slot in slots {
            bytes.extend_from_slice(&slot.to_be_bytes());
            *counts.entry(*slot).or_default() += 1;
        }
        digest.add(&bytes);
        let slots = backends.filter_map(|address| {
            let identity = identity(key.vip, key.ports, key.protocol.number(), address);
            Some((address, *counts.get(&identity)?))
        });
        Self { digest: digest.hex(), slots: slots.collect(), open }
    }
}

/// A seed as it is stated.
#[must_use]
pub fn seed(secret: &Secret, seed: &HashSeed) -> String {
    let signed = secret.sign("vip-lb peering 1: the seed", &[&seed.0]);
    signed.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// What must be the same of a VIP on all nodes.
#[must_use]
pub fn vip_settings(vip: &Vip) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut say = |key: &str, value: String| settings.insert(key.to_owned(), value);
    say("ownership", vip.ownership.to_string());
    say("unknown_service", vip.unknown_service.to_string());
    if vip.is_plain() {
        say("prefix_length", vip.prefix_length().to_string());
    }
    if let Some(vrrp) = &vip.vrrp {
        say("vrrp.router_id", vrrp.router_id.to_string());
        say("vrrp.interval", format!("{}ms", vrrp.interval.duration().as_millis()));
        say("vrrp.group", vrrp.group.clone().unwrap_or_else(|| "none".to_owned()));
    }
    settings
}

/// What is to be said of a service, as far as its configuration goes.
#[must_use]
pub fn service(key: ServiceKey, service: &Service) -> ServiceStatement {
    let mut settings = BTreeMap::new();
    let mut say = |key: &str, value: String, usual: &str| {
        if value != usual {
            settings.insert(key.to_owned(), value);
        }
    };
    let usual = FloorPolicy::default();
    say("affinity", service.affinity.to_string(), Affinity::Flow.as_str());
    say("ring", service.ring.to_string(), RingSize::Small.as_str());
    let usual_timeout = shown_duration(service.protocol.default_idle_timeout());
    say("idle_timeout", shown_duration(service.idle_timeout), &usual_timeout);
    say("min_healthy", service.floor.min_healthy.to_string(), &usual.min_healthy.to_string());
    say("below_min", service.floor.below_min.to_string(), usual.below_min.as_str());
    let percent = |of: &FloorPolicy| format!("{}%", of.max_removed_percent);
    say("max_removed", percent(&service.floor), &percent(&usual));
    say("slow_start", shown_duration(service.slow_start), &shown_duration(Duration::ZERO));
    say("mss", service.mss.map_or_else(String::new, |mss| mss.to_string()), "");
    let mut listed: BTreeMap<IpAddr, Listed> = BTreeMap::new();
    let mut whole = Digest::new("backends");
    let mut backends: Vec<&Backend> = service.backends.iter().collect();
    backends.sort_by_key(|backend| backend.address);
    for backend in backends {
        let text = backend_text(backend);
        whole.add(text.as_bytes());
        let mut own = Digest::new("backend");
        own.add(text.as_bytes());
        let stated = Listed { configuration: own.number(), slots: 0, name: backend.name.clone() };
        listed.insert(backend.address, stated);
    }
    // It may have passed or failed just before it was asked by the one node, and just after it was by the other.
    let checks = service.backends.iter().filter_map(|backend| backend.health.as_ref());
    let slowest_check = checks.map(|check| check.interval + check.timeout).max().unwrap_or_default();
    ServiceStatement {
        key,
        name: service.name.clone(),
        settings,
        backends: whole.hex(),
        ring: String::new(),
        open: 0,
        listed,
        patience: PATIENCE + slowest_check,
        share_patience: PATIENCE + slowest_check + service.slow_start,
    }
}

impl ServiceStatement {
    /// The same with what its ring is.
    #[must_use]
    pub fn with_ring(mut self, ring: &RingFacts) -> Self {
        self.ring.clone_from(&ring.digest);
        self.open = ring.open;
        for (address, listed) in &mut self.listed {
            listed.slots = ring.slots.get(address).copied().unwrap_or(0);
        }
        self
    }
}

impl Statement {
    /// Whether another one says the same but for open slots, which change all the time.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let Self { node, version, started, seed, vips, services, routers, summary } = self;
        let but_open = |of: &ServiceStatement, other: &ServiceStatement| {
            let of = (of.key, &of.name, &of.settings, &of.backends, &of.ring, &of.listed);
            of == (other.key, &other.name, &other.settings, &other.backends, &other.ring, &other.listed)
        };
        (node, version, started, seed) == (&other.node, &other.version, &other.started, &other.seed)
            && (vips, routers, summary) == (&other.vips, &other.routers, &other.summary)
            && services.len() == other.services.len()
            && services.iter().zip(&other.services).all(|(of, other)| but_open(of, other))
    }

    /// The same as it fits into a message: of more services than have room there is only a summary, and likewise of VIPs. In the utmost case nothing is said
    /// of virtual routers.
    #[must_use]
    pub fn fitting(&self) -> Self {
        let mut told = self.clone();
        if told.fits() {
            return told;
        }
        told.services.clear();
        told.summary = Some(self.summary());
        if !told.fits() {
            told.vips.values_mut().for_each(|vip| vip.settings.clear());
            told.summary = Some(Summary { vips: Some(self.vips_digest()), ..self.summary() });
        }
        if !told.fits() {
            told.routers.clear();
        }
        told
    }

    fn fits(&self) -> bool {
        serde_json::to_vec(self).is_ok_and(|text| text.len() <= ROOM)
    }

    /// What stands for all services.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let [mut configured, mut rings] = ["services", "rings"].map(Digest::new);
        let mut services: Vec<_> = self.services.iter().collect();
        services.sort_by_key(|service| service.key);
        for ServiceStatement { key, settings, backends, ring, .. } in services {
            let key = format!("{} {} {}", key.vip, key.ports, key.protocol);
            for part in [&key, &format!("{settings:?}"), backends] {
                configured.add(part.as_bytes());
            }
            rings.add(key.as_bytes());
            rings.add(ring.as_bytes());
        }
        Summary { services: configured.hex(), rings: rings.hex(), vips: None }
    }

    /// What stands for the settings of all VIPs.
    #[must_use]
    pub fn vips_digest(&self) -> String {
        let mut digest = Digest::new("vips");
        for (vip, VipStatement { settings, .. }) in &self.vips {
            digest.add(format!("{vip} {settings:?}").as_bytes());
        }
        digest.hex()
    }

    /// The router of a VIP.
    #[must_use]
    pub fn router_of(&self, vip: IpAddr) -> Option<&RouterStatement> {
        self.routers.iter().find(|router| router.vips.contains(&vip))
    }
}

/// Services with backends one by one as far as a statement lists them.
#[must_use]
pub fn listing(mut services: Vec<ServiceStatement>) -> Vec<ServiceStatement> {
    let mut left = LISTED;
    for service in &mut services {
        match left.checked_sub(service.listed.len()) {
            Some(rest) => left = rest,
            None => service.listed.clear(),
        }
    }
    services
}

/// What of a backend makes a difference to where packets go. Of its check that is how and how often it is asked; what is asked for may have to
/// be said in another way on each node (a command, a certificate).
fn backend_text(backend: &Backend) -> String {
    // Names are for people, and may differ.
    let Backend { name: _, address, port, weight, tier, mode, state, health, on_down } = backend;
    let port = port.map_or(0, std::num::NonZeroU16::get);
    let health = health.as_ref().map_or_else(|| "none".to_owned(), check_text);
    format!(
        "{address} port {port} weight {weight} tier {tier} mode {mode} state {state} on_down {on_down} health {health}"
    )
}

fn check_text(check: &HealthCheck) -> String {
    let HealthCheck { kind, via, port, interval, timeout, rise, fall, .. } = check;
    let (kind, [interval, timeout]) = (kind.name(), [interval, timeout].map(Duration::as_millis));
    format!("{kind} via {via} port {port} every {interval} within {timeout} rise {rise} fall {fall}")
}

struct Digest(Context);

impl Digest {
    fn new(purpose: &str) -> Self {
        let mut digest = Self(Context::new(&SHA256));
        digest.add(purpose.as_bytes());
        digest
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn bytes(self) -> [u8; 8] {
        let whole = self.0.finish();
        *whole.as_ref().first_chunk().expect("SHA-256 has more")
    }

    /// Enough of it: who could make two that are the same by design has the secret.
    fn hex(self) -> String {
        self.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn number(self) -> u32 {
        let [a, b, c, d, ..] = self.bytes();
        u32::from_be_bytes([a, b, c, d])
    }
}
