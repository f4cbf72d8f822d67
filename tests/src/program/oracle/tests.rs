//! The oracle agrees with every case that is known to be right, and finds fault with every byte that is changed in one.

use super::*;
use crate::program::{
    Host,
    cases::{self, Case, Tables},
    world::world,
};
use etherparse::{SlicedPacket, TransportSlice};

/// Cases with the tables that the oracle knows, their outcome asserted elsewhere.
fn judged(mut each: impl FnMut(&Case, &Outcome, &dyn Fn(&Outcome) -> Result<(), String>)) {
    let scenario = world();
    let (oracle, host) = (Oracle::new(&scenario), Host::new(&scenario));
    for case in cases::all() {
        if case.tables != Tables::Filled || case.taken != 0 {
            continue;
        }
        let outcome = host.run(case.program, &case.frame, 0);
        let judge = |outcome: &Outcome| {
            let (program, input) = (case.program, &case.frame[..]);
            oracle.judge(&Judged { program, input, outcome, tables: &host.tables })
        };
        each(&case, &outcome, &judge);
    }
}

#[test]
fn what_is_right_is_found_right() {
    judged(|case, outcome, judge| assert_eq!(judge(outcome), Ok(()), "{}", case.name));
}

#[test]
fn a_changed_byte_of_what_leaves_is_found() {
    let mut found = BTreeSet::new();
    judged(|case, outcome, judge| {
        if outcome.verdict.action() == Action::Drop {
            return;
        }
        for index in 0..outcome.frame.len() {
            let mut changed = outcome.clone();
            changed.frame[index] ^= 0x08;
            if judge(&changed).is_err() {
                found.insert(outcome.verdict);
            } else {
                // Nobody says which identification, flags and flow label a new header has, which source port an outer UDP header, and
                // which hop limit, as long as it is not too low. Everything that is inside is told.
                let new_header = 14 + 8 + 48;
                let free = match outcome.verdict {
                    Verdict::ForwardedIpip | Verdict::ForwardedGue => index < new_header,
                    Verdict::ForwardedNat | Verdict::TranslatedReply => index < new_header,
                    // Behind two tags at most.
                    Verdict::TooBigAnswered => index < 14 + 8 + 8,
                    _ => false,
                };
                assert!(free, "{}: byte {index} was changed unnoticed", case.name);
            }
        }
        let mut shorter = outcome.clone();
        shorter.frame.pop();
        assert!(judge(&shorter).is_err(), "{}: a byte was lost unnoticed", case.name);
    });
    assert!(found.len() > 8, "{found:?}");
}

#[test]
fn a_good_packet_that_is_dropped_is_found() {
    judged(|case, outcome, judge| {
        if outcome.verdict.action() == Action::Forward {
            let dropped = Outcome { verdict: Verdict::BadLength, ..outcome.clone() };
            // Of others the oracle does not say what must become of them.
            let parsed = SlicedPacket::from_ethernet(&case.frame);
            let transport = parsed.ok().and_then(|packet| packet.transport);
            let to_flow = matches!(transport, Some(TransportSlice::Tcp(_) | TransportSlice::Udp(_)));
            assert!(judge(&dropped).is_err() || !to_flow, "{}", case.name);
        }
    });
}
