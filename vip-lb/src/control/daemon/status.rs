//! What the daemon tells about itself.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use vip_lb_common::abi::{BackendRef, FlowKey, NatFlow};

use super::{Daemon, interfaces::attached_mode, plan::find_service, target};
use crate::control::{
    desired::{Facts as _, Path, ServiceKey},
    explain::explain,
    service::{Member, Service},
    slow_start::WHOLE,
    standing::Standing,
};
use crate::{
    api::model::{
        self, BackendStatus, ConfigInfo, Counters, Forwarding, ForwardingState, Health, HealthState,
        InterfaceStatus, ServiceStatus, Status, TableStatus, VerdictCount, VipStatus, WatchdogStatus,
    },
    config::model::{Backend, Service as Configured, Vip},
    health::{State, TargetHealth, slower},
    network::{NextHop, Via},
    state::{OrderKey, OrderKind},
    steering::identity,
};

/// What the tables hold at the moment.
#[derive(Default)]
pub(super) struct Entries {
    tables: Vec<TableStatus>,
    flows: HashMap<u16, u64>,
    newborn: HashMap<u16, u64>,
    survivors: HashMap<u16, u64>,
    pub(super) backends: HashMap<BackendRef, u64>,
    pub(super) connections: HashMap<BackendRef, u64>,
}

impl Daemon {
    pub(super) fn status(&self) -> anyhow::Result<Status> {
        let entries = self.entries()?;
        let health: HashMap<_, _> =
            self.health.snapshot().into_iter().map(|health| (health.target.clone(), health)).collect();
        let vip_status = |vip: &Vip| {
            let services = vip.services.iter().map(|service| {
                let key = ServiceKey { vip: vip.address, ports: service.ports, protocol: service.protocol };
                self.service_status(&key, service, &entries, &|backend| {
                    target(vip.address, backend).and_then(|target| health.get(&target))
                })
            });
            Ok(VipStatus {
                address: vip.address,
                ownership: vip.ownership,
                answering: self.answers_for(vip.address),
                withdrawn: self
                    .claims
                    .get(&vip.address)
                    .and_then(|claim| claim.withdrawal())
                    .map(|why| why.to_string())
                    .or_else(|| self.fault_of(vip)),
                vrrp: self.vrrp_status(vip),
                second_owners: self.second_owner_status(vip.address),
                second_owners_found: self.second_owners_found(vip.address),
                route: self.route_status(vip),
                services: services.collect::<anyhow::Result<_>>()?,
            })
        };
        Ok(Status {
            node: self.config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: seconds(self.started),
            node_admin: self.node_admin(),
            config: ConfigInfo {
                path: self.file.path.clone(),
                hash: self.file.hash.clone(),
                loaded_at: seconds(self.file.loaded_at),
                revision: self.keeper.in_force(),
                instead_of_file: self.file.replaced.as_ref().map(|replaced| replaced.name.clone()),
            },
            interfaces: self.interface_status(),
            bonds: self.interfaces.bond_status(),
            hosts: self.host_status(),
            watchdog: WatchdogStatus {
                action: self.config.node.watchdog.action,
                after: self.config.node.watchdog.after.as_secs(),
            },
            vips: self.config.vips.iter().map(vip_status).collect::<anyhow::Result<_>>()?,
            peering: self.peering_status(),
            tables: entries.tables,
            warnings: self
                .warnings
                .iter()
                .cloned()
                .chain(self.doubts())
                .chain(self.second_owner_warnings())
                .chain(self.route_hindrances())
                .chain(self.problems())
                .collect(),
        })
    }

    /// What an operator should know of configuration and state.
    fn doubts(&self) -> Vec<String> {
        let mut doubts = self.keeper.troubles();
        doubts.extend(self.file_doubt.clone());
        doubts.extend(self.delayable_adverts());
        doubts.extend(self.unheard_programs());
        if let Some(replaced) = &self.file.replaced {
            doubts.push(format!(
                "{} is in force and not {}: `vip-lb reload` brings the file in force",
                replaced.name,
                self.file.path.display()
            ));
        }
        doubts
    }

    pub(super) fn counters(&self) -> anyhow::Result<Counters> {
        let verdicts = self.dataplane.verdicts()?.into_iter();
        Ok(Counters {
            verdicts: verdicts
                .map(|(verdict, packets)| VerdictCount { verdict: verdict.into(), packets })
                .collect(),
        })
    }

    pub(super) fn explain(&self, request: &model::ExplainRequest) -> anyhow::Result<model::Explanation> {
        explain(&self.dataplane, request, self)
    }

    fn service_status<'h>(
        &self,
        key: &ServiceKey,
        service: &Configured,
        entries: &Entries,
        health_of: &dyn Fn(&Backend) -> Option<&'h TargetHealth>,
    ) -> anyhow::Result<ServiceStatus> {
        let published = self.engine.published(key);
        let id = published.map(|published| published.reference.id);
        let count = |table: &HashMap<u16, u64>| id.and_then(|id| table.get(&id).copied()).unwrap_or(0);
        let shares = published.map(|published| published.ring.shares()).unwrap_or_default();
        let traffic = match id {
            Some(id) => self.service_rates.traffic(&id, self.dataplane.service_stats(id)?),
            None => model::Traffic::default(),
        };
        let backends = service.backends.iter().map(|backend| {
            let member = member(published, key, backend);
            self.backend_status(
                key,
                service,
                backend,
                published,
                member,
                &shares,
                entries,
                health_of(backend),
            )
        });
        Ok(ServiceStatus {
            name: service.name.clone(),
            port: service.ports,
            protocol: service.protocol,
            affinity: service.affinity,
            ring_slots: service.ring.slots(),
            open_slots: published.map_or(0, |published| published.ring.open() as u32),
            recorded_flows: count(&entries.flows),
            newborn: count(&entries.newborn),
            survivors: count(&entries.survivors),
            floor: self.floors.summary(key).unwrap_or_default(),
            traffic,
            backends: with_slow_ones(backends.collect::<anyhow::Result<_>>()?, service),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the row of a table has as many sources")]
    fn backend_status(
        &self,
        key: &ServiceKey,
        service: &Configured,
        backend: &Backend,
        published: Option<&Service>,
        member: Option<&Member>,
        shares: &HashMap<BackendRef, usize>,
        entries: &Entries,
        health: Option<&TargetHealth>,
    ) -> anyhow::Result<BackendStatus> {
        let order_key = OrderKey { service: *key, backend: backend.address };
        let ruling = self.orders.ruling(&order_key);
        let reference = member.map_or(BackendRef::NONE, |member| member.reference);
        let ring_slots = shares.get(&reference).copied().unwrap_or(0) as u32;
        let previous = |slot: &&vip_lb_common::abi::Slot| slot.phase != 0 && slot.previous == reference;
        let traffic = if reference.is_none() {
            model::Traffic::default()
        } else {
            self.backend_rates.traffic(&reference.index, self.dataplane.backend_stats(reference.index)?)
        };
        Ok(BackendStatus {
            name: backend.name.clone(),
            address: backend.address,
            mode: backend.mode,
            weight: backend.weight.get(),
            weight_percent: self.floors.share(key, backend.address) * (100 / WHOLE),
            admin: backend.state,
            drained_by_operator: ruling.is_some_and(|ruling| ruling.order.kind == OrderKind::Drain),
            operator_order: ruling
                .map(|ruling| self.operator_order(backend.address, Some(&order_key), ruling)),
            health: health_status(health, self.started),
            tier: backend.tier,
            forwarding: self.forwarding(key, backend),
            passive: self.passive_status(service, backend),
            ring_slots,
            ring_share: f64::from(ring_slots) / f64::from(service.ring.slots()),
            previous_slots: published
                .map_or(0, |published| published.ring.slots().iter().filter(previous).count() as u32),
            entries: entries.backends.get(&reference).copied().unwrap_or(0),
            nat_connections: entries.connections.get(&reference).copied().unwrap_or(0),
            next_hop: self.next_hop_in_words(backend.address, member.map(|member| &member.path)),
            traffic,
        })
    }

    /// What a backend's standing means for its packets.
    pub(super) fn forwarding(&self, key: &ServiceKey, backend: &Backend) -> Forwarding {
        let standing = self.standing(key, backend);
        let kept = self.floors.of(key, backend.address).and_then(|decided| decided.kept);
        Forwarding {
            state: match standing {
                Standing::Serving => ForwardingState::InRing,
                Standing::Draining(_) => ForwardingState::Draining,
                Standing::Out(_) => ForwardingState::Out,
            },
            reason: standing.cause().map(|cause| cause.to_string()).or(kept.map(|kept| kept.to_string())),
        }
    }

    fn next_hop_in_words(&self, address: IpAddr, path: Option<&Path>) -> String {
        let link = match path {
            None | Some(Path::Unresolved) => return "unresolved".to_owned(),
            Some(Path::Local) => return "local".to_owned(),
            Some(
                Path::L2(link) | Path::Ipip { link, .. } | Path::Gue { link, .. } | Path::Nat { link, .. },
            ) => link,
        };
        let mac: Vec<_> = link.macs[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        let vlan = match self.next_hop(address) {
            Some(NextHop::Via(Via { vlan: Some(vlan), .. })) => format!(" vlan {vlan}"),
            _ => String::new(),
        };
        format!("{}{vlan} {}", self.interface_name(link.interface), mac.join(":"))
    }

    pub(super) fn interface_name(&self, index: u32) -> String {
        self.interfaces.name_of(index).unwrap_or_else(|| format!("interface {index}"))
    }

    pub(super) fn configured(&self, key: &ServiceKey) -> Option<&Configured> {
        find_service(&self.config, key)
    }

    fn interface_status(&self) -> Vec<InterfaceStatus> {
        let status = self.interfaces.iter().map(|attached| InterfaceStatus {
            name: attached.interface.name.clone(),
            index: attached.interface.index,
            mode: attached_mode(attached.attachment.mode),
            vlan_offload: Some(attached.vlan_offload.clone()),
            bond: attached.bond.clone(),
        });
        status.collect()
    }

    pub(super) fn entries(&self) -> anyhow::Result<Entries> {
        let mut entries = Entries::default();
        let [mut flows, mut newborn, mut survivors] = [0; 3];
        for (key, entry) in self.dataplane.flows()? {
            flows += 1;
            *entries.flows.entry(key.service).or_default() += 1;
            *entries.backends.entry(entry.backend).or_default() += 1;
        }
        for (key, _) in self.dataplane.newborn()? {
            newborn += 1;
            *entries.newborn.entry(key.service).or_default() += 1;
        }
        for (key, _) in self.dataplane.survivors()? {
            survivors += 1;
            *entries.survivors.entry(key.service).or_default() += 1;
        }
        let nat_flows = self.dataplane.nat_flows()?;
        entries.connections = connections(&nat_flows);
        let capacities = self.dataplane.capacities()?;
        let table = |name: &str, entries, capacity| TableStatus {
            name: name.to_owned(),
            entries,
            capacity: u64::from(capacity),
        };
        entries.tables = vec![
            table("FLOWS", flows, capacities.flows),
            table("NEWBORN", newborn, capacities.newborn),
            table("SURVIVORS", survivors, capacities.survivors),
            table("NAT_FLOWS", nat_flows.len() as u64, capacities.nat),
            table("NAT_REPLIES", self.dataplane.nat_replies()?.len() as u64, capacities.nat),
            table("FRAGMENTS", self.dataplane.fragments()? as u64, capacities.fragments),
        ];
        Ok(entries)
    }
}

/// Translated connections by backend.
fn connections(flows: &[(FlowKey, NatFlow)]) -> HashMap<BackendRef, u64> {
    let mut connections = HashMap::new();
    for (_, flow) in flows {
        *connections.entry(flow.backend).or_default() += 1;
    }
    connections
}

fn member<'s>(published: Option<&'s Service>, key: &ServiceKey, backend: &Backend) -> Option<&'s Member> {
    published?.members.get(&identity(key.vip, key.ports, key.protocol.number(), backend.address))
}

/// The verdict of the checks, and what led to it where it is a bad one. `None` where nothing is checked.
pub(super) fn health_state(health: Option<&State>) -> (HealthState, Option<String>) {
    match health {
        None => (HealthState::Unchecked, None),
        Some(State::Unknown) => (HealthState::Unknown, None),
        Some(State::Up) => (HealthState::Up, None),
        Some(State::Down(down)) => (HealthState::Down, Some(down.reason.clone())),
    }
}

/// Notes who is much slower than the others that are asked in the same way.
fn with_slow_ones(mut backends: Vec<BackendStatus>, service: &Configured) -> Vec<BackendStatus> {
    let kind = |index: usize| {
        let backend: Option<&Backend> = service.backends.get(index);
        backend.and_then(|backend| Some(backend.health.as_ref()?.kind.name()))
    };
    let measured: Vec<_> = backends.iter().map(|backend| backend.health.probe).collect();
    for (index, backend) in backends.iter_mut().enumerate() {
        let peers =
            measured.iter().enumerate().filter(|(peer, _)| *peer != index && kind(*peer) == kind(index));
        let peers = peers.filter_map(|(_, probe)| *probe);
        backend.health.slower = measured[index].and_then(|own| slower(own, peers));
    }
    backends
}

fn health_status(health: Option<&TargetHealth>, started: SystemTime) -> Health {
    let Some(health) = health else {
        return Health {
            state: HealthState::Unchecked,
            reason: None,
            since: seconds(started),
            last_latency_ms: None,
            probe: None,
            connect: None,
            slower: None,
        };
    };
    let (state, reason) = health_state(Some(&health.state));
    let reason = reason.or_else(|| health.last_outcome.as_ref()?.reason().map(str::to_owned));
    Health {
        state,
        reason,
        since: seconds(health.since),
        last_latency_ms: health.last_latency.map(|latency| latency.as_secs_f64() * 1000.0),
        probe: health.whole,
        connect: health.connect,
        slower: None,
    }
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
