//! The order of writes, what survives a restart, and whose numbers are whose.

use std::net::Ipv4Addr;

use vip_lb_common::abi::{
    BackendRef, FlowEntry, FlowKey, INLINE_SERVICES, Mode, NatFlow, NatReply, NatReplyKey, Phase, PortKey,
    ServiceOptions,
};

use super::*;
use crate::{
    config::model::{Ports, Protocol},
    control::{
        desired::{DesiredBackend, Link, Path, peer_entry},
        slow_start::WHOLE,
        standing::{Cause, Standing},
    },
    steering::{Start, Timeouts, identity},
};
use maps::Maps;

mod histories;
mod maps;
mod rehearsal;
mod slow_start;
mod translation;

const SEED: [u8; 32] = [7; 32];
const IDLE: u32 = 600;
const SERVING: Standing = Standing::Serving;
const DEAD: Standing = Standing::Out(Cause::Unreachable);
const DRAINING: Standing = Standing::Draining(Cause::Operator);

fn vip(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

fn web(port: u16) -> ServiceKey {
    ServiceKey { vip: vip(1), ports: Ports::from_number(port), protocol: Protocol::Tcp }
}

fn path(number: u8) -> Path {
    Path::L2(Link { interface: 1, macs: [number; 12], mtu: 1500, vlan: None })
}

fn range((first, last): (u16, u16)) -> ServiceKey {
    ServiceKey { ports: Ports::Range(first, last), ..web(0) }
}

/// The address that translated connections have on this node.
fn source() -> IpAddr {
    Ipv4Addr::new(10, 0, 1, 1).into()
}

fn translated(number: u8, port: u16) -> Path {
    let Path::L2(link) = path(number) else { unreachable!("what the paths of tests are") };
    Path::Nat { link, source: source(), destination: address(number), port }
}

/// What is wanted of a service with these backends.
fn service(key: ServiceKey, backends: &[(u8, Standing)]) -> DesiredService {
    let backends = backends.iter().map(|&(number, standing)| {
        let identity = identity_of(&key, number);
        (
            address(number),
            DesiredBackend { identity, weight: 100, share: WHOLE, standing, path: path(number) },
        )
    });
    DesiredService {
        class: RingClass::Small,
        flags: 0,
        options: ServiceOptions { icmp_rate: 100, ..ServiceOptions::default() },
        start: Start::Visible,
        timeouts: Timeouts::with_idle(IDLE),
        backends: backends.collect(),
    }
}

fn identity_of(key: &ServiceKey, number: u8) -> u64 {
    identity(key.vip, key.ports, key.protocol.number(), address(number))
}

fn desired(services: &[(ServiceKey, &[(u8, Standing)])]) -> Desired {
    let mut desired = Desired::default();
    for (key, backends) in services {
        desired.vips.insert(key.vip, Vip::ANSWER);
        desired.services.insert(*key, service(*key, backends));
    }
    desired
}

/// An engine and the maps it writes.
struct World {
    engine: Engine,
    maps: Maps,
    now: u32,
}

impl World {
    fn new() -> Self {
        Self { engine: Engine::new(SEED), maps: Maps::default(), now: 10 }
    }

    fn reconcile(&mut self, desired: &Desired) -> Vec<Write> {
        let plan = self.engine.reconcile(desired, self.now);
        self.maps.carry_out(&mut self.engine, &plan);
        plan.writes
    }

    fn collect(&mut self, flows: &[Record]) -> Collection {
        let look = Look {
            newborn: Vec::new(),
            flows: flows.to_vec(),
            rings: self.engine.open_rings().map(|(id, _)| (id, self.maps.rings[&id].clone())).collect(),
        };
        let collection = self.engine.collect(look, self.now);
        self.maps.carry_out(&mut self.engine, &collection.plan);
        collection
    }

    fn collect_connections(&mut self, look: &nat::Look) -> Vec<nat::Ended> {
        let found = self.engine.collect_connections(look, self.now);
        self.maps.carry_out(&mut self.engine, &found.plan);
        found.ended
    }

    /// Lets the idle timeout pass, with a look at the tables at every stage.
    fn settle(&mut self) {
        for _ in 0..5 {
            self.now += IDLE + 1;
            self.collect(&[]);
        }
        assert_eq!(self.engine.open_rings().count(), 0, "slots stay open without any flow");
    }

    fn restart(&mut self) {
        self.engine = self.maps.adopt();
    }

    fn reference(&self, key: &ServiceKey, number: u8) -> BackendRef {
        self.maps.backend(identity_of(key, number)).expect("a backend in the maps").0
    }

    fn id(&self, key: &ServiceKey) -> u16 {
        self.maps.service(key).expect("a service in the maps").id
    }

    fn open_slots(&self, key: &ServiceKey) -> usize {
        let ring = &self.maps.rings[&self.id(key)];
        ring.iter().filter(|slot| slot.phase != Phase::Closed as u8).count()
    }
}

#[test]
fn what_is_referred_to_is_written_first_and_removed_last() {
    let mut world = World::new();
    let writes = world.reconcile(&desired(&[(web(80), &[(1, SERVING), (2, SERVING)])]));
    assert!(
        matches!(
            writes[..],
            [
                Write::ServiceOptions { .. },
                Write::Backend { .. },
                Write::Backend { .. },
                Write::Ring(_),
                Write::Vip { .. }
            ]
        ),
        "{writes:?}"
    );
    let id = world.id(&web(80));
    let writes = world.reconcile(&Desired::default());
    let kinds: Vec<_> = writes.iter().map(std::mem::discriminant).collect();
    assert_eq!(writes[0], Write::RemoveVip(vip(1)));
    assert_eq!(writes[1], Write::RemoveRing { service: id, class: RingClass::Small });
    assert_eq!(kinds.len(), 4, "{writes:?}");
    for write in &writes[2..] {
        assert!(
            matches!(write, Write::Backend { backend, .. } if backend.mode == Mode::Dead as u8),
            "{write:?}"
        );
    }
}

#[test]
fn what_is_there_already_is_not_written_again() {
    let mut world = World::new();
    let wanted =
        desired(&[(web(80), &[(1, SERVING), (2, DRAINING), (3, DEAD)]), (web(443), &[(1, SERVING)])]);
    world.reconcile(&wanted);
    assert_eq!(world.reconcile(&wanted), []);
}

#[test]
fn a_dead_backend_leaves_the_ring_before_its_entry_dies() {
    let mut world = World::new();
    world.reconcile(&desired(&[(web(80), &[(1, SERVING), (2, SERVING)])]));
    let before = world.reference(&web(80), 1);
    let writes = world.reconcile(&desired(&[(web(80), &[(1, DEAD), (2, SERVING)])]));
    assert!(
        matches!(&writes[..], [Write::Ring(_), Write::Backend { index, backend }]
            if *index == before.index && backend.mode == Mode::Dead as u8),
        "{writes:?}"
    );
    assert_eq!(world.open_slots(&web(80)), 0, "nothing of the dead one is worth remembering");

    let writes = world.reconcile(&desired(&[(web(80), &[(1, SERVING), (2, SERVING)])]));
    assert!(matches!(&writes[..], [Write::Backend { .. }, Write::Ring(_)]), "{writes:?}");
    let after = world.reference(&web(80), 1);
    assert_eq!(after.index, before.index);
    assert!(after.generation > before.generation, "whoever remembers its former life must not find it");
}

#[test]
fn a_removed_backend_lingers_until_nothing_names_it() {
    let mut world = World::new();
    world.reconcile(&desired(&[(web(80), &[(1, SERVING), (2, SERVING)])]));
    let gone = world.reference(&web(80), 1);
    world.reconcile(&desired(&[(web(80), &[(2, SERVING)])]));
    assert!(world.open_slots(&web(80)) > 1000, "its slots remember it");
    let ring = &world.maps.rings[&world.id(&web(80))];
    let slot = ring.iter().position(|slot| slot.previous == gone).expect("a slot that remembers it");
    let epoch = ring[slot].epoch;

    // One flow on the other backend keeps nothing of the removed one; one on itself does.
    let record = |seen| Record {
        key: FlowKey { service: world.id(&web(80)), source_port: 1, ..FlowKey::default() },
        entry: FlowEntry { backend: gone, epoch, closing: 0, seen, slot: slot as u32 },
    };
    let alive = record(world.now + 5 * (IDLE + 1));
    for _ in 0..5 {
        world.now += IDLE + 1;
        world.collect(&[alive]);
        assert_eq!(world.reference(&web(80), 1), gone, "a flow of its own is alive");
    }
    world.settle();
    assert_eq!(world.maps.backend(identity_of(&web(80), 1)), None, "nothing names it any more");
    assert!(!world.engine.wants_collection());
}

#[test]
fn a_removed_backend_that_comes_back_goes_on_as_itself() {
    let mut world = World::new();
    let both = desired(&[(web(80), &[(1, SERVING), (2, SERVING)])]);
    world.reconcile(&both);
    let before = world.reference(&web(80), 1);
    world.reconcile(&desired(&[(web(80), &[(2, SERVING)])]));
    world.reconcile(&both);
    assert_eq!(world.reference(&web(80), 1), before, "its flows are still alive");
}

#[test]
fn a_service_that_comes_back_inherits_nothing() {
    let mut world = World::new();
    let wanted = desired(&[(web(80), &[(1, SERVING)])]);
    world.reconcile(&wanted);
    let (id, before) = (world.id(&web(80)), world.reference(&web(80), 1));
    world.reconcile(&Desired::default());
    world.reconcile(&wanted);
    assert_ne!(world.id(&web(80)), id, "records of the former one may be left");
    assert_ne!(world.reference(&web(80), 1), before);

    // What is left of it is deleted, and then its number may serve again.
    let key = FlowKey { service: id, ..FlowKey::default() };
    let left = Record { key, entry: FlowEntry { backend: before, ..FlowEntry::default() } };
    assert!(world.engine.wants_collection());
    assert_eq!(world.collect(&[left]).flows, [left]);
    assert!(!world.engine.wants_collection());
    world.reconcile(&desired(&[(web(80), &[(1, SERVING)]), (web(81), &[(1, SERVING)])]));
    assert_eq!(world.id(&web(81)), id);
}

#[test]
fn a_vip_has_room_for_any_number_of_services() {
    let mut world = World::new();
    let ports: Vec<u16> = (1..=7).chain([0]).collect();
    let wanted = |ports: &[u16]| {
        let services: Vec<_> = ports.iter().map(|&port| (web(port), &[(1, SERVING)][..])).collect();
        desired(&services)
    };
    let distinct = |world: &World, ports: &[u16]| {
        let found: BTreeSet<_> = ports.iter().map(|&port| world.id(&web(port))).collect();
        assert_eq!(found.len(), ports.len(), "each port has its own service");
    };
    for count in 1..=ports.len() {
        world.reconcile(&wanted(&ports[..count]));
        distinct(&world, &ports[..count]);
    }
    assert_eq!(
        world.maps.service(&web(9)),
        world.maps.service(&web(0)),
        "any other port is the service of all"
    );
    assert_eq!(world.maps.ports.len(), ports.len() - INLINE_SERVICES);
    for count in (1..ports.len()).rev() {
        world.reconcile(&wanted(&ports[ports.len() - count..]));
        distinct(&world, &ports[ports.len() - count..]);
    }
    world.reconcile(&Desired::default());
    assert!(world.maps.ports.is_empty() && world.maps.vips.is_empty() && world.maps.rings.is_empty());
}

#[test]
fn an_address_that_is_no_vip_any_more_gives_its_number_back() {
    let mut world = World::new();
    for _ in 0..MAX_SERVICES + 1 {
        world.engine.reconcile(&Desired { vips: BTreeMap::from([(vip(1), 0)]), ..Desired::default() }, 1);
        let plan =
            world.engine.reconcile(&Desired { endpoints: BTreeSet::from([vip(1)]), ..Desired::default() }, 1);
        assert!(
            matches!(plan.writes[..], [Write::Vip { vip, .. }] if vip.flags == Vip::ENDPOINT && vip.id == 0)
        );
    }
    let plan =
        world.engine.reconcile(&Desired { vips: BTreeMap::from([(vip(1), 0)]), ..Desired::default() }, 1);
    assert!(matches!(plan.writes[..], [Write::Vip { vip, .. }] if vip.id == 0), "{:?}", plan.writes);
}

/// Also for a program or a daemon from before, which knows them for addresses of this host.
#[test]
fn where_adverts_are_sent_to_is_no_vip_and_has_no_number() {
    let mut world = World::new();
    let adverts = BTreeSet::from([vip(9), address(8)]);
    world.reconcile(&Desired {
        vips: BTreeMap::from([(vip(1), 0)]),
        adverts: adverts.clone(),
        nat_sources: BTreeMap::from([(address(8), Vip::NAT_SOURCE)]),
        ..Desired::default()
    });
    let flags = |world: &World, address: &IpAddr| world.maps.vips.get(address).map(|vip| (vip.id, vip.flags));
    let noted = Vip::ADVERTS | Vip::ENDPOINT;
    assert_eq!(flags(&world, &vip(9)), Some((0, noted)));
    assert_eq!(flags(&world, &address(8)), Some((0, noted | Vip::NAT_SOURCE)));
    world.restart();
    let wanted = Desired { vips: BTreeMap::from([(vip(1), 0)]), ..Desired::default() };
    world.reconcile(&wanted);
    assert_eq!(world.maps.vips.keys().collect::<Vec<_>>(), [&vip(1)]);
}

#[test]
fn a_restart_changes_nothing() {
    let mut world = World::new();
    let mut wanted = desired(&[
        (web(80), &[(1, SERVING), (2, SERVING), (3, DRAINING), (4, DEAD)]),
        (web(443), &[(1, SERVING)]),
        (ServiceKey { protocol: Protocol::Udp, ..web(443) }, &[(1, SERVING)]),
        (web(1), &[(1, SERVING)]),
        (web(2), &[]),
        (web(0), &[(1, SERVING)]),
        (range((8000, 8999)), &[(1, SERVING)]),
        (range((9000, 9002)), &[(1, SERVING)]),
        (ServiceKey { protocol: Protocol::Udp, ..range((8000, 8999)) }, &[(2, SERVING)]),
        (ServiceKey { vip: vip(2), ..web(80) }, &[(1, SERVING)]),
    ]);
    // One that fragments without ports are steered to.
    let by_source = ServiceKey { vip: vip(3), ..web(53) };
    wanted.vips.insert(vip(3), Vip::ANSWER);
    let flags = ServiceRef::SOURCE_AFFINITY;
    wanted.services.insert(by_source, DesiredService { flags, ..service(by_source, &[(1, SERVING)]) });
    wanted.nat_sources.insert(source(), Vip::NAT_SOURCE | Vip::ANSWER);
    wanted.nat_sources.insert(address(8), Vip::NAT_SOURCE);
    wanted.configured_peers.insert(address(9));
    wanted.peers.insert([9; 6], address(9));
    wanted.tunnel_peers.insert(address(9));
    wanted.endpoints.insert(address(8));
    world.reconcile(&wanted);
    world.restart();
    assert!(world.engine.was_serving(&web(80), identity_of(&web(80), 1)));
    assert!(!world.engine.was_serving(&web(80), identity_of(&web(80), 3)), "it had only what it had");
    assert!(!world.engine.was_serving(&web(80), identity_of(&web(80), 4)));
    assert!(world.engine.refusals(&wanted).is_empty());
    assert_eq!(world.reconcile(&wanted), []);
    assert!(world.engine.has_peers());
}

#[test]
fn a_restart_keeps_what_open_slots_remember() {
    let mut world = World::new();
    world.reconcile(&desired(&[(web(80), &[(1, SERVING), (2, SERVING)])]));
    let drained = desired(&[(web(80), &[(1, DRAINING), (2, SERVING)])]);
    world.reconcile(&drained);
    let (open, before) = (world.open_slots(&web(80)), world.reference(&web(80), 1));
    assert!(open > 1000);
    world.restart();
    assert_eq!(world.reconcile(&drained), []);
    assert_eq!((world.open_slots(&web(80)), world.reference(&web(80), 1)), (open, before));
    // Removed from the file while the daemon was away: the same as being drained.
    world.restart();
    assert_eq!(world.reconcile(&desired(&[(web(80), &[(2, SERVING)])])), []);
    assert_eq!(world.open_slots(&web(80)), open);
    world.settle();
    assert_eq!(world.maps.backend(identity_of(&web(80), 1)), None);
}

#[test]
fn indices_found_in_the_maps_are_not_given_away() {
    let mut world = World::new();
    world.reconcile(&desired(&[(web(80), &[(1, SERVING), (2, SERVING)])]));
    world.reconcile(&desired(&[(web(80), &[(1, SERVING), (2, SERVING)]), (web(81), &[(3, SERVING)])]));
    let freed = world.reference(&web(81), 3);
    world.reconcile(&desired(&[(web(80), &[(1, SERVING), (2, SERVING)])]));
    world.restart();
    // The maps themselves complain if one is.
    world.reconcile(&desired(&[(web(80), &[(1, SERVING), (2, SERVING), (4, SERVING)])]));
    let heir = world.reference(&web(80), 4);
    assert_eq!(heir.index, freed.index, "the first free one");
    assert!(heir.generation > freed.generation);
}

#[test]
fn an_index_that_a_plan_frees_is_given_out_by_the_next_one() {
    let mut world = World::new();
    world.reconcile(&desired(&[(web(80), &[(1, DEAD)]), (web(81), &[])]));
    while world.engine.indices.allocate().is_some() {}
    let wanted = desired(&[(web(80), &[]), (web(81), &[(2, SERVING)])]);
    let plan = world.engine.reconcile(&wanted, world.now);
    assert_eq!(plan.warnings.len(), 1, "the entry is freed after the rings are published");
    for write in &plan.writes {
        world.maps.write(write);
    }
    world.reconcile(&wanted);
    world.reference(&web(81), 2);
}

#[test]
fn what_no_vip_leads_to_is_removed_at_the_start() {
    let mut world = World::new();
    let plan = world.engine.reconcile(&desired(&[(web(80), &[(1, SERVING), (2, SERVING)])]), 10);
    // The daemon ended before the VIP was written.
    for write in &plan.writes[..plan.writes.len() - 1] {
        world.maps.write(write);
    }
    world.restart();
    world.reconcile(&desired(&[(web(443), &[(3, SERVING)])]));
    assert_eq!(world.maps.rings.len(), 1);
    let used = world.maps.backends.values().filter(|backend| backend.identity != 0);
    assert_eq!(used.count(), 1);
    world.reference(&web(443), 3);
}

#[test]
fn ring_and_affinity_of_a_service_with_flows_stay() {
    let mut world = World::new();
    let wanted = desired(&[(web(80), &[(1, SERVING)])]);
    let mut other = wanted.clone();
    let changed = other.services.get_mut(&web(80)).expect("the service");
    changed.class = RingClass::Medium;
    changed.flags = ServiceRef::SOURCE_AFFINITY;
    assert_eq!(world.engine.refusals(&other), [], "nothing runs yet");
    world.reconcile(&wanted);
    for _ in ["running", "found"] {
        assert_eq!(world.engine.refusals(&wanted), []);
        assert_eq!(world.engine.refusals(&other), [(web(80), "ring"), (web(80), "affinity")]);
        world.restart();
    }
}

#[test]
fn a_former_backend_on_this_host_takes_what_peers_still_send() {
    let mut world = World::new();
    let mut both = desired(&[(web(80), &[(1, SERVING), (2, SERVING)])]);
    both.services.get_mut(&web(80)).and_then(|web| web.backends.get_mut(&address(1))).expect("itself").path =
        Path::Local;
    both.configured_peers.insert(address(2));
    both.tunnel_peers.insert(address(2));
    both.endpoints.insert(address(1));
    world.reconcile(&both);
    assert_ne!(world.maps.vips[&vip(1)].flags & Vip::LOCAL, 0);

    let mut without = desired(&[(web(80), &[(2, SERVING)])]);
    without.configured_peers.insert(address(2));
    for _ in ["running", "restarted"] {
        world.reconcile(&without);
        assert_ne!(world.maps.vips[&vip(1)].flags & Vip::LOCAL, 0, "it still has flows");
        assert_eq!(world.maps.vips[&address(1)].flags, Vip::ENDPOINT);
        assert!(world.maps.tunnel_peers.contains(&address(2)));
        world.restart();
    }
    world.reconcile(&without);
    world.settle();
    world.reconcile(&without);
    assert_eq!(world.maps.vips[&vip(1)].flags & Vip::LOCAL, 0);
    assert!(!world.maps.vips.contains_key(&address(1)) && world.maps.tunnel_peers.is_empty());
}

#[test]
fn the_last_known_way_to_a_backend_holds_while_none_is_known() {
    let mut world = World::new();
    let both = desired(&[(web(80), &[(1, SERVING), (2, SERVING)])]);
    let unresolved = |standing: Standing| {
        let mut wanted = desired(&[(web(80), &[(1, standing), (2, SERVING)])]);
        let web = wanted.services.get_mut(&web(80)).expect("the service");
        web.backends.get_mut(&address(1)).expect("the backend").path = Path::Unresolved;
        wanted
    };
    let way = |world: &World| {
        let (reference, entry) = world.maps.backend(identity_of(&web(80), 1)).expect("it is in the maps");
        (reference, Mode::from_u8(entry.mode))
    };
    let share = |world: &World| {
        let (reference, _) = way(world);
        world.maps.rings[&world.id(&web(80))].iter().filter(|slot| slot.current == reference).count()
    };
    world.reconcile(&unresolved(SERVING));
    assert_eq!((way(&world).1, share(&world)), (Mode::Unresolved, 0), "there was none");
    world.reconcile(&both);
    assert!(share(&world) > 1000);
    let known = way(&world);
    assert_eq!(known.1, Mode::L2);
    for step in ["it is not known for a moment", "it was removed and comes back", "the daemon was restarted"]
    {
        match step {
            "it was removed and comes back" => drop(world.reconcile(&desired(&[(web(80), &[(2, SERVING)])]))),
            "the daemon was restarted" => world.restart(),
            _ => {}
        }
        world.reconcile(&unresolved(SERVING));
        assert_eq!(way(&world), known, "{step}");
        assert!(share(&world) > 1000, "{step}");
    }
    world.reconcile(&unresolved(DEAD));
    assert_eq!(way(&world).1, Mode::Dead);
    world.reconcile(&unresolved(SERVING));
    assert_eq!((way(&world).1, share(&world)), (Mode::Unresolved, 0), "another life begins without one");
}

#[test]
fn where_no_backend_is_found_packets_are_on_their_way_to_one_nevertheless() {
    let mut world = World::new();
    let mut wanted = desired(&[(web(80), &[(1, SERVING), (2, SERVING)])]);
    for backend in wanted.services.get_mut(&web(80)).expect("the service").backends.values_mut() {
        backend.path = Path::Unresolved;
    }
    world.reconcile(&wanted);
    let ring = &world.maps.rings[&world.id(&web(80))];
    assert!(ring.iter().all(|slot| !slot.current.is_none()), "they would end as if there were none");
}

#[test]
fn a_peer_that_is_not_resolved_keeps_its_former_mac_address() {
    let mut world = World::new();
    let peer = |mac: Option<u8>| Desired {
        configured_peers: BTreeSet::from([address(9)]),
        peers: mac.map(|mac| ([mac; 6], address(9))).into_iter().collect(),
        ..Desired::default()
    };
    world.reconcile(&peer(Some(1)));
    assert_eq!(world.reconcile(&peer(None)), []);
    world.reconcile(&peer(Some(2)));
    assert_eq!(world.maps.peers, BTreeMap::from([([2; 6], address(9))]));
    world.restart();
    assert_eq!(world.reconcile(&peer(None)), []);
    world.reconcile(&Desired::default());
    assert!(world.maps.peers.is_empty() && !world.engine.has_peers());
}
