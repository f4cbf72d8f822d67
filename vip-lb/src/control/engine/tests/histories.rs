//! Random histories of what is wanted, with daemons that end between any two writes.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::control::rehearsal::Effects;

/// What is wanted of each backend of a service; none if it is not configured.
type Backends = Vec<Option<Standing>>;

#[derive(Clone, Debug)]
struct Era {
    /// By VIP and port; none if the service is not configured.
    services: Vec<Option<Backends>>,
    /// Whether the third backends are translated.
    translated: bool,
    /// How many writes of the plan the daemon lives to carry out.
    ends_after: Option<usize>,
    /// Seconds until the next.
    passes: u32,
}

const PORTS: [u16; 6] = [0, 22, 80, 443, 8080, 8443];
const RANGES: [(u16, u16); 2] = [(8000, 8999), (9000, 9001)];
/// Ports within and beside all of them.
const DIALLED: [u16; 12] = [22, 80, 443, 444, 7999, 8000, 8080, 8443, 8999, 9000, 9001, 9002];

fn keys() -> Vec<ServiceKey> {
    // One VIP with more services than fit in its entry, one with one.
    let first = PORTS.map(web).into_iter().chain(RANGES.map(range));
    let second = ServiceKey { vip: vip(2), ports: Ports::One(53), protocol: Protocol::Udp };
    first.chain([second]).collect()
}

fn standing() -> impl Strategy<Value = Option<Standing>> {
    prop_oneof![
        3 => Just(Some(SERVING)),
        1 => Just(Some(DRAINING)),
        1 => Just(Some(DEAD)),
        1 => Just(None),
    ]
}

fn era() -> impl Strategy<Value = Era> {
    let services = vec(prop_oneof![4 => vec(standing(), 3).prop_map(Some), 1 => Just(None)], keys().len());
    let ends_after = prop_oneof![2 => Just(None), 1 => (0_usize..24).prop_map(Some)];
    let passes = prop_oneof![Just(1_u32), Just(30), Just(IDLE + 1)];
    (services, any::<bool>(), ends_after, passes).prop_map(|(services, translated, ends_after, passes)| Era {
        services,
        translated,
        ends_after,
        passes,
    })
}

impl Era {
    fn desired(&self) -> Desired {
        let mut desired = Desired::default();
        for (key, backends) in keys().into_iter().zip(&self.services) {
            let Some(backends) = backends else { continue };
            let configured: Vec<_> =
                (1..).zip(backends).filter_map(|(number, standing)| Some((number, (*standing)?))).collect();
            desired.vips.insert(key.vip, Vip::ANSWER);
            let mut wanted = service(key, &configured);
            if self.translated
                && let Some(third) = wanted.backends.get_mut(&address(3))
            {
                third.path = translated(3, 8080);
                desired.nat_sources.insert(source(), Vip::NAT_SOURCE);
            }
            desired.services.insert(key, wanted);
        }
        desired
    }
}

/// The maps say what is wanted, no more and no less.
fn check(world: &World, desired: &Desired) {
    for port in DIALLED {
        let ranges = RANGES.iter().filter(|(first, last)| (first..=last).contains(&&port));
        let named = [web(port)].into_iter().chain(ranges.map(|&ports| range(ports))).chain([web(0)]);
        let wanted = named.into_iter().find(|key| desired.services.contains_key(key));
        let id = wanted.map(|key| world.engine.published(&key).expect("a configured service").reference.id);
        let found = world.maps.service_at(vip(1), Protocol::Tcp, port);
        assert_eq!(found.map(|service| service.id), id, "port {port}");
    }
    assert_eq!(world.maps.rings.len(), desired.services.len(), "rings of services that are gone");
    for (key, service) in &desired.services {
        let reference = world.maps.service(key).expect("a configured service");
        assert_eq!(reference, world.engine.published(key).expect("a service").reference, "{key:?}");
        let translates = service
            .backends
            .values()
            .any(|backend| matches!(backend.path, Path::Nat { .. }) && backend.standing.is_alive());
        assert!(!translates || reference.flags & ServiceRef::NAT != 0, "{key:?}");
        let serving: BTreeSet<_> =
            world.maps.serving(reference).into_iter().map(|backend| backend.index).collect();
        let wanted = service.backends.values().filter(|backend| backend.standing == SERVING);
        let wanted = wanted.map(|backend| world.maps.backend(backend.identity).expect("its entry").0.index);
        assert_eq!(serving, wanted.collect(), "{key:?}");
    }
}

/// Lives through them, and looks at the maps after every write.
fn live_through(eras: &[Era]) -> Result<(), TestCaseError> {
    let mut world = World::new();
    for era in eras {
        let desired = era.desired();
        let (before, maps) = (world.engine.clone(), world.maps.clone());
        let rehearsed = world.engine.rehearse(&desired, world.now);
        let plan = world.engine.reconcile(&desired, world.now);
        prop_assert_eq!(&rehearsed, &Effects::between(&before, &world.engine), "not what was done");
        match era.ends_after.filter(|&writes| writes < plan.writes.len()) {
            None => world.maps.carry_out(&mut world.engine, &plan),
            Some(lived) => {
                for write in &plan.writes[..lived] {
                    world.maps.write(write);
                }
                world.restart();
                world.reconcile(&desired);
            }
        }
        check(&world, &desired);
        // To compare all rings slot by slot takes long without optimisation.
        if era.ends_after.is_none() && era.passes == 30 {
            rehearsal::check(&rehearsed, &maps, &world.maps);
        }
        prop_assert_eq!(world.engine.reconcile(&desired, world.now).writes, []);
        world.now += era.passes;
        world.collect(&[]);
        world.collect_connections(&nat::Look::default());
        check(&world, &desired);
    }
    // In the end nothing is left over.
    world.reconcile(&Desired::default());
    world.collect_connections(&nat::Look::default());
    world.collect(&[]);
    world.reconcile(&Desired::default());
    prop_assert!(!world.engine.wants_connections());
    prop_assert!(world.maps.ranges.is_empty());
    prop_assert!(world.maps.backends.values().all(|backend| backend.identity == 0));
    prop_assert!(world.maps.vips.is_empty() && world.maps.ports.is_empty());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_packet_ever_meets_anything_invalid(eras in vec(era(), 1..6)) {
        live_through(&eras)?;
    }
}

/// A backend that was removed is remembered by open slots, comes back with another mode at an index below its own, and the daemon
/// ends before the ring tells.
#[test]
fn a_life_that_only_open_slots_remember_was_freed_under_them() {
    let era = |place, third, translated, ends_after| {
        let mut services = vec![None; keys().len()];
        services[place] = Some(vec![Some(SERVING), Some(SERVING), third]);
        Era { services, translated, ends_after, passes: 1 }
    };
    for ends_after in 0..12 {
        let eras = [
            era(1, Some(SERVING), false, None),
            era(0, Some(SERVING), true, None),
            // Whoever takes over gives out indices from the first on.
            era(0, None, true, Some(0)),
            era(0, Some(SERVING), false, Some(ends_after)),
        ];
        live_through(&eras).unwrap_or_else(|error| panic!("ended after {ends_after} writes: {error}"));
    }
}
