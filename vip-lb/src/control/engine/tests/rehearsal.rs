//! What is said before a change is what the maps show after it.

use super::*;
use crate::control::rehearsal::{BackendEffect, Effects, ServiceEffect};

/// Compares what a rehearsal said with the maps before and after the change, without asking the engine.
pub(super) fn check(said: &Effects, before: &Maps, after: &Maps) {
    for (key, effect) in &said.services {
        // Of one that is not there, its ports may belong to a wider one.
        let old = effect.id.and_then(|_| before.service(key));
        let new = effect.stays.then(|| after.service(key).expect("a service that stays"));
        assert_eq!(effect.id, old.map(|service| service.id), "{key:?}");
        let ring_of = |maps: &Maps, service: Option<ServiceRef>| {
            service.map(|service| maps.rings[&service.id].clone()).unwrap_or_default()
        };
        let (was, is) = (ring_of(before, old), ring_of(after, new));
        let owners = |maps: &Maps, ring: &[Slot]| -> Vec<Option<u64>> {
            let owner = |slot: &Slot| maps.backends.get(&slot.current.index).map(|entry| entry.identity);
            ring.iter().map(|slot| if slot.current.is_none() { None } else { owner(slot) }).collect()
        };
        let (owned, owns) = (owners(before, &was), owners(after, &is));
        let moved = owned.iter().zip(&owns).filter(|(was, is)| was != is).count();
        assert_eq!(effect.moved, moved, "{key:?}");
        // Where an unknown flow of a slot goes: that is where settled connections are.
        let settled = |ring: &[Slot]| -> Vec<BackendRef> {
            let goes_to =
                |slot: &Slot| if slot.phase == Phase::Closed as u8 { slot.current } else { slot.previous };
            ring.iter().map(goes_to).collect()
        };
        let (went, goes) = (settled(&was), settled(&is));
        for (&identity, backend) in &effect.backends {
            let slots_of = |owners: &[Option<u64>]| owners.iter().filter(|of| **of == Some(identity)).count();
            assert_eq!(
                (backend.slots_before, backend.slots_after),
                (slots_of(&owned), slots_of(&owns)),
                "{key:?}"
            );
            let Some(reference) = backend.reference else { continue };
            let still_good = new.is_some()
                && after.backends.get(&reference.index).is_some_and(|entry| {
                    entry.generation == reference.generation && entry.mode != Mode::Dead as u8
                });
            if went.contains(&reference) {
                assert_eq!(backend.loses_them, !still_good, "{key:?} {backend:?}");
            }
            let stranded =
                went.iter().zip(&goes).any(|(went, goes)| *went == reference && *goes != reference);
            assert!(!stranded || backend.loses_them, "settled connections move, but {backend:?}");
        }
    }
}

fn effect(world: &World, wanted: &Desired, key: ServiceKey) -> ServiceEffect {
    world.engine.rehearse(wanted, world.now).services[&key].clone()
}

fn of(effect: &ServiceEffect, number: u8) -> &BackendEffect {
    effect.backends.values().find(|backend| backend.address == Some(address(number))).expect("a backend")
}

/// Numbers of the backends that lose connections.
fn losers(effect: &ServiceEffect) -> Vec<u8> {
    (1..=9)
        .filter(|&number| {
            effect.backends.values().any(|of| of.address == Some(address(number)) && of.loses_them)
        })
        .collect()
}

fn settled(backends: &[(u8, Standing)]) -> World {
    let mut world = World::new();
    world.reconcile(&desired(&[(web(80), backends)]));
    world.settle();
    world
}

#[test]
fn additions_drains_and_removals_move_slots_and_lose_nobody() {
    let world = settled(&[(1, SERVING), (2, SERVING)]);
    for (what, backends, least, most) in [
        ("nothing", &[(1, SERVING), (2, SERVING)][..], 0.0, 0.0),
        ("an addition", &[(1, SERVING), (2, SERVING), (3, SERVING)], 0.33, 0.4),
        ("a drain", &[(1, DRAINING), (2, SERVING)], 0.49, 0.51),
        ("a removal", &[(2, SERVING)], 0.49, 0.51),
        ("another one instead", &[(2, SERVING), (3, SERVING)], 0.49, 0.75),
    ] {
        let effect = effect(&world, &desired(&[(web(80), backends)]), web(80));
        let share = effect.moved as f64 / effect.slots as f64;
        assert!((least..=most).contains(&share), "{what} moves {share}");
        assert_eq!(effect.remembering, effect.moved, "{what}");
        assert_eq!(losers(&effect), [0; 0], "{what}");
        assert_eq!(effect.any(), most > 0.0, "{what}");
        assert!(of(&effect, 1).has_connections && of(&effect, 2).has_connections, "{what}");
    }
}

#[test]
fn a_cut_backend_loses_its_connections_and_no_other_one() {
    let world = settled(&[(1, SERVING), (2, SERVING), (3, DRAINING)]);
    let effect = effect(&world, &desired(&[(web(80), &[(1, DEAD), (2, SERVING), (3, DEAD)])]), web(80));
    assert_eq!(losers(&effect), [1], "the third was drained long ago");
    assert_eq!((of(&effect, 1).slots_after, of(&effect, 2).slots_after), (0, RingClass::Small.slots()));
    assert_eq!(effect.remembering, 0, "there is nobody to remember");
}

#[test]
fn one_that_is_dead_already_has_nothing_to_lose() {
    let world = settled(&[(1, DEAD), (2, SERVING)]);
    let effect = effect(&world, &desired(&[(web(80), &[(2, SERVING)])]), web(80));
    assert_eq!((losers(&effect), effect.moved), (vec![], 0));
}

#[test]
fn a_drained_one_that_still_has_connections_loses_them_with_its_service_or_its_way() {
    let mut world = settled(&[(1, SERVING), (2, SERVING)]);
    world.reconcile(&desired(&[(web(80), &[(1, DRAINING), (2, SERVING)])]));
    assert_eq!(losers(&effect(&world, &Desired::default(), web(80))), [1, 2]);
    let mut translates = desired(&[(web(80), &[(1, DRAINING), (2, SERVING)])]);
    let backends = &mut translates.services.get_mut(&web(80)).unwrap().backends;
    backends.get_mut(&address(1)).unwrap().path = translated(1, 0);
    assert_eq!(losers(&effect(&world, &translates, web(80))), [1], "translated connections are others");
    world.settle();
    assert_eq!(losers(&effect(&world, &Desired::default(), web(80))), [2], "the first is drained");
}

#[test]
fn a_rehearsal_changes_nothing() {
    let mut world = settled(&[(1, SERVING), (2, SERVING)]);
    let wanted = desired(&[(web(80), &[(1, DEAD), (3, SERVING)]), (web(443), &[(1, SERVING)])]);
    let mut twin = world.engine.clone();
    let said = world.engine.rehearse(&wanted, world.now);
    assert_eq!(said, world.engine.rehearse(&wanted, world.now), "it says the same twice");
    let maps = world.maps.clone();
    assert_eq!(world.reconcile(&wanted), twin.reconcile(&wanted, world.now).writes);
    check(&said, &maps, &world.maps);
    assert!(said.services[&web(443)].id.is_none() && said.services[&web(443)].any());
}

#[test]
fn nobody_has_looked_yet_for_the_way_to_a_backend_that_comes_new() {
    let world = settled(&[(1, SERVING), (2, SERVING)]);
    let mut wanted = desired(&[(web(80), &[(1, SERVING), (2, SERVING), (3, SERVING)])]);
    let web_80 = wanted.services.get_mut(&web(80)).expect("the service");
    web_80.backends.get_mut(&address(3)).expect("the backend").path = Path::Unresolved;
    let said = effect(&world, &wanted, web(80));
    assert!(of(&said, 3).slots_after > 1000, "{:?}", of(&said, 3));

    // It is looked for once it is there, and as long as none is found nothing is to be said of it.
    let mut world = world;
    world.reconcile(&wanted);
    assert!(!effect(&world, &wanted, web(80)).any());
}
