//! Packet sockets (packet(7)): frames are sent by any interface, and what others claim is heard on one.

use std::{io, mem, os::fd::AsRawFd as _};

use socket2::{Domain, SockFilter, Socket, Type};

use super::announcement::ALL_NODES_MAC;

/// Longer than any frame that the filter lets in and that says something.
const FRAME: usize = 256;

/// A socket that frames can be sent by, and that hears none. It needs CAP_NET_RAW.
pub(super) fn frame_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A socket by which an interface takes frames to one more hardware address, as long as it is open. It hears none itself.
pub(super) fn admitting(index: u32, mac: [u8; 6]) -> io::Result<Socket> {
    let socket = frame_socket()?;
    set(&socket, libc::PACKET_ADD_MEMBERSHIP, &membership(index, libc::PACKET_MR_UNICAST, mac))?;
    Ok(socket)
}

/// Sends an Ethernet frame by the interface of that index.
pub(super) fn send_frame(socket: &Socket, index: u32, frame: &[u8]) -> io::Result<()> {
    let to = address_of(index, 0);
    // SAFETY: frame and address live until the call returns, and are as long as is said.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size_of_val(&to) as u32,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A socket that hears frames of one interface, behind a filter in the kernel.
pub(super) struct Tap {
    socket: Socket,
    filter: Vec<(u16, u8, u8, u32)>,
}

impl Tap {
    /// Listens to what the filter lets in.
    pub(super) fn open(index: u32, filter: &[libc::sock_filter]) -> io::Result<Self> {
        let mut tap = Self { socket: frame_socket()?, filter: Vec::new() };
        // Before it is bound: nothing else ever comes in.
        tap.set_filter(filter)?;
        set(&tap.socket, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        // Answers to probes over IPv6 go to all nodes, which a card may not let in where IPv6 is turned off.
        let all_nodes = membership(index, libc::PACKET_MR_MULTICAST, ALL_NODES_MAC);
        set(&tap.socket, libc::PACKET_ADD_MEMBERSHIP, &all_nodes)?;
        let at = address_of(index, (libc::ETH_P_ALL as u16).to_be());
        // SAFETY: the address lives until the call returns, and is as long as is said.
        let bound =
            unsafe { libc::bind(tap.socket.as_raw_fd(), (&raw const at).cast(), size_of_val(&at) as u32) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(tap) }
    }

    /// Lets in what another filter does.
    pub(super) fn set_filter(&mut self, filter: &[libc::sock_filter]) -> io::Result<()> {
        let known: Vec<_> = filter.iter().map(|of| (of.code, of.jt, of.jf, of.k)).collect();
        if known != self.filter {
            let instruction = |of: &libc::sock_filter| SockFilter::new(of.code, of.jt, of.jf, of.k);
            self.socket.attach_filter(&filter.iter().map(instruction).collect::<Vec<_>>())?;
            self.filter = known;
        }
        Ok(())
    }

    /// The next frame that has come; none if there is none.
    pub(super) fn receive<'b>(&self, buffer: &'b mut [u8; FRAME]) -> io::Result<Option<&'b [u8]>> {
        // SAFETY: the buffer lives until the call returns, and is as long as is said.
        let length =
            unsafe { libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if length < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        Ok(Some(&buffer[..length as usize]))
    }

    /// Room for a frame.
    pub(super) const fn buffer() -> [u8; FRAME] {
        [0; FRAME]
    }
}

fn membership(index: u32, kind: i32, mac: [u8; 6]) -> libc::packet_mreq {
    let mut membership =
        libc::packet_mreq { mr_ifindex: index as i32, mr_type: kind as u16, mr_alen: 6, mr_address: [0; 8] };
    membership.mr_address[..6].copy_from_slice(&mac);
    membership
}

fn set<T>(socket: &Socket, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: the value lives until the call returns, and is of the type of this option.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The address of an interface, for a protocol in network byte order.
fn address_of(index: u32, protocol: u16) -> libc::sockaddr_ll {
    // SAFETY: all zeros are a valid address.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index as i32;
    address
}
