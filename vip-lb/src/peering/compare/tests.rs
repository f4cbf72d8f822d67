//! What is said of two nodes, as a table.

use std::path::Path;

use super::*;
use crate::{
    config::{self, Config},
    peering::{
        secret::Secret,
        statement::{self, RingFacts, RouterStatement, VipStatement},
    },
    steering::{Candidate, identity, populate},
};

const BACKENDS: &str =
    "{name: a, address: 10.0.0.1}, {name: b, address: 10.0.0.2}, {name: c, address: 10.0.0.3}";

fn config(seed: &str, vips: &str) -> Config {
    let text = format!("node: {{name: a, seed: '{seed}', interfaces: [eth0]}}\nvips: {vips}\n");
    let loaded = config::parse(&text, Path::new("c.yaml"));
    loaded.unwrap_or_else(|errors| panic!("{errors}")).config
}

fn web(service: &str, backends: &str) -> String {
    format!(
        "[{{address: 192.0.2.1, services: [{{name: web, port: 80, mode: l2{service}, backends: [{backends}]}}]}}]"
    )
}

/// What a node states that has such a configuration, with all backends in its rings but those.
fn statement(config: &Config, out: &[&str]) -> Statement {
    let secret = Secret::of(b"0123456789abcdef0123456789abcdef");
    let out: Vec<IpAddr> = out.iter().map(|address| address.parse().unwrap()).collect();
    let mut services = Vec::new();
    for vip in &config.vips {
        for of in &vip.services {
            let key = ServiceKey { vip: vip.address, ports: of.ports, protocol: of.protocol };
            let addresses = || of.backends.iter().map(|backend| backend.address);
            let mut members: Vec<_> = of
                .backends
                .iter()
                .filter(|backend| !out.contains(&backend.address))
                .map(|backend| Candidate {
                    identity: identity(vip.address, of.ports, of.protocol.number(), backend.address),
                    weight: backend.weight.get().into(),
                })
                .collect();
            members.sort_by_key(|member| member.identity);
            let picks = populate(&config.node.seed.0, of.ring.slots() as usize, &members);
            let slots: Vec<u64> = picks
                .into_iter()
                .map(|pick| pick.map_or(0, |at| members[usize::from(at)].identity))
                .collect();
            let ring = RingFacts::new(&key, &slots, 0, addresses());
            services.push(statement::service(key, of).with_ring(&ring));
        }
    }
    Statement {
        node: config.node.name.clone(),
        seed: statement::seed(&secret, &config.node.seed),
        vips: config
            .vips
            .iter()
            .map(|vip| {
                let answers = vip.ownership != config::model::Ownership::Route;
                (vip.address, VipStatement { settings: statement::vip_settings(vip), answers })
            })
            .collect(),
        services,
        ..Statement::default()
    }
}

#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
fn some_moment() -> Instant {
    Instant::now()
}

/// What is said after so many seconds in which both have not changed.
fn said(own: &Statement, theirs: &Statement, seconds: u64) -> Vec<String> {
    // As it comes over the wire.
    let theirs: Statement = serde_json::from_slice(&serde_json::to_vec(theirs).unwrap()).unwrap();
    let begun = some_moment();
    let mut memory = Memory::default();
    memory.compare(own, &theirs, begun);
    let found = memory.compare(own, &theirs, begun + Duration::from_secs(seconds));
    assert!(found.iter().all(|mismatch| mismatch.since == begun));
    found.into_iter().map(|mismatch| mismatch.what).collect()
}

#[test]
fn what_differs_is_said() {
    const SEED: &str = "the same on both";
    let plain = config(SEED, &web("", BACKENDS));
    let of = |vips: &str| statement(&config(SEED, vips), &[]);
    let swapped = "{name: x, address: 10.0.0.3}, {name: y, address: 10.0.0.1}, {name: z, address: 10.0.0.2}";
    let own = statement(&plain, &[]);
    for (case, theirs, expected) in [
        ("the same", statement(&plain, &[]), &[][..]),
        ("other names and another order", of(&web("", swapped)), &[]),
        (
            "another seed",
            statement(&config("another one", &web("", BACKENDS)), &[]),
            &["the seed is another one there (`node.seed`)"],
        ),
        (
            "settings",
            of(&web(", idle_timeout: 5m, min_healthy: 2", BACKENDS)),
            &[
                "service web: idle_timeout is the default here and 5m there, min_healthy is the default here and 2 there",
            ],
        ),
        (
            "a backend's weight",
            of(&web("", &BACKENDS.replace("10.0.0.2", "10.0.0.2, weight: 7"))),
            &["service web: backend configured otherwise there: b (10.0.0.2)"],
        ),
        (
            "a backend's check",
            of(&web(", health: {kind: tcp, rise: 5}", BACKENDS)),
            &["service web: backends configured otherwise there: a (10.0.0.1), b (10.0.0.2), c (10.0.0.3)"],
        ),
        (
            "other backends",
            of(&web("", &BACKENDS.replace("10.0.0.2", "10.0.0.9"))),
            &["service web: backend only here: b (10.0.0.2), backend only there: 10.0.0.9"],
        ),
        (
            "another port",
            of(&web("", BACKENDS).replace("port: 80", "port: 81")),
            &[
                "service web (192.0.2.1 port 80/tcp) is only here",
                "service web (192.0.2.1 port 81/tcp) is only there",
            ],
        ),
        (
            "another VIP",
            of(&web("", BACKENDS).replace("192.0.2.1", "192.0.2.2")),
            &["VIP 192.0.2.1 is only here", "VIP 192.0.2.2 is only there"],
        ),
        (
            "another ownership",
            of(&web("", BACKENDS).replace("services", "ownership: vrrp, vrrp: {router_id: 5}, services")),
            &[
                "VIP 192.0.2.1: ownership is always here and vrrp there, vrrp.group is the default here and none there, vrrp.interval is the \
                 default here and 1000ms there, vrrp.router_id is the default here and 5 there",
            ],
        ),
    ] {
        assert_eq!(said(&own, &theirs, 0), expected, "{case}");
    }
}

#[test]
fn rings_may_differ_for_a_moment() {
    let plain =
        config("the same on both", &web(", health: {kind: tcp, interval: 2s, timeout: 1s}", BACKENDS));
    let (own, theirs) = (statement(&plain, &[]), statement(&plain, &["10.0.0.3"]));
    assert_eq!(said(&own, &theirs, 7), [""; 0], "the other node may not have asked yet");
    let slots = own.services[0].listed[&"10.0.0.3".parse::<IpAddr>().unwrap()].slots;
    assert_eq!(
        said(&own, &theirs, 8),
        [format!(
            "service web: the rings differ although the configuration agrees (at least {slots} slots): only this node's has c (10.0.0.3)"
        )]
    );
    assert!(said(&theirs, &own, 8)[0].ends_with("only the one there has c (10.0.0.3)"));
}

#[test]
fn a_difference_that_went_away_begins_anew() {
    let plain = config("the same on both", &web("", BACKENDS));
    let (own, theirs) = (statement(&plain, &[]), statement(&plain, &["10.0.0.3"]));
    let (mut memory, begun) = (Memory::default(), some_moment());
    let mut at = |seconds, theirs: &Statement| {
        memory.compare(&own, theirs, begun + Duration::from_secs(seconds)).len()
    };
    assert_eq!([at(0, &theirs), at(7, &theirs), at(7, &own), at(8, &theirs), at(15, &theirs)], [0; 5]);
    assert_eq!(at(16, &theirs), 1);
}

#[test]
fn shares_may_differ_while_a_backend_returns_slowly() {
    let plain = config("the same on both", &web(", slow_start: 60s", BACKENDS));
    let own = statement(&plain, &[]);
    let mut theirs = own.clone();
    theirs.services[0].ring = "another".to_owned();
    for (listed, slots) in theirs.services[0].listed.values_mut().zip([100, 8000, 8281]) {
        listed.slots = slots;
    }
    assert_eq!(said(&own, &theirs, 67), [""; 0]);
    assert!(said(&own, &theirs, 68)[0].contains("other shares of the same backends"));
}

/// Numbers of a node that is not well added up to more than there is room for, which ended this one.
#[test]
fn shares_beyond_all_numbers_are_only_other_ones() {
    let own = statement(&config("the same on both", &web("", BACKENDS)), &[]);
    let mut theirs = own.clone();
    theirs.services[0].ring = "another".to_owned();
    theirs.services[0].listed.values_mut().for_each(|listed| listed.slots = u32::MAX);
    let moved = 3 * u64::from(u32::MAX) - 16_381;
    assert_eq!(
        said(&own, &theirs, 60),
        [format!(
            "service web: the rings have other shares of the same backends although the configuration agrees (at least {moved} slots)"
        )]
    );
}

#[test]
fn two_active_nodes_are_told_after_a_while() {
    let vrrp = web("", BACKENDS).replace("services", "ownership: vrrp, vrrp: {router_id: 5}, services");
    let own = statement(&config("the same on both", &vrrp), &[]);
    assert_eq!(said(&own, &own, 4), [""; 0], "it may be moving");
    assert_eq!(
        said(&own, &own, 5),
        ["VIP 192.0.2.1: both nodes answer for it: do adverts of VRRP get from one to the other?"]
    );
    let mut backup = own.clone();
    backup.vips.values_mut().for_each(|vip| vip.answers = false);
    assert_eq!(said(&own, &backup, 5), [""; 0]);
    let always = statement(&config("the same on both", &web("", BACKENDS)), &[]);
    assert_eq!(said(&always, &always, 5), [""; 0], "that is what was ordered");
}

/// Nodes with more backends than fit are compared as a whole.
#[test]
fn what_is_not_listed_is_compared_by_its_digest() {
    let (own, mut theirs) = {
        let of = |service: &str| config("the same on both", &web(service, BACKENDS));
        (statement(&of(""), &[]), statement(&of(""), &["10.0.0.3"]))
    };
    theirs.services[0].listed.clear();
    assert_eq!(said(&own, &theirs, 8), ["service web: the rings differ although the configuration agrees"]);
    theirs.services[0].backends = "another".to_owned();
    assert_eq!(said(&own, &theirs, 0), ["service web: its backends are configured otherwise there"]);
}

/// A node of so many services and VIPs that say as much as there is to say.
fn large(services: u32, vips: u32) -> Statement {
    let base = config("the same on both", &web(", idle_timeout: 5m, min_healthy: 2", BACKENDS));
    let Statement { services: stated, .. } = statement(&base, &[]);
    let vip = |number: u32| IpAddr::from(std::net::Ipv6Addr::from_bits(u128::MAX - u128::from(number)));
    let key = |number| ServiceKey { vip: vip(number), ..stated[0].key };
    let listed: BTreeMap<_, _> = stated[0].listed.clone().into_iter().take(1).collect();
    let of = |number| ServiceStatement { key: key(number), listed: listed.clone(), ..stated[0].clone() };
    let group = ("vrrp.group".to_owned(), "a group of a long name ".repeat(10));
    let settings = BTreeMap::from([("ownership".to_owned(), "vrrp".to_owned()), group]);
    let router = |number| RouterStatement {
        id: 255,
        vips: vec![vip(number)],
        address: Some(vip(number)),
        active: false,
        hindrance: Some("all services have too few healthy backends and fail closed ".repeat(3)),
    };
    Statement {
        services: (0..services).map(of).collect(),
        vips: (0..vips)
            .map(|number| (vip(number), VipStatement { settings: settings.clone(), answers: false }))
            .collect(),
        routers: (0..vips).map(router).collect(),
        ..statement(&base, &[])
    }
}

/// It was never told, and nobody saw why nothing was compared.
#[test]
fn what_a_node_of_many_services_and_vips_states_fits_into_a_message() {
    use crate::peering::{channel::LARGEST, message};
    assert_eq!(large(2, 2).fitting(), large(2, 2));
    for (services, vips, left) in
        [(4096, 1, (0, true, 1)), (4096, 2500, (0, false, 2500)), (4096, 4096, (0, false, 0))]
    {
        let told = large(services, vips).fitting();
        let text = message::encode(u64::MAX, Some(&message::Message::Statement(Box::new(told.clone()))));
        assert!(text.len() <= LARGEST, "{} bytes of {services} services and {vips} VIPs", text.len());
        let says_settings = told.vips.values().all(|vip| !vip.settings.is_empty());
        assert_eq!((told.services.len(), says_settings, told.routers.len()), left, "of {vips} VIPs");
        assert_eq!(told.vips.len(), vips as usize);
    }
}

#[test]
fn nodes_that_state_too_much_are_compared_as_a_whole() {
    let own = large(4096, 4096);
    let said_of = |theirs: &Statement, seconds| said(&own, &theirs.fitting(), seconds);
    assert_eq!(said_of(&own, 60), [""; 0]);
    let mut theirs = own.clone();
    theirs.services.reverse();
    assert_eq!(said_of(&theirs, 60), [""; 0], "in another order");
    theirs.services[7].ring = "other".to_owned();
    const MANY: &str = "there are too many to be told one by one";
    let rings = format!("the rings of services differ although the configuration agrees: {MANY}");
    assert_eq!(said_of(&theirs, 1), [""; 0], "it may just have heard of a backend");
    assert_eq!(said_of(&theirs, 60), [rings]);
    theirs.services[7].backends = "other".to_owned();
    let services = format!("services are configured otherwise there: {MANY}");
    assert_eq!(said_of(&theirs, 0), std::slice::from_ref(&services));
    theirs.vips.values_mut().next().unwrap().settings.clear();
    assert_eq!(said_of(&theirs, 0), [format!("VIPs are configured otherwise there: {MANY}"), services]);
    theirs.vips.pop_first();
    assert!(said_of(&theirs, 0)[0].ends_with("is only here"));
}
