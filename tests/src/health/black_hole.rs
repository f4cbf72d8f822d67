//! A backend that swallows its packets under 500 new connections a second: for how long new flows are still sent to it.
//!
//! A new flow is a SYN of a client that arrives at the backend, noted on its wire before its stack. What counts is the last one, from the moment on at
//! which the backend falls silent. The same clients, servers and wires for everybody. A proxy that tries a connection again at the same backend, as
//! HAProxy does (`retries 3`, each after `timeout connect`), sends SYNs that count too, long after it has given the backend up for new clients.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xtask::figures::Figure;

use super::{
    haproxy::{self, Haproxy, Watching},
    percentile,
};
use crate::lab::{
    Arrivals, EchoServer, Family, HttpServer, Mode, NewConnections, Node, Site, SiteOptions,
    config::MinHealthy, patience, status::Service, vip, wait_for,
};

/// Backends of the service.
const BACKENDS: usize = 3;

/// New connections in a second.
const PER_SECOND: u32 = 500;

/// That no new flow comes for so long says that no more will.
const QUIET: Duration = Duration::from_millis(1500);

const LIMIT: Duration = Duration::from_secs(60);

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancer {
    /// vip-lb with `passive: on`.
    Passive,
    /// vip-lb with `passive: off`: its checks alone.
    Active,
    /// HAProxy with its checks alone, `inter 2s fall 3`.
    Haproxy,
    /// The same with `observe layer4`.
    HaproxyObserving,
}

impl Balancer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Passive, Self::Active, Self::Haproxy, Self::HaproxyObserving];

    /// As figures have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passive => "passive",
            Self::Active => "active",
            Self::Haproxy => "haproxy",
            Self::HaproxyObserving => "haproxy_observe",
        }
    }

    /// Most milliseconds at the 95th percentile, where there is an aim.
    const fn aim(self) -> Option<&'static str> {
        match self {
            Self::Passive => Some("<= 250"),
            Self::Active | Self::Haproxy | Self::HaproxyObserving => None,
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
    let times = match balancer {
        Balancer::Passive => with_daemon(options, "on", runs),
        Balancer::Active => with_daemon(options, "off", runs),
        Balancer::Haproxy => with_haproxy(options, Watching::Checks, runs),
        Balancer::HaproxyObserving => with_haproxy(options, Watching::Traffic, runs),
    };
    let name = balancer.name();
    let version = match balancer {
        Balancer::Haproxy | Balancer::HaproxyObserving => format!(" {}", haproxy::version()?),
        Balancer::Passive | Balancer::Active => String::new(),
    };
    let times = times.with_context(|| format!("measure {name}"))?;
    let [median, p95] = [50, 95].map(|percent| percentile(&times, percent));
    tell(&format!(
        "black hole under {PER_SECOND} new connections a second, {name}{version}: last new flow after {median:.0} ms, 95 of 100 within {p95:.0} ms, {runs} runs"
    ));
    let p95 = Figure::new(&format!("health.blackhole_{name}_p95_ms"), p95, "ms");
    Ok(vec![
        Figure::new(&format!("health.blackhole_{name}_median_ms"), median, "ms"),
        match balancer.aim() {
            Some(aim) => p95.aim(aim)?,
            None => p95,
        },
    ])
}

/// Checks as HAProxy's: every two seconds, three failures; at another port than the clients', so that they are no flows.
fn with_daemon(options: SiteOptions, passive: &str, runs: usize) -> Result<Vec<f64>> {
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
    let mut measured = Vec::new();
    for run in 0..runs {
        site.daemon().wait_service("echo", "all backends to be back", LIMIT, Service::is_complete)?;
        settle(&clients)?;
        let backend = &site.lab.backends[run % backends];
        measured.push(time_of_silence(backend, run)?);
    }
    site.succeeded();
    Ok(measured)
}

fn with_haproxy(mut options: SiteOptions, watching: Watching, runs: usize) -> Result<Vec<f64>> {
    options.edges = 1;
    let backends = options.backends;
    let site = Site::without_daemons(options)?;
    let _haproxy = Haproxy::start(
        &site.lab,
        &vip(Family::V4).to_string(),
        EchoServer::PORT,
        HttpServer::PORT,
        watching,
    )?;
    site.lab.route_vips_through(&site.lab.edges[0])?;
    let clients =
        NewConnections::start(&site.lab.client.namespace, None, site.echo(), PER_SECOND / patience())?;
    let mut measured = Vec::new();
    for run in 0..runs {
        let backend = &site.lab.backends[run % backends];
        // It has come back when new flows come.
        let arrivals = Arrivals::watch(&backend.namespace, EchoServer::PORT)?;
        wait_for("flows to the backend", LIMIT, || Ok((arrivals.count() > 100).then_some(())))?;
        drop(arrivals);
        settle(&clients)?;
        measured.push(time_of_silence(backend, run)?);
    }
    Ok(measured)
}

/// Waits until clients are served as usual, and a little longer each time, so that no run meets the checks at the same phase.
fn settle(clients: &NewConnections) -> Result<()> {
    let answered = clients.answered();
    wait_for("clients to be served", LIMIT, || {
        Ok((clients.answered() > answered + u64::from(2 * PER_SECOND / patience())).then_some(()))
    })
}

/// Has a backend fall silent, and says for how many milliseconds new flows came to it. It speaks again afterwards.
fn time_of_silence(backend: &Node, run: usize) -> Result<f64> {
    // By the golden ratio: however many runs there are, they are spread over the two seconds between checks.
    std::thread::sleep(Duration::from_secs_f64(2.0 * (run as f64 * 0.618).fract()));
    let arrivals = Arrivals::watch(&backend.namespace, EchoServer::PORT)?;
    wait_for("flows to the backend", LIMIT, || Ok((arrivals.count() > 20).then_some(())))?;
    let silent = Instant::now();
    backend.set_mute(true)?;
    let last = arrivals.wait_for_the_last(QUIET, LIMIT);
    backend.set_mute(false)?;
    let last = last?;
    ensure!(last > silent, "no flow came to {} once it was silent", backend.name);
    Ok((last - silent).as_secs_f64() * 1000.0)
}
