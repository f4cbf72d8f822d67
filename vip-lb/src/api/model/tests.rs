//! The form of what goes over the socket.

use serde_json::json;

use super::*;

#[test]
fn a_selector_names_one_service_or_all() {
    for (text, service, backend, matches) in [
        ("b1", "web", "b1", true),
        ("b1", "mail", "b1", true),
        ("b1", "web", "b2", false),
        ("web/b1", "web", "b1", true),
        ("web/b1", "mail", "b1", false),
        ("web/b1", "web", "b2", false),
        ("web/rack/b1", "web", "rack/b1", true),
        ("10.0.0.1", "web", "b1", true),
        ("mail/10.0.0.1", "web", "b1", false),
        ("10.0.0.2", "web", "b1", false),
    ] {
        let selector: BackendSelector = text.parse().unwrap();
        let address = "10.0.0.1".parse().unwrap();
        assert_eq!(selector.matches(service, backend, address), matches, "{text} on {service}/{backend}");
        assert_eq!(selector.to_string(), text);
    }
    for text in ["", "/", "web/", "/b1"] {
        assert_eq!(text.parse::<BackendSelector>(), Err(EmptySelector), "{text:?}");
    }
}

#[test]
fn a_flow_hash_is_eight_hexadecimal_digits() {
    assert_eq!(FlowHash(0xbeef).to_string(), "0x0000beef");
    assert_eq!("0x0000beef".parse(), Ok(FlowHash(0xbeef)));
    for text in ["", "beef", "0x", "0x+1", "0x100000000", "0xg"] {
        assert_eq!(text.parse::<FlowHash>(), Err(NotAFlowHash), "{text:?}");
    }
}

/// The names that scripts depend on.
#[test]
fn json_spells_words_as_documented() {
    fn spelled(value: impl serde::Serialize) -> serde_json::Value {
        serde_json::to_value(value).unwrap()
    }
    assert_eq!(spelled(ForwardingState::InRing), json!("in ring"));
    assert_eq!(spelled(HealthState::Unchecked), json!("unchecked"));
    assert_eq!(spelled(AttachedMode::Native), json!("native"));
    assert_eq!(spelled(ErrorKind::InvalidConfig), json!("invalid_config"));
    let state = SlotState::Open { current: "b1".into(), previous: "b2".into(), epoch: 3 };
    assert_eq!(
        spelled(Slot { index: 7, state }),
        json!({"index": 7, "state": "open", "current": "b1", "previous": "b2", "epoch": 3})
    );
    let backend: BackendSelector = "web/b1".parse().unwrap();
    let drain = |force| spelled(DrainRequest { backend: backend.clone(), force });
    assert_eq!(drain(false), json!({"backend": "web/b1"}));
    assert_eq!(drain(true), json!({"backend": "web/b1", "force": true}));
    assert_eq!(spelled(ConfigRequest::default()), json!({}));
    assert_eq!(spelled(Outcome::LosesConnections), json!("loses_connections"));
    assert_eq!(
        spelled(OperatorOrder { order: OrderKind::Cut, since: 7, host: false, by: None }),
        json!({"order": "cut", "since": 7})
    );
    assert_eq!(
        spelled(OperatorOrder { order: OrderKind::Drain, since: 7, host: true, by: None }),
        json!({"order": "drain", "since": 7, "host": true})
    );
    let report = spelled(ReloadReport { plan: Plan::nothing(), revision: Some(3) });
    assert_eq!(
        (&report["outcome"], &report["changes"], &report["revision"]),
        (&json!("nothing"), &json!([]), &json!(3))
    );
    assert_eq!(
        spelled(ApiError::new(ErrorKind::NotFound, "no such backend")),
        json!({"error": "no such backend", "kind": "not_found"})
    );
}

#[test]
fn what_can_be_read_as_an_address_is_one() {
    let selector = |text: &str| text.parse::<BackendSelector>().unwrap();
    let (own, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    for (text, host) in [
        ("10.0.0.1", Some(own)),
        ("2001:DB8::1", Some("2001:db8::1".parse().unwrap())),
        ("web/10.0.0.1", None),
        ("web-1", None),
        ("10.0.0.1.example", None),
    ] {
        assert_eq!(selector(text).host(), host, "{text}");
    }
    assert!(selector("10.0.0.1").matches("web", "web-1", own));
    assert!(selector("web/10.0.0.1").matches("web", "web-1", own));
    assert!(!selector("web/10.0.0.1").matches("mail", "web-1", own));
    assert!(selector("web-1").matches("mail", "web-1", other));
    // Somebody may call a backend by an address that is not its own.
    assert!(!selector("10.0.0.1").matches("web", "10.0.0.1", other));
}
