//! Orders that all nodes of a group have in common.
//!
//! Of what is ordered about a backend or a host the last word holds, and a withdrawal is a word as well. Which one is the last does not depend on clocks:
//! each has a number higher than all that its node had heard of, and of two with the same number the name of the node decides. So it does not matter
//! in which order nodes hear of them, how often, or by whom.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{Order, OrderKey, OrderKind, Orders};
use crate::control::desired::ServiceKey;

/// How long a withdrawal is remembered, and an order about what this node does not know, in seconds: thirty days from when this node heard of it.
const REMEMBERED: u64 = 30 * 24 * 3600;

/// What an order is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Target {
    /// A backend of one service.
    Backend {
        /// The service.
        #[serde(flatten)]
        service: ServiceKey,
        /// The server's own address.
        backend: IpAddr,
    },
    /// Everything at an address.
    Host {
        /// The address.
        host: IpAddr,
    },
}

impl Target {
    /// The backend that it is about, if it is about one alone.
    #[must_use]
    pub fn backend(&self) -> Option<OrderKey> {
        match *self {
            Self::Backend { service, backend } => Some(OrderKey { service, backend }),
            Self::Host { .. } => None,
        }
    }
}

impl From<OrderKey> for Target {
    fn from(OrderKey { service, backend }: OrderKey) -> Self {
        Self::Backend { service, backend }
    }
}

/// The last word about a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedOrder {
    /// What it is about.
    #[serde(flatten)]
    pub target: Target,
    /// What is ordered; absent if that was withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderKind>,
    /// Since when, Unix seconds, by the clock of the node where it was given.
    pub since: u64,
    /// Higher than those of all words that the node had heard of.
    pub version: u64,
    /// The name of the node where it was given.
    pub by: String,
}

impl SharedOrder {
    /// Whether it is the last word of the two.
    fn supersedes(&self, other: &Self) -> bool {
        let rank = |of: &Self| (of.version, of.by.clone(), of.order.map(|kind| kind as u8), of.since);
        rank(self) > rank(other)
    }

    /// Whether it was given long ago, if the clock of the node was right where it was given.
    fn is_past(&self, now: u64) -> bool {
        is_past(self.since, now)
    }
}

/// A word that this node remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    #[serde(flatten)]
    word: SharedOrder,
    /// Since when, Unix seconds, by this node's own clock: that of the node where it was given may be far from right. Absent in files of former
    /// releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heard: Option<u64>,
}

impl Remembered {
    fn is_past(&self, now: u64) -> bool {
        is_past(self.heard.unwrap_or(self.word.since), now)
    }
}

fn is_past(since: u64, now: u64) -> bool {
    now.saturating_sub(since) > REMEMBERED
}

/// The last words about all targets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Record", into = "Record")]
pub struct Shared {
    words: BTreeMap<Target, Remembered>,
    /// The highest number that was heard of, also of words that are forgotten.
    highest: u64,
}

/// The same in a file.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    highest: u64,
    words: Vec<Remembered>,
}

impl From<Record> for Shared {
    fn from(Record { highest, words }: Record) -> Self {
        Self { words: words.into_iter().map(|of| (of.word.target, of)).collect(), highest }
    }
}

impl From<Shared> for Record {
    fn from(Shared { words, highest }: Shared) -> Self {
        Self { highest, words: words.into_values().collect() }
    }
}

impl Shared {
    /// Whether nothing was ever shared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && self.highest == 0
    }

    /// The last word about a target.
    #[must_use]
    pub fn of(&self, target: &Target) -> Option<&SharedOrder> {
        self.words.get(target).map(|of| &of.word)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &SharedOrder> {
        self.words.values().map(|of| &of.word)
    }

    /// Takes in a word. Tells whether it is the last one now and was not.
    fn hear(&mut self, word: SharedOrder, now: u64) -> bool {
        if self.of(&word.target).is_some_and(|known| !word.supersedes(known)) {
            return false;
        }
        self.highest = self.highest.max(word.version);
        self.words.insert(word.target, Remembered { word, heard: Some(now) });
        true
    }
}

impl Orders {
    /// The last words that this node knows.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Makes words of all that was ordered here and was not said yet, and returns their targets.
    pub fn say(&mut self, node: &str, now: u64) -> Vec<Target> {
        let ordered = self.ordered();
        let unsaid = |target: &Target, order: Option<OrderKind>| {
            self.shared.of(target).and_then(|word| word.order) != order
        };
        let given = ordered.iter().filter(|(target, order)| unsaid(target, Some(order.kind)));
        let given = given.map(|(&target, order)| (target, Some(order.kind), order.since));
        let withdrawn =
            self.shared.all().filter(|word| word.order.is_some() && !ordered.contains_key(&word.target));
        let withdrawn = withdrawn.map(|word| (word.target, None, now));
        let changes: Vec<_> = given.chain(withdrawn).collect();
        let mut said = Vec::new();
        for (target, order, since) in changes {
            let version = self.shared.highest.saturating_add(1);
            self.shared.hear(SharedOrder { target, order, since, version, by: node.to_owned() }, now);
            said.push(target);
        }
        said
    }

    /// Takes in words of another node. Returns the targets about which they are the last.
    pub fn hear(&mut self, words: Vec<SharedOrder>, now: u64) -> Vec<Target> {
        let mut news = Vec::new();
        for word in words {
            let target = word.target;
            self.shared.highest = self.shared.highest.max(word.version);
            if word.order.is_none() && word.is_past(now) && self.shared.of(&target).is_none() {
                // Two nodes would otherwise remind each other of it for ever.
                continue;
            }
            if self.shared.hear(word, now) {
                self.obey(&target);
                news.push(target);
            }
        }
        news
    }

    /// Forgets withdrawals, and orders about backends that do not exist here, when they are old. Tells whether there were any.
    pub fn forget_past(&mut self, exists: impl Fn(&OrderKey) -> bool, now: u64) -> bool {
        let is_known = |word: &SharedOrder| word.target.backend().is_none_or(|key| exists(&key));
        let past: Vec<Target> = self
            .shared
            .words
            .values()
            .filter(|of| of.is_past(now) && (of.word.order.is_none() || !is_known(&of.word)))
            .map(|of| of.word.target)
            .collect();
        for target in &past {
            self.shared.words.remove(target);
            self.obey(target);
        }
        !past.is_empty()
    }

    /// What is ordered about a target itself.
    #[must_use]
    pub fn kind_of(&self, target: &Target) -> Option<OrderKind> {
        let order = match target {
            Target::Backend { service, backend } => {
                self.of(&OrderKey { service: *service, backend: *backend })
            }
            Target::Host { host } => self.of_host(*host),
        };
        order.map(|order| order.kind)
    }

    /// The node at which the order was given that holds for a target; none if it was never shared.
    #[must_use]
    pub fn given_at(&self, target: &Target) -> Option<&str> {
        Some(&self.shared.of(target)?.by)
    }

    /// Does what the last word says.
    fn obey(&mut self, target: &Target) {
        let word = self.shared.of(target);
        let order = word.and_then(|word| Some(Order { kind: word.order?, since: word.since }));
        match (*target, order) {
            (Target::Backend { service, backend }, Some(order)) => {
                self.backends.insert(OrderKey { service, backend }, order);
            }
            (Target::Backend { service, backend }, None) => {
                self.backends.remove(&OrderKey { service, backend });
            }
            (Target::Host { host }, Some(order)) => {
                self.hosts.insert(host, order);
            }
            (Target::Host { host }, None) => {
                self.hosts.remove(&host);
            }
        }
    }

    fn ordered(&self) -> BTreeMap<Target, Order> {
        let backends = self.backends.iter().map(|(&key, &order)| (Target::from(key), order));
        backends.chain(self.hosts.iter().map(|(&host, &order)| (Target::Host { host }, order))).collect()
    }
}

#[cfg(test)]
mod tests;
