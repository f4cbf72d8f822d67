//! How the pipeline is cut into functions.
//!
//! A kernel program that did everything in one function would multiply the paths that the verifier walks, and need more stack than there is.
//! So each part ends by saying what comes next, and whoever runs the pipeline calls it: the kernel program in functions that are verified
//! once and for themselves, [`process`](super::process) one after the other.

use super::{
    Fate, Flow, Link, Network,
    nat::{Draft, Translation},
};
use crate::{
    Packet, Verdict,
    abi::{Address, BackendRef, ServiceRef},
    headers::ETHERNET_LEN,
    packet::forget,
};

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the packet's fate is sealed and counted.
    Done(Fate),
    /// [`general`](super::general): it is no plain packet.
    General,
    /// [`general`](super::general) once more, with [`Watch::Done`], after those who watch had their look at the packet. It is as it came.
    Watch,
    /// A part that few packets need.
    Stage(Stage, Job),
    /// Another part, with the job of the one that says so, which it may have changed.
    Then(Stage),
}

/// Whether those who watch packets had their look at this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Not yet.
    Due,
    /// They had, or nobody watches.
    Done,
}

/// A part that few packets need. A stage only ever leads to later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// [`own`](super::own): to an address of this node itself.
    Own = 0,
    /// [`fragment`](super::fragment()): a later fragment, which has no ports.
    Fragment = 1,
    /// [`icmp_error`](super::icmp_error()): an ICMP error to a VIP.
    IcmpError = 2,
    /// [`clamp`](super::clamp()): a SYN to, or a SYN-ACK from, a service that limits the size of segments.
    Clamp = 3,
    /// [`nat`](super::nat()): to a service with translated backends.
    Nat = 4,
    /// [`nat_steer`](super::nat_steer): its connection has no entry, or is over; or its backend is asked for before it is noted.
    NatSteer = 5,
    /// [`nat_bind`](super::nat_bind): the entries of its connection are to be written.
    NatBind = 6,
    /// [`sample`](super::sample()): of a flow that is looked at closely, perhaps.
    Sample = 7,
    /// [`translate`](super::translate): to other addresses and ports.
    Translate = 8,
    /// [`translate_error`](super::translate_error): an ICMP error about what is translated.
    TranslateError = 9,
    /// [`deliver`](super::deliver): a flow's packet that is no plain one.
    Deliver = 10,
    /// [`too_big`](super::too_big()): a packet that does not fit the path to its backend.
    TooBig = 11,
    /// [`advert`](super::advert()): an advert of VRRP, which [`Stage::Own`] alone leads to.
    Advert = 12,
}

impl Stage {
    /// Where a flow's packet to a service is sent to its backend.
    #[inline(always)]
    pub(super) fn of_flow(service: ServiceRef) -> Self {
        let unnoted = service.flags & ServiceRef::NAT != 0 || service.flags & ServiceRef::SAMPLE == 0;
        if unnoted { Self::of(service) } else { Self::NatSteer }
    }

    /// The same for what is about a flow, or but a piece of its packet.
    #[inline(always)]
    pub(super) fn of(service: ServiceRef) -> Self {
        if service.flags & ServiceRef::NAT != 0 { Self::Nat } else { Self::Deliver }
    }
}

/// A packet on its way to another stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub(crate) link: Link,
    pub(crate) network: Network,
    pub(crate) flow: Flow,
    pub(crate) service: ServiceRef,
    /// Where the packet goes.
    pub(crate) destination: Address,
    /// The backend, where it needs no steering.
    pub(crate) backend: BackendRef,
    /// Bytes from the IP header on of the largest packet that the path to its backend takes, for [`Stage::TooBig`].
    pub(crate) largest: u16,
    /// What follows [`Stage::Clamp`] and [`Stage::Sample`].
    pub(crate) then: Stage,
}

/// What stages work on and hand on to each other. In the kernel it is a value of a map, because it would take most of the stack.
#[derive(Clone, Copy, Debug)]
pub struct Desk {
    /// The packet.
    pub job: Job,
    /// What becomes of it, once that is known.
    pub(crate) translation: Translation,
    /// The entries of its connection that are to be written.
    pub(crate) draft: Draft,
}

impl Desk {
    /// With a job that nothing is known of yet.
    #[must_use]
    pub fn new(job: Job) -> Self {
        Self { job, translation: Translation::NONE, draft: Draft::default() }
    }
}

impl Job {
    /// Of a packet that is as it came in.
    #[inline(always)]
    pub(super) fn new(
        packet: &impl Packet,
        link: &Link,
        network: &Network,
        flow: Flow,
    ) -> Result<Self, Verdict> {
        Ok(Self {
            link: *link,
            network: *network,
            flow,
            service: ServiceRef::default(),
            destination: network.destination(packet)?,
            backend: BackendRef::NONE,
            largest: 0,
            then: Stage::Deliver,
        })
    }

    /// The same, with offsets that the verifier takes even if it knows nothing of where they come from.
    #[inline(always)]
    #[must_use]
    pub fn bounded(mut self) -> Self {
        // Behind an Ethernet header and at most two tags of four bytes. Forgotten, so that LLVM does not take the sum apart again: it would
        // check one sum and access by another.
        let behind_tags =
            |offset: usize| forget(ETHERNET_LEN + (offset.wrapping_sub(ETHERNET_LEN) & 0xc), 0x1f);
        self.link.network = behind_tags(self.link.network);
        self.network.offset = behind_tags(self.network.offset);
        self.network.transport &= 0x3fff;
        self.network.transport_len &= 0xffff;
        self
    }
}
