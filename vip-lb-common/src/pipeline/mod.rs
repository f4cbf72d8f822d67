//! The life of a packet: parse, local, service, steer, forward, verdict.
//!
//! One function per stage and file. Nothing here knows XDP actions; the entry point of the kernel program is one match
//! from [`Verdict`] to them.

mod advert;
mod clamp;
mod fate;
mod forward;
mod fragment;
mod frame;
pub(crate) mod icmp_error;
mod local;
mod nat;
mod own;
pub(crate) mod parse;
mod probe;
mod sample;
mod service;
mod stage;
pub mod steer;
mod too_big;
mod whole;

use crate::{
    Packet, Tables, Verdict, View,
    abi::{Address, Backend, BackendRef, LinkAddress, SETTINGS_MAGIC, ServiceRef, Settings, Vip},
    headers::{
        ETHERNET_LEN, Ethernet, IPV4_LEN, IPV6_LEN, Ipv4, Ipv6, TCP_LEN, Tcp, Udp, ether_type, protocol,
    },
    tables::live,
};

pub use fate::{Fate, Reason, Step};
pub(crate) use frame::Tags;
pub use local::{is_to_router, take_in};
pub(crate) use parse::{Flow, Link, Network, Sign};
pub use stage::{Desk, Job, Next, Stage, Watch};
pub use whole::{process, process_probe};

/// Decides the fate of a packet to an address of this node itself, and carries it out unless it is to be translated.
#[inline(always)]
pub fn own<P: Packet, T: Tables>(packet: &mut P, tables: &T, desk: &mut Desk) -> Next {
    let result = own::decide(packet, tables, desk);
    go_on(tables, result)
}

/// Finds out where a later fragment goes.
#[inline(always)]
pub fn fragment<P: Packet, T: Tables>(packet: &mut P, tables: &T, job: &mut Job) -> Next {
    go_on(tables, fragment::decide(packet, tables, job))
}

/// Finds out which flow an ICMP error is about.
#[inline(always)]
pub fn icmp_error<P: Packet, T: Tables>(packet: &mut P, tables: &T, job: &mut Job) -> Next {
    go_on(tables, icmp_error::decide(packet, tables, job))
}

/// Lowers the segment size that a SYN announces to what its service allows.
#[inline(always)]
pub fn clamp<P: Packet, T: Tables>(packet: &mut P, tables: &T, job: &Job) -> Next {
    go_on(tables, clamp::decide(packet, tables, job))
}

/// Finds the entry of a client's packet to a service with translated backends.
#[inline(always)]
pub fn nat<P: Packet, T: Tables>(packet: &mut P, tables: &T, desk: &mut Desk) -> Next {
    go_on(tables, nat::known(packet, tables, desk))
}

/// Chooses the backend of such a packet that has no entry, or of one that is looked at closely.
#[inline(always)]
pub fn nat_steer<P: Packet, T: Tables>(_: &mut P, tables: &T, desk: &mut Desk) -> Next {
    go_on(tables, nat::steer(tables, desk))
}

/// Writes the entries of its connection.
#[inline(always)]
pub fn nat_bind<P: Packet, T: Tables>(packet: &mut P, tables: &T, desk: &mut Desk) -> Next {
    go_on(tables, nat::bind(packet, tables, desk))
}

/// Notes a packet of a flow that is looked at closely.
#[inline(always)]
pub fn sample<P: Packet, T: Tables>(packet: &mut P, tables: &T, desk: &mut Desk) -> Next {
    go_on(tables, sample::decide(packet, tables, desk))
}

/// Translates a packet.
#[inline(always)]
pub fn translate<P: Packet, T: Tables>(packet: &mut P, tables: &T, desk: &mut Desk) -> Next {
    let result = nat::translate::translate(packet, &desk.job.bounded(), &desk.translation);
    // Of a packet that has no equivalent the other fragments would only fill their receiver's memory.
    if !matches!(result, Err(Verdict::NatUntranslatable)) {
        fragment::remember(tables, &desk.job, desk.translation.backend);
    }
    let result = match result {
        Err(Verdict::TooBig) => {
            desk.job.largest = nat::translate::largest(&desk.job, &desk.translation);
            Ok(Next::Then(Stage::TooBig))
        }
        result => result.map(|fate| left(tables, fate)),
    };
    go_on(tables, result)
}

/// Translates an ICMP error and the packet that it quotes, and counts it.
#[inline(always)]
pub fn translate_error<P: Packet, T: Tables>(packet: &mut P, tables: &T, desk: &mut Desk) -> Next {
    let result = nat::error::translate(packet, &desk.job.bounded(), &desk.translation);
    Next::Done(conclude(tables, result))
}

/// Steers a packet, unless its backend is chosen already, and forwards it.
#[inline(always)]
pub fn deliver<P: Packet, T: Tables>(packet: &mut P, tables: &T, job: &mut Job) -> Next {
    go_on(tables, delivered(packet, tables, job))
}

#[inline(always)]
fn delivered<P: Packet, T: Tables>(packet: &mut P, tables: &T, job: &mut Job) -> Result<Next, Verdict> {
    let Job { link, network, flow, service, backend: chosen, .. } = job.bounded();
    let settings = configured(tables)?;
    let (reference, backend) = if chosen.is_none() {
        let hash = steer::hash(&settings, service, &network, &flow);
        steer::steer(tables, &settings, service, &network, &flow, hash)?
    } else {
        (chosen, live(tables, chosen).ok_or(Verdict::BackendGone)?)
    };
    fragment::remember(tables, job, reference);
    match leave(packet, &settings, &link, &network, &flow, service, reference, &backend) {
        // Errors are never answered by errors (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e).
        Err(Verdict::TooBig) if !flow.is_related() => {
            job.largest = forward::largest(&backend);
            Ok(Next::Then(Stage::TooBig))
        }
        result => result.map(|fate| left(tables, fate)),
    }
}

/// A packet that left. What is sent and answered for this node's own checks is no traffic, and not counted.
#[inline(always)]
fn left<T: Tables>(tables: &T, fate: Fate) -> Next {
    if fate.service == ServiceRef::PROBES { Next::Done(fate) } else { done(tables, fate) }
}

/// Answers a packet that is too big for the path to its backend.
#[inline(always)]
pub fn too_big<P: Packet, T: Tables>(packet: &mut P, tables: &T, job: &Job) -> Next {
    let result = too_big::answer(packet, tables, job);
    Next::Done(conclude(tables, result))
}

/// Notes that an advert of VRRP came.
#[inline(always)]
pub fn advert<P: Packet, T: Tables>(packet: &mut P, tables: &T, job: &Job) -> Next {
    let result = advert::note(packet, tables, job);
    Next::Done(conclude(tables, result.map(Fate::from)))
}

#[inline(always)]
fn go_on<T: Tables>(tables: &T, next: Result<Next, Verdict>) -> Next {
    match next {
        Ok(next) => next,
        Err(verdict) => Next::Done(conclude(tables, Err(verdict))),
    }
}

#[inline(always)]
fn conclude<T: Tables>(tables: &T, result: Result<Fate, Verdict>) -> Fate {
    match result {
        Ok(fate) => {
            tables.count(&fate);
            fate
        }
        Err(verdict) => {
            let fate = Fate::from(verdict);
            tables.count(&fate);
            fate
        }
    }
}

/// A TCP or UDP packet without tags, options and extension headers, as nearly every one is: its fields lie at constant offsets behind one
/// bounds check. All others, and the shortest, take the general way to the same end.
#[inline(always)]
pub fn plain<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Next {
    let Ok(frame) = packet.view::<PLAIN_V4_LEN>(0, Verdict::ShortFrame) else {
        return Next::General;
    };
    let ethernet = Ethernet::new(frame.part(0));
    if ethernet.is(ether_type::IPV4) {
        let ip = Ipv4::new(frame.part(ETHERNET_LEN));
        if !ip.is_plain() || !parse::has_ports(ip.protocol()) {
            return Next::General;
        }
        match plain_v4(packet, tables, ip, frame.part(ETHERNET_LEN + IPV4_LEN)) {
            Ok(Some(client)) => client.go_on(packet, tables, &UNTAGGED_V4),
            Ok(None) => Next::General,
            Err(verdict) => Next::Done(conclude(tables, Err(verdict))),
        }
    } else if ethernet.is(ether_type::IPV6) {
        let Ok(frame) = packet.view::<PLAIN_V6_LEN>(0, Verdict::ShortFrame) else {
            return Next::General;
        };
        let ip = Ipv6::new(frame.part(ETHERNET_LEN));
        // To a group: only the general way knows those of solicitations.
        if ip.is_multicast() || !parse::has_ports(ip.next_header()) {
            return Next::General;
        }
        match plain_v6(packet, tables, ip, frame.part(ETHERNET_LEN + IPV6_LEN)) {
            Ok(Some(client)) => client.go_on(packet, tables, &UNTAGGED_V6),
            Ok(None) => Next::General,
            Err(verdict) => Next::Done(conclude(tables, Err(verdict))),
        }
    } else {
        Next::General
    }
}

/// None for a fragment, which is no plain packet, asked here so that other traffic need not be; and where the general way has to ask more.
#[inline(always)]
fn plain_v4<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    ip: Ipv4<'_>,
    transport: View<'_, TCP_LEN>,
) -> Result<Option<Client<'t, T>>, Verdict> {
    let vip = vip(tables, &ip.destination()).ok_or(Verdict::NotVip)?;
    if ip.is_fragment() {
        return Ok(None);
    }
    let Some(settings) = attend_plain(tables)? else {
        return Ok(None);
    };
    let network = parse::plain_ipv4(packet, ip).map_err(|verdict| refused(&vip, verdict))?;
    let flow = plain_flow(transport, &network).map_err(|verdict| refused(&vip, verdict))?;
    Ok(Some(Client { settings, vip, network, flow }))
}

#[inline(always)]
fn plain_v6<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    ip: Ipv6<'_>,
    transport: View<'_, TCP_LEN>,
) -> Result<Option<Client<'t, T>>, Verdict> {
    let vip = vip(tables, &ip.destination()).ok_or(Verdict::NotVip)?;
    let Some(settings) = attend_plain(tables)? else {
        return Ok(None);
    };
    let network = parse::plain_ipv6(packet, ip).map_err(|verdict| refused(&vip, verdict))?;
    let flow = plain_flow(transport, &network).map_err(|verdict| refused(&vip, verdict))?;
    Ok(Some(Client { settings, vip, network, flow }))
}

#[inline(always)]
fn plain_flow(transport: View<'_, TCP_LEN>, network: &Network) -> Result<Flow, Verdict> {
    if network.protocol == protocol::TCP {
        parse::tcp(Tcp::new(transport), network)
    } else {
        parse::udp(Udp::new(transport.part(0)), network)
    }
}

/// A flow's packet to a VIP.
struct Client<'t, T: Tables + 't> {
    settings: T::Ref<'t, Settings>,
    vip: T::Ref<'t, Vip>,
    network: Network,
    flow: Flow,
}

impl<T: Tables> Client<'_, T> {
    #[inline(always)]
    fn go_on<P: Packet>(&self, packet: &mut P, tables: &T, link: &Link) -> Next {
        go_on(tables, self.balance(packet, tables, link))
    }

    /// The rest of the way of a plain packet, if it is sent as nearly all are. Any other goes the general way from the start: what would have to
    /// be kept for it here would cost all packets. Steering it a second time chooses the same backend.
    #[inline(always)]
    fn balance<P: Packet>(&self, packet: &mut P, tables: &T, link: &Link) -> Result<Next, Verdict> {
        let Self { settings, vip, network, flow } = self;
        if vip.flags & (Vip::OWN | Vip::PLAIN) != 0 {
            return Ok(Next::General);
        }
        let service = self.service(packet, tables)?;
        // One question for the usual packet. Behind a black box, so that the rare ones are not asked before it.
        let hash = if service.flags & ServiceRef::UNUSUAL == 0 {
            steer::hash(settings, service, network, flow)
        } else {
            let flow = core::hint::black_box(*flow);
            if service.flags & ServiceRef::GENERAL != 0
                || service.flags & ServiceRef::CLAMP != 0 && flow.opens()
            {
                return Ok(Next::General);
            }
            let hash = steer::hash(settings, service, network, &flow);
            if service.samples(hash) {
                return Ok(Next::General);
            }
            hash
        };
        let (reference, backend) = steer::steer(tables, settings, service, network, flow, hash)?;
        if !backend.is_usual() {
            return Ok(Next::General);
        }
        match leave(packet, settings, link, network, flow, service, reference, &backend) {
            Err(Verdict::TooBig) => Ok(Next::General),
            left => left.map(|fate| done(tables, fate)),
        }
    }

    /// The service that the packet is for, unless it must not be steered.
    #[inline(always)]
    fn service(&self, packet: &impl Packet, tables: &T) -> Result<ServiceRef, Verdict> {
        let Self { settings, vip, network, flow } = self;
        // Nodes forward no pings and solicitations: those of a peer, answered before, are always its own.
        if settings.flags & Settings::PEERS != 0 {
            refuse_forwarded(packet, tables, vip, network)?;
        }
        let service = service::find(tables, vip, network.protocol, flow.destination_port())?;
        tables.observe(Step::Service(service));
        Ok(service)
    }
}

const PLAIN_V4_LEN: usize = ETHERNET_LEN + IPV4_LEN + TCP_LEN;
const PLAIN_V6_LEN: usize = ETHERNET_LEN + IPV6_LEN + TCP_LEN;
const UNTAGGED_V4: Link = Link { ether_type: ether_type::IPV4, network: ETHERNET_LEN };
const UNTAGGED_V6: Link = Link { ether_type: ether_type::IPV6, network: ETHERNET_LEN };

/// Decides the fate of any packet at all, carries it out and counts it.
#[inline(always)]
pub fn general<P: Packet, T: Tables>(packet: &mut P, tables: &T, watch: Watch) -> Next {
    go_on(tables, decide(packet, tables, watch))
}

/// Decides where a probe of this node's own checks goes.
#[inline(always)]
pub fn probe<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Next {
    go_on(tables, probe::decide(packet, tables))
}

#[inline(always)]
fn decide<P: Packet, T: Tables>(packet: &mut P, tables: &T, watch: Watch) -> Result<Next, Verdict> {
    let link = parse::link(packet)?.forgotten();
    let (vip, settings, network) = match link.ether_type {
        ether_type::IPV4 => {
            let ip = Ipv4::at(packet, link.network, Verdict::ShortFrame)?;
            let vip = vip(tables, &ip.destination()).ok_or(Verdict::NotVip)?;
            let Some(settings) = attend(tables, watch)? else {
                return Ok(Next::Watch);
            };
            if vip.flags & Vip::PLAIN != 0 {
                return Err(Verdict::PlainVip);
            }
            let network = parse::ipv4(packet, ip, link.network).map_err(|verdict| refused(&vip, verdict))?;
            (vip, settings, network)
        }
        ether_type::IPV6 => {
            let ip = Ipv6::at(packet, link.network, Verdict::ShortFrame)?;
            let destination = ip.destination();
            let Some(vip) = vip(tables, &destination) else {
                return if local::is_solicited_node(&destination) {
                    local::solicitation(packet, tables, &link, watch).map(|fate| concluded(tables, fate))
                } else {
                    Err(Verdict::NotVip)
                };
            };
            let Some(settings) = attend(tables, watch)? else {
                return Ok(Next::Watch);
            };
            if vip.flags & Vip::PLAIN != 0 {
                return plain_vip_v6(packet, tables, &link, watch);
            }
            let network = parse::ipv6(packet, ip, link.network).map_err(|verdict| refused(&vip, verdict))?;
            (vip, settings, network)
        }
        ether_type::ARP => {
            return local::arp(packet, tables, &link, watch).map(|fate| concluded(tables, fate));
        }
        _ => return Err(Verdict::NotIp),
    };
    let network = network.forgotten();
    let (own, later) = (vip.flags & Vip::OWN != 0, network.piece.is_later());
    if later || own && !parse::has_ports(network.protocol) {
        let job = Job::new(packet, &link, &network, Flow::default())?;
        return Ok(Next::Stage(if own { Stage::Own } else { Stage::Fragment }, job));
    }
    let flow = match network.protocol {
        protocol::TCP => Tcp::at(packet, network.transport, Verdict::BadTransportHeader)
            .and_then(|header| parse::tcp(header, &network)),
        protocol::UDP => Udp::at(packet, network.transport, Verdict::BadTransportHeader)
            .and_then(|header| parse::udp(header, &network)),
        protocol::ICMP | protocol::ICMPV6 if !network.piece.is_whole() => {
            return Err(Verdict::UnsupportedIcmp);
        }
        protocol::ICMP | protocol::ICMPV6 => {
            if icmp_error::is_error(packet, &network)? {
                let job = Job::new(packet, &link, &network, Flow::default())?;
                return Ok(Next::Stage(Stage::IcmpError, job));
            }
            let fate = local::icmp(packet, tables, &link, &vip, &network, watch)?;
            return Ok(concluded(tables, fate));
        }
        _ => return Err(Verdict::UnsupportedProtocol),
    };
    let flow = flow.map_err(|verdict| refused(&vip, verdict))?;
    let job = Job::new(packet, &link, &network, flow)?;
    if own {
        return Ok(Next::Stage(Stage::Own, job));
    }
    let service = Client { settings, vip, network, flow }.service(packet, tables)?;
    let then = Stage::of_flow(service);
    let clamped = service.flags & ServiceRef::CLAMP != 0 && flow.opens();
    Ok(Next::Stage(if clamped { Stage::Clamp } else { then }, Job { service, then, ..job }))
}

#[inline(always)]
fn done<T: Tables>(tables: &T, fate: Fate) -> Next {
    Next::Done(conclude(tables, Ok(fate)))
}

/// The end of a packet that this node answers; none where watchers are to see it first.
#[inline(always)]
fn concluded<T: Tables>(tables: &T, fate: Option<Fate>) -> Next {
    match fate {
        Some(fate) => done(tables, fate),
        None => Next::Watch,
    }
}

#[inline(always)]
fn vip<'t, T: Tables>(tables: &'t T, address: &Address) -> Option<T::Ref<'t, Vip>> {
    let vip = tables.vip(address);
    tables.observe(Step::Destination { address: *address, is_vip: vip.is_some() });
    vip
}

/// The settings, for a plain packet to a VIP; none where the general way has to ask more. Whatever is not as usual is one question here.
#[inline(always)]
fn attend_plain<T: Tables>(tables: &T) -> Result<Option<T::Ref<'_, Settings>>, Verdict> {
    let settings = tables.settings().ok_or(Verdict::NotConfigured)?;
    if !settings.is_usual() {
        if settings.magic != SETTINGS_MAGIC {
            return Err(Verdict::NotConfigured);
        }
        if settings.flags & Settings::WATCHED != 0 || is_unattended(tables, &settings) {
            return Ok(None);
        }
    }
    Ok(Some(settings))
}

/// The settings, for a packet to a VIP; none where watchers are to see it first.
#[inline(always)]
fn attend<T: Tables>(tables: &T, watch: Watch) -> Result<Option<T::Ref<'_, Settings>>, Verdict> {
    let settings = configured(tables)?;
    if is_unattended(tables, &settings) {
        return Err(Verdict::Unattended);
    }
    // A daemon that is gone serves nobody who watches.
    if settings.flags & Settings::WATCHED != 0 && watch == Watch::Due && seconds_late(tables, &settings) == 0
    {
        return Ok(None);
    }
    Ok(Some(settings))
}

/// Whether there is a watchdog, and no daemon for too long.
#[inline(always)]
fn is_unattended<T: Tables>(tables: &T, settings: &Settings) -> bool {
    settings.flags & Settings::WATCHDOG != 0 && seconds_late(tables, settings) > settings.patience.into()
}

/// For how long the daemon has not counted as alive; 0 if it does.
#[inline(always)]
fn seconds_late<T: Tables>(tables: &T, settings: &Settings) -> u32 {
    tables.coarse_seconds().saturating_sub(settings.fresh_until)
}

/// The settings. A BPF array has its value from the start: only the magic number tells that the daemon has been there.
#[inline(always)]
fn configured<T: Tables>(tables: &T) -> Result<T::Ref<'_, Settings>, Verdict> {
    tables.settings().filter(|settings| settings.magic == SETTINGS_MAGIC).ok_or(Verdict::NotConfigured)
}

/// The verdict on a packet that could not be parsed. To this host's own address it is ordinary traffic, fragments above all.
#[inline(always)]
fn refused(vip: &Vip, verdict: Verdict) -> Verdict {
    match vip.flags & (Vip::OWN | Vip::PLAIN) {
        0 => verdict,
        Vip::PLAIN => Verdict::PlainVip,
        _ => Verdict::NotVip,
    }
}

/// A packet to a VIP without services is the host's, unless it asks where the address is: neighbours that know it already ask there.
#[inline(always)]
fn plain_vip_v6<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    link: &Link,
    watch: Watch,
) -> Result<Next, Verdict> {
    match local::solicitation(packet, tables, link, watch) {
        Err(Verdict::OtherResolution | Verdict::ShortFrame) => Err(Verdict::PlainVip),
        fate => fate.map(|fate| concluded(tables, fate)),
    }
}

/// Forwards a packet to its backend. One that is too big for the path there is as it came.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "inlined: a struct of them would be written to memory")]
fn leave<P: Packet>(
    packet: &mut P,
    settings: &Settings,
    link: &Link,
    network: &Network,
    flow: &Flow,
    service: ServiceRef,
    reference: BackendRef,
    backend: &Backend,
) -> Result<Fate, Verdict> {
    let verdict = forward::forward(packet, settings, link, network, flow, backend)?;
    Ok(Fate {
        verdict,
        service: service.id,
        backend: reference.index,
        egress: backend.egress,
        bytes: network.len,
        opens: flow.opens(),
    })
}

/// A packet that a peer node forwarded is never steered again: it goes to the stack where this host is a backend.
/// What a peer sends of its own is a client's packet.
#[inline(always)]
fn refuse_forwarded<T: Tables>(
    packet: &impl Packet,
    tables: &T,
    vip: &Vip,
    network: &Network,
) -> Result<(), Verdict> {
    let sender = LinkAddress::new(Ethernet::of(packet, Verdict::ShortFrame)?.source());
    match tables.peer(&sender) {
        Some(peer) if peer.address != network.source => {
            Err(if vip.flags & Vip::LOCAL != 0 { Verdict::FromPeer } else { Verdict::PeerLoop })
        }
        _ => Ok(()),
    }
}
