//! What an operator changes while connections are open: drain, add, re-weight, reload, a sick backend. None of them
//! breaks.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{
    Family, HttpLoad, HttpReport, LoadOptions, LongConnections, Mode, Site, SiteOptions, UdpFlows,
    status::Service, wait_for,
};

const LIMIT: Duration = Duration::from_secs(15);

#[test]
fn l2_over_ipv4() -> Result<()> {
    changes_break_nothing(Mode::L2, Family::V4)
}

#[test]
fn l2_over_ipv6() -> Result<()> {
    changes_break_nothing(Mode::L2, Family::V6)
}

#[test]
fn ipip_over_ipv4() -> Result<()> {
    changes_break_nothing(Mode::Ipip, Family::V4)
}

#[test]
fn ipip_over_ipv6() -> Result<()> {
    changes_break_nothing(Mode::Ipip, Family::V6)
}

#[test]
fn gue_over_ipv4() -> Result<()> {
    changes_break_nothing(Mode::Gue, Family::V4)
}

#[test]
fn nat_over_ipv4() -> Result<()> {
    changes_break_nothing(Mode::Nat, Family::V4)
}

#[test]
fn nat_over_ipv6() -> Result<()> {
    changes_break_nothing(Mode::Nat, Family::V6)
}

fn changes_break_nothing(mode: Mode, family: Family) -> Result<()> {
    let mut options = SiteOptions::new(mode, family)?;
    options.backends = 4;
    let config = options.config(&[100, 100, 200]);
    let four = options.config(&[100, 100, 200, 200]);
    let weighted = options.config(&[300, 100, 50, 100]);
    let site = Site::start(options, &config)?;
    let change = Change {
        connections: LongConnections::open(&site.lab.client.namespace, site.echo(), 40)?,
        flows: UdpFlows::open(&site.lab.client.namespace, site.echo(), 20)?,
        site,
    };
    ensure!(change.connections.by_backend().len() == 3, "{:?}", change.connections.by_backend());
    let daemon = change.site.daemon();

    daemon.ask(&["drain", "backend-1"])?;
    for service in ["web", "echo"] {
        change.wait(service, "backend-1 to leave the ring", |service| {
            service.backend("backend-1").is_some_and(|backend| !backend.is_in_ring())
        })?;
    }
    let requests = change.nothing_broke("drain")?;
    ensure!(!requests.by_backend().contains_key("backend-1"), "drained, but {:?}", requests.by_backend());
    let newcomers = LongConnections::open(&change.site.lab.client.namespace, change.site.echo(), 20)?;
    ensure!(!newcomers.by_backend().contains_key("backend-1"), "{:?}", newcomers.by_backend());

    daemon.ask(&["undrain", "backend-1"])?;
    change.wait("web", "backend-1 to return", Service::is_complete)?;
    change.wait("echo", "backend-1 to return", Service::is_complete)?;
    ensure!(change.nothing_broke("undrain")?.by_backend().contains_key("backend-1"));

    daemon.write_config(&four)?;
    daemon.hang_up()?;
    change
        .wait("web", "backend-4 to join", |service| service.backends.len() == 4 && service.is_complete())?;
    change
        .wait("echo", "backend-4 to join", |service| service.backends.len() == 4 && service.is_complete())?;
    ensure!(change.nothing_broke("add")?.by_backend().contains_key("backend-4"));

    daemon.reload(&weighted)?;
    change.wait("web", "the new weights", |service| {
        let share = |name| service.backend(name).map_or(0.0, |backend| backend.ring_share);
        share("backend-1") > 0.5 && share("backend-3") < 0.1
    })?;
    change.nothing_broke("re-weight")?;

    change.invalid_files_change_nothing()?;

    // Answers, but says that it is not well: no new connections, the old ones stay.
    let sick = change.site.http_server("backend-2")?;
    sick.set_healthy(false)?;
    change.wait("echo", "the sick backend-2 to leave the ring", |service| {
        service.backend("backend-2").is_some_and(|backend| !backend.is_in_ring())
    })?;
    change.nothing_broke("an unhealthy answer")?;
    sick.set_healthy(true)?;
    change.wait("echo", "backend-2 to return", Service::is_complete)?;
    change.nothing_broke("recovery")?;

    newcomers.exchange(3)?;
    ensure!(newcomers.broken().is_empty(), "born while slots were open: {:?}", newcomers.broken());
    change.site.succeeded();
    Ok(())
}

struct Change {
    connections: LongConnections,
    flows: UdpFlows,
    site: Site,
}

impl Change {
    fn wait(&self, service: &str, what: &str, holds: impl FnMut(&Service) -> bool) -> Result<Service> {
        self.site.daemon().wait_service(service, what, LIMIT, holds)
    }

    /// All requests succeed, and all long connections and flows live on, on the backends that they began on.
    fn nothing_broke(&self, what: &str) -> Result<HttpReport> {
        let requests =
            HttpLoad::run(&self.site.lab.client.namespace, LoadOptions::count(self.site.web(), 400))?;
        ensure!(requests.failed().count() == 0, "after {what} requests failed: {:?}", requests.errors());
        self.connections.exchange(5)?;
        self.flows.exchange(2)?;
        ensure!(self.connections.broken().is_empty(), "after {what}: {:?}", self.connections.broken());
        ensure!(self.flows.moved().is_empty(), "after {what}: {:?}", self.flows.moved());
        Ok(requests)
    }

    fn invalid_files_change_nothing(&self) -> Result<()> {
        let daemon = self.site.daemon();
        let good = daemon.config_text()?;
        let before = daemon.status()?;
        for (name, text, complaint) in [
            ("a weight of nothing", good.replacen("weight: 300", "weight: 0", 1), "weight"),
            ("an unknown key", good.replacen("node:", "nodes:", 1), "nodes"),
            ("no YAML", format!("{good}\n  - [}}"), ""),
            ("an empty file", String::new(), ""),
        ] {
            ensure!(text != good, "{name} is not in the file: {good}");
            daemon.write_config_text(&text)?;
            let refusal =
                format!("{:#}", daemon.ask(&["reload"]).err().with_context(|| format!("{name} was taken"))?);
            ensure!(refusal.contains(complaint), "{name}: {refusal}");
            let status = daemon.status()?;
            ensure!(status.config == before.config, "{name} changed what is in force");
            ensure!(status.pid == before.pid, "{name} restarted the daemon");
        }
        // The same by signal, where only the log can say it.
        let logged = daemon.log().len();
        daemon.write_config_text(&good.replacen("weight: 300", "weight: 0", 1))?;
        daemon.hang_up()?;
        wait_for("the log to name the bad key", LIMIT, || {
            Ok(daemon.log()[logged..].contains("weight").then_some(()))
        })?;
        self.nothing_broke("an invalid file")?;
        daemon.write_config_text(&good)?;
        daemon.ask(&["reload"])?;
        self.nothing_broke("the valid file again")?;
        Ok(())
    }
}
