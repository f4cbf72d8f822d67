//! What the generator promises: a seed's packets again, every place of the tables, most packets deep.

use std::collections::{BTreeMap, BTreeSet};

use vip_lb_common::{
    Action, Verdict,
    headers::protocol::{TCP, UDP},
};

use super::*;
use crate::program::{Host, world::world};

const PACKETS: usize = 20_000;

fn run(seed: u64) -> (Vec<Packet>, BTreeMap<Verdict, usize>) {
    let scenario = world();
    let host = Host::new(&scenario);
    let mut generator = Generator::new(&scenario, Dice::new(seed));
    let (mut packets, mut verdicts) = (Vec::new(), BTreeMap::new());
    while packets.len() < PACKETS {
        for packet in generator.burst() {
            let outcome = host.run(packet.program, &packet.frame, 0);
            *verdicts.entry(outcome.verdict).or_default() += 1;
            generator.saw(&outcome);
            packets.push(packet);
        }
    }
    (packets, verdicts)
}

#[test]
fn packets_get_deep_and_meet_every_end_of_the_packet_path() {
    let (packets, verdicts) = run(7);
    let all = packets.len();
    let count = |action| -> usize {
        verdicts.iter().filter(|(verdict, _)| verdict.action() == action).map(|(_, count)| count).sum()
    };
    println!("{verdicts:#?}");
    assert!(count(Action::Forward) * 5 > all, "only {} of {all} were forwarded", count(Action::Forward));
    assert!(count(Action::Reply) * 100 > all * 2, "only {} of {all} were answered", count(Action::Reply));
    assert!(count(Action::Drop) * 10 > all, "only {} of {all} were dropped", count(Action::Drop));
    // What needs other tables, or a frame without headroom.
    let rare = [Verdict::NoHeadroom, Verdict::NotConfigured, Verdict::ShortFrame, Verdict::Settling];
    let of_cases: BTreeSet<Verdict> = cases::all().iter().map(|case| case.verdict).collect();
    let missing: Vec<_> = of_cases
        .iter()
        .filter(|verdict| !rare.contains(verdict) && !verdicts.contains_key(verdict))
        .collect();
    assert!(missing.is_empty(), "no packet ended as {missing:?}");
}

#[test]
fn a_seed_gives_the_same_packets_again() {
    let scenario = world();
    let stream = |seed| {
        let mut generator = Generator::new(&scenario, Dice::new(seed));
        (0..500).flat_map(|_| generator.burst()).collect::<Vec<_>>()
    };
    assert_eq!(stream(3), stream(3));
    assert_ne!(stream(3), stream(4));
}

#[test]
fn every_service_of_the_tables_is_a_place() {
    let scenario = world();
    let places = Places::of(&scenario);
    for (address, vip) in &scenario.vips {
        let ip = IpAddr::from(*address);
        let ports = scenario.ports.keys().filter(|key| key.vip == vip.id && key.port != 0);
        let services = vip.services.iter().map(|entry| (entry.protocol, entry.port));
        for (protocol, port) in services.chain(ports.map(|key| (key.protocol, key.port))) {
            let target = Target { address: ip, protocol, port };
            assert!(![TCP, UDP].contains(&protocol) || places.targets.contains(&target), "{target:?}");
        }
    }
}
