//! Whole frames, sent and received by a device.

use std::{io, mem::MaybeUninit, time::Duration};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::namespace::Namespace;

/// The largest frame that is received; the lab's devices receive none larger unless they merge segments.
const LARGEST: usize = 2048;

/// A packet socket (packet(7)) at a device.
#[derive(Debug)]
pub struct RawLink {
    socket: Socket,
}

impl RawLink {
    /// One that only sends.
    ///
    /// # Errors
    ///
    /// No root, or no such device.
    pub fn sender(namespace: &Namespace, device: &str) -> Result<Self> {
        Self::open(namespace, device, 0)
    }

    /// One that also receives what comes in by the device, but not what leaves by it.
    ///
    /// # Errors
    ///
    /// As [`RawLink::sender`].
    pub fn both_ways(namespace: &Namespace, device: &str) -> Result<Self> {
        let link = Self::open(namespace, device, u16::try_from(libc::ETH_P_ALL)?)?;
        link.ignore_outgoing()?;
        Ok(link)
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    ///
    /// The device does not take it.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let sent = self.socket.send(frame)?;
        if sent == frame.len() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WriteZero)) }
    }

    /// Waits for a frame; `None` if none came in this time, which is not zero.
    ///
    /// # Errors
    ///
    /// The device is gone.
    pub fn receive(&self, time: Duration) -> io::Result<Option<Vec<u8>>> {
        self.socket.set_read_timeout(Some(time))?;
        let mut buffer = [MaybeUninit::<u8>::uninit(); LARGEST];
        match self.socket.recv(&mut buffer) {
            Ok(len) => {
                // SAFETY: the kernel has written these.
                Ok(Some(buffer[..len].iter().map(|byte| unsafe { byte.assume_init() }).collect()))
            }
            Err(error)
                if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut, io::ErrorKind::Interrupted]
                    .contains(&error.kind()) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn open(namespace: &Namespace, device: &str, protocol: u16) -> Result<Self> {
        let name = std::ffi::CString::new(device)?;
        let opened = namespace.enter(|| -> Result<Socket> {
            // Without a protocol it receives nothing until it is bound.
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
            // SAFETY: the name is a C string.
            let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
            ensure!(index != 0, "{}", io::Error::last_os_error());
            socket.bind(&address(index, protocol)?)?;
            Ok(socket)
        });
        let socket =
            opened?.with_context(|| format!("open a packet socket at {device} of {}", namespace.name()))?;
        Ok(Self { socket })
    }

    /// PACKET_IGNORE_OUTGOING (since Linux 4.20).
    fn ignore_outgoing(&self) -> Result<()> {
        use std::os::fd::AsRawFd as _;
        let yes: libc::c_int = 1;
        // SAFETY: the value lives through the call and has the length given.
        let set = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_IGNORE_OUTGOING,
                (&raw const yes).cast(),
                size_of_val(&yes) as libc::socklen_t,
            )
        };
        ensure!(set == 0, "ignore outgoing frames: {}", io::Error::last_os_error());
        Ok(())
    }
}

/// A device, and which EtherTypes are received (host byte order; 0 is none).
fn address(index: u32, protocol: u16) -> Result<SockAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: a sockaddr_ll is plain data and smaller than any address.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = u16::try_from(libc::AF_PACKET)?;
    link.sll_protocol = protocol.to_be();
    link.sll_ifindex = i32::try_from(index)?;
    // SAFETY: it was just filled in.
    Ok(unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) })
}
