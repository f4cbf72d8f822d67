//! What the network stack of a node has counted and learned.

use std::{collections::BTreeMap, fs, net::IpAddr};

use anyhow::{Context, Result};

use super::namespace::Namespace;

/// The counters of a namespace's stack: those of IPv4 as `IpReasmOKs`, those of IPv6 as `Ip6ReasmOKs`.
#[derive(Clone, Debug)]
pub struct StackCounters {
    counters: BTreeMap<String, i64>,
}

impl StackCounters {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// The files under `/proc` cannot be read.
    pub fn read(namespace: &Namespace) -> Result<Self> {
        let [v4, v6] = namespace.enter(|| {
            ["snmp", "snmp6"].map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")))
        })?;
        let mut counters = pairs_of_lines(&v4.context("read net/snmp")?);
        counters.extend(lines(&v6.context("read net/snmp6")?));
        Ok(Self { counters })
    }

    /// One of them.
    ///
    /// # Errors
    ///
    /// There is none of this name.
    pub fn get(&self, name: &str) -> Result<i64> {
        self.counters.get(name).copied().with_context(|| format!("the stack has no counter {name}"))
    }
}

/// The MTU that a node has learned for an address, if it has learned one.
///
/// # Errors
///
/// The node has no route there.
pub fn learned_mtu(namespace: &Namespace, address: IpAddr) -> Result<Option<u32>> {
    let route = namespace.ip(&["route", "get", &address.to_string()])?;
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    words.next().map(|mtu| mtu.parse().with_context(|| format!("the MTU of {route}"))).transpose()
}

/// `net/snmp`: a line of names and a line of values per protocol.
fn pairs_of_lines(text: &str) -> BTreeMap<String, i64> {
    let mut counters = BTreeMap::new();
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (Some((protocol, names)), Some((_, values))) = (names.split_once(':'), values.split_once(':'))
        else {
            continue;
        };
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            counters.insert(format!("{protocol}{name}"), value.parse().unwrap_or_default());
        }
    }
    counters
}

/// `net/snmp6`: a line per counter.
fn lines(text: &str) -> impl Iterator<Item = (String, i64)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::{lines, pairs_of_lines};

    #[test]
    fn both_forms_are_read() {
        let v4 = pairs_of_lines("Ip: Forwarding ReasmOKs\nIp: 2 7\nTcp: MaxConn RetransSegs\nTcp: -1 3\n");
        assert_eq!((v4["IpReasmOKs"], v4["TcpMaxConn"], v4["TcpRetransSegs"]), (7, -1, 3));
        let v6: Vec<_> = lines("Ip6ReasmOKs                     \t4\nIcmp6InPktTooBigs\t1\n").collect();
        assert_eq!(v6, [("Ip6ReasmOKs".to_owned(), 4), ("Icmp6InPktTooBigs".to_owned(), 1)]);
    }
}
