//! Two CPUs that bind the same connection at the same moment. No privileges needed.

use vip_lb_common::{
    Verdict,
    abi::{FlowKey, NatFlow, NatReplyKey},
};
use vip_lb_tests::{
    packet::eth,
    program::{
        Host, Outcome, Program, Scenario,
        world::{
            CLIENT,
            nat::{FIRST_PORT, VIP, port, world},
        },
    },
};

fn dial(host: &Host) -> Outcome {
    host.run(Program::Balancer, &eth().ipv4(CLIENT, VIP).tcp(1, port::KEPT).syn().bytes(), 0)
}

/// The entries that the connection gets where nobody is quicker.
fn alone() -> (FlowKey, NatFlow, NatReplyKey) {
    let host = Host::new(&world());
    assert_eq!(dial(&host).verdict, Verdict::ForwardedNat);
    let state = host.state();
    let (key, flow) = state.nat_flows.into_iter().next().expect("the connection has an entry");
    (key, flow, state.nat_replies.into_keys().next().expect("its answers have one"))
}

#[test]
fn the_quicker_cpu_wins_and_the_other_follows() {
    let (key, flow, reply_key) = alone();
    let other_port = if flow.port == FIRST_PORT { FIRST_PORT + 1 } else { FIRST_PORT };
    let host = Host::new(&world());
    host.tables.meanwhile.0.set(Some(Box::new(move |tables| {
        let reply = tables.nat_replies.borrow()[&reply_key];
        tables.nat_replies.borrow_mut().insert(NatReplyKey { port: other_port, ..reply_key }, reply);
        tables.nat_flows.borrow_mut().insert(key, NatFlow { port: other_port, ..flow });
    })));
    let outcome = dial(&host);
    assert_eq!(outcome.verdict, Verdict::ForwardedNat);
    assert_eq!(outcome.frame[34..36], other_port.to_be_bytes(), "the port of the quicker one");
    let state = host.state();
    assert_eq!(state.nat_flows.into_values().map(|flow| flow.port).collect::<Vec<_>>(), [other_port]);
    assert_eq!(state.nat_replies.into_keys().map(|key| key.port).collect::<Vec<_>>(), [other_port]);
}

#[test]
fn a_claim_without_room_for_the_other_entry_is_given_back() {
    let (key, flow, _) = alone();
    let host = Host::new(&Scenario { nat_capacity: Some(1), ..world() });
    host.tables.meanwhile.0.set(Some(Box::new(move |tables| {
        let stranger = FlowKey { source_port: 2, ..key };
        tables.nat_flows.borrow_mut().insert(stranger, flow);
    })));
    assert_eq!(dial(&host).verdict, Verdict::NatExhausted);
    let state = host.state();
    assert!(state.nat_replies.is_empty(), "a claim of nobody");
    assert_eq!(state.nat_flows.into_keys().map(|key| key.source_port).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_taken_port_is_passed_over() {
    let (_, flow, reply_key) = alone();
    let host = Host::new(&world());
    host.tables.nat_replies.borrow_mut().insert(reply_key, Default::default());
    assert_eq!(dial(&host).verdict, Verdict::ForwardedNat);
    let state = host.state();
    assert_eq!(state.nat_replies.len(), 2);
    assert!(state.nat_flows.into_values().all(|other| other.port != flow.port));
}
