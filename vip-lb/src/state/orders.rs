//! Orders of operators, which hold over what the configuration says until they are withdrawn.

use std::{collections::BTreeMap, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::model::{Ports, Protocol},
    control::desired::ServiceKey,
};

/// Whom an order is about. What clients dial and the server's address are its name, as they are a backend's
/// [`identity`](crate::steering::identity()): another name in the file does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderKey {
    /// The service.
    pub service: ServiceKey,
    /// The server's own address.
    pub backend: IpAddr,
}

/// What an operator wants of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// All orders that hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "File", try_from = "File")]
pub struct Orders {
    backends: BTreeMap<OrderKey, Order>,
}

impl Orders {
    /// What is wanted of a backend.
    #[must_use]
    pub fn of(&self, key: &OrderKey) -> Option<Order> {
        self.backends.get(key).copied()
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

    /// Forgets the orders about backends that are gone. Tells whether there were any.
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
        let backends = orders.backends.into_iter().map(|(key, order)| Record {
            vip: key.service.vip,
            port: key.service.ports,
            protocol: key.service.protocol,
            backend: key.backend,
            order: order.kind,
            since: order.since,
        });
        Self { version: VERSION, backends: backends.collect() }
    }
}

impl TryFrom<File> for Orders {
    type Error = String;

    fn try_from(file: File) -> Result<Self, String> {
        if file.version != VERSION {
            return Err(format!("it is of version {}, not {VERSION}", file.version));
        }
        let backends = file.backends.into_iter().map(|record| {
            let service = ServiceKey { vip: record.vip, ports: record.port, protocol: record.protocol };
            let key = OrderKey { service, backend: record.backend };
            (key, Order { kind: record.order, since: record.since })
        });
        Ok(Self { backends: backends.collect() })
    }
}

/// Raised when a former release could not read what is written.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    backends: Vec<Record>,
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
        for text in
            ["", "{}", "[]", r#"{"version": 2, "backends": []}"#, r#"{"version": 1, "backends": [{}]}"#]
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
}
