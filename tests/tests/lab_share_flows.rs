//! A VIP moves while slots are open: nodes that tell each other what they record break no connection by it, and others do.
//!
//! `VIP_LB_TEST_CONNECTIONS` sets how many connections and flows begin at each of four times.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use vip_lb_tests::{
    failover::{Kind, Pair},
    lab::{ConfigFile, Family, LongConnections, UdpFlows, patience, wait_for},
};

const LIMIT: Duration = Duration::from_secs(30);

fn count() -> usize {
    std::env::var("VIP_LB_TEST_CONNECTIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(40)
}

/// Connections and flows of several times: each must stay with the backend where it began.
#[derive(Default)]
struct Clients {
    connections: Vec<LongConnections>,
    flows: Vec<UdpFlows>,
}

impl Clients {
    fn more(&mut self, pair: &Pair) -> Result<()> {
        let (client, echo) = (&pair.site.lab.client.namespace, pair.site.echo());
        self.connections.push(LongConnections::open(client, echo, count())?);
        self.flows.push(UdpFlows::open(client, echo, count())?);
        Ok(())
    }

    fn exchange(&self) -> Result<()> {
        self.connections.iter().try_for_each(|connections| connections.exchange(5))?;
        self.flows.iter().try_for_each(|flows| flows.exchange(5))
    }

    fn check(&self, when: &str) -> Result<()> {
        self.exchange()?;
        for (age, connections) in self.connections.iter().enumerate() {
            let broken = connections.broken();
            ensure!(broken.is_empty(), "{when}: {} of batch {age} broke: {broken:?}", broken.len());
        }
        for (age, flows) in self.flows.iter().enumerate() {
            ensure!(flows.moved().is_empty(), "{when}: of batch {age} moved {:?}", flows.moved());
        }
        Ok(())
    }
}

#[test]
fn nothing_breaks_when_a_vip_moves_while_backends_change_over_ipv4() -> Result<()> {
    there_and_back(Family::V4)
}

#[test]
fn nothing_breaks_when_a_vip_moves_while_backends_change_over_ipv6() -> Result<()> {
    there_and_back(Family::V6)
}

fn there_and_back(family: Family) -> Result<()> {
    let mut pair = Pair::of_peers(family, None)?;
    let mut clients = Clients::default();
    clients.more(&pair)?;
    pair.change_weights([400, 100, 100])?;
    clients.more(&pair)?;
    clients.check("backends changed")?;
    pair.move_to(1)?;
    clients.check("the VIP moved")?;

    // What begins at the other node has to be known here when it comes back.
    clients.more(&pair)?;
    pair.change_weights([100, 400, 100])?;
    clients.more(&pair)?;
    pair.move_to(0)?;
    clients.check("the VIP moved back")?;

    // A node whose memory is lost learns it again before it takes part.
    ensure!(pair.site.daemons[1].stop()?.is_none_or(|status| status.success()));
    pair.site.daemons[1].unload()?;
    pair.site.daemons[1].launch()?;
    pair.site.wait_agreement()?;
    pair.site.wait_router(1, "backup")?;
    pair.move_to(1)?;
    clients.check("the VIP moved to a node that was started anew")?;

    // Not on purpose: the active daemon is killed. What was recorded a while ago is known.
    pair.move_to(0)?;
    clients.check("the VIP moved back again")?;
    pair.site.daemons[0].kill()?;
    pair.site.wait_router(1, "active")?;
    pair.site.wait_found_at(1)?;
    clients.check("the active daemon was killed")?;
    pair.site.succeeded();
    Ok(())
}

#[test]
fn connections_break_when_nothing_is_shared() -> Result<()> {
    let pair = Pair::of_peers(Family::V4, Some(&["orders"]))?;
    let mut clients = Clients::default();
    clients.more(&pair)?;
    pair.change_weights([400, 100, 100])?;
    clients.more(&pair)?;
    clients.check("backends changed")?;
    pair.move_to(1)?;
    clients.exchange()?;
    ensure!(
        !clients.connections[1].broken().is_empty(),
        "nothing had to be shared, so the other test shows nothing"
    );
    pair.site.succeeded();
    Ok(())
}

/// It waited for ever to learn from peers that it could not speak with.
#[test]
fn a_node_that_can_speak_with_no_peer_takes_part() -> Result<()> {
    let pair = Pair::start_with(Kind::VipLb, Family::V4, 100, [200, 100], |site, edge, config| {
        Ok(site.with_peers(&config, edge, &site.lab.scratch.path().join("missing")))
    })?;
    pair.site.succeeded();
    Ok(())
}

/// Has a node follow another configuration.
fn reconfigure(pair: &Pair, edge: usize, change: impl FnOnce(&mut ConfigFile)) -> Result<()> {
    let daemon = &pair.site.daemons[edge];
    let mut config = ConfigFile::from_yaml(&daemon.config_text()?)?;
    change(&mut config);
    daemon.reload(&config)
}

fn with_short_timeouts(config: &mut ConfigFile) {
    let idle = format!("{}s", 2 * patience());
    config.services_mut().for_each(|service| service.idle_timeout = Some(idle.clone()));
}

/// Open slots of `echo` at both nodes.
fn open_slots(pair: &Pair) -> Result<[u32; 2]> {
    let open = |edge: usize| -> Result<u32> {
        let status = pair.site.daemons[edge].status()?;
        Ok(status.service("echo").map_or(0, |echo| echo.open_slots))
    };
    Ok([open(0)?, open(1)?])
}

/// A backup with slots that are open for the active node alone, which has connections in them.
struct Held {
    pair: Pair,
    connections: LongConnections,
}

impl Held {
    fn start() -> Result<Self> {
        let pair = Pair::of_peers(Family::V4, None)?;
        for edge in [0, 1] {
            reconfigure(&pair, edge, with_short_timeouts)?;
        }
        let connections = LongConnections::open(&pair.site.lab.client.namespace, pair.site.echo(), count())?;
        pair.change_weights([400, 100, 100])?;
        let held = Self { pair, connections };
        let settled =
            |[active, backup]: [u32; 2]| active > 0 && active as usize <= count() && active == backup;
        held.wait("slots without connections to close at both nodes", settled)?;
        Ok(held)
    }

    /// Waits for the open slots of both nodes, while the connections go on.
    fn wait(&self, what: &str, holds: impl Fn([u32; 2]) -> bool) -> Result<()> {
        let mut last = [0; 2];
        wait_for(what, LIMIT, || {
            let _ = self.connections.exchange(1);
            last = open_slots(&self.pair)?;
            Ok(holds(last).then_some(()))
        })
        .with_context(|| format!("open are {last:?}"))
    }
}

/// They stayed open as long as the daemon ran.
#[test]
fn slots_that_are_open_for_a_peer_close_when_sharing_is_switched_off() -> Result<()> {
    let held = Held::start()?;
    reconfigure(&held.pair, 1, |config| {
        if let Some(peering) = &mut config.node.peering {
            peering.share = Some(vec!["orders".to_owned()]);
        }
    })?;
    held.wait("the slots to close at the backup alone", |[active, backup]| active > 0 && backup == 0)?;
    let broken = held.connections.broken();
    ensure!(broken.is_empty(), "{broken:?}");
    held.pair.site.succeeded();
    Ok(())
}

/// They stayed open as long as the peer was heard.
#[test]
fn slots_that_are_open_for_a_peer_close_when_it_has_the_service_no_more() -> Result<()> {
    let held = Held::start()?;
    reconfigure(&held.pair, 0, |config| config.vips[0].services.retain(|service| service.name != "echo"))?;
    held.wait("the slots to close at the backup", |open| open == [0, 0])?;
    held.pair.site.succeeded();
    Ok(())
}

/// They were taken for those of the same number, and flows would have gone to backends that they never had.
#[test]
fn slots_of_a_ring_of_another_size_mean_nothing() -> Result<()> {
    let pair = Pair::start_with(Kind::VipLb, Family::V4, 100, [200, 100], |site, edge, config| {
        let mut config = site.with_peers(&config, edge, &site.secret("secret")?);
        with_short_timeouts(&mut config);
        config.service_mut("echo").ring = (edge == 0).then_some(65_537);
        Ok(config)
    })?;
    pair.site.wait_peers(1, "the other ring", |peering| peering.peers[0].agrees == Some(false))?;
    pair.wait_settled()?;

    // The backup hears of them for as long as they are open.
    reconfigure(&pair, 0, |config| config.service_mut("echo").backends[0].weight = 400)?;
    wait_for("slots to open", LIMIT, || Ok((open_slots(&pair)?[0] > 0).then_some(())))?;
    wait_for("slots to close", LIMIT, || {
        let [active, backup] = open_slots(&pair)?;
        ensure!(backup == 0, "{backup} slots of the backup are open");
        Ok((active == 0).then_some(()))
    })?;
    pair.site.succeeded();
    Ok(())
}
