//! The way of probes: to the backend's own address by this host's routes, or to the VIP as clients' packets go.
//!
//! Which programs and devices take a probe through the VIP is the daemon's matter, and changes while checks go on. It says so in
//! [`Ways`]; whoever is about to probe asks there for a [`Dial`].

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{Outcome, Target, probe::Dial};
use crate::{config::model::ForwardMode, network::PROBE_OUTER};

/// Where probes are addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// The backend's own address.
    Direct,
    /// This VIP: they are sent to the backend in its mode.
    Vip(IpAddr, ForwardMode),
}

/// Whom probes through a VIP are for: a backend in one of the ways to reach it, shared by all services that have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Probed {
    /// Its own address.
    pub address: IpAddr,
    /// How packets reach it.
    pub mode: ForwardMode,
}

/// How probes through a VIP get to a backend at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approach {
    /// By the pair of devices that the program of probes is on, which knows the backend by this mark. The sources are those of probes to an
    /// IPv4 and to an IPv6 VIP.
    Steered {
        /// Mark of the sockets.
        mark: NonZeroU32,
        /// Address of this host that backends answer to, in IPv4.
        v4: Option<IpAddr>,
        /// The same in IPv6.
        v6: Option<IpAddr>,
    },
    /// By this host's own stack: it is the backend.
    Stack,
    /// Not at all yet: to its own address instead.
    Direct,
    /// Packets find no way to it, for this reason.
    Blocked(String),
    /// Nobody can be asked yet, for this reason, which is none of the backend's.
    NotYet(String),
}

/// The approaches to all backends, as the daemon sees them.
#[derive(Clone, Debug)]
pub struct Ways(watch::Sender<Arc<HashMap<Probed, Approach>>>);

impl Default for Ways {
    fn default() -> Self {
        Self(watch::Sender::new(Arc::default()))
    }
}

impl Ways {
    /// Replaces them all.
    pub fn set(&self, approaches: HashMap<Probed, Approach>) {
        self.0.send_if_modified(|current| {
            let differs = **current != approaches;
            if differs {
                *current = Arc::new(approaches);
            }
            differs
        });
    }

    /// How to dial `target` now. Where packets find no way, waits for one until `deadline`.
    ///
    /// # Errors
    ///
    /// There still is none: that is the outcome of the probe.
    pub async fn dial(&self, target: &Target, deadline: Instant) -> Result<Dial, Outcome> {
        let Way::Vip(vip, mode) = target.way else {
            return Ok(Dial::direct(target.socket_address()));
        };
        let probed = Probed { address: target.address, mode };
        let mut approaches = self.0.subscribe();
        loop {
            let blocked = match approaches.borrow_and_update().get(&probed) {
                Some(Approach::Blocked(reason)) => Outcome::Unreachable { reason: reason.clone() },
                Some(Approach::NotYet(reason)) => Outcome::NotProbed { reason: reason.clone() },
                Some(approach) => return approach.dial(target, SocketAddr::new(vip, target.check.port)),
                None => Outcome::Unreachable { reason: "no way to it is known yet".to_owned() },
            };
            // The sender is this one's own.
            if timeout_at(deadline, approaches.changed()).await.is_err() {
                return Err(blocked);
            }
        }
    }
}

impl Approach {
    fn dial(&self, target: &Target, to: SocketAddr) -> Result<Dial, Outcome> {
        match self {
            Self::Steered { mark, v4, v6 } => match if to.is_ipv4() { v4 } else { v6 } {
                Some(source) => Ok(Dial {
                    to,
                    mark: Some(*mark),
                    device: Some(PROBE_OUTER.to_owned()),
                    source: Some(*source),
                }),
                None => Err(Outcome::NotProbed {
                    reason: format!("this host has no address that {to} could be asked from"),
                }),
            },
            Self::Stack => Ok(Dial::direct(to)),
            Self::Direct => Ok(Dial::direct(target.socket_address())),
            Self::Blocked(reason) => Err(Outcome::Unreachable { reason: reason.clone() }),
            Self::NotYet(reason) => Err(Outcome::NotProbed { reason: reason.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::model::{CheckKind, Dialogue, HealthCheck};

    fn target() -> Target {
        Target {
            address: "10.0.0.1".parse().unwrap(),
            way: Way::Vip("192.0.2.1".parse().unwrap(), ForwardMode::Ipip),
            check: HealthCheck::new(CheckKind::Tcp(Dialogue::default()), 80),
        }
    }

    fn set(ways: &Ways, approach: Approach) {
        let probed = Probed { address: target().address, mode: ForwardMode::Ipip };
        ways.set(HashMap::from([(probed, approach)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_waits_for_a_way_and_fails_if_there_is_none_in_time() {
        let ways = Ways::default();
        let deadline = Instant::now() + Duration::from_secs(1);
        let nothing = ways.dial(&target(), deadline).await.unwrap_err();
        assert_eq!(nothing, Outcome::Unreachable { reason: "no way to it is known yet".to_owned() });

        set(&ways, Approach::Blocked("its neighbour does not answer".to_owned()));
        let mark = NonZeroU32::new(7).unwrap();
        let source: IpAddr = "10.0.0.9".parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(1);
        let target = target();
        let (dialled, ()) = tokio::join!(ways.dial(&target, deadline), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            set(&ways, Approach::Steered { mark, v4: Some(source), v6: None });
        });
        let dial = dialled.unwrap();
        assert_eq!(dial.to, "192.0.2.1:80".parse().unwrap());
        assert_eq!(
            (dial.mark, dial.source, dial.device.as_deref()),
            (Some(mark), Some(source), Some("vip-probe"))
        );
    }

    #[tokio::test]
    async fn without_the_program_it_asks_the_backend_itself_and_on_the_same_host_the_stack() {
        let ways = Ways::default();
        set(&ways, Approach::Direct);
        assert_eq!(
            ways.dial(&target(), Instant::now()).await.unwrap(),
            Dial::direct("10.0.0.1:80".parse().unwrap())
        );
        set(&ways, Approach::Stack);
        assert_eq!(
            ways.dial(&target(), Instant::now()).await.unwrap(),
            Dial::direct("192.0.2.1:80".parse().unwrap())
        );
        let direct = Target { way: Way::Direct, ..target() };
        assert_eq!(
            ways.dial(&direct, Instant::now()).await.unwrap(),
            Dial::direct("10.0.0.1:80".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn a_host_without_an_address_of_the_vips_family_says_so_and_condemns_nobody() {
        let ways = Ways::default();
        set(&ways, Approach::Steered { mark: NonZeroU32::MIN, v4: None, v6: None });
        let outcome = ways.dial(&target(), Instant::now()).await.unwrap_err();
        assert!(matches!(outcome, Outcome::NotProbed { .. }), "{outcome:?}");
    }
}
