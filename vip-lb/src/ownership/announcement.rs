//! What tells neighbours that an address is here now: gratuitous ARP (RFC 5227 section 3, RFC 9568 section 6.4.2) and unsolicited
//! neighbour advertisements (RFC 4861 section 7.2.6), as whole frames.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use vip_lb_common::{abi::Address, checksum::Sum};

/// When each is sent, counted from the take-over. Neighbours take no second change within a second of the first (`locktime` of Linux), and
/// a switch may have been learning: hence more than one, and some after that.
const TIMES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_millis(1200),
    Duration::from_millis(3000),
];

/// When an owner announces what it has.
#[derive(Clone, Debug, Default)]
pub(super) struct Schedule {
    due: VecDeque<Instant>,
}

impl Schedule {
    /// Begins, as of a take-over.
    pub(super) fn begin(&mut self, now: Instant) {
        self.due = TIMES.iter().map(|&after| now + after).collect();
    }

    /// Ends.
    pub(super) fn end(&mut self) {
        self.due.clear();
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.front().copied()
    }

    /// Whether one is due, which counts as done. After the last one of a take-over one follows each `refresh`, if there is such a time.
    pub(super) fn take(&mut self, now: Instant, refresh: Option<Duration>) -> bool {
        if self.next().is_none_or(|due| now < due) {
            return false;
        }
        self.due.pop_front();
        if self.due.is_empty() {
            self.due.extend(refresh.map(|refresh| now + refresh));
        }
        true
    }
}

pub(super) const BROADCAST: [u8; 6] = [0xff; 6];
/// Of `ff02::1`, all nodes (RFC 2464 section 7).
pub(super) const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub(super) const ICMPV6: u8 = 58;
pub(super) const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;
const OVERRIDE: u8 = 0x20;

/// The frame that says that `address` is at `mac`.
pub(super) fn frame(address: IpAddr, mac: [u8; 6]) -> Vec<u8> {
    match address {
        // A request, which all stacks look at; some ignore a reply that nobody asked for.
        IpAddr::V4(address) => arp_request(mac, address, address),
        IpAddr::V6(address) => unsolicited_advertisement(address, mac),
    }
}

/// A question to all of who has `target`, from `sender`.
pub(super) fn arp_request(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    [
        &BROADCAST[..],
        &mac,
        &[0x08, 0x06],
        // Ethernet, IPv4, their lengths, request.
        &[0, 1, 8, 0, 6, 4, 0, 1],
        &mac,
        &sender.octets(),
        &[0; 6],
        &target.octets(),
    ]
    .concat()
}

fn unsolicited_advertisement(address: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    let mut message = [ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0].to_vec();
    message.extend(address.octets());
    // Option 2, target link-layer address, in units of eight bytes.
    message.extend([2, 1]);
    message.extend(mac);
    neighbour_message(ALL_NODES_MAC, mac, address, ALL_NODES, message)
}

/// A message of neighbour discovery as a frame; the checksum is put into the message.
pub(super) fn neighbour_message(
    to: [u8; 6],
    from: [u8; 6],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    mut message: Vec<u8>,
) -> Vec<u8> {
    let length = message.len() as u16;
    let [high, low] = length.to_be_bytes();
    let [source_address, destination_address] =
        [source, destination].map(|address| Address::from(IpAddr::V6(address)));
    let start = Sum::pseudo_header(&source_address, &destination_address, length, ICMPV6);
    let (pairs, _) = message.as_chunks::<2>();
    let sum = pairs.iter().fold(start, |sum, &pair| sum.add(u16::from_be_bytes(pair))).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    [
        &to[..],
        &from,
        &[0x86, 0xdd],
        &[0x60, 0, 0, 0, high, low, ICMPV6, 255],
        &source.octets(),
        &destination.octets(),
        &message,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    #[test]
    fn a_take_over_is_told_five_times_and_now_and_then_afterwards_if_that_is_wanted() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let told = |refresh: Option<u64>| {
            let mut schedule = Schedule::default();
            let mut take = |at: u64| {
                let now = start + Duration::from_millis(at);
                if at == 100 {
                    schedule.begin(now);
                }
                if at == 30_000 {
                    schedule.end();
                }
                schedule.take(now, refresh.map(Duration::from_secs))
            };
            (0..40_000).filter(|at| take(*at)).collect::<Vec<u64>>()
        };
        assert_eq!(told(None), [100, 200, 600, 1300, 3100]);
        assert_eq!(told(Some(10)), [100, 200, 600, 1300, 3100, 13_100, 23_100], "until it is given up");
    }

    #[test]
    fn a_gratuitous_arp_asks_for_the_address_it_has() {
        let frame = frame("192.0.2.10".parse().unwrap(), MAC);
        assert_eq!(frame.len(), 42);
        assert_eq!(frame[..14], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 8, 6]);
        assert_eq!(frame[20..22], [0, 1], "a request");
        assert_eq!(frame[22..28], MAC);
        assert_eq!((&frame[28..32], &frame[38..42]), (&[192, 0, 2, 10][..], &[192, 0, 2, 10][..]));
    }

    #[test]
    fn an_unsolicited_advertisement_overrides_and_adds_up() {
        let frame = frame("2001:db8::10".parse().unwrap(), MAC);
        assert_eq!(frame.len(), 86);
        assert_eq!(frame[..6], ALL_NODES_MAC);
        assert_eq!((frame[21], frame[54], frame[58]), (255, ADVERTISEMENT, OVERRIDE));
        assert_eq!(frame[80..], MAC);
        let (pairs, _) = frame[22..].as_chunks::<2>();
        let pseudo = Sum::new(0).add(32).add(u16::from(ICMPV6));
        let sum = pairs.iter().fold(pseudo, |sum, &pair| sum.add(u16::from_be_bytes(pair)));
        assert_eq!(sum.finish(), 0);
    }
}
