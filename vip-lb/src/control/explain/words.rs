//! The pipeline's report in words.

use std::net::{IpAddr, SocketAddr};

use vip_lb_common::{
    Action, Tables, Verdict,
    abi::{Address, BackendRef, FlowKey, Phase, RingClass, ServiceRef, Slot as RingSlot, Vip},
    pipeline::{Reason, Step},
    tables::{NatCell as _, live},
};

use super::{Arrival, Names, Run, frame};
use crate::{
    api::model::{
        self, ChosenBackend, ExplainRequest, ExplainedService, Explanation, FlowHash, PacketKind, Slot,
        SlotState,
    },
    config::model::{Affinity, Ports, Protocol},
};

/// Puts a run into words.
pub(super) struct Words<'a, N, T> {
    pub(super) request: &'a ExplainRequest,
    pub(super) arrival: Arrival,
    pub(super) names: &'a N,
    pub(super) tables: &'a T,
}

impl<N: Names, T: Tables> Words<'_, N, T> {
    /// Everything there is to tell of the packet that was asked about.
    pub(super) fn explanation(&self, run: &Run) -> Explanation {
        let mut steps = vec![step("parse", self.parsed())];
        if self.request.packet == PacketKind::WhoHas {
            // It is no packet to the address.
            let wanted = self.request.destination.into();
            steps.push(step("destination", self.destination(&wanted, self.tables.vip(&wanted).is_some())));
        }
        steps.extend(run.steps.iter().flat_map(|step| self.steps(step, run)));
        steps.extend(self.answered(run).map(|text| step("answer", text)));
        let forwarded = run.fate.verdict.action() == Action::Forward;
        if let Some(text) = self.forwarded(run) {
            steps.push(step("forward", text));
        }
        let affinity = |service: ServiceRef| match service.flags & ServiceRef::SOURCE_AFFINITY {
            0 => Affinity::Flow,
            _ => Affinity::Source,
        };
        Explanation {
            request: self.request.clone(),
            steps,
            verdict: run.fate.verdict.into(),
            service: run.service().map(|service| ExplainedService {
                name: self.service(service.id),
                affinity: affinity(service),
            }),
            hash: run.steps.iter().find_map(|step| match step {
                Step::Slot { hash, .. } => Some(FlowHash(hash.0)),
                _ => None,
            }),
            slot: run.steps.iter().find_map(|step| match step {
                Step::Slot { index, slot, .. } => Some(self.slot(*index, slot)),
                _ => None,
            }),
            backend: self.backend(run),
            rewrites: frame::rewrites(&run.before, &run.after, run.fate.verdict),
            egress: forwarded.then(|| self.interface(run.fate.egress)),
        }
    }

    /// What a later segment of the same flow does, if that is something else.
    pub(super) fn established(&self, first: &Run, later: &Run) -> Option<model::Step> {
        let place = |run: &Run| (run.chosen().map(|(backend, _)| backend), run.fate.verdict);
        if place(first) == place(later) {
            return None;
        }
        let fate = match self.backend(later) {
            Some(backend) if later.fate.backend != 0 => {
                format!("goes to {} {}: {}", backend.name, backend.address, backend.reason)
            }
            _ => format!("ends as {}", later.fate.verdict.name()),
        };
        let text = format!("a segment of a connection that exists already {fate}");
        Some(step("established", text))
    }

    fn parsed(&self) -> String {
        let request = self.request;
        let is_v4 = request.destination.is_ipv4();
        let (family, icmp) = if is_v4 { ("ipv4", "icmp") } else { ("ipv6", "icmpv6") };
        let protocol = request.protocol;
        let quoting = |what: &str| {
            let flow = format!("{protocol} {} -> {}", self.dialled(), self.client());
            format!("{family}, {icmp} {what}, which quotes an answer, {flow}")
        };
        let content = match request.packet {
            PacketKind::First => match protocol {
                Protocol::Tcp => format!("{family}, tcp syn"),
                Protocol::Udp => format!("{family}, udp"),
            },
            PacketKind::Ack | PacketKind::Fin | PacketKind::Rst => {
                format!("{family}, tcp {}", request.packet)
            }
            PacketKind::Fragment => {
                format!("{family}, a later fragment of {protocol}, id {}", request.fragment_id.unwrap_or(0))
            }
            PacketKind::Unreachable => quoting("destination unreachable"),
            PacketKind::TooBig if is_v4 => quoting("fragmentation needed"),
            PacketKind::TooBig => quoting("packet too big"),
            PacketKind::TimeExceeded => quoting("time exceeded"),
            PacketKind::Echo => format!("{family}, {icmp} echo request"),
            PacketKind::WhoHas if is_v4 => format!("arp, who has {}", request.destination),
            PacketKind::WhoHas => {
                format!("{family}, {icmp} neighbour solicitation, who has {}", request.destination)
            }
        };
        let arrival = match self.arrival.index {
            0 => "the program is attached to no interface".to_owned(),
            index => format!("comes in by {}", self.interface(index)),
        };
        format!("ethernet, {content}; {arrival}")
    }

    fn dialled(&self) -> SocketAddr {
        SocketAddr::new(self.request.destination, self.request.destination_port.unwrap_or(0))
    }

    fn client(&self) -> SocketAddr {
        SocketAddr::new(self.request.source, self.request.source_port.unwrap_or(0))
    }

    /// How a packet finds its service.
    fn found(&self, service: ServiceRef, run: &Run) -> String {
        let known = self.names.service(service.id);
        let name = self.service(service.id);
        if self.request.packet == PacketKind::Fragment {
            return match run.chosen() {
                Some((_, Reason::SamePacket)) => format!("the first fragment of the packet went to {name}"),
                _ => format!("its first fragment is not known, but {name} needs no ports"),
            };
        }
        let many_ports = match known.map(|name| name.ports) {
            Some(Ports::Every) => ", which takes every port".to_owned(),
            Some(Ports::Range(first, last)) => format!(", which takes the ports {first}-{last}"),
            Some(Ports::One(_)) | None => String::new(),
        };
        format!("{}/{} is {name}{many_ports}", self.dialled(), self.request.protocol)
    }

    /// What this node answers itself, or does not.
    fn answered(&self, run: &Run) -> Option<String> {
        Some(match run.fate.verdict {
            Verdict::ArpAnswered | Verdict::NeighbourAnswered => {
                let mac = run.after.get(6..12).map(frame::mac)?;
                format!("{} is at {mac}", self.request.destination)
            }
            Verdict::EchoAnswered => "an echo reply goes back to the sender".to_owned(),
            Verdict::PlainVip => {
                "it has no services: the programs on this host get it, while the host has the address"
                    .to_owned()
            }
            Verdict::NotOwner => match self.tables.lease(&self.request.destination.into()) {
                Some(_) => "the lease of this node is over: another node answers for it".to_owned(),
                None => "this node has no lease: another node answers for it".to_owned(),
            },
            Verdict::OtherResolution if self.tables.vip(&self.request.destination.into()).is_some() => {
                "this node does not answer for it".to_owned()
            }
            _ => return None,
        })
    }

    fn steps(&self, reported: &Step, run: &Run) -> Vec<model::Step> {
        match reported {
            Step::Destination { address, is_vip } => {
                vec![step("destination", self.destination(address, *is_vip))]
            }
            Step::Service(service) => vec![step("service", self.found(*service, run))],
            Step::Slot { hash, index, slot } => {
                let service = run.service().unwrap_or_default();
                let over = match service.flags & ServiceRef::SOURCE_AFFINITY {
                    0 => "source address and both ports",
                    _ => "the source address alone",
                };
                let slots = RingClass::from_u8(service.ring_class).slots();
                let current = self.label(slot.current);
                let state = match Phase::from_u8(slot.phase) {
                    Phase::Closed => format!("closed: every flow is on {current}"),
                    phase => {
                        let note = match phase {
                            Phase::Known => ", all earlier flows recorded",
                            Phase::Settling => ", about to close",
                            Phase::Open | Phase::Closed => "",
                        };
                        let previous = self.label(slot.previous);
                        format!("open{note}: current {current}, previous {previous}, epoch {}", slot.epoch)
                    }
                };
                let hash = FlowHash(hash.0);
                vec![
                    step("hash", format!("{hash} over {over}")),
                    step("slot", format!("{index} of {slots}, {state}")),
                ]
            }
            Step::Chosen { backend, reason } => {
                let reason = self.reason(*backend, *reason, run);
                let name = self.label(*backend);
                let standing = live(self.tables, *backend).and_then(|_| self.names.standing(backend.index));
                let mut steps = vec![step("backend", format!("{name}: {reason}"))];
                steps.extend(standing.map(|standing| step("standing", format!("{name}: {standing}"))));
                steps
            }
            Step::Translation { from, to, is_new } => {
                let [from, to] = [from, to].map(|(address, port)| SocketAddr::new((*address).into(), *port));
                let connection = if *is_new { "a new connection" } else { "a known connection" };
                vec![step("translate", format!("{from} -> {to}, {connection}"))]
            }
        }
    }

    fn destination(&self, address: &Address, is_vip: bool) -> String {
        if !is_vip {
            return format!("{address} is no VIP");
        }
        let flags = self.tables.vip(address).map_or(0, |vip| vip.flags);
        let has = |flag| flags & flag != 0;
        if has(Vip::ADVERTS) {
            return format!("{address} is where nodes say by VRRP that they are active");
        }
        match (has(Vip::ENDPOINT), has(Vip::NAT_SOURCE)) {
            (false, false) => format!("{address} is a VIP"),
            (true, false) => format!("{address} is an address of this host, where tunnels of its peers end"),
            (false, true) if has(Vip::ANSWER) => {
                format!("{address} is the address of translated connections on this node, and nobody else's")
            }
            (false, true) => {
                format!("{address} is an address of this host, which translated connections have, too")
            }
            (true, true) => format!(
                "{address} is an address of this host, which translated connections have, too, and where tunnels of its peers end"
            ),
        }
    }

    fn slot(&self, index: u32, slot: &RingSlot) -> Slot {
        let current = self.label(slot.current);
        let state = match Phase::from_u8(slot.phase) {
            Phase::Closed => SlotState::Closed { current },
            Phase::Open | Phase::Known | Phase::Settling => {
                SlotState::Open { current, previous: self.label(slot.previous), epoch: slot.epoch.into() }
            }
        };
        Slot { index, state }
    }

    /// The backend that was chosen, if it lives.
    fn backend(&self, run: &Run) -> Option<ChosenBackend> {
        let (reference, reason) = run.chosen()?;
        live(self.tables, reference)?;
        let known = self.names.backend(reference.index)?;
        Some(ChosenBackend {
            name: known.name,
            address: known.address,
            reason: self.reason(reference, reason, run),
        })
    }

    fn reason(&self, backend: BackendRef, reason: Reason, run: &Run) -> String {
        reason_in_words(reason, backend, run.slot())
    }

    fn forwarded(&self, run: &Run) -> Option<String> {
        let what = match run.fate.verdict {
            Verdict::ForwardedL2 => "new MAC addresses".to_owned(),
            Verdict::ForwardedIpip => format!("encapsulated in {}", frame::family(&run.after)),
            Verdict::ForwardedGue => format!("encapsulated in udp over {}", frame::family(&run.after)),
            Verdict::ForwardedNat => self.translated(run),
            Verdict::TranslatedReply => match frame::ends(&run.after) {
                Some([vip, client]) => format!("a backend's answer, translated to one of {vip} to {client}"),
                None => "a backend's answer, translated".to_owned(),
            },
            Verdict::LocalBackend => {
                return Some("to the stack of this host, which is the backend".to_owned());
            }
            Verdict::TooBigAnswered => {
                return Some(
                    "an ICMP error goes back to the sender: too big for the path to the backend".to_owned(),
                );
            }
            _ => return None,
        };
        let egress = self.interface(run.fate.egress);
        Some(if run.fate.egress == self.arrival.index {
            format!("{what}, back out by {egress} where it came in")
        } else {
            format!("{what}, leaves by {egress}")
        })
    }

    /// What the addresses become, and where the port on this node comes from.
    fn translated(&self, run: &Run) -> String {
        let Some([node, backend]) = frame::ends(&run.after) else {
            // It has no ports.
            let to = |[node, backend]: [IpAddr; 2]| format!("translated to {backend} from {node}");
            return frame::addresses(&run.after).map_or_else(|| "translated".to_owned(), to);
        };
        let key = FlowKey {
            source: self.request.source.into(),
            source_port: self.request.source_port.unwrap_or(0),
            destination_port: self.request.destination_port.unwrap_or(0),
            service: run.service().unwrap_or_default().id,
            reserved: 0,
        };
        let known = self.tables.nat_flow(&key).is_some_and(|flow| flow.get().port == node.port());
        let port = if known {
            format!("port {}, which the connection has already", node.port())
        } else {
            format!("a free port, now {}", node.port())
        };
        format!("translated to {backend} from {} with {port}", node.ip())
    }

    fn service(&self, id: u16) -> String {
        self.names.service(id).map_or_else(|| format!("service #{id}"), |service| service.name)
    }

    /// The name that a reference stands for as long as it is good.
    fn label(&self, reference: BackendRef) -> String {
        if reference.is_none() {
            "none".to_owned()
        } else if live(self.tables, reference).is_none() {
            "a removed backend".to_owned()
        } else {
            self.names
                .backend(reference.index)
                .map_or_else(|| format!("backend #{}", reference.index), |backend| backend.name)
        }
    }

    fn interface(&self, index: u32) -> String {
        self.names.interface(index).unwrap_or_else(|| format!("interface #{index}"))
    }
}

fn step(stage: &str, text: String) -> model::Step {
    model::Step { stage: stage.to_owned(), text }
}

/// Why a packet goes to a backend; `slot` is the one that it fell into.
pub(in crate::control) fn reason_in_words(
    reason: Reason,
    backend: BackendRef,
    slot: Option<RingSlot>,
) -> String {
    let words = match reason {
        Reason::Settled => "every flow of a closed slot",
        Reason::Recorded => "recorded flow",
        Reason::Handshake => "recorded handshake",
        Reason::New => "new flow of an open slot",
        Reason::Older => "unknown flow of an open slot",
        Reason::Refused => "new flow of an open slot, which cannot be recorded now",
        Reason::Translated => "translated connection",
        Reason::NewUnrecorded => "new flow of an open slot, which cannot be recorded now and need not be",
        Reason::SamePacket => "a later fragment follows the first one",
    };
    let earlier = matches!(reason, Reason::Older | Reason::Refused);
    if earlier && slot.is_some_and(|slot| slot.previous != backend) {
        format!("{words}, whose earlier backend is gone")
    } else {
        words.to_owned()
    }
}
