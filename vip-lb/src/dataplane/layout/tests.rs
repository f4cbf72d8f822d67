//! Ways to take over pins, and reasons not to.

use std::path::Path;

use super::*;

const ARRAY: u32 = MapType::Array as u32;
const fn shape(value_size: u32) -> Shape {
    Shape { map_type: ARRAY, key_size: 4, value_size }
}

/// Layout 7: SETTINGS of 24 bytes, OLD and RINGS. Layout 8: SETTINGS of 32 bytes. Layout 9: NEW beside them, OLD no more.
const WAY: &[Step] = &[
    Step {
        from: 7,
        summary: "room for more settings",
        added: &[],
        converted: &[Conversion {
            map: SETTINGS,
            former: shape(24),
            value: |value| [value, &[1; 8]].concat(),
        }],
        removed: &[],
    },
    Step { from: 8, summary: "something new", added: &["NEW"], converted: &[], removed: &["OLD"] },
];
const NINE: &[MapLayout] = &[
    MapLayout { name: SETTINGS, shape: shape(32) },
    MapLayout { name: "RINGS", shape: shape(4) },
    MapLayout { name: "NEW", shape: shape(16) },
];

fn pinned(layout: u32, maps: &[(&str, u32)]) -> Pinned {
    let maps = maps.iter().map(|&(name, size)| (name.to_owned(), shape(size))).collect();
    Pinned { maps, header: Some((SETTINGS_MAGIC, layout)), is_linked: true }
}

fn of(pinned: &Pinned) -> Result<TakeOver, Refusal> {
    decide(Path::new("/p"), pinned, NINE, 9, WAY)
}

fn refusal(pinned: &Pinned) -> String {
    of(pinned).expect_err("it is refused").to_string()
}

#[test]
fn the_same_layout_is_adopted() {
    let same = pinned(9, &[(SETTINGS, 32), ("RINGS", 4), ("NEW", 16)]);
    assert!(matches!(of(&same), Ok(TakeOver::Adopt)));
}

#[test]
fn an_older_layout_is_migrated_step_by_step() {
    let Ok(TakeOver::Migrate(all)) = of(&pinned(7, &[(SETTINGS, 24), ("RINGS", 4), ("OLD", 4)])) else {
        panic!("layout 7 is not migrated")
    };
    assert_eq!((all.from, all.steps.len()), (7, 2));
    assert_eq!(all.convert(SETTINGS, vec![5; 24]).len(), 32);
    assert!(all.stages(SETTINGS) && !all.stages("RINGS"));
    assert_eq!(all.removed().collect::<Vec<_>>(), ["OLD"]);

    let Ok(TakeOver::Migrate(last)) = of(&pinned(8, &[(SETTINGS, 32), ("RINGS", 4), ("OLD", 4)])) else {
        panic!("layout 8 is not migrated")
    };
    assert_eq!(last.steps.len(), 1);
    assert!(last.stages(SETTINGS), "the version changes with the rest, though nothing is converted");
    assert!(!last.stages("RINGS") && !last.stages("NEW"));
}

#[test]
fn a_migration_that_was_broken_off_can_be_done_again() {
    let again = pinned(8, &[(SETTINGS, 32), ("RINGS", 4), ("NEW", 16)]);
    assert!(matches!(of(&again), Ok(TakeOver::Migrate(_))));
}

#[test]
fn settings_are_made_anew_with_any_other_map() {
    const STEP: Step = Step {
        from: 1,
        summary: "",
        added: &[],
        converted: &[Conversion { map: "RINGS", former: shape(4), value: <[u8]>::to_vec }],
        removed: &[],
    };
    let migration = Migration { from: 1, steps: vec![&STEP] };
    assert!(migration.stages("RINGS") && migration.stages(SETTINGS) && !migration.stages("NEW"));
    assert_eq!(migration.convert(SETTINGS, vec![1, 2]), [1, 2]);
}

#[test]
fn nothing_is_taken_over_from_who_wrote_nothing() {
    let mut empty = Pinned::default();
    assert!(matches!(of(&empty), Ok(TakeOver::Fresh)));
    empty.maps.insert("RINGS".to_owned(), shape(4));
    assert!(matches!(of(&empty), Ok(TakeOver::Fresh)), "a daemon was killed while it made maps");
    empty.header = Some((0, 0));
    assert!(matches!(of(&empty), Ok(TakeOver::Fresh)), "or before it filled them");
    empty.is_linked = true;
    empty.header = None;
    assert!(refusal(&empty).contains("/p/SETTINGS is gone"));
}

#[test]
fn anything_else_is_refused_with_what_to_do() {
    let foreign = Pinned { header: Some((42, 9)), ..Pinned::default() };
    assert!(refusal(&foreign).contains("no map of vip-lb"));
    for (name, found, said) in [
        ("newer", pinned(10, &[]), "start the newer vip-lb again"),
        ("older than any step", pinned(6, &[]), "start a vip-lb in between first"),
        ("another size", pinned(9, &[(SETTINGS, 32), ("RINGS", 8)]), "value size is 8, expected 4"),
        ("another size before", pinned(7, &[(SETTINGS, 32), ("RINGS", 4)]), "value size is 32, expected 24"),
        ("a lost pin", pinned(9, &[(SETTINGS, 32), ("NEW", 16)]), "/p/RINGS is gone"),
    ] {
        let refusal = refusal(&found);
        assert!(refusal.contains(said), "{name}: {refusal}");
        assert!(refusal.contains("vip-lb"), "{name} says what to do: {refusal}");
    }
}

#[test]
fn the_steps_lead_to_this_layout_without_a_gap() {
    use vip_lb_common::abi::LAYOUT_VERSION;

    for (step, next) in STEPS.iter().zip(STEPS.iter().skip(1)) {
        assert_eq!(step.from + 1, next.from, "`{}` leads to `{}`", step.summary, next.summary);
    }
    if let Some(last) = STEPS.last() {
        assert_eq!(last.from + 1, LAYOUT_VERSION, "`{}` is the last step", last.summary);
    }
    for conversion in STEPS.iter().flat_map(|step| step.converted) {
        let kind = conversion.former.map_type;
        assert!(
            [MapType::Array as u32, MapType::Hash as u32].contains(&kind),
            "{} cannot be copied",
            conversion.map
        );
    }
}
