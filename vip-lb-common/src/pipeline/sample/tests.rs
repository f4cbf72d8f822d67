//! What packets leave in a sample.

use super::*;

const MS: u64 = 1_000_000;
const START: u64 = 5_000 * MS;
const ISN: u32 = u32::MAX - 3;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;
const FIN: u8 = 0x01;

fn segment(flags: u8, sequence: u32, acknowledged: u32, payload: u16) -> Segment {
    Segment {
        source: Address::from_words([0, 0, 0, 7]),
        ports: 0x1234_5678,
        service: 3,
        backend: BackendRef { index: 9, generation: 2 },
        flags: TcpFlags(flags),
        sequence,
        acknowledged,
        payload,
    }
}

fn other(flags: u8, payload: u16) -> Segment {
    Segment { ports: 0x0bad_cafe, ..segment(flags, 77, 1, payload) }
}

/// The sample after these segments, each at so many milliseconds.
fn after(segments: &[(u64, Segment)]) -> Sample {
    let mut sample = Sample::default();
    for (at, segment) in segments {
        segment.note(&mut sample, START + at * MS);
    }
    sample
}

fn state(sample: &Sample) -> SampleState {
    SampleState::from_u8(sample.state)
}

#[test]
fn a_handshake_lasts_until_the_first_acknowledgement() {
    let sample = after(&[(0, segment(SYN, ISN, 0, 0))]);
    assert_eq!((state(&sample), sample.begun, sample.shaken_after), (SampleState::Handshake, START, 0));
    assert_eq!((sample.backend.index, sample.service), (9, 3));
    let sample = after(&[
        (0, segment(SYN, ISN, 0, 0)),
        (30, segment(ACK, ISN.wrapping_add(1), 5, 0)),
        (31, segment(ACK, ISN.wrapping_add(1), 5, 0)),
    ]);
    assert_eq!((state(&sample), sample.shaken_after), (SampleState::Established, 30_000));
    // Within one tick of the clock it is still an answer.
    let sample = after(&[(0, segment(SYN, ISN, 0, 0)), (0, segment(ACK, ISN.wrapping_add(1), 5, 0))]);
    assert_eq!(sample.shaken_after, 1);
}

#[test]
fn a_syn_that_comes_again_counts_and_keeps_the_time_of_the_first() {
    let syn = || segment(SYN, ISN, 0, 0);
    let sample = after(&[(0, syn()), (1000, syn()), (3000, syn())]);
    assert_eq!((state(&sample), sample.syn_again, sample.begun), (SampleState::Handshake, 2, START));
    let sample = after(&[(0, syn()), (1000, segment(SYN, ISN.wrapping_add(9), 0, 0))]);
    assert_eq!(
        (sample.syn_again, sample.begun),
        (0, START + 1000 * MS),
        "another connection of the same port"
    );
    let many: Vec<_> = (0..300).map(|at| (at, syn())).collect();
    assert_eq!(after(&many).syn_again, u8::MAX);
}

#[test]
fn a_reset_in_place_of_an_acknowledgement_proves_nothing() {
    let sample = after(&[(0, segment(SYN, ISN, 0, 0)), (10, segment(RST, ISN.wrapping_add(1), 0, 0))]);
    assert_eq!((state(&sample), sample.shaken_after), (SampleState::Over, 0));
    let sample = after(&[
        (0, segment(SYN, ISN, 0, 0)),
        (10, segment(RST, ISN.wrapping_add(1), 0, 0)),
        (20, segment(ACK, ISN.wrapping_add(1), 5, 1)),
    ]);
    assert_eq!(state(&sample), SampleState::Over, "what comes late is of the past");
}

#[test]
fn data_waits_until_something_new_is_acknowledged() {
    let first = ISN.wrapping_add(1);
    let asked = [
        (0, segment(SYN, ISN, 0, 0)),
        (20, segment(ACK, first, 500, 0)),
        (21, segment(ACK, first, 500, 100)),
    ];
    let sample = after(&asked);
    assert_eq!((state(&sample), sample.asked), (SampleState::Asked, START + 21 * MS));
    let mut again = asked.into_iter().collect::<Vec<_>>();
    again.push((221, segment(ACK, first, 500, 100)));
    again.push((621, segment(ACK, first, 500, 100)));
    let sample = after(&again);
    assert_eq!((state(&sample), sample.data_again, sample.answered_after), (SampleState::Asked, 2, 0));
    again.push((700, segment(ACK, first.wrapping_add(100), 501, 0)));
    let sample = after(&again);
    assert_eq!(
        (state(&sample), sample.data_again, sample.answered_after),
        (SampleState::Established, 0, 679_000),
        "from the first time that it came"
    );
    again.push((701, segment(ACK, first.wrapping_add(100), 501, 10)));
    let sample = after(&again);
    assert_eq!((state(&sample), sample.answered_after), (SampleState::Asked, 0));
    assert_eq!(sample.shaken_after, 20_000, "the handshake is remembered");
    again.push((702, segment(ACK | FIN, first.wrapping_add(110), 501, 0)));
    assert_eq!(state(&after(&again)), SampleState::Over);
}

#[test]
fn new_data_shows_that_there_is_room_for_it() {
    let data = |at: u64, sequence: u32| (at, segment(ACK, ISN.wrapping_add(sequence), 500, 1000));
    let sample = after(&[data(0, 1), data(5, 1001), data(9, 2001)]);
    assert_eq!((state(&sample), sample.asked, sample.data_again), (SampleState::Asked, START + 9 * MS, 0));
    // The first of three that are on their way.
    let sample = after(&[data(0, 1), data(5, 1001), data(9, 2001), data(209, 1), data(609, 1)]);
    assert_eq!((sample.asked, sample.data_again), (START + 9 * MS, 2));
}

#[test]
fn what_began_unseen_is_known_from_its_data_on() {
    let sample = after(&[(0, segment(ACK, 1, 1, 0))]);
    assert_eq!(sample, Sample::default(), "an acknowledgement asks for nothing");
    let sample = after(&[(0, segment(ACK, 1, 1, 10))]);
    assert_eq!((state(&sample), sample.begun, sample.asked), (SampleState::Asked, 0, START));
    assert_eq!(after(&[(0, segment(FIN | ACK, 1, 1, 10))]), Sample::default());
    assert_eq!(after(&[(0, segment(RST, 1, 1, 10))]), Sample::default());
}

#[test]
fn a_place_is_its_flows_while_that_waits_and_has_not_waited_for_long() {
    let kept = SAMPLE_KEPT / MS;
    for (name, flow) in [("a handshake", segment(SYN, ISN, 0, 0)), ("data", segment(ACK, ISN, 1, 10))] {
        let mut sample = after(&[(0, flow)]);
        other(SYN, 0).note(&mut sample, START + (kept - 1) * MS);
        assert_eq!(sample.ports, 0x1234_5678, "{name}");
        other(SYN, 0).note(&mut sample, START + kept * MS);
        assert_eq!((sample.ports, state(&sample)), (0x0bad_cafe, SampleState::Handshake), "{name}");
        assert_eq!((sample.asked, sample.answered_after), (0, 0), "{name}: nothing is left of it");
    }
    let mut sample = after(&[(0, segment(SYN, ISN, 0, 0)), (1, segment(ACK, ISN, 1, 0))]);
    other(SYN, 0).note(&mut sample, START + 2 * MS);
    assert_eq!(sample.ports, 0x0bad_cafe);
}

#[test]
fn one_in_so_many_flows_is_chosen_by_its_hash() {
    use crate::{FlowHash, abi::ServiceRef};
    for (wanted, got) in
        [(1, 1), (2, 1), (3, 1), (4, 4), (15, 4), (16, 16), (1000, 256), (4096, 4096), (1 << 20, 4096)]
    {
        let service = ServiceRef { flags: ServiceRef::sampling(wanted), ..ServiceRef::default() };
        let chosen = (0..8192).filter(|&hash| service.samples(FlowHash(hash))).count();
        assert_eq!(chosen, 8192 / got, "one of {wanted}");
        assert_eq!(service.flags & !ServiceRef::SAMPLE, 0, "one of {wanted}");
    }
    let none = ServiceRef { flags: !ServiceRef::SAMPLE, ..ServiceRef::default() };
    assert_eq!(ServiceRef::sampling(0), 0);
    assert!((0..8192).all(|hash| !none.samples(FlowHash(hash))));
}
