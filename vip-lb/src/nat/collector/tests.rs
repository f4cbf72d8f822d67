//! Which connections end when, and what becomes of halves.

use super::*;

const NOW: u32 = 100_000;
const IDLE: u32 = 600;
const B: BackendRef = BackendRef { index: 7, generation: 3 };
const DEAD: BackendRef = BackendRef { index: 7, generation: 2 };
const TCP: u16 = 1;
const UDP: u16 = 2;
const GONE: u16 = 3;
const DATA: u16 = NatMarks::DATA;
const FIN: u16 = NatMarks::FIN | DATA;
const RST: u16 = NatMarks::RST;

/// A connection by its client's port; seen and marks of the client's side, then of the backend's.
fn connection(service: u16, client_port: u16, of_client: (u32, u16), of_backend: (u32, u16)) -> Ended {
    let flow_key = FlowKey { source_port: client_port, destination_port: 80, service, ..FlowKey::default() };
    let flow =
        NatFlow { backend: B, seen: of_client.0, marks: of_client.1, port: 61_000, ..NatFlow::default() };
    let reply_key = NatReplyKey { backend_port: 8080, port: 61_000, protocol: 6, ..NatReplyKey::default() };
    let reply = NatReply {
        client_port,
        vip_port: 80,
        service,
        backend: B,
        seen: of_backend.0,
        marks: of_backend.1,
        ..NatReply::default()
    };
    Ended::Whole { flow: (flow_key, flow), reply: (reply_key, reply) }
}

fn look(connections: &[Ended]) -> Look {
    let mut look = Look::default();
    for connection in connections {
        match *connection {
            Ended::Whole { flow, reply } => {
                look.flows.push(flow);
                look.replies.push(reply);
            }
            Ended::Flow(key, flow) => look.flows.push((key, flow)),
            Ended::Reply(key, reply) => look.replies.push((key, reply)),
        }
    }
    look
}

fn collect(collector: &mut Collector, look: &Look, now: u32) -> Collected {
    let life_of = |service| match service {
        TCP => Some(ServiceLife { protocol: Protocol::Tcp, idle: IDLE }),
        UDP => Some(ServiceLife { protocol: Protocol::Udp, idle: 20 }),
        _ => None,
    };
    collector.collect(look, |backend| backend == B, life_of, now)
}

fn halves(connection: Ended) -> (Ended, Ended) {
    let Ended::Whole { flow, reply } = connection else { panic!("a whole connection") };
    (Ended::Flow(flow.0, flow.1), Ended::Reply(reply.0, reply.1))
}

#[test]
fn a_connection_ends_after_the_silence_that_its_state_allows() {
    for (name, service, of_client, of_backend, allowed) in [
        ("a SYN", TCP, 0, 0, HANDSHAKE),
        ("a SYN and its answer", TCP, 0, DATA, HANDSHAKE),
        ("data without an answer", TCP, DATA, 0, HANDSHAKE),
        ("established", TCP, DATA, DATA, IDLE),
        ("the client is done", TCP, FIN, DATA, CLOSING),
        ("the backend is done", TCP, DATA, FIN, CLOSING),
        ("both are done", TCP, FIN, FIN, CLOSED),
        ("the client resets", TCP, DATA | RST, DATA, CLOSED),
        ("the backend refuses", TCP, 0, RST, CLOSED),
        ("UDP without an answer", UDP, DATA, 0, 20),
        ("UDP", UDP, DATA, DATA, 20),
    ] {
        for (silence, ends) in [(0, false), (allowed, false), (allowed + 1, true)] {
            // The later packet of the two sides counts.
            for (client_seen, backend_seen) in [(NOW - silence, 0), (NOW - silence - 500, NOW - silence)] {
                let connection = connection(service, 1, (client_seen, of_client), (backend_seen, of_backend));
                let collected = collect(&mut Collector::default(), &look(&[connection]), NOW);
                let expected = if ends { vec![connection] } else { vec![] };
                assert_eq!(collected.ended, expected, "{name}, silent for {silence}");
                assert_eq!(collected.named, HashMap::from([(B, 1)]), "{name}");
                assert_eq!(collected.services, HashSet::from([service]), "{name}");
            }
        }
    }
}

#[test]
fn unanswered_udp_ends_before_a_long_idle_timeout() {
    let Ended::Whole { flow, reply } = connection(UDP, 1, (0, DATA), (0, 0)) else { unreachable!() };
    let life = ServiceLife { protocol: Protocol::Udp, idle: IDLE };
    assert!(!has_ended(&flow.1, &reply.1, life, UNANSWERED));
    assert!(has_ended(&flow.1, &reply.1, life, UNANSWERED + 1));
    let answered = NatReply { marks: DATA, ..reply.1 };
    assert!(!has_ended(&flow.1, &answered, life, IDLE));
    assert!(has_ended(&flow.1, &answered, life, IDLE + 1));
}

#[test]
fn what_was_seen_after_the_look_began_is_not_silent() {
    assert_eq!((silence(NOW, NOW), silence(NOW + 3, NOW), silence(NOW - 3, NOW)), (0, 0, 3));
    assert_eq!(silence(u32::MAX, 4), 5, "around the end of the numbers");
}

#[test]
fn connections_of_dead_backends_and_gone_services_end_at_once() {
    let Ended::Whole { mut flow, mut reply } = connection(TCP, 1, (NOW, DATA), (NOW, DATA)) else {
        panic!("a whole connection")
    };
    (flow.1.backend, reply.1.backend) = (DEAD, DEAD);
    let dead = Ended::Whole { flow, reply };
    let gone = connection(GONE, 2, (NOW, DATA), (NOW, DATA));
    for void in [dead, gone] {
        let collected = collect(&mut Collector::default(), &look(&[void]), NOW);
        assert_eq!(collected.ended, [void]);
        let (flow, reply) = halves(void);
        for half in [flow, reply] {
            let collected = collect(&mut Collector::default(), &look(&[half]), NOW);
            assert_eq!(collected.ended, [half]);
        }
    }
}

#[test]
fn half_a_connection_goes_at_the_second_look() {
    let (flow, reply) = halves(connection(TCP, 1, (NOW, DATA), (NOW, DATA)));
    for half in [flow, reply] {
        let mut collector = Collector::default();
        assert_eq!(collect(&mut collector, &look(&[half]), NOW).ended, []);
        assert_eq!(collect(&mut collector, &look(&[half]), NOW + 3).ended, [half]);
    }
}

#[test]
fn half_a_connection_that_gets_its_other_half_stays() {
    let whole = connection(TCP, 1, (NOW, DATA), (NOW, DATA));
    let (flow, reply) = halves(whole);
    for half in [flow, reply] {
        let mut collector = Collector::default();
        // It had just begun when it was read.
        assert_eq!(collect(&mut collector, &look(&[half]), NOW).ended, []);
        assert_eq!(collect(&mut collector, &look(&[whole]), NOW + 3).ended, []);
        assert_eq!(
            collect(&mut collector, &look(&[half]), NOW + 6).ended,
            [],
            "it was not alone the last time"
        );
    }
}

#[test]
fn a_clients_port_that_began_another_connection_leaves_the_former_reply_alone() {
    let Ended::Whole { flow, reply } = connection(TCP, 1, (NOW, DATA), (NOW - 5, FIN)) else {
        panic!("a whole connection")
    };
    let newer = NatFlow { port: 61_001, ..flow.1 };
    let newer_key = NatReplyKey { port: 61_001, ..reply.0 };
    let newer = Ended::Whole { flow: (flow.0, newer), reply: (newer_key, reply.1) };
    let former = Ended::Reply(reply.0, reply.1);
    let mut collector = Collector::default();
    assert_eq!(collect(&mut collector, &look(&[newer, former]), NOW).ended, []);
    let collected = collect(&mut collector, &look(&[newer, former]), NOW + 3);
    assert_eq!(collected.ended, [former]);
    assert_eq!(collected.named, HashMap::from([(B, 2)]));
}
