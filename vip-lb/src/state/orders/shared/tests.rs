//! The last word holds, wherever and whenever it is heard.

use proptest::prelude::*;

use super::*;
use crate::config::model::{Ports, Protocol};

fn backend(last: u8) -> OrderKey {
    let service =
        ServiceKey { vip: "192.0.2.1".parse().unwrap(), ports: Ports::One(80), protocol: Protocol::Tcp };
    OrderKey { service, backend: host(last) }
}

fn host(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn all_words(orders: &Orders) -> Vec<SharedOrder> {
    orders.shared().all().cloned().collect()
}

#[test]
fn an_order_holds_everywhere_until_it_is_withdrawn_anywhere() {
    let (mut a, mut b) = (Orders::default(), Orders::default());
    a.give(backend(1), OrderKind::Drain, 1000);
    assert_eq!(a.say("a", 1000), [Target::from(backend(1))]);
    assert_eq!(a.say("a", 1001), [], "it is said");
    assert_eq!(b.hear(all_words(&a), 1002), [Target::from(backend(1))]);
    assert_eq!(b.of(&backend(1)), Some(Order { kind: OrderKind::Drain, since: 1000 }));
    assert_eq!(b.given_at(&backend(1).into()), Some("a"));
    assert_eq!(b.hear(all_words(&a), 1003), [], "it is known");
    assert_eq!(b.say("b", 1004), [], "and not this node's");

    b.withdraw(&backend(1));
    b.give_host(host(7), OrderKind::Cut, 1005);
    assert_eq!(b.say("b", 1005).len(), 2);
    assert_eq!(a.hear(all_words(&b), 1006).len(), 2);
    assert_eq!((a.of(&backend(1)), a.of_host(host(7)).map(|order| order.kind)), (None, Some(OrderKind::Cut)));
    assert_eq!(b.hear(all_words(&a), 1007), [], "the former order does not come back");
    assert_eq!(Orders::from_file(&a.to_file()).unwrap(), a, "nor does it after a restart");
}

/// The node ended with an overflow.
#[test]
fn after_the_highest_of_all_numbers_orders_are_still_taken() {
    let (mut a, mut b) = (Orders::default(), Orders::default());
    let target = Target::from(backend(1));
    let (order, since) = (Some(OrderKind::Drain), 1000);
    b.hear(vec![SharedOrder { target, order, since, version: u64::MAX, by: "a".to_owned() }], since);
    b.give(backend(2), OrderKind::Cut, 1001);
    assert_eq!(b.say("b", 1001), [Target::from(backend(2))]);
    a.hear(all_words(&b), 1002);
    assert_eq!(a.of(&backend(2)).map(|order| order.kind), Some(OrderKind::Cut));
}

/// Both were given while the nodes did not hear each other.
#[test]
fn of_two_orders_at_once_all_keep_the_same() {
    let (mut a, mut b) = (Orders::default(), Orders::default());
    a.give(backend(1), OrderKind::Drain, 2000);
    b.give(backend(1), OrderKind::Cut, 1000);
    a.say("a", 2000);
    b.say("b", 1000);
    let (of_a, of_b) = (all_words(&a), all_words(&b));
    assert_eq!(a.hear(of_b, 3000).len(), 1);
    assert_eq!(b.hear(of_a, 3000), [], "clocks do not decide");
    assert_eq!((a.of(&backend(1)), all_words(&a)), (b.of(&backend(1)), all_words(&b)));
    // The next word is the last one, wherever it is given.
    a.withdraw(&backend(1));
    a.say("a", 3001);
    b.hear(all_words(&a), 3002);
    assert_eq!((b.of(&backend(1)), all_words(&b)), (a.of(&backend(1)), all_words(&a)));
}

#[test]
fn what_was_ordered_before_or_meanwhile_is_said() {
    let mut orders = Orders::default();
    orders.give(backend(1), OrderKind::Drain, 1);
    orders.give_host(host(2), OrderKind::Drain, 1);
    assert_eq!(orders.say("a", 5).len(), 2);
    // Nothing is shared for a while.
    orders.withdraw(&backend(1));
    orders.give_host(host(2), OrderKind::Cut, 6);
    orders.drain_node(true, 6);
    orders.hand_over(&["192.0.2.1".parse().unwrap()], 6);
    assert_eq!(orders.say("a", 7).len(), 2, "of a node and its VIPs nothing is said");
}

#[test]
fn what_is_long_past_is_forgotten() {
    let (mut a, mut b) = (Orders::default(), Orders::default());
    a.give(backend(1), OrderKind::Drain, 1000);
    a.give(backend(2), OrderKind::Drain, 1000);
    a.give(backend(3), OrderKind::Drain, 1000);
    a.say("a", 1000);
    a.withdraw(&backend(1));
    a.say("a", 1000);
    let exists = |key: &OrderKey| *key != backend(2);
    let late = 1000 + REMEMBERED;
    assert!(!a.forget_past(exists, late));
    assert!(a.forget_past(exists, late + 1));
    assert_eq!(a.shared().all().map(|word| word.target).collect::<Vec<_>>(), [backend(3).into()]);
    assert_eq!((a.of(&backend(2)), a.of(&backend(3)).is_some()), (None, true));
    // Words that follow are newer than what was forgotten.
    a.give(backend(1), OrderKind::Drain, late + 2);
    a.say("a", late + 2);
    assert_eq!(a.shared().of(&backend(1).into()).map(|word| word.version), Some(5));
    // One that remembers it for longer does not bring it back.
    let old =
        SharedOrder { target: backend(1).into(), order: None, since: 1000, version: 4, by: "a".to_owned() };
    assert_eq!(b.hear(vec![old], late + 1), []);
}

/// It was forgotten at once, and the next node that had not heard of it brought the order back.
#[test]
fn a_withdrawal_of_a_node_whose_clock_is_far_in_the_past_is_remembered() {
    let [mut a, mut b, mut away] = [(); 3].map(|()| Orders::default());
    const NOW: u64 = 1_800_000_000;
    a.give(backend(1), OrderKind::Drain, NOW);
    a.say("a", NOW);
    for node in [&mut b, &mut away] {
        node.hear(all_words(&a), NOW);
    }
    b.withdraw(&backend(1));
    b.say("b", 7);
    a.hear(all_words(&b), NOW + 1);
    assert!(!a.forget_past(|_| true, NOW + 1 + REMEMBERED));
    a = Orders::from_file(&a.to_file()).unwrap();
    assert_eq!(a.hear(all_words(&away), NOW + 2), [], "it is known to be withdrawn");
    assert_eq!(a.of(&backend(1)), None);
    assert!(a.forget_past(|_| true, NOW + 2 + REMEMBERED), "thirty days after it was heard of");
}

/// A release that knows nothing of sharing has the orders all the same.
#[test]
fn a_file_is_read_by_former_releases() {
    let mut orders = Orders::default();
    orders.give(backend(1), OrderKind::Drain, 1000);
    let plain = orders.to_file();
    orders.say("a", 1000);
    let text: serde_json::Value = serde_json::from_slice(&orders.to_file()).unwrap();
    let before: serde_json::Value = serde_json::from_slice(&plain).unwrap();
    assert_eq!((&text["version"], &text["backends"]), (&before["version"], &before["backends"]));
    assert_eq!((text["shared"]["words"].as_array().unwrap().len(), before.get("shared")), (1, None));
}

#[test]
fn words_are_understood_over_the_wire() {
    let word = SharedOrder {
        target: backend(1).into(),
        order: Some(OrderKind::Cut),
        since: 7,
        version: 9,
        by: "lb-1".to_owned(),
    };
    let text = serde_json::to_string(&word).unwrap();
    assert_eq!(
        text,
        r#"{"vip":"192.0.2.1","ports":80,"protocol":"tcp","backend":"10.0.0.1","order":"cut","since":7,"version":9,"by":"lb-1"}"#
    );
    assert_eq!(serde_json::from_str::<SharedOrder>(&text).unwrap(), word);
    let host = SharedOrder { target: Target::Host { host: host(1) }, order: None, ..word };
    let text = serde_json::to_string(&host).unwrap();
    assert_eq!(text, r#"{"host":"10.0.0.1","since":7,"version":9,"by":"lb-1"}"#);
    assert_eq!(serde_json::from_str::<SharedOrder>(&text).unwrap(), host);
}

fn words() -> impl Strategy<Value = Vec<SharedOrder>> {
    let kind = proptest::option::of(prop_oneof![Just(OrderKind::Drain), Just(OrderKind::Cut)]);
    let target = (1..3_u8, any::<bool>()).prop_map(|(last, is_host)| match is_host {
        true => Target::Host { host: host(last) },
        false => backend(last).into(),
    });
    let word = (target, kind, 0..3_u64, 0..3_u64, "[ab]")
        .prop_map(|(target, order, since, version, by)| SharedOrder { target, order, since, version, by });
    proptest::collection::vec(word, 0..8)
}

fn heard(all: &[&[SharedOrder]]) -> Orders {
    let mut orders = Orders::default();
    for words in all {
        orders.hear(words.to_vec(), 0);
    }
    orders
}

proptest! {
    #[test]
    fn it_does_not_matter_when_how_often_and_by_whom_words_are_heard(a in words(), b in words(), c in words()) {
        let expected = heard(&[&a, &b, &c]);
        prop_assert_eq!(&heard(&[&c, &a, &b]), &expected);
        prop_assert_eq!(&heard(&[&b, &b, &a, &c, &a]), &expected);
        // By way of others, who tell what they have themselves.
        let by_way = |all: &[&[SharedOrder]]| all_words(&heard(all));
        prop_assert_eq!(&heard(&[&by_way(&[&a, &b]), &c]), &expected);
        prop_assert_eq!(&heard(&[&a, &by_way(&[&b, &c])]), &expected);
        prop_assert_eq!(&Orders::from_file(&expected.to_file()).unwrap(), &expected);
        let reversed: Vec<_> = a.iter().rev().cloned().collect();
        prop_assert_eq!(heard(&[&reversed]), heard(&[&a]));
    }
}
