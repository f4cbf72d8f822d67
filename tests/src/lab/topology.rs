//! The lab itself: client, edge nodes and backends on one segment.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context, Result};

use super::{config::Family, link::Switch, namespace::Namespace, scratch::Scratch, sweep};

const CLIENT: u8 = 2;
const FIRST_EDGE: u8 = 5;
const FIRST_BACKEND: u8 = 11;
const FIRST_NAT_SOURCE: u8 = 95;

/// The VIP of a family: 10.77.1.1 or fd77:1::1.
#[must_use]
pub fn vip(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 77, 1, 1).into(),
        Family::V6 => Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// Own address of the backend with this index, 10.77.0.11 or fd77::11 being the first.
#[must_use]
pub fn backend_address(index: usize, family: Family) -> IpAddr {
    host(FIRST_BACKEND + small(index), family)
}

/// Own address of the edge node with this index, 10.77.0.5 or fd77::5 being the first.
#[must_use]
pub fn edge_address(index: usize, family: Family) -> IpAddr {
    host(FIRST_EDGE + small(index), family)
}

/// An address that no node has, for translated packets of the edge node with this index, 10.77.0.95 or fd77::95 being the first's.
#[must_use]
pub fn nat_source(edge: usize, family: Family) -> IpAddr {
    host(FIRST_NAT_SOURCE + small(edge), family)
}

/// How large a lab is.
#[derive(Clone, Debug, Default)]
pub struct LabOptions {
    /// Machines that run vip-lb, at most 5.
    pub edges: usize,
    /// Servers, at most 80.
    pub backends: usize,
    /// Which of the servers, by index, know nothing of the VIPs.
    pub plain: BTreeSet<usize>,
}

/// Namespaces on one segment, all addressed in both families.
#[derive(Debug)]
pub struct Lab {
    /// Sends the requests; has the VIPs as on-link routes.
    pub client: Node,
    /// Where the daemons run; no node holds a VIP here.
    pub edges: Vec<Node>,
    /// Hold the VIPs on their loopback without announcing them, unless they are plain machines.
    pub backends: Vec<Node>,
    /// Joins them.
    pub switch: Switch,
    /// Files of this lab; its name is the prefix of everything else.
    pub scratch: Scratch,
}

impl Lab {
    /// Builds the namespaces.
    ///
    /// # Errors
    ///
    /// A namespace, link or address could not be made; what was made already is removed again.
    pub fn new(options: &LabOptions) -> Result<Self> {
        sweep::remove_abandoned();
        let scratch = Scratch::new()?;
        let switch = Switch::new(&format!("{}-switch", scratch.name()))?;
        let client = Node::new(&scratch, &switch, "client", CLIENT)?;
        for family in Family::BOTH {
            client.namespace.ip(&["route", "add", &host_prefix(vip(family)), "dev", Node::DEVICE])?;
        }
        let edges = (0..options.edges)
            .map(|index| {
                let name = format!("edge-{}", index + 1);
                let node = Node::new(&scratch, &switch, &name, FIRST_EDGE + small(index))?;
                switch.face_xdp(&name)?;
                Ok(node)
            })
            .collect::<Result<_>>()?;
        let backends = (0..options.backends)
            .map(|index| {
                let name = format!("backend-{}", index + 1);
                let mut node = Node::new(&scratch, &switch, &name, FIRST_BACKEND + small(index))?;
                if !options.plain.contains(&index) {
                    node.hold_vips()?;
                }
                Ok(node)
            })
            .collect::<Result<_>>()?;
        Ok(Self { client, edges, backends, switch, scratch })
    }

    /// The backend of this name, `backend-1` and so on.
    ///
    /// # Panics
    ///
    /// There is none.
    #[must_use]
    pub fn backend(&self, name: &str) -> &Node {
        self.backends.iter().find(|node| node.name == name).expect("a backend of this lab")
    }

    /// Sends the client's packets for the VIPs to one edge node by route, instead of asking the segment who has them.
    ///
    /// # Errors
    ///
    /// `ip route` failed.
    pub fn route_vips_through(&self, edge: &Node) -> Result<()> {
        for family in Family::BOTH {
            let prefix = host_prefix(vip(family));
            let via = edge.address(family).to_string();
            self.client.namespace.ip(&["route", "replace", &prefix, "via", &via, "dev", Node::DEVICE])?;
        }
        Ok(())
    }

    /// Has the backends' packets to the client go by one edge node, as if the client were in a network behind it.
    ///
    /// # Errors
    ///
    /// `ip route` failed.
    pub fn route_answers_through(&self, edge: &Node) -> Result<()> {
        for backend in &self.backends {
            for family in Family::BOTH {
                let prefix = host_prefix(self.client.address(family));
                let via = edge.address(family).to_string();
                backend.namespace.ip(&["route", "replace", &prefix, "via", &via, "dev", Node::DEVICE])?;
            }
        }
        Ok(())
    }

    /// Pulls the cable of a node, or puts it back in.
    ///
    /// # Errors
    ///
    /// `ip` failed.
    pub fn set_cable(&self, node: &Node, plugged: bool) -> Result<()> {
        self.switch.set_port(&node.name, plugged)
    }

    /// Leaves everything behind, namespaces, switch and files, and keeps later labs from sweeping them away.
    ///
    /// # Errors
    ///
    /// The mark that says so cannot be written.
    pub fn keep(&mut self) -> Result<()> {
        let mark = self.scratch.path().join(sweep::KEEP);
        std::fs::write(&mark, "").with_context(|| format!("write {}", mark.display()))?;
        self.client.namespace.keep();
        for node in self.edges.iter_mut().chain(&mut self.backends) {
            node.namespace.keep();
        }
        self.switch.keep();
        self.scratch.keep();
        Ok(())
    }

    /// Names of all namespaces of the lab.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        let nodes = std::iter::once(&self.client).chain(&self.edges).chain(&self.backends);
        nodes.map(|node| node.namespace.name()).chain([self.switch.namespace().name()])
    }
}

/// A machine of the lab.
#[derive(Debug)]
pub struct Node {
    /// Its role and number, `backend-2`; also the name of its port at the switch.
    pub name: String,
    /// Where it lives.
    pub namespace: Namespace,
    host: u8,
    holds_vips: bool,
}

impl Node {
    /// The one interface every node has.
    pub const DEVICE: &str = "eth0";

    fn new(scratch: &Scratch, switch: &Switch, name: &str, host: u8) -> Result<Self> {
        let namespace = Namespace::new(&format!("{}-{name}", scratch.name()))?;
        // Duplicate address detection would keep the addresses unusable for a second or more.
        for scope in ["all", "default"] {
            namespace.sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
            namespace.sysctl(&format!("net/ipv6/conf/{scope}/router_solicitations"), "0")?;
            namespace.sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
        }
        switch.connect(&namespace, Self::DEVICE, name)?;
        let node = Self { name: name.to_owned(), namespace, host, holds_vips: false };
        node.namespace.ip(&[
            "addr",
            "add",
            &format!("{}/24", node.address(Family::V4)),
            "dev",
            Self::DEVICE,
        ])?;
        node.namespace.ip(&[
            "addr",
            "add",
            &format!("{}/64", node.address(Family::V6)),
            "dev",
            Self::DEVICE,
            "nodad",
        ])?;
        Ok(node)
    }

    /// Its own address.
    #[must_use]
    pub fn address(&self, family: Family) -> IpAddr {
        host(self.host, family)
    }

    /// The MAC address of its interface, as `ip` writes it.
    ///
    /// # Errors
    ///
    /// The interface is gone.
    pub fn mac_text(&self) -> Result<String> {
        let links = self.namespace.ip(&["-json", "link", "show", "dev", Self::DEVICE])?;
        let links: serde_json::Value = serde_json::from_str(&links)?;
        Ok(links[0]["address"].as_str().context("a MAC address")?.to_owned())
    }

    /// The MAC address of its interface.
    ///
    /// # Errors
    ///
    /// The interface is gone.
    pub fn mac(&self) -> Result<[u8; 6]> {
        let text = self.mac_text()?;
        let bytes =
            text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>()?;
        bytes.try_into().ok().with_context(|| format!("read {text}"))
    }

    /// Where its servers listen besides the loopback: its own addresses, and the VIPs if it has them.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let own = Family::BOTH.into_iter().map(|family| self.address(family));
        own.chain(Family::BOTH.into_iter().filter(|_| self.holds_vips).map(vip)).collect()
    }

    /// Has it swallow whatever it should send, or no more: packets come in, and nothing goes out but answers to ARP. To others it is a black hole.
    ///
    /// # Errors
    ///
    /// A rule is refused.
    pub fn set_mute(&self, mute: bool) -> Result<()> {
        for family in ["-4", "-6"] {
            // Behind the table of its own addresses, so that what comes in is still taken.
            let action = if mute { "add" } else { "del" };
            self.namespace.ip(&[family, "rule", action, "pref", "1", "blackhole"])?;
        }
        Ok(())
    }

    /// Has it swallow what it should send to one address.
    ///
    /// # Errors
    ///
    /// The route is refused.
    pub fn swallow_answers_to(&self, address: IpAddr) -> Result<()> {
        self.namespace.ip(&["route", "add", "blackhole", &host_prefix(address)])?;
        Ok(())
    }

    /// Makes it a server of the VIPs, which is still silent about them.
    ///
    /// # Errors
    ///
    /// A setting or address is refused.
    pub fn hold_vips(&mut self) -> Result<()> {
        self.put_vips_on_loopback().with_context(|| format!("give {} the VIPs", self.name))?;
        self.holds_vips = true;
        Ok(())
    }

    /// Notes that something else has made it a server of the VIPs, or that it is none any more: servers that start from now on listen
    /// accordingly.
    pub fn note_vips(&mut self, holds: bool) {
        self.holds_vips = holds;
    }

    /// Puts the VIPs on the loopback. IPv4 answers ARP for any address of the host unless told not to; IPv6 answers
    /// solicitations only for addresses of the interface that was asked.
    fn put_vips_on_loopback(&self) -> Result<()> {
        for scope in ["all", Self::DEVICE] {
            self.namespace.sysctl(&format!("net/ipv4/conf/{scope}/arp_ignore"), "1")?;
            self.namespace.sysctl(&format!("net/ipv4/conf/{scope}/arp_announce"), "2")?;
        }
        for family in Family::BOTH {
            let prefix = host_prefix(vip(family));
            let mut arguments = vec!["addr", "add", &prefix, "dev", "lo"];
            if family == Family::V6 {
                arguments.push("nodad");
            }
            self.namespace.ip(&arguments)?;
        }
        Ok(())
    }
}

/// The prefix of one address only, `10.77.1.1/32`.
#[must_use]
pub(super) fn host_prefix(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}/32"),
        IpAddr::V6(address) => format!("{address}/128"),
    }
}

/// The same digits in both families: 10.77.0.11 and fd77::11.
fn host(number: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 77, 0, number).into(),
        Family::V6 => {
            let digits = u16::from(number / 10) * 16 + u16::from(number % 10);
            Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, digits).into()
        }
    }
}

fn small(index: usize) -> u8 {
    u8::try_from(index).ok().filter(|index| *index < 80).expect("a lab has at most 80 nodes of a kind")
}
