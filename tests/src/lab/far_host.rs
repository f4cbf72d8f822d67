//! A host that is not on the segment: a node of the lab is its router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use super::{
    config::Family,
    link::Veth,
    namespace::Namespace,
    topology::{Lab, Node},
};

const ROUTER_DEVICE: &str = "far";

/// A host in 10.77.9.0/24 and fd77:9::/64, client or server, behind a node of the lab.
#[derive(Debug)]
pub struct FarHost {
    /// Where it lives.
    pub namespace: Namespace,
}

impl FarHost {
    /// Makes it, the router, and the routes of edge nodes and other backends. Its own interface and the segment take 1500 bytes, but the
    /// router sends it no packet larger than `mtu`.
    ///
    /// # Errors
    ///
    /// `ip` or `ethtool` failed.
    pub fn behind(via: &Node, lab: &Lab, mtu: u32) -> Result<Self> {
        let router = &via.namespace;
        let namespace = Namespace::new(&format!("{}-far", lab.scratch.name()))?;
        namespace.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        router.sysctl("net/ipv4/ip_forward", "1")?;
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        Veth::connect((router, ROUTER_DEVICE), (&namespace, Node::DEVICE))?;
        for family in Family::BOTH {
            let (here, there) = (prefix(Self::router(family)), prefix(Self::address(family)));
            router.ip(&["addr", "add", &here, "dev", ROUTER_DEVICE])?;
            namespace.ip(&["addr", "add", &there, "dev", Node::DEVICE])?;
            let protocol = if family == Family::V4 { "-4" } else { "-6" };
            // Not the MTU of the link: what is larger could not come in by it either.
            let (host, mtu) = (Self::address(family).to_string(), mtu.to_string());
            router.ip(&[protocol, "route", "add", &host, "dev", ROUTER_DEVICE, "mtu", &mtu])?;
            let gateway = Self::router(family).to_string();
            namespace.ip(&[protocol, "route", "add", "default", "via", &gateway])?;
            let nodes = lab.edges.iter().chain(&lab.backends).filter(|node| node.name != via.name);
            let via = via.address(family).to_string();
            for node in nodes {
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
