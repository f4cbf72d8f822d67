//! Requests to the kernel's routing netlink.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use rtnetlink::{
    Handle,
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        link::{LinkAttribute, LinkExtentMask, LinkMessage},
        route::{RouteAttribute, RouteMessage},
    },
    sys::{AsyncSocket as _, Socket},
};
use tokio::task::AbortHandle;

use super::{
    interface::{Interface, InterfaceError, check_name},
    keep_fresh,
    layers::Layers,
    neighbour::{Entry, Neighbour, key_message},
    next_hop::{Hop, NextHop, ResolveError, RouteAnswer, check_question},
    resolver::Wanted,
};

/// How long to wait for an answer. The kernel answers within the request, so only a lost answer takes long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to the kernel's routing netlink, and what is kept fresh over it.
///
/// Dropping it leaves the kernel's managed neighbours as they are: they serve the packet path, not the
/// daemon.
pub struct Network {
    pub(super) requests: Requests,
    pub(super) keeping: Arc<Mutex<keep_fresh::Keeping>>,
    connection: AbortHandle,
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop_triggering();
        self.connection.abort();
    }
}

impl Network {
    /// Connects in the network namespace of the calling thread, within a tokio runtime that has its timer
    /// enabled.
    /// Reading needs no privileges; keeping neighbours fresh needs `CAP_NET_ADMIN`.
    pub fn open() -> io::Result<Self> {
        let (requests, connection) = Requests::open(|_| Ok(()))?;
        Ok(Self { requests, keeping: Arc::default(), connection })
    }

    /// The Ethernet interface of that name.
    pub async fn interface(&self, name: &str) -> Result<Interface, InterfaceError> {
        check_name(name)?;
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.requests.link(message).await.map_err(|error| error.of(name))?
    }

    /// All Ethernet interfaces, by one dump.
    pub async fn interfaces(&self) -> io::Result<Vec<Interface>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.requests.send(request, NLM_F_DUMP).await?;
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(message) => Interface::from_message(message).ok(),
                _ => None,
            })
            .collect())
    }

    /// Where packets to `destination` go, from `source_hint` if one is given, by the kernel's own lookup and
    /// its neighbour table as they are now. Nothing is resolved by asking: see [`Self::keep_fresh`].
    pub async fn resolve(
        &self,
        destination: IpAddr,
        source_hint: Option<IpAddr>,
    ) -> Result<NextHop, ResolveError> {
        Resolution::new(&self.requests).resolve(Wanted { destination, source_hint }).await
    }

    /// Like [`Self::resolve`] for many, in their order. Each interface and each neighbour is asked about
    /// once.
    pub async fn resolve_all(&self, wanted: &[Wanted]) -> Vec<(IpAddr, Result<NextHop, ResolveError>)> {
        let mut resolution = Resolution::new(&self.requests);
        let mut answers = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            answers.push((wanted.destination, resolution.resolve(*wanted).await));
        }
        answers
    }
}

/// What was learned while resolving a batch.
struct Resolution<'a> {
    requests: &'a Requests,
    interfaces: HashMap<u32, Interface>,
    macs: HashMap<Neighbour, Option<[u8; 6]>>,
}

impl<'a> Resolution<'a> {
    fn new(requests: &'a Requests) -> Self {
        Self { requests, interfaces: HashMap::new(), macs: HashMap::new() }
    }

    async fn resolve(&mut self, wanted: Wanted) -> Result<NextHop, ResolveError> {
        let Wanted { destination, source_hint } = wanted;
        check_question(destination, source_hint)?;
        let route = self.route(destination, source_hint).await?;
        let neighbour = match route.hop(destination)? {
            Hop::Local => return Ok(NextHop::Local),
            Hop::Neighbour(neighbour) => neighbour,
        };
        let layers = self.layers(destination, neighbour.ifindex).await?;
        let mac = self.mac(destination, neighbour).await?;
        route.via(destination, source_hint, &layers, mac).map(NextHop::Via)
    }

    /// The route's interface and those below it, down to the one that frames leave by.
    async fn layers(&mut self, destination: IpAddr, ifindex: u32) -> Result<Layers, ResolveError> {
        let mut layers = Layers::new(self.egress(destination, ifindex).await?);
        loop {
            let missing = layers.missing().map_err(|reason| ResolveError::Layers {
                destination,
                interface: layers.top().name.clone(),
                reason,
            })?;
            match missing {
                Some(below) => layers.push(self.egress(destination, below).await?),
                None => return Ok(layers),
            }
        }
    }

    async fn route(&self, destination: IpAddr, hint: Option<IpAddr>) -> Result<RouteAnswer, ResolveError> {
        let error = match self.requests.route(destination, hint).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        // A source that is not this host's is refused with an error that also means there is no route; which
        // of both it is shows when asked without.
        let Some(hint) =
            hint.filter(|_| matches!(error.raw_os_error(), Some(libc::ENETUNREACH | libc::EINVAL)))
        else {
            return Err(ResolveError::from_route_lookup(destination, error));
        };
        match self.requests.route(destination, None).await {
            Ok(_) => Err(ResolveError::SourceRejected { destination, hint }),
            Err(error) => Err(ResolveError::from_route_lookup(destination, error)),
        }
    }

    async fn egress(&mut self, destination: IpAddr, ifindex: u32) -> Result<Interface, ResolveError> {
        if let Some(known) = self.interfaces.get(&ifindex) {
            return Ok(known.clone());
        }
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        let answer = self.requests.link(message).await;
        let interface = answer
            .map_err(|error| error.of(&format!("#{ifindex}")))
            .flatten()
            .map_err(|source| ResolveError::Egress { destination, source })?;
        self.interfaces.insert(ifindex, interface.clone());
        Ok(interface)
    }

    async fn mac(
        &mut self,
        destination: IpAddr,
        neighbour: Neighbour,
    ) -> Result<Option<[u8; 6]>, ResolveError> {
        if let Some(known) = self.macs.get(&neighbour) {
            return Ok(*known);
        }
        let entry = self.requests.neighbour(neighbour).await.map_err(|source| ResolveError::Netlink {
            destination,
            subject: "the neighbour",
            source,
        })?;
        let mac = entry.and_then(|entry| entry.mac);
        self.macs.insert(neighbour, mac);
        Ok(mac)
    }
}

/// The requests themselves. Errors carry the kernel's error number.
#[derive(Clone)]
pub(super) struct Requests(Handle);

impl Requests {
    /// Connects by a socket that is prepared first. The connection lives in a task of its own, which the handle ends.
    pub(super) fn open(prepare: impl FnOnce(&Socket) -> io::Result<()>) -> io::Result<(Self, AbortHandle)> {
        let (mut connection, handle, _) = rtnetlink::new_connection()?;
        prepare(connection.socket_mut().socket_ref())?;
        // Without the end of its answer, a request of a connection that died would look as if it had
        // succeeded.
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        Ok((Self(handle), tokio::spawn(connection).abort_handle()))
    }

    /// Sends one request and returns what the kernel says to it, once it has acknowledged it.
    pub(super) async fn send(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let ended = || io::Error::new(io::ErrorKind::BrokenPipe, "the netlink connection ended");
        let mut answers = self.0.clone().request(request).map_err(|_| ended())?;
        let collect = async {
            let mut messages = Vec::new();
            while let Some(answer) = answers.next().await {
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => messages.push(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(messages),
                    _ => {}
                }
            }
            Err(ended())
        };
        tokio::time::timeout(ANSWER_TIMEOUT, collect)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel's answer was lost")))
    }

    /// The entry of a neighbour, `None` if there is none.
    pub(super) async fn neighbour(&self, neighbour: Neighbour) -> io::Result<Option<Entry>> {
        match self.send(RouteNetlinkMessage::GetNeighbour(key_message(neighbour)), 0).await {
            Ok(answers) => Ok(answers.iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewNeighbour(message) => Entry::from_message(message),
                _ => None,
            })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn route(&self, destination: IpAddr, source: Option<IpAddr>) -> io::Result<RouteAnswer> {
        let mut message = RouteMessage::default();
        let (family, length) = match destination {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        message.header.address_family = family;
        message.header.destination_prefix_length = length;
        message.attributes.push(RouteAttribute::Destination(destination.into()));
        if let Some(source) = source {
            message.header.source_prefix_length = length;
            message.attributes.push(RouteAttribute::Source(source.into()));
        }
        let answers = self.send(RouteNetlinkMessage::GetRoute(message), 0).await?;
        answers
            .iter()
            .find_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => Some(RouteAnswer::from_message(message)),
                _ => None,
            })
            .ok_or_else(unreadable)
    }

    /// The link that the message names.
    async fn link(&self, mut message: LinkMessage) -> Result<Result<Interface, InterfaceError>, LinkError> {
        // Statistics are most of an answer's size.
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let answers = self.send(RouteNetlinkMessage::GetLink(message), 0).await.map_err(LinkError)?;
        answers
            .iter()
            .find_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(message) => Some(Interface::from_message(message)),
                _ => None,
            })
            .ok_or_else(|| LinkError(unreadable()))
    }
}

/// An error of a link request that does not know yet by what name the link was asked for.
struct LinkError(io::Error);

impl LinkError {
    fn of(self, name: &str) -> InterfaceError {
        let name = name.to_owned();
        match self.0.raw_os_error() {
            Some(libc::ENODEV) => InterfaceError::NotFound { name },
            _ => InterfaceError::Netlink { name, source: self.0 },
        }
    }
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer cannot be read")
}
