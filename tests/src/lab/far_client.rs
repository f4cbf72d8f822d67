//! A client that is not on the segment: the lab's client is its router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use super::{
    config::Family,
    link::Veth,
    namespace::Namespace,
    topology::{Lab, Node},
};

const ROUTER_DEVICE: &str = "far";

/// A client in 10.77.9.0/24 and fd77:9::/64, behind the node that is the client of other labs.
#[derive(Debug)]
pub struct FarClient {
    /// Where it lives.
    pub namespace: Namespace,
}

impl FarClient {
    /// Makes it, the router and the backends' routes. Its own interface and the segment take 1500 bytes, but the router sends it no packet larger
    /// than `mtu`.
    ///
    /// # Errors
    ///
    /// `ip` or `ethtool` failed.
    pub fn new(lab: &Lab, mtu: u32) -> Result<Self> {
        let router = &lab.client.namespace;
        let namespace = Namespace::new(&format!("{}-far", lab.scratch.name()))?;
        namespace.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        router.sysctl("net/ipv4/ip_forward", "1")?;
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        Veth::connect((router, ROUTER_DEVICE), (&namespace, Node::DEVICE))?;
        router.ip(&["link", "set", ROUTER_DEVICE, "mtu", &mtu.to_string()])?;
        for family in Family::BOTH {
            let (here, there) = (prefix(Self::router(family)), prefix(Self::address(family)));
            router.ip(&["addr", "add", &here, "dev", ROUTER_DEVICE])?;
            namespace.ip(&["addr", "add", &there, "dev", Node::DEVICE])?;
            let protocol = if family == Family::V4 { "-4" } else { "-6" };
            let via = Self::router(family).to_string();
            namespace.ip(&[protocol, "route", "add", "default", "via", &via])?;
            let via = lab.client.address(family).to_string();
            for node in &lab.backends {
                node.namespace.ip(&[protocol, "route", "add", &network(family), "via", &via])?;
            }
        }
        Ok(Self { namespace })
    }

    /// Its address.
    #[must_use]
    pub fn address(family: Family) -> IpAddr {
        host(family, 2)
    }

    fn router(family: Family) -> IpAddr {
        host(family, 1)
    }
}

fn host(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 77, 9, number).into(),
        Family::V6 => Ipv6Addr::new(0xfd77, 9, 0, 0, 0, 0, 0, number.into()).into(),
    }
}

fn network(family: Family) -> String {
    prefix(host(family, 0))
}

fn prefix(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 24 } else { 64 })
}
