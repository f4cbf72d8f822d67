//! ADVERTS: when nodes last said by VRRP that they are active, as the packet path saw it.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::Context as _;
use vip_lb_common::abi::{AdvertKey, AdvertStamp};

use super::{maps::Dataplane, raw};

/// The last advert of each node, for who only looks.
pub struct Adverts(OwnedFd);

impl Dataplane {
    /// The adverts that packets leave a note of.
    ///
    /// # Errors
    ///
    /// This process may have no more descriptors.
    pub fn adverts(&self) -> anyhow::Result<Adverts> {
        let map = self.advert_table().fd().as_fd().try_clone_to_owned();
        Ok(Adverts(map.context("cannot copy the descriptor of ADVERTS")?))
    }
}

impl Adverts {
    /// All of them.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn all(&self) -> anyhow::Result<Vec<(AdvertKey, AdvertStamp)>> {
        raw::entries(&self.0).context("cannot read ADVERTS")
    }
}
