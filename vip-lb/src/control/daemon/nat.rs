//! Translated connections: the addresses and ports they have on this node, and the end of them.

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{Daemon, collection::COLLECTION_SHARE, now};
use crate::{
    config::{Config, model::ForwardMode},
    control::desired::source_of,
    nat,
    network::{NetworkEvent, NextHop, Wanted},
};

/// Shortest time between two looks at all connections.
const BETWEEN_LOOKS: Duration = Duration::from_secs(3);
/// Ports that the kernel gives connections of the host, both for IPv4 and IPv6.
const LOCAL_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

impl Daemon {
    /// Finds out which of the configured sources the host does not have, so that nobody but the program answers for them. Tells
    /// whether that is something new.
    pub(super) async fn look_up_nat_sources(&mut self, config: &Config) -> bool {
        let nat = &config.node.nat;
        let sources = [nat.source_v4.map(IpAddr::V4), nat.source_v6.map(IpAddr::V6)].into_iter().flatten();
        let asked: Vec<_> = sources.map(|destination| Wanted { destination, source_hint: None }).collect();
        if asked.is_empty() {
            return !std::mem::take(&mut self.foreign_sources).is_empty();
        }
        let answers = self.network.resolve_all(&asked).await;
        let foreign = answers.into_iter().filter(|(_, answer)| !matches!(answer, Ok(NextHop::Local)));
        let foreign: BTreeSet<IpAddr> = foreign.map(|(source, _)| source).collect();
        let changed = foreign != self.foreign_sources;
        self.foreign_sources = foreign;
        changed
    }

    /// Sources that the program answers ARP and neighbour solicitations for.
    pub(super) fn answered_sources(&self) -> Vec<IpAddr> {
        self.foreign_sources.iter().copied().collect()
    }

    /// Lets neighbour solicitations for those in, after the host got or lost one.
    pub(super) fn join_groups(&mut self) {
        let (config, own) = (self.config.clone(), self.answered_sources());
        if let Err(error) = self.interfaces.join(&config, &own) {
            self.warn(format!("{error:#}"));
        }
    }

    /// Whether an event may mean that the host got or lost one of the configured sources.
    pub(super) fn may_move_sources(&self, event: &NetworkEvent) -> bool {
        let nat = &self.config.node.nat;
        match event {
            NetworkEvent::RouteChanged { prefix } => {
                nat.source_v4.is_some_and(|source| prefix.contains(source.into()))
                    || nat.source_v6.is_some_and(|source| prefix.contains(source.into()))
            }
            NetworkEvent::LinkChanged { .. } | NetworkEvent::Overrun => true,
            NetworkEvent::NeighbourChanged { .. } | NetworkEvent::NeighbourGone { .. } => false,
        }
    }

    /// The ports of translated connections, first and last.
    pub(super) fn nat_ports(&self) -> (u16, u16) {
        self.config.node.nat.ports_for(self.nat_shares_an_address())
    }

    /// Whether translated connections leave with an address that the host uses, too.
    fn nat_shares_an_address(&self) -> bool {
        let services = self.config.vips.iter().flat_map(|vip| &vip.services);
        let mut translated = services
            .flat_map(|service| &service.backends)
            .filter(|backend| backend.mode == ForwardMode::Nat)
            .map(|backend| source_of(backend, &self.config.node));
        translated.any(|source| source.is_none_or(|source| !self.foreign_sources.contains(&source)))
    }

    /// Warns of ports that the kernel may give to connections of the host itself.
    pub(super) fn check_nat_ports(&mut self) {
        if !self.nat_shares_an_address() {
            return;
        }
        // Without the file there is no IPv4, and nobody to share with.
        let Ok(text) = fs::read_to_string(LOCAL_PORTS) else { return };
        if let Some(warning) = shared_ports(self.nat_ports(), &text) {
            self.warn(warning);
        }
    }

    /// Looks through the translated connections and removes those that have ended.
    pub(super) fn collect_connections(&mut self, started: Instant) {
        if self.engine.wants_connections()
            && let Err(error) = self.look_at_connections()
        {
            self.warn(format!("cannot look through the translated connections: {error:#}"));
        }
        let share = now().duration_since(started) * COLLECTION_SHARE;
        self.next_connections = started + share.max(BETWEEN_LOOKS);
    }

    fn look_at_connections(&mut self) -> anyhow::Result<()> {
        let tick = self.ticker.tick();
        let look = nat::Look { flows: self.dataplane.nat_flows()?, replies: self.dataplane.nat_replies()? };
        let found = self.engine.collect_connections(&look, tick);
        let freed = !found.plan.writes.is_empty();
        self.carry_out(found.plan);
        for ended in &found.ended {
            nat::remove(&self.dataplane, ended)?;
        }
        if freed {
            // With the last connections of a former backend their address on this node may go, too.
            self.reconcile();
        }
        Ok(())
    }
}

/// What to say where translated connections and those of the host may get the same port. `local` is the text of [`LOCAL_PORTS`].
fn shared_ports((first, last): (u16, u16), local: &str) -> Option<String> {
    let mut numbers = local.split_whitespace().map(str::parse);
    let (Some(Ok(from)), Some(Ok(to))) = (numbers.next(), numbers.next()) else { return None };
    let overlap = first <= to && from <= last;
    overlap.then(|| {
        format!(
            "ports {first}-{last} of `node.nat` overlap with {from}-{to}, which this host uses for connections of its own \
             (net.ipv4.ip_local_port_range): answers to some of those will be taken for answers of backends; give one of them other ports, or \
             `node.nat` an address of its own"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_the_host_uses_are_warned_of() {
        for (ports, local, shared) in [
            ((61_000, 65_535), "32768\t60999\n", false),
            ((1024, 65_535), "32768\t60999\n", true),
            ((60_999, 65_535), "32768\t60999\n", true),
            ((1024, 32_767), "32768\t60999\n", false),
            ((1024, 32_768), "32768\t60999\n", true),
            ((61_000, 65_535), "1024\t65535\n", true),
            ((61_000, 65_535), "", false),
            ((61_000, 65_535), "nonsense here", false),
        ] {
            assert_eq!(shared_ports(ports, local).is_some(), shared, "{ports:?} and {local:?}");
        }
        let warning = shared_ports((60_000, 61_000), "32768 60999").unwrap();
        assert!(warning.starts_with("ports 60000-61000 of `node.nat` overlap with 32768-60999"), "{warning}");
    }
}
