//! Others at a VIP, played through with moments that are given.

use super::*;

const VIP: &str = "192.0.2.10";
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn vip() -> IpAddr {
    VIP.parse().unwrap()
}

fn place() -> Place {
    let mac = [2, 0, 0, 0, 0, 1];
    Place { index: 2, interface: "eth0".to_owned(), vlan: None, mac, announced: mac }
}

fn claim() -> Claim {
    Claim { address: vip(), mac: OTHER }
}

fn answering() -> BTreeMap<IpAddr, BTreeSet<Place>> {
    [(vip(), [place()].into())].into()
}

#[expect(clippy::disallowed_methods, reason = "any moment to count from")]
fn start() -> Instant {
    Instant::now()
}

fn seconds(number: f64) -> Duration {
    Duration::from_secs_f64(number)
}

#[test]
fn the_owner_asks_after_it_has_taken_over_and_then_every_ten_seconds() {
    let (mut others, begin) = (Others::default(), start());
    others.answered(answering(), begin);
    assert_eq!(others.advance(begin), [], "nothing waits for an answer");
    let probes: Vec<_> = (0..150)
        .map(|tick| begin + seconds(0.2) * tick)
        .filter(|&now| others.advance(now) == [Ask::Probe(vip(), place())])
        .collect();
    assert_eq!(probes, [begin + seconds(1.0), begin + seconds(11.0), begin + seconds(21.0)]);
}

#[test]
fn one_that_answers_is_told_of_until_it_leaves_five_probes_unanswered() {
    let (mut others, begin) = (Others::default(), start());
    others.answered(answering(), begin);
    others.heard(claim(), &place(), begin + seconds(1.2));
    others.advance(begin + seconds(2.1));
    assert_eq!(others.of(vip()).count(), 0, "this node may be about to lose it");
    assert!(others.advance(begin + seconds(2.2)).contains(&Ask::Announce(vip(), place())));
    let told: Vec<_> = others.all().map(|(vip, other)| (vip, other.mac)).collect();
    assert_eq!((told, others.found(vip())), (vec![(vip(), OTHER)], 1));
    let mut asked = Vec::new();
    for tick in 0..60 {
        let now = begin + seconds(2.4) + seconds(0.2) * tick;
        let asks = others.advance(now);
        asked.extend(asks.into_iter().map(|ask| (ask, now)));
        if others.of(vip()).count() == 0 {
            assert_eq!(now, begin + seconds(12.2));
            break;
        }
    }
    let probes = asked.iter().filter(|(ask, _)| matches!(ask, Ask::Probe(..))).count();
    assert_eq!((probes, asked.len()), (5, 5), "it is taken back once in ten seconds: {asked:?}");
    assert_eq!(others.found(vip()), 1);
}

/// It was asked when it would have been the turn of a VIP that is this node's alone.
#[test]
fn one_that_was_found_by_a_probe_is_asked_every_two_seconds() {
    let (mut others, begin) = (Others::default(), start());
    others.answered(answering(), begin);
    let mut probes = Vec::new();
    for tick in 0..50 {
        let now = begin + seconds(0.2) * tick;
        if others.advance(now).contains(&Ask::Probe(vip(), place())) {
            others.heard(claim(), &place(), now);
            probes.push(now);
        }
    }
    assert_eq!(probes, [1.0, 3.0, 5.0, 7.0, 9.0].map(|at| begin + seconds(at)));
}

#[test]
fn the_node_that_had_it_before_and_the_one_that_gets_it_next_are_no_second_owners() {
    let (mut others, begin) = (Others::default(), start());
    others.heard(claim(), &place(), begin);
    others.answered(answering(), begin);
    others.heard(claim(), &place(), begin + seconds(0.9));
    others.advance(begin + seconds(5.0));
    assert_eq!(others.all().count(), 0, "it had it before");
    others.heard(claim(), &place(), begin + seconds(6.0));
    others.answered(BTreeMap::new(), begin + seconds(6.5));
    others.answered(answering(), begin + seconds(6.9));
    others.advance(begin + seconds(7.0));
    assert_eq!((others.all().count(), others.found(vip())), (0, 0), "it had it next");
}

#[test]
fn another_link_is_another_matter() {
    let (mut others, begin) = (Others::default(), start());
    others.answered(answering(), begin);
    let elsewhere = Place { index: 3, interface: "eth0.10".to_owned(), vlan: Some(10), ..place() };
    others.heard(claim(), &elsewhere, begin + seconds(2.0));
    others.heard(
        Claim { address: "192.0.2.11".parse().unwrap(), mac: OTHER },
        &place(),
        begin + seconds(2.0),
    );
    others.advance(begin + seconds(4.0));
    assert_eq!(others.all().count(), 0);
}

#[test]
fn many_vips_make_no_burst_and_many_addresses_no_list() {
    let (mut others, begin) = (Others::default(), start());
    let address = |number: u8| IpAddr::from([192, 0, 2, number]);
    others.answered((0..100).map(|number| (address(number), [place()].into())).collect(), begin);
    assert_eq!(others.advance(begin + seconds(1.0)).len(), 100, "those of a take-over");
    for tick in 0..10 {
        let probes = others.advance(begin + seconds(11.19) + seconds(0.2) * tick).len();
        assert!((9..=11).contains(&probes), "{probes} at once");
    }
    for number in 0..200 {
        let claim = Claim { address: address(1), mac: [2, 0, 0, 0, 1, number] };
        others.heard(claim, &place(), begin + seconds(20.0));
    }
    others.advance(begin + seconds(21.0));
    assert_eq!(others.all().count(), MOST);
}
