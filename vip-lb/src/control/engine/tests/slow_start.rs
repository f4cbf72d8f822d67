//! A backend that returns slowly: only as many slots move as its weight says, and none of its own moves back.

use super::*;

#[test]
fn only_as_many_slots_move_as_the_weight_says() {
    let key = web(80);
    let mut world = World::new();
    let mut wanted = desired(&[(key, &[(1, SERVING), (2, SERVING), (3, DEAD)])]);
    world.reconcile(&wanted);
    let slots = RingClass::Small.slots();
    let ring = |world: &World| world.maps.rings[&world.id(&key)].clone();
    let mut before = ring(&world);
    for share in 1..=WHOLE {
        let backend = wanted.services.get_mut(&key).unwrap().backends.get_mut(&address(3)).unwrap();
        (backend.standing, backend.share) = (SERVING, share);
        world.reconcile(&wanted);
        let after = ring(&world);
        let own = |ring: &[Slot]| {
            let reference = world.reference(&key, 3);
            ring.iter().filter(|slot| slot.current == reference).count()
        };
        let fair = slots as f64 * f64::from(share) / f64::from(2 * WHOLE + share);
        assert!((own(&after) as f64 - fair).abs() <= 2.0, "{share}: {} slots, due are {fair}", own(&after));
        let moved =
            before.iter().zip(&after).filter(|(before, after)| before.current != after.current).count();
        let due = own(&after) - own(&before);
        // Maglev's disruption: a few slots change between the others.
        assert!(moved <= due + slots / 50, "{share}: {moved} slots move, {due} have to");
        before = after;
    }
    let mut at_once = World::new();
    at_once.reconcile(&desired(&[(key, &[(1, SERVING), (2, SERVING), (3, SERVING)])]));
    let identities = |world: &World, ring: &[Slot]| -> Vec<u8> {
        let of = |slot: &Slot| (1..=3).find(|number| world.reference(&key, *number) == slot.current).unwrap();
        ring.iter().map(of).collect()
    };
    assert_eq!(
        identities(&world, &before),
        identities(&at_once, &ring(&at_once)),
        "with its whole weight the ring is that of every other node"
    );
}
