//! What is found on the host of a backend.

use std::{collections::BTreeMap, io, path::Path};

use thiserror::Error;

use crate::{
    dataplane::{self, Decapsulator},
    network::{DefaultRoute, HostAddress, Interface, InterfaceError, Network, Sysctl},
};

/// Settings of IPv4 that are read of every interface and of `all`.
pub(super) const ARP_IGNORE: &str = "arp_ignore";
/// As [`ARP_IGNORE`].
pub(super) const ARP_ANNOUNCE: &str = "arp_announce";
/// As [`ARP_IGNORE`].
pub(crate) const RP_FILTER: &str = "rp_filter";
/// A setting of IPv6, read of every interface and of the loopback.
pub(super) const DISABLE_IPV6: &str = "disable_ipv6";

/// What is found on the host of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// The interface that packets for the VIP come in by.
    pub interface: Interface,
    /// The names of all Ethernet interfaces.
    pub ethernet: Vec<String>,
    /// All addresses of the host.
    pub addresses: Vec<HostAddress>,
    /// Settings of the stack; those that this kernel does not have are absent.
    pub sysctls: BTreeMap<Sysctl, i64>,
    /// What is unpacked on the interface.
    pub decapsulator: Option<Decapsulator>,
    /// The kernel's own tunnel devices that are up.
    pub tunnels: Vec<String>,
    /// The routes that replies leave by.
    pub default_routes: Vec<DefaultRoute>,
}

/// Why nothing is known of the host.
#[derive(Debug, Error)]
pub enum GatherError {
    /// The kernel does not answer.
    #[error("cannot ask the kernel for {what}")]
    Netlink {
        /// What was asked for.
        what: &'static str,
        /// What came of it.
        #[source]
        source: io::Error,
    },
    /// The interface cannot be used.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// None was named, and it cannot be told.
    #[error("which interface do packets for the VIP come in by? say it with --interface: {}", candidates.join(", "))]
    Ambiguous {
        /// Those that it may be.
        candidates: Vec<String>,
    },
    /// The pins of the decapsulator cannot be read.
    #[error("{0:#}")]
    Pins(anyhow::Error),
}

impl HostFacts {
    /// Asks the kernel, in the network namespace of the calling thread. `interface` is found out where it is not given: it is that of the
    /// default routes, or the only one.
    ///
    /// # Errors
    ///
    /// The kernel does not answer, or the interface cannot be told.
    pub async fn gather(
        network: &Network,
        interface: Option<&str>,
        pins: &Path,
    ) -> Result<Self, GatherError> {
        let asking = |what| move |source| GatherError::Netlink { what, source };
        let interfaces = network.interfaces().await.map_err(asking("its interfaces"))?;
        let default_routes = network.default_routes().await.map_err(asking("its default routes"))?;
        let name = match interface {
            Some(name) => name.to_owned(),
            None => choose(&default_routes, &interfaces)?,
        };
        let interface = network.interface(&name).await?;
        let tunnels = network.tunnels().await.map_err(asking("its tunnels"))?;
        let addresses = network.addresses().await.map_err(asking("its addresses"))?;
        let ethernet: Vec<String> = interfaces.into_iter().map(|interface| interface.name).collect();
        Ok(Self {
            sysctls: read_sysctls(&ethernet),
            decapsulator: dataplane::decapsulator(pins, &name).map_err(GatherError::Pins)?,
            interface,
            ethernet,
            addresses,
            tunnels,
            default_routes,
        })
    }

    /// What holds of an interface where the kernel takes the larger one of the interface's value and that of `all` (ip-sysctl.rst).
    pub(super) fn effective(&self, interface: &str, name: &str) -> i64 {
        let value = |scope| self.sysctls.get(&Sysctl::ipv4(scope, name)).copied().unwrap_or(0);
        value("all").max(value(interface))
    }
}

fn read_sysctls(ethernet: &[String]) -> BTreeMap<Sysctl, i64> {
    let scopes = || ethernet.iter().map(String::as_str);
    let v4 = [ARP_IGNORE, ARP_ANNOUNCE, RP_FILTER];
    let v4 = v4.iter().flat_map(|name| scopes().chain(["all"]).map(|scope| Sysctl::ipv4(scope, name)));
    let v6 = scopes().chain(["lo"]).map(|scope| Sysctl::ipv6(scope, DISABLE_IPV6));
    v4.chain(v6).filter_map(|setting| setting.read().ok().map(|value| (setting, value))).collect()
}

/// The interface that the default routes leave by, or the only one that is up.
fn choose(routes: &[DefaultRoute], interfaces: &[Interface]) -> Result<String, GatherError> {
    let mut candidates: Vec<String> = routes.iter().map(|route| route.interface.clone()).collect();
    if candidates.is_empty() {
        let up = interfaces.iter().filter(|interface| interface.is_up);
        candidates = up.map(|interface| interface.name.clone()).collect();
    }
    candidates.sort();
    candidates.dedup();
    match candidates.len() {
        1 => Ok(candidates.remove(0)),
        _ => Err(GatherError::Ambiguous { candidates }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::InterfaceKind;

    fn interface(name: &str, is_up: bool) -> Interface {
        Interface {
            index: 2,
            name: name.to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            kind: InterfaceKind::Device,
            is_up,
            has_carrier: is_up,
            below: None,
            bond_member: None,
        }
    }

    fn route(interface: &str) -> DefaultRoute {
        let interface = interface.to_owned();
        let (gateway, source) = (None, None);
        DefaultRoute { gateway, interface, is_v4: true, source, mtu: None, advmss: None, metric: 0 }
    }

    #[test]
    fn the_interface_is_that_of_the_default_routes_or_the_only_one() {
        let both = [interface("eth0", true), interface("eth1", true)];
        assert_eq!(choose(&[route("eth1"), route("eth1")], &both).unwrap(), "eth1");
        assert_eq!(choose(&[], &[interface("eth0", true), interface("eth1", false)]).unwrap(), "eth0");
        for (routes, interfaces) in
            [(&[route("eth0"), route("eth1")][..], &both[..]), (&[], &both), (&[], &[])]
        {
            let error = choose(routes, interfaces).unwrap_err().to_string();
            assert!(error.contains("--interface"), "{error}");
        }
    }
}
