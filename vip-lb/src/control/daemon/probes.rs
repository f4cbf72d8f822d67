//! The way of checks through the VIP: the devices and programs that take their probes, and where those of each backend go.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use tracing::{debug, info};

use vip_lb_common::Verdict;

use super::{Daemon, now, target};
use crate::{
    config::{
        Config,
        model::{self, ForwardMode},
    },
    control::desired::{Facts as _, Path, source_of},
    dataplane::ProbeError,
    health::{Approach, Probed, Way, Ways},
    network::{HostAddress, NetworkEvent, NextHop, PROBE_OUTER, ProbePair, Via},
};

/// Pause before the way is opened again after something failed.
const RETRY: Duration = Duration::from_secs(1);

/// How long another daemon may have the way before probes go to the backends' own addresses. One that hands over gives it up before, one
/// that was killed when the kernel has closed its files.
const PREDECESSOR: Duration = Duration::from_secs(5);

/// For how long after a packet found no port to be translated to probes do not try it either.
const EXHAUSTED: Duration = Duration::from_secs(2);

/// What is known of the way.
#[derive(Default)]
pub(super) struct Probes {
    pub(super) ways: Ways,
    pair: Option<ProbePair>,
    addresses: Vec<HostAddress>,
    /// Interfaces by name.
    indices: HashMap<String, u32>,
    /// Whether answers to translated packets are taken: not before the program is on the interfaces.
    pub(super) translates: bool,
    /// Packets that found no port to be translated to, and until when that counts.
    exhausted: u64,
    exhausted_until: Option<Instant>,
    /// Why probes go to the backends' own addresses instead.
    pub(super) problem: Option<String>,
    retry: Option<Instant>,
    /// Since when another daemon has it.
    taken_since: Option<Instant>,
    /// Addresses of this host may have changed.
    is_stale: bool,
}

impl Daemon {
    /// Opens the way, if any check wants it, and looks at the addresses of this host.
    pub(super) async fn open_probes(&mut self) {
        self.probes.is_stale = false;
        self.probes.retry = None;
        if !wants_way(&self.config) {
            self.probes.problem = None;
            self.point_probes();
            return;
        }
        let opened = async {
            let pair = self.network.probe_pair().await.map_err(|error| with_cause(&error))?;
            let read = |error: std::io::Error| format!("cannot read this host's addresses: {error}");
            let addresses = self.network.addresses().await.map_err(read)?;
            let names = self.network.names().await.map_err(read)?;
            let indices: HashMap<_, _> = names.into_iter().map(|(index, name)| (name, index)).collect();
            Ok::<_, String>((pair, addresses, indices))
        };
        match opened.await {
            Ok((pair, addresses, indices)) => {
                self.probes.pair = Some(pair);
                self.probes.addresses = addresses;
                self.probes.indices = indices;
            }
            Err(reason) => self.probes_failed(&reason),
        }
        self.point_probes();
    }

    /// Opens the way again, if that is due.
    pub(super) async fn refresh_probes(&mut self) {
        if self.probes.is_stale || self.probes.retry.is_some_and(|at| now() >= at) {
            self.open_probes().await;
        } else if self.exhaustion_changed() {
            self.point_probes();
        }
    }

    /// Looks whether ports for translated packets ran out or are there again. A backend is not down because this node has no port left to ask it
    /// from: its connections would be lost for nothing.
    fn exhaustion_changed(&mut self) -> bool {
        if !self.engine.probes_are_translated() {
            return false;
        }
        let was_exhausted = self.probes.exhausted_until.is_some();
        if let Ok(exhausted) = self.dataplane.packets_of(Verdict::NatExhausted) {
            if exhausted > self.probes.exhausted {
                self.probes.exhausted_until = Some(now() + EXHAUSTED);
            }
            self.probes.exhausted = exhausted;
        }
        if self.probes.exhausted_until.is_some_and(|until| now() >= until) {
            self.probes.exhausted_until = None;
        }
        was_exhausted != self.probes.exhausted_until.is_some()
    }

    /// Takes note of what may change the addresses that probes come from, or the devices that they leave by.
    pub(super) fn note_for_probes(&mut self, event: &NetworkEvent) {
        let may_matter = match event {
            NetworkEvent::RouteChanged { .. } | NetworkEvent::Overrun => true,
            NetworkEvent::LinkChanged { ifindex, interface } => {
                interface.is_none()
                    && (self.probes.pair.as_ref())
                        .is_some_and(|pair| [pair.outer, pair.inner].contains(ifindex))
            }
            NetworkEvent::NeighbourChanged { .. } | NetworkEvent::NeighbourGone { .. } => false,
        };
        self.probes.is_stale |= may_matter && wants_way(&self.config);
    }

    /// Ends all checks, and leaves their way to a successor. Those under way are not cut off where they are about to end.
    pub(super) async fn end_probes(&mut self) {
        self.health.end().await;
        self.dataplane.release_probes();
    }

    /// Tells the programs and those who probe where each backend is now.
    pub(super) fn point_probes(&mut self) {
        let wanted = self.probed_paths();
        let plan = self.engine.reconcile_probes(&wanted);
        self.carry_out(plan);
        let mut sources = HashMap::new();
        let mut returns = BTreeMap::new();
        for probed in wanted.keys() {
            let of_backend = self.probe_sources(probed.address);
            for address in of_backend.iter().flatten() {
                if let Some(&index) = self.probes.indices.get(&address.interface) {
                    returns.insert(index, address.interface.clone());
                }
            }
            sources.insert(*probed, of_backend.map(|source| source.map(|found| found.address)));
        }
        if let Some(pair) = self.probes.pair.clone()
            && !wanted.is_empty()
        {
            match self.dataplane.steer_probes(&pair, &returns) {
                Ok(()) => {
                    self.probes.taken_since = None;
                    if self.probes.problem.take().is_some() {
                        info!("checks go through the VIP now");
                    }
                }
                Err(error) => {
                    if matches!(error, ProbeError::Busy { .. }) {
                        self.probes.taken_since.get_or_insert_with(now);
                    }
                    self.probes_failed(&with_cause(&error));
                }
            }
        }
        let approaches = wanted.into_iter().map(|(probed, path)| {
            let approach = self.approach(&probed, &path, sources[&probed]);
            (probed, approach)
        });
        let approaches = approaches.collect();
        self.probes.ways.set(approaches);
    }

    fn approach(&self, probed: &Probed, path: &Path, [v4, v6]: [Option<IpAddr>; 2]) -> Approach {
        match (path, self.engine.probed(probed)) {
            (Path::Local, _) => Approach::Stack,
            _ if self.probes.taken_since.is_some_and(|since| now() < since + PREDECESSOR) => {
                Approach::NotYet("another daemon's probes are under way".to_owned())
            }
            _ if self.probes.pair.is_none() => Approach::Direct,
            // A peer steers what this node sends of its own, as it does with any client's packets.
            _ if probed.mode == ForwardMode::L2 && self.config.node.peers.contains(&probed.address) => {
                Approach::Direct
            }
            (Path::Nat { .. }, _) if !self.probes.translates || self.probes.exhausted_until.is_some() => {
                Approach::Direct
            }
            (Path::Unresolved, _) => Approach::Blocked(self.no_way_to(probed)),
            (_, Some(reference)) => match NonZeroU32::new(reference.probe_mark()) {
                Some(mark) => Approach::Steered { mark, v4, v6 },
                None => Approach::Direct,
            },
            // No entry was free, which is told.
            (_, None) => Approach::Direct,
        }
    }

    /// Why packets find no way to a backend.
    fn no_way_to(&self, probed: &Probed) -> String {
        if let Some(reason) = self.unreachable.get(&probed.address) {
            return reason.clone();
        }
        match self.next_hop(probed.address) {
            Some(NextHop::Via(Via { gateway: Some(router), mac: Some(_), .. }))
                if probed.mode == ForwardMode::L2 =>
            {
                format!("it is behind the router {router}: mode l2 takes the same segment")
            }
            Some(NextHop::Via(Via { neighbour, .. })) => format!("neighbour {neighbour} does not answer"),
            _ => "its next hop is not known".to_owned(),
        }
    }

    fn probes_failed(&mut self, reason: &str) {
        debug!(reason, "checks cannot go through the VIP");
        self.probes.pair = None;
        if self.probes.taken_since.is_some_and(|since| now() < since + PREDECESSOR) {
            self.probes.retry = Some(now() + RETRY / 5);
            return;
        }
        self.probes.problem = Some(format!(
            "checks go to the backends' own addresses instead of through the VIP, and do not see what clients see: {reason}"
        ));
        self.probes.retry = Some(now() + RETRY);
    }

    /// All backends that are probed through a VIP, and how packets get there.
    fn probed_paths(&self) -> BTreeMap<Probed, Path> {
        probed_backends(&self.config)
            .map(|(probed, backend)| {
                let source = source_of(backend, &self.config.node);
                (probed, Path::new(backend, source, self.next_hop(backend.address)))
            })
            .collect()
    }

    /// The addresses of this host that a backend answers to, in IPv4 and IPv6: that of the route to it, and in the other family one of the
    /// same interface, or else any. None is a VIP, for then the answers would go elsewhere.
    fn probe_sources(&self, backend: IpAddr) -> [Option<&HostAddress>; 2] {
        let Some(NextHop::Via(via)) = self.next_hop(backend) else {
            return [None, None];
        };
        let usable: Vec<&HostAddress> = self
            .probes
            .addresses
            .iter()
            .filter(|own| {
                own.interface != PROBE_OUTER
                    && is_global(own.address)
                    && !self.config.vips.iter().any(|vip| vip.address == own.address)
            })
            .collect();
        let preferred = usable.iter().find(|own| own.address == via.preferred_source);
        let interface = preferred.map(|own| own.interface.as_str());
        [true, false].map(|is_v4| {
            let of_family = |own: &&&HostAddress| own.address.is_ipv4() == is_v4;
            let nearby = |own: &&&HostAddress| Some(own.interface.as_str()) == interface;
            preferred
                .filter(of_family)
                .or_else(|| usable.iter().filter(of_family).find(nearby))
                .or_else(|| usable.iter().find(of_family))
                .copied()
        })
    }
}

/// Whether an address can be answered from elsewhere.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

fn wants_way(config: &Config) -> bool {
    probed_backends(config).next().is_some()
}

/// The backends that are probed through a VIP; one that several services have comes several times.
fn probed_backends(config: &Config) -> impl Iterator<Item = (Probed, &model::Backend)> {
    let services = config.vips.iter().flat_map(|vip| vip.services.iter().map(move |service| (vip, service)));
    let backends = services
        .flat_map(|(vip, service)| service.backends.iter().map(move |backend| (vip.address, backend)));
    backends.filter_map(|(vip, backend)| match target(vip, backend)?.way {
        Way::Vip(_, mode) => Some((Probed { address: backend.address, mode }, backend)),
        Way::Direct => None,
    })
}

/// An error and why.
fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_cause(cause)),
        None => error.to_string(),
    }
}
