//! A VIP moves while slots are open: nodes that tell each other what they record break no connection by it, and others do.
//!
//! `VIP_LB_TEST_CONNECTIONS` sets how many connections and flows begin at each of four times.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use vip_lb_tests::lab::{
    ConfigFile, Family, LongConnections, Mode, Site, SiteOptions, UdpFlows, VrrpConfig, patience, vip,
    wait_for,
};

const LIMIT: Duration = Duration::from_secs(30);

fn count() -> usize {
    std::env::var("VIP_LB_TEST_CONNECTIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(40)
}

/// Two nodes, the first of which is active.
struct Pair {
    site: Site,
    config: ConfigFile,
    secret: PathBuf,
    share: Option<Vec<String>>,
}

impl Pair {
    fn start(family: Family, share: Option<&[&str]>) -> Result<Self> {
        let options = SiteOptions { edges: 2, ..SiteOptions::new(Mode::L2, family)? };
        let mut config = options.config(&[100, 100, 200]);
        config.vips[0].ownership = Some("vrrp".to_owned());
        let mut site = Site::without_daemons(options)?;
        let secret = site.secret("secret")?;
        let share = share.map(|share| share.iter().map(|what| (*what).to_owned()).collect());
        let files: Vec<_> = (0..2).map(|edge| file(&site, &config, edge, &secret, share.as_ref())).collect();
        site.start_daemons_with(|edge| files[edge].clone())?;
        site.wait_router(0, "active")?;
        site.wait_router(1, "backup")?;
        site.wait_agreement()?;
        site.wait_found_at(0)?;
        let pair = Self { site, config, secret, share };
        pair.wait_open_slots(|open| open == 0)?;
        Ok(pair)
    }

    /// The backends change, at the backup first.
    fn change(&mut self, weights: [u16; 3]) -> Result<()> {
        for service in ["echo", "echo-udp"] {
            let backends = &mut self.config.service_mut(service).backends;
            backends.iter_mut().zip(weights).for_each(|(backend, weight)| backend.weight = weight);
        }
        for edge in [1, 0] {
            let file = file(&self.site, &self.config, edge, &self.secret, self.share.as_ref());
            self.site.daemons[edge].reload(&file)?;
        }
        self.wait_open_slots(|open| open > 0)?;
        self.site.wait_agreement()
    }

    fn wait_open_slots(&self, holds: impl Fn(u32) -> bool) -> Result<()> {
        for daemon in &self.site.daemons {
            for service in ["echo", "echo-udp"] {
                daemon.wait_service(service, "its slots", LIMIT, |of| holds(of.open_slots))?;
            }
        }
        Ok(())
    }

    fn connections(&self) -> Result<LongConnections> {
        LongConnections::open(&self.site.lab.client.namespace, self.site.echo(), count())
    }

    fn flows(&self) -> Result<UdpFlows> {
        UdpFlows::open(&self.site.lab.client.namespace, self.site.echo(), count())
    }

    /// Moves the VIP to the second node, or back.
    fn move_to(&self, node: usize) -> Result<()> {
        let vip = vip(self.site.options.family).to_string();
        let back = if node == 0 { &["--back"][..] } else { &[] };
        self.site.daemons[0].ask(&[&["handover", &vip], back].concat())?;
        self.site.wait_router(node, "active")?;
        self.site.wait_found_at(node)
    }
}

fn file(
    site: &Site,
    config: &ConfigFile,
    edge: usize,
    secret: &std::path::Path,
    share: Option<&Vec<String>>,
) -> ConfigFile {
    let mut config = site.with_peers(config, edge, secret);
    config.vips[0].vrrp = Some(VrrpConfig {
        router_id: 51,
        priority: Some(if edge == 0 { 200 } else { 100 }),
        interval: Some(format!("{}ms", 100 * patience())),
        ..VrrpConfig::default()
    });
    if let Some(peering) = &mut config.node.peering {
        peering.share = share.cloned();
    }
    config
}

/// Connections and flows of several times: each must stay with the backend where it began.
#[derive(Default)]
struct Clients {
    connections: Vec<LongConnections>,
    flows: Vec<UdpFlows>,
}

impl Clients {
    fn more(&mut self, pair: &Pair) -> Result<()> {
        self.connections.push(pair.connections()?);
        self.flows.push(pair.flows()?);
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
    let mut pair = Pair::start(family, None)?;
    let mut clients = Clients::default();
    clients.more(&pair)?;
    pair.change([400, 100, 100])?;
    clients.more(&pair)?;
    clients.check("backends changed")?;
    pair.move_to(1)?;
    clients.check("the VIP moved")?;

    // What begins at the other node has to be known here when it comes back.
    clients.more(&pair)?;
    pair.change([100, 400, 100])?;
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
    let waits = || Ok(clients.exchange().ok());
    wait_for("what is recorded to be told", LIMIT, waits)?;
    pair.site.daemons[0].kill()?;
    pair.site.wait_router(1, "active")?;
    pair.site.wait_found_at(1)?;
    clients.check("the active daemon was killed")?;
    pair.site.succeeded();
    Ok(())
}

#[test]
fn connections_break_when_nothing_is_shared() -> Result<()> {
    let mut pair = Pair::start(Family::V4, Some(&["orders"]))?;
    let mut clients = Clients::default();
    clients.more(&pair)?;
    pair.change([400, 100, 100])?;
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
    let options = SiteOptions { edges: 2, ..SiteOptions::new(Mode::L2, Family::V4)? };
    let mut config = options.config(&[100, 100, 200]);
    config.vips[0].ownership = Some("vrrp".to_owned());
    let mut site = Site::without_daemons(options)?;
    let missing = site.lab.scratch.path().join("missing");
    let files: Vec<_> = (0..2).map(|edge| file(&site, &config, edge, &missing, None)).collect();
    site.start_daemons_with(|edge| files[edge].clone())?;
    site.wait_router(0, "active")?;
    site.wait_router(1, "backup")?;
    site.succeeded();
    Ok(())
}
