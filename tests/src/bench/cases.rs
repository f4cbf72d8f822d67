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
    /// Most instructions for each packet, where there is an aim.
    pub instructions: Option<f64>,
    /// The floor that times are held against.
    pub floor: Option<Floor>,
    /// It is measured in time too. Not what has a budget of a second, ages in the tables, or takes room in them: more of it than a run that
    /// counts would end otherwise than the case says.
    pub timed: bool,
}

/// The state of a loaded balancer: one service with ten backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// How the backends are reached.
    pub forwarding: Forwarding,
    /// The VIP is an IPv6 address, and so are its backends unless they are of the other family.
    pub v6: bool,
    /// The service's protocol.
    pub udp: bool,
    /// State of all slots.
    pub slots: Slots,
    /// Largest IP packet that the paths to the backends take, in bytes.
    pub mtu: u16,
    /// Largest segment that the service lets a SYN announce, in bytes; 0 sets no limit.
    pub mss: u16,
    /// One of so many flows is looked at closely; none of 0.
    pub sample: u32,
    /// What packets are asked besides.
    pub attention: Attention,
}

impl Setup {
    /// Whether backends have IPv6 addresses.
    pub fn backends_v6(&self) -> bool {
        self.v6 != (self.forwarding == Forwarding::NatAcross)
    }

    /// Whether packets are translated.
    pub fn translates(&self) -> bool {
        matches!(self.forwarding, Forwarding::Nat | Forwarding::NatAcross)
    }
}

/// How packets get to the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// By MAC address.
    L2,
    /// By MAC address, in a VLAN.
    TaggedL2,
    /// In a tunnel of the VIP's own family.
    Ipip,
    /// The same, with a UDP header.
    Gue,
    /// With other addresses and ports. The connections of all clients are in the tables.
    Nat,
    /// The same, in the family that is not the VIP's.
    NatAcross,
}

/// What every packet to a VIP is asked besides the usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// Nothing.
    None,
    /// Whether a daemon is there.
    Watchdog,
    /// Whether it is one of those that somebody watches, and it is none.
    Watched,
    /// The same, and it is one.
    Shown,
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
    /// From whom.
    pub senders: Senders,
}

/// Who sends a set of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Senders {
    /// The clients, whose flows are as the setup says.
    Clients,
    /// Clients that no table knows: each packet of a round is another's, and all are forgotten before the next round.
    Strangers,
    /// The backends of translated connections, to this node.
    Backends,
}

/// The port of every service.
pub const PORT: u16 = 80;
/// The VIP of IPv4 setups.
pub const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 200, 1, 1));
/// The VIP of IPv6 setups.
pub const VIP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x200, 0, 0, 0, 0, 0, 1));
/// The node's own address, which tunnelled and translated packets come from.
pub const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
/// The same of IPv6.
pub const NODE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 0xffff));
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9));

/// A time may be this many times that of the floor.
pub const MAX_RATIO: f64 = 1.2;
/// Most instructions that the verifier may have to look at, for each program.
pub const MAX_VERIFIED: f64 = 20_000.0;

const TCP: Traffic = Traffic { destination: VIP, payload: Payload::TcpAck, senders: Senders::Clients };
const SYN: Traffic = Traffic { payload: Payload::TcpSyn, ..TCP };
const IPIP: Setup = Setup {
    forwarding: Forwarding::Ipip,
    v6: false,
    udp: false,
    slots: Slots::Settled,
    mtu: 1500,
    mss: 0,
    sample: 0,
    attention: Attention::None,
};
const NAT: Setup = Setup { forwarding: Forwarding::Nat, ..IPIP };
const SETTLED_TCP_IPIP: Case = Case {
    name: "settled_tcp_ipip",
    setup: IPIP,
    traffic: TCP,
    verdict: Verdict::ForwardedIpip,
    instructions: Some(480.0),
    floor: Some(Floor::RingIpip),
    timed: true,
};
/// What no floor does anything like, and nobody has set an aim for.
const RARE: Case = Case { instructions: None, floor: None, ..SETTLED_TCP_IPIP };
const COUNTED: Case = Case { timed: false, ..RARE };

/// All cases.
pub const CASES: [Case; 27] = [
    Case {
        name: "non_vip_pass",
        traffic: Traffic { destination: ELSEWHERE, ..TCP },
        verdict: Verdict::NotVip,
        instructions: Some(150.0),
        floor: None,
        ..SETTLED_TCP_IPIP
    },
    Case {
        name: "settled_tcp_l2",
        setup: Setup { forwarding: Forwarding::L2, ..IPIP },
        verdict: Verdict::ForwardedL2,
        instructions: Some(350.0),
        floor: Some(Floor::RingMac),
        ..SETTLED_TCP_IPIP
    },
    SETTLED_TCP_IPIP,
    Case {
        name: "settled_udp_ipip",
        setup: Setup { udp: true, ..IPIP },
        traffic: Traffic { payload: Payload::Udp, ..TCP },
        instructions: Some(528.0),
        ..SETTLED_TCP_IPIP
    },
    Case {
        name: "settled_tcp6_ipip",
        setup: Setup { v6: true, ..IPIP },
        traffic: Traffic { destination: VIP_V6, ..TCP },
        instructions: Some(528.0),
        ..SETTLED_TCP_IPIP
    },
    Case { name: "syn_ipip", traffic: SYN, ..SETTLED_TCP_IPIP },
    Case {
        name: "open_tcp_ipip",
        setup: Setup { slots: Slots::Recorded, ..IPIP },
        instructions: Some(700.0),
        ..SETTLED_TCP_IPIP
    },
    Case {
        name: "older_tcp_ipip",
        setup: Setup { slots: Slots::Older, ..IPIP },
        instructions: Some(700.0),
        ..SETTLED_TCP_IPIP
    },
    Case {
        name: "settled_tcp_gue",
        setup: Setup { forwarding: Forwarding::Gue, ..IPIP },
        verdict: Verdict::ForwardedGue,
        ..RARE
    },
    Case {
        name: "settled_tcp_tagged_l2",
        setup: Setup { forwarding: Forwarding::TaggedL2, ..IPIP },
        verdict: Verdict::ForwardedL2,
        ..RARE
    },
    Case { name: "syn_clamped_ipip", setup: Setup { mss: 1400, ..IPIP }, traffic: SYN, ..RARE },
    Case { name: "known_tcp_nat", setup: NAT, verdict: Verdict::ForwardedNat, ..RARE },
    Case {
        name: "known_tcp_nat46",
        setup: Setup { forwarding: Forwarding::NatAcross, ..IPIP },
        verdict: Verdict::ForwardedNat,
        ..RARE
    },
    Case {
        name: "reply_tcp_nat",
        setup: NAT,
        traffic: Traffic { destination: NODE, senders: Senders::Backends, ..TCP },
        verdict: Verdict::TranslatedReply,
        ..RARE
    },
    Case {
        name: "reply_tcp_nat46",
        setup: Setup { forwarding: Forwarding::NatAcross, ..IPIP },
        traffic: Traffic { destination: NODE_V6, senders: Senders::Backends, ..TCP },
        verdict: Verdict::TranslatedReply,
        ..RARE
    },
    Case {
        name: "settled_tcp_ipip_watchdog",
        setup: Setup { attention: Attention::Watchdog, ..IPIP },
        ..RARE
    },
    Case { name: "settled_tcp_ipip_watched", setup: Setup { attention: Attention::Watched, ..IPIP }, ..RARE },
    Case { name: "settled_tcp_ipip_shown", setup: Setup { attention: Attention::Shown, ..IPIP }, ..COUNTED },
    // Nearly all flows are others than those that are looked at closely, and then all of them are.
    Case { name: "passive_on_tcp_ipip", setup: Setup { sample: 4096, ..IPIP }, ..RARE },
    Case { name: "passive_on_sampled_tcp_ipip", setup: Setup { sample: 1, ..IPIP }, ..RARE },
    Case { name: "passive_on_sampled_syn_ipip", setup: Setup { sample: 1, ..IPIP }, traffic: SYN, ..RARE },
    Case {
        name: "passive_on_sampled_tcp_nat",
        setup: Setup { sample: 1, ..NAT },
        verdict: Verdict::ForwardedNat,
        ..RARE
    },
    Case {
        name: "syn_nat",
        setup: NAT,
        traffic: Traffic { senders: Senders::Strangers, ..SYN },
        verdict: Verdict::ForwardedNat,
        ..COUNTED
    },
    Case {
        name: "first_fragment_ipip",
        setup: Setup { udp: true, ..IPIP },
        traffic: Traffic { payload: Payload::FirstFragment, ..TCP },
        ..COUNTED
    },
    Case {
        name: "later_fragment_ipip",
        setup: Setup { udp: true, ..IPIP },
        traffic: Traffic { payload: Payload::LaterFragment, ..TCP },
        ..COUNTED
    },
    Case { name: "icmp_error_ipip", traffic: Traffic { payload: Payload::IcmpError, ..TCP }, ..COUNTED },
    Case {
        name: "too_big_answered_ipip",
        setup: Setup { mtu: 150, ..IPIP },
        traffic: Traffic { payload: Payload::LongTcpAck, ..TCP },
        verdict: Verdict::TooBigAnswered,
        ..COUNTED
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
