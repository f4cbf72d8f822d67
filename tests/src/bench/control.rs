//! What a change costs: from what is wanted to the maps, through the daemon's own engine.
//!
//! Reading the configuration and loading the program are not part of it. Memory is what the kernel charges for the maps
//! (`memlock` in `/proc/self/fdinfo`), and what this process grew by (`VmRSS`).

use std::{
    collections::HashSet,
    fmt::Write as _,
    fs,
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{MapInfo, loaded_maps};
use vip_lb::{
    config::{self, Config, model},
    control::{
        apply::apply,
        desired::{Desired, Facts, ServiceKey},
        engine::{Engine, Plan},
        slow_start::WHOLE,
        standing::{Cause, Standing},
    },
    dataplane::{self, Dataplane, LoadOptions, Write},
    network::{NextHop, Via},
};
use vip_lb_common::{
    HashKey,
    abi::{RingClass, Settings},
};
use xtask::figures::Figure;

use super::statistics::Quartiles;
use crate::lab::bpffs;

/// Backends of the one service whose ring is published.
const MANY_BACKENDS: usize = 1000;
/// Services that are loaded, with ten backends each, and as many to a VIP.
const MANY_SERVICES: usize = 1000;
const PER_SERVICE: usize = 10;
const PER_VIP: usize = 10;
/// Publications to take the median of.
const ROUNDS: usize = 21;
const MIB: f64 = 1_048_576.0;

/// Measures everything.
///
/// # Errors
///
/// Without root, or when the kernel does not take the maps.
pub fn figures() -> Result<Vec<Figure>> {
    let publish = ring_publish().context("publish rings of many backends")?;
    let load = load_services().context("load many services")?;
    Ok(vec![
        Figure::new("bench.ring_publish_ms", milliseconds(publish), "ms").aim("<= 20")?,
        Figure::new("bench.load_1000_services_ms", milliseconds(load.took), "ms").aim("<= 2000")?,
        Figure::new("bench.load_1000_services_mib", load.maps.round(), "MiB"),
        Figure::new("bench.load_1000_services_process_mib", load.process.round(), "MiB"),
        Figure::new("bench.take_over_1000_services_ms", milliseconds(load.taken_over), "ms"),
    ])
}

/// The median time to take one of 1000 backends out of the ring, or back into it.
fn ring_publish() -> Result<Duration> {
    let config = config_of(1, MANY_BACKENDS)?;
    let (mut node, _) = Node::open("ring")?;
    let mut engine = Engine::new(config.node.seed.0);
    let wanted = [Some(0), None].map(|drained| Desired::new(&config, &AllWell::but(drained)));
    let first = engine.reconcile(&wanted[1], 1);
    node.carry_out(&mut engine, first)?;
    let mut times = Vec::new();
    for (round, wanted) in (2..).zip(wanted.iter().cycle().take(ROUNDS)) {
        let started = Instant::now();
        let plan = engine.reconcile(wanted, round);
        ensure!(plan.writes.len() == 1, "one ring to publish, not {:?}", plan.writes.len());
        node.carry_out(&mut engine, plan)?;
        times.push(started.elapsed().as_secs_f64());
    }
    Ok(Duration::from_secs_f64(Quartiles::of(times).median))
}

struct Load {
    took: Duration,
    /// MiB.
    maps: f64,
    /// MiB.
    process: f64,
    /// A daemon starts anew on these maps.
    taken_over: Duration,
}

fn load_services() -> Result<Load> {
    let config = config_of(MANY_SERVICES, PER_SERVICE)?;
    let maps_before = map_ids()?;
    let (mut node, options) = Node::open("load")?;
    let resident_before = resident()?;
    let started = Instant::now();
    let desired = Desired::new(&config, &AllWell::but(None));
    let mut engine = Engine::new(config.node.seed.0);
    let plan = engine.reconcile(&desired, 1);
    node.carry_out(&mut engine, plan)?;
    let took = started.elapsed();
    let process = (resident()? - resident_before) / MIB;
    ensure!(engine.services().count() == MANY_SERVICES);
    let maps = memory_of_maps(&maps_before)? / MIB;

    // The daemon ends, another takes over what it left.
    let settings = Settings { tick: 1, ..Settings::new(HashKey::from_seed(&config.node.seed.0)) };
    let dataplane = node.dataplane.as_mut().context("an open balancer")?;
    dataplane.write(&Write::Settings(Box::new(settings)))?;
    drop((engine, node.dataplane.take()));
    let started = Instant::now();
    let mut dataplane = Dataplane::open(&options)?;
    let found = dataplane.found()?;
    let mut engine = Engine::adopt(config.node.seed.0, &found, |service| {
        dataplane.ring(service.id, RingClass::from_u8(service.ring_class))
    })?;
    let plan = engine.reconcile(&desired, 1);
    let taken_over = started.elapsed();
    ensure!(plan.writes.is_empty(), "a start on filled maps wrote {} times", plan.writes.len());
    Ok(Load { took, maps, process, taken_over })
}

/// A balancer of its own, removed when dropped.
struct Node {
    dataplane: Option<Dataplane>,
    pins: PathBuf,
}

impl Node {
    fn open(name: &str) -> Result<(Self, LoadOptions)> {
        bpffs::ensure_mounted()?;
        let pins = Path::new(bpffs::MOUNT_POINT).join(format!("vip-lb-bench-{}-{name}", std::process::id()));
        let tables = model::Tables::default();
        let options = LoadOptions {
            pins: pins.clone(),
            flows: tables.flows,
            newborn: tables.newborn,
            survivors: tables.survivors,
            nat: tables.nat,
            fragments: tables.fragments,
        };
        let mut node = Self { dataplane: None, pins };
        node.dataplane = Some(Dataplane::open(&options)?);
        Ok((node, options))
    }

    /// As the daemon does it.
    fn carry_out(&mut self, engine: &mut Engine, plan: Plan) -> Result<()> {
        ensure!(plan.warnings.is_empty(), "{:?}", plan.warnings);
        let dataplane = self.dataplane.as_mut().context("an open balancer")?;
        match apply(plan.writes, dataplane, engine).pop() {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.dataplane = None;
        if let Err(error) = dataplane::unload(&self.pins) {
            eprintln!("cannot remove {}: {error:#}", self.pins.display());
        }
    }
}

/// Everything is reachable and well, but perhaps one backend that an operator drains.
struct AllWell {
    next_hop: NextHop,
    drained: Option<String>,
}

impl AllWell {
    fn but(drained: Option<usize>) -> Self {
        let via = Via {
            ifindex: 1,
            vlan: None,
            device: 1,
            source_mac: [2, 0, 0, 0, 0, 1],
            gateway: None,
            neighbour: [10, 0, 0, 0].into(),
            mac: Some([2, 0, 0, 0, 0, 2]),
            mtu: 1500,
            preferred_source: [10, 0, 0, 1].into(),
        };
        Self { next_hop: NextHop::Via(via), drained: drained.map(|backend| format!("b{backend}")) }
    }
}

impl Facts for AllWell {
    fn standing(&self, _: &ServiceKey, backend: &model::Backend) -> Standing {
        if self.drained.as_ref() == Some(&backend.name) {
            Standing::Draining(Cause::Operator)
        } else {
            Standing::Serving
        }
    }

    fn next_hop(&self, _: IpAddr) -> Option<&NextHop> {
        Some(&self.next_hop)
    }

    fn share(&self, _: &ServiceKey, _: IpAddr) -> u8 {
        WHOLE
    }

    fn is_closed(&self, _: &ServiceKey) -> bool {
        false
    }

    fn is_node_drained(&self) -> bool {
        false
    }

    fn sampling(&self, _: &ServiceKey) -> u32 {
        1
    }

    fn is_of_host(&self, _: IpAddr) -> bool {
        true
    }

    fn router_address(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }
}

/// A file of so many services, read as the daemon reads it.
fn config_of(services: usize, backends: usize) -> Result<Config> {
    let mut text = "node: {name: bench, seed: a seed of a benchmark, interfaces: [lo]}\nvips:\n".to_owned();
    for service in 0..services {
        let (vip, port) = (service / PER_VIP, 1000 + service % PER_VIP);
        if service % PER_VIP == 0 {
            writeln!(text, "  - address: 198.18.{}.{}\n    services:", vip / 250, vip % 250 + 1)?;
        }
        writeln!(text, "      - {{name: s{service}, port: {port}, mode: ipip, health: none, backends: [")?;
        for backend in 0..backends {
            let number = service * backends + backend;
            let address = format!("10.{}.{}.{}", number / 62_500, number / 250 % 250, number % 250 + 1);
            writeln!(text, "          {{name: b{backend}, address: {address}}},")?;
        }
        writeln!(text, "        ]}}")?;
    }
    let loaded = config::parse(&text, Path::new("bench.yaml"));
    Ok(loaded.context("read the generated configuration")?.config)
}

fn map_ids() -> Result<HashSet<u32>> {
    let ids = loaded_maps().map(|info| Ok(info?.id()));
    ids.collect::<Result<_, aya::maps::MapError>>().context("list the maps of this machine")
}

/// Bytes of all maps that were not there before.
fn memory_of_maps(before: &HashSet<u32>) -> Result<f64> {
    let mut bytes = 0.0;
    for id in map_ids()?.difference(before) {
        // One of somebody else may be gone by now.
        let Ok(fd) = MapInfo::from_id(*id).and_then(|info| info.fd()) else { continue };
        let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
        bytes += field(&path, "memlock:")?;
    }
    Ok(bytes)
}

/// Bytes of memory that this process holds.
fn resident() -> Result<f64> {
    Ok(field("/proc/self/status", "VmRSS:")? * 1024.0)
}

/// The number behind a name in a file of `/proc`.
fn field(path: &str, name: &str) -> Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    let number = rest.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok());
    number.with_context(|| format!("find {name} in {path}"))
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}
