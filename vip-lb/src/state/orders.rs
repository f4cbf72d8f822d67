//! Orders of operators, which hold over what the configuration says until they are withdrawn.

use std::{collections::BTreeMap, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::model::{Ports, Protocol},
    control::desired::ServiceKey,
};

mod shared;

pub use shared::{Shared, SharedOrder, Target};

/// Whom an order is about. What clients dial and the server's address are its name, as they are a backend's
/// [`identity`](crate::steering::identity()): another name in the file does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderKey {
    /// The service.
    pub service: ServiceKey,
    /// The server's own address.
    pub backend: IpAddr,
}

/// What an operator wants of a backend, the stricter the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrderKind {
    /// No new connections; those that it has go on.
    Drain,
    /// No connections at all.
    Cut,
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What is wanted.
    pub kind: OrderKind,
    /// Since when, Unix seconds.
    pub since: u64,
}

/// The order that decides over a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What is wanted.
    pub order: Order,
    /// Whether it is about the whole host, and so about every backend at that address.
    pub of_host: bool,
}

/// All orders that hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "File", try_from = "File")]
pub struct Orders {
    backends: BTreeMap<OrderKey, Order>,
    /// About everything at an address, what a later configuration puts there included.
    hosts: BTreeMap<IpAddr, Order>,
    /// Since when this node is drained itself, Unix seconds.
    node: Option<u64>,
    /// VIPs that another node is to have, and since when, milliseconds since 1970.
    handed_over: BTreeMap<IpAddr, u64>,
    /// What all nodes of the group have in common of the first two.
    shared: Shared,
}

impl Orders {
    /// What is wanted of a backend by an order about it alone.
    #[must_use]
    pub fn of(&self, key: &OrderKey) -> Option<Order> {
        self.backends.get(key).copied()
    }

    /// What is wanted of everything at an address.
    #[must_use]
    pub fn of_host(&self, host: IpAddr) -> Option<Order> {
        self.hosts.get(&host).copied()
    }

    /// What decides over a backend: of its own order and that of its host the stricter one, the host's if they are the same.
    #[must_use]
    pub fn ruling(&self, key: &OrderKey) -> Option<Ruling> {
        let own = self.of(key).map(|order| Ruling { order, of_host: false });
        let host = self.of_host(key.backend).map(|order| Ruling { order, of_host: true });
        own.into_iter().chain(host).max_by_key(|ruling| ruling.order.kind)
    }

    /// The hosts that orders are about.
    pub fn hosts(&self) -> impl Iterator<Item = (IpAddr, Order)> {
        self.hosts.iter().map(|(&host, &order)| (host, order))
    }

    /// As [`Orders::give`], about everything at an address.
    pub fn give_host(&mut self, host: IpAddr, kind: OrderKind, now: u64) -> bool {
        if self.of_host(host).is_some_and(|order| order.kind == kind) {
            return false;
        }
        self.hosts.insert(host, Order { kind, since: now });
        true
    }

    /// As [`Orders::withdraw`], about everything at an address.
    pub fn withdraw_host(&mut self, host: IpAddr) -> bool {
        self.hosts.remove(&host).is_some()
    }

    /// Since when this node is drained itself, Unix seconds.
    #[must_use]
    pub fn node(&self) -> Option<u64> {
        self.node
    }

    /// Drains this node, or no longer. Tells whether that is something new.
    pub fn drain_node(&mut self, drain: bool, now: u64) -> bool {
        let is_new = self.node.is_some() != drain;
        if is_new {
            self.node = drain.then_some(now);
        }
        is_new
    }

    /// VIPs that another node is to have, and since when, milliseconds since 1970, which tells orders apart.
    #[must_use]
    pub fn handed_over(&self) -> &BTreeMap<IpAddr, u64> {
        &self.handed_over
    }

    /// Hands VIPs over.
    pub fn hand_over(&mut self, vips: &[IpAddr], now_ms: u64) {
        self.handed_over.extend(vips.iter().map(|&vip| (vip, now_ms)));
    }

    /// Takes VIPs back. Tells whether any was handed over.
    pub fn take_back(&mut self, vips: &[IpAddr]) -> bool {
        let before = self.handed_over.len();
        self.handed_over.retain(|vip, _| !vips.contains(vip));
        self.handed_over.len() != before
    }

    /// Takes an order. One that holds already keeps its time. Tells whether it is something new.
    pub fn give(&mut self, key: OrderKey, kind: OrderKind, now: u64) -> bool {
        if self.of(&key).is_some_and(|order| order.kind == kind) {
            return false;
        }
        self.backends.insert(key, Order { kind, since: now });
        true
    }

    /// Withdraws an order. Tells whether there was one.
    pub fn withdraw(&mut self, key: &OrderKey) -> bool {
        self.backends.remove(key).is_some()
    }

    /// Forgets the orders about backends that are gone, and not those about hosts. Tells whether there were any.
    pub fn retain(&mut self, exists: impl Fn(&OrderKey) -> bool) -> bool {
        let before = self.backends.len();
        self.backends.retain(|key, _| exists(key));
        self.backends.len() != before
    }

    /// The text of a file, JSON.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("orders are plain data");
        text.push(b'\n');
        text
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// It is no such file, or one of another version.
    pub fn from_file(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }
}

impl From<Orders> for File {
    fn from(orders: Orders) -> Self {
        // A release that knows no such orders must not overlook them, and give a host in maintenance connections.
        let is_plain = orders.hosts.is_empty() && orders.node.is_none();
        let version = match (orders.handed_over.is_empty(), is_plain) {
            (false, _) => VERSION,
            (true, false) => NODE_VERSION,
            (true, true) => PLAIN_VERSION,
        };
        let hosts = orders.hosts.into_iter().map(|(host, order)| HostRecord {
            host,
            order: order.kind,
            since: order.since,
        });
        let backends = orders.backends.into_iter().map(|(key, order)| Record {
            vip: key.service.vip,
            port: key.service.ports,
            protocol: key.service.protocol,
            backend: key.backend,
            order: order.kind,
            since: order.since,
        });
        Self {
            version,
            backends: backends.collect(),
            hosts: hosts.collect(),
            node_since: orders.node,
            handed_over: orders.handed_over,
            shared: orders.shared,
        }
    }
}

impl TryFrom<File> for Orders {
    type Error = String;

    fn try_from(file: File) -> Result<Self, String> {
        if !(PLAIN_VERSION..=VERSION).contains(&file.version) {
            return Err(format!("it is of version {}, not {VERSION} or before", file.version));
        }
        let order = |kind, since| Order { kind, since };
        let hosts = file.hosts.into_iter().map(|record| (record.host, order(record.order, record.since)));
        let backends = file.backends.into_iter().map(|record| {
            let service = ServiceKey { vip: record.vip, ports: record.port, protocol: record.protocol };
            let key = OrderKey { service, backend: record.backend };
            (key, order(record.order, record.since))
        });
        Ok(Self {
            backends: backends.collect(),
            hosts: hosts.collect(),
            node: file.node_since,
            handed_over: file.handed_over,
            shared: file.shared,
        })
    }
}

/// Raised when a former release could not read what is written.
const VERSION: u32 = 3;
/// Of a file with orders about backends, hosts and the node.
const NODE_VERSION: u32 = 2;
/// Of a file with orders about backends alone, which is all that the first release knew.
const PLAIN_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    backends: Vec<Record>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<HostRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node_since: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    handed_over: BTreeMap<IpAddr, u64>,
    /// A release that does not know of it shares nothing, and has all that holds in the others.
    #[serde(default, skip_serializing_if = "Shared::is_empty")]
    shared: Shared,
}

#[derive(Serialize, Deserialize)]
struct HostRecord {
    host: IpAddr,
    order: OrderKind,
    since: u64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    vip: IpAddr,
    port: Ports,
    protocol: Protocol,
    backend: IpAddr,
    order: OrderKind,
    since: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ports: Ports, backend: &str) -> OrderKey {
        let service = ServiceKey { vip: "192.0.2.1".parse().unwrap(), ports, protocol: Protocol::Tcp };
        OrderKey { service, backend: backend.parse().unwrap() }
    }

    #[test]
    fn orders_come_back_from_their_file() {
        let mut orders = Orders::default();
        assert!(orders.give(key(Ports::One(80), "10.0.0.1"), OrderKind::Drain, 1000));
        assert!(orders.give(key(Ports::Range(8000, 8999), "2001:db8::1"), OrderKind::Cut, 2000));
        assert_eq!(Orders::from_file(&orders.to_file()).unwrap(), orders);
        let is_of = |orders: &Orders, version: u32| {
            String::from_utf8(orders.to_file()).unwrap().contains(&format!("\"version\": {version}"))
        };
        assert!(is_of(&orders, 1), "a release that knows no more can read it");
        assert!(orders.give_host("10.0.0.7".parse().unwrap(), OrderKind::Cut, 3000));
        assert!(orders.drain_node(true, 4000));
        assert_eq!(Orders::from_file(&orders.to_file()).unwrap(), orders);
        assert!(is_of(&orders, 2), "and must not overlook this");
        orders.hand_over(&["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()], 5000);
        assert_eq!(Orders::from_file(&orders.to_file()).unwrap(), orders);
        assert!(is_of(&orders, 3), "nor this");
        assert!(orders.take_back(&["192.0.2.1".parse().unwrap()]));
        assert!(!orders.take_back(&["192.0.2.1".parse().unwrap()]), "it was handed over no more");
        assert_eq!(orders.handed_over().values().copied().collect::<Vec<_>>(), [5000]);
        for text in
            ["", "{}", "[]", r#"{"version": 4, "backends": []}"#, r#"{"version": 1, "backends": [{}]}"#]
        {
            assert!(Orders::from_file(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn an_order_holds_since_it_was_first_given() {
        let mut orders = Orders::default();
        let web = key(Ports::One(80), "10.0.0.1");
        assert!(orders.give(web, OrderKind::Drain, 1000));
        assert!(!orders.give(web, OrderKind::Drain, 2000));
        assert_eq!(orders.of(&web), Some(Order { kind: OrderKind::Drain, since: 1000 }));
        assert!(orders.give(web, OrderKind::Cut, 3000), "a cut is more than a drain");
        assert_eq!(orders.of(&web), Some(Order { kind: OrderKind::Cut, since: 3000 }));
        assert!(!orders.retain(|_| true));
        assert!(orders.withdraw(&web) && !orders.withdraw(&web));
        orders.give(web, OrderKind::Drain, 1);
        assert!(orders.retain(|_| false));
        assert_eq!(orders, Orders::default());
    }

    #[test]
    fn the_stricter_order_decides_and_a_hosts_outlives_its_backends() {
        let mut orders = Orders::default();
        let (web, other) = (key(Ports::One(80), "10.0.0.1"), key(Ports::One(80), "10.0.0.2"));
        let host = web.backend;
        let ruling =
            |orders: &Orders, key: &OrderKey| orders.ruling(key).map(|of| (of.order.kind, of.of_host));
        assert!(orders.give_host(host, OrderKind::Drain, 1000));
        assert!(!orders.give_host(host, OrderKind::Drain, 2000), "it holds already");
        assert_eq!(ruling(&orders, &web), Some((OrderKind::Drain, true)));
        assert_eq!(ruling(&orders, &key(Ports::One(443), "10.0.0.1")), Some((OrderKind::Drain, true)));
        assert_eq!(ruling(&orders, &other), None);
        orders.give(web, OrderKind::Cut, 3000);
        assert_eq!(ruling(&orders, &web), Some((OrderKind::Cut, false)));
        orders.give(web, OrderKind::Drain, 4000);
        assert_eq!(
            ruling(&orders, &web),
            Some((OrderKind::Drain, true)),
            "the host's of two that are the same"
        );
        orders.give(web, OrderKind::Drain, 4000);
        orders.give_host(host, OrderKind::Cut, 5000);
        assert_eq!(ruling(&orders, &web), Some((OrderKind::Cut, true)));
        assert!(orders.retain(|_| false));
        assert_eq!(orders.hosts().collect::<Vec<_>>(), [(host, Order { kind: OrderKind::Cut, since: 5000 })]);
        assert!(orders.withdraw_host(host) && !orders.withdraw_host(host));
        assert_eq!(orders, Orders::default());
    }

    #[test]
    fn a_node_is_drained_since_it_was_first_ordered() {
        let mut orders = Orders::default();
        assert!(!orders.drain_node(false, 1));
        assert!(orders.drain_node(true, 10) && !orders.drain_node(true, 20));
        assert_eq!(orders.node(), Some(10));
        assert!(orders.drain_node(false, 30));
        assert_eq!(orders, Orders::default());
    }
}
