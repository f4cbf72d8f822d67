//! Virtual routers as they are configured.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use vip_lb_common::abi::VirtualMac;

use crate::ownership::vrrp::{Profile, PseudoHeader, Router};

/// Switches forget after some minutes (300 s by IEEE 802.1Q section 8.8.3), the shortest that are common after one.
const TEACH_SWITCHES: Duration = Duration::from_secs(30);

/// Routers that move together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSetup {
    /// One at least.
    pub routers: Vec<RouterSetup>,
}

/// A virtual router, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterSetup {
    /// Its name on the link.
    pub router: Router,
    /// By which it speaks.
    pub interface: String,
    /// Of this node; the source is the interface's, and left open here.
    pub profile: Profile,
    /// To whom adverts are sent; none for multicast.
    pub peers: Vec<IpAddr>,
    /// Of its adverts over IPv4.
    pub pseudo_header: PseudoHeader,
    /// Whether it has a hardware address of its own (RFC 9568 section 7.3).
    pub virtual_mac: bool,
    /// How often neighbours are told again, if at all.
    pub refresh: Option<Duration>,
    /// Its addresses, in the order of adverts.
    pub vips: Vec<IpAddr>,
    /// Those of them that are put on the interface while this node is active, with the lengths of their prefixes.
    pub addresses: BTreeMap<IpAddr, u8>,
}

impl RouterSetup {
    /// Its own hardware address, if it has one.
    pub(super) fn mac(&self) -> Option<VirtualMac> {
        self.virtual_mac.then(|| self.router.mac())
    }

    /// Of what it has leases: its addresses, and the hardware address if that is its own.
    pub(super) fn leased(&self) -> impl Iterator<Item = IpAddr> {
        self.mac().map(|mac| mac.key().into()).into_iter().chain(self.vips.iter().copied())
    }

    /// How often neighbours are told again. Where adverts leave from the interface's hardware address, a switch would forget the router's, and
    /// send what is for it to all.
    pub(super) fn refresh(&self) -> Option<Duration> {
        let least = (self.virtual_mac && !self.peers.is_empty()).then_some(TEACH_SWITCHES);
        self.refresh.into_iter().chain(least).min()
    }
}
