//! What this node states of itself.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use vip_lb_common::abi::BackendRef;

use super::Daemon;
use crate::{
    control::{desired::ServiceKey, service::Service},
    ownership::{RouterReport, vrrp::State},
    peering::{
        secret::Secret,
        statement::{self, RingFacts, RouterStatement, ServiceStatement, Statement, VipStatement},
    },
};

/// What was worked out before, and need not be again.
#[derive(Default)]
pub(super) struct Stated {
    /// The reading of the configuration that the services are of, and the services without their rings.
    configured: Option<(SystemTime, Vec<ServiceStatement>)>,
    /// Rings, each with the service's number and how often its ring had changed.
    rings: BTreeMap<ServiceKey, ((u16, u64), RingFacts)>,
}

impl Daemon {
    /// How this node is now.
    pub(super) fn statement(&mut self, secret: &Secret) -> Statement {
        self.state_configured();
        self.state_rings();
        let Stated { configured, rings } = &self.peers.stated;
        let services = configured.iter().flat_map(|(_, services)| services).map(|service| {
            let ring = rings.get(&service.key);
            ring.map_or_else(|| service.clone(), |(_, ring)| service.clone().with_ring(ring))
        });
        let vips = self.config.vips.iter().map(|vip| {
            let settings = statement::vip_settings(vip);
            (vip.address, VipStatement { settings, answers: self.answers_for(vip.address) })
        });
        let reports = self.vrrp.as_ref().map(crate::ownership::Task::reports).unwrap_or_default();
        Statement {
            node: self.config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            seed: statement::seed(secret, &self.config.node.seed),
            vips: vips.collect(),
            services: services.collect(),
            routers: reports.into_iter().map(|report| self.router_statement(report)).collect(),
            summary: None,
        }
    }

    fn state_configured(&mut self) {
        let loaded_at = self.file.loaded_at;
        if self.peers.stated.configured.as_ref().is_some_and(|(at, _)| *at == loaded_at) {
            return;
        }
        let services = self.config.vips.iter().flat_map(|vip| vip.services.iter().map(move |of| (vip, of)));
        let services = services.map(|(vip, of)| {
            let key = ServiceKey { vip: vip.address, ports: of.ports, protocol: of.protocol };
            statement::service(key, of)
        });
        self.peers.stated.configured = Some((loaded_at, statement::listing(services.collect())));
        // Which addresses are counted may be others.
        self.peers.stated.rings.clear();
    }

    /// Looks at those rings again that have changed.
    fn state_rings(&mut self) {
        let Stated { configured, rings } = &mut self.peers.stated;
        rings.retain(|key, _| self.engine.published(key).is_some());
        for service in configured.iter().flat_map(|(_, services)| services) {
            let Some(published) = self.engine.published(&service.key) else { continue };
            let version = (published.reference.id, published.ring.version());
            let open = published.ring.open() as u32;
            match rings.get_mut(&service.key) {
                Some((known, facts)) if *known == version => facts.open = open,
                _ => {
                    rings.insert(service.key, (version, ring_facts(service, published, open)));
                }
            }
        }
    }

    fn router_statement(&self, report: RouterReport) -> RouterStatement {
        let withdrawn = |vip: &IpAddr| Some(self.claims.get(vip)?.withdrawal()?.to_string());
        let faulty = |vip: &IpAddr| {
            self.config.vips.iter().find(|of| of.address == *vip).and_then(|of| self.fault_of(of))
        };
        let hindrance = report
            .hindrance
            .or_else(|| report.vips.iter().find_map(withdrawn))
            .or_else(|| report.vips.iter().find_map(faulty))
            .or_else(|| (report.state == State::Initialize).then(|| "it is being set up".to_owned()));
        RouterStatement {
            id: report.router.id(),
            vips: report.vips,
            address: report.source,
            active: report.state == State::Active,
            hindrance,
        }
    }
}

fn ring_facts(service: &ServiceStatement, published: &Service, open: u32) -> RingFacts {
    let identities: HashMap<BackendRef, u64> =
        published.members.iter().map(|(&identity, member)| (member.reference, identity)).collect();
    let slots: Vec<u64> = published
        .ring
        .slots()
        .iter()
        .map(|slot| identities.get(&slot.current).copied().unwrap_or(0))
        .collect();
    RingFacts::new(&service.key, &slots, open, service.listed.keys().copied())
}
