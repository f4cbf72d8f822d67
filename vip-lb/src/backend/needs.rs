//! What a backend needs in each mode, and whether it has it: pure.

use std::{net::IpAddr, path::Path};

use serde::Serialize;

use super::{
    facts::{ARP_ANNOUNCE, ARP_IGNORE, DISABLE_IPV6, HostFacts, RP_FILTER},
    record::Change,
};
use crate::{
    config::model::{DEFAULT_GUE_PORT, DEFAULT_PINS, ForwardMode},
    dataplane::Decapsulator,
    network::{LOOPBACK, Sysctl},
};

/// Bytes of an IPv4 header, an IPv6 header and a UDP header.
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;
const UDP_HEADER: u32 = 8;
/// Bytes of a TCP header without options.
const TCP_HEADER: u32 = 20;

/// What a host is to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The VIPs.
    pub vips: Vec<IpAddr>,
    /// How the nodes send their packets.
    pub mode: ForwardMode,
    /// Outer sources of tunnelled packets, or sources of translated ones: addresses and prefix lengths of the nodes.
    pub from: Vec<(IpAddr, u8)>,
    /// UDP port that GUE packets come to.
    pub gue_port: u16,
}

/// One thing that a backend needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Which kind of thing.
    pub kind: NeedKind,
    /// What has to be so, in words: `net.ipv4.conf.all.arp_ignore is 1`.
    pub what: String,
    /// What it is instead, where it is not so.
    pub found: Option<String>,
    /// What it is needed for.
    pub why: &'static str,
    /// The command that makes it so.
    pub command: String,
    /// The change that makes it so; `None` if it is so already.
    #[serde(skip)]
    pub change: Option<Change>,
}

/// Kinds of needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NeedKind {
    /// Silence about the VIP on the segment.
    Arp,
    /// A reverse path filter that lets packets in whose replies leave elsewhere.
    ReversePath,
    /// IPv6 on the loopback and on the interface.
    Ipv6,
    /// The unpacking of tunnels.
    Decapsulation,
    /// The VIP as an address of the host.
    Address,
}

/// What else is worth doing; no change of this host that could be put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// In words.
    pub text: String,
    /// The command that does it.
    pub command: Option<String>,
}

/// What the host needs, in the order in which it is done: it is silent about a VIP, and unpacks its packets, before it has it.
#[must_use]
pub fn needs(wish: &Wish, facts: &HostFacts, pins: &Path) -> Vec<Need> {
    if wish.mode == ForwardMode::Nat {
        return Vec::new();
    }
    let mut needs = Vec::new();
    if wish.vips.iter().any(IpAddr::is_ipv4) {
        needs.extend(silence(facts));
        needs.push(reverse_path(facts));
    }
    if wish.vips.iter().any(IpAddr::is_ipv6) {
        needs.extend([LOOPBACK.0, &facts.interface.name].map(|scope| ipv6(facts, scope)));
    }
    if matches!(wish.mode, ForwardMode::Ipip | ForwardMode::Gue) {
        needs.push(decapsulation(wish, facts, pins));
    }
    needs.extend(wish.vips.iter().map(|vip| address(facts, *vip)));
    needs
}

fn silence(facts: &HostFacts) -> Vec<Need> {
    const IGNORE: &str = "Linux answers ARP for any address of the host on any interface, and would take the VIP away from \
                          the node: answer for addresses of the interface that was asked alone";
    const ANNOUNCE: &str =
        "keeps the VIP out of the host's own ARP requests, by which neighbours learn who has it";
    // Of the values of arp_ignore only these answer for the interface's own addresses and no others.
    let quiet = |value: i64| matches!(value, 1 | 2);
    let all_quiet = facts.ethernet.iter().all(|name| quiet(facts.effective(name, ARP_IGNORE)));
    let all_silent = facts.ethernet.iter().all(|name| facts.effective(name, ARP_ANNOUNCE) == 2);
    let mut needs = vec![sysctl(facts, NeedKind::Arp, Sysctl::ipv4("all", ARP_IGNORE), 1, all_quiet, IGNORE)];
    // The larger value counts, so one that is too large has to be lowered where it is.
    let loud =
        |name: &&String| facts.sysctls.get(&Sysctl::ipv4(name, ARP_IGNORE)).is_some_and(|value| *value > 2);
    needs.extend(
        facts
            .ethernet
            .iter()
            .filter(loud)
            .map(|name| sysctl(facts, NeedKind::Arp, Sysctl::ipv4(name, ARP_IGNORE), 1, false, IGNORE)),
    );
    needs.push(sysctl(facts, NeedKind::Arp, Sysctl::ipv4("all", ARP_ANNOUNCE), 2, all_silent, ANNOUNCE));
    needs
}

fn reverse_path(facts: &HostFacts) -> Need {
    let interface = &facts.interface.name;
    // 1 is strict; the larger value counts, and 2 is loose.
    let is_lax = facts.effective(interface, RP_FILTER) != 1;
    sysctl(
        facts,
        NeedKind::ReversePath,
        Sysctl::ipv4(interface, RP_FILTER),
        2,
        is_lax,
        "strict filtering drops packets of clients whose replies leave by another interface",
    )
}

fn ipv6(facts: &HostFacts, scope: &str) -> Need {
    let setting = Sysctl::ipv6(scope, DISABLE_IPV6);
    let is_on = facts.sysctls.get(&setting) == Some(&0);
    sysctl(
        facts,
        NeedKind::Ipv6,
        setting,
        0,
        is_on,
        "an IPv6 VIP needs IPv6 on the loopback and the interface",
    )
}

fn sysctl(
    facts: &HostFacts,
    kind: NeedKind,
    setting: Sysctl,
    value: i64,
    is_met: bool,
    why: &'static str,
) -> Need {
    let current = facts.sysctls.get(&setting).copied();
    let found = (!is_met).then(|| match current {
        Some(current) => format!("{setting} is {current}"),
        None => format!("{setting} does not exist"),
    });
    let what = match current.filter(|_| is_met) {
        Some(current) => format!("{setting} is {current}"),
        None => format!("{setting} is {value}"),
    };
    Need {
        kind,
        what,
        found,
        why,
        command: format!("sysctl -w {setting}={value}"),
        change: (!is_met).then(|| Change::Sysctl { setting, before: current.unwrap_or(0), after: value }),
    }
}

fn address(facts: &HostFacts, vip: IpAddr) -> Need {
    let length = if vip.is_ipv4() { 32 } else { 128 };
    let is_met = facts.addresses.iter().any(|held| held.interface == LOOPBACK.0 && held.address == vip);
    Need {
        kind: NeedKind::Address,
        what: format!("lo has {vip}/{length}"),
        found: (!is_met).then(|| format!("lo does not have {vip}")),
        why: "packets are addressed to the VIP: the stack takes them, and answers from it, only if it has the address",
        command: format!("ip address add {vip}/{length} dev lo"),
        change: (!is_met).then_some(Change::Address(vip)),
    }
}

fn decapsulation(wish: &Wish, facts: &HostFacts, pins: &Path) -> Need {
    let interface = &facts.interface.name;
    // What is unpacked for others stays.
    let before = facts.decapsulator.as_ref();
    let mut after = Decapsulator {
        from: wish.from.iter().copied().collect(),
        vips: wish.vips.iter().copied().collect(),
        gue_port: wish.gue_port,
    };
    let is_met = before.is_some_and(|before| {
        let is_port = wish.mode != ForwardMode::Gue || before.gue_port == after.gue_port;
        is_port && before.from.is_superset(&after.from) && before.vips.is_superset(&after.vips)
    });
    if let Some(before) = before {
        after.from.extend(&before.from);
        after.vips.extend(&before.vips);
        if wish.mode != ForwardMode::Gue {
            after.gue_port = before.gue_port;
        }
    }
    Need {
        kind: NeedKind::Decapsulation,
        what: format!("{interface} unpacks {}", describe(wish, &after)),
        found: (!is_met).then(|| match before {
            Some(before) => format!("{interface} unpacks {}", describe(wish, before)),
            None => format!("no tunnels are unpacked on {interface}"),
        }),
        why: "packets come inside another IP header addressed to this host, which something has to take off",
        command: decap_command(interface, &after, pins),
        change: (!is_met).then(|| Change::Decapsulation {
            interface: interface.clone(),
            before: before.cloned(),
            after,
        }),
    }
}

fn describe(wish: &Wish, decapsulator: &Decapsulator) -> String {
    let tunnel = match wish.mode {
        ForwardMode::Gue => format!("gue on port {}", decapsulator.gue_port),
        _ => "ipip".to_owned(),
    };
    format!("{tunnel} from {} for {}", prefixes(&decapsulator.from, ", "), list(&decapsulator.vips, ", "))
}

fn decap_command(interface: &str, decapsulator: &Decapsulator, pins: &Path) -> String {
    let from = prefixes(&decapsulator.from, " ");
    let vips = list(&decapsulator.vips, " ");
    let mut command = format!("vip-lb decap --interface {interface} --from {from} --vip {vips}");
    if decapsulator.gue_port != DEFAULT_GUE_PORT {
        command.push_str(&format!(" --gue-port {}", decapsulator.gue_port));
    }
    if pins != Path::new(DEFAULT_PINS) {
        command.push_str(&format!(" --pins {}", pins.display()));
    }
    command
}

/// What else is worth doing.
#[must_use]
pub fn advice(wish: &Wish, facts: &HostFacts) -> Vec<Advice> {
    let mut advice = Vec::new();
    let mut say = |text: String| advice.push(Advice { text, command: None });
    let nodes = if wish.from.is_empty() { "the nodes".to_owned() } else { prefixes(&wish.from, ", ") };
    match wish.mode {
        ForwardMode::L2 => {}
        ForwardMode::Ipip => {
            say(format!(
                "a firewall in front of this host has to let IP protocols 4 and 41 in from {nodes}; the host's own \
                 sees the inner packets alone"
            ));
        }
        ForwardMode::Gue => {
            let port = wish.gue_port;
            say(format!(
                "a firewall in front of this host has to let UDP port {port} in from {nodes}; the host's own sees the \
                 inner packets alone"
            ));
        }
        ForwardMode::Nat => {
            say(format!(
                "mode nat needs no setting: packets come from {nodes}, to this host's own address, and replies go back \
                 there by any route"
            ));
        }
    }
    if wish.mode == ForwardMode::Nat {
        say("the service listens on this host's own address, at the port of the backend".to_owned());
    } else {
        say("the service listens on the VIP, or on all addresses, and on this host's own for the health check".to_owned());
        say("settings, addresses and programs are gone after a reboot: let a unit run this with --apply at boot".to_owned());
    }
    advice.extend(segment_sizes(wish, facts));
    advice
}

/// What the SYN-ACKs of this host should announce, so that uploads fit the tunnel: those do not pass the node.
#[must_use]
pub fn segment_sizes(wish: &Wish, facts: &HostFacts) -> Vec<Advice> {
    let Some(tunnel) = tunnel_headers(wish) else { return Vec::new() };
    let mtu = facts.interface.mtu;
    let mut advice = Vec::new();
    for is_v4 in [true, false] {
        if !wish.vips.iter().any(|vip| vip.is_ipv4() == is_v4) {
            continue;
        }
        let inner = if is_v4 { IPV4_HEADER } else { IPV6_HEADER };
        let size = mtu.saturating_sub(tunnel + inner + TCP_HEADER);
        let routes = facts.default_routes.iter().filter(|route| route.is_v4 == is_v4);
        advice.extend(routes.filter(|route| route.advmss.is_none_or(|mss| mss > size)).map(|route| {
            let family = if is_v4 { "" } else { "-6 " };
            Advice {
                text: format!(
                    "tunnelled packets have {tunnel} bytes more: where the way from the nodes takes {mtu} bytes, segments of \
                     clients fit without being told by ICMP if the route to them announces {size}"
                ),
                command: Some(format!("ip {family}route change {route} advmss {size}")),
            }
        }));
    }
    advice
}

/// Bytes that the mode adds to a packet, `None` if none. Of two families of outer headers the larger counts.
fn tunnel_headers(wish: &Wish) -> Option<u32> {
    let has_v6 = wish.from.iter().any(|(address, _)| address.is_ipv6());
    let outer = if has_v6 { IPV6_HEADER } else { IPV4_HEADER };
    match wish.mode {
        ForwardMode::Ipip => Some(outer),
        ForwardMode::Gue => Some(outer + UDP_HEADER),
        ForwardMode::L2 | ForwardMode::Nat => None,
    }
}

fn prefixes<'a>(prefixes: impl IntoIterator<Item = &'a (IpAddr, u8)>, separator: &str) -> String {
    let texts = prefixes.into_iter().map(|(address, length)| format!("{address}/{length}"));
    texts.collect::<Vec<_>>().join(separator)
}

fn list<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>, separator: &str) -> String {
    addresses.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
#[path = "needs/tests.rs"]
mod tests;
