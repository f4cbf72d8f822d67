//! Stories of bonds: what is seen, and what is to be done.

use proptest::prelude::*;

use super::*;

#[expect(clippy::disallowed_methods, reason = "some moment to count from")]
fn epoch() -> Instant {
    Instant::now()
}

const NOW: Duration = Duration::ZERO;
const S: Duration = Duration::from_secs(1);

/// What a member is, in a letter: `A` active, `B` standing by, `-` without link.
fn members(states: &str, attached: &[u32]) -> Vec<Member> {
    states
        .chars()
        .zip(1..)
        .map(|(state, index)| Member {
            index,
            is_active: state == 'A',
            carries: state != '-',
            is_attached: attached.contains(&index),
            keeps_link: false,
        })
        .collect()
}

enum Expect {
    Attach(u32),
    LastLink(u32),
    WaitUntil(Duration),
    Done,
}
use Expect::{Attach, Done, LastLink, WaitUntil};

/// Each row: seconds since the beginning, the members' states, what is to be done. What is to be attached is attached.
fn tell(story: &str, rows: &[(Duration, &str, Expect)]) {
    let start = epoch();
    let mut pacer = Pacer::default();
    let mut attached = Vec::new();
    for (row, (at, states, expected)) in rows.iter().enumerate() {
        let now = start + *at;
        let members = members(states, &attached);
        let step = pacer.next(&members, now);
        let wanted = match expected {
            Attach(member) => Step::Attach { member: *member, is_last_link: false },
            LastLink(member) => Step::Attach { member: *member, is_last_link: true },
            WaitUntil(until) => Step::Wait { until: start + *until },
            Done => Step::Done,
        };
        assert_eq!(step, wanted, "{story}, row {row} at {at:?}: {members:?}");
        if let Step::Attach { member, .. } = step {
            let member = members.iter().find(|known| known.index == member).unwrap();
            pacer.attached(member, now);
            attached.push(member.index);
        }
    }
}

#[test]
fn standby_members_come_first_and_each_is_awaited() {
    tell(
        "active-backup",
        &[
            (NOW, "ABB", Attach(2)),
            // Not yet seen that it is down: only a link that stays counts.
            (NOW, "ABB", WaitUntil(STEADY)),
            (S / 2, "A-B", WaitUntil(PATIENCE)),
            (5 * S, "ABB", WaitUntil(6 * S)),
            (6 * S, "ABB", Attach(3)),
            (6 * S, "A-B", WaitUntil(6 * S + STEADY)),
            (7 * S, "A-B", Attach(1)),
            (7 * S, "-AB", Done),
        ],
    );
}

#[test]
fn a_link_that_flickers_begins_anew() {
    tell(
        "flickering",
        &[
            (NOW, "AB", Attach(2)),
            (S / 4, "AB", WaitUntil(S / 4 + STEADY)),
            (S, "A-", WaitUntil(PATIENCE)),
            (2 * S, "AB", WaitUntil(3 * S)),
            (5 * S / 2, "A-", WaitUntil(PATIENCE)),
            (4 * S, "AB", WaitUntil(5 * S)),
            (5 * S, "AB", Attach(1)),
        ],
    );
}

#[test]
fn a_member_that_does_not_come_back_is_not_awaited_for_ever() {
    tell(
        "lost",
        &[
            (NOW, "AB", Attach(2)),
            (S, "A-", WaitUntil(PATIENCE)),
            (PATIENCE, "A-", LastLink(1)),
            (PATIENCE, "--", Done),
        ],
    );
}

#[test]
fn the_last_link_is_left_alone_while_another_may_return() {
    tell(
        "the other one fails by itself",
        &[
            (NOW, "AAA", Attach(1)),
            (NOW, "AAA", WaitUntil(STEADY)),
            (STEADY, "AAA", Attach(2)),
            (2 * S, "-AA", WaitUntil(3 * S)),
            (3 * S, "--A", WaitUntil(S + PATIENCE)),
            (4 * S, "A-A", WaitUntil(S + PATIENCE)),
            (S + PATIENCE, "--A", WaitUntil(S + PATIENCE + PATIENCE)),
            (2 * S + PATIENCE, "A-A", Attach(3)),
        ],
    );
}

#[test]
fn members_without_a_link_need_no_wait() {
    tell(
        "cables out",
        &[(NOW, "-A-", Attach(1)), (NOW, "-A-", Attach(3)), (NOW, "-A-", LastLink(2)), (NOW, "---", Done)],
    );
    tell("one member", &[(NOW, "A", LastLink(1)), (NOW, "-", Done)]);
    tell("none", &[(NOW, "", Done)]);
}

#[test]
fn a_member_that_leaves_while_awaited_is_forgotten_and_one_that_joins_is_attached() {
    tell(
        "leaving",
        &[
            (NOW, "ABB", Attach(2)),
            (S / 2, "A", LastLink(1)),
            (2 * S, "A", Done),
            (3 * S, "A-", Done),
            (3 * S, "A--", Attach(3)),
        ],
    );
}

#[test]
fn what_resets_nothing_comes_at_once() {
    let now = epoch();
    let mut pacer = Pacer::default();
    let mut members = members("AB", &[]);
    members[0].keeps_link = true;
    assert_eq!(pacer.next(&members, now), Step::Attach { member: 1, is_last_link: false });
    members[0].is_attached = true;
    assert_eq!(pacer.next(&members, now), Step::Attach { member: 2, is_last_link: false });
    pacer.attached(&members[1], now);
    assert_eq!(pacer.awaited(), Some(2));
}

proptest! {
    /// Whatever links do, no member that carries is attached while no other one does and another might return, unless the patience is over; and the
    /// machine comes to an end.
    #[test]
    fn a_bond_keeps_a_link(
        count in 2_usize..5,
        outages in prop::collection::vec((0_u64..40, 0_u64..20), 4),
        resets in prop::collection::vec(0_u64..30, 4),
    ) {
        let start = epoch();
        let mut pacer = Pacer::default();
        let mut attached_at: Vec<Option<u64>> = vec![None; count];
        let mut everybody_was_up = vec![false; count];
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            loop {
                let carries = |index: usize| {
                    let (begin, length) = outages[index];
                    let is_out = (begin..begin + length).contains(&second);
                    let is_reset = attached_at[index].is_some_and(|at| second < at + resets[index]);
                    !is_out && !is_reset
                };
                let members: Vec<Member> = (0..count)
                    .map(|index| Member {
                        index: index as u32,
                        is_active: index == 0,
                        carries: carries(index),
                        is_attached: attached_at[index].is_some(),
                        keeps_link: false,
                    })
                    .collect();
                for (seen, member) in everybody_was_up.iter_mut().zip(&members) {
                    *seen |= member.carries;
                }
                let Step::Attach { member, is_last_link } = pacer.next(&members, now) else { break };
                let index = member as usize;
                let is_last = members[index].carries
                    && members.iter().all(|other| other.index == member || !other.carries);
                prop_assert_eq!(is_last_link, is_last);
                let others_were_up = (0..count).any(|other| other != index && everybody_was_up[other]);
                // All outages and resets are shorter than the patience.
                prop_assert!(!is_last || !others_were_up, "second {}: {:?}", second, members);
                pacer.attached(&members[index], now);
                attached_at[index] = Some(second);
            }
        }
        prop_assert!(attached_at.iter().all(Option::is_some), "{:?}", attached_at);
    }
}
