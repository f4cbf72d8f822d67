//! Made-up traffic, with and without failures.

use super::*;

const MS: u64 = 1_000_000;
const NOW: u64 = 100_000 * MS;

/// Numbers without a pattern (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        vip_lb_common::hash::mix(self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15)) % bound
    }
}

/// Questions to `parties` backends, one each `every` milliseconds of the last three seconds; `answer` says after how many milliseconds each is
/// answered, if at all.
fn traffic(
    parties: u64,
    every: f64,
    random: &mut Random,
    mut answer: impl FnMut(&Asked, &mut Random) -> Option<u64>,
) -> Vec<Asked> {
    let count = (3000.0 / every) as u64;
    let mut asked = |number: u64, random: &mut Random| {
        let at = NOW - WINDOW + (number as f64 * every * MS as f64) as u64;
        let asked = Asked {
            party: random.below(parties) as usize,
            at,
            answered: false,
            again: 0,
            network: random.below(50),
        };
        let answered = answer(&asked, random).is_some_and(|after| at + after * MS <= NOW);
        Asked { answered, ..asked }
    };
    (0..count).map(|number| asked(number, random)).collect()
}

fn patience(_: usize) -> u64 {
    20 * MS
}

fn parties(found: &[Finding]) -> Vec<usize> {
    found.iter().map(|found| found.party).collect()
}

#[test]
fn a_backend_that_falls_silent_is_found_within_a_tenth_of_a_second() {
    let mut random = Random(1);
    for (backends, within) in [(3, 100), (10, 200)] {
        let mut soonest = Vec::new();
        for _ in 0..20 {
            let found_after = (10..400).step_by(10).find(|silent_for| {
                let since = NOW - silent_for * MS;
                let asked = traffic(backends, 2.0, &mut random, |asked, _| {
                    (asked.party != 1 || asked.at < since).then_some(1)
                });
                parties(&find(&asked, NOW, patience)) == [1]
            });
            soonest.push(found_after.expect("it is found in the end"));
        }
        soonest.sort_unstable();
        assert!(soonest[18] <= within, "{backends} backends: {soonest:?} ms");
    }
}

#[test]
fn what_was_found_is_told() {
    let mut asked: Vec<Asked> = (0..30)
        .map(|number| Asked {
            party: (number % 3) as usize,
            at: NOW - (130 - number) * MS,
            answered: number % 3 != 2,
            again: 0,
            network: number % 4,
        })
        .collect();
    // Too young to count, and too old.
    asked.push(Asked { party: 2, at: NOW - 5 * MS, answered: false, again: 0, network: 9 });
    asked.push(Asked { party: 2, at: NOW - WINDOW - MS, answered: false, again: 0, network: 9 });
    let found = find(&asked, NOW, patience);
    let expected = Finding {
        party: 2,
        unanswered: 10,
        networks: 4,
        again: 0,
        oldest: 128 * MS,
        others: 18,
        others_answered: 18,
    };
    assert_eq!(found, [expected]);
}

#[test]
fn lost_packets_and_distant_clients_explain_themselves() {
    let mut random = Random(2);
    for _ in 0..300 {
        // One in a hundred is lost; clients are up to 300 ms away.
        let asked =
            traffic(5, 2.0, &mut random, |_, random| (random.below(100) != 0).then(|| 1 + random.below(300)));
        assert_eq!(find(&asked, NOW, patience), []);
    }
}

#[test]
fn a_flood_that_nobody_answers_explains_itself() {
    let mut random = Random(3);
    let mut found = 0;
    for run in 0..60 {
        // From everywhere, thirty times as much as there is else, and it may have begun just now.
        let begun = NOW - (20 + run * 40) * MS;
        let mut asked = traffic(3, 10.0, &mut random, |_, _| Some(1));
        let flood = traffic(3, 0.33, &mut random, |_, _| None);
        asked.extend(
            flood
                .into_iter()
                .filter(|asked| asked.at > begun)
                .map(|asked| Asked { network: 1 << 40 | random.below(1 << 30), ..asked }),
        );
        found += find(&asked, NOW, patience).len();
    }
    assert_eq!(found, 0);
}

#[test]
fn a_failure_is_found_in_the_midst_of_a_flood() {
    let mut random = Random(4);
    let mut asked =
        traffic(3, 2.0, &mut random, |asked, _| (asked.party != 1 || asked.at < NOW - 400 * MS).then_some(1));
    asked.extend(
        traffic(3, 1.0, &mut random, |_, _| None)
            .into_iter()
            .map(|asked| Asked { network: 1 << 40 | asked.at, ..asked }),
    );
    assert_eq!(parties(&find(&asked, NOW, patience)), [1]);
}

#[test]
fn a_client_whom_nobody_answers_is_at_fault_itself() {
    let mut random = Random(5);
    for _ in 0..100 {
        // It asks all backends, many times a second, and hardly anybody else does.
        let mut asked = traffic(3, 100.0, &mut random, |_, _| Some(1));
        let broken = traffic(3, 3.0, &mut random, |_, _| None);
        asked.extend(broken.into_iter().map(|asked| Asked { network: 777, ..asked }));
        assert_eq!(find(&asked, NOW, patience), []);
    }
    // With affinity by source, it asks one backend only.
    let mut asked = traffic(3, 30.0, &mut random, |asked, _| (asked.party != 1).then_some(1));
    asked.retain(|asked| asked.party != 1);
    let broken = traffic(1, 3.0, &mut random, |_, _| None);
    asked.extend(broken.into_iter().map(|asked| Asked { party: 1, network: 777, ..asked }));
    assert_eq!(find(&asked, NOW, patience), []);
    // Unless others meet the same there.
    for (number, asked) in asked.iter_mut().filter(|asked| asked.party == 1).enumerate() {
        asked.network = 777 + number as u64 % 5;
    }
    assert_eq!(parties(&find(&asked, NOW, patience)), [1]);
}

#[test]
fn one_client_is_enough_where_others_answer_it() {
    let mut random = Random(6);
    let asked =
        traffic(3, 2.0, &mut random, |asked, _| (asked.party != 0 || asked.at < NOW - 150 * MS).then_some(1));
    let asked: Vec<Asked> = asked.into_iter().map(|asked| Asked { network: 5, ..asked }).collect();
    assert_eq!(parties(&find(&asked, NOW, patience)), [0]);
}

#[test]
fn nobody_is_suspected_without_others_to_compare_with() {
    let mut random = Random(7);
    assert_eq!(find(&traffic(1, 2.0, &mut random, |_, _| None), NOW, patience), []);
    assert_eq!(find(&traffic(4, 2.0, &mut random, |_, _| None), NOW, patience), []);
    assert_eq!(find(&[], NOW, patience), []);
}

#[test]
fn what_is_asked_again_in_vain_says_more() {
    let ask =
        |party, ago: u64, answered, again| Asked { party, at: NOW - ago * MS, answered, again, network: ago };
    let mut asked: Vec<Asked> =
        (0..8).map(|number| ask(number % 2, 1500 - 100 * number as u64, true, 0)).collect();
    asked.extend([ask(2, 1450, false, 0), ask(2, 1250, false, 0), ask(2, 1150, false, 0)]);
    assert_eq!(find(&asked, NOW, patience), [], "three of eleven are too few");
    asked.iter_mut().filter(|asked| asked.party == 2).for_each(|asked| asked.again = 1);
    assert_eq!(parties(&find(&asked, NOW, patience)), [2]);
    asked[3].again = 1;
    assert_eq!(find(&asked, NOW, patience), [], "others are asked again, too");
}

#[test]
fn a_backend_gets_the_patience_that_it_needs() {
    let mut random = Random(8);
    let slow = |asked: &Asked, _: &mut Random| Some(if asked.party == 2 { 80 } else { 1 });
    let asked = traffic(3, 1.0, &mut random, slow);
    assert_eq!(parties(&find(&asked, NOW, patience)), [2]);
    assert_eq!(find(&asked, NOW, |party| if party == 2 { 257 * MS } else { 20 * MS }), []);
}
