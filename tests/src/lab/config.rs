//! A configuration file as data: the example files are read into it, adapted, and written again.
//!
//! Durations stay text, as a person types them. A key that is absent stays absent, so that the daemon's own defaults are
//! what is tested.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::topology::nat_source;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

/// How packets reach a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// MAC addresses rewritten.
    L2,
    /// Encapsulated in IP.
    Ipip,
    /// Encapsulated in UDP and IP.
    Gue,
    /// Addresses and ports translated.
    Nat,
}

impl Mode {
    /// As in configurations and on command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Nat => "nat",
        }
    }

    /// Whether a backend has to unpack what it gets.
    #[must_use]
    pub fn encapsulates(self) -> bool {
        matches!(self, Self::Ipip | Self::Gue)
    }
}

/// The `port` of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Ports {
    /// This one, or every one if it is 0.
    One(u16),
    /// A range, `8000-8999`.
    Range(String),
}

impl From<u16> for Ports {
    fn from(port: u16) -> Self {
        Self::One(port)
    }
}

impl From<RangeInclusive<u16>> for Ports {
    fn from(range: RangeInclusive<u16>) -> Self {
        Self::Range(format!("{}-{}", range.start(), range.end()))
    }
}

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// The machine.
    pub node: NodeConfig,
    /// Hosts as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostConfig>,
    /// What it serves.
    pub vips: Vec<VipConfig>,
}

/// One of `hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// The address of its backends.
    pub address: IpAddr,
    /// `enabled`, `drain` or `disabled`.
    pub state: String,
}

/// The `node` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Shown in status.
    pub name: String,
    /// `enabled` or `drain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Key of the flow hash.
    pub seed: String,
    /// Where XDP is attached.
    pub interfaces: Vec<String>,
    /// Other nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<IpAddr>,
    /// How it speaks with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peering: Option<PeeringConfig>,
    /// Where packets in mode `gue` are sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gue_port: Option<u16>,
    /// How translated packets leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<NatConfig>,
    /// `keep` or `unload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_exit: Option<String>,
    /// What becomes of packets without a daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<WatchdogConfig>,
    /// Path of the control socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// Folder of the pins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pins: Option<String>,
    /// Folder of what outlives the daemon; where absent, the lab's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<String>,
    /// `never`, `safe` or `always`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<String>,
}

/// A `peering` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeeringConfig {
    /// File with the secret of the group.
    pub secret_file: String,
    /// What is shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Vec<String>>,
}

/// A `watchdog` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchdogConfig {
    /// How long after the daemon's last sign of life.
    pub after: String,
    /// `forward` or `pass`.
    pub action: String,
}

/// A `nat` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatConfig {
    /// The address towards IPv4 backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_v4: Option<Ipv4Addr>,
    /// The address towards IPv6 backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_v6: Option<Ipv6Addr>,
    /// A range such as `61000-61003`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
}

impl NatConfig {
    /// For the edge node with this index an address that no host has, in either family, and with it nearly all ports. A port that served a short connection is
    /// free again after more than ten seconds; a lab opens more of them in this time than the ports beside a host's own.
    #[must_use]
    pub fn address_of_its_own(edge: usize) -> Self {
        let [source_v4, source_v6] = Family::BOTH.map(|family| nat_source(edge, family));
        Self {
            source_v4: if let IpAddr::V4(source) = source_v4 { Some(source) } else { None },
            source_v6: if let IpAddr::V6(source) = source_v6 { Some(source) } else { None },
            ports: None,
        }
    }
}

/// One of `vips`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VipConfig {
    /// The address clients dial.
    pub address: IpAddr,
    /// `always`, `vrrp` or `route`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ownership: Option<String>,
    /// How nodes agree on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrrp: Option<VrrpConfig>,
    /// How its route is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteConfig>,
    /// Of the address on the interface, without services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_length: Option<u8>,
    /// Its services.
    pub services: Vec<ServiceConfig>,
}

/// The `vrrp` section of a VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VrrpConfig {
    /// Names the virtual router.
    pub router_id: u8,
    /// Who is preferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Between adverts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// `higher` or `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preempt: Option<String>,
    /// To whom adverts are sent one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<IpAddr>,
    /// Routers of the same name move together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether the virtual router has a hardware address of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub virtual_mac: bool,
    /// How often neighbours are told again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<String>,
    /// What it depends on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub track: Vec<TrackConfig>,
}

/// One of `track`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackConfig {
    /// It is up and has a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// So many backends are healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<String>,
    /// It ends with status 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Between two runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Good runs that end a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rise: Option<u32>,
    /// Bad runs that are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fall: Option<u32>,
    /// What is added to the priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Whether the node takes no part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<bool>,
}

/// The `route` section of a VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// The device that it leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The routing table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Its metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// For how long a daemon that ends goes on without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linger: Option<String>,
}

/// One of `services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Unique in the file.
    pub name: String,
    /// Transport port, or a range of them.
    pub port: Ports,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// How packets reach the backends.
    pub mode: Mode,
    /// Slots of its table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<u32>,
    /// How long a flow may be silent and still be kept together with its backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<String>,
    /// Largest segment size that SYNs may announce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mss: Option<u16>,
    /// ICMP errors and answers in a second, per CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_rate: Option<u16>,
    /// How many healthy backends it needs: a number, or a share such as `50%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_healthy: Option<MinHealthy>,
    /// `fail_open`, `fail_closed` or `backup`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below_min: Option<String>,
    /// The share that checks may remove at once, such as `50%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_removed: Option<String>,
    /// In which time a backend that returns gets its whole weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<String>,
    /// `off`, `observe` or `on`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive: Option<String>,
    /// One of so many flows is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive_sample: Option<u16>,
    /// The check of all backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthConfig>,
    /// The servers.
    pub backends: Vec<BackendConfig>,
}

/// The `min_healthy` of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MinHealthy {
    /// That many.
    Count(u16),
    /// A share, `50%`.
    Share(String),
}

/// A `health` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthConfig {
    /// `tcp` or `http`.
    pub kind: String,
    /// `vip` or `direct`, if not by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// For how long backends that flap are held down, if not as by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flap_hold: Option<String>,
    /// What is asked over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where, if not at the service's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Time between probes.
    pub interval: String,
    /// How long one may take.
    pub timeout: String,
    /// Successes that bring a backend back.
    pub rise: u32,
    /// Failures that take it out.
    pub fall: u32,
}

/// One of `backends`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendConfig {
    /// Unique in its service.
    pub name: String,
    /// Its own address.
    pub address: IpAddr,
    /// The port it listens on, if not the one that was dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How packets reach it, if not as the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Its share relative to the others.
    pub weight: u16,
    /// `enabled`, `drain` or `disabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// When it is used, the lowest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<u8>,
}

impl ConfigFile {
    /// Reads a file's text.
    ///
    /// # Errors
    ///
    /// It is not YAML of this shape.
    pub fn from_yaml(text: &str) -> Result<Self> {
        serde_yaml::from_str(text)
            .map_err(|error| anyhow::anyhow!("{error}"))
            .context("read the configuration")
    }

    /// The text of the file.
    ///
    /// # Errors
    ///
    /// A value cannot be written as YAML.
    pub fn to_yaml(&self) -> Result<String> {
        serde_yaml::to_string(self)
            .map_err(|error| anyhow::anyhow!("{error}"))
            .context("write the configuration")
    }

    /// The first edge node's file as it is on the one with this index: with its name, and its own address for translated packets
    /// in place of the first one's.
    #[must_use]
    pub fn of_edge(&self, edge: usize) -> Self {
        let mut config = self.clone();
        config.node.name = format!("edge-{}", edge + 1);
        if let Some(nat) = &mut config.node.nat {
            let (first, own) = (NatConfig::address_of_its_own(0), NatConfig::address_of_its_own(edge));
            if nat.source_v4 == first.source_v4 {
                nat.source_v4 = own.source_v4;
            }
            if nat.source_v6 == first.source_v6 {
                nat.source_v6 = own.source_v6;
            }
        }
        config
    }

    /// The service of this name.
    ///
    /// # Panics
    ///
    /// There is none.
    pub fn service_mut(&mut self, name: &str) -> &mut ServiceConfig {
        self.vips
            .iter_mut()
            .flat_map(|vip| &mut vip.services)
            .find(|service| service.name == name)
            .expect("a service of this configuration")
    }

    /// Adds a service to the first VIP: as the one called `like`, but with this name, these ports and these backends, by their place in its list.
    ///
    /// # Panics
    ///
    /// There is no such service or backend.
    pub fn add_service(&mut self, like: &str, name: &str, ports: impl Into<Ports>, backends: &[usize]) {
        let mut service = self.service_mut(like).clone();
        service.name = name.to_owned();
        service.port = ports.into();
        service.backends = backends.iter().map(|&index| service.backends[index].clone()).collect();
        self.vips[0].services.push(service);
    }

    /// Has checks fail for long before a backend counts as dead: a node that is cut off for a while would find that of all, one after the other, and begin
    /// with other rings when it is back.
    pub fn outlast_cuts(&mut self) {
        self.services_mut().filter_map(|service| service.health.as_mut()).for_each(|health| health.fall = 50);
    }

    /// All services.
    pub fn services_mut(&mut self) -> impl Iterator<Item = &mut ServiceConfig> {
        self.vips.iter_mut().flat_map(|vip| &mut vip.services)
    }
}

/// Reads `500ms`, `2s` or `10m`.
///
/// # Errors
///
/// It is no number with one of these units.
pub fn duration(text: &str) -> Result<std::time::Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().with_context(|| format!("read the duration `{text}`"))?;
    let milliseconds = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        unit => anyhow::bail!("the duration `{text}` has the unit `{unit}`, not ms, s or m"),
    };
    Ok(std::time::Duration::from_millis(number * milliseconds))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ConfigFile, Family, NatConfig, duration, nat_source};

    #[test]
    fn a_file_survives_reading_and_writing() {
        let file = ConfigFile::from_yaml(include_str!("../../../examples/demo.yaml")).expect("the example");
        let again = ConfigFile::from_yaml(&file.to_yaml().expect("written")).expect("read again");
        assert_eq!(file, again);
    }

    #[test]
    fn every_edge_node_translates_with_an_address_of_its_own() {
        let mut file =
            ConfigFile::from_yaml(include_str!("../../../examples/demo.yaml")).expect("the example");
        file.node.nat = Some(NatConfig { source_v6: None, ..NatConfig::address_of_its_own(0) });
        let second = file.of_edge(1).node;
        let nat = second.nat.expect("a section of the file");
        assert_eq!(second.name, "edge-2");
        assert_eq!((nat.source_v4.map(Into::into), nat.source_v6), (Some(nat_source(1, Family::V4)), None));
        let named =
            NatConfig { source_v4: Some("192.0.2.1".parse().expect("an address")), ..NatConfig::default() };
        file.node.nat = Some(named.clone());
        assert_eq!(file.of_edge(1).node.nat, Some(named), "what the file says otherwise stays");
    }

    #[test]
    fn durations_are_read_as_people_type_them() {
        for (text, expected) in
            [("250ms", Some(250)), ("2s", Some(2000)), ("10m", Some(600_000)), ("5", None), ("s", None)]
        {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_millis), "{text}");
        }
    }
}
