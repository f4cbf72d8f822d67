//! The ways to the backends.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    backend::RP_FILTER,
    config::{
        Config,
        model::{AttachMode, ForwardMode, Ownership, Route},
    },
    doctor::{BackendPath, Check, Facts, Finding, PathAnswer},
    network::{NextHop, Sysctl, Via},
};

/// The smallest packet that every IPv6 sender may send whole (RFC 8200 section 5).
const IPV6_LEAST: u32 = 1280;

/// A backend as the checks see it: its name, how it is reached, and from which families its packets come.
struct Target<'a> {
    /// `service/backend`.
    name: String,
    address: IpAddr,
    mode: ForwardMode,
    /// Whether clients are of IPv6.
    inner_is_v6: bool,
    /// Its VIP, and that one's route where it has one.
    vip: IpAddr,
    route: Option<&'a Route>,
    path: &'a BackendPath,
}

pub(super) fn all(config: &Config, facts: &Facts) -> Vec<Finding> {
    let paths: BTreeMap<IpAddr, &BackendPath> = facts.paths.iter().map(|path| (path.address, path)).collect();
    // What concerns a host rather than a service is said once.
    let mut findings: Vec<Finding> = Vec::new();
    for finding in targets(config, &paths).iter().flat_map(|target| way(target, facts)) {
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

fn targets<'a>(config: &'a Config, paths: &BTreeMap<IpAddr, &'a BackendPath>) -> Vec<Target<'a>> {
    let mut targets = Vec::new();
    for vip in &config.vips {
        for service in &vip.services {
            for backend in &service.backends {
                let Some(path) = paths.get(&backend.address) else { continue };
                targets.push(Target {
                    name: format!("{}/{}", service.name, backend.name),
                    address: backend.address,
                    mode: backend.mode,
                    inner_is_v6: vip.address.is_ipv6(),
                    vip: vip.address,
                    route: vip.route.as_ref().filter(|_| vip.ownership == Ownership::Route),
                    path,
                });
            }
        }
    }
    targets
}

fn way(target: &Target<'_>, facts: &Facts) -> Vec<Finding> {
    let Target { name, address, .. } = target;
    let (next_hop, egress) = match &target.path.answer {
        PathAnswer::Found { next_hop, egress, .. } => (next_hop, egress),
        PathAnswer::Missing(reason) => {
            return vec![Finding::problem(
                Check::Route,
                format!("{name} ({address}): {reason}"),
                "the backend gets no packets; give the host a route to it, with `ip route add`",
            )];
        }
    };
    let NextHop::Via(via) = next_hop else {
        return vec![Finding::ok(Check::Route, format!("{name} ({address}) is this host"))];
    };
    if let (ForwardMode::L2, Some(router)) = (target.mode, via.gateway) {
        return vec![Finding::problem(
            Check::Route,
            format!("{name} ({address}) is behind the router {router}"),
            "mode l2 changes MAC addresses alone, and a router sends the packet back to the VIP: the backend has to be in \
             the node's segment, or in mode ipip or gue",
        )];
    }
    let mut findings = vec![Finding::ok(Check::Route, format!("{name} ({address}) is reached by {egress}"))];
    findings.push(neighbour(via, egress));
    findings.extend(redirect(target, facts));
    findings.extend(mtu(target, via));
    findings.extend(reverse_path(target, egress, facts));
    findings
}

fn neighbour(via: &Via, egress: &str) -> Finding {
    let neighbour = via.neighbour;
    match via.mac {
        Some(_) => Finding::ok(Check::Neighbour, format!("the MAC address of {neighbour} is known")),
        None => Finding::warning(
            Check::Neighbour,
            format!("the MAC address of {neighbour} on {egress} is not known"),
            "without it nothing can be sent there; the daemon asks for it and keeps it fresh, so if this stays so while it \
             runs, the host is off or in another segment",
        )
        .mended_by(format!("ping -c 1 -W 2 {neighbour}")),
    }
}

/// Drivers send what a program on another interface redirects to them, or drop it.
fn redirect(target: &Target<'_>, facts: &Facts) -> Option<Finding> {
    let PathAnswer::Found { egress, features: Some(features), .. } = &target.path.answer else { return None };
    // Generic mode sends by any interface, and one with a program of its own may send once that is there.
    let is_redirected = facts
        .interfaces
        .iter()
        .any(|interface| interface.name != *egress && interface.wanted != AttachMode::Generic);
    let has_program = facts.interfaces.iter().any(|interface| interface.name == *egress);
    if !is_redirected || has_program {
        return None;
    }
    Some(if features.sends_redirected() {
        Finding::ok(Check::Egress, format!("{egress} sends what comes in by other interfaces"))
    } else {
        Finding::problem(
            Check::Egress,
            format!("the driver of {egress} does not send what is redirected to it now"),
            "packets to backends there are dropped: add the interface to `node.interfaces` if its driver needs a program for \
             that, or use `attach: generic` where packets come in",
        )
    })
}

/// Backends that answer from a VIP through this node as their router, which has a route to the VIP itself: strictly seen, that is where such packets ought
/// to come from. IPv6 has no such filter.
fn reverse_path(target: &Target<'_>, egress: &str, facts: &Facts) -> Option<Finding> {
    let Target { mode, vip, route: Some(route), .. } = target else { return None };
    let asks_its_table = route.table == Route::default().table;
    if vip.is_ipv6() || *mode == ForwardMode::Nat || !facts.routes || !asks_its_table {
        return None;
    }
    if !facts.strict.iter().any(|strict| strict == egress) {
        return Some(Finding::ok(
            Check::ReversePath,
            format!("{egress} lets in what backends there answer from {vip}"),
        ));
    }
    Some(
        Finding::warning(
            Check::ReversePath,
            format!(
                "rp_filter of {egress} is strict, and {vip}, from which backends there answer, has its route to {}",
                route.device
            ),
            "where this node is their router, it drops their answers: they do not come in by the way to their source. A \
             `route.table` of its own helps as well",
        )
        .mended_by(format!("sysctl -w {}=2", Sysctl::ipv4(egress, RP_FILTER))),
    )
}

fn mtu(target: &Target<'_>, via: &Via) -> Option<Finding> {
    let PathAnswer::Found { egress, interface_mtu, .. } = &target.path.answer else { return None };
    let Target { name, address, mode, inner_is_v6, .. } = target;
    let added = added(*mode, *address, *inner_is_v6)?;
    let (path, least) = (via.mtu, IPV6_LEAST + added);
    if *inner_is_v6 && path < least {
        let finding = Finding::problem(
            Check::Mtu,
            format!("the way to {name} ({address}) takes {path} bytes, with {added} for mode {mode}"),
            format!(
                "IPv6 clients need not send less than {IPV6_LEAST} bytes, which makes {least}: larger packets never arrive"
            ),
        );
        // A route that says less is not mended by its interface.
        return Some(match path < *interface_mtu {
            true => finding,
            false => finding.mended_by(format!("ip link set dev {egress} mtu {least}")),
        });
    }
    if added == 0 {
        return None;
    }
    let wanted = path + added;
    Some(Finding::note(
        Check::Mtu,
        format!("the way to {name} ({address}) takes {path} bytes, with {added} for mode {mode}"),
        format!(
            "full-size packets of clients do not fit: they are told by ICMP, once each. An MTU of {wanted} on the way to the \
             backends spares that, and so do smaller segments: see the page on MTU"
        ),
    ))
}

/// Bytes that a mode adds to a packet on its way to a backend; `None` where it adds none and none are missed.
fn added(mode: ForwardMode, backend: IpAddr, inner_is_v6: bool) -> Option<u32> {
    let outer = if backend.is_ipv4() { 20 } else { 40 };
    match mode {
        ForwardMode::L2 => Some(0),
        ForwardMode::Ipip => Some(outer),
        ForwardMode::Gue => Some(outer + 8),
        // Of IPv4 and IPv6 headers the longer one may come instead of the shorter one.
        ForwardMode::Nat if !inner_is_v6 && backend.is_ipv6() => Some(20),
        ForwardMode::Nat => None,
    }
}

#[cfg(test)]
#[path = "path/tests.rs"]
mod tests;
