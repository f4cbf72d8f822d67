//! What differs between two configurations.

use std::{collections::BTreeMap, fmt::Display, net::IpAddr};

use crate::{
    api::model::{Change, ChangeAction, Subject},
    config::{
        Config,
        model::{
            AdminState, Api, Backend, ForwardMode, Interface, Nat, Node, Peering, Ports, Protocol, Service,
            Tables, Vip, Watchdog, shown_duration,
        },
    },
};

/// Every difference, in the order of the files. Empty if both mean the same.
pub(super) fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    node_changes(&old.node, &new.node, &mut changes);
    host_changes(old, new, &mut changes);
    for vip in &new.vips {
        let about = About { subject: Subject::Vip, name: Some(vip.address.to_string()) };
        match old.vips.iter().find(|known| known.address == vip.address) {
            None => changes.push(about.is(ChangeAction::Added)),
            Some(known) => {
                let mut keys = Keys { about, changes: &mut changes };
                keys.compare("ownership", &known.ownership, &vip.ownership);
                keys.compare_hidden("vrrp", &known.vrrp, &vip.vrrp);
                keys.compare_hidden("route", &known.route, &vip.route);
                keys.compare("unknown_service", &known.unknown_service, &vip.unknown_service);
                keys.compare_hidden("prefix_length", &known.prefix_length, &vip.prefix_length);
            }
        }
    }
    for vip in &old.vips {
        if !new.vips.iter().any(|kept| kept.address == vip.address) {
            let about = About { subject: Subject::Vip, name: Some(vip.address.to_string()) };
            changes.push(about.is(ChangeAction::Removed));
        }
    }
    let (before, after) = (services(old), services(new));
    for (key, service) in &after {
        match before.get(key) {
            None => changes.push(About::service(service).is(ChangeAction::Added)),
            Some(known) => service_changes(known, service, &mut changes),
        }
    }
    for (key, service) in &before {
        if !after.contains_key(key) {
            let removed = About::service(service).is(ChangeAction::Removed);
            changes.push(Change { note: Some("its connections are lost".to_owned()), ..removed });
        }
    }
    changes
}

/// What a change is about.
struct About {
    subject: Subject,
    name: Option<String>,
}

impl About {
    fn service(service: &Service) -> Self {
        Self { subject: Subject::Service, name: Some(service.name.clone()) }
    }

    fn backend(service: &Service, backend: &Backend) -> Self {
        Self { subject: Subject::Backend, name: Some(format!("{}/{}", service.name, backend.name)) }
    }

    fn is(&self, action: ChangeAction) -> Change {
        let (subject, name) = (self.subject, self.name.clone());
        Change { subject, name, action, key: None, from: None, to: None, note: None }
    }
}

/// Compares the values of one mapping key by key.
struct Keys<'c> {
    about: About,
    changes: &'c mut Vec<Change>,
}

impl Keys<'_> {
    fn compare<T: PartialEq + Display>(&mut self, key: &str, old: &T, new: &T) {
        self.compare_shown(key, old, new, |value| Some(value.to_string()));
    }

    fn compare_optional<T: PartialEq + Display>(&mut self, key: &str, old: &Option<T>, new: &Option<T>) {
        self.compare_shown(key, old, new, |value| value.as_ref().map(T::to_string));
    }

    /// Compares what has no short text.
    fn compare_hidden<T: PartialEq>(&mut self, key: &str, old: &T, new: &T) {
        self.compare_shown(key, old, new, |_| None);
    }

    fn compare_shown<T: PartialEq>(
        &mut self,
        key: &str,
        old: &T,
        new: &T,
        shown: impl Fn(&T) -> Option<String>,
    ) {
        if old != new {
            let (from, to) = (shown(old), shown(new));
            let key = Some(key.to_owned());
            self.changes.push(Change { key, from, to, ..self.about.is(ChangeAction::Changed) });
        }
    }

    /// Says of the change noted last what becomes of connections.
    fn note(&mut self, known: usize, note: &str) {
        if self.changes.len() > known
            && let Some(last) = self.changes.last_mut()
        {
            last.note = Some(note.to_owned());
        }
    }
}

fn node_changes(old: &Node, new: &Node, changes: &mut Vec<Change>) {
    // A key that is compared nowhere below would change in silence: whoever adds one is led here.
    let Node {
        name: _,
        state: _,
        interfaces: _,
        seed: _,
        peers: _,
        peering: None | Some(Peering { secret_file: _, port: _, listen: _, share: _ }),
        tunnel_source_v4: _,
        tunnel_source_v6: _,
        gue_port: _,
        nat: Nat { source_v4: _, source_v6: _, ports: _ },
        on_exit: _,
        watchdog: Watchdog { after: _, action: _ },
        socket: _,
        api: None | Some(Api { listen: _, token_file: _, metrics: _ }),
        pins: _,
        state_dir: _,
        watch: _,
        tables: Tables { flows: _, newborn: _, survivors: _, nat: _, fragments: _ },
    } = old;
    let mut keys = Keys { about: About { subject: Subject::Node, name: None }, changes };
    keys.compare("name", &old.name, &new.name);
    keys.compare("state", &old.state, &new.state);
    let interface = |of: &Interface| format!("{} ({})", of.name, of.attach);
    keys.compare_shown("interfaces", &old.interfaces, &new.interfaces, |all| list(all, interface));
    keys.compare_hidden("seed", &old.seed, &new.seed);
    keys.compare_shown("peers", &old.peers, &new.peers, |all| list(all, IpAddr::to_string));
    let peering = |of: fn(&Peering) -> String| [old, new].map(|node| node.peering.as_ref().map(of));
    for (key, [old, new]) in [
        ("peering.secret_file", peering(|of| of.secret_file.display().to_string())),
        ("peering.port", peering(|of| of.port.to_string())),
        (
            "peering.listen",
            peering(|of| of.listen.map_or_else(|| "all".to_owned(), |listen| listen.to_string())),
        ),
        (
            "peering.share",
            peering(|of| of.share.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        ),
    ] {
        keys.compare_optional(key, &old, &new);
    }
    keys.compare_optional("tunnel_source_v4", &old.tunnel_source_v4, &new.tunnel_source_v4);
    keys.compare_optional("tunnel_source_v6", &old.tunnel_source_v6, &new.tunnel_source_v6);
    keys.compare("gue_port", &old.gue_port, &new.gue_port);
    keys.compare_optional("nat.source_v4", &old.nat.source_v4, &new.nat.source_v4);
    keys.compare_optional("nat.source_v6", &old.nat.source_v6, &new.nat.source_v6);
    let range = |ports: &Option<(u16, u16)>| ports.map(|(first, last)| format!("{first}-{last}"));
    keys.compare_shown("nat.ports", &old.nat.ports, &new.nat.ports, range);
    keys.compare("on_exit", &old.on_exit, &new.on_exit);
    keys.compare_shown("watchdog.after", &old.watchdog.after, &new.watchdog.after, |after| {
        Some(shown_duration(*after))
    });
    keys.compare("watchdog.action", &old.watchdog.action, &new.watchdog.action);
    keys.compare_shown("socket", &old.socket, &new.socket, |path| Some(path.display().to_string()));
    let listen = |of: &Node| of.api.as_ref().map(|api| api.listen);
    keys.compare_optional("api.listen", &listen(old), &listen(new));
    let token_file = |of: &Node| of.api.as_ref().map(|api| api.token_file.display().to_string());
    keys.compare_optional("api.token_file", &token_file(old), &token_file(new));
    let metrics = |of: &Node| of.api.as_ref().map(|api| api.metrics);
    keys.compare_optional("api.metrics", &metrics(old), &metrics(new));
    keys.compare_shown("pins", &old.pins, &new.pins, |path| Some(path.display().to_string()));
    keys.compare_shown("state_dir", &old.state_dir, &new.state_dir, |path| {
        path.as_ref().map(|path| path.display().to_string())
    });
    keys.compare("watch", &old.watch, &new.watch);
    let table =
        |name: &str, of: fn(&Tables) -> u32| (format!("tables.{name}"), of(&old.tables), of(&new.tables));
    for (key, old, new) in [
        table("flows", |tables| tables.flows),
        table("newborn", |tables| tables.newborn),
        table("survivors", |tables| tables.survivors),
        table("nat", |tables| tables.nat),
        table("fragments", |tables| tables.fragments),
    ] {
        keys.compare(&key, &old, &new);
    }
}

/// One that is not in the list is enabled. What that means is told of its backends.
fn host_changes(old: &Config, new: &Config, changes: &mut Vec<Change>) {
    let states = |config: &Config| -> BTreeMap<IpAddr, AdminState> {
        config.hosts.iter().map(|host| (host.address, host.state)).collect()
    };
    let (before, after) = (states(old), states(new));
    for address in before.keys().chain(after.keys().filter(|address| !before.contains_key(*address))) {
        let state =
            |of: &BTreeMap<IpAddr, AdminState>| of.get(address).copied().unwrap_or(AdminState::Enabled);
        let about = About { subject: Subject::Host, name: Some(address.to_string()) };
        Keys { about, changes: &mut *changes }.compare("state", &state(&before), &state(&after));
    }
}

fn list<T>(items: &[T], shown: impl Fn(&T) -> String) -> Option<String> {
    let items: Vec<_> = items.iter().map(shown).collect();
    (!items.is_empty()).then(|| items.join(", "))
}

fn services(config: &Config) -> BTreeMap<(IpAddr, Ports, Protocol), &Service> {
    fn of_vip(vip: &Vip) -> impl Iterator<Item = ((IpAddr, Ports, Protocol), &Service)> {
        vip.services.iter().map(|of| ((vip.address, of.ports, of.protocol), of))
    }
    config.vips.iter().flat_map(of_vip).collect()
}

fn service_changes(old: &Service, new: &Service, changes: &mut Vec<Change>) {
    let mut keys = Keys { about: About::service(new), changes };
    keys.compare("name", &old.name, &new.name);
    keys.compare("affinity", &old.affinity, &new.affinity);
    keys.compare("ring", &old.ring, &new.ring);
    let duration = |of: &std::time::Duration| Some(shown_duration(*of));
    keys.compare_shown("idle_timeout", &old.idle_timeout, &new.idle_timeout, duration);
    keys.compare_optional("mss", &old.mss, &new.mss);
    keys.compare("icmp_rate", &old.icmp_rate, &new.icmp_rate);
    keys.compare_shown("slow_start", &old.slow_start, &new.slow_start, duration);
    let (was, is) = (&old.floor, &new.floor);
    keys.compare("min_healthy", &was.min_healthy, &is.min_healthy);
    keys.compare("below_min", &was.below_min, &is.below_min);
    let share = |percent: &u8| Some(format!("{percent}%"));
    keys.compare_shown("max_removed", &was.max_removed_percent, &is.max_removed_percent, share);
    keys.compare("passive", &old.passive, &new.passive);
    keys.compare_optional("passive_sample", &old.passive_sample, &new.passive_sample);
    for backend in &new.backends {
        let about = About::backend(new, backend);
        match old.backends.iter().find(|known| known.address == backend.address) {
            None => changes.push(about.is(ChangeAction::Added)),
            Some(known) => backend_changes(about, known, backend, changes),
        }
    }
    for backend in &old.backends {
        if !new.backends.iter().any(|kept| kept.address == backend.address) {
            let removed = About::backend(new, backend).is(ChangeAction::Removed);
            let note = "its connections stay until they end".to_owned();
            changes.push(Change { note: Some(note), ..removed });
        }
    }
}

fn backend_changes(about: About, old: &Backend, new: &Backend, changes: &mut Vec<Change>) {
    const END: &str = "its connections end";
    let mut keys = Keys { about, changes };
    keys.compare("name", &old.name, &new.name);
    keys.compare("weight", &old.weight, &new.weight);
    keys.compare("state", &old.state, &new.state);
    keys.compare("tier", &old.tier, &new.tier);
    let known = keys.changes.len();
    keys.compare("mode", &old.mode, &new.mode);
    if [old.mode, new.mode].contains(&ForwardMode::Nat) {
        keys.note(known, END);
    }
    let known = keys.changes.len();
    keys.compare_shown("port", &old.port, &new.port, |port| {
        Some(port.map_or_else(|| "as dialled".to_owned(), |port| port.to_string()))
    });
    keys.note(known, END);
    keys.compare("on_down", &old.on_down, &new.on_down);
    keys.compare_hidden("health", &old.health, &new.health);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn lines(old: &Config, new: &Config) -> Vec<String> {
        changes(old, new).iter().map(Change::to_string).collect()
    }

    const TWO: &str = "{name: a, address: 10.0.0.1}, {name: b, address: 10.0.0.2}";

    fn config(backends: &str) -> Config {
        with_hosts("", backends)
    }

    fn hosts(hosts: &str) -> Config {
        with_hosts(hosts, TWO)
    }

    fn with_hosts(hosts: &str, backends: &str) -> Config {
        let text = format!(
            "node: {{name: a, seed: 'some long seed', interfaces: [eth0]}}\nhosts: [{hosts}]\nvips:\n  - address: 192.0.2.1\n    services:\n      \
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
            lines(&old, &new),
            ["backend web/a: mode l2 -> ipip", "backend web/b: port as dialled -> 8080, its connections end",]
        );
        assert_eq!(
            lines(&new, &config("{name: a, address: 10.0.0.1, mode: nat}"))[0],
            "backend web/a: mode ipip -> nat, its connections end"
        );
    }

    #[test]
    fn each_difference_has_its_line() {
        let old = config("{name: a, address: 10.0.0.1}, {name: b, address: 10.0.0.2}");
        let new =
            config("{name: b, address: 10.0.0.2, weight: 7, state: drain}, {name: c, address: 10.0.0.3}");
        assert_eq!(lines(&old, &old), [""; 0]);
        assert_eq!(
            lines(&old, &new),
            [
                "backend web/b: weight 100 -> 7",
                "backend web/b: state enabled -> drain",
                "backend web/c: added",
                "backend web/a: removed, its connections stay until they end",
            ]
        );
    }

    #[test]
    fn a_host_is_told_with_what_it_means_for_its_backends() {
        let (plain, drained) = (config(TWO), hosts("{address: 10.0.0.1, state: drain}"));
        assert_eq!(
            lines(&plain, &drained),
            ["host 10.0.0.1: state enabled -> drain", "backend web/a: state enabled -> drain"]
        );
        assert_eq!(
            lines(
                &drained,
                &hosts("{address: 10.0.0.2, state: disabled}, {address: 10.0.0.1, state: enabled}")
            ),
            [
                "host 10.0.0.1: state drain -> enabled",
                "host 10.0.0.2: state enabled -> disabled",
                "backend web/a: state drain -> enabled",
                "backend web/b: state enabled -> disabled",
            ]
        );
        assert_eq!(lines(&plain, &hosts("{address: 10.0.0.1, state: enabled}")), [""; 0]);
    }

    #[test]
    fn what_concerns_the_node_is_told_key_by_key() {
        let of = |node: &str| {
            let text = format!("node: {{name: a, seed: 'some long seed', {node}}}\nvips: []\n");
            crate::config::parse(&text, Path::new("c.yaml")).unwrap().config
        };
        let old = of("interfaces: [eth0]");
        let new = of(
            "state: drain, interfaces: [{name: eth1, attach: native}], gue_port: 7000, nat: {source_v4: 192.0.2.5}, peers: \
                      [192.0.2.7], tables: {flows: 4096}, api: {listen: '127.0.0.1:9177', token_file: /t}, watchdog: {action: pass}",
        );
        assert_eq!(
            lines(&old, &new),
            [
                "node: state enabled -> drain",
                "node: interfaces eth0 (auto) -> eth1 (native)",
                "node: peers none -> 192.0.2.7",
                "node: gue_port 6080 -> 7000",
                "node: nat.source_v4 none -> 192.0.2.5",
                "node: watchdog.action forward -> pass",
                "node: api.listen none -> 127.0.0.1:9177",
                "node: api.token_file none -> /t",
                "node: api.metrics none -> token",
                "node: tables.flows 262144 -> 4096",
            ]
        );
        let mut seeded = old.clone();
        seeded.node.seed.0[0] ^= 1;
        assert_eq!(lines(&old, &seeded), ["node: seed changed"], "a seed is shown to nobody");
    }

    #[test]
    fn a_service_that_goes_takes_its_connections_along() {
        let old = config("{name: a, address: 10.0.0.1}");
        let mut new = old.clone();
        new.vips[0].services[0].ports = Ports::One(81);
        assert_eq!(
            lines(&old, &new),
            ["service web: added", "service web: removed, its connections are lost"]
        );
        new.vips.clear();
        assert_eq!(
            lines(&old, &new),
            ["VIP 192.0.2.1: removed", "service web: removed, its connections are lost"]
        );
    }
}
