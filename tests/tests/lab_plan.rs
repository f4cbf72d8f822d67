//! A change is seen before it is made: what `plan` says is what `reload` does, to shares and to connections, and `rollback` undoes it.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{
    Family, HttpLoad, LoadOptions, LongConnections, Mode, Site, SiteOptions, Transport, UdpFlows,
    config::ConfigFile,
    status::{Plan, PlannedService, Service},
    wait_for, who_answers,
};

const LIMIT: Duration = Duration::from_secs(15);
const NOTHING: i32 = 0;
const INVALID: i32 = 3;
const SAFE: i32 = 10;
const LOSSY: i32 = 11;

#[test]
fn l2_over_ipv4() -> Result<()> {
    what_is_planned_happens(Mode::L2, Family::V4)
}

#[test]
fn ipip_over_ipv6() -> Result<()> {
    what_is_planned_happens(Mode::Ipip, Family::V6)
}

#[test]
fn nat_over_ipv4() -> Result<()> {
    what_is_planned_happens(Mode::Nat, Family::V4)
}

fn what_is_planned_happens(mode: Mode, family: Family) -> Result<()> {
    let mut options = SiteOptions::new(mode, family)?;
    options.backends = 4;
    let config = options.config(&[100, 100, 200]);
    let grown = options.config(&[100, 300, 200, 100]);
    let site = Site::start(options, &config)?;
    let client = &site.lab.client.namespace;
    let load = HttpLoad::start(client, LoadOptions::steady(site.web()))?;
    let connections = LongConnections::open(client, site.echo(), 200)?;
    let flows = UdpFlows::open(client, site.echo(), 20)?;
    let ports: Vec<u16> = (20_000..20_600).collect();
    let before = who_answers(client, site.echo(), Transport::Tcp, &ports)?;

    let plan = plan(&site, &config, NOTHING)?;
    ensure!((plan.outcome.as_str(), plan.services.len()) == ("nothing", 0), "{plan:?}");

    // One comes and two get other weights.
    let plan = wait_for("an estimate of what will be recorded", LIMIT, || {
        let plan = self::plan(&site, &grown, SAFE)?;
        // The daemon counts connections every second.
        let estimate = plan.service("web")?.recorded_estimate;
        Ok(estimate.is_some_and(|estimate| estimate > 0).then_some(plan))
    })?;
    ensure!(plan.lost.is_empty(), "{plan:?}");
    ensure!(plan.assumptions.iter().any(|assumed| assumed.contains("backend-4")), "{plan:?}");
    ensure!(plan.service("echo-udp")?.recorded_estimate.is_none(), "{plan:?}");
    ensure!(site.daemon().status()?.service("web")?.open_slots == 0, "a plan changes something");
    let done = reload(&site, &grown)?;
    ensure!(moves(&done) == moves(&plan), "planned {:?}, and then {:?}", plan.services, done.services);
    for planned in &plan.services {
        site.daemon().wait_service(&planned.name, "the shares of the plan", LIMIT, |service| {
            service.is_complete() && shares_are(service, planned)
        })?;
        ensure!(planned.moved_slots == planned.remembering_slots && planned.moved_slots > 0, "{planned:?}");
    }
    let after = who_answers(client, site.echo(), Transport::Tcp, &ports)?;
    let moved = after.iter().filter(|(port, backend)| before.get(port) != Some(backend)).count();
    let (share, planned) = (moved as f64 / ports.len() as f64, plan.service("echo")?.moved_share);
    ensure!(
        (share - planned).abs() < 0.08,
        "{share} of the connections went elsewhere, planned was {planned}"
    );
    connections.exchange(5)?;
    flows.exchange(2)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
    ensure!(flows.moved().is_empty(), "{:?}", flows.moved());

    // One is cut: its connections are lost, and no other ones.
    let cut = disabled(&grown, 0);
    let plan = self::plan(&site, &cut, LOSSY)?;
    let lost: BTreeSet<&str> = plan.lost.iter().map(|loss| loss.of.as_str()).collect();
    ensure!(lost == BTreeSet::from(["echo/backend-1", "echo-udp/backend-1", "web/backend-1"]), "{plan:?}");
    let doomed = on_backend(&connections, "backend-1");
    if mode == Mode::Nat {
        let loss = plan.lost.iter().find(|loss| loss.of == "echo/backend-1").context("a loss")?;
        ensure!(loss.translated >= doomed.len() as u64, "{} of them: {loss:?}", doomed.len());
    }
    ensure!(!doomed.is_empty() && doomed.len() < 200, "{doomed:?}");
    reload(&site, &cut)?;
    wait_for("the planned connections to break", LIMIT, || {
        Ok((broken(&connections).is_superset(&doomed)).then_some(()))
    })?;
    connections.exchange(5)?;
    ensure!(broken(&connections) == doomed, "planned {doomed:?}, broken {:?}", broken(&connections));

    // Back to where everything was: nobody who is left loses anything.
    site.daemon().ask(&["rollback"])?;
    for planned in &done.services {
        site.daemon().wait_service(&planned.name, "the shares of before", LIMIT, |service| {
            service.is_complete() && shares_are(service, planned)
        })?;
    }
    connections.exchange(5)?;
    ensure!(broken(&connections) == doomed, "{:?}", connections.broken());
    let report = load.finish();
    // What was under way on the backend that was cut is lost with it, and nothing else.
    let failed = report.failed().count();
    ensure!(failed <= 16, "{failed} requests failed: {:?}", report.errors());
    site.succeeded();
    Ok(())
}

#[test]
fn rollback_returns_to_what_was_in_force_and_outlives_the_daemon() -> Result<()> {
    let options = SiteOptions::new(Mode::L2, Family::V4)?;
    let [first, second] = [[100, 100, 200], [100, 300, 200]].map(|weights| options.config(&weights));
    let mut site = Site::start(options, &first)?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 40)?;
    let original = wait_kept(&site)?;
    reload(&site, &second)?;
    let listed: serde_json::Value = site.daemon().ask_json(&["rollback", "--list"])?;
    let numbers: Vec<_> =
        listed["revisions"].as_array().context("a list")?.iter().map(|of| &of["number"]).collect();
    ensure!(numbers == [1, 2], "{listed}");

    // What is not valid changes nothing, and is not kept.
    let text = site.daemon().config_text()?;
    site.daemon().write_config_text(&text.replacen("weight: 300", "weight: 0", 1))?;
    for line in [&["reload"][..], &["reload", "--dry-run"], &["plan"]] {
        let (code, _, complaint) = site.daemon().ask_code(line)?;
        ensure!(code == INVALID && complaint.contains("weight"), "{line:?}: {code}, {complaint}");
    }
    ensure!(site.daemon().status()?.config.revision == Some(2));
    site.daemon().write_config_text(&text)?;

    let plan: Plan = planned(&site, &["rollback", "--dry-run", "--json"], SAFE)?;
    ensure!(plan.service("web")?.moved_slots > 0, "{plan:?}");
    site.daemon().ask(&["rollback"])?;
    let status = site.daemon().status()?;
    ensure!(status.config.hash == original, "{:?}", status.config);
    ensure!(status.config.instead_of_file.as_deref() == Some("revision 1"), "{:?}", status.config);
    ensure!(
        status.warnings.iter().any(|warning| warning.contains("`vip-lb reload`")),
        "{:?}",
        status.warnings
    );

    site.daemon_mut().kill()?;
    site.daemon_mut().launch()?;
    let status = site.daemon().status()?;
    ensure!(status.config.hash == original, "a start forgets the rollback: {:?}", status.config);
    ensure!(status.config.instead_of_file.as_deref() == Some("revision 3"), "{:?}", status.config);

    // The file changes while no daemon runs: it holds again.
    site.daemon_mut().kill()?;
    site.daemon().write_config_text(&format!("# edited\n{text}"))?;
    site.daemon_mut().launch()?;
    let status = site.daemon().status()?;
    ensure!(status.config.instead_of_file.is_none() && status.config.hash != original, "{:?}", status.config);

    site.daemon().ask(&["rollback", "1"])?;
    ensure!(site.daemon().status()?.config.hash == original);
    site.daemon().ask(&["reload"])?;
    ensure!(site.daemon().status()?.config.instead_of_file.is_none(), "the file is in force again");
    let (code, _, complaint) = site.daemon().ask_code(&["rollback", "99"])?;
    ensure!(code == 1 && complaint.contains("revision 99"), "{code}: {complaint}");
    connections.exchange(5)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
    site.succeeded();
    Ok(())
}

/// With `watch: safe` a file is in force soon after it was written, unless connections would be lost by it or it is not valid.
#[test]
fn a_watched_file_comes_in_force_by_itself_if_that_is_safe() -> Result<()> {
    let options = SiteOptions::new(Mode::L2, Family::V4)?;
    let with = |weights: &[u16]| {
        let mut config = options.config(weights);
        config.node.watch = Some("safe".to_owned());
        config
    };
    let [first, second] = [[100, 100, 200], [100, 300, 200]].map(|weights| with(&weights));
    let site = Site::start(options.clone(), &first)?;
    let daemon = site.daemon();
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 40)?;
    wait_kept(&site)?;
    let warns = |of: &'static str| {
        wait_for("the status to warn", LIMIT, || {
            Ok(daemon.status()?.warnings.iter().any(|warning| warning.contains(of)).then_some(()))
        })
        .with_context(|| format!("of {of}: {:?}", daemon.status().map(|status| status.warnings)))
    };

    // Written beside and renamed, as an editor does.
    let beside = daemon.config_path().with_extension("new");
    let kept = daemon.config_text()?;
    daemon.write_config(&second)?;
    let text = daemon.config_text()?;
    std::fs::write(&beside, &text)?;
    std::fs::write(daemon.config_path(), &kept)?;
    std::fs::rename(&beside, daemon.config_path())?;
    daemon.wait_service("web", "the new weights", LIMIT, |service| {
        service.backend("backend-2").is_some_and(|backend| backend.ring_share > 0.45)
    })?;
    let in_force = daemon.status()?.config.hash;

    daemon.write_config(&disabled(&second, 0))?;
    warns("would lose the connections of echo/backend-1")?;
    daemon.write_config_text("node: [")?;
    warns("is not in force: cannot apply")?;
    ensure!(daemon.status()?.config.hash == in_force, "something came in force");
    daemon.write_config_text(&text)?;
    wait_for("the warning to end", LIMIT, || Ok(daemon.status()?.warnings.is_empty().then_some(())))?;

    // Whoever reloads wants it.
    daemon.reload(&disabled(&second, 0))?;
    ensure!(daemon.status()?.config.hash != in_force);
    connections.exchange(3)?;
    ensure!(!connections.broken().is_empty(), "nothing was cut");
    site.succeeded();
    Ok(())
}

/// The plan of a configuration, which is left beside the daemon's own file, has to have this exit code.
fn plan(site: &Site, config: &ConfigFile, code: i32) -> Result<Plan> {
    let kept = site.daemon().config_text()?;
    site.daemon().write_config(config)?;
    let beside = site.daemon().config_path().with_extension("new.yaml");
    std::fs::rename(site.daemon().config_path(), &beside)?;
    site.daemon().write_config_text(&kept)?;
    planned(site, &["plan", "--json", beside.to_str().context("a path in UTF-8")?], code)
}

fn planned(site: &Site, line: &[&str], code: i32) -> Result<Plan> {
    let (found, answer, complaint) = site.daemon().ask_code(line)?;
    ensure!(found == code, "{line:?} exits with {found}, not {code}: {answer}{complaint}");
    serde_json::from_str(&answer).with_context(|| format!("read the plan {answer}"))
}

fn reload(site: &Site, config: &ConfigFile) -> Result<Plan> {
    site.daemon().write_config(config)?;
    let plan: Plan = site.daemon().ask_json(&["reload"])?;
    ensure!(plan.revision.is_some(), "not kept: {plan:?}");
    Ok(plan)
}

/// What a plan says but for the estimates, which follow the traffic.
fn moves(plan: &Plan) -> Vec<PlannedService> {
    let without = |service: &PlannedService| PlannedService { recorded_estimate: None, ..service.clone() };
    plan.services.iter().map(without).collect()
}

fn shares_are(service: &Service, planned: &PlannedService) -> bool {
    planned.backends.iter().all(|planned| {
        service.backend(&planned.name).is_some_and(|backend| backend.ring_slots == planned.slots_after)
    })
}

fn disabled(config: &ConfigFile, backend: usize) -> ConfigFile {
    let mut config = config.clone();
    for service in config.services_mut() {
        service.backends[backend].state = Some("disabled".to_owned());
    }
    config
}

/// The client's ends of the connections that a backend has.
fn on_backend(connections: &LongConnections, backend: &str) -> BTreeSet<SocketAddr> {
    connections.states().into_iter().filter(|of| of.backend == backend).map(|of| of.local).collect()
}

fn broken(connections: &LongConnections) -> BTreeSet<SocketAddr> {
    connections.broken().into_iter().map(|of| of.local).collect()
}

/// Waits until the configuration of the start is kept, and returns its fingerprint.
fn wait_kept(site: &Site) -> Result<String> {
    wait_for("the configuration to be kept", LIMIT, || {
        let config = site.daemon().status()?.config;
        Ok(config.revision.map(|_| config.hash))
    })
}
