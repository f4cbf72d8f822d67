//! What crosses from one process to the other.

use super::*;
use crate::{
    config::model::{Ports, Protocol},
    control::{desired::ServiceKey, floor::FloorState},
    health::memory::Remembered,
    state::{OrderKey, OrderKind},
};

#[test]
fn descriptors_are_three_numbers_beyond_the_standard_streams() {
    let descriptors = Descriptors { channel: 9, listener: 7, lock: 12 };
    assert_eq!(descriptors.to_string().parse(), Ok(descriptors));
    for text in ["", "9", "9,7", "9,7,12,13", "2,7,12", "-1,7,12", "9,7,x", "9,9,12"] {
        assert!(text.parse::<Descriptors>().is_err(), "`{text}`");
    }
}

/// Both ends of a channel.
fn pair() -> (Channel, Channel) {
    let (one, other) = UnixStream::pair().unwrap();
    (Channel::new(one), Channel::new(other))
}

#[tokio::test]
async fn messages_arrive_as_they_were_sent() {
    let (mut predecessor, mut successor) = pair();
    let mut orders = Orders::default();
    let service =
        ServiceKey { vip: "192.0.2.1".parse().unwrap(), ports: Ports::One(80), protocol: Protocol::Tcp };
    orders.give(OrderKey { service, backend: "10.0.0.1".parse().unwrap() }, OrderKind::Drain, 1_800_000_000);
    let state = State {
        socket: "/run/vip-lb/control.sock".into(),
        checks: vec![Memory {
            address: "10.0.0.1:80".parse().unwrap(),
            check: "tcp".to_owned(),
            state: Remembered::Up,
            age: 17,
            successes: 3,
            failures: 0,
            streak: None,
            flaps: 2,
            held: Some(4000),
        }],
        services: vec![ServiceMemory {
            service,
            floor: FloorMemory {
                state: FloorState::Open,
                removed: BTreeMap::from([("10.0.0.1".parse().unwrap(), Some(250))]),
            },
            slow_start: BTreeMap::from([("10.0.0.2".parse().unwrap(), 1500)]),
        }],
        orders: Some(orders),
        last_event: 815,
    };
    predecessor.send(&ToSuccessor::State(state.clone())).await.unwrap();
    match successor.receive().await.unwrap() {
        Some(ToSuccessor::State(received)) => assert_eq!(received, state),
        other => panic!("{other:?}"),
    }
    drop(predecessor);
    assert!(successor.receive::<ToSuccessor>().await.unwrap().is_none(), "the end is no error");
}

#[tokio::test]
async fn what_another_release_adds_is_no_matter_and_what_it_lacks_is_told() {
    let (mut predecessor, mut successor) = pair();
    let newer = serde_json::json!({"state": {"socket": "/s", "checks": [], "mood": "good"}});
    predecessor.send(&newer).await.unwrap();
    assert!(matches!(successor.receive().await.unwrap(), Some(ToSuccessor::State(_))));
    predecessor.send(&serde_json::json!({"greeting": {}})).await.unwrap();
    let error = successor.receive::<ToSuccessor>().await.unwrap_err();
    assert!(error.to_string().contains("another release"), "{error:#}");
}
