//! Host routes that this program publishes, and the device that they lead to.
//!
//! They tell routing daemons on this host that packets for an address may come here; the host itself is not to use them. Every route of full
//! length with the protocol number [`ORIGINATOR`] is taken for this program's. The device swallows what is sent there: a dummy, or where the
//! kernel has none one end of a veth pair whose other end takes no IP.

use std::{collections::BTreeSet, io, net::IpAddr};

use rtnetlink::{
    LinkDummy, LinkVeth,
    packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
        route::{
            RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
            RouteType,
        },
    },
};
use thiserror::Error;
use tokio::task::AbortHandle;

use super::{
    Network,
    neighbour::ORIGINATOR,
    netlink::Requests,
    probe_pair::{FORWARDING, IFLA_AF_SPEC, NLA_F_NESTED, attribute, up},
};

/// The alias (`ip link set DEVICE alias ...`) that marks devices made here.
const MARK: &str = "vip-lb: routes of VIPs";

/// `IFLA_INET6_ADDR_GEN_MODE` and its value for no address at all (linux/if_link.h).
const ADDR_GEN_MODE: u16 = 8;
const NO_ADDRESS: u8 = 1;

/// The least that a device can have. IPv6 takes no part in what is below 1280 (RFC 8200 section 5).
const LEAST_MTU: u32 = 68;

/// A route to one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRoute {
    /// Whereto.
    pub destination: IpAddr,
    /// Number of the routing table that it is in.
    pub table: u32,
    /// Its metric (`RTA_PRIORITY`).
    pub metric: u32,
    /// Index of the device that it leads to; 0 for one that leads nowhere.
    pub device: u32,
}

/// The device that routes lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteDevice {
    /// Its index.
    pub index: u32,
    /// What it is.
    pub kind: RouteDeviceKind,
}

/// Devices that swallow packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteDeviceKind {
    /// A dummy.
    Dummy,
    /// One end of a veth pair, where the kernel has no dummies.
    Veth,
}

/// Why there is no device.
#[derive(Debug, Error)]
pub enum RouteDeviceError {
    /// Another one has the name.
    #[error("there is a device `{name}` already, and it is neither a dummy nor one of vip-lb's own")]
    Taken {
        /// The name.
        name: String,
    },
    /// The kernel refuses something.
    #[error("cannot {step} the device `{name}`: {source}")]
    Refused {
        /// The name.
        name: String,
        /// What was tried.
        step: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

/// A connection that asks for routes, with filters that the kernel heeds (`NETLINK_GET_STRICT_CHK`, kernel 4.20): a host may have a million of
/// others.
pub struct HostRoutes {
    requests: Requests,
    connection: AbortHandle,
}

impl Drop for HostRoutes {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl HostRoutes {
    /// Connects in the network namespace of the calling thread, within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The kernel gives no such socket.
    pub fn open() -> io::Result<Self> {
        let (requests, connection) = Requests::open(|socket| socket.set_netlink_get_strict_chk(true))?;
        Ok(Self { requests, connection })
    }

    /// The routes of this program, of both families and all tables.
    ///
    /// # Errors
    ///
    /// The kernel does not answer.
    pub async fn own(&self) -> io::Result<BTreeSet<HostRoute>> {
        let mut found = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.protocol = RouteProtocol::from(ORIGINATOR);
            match self.requests.send(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP).await {
                Ok(answers) => found.extend(answers.iter().filter_map(own_route)),
                // A host without this family has no routes of it.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Adds a route.
    ///
    /// # Errors
    ///
    /// The caller lacks `CAP_NET_ADMIN`, the device is gone or down, or another route, whoever's, has the same destination and metric in this
    /// table (`EEXIST`).
    pub async fn add(&self, route: HostRoute) -> io::Result<()> {
        self.put(route, NLM_F_EXCL).await
    }

    /// Puts a route in the place of one with the same destination and metric in this table, at once.
    ///
    /// # Errors
    ///
    /// The caller lacks `CAP_NET_ADMIN`, or the device is gone or down.
    pub async fn replace(&self, route: HostRoute) -> io::Result<()> {
        self.put(route, NLM_F_REPLACE).await
    }

    async fn put(&self, route: HostRoute, flags: u16) -> io::Result<()> {
        let request = RouteNetlinkMessage::NewRoute(message(route));
        self.requests.send(request, NLM_F_CREATE | flags).await.map(drop)
    }

    /// Removes a route. That it is gone already is no error.
    ///
    /// # Errors
    ///
    /// The caller lacks `CAP_NET_ADMIN`.
    pub async fn remove(&self, route: HostRoute) -> io::Result<()> {
        match self.requests.send(RouteNetlinkMessage::DelRoute(message(route)), 0).await {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            result => result.map(drop),
        }
    }
}

impl Network {
    /// Makes the device that routes lead to, or takes the one that is there: one made here before, or a dummy of somebody else's, which is left
    /// as it is.
    ///
    /// # Errors
    ///
    /// The caller lacks `CAP_NET_ADMIN`, the kernel has neither dummies nor veth, or the name is taken.
    pub async fn route_device(&self, name: &str) -> Result<RouteDevice, RouteDeviceError> {
        let refused = |step| move |source| RouteDeviceError::Refused { name: name.to_owned(), step, source };
        let found = match self.link_of_routes(name).await.map_err(refused("look at"))? {
            Some(found) => found,
            None => {
                self.create(name).await.map_err(refused("create"))?;
                let made = self.link_of_routes(name).await.map_err(refused("look at"))?;
                let gone = || io::Error::from(io::ErrorKind::NotFound);
                FoundLink { is_own: true, ..made.ok_or_else(gone).map_err(refused("find"))? }
            }
        };
        let kind = match (found.kind, found.is_own) {
            (Some(RouteDeviceKind::Veth), false) | (None, _) => {
                return Err(RouteDeviceError::Taken { name: name.to_owned() });
            }
            (Some(kind), _) => kind,
        };
        if found.is_own && !found.is_up {
            self.set_up(name, found.index, kind).await.map_err(refused("set up"))?;
        }
        Ok(RouteDevice { index: found.index, kind })
    }

    /// Removes all devices that were made here, but those with one of these names. Returns the names of those that were removed.
    ///
    /// # Errors
    ///
    /// The caller lacks `CAP_NET_ADMIN`, or the kernel does not answer.
    pub async fn remove_route_devices(&self, kept: &BTreeSet<String>) -> io::Result<Vec<String>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.requests.send(request, NLM_F_DUMP).await?;
        let mut removed = Vec::new();
        for found in answers.iter().filter_map(FoundLink::read) {
            if !found.is_own || kept.contains(&found.name) {
                continue;
            }
            let mut message = LinkMessage::default();
            message.header.index = found.index;
            match self.requests.send(RouteNetlinkMessage::DelLink(message), 0).await {
                Err(error) if error.raw_os_error() != Some(libc::ENODEV) => return Err(error),
                _ => removed.push(found.name),
            }
        }
        Ok(removed)
    }

    async fn link_of_routes(&self, name: &str) -> io::Result<Option<FoundLink>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.requests.send(RouteNetlinkMessage::GetLink(message), 0).await {
            Ok(answers) => Ok(answers.iter().find_map(FoundLink::read)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(&self, name: &str) -> io::Result<()> {
        let dummy = RouteNetlinkMessage::NewLink(LinkDummy::new(name).build());
        match self.requests.send(dummy, NLM_F_CREATE | NLM_F_EXCL).await {
            // No such kind of device.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                let pair = LinkVeth::new(name, &other_end(name)).build();
                let request = RouteNetlinkMessage::NewLink(pair);
                self.requests.send(request, NLM_F_CREATE | NLM_F_EXCL).await?;
            }
            result => drop(result?),
        }
        let found = self.link_of_routes(name).await?.ok_or(io::ErrorKind::NotFound)?;
        let mut message = LinkMessage::default();
        message.header.index = found.index;
        message.attributes.push(LinkAttribute::IfAlias(MARK.to_owned()));
        self.requests.send(RouteNetlinkMessage::SetLink(message), 0).await.map(drop)
    }

    async fn set_up(&self, name: &str, index: u32, kind: RouteDeviceKind) -> io::Result<()> {
        if kind == RouteDeviceKind::Veth {
            let other = self.link_of_routes(&other_end(name)).await?.ok_or(io::ErrorKind::NotFound)?;
            let mut message = up(other.index, &[(FORWARDING, 0)]);
            message.attributes.push(LinkAttribute::Mtu(LEAST_MTU));
            self.requests.send(RouteNetlinkMessage::SetLink(message), 0).await?;
        }
        // It is for routes alone. A host without IPv6 gives it no address anyway.
        let mut message = LinkMessage::default();
        message.header.index = index;
        let mode = attribute(ADDR_GEN_MODE, &[NO_ADDRESS]);
        let of_families = attribute(libc::AF_INET6 as u16 | NLA_F_NESTED, &mode);
        message
            .attributes
            .push(LinkAttribute::Other(DefaultNla::new(IFLA_AF_SPEC | NLA_F_NESTED, of_families)));
        let _ = self.requests.send(RouteNetlinkMessage::SetLink(message), 0).await;
        self.requests.send(RouteNetlinkMessage::SetLink(up(index, &[(FORWARDING, 0)])), 0).await.map(drop)
    }
}

/// The end of a pair that what is sent into the other one arrives at.
fn other_end(name: &str) -> String {
    format!("{name}-in")
}

struct FoundLink {
    name: String,
    index: u32,
    /// None for what can be no device of routes.
    kind: Option<RouteDeviceKind>,
    is_own: bool,
    is_up: bool,
}

impl FoundLink {
    fn read(answer: &RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewLink(link) = answer else { return None };
        let mut found = Self {
            name: String::new(),
            index: link.header.index,
            kind: None,
            is_own: false,
            is_up: link.header.flags.contains(LinkFlags::Up),
        };
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => found.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => found.is_own = alias == MARK,
                LinkAttribute::LinkInfo(infos) => {
                    found.kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(InfoKind::Dummy) => Some(RouteDeviceKind::Dummy),
                        LinkInfo::Kind(InfoKind::Veth) => Some(RouteDeviceKind::Veth),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        Some(found)
    }
}

fn message(route: HostRoute) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, length, scope) = match route.destination {
        IpAddr::V4(_) => (AddressFamily::Inet, 32, RouteScope::Link),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128, RouteScope::Universe),
    };
    message.header = RouteHeader {
        address_family: family,
        destination_prefix_length: length,
        table: RouteHeader::RT_TABLE_UNSPEC,
        protocol: RouteProtocol::from(ORIGINATOR),
        scope,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Destination(route.destination.into()),
        RouteAttribute::Table(route.table),
        RouteAttribute::Priority(route.metric),
        RouteAttribute::Oif(route.device),
    ];
    message
}

fn own_route(answer: &RouteNetlinkMessage) -> Option<HostRoute> {
    let RouteNetlinkMessage::NewRoute(message) = answer else { return None };
    let header = &message.header;
    if header.protocol != RouteProtocol::from(ORIGINATOR) || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut table = u32::from(header.table);
    let (mut destination, mut metric, mut device) = (None, 0, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                destination = Some(IpAddr::V4(*address));
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                destination = Some(IpAddr::V6(*address));
            }
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Oif(index) => device = *index,
            _ => {}
        }
    }
    let destination = destination?;
    let whole = if destination.is_ipv4() { 32 } else { 128 };
    (header.destination_prefix_length == whole).then_some(HostRoute { destination, table, metric, device })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_read_as_it_is_written_and_others_are_not() {
        for destination in ["192.0.2.1", "2001:db8::1"] {
            let route = HostRoute {
                destination: destination.parse().unwrap(),
                table: 70_000,
                metric: 1024,
                device: 7,
            };
            let ours = message(route);
            assert_eq!(own_route(&RouteNetlinkMessage::NewRoute(ours.clone())), Some(route));

            let mut others = ours.clone();
            others.header.protocol = RouteProtocol::Static;
            assert_eq!(own_route(&RouteNetlinkMessage::NewRoute(others)), None);
            let mut wider = ours;
            wider.header.destination_prefix_length = 24;
            assert_eq!(own_route(&RouteNetlinkMessage::NewRoute(wider)), None);
        }
    }

    #[test]
    fn the_name_of_the_other_end_fits() {
        assert_eq!(other_end("twelve_bytes").len(), libc::IFNAMSIZ - 1);
    }
}
