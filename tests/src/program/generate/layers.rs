//! Link, network and transport headers with everything that they may carry.

use std::net::IpAddr;

use vip_lb_common::headers::protocol::{TCP, UDP};

use super::Generator;
use crate::packet::{Extension, Frame, eth};

/// IPv4 options (RFC 791 section 3.1, RFC 2113, RFC 1108), and some that contradict themselves.
const IP_OPTIONS: &[&[u8]] = &[
    &[1, 1, 1, 1],
    &[148, 4, 0, 0],
    &[7, 7, 4, 0, 0, 0, 0],
    &[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[131, 7, 4, 10, 0, 0, 1],
    &[137, 11, 4, 10, 0, 0, 1, 10, 0, 0, 2],
    &[130, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[7, 39, 4, 0, 0, 0, 0],
    &[7, 1, 0, 0],
    &[255, 0],
    &[0],
    &[1; 40],
];

/// TCP options (RFC 9293 section 3.2, RFC 7323, RFC 2018): the segment size alone, behind others, at odd offsets, twice, with lengths
/// that lie, behind the end of options.
const TCP_OPTIONS: &[&[u8]] = &[
    &[2, 4, 5, 0xb4],
    &[2, 4, 0xff, 0xff],
    &[2, 4, 0, 0],
    &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7],
    &[1, 2, 4, 5, 0xb4],
    &[1, 1, 1, 2, 4, 5, 0xb4],
    &[8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 2, 4, 5, 0xb4],
    &[3, 3, 7, 2, 4, 5, 0xb4],
    &[2, 4, 5, 0xb4, 2, 4, 9, 0],
    &[2, 3, 5, 0xb4],
    &[2, 0, 5, 0xb4],
    &[2, 1, 5, 0xb4],
    &[2, 44, 5, 0xb4],
    &[254, 0, 2, 4, 5, 0xb4],
    &[254, 60, 2, 4, 5, 0xb4],
    &[0, 2, 4, 5, 0xb4],
    &[5, 34, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4],
    &[1; 36],
    &[2],
    &[1, 1, 1, 2],
];

impl Generator {
    /// Untagged in most cases; with one tag, with two, with more than are known; from a peer or to a virtual router now and then.
    pub(super) fn link(&mut self) -> Frame {
        let vlan = *self.dice.pick(&[100, 100, 7, 0, 4095]);
        let link = match self.dice.below(32) {
            0 | 1 => eth().tag(vlan),
            2 => eth().service_tag(vlan),
            3 => eth().service_tag(7).tag(vlan),
            4 => eth().tag(7).tag(vlan),
            5 => eth().tag(7).service_tag(vlan),
            6 if self.dice.below(4) == 0 => eth().service_tag(7).tag(8).tag(vlan),
            _ => eth(),
        };
        if self.dice.below(24) == 0 && !self.places.peer_macs.is_empty() {
            return link.from_mac(*self.dice.pick(&self.places.peer_macs));
        }
        if self.dice.below(24) == 0 && !self.places.router_macs.is_empty() {
            return link.to_mac(*self.dice.pick(&self.places.router_macs));
        }
        link
    }

    /// An IP header between two addresses of one family, with options or extension headers now and then.
    pub(super) fn ip(&mut self, link: Frame, source: IpAddr, destination: IpAddr) -> Frame {
        let ip = plain_ip(link, source, destination);
        let ip = ip.ttl(*self.dice.pick(&[64, 64, 64, 64, 64, 64, 64, 255, 2, 1, 0]));
        let ip = ip.traffic_class(*self.dice.pick(&[0, 0, 0, 1, 2, 3, 0xb8, 0xff]));
        if destination.is_ipv4() {
            let mut ip = ip.id(self.dice.below(1 << 16) as u16);
            if self.dice.below(3) == 0 {
                ip = ip.may_fragment();
            }
            if self.dice.below(8) == 0 {
                let options = *self.dice.pick::<&[u8]>(IP_OPTIONS);
                ip = ip.option(options);
            }
            return ip;
        }
        let mut ip = ip.flow_label(self.dice.below(1 << 20) as u32);
        if self.dice.below(6) == 0 {
            for _ in 0..*self.dice.pick(&[1, 1, 1, 2, 2, 3, 4, 6, 7]) {
                ip = ip.extension(self.extension());
            }
        }
        ip
    }

    fn extension(&mut self) -> Extension {
        let units = *self.dice.pick(&[0, 0, 0, 1, 2, 5, 20]);
        match self.dice.below(5) {
            0 => Extension::HopByHop(units),
            1 | 2 => Extension::DestinationOptions(units),
            3 => Extension::Routing(units),
            _ => Extension::atomic_fragment(),
        }
    }

    /// A TCP or UDP header; any other protocol without one.
    pub(super) fn transport(&mut self, ip: Frame, protocol: u8, source_port: u16, port: u16) -> Frame {
        match protocol {
            TCP => self.tcp(ip, source_port, port),
            UDP => {
                let udp = ip.udp(source_port, port);
                // No checksum (RFC 768), which IPv6 does not allow (RFC 8200 section 8.1).
                if self.dice.below(8) == 0 { udp.claim_checksum(0) } else { udp }
            }
            other => ip.claim_next(other.into()),
        }
    }

    fn tcp(&mut self, ip: Frame, source_port: u16, port: u16) -> Frame {
        let tcp = ip.tcp(source_port, port).sequence(self.dice.next_word() as u32);
        let tcp = match self.dice.below(12) {
            0..4 => tcp.syn(),
            4 => tcp.fin(),
            5 => tcp.rst(),
            6 => tcp.syn_ack(),
            7 => tcp.flags(self.dice.next_word() as u8),
            _ => tcp,
        };
        let options = *self.dice.pick::<&[u8]>(TCP_OPTIONS);
        if self.dice.below(3) == 0 { tcp.option(options) } else { tcp }
    }

    /// Some bytes behind it, up to a full frame, and sometimes padding that is part of no length.
    pub(super) fn payload(&mut self, frame: Frame) -> Frame {
        let len = match self.dice.below(16) {
            0..6 => 0,
            6..8 => 1 + self.dice.below(8),
            8..12 => self.dice.below(120),
            12..14 => self.dice.below(super::LONGEST),
            _ => super::LONGEST,
        };
        let room = super::LONGEST.saturating_sub(frame.bytes().len());
        let byte = self.dice.next_word() as u8;
        let bytes: Vec<u8> = (0..len.min(room)).map(|index| (index as u8).wrapping_mul(7) ^ byte).collect();
        let frame = frame.payload(&bytes);
        match self.dice.below(12) {
            0 => frame.pad_to(60),
            1 => frame.trailer(&[0xee; 9]),
            _ => frame,
        }
    }

    /// A client's packet in which one field lies.
    pub(super) fn lie(&mut self) -> Frame {
        let target = self.target();
        let client = self.client(target.address);
        let link = self.link();
        let ip = plain_ip(link, client, target.address);
        let number = self.dice.below(1 << 16) as u16;
        let small = *self.dice.pick(&[0, 4, 8, 12, 16, 20, 24, 28, 40, 60]);
        let which = self.dice.below(10);
        let v4 = target.address.is_ipv4();
        let ip = match which {
            0 => ip.claim_len(number),
            1 => ip.claim_len(u16::from(small)),
            2 if v4 => ip.claim_header_len(small),
            3 => ip.claim_version(self.dice.below(16) as u8),
            4 => ip.claim_next(number & 0xff),
            5 if v4 => ip.claim_checksum(number),
            _ => ip,
        };
        let port = self.client_port();
        let transport = if target.protocol == TCP {
            let tcp = ip.tcp(port, target.port);
            match which {
                6 | 8 => tcp.claim_header_len(small),
                7 => tcp.claim_checksum(number),
                _ => tcp,
            }
        } else {
            let udp = ip.udp(port, target.port);
            match which {
                6 => udp.claim_len(number),
                7 => udp.claim_checksum(number),
                8 => udp.claim_len(u16::from(small)),
                _ => udp,
            }
        };
        self.payload(transport)
    }
}

/// An IP header without anything special.
pub(super) fn plain_ip(link: Frame, source: IpAddr, destination: IpAddr) -> Frame {
    let (source, to) = (source.to_string(), destination.to_string());
    if destination.is_ipv4() { link.ipv4(&source, &to) } else { link.ipv6(&source, &to) }
}
