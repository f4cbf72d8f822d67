//! Floods from forged sources.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};
use vip_lb_common::{abi::Address, checksum::Sum};

use super::{namespace::Namespace, patience};
use crate::program::Dice;

/// Between two bursts.
const PAUSE: Duration = Duration::from_millis(1);
const IP: usize = 20;
const TCP: usize = 20;

/// Which packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodKind {
    /// Handshakes that never complete.
    Syn,
    /// Packets of connections that never were.
    Ack,
}

/// A flood that runs until it is dropped, each packet from another address and port.
#[derive(Debug)]
pub struct Flood {
    shared: Arc<Shared>,
    sender: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    end: AtomicBool,
    sent: AtomicU64,
}

impl Flood {
    /// Packets in a second that leave a lab with other work some time for it.
    pub const MODERATE: u32 = 10_000;

    /// Starts it: so many packets in a second, divided by [`patience`], or as many as there is time for.
    ///
    /// # Errors
    ///
    /// The target is IPv6, or the kernel gives no raw socket (raw(7)).
    pub fn start(from: &Namespace, target: SocketAddr, kind: FloodKind, rate: u32) -> Result<Self> {
        let SocketAddr::V4(target) = target else { bail!("floods are of IPv4") };
        let socket = from.enter(raw_socket)?.context("open a raw socket")?;
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let sender = std::thread::Builder::new()
            .name("flood".to_owned())
            .spawn(move || send(&socket, target, kind, rate / patience(), &seen))
            .context("start the thread of a flood")?;
        Ok(Self { shared, sender: Some(sender) })
    }

    /// Packets that were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.sender.as_ref().is_some_and(|sender| !sender.is_finished())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
    }
}

/// One for which whoever sends writes the IP header.
fn raw_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    socket.set_header_included_v4(true)?;
    Ok(socket)
}

fn send(socket: &Socket, target: SocketAddrV4, kind: FloodKind, rate: u32, shared: &Shared) {
    let mut dice = Dice::from_environment();
    let to = SocketAddr::V4(target).into();
    let started = Instant::now();
    let mut sent: u64 = 0;
    while !shared.end.load(Ordering::Relaxed) {
        let due = (started.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        // What there was no time for is not made up for by a burst that no link would carry.
        sent = sent.max(due.saturating_sub(u64::from(rate) / 100));
        while sent < due {
            let packet = forged(dice.next_word(), target, kind);
            // A full queue is what a flood is about.
            if socket.send_to(&packet, &to).is_ok() {
                shared.sent.fetch_add(1, Ordering::Relaxed);
            }
            sent += 1;
        }
        std::thread::sleep(PAUSE);
    }
}

/// A segment from an address and port that the random number names: RFC 791, RFC 9293. The kernel writes the checksum of the IP header.
fn forged(random: u64, target: SocketAddrV4, kind: FloodKind) -> [u8; IP + TCP] {
    let [a, b, c, port @ .., e, f, g] = random.to_be_bytes();
    // A source that a host may have, and not one of the lab's.
    let source = Ipv4Addr::new(128 + a % 60, b, c, 1 + e % 250);
    let mut packet = [0; IP + TCP];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&((IP + TCP) as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = libc::IPPROTO_TCP as u8;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&target.ip().octets());
    packet[20..22].copy_from_slice(&port);
    packet[22..24].copy_from_slice(&target.port().to_be_bytes());
    packet[24..28].copy_from_slice(&[e, f, g, a]);
    packet[32] = ((TCP / 4) as u8) << 4;
    packet[33] = match kind {
        FloodKind::Syn => 0x02,
        FloodKind::Ack => 0x10,
    };
    packet[34..36].copy_from_slice(&u16::MAX.to_be_bytes());
    let addresses = [IpAddr::V4(source), IpAddr::V4(*target.ip())].map(Address::from);
    let head = Sum::pseudo_header(&addresses[0], &addresses[1], TCP as u16, packet[9]);
    let words = packet[IP..].chunks_exact(2);
    let sum = words.fold(head, |sum, word| sum.add(u16::from_be_bytes([word[0], word[1]])));
    packet[36..38].copy_from_slice(&sum.finish().to_be_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use super::{FloodKind, forged};
    use crate::packet;

    #[test]
    fn forged_segments_are_well_formed_but_for_what_the_kernel_fills_in() {
        for kind in [FloodKind::Syn, FloodKind::Ack] {
            let segment = forged(0x0123_4567_89ab_cdef, "10.77.1.1:80".parse().expect("an address"), kind);
            let mut frame = packet::eth().bytes()[..12].to_vec();
            frame.extend([0x08, 0x00]);
            frame.extend(segment);
            let sum =
                segment[..20].chunks_exact(2).fold(vip_lb_common::checksum::Sum::default(), |sum, word| {
                    sum.add(u16::from_be_bytes([word[0], word[1]]))
                });
            frame[24..26].copy_from_slice(&sum.finish().to_be_bytes());
            packet::check(&frame).expect("a good segment");
        }
    }
}
