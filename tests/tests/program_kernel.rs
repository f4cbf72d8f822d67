//! The loaded programs: the same packets as on the host, by BPF_PROG_TEST_RUN. Needs root.

use std::collections::{HashMap, HashSet};

use vip_lb_common::{
    Action, Verdict,
    abi::{Address, Settings, Sighting, Watcher},
};
use vip_lb_tests::{
    lab::patience,
    packet::eth,
    program::{
        Kernel, Pair, Program, SHORTEST_FRAME, Scenario,
        cases::{self, Case, Tables},
        load,
        scenario::EVERYTHING,
        stories::{self, Story},
        world::{CLIENT, RATE, VIP, world},
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
        pair.compare_timeless_tables(&format!("{tables:?}"));
    }
    let mut pair = Pair::new(&without_budget());
    for case in cases::steer::without_budget() {
        run_case(&mut pair, &case);
    }
    pair.compare_timeless_tables("without budget");
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
    pair.compare_timeless_tables("prefixes");
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
        story(&mut Story::new(Pair::new(&scenario().small())));
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

#[test]
fn a_watched_packet_ends_as_any_other_and_is_shown_as_it_came_and_left() {
    let mut pairs: HashMap<Tables, Pair> = HashMap::new();
    let mut verdicts = HashSet::new();
    for case in cases::all().into_iter().filter(|case| case.frame.len() >= SHORTEST_FRAME) {
        let pair = pairs.entry(case.tables).or_insert_with(|| Pair::new(&case.tables.scenario().watched()));
        let Some(outcome) = pair.run_where_it_can(&case.name, case.program, &case.frame, case.taken) else {
            continue;
        };
        case.assert_outcome(&outcome);
        let shown = pair.shown();
        let (name, verdict) = (&case.name, outcome.verdict);
        if shown.is_empty() {
            let others = [
                Verdict::NotVip,
                Verdict::NotIp,
                Verdict::ShortFrame,
                Verdict::OtherResolution,
                Verdict::NotConfigured,
            ];
            let unseen = others.contains(&verdict) || case.program == Program::Decapsulator;
            assert!(unseen, "{name}: ended as {verdict:?} and was not shown");
            continue;
        }
        let [shown] = &shown[..] else { panic!("{name}: shown {} times", shown.len()) };
        verdicts.insert(verdict);
        let Sighting { came_len, left_len, .. } = shown.sighting;
        assert_eq!(shown.sighting.verdict, verdict as u32, "{name}");
        assert_eq!(shown.sighting.watchers, 1, "{name}");
        assert_eq!(came_len as usize, case.frame.len(), "{name}");
        assert_eq!(shown.came[..], case.frame[..shown.came.len()], "{name}");
        let left: &[u8] = if verdict.action() == Action::Drop { &[] } else { &outcome.frame };
        assert_eq!(left_len as usize, left.len(), "{name}");
        assert_eq!(shown.left[..], left[..shown.left.len()], "{name}");
        if verdict.action() == Action::Forward && verdict != Verdict::TranslatedReply {
            let known = Sighting::SERVICE | Sighting::CHOSEN;
            assert_eq!(shown.sighting.known & known, known, "{name}");
            assert_eq!(shown.sighting.egress, case.egress, "{name}");
        }
    }
    assert!(verdicts.len() > 20, "only {verdicts:?} were shown");
    for (tables, pair) in &pairs {
        pair.compare_timeless_tables(&format!("watched, {tables:?}"));
    }
}

#[test]
fn every_watched_story_ends_as_described() {
    for (name, scenario, story) in stories::all() {
        println!("{name}");
        story(&mut Story::new(Pair::new(&scenario().watched().small())));
    }
}

#[test]
fn only_what_is_asked_for_is_shown() {
    let frame = eth().ipv4(CLIENT, VIP).tcp(1000, 80).bytes();
    let address = |text: &str| Address::from(text.parse::<std::net::IpAddr>().unwrap());
    let [.., a, b, _, _] = *address(CLIENT).octets();
    let near = address(&format!("{a}.{b}.255.255"));
    let whole = Address::from_words([u32::MAX; 4]);
    let half = Address::from_words([u32::MAX, u32::MAX, u32::MAX, u32::from_ne_bytes([0xff, 0xff, 0, 0])]);
    let forwarded = 1 << Verdict::ForwardedL2 as u32;
    let short = 60;
    let watchers: [(&str, Watcher, bool); 14] = [
        ("everything", EVERYTHING, true),
        ("its client", Watcher { source: address(CLIENT), source_mask: whole, ..EVERYTHING }, true),
        ("its network", Watcher { source: near, source_mask: half, ..EVERYTHING }, true),
        ("another client", Watcher { source: near, source_mask: whole, ..EVERYTHING }, false),
        ("its VIP", Watcher { destination: address(VIP), destination_mask: whole, ..EVERYTHING }, true),
        ("another VIP", Watcher { destination: near, destination_mask: whole, ..EVERYTHING }, false),
        ("its ports", Watcher { source_port: 1000, destination_port: 80, ..EVERYTHING }, true),
        ("another source port", Watcher { source_port: 80, ..EVERYTHING }, false),
        ("another destination port", Watcher { destination_port: 1000, ..EVERYTHING }, false),
        ("its protocol", Watcher { protocol: 6, ..EVERYTHING }, true),
        ("another protocol", Watcher { protocol: 17, ..EVERYTHING }, false),
        ("another interface", Watcher { interface: 4711, ..EVERYTHING }, false),
        ("its verdict", Watcher { verdicts: forwarded, snap: short, ..EVERYTHING }, true),
        ("other verdicts", Watcher { verdicts: !forwarded, ..EVERYTHING }, false),
    ];
    for (name, watcher, wanted) in watchers {
        let mut scenario = world().watched();
        // The last of them, to see that all are asked.
        scenario.watchers = vec![Watcher::NOBODY, Watcher::NOBODY, Watcher::NOBODY, watcher];
        let mut kernel = Kernel::load(&scenario).expect("the programs load");
        let outcome = kernel.run(Program::Balancer, &frame, 0, None).unwrap().unwrap();
        assert_eq!(outcome.verdict, Verdict::ForwardedL2, "{name}");
        let shown = kernel.shown().unwrap();
        assert_eq!(shown.len(), usize::from(wanted), "{name}");
        if let [shown] = &shown[..] {
            assert_eq!(shown.sighting.watchers, 1 << 3, "{name}");
            let whole = usize::from(watcher.snap) >= frame.len();
            assert_eq!(shown.came.len(), if whole { frame.len() } else { short.into() }, "{name}");
        }
    }
}

#[test]
fn of_many_packets_as_many_are_shown_as_was_asked_for() {
    let frame = eth().ipv4(CLIENT, VIP).tcp(1000, 80).bytes();
    let shown_of_100 = |watcher: Watcher, flags: u32| {
        let mut scenario = world().watched();
        scenario.watchers = vec![watcher];
        scenario.settings_mut().flags = flags;
        let mut kernel = Kernel::load(&scenario).expect("the programs load");
        for _ in 0..100 {
            kernel.run(Program::Balancer, &frame, 0, Some(Verdict::ForwardedL2)).unwrap().unwrap();
        }
        (kernel.shown().unwrap().len(), kernel.watch_count(0).unwrap())
    };
    let watched = Settings::WATCHED;
    assert_eq!(shown_of_100(EVERYTHING, watched), (100, [100, 100, 0]));
    assert_eq!(shown_of_100(Watcher { every: 10, ..EVERYTHING }, watched), (10, [100, 10, 0]));
    assert_eq!(shown_of_100(EVERYTHING, 0), (0, [0; 3]), "nobody is asked where the flag is not set");
    // The second may end on the way.
    let (shown, [matched, sent, missed]) = shown_of_100(Watcher { rate: 7, ..EVERYTHING }, watched);
    assert!((7..100).contains(&shown), "{shown} of 100 with 7 a second");
    assert_eq!((matched, sent + missed, sent), (100, 100, shown as u64));
}

#[test]
fn whoever_watched_through_a_daemon_that_is_gone_sees_nothing() {
    let mut scenario = world().watched();
    scenario.settings_mut().fresh_until = 0;
    let mut pair = Pair::new(&scenario);
    pair.run("stale", Program::Balancer, &eth().ipv4(CLIENT, VIP).tcp(1000, 80).bytes(), 0);
    assert!(pair.shown().is_empty());
}

#[test]
fn packets_to_vips_go_to_the_host_once_the_watchdog_was_not_renewed() {
    let mut scenario = world();
    let settings = scenario.settings_mut();
    settings.flags |= Settings::WATCHDOG;
    settings.patience = 1;
    let mut pair = Pair::new(&scenario);
    let fresh_until = pair.seconds().saturating_sub(3);
    pair.set_settings(Settings { fresh_until, ..pair.settings() });
    let to = |frame: vip_lb_tests::packet::Frame| frame.bytes();
    let frames = [
        ("plain", to(eth().ipv4(CLIENT, VIP).tcp(1000, 80)), Verdict::Unattended),
        ("tagged", to(eth().tag(7).ipv4(CLIENT, VIP).tcp(1000, 80)), Verdict::Unattended),
        ("other traffic", to(eth().ipv4(CLIENT, CLIENT).tcp(1000, 80)), Verdict::NotVip),
    ];
    for (name, frame, verdict) in &frames {
        let outcome = pair.run(name, Program::Balancer, frame, 0);
        assert_eq!((outcome.verdict, &outcome.frame), (*verdict, frame), "{name}");
    }
    let settings = pair.settings();
    for (name, settings) in [
        ("more patience", Settings { patience: 3600, ..settings }),
        ("a daemon is there again", Settings { fresh_until: u32::MAX, ..settings }),
        ("no watchdog", Settings { flags: 0, ..settings }),
    ] {
        pair.set_settings(settings);
        let outcome = pair.run(name, Program::Balancer, &frames[0].1, 0);
        assert_eq!(outcome.verdict, Verdict::ForwardedL2, "{name}");
    }
}
