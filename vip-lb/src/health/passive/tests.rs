//! From samples to suspicions.

use std::net::IpAddr;

use super::*;

const MS: u64 = 1_000_000;
const WEB: u16 = 4;

fn reference(index: u16) -> BackendRef {
    BackendRef { index, generation: 3 }
}

fn watched() -> Vec<Watched> {
    let backends =
        [(reference(10), "a".to_owned()), (reference(11), "b".to_owned()), (reference(12), "c".to_owned())];
    vec![Watched { name: "web".to_owned(), backends: backends.to_vec() }]
}

/// A table in which each backend got a SYN every 6 ms until `now`; that of index 11 answers none since `silent`.
fn table(now: u64, silent: u64) -> Vec<Sample> {
    let of = |number: u64| {
        let index = 10 + (number % 3) as u16;
        let begun = now - 2 * MS * (1 + number);
        let answers = index != 11 || begun < silent;
        Sample {
            source: IpAddr::from([198, 51, 100, (number % 250) as u8]).into(),
            ports: number as u32,
            service: WEB,
            backend: reference(index),
            begun,
            state: (if answers { SampleState::Established } else { SampleState::Handshake }) as u8,
            shaken_after: if answers { 400 } else { 0 },
            ..Sample::default()
        }
    };
    (0..500).map(of).collect()
}

#[test]
fn a_backend_that_answers_no_syn_is_suspected_once_in_a_while() {
    let mut passive = Passive::default();
    passive.set(&watched());
    let start = 50_000 * MS;
    assert_eq!(passive.look(&table(start, u64::MAX), start), []);
    let mut suspicions = Vec::new();
    for now in (start..start + 2000 * MS).step_by(20 * MS as usize) {
        suspicions
            .extend(passive.look(&table(now, start), now).into_iter().map(|suspicion| (now, suspicion)));
    }
    let (at, first) = &suspicions[0];
    assert!(*at - start <= 100 * MS, "after {} ms", (at - start) / MS);
    assert_eq!((first.names.1.as_str(), first.question), ("b", Question::Handshake));
    assert_eq!(first.networks, 1);
    assert_eq!(first.others, first.others_answered);
    // With four times as many, and a second later; of a hundred looks.
    let unanswered: Vec<_> = suspicions.iter().map(|(_, suspicion)| suspicion.unanswered).collect();
    assert!((2..=4).contains(&unanswered.len()) && unanswered[1] >= 4 * unanswered[0], "{unanswered:?}");
    let counted: Vec<_> = passive.accounts().map(|(_, account)| account.suspicions).collect();
    assert_eq!(counted, [0, unanswered.len() as u64, 0]);
}

#[test]
fn what_is_known_of_a_backend_stays_with_its_name() {
    let mut passive = Passive::default();
    passive.set(&watched());
    let now = 50_000 * MS;
    passive.look(&table(now, u64::MAX), now);
    let handshakes = |passive: &Passive| {
        let of = |(names, account): (&Names, &Account)| (names.1.clone(), account.handshakes.total());
        passive.accounts().map(of).collect::<Vec<_>>()
    };
    let (a, b, c) = (("a".to_owned(), 167), ("b".to_owned(), 167), ("c".to_owned(), 166));
    assert_eq!(handshakes(&passive), [a.clone(), b, c.clone()]);
    let mut fewer = watched();
    fewer[0].backends.remove(1);
    fewer[0].backends[1].0 = reference(40);
    passive.set(&fewer);
    passive.look(&table(now, u64::MAX), now + MS);
    assert_eq!(handshakes(&passive), [a, c], "the samples are of other backends now");
    assert!(!passive.is_idle());
    passive.set(&[]);
    assert!(passive.is_idle());
}

#[test]
fn data_that_is_met_with_silence_is_counted_once() {
    let mut passive = Passive::default();
    passive.set(&watched());
    let asked = 50_000 * MS;
    let sample = Sample {
        backend: reference(10),
        service: WEB,
        asked,
        state: SampleState::Asked as u8,
        ..Sample::default()
    };
    for after in (0..3000).step_by(20) {
        passive.look(&[sample], asked + after * MS);
    }
    let silent: Vec<_> = passive.accounts().map(|(_, account)| account.silent).collect();
    assert_eq!(silent, [1, 0, 0]);
    assert!(passive.quiet_for() > 2000 * MS);
}

#[test]
fn a_backend_that_hangs_answers_no_data() {
    let mut passive = Passive::default();
    passive.set(&watched());
    let start = 50_000 * MS;
    let table = |now: u64| {
        let of = |mut sample: Sample| {
            sample.asked = sample.begun + MS;
            let hangs = sample.backend.index == 12 && sample.asked >= start;
            sample.shaken_after = 400;
            sample.answered_after = if hangs { 0 } else { 900 };
            sample.state = (if hangs { SampleState::Asked } else { SampleState::Established }) as u8;
            sample
        };
        table(now, u64::MAX).into_iter().map(of).collect::<Vec<_>>()
    };
    let looks = (start..start + 400 * MS).step_by(20 * MS as usize);
    let suspicion =
        looks.map(|now| (now, passive.look(&table(now), now))).find(|(_, found)| !found.is_empty());
    let (at, found) = suspicion.expect("it is suspected");
    assert_eq!((found[0].names.1.as_str(), found[0].question), ("c", Question::Data));
    assert!(at - start <= 200 * MS, "after {} ms", (at - start) / MS);
}

#[test]
fn clients_are_told_apart_by_their_networks() {
    let of = |address: &str| network(&Address::from(address.parse::<IpAddr>().unwrap()));
    assert_eq!(of("192.0.2.1"), of("192.0.2.254"));
    assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
    assert_eq!(of("2001:db8:7:1::1"), of("2001:db8:7:2::1"));
    assert_ne!(of("2001:db8:7::1"), of("2001:db8:8::1"));
    assert_ne!(of("::c000:200:0:0"), of("192.0.2.1"));
}
