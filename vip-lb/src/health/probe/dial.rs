//! The one place where probes get their sockets: whom they are for, and how their packets leave this host.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    os::fd::AsRawFd as _,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpSocket, TcpStream, UdpSocket},
    time::timeout_at,
};

use super::{Limit, io_reason};
use crate::health::Outcome;

/// Whom a probe is sent to, and what steers its packets. Without a mark, device and source it goes by this host's routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Address and port that the packets carry.
    pub to: SocketAddr,
    /// Mark of the socket's packets (`SO_MARK`, socket(7)), for rules and programs on their way out.
    pub mark: Option<NonZeroU32>,
    /// Interface that they leave by (`SO_BINDTODEVICE`, socket(7)).
    pub device: Option<String>,
    /// Address that they come from.
    pub source: Option<IpAddr>,
}

impl Dial {
    /// By this host's routes.
    #[must_use]
    pub fn direct(to: SocketAddr) -> Self {
        Self { to, mark: None, device: None, source: None }
    }

    /// A TCP connection.
    pub(super) async fn tcp(&self, limit: Limit) -> Result<TcpStream, Outcome> {
        let socket = self.socket(Type::STREAM, Protocol::TCP).map_err(|error| failed(&error))?;
        let connecting = TcpSocket::from_std_stream(socket.into()).connect(self.to);
        let Ok(connected) = timeout_at(limit.deadline, connecting).await else {
            return Err(Outcome::Unreachable { reason: format!("no connection within {:?}", limit.timeout) });
        };
        let stream = connected.map_err(|error| failed(&error))?;
        if is_self_connected(&stream, self.to) {
            return Err(Outcome::Unreachable { reason: "connection refused".to_owned() });
        }
        Ok(stream)
    }

    /// A UDP socket that sends to and hears of nobody else.
    pub(super) fn udp(&self) -> Result<UdpSocket, Outcome> {
        let connected = || {
            let socket = self.socket(Type::DGRAM, Protocol::UDP)?;
            socket.connect(&self.to.into())?;
            UdpSocket::from_std(socket.into())
        };
        connected().map_err(|error| failed(&error))
    }

    /// A socket for echo requests, which hears of nobody else. Either the kernel lets this group send such
    /// (`net.ipv4.ping_group_range`, icmp(7)), or it takes CAP_NET_RAW.
    pub(super) fn icmp(&self) -> Result<UdpSocket, Outcome> {
        let protocol = if self.to.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
        let connected = || {
            let socket = match self.socket(Type::DGRAM, protocol) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.socket(Type::RAW, protocol)?
                }
                socket => socket?,
            };
            socket.connect(&SocketAddr::new(self.to.ip(), 0).into())?;
            // Sending and receiving is all the same.
            UdpSocket::from_std(socket.into())
        };
        connected().map_err(|error| failed(&error))
    }

    /// A socket that does not block, with everything but the connection.
    fn socket(&self, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.to), kind, Some(protocol))?;
        socket.set_nonblocking(true)?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark.get())?;
        }
        if let Some(device) = &self.device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        if let Some(source) = self.source {
            if kind != Type::RAW {
                share_ports(&socket)?;
            }
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        Ok(socket)
    }
}

/// Has the port be chosen when the destination is known (`IP_BIND_ADDRESS_NO_PORT`, ip(7), of both families): bound to an address alone, all
/// connections from it would have to have ports of their own, whoever they go to.
fn share_ports(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option reads one integer.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A local port that nobody listens on can be the very one a connecting socket was given: TCP's simultaneous open
/// (RFC 9293, section 3.5) then connects it to itself.
fn is_self_connected(stream: &TcpStream, address: SocketAddr) -> bool {
    stream.local_addr().is_ok_and(|local| local == address)
}

/// For what must not be guessed from others. Every `RandomState` has other keys.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// What it means that a socket could not be had or connected.
pub(super) fn failed(error: &io::Error) -> Outcome {
    let reason = io_reason(error);
    match error.raw_os_error() {
        Some(
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOMEM
            | libc::ENOBUFS
            | libc::EAGAIN
            | libc::EADDRNOTAVAIL
            | libc::EAFNOSUPPORT
            | libc::ENODEV
            | libc::EACCES
            | libc::EPERM,
        ) => Outcome::NotProbed { reason },
        _ => Outcome::Unreachable { reason },
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_to_itself_is_recognised() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.expect("TCP's simultaneous open");
        assert!(is_self_connected(&stream, own));

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(!is_self_connected(&TcpStream::connect(address).await.unwrap(), address));
    }

    #[test]
    fn errors_of_a_connect_are_the_backends_or_our_own() {
        let reason = |text: &str| text.to_owned();
        let unreachable = |text: &str| Outcome::Unreachable { reason: reason(text) };
        for (code, expected) in [
            (libc::ECONNREFUSED, unreachable("connection refused")),
            (libc::EHOSTUNREACH, unreachable("no route to host")),
            (libc::ENETUNREACH, unreachable("network is unreachable")),
            (libc::ETIMEDOUT, unreachable("connection timed out")),
            (libc::ECONNRESET, unreachable("connection reset by peer")),
            (libc::EMFILE, Outcome::NotProbed { reason: reason("too many open files") }),
            (libc::EADDRNOTAVAIL, Outcome::NotProbed { reason: reason("cannot assign requested address") }),
            (libc::ENOBUFS, Outcome::NotProbed { reason: reason("no buffer space available") }),
            (libc::EPERM, Outcome::NotProbed { reason: reason("operation not permitted") }),
        ] {
            assert_eq!(failed(&io::Error::from_raw_os_error(code)), expected, "error {code}");
        }
    }

    #[test]
    fn a_socket_has_what_steers_its_packets() {
        let source = IpAddr::from(Ipv4Addr::new(127, 0, 0, 7));
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let plain = Dial { source: Some(source), ..Dial::direct(to) };
        let socket = plain.socket(Type::STREAM, Protocol::TCP).unwrap();
        assert_eq!(
            socket.local_addr().unwrap().as_socket().unwrap(),
            SocketAddr::new(source, 0),
            "a port too early"
        );

        let marked = Dial { mark: NonZeroU32::new(0x77), device: Some("lo".to_owned()), ..plain };
        match marked.socket(Type::DGRAM, Protocol::UDP) {
            Ok(socket) => {
                assert_eq!(socket.mark().unwrap(), 0x77);
                assert_eq!(socket.device().unwrap().as_deref(), Some(&b"lo"[..]));
            }
            Err(error) => {
                // SAFETY: it only asks the kernel.
                let is_root = unsafe { libc::geteuid() } == 0;
                assert!(!is_root && error.kind() == io::ErrorKind::PermissionDenied, "{error}");
            }
        }
    }
}
