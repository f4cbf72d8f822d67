//! What a configuration and the network make of the entries.

use std::path;

use super::*;
use crate::{config, control::slow_start::WHOLE};

/// Everything is well, and reached over one router-less link.
struct Site {
    next_hop: NextHop,
    foreign: Option<IpAddr>,
    node_drained: bool,
    closed: bool,
}

impl Site {
    fn new(vlan: Option<u16>) -> Self {
        let via = Via {
            ifindex: 4,
            device: 4,
            source_mac: [1; 6],
            gateway: None,
            neighbour: address("10.0.0.9"),
            mac: Some([2; 6]),
            mtu: 1500,
            preferred_source: address("10.0.0.1"),
            vlan,
        };
        Self { next_hop: NextHop::Via(via), foreign: None, node_drained: false, closed: false }
    }
}

impl Facts for Site {
    fn standing(&self, _: &ServiceKey, _: &model::Backend) -> Standing {
        Standing::Serving
    }

    fn next_hop(&self, _: IpAddr) -> Option<&NextHop> {
        Some(&self.next_hop)
    }

    fn share(&self, _: &ServiceKey, _: IpAddr) -> u8 {
        WHOLE
    }

    fn is_closed(&self, _: &ServiceKey) -> bool {
        self.closed
    }

    fn is_node_drained(&self) -> bool {
        self.node_drained
    }

    fn sampling(&self, _: &ServiceKey) -> u32 {
        16
    }

    fn is_of_host(&self, address: IpAddr) -> bool {
        self.foreign != Some(address)
    }

    fn router_address(&self, vip: IpAddr) -> Option<IpAddr> {
        vip.is_ipv4().then(|| address("10.0.0.5"))
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn config(node: &str, service: &str) -> Config {
    let text = format!(
        "node: {{seed: a long enough seed, interfaces: [eth0]{node}}}\nvips:\n  - address: 198.51.100.10\n    services:\n      \
         - {{name: web, port: 80, {service}}}\n"
    );
    config::parse(&text, path::Path::new("c.yaml")).unwrap_or_else(|errors| panic!("{errors}")).config
}

fn only_service(desired: &Desired) -> &DesiredService {
    desired.services.values().next().expect("the service")
}

/// The entry of the only backend.
fn entry(config: &Config, site: &Site) -> Backend {
    let desired = Desired::new(config, site);
    only_service(&desired).backends.values().next().expect("the backend").path.entry()
}

#[test]
fn each_mode_has_its_entry() {
    let sources = ", tunnel_source_v6: '2001:db8::1', nat: {source_v4: 10.0.0.5, source_v6: '2001:db8::5'}";
    let (v4, v6) = ("10.0.0.2", "2001:db8::2");
    for (mode, backend, expected, source, port) in [
        ("l2", v4, Mode::L2, "::", 0),
        ("ipip", v4, Mode::IpipV4, "10.0.0.1", 0),
        ("ipip", v6, Mode::IpipV6, "2001:db8::1", 0),
        ("gue", v4, Mode::GueV4, "10.0.0.1", 0),
        ("gue", v6, Mode::GueV6, "2001:db8::1", 0),
        ("nat", v4, Mode::NatV4, "10.0.0.5", 0),
        ("nat", v6, Mode::NatV6, "2001:db8::5", 0),
        ("nat, port: 8080", v4, Mode::NatV4, "10.0.0.5", 8080),
    ] {
        let service = format!("health: none, backends: [{{name: a, address: '{backend}', mode: {mode}}}]");
        let config = config(sources, &service);
        let found = entry(&config, &Site::new(None));
        assert_eq!(found.mode, expected as u8, "{mode} to {backend}");
        assert_eq!((found.egress, found.mtu, found.vlan), (4, 1500, 0));
        assert_eq!(found.macs, [2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]);
        if expected != Mode::L2 {
            let ends = (IpAddr::from(found.source), IpAddr::from(found.address));
            assert_eq!(ends, (address(source), address(backend)), "{mode}");
        }
        assert_eq!(found.port, port, "{mode}");
        let sums = matches!(expected, Mode::IpipV4 | Mode::GueV4);
        let base = outer_checksum_base([10, 0, 0, 1], [10, 0, 0, 2]);
        assert_eq!(found.outer_checksum, if sums { base } else { 0 }, "{mode} to {backend}");
        let tagged = entry(&config, &Site::new(Some(7)));
        let expected = Backend { mode: found.mode | Backend::TAGGED, vlan: 7, ..found };
        assert_eq!(tagged, expected, "{mode} on a VLAN");
    }
}

#[test]
fn a_service_says_what_its_packets_may_ask() {
    let flags_of = |service: &str| {
        let config = config("", &format!("{service}, backends: [{{name: a, address: 10.0.0.2}}]"));
        let desired = Desired::new(&config, &Site::new(None));
        let service = only_service(&desired);
        (service.flags & !ServiceRef::SAMPLE, service.options.mss, service.options.icmp_rate)
    };
    assert_eq!(flags_of("mode: gue"), (0, 0, 100));
    assert_eq!(flags_of("mode: l2, mss: 1400, icmp_rate: 5"), (ServiceRef::CLAMP, 1400, 5));
    assert_eq!(
        flags_of("mode: nat, affinity: source"),
        (ServiceRef::NAT | ServiceRef::SOURCE_AFFINITY, 0, 100)
    );
}

#[test]
fn as_many_flows_are_looked_at_as_traffic_or_configuration_say() {
    let sampled = |service: &str| {
        let config = config("", &format!("mode: l2{service}, backends: [{{name: a, address: 10.0.0.2}}]"));
        only_service(&Desired::new(&config, &Site::new(None))).flags & ServiceRef::SAMPLE
    };
    assert_eq!(sampled(""), ServiceRef::sampling(16), "as the traffic says");
    assert_eq!(sampled(", passive: on"), ServiceRef::sampling(16));
    assert_eq!(sampled(", passive: on, passive_sample: 1000"), ServiceRef::sampling(256));
    assert_eq!(sampled(", passive: off, passive_sample: 1"), 0);
    assert_eq!(sampled(", protocol: udp, health: none"), 0);
}

#[test]
fn sources_of_translation_are_answered_for_where_the_host_does_not() {
    let backends =
        "mode: nat, backends: [{name: a, address: 10.0.0.2}, {name: b, address: 10.0.0.3, mode: l2}]";
    let by_route = Desired::new(&config("", backends), &Site::new(None));
    assert_eq!(by_route.nat_sources, BTreeMap::from([(address("10.0.0.1"), Vip::NAT_SOURCE)]));
    let config = config(", nat: {source_v4: 10.0.0.5, source_v6: '2001:db8::5'}", backends);
    for (foreign, answer) in [(None, 0), (Some(address("10.0.0.5")), Vip::ANSWER)] {
        let desired = Desired::new(&config, &Site { foreign, ..Site::new(None) });
        let expected = BTreeMap::from([(address("10.0.0.5"), Vip::NAT_SOURCE | answer)]);
        assert_eq!(desired.nat_sources, expected, "only of the family that is translated to");
        let mut unresolved = Site { foreign, ..Site::new(None) };
        if let NextHop::Via(via) = &mut unresolved.next_hop {
            via.mac = None;
        }
        let desired = Desired::new(&config, &unresolved);
        assert_eq!(desired.nat_sources, expected, "answers come back though the next hop is not known");
    }
}

#[test]
fn adverts_are_noted_where_peers_send_them_to() {
    let vrrp = |vip: &str, peers: &str| {
        let text = format!(
            "node: {{seed: a long enough seed, interfaces: [eth0]}}\nvips:\n  - {{address: '{vip}', ownership: vrrp, vrrp: {{router_id: \
             7{peers}}}}}\n"
        );
        config::parse(&text, path::Path::new("c.yaml")).unwrap_or_else(|errors| panic!("{errors}")).config
    };
    for (vip, peers, expected) in [
        ("198.51.100.10", "", Some("224.0.0.18")),
        ("2001:db8::10", "", Some("ff02::12")),
        ("198.51.100.10", ", peers: [10.0.0.7]", Some("10.0.0.5")),
        ("2001:db8::10", ", peers: ['fe80::7']", None),
    ] {
        let desired = Desired::new(&vrrp(vip, peers), &Site::new(None));
        assert_eq!(desired.adverts, expected.map(address).into_iter().collect(), "{vip}{peers}");
    }
    let alone = config("", "mode: l2, backends: [{name: a, address: 10.0.0.2}]");
    assert_eq!(Desired::new(&alone, &Site::new(None)).adverts, BTreeSet::new());
}

#[test]
fn tunnels_of_peers_end_at_local_backends_of_both_kinds() {
    for (mode, ends) in [("ipip", true), ("gue", true), ("l2", false), ("nat", false)] {
        let service = format!("mode: {mode}, backends: [{{name: a, address: 10.0.0.2}}]");
        let local = Site { next_hop: NextHop::Local, ..Site::new(None) };
        let with_peers = Desired::new(&config(", peers: [10.0.0.7]", &service), &local);
        let expected = if ends { BTreeSet::from([address("10.0.0.2")]) } else { BTreeSet::new() };
        assert_eq!(with_peers.endpoints, expected, "{mode}");
        assert_eq!(with_peers.tunnel_peers.is_empty(), !ends, "{mode}");
        let alone = Desired::new(&config("", &service), &local);
        assert!(alone.endpoints.is_empty(), "{mode}");
        assert!(with_peers.nat_sources.is_empty(), "{mode}: what is here is not translated");
    }
}

#[test]
fn a_drained_node_gives_up_its_vips_and_changes_nothing_else() {
    let service = "mode: l2, backends: [{name: a, address: 10.0.0.9}]";
    let (enabled, drained) = (config("", service), config(", state: drain", service));
    let vip = address("198.51.100.10");
    let site = |node_drained| Site { node_drained, ..Site::new(None) };
    let usual = Desired::new(&enabled, &site(false));
    assert_eq!((usual.vips[&vip], usual.claims[&vip]), (Vip::ANSWER, Claim::Wanted));
    for (config, node_drained, why) in [
        (&drained, false, Withdrawal::NodeConfigured),
        (&enabled, true, Withdrawal::NodeOrdered),
        (&drained, true, Withdrawal::NodeOrdered),
    ] {
        let found = Desired::new(config, &site(node_drained));
        assert_eq!((found.vips[&vip], found.claims[&vip]), (0, Claim::Withdrawn(why)));
        assert_eq!(found.services, usual.services, "what comes is forwarded as before");
    }
    let closed = Desired::new(&enabled, &Site { closed: true, ..Site::new(None) });
    assert_eq!((closed.vips[&vip], closed.claims[&vip]), (0, Claim::Withdrawn(Withdrawal::Closed)));
}

#[test]
fn a_vip_with_a_virtual_mac_carries_its_routers_identifier() {
    let of = |keys: &str| {
        let text = format!(
            "node: {{seed: a long enough seed, interfaces: [eth0]}}\nvips:\n  - {{address: 198.51.100.10, ownership: vrrp, vrrp: \
             {{router_id: 51{keys}}}}}\n"
        );
        let config =
            config::parse(&text, path::Path::new("c.yaml")).unwrap_or_else(|errors| panic!("{errors}"));
        Desired::new(&config.config, &Site::new(None)).vips[&address("198.51.100.10")]
    };
    let own = Vip { flags: of(""), ..Vip::default() };
    assert_eq!(own.virtual_mac(true), None);
    let with = Vip { flags: of(", virtual_mac: true"), ..Vip::default() };
    assert_eq!(with.virtual_mac(true).map(|mac| mac.to_string()).as_deref(), Some("00:00:5e:00:01:33"));
    assert_eq!(with.flags & !Vip::ROUTER, own.flags, "nothing else is different");
}
