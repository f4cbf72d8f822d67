//! Packets and what must become of them, in the [`world`].

mod adverts;
mod clamp;
mod decap;
mod forward;
mod fragments;
pub mod icmp;
mod jumbo;
mod lies;
mod local;
mod refuse;
pub mod steer;
pub mod too_big;

use vip_lb_common::Verdict;

use super::{Outcome, Program, XdpAction, world};
use crate::packet::{Frame, Mac, NODE_MAC, assert_same_bytes, check, eth};

/// The tables that a case needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tables {
    /// Those of [`world`](world::world).
    Filled,
    /// The same without settings: the daemon has not come that far.
    WithoutSettings,
    /// The same without interfaces.
    WithoutInterfaces,
}

impl Tables {
    /// What a case's tables hold.
    pub fn scenario(self) -> super::Scenario {
        let mut scenario = world::world();
        match self {
            Self::Filled => {}
            Self::WithoutSettings => scenario.settings = None,
            Self::WithoutInterfaces => scenario.interfaces.clear(),
        }
        scenario
    }
}

/// What the frame must look like afterwards.
#[derive(Clone, Debug)]
enum Expected {
    /// As it came.
    Unchanged,
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// It is dropped, so nobody will see.
    Whatever,
}

/// One packet and its fate.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The program that it meets.
    pub program: Program,
    /// The tables that it meets.
    pub tables: Tables,
    /// The frame.
    pub frame: Vec<u8>,
    /// Bytes of the headroom that are in use already.
    pub taken: usize,
    /// The verdict it must get.
    pub verdict: Verdict,
    /// The interface it must leave by, if it is forwarded.
    pub egress: u32,
    /// Whether its lengths and checksums are right, so that those of the answer must be.
    pub sound: bool,
    expected: Expected,
}

impl Case {
    /// A packet that the balancer passes or drops.
    fn new(name: impl Into<String>, frame: &Frame, verdict: Verdict) -> Self {
        Self::of_bytes(name, frame.bytes(), verdict)
    }

    /// A frame that no words describe.
    fn of_bytes(name: impl Into<String>, frame: Vec<u8>, verdict: Verdict) -> Self {
        let expected = match verdict.action() {
            vip_lb_common::Action::Drop => Expected::Whatever,
            _ => Expected::Unchanged,
        };
        Self {
            name: name.into(),
            program: Program::Balancer,
            tables: Tables::Filled,
            frame,
            taken: 0,
            verdict,
            egress: super::INGRESS,
            sound: true,
            expected,
        }
    }

    /// A packet that leaves or stays in another form.
    fn changed(name: impl Into<String>, frame: &Frame, verdict: Verdict, expected: &Frame) -> Self {
        Self { expected: Expected::Bytes(expected.bytes()), ..Self::new(name, frame, verdict) }
    }

    fn with(self, tables: Tables) -> Self {
        Self { tables, ..self }
    }

    fn egress(self, egress: u32) -> Self {
        Self { egress, ..self }
    }

    fn unsound(self) -> Self {
        Self { sound: false, ..self }
    }

    fn decapsulated(self) -> Self {
        Self { program: Program::Decapsulator, ..self }
    }

    /// Asserts that this is what became of it.
    ///
    /// # Panics
    ///
    /// Where it is not, with the case's name.
    #[track_caller]
    pub fn assert_outcome(&self, outcome: &Outcome) {
        let name = &self.name;
        assert_eq!(outcome.verdict, self.verdict, "{name}: verdict");
        assert_eq!(outcome.action, XdpAction::of(self.verdict, self.egress), "{name}: action");
        let Some(expected) = self.expected() else {
            return;
        };
        assert_same_bytes(name, expected, &outcome.frame);
        if self.sound && !matches!(outcome.verdict, Verdict::NotIp | Verdict::NotVip) {
            assert_eq!(check(&outcome.frame), Ok(()), "{name}: the frame that came out");
        }
    }

    /// The frame that must come out, unless it is dropped.
    pub fn expected(&self) -> Option<&[u8]> {
        match &self.expected {
            Expected::Unchanged => Some(&self.frame),
            Expected::Bytes(bytes) => Some(bytes),
            Expected::Whatever => None,
        }
    }
}

/// All cases. They do not depend on their order: none that opens a slot's record meets another's.
pub fn all() -> Vec<Case> {
    [
        adverts::cases(),
        clamp::cases(),
        forward::cases(),
        jumbo::cases(),
        fragments::cases(),
        icmp::cases(),
        local::cases(),
        refuse::cases(),
        lies::cases(),
        steer::cases(),
        too_big::cases(),
        decap::cases(),
    ]
    .concat()
}

/// A client's frame to the VIP, of both families.
fn to_vip() -> [(&'static str, Frame); 2] {
    [("IPv4", eth().ipv4(world::CLIENT, world::VIP)), ("IPv6", eth().ipv6(world::CLIENT6, world::VIP6))]
}

/// A frame as the node sends it on.
fn sent_to(frame: Frame, next_hop: Mac) -> Frame {
    frame.from_mac(NODE_MAC).to_mac(next_hop)
}

/// The label of an outer IPv6 header: the ports, mixed (`Flow::label` on a little-endian machine).
pub(super) fn label(source_port: u16, destination_port: u16) -> u32 {
    let ports = u32::from(source_port.swap_bytes()) | u32::from(destination_port.swap_bytes()) << 16;
    (ports ^ ports >> 13) & 0xf_ffff
}
