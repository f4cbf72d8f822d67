//! Probes of checks on the host: where they go, and how their answers are told from other packets. That the loaded programs do the same on
//! the wire is seen in `lab_via_vip`; that the verifier takes them, in the part `load` of `cargo xtask kernels`.

use std::collections::BTreeSet;

use vip_lb_common::{
    Verdict,
    abi::{BackendRef, Mode},
    memory::{MemoryPacket, MemoryTables},
    pipeline::process_probe,
    probe::{answered, sent},
};
use vip_lb_tests::{
    packet::{Frame, eth},
    program::world::{self, CLIENT, CLIENT6, VIP, VIP6, world},
};

/// A probe comes in by the inner end of the pair.
const PAIR: u32 = 77;

fn packet(frame: &Frame) -> MemoryPacket {
    MemoryPacket::new(&frame.bytes(), PAIR)
}

/// The two families: a packet from the node to the VIP, and one the other way.
fn families() -> [(Frame, Frame); 2] {
    [
        (eth().ipv4(CLIENT, VIP), eth().ipv4(VIP, CLIENT)),
        (eth().ipv6(CLIENT6, VIP6), eth().ipv6(VIP6, CLIENT6)),
    ]
}

#[test]
fn an_answer_is_known_by_its_probe_and_by_no_other() {
    for (there, back) in families() {
        for (probe, answer, other) in [
            (there.clone().tcp(4000, 80), back.clone().tcp(80, 4000), back.clone().tcp(80, 4001)),
            (there.clone().udp(4000, 53), back.clone().udp(53, 4000), back.clone().udp(54, 4000)),
            (there.clone().echo_request(9, 1), back.clone().echo_reply(9, 1), back.clone().echo_reply(8, 1)),
        ] {
            let key = sent(&packet(&probe)).unwrap_or_else(|| panic!("{probe:?}"));
            assert_eq!(answered(&packet(&answer)), Some(key), "{answer:?}");
            assert_ne!(answered(&packet(&other)), Some(key), "{other:?}");
            // It does not answer itself.
            assert_ne!(answered(&packet(&probe)), Some(key), "{probe:?}");
        }
    }
}

#[test]
fn an_error_about_a_probe_is_an_answer_to_it() {
    for ((there, _), error) in families().into_iter().zip([
        eth().ipv4("198.51.100.9", CLIENT).icmp(3, 3, [0; 4]),
        eth().ipv6("2001:db8:9::9", CLIENT6).icmp(1, 4, [0; 4]),
    ]) {
        for probe in [there.clone().tcp(4000, 80).payload(&[7; 40]), there.udp(4000, 53).payload(&[7; 40])] {
            let key = sent(&packet(&probe));
            assert!(key.is_some());
            let quoted = &probe.bytes()[14..];
            assert_eq!(answered(&packet(&error.clone().payload(quoted))), key, "{probe:?}");
            let cut = error.clone().payload(&quoted[..quoted.len() / 3]);
            assert!(answered(&packet(&cut)).is_none_or(|found| Some(found) == key), "{probe:?}");
        }
    }
}

#[test]
fn what_is_no_probe_has_no_key_at_any_length() {
    for (there, _) in families() {
        for frame in [there.clone().tcp(1, 2), there.clone().udp(1, 2), there.clone().echo_request(1, 1)] {
            let bytes = frame.bytes();
            for len in 0..bytes.len() {
                assert_eq!(sent(&MemoryPacket::new(&bytes[..len], PAIR)), None, "{len} bytes of {frame:?}");
            }
        }
        assert_eq!(sent(&packet(&there.echo_reply(1, 1))), None);
    }
}

/// Sends a SYN to the VIP as a probe of `backend`.
fn probe(tables: &MemoryTables, backend: BackendRef, port: u16) -> (Verdict, Vec<u8>) {
    let frame =
        eth().to_mac(BackendRef::probe_address(backend.probe_mark())).ipv4(CLIENT, VIP).tcp(4000, port).syn();
    let mut packet = packet(&frame);
    let fate = process_probe(&mut packet, tables);
    (fate.verdict, packet.frame().to_vec())
}

#[test]
fn a_probe_goes_to_the_backend_that_its_frame_names_and_to_no_dead_one() {
    let tables = world().memory();
    let mut modes = BTreeSet::new();
    for (&index, backend) in &tables.backends {
        let reference = BackendRef { index, generation: backend.generation };
        let (verdict, _) = probe(&tables, reference, 80);
        let expected = match Mode::from_u8(backend.mode) {
            Mode::Dead => Verdict::BackendGone,
            Mode::Unresolved => Verdict::Unresolved,
            Mode::Local => Verdict::LocalBackend,
            Mode::L2 => Verdict::ForwardedL2,
            Mode::IpipV4 | Mode::IpipV6 => Verdict::ForwardedIpip,
            Mode::GueV4 | Mode::GueV6 => Verdict::ForwardedGue,
            Mode::NatV4 | Mode::NatV6 => Verdict::ForwardedNat,
        };
        assert_eq!(verdict, expected, "backend {index}: {backend:?}");
        modes.insert(backend.mode);
        let (stale, _) = probe(&tables, BackendRef { generation: backend.generation + 1, ..reference }, 80);
        assert_eq!(stale, Verdict::BackendGone, "backend {index}");
    }
    assert!(modes.len() >= 8, "{modes:?}");
    let (nobody, _) = probe(&tables, BackendRef::NONE, 80);
    assert_eq!(nobody, Verdict::BackendGone);
}

#[test]
fn the_port_of_a_probe_that_timed_out_leads_to_the_backend_of_the_next() {
    let tables = world::nat::world().memory();
    let translated: Vec<_> = tables
        .backends
        .iter()
        .filter(|(_, backend)| Mode::from_u8(backend.mode) == Mode::NatV4)
        .map(|(&index, backend)| BackendRef { index, generation: backend.generation })
        .collect();
    assert!(translated.len() > 1, "{translated:?}");
    for _ in 0..2 {
        for &reference in &translated {
            let (verdict, _) = probe(&tables, reference, 80);
            assert_eq!(verdict, Verdict::ForwardedNat);
            let bound: Vec<_> = tables.nat_flows.borrow().values().map(|flow| flow.backend).collect();
            assert_eq!(bound, [reference], "entries of former probes are gone");
        }
    }
    assert_eq!(tables.nat_replies.borrow().len(), 1, "on both sides");
}
