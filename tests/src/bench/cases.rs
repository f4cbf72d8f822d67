//! What is measured: cases of the load balancer and floors to hold them against.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vip_lb_common::Verdict;

use super::packets::Payload;

/// One kind of packet in one state of the load balancer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// The name in figures.
    pub name: &'static str,
    /// What the load balancer is loaded with.
    pub setup: Setup,
    /// What is sent.
    pub traffic: Traffic,
    /// How every packet must end; a run in which one ends otherwise is void.
    pub verdict: Verdict,
    /// Most instructions for each packet.
    pub instructions: f64,
    /// The floor that times are held against.
    pub floor: Option<Floor>,
}

/// The state of a loaded balancer: one service with ten backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// How the backends are reached.
    pub forwarding: Forwarding,
    /// The VIP is an IPv6 address, and so are its backends.
    pub v6: bool,
    /// The service's protocol.
    pub udp: bool,
    /// State of all slots.
    pub slots: Slots,
}

/// How packets get to the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// By MAC address.
    L2,
    /// In a tunnel of the VIP's own family.
    Ipip,
}

/// State of the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// Closed.
    Settled,
    /// Open, all flows recorded in FLOWS.
    Recorded,
    /// Open, no flow recorded.
    Older,
}

/// A set of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Where to.
    pub destination: IpAddr,
    /// What.
    pub payload: Payload,
}

/// The port of every service.
pub const PORT: u16 = 80;
/// The VIP of IPv4 setups.
pub const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 200, 1, 1));
/// The VIP of IPv6 setups.
pub const VIP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x200, 0, 0, 0, 0, 0, 1));
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9));

/// A time may be this many times that of the floor.
pub const MAX_RATIO: f64 = 1.2;
/// Most instructions that the verifier may have to look at, for each program.
pub const MAX_VERIFIED: f64 = 20_000.0;

const TCP: Traffic = Traffic { destination: VIP, payload: Payload::TcpAck };
const IPIP: Setup = Setup { forwarding: Forwarding::Ipip, v6: false, udp: false, slots: Slots::Settled };
const SETTLED_TCP_IPIP: Case = Case {
    name: "settled_tcp_ipip",
    setup: IPIP,
    traffic: TCP,
    verdict: Verdict::ForwardedIpip,
    instructions: 480.0,
    floor: Some(Floor::RingIpip),
};

/// All cases.
pub const CASES: [Case; 8] = [
    Case {
        name: "non_vip_pass",
        traffic: Traffic { destination: ELSEWHERE, ..TCP },
        verdict: Verdict::NotVip,
        instructions: 150.0,
        floor: None,
        ..SETTLED_TCP_IPIP
    },
    Case {
        name: "settled_tcp_l2",
        setup: Setup { forwarding: Forwarding::L2, ..IPIP },
        verdict: Verdict::ForwardedL2,
        instructions: 350.0,
        floor: Some(Floor::RingMac),
        ..SETTLED_TCP_IPIP
    },
    SETTLED_TCP_IPIP,
    Case {
        name: "settled_udp_ipip",
        setup: Setup { udp: true, ..IPIP },
        traffic: Traffic { payload: Payload::Udp, ..TCP },
        instructions: 528.0,
        ..SETTLED_TCP_IPIP
    },
    Case {
        name: "settled_tcp6_ipip",
        setup: Setup { v6: true, ..IPIP },
        traffic: Traffic { destination: VIP_V6, ..TCP },
        instructions: 528.0,
        ..SETTLED_TCP_IPIP
    },
    Case { name: "syn_ipip", traffic: Traffic { payload: Payload::TcpSyn, ..TCP }, ..SETTLED_TCP_IPIP },
    Case {
        name: "open_tcp_ipip",
        setup: Setup { slots: Slots::Recorded, ..IPIP },
        instructions: 700.0,
        ..SETTLED_TCP_IPIP
    },
    Case {
        name: "older_tcp_ipip",
        setup: Setup { slots: Slots::Older, ..IPIP },
        instructions: 700.0,
        ..SETTLED_TCP_IPIP
    },
];

/// The least that somebody can do. All of them see the packets of [`FLOOR_TRAFFIC`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// Nothing.
    Drop,
    /// Exchange MAC addresses and send.
    Swap,
    /// Parse, find the service, pick a backend, write MAC addresses.
    RingMac,
    /// The same, with an outer IPv4 header.
    RingIpip,
}

/// What the floors are fed.
pub const FLOOR_TRAFFIC: Traffic = TCP;

impl Floor {
    /// All floors.
    pub const ALL: [Self; 4] = [Self::Drop, Self::Swap, Self::RingMac, Self::RingIpip];

    /// Name of its program and in figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "floor_drop",
            Self::Swap => "floor_swap",
            Self::RingMac => "floor_ring_mac",
            Self::RingIpip => "floor_ring_ipip",
        }
    }
}
