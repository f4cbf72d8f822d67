//! The kernel's notifications of changes in the host's network.

use std::{io, os::fd::AsRawFd};

use futures_util::{FutureExt, StreamExt};
use rtnetlink::{
    MulticastGroup,
    packet_core::NetlinkPayload,
    packet_route::RouteNetlinkMessage,
    proto::{NetlinkCodec, NetlinkFramed},
    sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE},
};

use tokio::task::unconstrained;

use super::event::NetworkEvent;

const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Link,
];

/// The receive buffer asked for, in bytes: room for the burst of some thousand neighbours that change with
/// their link.
const RECEIVE_BUFFER: libc::c_int = 4 << 20;

/// A subscription to the changes in a network namespace.
///
/// Nothing is queued here: what is not fetched waits in the socket's buffer, and what does not fit there is
/// reported as [`NetworkEvent::Overrun`].
pub struct Monitor {
    messages: NetlinkFramed<RouteNetlinkMessage, TokioSocket, NetlinkCodec>,
    /// Whether notifications were lost and those still queued are to be thrown away.
    is_behind: bool,
}

impl Monitor {
    /// Subscribes in the network namespace of the calling thread, within a tokio runtime. Needs no
    /// privileges.
    pub fn open() -> io::Result<Self> {
        Self::open_with_buffer(RECEIVE_BUFFER)
    }

    /// Like [`Self::open`], with a receive buffer of this many bytes (the kernel doubles it, and caps it at
    /// `net.core.rmem_max` for those without `CAP_NET_ADMIN`).
    pub fn open_with_buffer(bytes: libc::c_int) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let inner = socket.socket_mut();
        if set_buffer(inner, libc::SO_RCVBUFFORCE, bytes).is_err() {
            set_buffer(inner, libc::SO_RCVBUF, bytes)?;
        }
        let groups = GROUPS.iter().fold(0, |mask, group| mask | 1_u32 << (*group as u32 - 1));
        inner.bind(&SocketAddr::new(0, groups))?;
        Ok(Self { messages: NetlinkFramed::new(socket), is_behind: false })
    }

    /// The next change. Dropping the future loses nothing. After an error the subscription is useless: open
    /// another, and treat it as an overrun.
    pub async fn next(&mut self) -> io::Result<NetworkEvent> {
        loop {
            if self.is_behind {
                // An overrun socket drops everything, without another error, until it was read empty
                // (net/netlink/af_netlink.c, NETLINK_S_CONGESTED). Only what is asked of the kernel after
                // that cannot be out of date unnoticed. What is thrown away the overrun covers.
                match unconstrained(self.messages.next()).now_or_never() {
                    Some(Some(_)) => continue,
                    Some(None) => return Err(ended()),
                    None => {
                        self.is_behind = false;
                        return Ok(NetworkEvent::Overrun);
                    }
                }
            }
            let (message, _) = self.messages.next().await.ok_or_else(ended)?;
            let event = match &message.payload {
                NetlinkPayload::Overrun(_) => {
                    self.is_behind = true;
                    None
                }
                NetlinkPayload::InnerMessage(message) => NetworkEvent::from_message(message),
                _ => None,
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the subscription to network changes ended")
}

fn set_buffer(socket: &impl AsRawFd, option: libc::c_int, bytes: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the option's value is a `c_int` that lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
