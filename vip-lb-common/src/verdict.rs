//! Every way a packet can end.

/// What the kernel is told to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hand it to the host's stack.
    Pass,
    /// Forget it.
    Drop,
    /// Send it back out where it came in.
    Reply,
    /// Send it to a backend, by the interface that leads there.
    Forward,
}

macro_rules! verdicts {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal, $action:ident;)+) => {
        /// How a packet ended. The number is the index of its counter in VERDICTS, and never changes its meaning.
        #[must_use]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Verdict {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Verdict {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The name that counters, logs and `explain` use.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// One sentence for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => const { trimmed(concat!($($doc),+)) },)+ }
            }

            /// What it means for the packet.
            #[inline(always)]
            pub const fn action(self) -> Action {
                match self { $(Self::$name => Action::$action,)+ }
            }
        }
    };
}

verdicts! {
    /// Not for a VIP: other traffic of this host.
    NotVip = 0, "not_vip", Pass;
    /// Neither IPv4, IPv6 nor ARP.
    NotIp = 1, "not_ip", Pass;
    /// Too short to tell whom it is for.
    ShortFrame = 2, "short_frame", Pass;
    /// ARP or neighbour discovery that does not ask for a VIP this node answers for.
    OtherResolution = 3, "other_resolution", Pass;
    /// For a backend on this very host.
    LocalBackend = 4, "local_backend", Pass;
    /// Forwarded to this host by a peer node, which chose it as the backend.
    FromPeer = 5, "from_peer", Pass;
    /// For a port of a VIP that no service has, or a fragment whose port is not known, where the configuration says pass.
    UnknownServicePassed = 6, "unknown_service_passed", Pass;
    /// Too big for the path to its backend; the sender was told by ICMP.
    TooBigAnswered = 7, "too_big_answered", Reply;
    /// A VIP's MAC address was asked for by ARP and answered.
    ArpAnswered = 8, "arp_answered", Reply;
    /// A VIP's MAC address was asked for by a neighbour solicitation and answered.
    NeighbourAnswered = 9, "neighbour_answered", Reply;
    /// A ping to a VIP was answered.
    EchoAnswered = 10, "echo_answered", Reply;
    /// A backend's answer, translated and sent to its client.
    TranslatedReply = 11, "translated_reply", Forward;
    /// Sent to a backend with new MAC addresses.
    ForwardedL2 = 12, "forwarded_l2", Forward;
    /// Sent to a backend inside another IP header.
    ForwardedIpip = 13, "forwarded_ipip", Forward;
    /// Sent to a backend inside another IP header and a UDP header.
    ForwardedGue = 14, "forwarded_gue", Forward;
    /// Sent to a backend with translated addresses and ports.
    ForwardedNat = 15, "forwarded_nat", Forward;
    /// For a port of a VIP that no service has.
    UnknownService = 16, "unknown_service", Drop;
    /// The service has no backend at present.
    NoBackend = 17, "no_backend", Drop;
    /// The backend it was steered to was removed a moment ago.
    BackendGone = 18, "backend_gone", Drop;
    /// The backend's MAC address or route is not known.
    Unresolved = 19, "unresolved", Drop;
    /// The IP header contradicts itself.
    BadIpHeader = 20, "bad_ip_header", Drop;
    /// A length field says more than the frame holds, or less than its header.
    BadLength = 21, "bad_length", Drop;
    /// The TCP or UDP header is cut short or contradicts itself.
    BadTransportHeader = 22, "bad_transport_header", Drop;
    /// More IPv6 extension headers than are followed.
    ExtensionHeaders = 23, "extension_headers", Drop;
    /// A fragment whose first one, which carries the ports to steer by, has not come by or was too long ago.
    FragmentWithoutFirst = 24, "fragment_without_first", Drop;
    /// Neither TCP, UDP nor ICMP.
    UnsupportedProtocol = 25, "unsupported_protocol", Drop;
    /// ICMP to a VIP that is neither an echo request nor an error, or comes in fragments.
    UnsupportedIcmp = 26, "unsupported_icmp", Drop;
    /// The TTL or hop limit ran out here.
    TtlExpired = 27, "ttl_expired", Drop;
    /// Too big for the path to its backend, and the sender could not be told or was told often enough.
    TooBig = 28, "too_big", Drop;
    /// Of a client whose frames have a service tag or two tags, which answers of a translated backend could not carry.
    TagMismatch = 29, "tag_mismatch", Drop;
    /// The driver left no room in front of the packet for another header.
    NoHeadroom = 30, "no_headroom", Drop;
    /// A peer node sent it here as to a backend, but this host is none.
    PeerLoop = 31, "peer_loop", Drop;
    /// A handshake that met a slot about to close with no room to record it; the client tries again.
    Settling = 32, "settling", Drop;
    /// The daemon has not filled the maps yet.
    NotConfigured = 33, "not_configured", Pass;
    /// Every port of this node towards its backend is taken, or the tables of translated connections are full.
    NatExhausted = 34, "nat_exhausted", Drop;
    /// Of a connection to or from a translated backend that did not begin here.
    NatUnknown = 35, "nat_unknown", Drop;
    /// It has no equivalent in the other address family: options, extension headers, UDP without a checksum, or an ICMP error that only one has.
    NatUntranslatable = 36, "nat_untranslatable", Drop;
    /// An ICMP error that quotes too little to tell a flow by, or nothing that this VIP sent.
    IcmpQuote = 37, "icmp_quote", Drop;
    /// An ICMP error beyond what its service steers in a second.
    IcmpRate = 38, "icmp_rate", Drop;
    /// Unwrapped from its tunnel and handed to the stack.
    Decapsulated = 40, "decapsulated", Pass;
    /// A tunnelled packet from a source that is not allowed, left to the stack.
    DecapSource = 41, "decap_source", Pass;
    /// A tunnelled packet whose inner destination is not a VIP of this host, left to the stack.
    DecapDestination = 42, "decap_destination", Pass;
    /// A tunnelled packet whose inner header is cut short or of the wrong family.
    DecapInner = 43, "decap_inner", Drop;
    /// A tunnelled packet that met congestion but cannot tell its receiver so.
    DecapCongestion = 44, "decap_congestion", Drop;
    /// For a VIP of a node whose daemon has not been heard of for `node.watchdog.after`, left to the host as the configuration says.
    Unattended = 45, "unattended", Pass;
    /// ARP or neighbour discovery that asks for a VIP of which this node has no lease: another node answers for it. The
    /// host, which may have the address, must not answer either.
    NotOwner = 46, "not_owner", Drop;
    /// To a VIP without services: for the programs on this host.
    PlainVip = 47, "plain_vip", Pass;
    /// An advert of VRRP, whose time was noted; for the programs on this host.
    AdvertNoted = 48, "advert_noted", Pass;
}

impl Verdict {
    /// Entries of VERDICTS.
    pub const COUNTERS: usize = 64;

    /// The verdict of a counter, if there is one.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|&verdict| verdict as u32 == number)
    }
}

/// Doc comments begin with a space.
const fn trimmed(text: &str) -> &str {
    text.trim_ascii()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_numbers_are_unique_and_fit_their_map() {
        let names: HashSet<_> = Verdict::ALL.iter().map(|v| v.name()).collect();
        let numbers: HashSet<_> = Verdict::ALL.iter().map(|&v| v as u32).collect();
        assert_eq!((names.len(), numbers.len()), (Verdict::ALL.len(), Verdict::ALL.len()));
        assert!(numbers.iter().all(|&n| (n as usize) < Verdict::COUNTERS));
        assert_eq!(Verdict::from_number(12), Some(Verdict::ForwardedL2));
    }

    #[test]
    fn meanings_are_sentences() {
        for verdict in Verdict::ALL {
            let meaning = verdict.meaning();
            assert!(meaning.ends_with('.') && !meaning.starts_with(' '), "{verdict:?}: {meaning:?}");
        }
    }
}
