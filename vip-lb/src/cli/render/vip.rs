//! Who answers for VIPs, as a page.

use std::net::IpAddr;

use super::{Style, Tone, Toned, event::Moment, quantity};
use crate::api::model::{RouteDeviceKind, RouteStatus, VipStatus, VirtualMacStatus, VrrpState, VrrpStatus};

/// Every VIP, and what its virtual router did last; `now` is in Unix seconds.
pub(in crate::cli) fn vips(vips: &[VipStatus], now: u64, style: Style) -> String {
    if vips.is_empty() {
        return "no VIP is configured\n".to_owned();
    }
    vips.iter().map(|vip| block(vip, now, style)).collect::<Vec<_>>().join("\n")
}

fn block(vip: &VipStatus, now: u64, style: Style) -> String {
    let answers = match (vip.answering, &vip.route) {
        (true, None) => Toned("this node answers", Tone::Good, style),
        (false, None) => Toned("this node does not answer", Tone::Bad, style),
        (true, Some(_)) => Toned("this node publishes a route", Tone::Good, style),
        (false, Some(_)) => Toned("this node publishes no route", Tone::Bad, style),
    };
    let withdrawn = vip.withdrawn.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    let mut text = format!("{}: {answers}{withdrawn}\n", vip.address);
    match (&vip.vrrp, &vip.route) {
        (Some(vrrp), _) => text.push_str(&router(vip.address, vrrp, now)),
        (None, Some(published)) => text.push_str(&route(published, now)),
        (None, None) => text.push_str(&format!("  ownership {}\n", vip.ownership)),
    }
    for other in &vip.second_owners {
        let known = quantity::duration(now.saturating_sub(other.since_ms / 1000));
        text.push_str(&format!("  ! it is also held by {}, for {known}\n", other.owner));
    }
    text
}

fn route(route: &RouteStatus, now: u64) -> String {
    let mut text = format!("  {}", place(route));
    if let Some(last) = route.changes.last() {
        let state = if route.published { "there" } else { "away" };
        let since = quantity::duration(now.saturating_sub(last.time_ms / 1000));
        text.push_str(&format!(": {state} for {since}"));
    }
    if route.restored > 0 {
        let times =
            if route.restored == 1 { "1 time".to_owned() } else { format!("{} times", route.restored) };
        text.push_str(&format!(", put back {times} after somebody else changed it"));
    }
    text.push('\n');
    if let Some(hindrance) = &route.hindrance {
        text.push_str(&format!("  ! {hindrance}\n"));
    }
    for change in &route.changes {
        let state = if change.published { "there" } else { "away" };
        text.push_str(&format!("  {} {state}: {}\n", Moment(change.time_ms), change.why));
    }
    text
}

/// Where in the kernel a route is.
pub(super) fn place(route: &RouteStatus) -> String {
    let kind = match route.device_kind {
        Some(RouteDeviceKind::Dummy) => " (dummy)",
        Some(RouteDeviceKind::Veth) => " (veth)",
        None => "",
    };
    let RouteStatus { protocol, table, metric, device, .. } = route;
    format!("route of protocol {protocol} in table {table}, metric {metric}, to {device}{kind}")
}

fn router(address: IpAddr, vrrp: &VrrpStatus, now: u64) -> String {
    let group = vrrp.group.as_ref().map_or_else(String::new, |group| format!(", group {group}"));
    let lowered = vrrp.priority != vrrp.base_priority;
    let of = if lowered { format!(" of {}", vrrp.base_priority) } else { String::new() };
    let mut text = format!(
        "  vrrp {} on {}, priority {}{of}{group}: {}",
        vrrp.router_id,
        vrrp.interface,
        vrrp.priority,
        state(vrrp.state)
    );
    if let Some(last) = vrrp.changes.last() {
        text.push_str(&format!(" for {}", quantity::duration(now.saturating_sub(last.time_ms / 1000))));
    }
    if let Some(lease) = vrrp.lease_ms {
        text.push_str(&format!(", lease for {lease} ms"));
    }
    match (vrrp.active, vrrp.heard) {
        (Some(active), _) => {
            text.push_str(&format!(", {} is active with priority {}", active.address, active.priority));
        }
        (None, Some(heard)) => text.push_str(&format!(", heard last: {heard}")),
        (None, None) => {}
    }
    text.push('\n');
    if let Some(order) = vrrp.handed_over {
        let ago = quantity::duration(now.saturating_sub(order.since_ms / 1000));
        text.push_str(&format!(
            "  handed over by the operator {ago} ago: `vip-lb handover {address} --back` takes it back\n"
        ));
    }
    for tracker in &vrrp.trackers {
        let effect = tracker.priority.map_or_else(|| "takes no part".to_owned(), |by| by.to_string());
        let reason = tracker.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        let (mark, state) = if tracker.failing { ("!", effect) } else { ("-", "well".to_owned()) };
        text.push_str(&format!("  {mark} {}: {state}{reason}\n", tracker.tracker));
    }
    if let Some(mac) = &vrrp.virtual_mac {
        text.push_str(&virtual_mac(mac, &vrrp.interface));
    }
    if let Some(interface) = &vrrp.address_on {
        text.push_str(&format!("  the address is on {interface}\n"));
    }
    let discarded: Vec<_> =
        vrrp.adverts_discarded.iter().map(|(why, count)| format!("{count} as {why}")).collect();
    let discarded = if discarded.is_empty() { "none".to_owned() } else { discarded.join(", ") };
    text.push_str(&format!(
        "  adverts: {} sent, {} received, discarded {discarded}\n",
        vrrp.adverts_sent, vrrp.adverts_received
    ));
    for note in vrrp.hindrance.iter().chain(&vrrp.conflict).chain(&vrrp.unheard) {
        text.push_str(&format!("  ! {note}\n"));
    }
    for change in &vrrp.changes {
        text.push_str(&format!("  {} {}: {}\n", Moment(change.time_ms), state(change.state), change.why));
    }
    text
}

fn virtual_mac(mac: &VirtualMacStatus, interface: &str) -> String {
    let VirtualMacStatus { address, admitted, device, no_device } = mac;
    let taken = if *admitted { "taken" } else { "not taken" };
    let by = match (device, no_device) {
        (Some(device), _) => format!(" ({device} is {})", if *admitted { "up" } else { "down" }),
        (None, Some(why)) if *admitted => format!(" as long as the daemon runs: {why}"),
        (None, Some(why)) => format!(", and not by a macvlan: {why}"),
        (None, None) => String::new(),
    };
    format!("  virtual MAC {address}, {taken} on {interface}{by}\n")
}

fn state(state: VrrpState) -> &'static str {
    match state {
        VrrpState::Initialize => "takes no part",
        VrrpState::Backup => "backup",
        VrrpState::Active => "active",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;

    #[test]
    fn who_answers_and_why() {
        let sample = samples::status().vips;
        let expected = "\
192.0.2.10: this node answers
  ownership always
  ! it is also held by 02:00:00:00:00:09 (192.0.2.77) on eth0, for 3m 0s

2001:db8::10: this node does not answer: this node is drained by the operator
  vrrp 51 on eth0, priority 100 of 150, group all: backup for 1m 0s, fe80::1 is active with priority 200
  handed over by the operator 1m 0s ago: `vip-lb handover 2001:db8::10 --back` takes it back
  ! interface eth1: -50: it is down or has no link
  - healthy 50%: well
  virtual MAC 00:00:5e:00:02:33, not taken on eth0 (vlb-v6-51 is down)
  adverts: 600 sent, 7 received, discarded 2 as ttl
  2023-11-14T22:13:20.000Z backup: it is able to forward
  2023-11-14T22:14:20.000Z active: the active node was silent (fe80::1)
  2023-11-14T22:15:20.500Z backup: a node of higher priority is active (fe80::1)

203.0.113.10: this node publishes a route
  route of protocol 118 in table 254, metric 1024, to vip-lb (dummy): there for 2m 0s, put back 1 time after somebody else changed it
  2023-11-14T22:13:20.000Z away: this node is drained by the operator
  2023-11-14T22:14:20.000Z there: this node is able to forward
";
        assert_eq!(vips(&sample, 1_700_000_180, Style::Plain), expected);
        assert_eq!(vips(&[], 0, Style::Plain), "no VIP is configured\n");
    }
}
