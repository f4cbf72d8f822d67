//! The packet pipeline on the host: every verdict, every rewriting, and hostile bytes. No privileges needed.

use std::collections::{BTreeSet, HashMap};

use proptest::{collection::vec, prelude::*, sample::Index, test_runner::TestCaseResult};
use vip_lb_common::{Verdict, decap, memory::MemoryPacket, pipeline};
use vip_lb_tests::{
    packet::{Frame, eth},
    program::{
        Host, INGRESS, Pair, Program,
        cases::{self, Case, Tables},
        stories::{self, Story},
        world::{RATE, VIP, port, world},
    },
};

/// One host per kind of tables.
fn hosts() -> HashMap<Tables, Host> {
    [Tables::Filled, Tables::WithoutSettings, Tables::WithoutInterfaces]
        .into_iter()
        .map(|tables| (tables, Host::new(&tables.scenario())))
        .collect()
}

fn without_budget() -> Host {
    let mut scenario = world();
    scenario.settings_mut().record_budget = 0;
    Host::new(&scenario)
}

#[test]
fn every_case_ends_as_described() {
    let hosts = hosts();
    for case in cases::all() {
        case.assert_outcome(&hosts[&case.tables].run(case.program, &case.frame, case.taken));
    }
    let host = without_budget();
    for case in cases::steer::without_budget() {
        case.assert_outcome(&host.run(case.program, &case.frame, case.taken));
    }
}

#[test]
fn every_story_ends_as_described() {
    for (name, scenario, story) in stories::all() {
        println!("{name}");
        story(&mut Story::new(Pair::host_only(&scenario())));
    }
}

#[test]
fn every_verdict_has_a_case_or_a_story() {
    let mut covered: BTreeSet<&str> = all_cases().iter().map(|case| case.verdict.name()).collect();
    for (_, scenario, tell) in stories::all() {
        let mut story = Story::new(Pair::host_only(&scenario()));
        tell(&mut story);
        covered.extend(story.verdicts());
    }
    let missing: Vec<_> = Verdict::ALL.iter().filter(|verdict| !covered.contains(verdict.name())).collect();
    assert!(missing.is_empty(), "nothing ends as {missing:?}");
}

#[test]
fn names_of_cases_are_unique() {
    let mut names = BTreeSet::new();
    for case in all_cases() {
        assert!(names.insert(case.name.clone()), "{} is there twice", case.name);
    }
}

#[test]
fn packets_of_the_library_fare_alike() {
    let (ours, theirs) = (hosts(), hosts());
    for case in all_cases().into_iter().filter(|case| case.taken == 0) {
        let expected = ours[&case.tables].run(case.program, &case.frame, 0);
        let mut packet = MemoryPacket::new(&case.frame, INGRESS);
        let tables = &theirs[&case.tables].tables;
        let verdict = match case.program {
            Program::Balancer => pipeline::process(&mut packet, tables).verdict,
            Program::Decapsulator => decap::process(&mut packet, tables),
        };
        assert_eq!((verdict, packet.frame()), (expected.verdict, &expected.frame[..]), "{}", case.name);
    }
}

#[test]
fn every_prefix_of_every_packet_has_a_fate() {
    let hosts = hosts();
    for case in all_cases() {
        let host = &hosts[&case.tables];
        for len in 0..case.frame.len() {
            // Too short for its IP header, or for what that says: never forwarded, never answered beyond its bytes.
            let outcome = host.run(case.program, &case.frame[..len], case.taken);
            if len < 14 {
                assert!(
                    matches!(outcome.verdict, Verdict::ShortFrame),
                    "{} cut to {len} bytes: {:?}",
                    case.name,
                    outcome.verdict
                );
            }
        }
    }
}

#[test]
fn a_packet_without_its_last_byte_is_not_forwarded() {
    let hosts = hosts();
    let forwarded = |case: &Case| {
        matches!(case.verdict, Verdict::ForwardedL2 | Verdict::ForwardedIpip)
            && !case.name.contains("pad")
            && !case.name.contains("trailer")
    };
    for case in cases::all().into_iter().filter(forwarded) {
        let cut = &case.frame[..case.frame.len() - 1];
        let outcome = hosts[&case.tables].run(case.program, cut, 0);
        assert_eq!(outcome.verdict, Verdict::BadLength, "{}", case.name);
    }
}

#[test]
fn affinity_by_source_keeps_a_client_on_one_backend() {
    let host = Host::new(&world());
    let backends_of = |client: u8, port: u16| -> BTreeSet<u16> {
        let mut backends = BTreeSet::new();
        for source_port in 1000..1040 {
            let ip = || eth().ipv4(&format!("192.0.2.{client}"), VIP);
            for frame in [ip().tcp(source_port, port), ip().udp(source_port, port)] {
                let before = host.tables.backend_stats.borrow().clone();
                let _ = host.run(Program::Balancer, &frame.bytes(), 0);
                let after = host.tables.backend_stats.borrow();
                backends.extend(
                    after
                        .iter()
                        .filter(|&(index, stats)| before.get(index) != Some(stats))
                        .map(|(&index, _)| index),
                );
            }
        }
        backends
    };
    let mut all = BTreeSet::new();
    for client in 1..60 {
        let backends = backends_of(client, port::AFFINE);
        // TCP and UDP are two services, but the hash of a source is the same for both.
        assert_eq!(backends.len(), 1, "client {client} with affinity went to {backends:?}");
        all.extend(backends);
    }
    assert_eq!(all.len(), 10, "clients with affinity went to {all:?} only");
    let spread = backends_of(1, port::SPREAD);
    assert!(spread.len() > 5, "one client without affinity went to {spread:?} only");
}

#[test]
fn icmp_beyond_its_rate_is_dropped() {
    let mut host = Host::new(&world());
    let mut let_through = |frame: &Frame, second, frames: u16| {
        host.tables.seconds = second;
        let outcomes: Vec<Verdict> =
            (0..frames).map(|_| host.run(Program::Balancer, &frame.bytes(), 0).verdict).collect();
        let refused = |verdict: &Verdict| matches!(verdict, Verdict::IcmpRate | Verdict::TooBig);
        let first = outcomes.iter().take_while(|verdict| !refused(verdict)).count();
        assert!(outcomes[first..].iter().all(refused), "in second {second}: {outcomes:?}");
        first
    };
    let (error, too_big) = (cases::icmp::rationed(), cases::too_big::rationed());
    // What is spent on errors is not missing for answers.
    for frame in [&error, &too_big] {
        let of_seconds = [(7, RATE + 2), (7, 2), (8, RATE + 1), (9, 1)];
        assert_eq!(of_seconds.map(|(second, frames)| let_through(frame, second, frames)), [3, 0, 3, 1]);
    }
    assert_eq!([let_through(&error, 10, 5), let_through(&too_big, 10, 5)], [3, 3]);
}

fn all_cases() -> Vec<Case> {
    [cases::all(), cases::steer::without_budget()].concat()
}

thread_local! {
    static HOST: Host = Host::new(&world());
    static FRAMES: Vec<Case> = all_cases();
}

/// Changes that keep much of a good packet: the ways to the deeper stages stay open.
#[derive(Clone, Debug)]
enum Mutation {
    Overwrite(Index, u8),
    FlipBit(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    Truncate(Index),
    Extend(Vec<u8>),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    // Headers lie in front: half of the changes go there.
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Overwrite(at, byte)),
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Mutation::FlipBit(at, bit)),
        (any::<Index>(), vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Mutation::Remove(from, to)),
        any::<Index>().prop_map(Mutation::Truncate),
        vec(any::<u8>(), 1..80).prop_map(Mutation::Extend),
    ]
}

impl Mutation {
    fn apply(&self, frame: &mut Vec<u8>) {
        let len = frame.len().max(1);
        let at = |index: &Index| index.index(len).min(frame.len().saturating_sub(1));
        match self {
            _ if frame.is_empty() => frame.push(0),
            Self::Overwrite(index, byte) => frame[index.index(len.min(80))] = *byte,
            Self::FlipBit(index, bit) => frame[index.index(len.min(80))] ^= 1 << bit,
            Self::Insert(index, bytes) => {
                let at = at(index);
                frame.splice(at..at, bytes.iter().copied());
            }
            Self::Remove(from, to) => {
                let (a, b) = (at(from), at(to));
                frame.drain(a.min(b)..a.max(b));
            }
            Self::Truncate(index) => frame.truncate(at(index)),
            Self::Extend(bytes) => frame.extend(bytes),
        }
    }
}

/// Runs a frame through both programs; [`Host::run`] checks that nothing outside the frame is touched.
fn survives(frame: &[u8]) -> TestCaseResult {
    HOST.with(|host| {
        for program in [Program::Balancer, Program::Decapsulator] {
            let outcome = host.run(program, frame, 0);
            let grows_by: &[usize] = match outcome.verdict {
                Verdict::ForwardedL2 | Verdict::EchoAnswered | Verdict::ArpAnswered => &[0],
                Verdict::ForwardedIpip => &[20, 40],
                Verdict::ForwardedGue => &[28, 48],
                // What is passed is passed untouched, but for the hardware address of a virtual router.
                verdict if verdict.action() == vip_lb_common::Action::Pass => {
                    if verdict != Verdict::Decapsulated {
                        let to_router = frame.len() >= 14 && frame.starts_with(&[0, 0, 0x5e, 0]);
                        let kept = if to_router { 6 } else { 0 };
                        prop_assert_eq!(
                            &outcome.frame[kept..],
                            &frame[kept..],
                            "{:?} changed the frame",
                            verdict
                        );
                    }
                    continue;
                }
                _ => continue,
            };
            let grown = behind_tags(&outcome.frame) - behind_tags(frame);
            prop_assert!(grows_by.contains(&grown), "{:?} made the packet {} longer", outcome.verdict, grown);
        }
        Ok(())
    })
}

/// Bytes behind the Ethernet header and its tags, of which packets to VIPs have two at most.
fn behind_tags(frame: &[u8]) -> usize {
    let is_tag = |at: usize| matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8]));
    let tags = if !is_tag(12) {
        0
    } else if !is_tag(16) {
        1
    } else {
        2
    };
    frame.len() - 14 - 4 * tags
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_packets_never_get_out_of_hand(
        which in any::<Index>(),
        mutations in vec(mutation(), 1..6),
    ) {
        let mut frame = FRAMES.with(|frames| which.get(frames).frame.clone());
        for mutation in &mutations {
            mutation.apply(&mut frame);
        }
        survives(&frame)?;
    }

    #[test]
    fn noise_never_gets_out_of_hand(frame in vec(any::<u8>(), 0..200)) {
        survives(&frame)?;
    }
}
