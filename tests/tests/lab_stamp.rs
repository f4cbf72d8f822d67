//! Adverts that the packet path sees and the daemon does not: a firewall on the backup's host drops them, or the daemon does not run. A node whose active
//! node is seen to speak does not take its place.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vip_lb_tests::{
    failover::{Kind, Pair},
    lab::{Daemon, Site, patience, wait_for},
};

const LIMIT: Duration = Duration::from_secs(20);
/// Milliseconds between adverts.
const INTERVAL_MS: u32 = 100;
/// How often the backup is stopped for longer than it would wait.
const STOPS: usize = 20;
/// A chain of nftables that lets no advert pass.
const FIREWALL: &str =
    "table inet lab { chain drops { type filter hook input priority 0; meta l4proto 112 drop; }; }";

/// Longer than a backup waits for the active node.
fn longer_than_down() -> Duration {
    Duration::from_millis(u64::from(5 * INTERVAL_MS * patience()))
}

/// Has what comes to a node's programs be no adverts.
fn drop_adverts(site: &Site, edge: usize) -> Result<()> {
    site.lab.edges[edge].namespace.run("nft", &[FIREWALL]).map(drop)
}

fn let_adverts_pass(site: &Site, edge: usize) -> Result<()> {
    site.lab.edges[edge].namespace.run("nft", &["delete", "table", "inet", "lab"]).map(drop)
}

fn unheard(daemon: &Daemon) -> Result<Option<String>> {
    let router = daemon.status()?.vips.remove(0).vrrp;
    Ok(router.and_then(|router| router.unheard))
}

#[test]
fn a_firewall_that_drops_adverts_makes_no_second_owner() -> Result<()> {
    let mut pair = Pair::start(Kind::VipLb, INTERVAL_MS, [210, 200])?;
    let site = &pair.site;
    let changes = site.router(1)?.changes.len();
    drop_adverts(site, 1)?;
    let said = wait_for("the backup to say what it does not hear", LIMIT, || unheard(&site.daemons[1]))?;
    ensure!(said.ends_with("a firewall on this host drops protocol 112?"), "{said}");
    ensure!(site.daemons[1].status()?.warnings.contains(&said), "the warnings do not say so");
    ensure!(site.daemons[1].ask(&["vip"])?.contains(&format!("! {said}")), "`vip-lb vip` does not say so");
    wait_for("an event that says so", LIMIT, || {
        let events = site.daemons[1].ask(&["events", "--since", "1h"])?;
        Ok(events.contains(&said).then_some(()))
    })?;
    // It sees them, and many more than would do for it to take over.
    let seen = site.daemons[1].counter("advert_noted")?;
    let more = u64::from(longer_than_down().as_millis() as u32 / INTERVAL_MS) / u64::from(patience());
    wait_for("more adverts to be seen", LIMIT, || {
        Ok((site.daemons[1].counter("advert_noted")? > seen + 2 * more).then_some(()))
    })?;
    let received = site.router(1)?.adverts_received;
    pair.wait_owner(0)?;
    let router = site.router(1)?;
    ensure!(router.changes.len() == changes, "it took over: {:?}", router.changes);
    ensure!(router.adverts_received == received, "the firewall lets adverts pass");
    ensure!(router.active.is_some_and(|active| active.priority == 210), "{router:?}");

    // Its daemon began anew, and never heard anybody.
    pair.site.daemons[1].stop()?;
    pair.site.daemons[1].launch()?;
    wait_for("the backup to say so again", LIMIT, || unheard(&pair.site.daemons[1]))?;
    pair.wait_owner(0)?;

    // One that is dead is seen no more.
    let site = &pair.site;
    site.lab.switch.set_silent("edge-1", true)?;
    site.wait_router(1, "active")?;
    site.lab.switch.set_silent("edge-1", false)?;
    // Both are active now. The lower one sees that, and gives way.
    pair.wait_owner(0)?;
    let router = site.router(1)?;
    let last = router.changes.last().context("a change")?;
    ensure!(last.why.starts_with("a node of higher priority is active"), "{last:?}");

    let_adverts_pass(site, 1)?;
    wait_for("the warning to end", LIMIT, || Ok(unheard(&site.daemons[1])?.is_none().then_some(())))?;
    site.succeeded();
    Ok(())
}

/// What keepalived does there.
#[test]
fn keepalived_takes_over_behind_a_firewall_that_drops_adverts() -> Result<()> {
    let pair = Pair::start(Kind::Keepalived, INTERVAL_MS, [210, 200])?;
    drop_adverts(&pair.site, 1)?;
    wait_for("both nodes to have the VIP", LIMIT, || Ok((pair.has_vip(0)? && pair.has_vip(1)?).then_some(())))
}

#[test]
fn a_daemon_that_is_woken_late_does_not_take_over() -> Result<()> {
    let pair = Pair::start(Kind::VipLb, INTERVAL_MS, [210, 200])?;
    let site = &pair.site;
    let before = [site.router(0)?.changes.len(), site.router(1)?.changes.len()];
    for stop in 0..STOPS {
        let heard = site.router(1)?.adverts_received;
        site.daemons[1].signal(libc::SIGSTOP)?;
        // There is nothing to wait for but time.
        std::thread::sleep(longer_than_down());
        site.daemons[1].signal(libc::SIGCONT)?;
        wait_for("it to hear the active node", LIMIT, || {
            Ok((site.router(1)?.adverts_received > heard).then_some(()))
        })?;
        let changes = [site.router(0)?.changes.len(), site.router(1)?.changes.len()];
        ensure!(changes == before, "after stop {stop} the VIP moved: {:?}", site.router(1)?.changes);
    }
    // The active node is dead in earnest.
    site.lab.switch.set_silent("edge-1", true)?;
    site.wait_router(1, "active")?;
    let router = site.router(1)?;
    let last = router.changes.last().context("a change")?;
    ensure!(last.why.starts_with("the active node was silent"), "{last:?}");
    site.succeeded();
    Ok(())
}
