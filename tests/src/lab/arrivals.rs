//! New flows that arrive at a machine, seen on its wire.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result};

use super::namespace::Namespace;

/// One look takes this long at most.
static LOOK: libc::timeval = libc::timeval { tv_sec: 0, tv_usec: 20_000 };

/// Counts the IPv4 flows to a port that comes in at a machine, until it is dropped. It is looked at before the
/// machine's stack, so it is seen whatever that makes of it.
#[derive(Debug)]
pub struct Arrivals {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// By source and destination.
    flows: Mutex<HashSet<(IpAddr, u16, IpAddr)>>,
}

impl Arrivals {
    /// Begins to look.
    ///
    /// # Errors
    ///
    /// The kernel gives no packet socket (packet(7)).
    pub fn watch(at: &Namespace, port: u16) -> Result<Self> {
        let socket = at.enter(packet_socket)?.context("open a packet socket")?;
        let shared = Arc::new(Shared::default());
        let state = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("arrivals".to_owned()).spawn(move || {
            let mut packet = [0_u8; 128];
            while !state.stop.load(Ordering::Relaxed) {
                // SAFETY: the buffer is as long as it says.
                let length =
                    unsafe { libc::recv(socket.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), 0) };
                let Some(packet) = usize::try_from(length).ok().and_then(|length| packet.get(..length))
                else {
                    continue;
                };
                if let Some((key, to)) = syn(packet)
                    && to == port
                {
                    state.flows.lock().expect("no panic while locked").insert(key);
                }
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// How many new flows have come.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.flows.lock().expect("no panic while locked").len()
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn packet_socket() -> io::Result<OwnedFd> {
    let protocol = i32::from((libc::ETH_P_IP as u16).to_be());
    // SAFETY: a new socket, whose descriptor is this one's own.
    let socket = unsafe {
        let descriptor = libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, protocol);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(descriptor)
    };
    // SAFETY: the option's value is as long as it says.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const LOOK).cast(),
            size_of_val(&LOOK) as libc::socklen_t,
        )
    };
    if set == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// Source, source port and destination of a SYN without tunnel or options, and the port it goes to.
fn syn(packet: &[u8]) -> Option<((IpAddr, u16, IpAddr), u16)> {
    const SYN_ALONE: u8 = 0x02;
    let &[0x45, _, _, _, _, _, _, _, _, 6, _, _, a, b, c, d, e, f, g, h, s, t, u, v, ..] = packet else {
        return None;
    };
    let flags = packet.get(33)? & 0x17;
    let source = IpAddr::from(Ipv4Addr::new(a, b, c, d));
    let destination = IpAddr::from(Ipv4Addr::new(e, f, g, h));
    (flags == SYN_ALONE)
        .then(|| ((source, u16::from_be_bytes([s, t]), destination), u16::from_be_bytes([u, v])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_opens_a_connection_is_a_new_flow() {
        let mut packet = [0_u8; 40];
        packet[0] = 0x45;
        packet[9] = 6;
        packet[12..24].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 0, 80]);
        packet[33] = 0x02;
        let found = ((IpAddr::from([10, 0, 0, 1]), 40_000, IpAddr::from([10, 0, 0, 2])), 80);
        assert_eq!(syn(&packet), Some(found));
        packet[33] = 0xc2;
        assert_eq!(syn(&packet), Some(found), "with ECN");
        for flags in [0x12, 0x10, 0x04] {
            packet[33] = flags;
            assert_eq!(syn(&packet), None);
        }
        packet[33] = 0x02;
        packet[9] = 17;
        assert_eq!(syn(&packet), None);
        assert_eq!(syn(&packet[..30]), None);
    }
}
