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

/// Packets that each device of a namespace has dropped: its name, as they came in, as they went out.
///
/// # Errors
///
/// The file under `/proc` cannot be read.
pub(super) fn device_drops(namespace: &Namespace) -> Result<Vec<(String, i64, i64)>> {
    let text =
        namespace.enter(|| fs::read_to_string("/proc/thread-self/net/dev"))?.context("read net/dev")?;
    Ok(drops_of_devices(&text).collect())
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

/// `net/dev`: two lines of headings, then a line per device; of its values the fourth is what was dropped coming in, the twelfth going out.
fn drops_of_devices(text: &str) -> impl Iterator<Item = (String, i64, i64)> {
    text.lines().skip(2).filter_map(|line| {
        let (device, values) = line.split_once(':')?;
        let values: Vec<&str> = values.split_whitespace().collect();
        let at = |index: usize| values.get(index)?.parse().ok();
        Some((device.trim().to_owned(), at(3)?, at(11)?))
    })
}

#[cfg(test)]
mod tests {
    use super::{drops_of_devices, lines, pairs_of_lines};

    #[test]
    fn drops_are_found_among_the_counters_of_devices() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets\n  eth0: 10 2 0 7 0 0 0 0 20 4 0 9 0 0 0 0\n";
        assert_eq!(drops_of_devices(text).collect::<Vec<_>>(), [("eth0".to_owned(), 7, 9)]);
    }

    #[test]
    fn both_forms_are_read() {
        let v4 = pairs_of_lines("Ip: Forwarding ReasmOKs\nIp: 2 7\nTcp: MaxConn RetransSegs\nTcp: -1 3\n");
        assert_eq!((v4["IpReasmOKs"], v4["TcpMaxConn"], v4["TcpRetransSegs"]), (7, -1, 3));
        let v6: Vec<_> = lines("Ip6ReasmOKs                     \t4\nIcmp6InPktTooBigs\t1\n").collect();
        assert_eq!(v6, [("Ip6ReasmOKs".to_owned(), 4), ("Icmp6InPktTooBigs".to_owned(), 1)]);
    }
}
