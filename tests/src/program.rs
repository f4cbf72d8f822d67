//! The packet programs under test: one description of the tables, one list of cases, two ways to run them.
//!
//! [`Scenario`] says what the tables hold and fills both the maps of the loaded programs ([`Kernel`]) and the collections of
//! the host instantiation ([`Host`]). Both run a frame to an [`Outcome`] and show their [`State`] after it, so a test can ask
//! that they agree.

pub mod cases;
pub mod differential;
pub mod generate;
mod host;
mod kernel;
mod maps;
mod mutate;
mod object;
pub mod oracle;
mod pair;
pub mod scenario;
mod state;
pub mod stories;
pub mod world;

use vip_lb_common::{Action, Verdict};

pub use host::{Host, HostPacket};
pub use kernel::{Kernel, Loaded, SHORTEST_FRAME, load};
pub use maps::Shown;
pub use mutate::{Dice, mutate};
pub use pair::Pair;
pub use scenario::{Scenario, closed, open};
pub use state::State;

/// Index of the interface that frames come in by: BPF_PROG_TEST_RUN takes them from the loopback device.
pub const INGRESS: u32 = 1;

/// Which of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// `vip_lb`, the load balancer.
    Balancer,
    /// `vip_lb_decap`, the decapsulator.
    Decapsulator,
}

/// What the kernel does with a frame: the return values of XDP programs (`enum xdp_action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpAction {
    /// Something went wrong in the program.
    Aborted = 0,
    /// The frame is gone.
    Drop = 1,
    /// The frame goes to the stack.
    Pass = 2,
    /// The frame goes back out where it came in.
    Tx = 3,
    /// The frame goes out by another interface.
    Redirect = 4,
}

impl XdpAction {
    /// The action of a verdict, given the interface that a forwarded frame leaves by.
    pub fn of(verdict: Verdict, egress: u32) -> Self {
        match verdict.action() {
            Action::Pass => Self::Pass,
            Action::Drop => Self::Drop,
            Action::Reply => Self::Tx,
            Action::Forward if egress == INGRESS => Self::Tx,
            Action::Forward => Self::Redirect,
        }
    }

    /// The action of a return value; what the kernel does not know, it treats as aborted.
    pub fn from_return_value(value: u32) -> Self {
        match value {
            1 => Self::Drop,
            2 => Self::Pass,
            3 => Self::Tx,
            4 => Self::Redirect,
            _ => Self::Aborted,
        }
    }
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the kernel is told.
    pub action: XdpAction,
    /// Which counter it went to.
    pub verdict: Verdict,
    /// The frame as the program left it, whatever becomes of it.
    pub frame: Vec<u8>,
}
