//! A change that would move connections is refused with its reason, by request and by SIGHUP, and nothing changes. So is a
//! start with it on what is pinned.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use vip_lb_tests::lab::{
    Family, HttpLoad, LoadOptions, LongConnections, Mode, Site, SiteOptions, Transport, nothing_lost,
    wait_for, who_answers,
};

const LIMIT: Duration = Duration::from_secs(15);

#[test]
fn what_would_move_connections_is_refused() -> Result<()> {
    let options = SiteOptions::new(Mode::L2, Family::V4)?;
    let config = options.config(&[100, 100, 200]);
    let mut site = Site::start(options, &config)?;
    let client = &site.lab.client.namespace;
    let ports: Vec<u16> = (20_000..20_100).collect();
    let mapping = who_answers(client, site.echo(), Transport::Tcp, &ports)?;
    let connections = LongConnections::open(client, site.echo(), 30)?;
    let load = HttpLoad::start(client, LoadOptions::steady(site.web()))?;
    let good = site.daemon().config_text()?;
    let before = site.daemon().status()?;
    let hostile = [
        ("seed", good.replacen("the seed of all labs", "the seed of another lab", 1)),
        ("ring", with_line(&good, "mode: l2", "ring: 65537")?),
        ("affinity", with_line(&good, "mode: l2", "affinity: source")?),
    ];

    for (reason, text) in &hostile {
        ensure!(*text != good, "nothing to change for {reason} in {good}");
        let daemon = site.daemon();
        daemon.write_config_text(text)?;
        let refusal = daemon.ask(&["reload"]).err().with_context(|| format!("another {reason} was taken"))?;
        ensure!(format!("{refusal:#}").contains(reason), "{reason}: {refusal:#}");
        let logged = daemon.log().len();
        daemon.hang_up()?;
        wait_for("the log to tell why", LIMIT, || {
            let said = daemon.log()[logged..].to_owned();
            Ok((said.contains("nothing was changed") && said.contains(reason)).then_some(()))
        })?;
        let after = daemon.status()?;
        ensure!(after.config == before.config && after.pid == before.pid, "{reason}: {after:?}");
        for service in ["web", "echo", "echo-udp"] {
            let (found, expected) = (after.service(service)?, before.service(service)?);
            ensure!(found.open_slots == 0, "{reason} opened slots: {found:?}");
            for (found, expected) in found.backends.iter().zip(&expected.backends) {
                ensure!(found.ring_slots == expected.ring_slots, "{reason} changed the ring: {found:?}");
            }
        }
        connections.exchange(2)?;
    }

    // Nor does a start get by with it, and the program forwards on as it did.
    for (reason, text) in &hostile {
        site.daemon_mut().stop()?;
        site.daemon().write_config_text(text)?;
        let refusal =
            site.daemon_mut().launch().err().with_context(|| format!("started with another {reason}"))?;
        ensure!(format!("{refusal:#}").contains(reason), "{reason}: {refusal:#}");
        connections.exchange(2)?;
        site.daemon().write_config_text(&good)?;
        site.daemon_mut().launch()?;
    }
    connections.exchange(2)?;
    nothing_lost(&connections, load)?;
    let client = &site.lab.client.namespace;
    ensure!(who_answers(client, site.echo(), Transport::Tcp, &ports)? == mapping, "flows go elsewhere");
    site.succeeded();
    Ok(())
}

/// The text with another line behind the first that holds `key`, as far to the right.
fn with_line(text: &str, key: &str, line: &str) -> Result<String> {
    let after =
        text.lines().find(|line| line.contains(key)).with_context(|| format!("no `{key}` in {text}"))?;
    let indentation = &after[..after.len() - after.trim_start().len()];
    Ok(text.replacen(after, &format!("{after}\n{indentation}{line}"), 1))
}
