//! Status as people read it.

use super::*;
use crate::{api::samples, config::model::ForwardMode};

#[test]
fn a_page() {
    let expected = "\
edge1: vip-lb 0.1.0, pid 4711, up 1d 2h
configuration /etc/vip-lb/vip-lb.yaml, hash 3f9a12bc, loaded 5m 0s ago
this node is drained by the operator 1m 30s ago: it gives up its VIPs, and forwards what comes
without a daemon packets go to the host after 30s
warning: eth1: its driver has no native XDP, attached in generic mode

INTERFACE     INDEX  MODE     VLAN OFFLOAD
eth0              2  native   turned off
eth1 (bond0)     13  generic  -
bond0: eth1 standby; eth2 active, not attached yet; eth3 down, attached, its link is awaited

host 10.0.0.13: drained by the operator 1m 5s ago, 1 backend

PEER   ADDRESS     CONNECTED  VERSION  AGREES
edge2  192.0.2.12      1d 3h  0.1.0    yes
edge3  192.0.2.13      1d 3h  0.1.0    no
! edge3 (192.0.2.13): service web: idle_timeout is the default here and 5m there, for 40s

VIP 192.0.2.10, ownership always, answering

  web: tcp port 80, affinity flow, 16381 slots, 41 open (3 recorded flows, 1 newborn, 5 survivors)
  5.1k packets/s, 32.1 Mbit/s, 277 connections/s; total 2.5M packets, 2.0 GB, 80.2k connections
  1 of 2 backends healthy, 1 needed; 1 kept although their checks fail, as too many failed at once
    BACKEND  ADDRESS    MODE  WEIGHT  SHARE  HEALTH     STATE     PKT/S  CONN/S  NEXT HOP
    b1       10.0.0.11  ipip     100  50.0%  up 2h 1m   in ring    5.1k     277  eth0 02:00:00:00:00:11
    b2       10.0.0.12  ipip     100   0.0%  down 12s   out           0       0  eth0 unresolved
    b3       10.0.0.13  l2        50   0.0%  unchecked  draining     12     0.4  local
    b2 is down: connection refused
    b2 is out: health check failed
    b3 is draining: drained by the operator
    b3 is remembered by 41 open slots and 3 recorded flows

VIP 2001:db8::10, ownership vrrp 51 on eth0, priority 100, backup because a node of higher priority is active (fe80::1), not answering: this node is drained by the operator

  dns: every udp port, affinity source, 16381 slots, all closed
  0 packets/s, 0 bit/s, 0 connections/s; total 0 packets, 0 B, 0 connections
    BACKEND  ADDRESS         MODE  WEIGHT   SHARE  HEALTH    STATE    PKT/S  CONN/S  NEXT HOP
    r1       2001:db8:1::53  ipip     100  100.0%  up 2h 1m  in ring   5.1k     277  eth1 02:00:00:00:01:53
    r1 answers its probes in 0.40 ms (median), the others of this service in 0.10 ms

VIP 203.0.113.10, ownership route of protocol 118 in table 254, metric 1024, to vip-lb (dummy), published

TABLE    ENTRIES  CAPACITY  FILLED
FLOWS          3    262144    0.0%
NEWBORN    32768     65536   50.0%
";
    let page = status(&samples::status(), samples::NOW, Style::Plain);
    assert_eq!(page, expected, "\n{page}");
}

#[test]
fn colour_changes_nothing_but_colour() {
    let plain = status(&samples::status(), samples::NOW, Style::Plain);
    let mut coloured = status(&samples::status(), samples::NOW, Style::Coloured);
    assert!(coloured.contains("\x1b[31mdown 12s\x1b[0m"), "{coloured}");
    for code in ["\x1b[0m", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
        coloured = coloured.replace(code, "");
    }
    assert_eq!(coloured, plain);
}

#[test]
fn what_holds_a_backend_back_is_said() {
    let mut backend = samples::status().vips[0].services[0].backends[0].clone();
    assert_eq!(notes(&backend), [""; 0]);
    backend.admin = AdminState::Disabled;
    backend.forwarding.state = ForwardingState::Out;
    assert_eq!(notes(&backend), ["b1 is disabled in the configuration"]);
    backend.admin = AdminState::Enabled;
    backend.drained_by_operator = true;
    assert_eq!(notes(&backend), ["b1 is out: `vip-lb undrain b1` ends this"]);
    backend.health.reason = Some("status 500, expected 200-399".into());
    assert_eq!(notes(&backend)[0], "b1 is up: status 500, expected 200-399");
    backend.nat_connections = 17;
    assert_eq!(notes(&backend).last().unwrap(), "b1 has 17 translated connections");
}

#[test]
fn a_floor_is_told_with_what_is_done_about_it() {
    let floor = |state, tier, held| FloorStatus { state, healthy: 1, needed: 2, wanted: 4, tier, held };
    for (floor, words) in [
        (floor(FloorState::Open, 0, 0), ": fails open, the first tier is used whatever its checks say"),
        (floor(FloorState::Closed, 1, 0), ": fails closed, nobody gets new connections"),
        (floor(FloorState::Backup, 1, 0), ": the backup tier is used whatever its checks say"),
        (floor(FloorState::Met, 0, 0), ""),
        (
            floor(FloorState::Met, 1, 3),
            "; tiers up to 1 are in use; 3 kept although their checks fail, as too many failed at once",
        ),
    ] {
        assert_eq!(floor_in_words(&floor), format!("1 of 4 backends healthy, 2 needed{words}"));
    }
}

#[test]
fn latencies_are_a_table_for_each_service() {
    let expected = "\
web
  BACKEND  PROBES      P50      P90    P99  CONNECT P50      P90      P99
  b1          100  0.40 ms  0.52 ms  12 ms      0.10 ms  0.15 ms  1.25 ms
  b2            0        -        -      -            -        -        -
  b3            0        -        -      -            -        -        -

dns
  BACKEND  PROBES      P50      P90    P99  CONNECT P50      P90      P99
  r1          100  0.40 ms  0.52 ms  12 ms      0.10 ms  0.15 ms  1.25 ms  4 times its peers

";
    let page = latencies(&samples::status(), Style::Plain);
    assert_eq!(page, expected, "\n{page}");
}

#[test]
fn a_weight_that_does_not_count_as_a_whole_is_told_in_part() {
    let mut backend = samples::status().vips[0].services[0].backends[0].clone();
    assert_eq!(weight(&backend), "100");
    backend.weight_percent = 30;
    assert_eq!(weight(&backend), "30 of 100");
    backend.weight = 5;
    assert_eq!(weight(&backend), "1.5 of 5");
}

#[test]
fn a_range_of_ports_and_every_mode_have_their_words() {
    let mut answer = samples::status();
    let service = &mut answer.vips[0].services[0];
    service.port = Ports::Range(8000, 8999);
    service.backends[0].mode = ForwardMode::Gue;
    service.backends[1].mode = ForwardMode::Nat;
    let page = status(&answer, samples::NOW, Style::Plain);
    for text in
        ["  web: tcp ports 8000-8999, affinity flow", "b1       10.0.0.11  gue ", "b2       10.0.0.12  nat "]
    {
        assert!(page.contains(text), "no {text:?} in\n{page}");
    }
}

/// A clock that was set back must not end the command.
#[test]
fn a_clock_before_the_start_shows_no_time() {
    assert!(status(&samples::status(), 0, Style::Plain).contains("up 0s"));
}
