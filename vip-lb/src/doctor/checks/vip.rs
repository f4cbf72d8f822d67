//! What else on the host concerns the addresses of the configuration.

use std::net::IpAddr;

use crate::{
    config::{
        Config,
        model::{ForwardMode, Vip},
    },
    doctor::{Check, Facts, Finding, PathAnswer},
    network::{LOOPBACK, NextHop},
};

pub(super) fn all(config: &Config, facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = config.vips.iter().map(|vip| holder(vip, facts)).collect();
    findings.extend(nat_ports(config, facts));
    findings
}

/// The node's stack must not have a VIP, unless the node is a backend too, and then on its loopback alone.
fn holder(vip: &Vip, facts: &Facts) -> Finding {
    let own = vip.vrrp.as_ref().filter(|_| vip.is_plain()).map(|vrrp| vrrp.interface.as_str());
    let vip = vip.address;
    let is_backend = facts
        .paths
        .iter()
        .any(|path| matches!(path.answer, PathAnswer::Found { next_hop: NextHop::Local, .. }));
    let held = facts
        .addresses
        .iter()
        .find(|held| held.address == vip && !(is_backend && held.interface == LOOPBACK.0));
    match held {
        Some(held) if own == Some(held.interface.as_str()) => {
            Finding::ok(Check::Vip, format!("{} has {vip}, as its owner puts it there", held.interface))
        }
        None => Finding::ok(Check::Vip, format!("{vip} is no address of this host's stack")),
        Some(held) => Finding::problem(
            Check::Vip,
            format!("{} has {vip}", held.interface),
            "the program answers for a VIP; the stack that has it too answers ARP and connections itself, and never \
             sends what is meant for its backends out",
        )
        .mended_by(format!("ip address del {vip}/{} dev {}", held.length, held.interface)),
    }
}

/// Translated connections that share an address with the host must not share its ports.
fn nat_ports(config: &Config, facts: &Facts) -> Vec<Finding> {
    let Some((first_local, last_local)) = facts.local_ports else { return Vec::new() };
    let sources = facts.paths.iter().filter_map(|path| {
        let is_translated = config
            .vips
            .iter()
            .flat_map(|vip| &vip.services)
            .flat_map(|service| &service.backends)
            .any(|backend| backend.address == path.address && backend.mode == ForwardMode::Nat);
        let PathAnswer::Found { next_hop: NextHop::Via(via), .. } = &path.answer else { return None };
        is_translated.then(|| config.node.nat.source(path.address).unwrap_or(via.preferred_source))
    });
    let mut shared: Vec<IpAddr> =
        sources.filter(|source| facts.addresses.iter().any(|held| held.address == *source)).collect();
    shared.sort();
    shared.dedup();
    shared
        .into_iter()
        .map(|source| {
            let (first, last) = config.node.nat.ports_for(true);
            if last < first_local || last_local < first {
                return Finding::ok(
                    Check::NatPorts,
                    format!("{source} has ports {first} to {last} for translated connections, and others for the host's"),
                );
            }
            // The host's own range ends below, as far as that leaves it anything.
            let finding = Finding::problem(
                Check::NatPorts,
                format!(
                    "{source} has ports {first} to {last} for translated connections, and {first_local} to {last_local} \
                     for the host's own"
                ),
                "answers to the host's own connections from such a port are taken for those of backends, or the other \
                 way round; or give `node.nat` an address of its own",
            );
            match first.checked_sub(1).filter(|end| *end > first_local) {
                Some(end) => {
                    finding.mended_by(format!("sysctl -w net.ipv4.ip_local_port_range=\"{first_local} {end}\""))
                }
                None => finding,
            }
        })
        .collect()
}
