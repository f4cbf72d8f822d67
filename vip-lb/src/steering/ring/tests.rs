//! Slots opening, moving on and closing.

use vip_lb_common::abi::FlowKey;

use super::*;

const A: BackendRef = backend(1);
const B: BackendRef = backend(2);
const C: BackendRef = backend(3);
const IDLE: u32 = 600;

const fn backend(index: u16) -> BackendRef {
    BackendRef { index, generation: 1 }
}

fn alive(_: BackendRef) -> Fate {
    Fate::Alive
}

fn without(dead: BackendRef) -> impl Fn(BackendRef) -> Fate {
    move |backend| if backend == dead { Fate::Dead } else { Fate::Alive }
}

/// A ring of one slot that names A.
fn ring(start: Start) -> ServiceRing {
    let mut ring = ServiceRing::new(1, start, Timeouts::with_idle(IDLE));
    let changes = ring.retarget(&[A], alive, 100);
    assert_eq!((changes.moved, changes.opened, changes.cut), (1, 0, 0));
    assert_eq!(state(&ring), (A, A, 0, Phase::Closed));
    ring
}

fn state(ring: &ServiceRing) -> (BackendRef, BackendRef, u16, Phase) {
    let slot = ring.slots()[0];
    (slot.current, slot.previous, slot.epoch, Phase::from_u8(slot.phase))
}

fn record(backend: BackendRef, epoch: u16, closing: u16, seen: u32) -> Record {
    Record {
        key: FlowKey { source_port: seen as u16, ..FlowKey::default() },
        entry: FlowEntry { backend, epoch, closing, seen, slot: 0 },
    }
}

fn flows(flows: &[Record]) -> Records {
    Records { flows: flows.to_vec(), ..Records::default() }
}

fn unrecorded(ring: &mut ServiceRing, tick: u32) {
    let published = [Slot { unrecorded_at: tick, ..ring.slots()[0] }];
    ring.merge(&published);
}

#[test]
fn a_slot_opens_for_a_living_backend_and_not_for_a_dead_one() {
    let mut opened = ring(Start::Visible);
    let changes = opened.retarget(&[B], alive, 200);
    assert_eq!((changes.moved, changes.opened, changes.cut), (1, 1, 0));
    assert_eq!(state(&opened), (B, A, 1, Phase::Open));

    let mut cut = ring(Start::Visible);
    let changes = cut.retarget(&[B], without(A), 200);
    assert_eq!((changes.moved, changes.opened, changes.cut), (1, 0, 1));
    assert_eq!(state(&cut), (B, B, 0, Phase::Closed));
}

#[test]
fn nothing_changes_where_nothing_has_to() {
    let mut ring = ring(Start::Visible);
    assert!(!ring.retarget(&[A], alive, 300).any());
    assert!(!ring.wants_collection());
}

#[test]
fn later_changes_of_an_open_slot_keep_previous() {
    let mut ring = ring(Start::Visible);
    ring.retarget(&[B], alive, 200);
    let changes = ring.retarget(&[C], alive, 210);
    assert_eq!((changes.moved, changes.opened), (1, 0));
    assert_eq!(state(&ring), (C, A, 1, Phase::Open));
    ring.retarget(&[A], alive, 220);
    assert_eq!(state(&ring), (A, A, 1, Phase::Open), "back where it began, with records on B and C");
}

#[test]
fn the_former_current_is_heir_of_a_dead_previous() {
    let mut same = ring(Start::Visible);
    same.retarget(&[B], alive, 200);
    assert!(same.retarget(&[B], without(A), 210).any(), "no pick changed, but A died");
    assert_eq!(state(&same), (B, B, 1, Phase::Open));

    let mut moved = ring(Start::Visible);
    moved.retarget(&[B], alive, 200);
    moved.retarget(&[C], without(A), 210);
    assert_eq!(state(&moved), (C, B, 1, Phase::Open), "until now packets for A went to B");

    let mut both = ring(Start::Visible);
    both.retarget(&[B], alive, 200);
    both.retarget(&[C], |b| if b == C { Fate::Alive } else { Fate::Dead }, 210);
    assert_eq!(state(&both), (C, C, 1, Phase::Open));
}

#[test]
fn draining_the_last_backend_keeps_its_flows() {
    let mut ring = ring(Start::Visible);
    ring.retarget(&[BackendRef::NONE], alive, 200);
    assert_eq!(state(&ring), (BackendRef::NONE, A, 1, Phase::Open));
    ring.retarget(&[B], alive, 210);
    assert_eq!(state(&ring), (B, A, 1, Phase::Open));
    ring.retarget(&[BackendRef::NONE], |_| Fate::Dead, 220);
    assert_eq!(state(&ring), (BackendRef::NONE, BackendRef::NONE, 1, Phase::Open));
    ring.collect(&Records::default(), &[], |_| Fate::Dead, 222);
    assert_eq!(state(&ring).3, Phase::Closed);
    ring.retarget(&[C], alive, 230);
    assert_eq!(state(&ring), (C, C, 1, Phase::Closed), "nobody has flows on no backend");
}

#[test]
fn a_quiet_slot_settles_and_closes() {
    let mut ring = ring(Start::Visible);
    ring.retarget(&[B], alive, 200);
    let on_current = record(B, 1, 0, 790);
    assert_eq!(ring.collect(&flows(&[on_current]), &[], alive, 800).moved, 0, "600 of 601 ticks");
    assert_eq!(ring.collect(&flows(&[on_current]), &[], alive, 801).moved, 1);
    assert_eq!(state(&ring).3, Phase::Settling);
    assert_eq!(ring.collect(&flows(&[on_current]), &[], alive, 802).moved, 0, "not a whole tick");
    let collected = ring.collect(&flows(&[on_current]), &[], alive, 803);
    assert_eq!((collected.moved, collected.closed, collected.occupied), (1, 1, 0));
    assert_eq!(collected.flows, [on_current], "of no use in a closed slot");
    assert_eq!(state(&ring), (B, B, 1, Phase::Closed));
    assert!(ring.wants_collection(), "records made meanwhile are left");
    assert_eq!(ring.collect(&Records::default(), &[], alive, 804), Collected::default());
    assert!(!ring.wants_collection());
}

#[test]
fn a_sign_of_life_on_previous_delays_the_close() {
    let mut ring = ring(Start::Visible);
    ring.retarget(&[B], alive, 200);
    unrecorded(&mut ring, 700);
    assert_eq!(ring.collect(&Records::default(), &[], alive, 1300).moved, 0);
    assert_eq!(ring.collect(&Records::default(), &[], alive, 1301).moved, 1);
    unrecorded(&mut ring, 1302);
    ring.collect(&Records::default(), &[], alive, 1303);
    assert_eq!(state(&ring), (B, A, 1, Phase::Open), "one while settling opens it again");
    unrecorded(&mut ring, 900);
    ring.collect(&Records::default(), &[], alive, 1902);
    assert_eq!(state(&ring).3, Phase::Open, "an older sign does not undo a newer one");
}

#[test]
fn records_elsewhere_keep_a_slot_open_even_if_current_is_previous() {
    let mut ring = ring(Start::Visible);
    ring.retarget(&[B], alive, 200);
    ring.retarget(&[A], alive, 210);
    let on_b = record(B, 1, 0, 205);
    assert_eq!(ring.collect(&flows(&[on_b]), &[], alive, 805).flows, []);
    let collected = ring.collect(&flows(&[on_b]), &[], alive, 806);
    assert_eq!((collected.moved, &collected.flows[..]), (0, &[on_b][..]), "honoured until it is deleted");
    assert_eq!(ring.collect(&Records::default(), &[], alive, 807).closed, 1);
}

#[test]
fn a_handshake_elsewhere_counts_like_a_record() {
    let mut ring = ring(Start::Visible);
    ring.retarget(&[B], alive, 200);
    ring.retarget(&[A], alive, 210);
    let records = Records { newborn: vec![record(B, 1, 0, 209)], ..Records::default() };
    let collected = ring.collect(&records, &[], alive, 269);
    assert_eq!((collected.moved, collected.newborn.len(), collected.occupied), (0, 0, 1));
    let collected = ring.collect(&records, &[], alive, 270);
    assert_eq!((collected.moved, collected.newborn.len(), collected.occupied), (0, 1, 0));
}

#[test]
fn useless_records_are_found() {
    let mut ring = ring(Start::Visible);
    ring.retarget(&[B], alive, 1200);
    let cases = [
        ("live", record(B, 1, 0, 1210), true),
        ("silent for just the idle timeout", record(B, 1, 0, 1300 - 600), true),
        ("silent for longer", record(B, 1, 0, 1300 - 601), false),
        ("closing", record(B, 1, 1, 1240), true),
        ("closing for long", record(B, 1, 1, 1239), false),
        ("of another opening", record(B, 0, 0, 1290), false),
        ("of the dead", record(C, 1, 0, 1291), false),
        ("of no backend", record(BackendRef::NONE, 1, 0, 1292), false),
        (
            "of a slot that is none",
            Record { entry: FlowEntry { slot: 77, ..record(B, 1, 0, 1293).entry }, ..record(B, 1, 0, 1293) },
            false,
        ),
    ];
    for (name, record, stays) in cases {
        let collected = ring.clone().collect(&flows(&[record]), &[], without(C), 1300);
        assert_eq!((collected.flows.is_empty(), collected.occupied), (stays, usize::from(stays)), "{name}");
    }
}

#[test]
fn a_flow_in_both_tables_takes_one_place() {
    let mut ring = ring(Start::Visible);
    ring.retarget(&[B], alive, 200);
    let records = Records {
        newborn: vec![record(B, 1, 0, 210), record(B, 1, 0, 211)],
        flows: vec![record(B, 1, 0, 210)],
    };
    assert_eq!(ring.collect(&records, &[], alive, 212).occupied, 2);
}

#[test]
fn flows_without_a_visible_start_are_known_after_one_idle_timeout() {
    let mut ring = ring(Start::Hidden);
    ring.retarget(&[B], alive, 200);
    let old = record(A, 1, 0, 790);
    ring.collect(&flows(&[old]), &[], alive, 800);
    assert_eq!(state(&ring), (B, A, 1, Phase::Open));
    ring.collect(&flows(&[old]), &[], alive, 801);
    assert_eq!(state(&ring), (B, B, 1, Phase::Known), "what is not recorded is on B from now on");
    assert!(ring.names(A));
    ring.retarget(&[C], alive, 900);
    assert_eq!(state(&ring), (C, B, 1, Phase::Open), "unrecorded ones stay on B when C takes over");
    ring.collect(&flows(&[record(A, 1, 0, 1400)]), &[], alive, 1500);
    assert_eq!(state(&ring).3, Phase::Open);
    ring.collect(&Records::default(), &[], alive, 1501);
    assert_eq!(state(&ring), (C, C, 1, Phase::Known));
    assert_eq!(ring.collect(&Records::default(), &[], alive, 1503).closed, 1);
}

#[test]
fn a_backend_is_drained_when_nothing_can_name_it() {
    let mut ring = ring(Start::Visible);
    ring.retarget(&[B], alive, 200);
    ring.retarget(&[C], alive, 210);
    assert!(ring.names(A) && ring.names(B) && ring.names(C));
    ring.collect(&Records::default(), &[], alive, 211);
    assert!(ring.names(B), "a record may have been made while the tables were read");
    ring.collect(&flows(&[record(B, 1, 0, 209)]), &[], alive, 212);
    assert_eq!((ring.names(B), ring.recorded(B)), (true, 1));
    ring.collect(&Records::default(), &[], alive, 213);
    assert_eq!((ring.names(B), ring.recorded(B)), (false, 0));
    assert!(ring.names(A), "unrecorded flows are there");
}

#[test]
fn a_new_daemon_takes_the_slots_over_and_starts_their_time_again() {
    let mut former = ring(Start::Visible);
    former.retarget(&[B], alive, 200);
    former.collect(&Records::default(), &[], alive, 801);
    assert_eq!(state(&former).3, Phase::Settling);
    let mut adopted =
        ServiceRing::adopt(former.slots().to_vec(), Start::Visible, Timeouts::with_idle(IDLE), 802);
    assert_eq!(state(&adopted), (B, A, 1, Phase::Open));
    assert!(adopted.names(C), "nobody has looked yet");
    assert!(adopted.wants_collection());
    adopted.collect(&Records::default(), &[], alive, 1402);
    assert!(!adopted.names(C));
    assert_eq!(state(&adopted).3, Phase::Open);
    adopted.collect(&Records::default(), &[], alive, 1403);
    assert_eq!(state(&adopted).3, Phase::Settling);
}

#[test]
fn a_backend_that_returns_is_another_one() {
    let reborn = BackendRef { generation: 2, ..A };
    let mut ring = ring(Start::Visible);
    ring.retarget(&[reborn], without(A), 200);
    assert_eq!(state(&ring), (reborn, reborn, 0, Phase::Closed));
    assert!(!ring.names(A) && ring.names(reborn));
}

#[test]
fn shares_and_openings_are_counted() {
    let mut ring = ServiceRing::new(3, Start::Visible, Timeouts::with_idle(IDLE));
    ring.retarget(&[A, A, B], alive, 1);
    ring.retarget(&[A, B, BackendRef::NONE], alive, 2);
    assert_eq!(ring.shares(), HashMap::from([(A, 1), (B, 1)]));
    assert_eq!(ring.open(), 2);
}

#[test]
fn records_are_sorted_by_service() {
    let of = |service, seen| {
        let record = record(A, 1, 0, seen);
        Record { key: FlowKey { service, ..record.key }, ..record }
    };
    let sorted = Records::by_service([of(1, 1)], [of(2, 2), of(1, 3)]);
    assert_eq!(sorted.len(), 2);
    assert_eq!(sorted[&1], Records { newborn: vec![of(1, 1)], flows: vec![of(1, 3)] });
}

#[test]
fn a_slot_that_another_node_has_open_stays_open_and_outlives_that_node_by_an_idle_timeout() {
    let mut here = ring(Start::Visible);
    assert_eq!(here.learn("other", &[(0, B)], Trust::Open, 200), Learnt { changed: 1, differing: 0 });
    assert_eq!(state(&here), (A, B, 1, Phase::Open), "it remembers what the other one does");
    assert!(here.shared(false, 200).is_empty(), "nodes that believed each other would never close");
    let look = |here: &mut ServiceRing, now| {
        here.collect(&Records::default(), &[], alive, now);
        state(here).3
    };
    assert_eq!([look(&mut here, 801), look(&mut here, 900)], [Phase::Settling; 2], "all is quiet here");
    here.lose("other", 1000);
    here.lose("other", 1400);
    assert_eq!(look(&mut here, 1600), Phase::Settling);
    assert_eq!(look(&mut here, 1601), Phase::Closed);
}

#[test]
fn a_node_with_traffic_goes_by_what_it_has_forwarded_itself() {
    let mut here = ring(Start::Visible);
    assert_eq!(here.learn("other", &[(0, B), (7, A)], Trust::Own, 200), Learnt { changed: 0, differing: 1 });
    assert_eq!(state(&here), (A, A, 0, Phase::Closed));
    assert_eq!(here.place(0, B, 200), Some(1), "but it knows the other one's flows");
    assert_eq!(state(&here), (A, A, 1, Phase::Open));
    assert_eq!(here.place(1, B, 200), None, "there is no such slot");
    assert!(here.names(B), "a record may have come");
    assert_eq!(here.shared(true, 210), [(0, A)], "with its own traffic it has reasons of its own");
}

#[test]
fn what_the_node_with_traffic_has_closed_is_void_where_the_rings_are_the_same() {
    let mut here = ring(Start::Visible);
    here.learn("other", &[(0, B)], Trust::Whole, 200);
    assert_eq!(
        here.learn("other", &[], Trust::Open, 201),
        Learnt::default(),
        "its flows may be on another one"
    );
    assert_eq!(here.learn("other", &[], Trust::Whole, 202), Learnt { changed: 1, differing: 0 });
    assert_eq!(state(&here), (A, A, 1, Phase::Closed));
    assert_eq!(here.learn("other", &[(0, BackendRef::NONE)], Trust::Whole, 203).differing, 1);
}
