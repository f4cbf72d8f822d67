//! What differs between two configurations, in words.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU16};

use crate::config::{
    Config,
    model::{Backend, ForwardMode, Ports, Protocol, Service, Vip},
};

/// One line per difference, in the order of the files. Empty if both mean the same.
pub(super) fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    if old.node != new.node {
        changes.push("node: changed".to_owned());
    }
    for vip in &new.vips {
        match old.vips.iter().find(|known| known.address == vip.address) {
            None => changes.push(format!("VIP {}: added", vip.address)),
            Some(known)
                if (known.ownership, known.unknown_service) != (vip.ownership, vip.unknown_service) =>
            {
                changes.push(format!("VIP {}: changed", vip.address));
            }
            Some(_) => {}
        }
    }
    for vip in &old.vips {
        if !new.vips.iter().any(|kept| kept.address == vip.address) {
            changes.push(format!("VIP {}: removed", vip.address));
        }
    }
    let (before, after) = (services(old), services(new));
    for (key, service) in &after {
        match before.get(key) {
            None => changes.push(format!("service {}: added", service.name)),
            Some(known) => service_changes(known, service, &mut changes),
        }
    }
    for (key, service) in &before {
        if !after.contains_key(key) {
            changes.push(format!("service {}: removed", service.name));
        }
    }
    changes
}

fn services<'c>(config: &'c Config) -> BTreeMap<(IpAddr, Ports, Protocol), &'c Service> {
    let of_vip = |vip: &'c Vip| vip.services.iter().map(|of| ((vip.address, of.ports, of.protocol), of));
    config.vips.iter().flat_map(of_vip).collect()
}

fn service_changes(old: &Service, new: &Service, changes: &mut Vec<String>) {
    let shape = |service: &Service| Service { backends: Vec::new(), ..service.clone() };
    if shape(old) != shape(new) {
        changes.push(format!("service {}: changed", new.name));
    }
    for backend in &new.backends {
        let name = format!("backend {}/{}", new.name, backend.name);
        match old.backends.iter().find(|known| known.address == backend.address) {
            None => changes.push(format!("{name}: added")),
            Some(known) => backend_changes(&name, known, backend, changes),
        }
    }
    for backend in &old.backends {
        if !new.backends.iter().any(|kept| kept.address == backend.address) {
            changes.push(format!(
                "backend {}/{}: removed, its connections stay until they end",
                new.name, backend.name
            ));
        }
    }
}

fn backend_changes(name: &str, old: &Backend, new: &Backend, changes: &mut Vec<String>) {
    if old.weight != new.weight {
        changes.push(format!("{name}: weight {} -> {}", old.weight, new.weight));
    }
    if old.state != new.state {
        changes.push(format!("{name}: state {} -> {}", old.state, new.state));
    }
    if old.mode != new.mode {
        let translated = [old.mode, new.mode].contains(&ForwardMode::Nat);
        let end = if translated { ", its connections end" } else { "" };
        changes.push(format!("{name}: mode {} -> {}{end}", old.mode, new.mode));
    }
    if old.port != new.port {
        let shown =
            |port: Option<NonZeroU16>| port.map_or_else(|| "as dialled".to_owned(), |port| port.to_string());
        changes.push(format!("{name}: port {} -> {}, its connections end", shown(old.port), shown(new.port)));
    }
    let rest = |backend: &Backend| Backend {
        weight: new.weight,
        state: new.state,
        mode: new.mode,
        port: new.port,
        ..backend.clone()
    };
    if rest(old) != *new {
        changes.push(format!("{name}: changed"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(backends: &str) -> Config {
        let text = format!(
            "node: {{name: a, seed: 'some long seed', interfaces: [eth0]}}\nvips:\n  - address: 192.0.2.1\n    services:\n      \
             - name: web\n        port: 80\n        mode: l2\n        backends: [{backends}]\n"
        );
        crate::config::parse(&text, Path::new("c.yaml")).unwrap().config
    }

    #[test]
    fn what_ends_translated_connections_is_said() {
        let old = config("{name: a, address: 10.0.0.1}, {name: b, address: 10.0.0.2, mode: nat}");
        let new = config(
            "{name: a, address: 10.0.0.1, mode: ipip}, {name: b, address: 10.0.0.2, mode: nat, port: 8080, health: {port: 80}}",
        );
        assert_eq!(
            changes(&old, &new),
            ["backend web/a: mode l2 -> ipip", "backend web/b: port as dialled -> 8080, its connections end"]
        );
        assert_eq!(
            changes(&new, &config("{name: a, address: 10.0.0.1, mode: nat}"))[0],
            "backend web/a: mode ipip -> nat, its connections end"
        );
    }

    #[test]
    fn each_difference_has_its_line() {
        let old = config("{name: a, address: 10.0.0.1}, {name: b, address: 10.0.0.2}");
        let new =
            config("{name: b, address: 10.0.0.2, weight: 7, state: drain}, {name: c, address: 10.0.0.3}");
        assert_eq!(changes(&old, &old), [""; 0]);
        assert_eq!(
            changes(&old, &new),
            [
                "backend web/b: weight 100 -> 7",
                "backend web/b: state enabled -> drain",
                "backend web/c: added",
                "backend web/a: removed, its connections stay until they end",
            ]
        );
    }
}
