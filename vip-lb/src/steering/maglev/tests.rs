//! Balance, disruption and determinism of rings.

use proptest::prelude::*;

use super::*;
use vip_lb_common::abi::RingClass;

const SEED: [u8; 32] = *b"0123456789abcdef0123456789abcdef";
const SMALL: usize = RingClass::Small.slots();

fn candidates(weights: &[u16]) -> Vec<Candidate> {
    (1..)
        .zip(weights)
        .map(|(number, &weight)| Candidate { identity: mix(number), weight: weight.into() })
        .collect()
}

fn counts(ring: &[Option<u16>], candidates: usize) -> Vec<usize> {
    let mut counts = vec![0; candidates];
    for position in ring.iter().flatten() {
        counts[*position as usize] += 1;
    }
    counts
}

/// The identities that the slots name.
fn named(slots: usize, candidates: &[Candidate]) -> Vec<u64> {
    populate(&SEED, slots, candidates)
        .iter()
        .map(|pick| candidates[pick.unwrap() as usize].identity)
        .collect()
}

/// Slots that name somebody else now, without those that had to change: a share grew, another shrank.
fn moved_needlessly(before: &[u64], after: &[u64], candidates: &[Candidate]) -> (usize, usize) {
    let moved = before.iter().zip(after).filter(|(a, b)| a != b).count();
    let count = |ring: &[u64], identity| ring.iter().filter(|&&named| named == identity).count();
    let necessary = candidates
        .iter()
        .map(|c| count(before, c.identity).saturating_sub(count(after, c.identity)))
        .sum::<usize>();
    (moved - necessary, necessary)
}

#[test]
fn shares_are_those_of_the_weights_within_two_slots() {
    let mixed: Vec<u16> = (0..100).map(|n| [1, 2, 3, 5, 10][n % 5]).collect();
    for weights in [&[1][..], &[1; 3], &[7; 100], &[1; 300], &mixed, &[1, 100, 1000], &[65535, 65534]] {
        let candidates = candidates(weights);
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let ring = populate(&SEED, SMALL, &candidates);
        for (count, weight) in counts(&ring, weights.len()).into_iter().zip(weights) {
            let fair = f64::from(*weight) / total * SMALL as f64;
            assert!(
                (count as f64 - fair).abs() <= 2.0,
                "weight {weight} of {total}: {count} slots instead of {fair}"
            );
        }
    }
}

#[test]
fn a_hundred_backends_are_balanced_within_two_percent() {
    for number in [2, 10, 33, 100, 160] {
        let shares = counts(&populate(&SEED, SMALL, &candidates(&vec![10; number])), number);
        let fair = SMALL as f64 / number as f64;
        let worst = shares.iter().map(|&n| (n as f64 / fair - 1.0).abs()).fold(0.0, f64::max);
        assert!(worst < 0.02, "{number} backends: {worst}");
    }
}

#[test]
fn one_backend_more_or_less_moves_little_but_its_own_share() {
    for number in [2, 5, 20, 100] {
        let more = candidates(&vec![10; number + 1]);
        let (with, without) = (named(SMALL, &more), named(SMALL, &more[..number]));
        for (before, after, what) in [(&without, &with, "added"), (&with, &without, "removed")] {
            let (needless, necessary) = moved_needlessly(before, after, &more);
            assert!(needless * 100 < SMALL * 3, "{what} to {number}: {needless} moved besides {necessary}");
        }
    }
}

#[test]
fn another_weight_moves_little_but_the_difference() {
    for (number, weight) in [(2, 5), (5, 20), (20, 1), (100, 100)] {
        let before = candidates(&vec![10; number]);
        let mut after = before.clone();
        after[number / 2].weight = weight;
        let (needless, necessary) = moved_needlessly(&named(SMALL, &before), &named(SMALL, &after), &before);
        assert!(
            needless * 100 < SMALL * 4,
            "weight {weight} among {number}: {needless} moved besides {necessary}"
        );
    }
}

#[test]
fn without_weight_there_is_nobody() {
    assert_eq!(populate(&SEED, 7, &[]), [None; 7]);
    assert_eq!(populate(&SEED, 7, &candidates(&[0, 0])), [None; 7]);
    assert_eq!(populate(&SEED, 7, &candidates(&[0, 1])), [Some(1); 7]);
    assert!(populate(&SEED, 0, &candidates(&[1])).is_empty());
    assert_eq!(populate(&SEED, 1, &candidates(&[1])), [Some(0)]);
}

#[test]
fn small_rings_are_shared_exactly() {
    assert_eq!(counts(&populate(&SEED, 7, &candidates(&[1, 2, 4])), 3), [1, 2, 4]);
    assert_eq!(counts(&populate(&SEED, 11, &candidates(&[1, 0, 10])), 3), [1, 0, 10]);
    let mut even = counts(&populate(&SEED, 11, &candidates(&[3, 3, 3])), 3);
    even.sort_unstable();
    assert_eq!(even, [3, 4, 4]);
}

#[test]
fn another_seed_is_another_ring() {
    let candidates = candidates(&[1; 10]);
    let (a, b) = (populate(&SEED, SMALL, &candidates), populate(&[1; 32], SMALL, &candidates));
    let same = a.iter().zip(&b).filter(|(a, b)| a == b).count();
    assert!((SMALL / 12..SMALL / 8).contains(&same), "{same} of {SMALL} slots fall alike, a tenth expected");
}

#[test]
fn a_ring_never_changes_between_releases() {
    // Nodes of different releases share VIPs during an upgrade, and must agree on every slot.
    let ring: Vec<_> = populate(&SEED, 11, &candidates(&[1, 2, 3])).into_iter().flatten().collect();
    assert_eq!(ring, GOLDEN);
    let digest =
        named(SMALL, &candidates(&[5; 50])).into_iter().fold(0, |digest, identity| mix(digest ^ identity));
    assert_eq!(digest, GOLDEN_DIGEST);
}

const GOLDEN: [u16; 11] = [1, 1, 0, 1, 2, 2, 0, 2, 2, 2, 1];
const GOLDEN_DIGEST: u64 = 11_071_464_155_428_355_667;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nodes_agree_whatever_the_order(
        weights in prop::collection::vec(0u16..20, 1..12),
        slots in prop::sample::select(vec![7usize, 11, 101, 1009]),
        turn in 0usize..12,
        seed: [u8; 32],
    ) {
        let there = candidates(&weights);
        let mut here = there.clone();
        here.reverse();
        here.rotate_left(turn % weights.len());
        let name = |ring: Vec<Option<u16>>, of: &[Candidate]| -> Vec<Option<u64>> {
            ring.into_iter().map(|pick| pick.map(|p| of[p as usize].identity)).collect()
        };
        prop_assert_eq!(
            name(populate(&seed, slots, &there), &there),
            name(populate(&seed, slots, &here), &here)
        );
    }

    #[test]
    fn shares_follow_any_weights(
        weights in prop::collection::vec(0u16..=u16::MAX, 1..40),
        seed: [u8; 32],
    ) {
        prop_assume!(weights.iter().any(|&w| w > 0));
        let slots = 1009;
        let ring = populate(&seed, slots, &candidates(&weights));
        prop_assert!(ring.iter().all(Option::is_some));
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        for (count, weight) in counts(&ring, weights.len()).into_iter().zip(&weights) {
            let fair = f64::from(*weight) / total * slots as f64;
            prop_assert!((count as f64 - fair).abs() <= 1.0 + fair * 0.05, "{} instead of {}", count, fair);
        }
    }
}
