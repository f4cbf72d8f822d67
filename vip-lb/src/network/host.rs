//! The addresses and default routes of this host, and the XDP programs on its interfaces.

use std::{collections::HashMap, fmt, io, net::IpAddr};

use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage, LinkXdp, XdpAttached},
        neighbour::NeighbourMessage,
        route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteType},
    },
};

use super::{neighbour::Entry, netlink::Network};

/// The name of the loopback and its index, which is the same in every network namespace.
pub const LOOPBACK: (&str, u32) = ("lo", 1);

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The interface's name.
    pub interface: String,
    /// The host's own address, not that of the other end.
    pub address: IpAddr,
    /// Length of the prefix in bits.
    pub length: u8,
}

/// A route to everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The router, if there is one.
    pub gateway: Option<IpAddr>,
    /// The interface's name.
    pub interface: String,
    /// Whether it is a route of IPv4.
    pub is_v4: bool,
    /// The source that packets of this host get by it.
    pub source: Option<IpAddr>,
    /// The largest packet that it takes, in bytes, where the route limits it.
    pub mtu: Option<u32>,
    /// The segment size announced to the other end, in bytes, where the route limits it (`advmss`).
    pub advmss: Option<u32>,
    /// Its metric; of several routes the lowest counts.
    pub metric: u32,
}

/// An XDP program on an interface, whoever put it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpProgram {
    /// The kernel's number of it.
    pub id: u32,
    /// Whether it runs in the stack instead of in the driver.
    pub is_generic: bool,
}

/// As ip-route(8) takes it: `default via 192.0.2.254 dev eth0`.
impl fmt::Display for DefaultRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("default")?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " dev {}", self.interface)?;
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        match self.mtu {
            Some(mtu) => write!(f, " mtu {mtu}"),
            None => Ok(()),
        }
    }
}

impl Network {
    /// The names of all interfaces by index, of whatever kind.
    ///
    /// # Errors
    ///
    /// The kernel does not answer.
    pub async fn names(&self) -> io::Result<HashMap<u32, String>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.requests.send(request, NLM_F_DUMP).await?;
        Ok(answers
            .iter()
            .filter_map(|answer| {
                let RouteNetlinkMessage::NewLink(link) = answer else { return None };
                link.attributes.iter().find_map(|attribute| match attribute {
                    LinkAttribute::IfName(name) => Some((link.header.index, name.clone())),
                    _ => None,
                })
            })
            .collect())
    }

    /// The names of the devices that are up and unpack IP inside IP.
    ///
    /// # Errors
    ///
    /// The kernel does not answer.
    pub async fn tunnels(&self) -> io::Result<Vec<String>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.requests.send(request, NLM_F_DUMP).await?;
        Ok(answers.iter().filter_map(tunnel).collect())
    }

    /// The XDP program on an interface; of two, the driver's.
    ///
    /// # Errors
    ///
    /// There is no such interface, or the kernel does not answer.
    pub async fn xdp_program(&self, ifindex: u32) -> io::Result<Option<XdpProgram>> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        let answers = self.requests.send(RouteNetlinkMessage::GetLink(message), 0).await?;
        Ok(answers.iter().find_map(|answer| {
            let RouteNetlinkMessage::NewLink(link) = answer else { return None };
            link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Xdp(xdp) => xdp_program(xdp),
                _ => None,
            })
        }))
    }

    /// All addresses of this host.
    ///
    /// # Errors
    ///
    /// The kernel does not answer.
    pub async fn addresses(&self) -> io::Result<Vec<HostAddress>> {
        let names = self.names().await?;
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.requests.send(request, NLM_F_DUMP).await?;
        let read = |answer: &RouteNetlinkMessage| {
            let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
            let interface = names.get(&message.header.index)?.clone();
            own_address(message).map(|address| HostAddress {
                interface,
                address,
                length: message.header.prefix_len,
            })
        };
        Ok(answers.iter().filter_map(read).collect())
    }

    /// The addresses by which the neighbour at a hardware address is known on an interface.
    ///
    /// # Errors
    ///
    /// The kernel does not answer.
    pub async fn addresses_at(&self, ifindex: u32, mac: [u8; 6]) -> io::Result<Vec<IpAddr>> {
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let answers = self.requests.send(request, NLM_F_DUMP).await?;
        let entries = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(message) => Entry::from_message(message),
            _ => None,
        });
        let there = entries.filter(|entry| entry.mac == Some(mac)).map(|entry| entry.neighbour);
        Ok(there.filter(|there| there.ifindex == ifindex).map(|there| there.address).collect())
    }

    /// Gives the loopback an address of its own, of full length.
    ///
    /// # Errors
    ///
    /// The caller lacks `CAP_NET_ADMIN`, or IPv6 is turned off there. An address that is there already is none.
    pub async fn add_to_loopback(&self, address: IpAddr) -> io::Result<()> {
        let request = RouteNetlinkMessage::NewAddress(on_loopback(address));
        match self.requests.send(request, NLM_F_CREATE | NLM_F_EXCL).await {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Takes an address of full length from the loopback. Tells whether it was there.
    ///
    /// # Errors
    ///
    /// The caller lacks `CAP_NET_ADMIN`.
    pub async fn remove_from_loopback(&self, address: IpAddr) -> io::Result<bool> {
        let request = RouteNetlinkMessage::DelAddress(on_loopback(address));
        match self.requests.send(request, 0).await {
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(false),
            result => result.map(|_| true),
        }
    }

    /// The default routes of the main table.
    ///
    /// # Errors
    ///
    /// The kernel does not answer.
    pub async fn default_routes(&self) -> io::Result<Vec<DefaultRoute>> {
        let names = self.names().await?;
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let answers = self.requests.send(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP).await?;
            routes.extend(answers.iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => default_route(message, &names),
                _ => None,
            }));
        }
        Ok(routes)
    }
}

/// IFLA_XDP: which kind, and a number for one program or one for each kind of several (linux/if_link.h).
fn xdp_program(attributes: &[LinkXdp]) -> Option<XdpProgram> {
    let id = |wanted: fn(&LinkXdp) -> Option<u32>| attributes.iter().find_map(wanted);
    let attached = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::Attached(attached) => Some(attached),
        _ => None,
    })?;
    let driver = id(|attribute| match attribute {
        LinkXdp::DrvProgId(id) | LinkXdp::HwProgId(id) => Some(*id),
        _ => None,
    });
    let one = id(|attribute| match attribute {
        LinkXdp::ProgId(id) | LinkXdp::SkbProgId(id) => Some(*id),
        _ => None,
    });
    Some(XdpProgram { id: driver.or(one)?, is_generic: *attached == XdpAttached::SocketBuffer })
}

fn tunnel(answer: &RouteNetlinkMessage) -> Option<String> {
    let RouteNetlinkMessage::NewLink(link) = answer else { return None };
    let is_tunnel = matches!(
        link.header.link_layer_type,
        LinkLayerType::Tunnel | LinkLayerType::Tunnel6 | LinkLayerType::Sit
    );
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    name.filter(|_| is_tunnel && link.header.flags.contains(LinkFlags::Up))
}

fn on_loopback(address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    (message.header.family, message.header.prefix_len) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.index = LOOPBACK.1;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

/// IFA_ADDRESS is the other end's on links between two points; IFA_LOCAL, where it is, is always one's own (linux/if_addr.h).
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    })
    .or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

fn default_route(message: &RouteMessage, names: &HashMap<u32, String>) -> Option<DefaultRoute> {
    let RouteHeader { destination_prefix_length: 0, table: RouteHeader::RT_TABLE_MAIN, .. } = message.header
    else {
        return None;
    };
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut route = DefaultRoute {
        gateway: None,
        interface: String::new(),
        is_v4: message.header.address_family == AddressFamily::Inet,
        source: None,
        mtu: None,
        advmss: None,
        metric: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => route.gateway = Some((*gateway).into()),
            RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => route.gateway = Some((*gateway).into()),
            RouteAttribute::Oif(index) => route.interface.clone_from(names.get(index)?),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::PrefSource(RouteAddress::Inet(source)) => route.source = Some((*source).into()),
            RouteAttribute::PrefSource(RouteAddress::Inet6(source)) => route.source = Some((*source).into()),
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    match metric {
                        RouteMetric::Advmss(size) => route.advmss = Some(*size),
                        RouteMetric::Mtu(mtu) => route.mtu = Some(*mtu),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    // A route over several hops names no single interface.
    (!route.interface.is_empty()).then_some(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_is_read_and_written_as_a_command_takes_it() {
        let names = HashMap::from([(7, "eth0".to_owned())]);
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![
            RouteAttribute::Gateway(RouteAddress::Inet([192, 0, 2, 254].into())),
            RouteAttribute::Oif(7),
            RouteAttribute::Priority(100),
            RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400), RouteMetric::Advmss(1360)]),
        ];
        let route = default_route(&message, &names).unwrap();
        assert_eq!(route.to_string(), "default via 192.0.2.254 dev eth0 metric 100 mtu 1400");
        assert_eq!((route.advmss, route.is_v4), (Some(1360), true));

        message.header.destination_prefix_length = 24;
        assert_eq!(default_route(&message, &names), None);
    }

    #[test]
    fn the_own_end_of_a_link_between_two_points_is_told_from_the_other() {
        let mut message = AddressMessage::default();
        let (other, own) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        message.attributes = vec![AddressAttribute::Address(other), AddressAttribute::Local(own)];
        assert_eq!(own_address(&message), Some(own));
        message.attributes.pop();
        assert_eq!(own_address(&message), Some(other));
    }
}
