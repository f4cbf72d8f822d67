//! A backend that swallows its packets under 500 new connections a second: for how long new flows are still sent to it.
//!
//! What counts is when the last client came that was not answered promptly, from the moment on at which the backend falls silent: so what a
//! balancer or a kernel sends there again for clients of before does not. The same clients, servers and wires for everybody.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;
use xtask::figures::Figure;

use super::{
    director,
    haproxy::{self, Haproxy, Watching},
    percentile,
};
use crate::lab::{
    Arrivals, EchoServer, Family, HttpServer, Mode, NewConnections, Node, ProcessUsage, Site, SiteOptions,
    config::MinHealthy, keepalived_version, patience, status::Service, vip, wait_for,
};

/// Backends of the service.
const BACKENDS: usize = 3;

/// New connections in a second.
const PER_SECOND: u32 = 500;

/// That no new flow comes for so long says that no more will.
const QUIET: Duration = Duration::from_millis(1500);

const LIMIT: Duration = Duration::from_secs(60);

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Balancer {
    /// vip-lb with `passive: on`.
    Passive,
    /// vip-lb with `passive: off`: its checks alone.
    Active,
    /// HAProxy with its checks alone, `inter 2s fall 3`.
    Haproxy,
    /// The same with `observe layer4`.
    HaproxyObserving,
    /// IPVS, with the checks of keepalived. The kernel must have it.
    Keepalived,
}

impl Balancer {
    /// Those that are named, or else everybody whom this kernel can run; who is left out is told.
    pub(super) fn chosen(named: &[Self], tell: &mut dyn FnMut(&str)) -> Result<Vec<Self>> {
        if !named.is_empty() {
            return Ok(named.to_vec());
        }
        let mut chosen = Self::value_variants().to_vec();
        if !director::is_possible()? {
            tell(
                "black hole of keepalived: this kernel has no IPVS; `cargo xtask compare --black-hole 3` runs it in a virtual machine",
            );
            chosen.retain(|balancer| *balancer != Self::Keepalived);
        }
        Ok(chosen)
    }

    /// As figures have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passive => "passive",
            Self::Active => "active",
            Self::Haproxy => "haproxy",
            Self::HaproxyObserving => "haproxy_observe",
            Self::Keepalived => "keepalived",
        }
    }

    /// Most milliseconds at the 95th percentile, where there is an aim.
    const fn aim(self) -> Option<&'static str> {
        match self {
            Self::Passive => Some("<= 250"),
            Self::Active | Self::Haproxy | Self::HaproxyObserving | Self::Keepalived => None,
        }
    }
}

/// `health.blackhole_NAME_median_ms` and `health.blackhole_NAME_p95_ms`, of so many times that a backend of three falls silent.
///
/// # Errors
///
/// Something does not start, or the flows to a silent backend do not end.
pub fn black_hole(balancer: Balancer, runs: usize, tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    ensure!(runs > 0, "there are no times of no runs");
    let mut options = SiteOptions::new(Mode::L2, Family::V4)?;
    options.backends = BACKENDS;
    let measured = match balancer {
        Balancer::Passive => with_daemon(options, "on", runs),
        Balancer::Active => with_daemon(options, "off", runs),
        Balancer::Haproxy => with_haproxy(options, Watching::Checks, runs),
        Balancer::HaproxyObserving => with_haproxy(options, Watching::Traffic, runs),
        Balancer::Keepalived => with_keepalived(options, runs),
    };
    let name = balancer.name();
    let version = match balancer {
        Balancer::Haproxy | Balancer::HaproxyObserving => format!(" {}", haproxy::version()?),
        Balancer::Keepalived => format!(" {}", keepalived_version()?),
        Balancer::Passive | Balancer::Active => String::new(),
    };
    let Measured { times, share } = measured.with_context(|| format!("measure {name}"))?;
    let [median, p95] = [50, 95].map(|percent| percentile(&times, percent));
    tell(&format!(
        "black hole under {PER_SECOND} new connections a second, {name}{version}: last client lost to it after {median:.0} ms, 95 of 100 within {p95:.0} ms, {runs} runs"
    ));
    let p95 = Figure::new(&format!("health.blackhole_{name}_p95_ms"), p95, "ms");
    let mut figures = vec![
        Figure::new(&format!("health.blackhole_{name}_median_ms"), median, "ms"),
        match balancer.aim() {
            // An emulated processor has its own times.
            Some(aim) if patience() == 1 => p95.aim(aim)?,
            Some(_) | None => p95,
        },
    ];
    if let Some(share) = share {
        tell(&format!("  meanwhile the daemon took {share} % of a processor"));
        figures.push(Figure::new(&format!("health.blackhole_{name}_cpu"), share, "% of a processor"));
    }
    Ok(figures)
}

/// What came of all runs.
struct Measured {
    /// In milliseconds.
    times: Vec<f64>,
    /// Of one processor, that the daemon took, in percent.
    share: Option<f64>,
}

/// Checks as HAProxy's: every two seconds, three failures; at another port than the clients', so that they are no flows.
fn with_daemon(options: SiteOptions, passive: &str, runs: usize) -> Result<Measured> {
    let backends = options.backends;
    let mut config = options.config(&vec![100; backends]);
    config.vips[0].services.retain(|service| service.name == "echo");
    for service in config.services_mut() {
        service.passive = Some(passive.to_owned());
        // One backend after the other falls silent, sooner than it is forgotten that checks have removed the one before.
        (service.min_healthy, service.max_removed) = (Some(MinHealthy::Count(0)), Some("100%".to_owned()));
        let health = service.health.as_mut().context("a check")?;
        (health.kind, health.path, health.port) = ("tcp".to_owned(), None, Some(HttpServer::PORT));
        (health.interval, health.timeout) = ("2s".to_owned(), "1s".to_owned());
        // Falling silent again and again is what is measured here.
        health.flap_hold = Some("0s".to_owned());
    }
    let site = Site::start(options, &config)?;
    let clients =
        NewConnections::start(&site.lab.client.namespace, None, site.echo(), PER_SECOND / patience())?;
    let pid = site.daemon().pid().context("the daemon runs")?;
    let before = ProcessUsage::of(pid)?;
    let mut times = Vec::new();
    for run in 0..runs {
        site.daemon().wait_service("echo", "all backends to be back", LIMIT, Service::is_complete)?;
        settle(&clients)?;
        let backend = &site.lab.backends[run % backends];
        times.push(time_of_silence(&clients, backend, run)?);
    }
    let share = ProcessUsage::of(pid)?.share_since(&before);
    site.succeeded();
    Ok(Measured { times, share: Some(share) })
}

fn with_haproxy(mut options: SiteOptions, watching: Watching, runs: usize) -> Result<Measured> {
    options.edges = 1;
    let site = Site::without_daemons(options)?;
    let _haproxy = Haproxy::start(
        &site.lab,
        &vip(Family::V4).to_string(),
        EchoServer::PORT,
        HttpServer::PORT,
        watching,
    )?;
    one_after_the_other(&site, runs)
}

fn with_keepalived(mut options: SiteOptions, runs: usize) -> Result<Measured> {
    options.edges = 1;
    let site = Site::without_daemons(options)?;
    let _keepalived = director::start(&site.lab, EchoServer::PORT, HttpServer::PORT)?;
    one_after_the_other(&site, runs)
}

/// The times of backends behind something that does not say itself who is in service.
fn one_after_the_other(site: &Site, runs: usize) -> Result<Measured> {
    site.lab.route_vips_through(&site.lab.edges[0])?;
    let clients =
        NewConnections::start(&site.lab.client.namespace, None, site.echo(), PER_SECOND / patience())?;
    let mut times = Vec::new();
    for run in 0..runs {
        let backend = &site.lab.backends[run % site.lab.backends.len()];
        // All have come back when new flows come to all.
        for backend in &site.lab.backends {
            wait_for_flows(backend, 100 / patience() as usize)?;
        }
        settle(&clients)?;
        times.push(time_of_silence(&clients, backend, run)?);
    }
    Ok(Measured { times, share: None })
}

/// Waits until clients are served as usual, and a little longer each time, so that no run meets the checks at the same phase.
fn settle(clients: &NewConnections) -> Result<()> {
    let answered = clients.answered();
    wait_for("clients to be served", LIMIT, || {
        Ok((clients.answered() > answered + u64::from(2 * PER_SECOND / patience())).then_some(()))
    })
}

/// Has a backend fall silent, and says for how many milliseconds clients still came to it. It speaks again afterwards.
fn time_of_silence(clients: &NewConnections, backend: &Node, run: usize) -> Result<f64> {
    // By the golden ratio: however many runs there are, they are spread over the two seconds between checks.
    std::thread::sleep(Duration::from_secs_f64(2.0 * (run as f64 * 0.618).fract()));
    wait_for_flows(backend, 20)?;
    let silent = Instant::now();
    backend.set_mute(true)?;
    let last = clients.wait_for_the_last_unserved(silent, QUIET, LIMIT);
    backend.set_mute(false)?;
    let last = last?.with_context(|| format!("no client came to {} once it was silent", backend.name))?;
    Ok((last - silent).as_secs_f64() * 1000.0)
}

/// Waits until so many new flows have come to a backend.
fn wait_for_flows(backend: &Node, flows: usize) -> Result<()> {
    let arrivals = Arrivals::watch(&backend.namespace, EchoServer::PORT)?;
    wait_for("flows to the backend", LIMIT, || Ok((arrivals.count() > flows).then_some(())))
}
