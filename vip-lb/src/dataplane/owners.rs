//! OWNERS: for how long this node answers for VIPs that are leased.

use std::{
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use anyhow::Context as _;
use vip_lb_common::abi::{Address, Lease};

use super::{inspect::monotonic, maps::Dataplane, raw};

/// The leases. It is written by one thread, which is not the one of the other maps.
pub struct Owners(OwnedFd);

impl Dataplane {
    /// The leases, for who gives them.
    pub fn leases(&self) -> anyhow::Result<Owners> {
        let map = self.owners().fd().as_fd().try_clone_to_owned();
        Ok(Owners(map.context("cannot copy the descriptor of OWNERS")?))
    }
}

impl Owners {
    /// Gives a lease from now on, in the place of any other.
    pub fn lease(&self, vip: IpAddr, lasts: Duration) -> anyhow::Result<()> {
        let until = (monotonic() + lasts).as_nanos() as u64;
        raw::update_bytes(&self.0, Address::from(vip).octets(), &until.to_ne_bytes())
            .with_context(|| format!("cannot write the lease of {vip} into OWNERS"))
    }

    /// Takes one back, if there is any.
    pub fn end(&self, vip: IpAddr) -> anyhow::Result<()> {
        raw::delete(&self.0, Address::from(vip))
            .with_context(|| format!("cannot end the lease of {vip} in OWNERS"))
    }

    /// All of them with the time that they last from now on; none for those that are over.
    pub fn all(&self) -> anyhow::Result<Vec<(IpAddr, Duration)>> {
        let now = monotonic().as_nanos() as u64;
        let all: Vec<(Address, Lease)> = raw::entries(&self.0).context("cannot read OWNERS")?;
        let left = |lease: Lease| Duration::from_nanos(lease.until.saturating_sub(now));
        Ok(all.into_iter().map(|(vip, lease)| (vip.into(), left(lease))).collect())
    }
}
