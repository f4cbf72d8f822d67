//! Datagrams at a steady rate, for which it is known when each was sent and whether it was answered.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{namespace::Namespace, patience, wait_for};

/// An answer that takes longer than this, times [`patience`], is none.
const LATE: Duration = Duration::from_millis(500);
/// Of datagrams that wait while their receiver has to wait for a processor: thousands, which are counted with all that the kernel needs for them.
const BUFFER: libc::c_int = 4 << 20;

/// One flow of numbered datagrams to an echo service, which goes on until this is dropped.
#[derive(Debug)]
pub struct UdpProbes {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// By number.
    probes: Mutex<Vec<Probe>>,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    sent: Instant,
    answered: bool,
}

/// The longest time without an answered datagram between two that were.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// How long.
    pub length: Duration,
    /// Datagrams that were sent in it.
    pub lost: usize,
}

impl UdpProbes {
    /// Begins, and returns when the first answer has come.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn start(from: &Namespace, target: SocketAddr, every: Duration) -> Result<Self> {
        let socket = from.enter(|| connect(target))?.context("open a UDP socket")?;
        let receiver = socket.try_clone()?;
        let shared = Arc::new(Shared::default());
        let (sending, receiving) = (Arc::clone(&shared), Arc::clone(&shared));
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let threads = vec![
            thread("probes out").spawn(move || sending.send(&socket, every))?,
            thread("probes in").spawn(move || receiving.receive(&receiver))?,
        ];
        let probes = Self { shared, threads };
        probes.wait_answered_since(Instant::now(), Duration::from_secs(10))?;
        Ok(probes)
    }

    /// Waits until one is answered that was sent after this moment.
    ///
    /// # Errors
    ///
    /// None is in this time.
    pub fn wait_answered_since(&self, moment: Instant, limit: Duration) -> Result<()> {
        wait_for("a datagram to be answered", limit, || {
            let probes = self.probes();
            let mut since = probes.iter().rev().take_while(|probe| probe.sent > moment);
            Ok(since.any(|probe| probe.answered).then_some(()))
        })
    }

    /// How many were sent so far.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.shared.probes.lock().expect("no panic while locked").len()
    }

    /// How many were sent from one moment to another, and how many of them had no answer. Waits for those that are under way.
    #[must_use]
    pub fn between(&self, from: Instant, to: Instant) -> (usize, usize) {
        std::thread::sleep((to + LATE * patience()).saturating_duration_since(Instant::now()));
        let probes = self.probes();
        let within = || probes.iter().filter(|probe| probe.sent >= from && probe.sent < to);
        (within().count(), within().filter(|probe| !probe.answered).count())
    }

    /// The longest gap that ended after this moment.
    #[must_use]
    pub fn longest_gap_since(&self, moment: Instant) -> Option<Gap> {
        let probes = self.probes();
        let answered: Vec<usize> = (0..probes.len()).filter(|number| probes[*number].answered).collect();
        let gaps = answered.windows(2).filter(|ends| probes[ends[1]].sent > moment).map(|ends| Gap {
            length: probes[ends[1]].sent - probes[ends[0]].sent,
            lost: ends[1] - ends[0] - 1,
        });
        gaps.max_by_key(|gap| gap.length)
    }

    fn probes(&self) -> Vec<Probe> {
        self.shared.probes.lock().expect("no panic while locked").clone()
    }
}

impl Drop for UdpProbes {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn send(&self, socket: &UdpSocket, every: Duration) {
        let mut next = Instant::now();
        for number in 0_usize.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let sent = Instant::now();
            self.probes.lock().expect("no panic while locked").push(Probe { sent, answered: false });
            // What cannot be sent is not answered.
            let _ = socket.send(number.to_string().as_bytes());
            // Who is late does not make up for it: a burst would be lost on its way.
            next = (next + every).max(Instant::now());
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    fn receive(&self, socket: &UdpSocket) {
        let mut buffer = [0; 512];
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(length) = socket.recv(&mut buffer) else { continue };
            let Some(number) = number_in(&buffer[..length]) else { continue };
            let mut probes = self.probes.lock().expect("no panic while locked");
            if let Some(probe) = probes.get_mut(number)
                && probe.sent.elapsed() < LATE * patience()
            {
                probe.answered = true;
            }
        }
    }
}

/// The answer is the name of who answers and what was said.
fn number_in(answer: &[u8]) -> Option<usize> {
    std::str::from_utf8(answer).ok()?.rsplit_once(' ')?.1.parse().ok()
}

fn connect(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    hold_many(&socket)?;
    Ok(socket)
}

/// Has a socket lose nothing while nobody has the time to read it.
pub(super) fn hold_many(socket: &impl AsRawFd) -> io::Result<()> {
    let bytes = BUFFER;
    // SAFETY: the descriptor is open, and the option's value is an int that lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_lie_between_answers() {
        let start = Instant::now();
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        let shared = Arc::new(Shared::default());
        *shared.probes.lock().unwrap() = "!!..!.....!!.."
            .chars()
            .zip(0..)
            .map(|(c, at_ms)| Probe { sent: at(at_ms), answered: c == '!' })
            .collect();
        let probes = UdpProbes { shared, threads: Vec::new() };
        let gap = probes.longest_gap_since(start).unwrap();
        assert_eq!((gap.length, gap.lost), (Duration::from_millis(6), 5));
        assert_eq!(probes.longest_gap_since(at(10)).unwrap().lost, 0, "the last ones may still be answered");
        assert!(probes.longest_gap_since(at(11)).is_none());
        assert_eq!(number_in(b"backend-1 815"), Some(815));
        assert_eq!(number_in(b"backend-1"), None);
    }
}
