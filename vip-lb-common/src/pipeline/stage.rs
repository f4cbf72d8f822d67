//! How the pipeline is cut into functions.
//!
//! A kernel program that did everything in one function would multiply the paths that the verifier walks, and need more stack than there is.
//! So each part ends by saying what comes next, and whoever runs the pipeline calls it: the kernel program in functions that are verified
//! once and for themselves, [`process`](super::process) one after the other.

use super::{Fate, Flow, Link, Network};
use crate::{
    abi::{BackendRef, ServiceRef},
    headers::ETHERNET_LEN,
};

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the packet's fate is sealed and counted.
    Done(Fate),
    /// [`general`](super::general): it is no plain packet.
    General,
    /// A part that few packets need. What is known of the packet is kept in the tables ([`Tables::keep`](crate::Tables::keep)).
    Stage(Stage),
}

/// A part that few packets need. A stage only ever leads to later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// [`own`](super::own): to an address of this node itself.
    Own = 0,
    /// [`deliver`](super::deliver): a flow's packet that is not plain, or whose backend is reached in an unusual way.
    Deliver = 1,
}

/// A packet on its way to another stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub(crate) link: Link,
    pub(crate) network: Network,
    pub(crate) flow: Flow,
    pub(crate) service: ServiceRef,
    pub(crate) backend: BackendRef,
}

impl Job {
    /// The same, with offsets that the verifier takes even if it knows nothing of where they come from.
    #[inline(always)]
    #[must_use]
    pub fn bounded(mut self) -> Self {
        // Behind an Ethernet header and at most two tags of four bytes.
        let behind_tags = |offset: usize| ETHERNET_LEN + (offset.wrapping_sub(ETHERNET_LEN) & 0xc);
        self.link.network = behind_tags(self.link.network);
        self.network.offset = behind_tags(self.network.offset);
        self.network.transport &= 0x3fff;
        self.network.transport_len &= 0xffff;
        self
    }
}
