//! Several nodes on a link that delays, reorders, loses and is cut; nodes that are stopped, killed, restarted, cannot send, and whose sockets get nothing.
//!
//! What must hold:
//!
//! * **One answers.** Two nodes that hear each other do not both have a lease for longer than it takes the lower one to hear the
//!   higher: the way of one advert, and an interval for each that may be lost. One whose socket gets nothing sees them in its packet path, where it looks
//!   once a second.
//! * **Silence is the end of a lease.** Who takes over from a node that fell silent finds no other's lease running, where nothing was
//!   lost between them.
//! * **In the end exactly one**, the highest, once nothing goes wrong any more.
//!
//! At most two adverts in a row are lost between two nodes. Nothing can hold when three are: that is what the protocol takes for a
//! node's death. A node that is stopped or killed hears nobody, so a higher one may take its place while its lease runs out.

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::Range,
};

use proptest::prelude::*;

use super::*;

mod link;

use link::{Link, Trouble, TroubleKind};

/// Milliseconds within which all that goes wrong begins.
const TROUBLE: Range<u64> = 0..4000;

/// The longest that something is wrong, in milliseconds.
const LONGEST: u64 = 1500;

/// Milliseconds after the last trouble within which one node is active for good: twice the slowest node's down interval (what was
/// lost, and preemption).
const SETTLED: u64 = 2 * 400 + 200;

fn profiles(nodes: u8, preempt: bool) -> Vec<Profile> {
    (1..=nodes)
        .map(|node| Profile {
            priority: Priority::new(node * 50).expect("not zero"),
            interval: Interval::from_centis(10).expect("not zero"),
            preempt,
            preempt_delay: std::time::Duration::ZERO,
            source: IpAddr::V4(Ipv4Addr::new(10, 0, 0, node)),
        })
        .collect()
}

fn troubles(nodes: usize) -> impl Strategy<Value = Vec<Trouble>> {
    let node = 0..nodes;
    let kind = prop_oneof![
        node.clone().prop_map(|node| TroubleKind::Stopped { node }),
        node.clone().prop_map(|node| TroubleKind::Killed { node }),
        node.clone().prop_map(|node| TroubleKind::Restarted { node }),
        (node.clone(), node.clone()).prop_map(|(from, to)| TroubleKind::Cut { from, to }),
        node.clone().prop_map(|node| TroubleKind::Mute { node }),
        node.clone().prop_map(|node| TroubleKind::Deaf { node }),
        node.clone().prop_map(|node| TroubleKind::HandOver { node }),
        node.prop_map(|node| TroubleKind::Lowered { node }),
    ];
    let trouble = (TROUBLE, 1..LONGEST, kind).prop_map(|(at, lasts, kind)| Trouble { at, lasts, kind });
    prop::collection::vec(trouble, 0..10)
}

/// Plays it out, and returns what does not hold.
fn play(
    profiles: &[Profile],
    troubles: &[Trouble],
    seed: u64,
    lost_in_a_row: u8,
) -> Result<(), TestCaseError> {
    let mut link = Link::new(profiles, seed, lost_in_a_row);
    let end = troubles.iter().map(|trouble| trouble.at + trouble.lasts).max().unwrap_or(0);
    for ms in 0..end + SETTLED {
        for trouble in troubles.iter().filter(|trouble| trouble.at == ms) {
            link.begin(trouble);
        }
        link.step().map_err(|what| TestCaseError::fail(format!("after {ms} ms: {what}")))?;
    }
    // From here on nothing changes any more.
    let preempts = profiles.iter().all(|profile| profile.preempt);
    let active = link.active();
    prop_assert_eq!(active.len(), 1, "active in the end: {:?}", active);
    if preempts {
        prop_assert_eq!(&active, &[profiles.len() - 1]);
    }
    for _ in 0..1000 {
        link.step().map_err(TestCaseError::fail)?;
        prop_assert_eq!(link.active(), active.clone());
        prop_assert_eq!(link.answering(), active.clone());
    }
    Ok(())
}

proptest! {
    // 256 histories each take some seconds; `PROPTEST_CASES` asks for more.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_node_answers_where_nothing_is_lost(troubles in troubles(3), seed: u64, preempt: bool) {
        play(&profiles(3, preempt), &troubles, seed, 0)?;
    }

    #[test]
    fn one_node_answers_where_two_adverts_in_a_row_may_be_lost(troubles in troubles(4), seed: u64, preempt: bool) {
        play(&profiles(4, preempt), &troubles, seed, 2)?;
    }
}

/// It stays a backup as long as the active node is seen, and takes its place as soon as any other would.
#[test]
fn a_deaf_backup_leaves_a_living_node_its_place_and_takes_a_dead_ones() {
    let profiles = profiles(2, true);
    let mut link = Link::new(&profiles, 1, 0);
    let steps = |link: &mut Link, milliseconds: u64| (0..milliseconds).try_for_each(|_| link.step());
    steps(&mut link, 1000).expect("all is well");
    assert_eq!(link.active(), [1]);
    link.begin(&Trouble { at: 0, lasts: 5000, kind: TroubleKind::Deaf { node: 0 } });
    for _ in 0..3000 {
        link.step().expect("the one that speaks is seen");
        assert_eq!(link.answering(), [1]);
    }
    link.begin(&Trouble { at: 0, lasts: 1500, kind: TroubleKind::Killed { node: 1 } });
    let down = profiles[1].interval.down(profiles[0].priority).as_millis() as u64;
    steps(&mut link, down + 100).expect("the dead one is seen no more");
    assert_eq!(link.answering(), [0]);
    // Back again, the higher one is seen by who does not hear it.
    steps(&mut link, 1500 + 1500).expect("the lower one looks");
    assert_eq!(link.answering(), [1]);
}
