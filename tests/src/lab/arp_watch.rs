//! Who answers ARP for an address, asked again and again.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Family, Node, raw_link::RawLink};

/// Requests for an IPv4 address at a steady rate, from a node that has an address in the same segment, until this is dropped.
#[derive(Debug)]
pub struct ArpWatch {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    answers: Mutex<Vec<Answer>>,
}

/// Somebody said that the address is at its MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When that came in.
    pub at: Instant,
    /// Who.
    pub mac: [u8; 6],
}

impl ArpWatch {
    /// Begins to ask.
    ///
    /// # Errors
    ///
    /// No root, or the node has no interface.
    pub fn start(at: &Node, asked: IpAddr, every: Duration) -> Result<Self> {
        let (IpAddr::V4(own), IpAddr::V4(asked)) = (at.address(Family::V4), asked) else {
            bail!("ARP asks for IPv4 addresses");
        };
        let mac = at.mac()?;
        let sender = RawLink::sender(&at.namespace, Node::DEVICE)?;
        let receiver = RawLink::both_ways(&at.namespace, Node::DEVICE)?;
        let shared = Arc::new(Shared::default());
        let (asking, listening) = (Arc::clone(&shared), Arc::clone(&shared));
        let frame = request(mac, own, asked);
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let threads = vec![
            thread("arp out").spawn(move || {
                while !asking.stop.load(Ordering::Relaxed) {
                    let _ = sender.send(&frame);
                    std::thread::sleep(every);
                }
            })?,
            thread("arp in").spawn(move || {
                while !listening.stop.load(Ordering::Relaxed) {
                    let Ok(Some(frame)) = receiver.receive(Duration::from_millis(20)) else { continue };
                    if let Some(mac) = answer(&frame, mac, asked) {
                        let answer = Answer { at: Instant::now(), mac };
                        listening.answers.lock().expect("no panic while locked").push(answer);
                    }
                }
            })?,
        ];
        Ok(Self { shared, threads })
    }

    /// What has come so far.
    #[must_use]
    pub fn answers(&self) -> Vec<Answer> {
        self.shared.answers.lock().expect("no panic while locked").clone()
    }

    /// For how long two have answered: from the first answer of one until the last of the other. Both must have been there.
    ///
    /// # Errors
    ///
    /// One of them has never answered since that moment.
    pub fn both_answered(&self, since: Instant, former: [u8; 6], next: [u8; 6]) -> Result<Duration> {
        let answers = self.answers();
        ensure!(answers.iter().all(|answer| [former, next].contains(&answer.mac)), "a third one answers");
        let last =
            answers.iter().rev().find(|answer| answer.mac == former).context("the former never answered")?;
        let first = answers
            .iter()
            .find(|answer| answer.mac == next && answer.at > since)
            .context("the next one never answered")?;
        Ok(last.at.saturating_duration_since(first.at))
    }
}

impl Drop for ArpWatch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

const ARP: [u8; 2] = [0x08, 0x06];
/// Ethernet, IPv4, with lengths 6 and 4.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// RFC 826, a request.
fn request(mac: [u8; 6], own: Ipv4Addr, asked: Ipv4Addr) -> Vec<u8> {
    [&[0xff; 6][..], &mac, &ARP, &KIND, &[0, 1], &mac, &own.octets(), &[0; 6], &asked.octets()].concat()
}

/// Who says in this frame, to us, that the address is at it.
fn answer(frame: &[u8], us: [u8; 6], asked: Ipv4Addr) -> Option<[u8; 6]> {
    let is_reply = frame.get(12..22)? == [&ARP[..], &KIND, &[0, 2]].concat();
    let is_to_us = frame.get(..6)? == us && frame.get(28..32)? == asked.octets();
    (is_reply && is_to_us).then(|| frame[22..28].try_into().expect("six bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reply_to_us_about_the_address_is_an_answer() {
        let (us, them) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let (own, asked) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let mut reply = request(them, asked, own);
        reply[..6].copy_from_slice(&us);
        assert_eq!(answer(&reply, us, asked), None, "a request");
        reply[21] = 2;
        assert_eq!(answer(&reply, us, asked), Some(them));
        assert_eq!(answer(&reply, us, own), None);
        assert_eq!(answer(&reply, them, asked), None);
        assert_eq!(answer(&reply[..30], us, asked), None);
    }
}
