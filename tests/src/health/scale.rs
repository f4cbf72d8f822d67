//! Many backends, each probed once a second: what that costs, and whether every probe begins in time.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use xtask::figures::Figure;

use super::{
    SERVICE, endure,
    moments::{Change, Moment, changes},
};
use crate::lab::{
    Daemon, Family, Mode, Node, ProcessUsage, Site, SiteOptions, config::BackendConfig, config::ConfigFile,
    patience,
};

/// Where the backends' own addresses are: all of them are those of one machine, behind the lab's segment as seen from the balancer, whose
/// kernel has room for a thousand neighbours.
const NETWORK: &str = "10.80.0.0/18";
const INTERVAL: Duration = Duration::from_secs(1);
/// For all to have passed their first checks.
const LIMIT: Duration = Duration::from_secs(60);

/// `health.scale_late`: how many probes of so many backends, each through the VIP once a second, began later than due by more than a tenth of
/// a second; `health.scale_cpu` and `health.scale_memory`: what the daemon took for it.
///
/// # Errors
///
/// The lab cannot be built, a backend is not found healthy, or is removed.
pub fn scale(backends: usize, time: Duration, tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let mut options = SiteOptions::new(Mode::Ipip, Family::V4)?;
    options.backends = 1;
    let mut site = Site::without_daemons(options)?;
    let machine = &site.lab.backends[0];
    machine.namespace.ip(&["route", "add", "local", NETWORK, "dev", "lo"])?;
    let gateway = machine.address(Family::V4).to_string();
    site.lab.edges[0].namespace.ip(&["route", "add", NETWORK, "via", &gateway, "dev", Node::DEVICE])?;
    let config = config(&site.options, backends)?;
    let (node, scratch) = (&site.lab.edges[0], &site.lab.scratch);
    let daemon = Daemon::start(node, scratch, &site.options.binary, &config)?;
    site.daemons.push(daemon);
    let daemon = site.daemon();
    daemon.wait_service(SERVICE, "all backends to come up", LIMIT, |service| {
        service.backends.len() == backends && service.is_complete()
    })?;
    let began = Moment::now()?;
    let before = Usage::of(daemon)?;
    endure(time, || Ok(()))?;
    let after = Usage::of(daemon)?;
    let removals = changes(&site, Change::Removal, began)?.len();
    ensure!(removals == 0, "{removals} healthy backends were removed");
    let (probes, late) = (after.probes - before.probes, after.late - before.late);
    let rate = probes as f64 / time.as_secs_f64();
    let share = after.process.share_since(&before.process);
    let memory = after.process.resident as f64 / (1024.0 * 1024.0);
    tell(&format!(
        "{backends} backends through the VIP, {rate:.0} probes/s for {time:?}: {late} late, {share:.1} % of a processor, {memory:.0} MiB"
    ));
    let expected = backends as f64 / f64::from(patience()) / 2.0;
    ensure!(rate > expected, "only {rate:.0} probes a second were made");
    site.succeeded();
    Ok(vec![
        Figure::new("health.scale_backends", backends as f64, "backends"),
        Figure::new("health.scale_probes", rate.round(), "probes/s"),
        Figure::new("health.scale_late", late as f64, "probes").aim("== 0")?,
        Figure::new("health.scale_cpu", (share * 10.0).round() / 10.0, "% of a processor"),
        Figure::new("health.scale_memory", memory.round(), "MiB"),
    ])
}

/// One service of so many backends, each checked by a request of its own.
fn config(options: &SiteOptions, backends: usize) -> Result<ConfigFile> {
    let mut config = options.config(&[100]);
    let vip = &mut config.vips[0];
    vip.services.retain(|service| service.name == SERVICE);
    let service = &mut vip.services[0];
    let first = u32::from(Ipv4Addr::new(10, 80, 0, 1));
    service.backends = (0..u32::try_from(backends)?)
        .map(|index| BackendConfig {
            name: format!("backend-{}", index + 1),
            address: Ipv4Addr::from(first + index).into(),
            ..options.backend(0, 100)
        })
        .collect();
    let health = service.health.as_mut().context("the lab's services have checks")?;
    health.interval = format!("{}ms", (INTERVAL * patience()).as_millis());
    health.timeout = format!("{}ms", (INTERVAL * patience()).as_millis());
    Ok(config)
}

/// What the daemon has done and used so far.
struct Usage {
    probes: u64,
    late: u64,
    process: ProcessUsage,
}

impl Usage {
    fn of(daemon: &Daemon) -> Result<Self> {
        let page = daemon.get("/metrics")?;
        let counter = |name: &str| -> Result<u64> {
            let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.with_context(|| format!("no {name} among the metrics"))?.parse().context("read a counter")
        };
        Ok(Self {
            probes: counter("vip_lb_probes_total")?,
            late: counter("vip_lb_probes_late_total")?,
            process: ProcessUsage::of(daemon.pid().context("the daemon runs")?)?,
        })
    }
}
