//! Ranges of ports, fragments, and backends that connections are translated to.

use super::*;

/// Of one service on port 80 whose backends are translated.
fn nat(backends: &[(u8, Standing)]) -> Desired {
    let mut wanted = desired(&[(web(80), backends)]);
    let service = wanted.services.get_mut(&web(80)).expect("the service");
    for (address, backend) in &mut service.backends {
        let IpAddr::V4(v4) = address else { unreachable!("addresses of tests are IPv4") };
        backend.path = translated(v4.octets()[3], 8080);
    }
    service.flags = ServiceRef::NAT;
    wanted.nat_sources.insert(source(), Vip::NAT_SOURCE | Vip::ANSWER);
    wanted
}

/// With another path to the first backend.
fn with_path(mut wanted: Desired, path: Path) -> Desired {
    let service = wanted.services.get_mut(&web(80)).expect("the service");
    service.backends.get_mut(&address(1)).expect("the first backend").path = path;
    wanted
}

/// A live connection to a backend.
fn connection(world: &World, backend: BackendRef) -> nat::Look {
    let service = world.id(&web(80));
    let flow_key = FlowKey { source_port: 1, destination_port: 80, service, ..FlowKey::default() };
    let flow = NatFlow { backend, port: 61_000, seen: world.now, marks: 1, ..NatFlow::default() };
    let reply_key = NatReplyKey { port: 61_000, protocol: 6, ..NatReplyKey::default() };
    let reply = NatReply {
        client_port: 1,
        vip_port: 80,
        service,
        backend,
        seen: world.now,
        marks: 1,
        ..NatReply::default()
    };
    nat::Look { flows: vec![(flow_key, flow)], replies: vec![(reply_key, reply)] }
}

#[test]
fn a_removed_translated_backend_lingers_until_no_connection_names_it() {
    let mut world = World::new();
    world.reconcile(&nat(&[(1, SERVING), (2, SERVING)]));
    let gone = world.reference(&web(80), 1);
    let without = desired(&[(web(80), &[(2, SERVING)])]);
    world.reconcile(&without);
    world.settle();
    for _ in ["running", "found"] {
        assert!(world.engine.wants_connections());
        assert_eq!(world.collect_connections(&connection(&world, gone)), []);
        world.reconcile(&without);
        assert_eq!(world.reference(&web(80), 1), gone, "no slot names it, but a connection does");
        let service = world.maps.service(&web(80)).expect("the service");
        assert_ne!(service.flags & ServiceRef::NAT, 0, "its connections have to be looked for");
        let flags = world.maps.vips[&source()].flags;
        assert_eq!(flags, Vip::NAT_SOURCE | Vip::ANSWER, "its answers come back");
        world.restart();
        world.reconcile(&without);
        world.settle();
    }
    // A former one that a restarted daemon found is freed as late as any.
    let mut ended = connection(&world, gone);
    ended.flows[0].1.seen = 0;
    ended.replies[0].1.seen = 0;
    assert_eq!(world.collect_connections(&ended).len(), 1);
    assert_eq!(world.reference(&web(80), 1), gone, "it may have been touched before it was removed");
    assert_eq!(world.collect_connections(&nat::Look::default()), []);
    assert_eq!(world.maps.backend(identity_of(&web(80), 1)), None);
    world.reconcile(&without);
    assert_eq!(world.maps.service(&web(80)).map(|service| service.flags), Some(0));
    assert!(!world.maps.vips.contains_key(&source()));
    world.collect_connections(&nat::Look::default());
    assert!(!world.engine.wants_connections(), "nothing is translated any more");
}

#[test]
fn a_vip_is_no_source_of_translated_packets() {
    let mut world = World::new();
    let mut wanted = nat(&[(1, SERVING)]);
    assert_eq!(world.engine.reconcile(&wanted, world.now).warnings, [""; 0]);
    wanted.nat_sources.insert(vip(1), Vip::NAT_SOURCE);
    let plan = world.engine.reconcile(&wanted, world.now);
    assert!(plan.warnings[0].contains("would leave with 192.0.2.1, which is a VIP"), "{:?}", plan.warnings);
    let told =
        plan.writes.iter().any(|write| matches!(write, Write::Vip { address, .. } if *address == vip(1)));
    assert!(!told, "the VIP stays what it is");
}

#[test]
fn a_backend_that_the_ring_still_names_stays_without_connections() {
    let mut world = World::new();
    world.reconcile(&nat(&[(1, SERVING), (2, SERVING)]));
    let gone = world.reference(&web(80), 1);
    world.reconcile(&nat(&[(2, SERVING)]));
    assert!(world.open_slots(&web(80)) > 1000);
    world.collect_connections(&nat::Look::default());
    assert_eq!(world.reference(&web(80), 1), gone, "a handshake may still be sent to it");
}

#[test]
fn connections_survive_what_they_do_not_rely_on() {
    let mut world = World::new();
    let wanted = nat(&[(1, SERVING), (2, SERVING)]);
    world.reconcile(&wanted);
    let before = world.reference(&web(80), 1);
    world.reconcile(&with_path(wanted.clone(), Path::Unresolved));
    assert_eq!(world.reference(&web(80), 1), before, "its next hop is not known for a moment");
    let Path::Nat { link, source, destination, port } = translated(1, 8080) else { unreachable!() };
    let elsewhere = Path::Nat { link: Link { interface: 7, ..link }, source, destination, port };
    world.reconcile(&with_path(wanted.clone(), elsewhere));
    assert_eq!(world.reference(&web(80), 1), before, "another way to the same place");
    world.restart();
    world.reconcile(&wanted);
    assert_eq!(world.reference(&web(80), 1), before);

    // Without translation packets stay what they are, whatever is put around them.
    let mut world = World::new();
    world.reconcile(&desired(&[(web(80), &[(1, SERVING), (2, SERVING)])]));
    let before = world.reference(&web(80), 1);
    let Path::L2(link) = path(1) else { unreachable!() };
    let tunnel = |link| Path::Gue { link, source, destination };
    for path in [tunnel(link.clone()), Path::Ipip { link, source, destination }, path(1)] {
        world.reconcile(&with_path(desired(&[(web(80), &[(1, SERVING), (2, SERVING)])]), path));
        assert_eq!(world.reference(&web(80), 1), before);
        assert_eq!(world.open_slots(&web(80)), 0);
    }
}

#[test]
fn connections_end_with_what_they_rely_on() {
    let Path::Nat { link, source, destination, .. } = translated(1, 8080) else { unreachable!() };
    let another: IpAddr = Ipv4Addr::new(10, 0, 1, 2).into();
    for (name, path) in [
        ("another port", translated(1, 8081)),
        ("another source", Path::Nat { link: link.clone(), source: another, destination, port: 8080 }),
        ("no translation", path(1)),
        ("a tunnel", Path::Ipip { link, source, destination }),
        ("this host", Path::Local),
    ] {
        for restarts in [false, true] {
            let mut world = World::new();
            let wanted = nat(&[(1, SERVING), (2, SERVING)]);
            world.reconcile(&wanted);
            let before = world.reference(&web(80), 1);
            let connection = connection(&world, before);
            assert_eq!(world.collect_connections(&connection), [], "{name}");
            if restarts {
                world.restart();
            }
            // The maps see to it that the ring never names the former life.
            world.reconcile(&with_path(wanted.clone(), path.clone()));
            let after = world.reference(&web(80), 1);
            assert_ne!(after.index, before.index, "{name}");
            assert_eq!(world.collect_connections(&connection).len(), 1, "{name}");
            assert_eq!(
                world.open_slots(&web(80)),
                0,
                "{name}: nothing of the former life is worth remembering"
            );
            // And back.
            world.reconcile(&wanted);
            assert_ne!(world.reference(&web(80), 1), after, "{name}");
        }
    }
}

#[test]
fn a_daemon_that_ends_while_a_backend_begins_anew_leaves_one_of_both_lives() {
    let before = desired(&[(web(80), &[(1, SERVING), (2, SERVING)])]);
    let after = nat(&[(1, SERVING), (2, SERVING)]);
    let writes = {
        let mut world = World::new();
        world.reconcile(&before);
        world.engine.reconcile(&after, world.now).writes.len()
    };
    for lived in 0..=writes {
        for wanted in [&before, &after] {
            let mut world = World::new();
            world.reconcile(&before);
            let plan = world.engine.reconcile(&after, world.now);
            for write in &plan.writes[..lived] {
                world.maps.write(write);
            }
            world.restart();
            world.reconcile(wanted);
            world.restart();
            assert_eq!(world.reconcile(wanted), [], "after {lived} writes");
            let used = world.maps.backends.values().filter(|backend| backend.identity != 0);
            assert_eq!(used.count(), 2, "after {lived} writes");
        }
    }
}

#[test]
fn a_number_rests_while_translated_connections_of_its_service_are_left() {
    let mut world = World::new();
    world.reconcile(&nat(&[(1, SERVING)]));
    let (id, connection) = (world.id(&web(80)), connection(&world, world.reference(&web(80), 1)));
    world.reconcile(&Desired::default());
    world.collect(&[]);
    let other = desired(&[(web(81), &[(1, SERVING)])]);
    world.reconcile(&other);
    assert_ne!(world.id(&web(81)), id, "its connections were not looked through");
    assert_eq!(world.collect_connections(&connection).len(), 1);
    world.collect(&[]);
    assert!(world.engine.wants_connections());
    assert_eq!(world.collect_connections(&nat::Look::default()), []);
    assert!(!world.engine.wants_connections());
    world.collect(&[]);
    world.reconcile(&desired(&[(web(81), &[(1, SERVING)]), (web(82), &[(1, SERVING)])]));
    assert_eq!(world.id(&web(82)), id);
}

#[test]
fn flags_but_for_affinity_may_change_at_any_time() {
    let mut world = World::new();
    let plain = desired(&[(web(80), &[(1, SERVING)]), (range((8000, 8999)), &[(1, SERVING)])]);
    let mut other = plain.clone();
    for service in other.services.values_mut() {
        service.flags = ServiceRef::NAT | ServiceRef::CLAMP;
        service.options.mss = 1400;
    }
    world.reconcile(&plain);
    for wanted in [&other, &plain] {
        assert_eq!(world.engine.refusals(wanted), []);
        world.reconcile(wanted);
        for (key, service) in &wanted.services {
            let found = world.maps.service(key).expect("the service");
            assert_eq!(found.flags, service.flags, "{key:?}");
            assert_eq!(world.maps.options[&found.id], service.options, "{key:?}");
        }
        world.restart();
        assert_eq!(world.engine.refusals(wanted), []);
    }
}

#[test]
fn options_are_written_before_their_service_is_seen() {
    let mut world = World::new();
    let writes = world.reconcile(&desired(&[(range((8000, 8999)), &[(1, SERVING)])]));
    let at = |wanted: fn(&Write) -> bool| writes.iter().position(wanted).expect("such a write");
    let options = at(|write| matches!(write, Write::ServiceOptions { .. }));
    let ring = at(|write| matches!(write, Write::Ring(_)));
    let range = at(|write| matches!(write, Write::Range { .. }));
    let vip = at(|write| matches!(write, Write::Vip { .. }));
    assert!(options < ring && ring < range && range < vip, "{writes:?}");
    let removed = world.reconcile(&Desired::default());
    let vip = removed.iter().position(|write| matches!(write, Write::RemoveVip(_)));
    let range = removed.iter().position(|write| matches!(write, Write::RemoveRange { .. }));
    assert!(vip < range && world.maps.ranges.is_empty(), "{removed:?}");
}

#[test]
fn a_port_of_its_own_comes_before_a_range_and_a_range_before_every_port() {
    let mut world = World::new();
    let all: [(ServiceKey, &[(u8, Standing)]); 4] = [
        (web(0), &[(1, SERVING)]),
        (range((8000, 8999)), &[(1, SERVING)]),
        (web(8080), &[(1, SERVING)]),
        (ServiceKey { protocol: Protocol::Udp, ..range((8000, 8999)) }, &[(1, SERVING)]),
    ];
    world.reconcile(&desired(&all));
    let at = |world: &World, port| world.maps.service_at(vip(1), Protocol::Tcp, port).map(|found| found.id);
    for (port, key) in
        [(80, web(0)), (7999, web(0)), (8000, all[1].0), (8080, all[2].0), (8999, all[1].0), (9000, web(0))]
    {
        assert_eq!(at(&world, port), Some(world.id(&key)), "port {port}");
    }
    world.reconcile(&desired(&all[..2]));
    assert_eq!(at(&world, 8080), Some(world.id(&all[1].0)));
    world.reconcile(&desired(&all[..1]));
    assert_eq!(at(&world, 8080), Some(world.id(&web(0))));
    assert!(world.maps.ranges.is_empty());
}

#[test]
fn another_range_is_another_service_even_where_they_overlap() {
    let mut world = World::new();
    world.reconcile(&desired(&[(range((8000, 8999)), &[(1, SERVING)])]));
    let (id, before) = (world.id(&range((8000, 8999))), world.reference(&range((8000, 8999)), 1));
    world.restart();
    let wider = range((8000, 9999));
    world.reconcile(&desired(&[(wider, &[(1, SERVING)])]));
    assert_ne!(world.id(&wider), id);
    assert_ne!(world.reference(&wider, 1), before);
    for port in [8000, 8999, 9999] {
        assert_eq!(
            world.maps.service_at(vip(1), Protocol::Tcp, port).map(|found| found.id),
            Some(world.id(&wider))
        );
    }
    assert_eq!(world.maps.service_at(vip(1), Protocol::Tcp, 10_000), None);
}

#[test]
fn fragments_have_a_service_where_there_is_one_only_and_it_needs_no_ports() {
    const UDP: u8 = Protocol::Udp.number();
    let udp = |ports| ServiceKey { vip: vip(1), ports, protocol: Protocol::Udp };
    let by_source = |keys: &[ServiceKey]| {
        let services: Vec<_> = keys.iter().map(|&key| (key, &[(1, SERVING)][..])).collect();
        let mut wanted = desired(&services);
        for (key, service) in &mut wanted.services {
            if key.protocol == Protocol::Udp {
                service.flags = ServiceRef::SOURCE_AFFINITY;
            }
        }
        wanted
    };
    for (name, keys, expected) in [
        ("one port", vec![udp(Ports::One(53))], true),
        ("a range", vec![udp(Ports::Range(8000, 8999))], true),
        ("every port", vec![udp(Ports::Every)], true),
        ("one of another protocol, too", vec![udp(Ports::One(53)), web(53)], true),
        ("two ports", vec![udp(Ports::One(53)), udp(Ports::One(54))], false),
        ("a port and all others", vec![udp(Ports::One(53)), udp(Ports::Every)], false),
        ("affinity by flow", vec![web(53)], false),
    ] {
        let mut world = World::new();
        world.reconcile(&by_source(&keys));
        let vip_of = |world: &World| world.maps.vips[&vip(1)];
        let entry = |world: &World| {
            world.maps.ports.get(&(vip_of(world).id, 0, UDP, PortKey::FRAGMENTS)).map(|service| service.id)
        };
        assert_eq!(vip_of(&world).flags & Vip::FRAGMENTS != 0, expected, "{name}");
        assert_eq!(entry(&world), expected.then(|| world.id(&keys[0])), "{name}");
        world.restart();
        assert_eq!(world.reconcile(&by_source(&keys)), [], "{name}");
        world.reconcile(&by_source(&[udp(Ports::One(1)), udp(Ports::One(2))]));
        assert_eq!(entry(&world), None, "{name}");
    }
}
