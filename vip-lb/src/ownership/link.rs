//! The interface by which a virtual router speaks: its sockets, and what of the host they need.

use std::{
    ffi::CStr,
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use anyhow::{Context as _, anyhow};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use vip_lb_common::abi::VirtualMac;

use super::{
    envelope,
    obstacle::Obstacle,
    tap::{frame_socket, send_frame},
    vrrp::{Advert, Router},
};

/// An interface as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    index: u32,
    pub(super) mac: [u8; 6],
    /// From which adverts of this family are sent.
    pub(super) source: IpAddr,
}

impl Interface {
    /// Its kernel index.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Looks an interface up.
    ///
    /// # Errors
    ///
    /// It is not there, is down, or has no address of the router's family beside the `vips`: over IPv6 a link-local one (RFC 9568 section 5.1.2.1). Or the
    /// kernel does not say.
    pub(super) fn look_up(name: &str, router: Router, vips: &[IpAddr]) -> Result<Self, Obstacle> {
        let (mut flags, mut index, mut mac, mut source) = (None, None, None, None);
        each_address(|found, entry| {
            if found != name {
                return;
            }
            flags = Some(entry.ifa_flags);
            // SAFETY: the address, where there is one, is of the type that its family says.
            unsafe {
                let Some(address) = entry.ifa_addr.as_ref() else { return };
                match (i32::from(address.sa_family), router) {
                    (libc::AF_PACKET, _) => {
                        let link = &*entry.ifa_addr.cast::<libc::sockaddr_ll>();
                        index = u32::try_from(link.sll_ifindex).ok();
                        mac = link.sll_addr.first_chunk::<6>().copied().filter(|_| link.sll_halen == 6);
                    }
                    (libc::AF_INET, Router::V4(_)) => {
                        let v4 = &*entry.ifa_addr.cast::<libc::sockaddr_in>();
                        let v4 = IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr)));
                        if !vips.contains(&v4) {
                            source.get_or_insert(v4);
                        }
                    }
                    (libc::AF_INET6, Router::V6(_)) => {
                        let v6 =
                            Ipv6Addr::from((*entry.ifa_addr.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr);
                        if v6.is_unicast_link_local() && !vips.contains(&IpAddr::V6(v6)) {
                            source.get_or_insert(IpAddr::V6(v6));
                        }
                    }
                    _ => {}
                }
            }
        })
        .context("cannot ask the kernel for its interfaces")
        .map_err(Obstacle::Unknown)?;
        let flags = flags.with_context(|| format!("there is no interface {name}"))?;
        let runs = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
        if flags & runs != runs {
            return Err(anyhow!("{name} is down").into());
        }
        let family = if matches!(router, Router::V4(_)) { "IPv4" } else { "link-local IPv6" };
        let source = source.with_context(|| format!("{name} has no {family} address"))?;
        let (index, mac) = index.zip(mac).with_context(|| format!("{name} has no Ethernet address"))?;
        Ok(Self { index, mac, source })
    }
}

fn each_address(mut see: impl FnMut(&str, &libc::ifaddrs)) -> io::Result<()> {
    let mut first = std::ptr::null_mut();
    // SAFETY: the pointer is ours to be written.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut next = first;
    // SAFETY: the list lives until it is freed below, and ends with a null pointer.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: every entry has a name.
        if let Ok(name) = unsafe { CStr::from_ptr(entry.ifa_name) }.to_str() {
            see(name, entry);
        }
        next = entry.ifa_next;
    }
    // SAFETY: it was given by getifaddrs and is not used any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(())
}

/// A packet of VRRP.
pub(super) struct Received {
    /// Behind the IP header.
    pub(super) bytes: Vec<u8>,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ttl: u8,
}

/// The sockets of a router.
pub(super) struct Link {
    pub(super) interface: Interface,
    /// From which adverts and announcements are sent, and which these tell: the interface's own, or the virtual router's.
    pub(super) mac: [u8; 6],
    adverts: Socket,
    frames: Socket,
}

impl Link {
    /// Opens them; the first needs CAP_NET_RAW, as does the second.
    pub(super) fn open(
        name: &str,
        interface: Interface,
        router: Router,
        multicast: bool,
        virtual_mac: Option<VirtualMac>,
    ) -> anyhow::Result<Self> {
        let adverts = advert_socket(name, &interface, router, multicast)
            .with_context(|| format!("cannot open a socket for VRRP on {name}"))?;
        let frames = frame_socket().with_context(|| format!("cannot open a packet socket on {name}"))?;
        let mac = virtual_mac.map_or(interface.mac, VirtualMac::octets);
        Ok(Self { interface, mac, adverts, frames })
    }

    /// Sends an advert from the interface's own IP address. To a group it leaves from the hardware address that switches are to learn; to a peer,
    /// whose own only the kernel knows, from the interface's.
    pub(super) fn send(&self, bytes: &[u8], to: IpAddr) -> io::Result<()> {
        if self.mac != self.interface.mac
            && to.is_multicast()
            && let Some(frame) = envelope::frame(self.mac, self.interface.source, to, bytes)
        {
            return self.send_frame(&frame);
        }
        let mut control = Control([0; 64]);
        let length = control.source(self.interface.source, self.interface.index);
        let to = match to {
            IpAddr::V4(_) => SockAddr::from(SocketAddr::new(to, 0)),
            IpAddr::V6(to) => SockAddr::from(SocketAddrV6::new(to, 0, 0, self.interface.index)),
        };
        let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: all zeros are a valid message header.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_namelen = to.len();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = length;
        // SAFETY: all that the header points to lives until the call returns, and is only read.
        let sent = unsafe { libc::sendmsg(self.adverts.as_raw_fd(), &raw const message, 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next packet that has come; none if there is none.
    pub(super) fn receive(&self) -> io::Result<Option<Received>> {
        let mut buffer = [0; 2048];
        let mut control = Control([0; 64]);
        // SAFETY: all zeros are a valid address storage and a valid message header.
        let (mut from, mut message): (libc::sockaddr_in6, libc::msghdr) =
            unsafe { (mem::zeroed(), mem::zeroed()) };
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of_val(&from) as u32;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control.0);
        // SAFETY: all that the header points to lives until the call returns, and is as long as the header says.
        let length = unsafe { libc::recvmsg(self.adverts.as_raw_fd(), &raw mut message, 0) };
        if length < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        let bytes = &buffer[..length as usize];
        Ok(Some(match self.interface.source {
            IpAddr::V4(_) => received_v4(bytes),
            IpAddr::V6(_) => {
                let source = IpAddr::V6(Ipv6Addr::from(from.sin6_addr.s6_addr));
                let (destination, ttl) = received_by(&message);
                Received { bytes: bytes.to_vec(), source, destination: IpAddr::V6(destination), ttl }
            }
        }))
    }

    /// Sends an Ethernet frame.
    pub(super) fn send_frame(&self, frame: &[u8]) -> io::Result<()> {
        send_frame(&self.frames, self.interface.index, frame)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.adverts.as_fd()
    }
}

fn advert_socket(name: &str, interface: &Interface, router: Router, multicast: bool) -> io::Result<Socket> {
    let protocol = Some(Protocol::from(i32::from(Advert::PROTOCOL)));
    let ttl = u32::from(Advert::TTL);
    let domain = if matches!(router, Router::V4(_)) { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::RAW, protocol)?;
    socket.set_nonblocking(true)?;
    // Frames of other VLANs and links say nothing about this one.
    socket.bind_device(Some(name.as_bytes()))?;
    match router.group() {
        IpAddr::V4(group) => {
            socket.set_ttl_v4(ttl)?;
            socket.set_multicast_ttl_v4(ttl)?;
            socket.set_multicast_loop_v4(false)?;
            if multicast {
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface.index))?;
            }
        }
        IpAddr::V6(group) => {
            socket.set_unicast_hops_v6(ttl)?;
            socket.set_multicast_hops_v6(ttl)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_if_v6(interface.index)?;
            socket.set_recv_hoplimit_v6(true)?;
            receive_destinations(&socket)?;
            if multicast {
                socket.join_multicast_v6(&group, interface.index)?;
            }
        }
    }
    Ok(socket)
}

/// Asks for the address that each packet was sent to, which is in its checksum.
fn receive_destinations(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_RECVPKTINFO,
            (&raw const on).cast(),
            size_of_val(&on) as u32,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raw sockets of IPv4 show the IP header (raw(7)); the kernel has looked at its length.
fn received_v4(packet: &[u8]) -> Received {
    let header = usize::from(packet.first().unwrap_or(&0) & 0xf) * 4;
    let address = |at: usize| {
        let octets = packet.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        IpAddr::V4(Ipv4Addr::from(octets.unwrap_or_default()))
    };
    Received {
        bytes: packet.get(header..).unwrap_or_default().to_vec(),
        source: address(12),
        destination: address(16),
        ttl: packet.get(8).copied().unwrap_or(0),
    }
}

/// Where a packet over IPv6 was sent to, and its hop limit.
fn received_by(message: &libc::msghdr) -> (Ipv6Addr, u8) {
    let (mut destination, mut hops) = (Ipv6Addr::UNSPECIFIED, 0);
    // SAFETY: the kernel filled the control buffer, which the header describes; each message's data is of the type that it says.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = next.as_ref() {
            if header.cmsg_level == libc::IPPROTO_IPV6 {
                let data = libc::CMSG_DATA(next);
                match header.cmsg_type {
                    libc::IPV6_PKTINFO => {
                        let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                        destination = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    }
                    libc::IPV6_HOPLIMIT => hops = data.cast::<libc::c_int>().read_unaligned() as u8,
                    _ => {}
                }
            }
            next = libc::CMSG_NXTHDR(message, next);
        }
    }
    (destination, hops)
}

/// Room for control messages, aligned as they are.
#[repr(align(8))]
struct Control([u8; 64]);

impl Control {
    /// Says from which address and by which interface to send; returns the bytes used.
    fn source(&mut self, source: IpAddr, index: u32) -> usize {
        match source {
            IpAddr::V4(source) => {
                let address = libc::in_addr { s_addr: source.to_bits().to_be() };
                let info = libc::in_pktinfo {
                    ipi_ifindex: index as i32,
                    ipi_spec_dst: address,
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                self.put(libc::IPPROTO_IP, libc::IP_PKTINFO, info)
            }
            IpAddr::V6(source) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
                    ipi6_ifindex: index,
                };
                self.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
            }
        }
    }

    fn put<T: Copy>(&mut self, level: i32, kind: i32, data: T) -> usize {
        let header = self.0.as_mut_ptr().cast::<libc::cmsghdr>();
        // SAFETY: the room is aligned as a header and holds it with the data, which are the only message.
        unsafe {
            let space = libc::CMSG_SPACE(size_of::<T>() as u32) as usize;
            assert!(space <= self.0.len(), "control messages are short");
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as usize;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(data);
            space
        }
    }
}
