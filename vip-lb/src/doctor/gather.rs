//! Asks the kernel.

use std::{collections::BTreeSet, fs, net::IpAddr, path::Path};

use anyhow::Context as _;

use super::facts::{BackendPath, Facts, Host, InterfaceFacts, PathAnswer, Program};
use crate::{
    backend::RP_FILTER,
    config::{
        Config,
        model::{AttachMode, DEFAULT_PINS},
    },
    dataplane,
    network::{self, Interface, Network, NextHop, Sysctl, Wanted},
    privileges::{self, Privileges},
};

/// Of `rp_filter`: what comes in by another interface than the way back to its source is dropped (RFC 3704 section 2.2).
const STRICT: i64 = 1;

/// Offloads that join packets, by the kernel's names.
const JOINING: [&str; 2] = ["rx-lro", "rx-gro-hw"];

/// Finds out all that is known of this node, in the network namespace of the calling thread.
///
/// # Errors
///
/// The kernel does not answer.
pub async fn node(config: Option<Config>) -> anyhow::Result<Facts> {
    let network = Network::open().context("cannot open a netlink socket")?;
    let all = network.interfaces().await.context("cannot list the interfaces")?;
    let pins = config.as_ref().map_or(Path::new(DEFAULT_PINS), |config| &config.node.pins).to_owned();
    let mut interfaces = Vec::new();
    match &config {
        Some(config) => {
            for wanted in &config.node.interfaces {
                let device = network.interface(&wanted.name).await.map_err(|error| error.to_string());
                interfaces.push(interface(&network, &pins, &wanted.name, wanted.attach, device).await);
            }
        }
        None => {
            for device in all.iter().filter(|interface| interface.is_up) {
                let (name, device) = (device.name.clone(), Ok(device.clone()));
                interfaces.push(interface(&network, &pins, &name, AttachMode::Auto, device).await);
            }
        }
    }
    let paths = match &config {
        Some(config) => paths(&network, config, &all).await,
        None => Vec::new(),
    };
    Ok(Facts {
        host: host(config.as_ref(), &pins),
        addresses: network.addresses().await.context("cannot list the addresses")?,
        local_ports: local_ports(),
        routes: Sysctl::global("net/ipv4/ip_forward").read().is_ok_and(|value| value != 0),
        strict: all.iter().map(|device| device.name.clone()).filter(|name| is_strict(name)).collect(),
        config,
        interfaces,
        paths,
    })
}

fn host(config: Option<&Config>, pins: &Path) -> Host {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let cpus = cpus();
    Host {
        version: privileges::version(&release),
        release,
        has_btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        jit: Sysctl::global("net/core/bpf_jit_enable").read().ok(),
        pins: dataplane::check_place(pins).err().map(|error| error.to_string()),
        privileges: Privileges::gather(),
        memory: fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text)),
        map_memory: config.filter(|_| !pins.exists()).map(|config| {
            let services = config.vips.iter().flat_map(|vip| &vip.services);
            dataplane::map_memory(&config.node.tables, services.map(|service| service.ring), cpus as usize)
        }),
        is_clock_synchronised: is_clock_synchronised(),
        cpus,
    }
}

async fn interface(
    network: &Network,
    pins: &Path,
    name: &str,
    wanted: AttachMode,
    device: Result<Interface, String>,
) -> InterfaceFacts {
    let index = device.as_ref().ok().map(|device| device.index);
    let program = match index {
        Some(index) => network.xdp_program(index).await.ok().flatten(),
        None => None,
    };
    InterfaceFacts {
        name: name.to_owned(),
        wanted,
        features: index.and_then(network::xdp_features),
        program: program
            .map(|program| Program { occupant: dataplane::occupant(pins, name, program.id), program }),
        channels: network::channels(name),
        indirection: network::indirection(name),
        offloads: network::offloads(name, &JOINING).unwrap_or_default(),
        device,
    }
}

async fn paths(network: &Network, config: &Config, interfaces: &[Interface]) -> Vec<BackendPath> {
    let backends = config.vips.iter().flat_map(|vip| &vip.services).flat_map(|service| &service.backends);
    let addresses: BTreeSet<IpAddr> = backends.map(|backend| backend.address).collect();
    let wanted: Vec<Wanted> =
        addresses.into_iter().map(|destination| Wanted { destination, source_hint: None }).collect();
    let answers = network.resolve_all(&wanted).await;
    answers
        .into_iter()
        .map(|(address, answer)| {
            let answer = match answer {
                Err(error) => PathAnswer::Missing(error.to_string()),
                Ok(next_hop) => {
                    let via = match &next_hop {
                        NextHop::Via(via) => Some(via),
                        NextHop::Local => None,
                    };
                    let index = via.map(|via| via.ifindex);
                    let device = interfaces.iter().find(|interface| Some(interface.index) == index);
                    PathAnswer::Found {
                        egress: device.map_or(String::new(), |device| device.name.clone()),
                        features: index.and_then(network::xdp_features),
                        interface_mtu: device.map_or(0, |device| device.mtu),
                        next_hop,
                    }
                }
            };
            BackendPath { address, answer }
        })
        .collect()
}

/// `MemAvailable` of proc_meminfo(5), which is in KiB.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn is_strict(interface: &str) -> bool {
    let value = |scope: &str| Sysctl::ipv4(scope, RP_FILTER).read().unwrap_or(0);
    value("all").max(value(interface)) == STRICT
}

fn local_ports() -> Option<(u16, u16)> {
    range(&fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?)
}

fn range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn cpus() -> u32 {
    // SAFETY: the call takes and returns plain numbers.
    let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    u32::try_from(online).unwrap_or(1).max(1)
}

/// What the kernel knows of whoever adjusts its clock (adjtimex(2)).
fn is_clock_synchronised() -> Option<bool> {
    // SAFETY: an all-zero timex is valid; no mode is set, so that nothing is changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes into a live value of its type.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    // Some containers may not even ask.
    (result >= 0).then_some(result != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_understood() {
        let meminfo = "MemTotal:       24689764 kB\nMemFree:         1 kB\nMemAvailable:   20000 kB\n";
        assert_eq!(available(meminfo), Some(20_000 * 1024));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert_eq!(range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(range("32768"), None);
    }
}
