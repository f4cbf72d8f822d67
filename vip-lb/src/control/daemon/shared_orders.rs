//! Orders of operators that hold at all nodes of the group: those given here are told, those given elsewhere are obeyed.

use std::{collections::BTreeSet, net::IpAddr, time::UNIX_EPOCH};

use tracing::{info, warn};

use super::{Daemon, wall_clock};
use crate::{
    api::model::{Occurrence, OperatorOrder},
    config::model::Share,
    peering::{
        message::Message,
        task::{Peering, Tell},
    },
    state::{OrderKey, OrderKind, Ruling, SharedOrder, Target},
};

/// Words in one message: all together are far from filling a frame.
const TOGETHER: usize = 1000;

impl Daemon {
    /// Whether orders about backends and hosts are common to all nodes.
    pub(super) fn shares_orders(&self) -> bool {
        self.config.node.peering.as_ref().is_some_and(|peering| peering.share.contains(&Share::Orders))
    }

    /// Tells all peers what was ordered here since this was last done, and whether there was anything, which is to be kept then.
    pub(super) fn say_orders(&mut self) -> bool {
        if !self.shares_orders() {
            return false;
        }
        let said = self.orders.say(&self.config.node.name, unix_seconds());
        self.have_told(&said, None);
        self.pass_orders_on();
        !said.is_empty()
    }

    /// Has a peer told of all orders.
    pub(super) fn tell_all_orders(&mut self, peer: IpAddr) {
        if self.shares_orders() {
            if self.say_orders() {
                // Nobody waits for that; if it fails, status says so.
                drop(self.keeper.keep_orders(self.orders.clone()));
            }
            let all: BTreeSet<Target> = self.orders.shared().all().map(|word| word.target).collect();
            self.peers.untold.insert(peer, all);
            self.pass_orders_on();
        }
    }

    /// Obeys what was ordered at other nodes.
    pub(super) fn hear_orders(&mut self, peer: IpAddr, words: Vec<SharedOrder>) {
        if !self.shares_orders() {
            return;
        }
        let before = self.orders.clone();
        let news = self.orders.hear(words, unix_seconds());
        if news.is_empty() {
            return;
        }
        // Who does not hear that node may hear this one.
        self.have_told(&news, Some(peer));
        self.pass_orders_on();
        self.reconcile();
        for target in &news {
            self.tell_order(target, before.kind_of(target));
        }
        self.tell_changes();
        // Nobody waits for that; if it fails, status says so.
        drop(self.keeper.keep_orders(self.orders.clone()));
    }

    /// Tells of an order that was given or withdrawn at another node, if it changes something.
    fn tell_order(&self, target: &Target, before: Option<OrderKind>) {
        let now = self.orders.kind_of(target);
        if now == before {
            return;
        }
        let by = self.orders.given_at(target).map(str::to_owned);
        info!(?target, order = ?now, by, "order of an operator at another node");
        match *target {
            Target::Host { host } => self.tell(match now {
                None => Occurrence::HostUndrain { host, by },
                Some(kind) => Occurrence::HostDrain { host, force: kind == OrderKind::Cut, by },
            }),
            // One that is not configured here is no news to anybody.
            Target::Backend { service, backend } => {
                self.tell_orders(&[OrderKey { service, backend }], now, by.as_deref());
            }
        }
    }

    fn have_told(&mut self, targets: &[Target], but: Option<IpAddr>) {
        for &peer in &self.config.node.peers {
            if Some(peer) != but {
                self.peers.untold.entry(peer).or_default().extend(targets);
            }
        }
    }

    /// Tells peers what they do not know yet, as far as they listen. One that does not is told all when it does.
    pub(super) fn pass_orders_on(&mut self) {
        let mut untold = std::mem::take(&mut self.peers.untold);
        if let Some(running) = self.peers.running() {
            for (&peer, targets) in &mut untold {
                self.pass_on(running, peer, targets);
            }
        }
        untold.retain(|_, targets| !targets.is_empty());
        self.peers.untold = untold;
    }

    fn pass_on(&self, running: &Peering, peer: IpAddr, targets: &mut BTreeSet<Target>) {
        while !targets.is_empty() {
            let some: Vec<Target> = targets.iter().take(TOGETHER).copied().collect();
            let words = some.iter().filter_map(|target| self.orders.shared().of(target)).cloned().collect();
            match running.tell(peer, &Message::Orders(words)) {
                Ok(Tell::Number(_)) => targets.retain(|target| !some.contains(target)),
                Ok(Tell::Full) => return,
                Ok(Tell::Away) => return targets.clear(),
                Err(error) => {
                    warn!(%error, "orders are not shared");
                    return targets.clear();
                }
            }
        }
    }

    /// The order that decides over a backend or a host, and the node where it was given, if that is another one.
    pub(super) fn operator_order(&self, of: IpAddr, key: Option<&OrderKey>, ruling: Ruling) -> OperatorOrder {
        let target = match key {
            Some(key) if !ruling.of_host => Target::from(*key),
            _ => Target::Host { host: of },
        };
        let by = self.orders.given_at(&target).filter(|by| *by != self.config.node.name);
        OperatorOrder {
            order: ruling.order.kind,
            since: ruling.order.since,
            host: ruling.of_host,
            by: by.map(str::to_owned),
        }
    }

    /// Forgets orders about backends that no configuration has any more. Tells whether there were any.
    pub(super) fn forget_orders(&mut self) -> bool {
        let keys: BTreeSet<OrderKey> = self.backend_keys().map(|(key, ..)| key).collect();
        let exists = |key: &OrderKey| keys.contains(key);
        if self.shares_orders() {
            // Other nodes may have them still, or this one may be told before it is configured so.
            self.orders.forget_past(exists, unix_seconds())
        } else {
            self.orders.retain(exists)
        }
    }
}

fn unix_seconds() -> u64 {
    wall_clock().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
