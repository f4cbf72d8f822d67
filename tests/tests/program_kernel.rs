//! The loaded programs: the same packets as on the host, by BPF_PROG_TEST_RUN. Needs root.

use std::collections::HashMap;

use vip_lb_common::Verdict;
use vip_lb_tests::{
    lab::patience,
    program::{
        Kernel, Pair, Program, SHORTEST_FRAME, Scenario,
        cases::{self, Case, Tables},
        load,
        stories::{self, Story},
        world::{RATE, world},
    },
};

#[test]
fn both_programs_load() {
    for (program, loaded) in load().expect("the programs load") {
        println!("{program:?}: {loaded:?}");
        assert!(loaded.verified_instructions > 0);
    }
}

#[test]
fn every_case_ends_as_described() {
    let mut pairs: HashMap<Tables, Pair> = HashMap::new();
    for case in cases::all().into_iter().filter(|case| case.frame.len() >= SHORTEST_FRAME) {
        let pair = pairs.entry(case.tables).or_insert_with(|| Pair::new(&case.tables.scenario()));
        run_case(pair, &case);
    }
    assert_eq!(pairs.len(), 3);
    for (tables, pair) in &pairs {
        pair.compare_tables(&format!("{tables:?}"));
    }
    let mut pair = Pair::new(&without_budget());
    for case in cases::steer::without_budget() {
        run_case(&mut pair, &case);
    }
    pair.compare_tables("without budget");
}

#[test]
fn prefixes_of_packets_fare_as_on_the_host() {
    let mut pair = Pair::new(&world());
    // An emulated processor is given fewer of them.
    let step = 9 * patience() as usize;
    for case in cases::all().iter().filter(|case| case.frame.len() < 200).step_by(step) {
        for len in SHORTEST_FRAME..case.frame.len() {
            let name = format!("{} cut to {len} bytes", case.name);
            pair.run(&name, case.program, &case.frame[..len], 0);
        }
    }
    pair.compare_tables("prefixes");
}

fn run_case(pair: &mut Pair, case: &Case) {
    match pair.run_where_it_can(&case.name, case.program, &case.frame, case.taken) {
        Some(outcome) => case.assert_outcome(&outcome),
        None => println!("left out, for this kernel takes less headroom: {}", case.name),
    }
}

fn without_budget() -> Scenario {
    let mut scenario = world();
    scenario.settings_mut().record_budget = 0;
    scenario
}

#[test]
fn every_story_ends_as_described() {
    for (name, scenario, story) in stories::all() {
        println!("{name}");
        story(&mut Story::new(Pair::new(&scenario())));
    }
}

#[test]
fn icmp_beyond_its_rate_is_dropped() {
    let mut kernel = Kernel::load(&world()).expect("the programs load");
    let kinds = [
        (cases::icmp::rationed(), Verdict::ForwardedIpip, Verdict::IcmpRate),
        (cases::too_big::rationed(), Verdict::TooBigAnswered, Verdict::TooBig),
    ];
    for (frame, within, beyond) in kinds {
        let mut let_through = 0;
        for _ in 0..50 {
            let outcome =
                kernel.run(Program::Balancer, &frame.bytes(), 0, None).expect("the kernel runs this frame");
            let outcome = outcome.expect("no headroom is asked for");
            assert!([within, beyond].contains(&outcome.verdict), "{:?}", outcome.verdict);
            let_through += usize::from(outcome.verdict == within);
        }
        // The second may end on the way, but every time only where a test run takes a tenth of one.
        assert!((usize::from(RATE)..50).contains(&let_through), "{let_through} of 50 ended as {within:?}");
    }
}
