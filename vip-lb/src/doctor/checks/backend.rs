//! The host of a backend.

use std::path::Path;

use crate::{
    backend::{self, HostFacts, NeedKind, Wish},
    config::model::ForwardMode,
    doctor::{Check, Finding},
    network::LOOPBACK,
};

/// Everything that is to be said of the host of a backend.
#[must_use]
pub fn backend(wish: &Wish, facts: &HostFacts, pins: &Path) -> Vec<Finding> {
    let mut findings: Vec<Finding> = backend::needs(wish, facts, pins)
        .into_iter()
        .map(|need| {
            let check = check_of(need.kind);
            match need.found {
                None => Finding::ok(check, need.what),
                // That may be what unpacks; nobody can tell from here for whom.
                Some(found) if check == Check::Decapsulation && !facts.tunnels.is_empty() => Finding::note(
                    check,
                    format!("{found}, but the kernel's tunnel devices are up: {}", facts.tunnels.join(", ")),
                    need.why,
                ),
                Some(found) => Finding::problem(check, found, need.why).mended_by(need.command),
            }
        })
        .collect();
    findings.extend(elsewhere(wish, facts));
    findings.extend(segment_size(wish, facts));
    if findings.is_empty() {
        findings.push(Finding::ok(Check::Address, "mode nat needs no setting of the backend's host"));
    }
    findings
}

fn check_of(kind: NeedKind) -> Check {
    match kind {
        NeedKind::Arp => Check::Arp,
        NeedKind::ReversePath => Check::ReversePath,
        NeedKind::Ipv6 => Check::Ipv6,
        NeedKind::Decapsulation => Check::Decapsulation,
        NeedKind::Address => Check::Address,
    }
}

/// An address of an interface is answered for on its segment, whatever the settings.
fn elsewhere(wish: &Wish, facts: &HostFacts) -> Vec<Finding> {
    if wish.mode == ForwardMode::Nat {
        return Vec::new();
    }
    let strange = |held: &&crate::network::HostAddress| {
        held.interface != LOOPBACK.0 && wish.vips.contains(&held.address)
    };
    facts
        .addresses
        .iter()
        .filter(strange)
        .map(|held| {
            Finding::problem(
                Check::Vip,
                format!("{} has {}", held.interface, held.address),
                "this host answers for addresses of that interface, and takes the VIP away from the nodes: it belongs on lo",
            )
            .mended_by(format!("ip address del {}/{} dev {}", held.address, held.length, held.interface))
        })
        .collect()
}

fn segment_size(wish: &Wish, facts: &HostFacts) -> Vec<Finding> {
    backend::segment_sizes(wish, facts)
        .into_iter()
        .map(|advice| {
            let found = "segments of uploads do not fit the tunnel";
            let finding = Finding::note(Check::SegmentSize, found, advice.text);
            match advice.command {
                Some(command) => finding.mended_by(command),
                None => finding,
            }
        })
        .collect()
}
