//! Flows that are looked at closely.

use vip_lb_common::abi::{Sample, SampleState};

use super::{Story, Told, syn, tcp};
use crate::program::world::{CURRENT, PREVIOUS, port, world};

pub(super) const ALL: &[Told] = &[
    ("a sampled connection is noted as far as it has come", world, a_sampled_connection_is_noted),
    ("one flow in four is noted", world, one_flow_in_four_is_noted),
    (
        "a sampled connection of an open slot is noted where it goes",
        world,
        a_sampled_connection_of_an_open_slot,
    ),
    ("a sampled SYN is clamped and noted", world, a_sampled_syn_is_clamped),
];

/// The samples of both families, which must be in this state.
#[track_caller]
fn samples(story: &Story, state: SampleState) -> [Sample; 2] {
    let found: Vec<Sample> = story.pair.state().samples.into_values().collect();
    assert!(found.iter().all(|sample| sample.state == state as u8), "{found:?}");
    found.try_into().expect("one sample of each family")
}

fn a_sampled_connection_is_noted(story: &mut Story) {
    story.passes("SYN", syn(1, port::SAMPLED));
    samples(story, SampleState::Handshake);
    story.passes("SYN again", syn(1, port::SAMPLED));
    assert_eq!(samples(story, SampleState::Handshake).map(|sample| sample.syn_again), [1; 2]);
    story.passes("ACK", |ip| ip.tcp(1, port::SAMPLED).sequence(1001).acknowledged(500));
    assert_eq!(samples(story, SampleState::Established).map(|sample| sample.shaken_after), [1; 2]);
    for again in 0..3 {
        let data = |ip: crate::packet::Frame| {
            ip.tcp(1, port::SAMPLED).sequence(1001).acknowledged(500).payload(b"GET /")
        };
        story.passes("data", data);
        assert_eq!(samples(story, SampleState::Asked).map(|sample| sample.data_again), [again; 2]);
    }
    story.passes("its answer", |ip| ip.tcp(1, port::SAMPLED).sequence(1006).acknowledged(900));
    let answered = samples(story, SampleState::Established);
    assert_eq!(answered.map(|sample| (sample.answered_after, sample.data_again)), [(1, 0); 2]);
    story.passes("FIN", |ip| ip.tcp(1, port::SAMPLED).sequence(1006).acknowledged(900).fin());
    samples(story, SampleState::Over);
    story.passes("SYN of the next connection", |ip| ip.tcp(1, port::SAMPLED).sequence(7).syn());
    assert_eq!(samples(story, SampleState::Handshake).map(|sample| sample.sequence), [7; 2]);
}

fn one_flow_in_four_is_noted(story: &mut Story) {
    for source in 1..=20 {
        story.passes("SYN", syn(source, port::SAMPLED_IN_PART));
    }
    let noted = story.pair.state().samples.len();
    assert!((4..=20).contains(&noted), "{noted} of 40");
}

fn a_sampled_connection_of_an_open_slot(story: &mut Story) {
    story.sends("SYN", syn(1, port::SAMPLED_OPEN), CURRENT);
    assert_eq!(samples(story, SampleState::Handshake).map(|sample| sample.backend.index), [CURRENT; 2]);
    story.entries(0, 2, 0);
    story.sends("ACK", tcp(1, port::SAMPLED_OPEN), CURRENT);
    samples(story, SampleState::Established);
    story.entries(2, 2, 0);
    story.sends("data of an older one", |ip| ip.tcp(2, port::SAMPLED_OPEN).payload(b"more"), PREVIOUS);
    let older = story.pair.state().samples.into_values();
    assert_eq!(older.filter(|sample| sample.backend.index == PREVIOUS && sample.begun == 0).count(), 2);
}

fn a_sampled_syn_is_clamped(story: &mut Story) {
    let announced = |size: u16| [&[2, 4][..], &size.to_be_bytes()].concat();
    story.sends("SYN", |ip| ip.tcp(1, port::SAMPLED_CLAMPED).syn().option(&announced(1460)), CURRENT);
    samples(story, SampleState::Handshake);
    story.sends("data", |ip| ip.tcp(1, port::SAMPLED_CLAMPED).acknowledged(1).payload(b"?"), CURRENT);
    samples(story, SampleState::Asked);
}
